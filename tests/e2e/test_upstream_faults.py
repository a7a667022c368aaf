# SPDX-License-Identifier: Apache-2.0
"""Upstream misbehaves (reliability A.4 and C.5): no wrong byte, no clean short end, nothing bad stored, right again afterwards."""
import json
import socket
import time

import pytest

from facts import (CONFIG, MODEL, MODEL_BYTES, PUB, assert_no_clean_end, assert_whole, at_commit, bytes_of, commit_of, file_of)
from harness import SLOW, wait_for
from wire import fields

BYTES = "xet-bridge|resolve-cache"
RIGHT = "right"        # the client must see the true file
REFUSED = "refused"    # an error of ours, or a broken body
EITHER = "either"

FAULTS = {
    "wrong_bytes": (dict(wrong_bytes="30%"), REFUSED), "wrong_last_byte": (dict(wrong_bytes=-1), REFUSED),
    "short": (dict(truncate="50%"), REFUSED), "one_short": (dict(truncate=-1), REFUSED), "empty": (dict(truncate=0), REFUSED),
    "other_file": (dict(swap_body=b"<html>error</html>"), REFUSED), "gzip": (dict(gzip=True), REFUSED),
    "length_too_small": (dict(content_length=-10), REFUSED), "length_too_big": (dict(content_length=10), EITHER),
    "no_length": (dict(drop_header=["Content-Length"]), EITHER), "two_lengths": (dict(add_header=[("Content-Length", "5")]), REFUSED),
    "chunked": (dict(chunked=True), EITHER), "broken_chunks": (dict(chunked="broken"), REFUSED),
    "unterminated": (dict(chunked="unterminated"), EITHER), "trailing": (dict(trailing=b"more" * 100), EITHER),
    "nonsense": (dict(raw=b"nonsense\r\n\r\n"), REFUSED), "no_answer": (dict(close="fin"), REFUSED), "reset": (dict(close="reset"), REFUSED),
    "reset_in_head": (dict(reset_after=12, from_head=True), REFUSED), "html_200": (dict(body="<html>Bad gateway</html>"), REFUSED),
    "many_headers": (dict(many_headers=10_000), EITHER), "huge_header": (dict(set_header={"X-Huge": "x" * 1_000_000}), EITHER),
    "control_bytes": (dict(set_header={"X-Odd": b"\x01\x02"}), EITHER), "force_206": (dict(force_206=True), EITHER),
    "lying_206": (dict(force_206=True, wrong_content_range=True), REFUSED),
    "404": (dict(status=404), REFUSED), "500": (dict(status=500), REFUSED), "503": (dict(status=503), REFUSED), "416": (dict(status=416), REFUSED)}


@pytest.mark.parametrize("path", ["model.safetensors", "README.md"])
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_of_bytes(hub, cache, fault, path):
    what, wanted = FAULTS[fault]
    url = f"/acme/pub/resolve/main/{path}"
    rule = hub.rule("any", method="GET", path=BYTES, **what)
    answer = cache.expect("error").get(url, timeout=60)
    if answer.status == 200 and answer.complete:
        assert wanted != REFUSED, f"a clean end: {answer}"
        assert answer.body == bytes_of(hub, path)
    elif answer.complete:
        assert wanted != RIGHT and 400 <= answer.status < 600 and answer.status != 404 or fault == "404", answer
        assert answer["X-Error-Code"] != "EntryNotFound" and answer["X-Repo-Commit"] is None, answer
    else:
        assert_no_clean_end(answer)
        assert answer.partial == bytes_of(hub, path)[:answer.received] or fault in ("wrong_bytes", "other_file", "html_200")
    rule.remove()
    assert cache.check_store() <= 1
    assert_whole(wait_for(lambda: (a := cache.get(url, timeout=60)).status == 200 and a, 40, 0.5), hub, path)
    hub.kill()
    assert_whole(cache.get(url), hub, path)


@pytest.mark.parametrize("fault", ["ignore_range", "wrong_content_range", "validator", "expire_signature", "416"])
def test_fault_of_a_resumed_range(hub, cache, fault):
    """The first transfer breaks half way; what the second one brings is not the rest of the first."""
    hub.rule("cdn", nth=1, cut_after="50%")
    second = {"ignore_range": dict(ignore_range=True), "wrong_content_range": dict(wrong_content_range="bytes 0-99/100"),
              "validator": dict(set_header={"ETag": '"another"'}), "expire_signature": dict(expire_signature=True), "416": dict(status=416)}
    hub.rule("cdn", nth=2, **second[fault])
    answer = cache.expect("error").get(MODEL, timeout=60)
    if answer.complete and answer.status == 200:
        assert answer.body == bytes_of(hub, "model.safetensors")
    else:
        assert fault not in ("ignore_range", "expire_signature"), f"this could have been made good: {answer}"
        assert not answer.complete or answer.status >= 500
    assert_whole(cache.get(MODEL, timeout=60), hub, "model.safetensors")
    assert cache.check_store() == 1


def test_ignored_range_is_not_appended(hub, cache):
    hub.rule("cdn", ignore_range=True)
    part = cache.get(MODEL, Range="bytes=1000000-1000099", timeout=60)
    assert part.status == 206 and part.body == bytes_of(hub, "model.safetensors")[1000000:1000100]
    assert_whole(cache.get(MODEL), hub, "model.safetensors")


def test_commit_changes_between_head_and_bytes(hub, cache):
    hub.rule("hub", method="GET", path="resolve/", commit="d" * 40)
    answer = cache.expect("error").get(MODEL, timeout=60)
    assert not (answer.status == 200 and answer["X-Repo-Commit"] == commit_of(hub).id and answer.complete
                and answer.body != bytes_of(hub, "model.safetensors"))
    assert cache.check_store() <= 1


@pytest.mark.parametrize("etag", ["not-hex", "", '"' + "g" * 64 + '"', '"' + "a" * 63 + '"', "x" * 5000])
def test_U15_identity_that_is_none(hub, cache, etag):
    hub.rule("hub", path="resolve/main/model", set_header={"X-Linked-Etag": etag, "ETag": etag})
    answer = cache.expect("error").get(MODEL, timeout=60)
    if answer.status == 200 and answer.complete:
        assert answer.body == bytes_of(hub, "model.safetensors")
    else:
        assert answer.status in (0, 200, 502), answer
    assert set(cache.blobs()) <= {file_of(hub, "model.safetensors").sha256}


@pytest.mark.parametrize("size", ["1000", "-5", "99999999999999999999", str(MODEL_BYTES + 1), "abc"])
def test_U15_size_that_lies(hub, cache, size):
    rule = hub.rule("hub", path="resolve/main/model", set_header={"X-Linked-Size": size})
    answer = cache.expect("error").get(MODEL, timeout=60)
    assert not (answer.status == 200 and answer.complete and answer.body != bytes_of(hub, "model.safetensors")), "a clean wrong end"
    rule.remove()
    assert_whole(wait_for(lambda: (a := cache.get(MODEL)).status == 200 and a.complete and a, 40, 0.5), hub, "model.safetensors")


@pytest.mark.parametrize("where", ["hub", "cdn"])
def test_stall_is_given_up(hub, start, where):
    cache = start()
    hub.rule(where, method="GET", path=BYTES if where == "cdn" else "/resolve/", stall_after=0, from_head=True, times=1)
    began = time.monotonic()
    answer = cache.get(MODEL, timeout=65)
    assert time.monotonic() - began < 62 * SLOW, "a client waited over a minute without a byte or an error"
    if answer.status == 200:
        assert_whole(answer, hub, "model.safetensors")
    else:
        assert answer.status == 504 and answer["Retry-After"], answer
    assert_whole(cache.get(MODEL, timeout=65), hub, "model.safetensors")


def test_429_is_passed_on_and_over(hub, cache):
    hub.rule("hub", path="resolve", status=429, times=4, headers={"Retry-After": "1", "RateLimit": '"resolvers";r=0;t=1'})
    answer = cache.get(CONFIG, timeout=30)
    assert answer.status in (200, 429), answer
    if answer.status == 429:
        assert answer["Retry-After"] or answer["RateLimit"]
    assert_whole(wait_for(lambda: (a := cache.get(CONFIG)).status == 200 and a, 20, 0.5), hub, "config.json")


@pytest.mark.parametrize("wait", ["1000000000", "Wed, 21 Oct 2099 07:28:00 GMT", "-5", "soon"])
def test_U13_absurd_waits_do_not_hang_a_client(hub, cache, wait):
    hub.rule("hub", path="resolve", status=429, headers={"Retry-After": wait})
    began = time.monotonic()
    answer = cache.get(CONFIG, timeout=30)
    assert answer.status in (429, 503) and time.monotonic() - began < 20 * SLOW


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
    began = time.monotonic()
    answer = cache.get(CONFIG)
    assert answer.status == 502, answer
    assert b"root:" not in answer.body and time.monotonic() - began < 3 * SLOW


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
