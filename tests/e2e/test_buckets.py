# SPDX-License-Identifier: Apache-2.0
"""Buckets (hub-protocol 1.9, X04), kernels as equals of models, files above hub.xet-above (X03), Xet tokens (E15)."""
import json
import re
import time

import pytest

from facts import MODEL, assert_file_head, assert_ignorance, assert_whole, commit_of, file_of
from harness import wait_for
from hubdouble import LFS
from hubdouble.fixture import add_bucket, add_kernel
from wire import fields

BUCKET = "acme/bucket"
ONE = f"/buckets/{BUCKET}/resolve/data%2Fone.bin"
JSON = fields(Content_Type="application/json")


@pytest.fixture
def bucket(hub):
    return add_bucket(hub.content)


def link_of(hub, file):
    return (f'<{hub.url}/api/buckets/{BUCKET}/xet-read-token>; rel="xet-auth", '
            f'<{hub.cas_url}/v1/reconstructions/{file.xet_hash}>; rel="xet-reconstruction-info"')


@pytest.mark.parametrize("target", [ONE, f"/buckets/{BUCKET}/resolve/data/one.bin"])
def test_X04_bucket_heads_keep_their_xet_fields(hub, bucket, cache, target):
    file, _ = bucket.files["data/one.bin"]
    for _ in range(2):
        answer = cache.head(target)
        assert answer.status == 200 and answer["X-Xet-Hash"] == file.xet_hash and answer["Link"] == link_of(hub, file)
        assert answer["X-Linked-Size"] == answer["Content-Length"] == str(file.size) and answer["Location"] is None
        assert answer["ETag"] == f'"{file.xet_hash}"' and answer["Accept-Ranges"] == "bytes"
    assert len(hub.calls("hub", "resolve", "HEAD")) == 2, "a bucket's file may change at any time"


def test_buckets_pass_through(hub, bucket, cache):
    file, _ = bucket.files["data/one.bin"]
    body = file.source.read()
    for _ in range(2):
        assert cache.get(ONE).body == body
        part = cache.get(ONE, Range="bytes=100-199")
        assert part.status == 206 and part.body == body[100:200] and part["Content-Range"] == f"bytes 100-199/{file.size}"
        probe = cache.get(ONE, Range="bytes=0-0", Accept="application/vnd.xet-fileinfo+json, */*")
        assert probe.status == 206 and "xet" not in (probe["Content-Type"] or "")
    tree = cache.get(f"/api/buckets/{BUCKET}/tree?recursive=true").json()
    assert {e["path"]: e["xetHash"] for e in tree} == {p: f.xet_hash for p, (f, _) in bucket.files.items()}, "without the hash there is no way"
    assert [e["path"] for e in cache.get(f"/api/buckets/{BUCKET}/tree/data%2F").json()] == ["data/one.bin", "data/two.bin"]
    posted = cache.ask("POST", f"/api/buckets/{BUCKET}/paths-info", headers=JSON, body=b'{"paths":["notes.txt"]}').json()
    assert posted[0]["xetHash"] == bucket.files["notes.txt"][0].xet_hash
    assert cache.get(f"/api/buckets/{BUCKET}").json()["totalFiles"] == 3
    assert not cache.blobs(), "something of a bucket was kept"


def test_buckets_change_under_the_same_name(hub, bucket, cache):
    assert cache.get(f"/buckets/{BUCKET}/resolve/notes.txt").body == b"not in git\n"
    bucket.put("notes.txt", b"changed\n")
    assert cache.get(f"/buckets/{BUCKET}/resolve/notes.txt").body == b"changed\n"
    assert cache.head(f"/buckets/{BUCKET}/resolve/notes.txt")["Content-Length"] == "8"


def test_bucket_listings_go_on_here(hub, bucket, cache):
    hub.options.page_size = 2
    answer = cache.get(f"/api/buckets/{BUCKET}/tree?recursive=true")
    assert answer["Link"].startswith(f"<http://127.0.0.1:{cache.port}/api/buckets/{BUCKET}/tree?") and answer["Link"].endswith('>; rel="next"')


def test_bucket_errors(hub, bucket, cache, people):
    missing = cache.head(f"/buckets/{BUCKET}/resolve/none.bin")
    assert missing.status == 404 and missing["X-Error-Code"] == "EntryNotFound"
    unknown = cache.get("/api/buckets/acme/none", people.alice)
    assert unknown.status == 404 and unknown["X-Error-Code"] == "RepoNotFound"


def test_P4_private_buckets_stay_with_their_token(hub, bucket, cache, people):
    bucket.private = True
    hub.content.tokens[people.alice].grants.add(BUCKET)
    for _ in range(2):
        for ask in (cache.head, cache.get):
            assert ask(ONE, people.alice).status == 200
            assert ask(ONE, people.alice)["Cache-Control"] == "private, no-store"
            for token in (None, people.bob):
                assert ask(ONE, token).status in (401, 404)
                assert ask(ONE, token)["X-Xet-Hash"] is None


def test_buckets_without_upstream(hub, bucket, cache):
    cache.get(ONE)
    hub.kill()
    cache.until_known_down()
    for target in (ONE, f"/api/buckets/{BUCKET}", f"/api/buckets/{BUCKET}/tree", f"/api/buckets/{BUCKET}/xet-read-token"):
        assert_ignorance(cache.get(target))
        assert_ignorance(cache.head(target))


def assert_xet_token(hub, answer):
    """Python reads the fields, the others the body."""
    assert answer.status == 200
    assert answer["X-Xet-Cas-Url"] == hub.cas_url == answer.json()["casUrl"]
    assert answer["X-Xet-Access-Token"] == answer.json()["accessToken"] and answer["X-Xet-Token-Expiration"] == str(answer.json()["exp"])
    assert answer["Cache-Control"] == "private, no-store"


def test_E15_xet_tokens_pass_whole(hub, bucket, cache, people):
    commit = commit_of(hub).id
    for target in (f"/api/models/acme/pub/xet-read-token/{commit}", "/api/models/acme/pub/xet-read-token/refs%2Fpr%2F1",
                   f"/api/buckets/{BUCKET}/xet-read-token"):
        assert_xet_token(hub, cache.get(target))
    assert cache.get("/api/models/acme/private/xet-read-token/main").status == 401
    assert len(hub.calls("hub", "xet-read-token")) == 4
    for when in ("killed", "offline"):
        if when == "killed":
            hub.kill()
            cache.until_known_down()
        else:
            cache.restart(hub_offline="yes")
        answer = cache.get(f"/api/models/acme/pub/xet-read-token/{commit}")
        assert answer.status == 504 and answer["Retry-After"] == "0" and answer["X-Error-Code"] is None
        assert b"HF_HUB_DISABLE_XET=1" in answer.body and b"trees" in answer.body and "HF_HUB_DISABLE_XET=1" in answer["X-Error-Message"]
        assert not [n for n in answer.names() if n.startswith("x-xet")]


# --- kernels ---

def test_kernels_are_equals_of_models(hub, cache):
    add_kernel(hub.content)
    lib = "build/torch-universal/kernel/_ops.so"
    sha = cache.get("/api/kernels/acme/kernel/revision/main").json()["sha"]
    assert sha == commit_of(hub, "acme/kernel", kind="kernel").id
    how = {"repo": "acme/kernel", "kind": "kernel"}

    def check():
        for revision in ("main", sha):
            assert_whole(cache.get(f"/kernels/acme/kernel/resolve/{revision}/{lib}"), hub, lib, **how)
            assert_file_head(cache.head(f"/kernels/acme/kernel/resolve/{revision}/README.md"), hub, "README.md", **how)
            assert {e["path"] for e in cache.get(f"/api/kernels/acme/kernel/tree/{revision}?recursive=true").json() if e["type"] == "file"} == {
                "README.md", lib, "build/torch-universal/kernel/__init__.py"}
            posted = cache.ask("POST", f"/api/kernels/acme/kernel/paths-info/{revision}", headers=JSON, body=json.dumps({"paths": [lib]}).encode())
            assert posted.json()[0]["lfs"]["oid"] == file_of(hub, lib, **how).sha256 and b"xetHash" not in posted.body
        assert cache.get(f"/kernels/acme/kernel/raw/{sha}/{lib}").body == file_of(hub, lib, **how).pointer
        assert cache.get(f"/api/resolve-cache/kernels/acme/kernel/{sha}/README.md").status == 200
        assert cache.get("/api/kernels/acme/kernel").json()["id"] == "acme/kernel"
        assert cache.get("/api/kernels/acme/kernel/refs").json()["branches"]
        assert cache.get(f"/kernels/acme/kernel/resolve/{sha}/none")["X-Error-Code"] == "EntryNotFound"
    check()
    hub.reset_counters()
    check()
    assert not [c for c in hub.calls() if sha in c["target"]], "what is held was asked for again"
    hub.kill()
    cache.until_known_down()
    check()


# --- hub.xet-above ---

def add_sizes(hub):
    hub.content.repo("acme/pub").commit({"huge.bin": LFS(b"h" * 200_001), "edge.bin": LFS(b"e" * 200_000), "small.bin": LFS(b"s" * 1000)})
    return commit_of(hub)


def hashes_of(answer):
    return {e["path"]: e["xetHash"] for e in answer.json() if "xetHash" in e}


def test_X03_files_above_the_threshold_keep_xet(hub, start):
    commit = add_sizes(hub)
    cache = start(hub_xet_above="200000B")
    above = {p: f.xet_hash for p, f in commit.files.items() if f.is_lfs and f.size > 200_000}
    assert set(above) == {"huge.bin", "model.safetensors"}
    base = f"http://127.0.0.1:{cache.port}"

    def check_heads():
        for path, file in commit.files.items():
            if "/" in path or "." == path[0]:
                continue
            for revision in ("main", commit.id):
                answer = cache.head(f"/acme/pub/resolve/{revision}/{path}")
                assert answer.status == 200 and answer["Content-Length"] == str(file.size) and answer["Location"] is None
                if path in above:
                    assert answer["X-Xet-Hash"] == file.xet_hash
                    assert answer["Link"] == (f'<{base}/api/models/acme/pub/xet-read-token/{commit.id}>; rel="xet-auth", '
                                              f'<{hub.cas_url}/v1/reconstructions/{file.xet_hash}>; rel="xet-reconstruction-info"')
                else:
                    assert answer["X-Xet-Hash"] is None and answer["Link"] is None, (path, answer)
    check_heads()
    check_heads()
    api = "/api/models/acme/pub"
    for _ in range(2):
        assert hashes_of(cache.get(f"{api}/tree/main?recursive=true&expand=false")) == above
        assert hashes_of(cache.get(f"{api}/tree/{commit.id}?expand=true")) == above
        asked = json.dumps({"paths": ["huge.bin", "edge.bin", "config.json"]}).encode()
        assert hashes_of(cache.ask("POST", f"{api}/paths-info/main", headers=JSON, body=asked)) == {"huge.bin": above["huge.bin"]}
    assert_xet_token(hub, cache.get(f"{api}/xet-read-token/{commit.id}"))
    assert cache.get("/acme/pub/resolve/main/huge.bin").body == b"h" * 200_001, "who wants it plain gets it plain"
    hub.kill()
    cache.until_known_down()
    answer = cache.head("/acme/pub/resolve/main/huge.bin")
    assert answer.status == 200 and answer["X-Xet-Hash"] is None and answer["Link"] is None, "announced although it cannot be had"


def test_X03_off_by_default(hub, cache):
    commit = add_sizes(hub)
    for path in ("huge.bin", "model.safetensors"):
        answer = cache.head(f"/acme/pub/resolve/main/{path}")
        assert not [n for n in answer.names() if "xet" in n] and answer["Link"] is None
    assert not hashes_of(cache.get(f"/api/models/acme/pub/tree/{commit.id}?recursive=true"))


def test_X03_other_bytes_of_a_listing_stay_as_they_are(hub, start):
    """The edit takes out the member and its comma, in every item that is not above, and nothing else."""
    add_sizes(hub)
    plain = start()
    kept = start(hub_xet_above="200000B")
    target = "/api/models/acme/pub/tree/main?recursive=true"
    one, two = plain.get(target).body, kept.get(target).body
    for path in ("huge.bin", "model.safetensors"):
        mark = f',"xetHash":"{file_of(hub, path).xet_hash}"'.encode()
        assert two.count(mark) == 1
        two = two.replace(mark, b"")
    assert one == two


@pytest.mark.slow
@pytest.mark.parametrize("page_size", [1000, 3])
def test_X03_listings_follow_the_option(hub, start, page_size):
    """Kept listings were made for the option as it was; what is told is as it is now, also without upstream."""
    hub.options.page_size = page_size
    commit = add_sizes(hub)
    large, small = commit.files["huge.bin"], commit.files["small.bin"]
    api = "/api/models/acme/pub"
    asked = json.dumps({"paths": ["huge.bin", "small.bin"]}).encode()

    def told(cache):
        """Of three roads to each."""
        found, target = {}, f"{api}/tree/{commit.id}?recursive=true"
        while target:
            answer = cache.get(target)
            assert answer.status == 200 and answer["Content-Type"] == "application/json; charset=utf-8", answer
            found |= hashes_of(answer)
            target = re.search("<http://[^/]+([^>]+)>", answer["Link"])[1] if answer["Link"] else None
        ways = [found, hashes_of(cache.ask("POST", f"{api}/paths-info/{commit.id}", headers=JSON, body=asked))]
        if page_size == 1000:
            ways.append(hashes_of(cache.get(f"{api}/tree/main")))
        return [{p: h for p, h in way.items() if p in ("huge.bin", "small.bin")} for way in ways]
    nothing, one, both = {}, {"huge.bin": large.xet_hash}, {"huge.bin": large.xet_hash, "small.bin": small.xet_hash}
    cache = start()
    for above, want in (("0B", nothing), ("200000B", one), ("10B", both), ("200000B", one), ("0B", nothing), ("10B", both)):
        cache.restart(hub_xet_above=above)
        assert all(way == want for way in told(cache)), (above, told(cache))
    time.sleep(1)
    hub.kill()
    for above, want in (("10B", both), ("200000B", one), ("0B", nothing), ("200000B", one)):
        cache.restart(hub_xet_above=above)
        cache.until_known_down()
        assert all(way == want for way in told(cache)), (above, told(cache))


def test_X03_a_protected_file_is_announced_to_its_readers_only(hub, start, people):
    cache = start(hub_xet_above="1000B")
    url = "/acme/gated/resolve/main/model.safetensors"
    assert cache.head(url, people.alice)["X-Xet-Hash"]
    for token in (None, people.bob):
        answer = cache.head(url, token)
        assert answer.status in (401, 403) and answer["X-Xet-Hash"] is None
    wait_for(lambda: cache.head(MODEL)["X-Xet-Hash"], 5)
