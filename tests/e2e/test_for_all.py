# SPDX-License-Identifier: Apache-2.0
"""Where everybody has a token, public is public too: what only tokens have shown is asked for once more without one, in the background,
so that it is for everybody while upstream is gone (reliability F.2 rules 1 and 2; hub-protocol 4.3)."""
import pytest

from facts import CONFIG, IGNORANCE, MODEL, PUB, assert_ignorance, assert_whole, at_commit, commit_of, resolve_calls
from harness import wait_for
from hubdouble import LFS
from wire import fields

KINDS = {"models": "", "datasets": "/datasets", "spaces": "/spaces"}


def questions(hub, repo=PUB):
    """The background's own, which come without a token."""
    return [c for c in hub.calls("hub", rf"/api/([a-z]+/{repo}/revision/.*expand|spaces/{repo}/revision/)") if not c.authorization]


def asked(hub, repo=PUB, count=1):
    wait_for(lambda: len([c for c in questions(hub, repo) if c.complete]) == count, 10, why=f"{count} questions without a token")


def is_public(cache, repo=PUB):
    return any(r["name"] == repo and r["visibility"] == "public" for r in cache.get("/-/repos").json()["repos"])


def opened(cache, repo=PUB):
    wait_for(lambda: is_public(cache, repo), 10, why="the answer to be learned")


def gone(hub, cache):
    hub.kill()
    cache.until_known_down()


@pytest.mark.parametrize("by", ["branch", "commit"])
@pytest.mark.parametrize("kind", KINDS)
def test_F2_a_file_that_one_token_asked_for(hub, cache, people, kind, by):
    repo = hub.content.add_repo(kind[:-1], "acme/lone")
    commit = repo.commit({"a.txt": b"one\n", "b.bin": LFS(b"two" * 999), "c.txt": b"three"}).id
    target = f"{KINDS[kind]}/acme/lone/resolve/{'main' if by == 'branch' else commit}/b.bin"
    assert cache.get(target, people.alice).body == b"two" * 999
    asked(hub, "acme/lone")
    opened(cache, "acme/lone")
    gone(hub, cache)
    for token in (people.bob, people.nobody, None):
        assert cache.get(target, token).body == b"two" * 999
        assert cache.get(f"{KINDS[kind]}/acme/lone/resolve/{commit}/b.bin", token).body == b"two" * 999
        assert_ignorance(cache.get(target.replace("b.bin", "c.txt"), token))   # public, but not held
    cache.restart(hub_offline="yes")
    assert cache.get(target).body == b"two" * 999


def test_F2_a_snapshot_that_one_token_took(hub, cache, people):
    info, tree = f"/api/models/{PUB}/revision/main", f"/api/models/{PUB}/tree/{commit_of(hub).id}?recursive=true"
    said = [cache.get(info, people.alice), cache.get(tree, people.alice)]
    for path in ("config.json", "model.safetensors"):
        assert_whole(cache.get(at_commit(hub, path), people.alice), hub, path)
    asked(hub)
    opened(cache)
    hub.reset_counters()
    for path in ("config.json", "model.safetensors"):   # it is public now, online too
        assert_whole(cache.get(at_commit(hub, path), people.bob), hub, path)
    assert not hub.calls()
    gone(hub, cache)
    for token in (people.bob, None):
        assert [a.body for a in (cache.get(info, token), cache.get(tree, token))] == [a.body for a in said]
        assert_whole(cache.get(CONFIG, token), hub, "config.json")
        assert_whole(cache.get(MODEL, token), hub, "model.safetensors")


@pytest.mark.parametrize("target", ["/api/models/acme/pub/refs", "/api/models/acme/pub", "/api/models/acme/pub/tree/main",
                                    "/api/models/acme/pub/commits/main"])
def test_F2_a_document_that_one_token_asked_for(hub, cache, people, target):
    said = cache.get(target, people.alice)
    asked(hub)
    opened(cache)
    wait_for(lambda: all(c.complete for c in hub.calls()), 10)
    gone(hub, cache)
    for token in (people.bob, None):
        answer = cache.get(target, token)
        assert answer.status == 200 and answer.body == said.body


@pytest.mark.parametrize("agent", ["ollama/0.5.7", "llama-cpp"])
def test_F2_a_registry_pull_with_a_token(hub, cache, people, agent):
    """The Hub tells llama.cpp something else than others."""
    repo = hub.content.add_repo("model", "acme/gguf")
    file = repo.commit({"Gguf-Q8_0.gguf": LFS(b"GGUF" * 5000)}).files["Gguf-Q8_0.gguf"]
    manifest, blob = "/v2/acme/gguf/manifests/Q8_0", f"/v2/acme/gguf/blobs/sha256:{file.sha256}"

    def pull(token):
        return cache.get(manifest, token, User_Agent=agent), cache.get(blob, token, User_Agent=agent)
    said, bytes_of_it = pull(people.alice)
    assert said.status == 200 and ("ggufFile" in said.json()) == (agent == "llama-cpp") and bytes_of_it.body == b"GGUF" * 5000
    asked(hub, "acme/gguf")
    opened(cache, "acme/gguf")
    wait_for(lambda: all(c.complete for c in hub.calls()), 10)
    gone(hub, cache)
    for token in (people.alice, people.bob, None):
        again, bytes_of_it = pull(token)
        assert again.status == 200 and again.body == said.body and bytes_of_it.body == b"GGUF" * 5000


def test_F2_a_404_of_no_known_kind_says_nothing(hub, start, people):
    """Of a proxy between, or a replica that lags: what was shown to all stays."""
    cache = start(hub_revision_ttl="0s")
    old = commit_of(hub).id
    assert_whole(cache.get(CONFIG), hub, "config.json")
    hub.content.repo(PUB).commit({"more.txt": "more"})
    hub.rule(path=r"/revision/[0-9a-f]+\?expand", status=404, body=b"<html>", headers={"Content-Type": "text/html"})
    assert cache.get(f"/{PUB}/resolve/main/more.txt", people.alice).body == b"more"
    asked(hub)
    gone(hub, cache)
    assert cache.get(f"/{PUB}/resolve/{old}/config.json").status == 200


def test_F2_a_repo_that_is_opened_at_the_hub(hub, start, people):
    """It was not asked about, for it was closed; the Hub's word to alice that it is open is enough to ask again."""
    cache = start(hub_revision_ttl="0s", hub_metadata_ttl="0s", hub_deny_ttl="0s")
    file, info = "/acme/private/resolve/main/config.json", "/api/models/acme/private/revision/main"
    assert cache.get(info, people.alice).status == cache.get(file, people.alice).status == 200
    hub.set_visibility("acme/private", private=False)
    assert not questions(hub, "acme/private") and cache.get(info, people.alice).status == 200
    hub.content.repo("acme/private").commit({"more.txt": "more"})
    assert cache.get(file, people.alice).status == 200
    opened(cache, "acme/private")
    gone(hub, cache)
    assert cache.get(file, people.bob).status == cache.get(file).status == 200


def test_F2_it_is_asked_once(hub, cache, people):
    for path in ("config.json", "README.md", "model.safetensors"):
        assert_whole(cache.get(at_commit(hub, path), people.alice), hub, path)
    asked(hub)
    opened(cache)
    for path in ("config.json", "README.md", "model.safetensors"):
        assert_whole(cache.get(f"/{PUB}/resolve/main/{path}", people.bob), hub, path)
    assert len(questions(hub)) == 1


@pytest.mark.parametrize("name", ["acme/private", "acme/gated"])
@pytest.mark.parametrize("first", ["file", "info"])
def test_F2_what_is_not_for_all_stays_so(hub, start, people, name, first):
    """Where the Hub has said so to alice, it is not even asked for."""
    cache = start(hub_revision_ttl="0s", hub_metadata_ttl="0s", hub_deny_ttl="0s")
    file, info = f"/{name}/resolve/main/config.json", f"/api/models/{name}/revision/main"
    for target in (file, info, file, info) if first == "file" else (info, file, info, file):
        assert cache.get(target, people.alice).status == 200
    if first == "file":
        asked(hub, name)
    gone(hub, cache)
    assert len(questions(hub, name)) == (1 if first == "file" else 0)
    assert cache.get(file, people.alice).status == 200
    for token in (people.bob, people.nobody, None):
        assert_ignorance(cache.get(file, token))
        if name == "acme/private":   # that a gated one exists, the Hub tells to all
            assert_ignorance(cache.get(info, token))


def test_F2_it_is_private_by_the_time_it_answers(hub, cache, people):
    """The question's answer is what counts, not that it was asked."""
    hub.rule(path=r"/revision/[0-9a-f]+\?expand", delay_first_byte=0.5, status=401, body=b"",
             headers={"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
    assert_whole(cache.get(CONFIG, people.alice), hub, "config.json")
    asked(hub)
    gone(hub, cache)
    assert_ignorance(cache.get(CONFIG, people.bob))
    assert cache.get(CONFIG).status in (401, *IGNORANCE)


def test_F2_it_was_opened_through_us_while_the_question_was_out(hub, start, people):
    """The refusal is from before the write, and says nothing about what came after it."""
    cache = start(hub_deny_ttl="0s")
    file = "/acme/private/resolve/main/config.json"
    hub.rule(path=r"acme/private/revision/[0-9a-f]+\?expand", delay_first_byte=2, status=401, body=b"",
             headers={"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
    assert cache.get(file, people.alice).status == 200
    wait_for(lambda: questions(hub, "acme/private"), 10)
    assert cache.ask("PUT", "/api/models/acme/private/settings", people.writer, body=b'{"private": false}',
                     Content_Type="application/json").status == 200
    assert cache.get(file).status == 200
    asked(hub, "acme/private")
    cache.until_durable(hub)
    gone(hub, cache)
    assert cache.get(file, people.bob).status == cache.get(file).status == 200


def test_F2_no_client_waits_for_it(hub, cache, people):
    hub.rule(path=r"/revision/[0-9a-f]+\?expand", delay_first_byte=6)
    assert_whole(cache.get(CONFIG, people.alice, timeout=4), hub, "config.json")
    assert_whole(cache.get(CONFIG, people.bob, timeout=4), hub, "config.json")
    asked(hub)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_F2_an_answer_that_proves_nothing(hub, cache, people, status):
    hub.rule(path=r"/revision/[0-9a-f]+\?expand", status=status, body=b"")
    assert_whole(cache.get(CONFIG, people.alice), hub, "config.json")
    wait_for(lambda: questions(hub), 10)
    gone(hub, cache)
    assert cache.get(CONFIG, people.alice).status == 200
    assert_ignorance(cache.get(CONFIG, people.bob))


def test_F2_switched_off(hub, start, people):
    cache = start(hub_prove_public="no")
    assert_whole(cache.get(CONFIG, people.alice), hub, "config.json")
    assert len(resolve_calls(hub)) > 0
    gone(hub, cache)
    assert not questions(hub)
    assert cache.get(CONFIG, people.alice).status == 200
    assert_ignorance(cache.get(CONFIG, people.bob))


def test_F2_it_carries_nothing_of_the_client(hub, cache, people):
    sent = {"User-Agent": "secret-agent/1", "X-Api-Key": "word", "Cookie": "token=word"}
    assert cache.get(CONFIG, people.alice, headers=fields(headers=list(sent.items()))).status == 200
    asked(hub)
    names = {k.lower(): v for k, v in questions(hub)[0]["headers"]}
    assert "authorization" not in names and "cookie" not in names and "x-api-key" not in names
    assert "secret-agent" not in names.get("user-agent", "")
