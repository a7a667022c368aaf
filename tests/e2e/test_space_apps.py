# SPDX-License-Identifier: Apache-2.0
"""Spaces as pages: what a static one's README asks for (I61), what a page may not do, who is let in (tests/infer has the apps)."""
import http.server
import json
import threading

import pytest

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
