# SPDX-License-Identifier: Apache-2.0
"""Shows that the Hub double takes bodies of any size and framing, records them, can take them badly, and carries writes out."""
import base64
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent))

from hubdouble import HubDouble  # noqa: E402
from hubdouble.fixture import TOKENS, add_public  # noqa: E402
from probe import MIB, WORK, ask, run_all  # noqa: E402

WRITER = TOKENS["writer"]
COMMIT = "/api/models/acme/pub/commit/main"


def hub_with_pub():
    hub = HubDouble(cache_dir=WORK).start()
    add_public(hub.content)
    hub.content.add_token(WRITER, "acme", role="write")
    hub.content.add_token(TOKENS["bob"], "bob")
    return hub


def connect(hub):
    parts = urlsplit(hub.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def head(target=COMMIT, *fields, method="POST"):
    lines = [f"{method} {target} HTTP/1.1", "Host: x", f"Authorization: Bearer {WRITER}", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def read_reply(s):
    """One whole answer with a Content-Length."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += s.recv(65536)
    length = int(re.search(rb"(?i)content-length: (\d+)", got)[1])
    while len(got.partition(b"\r\n\r\n")[2]) < length:
        got += s.recv(65536)
    return got


def file_line(path, data):
    return json.dumps({"key": "file", "value": {"content": base64.b64encode(data).decode(), "path": path, "encoding": "base64"}}).encode()


# Bodies

def test_bodies_are_recorded():
    with hub_with_pub() as hub:
        small, large = file_line("a.txt", b"a"), b"\n" * 100_000
        ask(hub.url + COMMIT, "POST", small, WRITER)
        ask(hub.url + COMMIT, "POST", iter([small, b"\n", large]), WRITER)
        one, two = hub.calls("hub", "/commit/")
        assert one["body"] == small and one["body_framing"] == "length" and one["received"] == len(small)
        assert one["body_sha256"] == hashlib.sha256(small).hexdigest() and one["t_in"] <= one["t_body"] <= one["t_first"]
        assert two["body"] is None and two["body_framing"] == "chunked" and two["received"] == len(small) + 1 + len(large)
        assert two["body_sha256"] == hashlib.sha256(small + b"\n" + large).hexdigest()
        get = (ask(hub.url + "/api/models/acme/pub"), hub.calls("hub", "/pub$")[-1])[1]
        assert get["body"] is None and get["body_framing"] is None and get["body_sha256"] is None


def test_a_body_is_seen_while_it_comes():
    with hub_with_pub() as hub, connect(hub) as s:
        s.sendall(head(COMMIT, "Content-Length: 1000") + b"\n" * 400)
        end = time.monotonic() + 5
        while not (hub.calls("hub", "/commit/") and hub.calls("hub", "/commit/")[0]["received"] == 400):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert hub.calls("hub", "/commit/")[0]["t_body"] is None
        s.sendall(b"\n" * 600)
        assert s.recv(65536).startswith(b"HTTP/1.1 200")


def test_expect_continue():
    with hub_with_pub() as hub, connect(hub) as s:
        s.sendall(head(COMMIT, "Content-Length: 2", "Expect: 100-continue"))
        assert s.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b"\n\n")
        assert read_reply(s).startswith(b"HTTP/1.1 200") and hub.calls("hub", "/commit/")[0]["continued"]
        hub.rule(path="/commit/", status=413, early=True, times=1)
        s.sendall(head(COMMIT, "Content-Length: 2", "Expect: 100-continue"))
        assert read_reply(s).startswith(b"HTTP/1.1 413") and not hub.calls("hub", "/commit/")[1]["continued"]
        assert s.recv(65536) == b""


def test_bodies_taken_badly():
    with hub_with_pub() as hub:
        hub.rule(path="/commit/", read_cut_after=5000, times=1)
        with connect(hub) as s:
            s.sendall(head(COMMIT, "Content-Length: 20000") + b"\n" * 20000)
            assert s.recv(65536) == b"" and hub.calls("hub", "/commit/")[0]["received"] == 5000
        hub.clear_rules()
        hub.rule(path="/commit/", read_rate=200_000)
        started = time.monotonic()
        assert ask(hub.url + COMMIT, "POST", b"\n" * 100_000, WRITER).status == 200
        assert 0.3 < time.monotonic() - started < 10
        hub.clear_rules()
        hub.rule(path="/commit/", delay_read=0.3, status=200, body=b"{}")
        started = time.monotonic()
        assert ask(hub.url + COMMIT, "POST", b"x", WRITER).status == 200 and time.monotonic() - started > 0.3
        hub.clear_rules()
        seen = []
        hub.rule(path="/commit/", when=lambda r: seen.append(r.body) or True, body=b"{}")
        ask(hub.url + COMMIT, "POST", b"abc", WRITER)
        assert seen == [b"abc"]
        with connect(hub) as s:
            s.sendall(head(COMMIT, "Transfer-Encoding: chunked") + b"3\r\nabcXX\r\n")
            assert s.recv(65536).startswith(b"HTTP/1.1 400")


def test_large_commits_take_little_memory():
    """200 MB in chunks, one file of 90 MB in a single line among them, to a double of its own."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.json"
        words = ["--fixture", "empty", "--work-dir", folder, "--ready-file", str(ready)]
        double = subprocess.Popen([sys.executable, "-m", "hubdouble", *words],
                                  cwd=Path(__file__).parent, stdout=subprocess.DEVNULL)
        try:
            while not ready.exists():
                time.sleep(0.05)
            urls = json.loads(ready.read_text())

            def control(name, **what):
                return ask(f"{urls['control_url']}/{name}", "POST", json.dumps(what), Content_Type="application/json").json()
            control("token", token=WRITER, user="acme", role="write")
            ask(urls["url"] + "/api/repos/create", "POST", '{"name":"acme/big","type":"model"}', WRITER)
            sizes = {"one.dat": 90 * MIB} | {f"f{n}.dat": 6 * MIB for n in range(10)}
            sent, digest = [0], hashlib.sha256()
            with Watch(double.pid) as watch:
                answer = ask(urls["url"] + "/api/models/acme/big/commit/main", "POST", _counted(_lines(sizes), sent, digest), WRITER)
            assert answer.status == 200 and sent[0] > 200_000_000
            call = ask(f"{urls['control_url']}/calls?path=/commit/main").json()["calls"][0]
            assert call["body_sha256"] == digest.hexdigest() and call["received"] == sent[0]
            state = ask(f"{urls['control_url']}/commit?repo=acme/big").json()
            assert {p: f["size"] for p, f in state["files"].items() if p in sizes} == sizes
            assert watch.most - watch.first < 60 * MIB, watch.most - watch.first
        finally:
            double.terminate()
            double.wait(10)


class Watch(threading.Thread):
    """The most anonymous memory of a process while it is watched; pages of mapped files do not count."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.status = Path(f"/proc/{pid}/status")
        self.first = self.most = self.now()
        self.is_over = threading.Event()

    def now(self):
        return 1024 * int(re.search(r"RssAnon:\s+(\d+)", self.status.read_text())[1])

    def run(self):
        while not self.is_over.wait(0.01):
            self.most = max(self.most, self.now())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.join()


def _lines(sizes):
    yield b'{"key":"header","value":{"summary":"large"}}\n'
    for path, size in sizes.items():
        yield b'{"key":"file","value":{"content":"'
        piece = base64.b64encode(os.urandom(3 * 65536))
        for _ in range(size // (3 * 65536)):
            yield piece
        yield base64.b64encode(os.urandom(size % (3 * 65536)))
        yield b'","path":"%s","encoding":"base64"}}\n' % path.encode()


def _counted(pieces, sent, digest):
    for piece in pieces:
        sent[0] += len(piece)
        digest.update(piece)
        yield piece


# Writes

def test_repositories_are_made_moved_and_deleted():
    with hub_with_pub() as hub:
        def post(path, method="POST", token=WRITER, **what):
            return ask(hub.url + path, method, json.dumps(what), token, Content_Type="application/json")
        made = post("/api/repos/create", name="thing", organization="acme", type="dataset", private=True)
        assert made.json()["url"] == f"{hub.url}/datasets/acme/thing" and hub.content.repo("acme/thing", "dataset").private
        again = post("/api/repos/create", name="thing", organization="acme", type="dataset")
        assert again.status == 409 and again.json()["url"] == f"{hub.url}/datasets/acme/thing"
        assert post("/api/repos/create", token=None, name="x").status == 401
        assert post("/api/datasets/acme/thing/settings", "PUT", private=False, gated="auto").status == 200
        assert ask(f"{hub.url}/api/datasets/acme/thing").json()["gated"] == "auto"
        assert post("/api/repos/move", fromRepo="acme/thing", toRepo="acme/other", type="dataset").status == 200
        assert ask(f"{hub.url}/api/datasets/acme/thing").status == 307
        assert post("/api/repos/move", fromRepo="acme/pub", toRepo="acme/pub", type="model").status == 409
        assert post("/api/models/acme/pub/duplicate", repository="acme/copy").json()["url"] == f"{hub.url}/acme/copy"
        assert post("/api/repos/delete", "DELETE", name="copy", organization="acme").status == 200
        assert ask(f"{hub.url}/api/models/acme/copy").status == 401
        assert post("/api/repos/delete", "DELETE", token=TOKENS["bob"], name="acme/pub").status == 403


def test_refs_and_history_are_changed():
    with hub_with_pub() as hub:
        base, repo = f"{hub.url}/api/models/acme/pub", hub.content.repo("acme/pub")
        assert ask(base + "/branch/feature%2Fy", "POST", "{}", WRITER).status == 201 and repo.find("feature/y") is repo.head
        assert ask(base + "/branch/feature%2Fy", "POST", "{}", WRITER).status == 409
        assert ask(base + "/branch/feature%2Fy", "DELETE", None, WRITER).status == 200
        assert ask(base + "/branch/feature%2Fy", "DELETE", None, WRITER).status == 404
        assert ask(base + "/tag/dev", "POST", '{"tag":"v2"}', WRITER).status == 201 and repo.find("v2") is repo.find("dev")
        tree = repo.head.tree_oid
        assert ask(base + "/super-squash/main", "POST", '{"message":"one"}', WRITER).status == 200
        assert repo.head.tree_oid == tree and repo.head.parent is None and repo.head.title == "one"


def test_commit_answers_in_the_hubs_words():
    with hub_with_pub() as hub:
        asked = {"files": [{"path": "w.safetensors", "size": 10, "sample": ""}, {"path": "a.txt", "size": 1, "sample": ""}]}
        ahead = ask(f"{hub.url}/api/models/acme/pub/preupload/main", "POST", json.dumps(asked), WRITER).json()
        assert [f["uploadMode"] for f in ahead["files"]] == ["lfs", "regular"]
        assert ahead["commitOid"] == hub.content.repo("acme/pub").head.id
        made = ask(hub.url + COMMIT, "POST", file_line("a.txt", b"a"), WRITER).json()
        assert made["commitUrl"] == f"{hub.url}/acme/pub/commit/{made['commitOid']}"
        pull = ask(hub.url + COMMIT + "?create_pr=1", "POST", file_line("b.txt", b"b"), WRITER).json()
        assert pull["pullRequestUrl"] == f"{hub.url}/acme/pub/discussions/2"
        stale = json.dumps({"key": "header", "value": {"summary": "s", "parentCommit": "0" * 40}})
        assert ask(hub.url + COMMIT, "POST", stale, WRITER).status == 412


def test_rate_limits_by_bucket():
    with hub_with_pub() as hub:
        hub.set_ratelimit("api", left=1, enforce=True, reset=4)
        assert ask(hub.url + "/api/models/acme/pub")["RateLimit"].startswith('"api";r=0;t=')
        limited = ask(hub.url + "/api/models/acme/pub")
        assert limited.status == 429 and limited["RateLimit"] in [f'"api";r=0;t={t}' for t in range(1, 5)] and limited["Retry-After"] is None
        assert ask(hub.url + "/acme/pub/resolve/main/config.json").status == 307
        hub.set_ratelimit("api", retry_after=7)
        assert ask(hub.url + "/api/models/acme/pub")["Retry-After"] == "7"
        time.sleep(4.1)
        assert ask(hub.url + "/api/models/acme/pub")["RateLimit"].startswith('"api";r=499;')


def test_slow_bodies_do_not_hold_up_others():
    with hub_with_pub() as hub, connect(hub) as s:
        hub.rule(path="/commit/", when=lambda r: bool(r.body) or True, body=b"{}")
        s.sendall(head(COMMIT, "Content-Length: 10") + b"1")
        got = []
        thread = threading.Thread(target=lambda: got.append(ask(hub.url + "/api/models/acme/pub").status))
        thread.start()
        thread.join(3)
        assert got == [200]


if __name__ == "__main__":
    run_all(globals())
