# SPDX-License-Identifier: Apache-2.0
"""The rest of the site: lists, search, people, papers, pages, logins. Passed on as they come, for who asked, and never kept
(hub-protocol 1.4, 4.3 rule 4, A16, S04; reliability N03)."""
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from facts import assert_ignorance
from harness import wait_for, within
from wire import fields

TARGETS = ["/api/models?search=pub&limit=5", "/api/datasets?author=acme", "/api/spaces?sort=likes", "/api/kernels?limit=1", "/api/collections?owner=acme",
           "/api/collections/acme/best-1", "/api/papers/search?q=attention", "/api/papers/1706.03762", "/papers/1706.03762.md", "/api/daily_papers",
           "/api/models/acme/pub/discussions", "/api/models/acme/pub/discussions/1", "/api/models/acme/pub/likers", "/api/users/alice/overview",
           "/api/organizations/acme/members", "/avatars/0123abc.svg", "/acme/pub", "/datasets/acme/table", "/acme", "/models?search=x", "/docs/hub/index",
           "/blog/some-post", "/pricing", "/front/build/app.js", "/.well-known/openapi.json", "/acme/pub/blob/main/config.json", "/acme/pub/tree/main",
           "/acme/pub/commits/main", "/settings/tokens", "/api/settings/webhooks", "/api/trending", "/api/quicksearch?q=x", "/api/models-tags-by-type",
           "/api/jobs/alice", "/oauth/userinfo", "/api/registry/token", "/api/spaces/semantic-search?q=x", "/api/spaces/hardware"]


def test_what_is_not_understood_is_passed_on_for_who_asked(hub, cache, people):
    """Each answer is made for its asker; nobody gets another's, and nothing is kept."""
    made = []

    def words(request):
        made.append((request.get("Authorization") or "nobody").split()[-1][-6:])
        return True
    rules = [hub.rule("hub", header={"Authorization": people.alice}, when=words, body=b"for alice", headers={"Cache-Control": "public, max-age=600"}),
             hub.rule("hub", header={"Authorization": people.bob}, when=words, body=b"for bob", headers={"Cache-Control": "public, max-age=600"}),
             hub.rule("hub", when=lambda r: not r.get("Authorization"), body=b"for all", headers={"Cache-Control": "public, max-age=600"})]

    def one(target):
        for token, body in ((people.alice, b"for alice"), (people.bob, b"for bob"), (None, b"for all"), (people.alice, b"for alice")):
            answer = cache.get(target, token)
            assert answer.status == 200 and answer.body == body, (target, answer)
            assert answer["Cache-Control"] == ("private, no-store" if token else "public, max-age=600"), (target, answer)
            assert "authorization" in answer["Vary"].lower() and "hit" not in answer["Cache-Status"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, TARGETS))
    assert sum(r.hits for r in rules) == 4 * len(TARGETS), "something was not asked"
    assert not cache.files("blobs") and not cache.files("journal"), "something was kept"


def test_what_is_not_understood_is_ignorance_without_upstream(hub, cache):
    hub.kill()
    cache.until_known_down()
    for target in TARGETS:
        assert_ignorance(within(0.1, lambda: cache.get(target)))


def test_lists_stream(hub, cache):
    """The first part of a long answer comes before upstream has sent the last one."""
    body = json.dumps([{"id": f"acme/{i}"} for i in range(20_000)]).encode()
    first_came = Event()
    hub.rule(path="/api/models", body=body, headers={"Content-Type": "application/json"}, stall_after=len(body) // 2, stall_for=first_came)
    with cache.connect() as conn:
        conn.request("GET", "/api/models?limit=20000", fields())
        answer = conn.head()
        conn.body(answer, most=len(body) // 4)
        assert answer.received >= len(body) // 4 and not answer.complete
        first_came.set()
        assert conn.body(answer).body == body


def test_N03_personal_answers_stay_personal(hub, cache, people):
    """A path that only looks like a file of the site is no reason to keep what a token was told."""
    for target in ("/api/whoami-v2", "/api/whoami-v2/a.css", "/api/whoami-v2;x.json", "/settings/profile.json", "/api/models/acme/private/discussions"):
        mine = cache.get(target, people.alice)
        assert "no-store" in mine["Cache-Control"] and "private" in mine["Cache-Control"], (target, mine)
        other = cache.get(target)
        assert b"alice" not in other.body and "hit" not in other["Cache-Status"]
    assert not cache.files("blobs")


@pytest.mark.parametrize("target", ["/oauth/token", "/oauth/device", "/login", "/api/validate-yaml"])
def test_bodies_of_logins_are_never_logged(hub, start, target):
    cache = start(log_level="debug")
    secret = "hf_oauth_" + "s3cr3t" * 6
    hub.rule(path=target, body=json.dumps({"access_token": secret}).encode(), headers={"Content-Type": "application/json"})
    answer = cache.ask("POST", target, headers=fields(Content_Type="application/x-www-form-urlencoded"),
                       body=f"grant_type=device_code&device_code={secret}".encode())
    assert answer.status == 200 and answer.json()["access_token"] == secret
    assert hub.calls("hub", target)[-1]["body"].endswith(secret.encode())
    wait_for(lambda: f"path={target}" in cache.stderr() or target in cache.stderr(), 5)
    assert secret not in cache.stderr() and secret not in cache.stdout()
    assert not [p for p in cache.files() if secret.encode() in p.read_bytes()]


def test_E14_the_list_of_agent_harnesses(hub, cache):
    """huggingface_hub wants an object, and nothing at all rather than something else."""
    answer = cache.get("/api/agent-harnesses")
    assert answer.status == 200 and answer.json() == {"standardEnvVars": [], "harnesses": {}}
    hub.kill()
    cache.until_known_down()
    for ask in (cache.get, cache.head):
        answer = within(0.1, lambda: ask("/api/agent-harnesses"))
        assert answer.status in (200, 503)
        assert not answer.partial.startswith(b"[")
