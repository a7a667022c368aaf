# SPDX-License-Identifier: Apache-2.0
"""The Hub of the matrix: a repository for every (subject, repo, route), so that no cell touches what another one has learned.

Owns      the repositories with their canaries, the people, how a route is asked for, and what its true answer is.
Promises  every name, text, size and id of a repository is found in no other one: traces() tells whose facts some bytes hold.
"""
import json
import re
import secrets
import string

from harness import fresh_token
from hubdouble import LFS, api
from rules import REPOS, ROUTES, SUBJECTS

CANARY = re.compile(rb"cnry(\d{3})x[a-z]{10}")
HEX = re.compile(rb"[0-9a-f]{24,64}")
NUMBER = re.compile(rb"(?<![\w.:-])\d{5}(?![\w.])")
RANGE = (100, 199)


class Person:
    """Who asks, as fields of a request."""

    def __init__(self, token):
        self.token = token


class Place:
    """One repository and all that is secret about it. One that is missing has names and ids as well, which nobody holds."""

    def __init__(self, number, kind, subject):
        self.number, self.kind, self.subject = number, kind, subject
        self.id = f"lab/r{number:03}"
        self.canary = f"cnry{number:03}x" + "".join(secrets.choice(string.ascii_lowercase) for _ in range(10))
        self.weights_size, self.config_size = 20011 + 17 * number, 25013 + 17 * number    # below the ephemeral ports
        self.repo = self.commit = None

    def fill(self, content):
        flags = {"gated-auto": {"gated": "auto"}, "gated-manual": {"gated": "manual"}, "private": {"private": True}}.get(self.kind, {})
        self.repo = content.add_repo("model", self.id, **flags)
        self.commit = self.repo.commit(self.files(), message=f"Title {self.canary}")
        self.repo.tag(f"tag-{self.canary}")
        self.repo.branch(f"branch-{self.canary}")
        return self

    def files(self):
        line = f"{self.canary} ".encode()
        config = json.dumps({"model_type": "bert", "note": self.canary}).encode()
        return {"README.md": f"---\nlicense: mit\ntags:\n- {self.canary}\n---\n# Card of {self.canary}\n",
                "config.json": config[:-1] + b" " * (self.config_size - len(config)) + b"}",
                f"name-{self.canary}.txt": f"text of {self.canary}\n",
                "weights.bin": LFS((line * (self.weights_size // len(line) + 1))[:self.weights_size])}

    def ids(self):
        """Hex texts that tell of this repository."""
        found = {self.commit.id, self.commit.tree_oid, self.repo.object_id}
        for file in self.commit.files.values():
            found |= {file.oid, file.source.sha256()} | ({file.sha256, file.xet_hash} if file.is_lfs else set())
        return found


class Question:
    def __init__(self, method, target, headers=(), body=None):
        self.method, self.target, self.headers, self.body = method, target, list(headers), body

    def sent(self):
        """What the client knows and may see again."""
        return self.target.encode() + (self.body or b"")


def question(route, repo_id, commit, digest):
    facts = f"/api/models/{repo_id}"
    body = json.dumps({"paths": ["config.json", "weights.bin"], "expand": False}).encode()
    return {
        "repo info": Question("GET", facts),
        "revision info": Question("GET", f"{facts}/revision/main"),
        "tree": Question("GET", f"{facts}/tree/{commit}?recursive=true"),
        "paths-info": Question("POST", f"{facts}/paths-info/main", [("Content-Type", "application/json")], body),
        "HEAD resolve": Question("HEAD", f"/{repo_id}/resolve/main/weights.bin"),
        "GET resolve": Question("GET", f"/{repo_id}/resolve/main/config.json"),
        "range GET": Question("GET", f"/{repo_id}/resolve/{commit}/weights.bin", [("Range", "bytes=%d-%d" % RANGE)]),
        "hash URL": Question("GET", f"/v2/{repo_id}/blobs/sha256:{digest}"),
        "refs": Question("GET", f"{facts}/refs"),
        # not of the nine: what no other question has fetched, so that the Hub is asked
        "other repo info": Question("GET", f"{facts}?securityStatus=true"),
        "other GET resolve": Question("GET", f"/{repo_id}/resolve/main/README.md"),
        "news": Question("GET", f"{facts}?blobs=true"),
    }[route]


class World:
    """Fills a double; afterwards it knows every cell's repository."""

    def __init__(self, hub):
        self.hub = hub
        self.people = {s: Person(None if s == "anonymous" else fresh_token()) for s in SUBJECTS}
        self.places = {}
        self.by_id = {}
        for number, (subject, kind, route) in enumerate((s, k, r) for s in SUBJECTS for k in REPOS for r in ROUTES):
            place = self.places[subject, kind, route] = Place(number, kind, subject)
            if kind == "missing":
                continue
            place.fill(hub.content)
            for text in place.ids():
                assert self.by_id.setdefault(text, number) == number, "two repositories share an id"
        closed = {p.id for p in self.held()}
        hub.content.add_token(self.people["granted"].token, "grace", closed)
        hub.content.add_token(self.people["revoked"].token, "rhea", closed)
        hub.content.add_token(self.people["not granted"].token, "nora")

    def held(self):
        return [p for p in self.places.values() if p.repo]

    def tokens(self):
        return [p.token for p in self.people.values() if p.token]

    def ask_of(self, place, route):
        """The question of a route; of a repository that is not there, with ids of nothing."""
        if place.repo:
            return question(route, place.id, place.commit.id, place.commit.files["weights.bin"].sha256)
        return question(route, place.id, f"{place.number:040x}", f"{place.number:064x}")

    def withdraw(self):
        """What changes on the Hub after everything was fetched: the revoked lose their right, repositories are disabled."""
        self.hub.content.tokens[self.people["revoked"].token].grants.clear()
        for place in self.held():
            place.repo.disabled = place.kind == "disabled"

    def traces(self, data, sent=b""):
        """[(number of the repository, what)] of which the bytes tell more than the client has said itself."""
        found = [(int(m[1]), m[0].decode()) for m in CANARY.finditer(data)]
        found += [(self.by_id[text], text) for m in HEX.finditer(data) if (text := m[0].decode()) in self.by_id]
        return [(number, text) for number, text in found if text.encode() not in sent]

    def true_answer(self, place, route):
        """(JSON or bytes) that the route gives to whoever may have it."""
        commit, hub = place.commit, self.hub
        without_xet = {k: v for k, v in vars(hub.options).items()} | {"xet": False}
        plain = type("Plain", (), {"options": type("Options", (), without_xet)})
        if route in ("repo info", "revision info"):
            return api.info_fields(place.repo, commit) | {"disabled": False}    # as it was when it was fetched
        if route == "tree":
            return [api.tree_item(plain, commit, path, folder, False) for path, folder in commit.walk("", True)]
        if route == "paths-info":
            return [api.tree_item(plain, commit, path, False, False) for path in ("config.json", "weights.bin")]
        if route == "refs":
            named = [("branches", "refs/heads/", "main"), ("branches", "refs/heads/", f"branch-{place.canary}"),
                     ("tags", "refs/tags/", f"tag-{place.canary}")]
            out = {"tags": [], "branches": [], "converts": []}
            for group, prefix, name in named:
                out[group].append({"name": name, "ref": prefix + name, "targetCommit": commit.id})
            return out
        data = commit.files["config.json" if route == "GET resolve" else "weights.bin"].source.read()
        return data[RANGE[0]:RANGE[1] + 1] if route == "range GET" else data
