# SPDX-License-Identifier: Apache-2.0
"""Spaces that run, on the wire: their addresses, cookies, tokens, streams and uploads, here and where they are mapped (I54 to I64).

The app is a double (inferdouble/gradio.py); the Hub double says that it is the host of acme/app. Real apps and real clients are in
clients/test_space_sessions.py.
"""
import http.cookiejar
import json
import socket
import statistics
import threading
import time
import urllib.request

import pytest

from asking import Stream, data_of, post
from harness import SLOW, wait_for
from wire import Answer, Connection, fields

APP, OTHER = "acme/app", "acme/other"
TOP, OTHER_TOP = f"/_space/{APP}", f"/_space/{OTHER}"
API = TOP + "/gradio_api"


class Listen(Stream):
    """An open GET."""

    def __init__(self, server, path, headers=(), timeout=20, **named):
        self.conn = Connection(("127.0.0.1", server.port), timeout=timeout)
        self.conn.request("GET", path, fields(None, headers, Accept="text/event-stream", **named), None)
        self.answer, self.text, self.end, self.times = None, b"", None, []


class Sink:
    """A server of one's own that notes heads and counts bytes as they come, and then answers what it is told to."""

    def __init__(self, answer=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"):
        self.answer, self.heads, self.received = answer, [], 0
        self.may_read = threading.Event()    # bodies
        self.may_read.set()
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
        text = b""
        while b"\r\n\r\n" not in text:
            piece = conn.recv(65536)
            if not piece:
                return
            text += piece
        head, _, rest = text.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        named = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        self.heads.append((lines[0], named))
        self.received, length = self.received + len(rest), int(named.get("content-length", 0))
        while self.received < length:
            self.may_read.wait()
            piece = conn.recv(1 << 20)
            if not piece:
                return
            self.received += len(piece)
        conn.sendall(self.answer)
        conn.close()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)    # the thread that waits holds it open
        self.socket.close()


@pytest.fixture
def app(upstream):
    return upstream.add("gradio", beat=1)


def add_space(hub, id, app, **how):
    repo = hub.content.add_repo("space", id, **how)
    repo.commit({"README.md": "---\nsdk: gradio\n---\n# App\n", "app.py": "print()\n"})
    repo.app_url = app.url
    return repo


@pytest.fixture
def space(hub, app):
    return add_space(hub, APP, app)


@pytest.fixture
def sink():
    one = Sink()
    yield one
    one.close()


def mapped(name, url):
    return f"[space {name}]\nurl = {url}\n"


def join(cache, top, name, values, session="s1"):
    answer = post(cache, f"{top}/gradio_api/queue/join", {"data": values, "fn_index": ["greet", "sentiment", "shout", "count", "fail"].index(name),
                                                          "session_hash": session})
    assert answer.status == 200 and answer.json()["event_id"], answer
    return answer.json()["event_id"]


def session(cache, top, name="sentiment", values=("I love Hugging Face!",), session="s1"):
    """One call through the queue: the messages of its events."""
    join(cache, top, name, list(values), session)
    with Listen(cache, f"{top}/gradio_api/queue/data?session_hash={session}") as events:
        found = data_of(events.rest())
        assert events.end == "complete"
    assert found[-1]["msg"] == "close_stream", found
    return found


def result_of(messages):
    return next(m for m in messages if m["msg"] == "process_completed")["output"]["data"][0]


# --- I54: where a Space is ---

def test_I54_the_host_of_a_space_is_here(hub, space, cache):
    theirs = json.loads(urllib.request.urlopen(f"{hub.url}/api/spaces/{APP}").read())
    for _ in range(2):
        answer = cache.get(f"/api/spaces/{APP}")
        ours = answer.json()
        assert ours["host"] == f"{cache.url}{TOP}/" and theirs["host"] == space.app_url
        assert {k: v for k, v in ours.items() if k != "host"} == {k: v for k, v in theirs.items() if k != "host"}
    tag = answer["ETag"]
    assert cache.get(f"/api/spaces/{APP}", If_None_Match=tag).status == 304
    assert cache.get(f"/api/spaces/{APP}/revision/main").json()["host"] == f"{cache.url}{TOP}/"
    elsewhere = cache.get(f"/api/spaces/{APP}", host="cache.example:80", If_None_Match=tag)
    assert elsewhere.status == 200 and elsewhere["ETag"] != tag and elsewhere.json()["host"] == f"http://cache.example:80{TOP}/"
    assert cache.get(f"/api/spaces/{APP}/host").json() == {"subdomain": "acme-app", "host": f"{cache.url}{TOP}/"}
    static = cache.get("/api/spaces/acme/page").json()
    assert static["host"] == f"{cache.url}/_space/acme/page/" and static["subdomain"] == "acme-page"
    hub.kill()
    cache.until_known_down()
    assert cache.get(f"/api/spaces/{APP}").json() == ours
    assert cache.get(f"/api/spaces/{APP}/host").json()["host"] == f"{cache.url}{TOP}/"


def test_I54_only_its_own_host_is_changed(hub, cache):
    """A member of the same name further in, and the same address elsewhere, are somebody else's words."""
    told = {"id": APP, "host": "https://acme-app.hf.space", "cardData": {"host": "https://acme-app.hf.space"},
            "about": "https://acme-app.hf.space", "sdk": "gradio", "runtime": {"stage": "RUNNING", "domains": [{"domain": "acme-app.hf.space"}]}}
    hub.content.add_repo("space", APP).commit({"README.md": "x"})
    hub.rule(path=rf"^/api/spaces/{APP}$", body=json.dumps(told, indent=1).encode(), headers={"Content-Type": "application/json", "ETag": '"1"'})
    answer = cache.get(f"/api/spaces/{APP}")
    assert answer.json() == told | {"host": f"{cache.url}{TOP}/"} and answer["ETag"] != '"1"'
    assert answer.text == json.dumps(told | {"host": f"{cache.url}{TOP}/"}, indent=1), "other bytes changed as well"


def test_I54_by_subdomain_and_in_words(hub, space, cache):
    hub.rule(path="^/api/spaces/by-subdomain/acme-app$", status=200, headers={"Content-Type": "application/json", "ETag": '"1"'},
             body=json.dumps({"id": APP, "subdomain": "acme-app", "host": space.app_url, "runtime": {"stage": "RUNNING"}}).encode())
    answer = cache.get("/api/spaces/by-subdomain/acme-app")
    assert answer.json() == {"id": APP, "subdomain": "acme-app", "host": f"{cache.url}{TOP}/", "runtime": {"stage": "RUNNING"}}
    assert answer["ETag"] != '"1"'
    hub.rule(path=rf"^/spaces/{APP}/agents.md$", status=200, headers={"Content-Type": "text/markdown", "ETag": '"1"'},
             body=f"# App\nPOST {space.app_url}/gradio_api/call/greet\nSee {space.app_url}.\n".encode())
    words = cache.get(f"/spaces/{APP}/agents.md")
    assert words.text == f"# App\nPOST {cache.url}{API}/call/greet\nSee {cache.url}{TOP}.\n" and words["ETag"] != '"1"'


# --- I55, I56: sessions (with real clients in clients/test_space_sessions.py) ---

def test_I55_a_session_stays_here(space, app, cache):
    config = cache.get(TOP + "/config").json()
    assert config["root"] == f"{cache.url}{TOP}" and config["api_prefix"] == "/gradio_api"
    assert cache.get(API + "/info?serialize=False").json()["named_endpoints"]["/sentiment"]
    assert result_of(session(cache, TOP))["label"] == "POSITIVE"
    found = session(cache, TOP, "count", [3], "s2")
    assert [m["msg"] for m in found].count("process_generating") == 3
    assert {c.path.partition("?")[0] for c in app.calls()} >= {"/config", "/gradio_api/info", "/gradio_api/queue/join"}
    assert all(c.header("Host") == app.url.removeprefix("http://") for c in app.calls()), "not by its real name"
    assert not any(name.lower().startswith("x-forwarded") for c in app.calls() for name, _ in c.headers), "for apps of one's own only"


def test_I56_addresses_of_results_are_here(space, app, cache):
    boundary = "xyz"
    body = (f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\na file\r\n'
            f"--{boundary}--\r\n").encode()
    sent = post(cache, API + "/upload?upload_id=1", body, kind=f"multipart/form-data; boundary={boundary}")
    path, = sent.json()
    made = result_of(session(cache, TOP, "shout", [{"path": path}]))
    assert made["url"].startswith(f"{cache.url}{API}/file=") and not made["path"].startswith("http")
    assert cache.get(made["url"].removeprefix(cache.url)).body == b"A FILE"
    event = post(cache, API + "/call/shout", {"data": [{"path": path}]}).json()["event_id"]
    with Listen(cache, f"{API}/call/shout/{event}") as events:
        (value,), = data_of(events.rest())
    assert value["url"] == made["url"]


def test_I56_the_page_says_where_it_is(space, app, cache):
    page = cache.get(TOP + "/")
    text = page.text
    config = json.loads(text[text.index("window.gradio_config = ") + 23:text.index(";</script>")])
    assert config["root"] == f"{cache.url}{TOP}"
    assert text.startswith("<!doctype html><title>Double</title>") and page["ETag"] is None
    app.options.page = f'<a href="{app.url}/x">"root": "{app.url}"</a>'    # no script's: it stays
    assert cache.get(TOP + "/").text.startswith(f"<!doctype html>{app.options.page}<script>")
    assert cache.get(TOP)["Location"] == TOP + "/"


# --- I57: streams ---

def test_I57_events_come_as_they_are_made(space, app, cache):
    app.options.pause = 0.15
    join(cache, TOP, "count", [6])
    with Listen(cache, API + "/queue/data?session_hash=s1") as events:
        found = data_of(events.rest())
        times = events.times
        assert events.end == "complete" and found[-1]["msg"] == "close_stream"
    sent = app.calls("queue/data")[-1]["t_events"]
    assert len(sent) == len(times) == len(found)
    late = statistics.median(got - gone for got, gone in zip(times, sent))
    assert late < 0.1 * SLOW, f"an event was {late:.3f} s late"   # one that waits for the next one is 0.15 s late


def test_I57_who_leaves_frees_the_app(space, app, cache):
    app.options.beat = 0.1
    with Listen(cache, API + "/heartbeat/s1") as beats:
        assert beats.next_event() and beats.next_event()
    wait_for(lambda: app.calls("heartbeat")[-1]["left"], 10, why="the app noticing that nobody listens")


@pytest.mark.slow
@pytest.mark.seconds(150)
def test_I57_a_minute_of_silence(space, app, cache):
    app.options.beat = 62
    with Listen(cache, API + "/heartbeat/s1", timeout=90) as beats:
        assert beats.next_event()
        began = time.monotonic()
        assert beats.next_event() and time.monotonic() - began > 60


# --- I58: uploads ---

def test_I58_an_upload_streams_through(start, sink):
    cache = start(config=mapped("own/sink", sink.url))
    size, before = 96 << 20, None
    with cache.connect(timeout=60 * SLOW) as conn:
        head = f"POST /_space/own/sink/gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {size}\r\n\r\n"
        conn.socket.sendall(head.encode())
        before, piece = cache.rss(), b"x" * (1 << 20)
        for _ in range(48):
            conn.socket.sendall(piece)
        wait_for(lambda: sink.received > 40 << 20, 20, why="the app having most of the half that was sent")
        for _ in range(48):
            conn.socket.sendall(piece)
        conn.methods.append("POST")
        answer = conn.read()
    assert answer.status == 200 and answer.body == b"ok" and sink.received == size
    grown = cache.rss() - before
    assert grown < 24 << 20 or SLOW > 1, f"{grown >> 20} MiB more"
    assert not cache.blobs() and cache.stored_bytes() == 0


def test_I58_an_app_that_does_not_read_holds_its_client_up(start, sink):
    cache = start(config=mapped("own/sink", sink.url))
    sink.may_read.clear()
    size, sent, before = 64 << 20, 0, None
    with cache.connect(timeout=60 * SLOW) as conn:
        conn.socket.sendall(f"POST /_space/own/sink/upload HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
        before = cache.rss()
        conn.socket.settimeout(2 * SLOW)
        try:
            while sent < size:
                sent += conn.socket.send(b"x" * min(1 << 20, size - sent))
        except TimeoutError:
            pass
        assert sent < 24 << 20, f"{sent >> 20} MiB were taken that nobody reads"
        assert cache.rss() - before < 8 << 20 or SLOW > 1
        sink.may_read.set()
        conn.socket.settimeout(60 * SLOW)
        while sent < size:
            sent += conn.socket.send(b"x" * min(1 << 20, size - sent))
        conn.methods.append("POST")
        assert conn.read().status == 200 and sink.received == size


def test_I58_one_whose_app_does_not_want_it(start):
    sink = Sink()
    sink.close()
    cache = start(config=mapped("own/gone", sink.url))
    answer = post(cache, "/_space/own/gone/upload", b"x" * 100000, kind="application/octet-stream")
    assert answer.status == 503 and b"configuration" in answer.body


# --- I59: cookies ---

def test_I59_a_cookie_belongs_to_its_space(hub, space, app, upstream, cache):
    other = upstream.add("gradio", beat=1)
    add_space(hub, OTHER, other)
    said = cache.get(TOP + "/")["Set-Cookie"]
    words = [word.strip() for word in said.split(";")]
    assert f"Path={TOP}/" in words and "HttpOnly" in words
    assert not {"domain", "secure"} & {w.lower().partition("=")[0] for w in words}, said
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    for path in (TOP + "/", TOP + "/config", OTHER_TOP + "/", OTHER_TOP + "/config", TOP + "/gradio_api/info", OTHER_TOP + "/gradio_api/info"):
        browser.open(cache.url + path).read()
    values = {cookie.value: cookie.path for cookie in jar}
    assert len(values) == 4
    for one, top in ((app, TOP), (other, OTHER_TOP)):
        sent = dict(pair.split("=") for pair in one.calls("/info")[-1].header("Cookie").split("; "))
        assert set(sent) == {"session", "spaces-jwt"} and all(values[v] == top + "/" for v in sent.values()), sent


def test_I59_who_sends_all_cookies_everywhere(hub, space, app, upstream, cache):
    """By name as well: other programs on this host have cookies too, and some clients send what they have."""
    other = upstream.add("gradio", beat=1)
    add_space(hub, OTHER, other)
    mine = cache.get(TOP + "/config")["Set-Cookie"].partition(";")[0]
    theirs = cache.get(OTHER_TOP + "/config")["Set-Cookie"].partition(";")[0]
    everything = f"grafana_session=secret; {theirs}; {mine}; session=old"
    cache.get(TOP + "/config", Cookie=everything)
    cache.get(OTHER_TOP + "/config", Cookie=everything)
    assert app.calls()[-1].header("Cookie") == "spaces-jwt=" + mine.partition("=")[2]
    assert other.calls()[-1].header("Cookie") == "spaces-jwt=" + theirs.partition("=")[2]


# --- I60: tokens ---

def test_I60_secrets_go_to_the_app_of_the_request_alone(hub, space, app, people, sink, cache):
    app.rule(path="^/away", status=307, headers={"Location": f"{sink.url}/config"})
    app.rule(path="^/within", status=302, headers={"Location": f"{app.url}/config?a=b"})
    app.rule(path="^/root", status=302, headers={"Location": "/login"})
    for named in ({"token": people.alice}, {"x_hf_authorization": f"Bearer {people.alice}"}):
        token = named.pop("token", None)
        cache.get(TOP + "/config", token, **named)
        seen = app.calls("config")[-1]
        assert (seen.header("Authorization") == f"Bearer {people.alice}") == (token is not None)
        assert (seen.header("x-hf-authorization") == f"Bearer {people.alice}") == (token is None)
        away = cache.get(TOP + "/away", token, **named)
        assert away.status == 307 and away["Location"] == f"{sink.url}/config"
        assert cache.get(TOP + "/within", token, **named)["Location"] == f"{cache.url}{TOP}/config?a=b"
        assert cache.get(TOP + "/root", token, **named)["Location"] == f"{TOP}/login"
    assert not sink.heads, "a redirect was followed"
    cache.get(TOP + "/config?both=1", people.alice, x_hf_authorization=f"Bearer {people.alice}")
    both = app.calls("both")[-1]
    assert both.header("Authorization") == both.header("x-hf-authorization") == f"Bearer {people.alice}"
    cache.get(f"/api/spaces/{APP}", people.alice)
    cache.get(TOP + "/config?again=1")
    assert not app.calls("again")[-1].header("Authorization"), "the token of another request"
    cache.get(TOP + "/config?__sign=abc")
    assert app.calls("__sign=abc")


def test_I60_an_app_of_ones_own_is_sent_no_token_of_the_hub(start, sink, people):
    cache = start(config=mapped("own/sink", sink.url + "/inner/"))
    cache.get("/_space/own/sink/a?b=c", people.alice, x_hf_authorization=f"Bearer {people.alice}")
    cache.get("/_space/own/sink/", headers=[("Authorization", "Bearer the-apps-own"), ("X-Forwarded-Host", "evil"), ("X-Forwarded-Port", "1")])
    (first, head), (second, own) = sink.heads
    assert first == "GET /inner/a?b=c HTTP/1.1" and second == "GET /inner/ HTTP/1.1"
    assert "authorization" not in head and "x-hf-authorization" not in head
    assert own["authorization"] == "Bearer the-apps-own"
    assert own["x-forwarded-host"] == f"127.0.0.1:{cache.port}" and own["x-forwarded-proto"] == "http" and "x-forwarded-port" not in own
    assert own["x-forwarded-prefix"] == "/_space/own/sink" and own["x-forwarded-for"] == "127.0.0.1"
    assert own["host"] == sink.url.removeprefix("http://")


def test_I60_hosts_that_are_no_spaces(hub, start):
    """What the Hub calls the host of a Space is asked only where Spaces are; not some host in the house."""
    cache = start(hub_metadata_ttl="0s")
    for host in ("http://169.254.169.254/latest", "https://evil.example", "http://acme-app.hf.space.evil.example", "file:///etc/passwd", ""):
        repo = hub.content.add_repo("space", APP)
        repo.commit({"README.md": "---\nsdk: docker\n---\n"})
        repo.app_url = host or None
        answer = cache.get(f"/_space/{APP}/", token=None)
        assert answer.status == 503 and b"hub.space-hosts" in answer.body, (host, answer)


# --- I62: mapped to an app of one's own ---

@pytest.mark.parametrize("how", ["offline", "there"])
def test_I62_a_mapped_space_asks_nobody_else(start, hub, app, how):
    cache = start(config=mapped("Own/App", app.url + "/"), hub_offline="yes" if how == "offline" else "no")
    hub.reset_counters()
    if how == "offline":
        hub.kill()
    top = "/_space/own/app"
    for path in ("/api/spaces/own/app", "/api/spaces/Own/App", "/api/spaces/by-subdomain/own-app"):
        info = cache.get(path).json()
        assert info["id"] == "Own/App" and info["host"] == f"{cache.url}/_space/Own/App/" and info["subdomain"] == "own-app"
        assert info["runtime"]["stage"] == "RUNNING"
    assert cache.get("/api/spaces/own/app/runtime").json()["stage"] == "RUNNING"
    told = cache.get("/api/spaces/own/app/host", If_None_Match=cache.get("/api/spaces/own/app")["ETag"])
    assert told.json() == {"subdomain": "own-app", "host": f"{cache.url}/_space/Own/App/"} and told["ETag"]
    assert f"{cache.url}/_space/Own/App/" in cache.get("/spaces/own/app/agents.md").text
    assert cache.get(top + "/config").json()["root"] == cache.url + top
    assert result_of(session(cache, top))["label"] == "POSITIVE"
    assert cache.get(top + "/redirect")["Location"] == f"{cache.url}{top}/config"
    assert not [c for c in hub.calls() if "own" in c.path.lower()], "the Hub was asked"
    app.kill()
    assert cache.get(top + "/config").status == 503


def test_I62_a_page_of_an_app_of_ones_own(start, app):
    """Its own address, that by which it knows itself, and ours: all are ours, and none twice."""
    cache = start(config=mapped("own/app", app.url))
    for root in (app.url, None, "{us}/_space/own/app"):
        app.options.root = root and root.format(us=cache.url)
        assert cache.get("/_space/own/app/config").json()["root"] == f"{cache.url}/_space/own/app", root


# --- I63: WebSockets ---

def frame(text, code=1):
    mask, content = b"\1\2\3\4", text.encode()
    size = bytes((0x80 | len(content),)) if len(content) < 126 else bytes((0x80 | 126,)) + len(content).to_bytes(2, "big")
    return bytes((0x80 | code,)) + size + mask + bytes(b ^ mask[n % 4] for n, b in enumerate(content))


class Socket:
    """A WebSocket, as far as a test needs one."""

    def __init__(self, cache, path, headers=(), early=b""):
        self.conn = Connection(("127.0.0.1", cache.port), timeout=20)
        named = [("Host", self.conn.host), ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                 ("Sec-WebSocket-Version", "13"), *headers]
        head = f"GET {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in named) + "\r\n"
        self.conn.socket.sendall(head.encode() + early)
        while b"\r\n\r\n" not in self.conn.buffer:
            assert self.conn._more(), f"no answer: {self.conn.ended}"
        text, _, self.conn.buffer = self.conn.buffer.partition(b"\r\n\r\n")
        self.answer = Answer(text)

    def send(self, text, code=1):
        self.conn.socket.sendall(frame(text, code))

    def _bytes(self, count):
        while len(self.conn.buffer) < count:
            assert self.conn._more(), f"it ended: {self.conn.ended}"
        found, self.conn.buffer = self.conn.buffer[:count], self.conn.buffer[count:]
        return found

    def receive(self):
        size = self._bytes(2)[1] & 127
        return self._bytes(int.from_bytes(self._bytes(2), "big") if size == 126 else size).decode()

    def is_over(self):
        return not self.conn._more()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.conn.close()


@pytest.mark.parametrize("how", ["hub", "own"])
def test_I63_a_socket_to_an_app(start, hub, space, app, people, how):
    cache = start(config=mapped("own/app", app.url) if how == "own" else None)
    top = TOP if how == "hub" else "/_space/own/app"
    cookie = cache.get(top + "/config")["Set-Cookie"].partition(";")[0]
    with Socket(cache, top + "/ws?a=b", [("Origin", cache.url), ("Cookie", f"{cookie}; grafana=1"), ("Authorization", f"Bearer {people.alice}")],
                frame("early")) as one:
        assert one.answer.status == 101 and one.answer["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert one.receive() == "early"
        for text in ("hello", "x" * 60000, "and again"):
            one.send(text)
            assert one.receive() == text
        time.sleep(0.2)
        one.send("later")
        assert one.receive() == "later"
        seen = app.calls("/ws")[-1]
        assert seen.path == "/ws" and seen.query == "a=b" and seen.header("Host") == app.url.removeprefix("http://") and seen.header("Origin") == app.url
        assert seen.header("Cookie") == "spaces-jwt=" + cookie.partition("=")[2]
        assert seen.header("Authorization") == (f"Bearer {people.alice}" if how == "hub" else None)
        one.send("", 8)
        wait_for(one.is_over, why="the end")


def test_I63_only_to_apps_and_by_those_who_may_see_them(hub, app, people, cache):
    add_space(hub, "acme/secret", app, private=True)
    hub.content.add_token(people.alice, "alice", {"acme/secret"})
    for path in ("/", "/-/status", "/api/models/acme/pub", "/acme/pub/resolve/main/config.json", "/v1/realtime", "/_space/acme/page/",
                 "/somewhere/ws"):
        with Socket(cache, path) as one:
            assert one.answer.status == 400, (path, one.answer)
    for token in (None, people.bob):
        with Socket(cache, "/_space/acme/secret/ws", fields(token)) as one:
            assert one.answer.status in (401, 404), one.answer
    assert not app.calls("/ws")
    with Socket(cache, "/_space/acme/secret/ws", fields(people.alice)) as one:
        assert one.answer.status == 101
        one.send("hello")
        assert one.receive() == "hello"
    with Socket(cache, "/_space/acme/secret/config", fields(people.alice)) as one:
        assert one.answer.status >= 400, "the app opened none"
    app.kill()
    with Socket(cache, "/_space/acme/secret/ws", fields(people.alice)) as one:
        assert one.answer.status == 503
    assert cache.get("/-/healthz").status == 200


# --- I64: private ones ---

def test_I64_a_private_space_is_for_those_who_may_see_it(hub, app, people, start):
    cache = start()
    add_space(hub, "acme/secret", app, private=True)
    hub.content.add_token(people.alice, "alice", {"acme/secret"})
    top = "/_space/acme/secret"
    by_field = {"x_hf_authorization": f"Bearer {people.alice}"}
    for _ in range(2):
        assert cache.get("/api/spaces/acme/secret", people.alice).json()["host"] == f"{cache.url}{top}/"
        assert cache.get(top + "/config", people.alice).status == cache.get(top + "/config", **by_field).status == 200
        asked = len(app.calls())
        for token in (people.bob, None):
            for path in ("/api/spaces/acme/secret", "/api/spaces/acme/secret/host", top + "/", top + "/config", top + "/assets/app.js"):
                answer = cache.get(path, token)
                assert answer.status in (401, 404) and app.url.encode() not in answer.body, (path, answer)
            assert cache.get(top + "/config", x_hf_authorization=f"Bearer {people.bob}").status in (401, 404)
            assert post(cache, top + "/gradio_api/queue/join", {"data": []}, token).status in (401, 404)
        assert len(app.calls()) == asked, "who may not see it reached the app"
    hub.kill()
    app.kill()
    cache.until_known_down()
    assert cache.get("/api/spaces/acme/secret", people.alice).json()["runtime"]
    assert cache.get(top + "/config", people.alice).json()["root"] == f"{cache.url}{top}"
    for path in ("/api/spaces/acme/secret", "/api/spaces/acme/secret/host", top + "/config"):
        for token in (people.bob, None):
            answer = cache.get(path, token)
            assert answer.status >= 400 and b"gradio" not in answer.body, (path, answer)


# --- what is kept ---

KEPT = ("/", "/config", "/gradio_api/info", "/gradio_api/info?serialize=False", "/theme.css?v=1", "/assets/app.js", "/static/img/logo.svg")


def look(cache):
    return {path: cache.get(TOP + path) for path in KEPT}


def test_what_opens_the_app_is_kept(hub, space, app, cache):
    first = look(cache)
    assert all(a.status == 200 for a in first.values())
    wait_for(lambda: len(cache.blobs()) >= len(KEPT) - 1, why="what came being kept")
    app.reset_counters()
    again = look(cache)
    assert all(again[p].body == first[p].body for p in KEPT if p not in ("/", "/config"))
    assert not app.calls("/assets/") and not app.calls("theme") and not app.calls("/static/"), "what was built was asked for again"
    assert app.calls("/config") and app.calls("/info"), "what may change was not asked for"
    assert cache.get(TOP + "/assets/app.js", If_None_Match=again["/assets/app.js"]["ETag"]).status == 304
    app.kill()
    hub.kill()
    cache.until_known_down()
    for _ in range(2):
        stale = look(cache)
        for path, answer in stale.items():
            assert answer.status == 200 and answer["Content-Type"] == first[path]["Content-Type"], (path, answer)
            assert "sandbox allow-scripts" in answer["Content-Security-Policy"]
        assert stale["/config"].json()["root"] == f"{cache.url}{TOP}" and "stale" in stale["/config"]["Cache-Status"]
        assert f'"root": "{cache.url}{TOP}"' in stale["/"].text and stale["/"]["Set-Cookie"] is None
        for path in ("/gradio_api/heartbeat/s1", "/gradio_api/queue/data?session_hash=s1", "/gradio_api/file=/srv/x", "/other"):
            assert cache.get(TOP + path).status == 503, path
        assert post(cache, API + "/queue/join", {"data": []}).status == 503
        cache.restart(hub_offline="yes")


def test_what_was_said_to_one_is_kept_for_that_one(hub, space, app, people, cache):
    """An app may answer each user in another way."""
    app.rule(path="^/config", header={"Authorization": ".+"}, status=200, body=b'{"for": "alice"}', headers={"Content-Type": "application/json"})
    app.rule(path="^/config", header={"Cookie": ".+"}, status=200, body=b'{"for": "a cookie"}', headers={"Content-Type": "application/json"})
    crumb = cache.get(TOP + "/")["Set-Cookie"].partition(";")[0]
    assert cache.get(TOP + "/config", people.alice).json() == {"for": "alice"}
    assert cache.get(TOP + "/config", Cookie=crumb).json() == {"for": "a cookie"}
    time.sleep(0.3)
    app.kill()
    for token in (None, people.bob):
        assert cache.get(TOP + "/config", token).status == 503
    assert wait_for(lambda: cache.get(TOP + "/config", people.alice).json()) == {"for": "alice"}


def test_another_commit_has_files_of_its_own(hub, space, app, start):
    cache = start(hub_metadata_ttl="0s")
    cache.get(TOP + "/assets/app.js")
    wait_for(lambda: "hit" in cache.get(TOP + "/assets/app.js")["Cache-Status"])
    space.commit({"app.py": "print(2)\n"})
    app.reset_counters()
    assert cache.get(TOP + "/assets/app.js").status == 200 and app.calls("/assets/app.js")


def test_half_an_answer_is_not_kept(space, app, cache):
    app.rule(path="/assets/", cut_after=5)
    assert not cache.get(TOP + "/assets/app.js").complete
    app.clear_rules()
    app.reset_counters()
    assert cache.get(TOP + "/assets/app.js").status == 200 and app.calls("/assets/")


# --- what a page may do ---

def test_a_page_of_an_app_is_nobody(space, cache):
    answer = cache.get(TOP + "/")
    policy = dict(part.strip().split(" ", 1) for part in answer["Content-Security-Policy"].split(";"))
    assert "allow-scripts" in policy["sandbox"] and "allow-same-origin" not in policy["sandbox"] and "allow-top" not in policy["sandbox"]
    own = f"{cache.url}{TOP}/"
    assert own in policy["connect-src"] and own.replace("http", "ws", 1) in policy["connect-src"]
    assert not {cache.url, cache.url + "/", "*", "http:", "'self'"} & {w for words in policy.values() for w in words.split()}
    asked = cache.get(API + "/info", Origin="null")
    assert asked["Access-Control-Allow-Origin"] == "*" and asked["Access-Control-Allow-Credentials"] is None
    assert asked["Cross-Origin-Resource-Policy"] == "cross-origin"
    allowed = cache.ask("OPTIONS", API + "/queue/join", Origin="null", Access_Control_Request_Method="POST",
                        Access_Control_Request_Headers="content-type")
    assert allowed.status == 204 and "POST" in allowed["Access-Control-Allow-Methods"]


def test_answers_that_are_no_text_of_gradio_pass_as_they_are(start, sink):
    cache = start(config=mapped("own/sink", sink.url))
    for kind, body in (("application/octet-stream", f'{{"url": "{sink.url}/x"}}'), ("application/json", f'{{"url": "{sink.url}/x"}}'),
                       ("text/plain", f'window.gradio_config = {{"root": "{sink.url}"}}')):
        sink.answer = (f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nETag: \"7\"\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode()
        answer = cache.get("/_space/own/sink/x/y")
        assert answer.text == body and answer["ETag"] == '"7"' and answer["Content-Length"] == str(len(body))
