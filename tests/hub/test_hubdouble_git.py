# SPDX-License-Identifier: Apache-2.0
"""Shows that git and git-lfs, as they come from the distribution, work against the Hub double, and that git and the API agree."""
import base64
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from hubdouble import LFS, HubDouble, generated  # noqa: E402
from hubdouble.fixture import TOKENS, add_public, add_table, small_model  # noqa: E402
from probe import MIB, WORK, ask, run_all  # noqa: E402

WRITER = TOKENS["writer"]


class Folder:
    """A place to run git in, with a configuration of its own."""

    def __init__(self, lfs=True):
        if not shutil.which("git") or lfs and not shutil.which("git-lfs"):
            raise unittest.SkipTest("git or git-lfs is not installed")
        self.path = Path(tempfile.mkdtemp(prefix="hubdouble-test-"))
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(self.path), "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1",
                            "LC_ALL": "C.UTF-8", "GIT_LFS_SKIP_SMUDGE": "0"}
        for name, value in (("user.name", "Tess"), ("user.email", "tess@example.net"), ("init.defaultBranch", "main")):
            self.git("config", "--global", name, value)
        if lfs:
            self.git("lfs", "install", "--skip-repo")

    def git(self, *words, where=".", fails=False):
        done = subprocess.run(["git", *words], cwd=self.path / where, env=self.environment, capture_output=True, text=True, timeout=60)
        assert (done.returncode != 0) == fails, (words, done.stdout, done.stderr)
        return done.stdout.strip() if not fails else done.stderr

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)


def hub_with_repos():
    hub = HubDouble(cache_dir=WORK).start()
    add_public(hub.content)
    add_table(hub.content)
    small_model(hub.content, "acme/private", private=True, seed=12)
    small_model(hub.content, "acme/gated", gated="auto", seed=11)
    hub.content.add_alias("model", "old/name", "acme/pub")
    hub.content.add_token(WRITER, "acme", role="write")
    hub.content.add_token(TOKENS["bob"], "bob")
    return hub


def with_token(url, token=WRITER):
    return url.replace("http://", f"http://user:{token}@")


def test_clone_agrees_with_the_api_in_every_form():
    with hub_with_repos() as hub, Folder() as f:
        repo = hub.content.repo("acme/pub")
        large = repo.head.files["model.safetensors"]
        for number, (suffix, extra) in enumerate([("", ()), (".git", ()), ("", ("-c", "protocol.version=0")),
                                                  (".git", ("-c", "protocol.version=1")), ("", ("-c", "http.version=HTTP/1.1"))]):
            f.git(*extra, "clone", "-q", f"{hub.url}/acme/pub{suffix}", f"c{number}")
            assert f.git("rev-parse", "HEAD", where=f"c{number}") == repo.head.id
            assert f.git("rev-parse", "HEAD^{tree}", where=f"c{number}") == repo.head.tree_oid
            assert hashlib.sha256((f.path / f"c{number}/model.safetensors").read_bytes()).hexdigest() == large.sha256
        f.git("fsck", "--strict", where="c0")
        listed = dict(reversed(line.split("\t")) for line in f.git("ls-remote", f"{hub.url}/acme/pub").splitlines())
        assert listed == {"HEAD": repo.head.id} | {ref: c.id for ref, c in repo.refs.items()}
        f.git("fetch", "-q", "origin", "refs/pr/1:pr1", where="c0")
        assert f.git("rev-parse", "pr1", where="c0") == repo.refs["refs/pr/1"].id
        f.git("clone", "-q", "--depth", "1", "-b", "dev", "--filter=blob:none", f"{hub.url}/acme/pub", "shallow")
        f.git("clone", "-q", f"{hub.url}/old/name", "moved")
        f.git("clone", "-q", f"{hub.url}/datasets/acme/table", "table")
        assert not hub.leaks()


def test_refusals_offer_basic():
    with hub_with_repos() as hub, Folder(lfs=False) as f:
        for name in ("private", "gated", "unknown"):
            path = f"{hub.url}/acme/{name}/info/refs?service=git-upload-pack"
            refused = ask(path)
            assert refused.status == 401 and refused["WWW-Authenticate"].startswith("Basic "), name
            assert "could not read Username" in f.git("clone", f"{hub.url}/acme/{name}", fails=True)
        assert ask(f"{hub.url}/acme/private/info/refs?service=git-upload-pack", token=TOKENS["bob"]).status == 404
        assert ask(f"{hub.url}/acme/gated/info/refs?service=git-upload-pack", token=TOKENS["bob"]).status == 403
        assert ask(f"{hub.url}/acme/pub/info/refs?service=git-receive-pack").status == 401
        assert ask(f"{hub.url}/acme/pub/info/refs?service=git-receive-pack", token=TOKENS["bob"]).status == 403
        assert ask(f"{hub.url}/acme/pub/info/refs?service=git-nonsense").status == 403
        f.git("clone", "-q", with_token(f"{hub.url}/acme/private"), "mine")


def test_wire_of_the_smart_protocol():
    with hub_with_repos() as hub:
        main = hub.content.repo("acme/pub").head.id
        old = ask(f"{hub.url}/acme/pub/info/refs?service=git-upload-pack")
        assert old["Content-Type"] == "application/x-git-upload-pack-advertisement" and old["Cache-Control"].startswith("no-cache")
        assert old.body.startswith(b"001e# service=git-upload-pack\n0000") and main.encode() in old.body
        new = ask(f"{hub.url}/acme/pub.git/info/refs?service=git-upload-pack", Git_Protocol="version=2")
        assert new.body.startswith(b"000eversion 2\n")
        command = b"0014command=ls-refs\n0001" + b"0009peel\n" + b"001bref-prefix refs/heads/\n" + b"0000"
        for zipped in (False, True):
            body = gzip.compress(command) if zipped else command
            named = {"Content_Encoding": "gzip"} if zipped else {}
            got = ask(f"{hub.url}/acme/pub/git-upload-pack", "POST", iter([body[:7], body[7:]]), Git_Protocol="version=2",
                      Content_Type="application/x-git-upload-pack-request", **named)
            assert got.status == 200 and main.encode() + b" refs/heads/main\n" in got.body and got["Transfer-Encoding"] == "chunked"
            call = hub.calls("hub", "git-upload-pack$")[-1]
            assert call["body_framing"] == "chunked" and call["body"] == body
            assert call["body_sha256"] == hashlib.sha256(body).hexdigest()
        assert ask(f"{hub.url}/acme/pub/git-upload-pack", "POST", b"x", Content_Type="text/plain").status == 415
        assert ask(f"{hub.url}/acme/pub/HEAD").body == b"ref: refs/heads/main\n"
        loose = ask(f"{hub.url}/acme/pub/objects/{main[:2]}/{main[2:]}")
        assert loose.status == 200 and loose["Content-Type"] == "application/x-git-loose-object"
        assert f"{main}\trefs/heads/main\n".encode() in ask(f"{hub.url}/acme/pub/info/refs").body


def test_push_moves_the_branch():
    with hub_with_repos() as hub, Folder() as f:
        url = with_token(f"{hub.url}/acme/private")
        repo = hub.content.repo("acme/private")
        f.git("clone", "-q", url, "one")
        f.git("lfs", "track", "*.bin", where="one")
        weights = os.urandom(300_000)
        (f.path / "one/new.bin").write_bytes(weights)
        (f.path / "one/run.sh").write_text("#!/bin/sh\n")
        (f.path / "one/run.sh").chmod(0o755)
        (f.path / "one/plain.dat").write_bytes(os.urandom(3 * MIB))
        f.git("add", "-A", where="one")
        f.git("commit", "-q", "-m", "Add weights\n\nAnd more.", where="one")
        f.git("-c", "http.postBuffer=65536", "push", "-q", "origin", "main", where="one")
        head = f.git("rev-parse", "HEAD", where="one")
        assert repo.head.id == head and repo.head.title == "Add weights" and repo.head.author == "Tess"
        assert repo.head.files["new.bin"].is_lfs and repo.head.files["new.bin"].source.read() == weights
        assert repo.head.modes == {"run.sh": "100755"} and repo.head.tree_oid == f.git("rev-parse", "HEAD^{tree}", where="one")
        assert ask(f"{hub.url}/api/models/acme/private", token=WRITER).json()["sha"] == head
        assert hub.content.pushes[-1] == ("model", "acme/private", {"refs/heads/main": head})
        pushed = [c for c in hub.calls("hub", "git-receive-pack$") if c["received"] > 3 * MIB]
        assert pushed and pushed[0]["body_framing"] == "chunked"
        f.git("tag", "-a", "v9", "-m", "nine", where="one")
        f.git("push", "-q", "origin", "v9", "main:topic", where="one")
        f.git("push", "-q", "origin", ":topic", where="one")
        assert repo.refs["refs/tags/v9"].id == head and "refs/heads/topic" not in repo.refs
        made = repo.commit({"api.txt": "by the API\n"})
        f.git("pull", "-q", "--tags", where="one")
        assert f.git("rev-parse", "HEAD", where="one") == made.id
        assert f.git("cat-file", "-t", "v9", where="one") == "tag" and "v9" in f.git("ls-remote", url, where="one")
        f.git("clone", "-q", url, "two")
        assert (f.path / "two/new.bin").read_bytes() == weights and os.access(f.path / "two/run.sh", os.X_OK)
        assert "rejected" in _push_an_old_state(f, url)
        assert not hub.leaks()


def _push_an_old_state(f, url):
    f.git("clone", "-q", url, "three")
    f.git("reset", "-q", "--hard", "HEAD~1", where="three")
    f.git("commit", "-q", "--allow-empty", "-m", "other", where="three")
    return f.git("push", "origin", "main", where="three", fails=True)


def test_lfs_alone():
    with hub_with_repos() as hub, Folder() as f:
        f.environment["GIT_LFS_SKIP_SMUDGE"] = "1"
        f.git("clone", "-q", f"{hub.url}/acme/pub", "one")
        assert (f.path / "one/model.safetensors").read_bytes().startswith(b"version https://git-lfs")
        hub.reset_counters()
        f.git("lfs", "fetch", where="one")
        f.git("lfs", "checkout", where="one")
        assert (f.path / "one/model.safetensors").stat().st_size == 3 * MIB
        batch, = hub.calls("hub", "info/lfs/objects/batch")
        assert batch["method"] == "POST" and json.loads(batch["body"])["operation"] == "download" and hub.body_bytes("cdn") == 3 * MIB
        hub.content.gone.add(hub.content.repo("acme/pub").head.files["model.safetensors"].sha256)
        shutil.rmtree(f.path / "one/.git/lfs")
        assert "410" in f.git("lfs", "fetch", where="one", fails=True)


def batch(hub, operation, objects, repo="/acme/pub.git", token=WRITER, **more):
    asked = {"operation": operation, "objects": objects, "hash_algo": "sha256"} | more
    return ask(f"{hub.url}{repo}/info/lfs/objects/batch", "POST", json.dumps(asked), token, Content_Type="application/vnd.git-lfs+json")


def test_batches_object_by_object():
    with hub_with_repos() as hub:
        file = hub.content.repo("acme/pub").head.files["model.safetensors"]
        other = hub.content.repo("acme/private").head.files["model.safetensors"]
        hub.content.gone.add("2" * 64)
        got = batch(hub, "download", [{"oid": file.sha256, "size": file.size}, {"oid": "1" * 64, "size": 1}, {"oid": "2" * 64, "size": 1},
                                      {"oid": other.sha256, "size": other.size}, {"oid": file.sha256, "size": 5}], token=None)
        assert got["Content-Type"] == "application/vnd.git-lfs+json" and got.json()["transfer"] == "basic"
        first, *rest = got.json()["objects"]
        assert first["authenticated"] and first["actions"]["download"]["href"].startswith(hub.cdn_url + "/")
        assert first["actions"]["download"]["expires_at"].endswith("Z")
        assert [o["error"]["code"] for o in rest] == [404, 410, 404, 422]
        assert batch(hub, "upload", [], token=None)["WWW-Authenticate"].startswith("Basic ")
        assert batch(hub, "download", [], hash_algo="sha512").status == 409 and batch(hub, "nothing", []).status == 422
        assert ask(f"{hub.url}/acme/pub.git/info/lfs/locks/verify", "POST", "{}", WRITER).status == 404
        hub.options.locks = "empty"
        assert ask(f"{hub.url}/acme/pub.git/info/lfs/locks/verify", "POST", "{}", WRITER).json() == {"ours": [], "theirs": []}


def test_uploads_whole_and_in_parts():
    with hub_with_repos() as hub:
        hub.options.multipart_over, hub.options.chunk_size = MIB, 400_000
        for size, transfer in ((1000, "basic"), (MIB + 5, "multipart")):
            data = os.urandom(size)
            oid = hashlib.sha256(data).hexdigest()
            verify = {"oid": oid, "size": size}
            got = batch(hub, "upload", [verify], transfers=["basic", "multipart"]).json()
            actions = got["objects"][0]["actions"]
            assert got["transfer"] == transfer and actions["verify"]["href"].startswith(hub.url + "/acme/pub.git/")
            assert ask(actions["verify"]["href"], "POST", json.dumps(verify), WRITER).status == 404
            href, header = actions["upload"]["href"], actions["upload"].get("header", {})
            if transfer == "basic":
                assert href.startswith(hub.cdn_url) and ask(href, "PUT", b"wrong").status == 400
                assert ask(href[:-1] + "!", "PUT", data).status == 403 and ask(href, "PUT", data).status == 200
            else:
                assert href.startswith(hub.url + "/api/complete_multipart?")
                pieces = [data[at:at + 400_000] for at in range(0, size, 400_000)]
                answers = [ask(header[f"{n:05d}"], "PUT", piece) for n, piece in enumerate(pieces, 1)]
                assert all(header[name].startswith(hub.cdn_url) for name in header if name.isdigit()) and len(pieces) == 3
                parts = [{"partNumber": n, "etag": a["ETag"]} for n, a in enumerate(answers, 1)]
                assert ask(href, "POST", json.dumps({"oid": oid, "parts": parts[:2]})).status == 400
                assert ask(href, "POST", json.dumps({"oid": oid, "parts": parts})).status == 200
            assert ask(actions["verify"]["href"], "POST", json.dumps(verify), **actions["verify"]["header"]).status == 200
            assert ask(actions["verify"]["href"], "POST", json.dumps(verify | {"size": 1}), WRITER).status == 422
            assert "actions" not in batch(hub, "upload", [verify]).json()["objects"][0]
            down = batch(hub, "download", [verify]).json()["objects"][0]["actions"]["download"]["href"]
            assert ask(down).body == data
        line = {"key": "lfsFile", "value": {"path": "new.bin", "algo": "sha256", "oid": oid, "size": size}}
        assert ask(f"{hub.url}/api/models/acme/pub/commit/main", "POST", json.dumps(line), WRITER).json()["success"]
        assert hub.content.repo("acme/pub").head.files["new.bin"].sha256 == oid and not hub.leaks()


def test_a_large_repository_is_cloned_in_good_time():
    with HubDouble(cache_dir=WORK) as hub, Folder() as f:
        repo = hub.content.add_repo("model", "me/many")
        repo.commit({f"d{i % 20}/f{i}.txt": f"{i}\n" * 3 for i in range(1500)} | {".gitattributes": "*.bin filter=lfs -text\n",
                                                                                 "w.bin": LFS(generated(8 * MIB, 3))})
        f.git("clone", "-q", f"{hub.url}/me/many", "many")
        assert f.git("rev-parse", "HEAD", where="many") == repo.head.id
        basic = "Basic " + base64.b64encode(b"u:hf_wrong").decode()
        assert ask(f"{hub.url}/me/many/info/refs?service=git-upload-pack", Authorization=basic).status == 401


if __name__ == "__main__":
    run_all(globals())
