# SPDX-License-Identifier: Apache-2.0
"""What /resolve/, /raw/ and /api/resolve-cache/ say of a file (hub-protocol 10.1, R01 to R17)."""
import hashlib
from urllib.parse import quote

import pytest

from facts import (CONFIG, EMPTY_OID, MODEL, PUB, assert_file_head, assert_whole, at_commit, bytes_of, commit_of, file_of)
from hubdouble import LFS
from hubdouble.blobs import git_id
from hubdouble.fixture import ODD_NAMES
from probe import ask


def test_R01_head_of_a_large_file(hub, cache):
    file = assert_file_head(cache.head(MODEL), hub, "model.safetensors")
    assert file.is_lfs and len(file.sha256) == 64
    assert hub.body_bytes("cdn") == 0, "a HEAD moved bytes"


@pytest.mark.parametrize("linked_etag", [True, False])
def test_R02_head_of_a_regular_file(hub, start, linked_etag):
    hub.options.linked_etag = linked_etag
    answer = start().head(CONFIG)
    file = assert_file_head(answer, hub, "config.json")
    sha256 = hashlib.sha256(file.source.read()).hexdigest()
    assert len(file.oid) == 40 and sha256 not in str(answer.fields)


def test_R03_relative_redirect_is_followed_inside(hub, cache):
    assert_whole(cache.get(CONFIG), hub, "config.json")
    second = [c for c in hub.calls("hub") if c["path"].startswith("/api/resolve-cache/")]
    assert second and all("etag=%22" in c["query"] for c in second), "the redirect's query was lost"
    assert all(c["authorization"] is None for c in second)


def test_R03_token_stays_on_the_same_origin(hub, cache, people):
    assert cache.get("/acme/gated/resolve/main/config.json", people.alice).status == 200
    second = [c for c in hub.calls("hub") if c["path"].startswith("/api/resolve-cache/") and c["method"] == "GET"]
    assert second and second[-1]["authorization"] == f"Bearer {people.alice}"


def test_R04_other_host_gets_no_token_and_names_nothing(hub, cache, people):
    answer = cache.get("/acme/gated/resolve/main/model.safetensors", people.alice)
    file = assert_whole(answer, hub, "model.safetensors", "acme/gated")
    cdn = hub.calls("cdn")
    assert cdn and all(c["authorization"] is None and c.header("Cookie") is None for c in cdn)
    assert file.xet_hash not in str(answer.fields)


def test_R05_head_and_get_agree(hub, cache):
    for url in (MODEL, CONFIG, at_commit(hub, "sub/dir/one.txt")):
        head, get, again = cache.head(url), cache.get(url), cache.head(url)
        for name in ("ETag", "X-Repo-Commit", "Content-Length", "Accept-Ranges", "Content-Type", "Content-Disposition", "Vary",
                     "X-Linked-Size", "X-Linked-Etag"):
            assert head[name] == get[name] == again[name], name
        assert int(get["Content-Length"]) == len(get.body)


@pytest.mark.parametrize("coding", ["gzip, br", "gzip", "identity", None])
def test_R06_identity_whatever_is_accepted(hub, cache, coding):
    for url, path in (("/acme/pub/resolve/main/README.md", "README.md"), (CONFIG, "config.json")):
        assert_file_head(cache.head(url, Accept_Encoding=coding), hub, path)
        assert_whole(cache.get(url, Accept_Encoding=coding), hub, path)
    assert all("gzip" not in (c.header("Accept-Encoding") or "") for c in hub.calls() if "resolve" in c["target"])


def test_R07_weak_etag_becomes_strong(hub, cache):
    file = file_of(hub, "config.json")
    hub.rule("any", path="config.json", set_header={"ETag": f'W/"{file.oid}"'}, drop_header=["X-Linked-Etag"])
    assert_file_head(cache.head(CONFIG), hub, "config.json")
    assert_whole(cache.get(CONFIG), hub, "config.json")


def test_R08_encoded_and_plain_revisions_are_one(hub, cache):
    urls = ["/acme/pub/resolve/refs%2Fpr%2F1/README.md", "/acme/pub/resolve/refs/pr/1/README.md"]
    for url in urls:
        assert_whole(cache.get(url), hub, "README.md", revision="refs/pr/1")
    urls = ["/datasets/acme/table/resolve/refs%2Fconvert%2Fparquet/default/train/0000.parquet",
            "/datasets/acme/table/resolve/refs/convert/parquet/default/train/0000.parquet"]
    for url in urls:
        assert_whole(cache.get(url), hub, "default/train/0000.parquet", "acme/table", "refs/convert/parquet", "dataset")
    assert_whole(cache.get("/acme/pub/resolve/feature%2Fx/slash.txt"), hub, "slash.txt", revision="feature/x")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_R09_odd_names(hub, cache, name):
    assert_whole(cache.get("/acme/pub/resolve/main/" + quote(name)), hub, name)
    assert_file_head(cache.head("/acme/pub/resolve/main/" + quote(name)), hub, name)


def test_R09_both_spellings_are_one_entry(hub, cache):
    commit = commit_of(hub).id
    assert_whole(cache.get(f"/acme/pub/resolve/{commit}/odd/%5Bx%5D.txt"), hub, "odd/[x].txt")
    hub.reset_counters()
    assert_whole(cache.get(f"/acme/pub/resolve/{commit}/odd/[x].txt"), hub, "odd/[x].txt")
    assert_whole(cache.get(f"/acme/pub/resolve/{commit}/odd/%5bx%5d.txt"), hub, "odd/[x].txt")
    assert not hub.calls(), "the other spelling went upstream"


def test_R10_each_kind_has_its_own_names(hub, cache):
    hub.content.add_repo("model", "acme/table").commit({"README.md": "I am the model\n"})
    hub.content.add_repo("space", "acme/table").commit({"README.md": "I am the space\n"})
    assert_whole(cache.get("/acme/table/resolve/main/README.md"), hub, "README.md", "acme/table")
    assert_whole(cache.get("/datasets/acme/table/resolve/main/README.md"), hub, "README.md", "acme/table", kind="dataset")
    assert_whole(cache.get("/spaces/acme/table/resolve/main/README.md"), hub, "README.md", "acme/table", kind="space")
    assert_whole(cache.get("/spaces/acme/page/resolve/main/logo.png"), hub, "logo.png", "acme/page", kind="space")
    assert_whole(cache.get("/tinymodel/resolve/main/config.json"), hub, "config.json", "acme/tinymodel")
    hub.content.add_repo("model", "gpt2").commit({"weights.bin": LFS(b"small" * 100)})
    assert_whole(cache.get("/gpt2/resolve/main/weights.bin"), hub, "weights.bin", "gpt2")


def test_R10_kernels(hub, cache):
    body = b"a kernel\n"
    commit, oid = "c0ffee" * 6 + "abcd", git_id("blob", body)
    hub.rule(path="^/kernels/acme/k/resolve/", body=body,
             headers={"ETag": f'"{oid}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes", "Content-Type": "text/plain"})
    answer = cache.get("/kernels/acme/k/resolve/main/kernel.txt")
    assert answer.status == 200 and answer.body == body
    assert answer["X-Repo-Commit"] == commit and answer["ETag"] == f'"{oid}"'


def test_R11_raw_of_a_large_file_is_its_pointer(hub, cache):
    file = file_of(hub, "model.safetensors")
    url = "/acme/pub/raw/main/model.safetensors"
    head = cache.head(url)
    assert head.status == 200 and head["Content-Length"] == str(len(file.pointer)) and head["ETag"] == f'"{file.oid}"'
    assert head["X-Repo-Commit"] == commit_of(hub).id
    assert cache.get(url).body == file.pointer
    part = cache.get(url, Range="bytes=0-6")
    assert (part.status, part.body) == (206, b"version")
    assert cache.get("/acme/pub/raw/main/config.json").body == bytes_of(hub, "config.json")
    missing = cache.head("/acme/pub/raw/main/nothing.txt")
    assert missing.status == 404 and missing["X-Error-Code"] == "EntryNotFound"


def test_R12_resolve_cache(hub, cache):
    commit = commit_of(hub).id
    base = "/api/resolve-cache/models/acme/pub"
    assert cache.get(f"{base}/{commit}/config.json?%2Facme%2Fpub%2Fx=&etag=%22abc%22").body == bytes_of(hub, "config.json")
    assert_whole(cache.get(f"{base}/{commit}/model.safetensors?anything"), hub, "model.safetensors")
    assert cache.get(f"{base}/main/config.json").status == 400
    assert cache.get(f"{base}/{'0' * 40}/config.json").status == 404
    data = f"/api/resolve-cache/datasets/acme/table/{commit_of(hub, 'acme/table', kind='dataset').id}/README.md"
    assert cache.get(data).body == bytes_of(hub, "README.md", "acme/table", kind="dataset")


@pytest.mark.parametrize("path", ["model.safetensors", "config.json"])
def test_R13_conditions(hub, cache, path):
    url, etag = f"/acme/pub/resolve/main/{path}", f'"{file_of(hub, path).etag}"'
    for condition in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        for ask in (cache.head, cache.get):
            answer = ask(url, If_None_Match=condition)
            assert_file_head(answer, hub, path, status=304)
            # RFC 9110 8.6: a 304 tells the length of the 200, or none
            assert answer.body == b"" and answer["Content-Length"] in (None, str(len(bytes_of(hub, path))))
    assert cache.get(url, If_None_Match='"other"').body == bytes_of(hub, path)
    assert cache.head(url, If_None_Match='"other", W/"third"').status == 200


def test_R14_redirects_have_a_location(cache):
    for target in ("/acme/pub/blob/main/config.json", "/api/models/old/name", "/api/models/ACME/pub", "/old/name/resolve/main/config.json",
                   "/", "/acme/pub", "/api/datasets/acme/table/parquet/default/train/0.parquet"):
        answer = cache.get(target)
        assert answer.status < 500, answer
        if 300 <= answer.status < 400 and answer.status != 304:
            assert answer["Location"], answer


def test_R15_empty_file(hub, cache):
    url = "/acme/pub/resolve/main/empty.txt"
    head = cache.head(url)
    assert head["Content-Length"] == "0" and head["ETag"] == f'"{EMPTY_OID}"'
    for _ in range(2):
        assert_whole(cache.get(url), hub, "empty.txt")
        part = cache.get(url, Range="bytes=0-0")
        assert part.status == 200 and part.body == b"" and part["Content-Range"] == "bytes */0"


def test_R16_short_commit(hub, cache):
    commit = commit_of(hub)
    assert_whole(cache.get(f"/acme/pub/resolve/{commit.id[:8]}/config.json"), hub, "config.json")
    first = commit_of(hub, revision="v1")
    answer = cache.head(f"/acme/pub/resolve/{first.id[:10]}/config.json")
    assert answer.status == 200 and answer["X-Repo-Commit"] == first.id


def test_R17_no_header_comes_out_of_a_path(hub, cache):
    name = 'we"ird\\näme.bin'
    hub.content.repo(PUB).commit({name: LFS(b"x" * 100), "plain 'n' (1).txt": "y"})
    for at in (name, "plain 'n' (1).txt"):
        answer = cache.get("/acme/pub/resolve/main/" + quote(at))
        assert_whole(answer, hub, at)
        shown = answer["Content-Disposition"]
        assert shown.startswith("inline") and shown.count('"') == 2 and shown.isascii() and "\\" not in shown
        assert f"filename*=UTF-8''{quote(at, safe='')}".lower() in shown.lower().replace("'n'", "%27n%27").replace("(1)", "%281%29")
    for bad in ("a%0d%0aX-Injected:%20yes.txt", "a%0aX-Injected:%20yes.txt", "%0d%0a%0d%0aX-Injected: yes"):
        answer = cache.get("/acme/pub/resolve/main/" + bad.replace(" ", "%20"))
        assert answer.status in (400, 404) and "x-injected" not in answer.names(), answer


@pytest.mark.parametrize("repo", ["acme/gated", "acme/private"])
def test_E05_of_a_path_that_is_not_there_no_more_is_told_than_upstream_tells(hub, cache, people, repo):
    """Whoever else has heard that it is not there, and though the tree of a gated repo is for all."""
    commit = commit_of(hub, repo).id
    doors = [f"/{repo}/{verb}/{revision}/{path}" for verb in ("resolve", "raw") for revision in ("main", commit)
             for path in ("none.json", "none/at/all", "config.json")]
    for token in (people.alice, None, people.bob):
        cache.get(f"/api/models/{repo}", token)
        cache.get(f"/api/models/{repo}/tree/{commit}?recursive=true", token)
    for token in (people.alice, None, people.bob, people.nobody, people.alice):
        for method in ("GET", "HEAD"):
            for target in doors:
                told, direct = cache.ask(method, target, token), ask(hub.url + target, method, token=token)
                if direct.status < 400:
                    assert told.status == 200, (target, told)
                    continue
                assert told.status == direct.status and told["X-Repo-Commit"] == direct["X-Repo-Commit"], (target, told, direct.headers)
                assert told["X-Error-Code"] == direct["X-Error-Code"] or told["X-Error-Code"] == "RepoNotFound", (target, told)
