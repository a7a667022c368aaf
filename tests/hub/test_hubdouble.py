# SPDX-License-Identifier: Apache-2.0
"""Shows that the Hub double is true to what huggingface.co was seen to answer."""
import base64
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parent))

from hubdouble import HubDouble  # noqa: E402
from hubdouble.access import weak_etag  # noqa: E402
from hubdouble.blobs import git_id, pointer_text  # noqa: E402
from hubdouble.fixture import ODD_NAMES, TOKENS  # noqa: E402
from probe import MIB, ask, run_all, shared, signed  # noqa: E402


# What was captured from the Hub itself

def test_lengths_and_tags_agree_with_captures():
    assert weak_etag(b"Entry not found").startswith('W/"f-mY2V')
    assert len(b"Temporary Redirect. Redirecting to /api/models/google-bert/bert-base-uncased") == 76
    assert git_id("blob", b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    with HubDouble() as hub:
        card = "x" * 9
        repo = hub.content.add_repo("model", "Jackrong/Qwopus3.6-27B-v1-preview")
        repo.commit({"README.md": card})
        hub.content.add_repo("model", "meta-llama/Llama-3.1-8B-Instruct", gated="manual").commit({"a": "b"})
        hop = ask(hub.url + "/Jackrong/Qwopus3.6-27B-v1-preview/resolve/main/README.md")
        assert hop.status == 307 and hop["Content-Length"] == "266" and len(hop.body) == 266
        gated = ask(hub.url + "/meta-llama/Llama-3.1-8B-Instruct/resolve/main/a")
        assert gated.status == 401 and gated["Content-Length"] == "140" and gated["X-Error-Code"] == "GatedRepo"


def test_pointer_of_a_known_file():
    text = pointer_text("a7a17d6d844b5de815ccab5f42cad6d24496db3850a2a43d8258221018ce87d2", 536063208)
    assert len(text) == 134 and git_id("blob", text) == "9eb98c817f04b051b3bcca591bcd4e03cec88018"


def test_git_agrees_with_tree_and_commit_ids():
    repo = shared().content.repo("acme/pub")
    commit = repo.head
    with tempfile.TemporaryDirectory() as folder:
        def git(*args, data=None):
            return subprocess.run(["git", *args], cwd=folder, input=data, capture_output=True, check=True).stdout.strip().decode()
        try:
            git("init", "-q")
        except FileNotFoundError:
            return
        for path, file in commit.files.items():
            data = file.pointer if file.is_lfs else file.source.read()
            git("update-index", "--add", "--cacheinfo", "100644", git("hash-object", "-w", "--stdin", data=data), path)
        assert git("write-tree") == commit.tree_oid


# Resolve

def test_regular_file_two_hops():
    hub = shared()
    file = hub.content.repo("acme/pub").head.files["config.json"]
    for method in ("HEAD", "GET"):
        hop = ask(hub.url + "/acme/pub/resolve/main/config.json", method)
        commit = hub.content.repo("acme/pub").head.id
        assert hop.status == 307 and hop["X-Linked-Etag"] == f'"{file.oid}"' and hop["X-Linked-Size"] is None
        assert hop["Location"] == (f"/api/resolve-cache/models/acme/pub/{commit}/config.json?%2Facme%2Fpub%2Fresolve%2Fmain%2Fconfig.json="
                                   f"&etag=%22{file.oid}%22")
        names = [k.lower() for k, _ in hop.headers]
        order = ["content-type", "content-length", "location", "x-powered-by", "x-request-id", "ratelimit", "ratelimit-policy",
                 "cross-origin-opener-policy", "referrer-policy", "access-control-max-age", "access-control-allow-origin", "vary",
                 "access-control-expose-headers", "x-repo-commit", "accept-ranges", "x-hub-cache", "content-disposition",
                 "content-security-policy"]
        assert [n for n in names if n in order] == order
        assert hop["RateLimit-Policy"] == '"fixed window";"resolvers";q=3000;w=300' and hop["Vary"] == "Origin, Accept"
        assert hop["Content-Disposition"] == "inline; filename*=UTF-8''config.json; filename=\"config.json\";"
        second = ask(hub.url + hop["Location"], method)
        assert second.status == 200 and second["ETag"] == f'"{file.oid}"' and second["X-Repo-Commit"] == commit
        assert second["Content-Length"] == str(file.size) and second["Content-Type"] == "text/plain; charset=utf-8"
        assert ask(hub.url + hop["Location"], method, If_None_Match=second["ETag"]).status == 304
    assert second.body == file.source.read()
    assert ask(hub.url + "/api/resolve-cache/models/acme/pub/main/config.json").status == 400
    assert ask(hub.url + f"/api/resolve-cache/models/acme/pub/{'0' * 40}/config.json").status == 404


def test_large_file_goes_to_the_cdn():
    hub = shared()
    repo = hub.content.repo("acme/pub")
    file = repo.head.files["model.safetensors"]
    hop = ask(hub.url + "/acme/pub/resolve/main/model.safetensors", "HEAD", X_Amzn_Trace_Id="abc-1")
    assert hop.status == 302 and hop["X-Linked-Size"] == str(3 * MIB) and hop["X-Linked-Etag"] == f'"{file.sha256}"'
    assert hop["X-Xet-Hash"] == file.xet_hash != file.sha256 and hop["Cache-Control"] == "no-store"
    assert hop["Link"] == (f'<{hub.url}/api/models/acme/pub/xet-read-token/{repo.head.id}>; rel="xet-auth", '
                           f'<{hub.cas_url}/v1/reconstructions/{file.xet_hash}>; rel="xet-reconstruction-info"')
    assert hop["X-Request-Id"].endswith(";abc-1")
    url = hop["Location"]
    assert url.startswith(f"{hub.cdn_url}/xet-bridge-us/{repo.object_id}/{file.xet_hash}?X-Xet-Cas-Uid=public&response-content-")
    whole = ask(url)
    assert hashlib.sha256(whole.body).hexdigest() == file.sha256 and whole["ETag"] == f'"{file.xet_hash}"'
    part = ask(url, Range="bytes=0-99")
    assert part.status == 206 and part["Content-Range"] == f"bytes 0-99/{3 * MIB}" and part.body == whole.body[:100]
    assert part["Accept-Ranges"] == "bytes"
    assert [k for k, _ in whole.headers][:11] == [
        "Content-Length", "Content-Disposition", "Cache-Control", "ETag", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers",
        "Accept-Ranges", "X-Request-Id", "X-Cache", "Age", "Content-Security-Policy"]


def test_ranges():
    hub = shared()
    url, size = signed(hub), 3 * MIB
    for asked, first, last in (("0-0", 0, 0), (f"{size - 5}-{size + 99}", size - 5, size - 1), ("-7", size - 7, size - 1),
                               ("100-", 100, size - 1), (f"-{size * 2}", 0, size - 1)):
        got = ask(url, Range=f"bytes={asked}")
        assert got.status == 206 and got["Content-Range"] == f"bytes {first}-{last}/{size}" and len(got.body) == last - first + 1
    past = ask(url, Range=f"bytes={size}-")
    assert past.status == 416 and past["Content-Range"] == f"bytes */{size}" and past.body == b""
    assert ask(url, Range="bytes=5-2").status == 200 and ask(url, Range="lines=1-2").status == 200
    assert ask(url, Range="bytes=0-0", If_Range='"other"').status == 200
    assert ask(url, Range="bytes=0-0", If_Range=ask(url, "HEAD")["ETag"]).status == 206


def test_signatures_are_exact_expire_and_refuse_tokens():
    hub = shared()
    url = signed(hub)
    for bad in (url.replace("Expires=1", "Expires=2"), url[:-1], url + "&x=1", url.replace("public", "pubic"), url.split("?")[0]):
        refused = ask(bad)
        assert refused.status == 403 and b"<Code>AccessDenied</Code>" in refused.body and refused["Content-Type"] == "application/xml"
    assert not hub.leaks()
    assert ask(url, token="hf_x").status == 400 and len(hub.leaks()) == 1
    hub.options.signature_ttl = 0.3
    try:
        url = signed(hub)
    finally:
        hub.options.signature_ttl = 3600
    time.sleep(1.1)
    assert ask(url).status == 403


def test_odd_names_refs_and_short_commits():
    hub = shared()
    repo = hub.content.repo("acme/pub")
    for name in ODD_NAMES:
        hop = ask(f"{hub.url}/acme/pub/resolve/main/{quote(name)}")
        assert hop.status == 307, name
        assert ask(hub.url + hop["Location"]).body == f"content of {name}\n".encode()
    for revision, ref in (("refs%2Fpr%2F1", "refs/pr/1"), ("refs/pr/1", "refs/pr/1"), ("feature%2Fx", "feature/x"),
                          ("feature/x", "feature/x"), ("v1", "v1"), ("dev", "dev"), (repo.head.id[:7], "main"),
                          (repo.head.id, "main"), ("HEAD", "main")):
        assert ask(f"{hub.url}/acme/pub/resolve/{revision}/README.md")["X-Repo-Commit"] == repo.find(ref).id
        assert ask(f"{hub.url}/api/models/acme/pub/revision/{revision}").json()["sha"] == repo.find(ref).id
        assert ask(f"{hub.url}/api/models/acme/pub/tree/{revision}/sub%2Fdir").json() == ask(
            f"{hub.url}/api/models/acme/pub/tree/{revision}/sub/dir").json()
    empty = ask(hub.url + ask(hub.url + "/acme/pub/resolve/main/empty.txt")["Location"])
    assert empty.status == 200 and empty["Content-Length"] == "0" and empty["ETag"] == '"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"'


def test_raw_and_gzip():
    hub = shared()
    file = hub.content.repo("acme/pub").head.files["model.safetensors"]
    pointer = ask(hub.url + "/acme/pub/raw/main/model.safetensors")
    assert pointer.body == file.pointer and pointer["ETag"] == f'"{file.oid}"'
    hop = ask(hub.url + "/acme/pub/resolve/main/README.md")["Location"]
    zipped = ask(hub.url + hop, Accept_Encoding="gzip")
    assert zipped["Content-Encoding"] == "gzip" and zipped["Content-Length"] is None
    assert ask(hub.url + hop, Accept_Encoding="identity")["Content-Encoding"] is None


# Metadata

def test_info_tree_and_paths():
    hub = shared()
    repo = hub.content.repo("acme/pub")
    info = ask(hub.url + "/api/models/acme/pub?blobs=true")
    keys = list(info.json())
    assert keys[:9] == ["_id", "id", "modelId", "author", "sha", "lastModified", "private", "gated", "disabled"]
    assert b", " not in info.body.split(b'"siblings"')[0] and info["ETag"] == weak_etag(info.body)
    blob = next(s for s in info.json()["siblings"] if s["rfilename"] == "model.safetensors")
    assert list(blob) == ["rfilename", "blobId", "size", "lfs"] and blob["lfs"]["pointerSize"] == 132
    assert ask(hub.url + "/api/models/acme/pub?blobs=true", If_None_Match=info["ETag"]).status == 304
    tree = ask(hub.url + "/api/models/acme/pub/tree/main?recursive=true").json()
    large = next(i for i in tree if i["path"] == "model.safetensors")
    assert list(large) == ["type", "oid", "size", "lfs", "xetHash", "path"] and list(large["lfs"]) == ["oid", "size", "pointerSize"]
    assert {i["path"] for i in tree if i["type"] == "directory"} == {"odd", "sub", "sub/dir"}
    assert {i["path"] for i in tree if i["type"] == "file"} == set(repo.head.files)
    assert ask(hub.url + "/api/models/acme/pub/tree/main/config.json").status == 404
    full = ask(hub.url + "/api/models/acme/pub/tree/main?expand=true").json()
    assert {"lastCommit", "securityFileStatus"} <= set(full[-1])
    form = ask(hub.url + "/api/models/acme/pub/paths-info/main", "POST", "paths=README.md&paths=nope&paths=sub",
               Content_Type="application/x-www-form-urlencoded").json()
    both = ask(hub.url + "/api/models/acme/pub/paths-info/main", "POST", '{"paths":["README.md","nope","sub"],"expand":false}',
               Content_Type="application/json").json()
    assert form == both and [i["path"] for i in form] == ["README.md", "sub"]
    assert ask(hub.url + "/api/models/acme/pub/treesize/main").json()["size"] == sum(f.size for f in repo.head.files.values())
    refs = ask(hub.url + "/api/models/acme/pub/refs?include_prs=1").json()
    assert list(refs) == ["tags", "branches", "converts", "pullRequests"] and refs["branches"][0]["name"] == "main"
    commits = ask(hub.url + "/api/models/acme/pub/commits/main")
    assert commits["X-Total-Count"] == "2" and commits.json()[0]["title"] == "Widen it"
    assert ask(hub.url + "/api/models/acme/pub/commits/main?limit=1")["Link"].endswith('p=1>; rel="next"')


def test_pages():
    hub = shared()
    url, sizes, seen = hub.url + "/api/models/acme/many/tree/main?expand=false&recursive=true", [], []
    while url:
        page = ask(url)
        sizes.append(len(page.json()))
        seen += [i["path"] for i in page.json()]
        link = page["Link"]
        url = link[1:].split(">")[0] if link else None
        if link:
            assert link.startswith(f"<{hub.url}/api/models/acme/many/tree/main?expand=false&recursive=true&limit=1000&cursor=")
            assert link.endswith('>; rel="next"') and "=" not in link.split("cursor=")[1].split(">")[0]
    assert sizes == [1000, 1000, 525] and len(set(seen)) == 2525
    forged = base64.b64encode(base64.b64encode(json.dumps({"file_name": seen[-1]}).encode()) + b":50").decode()
    assert ask(f"{hub.url}/api/models/acme/many/tree/main?recursive=true&cursor={quote(forged)}").json() == []


def test_other_reads():
    hub = shared()
    assert ask(hub.url + "/api/whoami-v2", token=TOKENS["alice"]).json()["name"] == "alice"
    assert ask(hub.url + "/api/whoami-v2").status == 401
    ids = [m["id"] for m in ask(hub.url + "/api/models?search=acme").json()]
    assert "acme/private" not in ids and "acme/gated" in ids
    assert "acme/private" in [m["id"] for m in ask(hub.url + "/api/models?author=acme", token=TOKENS["alice"]).json()]
    assert ask(hub.url + "/api/telemetry/x/y", "HEAD").status == 200
    unknown = ask(hub.url + "/api/nothing/here")
    assert unknown.status == 404 and "error" in unknown.json()
    token = ask(hub.url + f"/api/models/acme/pub/xet-read-token/{hub.content.repo('acme/pub').head.id}").json()
    assert list(token) == ["accessToken", "exp", "casUrl"] and token["casUrl"] == hub.cas_url
    assert ask(hub.cas_url + "/v2/reconstructions/x").status == 404 and len(hub.calls("cas")) == 1
    assert len(hub.xet_calls()) == 2
    listed = ask(hub.url + "/api/datasets/acme/table/parquet").json()["default"]["train"]
    assert listed == [f"{hub.url}/datasets/acme/table/resolve/refs%2Fconvert%2Fparquet/default/train/0000.parquet"]
    assert ask(ask(listed[0])["Location"]).body[:4] == b"PAR1"
    jump = ask(hub.url + "/api/datasets/acme/table/parquet/default/train/0.parquet")
    assert hub.url + jump["Location"] == listed[0]


def test_lfs_batch():
    hub = shared()
    file = hub.content.repo("acme/pub").head.files["model.safetensors"]
    asked = {"operation": "download", "transfers": ["basic"],
             "objects": [{"oid": file.sha256, "size": file.size}, {"oid": "0" * 64, "size": 1}]}
    for prefix in ("/acme/pub.git", "/acme/pub"):
        got = ask(hub.url + prefix + "/info/lfs/objects/batch", "POST", json.dumps(asked),
                  Content_Type="application/vnd.git-lfs+json").json()
        assert ask(got["objects"][0]["actions"]["download"]["href"]).status == 200
        assert got["objects"][1]["error"]["code"] == 404
    asked["objects"] = [{"oid": hub.content.repo("acme/private").head.files["model.safetensors"].sha256, "size": MIB}]
    refused = ask(hub.url + "/acme/private.git/info/lfs/objects/batch", "POST", json.dumps(asked))
    assert refused.status == 401 and refused["WWW-Authenticate"].startswith("Basic ")
    basic = "Basic " + base64.b64encode(b"alice:" + TOKENS["alice"].encode()).decode()
    assert ask(hub.url + "/acme/private.git/info/lfs/objects/batch", "POST", json.dumps(asked), Authorization=basic).status == 200


# Errors, access, redirects

def test_errors():
    hub = shared()
    head = hub.content.repo("acme/pub").head.id
    bob, alice = TOKENS["bob"], TOKENS["alice"]
    login, credentials = "Invalid username or password.", "Invalid credentials in Authorization header"
    table = [("/acme/pub/resolve/main/nope", None, 404, "EntryNotFound", "Entry not found"),
             ("/acme/pub/resolve/badrev/x", None, 404, "RevisionNotFound", "Invalid rev id: badrev"),
             ("/api/models/acme/pub/revision/badrev", None, 404, "RevisionNotFound", "Invalid rev id: badrev"),
             ("/api/models/acme/unknown", None, 401, None, login),
             ("/acme/unknown/resolve/main/x", None, 401, None, login),
             ("/acme/unknown/resolve/main/x", bob, 404, "RepoNotFound", "Repository not found"),
             ("/api/models/acme/private", None, 401, None, login),
             ("/api/models/acme/private", bob, 404, "RepoNotFound", "Repository not found"),
             ("/api/models/acme/private", alice, 200, None, None),
             ("/api/models/acme/pub", "hf_bad", 401, None, credentials),
             ("/api/models/acme/gated", None, 200, None, None),
             ("/acme/gated/resolve/main/config.json", bob, 403, "GatedRepo", None),
             ("/acme/gated/resolve/main/config.json", "hf_bad", 401, "GatedRepo", None),
             ("/acme/gated/resolve/main/config.json", alice, 307, None, None),
             ("/api/models/acme/gated/commits/main", None, 401, "GatedRepo", None),
             ("/api/models/acme/disabled", None, 403, None, "Access to this resource is disabled."),
             ("/acme/disabled/resolve/main/config.json", alice, 403, None, "Access to this resource is disabled.")]
    for path, token, status, code, message in table:
        got = ask(hub.url + path, token=token)
        assert (got.status, got["X-Error-Code"]) == (status, code), (path, token, got.status, got.headers)
        assert message is None or got["X-Error-Message"] == message
        assert ask(hub.url + path, "HEAD", token=token).status == status
        if status >= 400 and path.startswith("/api/"):
            assert got.json() == {"error": got["X-Error-Message"]}
    missing = ask(hub.url + "/acme/pub/resolve/main/nope")
    assert missing.body == b"Entry not found" and missing["X-Repo-Commit"] == head and missing["ETag"].startswith('W/"f-mY2V')
    assert ask(hub.url + "/api/models/acme/unknown")["WWW-Authenticate"] == 'Bearer realm="Authentication required", charset="UTF-8"'


def test_renames_and_case():
    hub = shared()
    moved = ask(hub.url + "/api/models/old/name/tree/main?recursive=true&limit=5")
    assert moved.status == 307 and moved["Location"] == "/api/models/acme/pub/tree/main?recursive=true&limit=5"
    assert moved["Vary"] == "Origin, Accept" and moved.body.decode() == f"Temporary Redirect. Redirecting to {moved['Location']}"
    assert moved["X-Repo-Commit"] is None
    assert ask(hub.url + "/old/name/resolve/main/README.md?download=true")["Location"] == "/acme/pub/resolve/main/README.md?download=true"
    assert ask(hub.url + "/api/models/ACME/Pub")["Location"] == "/api/models/acme/pub"
    assert ask(hub.url + "/api/models/tinymodel")["Location"] == "/api/models/acme/tinymodel"
    direct = ask(hub.url + "/tinymodel/resolve/main/config.json")
    assert direct.status == 307 and direct["Location"].startswith("/api/resolve-cache/models/acme/tinymodel/")


def test_changes_and_writes():
    with HubDouble() as hub:
        repo = hub.content.add_repo("model", "me/thing")
        one = repo.commit({"a.txt": "one"})
        two = repo.commit({"a.txt": "two"})
        hub.move_branch("me/thing", "main", one.id[:9])
        assert ask(hub.url + "/api/models/me/thing").json()["sha"] == one.id
        hub.move_branch("me/thing", "main", two.id)
        hub.set_visibility("me/thing", private=True)
        assert ask(hub.url + "/api/models/me/thing").status == 401
        hub.content.add_token("hf_w", "me", role="write")
        line = {"key": "file", "value": {"path": "b.txt", "content": base64.b64encode(b"three").decode(), "encoding": "base64"}}
        body = json.dumps({"key": "header", "value": {"summary": "Add b"}}) + "\n" + json.dumps(line)
        made = ask(hub.url + "/api/models/me/thing/commit/main", "POST", body, token="hf_w", Content_Type="application/x-ndjson").json()
        assert made["success"] and repo.head.id == made["commitOid"] and repo.head.files["b.txt"].source.read() == b"three"
        hub.content.revoke_token("hf_w")
        assert ask(hub.url + "/api/models/me/thing", token="hf_w").status == 401


if __name__ == "__main__":
    run_all(globals())
