# SPDX-License-Identifier: Apache-2.0
"""The acceptance matrix: 5 subjects x 6 kinds of repositories x 9 routes x 4 links x 2 caches = 2,160 cells (rules.py).

One test for each (link, cache), which asks the questions of its 270 cells, and one for the sum. A cell is asked in every situation
that its link stands for (each offline.access, each kind of error) and its refusals twice; it is wrong when one answer is wrong.
"""
import itertools
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import GENERATED

from harness import BINARY, SLOW, Daemon
from hubdouble import HubDouble
from judge import judge, unlike
from rules import CACHES, LINKS, LISTED, REPOS, ROUTES, SERVE, SUBJECTS, Cell, all_cells, expected, situations
from wire import Connection, fields
from world import World

GROUPS = [(link, cache) for link in LINKS for cache in CACHES]
AT_ONCE = 24
OLD_S = 7200                # older than grant-ttl, younger than offline.grace
OPTIONS = {"hub_grant_ttl": "1h", "hub_public_ttl": "1h"}    # however slow the machine, what is young stays so
LIMIT = {"status": 429, "headers": {"Retry-After": "600", "X-Error-Message": "We had to rate limit your IP."}}


class Matrix:
    """The double, the warm store, and the verdicts of all groups."""

    def __init__(self, folder):
        self.folder = folder
        self.hub = HubDouble(cache_dir=GENERATED).start()
        self.world = World(self.hub)
        self.warm_store = folder / "warm" / "store"
        self.wrong = {}     # group -> [line]
        self.daemons = 0
        self.warm_up()
        self.list = self.write_list()

    def close(self):
        self.hub.close()

    def write_list(self):
        """The administrator's list of rules.LISTED; a subject is called what the warm store's key makes of its token."""
        lines = []
        for subject, kinds in LISTED.items():
            word = subprocess.run([BINARY, "--set", f"storage.path={self.warm_store}", "--subject"], check=True, capture_output=True,
                                  input=(self.world.people[subject].token + "\n").encode()).stdout.decode().strip()
            named = [f"models/{p.id}" for p in self.world.places.values() if p.kind in kinds]
            lines += [f"allow {word if word.startswith('token:') else 'token:' + word} {' '.join(named)}"]
        path = self.folder / "list.acl"
        path.write_text("# of the matrix\n" + "\n".join(lines) + "\n")
        path.chmod(0o600)
        return path

    def daemon(self, policy, **options):
        self.daemons += 1
        if policy == "acl":
            options["offline_acl_file"] = self.list
        return Daemon(self.folder / f"daemon{self.daemons}", self.hub, canaries=self.world.tokens(), offline_access=policy,
                      **(OPTIONS | options))

    # --- the warm store ---

    def warm_up(self):
        """Fetches everything as who may, then lets the Hub take back what the rules say, and the proofs of the revoked grow old."""
        cache = Daemon(self.folder / "warm", self.hub, canaries=self.world.tokens(), storage_path=self.warm_store, **OPTIONS).start()
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(lambda place: self.fetch(cache, place), self.world.held()))
            self.world.withdraw()
            for place in self.world.held():
                if place.kind == "disabled":
                    for who in ("anonymous", "granted", "revoked"):
                        assert self.ask(cache, place, "news", who)[1].status == 403
        finally:
            cache.finish()
        index = sqlite3.connect(self.warm_store / "index.db")
        with index:
            # of the repositories that the cells of the revoked ask for; the repos of other cells do not see them
            index.executemany("UPDATE grants SET at = at - ? WHERE repo_id = (SELECT id FROM repos WHERE name = ?)"
                              " AND subject = (SELECT subject FROM grants JOIN repos ON id = repo_id WHERE name = ?)",
                              [(OLD_S, f"models/{p.id}".encode(), f"models/{self.probe.id}".encode()) for p in self.world.held()])
        index.close()

    @property
    def probe(self):
        """A repository that only the revoked ever asked for."""
        return self.world.places["revoked", "private", "refs"]

    def fetch(self, cache, place):
        who = "anonymous" if place.kind == "public" else "revoked" if place.subject == "revoked" else "granted"
        for route in ROUTES:
            question, answer = self.ask(cache, place, route, who)
            assert answer.status in (200, 206, 307), f"{question.target} for {who}: {answer}"
        # what the Hub shows to everybody: the facts of a gated repository, all of one that will be disabled
        for route in {"disabled": ("repo info", "GET resolve")}.get(place.kind, ["repo info"] * place.kind.startswith("gated")):
            assert self.ask(cache, place, f"other {route}", "anonymous")[1].status == 200

    # --- asking ---

    def ask(self, cache, place, route, subject):
        question = self.world.ask_of(place, route)
        headers = fields(self.world.people[subject].token, question.headers, Connection="close")
        with cache.connect(timeout=30 * SLOW) as conn:
            return question, conn.ask(question.method, question.target, headers, question.body)

    def ask_hub(self, question, subject):
        with Connection(("127.0.0.1", self.hub.origins["hub"].port), timeout=30 * SLOW) as conn:
            headers = fields(self.world.people[subject].token, question.headers, Connection="close")
            return conn.ask(question.method, question.target, headers, question.body)

    def run_cell(self, cache, cell, policy, error):
        """(wrong reasons, question, answer)"""
        place = self.world.places[cell.subject, cell.repo, cell.route]
        wanted = expected(cell, policy, error)
        question, answer = self.ask(cache, place, cell.route, cell.subject)
        direct = self.ask_hub(question, cell.subject) if cell.link == "online" and wanted != SERVE else None
        wrong = judge(self.world, place, cell.route, question, answer, wanted, direct)
        if wanted != SERVE and not wrong:
            again = self.ask(cache, place, cell.route, cell.subject)[1]
            wrong = judge(self.world, place, cell.route, question, again, wanted, direct)
            wrong += [f"asked again: {w}" for w in unlike(answer, question, again, question, ["Cache-Status"])]
        return [f"expected {wanted}: {w}" for w in wrong], question, answer

    def run_situation(self, link, cache_state, policy, error):
        """{cell: reasons} of one daemon's life."""
        cache = self.daemon(policy, **({"hub_offline": "yes"} if link == "offline" else {}))
        if cache_state == "warm":
            shutil.copytree(self.warm_store, cache.store)
        cells = [Cell(s, k, r, link, cache_state) for s in SUBJECTS for k in REPOS for r in ROUTES]
        try:
            self.break_link(link, error, cache)
            with ThreadPoolExecutor(AT_ONCE) as pool:
                results = dict(zip(cells, pool.map(lambda cell: self.run_cell(cache, cell, policy, error), cells)))
            reasons = {cell: result[0] for cell, result in results.items()}
            for cell in cells:
                other = results[cell._replace(repo="missing")]
                if cell.repo == "private" and expected(cell, policy, error) != SERVE:
                    for difference in unlike(*reversed(results[cell][1:]), *reversed(other[1:])):
                        reasons[cell].append(f"can be told from a missing one: {difference}")
            cache.finish()
        except OSError as trouble:
            raise AssertionError(f"{link} {error or ''} {policy}, {cache_state}: {trouble}\n{cache.stderr()[-3000:]}") from None
        finally:
            self.hub.clear_rules()
            self.hub.revive()
            if cache.is_alive():
                cache.kill9()
        return reasons

    def break_link(self, link, error, cache):
        if link == "errors":
            self.hub.rule("hub", **(LIMIT if error == "429" else {"status": 503}))
        elif link == "unreachable":
            self.hub.kill()
        cache.start()
        if link == "unreachable" or error == "503":
            cache.until_known_down()
        if error == "429":    # so that every cell meets the limit when it is known
            for subject, target in itertools.product(SUBJECTS, (f"{prefix}/lab/none" for prefix in ("/api/models", "/v2"))):
                cache.get(target, self.world.people[subject].token)
                cache.get("/lab/none/resolve/main/none", self.world.people[subject].token)

    def run_group(self, link, cache_state):
        lines = {}
        for policy, error in situations(link):
            for cell, reasons in self.run_situation(link, cache_state, policy, error).items():
                if reasons:
                    lines.setdefault(cell, f"{link} {error or ''} {policy}, {cache_state}: {cell.subject}, {cell.repo}, {cell.route}: "
                                           + "; ".join(reasons[:3]))
        self.wrong[link, cache_state] = list(lines.values())
        return self.wrong[link, cache_state]


@pytest.fixture(scope="module")
def matrix():
    """Below /dev/shm where that is: the stores of this test need no disk, and 450 files that are synced take their time there."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="hfcached-matrix-", dir=shm if os.access(shm, os.W_OK) else None))
    try:
        it = Matrix(folder)
        yield it
        it.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_table_is_whole_and_losing_upstream_never_widens_it():
    cells = all_cells()
    assert len(cells) == 2160 == len(set(cells))
    for cell in cells:
        for policy, error in situations(cell.link):
            if cell.link == "online" or expected(cell, policy, error) != SERVE:
                continue
            online = expected(cell._replace(link="online"))
            was_seen = cell.subject == "revoked" and policy == "grants"    # its loss of the right cannot be known
            assert online == SERVE or was_seen or policy in ("open", "acl"), f"{cell} is served only without upstream"
            assert cell.cache == "warm", f"{cell} is served from nothing"


@pytest.mark.seconds(300)
@pytest.mark.parametrize("link, cache_state", GROUPS)
def test_F3_cells(matrix, link, cache_state):
    begin = time.monotonic()
    wrong = matrix.run_group(link, cache_state)
    print(f"{link}, {cache_state}: 270 cells, {len(wrong)} wrong, {time.monotonic() - begin:.1f} s")
    assert not wrong, f"{len(wrong)} of 270 cells are wrong:\n" + "\n".join(wrong[:40])


def test_F3_2160_cells_none_wrong(matrix):
    missing = [group for group in GROUPS if group not in matrix.wrong]
    wrong = [line for lines in matrix.wrong.values() for line in lines]
    print(f"{270 * len(matrix.wrong)} cells, {len(wrong)} wrong")
    assert not missing, f"not run: {missing}"
    assert not wrong, f"2160 cells, {len(wrong)} wrong"
    assert not matrix.hub.leaks(), "a token went to the CDN"
