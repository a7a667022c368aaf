# SPDX-License-Identifier: Apache-2.0
"""The forty things that people complain about with Hub mirrors, as far as they touch the protocol; the number is its rank.

Here, each by one short case: 1 to 3, 5 to 12, 14 to 17, 19 to 20, 24 to 31, 34 to 37.
Elsewhere in full:  3 test_api X01 X02; 6 test_buckets X03; 7 test_bodies B13 B17; 8 test_api A04 A05; 10, 19 test_offline, test_consistency C07;
                    12 test_together; 14, 27, 34 test_ranges, test_bodies B08 B09; 20 the registry's own file, A14; 23 test_start (public-url);
                    25, 26 test_names; 28 test_viewer A10; 30 test_access; 31 test_access S05; 36 test_offline E10.
4 is 3: with Xet unannounced, nobody is on it. 21 is the store's (test_storage, tests/kill): what is bad goes by itself.
No matter of the protocol: 13 and 33 shared file systems, 18 speed (tests/bench), 22 tools that read no HF_ENDPOINT, 32 proxies on the way
up, 38 and 39 packaging, 40 counting what was saved (test_pages).
"""
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from facts import (CONFIG, IGNORANCE, MIB, MODEL, MODEL_BYTES, PUB, add_large, all_bytes, assert_file_head, assert_ignorance, assert_no_clean_end,
                   assert_whole, at_commit, bytes_of, commit_of, file_of, hit)
from harness import SLOW
from hubdouble.fixture import add_gguf, add_many
from wire import fields

FORM = fields(Content_Type="application/x-www-form-urlencoded")
LOADER_ASKS = ["adapter_config.json", "chat_template.jinja", "generation_config.json", "model.safetensors.index.json", "processor_config.json",
               "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"]


def snapshot(cache, kind="models", repo=PUB, token=None):
    """The calls of snapshot_download, and the files."""
    prefix = "" if kind == "models" else f"/{kind}"
    sha = cache.get(f"/api/{kind}/{repo}/revision/main", token).json()["sha"]
    tree = cache.get(f"/api/{kind}/{repo}/tree/{sha}?recursive=true&expand=false", token).json()
    out = {}
    for item in tree:
        if item["type"] == "file":
            url = f"{prefix}/{repo}/resolve/{sha}/" + re.sub(r"[^\w./-]", lambda m: "".join(f"%{b:02X}" for b in m[0].encode()), item["path"])
            assert cache.head(url, token)["Content-Length"] == str(item["size"])
            out[item["path"]] = cache.get(url, token).body
    return sha, out


def test_complaint_01_a_head_waits_for_no_bytes(hub, cache):
    url, file = add_large(hub)
    hub.rate("cdn", 100_000)
    began = time.monotonic()
    answer = cache.head(url)
    assert answer.status == 200 and answer["Content-Length"] == str(file.size) and time.monotonic() - began < 15 * SLOW
    assert [c["method"] for c in hub.calls()] == ["HEAD"], "more than one question for one HEAD"


def test_complaint_02_a_pinned_commit_costs_no_calls(hub, cache):
    sha, _ = snapshot(cache)
    cache.get("/api/models/acme/pub")
    hub.reset_counters()
    for _ in range(5):
        for path in ("config.json", "model.safetensors", "README.md", "none.json"):
            cache.head(f"/acme/pub/resolve/{sha}/{path}")
            cache.get(f"/acme/pub/resolve/{sha}/{path}")
        cache.get(f"/api/models/acme/pub/tree/{sha}?recursive=true&expand=false")
        cache.get(f"/api/models/acme/pub/revision/{sha}")
    assert not hub.calls()


def test_complaint_03_no_bytes_go_around_over_xet(hub, cache):
    sha, files = snapshot(cache)
    assert len(files["model.safetensors"]) == MODEL_BYTES and not hub.xet_calls()
    for target in (f"/api/models/acme/pub/tree/{sha}?recursive=true&expand=false", "/api/models/acme/pub?blobs=true", f"/api/models/acme/pub/revision/{sha}"):
        assert b"xetHash" not in cache.get(target).body


def test_complaint_05_clients_talk_to_one_host(hub, cache):
    """No field of an answer sends a client to a host that a site's firewall or certificates would have to know."""
    hub.options.page_size = 3
    strangers = [url.split("//")[1] for url in (hub.url, hub.cdn_url, hub.cas_url)]
    for target in (MODEL, CONFIG, "/api/models/acme/pub/tree/main?limit=3", "/acme/pub/raw/main/model.safetensors", "/api/models?limit=2",
                   "/api/models/old/name", "/api/datasets/acme/table/parquet", "/old/name/resolve/main/config.json"):
        for answer in (cache.get(target), cache.head(target)):
            head = answer.raw_head.decode()
            assert not [s for s in strangers if s in head], (target, head)
    assert not [s for s in strangers if s in cache.get("/api/datasets/acme/table/parquet").text]


def test_complaint_06_files_that_python_refuses_over_http(hub, start):
    cache = start(hub_xet_above="1M")
    assert cache.head(MODEL)["X-Xet-Hash"] == file_of(hub, "model.safetensors").xet_hash
    assert cache.head(CONFIG)["X-Xet-Hash"] is None


@pytest.mark.parametrize("fault", [{"wrong_bytes": 1000}, {"truncate": 5000}, {"cut_after": "50%", "times": 2}])
def test_complaint_07_no_wrong_or_short_bytes_are_kept(hub, cache, fault):
    cache.expect("error")   # it says so when upstream lies
    rule = hub.rule("cdn", **fault)
    answer = cache.get(MODEL, timeout=60)
    if fault.get("times"):
        assert_whole(answer, hub, "model.safetensors")
        return
    if answer.status == 200 and not answer.complete:
        assert_no_clean_end(answer)
    else:
        assert answer.status >= 500
    assert file_of(hub, "model.safetensors").sha256 not in cache.blobs()
    rule.remove()
    assert_whole(cache.get(MODEL, timeout=60), hub, "model.safetensors")


def test_complaint_08_link_next_stays_here(hub, cache):
    hub.options.page_size = 4
    target = "/api/models/acme/pub/tree/main?recursive=true&limit=4"
    seen = []
    for _ in range(20):
        answer = cache.get(target)
        seen += [e["path"] for e in answer.json()]
        if not answer["Link"]:
            break
        found = re.fullmatch(rf'<http://127\.0\.0\.1:{cache.port}(/[^>]+)>; rel="next"', answer["Link"])
        assert found, answer["Link"]
        target = found[1]
    assert len(seen) == len(set(seen)) and set(commit_of(hub).files) <= set(seen)
    listing = cache.get("/api/models?limit=2")
    assert listing["Link"] is None or f"127.0.0.1:{cache.port}" in listing["Link"]


@pytest.mark.parametrize("path", ["README.md", "model.safetensors", "empty.txt", "sub/dir/two.json"])
def test_complaint_09_the_first_answer_has_all_fields(hub, cache, path):
    for ask in (cache.head, cache.get):
        assert_file_head(ask(f"/acme/pub/resolve/main/{path}", Accept_Encoding="gzip, deflate, br, zstd"), hub, path)


def test_complaint_10_everything_a_loader_asks_works_without_a_way_out(hub, cache):
    sha, files = snapshot(cache)
    table_sha, table = snapshot(cache, "datasets", "acme/table")
    cache.get("/api/models/acme/pub")
    cache.get("/api/models/acme/pub/refs")
    hub.kill()
    cache.restart(hub_offline="yes")
    assert snapshot(cache) == (sha, files) and snapshot(cache, "datasets", "acme/table") == (table_sha, table)
    for path in LOADER_ASKS:
        for revision in ("main", sha):
            answer = cache.head(f"/acme/pub/resolve/{revision}/{path}")
            assert answer.status == 404 and answer["X-Error-Code"] == "EntryNotFound" and answer["X-Repo-Commit"] == sha
    assert cache.get("/api/models/acme/pub").json()["sha"] == sha
    assert cache.get("/api/models/acme/pub/refs").json()["branches"]
    assert cache.head("/api/telemetry/hf_hub/x").status in (200, 204)
    for target in ("/api/whoami-v2", "/api/agent-harnesses", "/api/models?search=x"):
        assert_ignorance(cache.get(target))
    posted = cache.ask("POST", f"/api/models/acme/pub/paths-info/{sha}", headers=FORM, body=b"paths=config.json&expand=false")
    assert posted.json()[0]["path"] == "config.json"


def test_complaint_11_optional_files_cost_nothing(hub, cache):
    sha, _ = snapshot(cache)
    hub.reset_counters()
    for path in LOADER_ASKS:
        answer = cache.head(f"/acme/pub/resolve/{sha}/{path}")
        assert answer.status == 404 and answer["X-Error-Code"] == "EntryNotFound" and answer["X-Repo-Commit"] == sha and hit(answer)
    assert not hub.calls()


def test_complaint_12_eight_nodes_download_once(hub, cache):
    url, file = add_large(hub, 8 * MIB)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: cache.get(url, keep=False, timeout=60), range(8)))
    assert {a.sha256 for a in answers} == {file.sha256} and hub.body_bytes("cdn") <= file.size * 1.01


def test_complaint_14_who_comes_back_goes_on_where_he_was(hub, cache):
    url, file = add_large(hub, 8 * MIB)
    whole = file.source.read()
    with cache.connect() as conn:
        conn.request("GET", url, fields())
        conn.body(conn.head(), most=MIB)
    rest = cache.get(url, Range=f"bytes={MIB}-", timeout=60)
    assert rest.status == 206 and rest.body == whole[MIB:]
    done = cache.get(url, Range=f"bytes={file.size}-")
    assert done.status == 416 and done["Content-Range"] == f"bytes */{file.size}"
    assert cache.received() <= file.size * 1.1


def test_complaint_15_a_line_that_breaks_is_mended_here(hub, cache):
    hub.rule("cdn", cut_after="40%", times=2)
    assert_whole(cache.get(MODEL, timeout=60), hub, "model.safetensors")


def test_complaint_16_what_is_newer_than_this_cache_is_passed_on(hub, cache):
    assert cache.get("/api/models/acme/pub?expand=xetEnabled").json()["xetEnabled"] is False
    hub.rule(path="brand-new", status=200, body=b'{"ok":1}', headers={"Content-Type": "application/json"})
    for target in ("/api/models/acme/pub/brand-new", "/api/brand-new/thing?x=1", "/api/models/acme/pub/tree/main?brand-new=1",
                   "/api/models/acme/pub?brand-new=2"):
        assert cache.get(target).json() == {"ok": 1}, target
    assert [c["target"] for c in hub.calls("hub")][-1].endswith("?brand-new=2")


def test_complaint_17_errors_say_what_is_the_matter(hub, cache, people):
    gated = cache.get("/acme/gated/resolve/main/config.json", people.bob)
    assert gated.status == 403 and gated["X-Error-Code"] == "GatedRepo" and "acme/gated" in gated["X-Error-Message"]
    assert cache.get("/acme/pub/resolve/none/config.json")["X-Error-Code"] == "RevisionNotFound"
    assert cache.get("/acme/none/resolve/main/config.json")["X-Error-Code"] == "RepoNotFound"
    assert cache.get("/acme/none/resolve/main/config.json", people.bob).status == 404
    bad = cache.get("/api/whoami-v2", people.nobody)
    assert bad.status == 401 and "Invalid credentials" in bad["X-Error-Message"] and bad["X-Error-Code"] is None
    hub.kill()
    answer = cache.get("/acme/other/resolve/main/config.json")
    assert_ignorance(answer)
    assert "upstream" in answer["X-Error-Message"] and "hfcache status" in answer["X-Error-Message"]


def test_complaint_19_the_mirror_works_when_the_hub_is_dead(hub, cache):
    sha, files = snapshot(cache)
    hub.kill()
    assert snapshot(cache) == (sha, files)


def test_complaint_20_llama_cpp_finds_its_way(hub, cache):
    repo = add_gguf(hub.content) or hub.content.repo("acme/gguf")
    agent = {"User-Agent": "llama-cpp/b9000"}

    def walk():
        refs = cache.get(f"/api/models/{repo.id}/refs", headers=agent).json()
        commit = next(b["targetCommit"] for b in refs["branches"] if b["name"] == "main")
        tree = cache.get(f"/api/models/{repo.id}/tree/{commit}?recursive=true", headers=agent).json()
        name = min((e for e in tree if e["path"].endswith(".gguf")), key=lambda e: e["size"])["path"]
        url = f"/{repo.id}/resolve/{commit}/{name}"
        assert cache.head(url, headers=agent)["Accept-Ranges"] == "bytes"
        return cache.get(url, headers=agent).body
    body = walk()
    hub.kill()
    cache.until_known_down()
    assert walk() == body


def test_complaint_24_no_redirect_on_files(hub, cache):
    for target in (MODEL, CONFIG, "/old/name/resolve/main/config.json", "/ACME/pub/resolve/main/model.safetensors", "/tinymodel/resolve/main/config.json"):
        for answer in (cache.head(target), cache.get(target, Range="bytes=0-0")):
            assert answer.status in (200, 206) and answer["Location"] is None, (target, answer)


def test_complaint_25_renamed_repos_have_both_names(hub, cache):
    assert_whole(cache.get(MODEL), hub, "model.safetensors")
    hub.content.rename("model", PUB, "acme/renamed")
    moved = hub.body_bytes("cdn")
    assert cache.get("/acme/renamed/resolve/main/model.safetensors").status == 200
    assert hub.body_bytes("cdn") == moved, "downloaded again under its new name"
    hub.kill()
    cache.until_known_down()
    for name in (PUB, "acme/renamed"):
        assert cache.get(f"/{name}/resolve/main/model.safetensors").status == 200


def test_complaint_26_zero_bytes_and_odd_names(hub, cache):
    names = {"a..b": b"dots\n", "empty": b"", "+": b"plus\n", "%": b"percent\n", "n" * 255: b"long\n", "a/b/c/d": b"deep\n"}
    hub.content.repo(PUB).commit(names)
    for _ in range(2):
        for name, body in names.items():
            answer = cache.get("/acme/pub/resolve/main/" + name.replace("%", "%25"))
            assert answer.status == 200 and answer.body == body and answer["Content-Length"] == str(len(body)), (name, answer)


def test_complaint_27_parallel_ranges_are_one_download(hub, cache):
    url, file = add_large(hub, 16 * MIB)
    whole, part = file.source.read(), MIB
    with ThreadPoolExecutor(16) as pool:
        parts = list(pool.map(lambda i: cache.get(url, Range=f"bytes={i * part}-{(i + 1) * part - 1}", timeout=60), range(16)))
    assert b"".join(p.body for p in parts) == whole
    assert cache.received() <= file.size * 1.05


def test_complaint_28_other_hosts_of_the_hub(hub, start):
    cache = start(hub_viewer_url=hub.viewer_url)
    answer = cache.get("/parquet?dataset=acme/table", host=f"datasets-server.localhost:{cache.port}")
    assert answer.status == 200 and all(f["url"].startswith(f"http://localhost:{cache.port}/") for f in answer.json()["parquet_files"])


def test_complaint_29_no_name_is_filtered(hub, cache):
    names = ["admin.php", "virus.exe", "../".replace("/", "") + "hidden.env", ".env", "wp-login.php", "select * from x.txt", "porn.txt", "password.txt"]
    hub.content.repo(PUB).commit({n: f"{n}\n" for n in names})
    for name in names:
        assert cache.get("/acme/pub/resolve/main/" + name.replace(" ", "%20")).body == f"{name}\n".encode()


def test_complaint_30_gated_files_are_for_who_was_granted(hub, cache, people):
    url = "/acme/gated/resolve/main/model.safetensors"
    body = cache.get(url, people.alice).body
    moved = hub.body_bytes("cdn")
    assert cache.get(url).status == 401 and cache.get(url, people.bob).status == 403 and cache.get(url, people.nobody).status == 401
    assert cache.get(url, people.alice).body == body and hub.body_bytes("cdn") == moved


def test_complaint_31_tokens_go_to_the_hub_only(hub, cache, people):
    assert cache.get("/acme/gated/resolve/main/model.safetensors", people.alice).status == 200
    for call in hub.calls("cdn") + hub.calls("cas"):
        assert call["authorization"] is None and not call.header("Cookie")
    assert not hub.leaks()


def test_complaint_34_small_ranges_of_a_cold_file_are_cheap(hub, cache):
    url, file = add_large(hub, 64 * MIB)
    hub.rate("cdn", 4 * MIB)
    middle = file.size // 2
    began = time.monotonic()
    answer = cache.get(url, Range=f"bytes={middle}-{middle + 7}")
    assert answer.status == 206 and answer.body == file.source.read(middle, 8) and time.monotonic() - began < 6 * SLOW, "those before it take 8 s"
    assert hub.body_bytes("cdn") <= 8 * MIB


def test_complaint_35_conditions_work_on_raw_too(hub, cache):
    for path in ("config.json", "model.safetensors"):
        url = f"/acme/pub/raw/main/{path}"
        etag = cache.get(url)["ETag"]
        assert etag == f'"{file_of(hub, path).oid}"'
        for ask in (cache.get, cache.head):
            answer = ask(url, If_None_Match=etag)
            assert answer.status == 304 and answer["ETag"] == etag and answer.body == b"", (path, answer)
            assert ask(url, If_None_Match='"other"').status == 200
    assert cache.get("/acme/pub/raw/main/model.safetensors", If_None_Match=f'"{file_of(hub, "model.safetensors").sha256}"').status == 200


def test_complaint_36_a_rate_limit_is_told(hub, start):
    cache = start(hub_metadata_ttl="1s", hub_revision_ttl="1s")
    commit = at_commit(hub, "config.json")
    assert cache.get(commit).status == 200
    hub.rule("hub", status=429, body=b"", headers={"RateLimit": '"resolvers";r=0;t=77', "RateLimit-Policy": '"fixed window";"resolvers";q=3000;w=300'})
    answer = cache.get("/acme/pub/resolve/main/sub/top.txt")
    assert answer.status == 429 and re.search(r"t=\d+", answer["RateLimit"] or ""), answer
    assert cache.get(commit).status == 200, "what is held needs nobody's leave"


def test_complaint_37_many_files(hub, cache):
    add_many(hub.content)
    sha = cache.get("/api/models/acme/many/revision/main").json()["sha"]
    target, names = f"/api/models/acme/many/tree/{sha}?recursive=true&expand=false", []
    while target:
        answer = cache.get(target)
        names += [e["path"] for e in answer.json() if e["type"] == "file"]
        target = re.sub(r"^<http://[^/]+|>; rel=\"next\"$", "", answer["Link"]) if answer["Link"] else None
    assert len(set(names)) == 2500
    hub.reset_counters()
    body = json.dumps({"paths": names[:1000], "expand": False}).encode()
    posted = cache.ask("POST", f"/api/models/acme/many/paths-info/{sha}", headers=fields(Content_Type="application/json"), body=body)
    assert [e["path"] for e in posted.json()] == names[:1000]
    for name in names[::250]:
        assert cache.head(f"/acme/many/resolve/{sha}/{name}").status == 200
    assert not [c for c in hub.calls() if c["method"] != "HEAD"] and len(hub.calls()) <= 1, "a known tree was asked about"


def test_the_cache_is_seen_to_save_something(hub, cache):
    """What of it touches the protocol: an answer says whether it came from here."""
    first, second = cache.get(MODEL), cache.get(MODEL)
    assert not hit(first) and hit(second) and all_bytes(hub) <= MODEL_BYTES + MIB
    assert second.status not in IGNORANCE and second.body == bytes_of(hub, "model.safetensors")
