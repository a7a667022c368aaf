# SPDX-License-Identifier: Apache-2.0
"""Upstream misbehaves (reliability A.4 and C.5): no wrong byte, no clean short end, nothing bad stored, right again afterwards."""
import time

import pytest

from facts import CONFIG, MODEL, MODEL_BYTES, assert_no_clean_end, assert_whole, bytes_of, commit_of, file_of
from harness import SLOW, wait_for

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


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


@pytest.mark.parametrize("path", ["model.safetensors", "README.md"])
@pytest.mark.parametrize("fault", [slow(f) if f == "broken_chunks" else f for f in FAULTS])
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


@pytest.mark.parametrize("size", [slow("1000"), "-5", "99999999999999999999", slow(str(MODEL_BYTES + 1)), "abc"])
def test_U15_size_that_lies(hub, cache, size):
    rule = hub.rule("hub", path="resolve/main/model", set_header={"X-Linked-Size": size})
    answer = cache.expect("error").get(MODEL, timeout=60)
    assert not (answer.status == 200 and answer.complete and answer.body != bytes_of(hub, "model.safetensors")), "a clean wrong end"
    rule.remove()
    assert_whole(wait_for(lambda: (a := cache.get(MODEL)).status == 200 and a.complete and a, 40, 0.5), hub, "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("where", ["hub", "cdn"])
def test_stall_is_given_up(hub, start, where):
    cache = start()
    hub.rule(where, method="GET", path=BYTES if where == "cdn" else "/resolve/", stall_after=0, from_head=True, times=1)
    began = time.monotonic()
    answer = cache.get(MODEL, timeout=65)
    assert time.monotonic() - began < 65 * SLOW, "a client waited over a minute without a byte or an error"
    if answer.status == 200:
        assert_whole(answer, hub, "model.safetensors")
    else:
        assert answer.status == 504 and answer["Retry-After"], answer
    assert_whole(cache.get(MODEL, timeout=65), hub, "model.safetensors")


@pytest.mark.slow
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
