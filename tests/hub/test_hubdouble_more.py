# SPDX-License-Identifier: Apache-2.0
"""Shows what the Hub double says on the registry, at the dataset viewer, of buckets, kernels and discussions, and in logs."""
import hashlib
import json
import socket
import sys
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

sys.path.insert(0, str(Path(__file__).parent))

from hubdouble import HubDouble  # noqa: E402
from hubdouble.blobs import LFS  # noqa: E402
from hubdouble.fixture import TOKENS, add_public, add_table  # noqa: E402
from hubdouble.specimens import add_bucket, add_card, add_gguf, add_kernel  # noqa: E402
from probe import MIB, WORK, ask, run_all  # noqa: E402

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def hub_with_all():
    hub = HubDouble(cache_dir=WORK).start()
    add_public(hub.content)
    add_table(hub.content)
    add_gguf(hub.content)
    add_kernel(hub.content)
    add_bucket(hub.content)
    add_card(hub.content, hub.url)
    hub.content.add_token(TOKENS["writer"], "acme", role="write")
    hub.content.add_token(TOKENS["bob"], "bob")
    return hub


def test_manifests_vary_by_user_agent():
    with hub_with_all() as hub:
        files = hub.content.repo("acme/gguf").head.files
        url = f"{hub.url}/v2/acme/gguf/manifests/"
        plain = ask(url + "latest", Accept=MANIFEST, User_Agent="ollama/0.9")
        llama = ask(url + "q4_k_m", User_Agent="llama-cpp")
        for got in (plain, llama):
            assert got["Vary"] == "Origin,User-Agent" and got["Cache-Control"] == "public, max-age=60" and got["ETag"].startswith('W/"')
            kinds = [layer["mediaType"].rsplit(".", 1)[-1] for layer in got.json()["layers"]]
            assert kinds == ["model", "projector", "template", "params"] and got.json()["schemaVersion"] == 2
            assert got.json()["layers"][0]["digest"] == f"sha256:{files['Gguf-Q4_K_M.gguf'].sha256}"
        assert "ggufFile" not in plain.json() and llama.json()["ggufFile"]["rfilename"] == "Gguf-Q4_K_M.gguf"
        assert llama.json()["mmprojFile"]["size"] == MIB and llama["ETag"] != plain["ETag"]
        assert ask(url + "latest", If_None_Match=plain["ETag"]).status == 304
        assert ask(url + "Q8_0").json()["layers"][0]["size"] == 5 * MIB + 123
        for tag, words in (("Q2_K", "not available"), ("BF16", "sharded")):
            refused = ask(url + tag, User_Agent="ollama/0.9")
            assert refused.status == 400 and words in refused.json()["error"], tag
        assert ask(url + "BF16", User_Agent="llama-cpp").json()["ggufFile"]["rfilename"].endswith("00001-of-00002.gguf")
        assert ask(f"{hub.url}/v2/acme/pub/manifests/latest").status == 400


def test_blobs_of_the_registry():
    with hub_with_all() as hub:
        manifest = ask(f"{hub.url}/v2/acme/gguf/manifests/Q8_0").json()
        for entry in [manifest["config"], *manifest["layers"]]:
            url = f"{hub.url}/v2/acme/gguf/blobs/{entry['digest']}"
            head = ask(url, "HEAD")
            if entry["mediaType"].endswith(("model", "projector")):
                assert head.status == 307 and head["Location"].startswith(hub.cdn_url)
                assert ask(head["Location"], "HEAD")["Content-Length"] == str(entry["size"])
                body = ask(ask(url)["Location"]).body
            else:
                assert head.status == 200 and head["Content-Length"] == str(entry["size"]) and head["Location"].startswith("?__sign=")
                assert ask(url, Range="bytes=0-1").status == 206
                body = ask(url).body
            assert "sha256:" + hashlib.sha256(body).hexdigest() == entry["digest"] == head["Docker-Content-Digest"]
        assert ask(f"{hub.url}/v2/acme/gguf/blobs/sha256:{'0' * 64}").status == 404
        model = hub.content.repo("acme/pub").head.files["model.safetensors"].sha256
        assert ask(f"{hub.url}/v2/acme/gguf/blobs/sha256:{model}").status == 404


def test_the_registry_knows_who_may():
    with hub_with_all() as hub:
        add_gguf(hub.content, "acme/closed", gated="auto")
        refused = ask(f"{hub.url}/v2/acme/closed/manifests/latest")
        assert refused.status == 401 and refused["X-Error-Code"] == "GatedRepo"
        assert refused["WWW-Authenticate"] == f'Basic realm="{hub.url}/api/models/acme/closed/ssh-auth"'
        assert ask(f"{hub.url}/v2/acme/closed/manifests/latest", token=TOKENS["bob"]).status == 403
        assert ask(f"{hub.url}/v2/acme/nothing/manifests/latest", token=TOKENS["bob"]).status == 404
        assert ask(f"{hub.url}/v2/acme/nothing/manifests/latest").json() == {"error": "Invalid username or password."}
        layer = ask(f"{hub.url}/v2/acme/closed/manifests/latest", token=TOKENS["writer"]).json()["layers"][-1]
        url = f"{hub.url}/v2/acme/closed/blobs/{layer['digest']}"
        signed = ask(url, token=TOKENS["writer"])["Location"]
        assert ask(url).status == 401 and ask(url + signed).status == 200 and ask(url + signed + "x").status == 403


def test_viewer():
    with hub_with_all() as hub:
        repo = hub.content.repo("acme/table", "dataset")
        view = f"{hub.viewer_url}/%s?dataset=acme/table"
        files = ask(view % "parquet")
        assert files["X-Revision"] == repo.head.id and files["Content-Type"] == "application/json"
        file, = files.json()["parquet_files"]
        assert list(file) == ["dataset", "config", "split", "url", "filename", "size"]
        assert file["url"] == f"{hub.url}/datasets/acme/table/resolve/refs%2Fconvert%2Fparquet/default/train/0000.parquet"
        assert ask(ask(file["url"])["Location"]).body[:4] == b"PAR1"
        assert ask(view % "info").json()["dataset_info"]["default"]["splits"]["train"]["num_bytes"] == file["size"]
        assert ask(view % "splits").json()["splits"] == [{"dataset": "acme/table", "config": "default", "split": "train"}]
        assert ask(view % "is-valid").json()["viewer"] is True and ask(view % "nothing").status == 404
        assert ask(view % "info" + "&config=none").status == 404
        hub.content.add_repo("dataset", "acme/script").commit({"script.py": "print()"})
        hub.content.add_repo("dataset", "acme/plain").commit({"a.txt": "a"})
        hub.content.add_repo("dataset", "acme/hidden", gated="auto").commit({"a.txt": "a"})
        hub.content.add_alias("dataset", "old/table", "acme/table")
        hub.content.viewer_errors["acme/odd"] = (500, "ResponseNotReady", "The server is busier than usual")
        for name, token, status, code in (("acme/script", None, 501, "DatasetWithScriptNotSupportedError"),
                                          ("acme/plain", None, 501, "DatasetFormatNotSupportedError"),
                                          ("acme/hidden", None, 401, "ExternalUnauthenticatedError"),
                                          ("acme/none", None, 401, "ExternalUnauthenticatedError"),
                                          ("acme/none", "bob", 404, "ExternalAuthenticatedError"),
                                          ("old/table", None, 404, "RenamedDatasetError"), ("acme/odd", None, 500, "ResponseNotReady")):
            got = ask(f"{hub.viewer_url}/parquet?dataset={quote(name, safe='')}", token=TOKENS.get(token))
            assert (got.status, got["X-Error-Code"]) == (status, code) and "error" in got.json(), name
        assert ask(f"{hub.viewer_url}/parquet").status == 422
        hub.rule("viewer", path="/parquet", status=503, times=1)
        assert ask(view % "parquet").status == 503 and len(hub.calls("viewer")) > 10


def test_parquet_addresses_of_the_hub():
    with hub_with_all() as hub:
        base = f"{hub.url}/api/datasets/acme/table/parquet"
        whole = ask(base).json()
        assert whole == {"default": {"train": ask(base + "/default/train").json()}} and ask(base + "/default").json() == whole["default"]
        hop = ask(base + "/default/train/0.parquet")
        assert hop.status == 302 and hop["Location"] == whole["default"]["train"][0].removeprefix(hub.url)
        assert ask(base + "/default/train/7.parquet").status == 404 and ask(base + "/none").status == 404


def test_kernels_and_buckets():
    with hub_with_all() as hub:
        assert ask(f"{hub.url}/api/kernels/acme/kernel").json()["id"] == "acme/kernel"
        hop = ask(f"{hub.url}/kernels/acme/kernel/resolve/v1/README.md")
        assert hop.status == 307 and hop["Location"].startswith("/api/resolve-cache/kernels/acme/kernel/")
        assert ask(hub.url + hop["Location"]).status == 200 and ask(f"{hub.url}/acme/kernel/resolve/main/README.md").status == 401
        assert [k["id"] for k in ask(f"{hub.url}/api/kernels").json()] == ["acme/kernel"]
        file = hub.content.buckets["acme/bucket"].files["data/one.bin"][0]
        head = ask(f"{hub.url}/buckets/acme/bucket/resolve/data%2Fone.bin", "HEAD")
        assert head.status == 302 and head["X-Xet-Hash"] == file.xet_hash and head["X-Linked-Size"] == "200000"
        assert f'<{hub.url}/api/buckets/acme/bucket/xet-read-token>; rel="xet-auth"' in head["Link"] and head["X-Repo-Commit"] is None
        assert ask(head["Location"]).body == file.source.read()
        base = f"{hub.url}/api/buckets/acme/bucket"
        assert [i["path"] for i in ask(base + "/tree").json()] == ["data", "notes.txt"]
        assert [i["path"] for i in ask(base + "/tree/data%2F").json()] == ["data/one.bin", "data/two.bin"]
        page = ask(base + "/tree?recursive=true&limit=2")
        assert len(page.json()) == 2 and len(ask(page["Link"][1:].split(">")[0]).json()) == 1
        assert [i["size"] for i in ask(base + "/paths-info", "POST", '{"paths":["data/two.bin","none"]}').json()] == [1000]
        assert ask(base).json()["totalFiles"] == 3 and ask(base + "/xet-read-token").json()["casUrl"] == hub.cas_url
        gone = ask(f"{hub.url}/api/buckets/acme/none", token=TOKENS["bob"])
        assert gone.status == 404 and gone["X-Error-Code"] == "RepoNotFound" and ask(f"{hub.url}/api/buckets/acme/none").status == 401
        lines = [{"type": "addFile", "path": "copy.bin", "xetHash": file.xet_hash}, {"type": "deleteFile", "path": "notes.txt"}]
        body = "\n".join(json.dumps(line) for line in lines)
        assert ask(base + "/batch", "POST", body).status == 401
        assert ask(base + "/batch", "POST", body, TOKENS["writer"]).json()["succeeded"] == 2
        assert set(hub.content.buckets["acme/bucket"].files) == {"data/one.bin", "data/two.bin", "copy.bin"}


def test_what_surrounds_repositories():
    with hub_with_all() as hub:
        repo = hub.content.repo("acme/pub")
        repo.likes = 2
        base = f"{hub.url}/api/models/acme/pub"
        assert [u["user"] for u in ask(base + "/likers").json()] == ["fan0", "fan1"]
        talks = ask(base + "/discussions").json()
        assert talks["count"] == 1 and talks["discussions"][0]["isPullRequest"] and talks["discussions"][0]["num"] == 1
        detail = ask(base + "/discussions/1?diff=1").json()
        assert [e["type"] for e in detail["events"]] == ["comment", "commit"]
        assert detail["events"][1]["data"]["oid"] == repo.find("refs/pr/1").id
        raw = ask(f"{base}/compare/v1..main?raw=true").body.decode()
        assert raw.split()[4:] == ["M", "config.json"] and b"hidden_size" in ask(f"{base}/compare/v1..main").body
        assert ask(f"{hub.url}/api/datasets/acme/table/croissant").json()["url"] == f"{hub.url}/datasets/acme/table"
        page = ask(f"{hub.url}/api/collections?limit=2")
        assert len(page.json()) == 2 and page["Link"] == f'<{hub.url}/api/collections?limit=2&p=1>; rel="next"'
        slug = page.json()[0]["slug"]
        assert "https://huggingface.co" in ask(f"{hub.url}/api/collections/{slug}").json()["items"][0]["note"]["text"]
        assert ask(f"{hub.url}/api/papers/2401.00001").json()["title"] == "A paper"
        assert ask(f"{hub.url}/papers/2401.00001.md").body.startswith(b"# A paper")
        made = ask(base + "/discussions", "POST", '{"title":"Q","description":"why","pullRequest":true}', TOKENS["writer"]).json()
        assert made["num"] == 2 and repo.find("refs/pr/2") is repo.head
        repo.commit({"x": "x"}, branch="refs/pr/2")
        assert ask(base + "/discussions/2/merge", "POST", "{}", TOKENS["writer"]).status == 200 and "x" in repo.head.files


def test_cards_hold_addresses_as_text():
    with hub_with_all() as hub:
        info = ask(f"{hub.url}/api/models/acme/card")
        card = info.json()["cardData"]
        assert card["base_model"] == "https://huggingface.co/acme/pub" and card["homepage"] == f"{hub.url}/acme/pub"
        assert info.body.count(b"https://huggingface.co") >= 3 and info.body.count(hub.url.encode()) >= 3


def test_logs_come_as_they_happen():
    with hub_with_all() as hub:
        hub.content.add_repo("space", "acme/app").commit({"README.md": "# App\n"})
        hub.options.sse_events, hub.options.sse_pause, hub.options.sse_tail = 2, 0.4, 0.8
        parts = urlsplit(hub.url)
        for tries_left in reversed(range(5)):   # a machine with much else to do shows one event late, but not each time
            with socket.create_connection((parts.hostname, parts.port), timeout=5) as s:
                s.sendall(b"GET /api/spaces/acme/app/logs/run HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                started, got, seen = time.monotonic(), b"", []
                while more := s.recv(65536):
                    got += more
                    if got.count(b"data: {") > len(seen):
                        seen.append(time.monotonic() - started)
                ended = time.monotonic() - started
            assert b"Content-Type: text/event-stream" in got and b"Content-Length" not in got and got.endswith(b"0\r\n\r\n")
            if len(seen) == 2 and seen[0] < 0.3 and 0.35 < seen[1] < 1.0 and ended - seen[1] > 0.6:
                break
            assert tries_left, (seen, ended)
        assert ask(f"{hub.url}/api/spaces/acme/app/logs/other").status == 404
        assert ask(f"{hub.url}/api/spaces/acme/app/runtime").json()["stage"] == "RUNNING"


def test_rules_reach_the_new_routes():
    with hub_with_all() as hub:
        hub.content.add_repo("space", "acme/app").commit({"README.md": "# App\n", "w": LFS(b"x")})
        hub.rule(path="/logs/run", cut_after=20)
        parts = urlsplit(hub.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=5) as s:
            s.sendall(b"GET /api/spaces/acme/app/logs/run HTTP/1.1\r\nHost: x\r\n\r\n")
            got = b""
            while more := s.recv(65536):
                got += more
        assert not got.endswith(b"0\r\n\r\n")
        hub.rule(path="git-upload-pack", status=502, times=1)
        assert ask(f"{hub.url}/acme/pub/info/refs?service=git-upload-pack").status == 502


if __name__ == "__main__":
    run_all(globals())
