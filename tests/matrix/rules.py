#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who may be told what: the expected answer of every cell, worked out from the rules and from nothing that the daemon says.

Owns      the axes, the three tables below, and the few lines that join them.
Never     imports the tests, the double or the daemon.

Run by itself it prints all cells:  tests/matrix/rules.py [LINK [CACHE]]
"""
import itertools
import sys
from collections import namedtuple

SUBJECTS = ("anonymous", "granted", "not granted", "revoked", "invalid")
REPOS = ("public", "gated-auto", "gated-manual", "private", "disabled", "missing")
LINKS = ("online", "errors", "unreachable", "offline")
CACHES = ("cold", "warm")
# What a route shows: facts about the repository, or its files (bytes, sizes, tags of bytes).
FACTS, FILES = 1, 2
ROUTES = {"repo info": FACTS, "revision info": FACTS, "tree": FACTS, "paths-info": FACTS, "HEAD resolve": FILES,
          "GET resolve": FILES, "range GET": FILES, "hash URL": FILES, "refs": FACTS}
POLICIES = ("public", "grants", "acl", "open")   # offline.access
DEFAULT_POLICY = "grants"
# "errors" is two situations: a rate limit on everything, and 503 to everything until upstream is taken for unreachable.
ERRORS = ("429", "503")

Cell = namedtuple("Cell", "subject repo route link cache")


def all_cells():
    return [Cell(*axes) for axes in itertools.product(SUBJECTS, REPOS, ROUTES, LINKS, CACHES)]


def table(text):
    """{row: {column: entry}} of a text whose columns are at least two blanks apart; "." repeats the entry to the left."""
    head, *rows = [[entry.strip() for entry in line.split("  ") if entry.strip()] for line in text.strip().splitlines()]
    out = {}
    for name, *entries in rows:
        for i, entry in enumerate(entries):
            entries[i] = entries[i - 1] if entry == "." else entry
        out[name] = dict(zip(head, entries, strict=True))
    return out


# What the Hub itself says to each of them who asks it for the facts of a repository, and for its files.
HUB = {
    FACTS: table("""
                   anonymous       granted         not granted     revoked         invalid
    public         yes             .               .               .               401 bad token
    gated-auto     yes             .               .               .               401 bad token
    gated-manual   yes             .               .               .               401 bad token
    private        401 no repo     yes             404 no repo     .               401 bad token
    disabled       403 disabled    .               .               .               401 bad token
    missing        401 no repo     404 no repo     .               .               401 bad token
    """),
    FILES: table("""
                   anonymous       granted         not granted     revoked         invalid
    public         yes             .               .               .               401 bad token
    gated-auto     401 gated       yes             403 gated       .               401 gated
    gated-manual   401 gated       yes             403 gated       .               401 gated
    private        401 no repo     yes             404 no repo     .               401 bad token
    disabled       403 disabled    .               .               .               401 bad token
    missing        401 no repo     404 no repo     .               .               401 bad token
    """)}

# What a warm cache holds as proof. "everybody": what the Hub showed to a question without a token. "own": what it showed to this
# token; that of the revoked one is older than hub.grant-ttl and younger than offline.grace. A disabled repository was open when it
# was fetched; then the Hub told all who had seen it that it is disabled.
PROOF = table("""
                   everybody       granted         revoked
    public         files           files           files
    gated-auto     facts           files           files
    gated-manual   facts           files           files
    private        none            files           files
    disabled       none            none            none
    missing        none            none            none
    """)
LEVEL = {"none": 0, "facts": FACTS, "files": FILES}

# Whom the administrator's list (offline.access = acl) names for which kinds of repositories.
LISTED = {"not granted": ("gated-auto", "private", "disabled", "missing"), "granted": ("gated-manual",)}

# What is meant by an entry of HUB: status, X-Error-Code. E04: a 401 without a code gets one, that of a bad token excepted.
REFUSALS = {"401 bad token": (401, None), "401 no repo": (401, "RepoNotFound"), "404 no repo": (404, "RepoNotFound"),
            "401 gated": (401, "GatedRepo"), "403 gated": (403, "GatedRepo"), "403 disabled": (403, None)}
SERVE = "serve"          # the true answer, whole
IGNORANCE = "ignorance"  # 503 or 504 with Retry-After, and not a word about the repository
LIMITED = "limited"      # 429 with the time to wait, and not a word about the repository


def has_public_proof(cell):
    return cell.cache == "warm" and LEVEL[PROOF[cell.repo]["everybody"]] >= ROUTES[cell.route]


def has_own_proof(cell):
    return cell.cache == "warm" and LEVEL[PROOF[cell.repo].get(cell.subject, "none")] >= ROUTES[cell.route]


def is_proof_young(cell):
    return cell.subject != "revoked"


def expected(cell, policy=DEFAULT_POLICY, error=None):
    """SERVE, IGNORANCE, LIMITED or a refusal. policy: offline.access; error: one of ERRORS where the link is "errors"."""
    if has_public_proof(cell):
        return SERVE                      # open to all when last seen; how it is known makes no difference
    if cell.link == "online" or error == "429":
        # a rate limit is no outage: only what is believed anyhow is served
        if has_own_proof(cell) and is_proof_young(cell):
            return SERVE
        verdict = HUB[ROUTES[cell.route]][cell.repo][cell.subject]
        return LIMITED if error else SERVE if verdict == "yes" else verdict
    # nobody can be asked: what is not held, or not open to the subject by the policy's rule, is not known
    is_held = cell.cache == "warm" and cell.repo != "missing"
    is_open = {"public": False, "grants": has_own_proof(cell), "acl": cell.repo in LISTED.get(cell.subject, ()), "open": True}[policy]
    return SERVE if is_held and is_open else IGNORANCE


def situations(link):
    """[(policy, error)] in which each cell of a link is tried; a cell is right when it is right in all of them."""
    if link == "online":
        return [(DEFAULT_POLICY, None)]
    if link == "errors":
        return [(DEFAULT_POLICY, "429")] + [(policy, "503") for policy in POLICIES]
    return [(policy, None) for policy in POLICIES]


def main():
    links, caches = sys.argv[1:2] or LINKS, sys.argv[2:3] or CACHES
    for link, cache in itertools.product(links, caches):
        for policy, error in situations(link):
            print(f"\n{link} {error or ''}, offline.access {policy}, {cache}\n{'':30}" + "".join(f"{s:16}" for s in SUBJECTS))
            for repo, route in itertools.product(REPOS, ROUTES):
                row = [expected(Cell(s, repo, route, link, cache), policy, error) for s in SUBJECTS]
                print(f"{repo:14}{route:16}" + "".join(f"{entry:16}" for entry in row))


if __name__ == "__main__":
    main()
