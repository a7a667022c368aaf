# SPDX-License-Identifier: Apache-2.0
"""Our own pages and lines: /-/healthz /-/readyz /-/metrics /-/status, the access log, the plain words (design 2, P12)."""
import re
import time

import pytest

from facts import CONFIG, IGNORANCE, MIB, MODEL, MODEL_BYTES, add_large, assert_whole, bytes_of, hit
from harness import SLOW, wait_for
from together import Background


def test_health_and_readiness(hub, cache):
    for page in ("/-/healthz", "/-/readyz"):
        for ask in (cache.get, cache.head):
            assert ask(page).status == 200
    hub.kill()
    for _ in range(4):
        cache.get(MODEL)
    assert cache.get("/-/readyz").status == 200, "a Hub outage must not empty a load balancer"
    assert cache.get("/-/healthz").status == 200


def test_metrics_text(hub, cache):
    assert_whole(cache.get(MODEL), hub, "model.safetensors")
    assert_whole(cache.get(MODEL), hub, "model.safetensors")
    answer = cache.get("/-/metrics")
    assert answer["Content-Type"].startswith("text/plain; version=0.0.4")
    seen = set()
    for line in answer.text.splitlines():
        found = re.fullmatch(r"# (HELP|TYPE) (\S+) (.+)", line)
        if found and found[1] == "TYPE":
            assert found[2] not in seen, f"{found[2]} twice"
            seen.add(found[2])
        elif not found:
            assert re.fullmatch(r'[a-zA-Z_:][\w:]*(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [0-9.e+-]+|.* \+Inf', line), line
    names = {n for n, _, _ in cache.metrics()}
    assert all(n.startswith(("hfcache_", "process_")) for n in names)
    assert not re.search(r"acme|model\.safetensors|127\.0\.0\.1", answer.text), "a name in a metric"


def test_metrics_count(hub, cache):
    before = cache.metric("hfcache_http_requests_total", route="resolve") if 'route="resolve"' in cache.get("/-/metrics").text else 0
    assert cache.get(MODEL).status == 200 and cache.get(MODEL).status == 200 and cache.head(MODEL).status == 200
    assert cache.metric("hfcache_http_requests_total", route="resolve") - before == 3
    assert cache.metric("hfcache_http_sent_bytes_total") >= 2 * MODEL_BYTES
    assert cache.metric("hfcache_upstream_received_bytes_total") >= MODEL_BYTES
    assert cache.metric("hfcache_storage_objects") >= 1
    assert cache.metric("hfcache_storage_used_bytes") >= MODEL_BYTES
    assert cache.metric("hfcache_fills_total") == 1 and cache.metric("hfcache_fills_in_flight") == 0
    assert cache.metric("hfcache_ready") == 1 and cache.metric("hfcache_upstream_up") == 1


def test_status_shows_what_goes_on(hub, cache):
    url, file = add_large(hub, 8 * MIB, seed=23)
    hub.rate("cdn", 4 * MIB)
    running = Background(lambda: cache.get(url))
    wait_for(lambda: hub.body_bytes("cdn") > MIB)
    status = cache.get("/-/status")
    assert status["Content-Type"].startswith("application/json") and isinstance(status.json(), dict)
    assert "version" in status.text and hub.url in status.text
    assert cache.metric("hfcache_fills_in_flight") == 1
    assert running.result().body == file.source.read()


def test_N09_status_names_nothing_private(hub, cache, people):
    hub.content.add_repo("model", "acme/secretname", private=True).commit({"weights.bin": b"x" * 1000})
    hub.content.tokens[people.alice].grants.add("acme/secretname")
    hub.rule(path="resolve-cache", delay_body=1.5)
    running = Background(lambda: cache.get("/acme/secretname/resolve/main/weights.bin", people.alice))
    time.sleep(0.7)
    for page in ("/-/status", "/-/metrics", "/-/"):
        assert b"secretname" not in cache.get(page).body
    assert running.result().status == 200


def test_own_page(cache):
    for page in ("/-/", "/-"):
        answer = cache.get(page)
        assert answer.status in (200, 301, 302, 307, 308)
    assert b"HF_ENDPOINT" in cache.get("/-/").body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_N07_nothing_under_our_pages_changes_anything(cache, method):
    for page in ("/-/status", "/-/metrics", "/-/", "/-/purge"):
        assert cache.ask(method, page).status in (404, 405)


def test_cache_status_tells_the_truth(hub, cache):
    first, second = cache.get(MODEL), cache.get(MODEL)
    assert first["Cache-Status"].startswith("hfcache; fwd=miss") and not hit(first)
    assert hit(second) and "fwd" not in second["Cache-Status"]
    assert second["Age"] is not None and second["Age"].isdigit()


def test_access_lines(hub, cache, people):
    assert_whole(cache.get(CONFIG, people.alice, User_Agent="tester/1.0", X_Request_Id="request-of-a-test-7"), hub, "config.json")
    line = wait_for(lambda: [x for x in cache.log_lines() if "request-of-a-test-7" in str(x)], 5)[-1]
    assert line["level"] == "info" and "200" in line.values() and "GET" in line.values(), line
    assert any("acme/pub" in v for v in line.values()) and any(v.isdigit() and int(v) == len(bytes_of(hub, "config.json")) for v in line.values())
    text = cache.stderr()
    assert people.alice not in text and people.alice[3:13] not in text


def test_one_access_line_for_each_request(hub, cache):
    def lines():
        return [x for x in cache.log_lines() if "method" in x or "GET" in x.values()]
    wait_for(lambda: any("/-/readyz" in x.values() for x in cache.log_lines()), 5)
    before = len(lines())
    for _ in range(5):
        assert cache.get(CONFIG).status == 200
    wait_for(lambda: len(lines()) - before >= 5, 5)
    time.sleep(0.3)
    assert len(lines()) - before == 5


@pytest.mark.parametrize("situation", ["refused", "silent", "wrong", "offline"])
def test_P12_failures_in_plain_words(hub, cache, situation):
    """Each failure says which hop failed and what to do, within its deadline."""
    if situation == "refused":
        hub.kill()
        statuses = (503,)
    elif situation == "silent":
        hub.blackhole(mode="silent")
        statuses = (504,)
    elif situation == "offline":
        cache.restart(hub_offline="yes")
        statuses = IGNORANCE
    else:
        hub.rule("hub", path="resolve-cache", method="GET", wrong_bytes=0)
        cache.expect("error")
        statuses = (502,)
    began = time.monotonic()
    answer = cache.get(CONFIG, timeout=60)
    assert answer.status in statuses, answer
    assert time.monotonic() - began < 15 * SLOW
    assert answer["Retry-After"] is not None
    words = answer.text
    assert len(words) > 25 and re.search(r"hub|upstream|offline", words, re.I), words
    assert "{" not in words and hub.cdn_url not in words and "0x" not in words
    api = cache.get("/api/models/acme/none")
    if api.status >= 500:
        assert api.json()["error"] and api["Content-Type"].startswith("application/json")


def test_P9_the_same_url_answers_the_same(hub, start):
    """Whatever the branch does, a HEAD and the GET behind it belong together."""
    cache = start(hub_revision_ttl="1s")
    for i in range(6):
        head = cache.head(CONFIG)
        hub.content.repo("acme/pub").commit({"config.json": f'{{"turn": {i}}}\n'})
        time.sleep(0.5)
        get = cache.get(CONFIG)
        assert get["X-Repo-Commit"] == head["X-Repo-Commit"] and get["ETag"] == head["ETag"]
        assert get["Content-Length"] == head["Content-Length"] == str(len(get.body))


def test_P7_nothing_is_asked_for_what_is_held(hub, cache):
    from test_consistency import snapshot
    files = snapshot(cache)
    hub.reset_counters()
    commit = hub.content.repo("acme/pub").head.id
    from urllib.parse import quote
    for path, data in files.items():
        answer = cache.get(f"/acme/pub/resolve/{commit}/{quote(path)}")
        assert answer.body == data and hit(answer)
        if data:
            assert cache.get(f"/acme/pub/resolve/{commit}/{quote(path)}", Range="bytes=0-0").body == data[:1]
    assert not hub.calls(), hub.calls()
