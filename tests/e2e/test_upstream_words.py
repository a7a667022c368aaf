# SPDX-License-Identifier: Apache-2.0
"""Upstream says what it should not: redirects to elsewhere, answers that are no JSON, a 404 that somebody planted (reliability A.4, U06 to U14)."""
import json
import socket
import time

import pytest

from facts import CONFIG, MODEL, PUB, assert_whole, at_commit, bytes_of, commit_of, file_of
from harness import wait_for, within
from wire import fields


class Trap:
    """A listener that must not be spoken to."""

    def __init__(self, address="127.0.0.2"):
        self.socket = socket.create_server((address, 0))
        self.url = "http://%s:%d" % self.socket.getsockname()[:2]

    def had_visitors(self):
        self.socket.setblocking(False)
        try:
            self.socket.accept()
            return True
        except BlockingIOError:
            return False
        finally:
            self.socket.close()


@pytest.mark.parametrize("path", ["model.safetensors", "config.json"])
def test_U08_redirect_to_an_unlisted_host(hub, cache, path):
    trap = Trap()
    hub.rule("hub", method="GET|HEAD", path=f"resolve/[^/]+/{path}", redirect_to=f"{trap.url}/{path}",
             headers={"X-Repo-Commit": commit_of(hub).id, "X-Linked-Etag": f'"{file_of(hub, path).etag}"',
                      "X-Linked-Size": str(file_of(hub, path).size)})
    answer = cache.get(f"/acme/pub/resolve/main/{path}")
    assert answer.status == 502 or not answer.complete, answer
    assert not trap.had_visitors(), "it connected to a host that is not listed"
    assert not cache.blobs()


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/", "//127.0.0.2:1/x", "http://", "http://[::1", "",
                                    "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/x", "http://user:pass@127.0.0.2:1/"])
def test_U07_redirects_to_what_is_no_place(hub, cache, target):
    hub.rule("hub", path="resolve/[^/]+/config", redirect_to=target or " ", headers={"X-Repo-Commit": commit_of(hub).id})
    answer = within(3, lambda: cache.get(CONFIG))
    assert answer.status == 502, answer
    assert b"root:" not in answer.body


@pytest.mark.parametrize("what", [dict(redirect_to="self"), dict(redirect_chain=20)])
def test_U07_loops(hub, cache, what):
    rule = hub.rule("hub", path="resolve/[^/]+/config", **what)
    answer = cache.get(CONFIG)
    assert answer.status == 502 and rule.hits <= 40, (rule.hits, answer)
    rule.remove()
    assert_whole(cache.get(CONFIG), hub, "config.json")


def test_redirect_to_another_port_of_loopback_gets_no_token(hub, cache, people):
    from hubdouble import HubDouble
    with HubDouble() as other:
        data = bytes_of(hub, "config.json", "acme/gated")
        other.rule(path="/elsewhere", body=data)
        hub.rule("hub", path="acme/gated/resolve/[^/]+/config", redirect_to=f"{other.url}/elsewhere", headers={
            "X-Repo-Commit": commit_of(hub, "acme/gated").id, "X-Linked-Etag": f'"{file_of(hub, "config.json", "acme/gated").oid}"',
            "X-Linked-Size": str(len(data))})
        answer = cache.get("/acme/gated/resolve/main/config.json", people.alice)
        assert answer.status == 200 and answer.body == data
        calls = other.calls("hub", "elsewhere")
        assert calls and all(c["authorization"] is None and c.header("Cookie") is None for c in calls)


BAD_JSON = {"truncated": b'{"id":"acme/pub","sha":"', "html": b"<html></html>", "deep": b"[" * 100_000, "number": b"17", "null": b"null",
            "utf8": b'{"id":"\xff\xfe","sha":"x"}', "nan": b'{"sha":NaN}', "types": b'{"id":5,"sha":{"a":1},"siblings":"no"}', "empty": b"",
            "negative": b'[{"type":"file","oid":"%s","size":-5,"path":"config.json"}]' % (b"a" * 40),
            "huge_size": b'[{"type":"file","oid":"%s","size":1e300,"path":"config.json"}]' % (b"a" * 40)}


@pytest.mark.parametrize("kind", BAD_JSON)
@pytest.mark.parametrize("target", ["/api/models/acme/pub/revision/main", "/api/models/acme/pub/tree/main?recursive=true"])
def test_U06_json_that_is_none(hub, cache, kind, target):
    rule = hub.rule("hub", path="/revision/main" if "revision" in target else "/tree/", swap_body=BAD_JSON[kind])
    answer = cache.get(target)
    assert answer.status == 502, answer
    assert answer["X-Error-Code"] is None and answer["Retry-After"]
    rule.remove()
    assert cache.get(target).status == 200
    assert_whole(cache.get(at_commit(hub, "config.json")), hub, "config.json")


def test_U06_a_bad_answer_does_not_push_out_a_good_one(hub, start):
    cache = start(hub_metadata_ttl="1s", hub_revision_ttl="1s")
    good = cache.get("/api/models/acme/pub").body
    time.sleep(1.2)
    hub.rule("hub", path="/api/models/acme/pub", swap_body=b'{"id":')
    answer = cache.get("/api/models/acme/pub")
    assert answer.status == 502 or answer.body == good
    hub.kill()
    assert wait_for(lambda: (a := cache.get("/api/models/acme/pub")).status == 200 and a, 10, 0.3).body == good


def test_U14_a_poisoned_404_passes(hub, start):
    cache = start(hub_revision_ttl="1s")
    rule = hub.rule("hub", path="resolve/main/config", status=404, headers={
        "X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": commit_of(hub).id})
    assert cache.get(CONFIG).status == 404
    rule.remove()
    hub.content.repo(PUB).commit({"config.json": '{"now": 1}\n'})
    time.sleep(1.2)
    assert_whole(wait_for(lambda: (a := cache.get(CONFIG)).status == 200 and a, 65, 0.5), hub, "config.json")


def test_upstream_sees_a_good_citizen(hub, cache):
    """What goes upstream is what a single polite client would send."""
    assert cache.get(MODEL, headers=fields(Cookie="a=b", X_Forwarded_For="1.2.3.4", Forwarded="for=1.2.3.4", User_Agent="my-client/1.0",
                                           X_Evil="1", Accept_Encoding="gzip")).status == 200
    for call in hub.calls():
        names = {k.lower() for k, _ in call["headers"]}
        assert not names & {"cookie", "x-forwarded-for", "forwarded", "x-evil", "te"}, call["headers"]
        assert call.header("Accept-Encoding") in (None, "identity")
    assert any("my-client/1.0" in (c.header("User-Agent") or "") for c in hub.calls("hub"))
