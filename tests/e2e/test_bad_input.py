# SPDX-License-Identifier: Apache-2.0
"""Clients that are broken or mean (reliability A.1, A.2): a fast plain answer, nothing stored, nothing leaked, others unharmed."""
import hashlib
import re
import select
import subprocess
import sys
import time

import pytest

from facts import CONFIG, MODEL, assert_whole, bytes_of, file_of
from harness import ROOT, SLOW, wait_for, within
from wire import fields

REFUSED = (400, 404, 405, 411, 413, 414, 417, 421, 431, 501, 505)


def send_raw(cache, data, timeout=5):
    """Everything that comes back for these bytes, and how it ended."""
    with cache.connect(timeout=timeout * SLOW) as conn:
        conn.send(data)
        answer = conn.read()
        if answer.status == 0:
            return answer, b""
        return answer, conn.rest(1)[0]


@pytest.mark.parametrize("path", [
    "/acme/pub/resolve/main/../../../../etc/passwd", "/acme/pub/resolve/main/%2e%2e/%2e%2e/x", "/acme/pub/resolve/main/a/../config.json",
    "/acme/pub/resolve/main/%2e%2e%2fconfig.json", "/../../etc/passwd", "/acme/../pub/resolve/main/config.json",
    "/acme/pub/resolve/%2e%2e/config.json", "/acme/pub/resolve/main/.", "/acme/pub/resolve/main/a//b", "/acme/pub/resolve/main/",
    "/acme/pub/resolve/main/config.json%00", "/acme/pub/resolve/main/%00", "/acme%00/pub/resolve/main/config.json",
    "/acme/pub/resolve/ma%00in/config.json", "/api/models/acme%00/pub", "/acme/pub/resolve/main/%", "/acme/pub/resolve/main/%zz",
    "/acme/pub/resolve/main/%f", "/acme%2fpub/resolve/main/config.json", "/acme/pub%2fresolve/main/config.json",
    "/acme/pub/resolve%2fmain/config.json", "/api%2fmodels/acme/pub", "/api/models/acme%2fpub/tree/main", "//acme/pub/resolve/main/config.json",
    "/acme//resolve/main/config.json", "/acme/pub/resolve//config.json", "/-/../acme/pub/resolve/main/config.json", "/-/%2e%2e/x",
    "/-/nothing", "/-/metrics/../status", "/acme/pub/resolve/main/config.json%20", "/acme/pub%20/resolve/main/config.json",
    "/acme/pub/resolve/main/%c0%ae%c0%ae/x", "/acme/pub/resolve/main/%252e%252e/config.json", "/acme/pub/resolve/main/config.json;x",
    "/acme/pub/resolve/main\\config.json", "/%61cme/pub/../../x"])
def test_N01_odd_paths(hub, cache, path):
    for method in ("GET", "HEAD"):
        answer = cache.ask(method, path)
        assert answer.status in (400, 401, 404), f"{path}: {answer}"
        assert b"root:" not in answer.partial and (method == "HEAD" or answer.complete)
    assert not cache.blobs() or set(cache.blobs()) <= {hashlib.sha256(f.source.read()).hexdigest() for f in
                                                      hub.content.repo("acme/pub").head.files.values()}
    inside = {p.relative_to(cache.store).parts[0] for p in cache.files()}
    assert inside <= {"FORMAT", "lock", "key", "blobs", "meta", "incoming", "journal", "quarantine", "index.db", "index.db-wal",
                      "index.db-shm"} | {p for p in inside if p.startswith(".")}, inside
    assert_whole(cache.get(CONFIG), hub, "config.json")


def test_N01_encoded_letters_are_the_same_name(hub, cache):
    assert_whole(cache.get("/%61cme/pub/resolve/ma%69n/con%66ig.json"), hub, "config.json")
    assert_whole(cache.get("/acme/pub/resolve/main/sub%2Fdir%2Fone.txt"), hub, "sub/dir/one.txt")


def test_N04_query_games(hub, cache):
    for query in ("download=true", "noContentDisposition=1", "download=true&download=false", "x=" + "y" * 2000, "&&&=&=", "a;b;c", "%00", "%"):
        answer = cache.get(f"{CONFIG}?{query}")
        assert answer.status == 400 if query in ("%00", "%") and answer.status != 200 else answer.status == 200, f"{query}: {answer}"
    answer = cache.get(CONFIG + "?" + "&".join(f"p{i}=1" for i in range(900)))
    assert answer.status in (200, 400, 414)
    assert len(cache.blobs()) == 1


@pytest.mark.parametrize("size,wanted", [(4000, (200, 404)), (8192, (404, 414, 400, 431)), (65536, (414, 431))])
def test_P11_long_urls(cache, size, wanted):
    answer = cache.get("/acme/pub/resolve/main/" + "a" * size)
    assert answer.status in wanted or size == 4000 and answer.status in (400, 414), answer


def test_P11_large_heads(hub, cache):
    for head in (b"X-Large: " + b"x" * 65536 + b"\r\n", b"".join(b"X-H%d: x\r\n" % i for i in range(2000))):
        answer, _ = send_raw(cache, b"GET / HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n")
        assert answer.status in (400, 413, 431), answer
    assert_whole(cache.get(CONFIG), hub, "config.json")


@pytest.mark.slow
def test_P13_heads_that_never_end(hub, start):
    cache = start(server_head_timeout="2s")
    began = time.monotonic()
    with cache.connect(timeout=6 * SLOW) as conn:
        conn.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        try:
            for i in range(100):
                conn.send(b"X-%d: y\r\n" % i)
                if select.select([conn.socket], [], [], 0.1)[0]:
                    break
        except OSError:
            pass
        answer = conn.head()
        assert answer.status in (0, 408), answer
    assert time.monotonic() - began < 8 * SLOW, "a trickling head is held longer than the limit"
    with cache.connect(timeout=6 * SLOW) as conn:
        conn.send(b"GET / HT")
        assert conn.head().status in (0, 408)
    assert_whole(cache.get(CONFIG), hub, "config.json")


def test_P13_many_slow_heads_do_not_harm_others(hub, start):
    cache = start(server_head_timeout="3s")
    assert_whole(cache.get(CONFIG), hub, "config.json")
    base = cache.fds()
    slow = [cache.connect() for _ in range(200)]
    for conn in slow:
        conn.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
    for _ in range(20):
        assert_whole(within(0.5, lambda: cache.get(CONFIG)), hub, "config.json")
    wait_for(lambda: cache.fds() <= base + 4, 10, every=0.2)
    for conn in slow:
        conn.close()


def test_idle_connections_are_ended(start):
    cache = start(server_idle_timeout="1s")
    with cache.connect(timeout=5 * SLOW) as conn:
        assert conn.ask("GET", "/-/healthz").status == 200
        assert conn.rest(10 * SLOW) == (b"", "fin")


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PURGE", "BAN", "PROPFIND", "get", "FOO", "M-SEARCH"])
def test_P10_methods_that_are_none(cache, hub, method):
    answer = cache.ask(method, CONFIG, X_Probe="echo-me")
    assert answer.status in (400, 405, 501), answer
    assert b"echo-me" not in answer.partial
    if answer.status == 405:
        assert answer["Allow"]
    assert not [c for c in hub.calls() if c["method"] == method]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_P04_bodies_where_none_belongs(cache, hub, method):
    for target in (CONFIG, "/-/status", "/-/healthz"):
        answer = cache.ask(method, target, body=b"x" * 100)
        assert answer.status in (400, 405, 411, 413), answer
    answer = cache.ask("GET", CONFIG, body=b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.status in (400, 411, 413), answer
    assert not hub.calls("hub", "evil")


def test_P01_smuggled_requests_are_never_read(cache, hub):
    inner = b"GET /acme/pub/resolve/main/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    for head in (b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % (5 + len(inner)), b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
                 b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(inner), b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding : chunked\r\n"):
        answer, rest = send_raw(cache, b"POST /api/models/acme/pub/paths-info/main HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n0\r\n\r\n" + inner)
        assert answer.status in REFUSED, answer
        assert b"HTTP/1.1" not in rest, "a second answer"
    assert not hub.calls("hub", "smuggled")


@pytest.mark.slow
def test_P12_reset_at_each_byte_of_a_head(hub, cache):
    assert_whole(cache.get(CONFIG), hub, "config.json")
    base = cache.fds()
    head = f"GET {CONFIG} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-9\r\n\r\n".encode()
    for at in range(len(head)):
        with cache.connect() as conn:
            conn.send(head[:at])
            conn.reset() if at % 2 else conn.close()
    wait_for(lambda: cache.fds() <= base + 2, 12, every=0.1)
    assert_whole(cache.get(CONFIG), hub, "config.json")


def test_P12_bytes_one_at_a_time(hub, cache):
    with cache.connect() as conn:
        for byte in f"GET {CONFIG} HTTP/1.1\r\nHost: a\r\n\r\n".encode():
            conn.send(bytes([byte]))
            time.sleep(0.002)
        assert conn.read().body == bytes_of(hub, "config.json")


def test_P07_host_when_it_is_fixed(hub, start):
    cache = start(is_started=False, server_public_url="http://hub.example:8090", server_hosts="other.example")
    cache.host = "other.example"
    cache.start()
    assert cache.get(CONFIG, host="hub.example:8090").status == 200
    assert cache.get(CONFIG, host="other.example").status == 200
    assert cache.get(CONFIG, host="evil.example").status == 421
    hub.options.page_size = 5
    link = cache.get("/api/models/acme/pub/tree/main?recursive=true&limit=5", host="other.example")["Link"]
    assert link.startswith("<http://hub.example:8090/api/"), link


def test_P06_hosts_that_are_none(cache):
    for head in (b"", b"Host: a\r\nHost: b\r\n", b"Host: a/../b\r\n", b"Host: a@evil\r\n", b"Host: a, b\r\n"):
        answer, _ = send_raw(cache, b"GET /-/healthz HTTP/1.1\r\n" + head + b"\r\n")
        assert answer.status == 400, (head, answer)


def test_P08_targets_for_other_servers(cache, hub):
    for target in ("ftp://127.0.0.1/x", "acme/pub", "@evil/", "*"):
        answer = cache.ask("GET", target)
        assert answer.status == 400, (target, answer)
    assert not hub.calls()


def test_W04_expect_continue(hub, cache, people):
    seen = []
    hub.rule(path="/api/models/acme/pub/commit/", when=lambda r: seen.append(r.body) or True, body=b"{}")
    with cache.connect(timeout=5 * SLOW) as conn:
        conn.request("POST", "/api/models/acme/pub/commit/main", fields(people.writer, Expect="100-continue", Content_Length="11"))
        while b"\r\n\r\n" not in conn.buffer:
            assert conn._more(), "no interim answer"
        assert conn.buffer.startswith(b"HTTP/1.1 100")
        conn.send(b"hello world")
        assert conn.read().status == 200 and seen == [b"hello world"]


def test_R06_names_cannot_forge_the_log(hub, cache):
    cache.get("/acme/pub/resolve/main/x%1b%5b31m%0alevel=error%20room=forged%22msg=%22y")
    cache.get("/acme/pub/resolve/main/x", User_Agent='a" level=error msg="forged')
    text = cache.stderr()
    assert "\x1b" not in text and not cache.log_lines(level="error") and not cache.log_lines(room="forged")
    assert all(re.match(r"\S+ level=\w+ room=\w+ msg=", line) for line in text.splitlines()), text


def test_secrets_of_the_host_are_not_served(cache):
    for target in ("/-/config", "/-/debug", "/key", "/store/key", "/-/store/key", "/FORMAT", "/index.db", "/-/index.db"):
        assert cache.get(target).status in (400, 401, 403, 404), target


def test_all_heads_of_the_list(hub, cache):
    """tests/heads/run_heads.py: 89 of 89."""
    script = ROOT / "tests/heads/run_heads.py"
    if not script.exists():
        pytest.skip(f"{script} is not there")
    done = subprocess.run([sys.executable, str(script), "127.0.0.1", str(cache.port)], capture_output=True, text=True, timeout=140)
    assert done.returncode == 0 and "89 of 89 right" in done.stdout, done.stdout[-4000:] + done.stderr[-2000:]
    assert_whole(cache.get(MODEL), hub, "model.safetensors")
    assert file_of(hub, "model.safetensors").sha256 in cache.blobs()
