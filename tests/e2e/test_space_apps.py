# SPDX-License-Identifier: Apache-2.0
"""Spaces as pages: what a static one's README asks for (I61), what a page and an app may not do, who is let in (tests/infer has more)."""
import base64
import hashlib
import http.server
import json
import re
import socket
import subprocess
import threading
import time

import pytest

from harness import wait_for
from page import CHROMIUM, dump

SITE = "acme/built"
TOP = f"/_space/{SITE}/"
CARD = ("---\nsdk: static\napp_build_command: npm run build\napp_file: dist/index.html\ncustom_headers:\n"
        "  cross-origin-embedder-policy: require-corp\n  cross-origin-opener-policy: same-origin\n"
        "  cross-origin-resource-policy: same-site\n---\n")
SOURCE = {"README.md": CARD, "dist/index.html": b"<p>source</p>", "src/main.ts": b"let a: number = 1\n"}
BUILT = {"dist/index.html": b'<!doctype html><p id="p">built</p><script src="app.js"></script>', "dist/app.js": b'document.getElementById("p").textContent += " and running, isolated: " + self.crossOriginIsolated;\n',
         "dist/data.bin": bytes(range(256)) * 40, "dist/style.css": b"p { color: red }\n"}


@pytest.fixture
def site(hub):
    repo = hub.content.add_repo("space", SITE)
    repo.commit(SOURCE)
    return repo


@pytest.fixture
def app():
    """An app with a page that tries what it should not be able to do."""
    class Handler(http.server.BaseHTTPRequestHandler):
        seen = []

        def do_GET(self):
            self.seen.append((self.command, self.path))
            kind, body = {"/": ("text/html; charset=utf-8", PAGE), "/own.json": ("application/json", b'{"own": 42}')}.get(
                self.path.partition("?")[0], ("text/plain", b"nothing"))
            if self.command == "POST":
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = b'{"posted": 1}'
            if self.path == "/events":
                kind, body = "text/event-stream", b"data: hello\n\n"
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.url = Handler.seen, f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


PAGE = b"""<!doctype html><p id="out"></p><script>
const done = {};
function note(name, value) { done[name] = value; document.getElementById("out").textContent = Object.keys(done).sort().map(k => k + "=" + done[k]).join(";"); }
function reach(name, url, how) { fetch(url, how).then(r => r.text()).then(t => note(name, "open")).catch(e => note(name, "closed")); }
note("origin", self.origin);
fetch("own.json").then(r => r.json()).then(j => note("json", j.own)).catch(e => note("json", "failed"));
fetch("call", {method: "POST", body: "{}", headers: {"Content-Type": "application/json"}}).then(r => r.json()).then(j => note("post", j.posted)).catch(e => note("post", "failed"));
const events = new EventSource("events"); events.onmessage = e => { note("event", e.data); events.close(); };
reach("status", "/-/status"); reach("metrics", "/-/metrics", {mode: "no-cors"}); reach("hub", "/api/models/acme/pub");
reach("write", "/api/repos/create", {method: "POST", body: "{}", mode: "no-cors"}); reach("other", "/_space/acme/other/");
try { localStorage.setItem("a", "b"); note("storage", "open"); } catch (e) { note("storage", "closed"); }
try { note("cookie", document.cookie === "" ? "none" : "some"); } catch (e) { note("cookie", "closed"); }
const frame = document.createElement("iframe"); frame.src = "/-/"; document.body.append(frame);
frame.onload = () => { try { note("frame", frame.contentDocument.body.textContent ? "open" : "closed"); } catch (e) { note("frame", "closed"); } };
</script>"""
EXPECTED = ("cookie=closed", "event=hello", "frame=closed", "hub=closed", "json=42", "metrics=closed", "origin=null", "other=closed", "post=1",
            "status=closed", "storage=closed", "write=closed")


def check_built(cache):
    page = cache.get(TOP)
    assert page.status == 200 and page.body == BUILT["dist/index.html"] and page["Content-Type"] == "text/html; charset=utf-8"
    for path, kind in (("dist/app.js", "text/javascript; charset=utf-8"), ("dist/style.css", "text/css; charset=utf-8"),
                       ("dist/data.bin", "application/octet-stream"), ("dist/", "text/html; charset=utf-8")):
        answer = cache.get(TOP + path)
        assert answer.status == 200 and answer["Content-Type"] == kind, (path, answer)
    part = cache.get(TOP + "dist/data.bin", Range="bytes=300-303")
    assert part.status == 206 and part.body == BUILT["dist/data.bin"][300:304]
    assert cache.get(TOP + "dist/data.bin", If_None_Match=part["ETag"]).status == 304
    assert cache.get(TOP + "src/main.ts").status == 404, "what it is built from"


def test_I61_a_static_space_that_was_built(hub, site, cache):
    site.commit(BUILT, branch="refs/convert/build")
    check_built(cache)
    hub.kill()
    cache.until_known_down()
    check_built(cache)
    cache.restart(hub_offline="yes")
    check_built(cache)


def test_I61_a_static_space_that_is_not_built_yet(hub, site, cache):
    for _ in range(2):
        assert cache.get(TOP).body == b"<p>source</p>" and cache.get(TOP + "src/main.ts").status == 200


def test_I61_fields_that_a_readme_asks_for(hub, site, cache):
    site.commit(BUILT, branch="refs/convert/build")
    for _ in range(2):
        page, script = cache.get(TOP), cache.get(TOP + "dist/app.js")
        assert page["Cross-Origin-Embedder-Policy"] == script["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert page["Cross-Origin-Opener-Policy"] == "same-origin" and page["Cross-Origin-Resource-Policy"] == "same-site"
        assert script["Cross-Origin-Resource-Policy"] == "cross-origin", "its own page, which is nobody, could not load it"
    plain = hub.content.add_repo("space", "acme/odd")
    plain.commit({"README.md": "---\nsdk: static\ncustom_headers:\n  cross-origin-embedder-policy: \"x\\r\\nSet-Cookie: a\"\n  set-cookie: a=b\n---\n",
                  "index.html": b"x"})
    odd = cache.get("/_space/acme/odd/")
    assert odd.status == 200 and odd["Set-Cookie"] is None and odd["Cross-Origin-Embedder-Policy"] is None


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
def test_I61_a_built_space_in_chromium(hub, site, cache, folder):
    site.commit(BUILT, branch="refs/convert/build")
    text, errors = dump(folder / "browser", cache.url + TOP + "dist/index.html")
    assert "built and running, isolated: true" in text, (text, errors[-3000:])


def test_config_of_mapped_spaces(start, app, folder):
    config = folder / "c.conf"
    config.write_text(f"[space acme/one]\nurl = {app.url}\n[space acme/two.x]\nurl = {app.url}/\n")
    cache = start(command=["--config", str(config), "--set", f"space acme/three.url={app.url}"])
    for name in ("one", "two.x", "three", "ONE"):
        assert json.loads(cache.get(f"/_space/acme/{name}/own.json").body) == {"own": 42}


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
def test_a_page_of_an_app_in_chromium(start, app, folder):
    """It works, and it is nobody: it reaches its own folder and nothing else of this server."""
    cache = start(command=["--set", f"space acme/app.url={app.url}", "--set", f"space acme/other.url={app.url}"])
    text, errors = dump(folder / "browser", f"{cache.url}/_space/acme/app/")
    missing = [word for word in EXPECTED if word not in text]
    assert not missing, (missing, text[:1500], errors[-3000:])
    assert not cache.log_lines(path="/api/repos/create") and not cache.log_lines(path="/-/status")


# --- apps that mean ill, or mean well and are told too much ---

class Scripted:
    """An app that answers what it is told to, byte for byte."""

    def __init__(self):
        self.answer, self.heads = told(), []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                conn, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        with conn:
            text = b""
            while b"\r\n\r\n" not in text:
                piece = conn.recv(65536)
                if not piece:
                    return
                text += piece
            self.heads.append(text.partition(b"\r\n\r\n")[0].decode("latin-1"))
            conn.sendall(self.answer)

    def names(self):
        """Of the last request's fields, lower case."""
        return [line.partition(":")[0].lower() for line in self.heads[-1].split("\r\n")[1:]]

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)    # the thread that waits holds it open
        self.socket.close()


def told(body="ok", status="200 OK", *extra):
    lines = [f"HTTP/1.1 {status}", "Content-Type: text/plain", f"Content-Length: {len(body)}", "Connection: close", *extra]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


@pytest.fixture
def scripted():
    made = []

    def make():
        made.append(Scripted())
        return made[-1]
    yield make
    for one in made:
        one.close()


def add_app(hub, id, app):
    repo = hub.content.add_repo("space", id)
    repo.commit({"README.md": "---\nsdk: gradio\n---\n# App\n"})
    repo.app_url = app.url
    return f"/_space/{id}"


@pytest.fixture
def pair(hub, scripted, start):
    """An app at the Hub and one of one's own, the same program; and another Space."""
    app, other = scripted(), scripted()
    hub_top = add_app(hub, "acme/app", app)
    add_app(hub, "acme/evil", other)
    cache = start(command=["--set", f"space acme/mine.url={app.url}"])
    return cache, app, other, (hub_top, "/_space/acme/mine")


def test_I60_a_redirect_of_an_app_stays_within_its_space(pair, people):
    cache, app, other, tops = pair
    for top in tops:
        for to in ("../evil/steal", "../../../_space/acme/evil/x", "/../evil/x", "/%2e%2e/evil/x", "..%2f", f"{top}/../evil/x",
                   "../../../api/repos/create", "/-/status", app.url + "/../../evil/x", "?x", "a/b", f"{cache.url}{top}/in"):
            app.answer = told("", "307 Temporary Redirect", f"Location: {to}")
            answer = cache.get(top + "/go")
            path = answer["Location"].removeprefix(cache.url)
            assert answer.status == 307 and path.startswith(top + "/") and not re.search(r"(?i)/(\.|%2e)+(/|$)", path), (to, answer)
        for to in (f"http://localhost:{cache.port}/_space/acme/evil/x", f"http://LOCALHOST:{cache.port}/-/status", "/\\evil.example/x",
                   f"http://[::1]:{cache.port}/", "http:/x", f"http://a@127.0.0.1:{cache.port}/"):
            app.answer = told("", "307 Temporary Redirect", f"Location: {to}")
            answer = cache.get(top + "/go")
            assert answer.status == 502 and answer["Location"] is None and b"redirect" in answer.body, (to, answer)
        for to in (other.url + "/x/../y", "https://elsewhere.example/a?b#c", "//elsewhere.example/"):
            app.answer = told("", "302 Found", f"Location: {to}")
            assert cache.get(top + "/go")["Location"] == to
    for to in (f"{cache.url}/_space/acme/evil/x", f"http://127.1:{cache.port}/api/repos/create"):
        app.answer = told("", "307 Temporary Redirect", f"Location: {to}")
        assert cache.get(tops[0] + "/go").status == 502
        assert cache.get(tops[1] + "/go")["Location"].startswith(cache.url + tops[1] + "/"), "it was told that this is its host"
    app.answer = told("", "307 Temporary Redirect", "Location: ../evil/steal")
    for top in tops:
        subprocess.run(["curl", "-sL", "--max-redirs", "3", "-H", f"Authorization: Bearer {people.alice}", cache.url + top + "/go"],
                       capture_output=True, check=False)
    assert not other.heads, "the token was led to another Space"


def test_I60_names_of_this_server_are_its_own(hub, scripted, start):
    app = scripted()
    top = add_app(hub, "acme/app", app)
    cache = start(server_hosts="cache.example 127.0.0.1")
    app.answer = told("", "307 Temporary Redirect", f"Location: http://Cache.Example:{cache.port}/-/status")
    assert cache.get(top + "/go").status == 502


def upgrade(cache, path, **named):
    with socket.create_connection(("127.0.0.1", cache.port), timeout=20) as conn:
        conn.sendall((f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{cache.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                      + "".join(f"{k}: {v}\r\n" for k, v in named.items()) + "\r\n").encode())
        text = b""
        while True:
            piece = conn.recv(65536)
            text += piece
            if not piece or (b"101" not in text[:15] and b"\r\n\r\n" in text):
                return text


def test_I63_of_an_answer_to_a_socket_only_the_handshake_passes(pair):
    cache, app, _, tops = pair
    for top in tops:
        tag = "hfs-" + hashlib.sha256(top.removeprefix("/_space/").encode()).hexdigest()[:12] + "-"
        app.answer = (b"HTTP/1.1 101 Sure\r\nuPgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: abc\r\n"
                      b"Set-Cookie: sid=1; Path=/; Domain=huggingface.co\r\nClear-Site-Data: \"*\"\r\nAccess-Control-Allow-Origin: *\r\n"
                      b"Sec-WebSocket-Protocol: v1\r\nContent-Length: 3\r\n\r\nframes")
        head, _, rest = upgrade(cache, top + "/ws").partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert rest == b"frames" and lines[0] == "HTTP/1.1 101 Switching Protocols"
        assert sorted(lines[1:]) == sorted(["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: abc", "Sec-WebSocket-Protocol: v1",
                                            f"Set-Cookie: {tag}sid=1; Path={top}/"])
        for said in (b"Upgrade: h2c\r\n", b"", b"Upgrade: websocket\r\nUpgrade: h2c\r\n"):
            app.answer = b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\n" + said + b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
            assert upgrade(cache, top + "/ws").startswith(b"HTTP/1.1 502 "), said


def test_I63_an_app_is_told_which_page_opens_a_socket(pair):
    cache, app, _, tops = pair
    app.answer = b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    for top in tops:
        for origin, wanted in ((cache.url, app.url), ("null", app.url), ("http://evil.example", "http://evil.example"),
                               (f"http://evil.example:{cache.port}", f"http://evil.example:{cache.port}")):
            assert upgrade(cache, top + "/ws", Origin=origin).startswith(b"HTTP/1.1 101 ")
            assert f"Origin: {wanted}\r\n" in app.heads[-1] + "\r\n", (origin, app.heads[-1])


def is_kept(cache, app, path, token=None, headers=(), asker=None):
    """Is what this request is answered given to the next, which says nothing of itself?"""
    app.answer = told("a secret", "200 OK", *is_kept.extra)
    assert cache.get(path, token, headers=headers).body == b"a secret"
    time.sleep(0.1)    # it would be kept by now
    app.answer = told("nothing", "200 OK", "Cache-Control: no-store")
    return cache.get(path, asker).body == b"a secret"


def test_what_an_app_shows_one_is_not_kept_for_others(pair, people):
    cache, app, _, (top, _) = pair
    tag = "hfs-" + hashlib.sha256(b"acme/app").hexdigest()[:12] + "-"
    built = iter(range(100))

    def path(query=""):
        return f"{top}/static/report{next(built)}.pdf{query}"
    is_kept.extra = ()
    assert wait_for(lambda: is_kept(cache, app, path())), "nothing is kept at all"
    assert wait_for(lambda: is_kept(cache, app, path("?v=1.2-3a")))
    assert wait_for(lambda: is_kept(cache, app, path(), headers=[("Cookie", "grafana=1"), ("Accept-Language", "de")]))
    for headers in ([("Cookie", f"a=b; {tag}sid=alice")], [("X-Api-Key", "alice")], [("X-Auth-User", "alice")], [("X-CSRF-Token", "a")],
                    [("Range", "bytes=0-3")]):
        assert not is_kept(cache, app, path(), headers=headers), headers
    for query in ("?user=alice", "?__sign=abc", "?v=1&a=b", "?v=" + "a" * 65):
        assert not is_kept(cache, app, path(query)), query
    for extra in ("Cache-Control: private", "Cache-Control: max-age=5, No-Store", "Cache-Control: no-cache", "Cache-Control: private=\"x\"",
                  "Vary: Cookie", "Vary: Origin, Accept-Language", "Vary: *", "Set-Cookie: sid=alice2"):
        is_kept.extra = (extra,)
        assert not is_kept(cache, app, path()), extra
    for extra in ("Cache-Control: public, max-age=5", "Vary: Accept-Encoding, origin"):
        is_kept.extra = (extra,)
        assert wait_for(lambda: is_kept(cache, app, path())), extra


def test_a_page_that_nobody_may_keep_is_gone_with_its_app(hub, scripted, start):
    app = scripted()
    top = add_app(hub, "acme/app", app)
    cache = start()
    for page, extra in (("/config", "Cache-Control: no-store"), ("/info", "Vary: Cookie"), ("/", "Cache-Control: no-cache")):
        app.answer = told("{}", "200 OK", extra)
        assert cache.get(top + page).status == 200
    time.sleep(0.3)
    app.close()
    app.socket = socket.socket()
    app.close = lambda: None
    assert cache.get(top + "/config").status == cache.get(top + "/info").status == 503
    assert wait_for(lambda: cache.get(top + "/").status == 200), "no-cache: asked for each time, but there without the app"


def test_I60_no_field_tells_an_app_of_ones_own_a_token(pair, people):
    cache, app, _, (_, top) = pair
    token = people.alice

    def basic(text):
        return "Basic " + base64.b64encode(text.encode()).decode()
    for name, value in (("Authorization", basic(f"user:{token}")), ("Authorization", basic(f"{token}:")), ("X-Api-Key", token), ("HF-Token", token),
                        ("X-Any", f"a=b; t={token}"), ("X-Odd", basic(f"user:{token}")), ("X-Oauth", "hf_oauth_eyJhbGciOi.a.b")):
        assert cache.get(top + "/a", headers=[(name, value)]).status == 200
        assert token not in app.heads[-1] and name.lower() not in app.names(), name
    odd = [("X-HF-Authorization", "Bearer jwt.of-the.hub"), ("X-Copy", "jwt.of-the.hub"), ("Authorization", "Bearer jwt.of-the.hub"), ("X-Own", "1")]
    cache.get(top + "/a", headers=odd)
    assert "jwt" not in app.heads[-1] and "x-own" in app.names()
    for own in (basic("user:password"), "Bearer of-the-app"):
        cache.get(top + "/a", headers=[("Authorization", own), ("X-HF-Authorization", "Bearer")])
        assert f"Authorization: {own}" in app.heads[-1]


def test_I60_an_asker_that_is_not_understood_is_nobody_and_gets_nothing(pair, people):
    cache, app, _, (top, mine) = pair
    field, alice, bob = "X-HF-Authorization", f"Bearer {people.alice}", f"Bearer {people.bob}"
    for where in (top, mine):
        for headers in ([(field, alice), (field, alice)], [(field, alice), (field, bob)], [(field, "Digest x")], [(field, "Bearer a b")],
                        [(field, "Basic !!!")], [("Authorization", bob), (field, alice), (field, alice)], [("Authorization", bob), (field, "x y z")]):
            assert cache.get(where + "/static/a", headers=headers).status == 400, headers
    assert not app.heads, "it was asked"
    is_kept.extra = ()
    both = [("Authorization", bob), (field, alice)]
    for who in (people.bob, people.alice, None):
        assert not is_kept(cache, app, f"{top}/static/b-{who and who[-4:]}", headers=both, asker=who)
    assert wait_for(lambda: is_kept(cache, app, f"{top}/static/{time.monotonic()}", headers=[(field, alice)], asker=people.alice))
    same = [("Authorization", alice), (field, alice)]
    assert wait_for(lambda: is_kept(cache, app, f"{top}/static/{time.monotonic()}", headers=same, asker=people.alice))
    assert not is_kept(cache, app, f"{top}/static/c", headers=[(field, alice)], asker=people.bob)


def test_a_signature_is_never_on_a_disk(pair):
    cache, app, _, (top, _) = pair
    sign = "eyJhbGciOiJFZERTQSJ9.c2lnbmVk.b64"
    for path in (f"/static/a.js?__sign={sign}", f"/?__sign={sign}", f"/config?__sign={sign}", f"/static/b.js?v={sign}_&x", f"/static/c.js?{sign}=1"):
        assert cache.get(top + path).status == 200
    cache.get(top + "/static/d.js")
    wait_for(lambda: cache.get(top + "/static/d.js")["Cache-Status"].endswith("hit"), why="something being kept")
    cache.stop()
    assert not [p for p in cache.files() if b"c2lnbmVk" in p.read_bytes()] and "c2lnbmVk" not in cache.stderr()


def test_P12_a_space_of_ones_own_that_is_down_is_named(hub, start, app, folder):
    """By the answer, the status, the first page and the log: which Space, where it should be, and why it cannot be reached."""
    config = folder / "spaces.conf"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))   # and does not listen
        gone = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        config.write_text(f"[space acme/here]\nurl = {app.url}\n[space acme/gone]\nurl = {gone}/inner\n")
        cache = start(command=[f"--config={config}"])

        def told():
            return {one["name"]: one for one in cache.status()["spaces"]}
        assert [one["reachable"] for one in told().values()] == [None, None], told()
        assert cache.get("/").text.count("not asked yet") == 2
        assert cache.get("/_space/acme/here/").status == 200
        answer = cache.get("/_space/acme/gone/")
    assert answer.status == 503 and "acme/gone" in answer["X-Error-Message"] and "[space acme/gone]" in answer.text, answer
    here, down = told()["acme/here"], told()["acme/gone"]
    assert here == {"name": "acme/here", "url": app.url, "reachable": True}
    assert cache.status()["served"]["own_bytes"] == len(PAGE), "it never came from upstream, so it saves nothing"
    assert down["reachable"] is False and down["url"] == gone and down["unreachable_since"] > 0 and down["reason"] in answer.text
    line, = cache.log_lines(level="warning", room="fetch")
    assert "Space" in line["msg"] and line["upstream"] == gone and line["reason"] == down["reason"], line
    assert f"/_space/acme/gone/  cannot be reached: {down['reason']}" in cache.get("/").text
