# SPDX-License-Identifier: Apache-2.0
"""Errors, and what is said while upstream is away (hub-protocol 10.5, E01 to E15)."""
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from facts import (CONFIG, IGNORANCE, MODEL, PUB, assert_file_head, assert_ignorance, assert_whole, at_commit, bytes_of, commit_of,
                   file_of, hit)
from harness import SLOW, soon, wait_for, within

MISSING = "/acme/pub/resolve/main/nothing.here"


def assert_entry_not_found(answer, commit):
    assert answer.status == 404 and answer["X-Error-Code"] == "EntryNotFound", answer
    assert answer["X-Error-Message"] == "Entry not found" and answer["X-Repo-Commit"] == commit


@pytest.mark.parametrize("ask", ["head", "get"])
def test_E01_missing_file(hub, cache, ask):
    commit = commit_of(hub).id
    assert_entry_not_found(getattr(cache, ask)(MISSING), commit)
    hub.reset_counters()
    for _ in range(3):
        assert_entry_not_found(cache.head(MISSING), commit)
        assert_entry_not_found(cache.get(f"/acme/pub/resolve/{commit}/nothing.here"), commit)
    assert not hub.calls(), "asked again for what is known to be absent"
    assert b"Entry not found" in cache.get(MISSING).body


@pytest.mark.parametrize("how", ["killed", "restarted", "offline"])
def test_E02_missing_file_in_a_known_tree(hub, cache, how):
    commit = commit_of(hub).id
    assert cache.get(f"/api/models/acme/pub/tree/{commit}?recursive=true").status == 200
    assert cache.get(CONFIG).status == 200
    hub.kill()
    if how != "killed":
        cache.restart(hub_offline="yes" if how == "offline" else "no")
    assert_entry_not_found(cache.head(f"/acme/pub/resolve/{commit}/nothing.here"), commit)
    assert_entry_not_found(cache.get(MISSING), commit)


def test_E03_bad_revision(hub, start):
    cache = start(hub_revision_ttl="1s")
    for target in ("/acme/pub/resolve/nobranch/config.json", "/api/models/acme/pub/revision/nobranch", "/api/models/acme/pub/tree/nobranch"):
        answer = cache.get(target)
        assert answer.status == 404 and answer["X-Error-Code"] == "RevisionNotFound", answer
        assert answer["X-Error-Message"] == "Invalid rev id: nobranch" and answer["X-Repo-Commit"] is None
    hub.content.repo(PUB).branch("nobranch")
    time.sleep(1.2)
    assert cache.get("/api/models/acme/pub/revision/nobranch").status == 200
    assert_whole(cache.get("/acme/pub/resolve/nobranch/config.json"), hub, "config.json")


def test_E04_the_code_that_http_clients_need(hub, cache, people):
    for target in ("/acme/private/resolve/main/config.json", "/no/such/resolve/main/x", "/api/models/no/such",
                   "/api/datasets/no/such/tree/main", "/api/models/acme/private/revision/main"):
        answer = cache.get(target)
        assert answer.status == 401 and answer["X-Error-Code"] == "RepoNotFound", answer
        assert answer["X-Error-Message"] == "Invalid username or password."
        bad = cache.get(target, people.nobody)
        assert bad.status == 401 and bad["X-Error-Code"] is None, bad
        assert bad["X-Error-Message"] == "Invalid credentials in Authorization header"
    known = cache.get("/api/models/no/such", people.bob)
    assert known.status == 404 and known["X-Error-Code"] == "RepoNotFound" and known["X-Error-Message"] == "Repository not found"


def test_E05_gated_and_disabled_in_upstreams_words(hub, cache, people):
    url = "/acme/gated/resolve/main/config.json"
    for token, status, words in ((None, 401, "Please log in."), (people.nobody, 401, "Please log in."),
                                 (people.bob, 403, "you are not in the authorized list")):
        for ask in (cache.get, cache.head, cache.get):
            answer = ask(url, token)
            assert answer.status == status and answer["X-Error-Code"] == "GatedRepo", answer
            assert words in answer["X-Error-Message"] and answer["X-Repo-Commit"] is None
    for target in ("/acme/disabled/resolve/main/config.json", "/api/models/acme/disabled"):
        answer = cache.get(target)
        assert answer.status == 403 and answer["X-Error-Code"] is None
        assert answer["X-Error-Message"] == "Access to this resource is disabled."


def test_E06_known_but_not_stored(hub, cache):
    commit = commit_of(hub).id
    assert cache.get(f"/api/models/acme/pub/tree/{commit}?recursive=true").status == 200
    assert cache.get(CONFIG).status == 200
    hub.kill()
    cache.until_known_down()
    for target in (MODEL, at_commit(hub, "model.safetensors"), "/acme/pub/resolve/main/README.md"):
        began = time.monotonic()
        for answer in (cache.head(target), cache.get(target), cache.get(target, Range="bytes=0-0")):
            assert_ignorance(answer)
            assert answer["Retry-After"] == "0"
        assert time.monotonic() - began < 10 * SLOW
    assert_whole(cache.get(CONFIG), hub, "config.json")


def test_E07_unknown_names(hub, cache):
    assert cache.get(CONFIG).status == 200
    hub.kill()
    for target in ("/no/such/resolve/main/x", "/acme/pub/resolve/nobranch/config.json", f"/acme/pub/resolve/{'1' * 40}/config.json",
                   "/api/models/no/such", "/api/models/no/such/revision/main", "/api/models/acme/pub/revision/nobranch",
                   "/api/models/no/such/tree/main", "/api/datasets/acme/pub", "/api/models?search=x"):
        for answer in (cache.get(target), cache.head(target)):
            assert_ignorance(answer)


def test_E08_a_name_that_cannot_be_checked(hub, start):
    cache = start(hub_revision_ttl="1s")
    assert_whole(cache.get(CONFIG), hub, "config.json")
    hub.kill()
    time.sleep(1.2)
    answer = cache.get(CONFIG)
    assert_whole(answer, hub, "config.json")
    cache.restart()
    assert_whole(cache.get(CONFIG), hub, "config.json")
    assert_file_head(cache.head(CONFIG), hub, "config.json")


def test_E08_documents_too(hub, start):
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s")
    targets = ["/api/models/acme/pub", "/api/models/acme/pub/revision/main", "/api/models/acme/pub/refs",
               "/api/models/acme/pub/tree/main?recursive=true"]
    before = [cache.get(t).body for t in targets]
    hub.kill()
    time.sleep(1.2)
    assert [cache.get(t).body for t in targets] == before
    cache.restart()
    assert [cache.get(t).body for t in targets] == before


def back_for_a_moment(hub, cache, mode):
    """For another try: before the first one it has not been missed."""
    if cache.metric("hfcache_upstream_up") == 0:
        hub.revive()
        wait_for(lambda: cache.metric("hfcache_upstream_up") == 1, 40)
        hub.blackhole(mode=mode)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["silent", "drop"])
def test_E09_silence_is_answered_within_nine_seconds(hub, cache, mode):
    hub.blackhole(mode=mode)

    def asked():
        back_for_a_moment(hub, cache, mode)
        began = time.monotonic()
        answer = cache.head(MODEL)
        took = time.monotonic() - began
        assert_ignorance(answer)
        assert answer.status == 504 or mode == "drop"
        return took
    soon(9.5, asked)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["silent", "drop"])
def test_E09_whatever_is_asked(hub, start, mode):
    """Each decision that upstream is away comes within 9 s of the client's request, and is made once for all."""
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s")
    commit = commit_of(hub).id
    assert cache.get(f"/api/models/acme/pub/tree/{commit}?recursive=true").status == 200   # its files are known, but not held
    hub.blackhole(mode=mode)
    time.sleep(1.1)
    targets = [MODEL, at_commit(hub, "README.md"), "/api/models/acme/pub", "/api/models?search=x", "/api/whoami-v2", "/acme/pub/raw/main/x",
               "/api/datasets/no/such/tree/main", "/api/models/acme/pub/refs"]

    def all_asked():
        back_for_a_moment(hub, cache, mode)
        with ThreadPoolExecutor(len(targets)) as pool:
            def timed(target):
                began = time.monotonic()
                return target, cache.get(target, timeout=30), time.monotonic() - began
            answers = list(pool.map(timed, targets))
        for target, answer, _ in answers:
            assert answer.status == 200 or answer.status in IGNORANCE, (target, answer)
        return max(seconds for _, _, seconds in answers)
    soon(9.5, all_asked)
    cache.until_known_down()
    for target in targets:
        for ask in (cache.get, cache.head):
            within(0.1, lambda: ask(target))


@pytest.mark.slow
def test_E09_what_is_held_is_served_at_once(hub, start):
    cache = start(hub_revision_ttl="1s")
    assert cache.get(CONFIG).status == 200
    hub.blackhole(mode="silent")
    assert_whole(within(0.5, lambda: cache.get(at_commit(hub, "config.json"))), hub, "config.json")
    time.sleep(1.1)
    began = time.monotonic()
    assert_whole(cache.get(CONFIG), hub, "config.json")
    assert time.monotonic() - began < 12 * SLOW


def test_E10_rate_limited(hub, cache):
    assert cache.get(CONFIG).status == 200
    hub.set_ratelimit("resolvers", left=0, enforce=True)
    answer = cache.get(MODEL)
    assert answer.status == 429, answer
    assert "r=0" in (answer["RateLimit"] or "") or answer["Retry-After"]
    assert answer["X-Error-Code"] is None and answer["X-Repo-Commit"] is None
    asked = len(hub.calls("hub"))
    for _ in range(5):
        assert cache.get("/acme/pub/resolve/main/README.md").status == 429
    assert len(hub.calls("hub")) - asked <= 1, "it went on calling"
    assert_whole(cache.get(CONFIG), hub, "config.json")


def test_E10_what_is_told_while_nothing_is_asked(hub, start, people):
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s")
    documents = ["/api/models/acme/pub", "/api/models/acme/pub/refs"]
    held = [cache.get(t).body for t in documents]
    assert cache.get(CONFIG).status == 200
    hub.set_ratelimit("resolvers", left=0, enforce=True)
    hub.set_ratelimit("api", left=0, enforce=True)
    assert cache.get(MODEL).status == 429 and cache.get("/api/models?search=x").status == 429
    time.sleep(1.2)
    hub.reset_counters()
    for ask in (cache.get, cache.head):
        for target, bucket in ((MODEL, "resolvers"), ("/acme/pub/resolve/main/README.md", "resolvers"), ("/api/models?search=y", "api"),
                               ("/api/models/acme/pub/tree/main", "api")):
            answer = ask(target)
            assert answer.status == 429, answer
            wait = int(answer["Retry-After"])
            assert 1 <= wait <= 310 and answer["RateLimit"] == f'"{bucket}";r=0;t={wait}', answer
            assert answer["X-Error-Code"] is None and answer["X-Repo-Commit"] is None and "HF_TOKEN" in answer["X-Error-Message"]
    # old names and documents are good enough, to those whose right is known
    assert_whole(cache.get(CONFIG), hub, "config.json")
    assert_file_head(cache.head(CONFIG), hub, "config.json")
    assert [cache.get(t).body for t in documents] == held
    assert not hub.calls(), "it went on calling"
    limits = cache.status()["upstream"]["rate_limits"]
    assert limits["resolvers"]["left"] == 0 and limits["resolvers"]["waiting"] == 1 and 1 <= limits["resolvers"]["waits_s"] <= 310
    assert limits["pages"]["waiting"] == 0 and cache.status()["upstream"]["reachable"]
    assert cache.metric("hfcache_upstream_rate_limit_remaining", resource="resolvers") == 0
    assert cache.metric("hfcache_upstream_rate_limited_total") == 2
    # another token has a limit of its own, and is asked for
    hub.set_ratelimit("resolvers", left=1000)
    assert_whole(cache.get(MODEL, people.bob), hub, "model.safetensors")


def test_E10_a_limit_gives_nobody_more_than_he_has(hub, start, people):
    """Whoever uses up a limit must not be served by the longer grace of an outage."""
    cache = start(hub_grant_ttl="2s", hub_revision_ttl="1s")
    target = "/acme/gated/resolve/main/config.json"
    assert cache.get(target, people.alice).status == 200
    time.sleep(2.2)
    hub.set_ratelimit("resolvers", left=0, enforce=True)
    for _ in range(3):
        assert cache.get(target, people.alice).status == 429


def test_E10_asked_again_when_the_time_is_over(hub, cache):
    rule = hub.rule("hub", path="resolve", status=429, times=1, headers={"Retry-After": "2"})
    assert cache.get(MODEL).status == 429
    assert cache.get(MODEL).status == 429 and rule.hits == 1
    time.sleep(2.4)
    assert_whole(cache.get(MODEL), hub, "model.safetensors")


def test_E10_a_storm_of_errors(hub, start):
    """Everything answers 502: after a few the Hub is left alone, what is held is served, and its return is noticed."""
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s")
    assert cache.get(CONFIG).status == 200
    hub.rule("hub", status=502)
    time.sleep(1.1)
    for _ in range(4):
        assert cache.get(MODEL).status in IGNORANCE + (502,)
    cache.until_known_down()
    hub.reset_counters()
    began = time.monotonic()
    for _ in range(20):
        assert_ignorance(within(0.1, lambda: cache.get(MODEL)))
        assert_whole(within(0.1, lambda: cache.get(CONFIG)), hub, "config.json")
    assert len(hub.calls()) <= 2 + (time.monotonic() - began) / 2, "it is hammered"
    hub.clear_rules()
    end = time.monotonic() + 40 * SLOW
    while (answer := cache.get(MODEL)).status != 200:
        assert time.monotonic() < end, answer
        time.sleep(0.3)
    assert_whole(answer, hub, "model.safetensors")


def test_E10_one_bad_path_is_no_storm(hub, cache):
    hub.rule("hub", path="search=broken", status=500)
    for _ in range(12):
        assert cache.get("/api/models?search=broken").status == 500
        assert cache.metric("hfcache_upstream_up") == 1
    assert_whole(cache.get(MODEL), hub, "model.safetensors")


@pytest.mark.parametrize("target", [CONFIG, MODEL, "/api/models/acme/pub", "/api/models/acme/pub/tree/main?recursive=true"])
@pytest.mark.parametrize("status", [500, 502, 503])
def test_E11_once_is_never_seen(hub, cache, target, status):
    rule = hub.rule("hub", status=status, times=1)
    answer = cache.get(target)
    assert answer.status == 200 and rule.hits == 1, answer


def test_E11_the_cdn_too(hub, cache):
    hub.rule("cdn", status=503, times=1)
    assert_whole(cache.get(MODEL), hub, "model.safetensors")
    assert_whole(cache.get(MODEL), hub, "model.safetensors")


def test_E12_no_404_for_a_file_that_exists(hub, cache):
    commit = commit_of(hub)
    assert cache.get(f"/api/models/acme/pub/tree/{commit.id}?recursive=true").status == 200
    hub.kill()
    for path in commit.files:
        for target in (at_commit(hub, path), f"/acme/pub/resolve/main/{path.replace('%', '%25').replace('?', '%3F').replace('#', '%23').replace(' ', '%20')}"):
            answer = cache.head(target)
            assert answer.status in IGNORANCE + (200,), answer
            assert answer["X-Error-Code"] is None


def test_E13_errors_of_head_have_no_body(hub, cache, people):
    for target, token in ((MISSING, None), ("/no/such/resolve/main/x", None), ("/acme/gated/resolve/main/config.json", people.bob),
                          ("/acme/pub/resolve/nobranch/x", None), ("/api/models/no/such", people.bob)):
        get, head = cache.get(target, token), cache.head(target, token)
        assert head.status == get.status and head["X-Error-Code"] == get["X-Error-Code"] and head["X-Error-Message"] == get["X-Error-Message"]
        assert head["Content-Length"] in (get["Content-Length"], None)
        with cache.connect() as conn:
            conn.request("HEAD", target, [("Authorization", f"Bearer {token}")] if token else [])
            conn.read()
            assert_file_head(conn.ask("HEAD", CONFIG), hub, "config.json")   # nothing was left on the connection


def test_E14_telemetry_is_quick(hub, cache):
    hub.kill()
    cache.head("/api/telemetry/x")   # whatever the first one has to find out
    for target in ("/api/telemetry/hf_hub/examples", "/api/agent-harnesses"):
        answer = within(0.1, lambda: cache.head(target) if "telemetry" in target else cache.get(target))
        assert answer.status in (200, 204) + IGNORANCE, answer
    cache.restart(hub_offline="yes")
    assert within(0.1, lambda: cache.head("/api/telemetry/hf_hub/examples")).status < 505


def test_E15_xet_tokens(hub, cache, people):
    target = f"/api/models/acme/pub/xet-read-token/{commit_of(hub).id}"
    assert cache.get(target).status == 200
    hub.kill()
    answer = cache.get(target)
    assert answer.status in IGNORANCE and answer["X-Error-Code"] is None
    cache.restart(hub_offline="yes")
    assert cache.get(target).status in IGNORANCE


def test_back_from_away(hub, cache):
    assert cache.get(CONFIG).status == 200
    hub.kill()
    for _ in range(4):
        assert cache.get(MODEL).status in IGNORANCE
    assert cache.metric("hfcache_upstream_up") == 0
    hub.revive()
    end = time.monotonic() + 40 * SLOW
    while (answer := cache.get(MODEL)).status != 200:
        assert time.monotonic() < end, answer
        time.sleep(0.5)
    assert answer.body == bytes_of(hub, "model.safetensors") and not hit(answer)
    assert cache.metric("hfcache_upstream_up") == 1 and file_of(hub, "model.safetensors").sha256 in cache.blobs()


# --- what is known before anybody has asked ---

def test_E08_after_a_start_it_is_soon_known_that_upstream_is_there(hub, cache):
    wait_for(lambda: cache.status()["upstream"]["reachable"] is not None, why="our own connection")
    upstream = cache.status()["upstream"]
    assert upstream["reachable"] is True and "unreachable_since" not in upstream
    assert not hub.calls(), "a connection, and nothing sent on it"


@pytest.mark.parametrize("kill", [False, True])
def test_E08_after_a_start_without_upstream_the_first_who_asks_is_served(hub, start, people, kill):
    cache = start(offline_access="open")
    assert cache.get("/acme/private/resolve/main/config.json", people.alice).status == 200
    cache.until_durable(hub)
    hub.kill()
    cache.restart(kill=kill)
    wait_for(lambda: cache.status()["upstream"]["reachable"] is False, why="our own connection")
    assert cache.status()["upstream"]["unreachable_since"] > 0 and cache.metric("hfcache_upstream_up") == 0
    assert "connect" in cache.status()["upstream"]["reason"]
    assert cache.get("/acme/private/resolve/main/config.json").status == 200
    hub.revive()
    wait_for(lambda: cache.status()["upstream"]["reachable"] is True, 20, why="the next connection")


def test_E09_a_start_before_a_black_hole_is_decided_after_the_connect_timeout(hub, start):
    hub.blackhole(mode="drop")
    cache = start(hub_connect_timeout=f"{int(3 * SLOW)}s")
    assert cache.status()["upstream"]["reachable"] is None
    wait_for(lambda: cache.status()["upstream"]["reachable"] is False, 10 * SLOW, why="the connect time-out")


def test_E08_offline_is_known_from_the_start(hub, start):
    cache = start(hub_offline="yes")
    assert cache.status()["upstream"]["reachable"] is False
