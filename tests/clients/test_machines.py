# SPDX-License-Identifier: Apache-2.0
"""Several machines, one upstream transfer: the second costs nothing, the third and a new start need no upstream (P3, P6, P7)."""
import threading
import time

import pytest

from facts import add_large, commit_of
from machine import asked, file_bodies, truth

MIB = 1 << 20


def everything(user, hub, revision=None):
    """What a user may want of acme/pub; returned for comparison, with paths of this machine left out."""
    at = {"repo_id": "acme/pub"} | ({"revision": revision} if revision else {})
    snapshot, single, *others = user.several(
        [("snapshot", at), ("download", at | {"filename": "config.json"}), ("info", at | {"files_metadata": True}),
         ("tree", at | {"recursive": True}), ("paths_info", at | {"paths": ["config.json", "model.safetensors"]}),
         ("refs", {"repo_id": "acme/pub"})])
    want = truth(hub, "acme/pub", revision or "main")
    assert snapshot["files"] == want and single["sha256"] == want["config.json"]
    return [snapshot["folder"].rsplit("/", 1)[1], *others]


def test_each_byte_comes_from_upstream_once(machine, hub):
    assert machine().call("snapshot", repo_id="acme/pub")["files"] == truth(hub, "acme/pub")
    size = sum(f.size for f in commit_of(hub).files.values())
    moved = sum(c["sent"] for c in file_bodies(hub))
    assert moved <= size, f"{moved} bytes of files were fetched for {size}"
    fetched = [c["path"] for c in file_bodies(hub)]
    assert len(fetched) == len(set(fetched)), "a file was fetched twice"


def test_a_second_machine_asks_upstream_nothing_for_a_commit(machine, hub):
    commit = commit_of(hub, revision="v1").id
    first = everything(machine(), hub, commit)
    hub.reset_counters()
    assert everything(machine(), hub, commit) == first
    assert asked(hub) == [], [(c["method"], c["target"]) for c in asked(hub)]


def test_a_second_machine_only_revalidates_a_branch(machine, hub, start):
    daemon = start(hub_revision_ttl="1s", hub_metadata_ttl="1s")
    first = everything(machine(to=daemon), hub)
    time.sleep(1.2)
    hub.reset_counters()
    assert everything(machine(to=daemon), hub) == first
    assert asked(hub), "a branch was believed for ever"
    assert not file_bodies(hub), [(c["method"], c["target"]) for c in file_bodies(hub)]
    assert not hub.calls("cdn")


def test_within_its_ttl_a_branch_is_not_asked_about(machine, hub, start):
    daemon = start(hub_revision_ttl="10m", hub_metadata_ttl="10m")
    first = everything(machine(to=daemon), hub)
    hub.reset_counters()
    assert everything(machine(to=daemon), hub) == first
    assert asked(hub) == [], [(c["method"], c["target"]) for c in asked(hub)]


def test_machines_work_without_upstream_and_after_a_new_start(machine, hub, start):
    daemon = start(hub_revision_ttl="1s", hub_metadata_ttl="1s")
    first = everything(machine(to=daemon), hub)
    pinned = everything(machine(to=daemon), hub, commit_of(hub, revision="v1").id)
    time.sleep(1.2)
    hub.kill()
    assert everything(machine(to=daemon), hub) == first
    assert everything(machine(to=daemon), hub, commit_of(hub, revision="v1").id) == pinned
    daemon.restart()
    assert everything(machine(to=daemon), hub) == first
    assert everything(machine(to=daemon), hub, commit_of(hub, revision="v1").id) == pinned
    unknown = machine(to=daemon)
    if unknown.client == "hub0":
        return    # it tries a 503 again for half a minute
    names = unknown.error_of("download", repo_id="acme/tinymodel", filename="config.json")
    assert "RepositoryNotFoundError" not in names and "RemoteEntryNotFoundError" not in names, unknown.message


def test_rights_hold_without_upstream_and_after_a_new_start(machine, hub, start, people):
    daemon = start(hub_revision_ttl="1s")
    want = truth(hub, "acme/private")
    assert machine(to=daemon, token=people.alice).call("snapshot", repo_id="acme/private")["files"] == want
    hub.kill()
    for _ in range(2):
        assert machine(to=daemon, token=people.alice).call("snapshot", repo_id="acme/private")["files"] == want
        for token in (people.bob, None):
            user = machine(to=daemon, token=token)
            user.error_of("snapshot", repo_id="acme/private")
            assert want["model.safetensors"] not in user.message
        daemon.restart()


def test_a_client_that_has_everything_moves_no_bytes(machine, hub, cache):
    user = machine()
    first = user.call("snapshot", repo_id="acme/pub")

    def sent():
        return sum(value for name, _, value in cache.metrics() if name == "hfcache_http_sent_bytes_total")
    before = sent()
    assert before > 3 * MIB
    assert user.call("snapshot", repo_id="acme/pub")["files"] == first["files"]
    assert sent() - before < 100_000


def test_eight_cold_machines_at_once_share_one_transfer(machine, hub):
    target, file = add_large(hub, 48 * MIB, seed=24)
    hub.rate("cdn", 24 * MIB)
    users, found = [machine() for _ in range(8)], {}

    def download(number):
        found[number] = users[number].call("download", repo_id="acme/large", filename="weights.bin")["sha256"]
    threads = [threading.Thread(target=download, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found.get(n) for n in range(8)] == [file.sha256] * 8
    assert hub.body_bytes("cdn") <= file.size * 1.01


@pytest.mark.parametrize("trouble", ["cut", "reset", "wrong bytes"])
def test_a_client_gets_the_true_file_although_upstream_failed_once(machine, hub, cache, trouble):
    target, file = add_large(hub, 8 * MIB, seed=25)
    what = {"cut": {"cut_after": "50%"}, "reset": {"reset_after": "50%"}, "wrong bytes": {"wrong_bytes": "50%"}}[trouble]
    rule = hub.rule("cdn", times=1, **what)
    cache.expect("error")
    user = machine()
    if user.client == "hub0" and trouble == "wrong bytes":    # it does not resume, but says so and leaves no file
        assert "ChunkedEncodingError" in user.error_of("download", repo_id="acme/large", filename="weights.bin")
    assert user.call("download", repo_id="acme/large", filename="weights.bin")["sha256"] == file.sha256
    assert rule.hits == 1
