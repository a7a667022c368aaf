# SPDX-License-Identifier: Apache-2.0
"""One commit for one name, and nothing asked twice (hub-protocol 10.3, C01 to C07)."""
import json
import time

import pytest

from facts import CONFIG, PUB, assert_file_head, assert_whole, at_commit, bytes_of, commit_of
from harness import wait_for
from hubdouble.blobs import git_id, pointer_text
from together import all_at_once
from wire import fields


def move(hub, text):
    """A new commit on main of acme/pub; returns (old id, new id)."""
    old = commit_of(hub).id
    return old, hub.content.repo(PUB).commit({"config.json": text}).id


def test_C01_the_branch_moves_between_head_and_get(hub, start):
    cache = start(hub_revision_ttl="1s")
    head = cache.head(CONFIG)
    data = bytes_of(hub, "config.json")
    old, new = move(hub, '{"new": true}\n')
    time.sleep(1.1)
    get = cache.get(CONFIG)
    assert head["X-Repo-Commit"] == get["X-Repo-Commit"] == old
    assert get.body == data and get["ETag"] == head["ETag"]


def test_C01_a_new_client_sees_the_new_commit_in_both(hub, start):
    cache = start(hub_revision_ttl="1s")
    assert cache.head(CONFIG).status == 200
    _, new = move(hub, '{"new": true}\n')
    time.sleep(1.1)
    head = cache.head(CONFIG, source="127.0.0.9")
    get = cache.get(CONFIG, source="127.0.0.9")
    assert head["X-Repo-Commit"] == get["X-Repo-Commit"] == new and get.body == b'{"new": true}\n'


def test_C01_the_new_commit_comes_in_the_end(hub, start):
    cache = start(hub_revision_ttl="1s")
    assert cache.get(CONFIG).status == 200
    _, new = move(hub, '{"new": true}\n')
    wait_for(lambda: cache.head(CONFIG)["X-Repo-Commit"] == new, 10, every=0.3)


def test_C02_a_commit_that_was_told_is_served(hub, start):
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s")
    sha = cache.get("/api/models/acme/pub/revision/main").json()["sha"]
    data = bytes_of(hub, "config.json")
    move(hub, '{"new": true}\n')
    time.sleep(1.1)
    tree = cache.get(f"/api/models/acme/pub/tree/{sha}?recursive=true")
    assert tree.status == 200
    oid = next(item["oid"] for item in tree.json() if item["path"] == "config.json")
    for ask in (cache.head, cache.get):
        answer = ask(f"/acme/pub/resolve/{sha}/config.json")
        assert answer.status == 200 and answer["X-Repo-Commit"] == sha and answer["ETag"] == f'"{oid}"'
    assert answer.body == data


DELAY = 0.5


def assert_one_at_a_time(calls):
    """One for all who ask. Its answer is too old as soon as another second of the clock has begun: who comes then asks anew."""
    times = sorted(c["t_in"] + time.time() - time.monotonic() for c in calls)
    assert times and all(after - before >= DELAY for before, after in zip(times, times[1:])), calls
    assert len(times) <= 1 + int(times[-1]) - int(times[0]), calls


def test_C03_one_call_when_a_name_is_too_old(hub, start):
    cache = start(hub_revision_ttl="1s")
    assert cache.head(CONFIG).status == 200
    time.sleep(1.2)
    hub.reset_counters()
    hub.rule(path="acme/pub", delay_first_byte=DELAY)
    answers = all_at_once(*[lambda: cache.head(CONFIG)] * 20)
    assert all(a.status == 200 for a in answers)
    assert_one_at_a_time(hub.calls("hub", "/acme/pub/resolve/main/|revision/main|/refs"))


def test_C03_one_call_when_a_document_is_too_old(hub, start):
    cache = start(hub_metadata_ttl="1s", hub_revision_ttl="1s")
    assert cache.get("/api/models/acme/pub").status == 200
    time.sleep(1.2)
    hub.reset_counters()
    hub.rule(path="acme/pub", delay_first_byte=DELAY)
    answers = all_at_once(*[lambda: cache.get("/api/models/acme/pub")] * 20)
    assert all(a.status == 200 for a in answers) and len({a.body for a in answers}) == 1
    assert_one_at_a_time(hub.calls("hub"))


def test_C04_what_a_commit_holds_is_asked_once(hub, cache):
    commit = commit_of(hub).id
    form = fields(Content_Type="application/x-www-form-urlencoded")
    questions = [
        lambda: cache.get(f"/api/models/acme/pub/tree/{commit}?recursive=true&expand=false"),
        lambda: cache.get(f"/api/models/acme/pub/tree/{commit}"),
        lambda: cache.get(f"/api/models/acme/pub/tree/{commit}/sub"),
        lambda: cache.ask("POST", f"/api/models/acme/pub/paths-info/{commit}", headers=form, body=b"paths=config.json&expand=false"),
        lambda: cache.get(f"/api/models/acme/pub/revision/{commit}"),
        lambda: cache.head(at_commit(hub, "model.safetensors")),
        lambda: cache.head(at_commit(hub, "config.json")),
        lambda: cache.get(at_commit(hub, "config.json")),
        lambda: cache.head(at_commit(hub, "nothing.here"))]
    first = [ask() for ask in questions]
    time.sleep(0.1)
    hub.reset_counters()
    for ask, before in zip(questions, first):
        again = ask()
        assert again.status == before.status and again.body == before.body
        assert not hub.calls(), f"asked again: {hub.calls()}"


def test_C04_a_known_tree_answers_for_its_files(hub, cache):
    commit = commit_of(hub).id
    assert cache.get(f"/api/models/acme/pub/tree/{commit}?recursive=true").status == 200
    assert cache.head(at_commit(hub, "config.json")).status == 200   # also proves that the files are open to all
    hub.reset_counters()
    for path in commit_of(hub).files:
        assert_file_head(cache.head(at_commit(hub, path)), hub, path)
    missing = cache.head(f"/acme/pub/resolve/{commit}/nothing.here")
    assert missing.status == 404 and missing["X-Error-Code"] == "EntryNotFound" and missing["X-Repo-Commit"] == commit
    assert not hub.calls(), hub.calls()


def test_C05_tree_ids_are_the_etags(hub, cache):
    tree = cache.get("/api/models/acme/pub/tree/main?recursive=true").json()
    assert {i["path"] for i in tree if i["type"] == "file"} == set(commit_of(hub).files)
    from urllib.parse import quote
    for item in tree:
        if item["type"] == "file":
            answer = cache.head("/acme/pub/resolve/main/" + quote(item["path"]))
            assert answer["ETag"] == '"%s"' % (item["lfs"]["oid"] if "lfs" in item else item["oid"])
            assert answer["Content-Length"] == str(item["size"])


@pytest.mark.parametrize("what", ["oid", "lfs", "size"])
def test_C06_a_tree_that_contradicts_itself(hub, cache, what):
    commit = commit_of(hub).id
    target = f"/api/models/acme/pub/tree/{commit}?recursive=true"
    tree = json.loads(json.dumps(_upstream_tree(hub, target)))
    large = next(item for item in tree if "lfs" in item)
    assert git_id("blob", pointer_text(large["lfs"]["oid"], large["lfs"]["size"])) == large["oid"]
    if what == "oid":
        large["oid"] = "1" * 40
    elif what == "lfs":
        large["lfs"]["oid"] = "2" * 64
    else:
        large["lfs"]["size"] = large["size"] = large["size"] + 1
    rule = hub.rule(path="/tree/", swap_body=json.dumps(tree, separators=(",", ":")))
    answer = cache.get(target)
    assert answer.status == 502, answer
    rule.remove()
    assert_whole(cache.get(at_commit(hub, "model.safetensors")), hub, "model.safetensors")
    good = cache.get(target)
    assert good.status == 200
    wanted = {i["path"]: i["oid"] for i in _upstream_tree(hub, target)}
    assert {i["path"]: i["oid"] for i in good.json()} == wanted


def _upstream_tree(hub, target):
    from probe import ask
    return ask(hub.url + target).json()


def snapshot(cache, token=None):
    """What a snapshot download asks for: revision, tree, HEAD and GET of each file; {path: bytes}."""
    from urllib.parse import quote
    sha = cache.get("/api/models/acme/pub/revision/main", token).json()["sha"]
    files = {}
    for item in cache.get(f"/api/models/acme/pub/tree/{sha}?recursive=true&expand=false", token).json():
        if item["type"] == "file":
            url = f"/acme/pub/resolve/{sha}/{quote(item['path'])}"
            head = cache.head(url, token)
            assert head.status == 200 and head["X-Repo-Commit"] == sha
            get = cache.get(url, token)
            assert len(get.body) == int(head["Content-Length"]) and get["ETag"] == head["ETag"]
            files[item["path"]] = get.body
    return files


def test_C07_a_snapshot_twice_the_second_time_offline(hub, cache):
    first = snapshot(cache)
    assert first == {path: file.source.read() for path, file in commit_of(hub).files.items()}
    hub.kill()
    assert snapshot(cache) == first
    cache.restart()
    assert snapshot(cache) == first
    cache.restart(hub_offline="yes")
    assert snapshot(cache) == first
