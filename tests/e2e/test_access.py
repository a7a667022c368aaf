# SPDX-License-Identifier: Apache-2.0
"""Who may read what (hub-protocol 10.6, S01 to S09; reliability Z; design P4 and P5)."""
import base64
import time

import pytest

from facts import CONFIG, IGNORANCE, add_large, assert_file_head, assert_whole, at_commit, bytes_of, commit_of, file_of
from harness import wait_for
from hubdouble import LFS
from together import Background
from wire import fields

GATED = "/acme/gated/resolve/main/model.safetensors"
PRIVATE = "/acme/private/resolve/main/model.safetensors"


def routes(hub, repo):
    """Every way to bytes, sizes and listings of a repository that the cache understands."""
    commit = commit_of(hub, repo).id
    files = [f"/{repo}/resolve/main/model.safetensors", f"/{repo}/resolve/{commit}/model.safetensors", f"/{repo}/resolve/main/config.json",
             f"/{repo}/raw/main/config.json", f"/{repo}/raw/{commit}/model.safetensors",
             f"/api/resolve-cache/models/{repo}/{commit}/config.json", f"/api/resolve-cache/models/{repo}/{commit}/model.safetensors"]
    facts = [f"/api/models/{repo}", f"/api/models/{repo}/revision/{commit}", f"/api/models/{repo}/tree/{commit}?recursive=true",
             f"/api/models/{repo}/refs"]
    return files, facts


def warm(hub, cache, repo, token):
    files, facts = routes(hub, repo)
    for target in files + facts:
        assert cache.get(target, token).status == 200, target


def assert_gated(answer, status):
    assert answer.status == status and answer["X-Error-Code"] == "GatedRepo", answer
    assert "is restricted" in answer["X-Error-Message"]


def assert_like_a_repo_that_is_not(answer, other):
    """A private repository must look like one that does not exist (S03, Z13)."""
    assert answer.status == other.status and answer.body == other.body
    for name in ("X-Error-Code", "X-Error-Message", "Content-Type", "Content-Length", "WWW-Authenticate", "X-Repo-Commit", "ETag"):
        assert answer[name] == other[name], name


def test_S01_gated_file(hub, cache, people):
    assert_whole(cache.get(GATED, people.alice), hub, "model.safetensors", "acme/gated")
    sent = hub.body_bytes("cdn")
    for _ in range(2):
        assert_gated(cache.get(GATED), 401)
        assert_gated(cache.get(GATED, people.nobody), 401)
        assert_gated(cache.get(GATED, people.bob), 403)
        assert_gated(cache.head(GATED, people.bob), 403)
        assert_whole(cache.get(GATED, people.alice), hub, "model.safetensors", "acme/gated")
        assert_whole(cache.get(GATED, people.writer), hub, "model.safetensors", "acme/gated")
    assert hub.body_bytes("cdn") == sent, "fetched again"


@pytest.mark.parametrize("repo", ["acme/gated", "acme/private"])
def test_S02_every_way_in(hub, cache, people, repo):
    warm(hub, cache, repo, people.alice)
    files, facts = routes(hub, repo)
    for ask in (cache.get, cache.head):
        for target in files + (facts if repo == "acme/private" else []):
            for token in (None, people.bob, people.nobody):
                answer = ask(target, token)
                assert answer.status in (401, 403, 404), f"{target} for {token}: {answer}"
                assert answer["X-Repo-Commit"] is None and answer["ETag"] is None, answer
                part = ask(target, token, Range="bytes=0-0", If_None_Match="*")
                assert part.status == answer.status, part
    if repo == "acme/gated":
        for target in facts:
            assert cache.get(target).status == 200, "the card of a gated repository is open"


@pytest.mark.parametrize("target", ["/{}/resolve/main/config.json", "/{}/resolve/main/nothing", "/api/models/{}", "/api/models/{}/tree/main",
                                    "/{}/raw/main/config.json", "/api/models/{}/refs"])
def test_S03_a_private_repo_looks_like_none(hub, cache, people, target):
    other = cache.get(target.format("acme/nosuch1"))
    before = cache.get(target.format("acme/private"))
    assert_like_a_repo_that_is_not(before, other)
    warm(hub, cache, "acme/private", people.alice)
    cache.get(target.format("acme/private"), people.alice)
    assert_like_a_repo_that_is_not(cache.get(target.format("acme/private")), other)
    by_bob = cache.get(target.format("acme/private"), people.bob), cache.get(target.format("acme/nosuch2"), people.bob)
    assert_like_a_repo_that_is_not(*by_bob)
    assert by_bob[0].status == 404


def test_S04_answers_of_one_token_stay_with_it(hub, cache, people):
    for _ in range(2):
        assert cache.get("/api/whoami-v2", people.alice).json()["name"] == "alice"
        assert cache.get("/api/whoami-v2", people.bob).json()["name"] == "bob"
        assert cache.get("/api/whoami-v2").status == 401
        assert cache.get("/api/whoami-v2", people.nobody).status == 401
        mine = cache.get("/api/models?author=acme", people.alice).json()
        assert "acme/private" in [m["id"] for m in mine]
        for token in (people.bob, None):
            assert "acme/private" not in [m["id"] for m in cache.get("/api/models?author=acme", token).json()]
        assert cache.get("/api/models/acme/private", people.alice).status == 200
        assert cache.get("/api/models/acme/private", people.bob).status == 404
        assert cache.get("/api/models/acme/private").status == 401


def test_S05_tokens_go_nowhere(hub, start, people):
    cache = start(log_level="debug")
    warm(hub, cache, "acme/gated", people.alice)
    warm(hub, cache, "acme/private", people.writer)
    for target in (GATED, "/api/models/acme/none", "/api/whoami-v2"):
        for token in (people.bob, people.nobody):
            answer = cache.get(target, token)
            assert token not in str(answer.fields) and token.encode() not in answer.body
    basic = base64.b64encode(f"user:{people.alice}".encode()).decode()
    assert cache.get(GATED, headers=fields(Authorization=f"Basic {basic}")).status == 200
    for page in ("/-/metrics", "/-/status", "/-/"):
        text = cache.get(page).body
        assert not any(t.encode() in text for t in vars(people).values())
    assert basic not in cache.stderr() and "Basic " not in cache.stderr()
    assert not hub.leaks() and all(c["authorization"] is None for c in hub.calls("cdn"))
    cache.restart()
    cache.kill9()
    cache.start()   # and the end of the test looks through log and store


def test_S05_token_in_odd_places(hub, cache, people):
    for target in (f"{CONFIG}?token={people.alice}", f"/acme/pub/resolve/{people.alice}/x", f"/api/models?search={people.bob}",
                   f"/api/models/acme/pub?token={people.alice}", f"/api/models/acme/pub/tree/main?recursive=true&access_token={people.alice}",
                   f"/acme/pub/resolve/main/hf%5F{people.alice[3:]}", "/api/models/acme/pub?API_KEY=x", "/datasets/acme/table?authorization=x"):
        answer = cache.get(target)
        assert answer.status == 400 and "Authorization" in answer["X-Error-Message"], f"{target}: {answer}"
    assert not hub.calls()
    assert people.alice[3:] not in cache.stderr() and people.bob not in cache.stderr()   # the end of the test looks again, and in the store
    answer = cache.get(CONFIG, headers=[("Authorization", f"Bearer {people.alice}"), ("Authorization", f"Bearer {people.bob}")])
    assert answer.status in (400, 401), answer
    for value in ("Basic", "Basic ", "Basic !!!", "Digest x=y", "Bearer " + "x" * 10_000, "Bearer a b"):
        answer = cache.get(GATED, headers=[("Authorization", value)])
        assert answer.status in (400, 401, 431), f"{value[:20]}: {answer}"


def test_S06_a_repo_turns_gated(hub, start, people):
    cache = start(hub_public_ttl="2s", hub_revision_ttl="1s")
    assert_whole(cache.get(CONFIG), hub, "config.json")
    pinned = at_commit(hub, "config.json")
    assert cache.get(pinned).status == 200
    hub.set_visibility("acme/pub", gated="auto")
    time.sleep(2.2)
    for target in (CONFIG, pinned):
        assert_gated(cache.get(target), 401)
        assert_gated(cache.get(target, people.bob), 403)
    assert cache.get(pinned, people.writer).status == 200


def test_S06_a_repo_turns_private(hub, start, people):
    cache = start(hub_public_ttl="2s", hub_revision_ttl="1s", hub_metadata_ttl="1s")
    files, facts = routes(hub, "acme/pub")
    for target in files + facts:
        assert cache.get(target).status == 200
    hub.set_visibility("acme/pub", private=True)
    time.sleep(2.2)
    for target in files + facts:
        answer = cache.get(target)
        assert answer.status == 401 and answer["X-Error-Code"] == "RepoNotFound", f"{target}: {answer}"


def test_S06_one_refusal_stops_all(hub, start):
    cache = start(hub_revision_ttl="1s")
    assert cache.get(CONFIG).status == 200 and cache.get(at_commit(hub, "config.json")).status == 200
    hub.set_visibility("acme/pub", private=True)
    time.sleep(1.2)
    assert cache.get(CONFIG).status == 401   # the branch had to be asked for
    answer = cache.get(at_commit(hub, "config.json"))
    assert answer.status == 401, "the public mark outlived a refusal"


@pytest.mark.slow
def test_S06_access_taken_away(hub, start, people):
    cache = start(hub_grant_ttl="2s", hub_deny_ttl="1s")
    target = at_commit(hub, "model.safetensors", "acme/gated")
    assert cache.get(target, people.alice).status == 200
    hub.content.tokens[people.alice].grants.clear()
    time.sleep(2.2)
    assert_gated(cache.get(target, people.alice), 403)
    hub.content.tokens[people.alice].grants.add("acme/gated")
    time.sleep(2.2)
    assert cache.get(target, people.alice).status == 200
    hub.content.revoke_token(people.alice)
    time.sleep(2.2)
    assert_gated(cache.get(target, people.alice), 401)


@pytest.mark.parametrize("how", ["killed", "restarted", "offline"])
def test_S07_offline_only_for_proven_tokens(hub, cache, people, how):
    warm(hub, cache, "acme/gated", people.alice)
    warm(hub, cache, "acme/private", people.alice)
    hub.kill()
    if how != "killed":
        cache.restart(hub_offline="yes" if how == "offline" else "no")
    for repo in ("acme/gated", "acme/private"):
        files, facts = routes(hub, repo)
        for target in files + (facts if repo == "acme/private" else []):
            for token in (None, people.bob, people.nobody, people.writer):
                for answer in (cache.get(target, token), cache.head(target, token)):
                    assert answer.status in IGNORANCE, f"{target}: {answer}"
                    assert answer["X-Repo-Commit"] is None and answer["ETag"] is None and answer["Retry-After"]
        for target in files + facts:
            assert cache.get(target, people.alice).status == 200, target


def test_S07_strict_policy(hub, start, people):
    cache = start(offline_access="public")
    warm(hub, cache, "acme/gated", people.alice)
    assert_whole(cache.get(CONFIG), hub, "config.json")
    hub.kill()
    cache.restart(hub_offline="yes")
    assert cache.get(GATED, people.alice).status in IGNORANCE
    assert_whole(cache.get(CONFIG), hub, "config.json")


def test_S07_old_proofs(hub, start, people):
    cache = start(offline_grace="1s")
    warm(hub, cache, "acme/gated", people.alice)
    hub.kill()
    time.sleep(2.1)
    cache.restart(hub_offline="yes")
    assert cache.get(GATED, people.alice).status in IGNORANCE


def test_S08_one_principal_in_every_scheme(hub, cache, people):
    assert cache.get(GATED, people.alice).status == 200
    hub.reset_counters()
    basic = base64.b64encode(f"anyone:{people.alice}".encode()).decode()
    for value in (f"bearer {people.alice}", f"BEARER {people.alice}", f"Basic {basic}", f"basic {basic}", f"Bearer  {people.alice}"):
        answer = cache.get(at_commit(hub, "model.safetensors", "acme/gated"), headers=[("Authorization", value)])
        assert answer.status == 200, f"{value[:8]}: {answer}"
    assert not hub.calls("hub", "resolve"), "taken for somebody else"


def test_S09_a_proof_is_reused_for_its_token_and_repo_only(hub, cache, people):
    target = at_commit(hub, "config.json", "acme/gated")
    assert cache.get(target, people.alice).status == 200
    hub.reset_counters()
    for _ in range(5):
        assert cache.get(target, people.alice).status == 200
    assert not hub.calls()
    assert cache.get(at_commit(hub, "config.json", "acme/private"), people.alice).status == 200
    assert hub.calls("hub", "acme/private"), "a grant for one repository opened another"
    assert_gated(cache.get(target, people.bob), 403)
    assert hub.calls("hub", "acme/gated")


def test_Z07_who_joins_a_running_download_is_asked_first(hub, cache, people):
    add_large(hub, 8 * 1024 * 1024, seed=24, repo="acme/locked")
    hub.set_visibility("acme/locked", gated="auto")
    hub.content.tokens[people.alice].grants.add("acme/locked")
    url = "/acme/locked/resolve/main/weights.bin"
    hub.rate("cdn", 8 << 20)
    first = Background(lambda: cache.get(url, people.alice))
    wait_for(lambda: hub.body_bytes("cdn") > 1 << 20)
    assert_gated(cache.get(url, people.bob), 403)
    assert_gated(cache.get(url), 401)
    assert first.result().body == file_of(hub, "weights.bin", "acme/locked").source.read()


def test_Z08_same_bytes_in_an_open_and_a_closed_repo(hub, cache, people):
    data = bytes_of(hub, "model.safetensors", "acme/private")
    hub.content.add_repo("model", "acme/open").commit({"open.bin": LFS(data)})
    assert cache.get(PRIVATE, people.alice).status == 200
    answer = cache.get("/acme/open/resolve/main/open.bin")
    assert_whole(answer, hub, "open.bin", "acme/open")
    assert "private" not in str(answer.fields).replace("private, ", "").replace("Cache-Control', 'private", "")
    assert cache.get(PRIVATE).status == 401 and cache.get(PRIVATE, people.bob).status == 404


@pytest.mark.parametrize("status", [429, 500, 503])
def test_Z10_trouble_is_no_verdict(hub, start, people, status):
    cache = start(hub_grant_ttl="2s")
    target = at_commit(hub, "config.json", "acme/gated")
    assert cache.get(target, people.alice).status == 200
    time.sleep(2.2)
    rule = hub.rule("hub", status=status)
    answer = cache.get(target, people.bob)
    assert answer.status in (429, 500, 502, 503, 504), answer
    rule.remove()
    assert_file_head(wait_for(lambda: (a := cache.head(target, people.alice)).status == 200 and a, 15, 0.5), hub, "config.json", "acme/gated")
    assert_gated(wait_for(lambda: (a := cache.get(target, people.bob)).status not in (429, 503) and a, 15, 0.5), 403)


def test_Z15_the_proofs_on_disk_are_no_tokens(hub, cache, people):
    warm(hub, cache, "acme/gated", people.alice)
    cache.restart()
    key = cache.store / "key"
    assert key.stat().st_mode & 0o077 == 0 and len(key.read_bytes()) == 32
    assert (cache.store / "index.db").stat().st_mode & 0o077 == 0 or cache.store.stat().st_mode & 0o077 == 0
    assert cache.get(GATED, people.alice).status == 200


def test_Z06_an_old_name_taken_by_somebody_else_opens_nothing(hub, cache, people):
    """The old name of a private repo is registered anew, public: what is booked on it is not booked on the private one."""
    hub.content.add_alias("model", "bob/model", "acme/private")
    commit = commit_of(hub, "acme/private").id
    assert cache.get("/bob/model/resolve/main/config.json", people.alice).status == 200
    assert cache.get("/api/models/acme/private/tree/main?recursive=true", people.alice).status == 200
    hub.content.aliases.pop(("model", "bob/model"))
    hub.content.add_repo("model", "bob/model").commit({"config.json": b"{}", "README.md": b"bob's"})
    cache.head("/bob/model/resolve/main/README.md")
    for target in (f"/acme/private/resolve/{commit}/config.json", f"/api/models/acme/private/tree/{commit}?recursive=true",
                   f"/bob/model/resolve/{commit}/config.json"):
        assert cache.get(target).status in (401, 404), target


def test_U07_a_redirect_to_a_login_page_is_no_new_name(hub, cache, people):
    rule = hub.rule("hub", path="config.json", redirect_to=f"{hub.url}/login")
    cache.get("/acme/pub/resolve/main/config.json"), cache.get("/acme/private/resolve/main/config.json", people.alice)
    rule.remove()
    commit = commit_of(hub, "acme/private").id
    assert cache.get(f"/api/models/acme/private/tree/{commit}?recursive=true", people.alice).status == 200
    assert cache.get("/acme/pub/resolve/main/README.md").status == 200
    assert cache.get(f"/api/models/acme/private/tree/{commit}?recursive=true").status == 401
