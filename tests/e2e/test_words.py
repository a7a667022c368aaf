# SPDX-License-Identifier: Apache-2.0
"""Words that mislead: sizes that no digest bears out, branches that have gone, names that are nobody's business, answers of writes
in another order than the writes. What they say must not be served, kept for ever, or told to others."""
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from facts import MODEL, bytes_of, commit_of, file_of
from harness import wait_for
from hubdouble import LFS
from hubdouble.specimens import add_gguf
from test_lfs import JSON, WEIGHTS, batch, wanted
from test_registry import MANIFEST
from test_writes import commit

SHORT = {"hub_revision_ttl": "1s", "hub_metadata_ttl": "1s", "hub_public_ttl": "1s", "hub_grant_ttl": "1s", "hub_deny_ttl": "1s"}


# --- sizes ---------------------------------------------------------------------------------------------------------------

def lie_of_size(hub, cache, road, f, size):
    """A second repo that names the same digest with another size; returns where its file is asked for."""
    c = hub.content.add_repo("model", "acme/twin").commit({"w": LFS(bytes_of(hub, WEIGHTS))})
    if road == "resolve":
        hub.rule("hub", path="/acme/twin/resolve", set_header={"X-Linked-Size": str(size)})
    elif road == "tree":
        item = {"type": "file", "path": "w", "oid": "1" * 40, "size": size,
                "lfs": {"oid": f.sha256, "size": size, "pointerSize": 9}}
        hub.rule("hub", path="/api/models/acme/twin/tree", status=200, body=json.dumps([item]).encode(),
                 headers={"Content-Type": JSON})
        cache.get("/api/models/acme/twin")
        cache.get(f"/api/models/acme/twin/tree/{c.id}?recursive=true")
        hub.rule("hub", path="/acme/twin/resolve", set_header={"X-Linked-Size": str(size)})
    elif road == "lfs":
        given = {"oid": f.sha256, "size": size, "actions": {"download": {"href": hub.cdn_url + "/nothing"}}}
        hub.rule("hub", path="acme/twin.git/info/lfs/objects/batch", status=200, headers={"Content-Type": JSON},
                 body=json.dumps({"objects": [given]}).encode())
        batch(cache, [{"oid": f.sha256, "size": size}], repo="/acme/twin.git")
        return "/acme/twin.git/info/lfs/objects/" + f.sha256
    else:
        layers = [{"digest": "sha256:" + f.sha256, "size": size}]
        hub.rule("hub", path="/v2/acme/twin/manifests", status=200, headers={"Content-Type": MANIFEST},
                 body=json.dumps({"schemaVersion": 2, "layers": layers}).encode())
        cache.get("/v2/acme/twin/manifests/latest")
        return "/v2/acme/twin/blobs/sha256:" + f.sha256
    return "/acme/twin/resolve/main/w"


@pytest.mark.parametrize("delta", [5, -5, None])
@pytest.mark.parametrize("road", ["resolve", "tree", "lfs", "v2"])
def test_P1_a_size_that_the_digest_belies(hub, start, road, delta):
    """The blob is held; whoever commits a pointer writes its size. Never a cut 200, never the end of the daemon."""
    cache = start()
    cache.expect("error")
    f, data = file_of(hub, WEIGHTS), bytes_of(hub, WEIGHTS)
    assert cache.get(MODEL).body == data
    target = lie_of_size(hub, cache, road, f, 0 if delta is None else f.size + delta)
    for fields in ({}, {"Range": "bytes=0-9"}, {"Range": f"bytes={f.size - 1}-"}):
        answer = cache.get(target, **fields)
        wrong = answer.status == 200 and answer.complete and answer.partial != data
        assert not wrong and answer.status != 500, (fields, answer)
    assert cache.is_alive() and cache.get(MODEL).body == data


def test_P1_a_size_that_was_corrected(hub, start):
    cache = start()
    data = bytes_of(hub, WEIGHTS)
    assert cache.get(MODEL).body == data
    target = lie_of_size(hub, cache, "resolve", file_of(hub, WEIGHTS), 7)
    assert cache.get(target).status == 502
    hub.clear_rules()
    assert cache.get(target).body == data


# --- branches ------------------------------------------------------------------------------------------------------------

def test_P8_a_branch_goes_and_one_below_its_name_comes(hub, start):
    cache = start(**SHORT)
    repo = hub.content.repo("acme/pub", "model")
    repo.commit({"f.txt": "on a"}, branch="a")
    assert cache.get("/acme/pub/resolve/a/f.txt").body == b"on a"
    repo.delete_ref("a")
    c = repo.commit({"f.txt": "on a/b", "d/g.txt": "g"}, branch="a/b")
    time.sleep(2.2)
    assert cache.head("/acme/pub/resolve/a/b/f.txt")["X-Repo-Commit"] == c.id
    assert cache.get("/acme/pub/resolve/a/b/f.txt").body == b"on a/b"
    assert cache.get("/acme/pub/resolve/a/b/d/g.txt").body == b"g"
    assert "f.txt" in cache.get("/api/models/acme/pub/tree/a/b").text
    assert cache.get(f"/acme/pub/resolve/{c.id}/b/f.txt").status == 404


def test_P8_the_same_within_the_life_of_the_name(hub, start):
    """The answer to the question is booked on a path that is none; that is found out with the bytes, and once."""
    cache = start(hub_revision_ttl="1h", hub_metadata_ttl="1h")
    repo = hub.content.repo("acme/pub", "model")
    repo.commit({"f.txt": "on a"}, branch="a")
    assert cache.get("/acme/pub/resolve/a/f.txt").body == b"on a"
    repo.delete_ref("a")
    c = repo.commit({"f.txt": "on a/b"}, branch="a/b")
    assert cache.get("/acme/pub/resolve/a/b/f.txt").body == b"on a/b"
    assert cache.get(f"/acme/pub/resolve/{c.id}/b/f.txt").status == 404
    before = len(hub.calls("hub"))
    assert cache.get("/acme/pub/resolve/a/b/f.txt").status == 200 and cache.get(MODEL).status == 200
    assert len([x for x in hub.calls("hub")[before:] if "/f.txt" in x["target"]]) == 0


# --- names ---------------------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_P4_a_new_name_is_told_to_nobody_who_may_not_see_it(hub, start, people):
    cache = start(**SHORT)
    hub.content.add_repo("model", "acme/oldname").commit({"config.json": "{}", "w.bin": LFS(b"x" * 5000)})
    assert cache.get("/acme/oldname/resolve/main/config.json").status == 200
    hub.content.rename("model", "acme/oldname", "acme/topsecret")
    hub.set_visibility("acme/topsecret", private=True)
    hub.content.tokens[people.alice].grants.add("acme/topsecret")
    time.sleep(2.2)
    assert cache.get("/api/models/acme/oldname", people.alice).json()["id"] == "acme/topsecret"
    targets = ("/api/models/acme/oldname", "/acme/oldname/resolve/main/config.json", "/v2/acme/oldname/manifests/latest",
               "/v2/acme/oldname/blobs/sha256:" + "0" * 64, "/acme/oldname/raw/main/config.json",
               "/api/models/acme/oldname/tree/main", "/api/models/acme/oldname/refs",
               "/acme/oldname.git/info/refs?service=git-upload-pack")

    def assert_silent():
        for target in targets:
            for token in (None, people.bob, None):
                answer = cache.get(target, token)
                assert answer.status >= 400 and b"topsecret" not in answer.raw_head + answer.partial, (target, answer)
        answer = batch(cache, [{"oid": "0" * 64, "size": 4}], people.bob, repo="/acme/oldname.git")
        assert b"topsecret" not in answer.raw_head + answer.partial

    assert_silent()
    time.sleep(2.2)
    hub.rule("hub", path="topsecret", status=429, headers={"Retry-After": "2"})
    assert_silent()
    hub.kill()
    cache.until_known_down()
    assert_silent()


# --- writes --------------------------------------------------------------------------------------------------------------

def test_P9_two_writers_whose_answers_come_in_the_other_order(hub, start, people):
    cache = start(hub_revision_ttl="1h", hub_metadata_ttl="1h")
    before = commit_of(hub).id
    hub.rule(path="/api/models/acme/pub/commit/main", delay_first_byte=2, times=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: commit(cache, people.writer, ("a.txt", b"A"), ("config.json", b"A")))
        wait_for(lambda: commit_of(hub).id != before, 10)
        commit(cache, people.writer, ("b.txt", b"B"), ("config.json", b"B"))
        one = commit_of(hub).parent.id  # its file is held: nothing but the name decides which one is given
        assert cache.get(f"/acme/pub/resolve/{one}/config.json").body == b"A"
        first.result()
    assert cache.get("/acme/pub/resolve/main/config.json", people.writer).body == b"B"
    assert "b.txt" in cache.get("/api/models/acme/pub/tree/main", people.writer).text


# --- no room -------------------------------------------------------------------------------------------------------------

def test_D04_registry_blobs_that_do_not_fit_pass_through(hub, start):
    repo = add_gguf(hub.content)
    cache = start(storage_max_size="1M")
    cache.expect("error")
    layers = cache.get("/v2/acme/gguf/manifests/latest").json()["layers"]
    files = [f for f in repo.find("main").files.values() if f.is_lfs]
    for digest in [x["digest"] for x in layers] + ["sha256:" + f.sha256 for f in files]:
        answer = cache.get("/v2/acme/gguf/blobs/" + digest)
        assert answer.status == 200 and answer.complete, (digest, answer)
    part = cache.get("/v2/acme/gguf/blobs/" + layers[0]["digest"], Range="bytes=0-99")
    assert part.status == 206 and len(part.body) == 100
