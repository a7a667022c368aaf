# SPDX-License-Identifier: Apache-2.0
"""Metadata of repositories (hub-protocol 10.4: A01 to A09) and Xet (10.7: X01, X02)."""
import base64
import json
import re
from urllib.parse import quote

import pytest

from facts import CONFIG, MODEL, PUB, assert_file_head, assert_whole, bytes_of, commit_of, file_of
from hubdouble.fixture import add_many
from probe import ask
from wire import fields

FORM = fields(Content_Type="application/x-www-form-urlencoded")
JSON = fields(Content_Type="application/json")


def plain(body):
    """Upstream's JSON without what announces Xet, otherwise byte for byte."""
    body = re.sub(rb',"xetHash":"[0-9a-f]{64}"', b"", body)
    return body.replace(b'"xetEnabled":true', b'"xetEnabled":false')


def forged_cursor(path):
    """As text-generation-webui makes it."""
    inner = base64.b64encode(json.dumps({"file_name": path}).encode())
    return base64.b64encode(inner + b":50").decode().replace("=", "%3D")


def pages(cache, target, host=True):
    """All entries of a listing, following Link as clients do; and the number of pages."""
    out, count = [], 0
    while target:
        answer = cache.get(target, host=host)
        assert answer.status == 200, answer
        out += answer.json()
        count += 1
        link = answer["Link"]
        found = re.fullmatch(r'<(http://[^>]+)>; rel="next"', link) if link else None
        assert link is None or found, link
        target = re.sub("^http://[^/]+", "", found[1]) if found else None
    return out, count


@pytest.mark.parametrize("revision", ["main", "v1", "dev", "refs%2Fpr%2F1"])
def test_A01_the_commit_is_the_same_everywhere(hub, cache, revision):
    commit = commit_of(hub, revision=revision.replace("%2F", "/")).id
    assert cache.get(f"/api/models/acme/pub/revision/{revision}").json()["sha"] == commit
    assert cache.head(f"/acme/pub/resolve/{revision}/README.md")["X-Repo-Commit"] == commit
    assert cache.get("/api/models/acme/pub").json()["sha"] == commit_of(hub).id
    assert cache.get("/api/datasets/acme/table").json()["sha"] == commit_of(hub, "acme/table", kind="dataset").id
    assert cache.get("/api/spaces/acme/page/revision/main").json()["sha"] == commit_of(hub, "acme/page", kind="space").id


@pytest.mark.parametrize("target", [
    "/api/models/acme/pub/tree/main", "/api/models/acme/pub/tree/main?recursive=true", "/api/models/acme/pub/tree/main?recursive=1",
    "/api/models/acme/pub/tree/main?recursive=true&expand=true", "/api/models/acme/pub/tree/main/sub?recursive=true",
    "/api/models/acme/pub/tree/main/sub%2Fdir", "/api/models/acme/pub/tree/main/sub/dir", "/api/datasets/acme/table/tree/main?recursive=true",
    "/api/models/acme/pub", "/api/models/acme/pub?blobs=true", "/api/models/acme/pub/revision/main?blobs=true",
    "/api/models/acme/pub?expand=xetEnabled&expand=siblings", "/api/spaces/acme/page", "/api/models/acme/pub/refs",
    "/api/models/acme/pub/refs?include_prs=1"])
def test_A02_json_is_upstreams_without_xet(hub, cache, target):
    upstream = ask(hub.url + target)
    wanted = plain(upstream.body).replace(b"https://acme-page.static.hf.space", f"{cache.url}/_space/acme/page/".encode())    # I54
    for _ in range(2):
        answer = cache.get(target)
        assert answer.status == 200 and answer.body == wanted, target
        assert b"xetHash" not in answer.body and answer["Content-Type"].startswith("application/json")
        assert not [n for n in answer.names() if n.startswith("x-xet")]


def test_A02_every_page(hub, cache):
    hub.options.expand_page_size = 7
    target, count = "/api/models/acme/pub/tree/main?recursive=true&expand=true", 0
    while target:
        upstream, answer = ask(hub.url + target), cache.get(target)
        assert answer.body == plain(upstream.body)
        count += 1
        target = answer["Link"] and re.search("<http://[^/]+([^>]+)>", answer["Link"])[1]
    assert count > 2


@pytest.mark.parametrize("kind,body", [
    (FORM, "paths=config.json&paths=model.safetensors&expand=false"), (FORM, "paths=model.safetensors&paths=config.json&expand=False"),
    (FORM, "paths=config.json&paths=nothing&paths=sub&expand=true"), (FORM, "paths=sub%2Fdir%2Fone.txt&expand=True"), (FORM, "paths=nothing"),
    (JSON, '{"paths":["config.json","model.safetensors"],"expand":false}'), (JSON, '{"paths":["sub"],"expand":true}'),
    (JSON, '{"expand":true,"paths":["odd/[x].txt","nothing"]}')])
@pytest.mark.parametrize("revision", ["main", "commit"])
def test_A03_paths_info(hub, cache, kind, body, revision):
    revision = commit_of(hub).id if revision == "commit" else revision
    target = f"/api/models/acme/pub/paths-info/{revision}"
    upstream = ask(hub.url + target, "POST", body.encode(), **{k.replace("-", "_"): v for k, v in kind})
    for _ in range(2):
        answer = cache.ask("POST", target, headers=kind, body=body.encode())
        assert answer.status == 200 and answer.json() == json.loads(plain(upstream.body)), answer
        assert answer.body == plain(upstream.body)


@pytest.mark.parametrize("host", ["hub.example:8090", "other.test", True])
def test_A04_link_points_to_where_the_client_came(hub, cache, host):
    hub.options.page_size = 5
    target = "/api/models/acme/pub/tree/main?recursive=true&limit=5"
    link = cache.get(target, host=host)["Link"]
    base = f"http://127.0.0.1:{cache.port}" if host is True else f"http://{host}"
    found = re.fullmatch(r'<([^>]+)>; rel="next"', link)
    assert found and found[1].startswith(base + "/api/models/acme/pub/tree/"), link
    assert "," not in found[1] and " " not in found[1]
    upstream = re.search("<http://[^/]+([^>]+)>", ask(hub.url + target)["Link"])[1]
    hub.reset_counters()
    second = cache.get(found[1].removeprefix(base), host=host)
    assert second.status == 200
    assert second.json() == json.loads(plain(ask(hub.url + upstream).body))
    theirs = [c for c in hub.calls("hub", "cursor=") if c.header("User-Agent") or c["headers"]]
    assert theirs and all(sorted(c["query"].split("&")) == sorted(upstream.partition("?")[2].split("&")) for c in theirs)


def test_A05_a_listing_of_2500(hub, cache):
    add_many(hub.content)
    entries, count = pages(cache, "/api/models/acme/many/tree/main?recursive=true&expand=false")
    names = [e["path"] for e in entries if e["type"] == "file"]
    assert len(names) == len(set(names)) == 2500 and count in (1, 3)
    answer = cache.get("/api/models/acme/many/tree/main?recursive=true&limit=1000&expand=false")
    link = answer["Link"]
    if link is None:
        assert len(answer.json()) >= 2500
        return
    javascript = re.search(r'<(https?:[/][/][^>]+)>;\s+rel="([^"]+)"', link)
    rust = [p.split(";")[0].strip("<> ") for p in link.split(",") if 'rel="next"' in p]
    shell = re.search(r'<[^>]*>;[ \t]*rel="next"', link)
    assert javascript and javascript[2] == "next" and len(rust) == 1 and rust[0] == javascript[1] and shell
    raw = [line for line in answer.raw_head.split(b"\r\n") if line.lower().startswith(b"link:")]
    assert len(raw) == 1


def test_A06_offline_a_tree_is_one_page(hub, cache):
    hub.options.page_size = 7
    target = "/api/models/acme/pub/tree/main?recursive=true"
    entries, count = pages(cache, target)
    assert count > 2
    hub.kill()
    offline, count = pages(cache, target)
    assert offline == entries
    if count > 1:   # the same pages as before are right as well
        return
    assert cache.get(target)["Link"] is None


def test_A06_a_forged_cursor_ends(hub, cache):
    commit = commit_of(hub).id
    hub.options.page_size = 7
    entries, _ = pages(cache, "/api/models/acme/pub/tree/main?recursive=true")   # also tells which commit main is
    hub.kill()
    for base in (f"/api/models/acme/pub/tree/{commit}?recursive=true", "/api/models/acme/pub/tree/main?recursive=true"):
        answer = cache.get(f"{base}&limit=50&cursor={forged_cursor(entries[-1]['path'])}")
        assert answer.status == 200 and answer.json() == [], answer
        middle = cache.get(f"{base}&limit=50&cursor={forged_cursor(entries[4]['path'])}")
        assert middle.status == 200 and [e["path"] for e in middle.json()] == [e["path"] for e in entries[5:]]


def test_A07_what_llama_cpp_asks(hub, cache):
    add_many(hub.content)
    refs = cache.get("/api/models/acme/many/refs").json()
    main = next(b for b in refs["branches"] if b["name"] == "main")
    assert main["targetCommit"] == commit_of(hub, "acme/many").id and refs["converts"] == [] and refs["tags"] == []
    target = f"/api/models/acme/many/tree/{main['targetCommit']}?recursive=true"
    upstream = ask(hub.url + target).json()
    for _ in range(2):
        assert len(cache.get(target, User_Agent="llama-cpp/b5000").json()) >= len(upstream)
    refs = cache.get("/api/models/acme/pub/refs").json()
    assert [t["name"] for t in refs["tags"]] == ["v1"] and "dev" in [b["name"] for b in refs["branches"]]


def follow(cache, method, target, **how):
    """As clients do: a 307 keeps method and body and goes to a relative address."""
    answer = cache.ask(method, target, **how)
    if answer.status == 307:
        assert answer["Location"].startswith("/"), answer
        answer = cache.ask(method, answer["Location"], **how)
    return answer


@pytest.mark.parametrize("name,case", [("old/name", "A08"), ("ACME/Pub", "A09"), ("acme/PUB", "A09")])
def test_A08_A09_other_names(hub, cache, name, case):
    info = follow(cache, "GET", f"/api/models/{name}")
    assert info.status == 200 and info.json()["id"] == PUB
    assert follow(cache, "GET", f"/api/models/{name}/revision/main?blobs=true").json()["siblings"][0].get("blobId")
    assert follow(cache, "GET", f"/api/models/{name}/tree/main?recursive=true").status == 200
    posted = follow(cache, "POST", f"/api/models/{name}/paths-info/main", headers=FORM, body=b"paths=config.json")
    assert posted.status == 200 and posted.json()[0]["path"] == "config.json"
    assert follow(cache, "GET", f"/{name}/resolve/main/config.json").body == bytes_of(hub, "config.json")
    assert_whole(cache.get(CONFIG), hub, "config.json")
    assert len(hub.calls("hub", "resolve-cache.*config.json", "GET")) == 1, "two entries for one file"
    hub.kill()
    assert follow(cache, "GET", f"/api/models/{name}").json()["id"] == PUB
    assert follow(cache, "GET", f"/{name}/resolve/main/config.json").body == bytes_of(hub, "config.json")
    cache.restart()
    assert follow(cache, "GET", f"/{name}/resolve/main/config.json").body == bytes_of(hub, "config.json")


def test_X01_nothing_announces_xet(hub, cache):
    sha = cache.get("/api/models/acme/pub/revision/main").json()["sha"]
    for target in (f"/api/models/acme/pub/tree/{sha}?recursive=true&expand=false", f"/api/models/acme/pub/tree/{sha}?expand=true",
                   f"/api/models/acme/pub/revision/{sha}?blobs=true"):
        answer = cache.get(target)
        assert b"xetHash" not in answer.body and b"xet-" not in answer.body and file_of(hub, "model.safetensors").xet_hash.encode() not in answer.body
    for answer in (cache.head(MODEL), cache.get(MODEL), cache.get(MODEL, Range="bytes=0-0"), cache.head(MODEL, If_None_Match="*")):
        assert not [n for n in answer.names() if "xet" in n] and answer["Link"] is None
        assert "xet" not in (answer["Access-Control-Expose-Headers"] or "").lower()
        assert file_of(hub, "model.safetensors").xet_hash.encode() not in answer.raw_head
    assert not hub.xet_calls()


@pytest.mark.parametrize("path", ["model.safetensors", "config.json"])
def test_X02_the_probe_of_javascript(hub, cache, path):
    url = f"/acme/pub/resolve/main/{quote(path)}"
    accept = "application/vnd.xet-fileinfo+json, */*"
    for _ in range(2):
        answer = cache.get(url, Range="bytes=0-0", Accept=accept)
        file = assert_file_head(answer, hub, path, status=206)
        assert answer["Content-Range"] == f"bytes 0-0/{file.size}" and answer.body == file.source.read(0, 1)
        assert "xet" not in answer["Content-Type"]
    assert_whole(cache.get(url, Accept=accept), hub, path)
    assert all("xet" not in (c.header("Accept") or "") for c in hub.calls()), "the Accept value went upstream"
