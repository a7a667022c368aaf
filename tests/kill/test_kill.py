# SPDX-License-Identifier: Apache-2.0
"""The daemon is killed with -9 at random moments, again and again (design P1 to P3; reliability C.3 row 9).

Several clients download files of 1 KB to 16 MiB and ask for metadata. After each kill: what any client received in full must be
served with upstream dead (see SETTLED), nothing wrong may ever be served, parts are resumed or removed, and every file under blobs/
holds the bytes of its name. The seed is printed; HFCACHED_KILL_SEED repeats a run, HFCACHED_KILLS says how many kills.
"""
import os
import random
import threading
import time
from urllib.parse import quote

import pytest

from facts import MIB
from harness import SLOW, wait_for
from hubdouble import LFS, generated

KILLS = int(os.environ.get("HFCACHED_KILLS", "100"))
SEED = int(os.environ.get("HFCACHED_KILL_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
SIZES = [1000, 5000, 20_000, 65_535, 65_536, 65_537, 200_000, MIB, 3 * MIB, 16 * MIB]
CLIENTS = 6
# What was fetched for a client, or called stored, is durable when he has its last byte. What needed no bytes from upstream (a
# document without that word, a file whose bytes were there already under another name) is durable so many seconds later.
SETTLED = 0.5


class Repo:
    """What is asked for: large and regular files, listings; new ones each round so that there is always something to fetch."""

    def __init__(self, hub, dice, number):
        self.id = f"acme/kill{number}"
        files = {}
        for i, size in enumerate(dice.sample(SIZES, 5)):
            files[f"large-{i}.bin"] = LFS(generated(size, dice.randrange(8)))
            if size <= 200_000:
                files[f"regular-{i}.txt"] = bytes(dice.randbytes(size))
        self.files = hub.content.add_repo("model", self.id).commit(files)
        self.sha = self.files.id

    def truth(self, path):
        return self.files.files[path].source.read()

    def targets(self):
        return [(f"/{self.id}/resolve/{self.sha}/{quote(path)}", path) for path in self.files.files]

    def documents(self):
        return [f"/api/models/{self.id}/tree/{self.sha}?recursive=true", f"/api/models/{self.id}/revision/{self.sha}"]


class Client(threading.Thread):
    """Asks at random until told to stop; keeps what it received in full."""

    def __init__(self, cache, repos, seed):
        super().__init__(daemon=True)
        self.cache, self.repos, self.dice = cache, repos, random.Random(seed)
        self.files, self.documents, self.wrong = [], [], []
        self.kept_files, self.kept_documents = set(), {}
        self.is_on = True

    def settle(self, killed):
        """What must have survived a kill at that time."""
        self.kept_files = {what for what, is_fetched, at in self.files if is_fetched or at < killed - SETTLED}
        self.kept_documents = {target: body for target, body, is_stored, at in self.documents if is_stored or at < killed - SETTLED}

    def run(self):
        while self.is_on:
            repo = self.dice.choice(self.repos)
            try:
                if self.dice.random() < 0.2:
                    self.ask_document(self.dice.choice(repo.documents()))
                else:
                    self.ask_file(repo, *self.dice.choice(repo.targets()))
            except (OSError, AssertionError) as problem:
                if isinstance(problem, AssertionError):
                    self.wrong.append(str(problem))
                return

    def ask_document(self, target):
        answer = self.cache.get(target, timeout=15)
        if answer.complete and answer.status == 200:
            is_stored = "stored" in answer["Cache-Status"]
            self.documents.append((target, answer.body, is_stored, time.monotonic()))

    def ask_file(self, repo, target, path):
        data = repo.truth(path)
        if self.dice.random() < 0.3 and len(data) > 10:
            first = self.dice.randrange(len(data))
            last = min(len(data) - 1, first + self.dice.randrange(100_000))
            answer = self.cache.get(target, timeout=15, Range=f"bytes={first}-{last}")
            if answer.complete and answer.status == 206 and answer.body != data[first:last + 1]:
                self.wrong.append(f"{target} {first}-{last}")
            return
        answer = self.cache.get(target, timeout=15)
        if answer.complete and answer.status == 200:
            if answer.body != data:
                self.wrong.append(target)
            else:
                self.files.append(((repo, target, path), "fwd=miss" in answer["Cache-Status"], time.monotonic()))
        elif answer.complete and answer.status == 404:
            self.wrong.append(f"404 for {target}")


def load(hub, cache, dice, repos):
    """Clients at work for a random moment, then -9. Returns them."""
    clients = [Client(cache, repos[-4:], dice.random()) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    time.sleep(dice.choice([0.02, 0.05, 0.1, 0.3, 0.6]) * (0.5 + dice.random()) * SLOW)
    killed = time.monotonic()
    cache.kill9()
    for client in clients:
        client.is_on = False
    for client in clients:
        client.join(20)
        assert not client.is_alive(), "a client hangs on a dead daemon"
        client.settle(killed)
    return clients


def check_dead_upstream(hub, cache, received, documents, dice, most):
    """A sample of all that was ever received in full is served with upstream dead."""
    hub.kill()
    chosen = list(received) if len(received) <= most else dice.sample(sorted(received, key=lambda r: r[1]), most)
    for repo, target, path in chosen:
        answer = cache.get(target)
        assert answer.status == 200, f"{target} was received in full and is lost: {answer}"
        assert answer.body == repo.truth(path), f"{target}: wrong bytes"
    for target, body in documents.items():
        answer = cache.get(target)
        assert answer.status == 200 and answer.body == body, f"{target} is lost or another: {answer}"
    hub.revive()


@pytest.mark.seconds(900)
def test_killed_at_random(hub, start):
    print(f"seed {SEED}, {KILLS} kills")
    dice = random.Random(SEED)
    cache = start(is_started=False, storage_max_size="4G", hub_connect_timeout="1s", log_level="warning").expect("exit")
    hub.rate("cdn", 100 * MIB)
    repos = [Repo(hub, dice, 0)]
    received, all_documents, whole, began = set(), {}, 0, time.monotonic()
    for turn in range(KILLS):
        if turn % 4 == 0:
            repos.append(Repo(hub, dice, turn + 1))
        cache.start()
        clients = load(hub, cache, dice, repos)
        wrong = [w for c in clients for w in c.wrong]
        assert not wrong, f"seed {SEED}, turn {turn}: {wrong[:5]}"
        new = set().union(*(c.kept_files for c in clients))
        documents = {t: b for c in clients for t, b in c.kept_documents.items()}
        received |= new
        all_documents |= documents
        whole += len(new)
        if turn % 5 == 4 or turn == KILLS - 1:
            cache.start()
            check_dead_upstream(hub, cache, new | set(dice.sample(sorted(received, key=lambda r: r[1]), min(20, len(received)))),
                                documents, dice, 60)
            cache.kill9()
    print(f"{KILLS} kills, {len(received)} files and {len(all_documents)} documents received in full, {time.monotonic() - began:.0f} s")
    assert len(received) >= min(20, KILLS // 4), "the load was too weak to prove anything"
    cache.start()
    assert cache.check_store() >= 1
    check_dead_upstream(hub, cache, received, all_documents, dice, 10_000)
    wait_for(lambda: cache.get("/-/readyz").status == 200, 40)
    finish_parts(hub, cache, repos)


def finish_parts(hub, cache, repos):
    """Upstream is back: every file can be had, what was half there is completed, and no part stays behind."""
    for repo in repos:
        for target, path in repo.targets():
            answer = wait_for(lambda: (a := cache.get(target, timeout=60)).status == 200 and a, 40, 0.5)
            assert answer.body == repo.truth(path)
    wait_for(lambda: not cache.parts(), 10, 0.2, f"parts to go: {cache.parts()}")
    cache.check_store()


def test_killed_while_evicting(hub, start):
    """A small store: each fill throws something away, and is killed on the way."""
    dice = random.Random(SEED)
    cache = start(is_started=False, storage_max_size="8M", log_level="warning").expect("exit")
    made = hub.content.add_repo("model", "acme/evict").commit({f"f{i}.bin": LFS(generated(MIB, 200 + i)) for i in range(16)})
    for turn in range(max(10, KILLS // 10)):
        cache.start()
        worker = threading.Thread(target=_fetch_all, args=(cache, made, dice.randrange(16)), daemon=True)
        worker.start()
        time.sleep((0.02 + 0.3 * dice.random()) * SLOW)
        cache.kill9()
        worker.join(20)
        assert cache.stored_bytes() <= 8 * MIB, f"turn {turn}"
    cache.start()
    assert cache.check_store() <= 8 and cache.stored_bytes() <= 8 * MIB
    for i in range(16):
        assert cache.get(f"/acme/evict/resolve/{made.id}/f{i}.bin").body == made.files[f"f{i}.bin"].source.read()
    assert cache.stop() == 0


def _fetch_all(cache, commit, first):
    try:
        for i in range(16):
            cache.get(f"/acme/evict/resolve/{commit.id}/f{(first + i) % 16}.bin", keep=False)
    except (OSError, AssertionError):
        pass
