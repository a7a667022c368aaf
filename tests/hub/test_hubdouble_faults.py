# SPDX-License-Identifier: Apache-2.0
"""Shows that the double's faults, records, speeds and controls are what they claim to be."""
import base64
import hashlib
import json
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent))

from hubdouble import LFS, HubDouble, generated, generated_block  # noqa: E402
from probe import MIB, WORK, ask, raw, run_all, shared, signed, wait_until  # noqa: E402


def test_status_sequences_and_turns():
    hub = shared()
    url = hub.url + "/api/models/acme/pub"
    rule = hub.rule(path="^/api/models/acme/pub", status=[503, 429, None], headers={"Retry-After": "0"})
    assert [ask(url).status for _ in range(4)] == [503, 429, 200, 200] and rule.hits == 4
    rule.remove()
    hub.rule(path="acme/pub", nth=2, times=1, status=500, body="boom")
    assert [ask(url).status for _ in range(3)] == [200, 500, 200]


def test_cut_reset_and_stall():
    hub = shared()
    target = "/" + signed(hub).split("/", 3)[3]
    for where, length in ((1000, 1000), ("50%", 3 * MIB // 2), (-1, 3 * MIB - 1), (0, 0)):
        hub.clear_rules()
        hub.rule("cdn", cut_after=where)
        got, end = raw(hub.cdn_url, target)
        assert end == "fin" and len(got.partition(b"\r\n\r\n")[2]) == length
        assert b"Content-Length: 3145728" in got
    hub.clear_rules()
    hub.rule("cdn", reset_after=5000)
    got, end = raw(hub.cdn_url, target)
    assert end == "rst" and len(got.partition(b"\r\n\r\n")[2]) == 5000
    hub.clear_rules()
    hub.rule("cdn", reset_after=12, from_head=True)
    assert raw(hub.cdn_url, target) == (b"HTTP/1.1 200", "rst")
    hub.clear_rules()
    hub.rule("cdn", stall_after=100, stall_for=0.4)
    start = time.monotonic()
    got, end = raw(hub.cdn_url, target)
    assert end == "fin" and len(got) > 3 * MIB and time.monotonic() - start >= 0.4
    hub.clear_rules()
    hub.rule("cdn", stall_after=0, from_head=True)
    assert raw(hub.cdn_url, target, timeout=0.3) == (b"", "timeout")
    hub.clear_rules()
    hub.rule("cdn", close="reset")
    assert raw(hub.cdn_url, target) == (b"", "rst")


def test_lies():
    hub = shared()
    url = signed(hub)
    true = ask(url).body

    def lie(**what):
        hub.clear_rules()
        hub.rule("cdn", **what)
        return raw(hub.cdn_url, "/" + url.split("/", 3)[3])[0]
    body = lie(wrong_bytes=1000).partition(b"\r\n\r\n")[2]
    assert len(body) == len(true) and body[:1000] == true[:1000] and body[1000:] != true[1000:]
    assert b"Content-Length: 3145738\r\n" in lie(content_length=10)
    assert b"Content-Length: 3145718\r\n" in lie(content_length=-10)
    assert b"\r\nETag:" not in lie(drop_header="ETag")
    assert lie(add_header=[("Content-Length", "5")]).count(b"Content-Length") == 2
    assert b"X-Odd: \x01\x02\r\n" in lie(set_header={"X-Odd": b"\x01\x02"})
    assert lie(raw=b"nonsense\r\n\r\n") == b"nonsense\r\n\r\n"
    assert b" 206 Partial Content" in lie(force_206=True)
    assert lie(chunked=True).endswith(b"\r\n0\r\n\r\n") and b"\r\nzz\r\n" in lie(chunked="broken")
    assert b"Content-Length" in lie(chunked="with-length")
    assert b"Content-Encoding: gzip" in lie(gzip=True)
    assert len(lie(truncate=10).partition(b"\r\n\r\n")[2]) == 10
    assert lie(trailing=b"more").endswith(b"more")
    assert b" 403 Forbidden" in lie(expire_signature=True)
    assert b"Location: http://x/" in lie(redirect_to="http://x/")
    assert lie(many_headers=50).count(b"X-Filler-") == 50
    hub.clear_rules()
    hub.rule("cdn", ignore_range=True)
    assert ask(url, Range="bytes=5-9").status == 200
    hub.clear_rules()
    hub.rule("cdn", wrong_content_range="bytes 1-5/6")
    assert ask(url, Range="bytes=5-9")["Content-Range"] == "bytes 1-5/6"
    hub.clear_rules()
    hub.rule(redirect_chain=3)
    at, hops = "/acme/pub/resolve/main/README.md", 0
    while "/api/resolve-cache/" not in at:
        at, hops = ask(hub.url + at)["Location"], hops + 1
    assert hops == 4


def test_rates():
    with HubDouble() as hub:
        hub.content.add_repo("model", "a/b").commit({"x.bin": LFS(b"z" * 400_000)})
        url = signed(hub, "/a/b/resolve/main/x.bin")

        def timed(n=1):
            start = time.monotonic()
            threads = [threading.Thread(target=ask, args=(url,)) for _ in range(n)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            return time.monotonic() - start

        def takes(least, most, n=1):
            """Never less; other work on the machine makes it more, but not each of several times."""
            took = []
            while not took or took[-1] >= most and len(took) < 8:
                took.append(timed(n))
            assert least < min(took) < most, took
        takes(0, 0.2)
        hub.rate("cdn", 1_600_000)
        takes(0.2, 0.5)
        takes(0.4, 0.9, 2)
        hub.rate("cdn", None)
        hub.rate("cdn", 1_600_000, per="connection")
        takes(0.2, 0.45, 2)
        hub.rate("cdn", None, per="connection")
        hub.rule("cdn", rate=800_000)
        takes(0.4, 0.8)
        hub.clear_rules()
        hub.rule("cdn", delay_first_byte=0.3)
        takes(0.3, 0.6)


def test_kill_revive_and_black_hole():
    with HubDouble() as hub:
        hub.content.add_repo("model", "a/b").commit({"x": "y", "big": LFS(generated(4 * MIB, 2))})
        url = hub.url + "/api/models/a/b"
        hub.rate("cdn", 1_000_000)
        target = "/" + signed(hub, "/a/b/resolve/main/big").split("/", 3)[3]
        seen = []
        reader = threading.Thread(target=lambda: seen.append(raw(hub.cdn_url, target)))
        reader.start()
        wait_until(lambda: hub.body_bytes("cdn"))
        for _ in range(2):
            hub.kill()
            try:
                ask(url)
                raise AssertionError("not refused")
            except ConnectionRefusedError:
                pass
            hub.revive()
            assert ask(url).status == 200
        reader.join(30)
        assert len(seen[0][0]) < 4 * MIB
        hub.blackhole("hub")
        assert raw(hub.url, "/api/models/a/b", timeout=0.3) == (b"", "timeout")
        hub.revive()
        assert ask(url).status == 200
        hub.blackhole("hub", mode="drop")
        try:
            socket.create_connection(("127.0.0.1", urlsplit(hub.url).port), timeout=0.3).close()
            raise AssertionError("connected")
        except TimeoutError:
            pass
        hub.kill("hub")
        try:
            ask(url)
            raise AssertionError("not refused")
        except ConnectionRefusedError:
            pass
        hub.revive()
        assert ask(url).status == 200
        hub.rate("cdn", 8_000_000)
        for mode in ("silent", "drop"):
            reader = threading.Thread(target=lambda: seen.append(raw(hub.cdn_url, target)))
            reader.start()
            time.sleep(0.1)
            hub.blackhole("cdn", mode)

            def stands_still():
                before = hub.body_bytes("cdn")
                time.sleep(0.2)
                return hub.body_bytes("cdn") == before
            wait_until(stands_still, 2)     # all of it would take half a second
            hub.revive()
            reader.join()
            assert len(seen[-1][0]) > 4 * MIB


def test_record():
    hub = shared()
    url = signed(hub)
    hub.reset_counters()
    ask(url, Range="bytes=0-999")
    ask(url, "HEAD")
    call = hub.calls("cdn")[0]
    wait_until(lambda: call["complete"])
    assert (call["status"], call["sent"], call["range"], call["complete"]) == (206, 1000, "bytes=0-999", True)
    assert call["t_in"] <= call["t_first"] <= call["t_end"] and call.header("host")
    assert hub.body_bytes("cdn") == 1000 and hub.body_bytes() == 1000 and len(hub.calls(path="xet-bridge")) == 2


def test_limits():
    with HubDouble() as hub:
        hub.content.add_repo("model", "a/b").commit({"x": "y"})
        hub.set_ratelimit("api", quota=10, left=1, enforce=True)
        assert ask(hub.url + "/api/models/a/b")["RateLimit"].startswith('"api";r=0;t=')
        late = ask(hub.url + "/api/models/a/b")
        assert late.status == 429 and late["Retry-After"] is None and late["RateLimit-Policy"] == '"fixed window";"api";q=10;w=300'


def test_options():
    with HubDouble(regular="direct", linked_etag=False, xet=False) as hub:
        hub.content.add_repo("model", "a/b").commit({"x": "y", "z": LFS(b"1")})
        assert ask(hub.url + "/a/b/resolve/main/x").body == b"y"
        assert ask(hub.url + "/a/b/resolve/main/z")["X-Xet-Hash"] is None
        hub.options.regular = "redirect"
        assert ask(hub.url + "/a/b/resolve/main/x")["X-Linked-Etag"] is None


def test_speed_and_many_connections():
    hub = shared()
    url = signed(hub, "/acme/big/resolve/main/model.safetensors")
    good = []

    def pull():
        good.append(hashlib.sha256(ask(url).body).hexdigest())
    threads = [threading.Thread(target=pull) for _ in range(100)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert good == [hub.content.repo("acme/big").head.files["model.safetensors"].sha256] * 100
    assert ask(url, Range=f"bytes={5 * MIB}-{5 * MIB + 9}").body == generated_block(5, 5, 10)


def test_tls():
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = f"{folder}/key.pem", f"{folder}/certificate.pem"
        try:
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
                            "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        except FileNotFoundError:
            return
        with HubDouble(tls=(certificate, key)) as hub:
            hub.content.add_repo("model", "a/b").commit({"x": "y"})
            assert hub.url.startswith("https://")
            context = ssl.create_default_context(cafile=certificate)
            with urllib.request.urlopen(hub.url + "/a/b/resolve/main/x", context=context) as answer:
                assert answer.read() == b"y"


def test_as_a_program():
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder, "ready.json")
        process = subprocess.Popen([sys.executable, "-m", "hubdouble", "--fixture", "small", "--ready-file", str(ready), "--work-dir", WORK,
                                    "--option", "gzip=false"], cwd=Path(__file__).parent, stdout=subprocess.DEVNULL)
        try:
            while not ready.exists():
                assert process.poll() is None
                time.sleep(0.02)
            at = json.loads(ready.read_text())

            def tell(to, /, **what):
                return ask(at["control_url"] + to, "POST", json.dumps(what)).json()
            info = at["url"] + "/api/models/acme/pub"
            first = ask(info).json()["sha"]
            number = tell("/rule", origin="hub", path="acme/pub", status=503, body_b64=base64.b64encode(b"no").decode())["id"]
            assert ask(info).body == b"no"
            tell("/clear", id=number)
            moved = tell("/move-branch", repo="acme/pub", to="dev")["commit"]
            assert ask(info).json()["sha"] == moved != first
            made = tell("/commit", repo="acme/pub", files={"n.bin": {"b64": "AAAA", "lfs": True}, "empty.txt": None})["commit"]
            assert ask(info).json()["sha"] == made
            assert len(ask(at["control_url"] + "/calls?origin=hub&path=acme/pub").json()["calls"]) == 4
            tell("/reset")
            assert ask(at["control_url"] + "/calls").json()["calls"] == []
            tell("/set-visibility", repo="acme/pub", private=True)
            assert ask(info).status == 401
            tell("/rate", origin="cdn", bytes_per_second=1000)
            tell("/kill")
            try:
                ask(info)
                raise AssertionError("not refused")
            except ConnectionRefusedError:
                pass
            tell("/revive")
            assert ask(info).status == 401
            assert "error" in tell("/rule", nonsense=1) and "known" in tell("/nonsense")
        finally:
            process.terminate()
            assert process.wait(5) == 0


if __name__ == "__main__":
    run_all(globals())
