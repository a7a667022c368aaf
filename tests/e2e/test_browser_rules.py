# SPDX-License-Identifier: Apache-2.0
"""What browsers need and what they must not get, on every route of the table (hub-protocol 7.5, A18, R14, B21; reliability N08);
and every route without upstream (hub-protocol 10.5: E09, E14; issue: under 100 ms)."""
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from facts import CONFIG, EXPOSED, IGNORANCE, MODEL, bytes_of, commit_of
from harness import ROOT, SLOW
from hubdouble.fixture import add_bucket, add_kernel
from page import CHROMIUM, dump
from wire import fields

ORIGIN = {"Origin": "https://page.test"}
PART = {"{kind}": "models", "{content}": "acme/pub", "{id}": "acme/pub", "{id2}": "acme/pub", "{rev}": "main", "{name}": "main",
        "{path}": "config.json", "{rest}": "some/thing"}


def rows():
    """[(methods, pattern, handler, route)] of the daemon's own table."""
    text = (Path(ROOT) / "daemon/router/routes.def").read_text()
    found = re.findall(r'^ROUTE\((\w+), "([^"]*)", (\w+), (\w+), (\w+)\)', text, re.M)
    assert len(found) > 30
    return [row for row in found if row[2] != "ROUTE"]


def target_of(pattern, hub, kind="models"):
    """An address that the row takes. Rows of buckets and Spaces get things of theirs."""
    parts = PART | {"{commit}": commit_of(hub).id, "{kind}": kind}
    if pattern.startswith("buckets/") or pattern.startswith("api/buckets/"):
        parts |= {"{id2}": "acme/bucket", "{path}": "hello.txt"}
    if pattern.startswith("_space/"):
        parts |= {"{id2}": "acme/page", "{rest}": "index.html"}
    return "/" + "/".join(parts.get(word, word) for word in pattern.split("/"))


def method_of(methods):
    return {"GET_HEAD": "GET", "POST_ONLY": "POST", "ANY": "GET"}.get(methods, "POST")


def ask(cache, row, hub, **how):
    method = method_of(row[0])
    body = b"{}" if method == "POST" else None
    named = {"Content_Type": "application/json"} if body else {}
    return cache.ask(method, target_of(row[1], hub), body=body, **named, **how)


def is_ours(row):
    return row[3] == "ADMIN"


def assert_readable(answer):
    assert answer["Access-Control-Allow-Origin"] == "*", answer
    assert answer["Access-Control-Allow-Credentials"] is None
    shown = {n.strip().lower() for n in answer["Access-Control-Expose-Headers"].split(",")}
    assert {n.lower() for n in EXPOSED} <= shown and not [n for n in shown if "xet" in n]
    assert "origin" in answer["Vary"].lower() and "authorization" in answer["Vary"].lower()


@pytest.fixture
def full(hub):
    add_bucket(hub.content)
    add_kernel(hub.content)
    return hub


def test_A18_preflight_on_every_route(full, cache):
    for row in rows():
        for method in ("GET", "HEAD", "POST", "DELETE", "PUT"):
            answer = cache.ask("OPTIONS", target_of(row[1], full), **ORIGIN, Access_Control_Request_Method=method,
                               Access_Control_Request_Headers="authorization,range,x-made-up")
            if is_ours(row):
                assert answer.status == 405 and answer["Access-Control-Allow-Origin"] is None, (row, answer)
                continue
            assert answer.status == 204 and answer.body == b"" and answer["Access-Control-Allow-Origin"] == "*", (row, answer)
            allowed = answer["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
            assert {"authorization", "range"} <= set(allowed), (row, answer)
            assert answer["Access-Control-Max-Age"] == "86400" and answer["Access-Control-Allow-Credentials"] is None
    assert not full.calls(), "a preflight went upstream"


def test_A18_preflight_of_fields_that_are_none(hub, cache):
    for odd in ("a\tb", "x" * 2000, "a;b", "a: b", '"'):
        answer = cache.ask("OPTIONS", MODEL, **ORIGIN, Access_Control_Request_Method="GET", Access_Control_Request_Headers=odd)
        assert answer.status == 204 and "authorization" in answer["Access-Control-Allow-Headers"], answer
        assert odd not in answer["Access-Control-Allow-Headers"]


def test_A18_every_answer_can_be_read_by_pages(full, cache):
    for row in rows():
        answer = ask(cache, row, full, headers=ORIGIN)
        if is_ours(row):
            assert answer["Access-Control-Allow-Origin"] is None and answer["Access-Control-Expose-Headers"] is None, (row, answer)
        else:
            assert_readable(answer)
        assert answer["X-Content-Type-Options"] == "nosniff" and "sandbox" in answer["Content-Security-Policy"] or is_ours(row), row
        assert not 300 <= answer.status < 400 or answer.status == 304 or answer["Location"], (row, answer)


def test_A18_errors_parts_and_conditions(hub, cache, people):
    etag = cache.get(MODEL)["ETag"]
    asked = [(206, "GET", MODEL, {"Range": "bytes=0-9"}), (304, "GET", MODEL, {"If-None-Match": etag}), (416, "GET", MODEL, {"Range": "bytes=99999999-"}),
             (304, "HEAD", MODEL, {"If-None-Match": "*"}), (404, "GET", "/acme/pub/resolve/main/none", {}), (404, "HEAD", "/acme/pub/raw/main/none", {}),
             (404, "GET", "/acme/pub/resolve/none/x", {}), (401, "GET", "/acme/none/resolve/main/x", {}), (401, "GET", "/acme/gated/resolve/main/config.json", {}),
             (400, "GET", "/acme/pub/resolve/main/%zz", {}), (400, "GET", "/acme/pub/resolve/main/../x", {}), (400, "GET", f"{CONFIG}?token={people.alice}", {}),
             (405, "POST", MODEL, {}), (405, "DELETE", "/api/models/acme/pub/tree/main", {}), (400, "GET", CONFIG, {"Authorization": "Basic"}),
             (404, "GET", "/.git/config", {}), (400, "GET", "/api/resolve-cache/models/acme/pub/main/x", {}), (404, "GET", "/api/nothing", {})]
    for status, method, target, headers in asked:
        answer = cache.ask(method, target, headers={**ORIGIN, **headers})
        assert answer.status == status, (target, answer)
        assert_readable(answer)
    assert_readable(cache.get("/acme/gated/resolve/main/config.json", people.bob, headers=ORIGIN))
    hub.kill()
    cache.until_known_down()
    for target in (CONFIG, "/api/models/acme/unknown", "/api/whoami-v2", "/anything"):
        answer = cache.get(target, headers=ORIGIN)
        assert answer.status in IGNORANCE
        assert_readable(answer)


def test_N08_our_own_pages_are_closed_to_others(hub, cache):
    for target in ("/", "/-", "/-/", "/-/healthz", "/-/readyz", "/-/metrics", "/-/status", "/-/nothing", "/-/../x", "/-/status/more"):
        for method in ("GET", "HEAD", "OPTIONS", "POST"):
            answer = cache.ask(method, target, headers=ORIGIN)
            assert not [n for n in answer.names() if n.startswith("access-control")], (method, target, answer)


def test_A18_origin_stays_here(full, cache, people):
    """What page asks is nobody's business upstream, and must not change what is kept."""
    odd = {"Origin": "https://page.test", "Referer": "https://page.test/secret?x", "Cookie": "session=1", "Sec-Fetch-Site": "cross-site",
           "X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1"}
    for row in rows():
        if not is_ours(row):
            ask(cache, row, full, headers=odd)
            ask(cache, row, full, headers=odd, token=people.alice)
    assert len(full.calls()) > 20
    for call in full.calls():
        names = {k.lower() for k, _ in call["headers"]}
        assert not names & {"origin", "referer", "cookie", "x-forwarded-for", "forwarded", "sec-fetch-site"}, call
    assert cache.get(CONFIG)["Access-Control-Allow-Origin"] is None
    assert cache.get(CONFIG, headers=ORIGIN)["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
def test_R14_a_redirect_that_leads_nowhere(hub, cache, status):
    hub.rule("hub", path="acme/lost|api/experimental|api/models/acme/lost", status=status, body=b"where to?", headers={})
    for target in ("/acme/lost/resolve/main/config.json", "/api/models/acme/lost", "/api/models/acme/lost/tree/main", "/api/experimental",
                   "/acme/lost/raw/main/x", "/api/models/acme/lost/refs", "/api/datasets/acme/lost/parquet"):
        for ask_one in (cache.get, cache.head):
            answer = ask_one(target)
            assert not 300 <= answer.status < 400 or answer["Location"], (target, answer)


def test_B21_http_10(hub, cache):
    """No chunks for who does not know them, no keep-alive that was not asked for; a Host is not needed."""
    hub.rule(path="/api/experimental/chunks", body=b"x" * 5000, chunked=True)
    for target, body in ((CONFIG, bytes_of(hub, "config.json")), (MODEL, bytes_of(hub, "model.safetensors")), ("/api/experimental/chunks", b"x" * 5000)):
        for host in (f"Host: 127.0.0.1:{cache.port}\r\n", ""):
            with cache.connect() as conn:
                conn.send(f"GET {target} HTTP/1.0\r\n{host}\r\n".encode())
                answer = conn.read()
                assert answer.status == 200 and answer["Transfer-Encoding"] is None and answer.partial == body, answer
                assert conn.rest(5)[1] == "fin"
    with cache.connect() as conn:
        conn.send(f"GET {CONFIG} HTTP/1.0\r\nHost: x\r\nRange: bytes=1-3\r\n\r\n".encode())
        part = conn.read()
        assert part.status == 206 and part.body == bytes_of(hub, "config.json")[1:4]


# --- without upstream ---

def kinds_of(pattern):
    return ("models", "datasets", "spaces", "kernels") if "{kind}" in pattern else ("models",)


def everything(hub):
    """(row, method, target) for every row, each kind, GET and HEAD."""
    out = []
    for row in rows():
        for kind in kinds_of(row[1]):
            target = target_of(row[1], hub, kind)
            out += [(row, method, target) for method in (["GET", "HEAD"] if method_of(row[0]) == "GET" else ["POST"])]
    return out


def timed(cache, method, target, token=None):
    body, headers = (b"{}", {"Content-Type": "application/json"}) if method == "POST" else (None, {})
    began = time.monotonic()
    answer = cache.ask(method, target, token, headers=headers, body=body, timeout=30)
    return answer, time.monotonic() - began


def assert_quick(cache, asked):
    for row, method, target in asked:
        for again in range(6):   # a slow turn of a busy machine is no finding
            answer, seconds = timed(cache, method, target)
            if seconds < 0.1 * SLOW:
                break
        assert seconds < 0.1 * SLOW, (row, method, target, seconds)
        assert answer.status != 0 and answer.status < 505 and answer.status not in (500, 502), (row, method, target, answer)


@pytest.mark.parametrize("held", [False, True])
def test_E14_every_route_is_quick_offline(full, start, held):
    cache = start()
    if held:
        for row, method, target in everything(full):
            timed(cache, method, target)
    full.kill()
    cache.until_known_down()
    assert_quick(cache, everything(full))
    cache.restart(hub_offline="yes")
    assert_quick(cache, everything(full))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["silent", "drop"])
def test_E09_every_route_is_answered_within_nine_seconds(full, start, mode):
    """Nobody waits longer than the clients' own ten seconds, whatever route it is that finds out."""
    cache = start()
    full.blackhole(mode=mode)
    asked = everything(full)
    reads = [(row, method, target) for row, method, target in asked if method != "POST"]
    with ThreadPoolExecutor(32) as pool:
        for (row, method, target), (answer, seconds) in zip(reads, pool.map(lambda a: timed(cache, a[1], a[2]), reads)):
            assert seconds < 9.5 * SLOW, (row, method, target, seconds)
            assert answer.status != 0 and answer.status < 505 and answer.status not in (500, 502), (row, method, target, answer)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["hub_space", "hub_bucket_file", "hub_xet_token"])
def test_E09_who_comes_first_is_answered_within_nine_seconds(full, start, which):
    """A route alone, whose request is the one that finds upstream silent."""
    cache = start()
    full.blackhole(mode="silent")
    row = next(r for r in rows() if r[2] == which)
    answer, seconds = timed(cache, method_of(row[0]), target_of(row[1], full))
    assert seconds < 9.5 * SLOW and answer.status in IGNORANCE, (row, seconds, answer)


def test_E11_once_is_never_seen_on_routes_that_are_understood(full, start):
    """One 500 is asked again; what only passes through shows what came."""
    reads = [row for row in rows() if row[0] == "GET_HEAD" and not is_ours(row)]
    cache = start()
    before = {row[1]: ask(cache, row, full).status for row in reads}
    cache = start()
    full.rule("hub", status=500, when=once_each(), body=b"{}")
    for row in reads:
        answer = ask(cache, row, full)
        passes = "fwd=bypass" in (answer["Cache-Status"] or "")
        assert answer.status in (before[row[1]], 500 if passes else before[row[1]]), (row, answer)


def once_each():
    seen = set()

    def is_first(request):
        if request.path in seen:
            return False
        seen.add(request.path)
        return len(seen) % 2 == 1   # not three in a row: that would be an outage
    return is_first


def test_E10_rate_limits_keep_their_words(full, start):
    cache = start()
    full.rule("hub", status=429, body=b'{"error":"slow down"}',
              headers={"Content-Type": "application/json", "RateLimit": '"api";r=0;t=30', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'})
    for row in rows():
        if is_ours(row) or row[0] != "GET_HEAD" or row[2] == "hub_telemetry":
            continue
        answer = ask(cache, row, full)
        if answer.status in (400, 404):   # what is refused here for its form alone
            continue
        assert answer.status == 429, (row, answer)
        assert re.search(r"r=0;t=\d+", answer["RateLimit"]) or answer["Retry-After"], (row, answer)
    assert len(full.calls("hub")) <= 12, "it went on asking"


# --- a real browser ---

SCRIPT = """<!doctype html><p id="out"></p><script>
const base = %s, token = %s, out = {};
async function tell(name, target, options) {
  try {
    const r = await fetch(base + target, options);
    out[name] = r.status + ":" + (r.headers.get("X-Error-Code") || r.headers.get("Content-Range") || r.headers.get("X-Repo-Commit") || "-") + ":"
      + (await r.arrayBuffer()).byteLength;
  } catch (e) { out[name] = "refused"; }
}
const auth = {"Authorization": "Bearer " + token};
(async () => {
  await tell("plain", "/acme/pub/resolve/main/config.json");
  await tell("part", "/acme/pub/resolve/main/model.safetensors", {headers: {...auth, "Range": "bytes=0-9"}});
  await tell("gated", "/acme/gated/resolve/main/config.json", {headers: {...auth, "X-Made-Up": "1"}});
  await tell("closed", "/acme/gated/resolve/main/config.json");
  await tell("missing", "/acme/pub/resolve/main/none", {headers: auth});
  await tell("info", "/api/models/acme/pub", {headers: auth});
  await tell("moved", "/api/models/old/name/revision/main", {headers: auth});
  await tell("paths", "/api/models/acme/pub/paths-info/main", {method: "POST", body: JSON.stringify({paths: ["config.json"]}),
             headers: {...auth, "Content-Type": "application/json"}});
  await tell("status", "/-/status");
  await tell("metrics", "/-/metrics", {headers: auth});
  document.getElementById("out").textContent = JSON.stringify(out) + "done";
})();
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
def test_A18_a_page_of_another_origin_in_chromium(hub, cache, people, folder):
    page = (SCRIPT % (json.dumps(cache.url), json.dumps(people.alice))).encode()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_):
            pass
    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for when in ("cold", "warm", "dead"):
            if when == "dead":
                hub.kill()
                cache.until_known_down()
            text, errors = dump(folder / f"browser-{when}", f"http://127.0.0.1:{server.server_port}/")
            assert "done" in text, (when, text, errors[-2000:])
            out = json.loads(re.search(r'<p id="out">(\{.*\})done', text)[1])
            commit, gated = commit_of(hub).id, commit_of(hub, "acme/gated").id
            assert out["plain"] == f"200:{commit}:{len(bytes_of(hub, 'config.json'))}" and out["part"].startswith("206:bytes 0-9/")
            assert out["gated"].startswith(f"200:{gated}") and out["missing"].startswith("404:EntryNotFound")
            assert out["closed"].startswith("401:GatedRepo") if when != "dead" else out["closed"][:3] in ("401", "503", "504")
            assert out["info"].startswith("200:") and out["moved"].startswith("200:") and out["paths"].startswith("200:"), out
            assert out["status"] == out["metrics"] == "refused", (when, out)
    finally:
        server.shutdown()
        server.server_close()
