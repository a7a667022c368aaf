# SPDX-License-Identifier: Apache-2.0
"""What is passed through, and what browsers need (hub-protocol 10.4: A15 to A19)."""
from threading import Event

import pytest

from facts import CONFIG, EXPOSED, MODEL, PUB, bytes_of
from harness import wait_for
from wire import fields


def test_A15_events_come_as_they_are_made(hub, cache):
    one_came = Event()
    hub.rule(path="^/api/spaces/acme/page/logs/build", body=b"data: one\n\ndata: two\n\n", headers={"Content-Type": "text/event-stream"},
             chunked=True, stall_after=11, stall_for=one_came)
    with cache.connect() as conn:
        conn.request("GET", "/api/spaces/acme/page/logs/build", fields(Accept="text/event-stream"))
        answer = conn.head()
        assert answer.status == 200 and answer["Content-Type"].startswith("text/event-stream")
        while b"data: one" not in conn.buffer:
            assert conn._more(), "no event came"
        one_came.set()
        assert b"data: two\n\n" in conn.body(answer).body


@pytest.mark.parametrize("method,target", [
    ("GET", "/api/experimental/thing?b=2&a=1&a=0"), ("POST", "/api/models/acme/pub/discussions"), ("PUT", "/api/models/acme/pub/settings"),
    ("DELETE", "/api/models/acme/pub/tag/v1"), ("PATCH", "/api/models/acme/pub/x"), ("GET", "/api/models/acme/pub/likers"),
    ("POST", "/api/validate-yaml"), ("GET", "/api/models?search=x&filter=a&filter=b")])
def test_A16_unknown_calls_are_forwarded(hub, cache, people, method, target):
    hub.rule(path=target.split("?")[0], status=218, body=b'{"made":"up"}', headers={
        "Content-Type": "application/json; charset=utf-8", "X-Request-Id": "up-1", "X-Error-Code": "Odd", "X-Error-Message": "odd thing",
        "X-Total-Count": "17"})
    body = b'{"z":1, "a":2}' if method in ("POST", "PUT", "PATCH") else None
    headers = fields(people.alice, Content_Type="application/json") if body else fields(people.alice)
    with cache.connect() as conn:
        answer = conn.ask(method, target, headers + fields(Connection="keep-alive, X-Hop", Keep_Alive="timeout=5", X_Hop="1"), body)
    assert answer.status == 218 and answer.body == b'{"made":"up"}'
    assert answer["X-Error-Code"] == "Odd" and answer["X-Error-Message"] == "odd thing" and answer["X-Total-Count"] == "17"
    call = hub.calls("hub")[-1]
    assert call["method"] == method and call["target"] == target and call["authorization"] == f"Bearer {people.alice}"
    names = {k.lower() for k, _ in call["headers"]}
    assert not names & {"x-hop", "keep-alive", "te", "proxy-authorization", "upgrade"}
    assert (call.header("Connection") or "").lower() in ("", "keep-alive")
    if body:
        assert call.header("Content-Type") == "application/json" and call.header("Content-Length") == str(len(body))


def test_A16_answers_are_not_kept(hub, cache):
    hub.rule(path="/api/experimental", status=[200, 201], body=[b"1", b"2"])
    assert cache.get("/api/experimental").body == b"1"
    assert cache.get("/api/experimental").body == b"2"
    assert b"Sorry" in cache.get("/api/experimental").body


def test_A16_bodies_reach_upstream_whole(hub, cache, people):
    seen = []
    hub.rule(path="/api/models/acme/pub/commit/", when=lambda r: seen.append(r.body) or True, body=b"{}")
    data = b"".join(b'{"key":"line","value":%d}\n' % i for i in range(100_000))
    assert cache.ask("POST", "/api/models/acme/pub/commit/main", people.writer, body=data).status == 200
    assert seen == [data]
    with cache.connect() as conn:
        conn.request("POST", "/api/models/acme/pub/commit/main", fields(people.writer, Transfer_Encoding="chunked"), b"")
        for at in range(0, len(data), 50_000):
            piece = data[at:at + 50_000]
            conn.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        conn.send(b"0\r\n\r\n")
        assert conn.read().status == 200
    assert seen == [data, data]


@pytest.mark.parametrize("target", [CONFIG, MODEL, "/api/models/acme/pub", "/api/models/acme/pub/tree/main", "/api/experimental"])
def test_A17_what_upstream_may_not_set(hub, cache, target):
    if "experimental" in target:
        hub.rule(path="experimental", body=b"{}")
    hub.rule("any", add_header=[("Set-Cookie", "a=b"), ("Set-Cookie", "c=d"), ("X-Xet-Hash", "0" * 64), ("Strict-Transport-Security", "max-age=1"),
                                ("Clear-Site-Data", '"*"'), ("Alt-Svc", 'h3=":443"'), ("Refresh", "0; url=http://evil.test/")])
    for _ in range(2):
        answer = cache.get(target)
        assert answer.status == 200, answer
        assert not answer.names() & {"set-cookie", "x-xet-hash", "strict-transport-security", "clear-site-data", "alt-svc", "refresh",
                                     "x-powered-by", "keep-alive"}, answer.fields
        assert answer["X-Request-Id"]


def test_A17_what_upstream_says_of_errors_is_kept(hub, cache):
    warnings = [("X-HF-Warning", "one; first"), ("X-HF-Warning", "two; second")]
    hub.rule(path="/api/models/acme/pub/odd", status=409, body=b'{"error":"no"}', headers={"X-Error-Code": "Odd", "X-Error-Message": "said so"},
             add_header=warnings)
    answer = cache.get("/api/models/acme/pub/odd")
    assert answer.status == 409 and answer["X-Error-Code"] == "Odd" and answer["X-Error-Message"] == "said so"
    assert answer.all("X-HF-Warning") == [v for _, v in warnings] and answer.json() == {"error": "no"}


def test_A17_request_ids_are_kept_together(hub, cache):
    answer = cache.get(CONFIG, X_Amzn_Trace_Id="trace-of-a-client-1")
    assert "trace-of-a-client-1" in answer["X-Request-Id"]
    assert any("trace-of-a-client-1" in str(c["headers"]) for c in hub.calls("hub"))
    wait_for(lambda: "trace-of-a-client-1" in cache.stderr(), 5)   # the line is written when the request has ended


def test_A18_preflight(hub, cache):
    for target in (MODEL, "/api/models/acme/pub", "/api/whoami-v2"):
        hub.reset_counters()
        answer = cache.ask("OPTIONS", target, Origin="https://page.test", Access_Control_Request_Method="GET",
                           Access_Control_Request_Headers="range, authorization")
        assert answer.status == 204 and answer.body == b""
        assert answer["Access-Control-Allow-Origin"] in ("*", "https://page.test")
        allowed = answer["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
        assert {"range", "authorization"} <= set(allowed) or allowed == ["*"]
        assert {"GET", "HEAD", "POST", "OPTIONS"} <= set(answer["Access-Control-Allow-Methods"].replace(" ", "").split(","))
        assert answer["Access-Control-Allow-Credentials"] is None


def test_A18_answers_can_be_read_by_pages(hub, cache):
    for answer in (cache.get(MODEL, Origin="https://page.test", Range="bytes=0-9"), cache.get(MODEL, Origin="https://page.test"),
                   cache.get("/acme/pub/resolve/main/nothing", Origin="https://page.test"),
                   cache.get("/api/models/acme/pub/tree/main", Origin="https://page.test"),
                   cache.get("/api/models/acme/none", Origin="https://page.test"), cache.get(MODEL, Range="bytes=99999999-", Origin="https://page.test")):
        assert answer["Access-Control-Allow-Origin"] in ("*", "https://page.test"), answer
        shown = {n.strip().lower() for n in answer["Access-Control-Expose-Headers"].split(",")}
        assert {n.lower() for n in EXPOSED} <= shown and not [n for n in shown if "xet" in n]
        assert "origin" in answer["Vary"].lower()
    own = cache.get("/-/status", Origin="https://page.test")
    assert own["Access-Control-Allow-Origin"] is None


def test_A19_text_that_names_the_hub_is_left_alone(hub, cache):
    text = (f"---\nlicense: mit\nsource: {hub.url}/acme/pub\nhome: https://huggingface.co/acme/pub\n---\n"
            f"See https://huggingface.co/acme and {hub.url}/acme/pub/resolve/main/config.json\n")
    hub.content.repo(PUB).commit({"README.md": text, "notes.json": '{"url": "%s/x"}' % hub.url})
    info = cache.get("/api/models/acme/pub").json()
    assert info["cardData"]["source"] == f"{hub.url}/acme/pub" and info["cardData"]["home"] == "https://huggingface.co/acme/pub"
    for path in ("README.md", "notes.json"):
        for _ in range(2):
            assert cache.get(f"/acme/pub/resolve/main/{path}").body == bytes_of(hub, path)
    assert cache.get("/acme/pub/raw/main/README.md").body == bytes_of(hub, "README.md")
