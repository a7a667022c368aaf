# SPDX-License-Identifier: Apache-2.0
"""Writes through the daemon (hub-protocol 8 and 10.8: W01 to W08; reliability P10), and uploads through its tunnel."""
import base64
import hashlib
import json
import os
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from facts import CONFIG, IGNORANCE, PUB, bytes_of, commit_of
from harness import SLOW, wait_for, within
from wire import fields

NDJSON = "application/x-ndjson"
LFS_JSON = "application/vnd.git-lfs+json"
COMMIT = "/api/models/acme/pub/commit/main"


def commit_body(files=(), deleted=(), summary="a change"):
    lines = [{"key": "header", "value": {"summary": summary, "description": ""}}]
    lines += [{"key": "file", "value": {"path": p, "content": base64.b64encode(b).decode(), "encoding": "base64"}} for p, b in files]
    lines += [{"key": "deletedFile", "value": {"path": p}} for p in deleted]
    return b"\n".join(json.dumps(line).encode() for line in lines) + b"\n"


def commit(cache, token, *files, deleted=(), target=COMMIT, **how):
    answer = cache.ask("POST", target, token, body=commit_body(files, deleted), Content_Type=NDJSON, **how)
    assert answer.status == 200, (answer.status, answer.body)
    return answer.json()


def post(cache, target, token, method="POST", **value):
    return cache.ask(method, target, token, body=json.dumps(value).encode(), Content_Type="application/json")


def writes(hub, path="", origin="hub"):
    return [c for c in hub.calls(origin, path) if c["method"] not in ("GET", "HEAD")]


# --- W01: nothing is changed on the way ---

def test_W01_bodies_and_answers_pass_byte_for_byte(hub, cache, people):
    asked = b'{"files": [ {"path":"a.bin","sample":"AAAA","size":3} ],\n "gitAttributes":"" }'
    said = b'{ "files" : [{"path":"a.bin", "uploadMode":"lfs"}],\r\n"commitOid": "x"  }'
    hub.rule(path="/preupload/", body=said, headers={"Content-Type": "application/json; charset=utf-8", "X-Odd": "1"})
    answer = cache.ask("POST", "/api/models/acme/pub/preupload/main?create_pr=1", people.writer, body=asked, Content_Type="application/json")
    assert answer.status == 200 and answer.body == said and answer["X-Odd"] == "1"
    call = writes(hub)[-1]
    assert call["body"] == asked and call["target"] == "/api/models/acme/pub/preupload/main?create_pr=1"

    body = commit_body([("new.txt", b"new")])
    said = (b'{"success" : true, "commitOid":"%s","commitUrl": "%s/acme/pub/commit/1", "n":1.50,"hookOutput":"see %s/acme/pub"}'
            % (b"1" * 40, hub.url.encode(), hub.url.encode()))
    hub.rule(path="/commit/", body=said, headers={"Content-Type": "application/json; charset=utf-8"})
    answer = cache.ask("POST", COMMIT, people.writer, body=body, Content_Type=NDJSON)
    assert answer.body == said.replace(b'"%s/acme/pub/commit' % hub.url.encode(), b'"%s/acme/pub/commit' % cache.url.encode())
    call = writes(hub, "/commit/")[-1]
    assert call["body"] == body and call.header("Content-Type") == NDJSON and call["authorization"] == f"Bearer {people.writer}"


def test_W01_an_answer_in_pieces_has_each_field_once(hub, cache, people):
    hub.rule(path="/commit/", body=b'{"success":true,"commitOid":"%s"}' % (b"1" * 40), headers={"Content-Type": "application/json"},
             chunked=True, stall_after=9, stall_for=0.5)
    answer = cache.ask("POST", COMMIT, people.writer, body=commit_body(), Content_Type=NDJSON)
    assert answer.json()["commitOid"] == "1" * 40
    names = [name.lower() for name, _ in answer.fields]
    assert names.count("content-type") == 1 and names.count("x-request-id") == 1


def test_W01_addresses_in_answers_are_ours(hub, cache, people):
    made = post(cache, "/api/repos/create", people.writer, name="new", organization="acme", type="dataset")
    assert made.json()["url"] == f"{cache.url}/datasets/acme/new" and made.json()["name"] == "acme/new"
    again = post(cache, "/api/repos/create", people.writer, name="new", organization="acme", type="dataset")
    assert again.status == 409 and again.json()["url"] == f"{cache.url}/datasets/acme/new"
    pull = commit(cache, people.writer, ("x.txt", b"x"), target=COMMIT + "?create_pr=1")
    assert pull["pullRequestUrl"].startswith(f"{cache.url}/acme/pub/discussions/")
    assert pull["commitUrl"] == f"{cache.url}/acme/pub/commit/{pull['commitOid']}"
    copy = post(cache, "/api/models/acme/pub/duplicate", people.writer, repository="acme/copy")
    assert copy.json()["url"] == f"{cache.url}/acme/copy", copy.body


# --- W02: read your own writes ---

def test_W02_a_commit_is_seen_by_everybody_at_once(hub, start, people):
    cache = start(hub_revision_ttl="1h", hub_metadata_ttl="1h")
    missing = "/acme/pub/resolve/main/added.txt"
    for token in (None, people.alice):
        assert cache.head(CONFIG, token).status == 200
        assert cache.head(missing, token, source="127.0.0.3")["X-Error-Code"] == "EntryNotFound"
        for target in ("/api/models/acme/pub", "/api/models/acme/pub/refs", "/api/models/acme/pub/tree/main"):
            assert cache.get(target, token).status == 200
    made = commit(cache, people.writer, ("added.txt", b"added"), ("config.json", b"{}"), deleted=["README.md"])["commitOid"]
    assert made == commit_of(hub).id
    for token in (people.writer, None, people.alice):
        answer = cache.get(missing, token, source="127.0.0.4")
        assert (answer.status, answer.body, answer["X-Repo-Commit"]) == (200, b"added", made)
        assert cache.get(CONFIG, token, source="127.0.0.4").body == b"{}"
        assert cache.head("/acme/pub/resolve/main/README.md", token)["X-Error-Code"] == "EntryNotFound"
        assert cache.get("/api/models/acme/pub", token).json()["sha"] == made
        assert cache.get("/api/models/acme/pub/refs", token).json()["branches"][0]["targetCommit"] == made
        assert "added.txt" in cache.get("/api/models/acme/pub/tree/main", token).text


def test_W02_the_branch_stands_at_the_commit_without_a_question(hub, start, people):
    cache = start(hub_revision_ttl="1h")
    assert cache.get(CONFIG).status == 200
    made = commit(cache, people.writer, ("added.txt", b"added"))["commitOid"]
    assert cache.get(f"/acme/pub/resolve/{made}/added.txt").body == b"added"
    hub.reset_counters()
    assert cache.head("/acme/pub/resolve/main/added.txt")["X-Repo-Commit"] == made
    assert not hub.calls(), "main is known to be there"
    hub.kill()
    assert cache.get("/acme/pub/resolve/main/added.txt").body == b"added"


def test_W02_a_head_keeps_its_word_to_others_but_not_to_the_writer(hub, start, people):
    cache = start(hub_revision_ttl="1h")
    before = commit_of(hub).id
    old = bytes_of(hub, "config.json")
    for token in (people.writer, people.alice, None):
        assert cache.head(CONFIG, token)["X-Repo-Commit"] == before
    made = commit(cache, people.writer, ("config.json", b'{"new":1}'))["commitOid"]
    mine = cache.get(CONFIG, people.writer)
    assert (mine.body, mine["X-Repo-Commit"]) == (b'{"new":1}', made)
    for token in (people.alice, None):
        theirs = cache.get(CONFIG, token)
        assert (theirs.body, theirs["X-Repo-Commit"]) == (old, before), "P9"
        assert cache.head(CONFIG, token)["X-Repo-Commit"] == made   # a new HEAD is a new word
        assert cache.get(CONFIG, token).body == b'{"new":1}'


def test_W02_what_was_asked_before_is_no_answer_afterwards(hub, start, people):
    cache = start(hub_revision_ttl="1h", hub_metadata_ttl="1h")
    before = commit_of(hub).id
    held = hub.rule(path="/api/models/acme/pub$|/resolve/main/config.json", method="GET|HEAD", delay_first_byte=2 * SLOW, times=2,
                    status=[None])
    with ThreadPoolExecutor(4) as all_of_them:
        info = all_of_them.submit(lambda: cache.get("/api/models/acme/pub", timeout=20))
        head = all_of_them.submit(lambda: cache.head(CONFIG, timeout=20))
        wait_for(lambda: held.hits == 2)
        made = commit(cache, people.writer, ("config.json", b"{}"))["commitOid"]
        later = all_of_them.submit(lambda: cache.head(CONFIG, source="127.0.0.5", timeout=20))
        again = all_of_them.submit(lambda: cache.get("/api/models/acme/pub", source="127.0.0.5", timeout=20))
        assert later.result()["X-Repo-Commit"] == made
        assert again.result().json()["sha"] == made
        assert head.result()["X-Repo-Commit"] in (before, made) and info.result().json()["sha"] in (before, made)
    assert cache.head(CONFIG)["X-Repo-Commit"] == made
    assert cache.get("/api/models/acme/pub").json()["sha"] == made


def test_W02_branches_tags_and_squash(hub, start, people):
    cache = start(hub_revision_ttl="1h", hub_metadata_ttl="1h")
    first = commit_of(hub).id
    at = "/acme/pub/resolve/{}/config.json".format
    assert cache.head(at("mine"))["X-Error-Code"] == "RevisionNotFound"
    assert post(cache, "/api/models/acme/pub/branch/mine", people.writer, startingPoint="main").status == 201
    assert cache.head(at("mine"))["X-Repo-Commit"] == first
    made = commit(cache, people.writer, ("config.json", b"mine"), target="/api/models/acme/pub/commit/mine")["commitOid"]
    assert cache.head(at("mine"))["X-Repo-Commit"] == made and cache.head(at("main"))["X-Repo-Commit"] == first
    assert post(cache, "/api/models/acme/pub/tag/mine", people.writer, tag="v9").status == 201
    assert cache.head(at("v9"))["X-Repo-Commit"] == made
    assert "v9" in cache.get("/api/models/acme/pub/refs").text
    squashed = post(cache, "/api/models/acme/pub/super-squash/mine", people.writer, message="one").json()["commitOid"]
    assert squashed != made and cache.head(at("mine"), people.writer)["X-Repo-Commit"] == squashed
    assert cache.ask("DELETE", "/api/models/acme/pub/tag/v9", people.writer).status == 200
    assert cache.ask("DELETE", "/api/models/acme/pub/branch/mine", people.writer).status == 200
    for gone in ("v9", "mine"):
        assert cache.head(at(gone), people.writer)["X-Error-Code"] == "RevisionNotFound"
    assert "v9" not in cache.get("/api/models/acme/pub/refs").text


def test_W02_a_pull_request_has_a_name_of_its_own(hub, start, people):
    cache = start(hub_revision_ttl="1h")
    main = cache.head(CONFIG)["X-Repo-Commit"]
    pull = commit(cache, people.writer, ("config.json", b"pr"), target=COMMIT + "?create_pr=1")
    number = pull["pullRequestUrl"].rsplit("/", 1)[1]
    assert cache.head(CONFIG)["X-Repo-Commit"] == main
    assert cache.head(f"/acme/pub/resolve/refs%2Fpr%2F{number}/config.json")["X-Repo-Commit"] == pull["commitOid"]
    hub.rule(path="/discussions/[0-9]+/merge", when=lambda r: hub.move_branch(PUB, "main", pull["commitOid"]), body=b'{"success":true}')
    assert post(cache, f"/api/models/acme/pub/discussions/{number}/merge", people.writer).status == 200
    assert cache.head(CONFIG, people.writer)["X-Repo-Commit"] == pull["commitOid"]


def test_W02_questions_sent_with_post_forget_nothing(hub, start, people):
    cache = start(hub_revision_ttl="1h")
    assert cache.head(CONFIG).status == 200
    asked = {"files": [{"path": "a.txt", "sample": "", "size": 1}]}
    assert post(cache, "/api/models/acme/pub/preupload/main", people.writer, **asked).status == 200
    hub.reset_counters()
    assert cache.head(CONFIG).status == 200 and not hub.calls()


@pytest.mark.parametrize("fault", [{"close": "reset"}, {"status": 504}])
def test_W02_a_write_of_which_nobody_knows_is_looked_for(hub, start, people, fault):
    """The Hub did it, and its answer was lost."""
    cache = start(hub_revision_ttl="1h")
    assert cache.head(CONFIG).status == 200
    made = []
    hub.rule(path="/commit/", when=lambda r: made.append(hub.content.repo(PUB).commit({"config.json": "{}"})) or True, times=1, **fault)
    answer = cache.ask("POST", COMMIT, people.writer, body=commit_body(), Content_Type=NDJSON)
    assert answer.status in (502, 504) and len(writes(hub, "/commit/")) == 1
    assert cache.head(CONFIG)["X-Repo-Commit"] == commit_of(hub).id == made[0].id
    hub.kill()
    assert cache.head(CONFIG)["X-Repo-Commit"] == made[0].id


# --- what a write leaves for when upstream is gone (hub-protocol 8.2 rule 3, E08) ---

AT = "/acme/pub/resolve/{}/config.json".format
SEEN = ("/api/models/acme/pub", "/api/models/acme/pub/refs", "/api/models/acme/pub/revision/dev", "/api/models/acme/pub/revision/v1")
AFTER_A_WRITE = pytest.mark.parametrize("then", ["goes on", "restarts", "is killed"])


def two_more_names(hub):
    pub = hub.content.repo(PUB)
    pub.branch("dev")
    pub.tag("v1")
    return commit_of(hub).id


def upstream_dies(hub, cache, then):
    if then != "goes on":
        cache.until_durable(hub)
    hub.kill()
    if then != "goes on":
        cache.restart(kill=then == "is killed")


@AFTER_A_WRITE
def test_E08_what_was_last_seen_outlives_a_write(hub, start, people, then):
    cache = start(hub_revision_ttl="1h", hub_metadata_ttl="1h")
    before = two_more_names(hub)
    said = {target: cache.get(target).body for target in SEEN}
    for name in ("dev", "v1", "main"):
        assert cache.get(AT(name)).status == 200
    assert cache.head("/acme/pub/resolve/dev/nothing.here")["X-Error-Code"] == "EntryNotFound"
    old = bytes_of(hub, "config.json")
    made = commit(cache, people.writer, ("config.json", b"{}"))["commitOid"]
    assert cache.get(f"/acme/pub/resolve/{made}/config.json").body == b"{}"
    upstream_dies(hub, cache, then)
    for _ in range(2):
        for name in ("dev", "v1"):
            answer = cache.get(AT(name))
            assert (answer.status, answer.body, answer["X-Repo-Commit"]) == (200, old, before), name
            assert 0 <= int(answer["Age"]) < 600
        assert cache.head("/acme/pub/resolve/dev/nothing.here")["X-Error-Code"] == "EntryNotFound"
        answer = cache.get(AT("main"))
        assert (answer.status, answer.body, answer["X-Repo-Commit"]) == (200, b"{}", made)
        for target in SEEN:
            answer = cache.get(target)
            assert (answer.status, answer.body) == (200, said[target]), target
            assert answer["X-HF-Warning"] and 0 <= int(answer["Age"]) < 600, target


def test_W02_after_a_write_every_name_is_asked_for_again(hub, start, people):
    """However young it is, also by a daemon that has started since."""
    cache = start(hub_revision_ttl="1h", hub_metadata_ttl="1h")
    two_more_names(hub)
    for name in ("dev", "v1"):
        assert cache.get(AT(name)).status == 200
    for target in SEEN:
        assert cache.get(target).status == 200
    commit(cache, people.writer, ("added.txt", b"added"))
    cache.until_durable(hub)
    cache.restart(kill=True)
    now = hub.content.repo(PUB).commit({"config.json": "{}"}, branch="dev").id
    hub.reset_counters()
    assert cache.head(AT("dev"))["X-Repo-Commit"] == now
    assert cache.get("/api/models/acme/pub/revision/dev").json()["sha"] == now
    for target in SEEN:
        answer = cache.get(target)
        assert answer.status == 200 and answer["X-HF-Warning"] is None
    assert len(hub.calls("hub", "/refs$")) == 1 and len(hub.calls("hub", "/revision/v1$")) == 1
    hub.reset_counters()
    assert cache.head(AT("dev"))["X-Repo-Commit"] == now and cache.get("/api/models/acme/pub/refs").status == 200
    assert not hub.calls(), "what was heard since is believed"


@pytest.mark.parametrize("repo", [PUB, "acme/private"])
@pytest.mark.parametrize("then", ["goes on", "is killed"])
def test_W02_what_only_the_writer_has_seen_gives_others_nothing_older(hub, start, people, repo, then):
    """The one before is kept for those who were shown no other: for when upstream is gone, and not sooner."""
    cache = start(hub_revision_ttl="1h", hub_metadata_ttl="1h", hub_grant_ttl="1h")
    api = f"/api/models/{repo}"
    targets = (api, f"{api}/refs", f"{api}/commits/main", f"{api}/tree/main", f"{api}/tree/main?recursive=true")
    others = (people.alice, None, people.bob) if repo == PUB else (people.alice,)
    said = {target: cache.get(target, token).body for token in (people.writer, *others) for target in targets}
    made = commit(cache, people.writer, ("added.txt", b"added"), target=f"{api}/commit/main")["commitOid"]
    for target in targets:
        assert cache.get(target, people.writer, source="127.0.0.3").body != said[target]
    if then == "is killed":
        cache.until_durable(hub)
        cache.restart(kill=True)
    for token in others:
        for target in targets:
            answer = cache.get(target, token, source="127.0.0.4")
            assert answer.status == 200 and answer.body != said[target] and answer["X-HF-Warning"] is None, (token, target)
            assert made in answer.text + str(answer["X-Repo-Commit"]), (token, target)


@pytest.mark.parametrize("repo", [PUB, "acme/private"])
def test_E08_what_only_the_writer_has_seen_leaves_others_what_they_saw(hub, start, people, repo):
    cache = start(hub_revision_ttl="1h", hub_metadata_ttl="1h", hub_grant_ttl="1h")
    target = f"/api/models/{repo}/refs"
    others = (people.alice, None) if repo == PUB else (people.alice,)
    said = {token: cache.get(target, token).body for token in others}
    made = commit(cache, people.writer, ("added.txt", b"added"), target=f"/api/models/{repo}/commit/main")["commitOid"]
    assert made in cache.get(target, people.writer).text
    hub.kill()
    cache.until_known_down()
    for token in others:
        answer = cache.get(target, token, source="127.0.0.4")
        assert (answer.status, answer.body) == (200, said[token]) and answer["X-HF-Warning"] and 0 <= int(answer["Age"]) < 600
    assert made in cache.get(target, people.writer).text


@AFTER_A_WRITE
@pytest.mark.parametrize("kind", ["branch", "tag"])
def test_W02_a_deleted_name_does_not_come_back_when_upstream_goes(hub, start, people, kind, then):
    cache = start(hub_revision_ttl="1h", hub_metadata_ttl="1h")
    before = two_more_names(hub)
    gone, kept = ("dev", "v1") if kind == "branch" else ("v1", "dev")
    for name in (gone, kept):
        assert cache.get(AT(name)).status == 200 and cache.get(f"/api/models/acme/pub/revision/{name}").status == 200
    assert cache.ask("DELETE", f"/api/models/acme/pub/{kind}/{gone}", people.writer).status == 200
    upstream_dies(hub, cache, then)
    for target in (AT(gone), f"/api/models/acme/pub/revision/{gone}"):
        answer = cache.get(target)
        assert answer.status in (404, *IGNORANCE) and answer["X-Repo-Commit"] is None, (target, answer.status)
    for target in (AT(kept), f"/api/models/acme/pub/revision/{kept}"):
        answer = cache.get(target)
        assert answer.status == 200 and answer["X-Repo-Commit"] in (before, None), target


def test_W08_a_new_repo_is_not_taken_for_missing(hub, start, people):
    cache = start(hub_deny_ttl="1h")
    for token in (None, people.writer):
        assert cache.get("/api/models/acme/fresh", token).status in (401, 404)
        assert cache.head("/acme/fresh/resolve/main/a.txt", token).status in (401, 404)
    assert post(cache, "/api/repos/create", people.writer, name="fresh", organization="acme").status == 200
    for token in (None, people.writer):
        assert cache.get("/api/models/acme/fresh", token).status == 200
    commit(cache, people.writer, ("a.txt", b"a"), target="/api/models/acme/fresh/commit/main")
    assert cache.get("/acme/fresh/resolve/main/a.txt").body == b"a"


def test_W08_made_private_it_is_closed_at_once(hub, start, people):
    cache = start(hub_public_ttl="1h", hub_grant_ttl="1h", hub_revision_ttl="1h", hub_metadata_ttl="1h")
    for token in (None, people.bob):
        assert cache.get(CONFIG, token).status == 200 and cache.get("/api/models/acme/pub", token).status == 200
    assert post(cache, "/api/models/acme/pub/settings", people.writer, "PUT", private=True).status == 200
    for token in (None, people.bob):
        assert cache.get(CONFIG, token).status in (401, 403, 404) and cache.get("/api/models/acme/pub", token).status in (401, 403, 404)
    assert post(cache, "/api/models/acme/pub/settings", people.writer, "PUT", private=False).status == 200
    for token in (None, people.bob):
        assert cache.get(CONFIG, token).status == 200


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_W08_a_deleted_repo_is_gone_for_everybody(hub, start, people, framing):
    cache = start(hub_public_ttl="1h", hub_grant_ttl="1h", hub_revision_ttl="1h")
    for token in (None, people.alice):
        assert cache.get(CONFIG, token).status == 200
    body = b'{ "name": "pub", "organization":"acme",\n"type": "model" }'
    with cache.connect() as conn:
        if framing == "length":
            conn.request("DELETE", "/api/repos/delete", fields(people.writer, Content_Type="application/json"), body)
        else:
            conn.request("DELETE", "/api/repos/delete", fields(people.writer, Transfer_Encoding="chunked"), b"")
            conn.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        assert conn.read().status == 200
    assert writes(hub)[-1]["body"] == body
    for token in (None, people.alice):
        assert cache.get(CONFIG, token).status in (401, 404)
        assert cache.get("/api/models/acme/pub", token).status in (401, 404)


def test_W08_a_move_leaves_no_names_behind(hub, start, people):
    cache = start(hub_public_ttl="1h", hub_grant_ttl="1h", hub_revision_ttl="1h", hub_metadata_ttl="1h", hub_deny_ttl="1h")
    assert cache.get(CONFIG).status == 200 and cache.get("/api/models/acme/pub").status == 200
    assert cache.get("/api/models/acme/moved").status in (401, 404)
    assert post(cache, "/api/repos/move", people.writer, fromRepo="acme/pub", toRepo="acme/moved", type="model").status == 200
    assert cache.get("/api/models/acme/moved").json()["id"] == "acme/moved"
    assert cache.get("/acme/moved/resolve/main/config.json").status == 200
    assert cache.get("/api/models/acme/pub").status in (200, 307), "the old name still leads there"
    # and back: what led from the one to the other is over
    assert post(cache, "/api/repos/move", people.writer, fromRepo="acme/moved", toRepo="acme/pub", type="model").status == 200
    assert cache.get("/api/models/acme/pub").json()["id"] == "acme/pub"
    assert cache.get(CONFIG).status == 200


def test_W08_a_body_that_names_no_repo_is_passed_on(hub, cache, people):
    hub.rule(path="/api/repos/", status=422, body=b'{"error":"what?"}', headers={"Content-Type": "application/json"})
    for body in (b"", b"[]", b"not json", b'{"name":7}', b'{"fromRepo":"../x","toRepo":""}', b"\x00\xff"):
        for method, path in (("POST", "/api/repos/move"), ("DELETE", "/api/repos/delete")):
            answer = cache.ask(method, path, people.writer, body=body)
            assert answer.status == 422 and (writes(hub)[-1]["body"] or b"") == body
    hub.reset_counters()
    assert cache.ask("POST", "/api/repos/move", people.writer, body=b" " * 70_000).status == 413 and not writes(hub)
    assert cache.get(CONFIG).status == 200


# --- W03, W05: bodies are not kept ---

class Sink:
    """A Hub that takes what it is sent and keeps none of it."""

    def __init__(self, answer=b'{"success":true}', pause=0.0):
        self.answer, self.pause, self.received, self.requests = answer, pause, 0, []
        self.digest = hashlib.sha256()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        stream = conn.makefile("rb", 1 << 20)
        try:
            while head := self._head(stream):
                self.requests.append(head)
                self._take(stream, head)
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: \"part\"\r\nContent-Length: %d\r\n\r\n%s"
                             % (len(self.answer), self.answer))
        except (OSError, ValueError):
            pass
        conn.close()

    @staticmethod
    def _head(stream):
        lines = []
        while (line := stream.readline()) not in (b"\r\n", b""):
            lines.append(line.decode().strip())
        return lines

    def _some(self, stream, size):
        while size:
            piece = stream.read(min(size, 1 << 20))
            if not piece:
                raise ValueError("cut short")
            self.received += len(piece)
            self.digest.update(piece)
            size -= len(piece)
            time.sleep(self.pause)

    def _take(self, stream, head):
        for line in head:
            name, _, value = line.partition(": ")
            if name.lower() == "content-length":
                self._some(stream, int(value))
            elif name.lower() == "transfer-encoding":
                while size := int(stream.readline(), 16):
                    self._some(stream, size)
                    stream.readline()
                stream.readline()

    def close(self):
        if self.listener.fileno() >= 0:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()


@pytest.fixture
def sink():
    made = Sink()
    yield made
    made.close()


def pour(conn, method, target, size, framing, piece=b"0123456789abcdef" * 65536, watch=lambda: 0, **named):
    """Sends so many bytes; returns the answer, the digest of what was sent, and the most that watch() said meanwhile."""
    digest, most, left = hashlib.sha256(), 0, size
    length = {"Content-Length": str(size)} if framing == "length" else {"Transfer-Encoding": "chunked"}
    conn.request(method, target, fields(headers=length, **named), b"")
    while left:
        part = piece[:left]
        conn.send(part if framing == "length" else b"%x\r\n%s\r\n" % (len(part), part))
        digest.update(part)
        left -= len(part)
        if (left // len(piece)) % 64 == 0:
            most = max(most, watch())
    if framing == "chunked":
        conn.send(b"0\r\n\r\n")
    return conn.read(), digest.hexdigest(), most


@pytest.mark.parametrize("size", [24 << 20, pytest.param(200 << 20, marks=pytest.mark.slow)])
def test_W03_a_large_commit_is_not_held(start, sink, size):
    sink.pause = 0.0003   # it takes less than comes
    cache = start(to=sink)
    before = cache.rss()
    with cache.connect(timeout=60) as conn:
        answer, sent, most = pour(conn, "POST", COMMIT, size, "chunked", watch=cache.rss, Content_Type=NDJSON)
    assert answer.status == 200 and answer.json() == {"success": True}
    assert sink.received == size and sink.digest.hexdigest() == sent
    assert SLOW > 1 or most - before < 16 << 20, f"{before} -> {most}"


@pytest.mark.slow
@pytest.mark.seconds(400)
@pytest.mark.parametrize("road", ["commit", "tunnel"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_P10_two_gigabytes_up_in_constant_memory(hub, start, people, sink, road, framing):
    cache = start(to=sink if road == "commit" else hub)
    target = COMMIT if road == "commit" else tunnel_to(hub, cache, people, f"{sink.url}/part?sig=1")
    with cache.connect(timeout=120) as conn:
        answer, sent, most = pour(conn, "POST" if road == "commit" else "PUT", target, 2 << 30, framing, watch=cache.rss)
    assert answer.status == 200 and sink.received == 2 << 30 and sink.digest.hexdigest() == sent
    print(f"2 GiB by {road}, {framing}: {most / 1e6:.1f} MB")
    assert SLOW > 1 or most < 60e6
    assert not cache.parts()


def test_W05_offline_a_write_is_refused_at_once(hub, cache, people):
    hub.kill()
    cache.until_known_down()
    before = cache.rss()
    for method, target in (("POST", COMMIT), ("PUT", "/api/models/acme/pub/settings"), ("POST", "/api/repos/move")):
        answer = within(1, lambda: cache.ask(method, target, people.writer, body=b"{}"))
        assert answer.status == 503 and answer["Retry-After"] == "0" and answer["X-Error-Code"] is None
        assert "nothing was sent" in answer.json()["error"] and answer.json()["error"] == answer["X-Error-Message"]
    with cache.connect(timeout=20) as conn:   # a client that only ever sends
        conn.request("POST", COMMIT, fields(people.writer, Content_Length=str(64 << 20)), b"")
        sent = 0
        try:
            while sent < 64 << 20:
                conn.send(b"x" * 65536)
                sent += 65536
        except OSError:
            pass
        answer = conn.read()
        assert answer.status == 503 or (answer.status == 0 and sent), answer
    assert SLOW > 1 or cache.rss() - before < 8 << 20
    assert cache.get("/-/healthz").status == 200


def test_W05_an_upstream_that_breaks_in_the_middle(hub, cache, people):
    for cut in ({"read_cut_after": 100_000}, {"read_cut_after": 100_000, "read_reset": True}):
        rule = hub.rule(path="/commit/", **cut)
        hub.reset_counters()
        with cache.connect(timeout=30) as conn:
            answer, _, _ = pour(conn, "POST", COMMIT, 8 << 20, "length", Authorization=f"Bearer {people.writer}")
        assert answer.status in (502, 503, 504), answer
        assert len(writes(hub, "/commit/")) == 1, "never a second time"
        rule.remove()
    assert cache.get(CONFIG).status == 200


def test_W05_a_client_that_breaks_off_commits_nothing(hub, cache, people):
    before = commit_of(hub).id
    body = commit_body([("half.txt", b"x" * 3_000_000)])
    for length in (str(len(body)), None):
        with cache.connect() as conn:
            named = {"Content_Length": length} if length else {"Transfer_Encoding": "chunked"}
            conn.request("POST", COMMIT, fields(people.writer, **named), b"")
            half = body[:len(body) // 2]
            conn.send(half if length else b"%x\r\n%s\r\n" % (len(half), half))
            wait_for(lambda: any(c["received"] > 100_000 for c in writes(hub, "/commit/")[-1:]))
    wait_for(lambda: hub.connections() == 0 or all(c["t_end"] for c in writes(hub, "/commit/")), 20)
    assert commit_of(hub).id == before and all(not c["status"] for c in writes(hub, "/commit/"))


# --- W04: expectations ---

def interim(conn):
    """What comes first: 100, or the final answer's head."""
    while b"\r\n\r\n" not in conn.buffer:
        assert conn._more(), "nothing came"
    return int(conn.buffer.split(b" ", 2)[1])


@pytest.mark.parametrize("framing", [{"Content_Length": "5000000"}, {"Transfer_Encoding": "chunked"}])
def test_W04_a_refusal_comes_before_the_body(hub, cache, people, framing):
    hub.rule(path="/commit/", early=True, status=403, body=b'{"error":"no"}', headers={"X-Error-Message": "no"})
    with cache.connect(timeout=20) as conn:
        conn.request("POST", COMMIT, fields(people.writer, Expect="100-continue", **framing), b"")
        assert interim(conn) == 403
        answer = conn.read()
        assert answer.status == 403 and answer.json() == {"error": "no"} and answer["X-Error-Message"] == "no"
    call, = writes(hub, "/commit/")
    assert not call["received"] and not call["continued"]


def test_W04_go_on_is_said_when_upstream_wants_the_body(hub, cache, people):
    hub.rule(path="/commit/", delay_read=1.5)
    body = commit_body([("expected.txt", b"as expected")])
    with cache.connect(timeout=20) as conn:
        began = time.monotonic()
        conn.request("POST", COMMIT, fields(people.writer, Expect="100-continue", Content_Length=str(len(body))), b"")
        assert interim(conn) == 100
        assert time.monotonic() - began > 0.5, "upstream had not said so yet"
        conn.send(body)
        assert conn.read().status == 200
    assert bytes_of(hub, "expected.txt") == b"as expected"


def test_W04_a_client_that_does_not_wait_is_served_too(hub, cache, people):
    body = commit_body([("impatient.txt", b"now")])
    for _ in range(2):
        answer = cache.ask("POST", COMMIT, people.writer, body=body, Expect="100-continue", Content_Type=NDJSON)
        assert answer.status == 200
    hub.kill()
    with cache.connect(timeout=20) as conn:
        conn.request("POST", COMMIT, fields(people.writer, Expect="100-continue", Content_Length="5000000"), b"")
        assert interim(conn) in IGNORANCE + (502,)


# --- W07: exactly once ---

@pytest.mark.parametrize("method,target,body", [
    ("POST", COMMIT, commit_body()), ("PUT", "/api/models/acme/pub/settings", b"{}"), ("POST", "/api/models/acme/pub/discussions", b""),
    ("DELETE", "/api/models/acme/pub/branch/x", None), ("POST", "/api/repos/move", b'{"fromRepo":"acme/pub","toRepo":"acme/x"}'),
    ("DELETE", "/api/repos/delete", b'{"name":"acme/x"}')])
@pytest.mark.parametrize("close", ["fin", "reset"])
def test_W07_a_write_is_sent_once(hub, cache, people, method, target, body, close):
    hub.rule(path="/experimental", body=b"{}")
    for _ in range(2):   # connections that may be used again
        assert cache.get("/api/experimental", people.writer).status == 200
        assert cache.ask("POST", "/api/experimental", people.writer, body=b"x").status == 200
    hub.rule(path=re.escape(target), close=close)
    answer = cache.ask(method, target, people.writer, body=body)
    assert answer.status == 502 and "not known whether" in answer.json()["error"], answer
    assert len(writes(hub, re.escape(target))) == 1


def test_W07_a_connection_that_died_idle_costs_no_write(hub, cache, people):
    hub.rule(path="/experimental", body=b"{}")
    for i in range(5):
        assert cache.get("/api/experimental", people.writer).status == 200
        for conn in list(hub.origins["hub"].conns.values()):
            conn.shutdown(socket.SHUT_RDWR)
        assert cache.ask("POST", "/api/experimental", people.writer, body=b"x").status == 200
        assert cache.ask("DELETE", "/api/experimental", people.writer).status == 200
    assert len(writes(hub, "/experimental")) == 10


# --- the tunnel ---

def upload_batch(cache, token, objects, repo="/acme/pub.git", transfers=("basic", "multipart"), **how):
    asked = {"operation": "upload", "transfers": list(transfers), "objects": objects, "hash_algo": "sha256"}
    return cache.ask("POST", f"{repo}/info/lfs/objects/batch", token, body=json.dumps(asked).encode(), Accept=LFS_JSON,
                     Content_Type=LFS_JSON, **how)


def ours(cache, url):
    assert url.startswith(cache.url + "/"), url
    return url[len(cache.url):]


def tunnel_to(hub, cache, people, url):
    """Our address for an upload that the Hub wants at url."""
    oid = hashlib.sha256(url.encode()).hexdigest()
    text = {"transfer": "basic", "objects": [{"oid": oid, "size": 5, "authenticated": True, "actions": {"upload": {"href": url}}}]}
    rule = hub.rule("hub", path="/objects/batch$", body=json.dumps(text).encode(), headers={"Content-Type": LFS_JSON})
    answer = upload_batch(cache, people.writer, [{"oid": oid, "size": 5}])
    rule.remove()
    assert answer.status == 200, answer.body
    return ours(cache, answer.json()["objects"][0]["actions"]["upload"]["href"])


def test_W06_an_upload_goes_through_us_whole(hub, cache, people):
    data = bytes(range(256)) * 4000
    oid = hashlib.sha256(data).hexdigest()
    answer = upload_batch(cache, people.writer, [{"oid": oid, "size": len(data)}])
    actions = answer.json()["objects"][0]["actions"]
    target = ours(cache, actions["upload"]["href"])
    assert re.fullmatch(r"/-/upload/[0-9a-f]{32}", target)
    put = cache.ask("PUT", target, body=data, Content_Type="application/octet-stream")
    assert put.status == 200 and put["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    call, = hub.calls("cdn", "/upload/")
    assert call["authorization"] is None and call.header("Content-Type") == "application/octet-stream" and call.header("X-Request-Id") is None
    assert call["body_sha256"] == oid
    verify = actions["verify"]
    assert cache.ask("POST", ours(cache, verify["href"]), headers=fields(headers=verify.get("header", {})),
                     body=json.dumps({"oid": oid, "size": len(data)}).encode(), Content_Type=LFS_JSON).status == 200


def test_W06_an_upload_in_parts(hub, cache, people):
    hub.options.multipart_over, hub.options.chunk_size = 1_000_000, 400_000
    data = bytes(range(250)) * 5000
    oid = hashlib.sha256(data).hexdigest()
    said = upload_batch(cache, people.writer, [{"oid": oid, "size": len(data)}]).json()
    assert said["transfer"] == "multipart"
    action = said["objects"][0]["actions"]["upload"]
    size, parts = int(action["header"]["chunk_size"]), []
    for number in sorted(k for k in action["header"] if k.isdigit()):
        piece = data[(int(number) - 1) * size:int(number) * size]
        put = cache.ask("PUT", ours(cache, action["header"][number]), body=piece)
        assert put.status == 200
        parts.append({"partNumber": int(number), "etag": put["ETag"]})
    assert len(parts) == 4
    done = cache.ask("POST", ours(cache, action["href"]), people.writer, body=json.dumps({"oid": oid, "parts": parts}).encode(),
                     Content_Type=LFS_JSON)
    assert done.status == 200, done.body
    line = json.dumps({"key": "lfsFile", "value": {"path": "large.bin", "algo": "sha256", "oid": oid, "size": len(data)}}).encode()
    made = cache.ask("POST", COMMIT, people.writer, body=commit_body() + line + b"\n", Content_Type=NDJSON)
    assert made.status == 200, made.body
    assert cache.get("/acme/pub/resolve/main/large.bin").body == data
    assert not hub.leaks()


def test_W06_tickets(hub, cache, people, sink):
    target = tunnel_to(hub, cache, people, f"{sink.url}/put/x%2Fy?X-Sig=%2F%3d&b")
    assert cache.ask("PUT", target, people.writer, body=b"mine").status == 200
    assert cache.ask("PUT", target, people.alice, body=b"not hers").status == 403
    assert cache.ask("PUT", target[:-1] + ("0" if target[-1] != "0" else "1"), body=b"guess").status == 403
    assert cache.ask("PUT", target + "/x", body=b"more").status == 403
    for method in ("GET", "HEAD", "POST", "DELETE", "PATCH"):
        answer = cache.ask(method, target, people.writer)
        assert answer.status == 405 and "PUT" in answer["Allow"]
    assert [r[0] for r in sink.requests] == ["PUT /put/x%2Fy?X-Sig=%2F%3d&b HTTP/1.1"]
    assert not [line for line in sink.requests[0] if line.lower().startswith(("authorization", "cookie", "x-request-id"))]
    assert target.rsplit("/", 1)[1] not in cache.stderr() and "X-Sig" not in cache.stderr()
    wait_for(lambda: cache.log_lines(method="PUT", status="200"))
    assert target_again(hub, cache, people, sink) != target


def target_again(hub, cache, people, sink):
    return tunnel_to(hub, cache, people, f"{sink.url}/put/x%2Fy?X-Sig=%2F%3d&b")


def test_W06_pages_may_upload(hub, cache, people, sink):
    target = tunnel_to(hub, cache, people, f"{sink.url}/put")
    asked = cache.ask("OPTIONS", target, Origin="https://page.test", Access_Control_Request_Method="PUT",
                      Access_Control_Request_Headers="content-type")
    assert asked.status == 204 and "PUT" in asked["Access-Control-Allow-Methods"] and asked["Access-Control-Allow-Origin"] == "*"
    put = cache.ask("PUT", target, body=b"x", Origin="https://page.test")
    assert put["Access-Control-Allow-Origin"] == "*" and "ETag" in put["Access-Control-Expose-Headers"] and put["ETag"] == '"part"'
    assert not [line for line in sink.requests[0] if line.lower().startswith("origin")]


def test_W06_an_upload_that_fails_says_so_once(hub, cache, people, sink):
    sink.close()
    answer = cache.ask("PUT", tunnel_to(hub, cache, people, f"{sink.url}/put"), body=b"x" * 100_000)
    assert answer.status == 503 and "storage" in answer.json()["error"]
    rule = hub.rule("cdn", path="/upload/", status=500, body=b"<Error/>")
    data = b"some"
    oid = hashlib.sha256(data).hexdigest()
    action = upload_batch(cache, people.writer, [{"oid": oid, "size": 4}]).json()["objects"][0]["actions"]["upload"]
    answer = cache.ask("PUT", ours(cache, action["href"]), body=data)
    assert answer.status == 500 and answer.body == b"<Error/>" and len(hub.calls("cdn", "/upload/")) == 1
    assert cache.metric("hfcache_upstream_up") == 1, "the storage is not the Hub"
    rule.remove()
    hub.rule("cdn", path="/upload/", redirect_to="http://127.0.0.9:1/x", status=307)
    assert cache.ask("PUT", ours(cache, action["href"]), body=data).status == 307


def test_W06_hosts_that_are_not_allowed_are_left_alone(hub, cache, people):
    for url in ("https://s3.example.test/x?sig=1", "http://127.0.0.2:9/x?sig=1"):
        text = {"transfer": "basic", "objects": [{"oid": "1" * 64, "size": 5, "actions": {"upload": {"href": url}}}]}
        hub.rule("hub", path="/objects/batch$", body=json.dumps(text).encode(), headers={"Content-Type": LFS_JSON})
        answer = upload_batch(cache, people.writer, [{"oid": "1" * 64, "size": 5}])
        assert answer.json()["objects"][0]["actions"]["upload"]["href"] == url


def test_W06_other_names_of_the_server_get_their_own_addresses(hub, cache, people):
    data = b"by another name"
    oid = hashlib.sha256(data).hexdigest()
    answer = upload_batch(cache, people.writer, [{"oid": oid, "size": len(data)}], host="cache.lan:9000")
    href = answer.json()["objects"][0]["actions"]["upload"]["href"]
    assert href.startswith("http://cache.lan:9000/-/upload/")
    assert cache.ask("PUT", href.replace("http://cache.lan:9000", ""), body=data, host="cache.lan:9000").status == 200


# --- uploads over Xet ---

XET = "/-/upload/xet"


def xet_token(hub, cache, token, target="/api/models/acme/pub/xet-write-token/main"):
    """The token for writing, whose storage is the daemon by now."""
    answer = cache.get(target, token)
    assert answer.status == 200 and answer["Cache-Control"] == "private, no-store", answer
    assert answer.json()["casUrl"] == answer["X-Xet-Cas-Url"] == cache.url + XET
    assert answer.json()["accessToken"] == answer["X-Xet-Access-Token"] and hub.cas_url not in answer.text + str(answer.fields)
    return answer.json()["accessToken"]


def test_W06_what_goes_over_xet_goes_through_us(hub, cache, people):
    """Clients with hf_xet ask nobody whether they shall use it."""
    hub.rule("cas", body=b'{"was_inserted":true}', headers={"Content-Type": "application/json"})
    for target in ("/api/models/acme/pub/xet-write-token/main", "/api/models/acme/pub/xet-write-token/None?create_pr=1"):
        token = xet_token(hub, cache, people.writer, target)
        body = os.urandom(200_000)
        answer = cache.ask("POST", f"{XET}/v1/xorbs/default/{'ab' * 32}?a=%2F", token, body=body, X_Xet_Session_Id="1-2")
        assert answer.status == 200 and answer.body == b'{"was_inserted":true}'
        call = hub.calls("cas")[-1]
        assert call["target"] == f"/v1/xorbs/default/{'ab' * 32}?a=%2F" and call["body_sha256"] == hashlib.sha256(body).hexdigest()
        assert call["authorization"] == f"Bearer {token}" and call.header("X-Xet-Session-Id") == "1-2" and not call.header("X-Request-Id")
    assert cache.get(f"{XET}/v1/chunks/default/{'cd' * 32}", token).status == 200
    before = len(hub.calls("cas"))
    grant = cache.ask("POST", f"{XET}/v1/xorb-grants/default/{'ab' * 32}", token, body=b'{"length":1}')
    assert grant.status == 404, "signed addresses of the storage would lead past us"
    assert cache.ask("POST", "/v1/telemetry", token, body=b"{}").status == 200
    assert len(hub.calls("cas")) == before and not hub.calls("hub", "telemetry")
    hub.rule("cas", status=403, body=b'{"error":"no"}')
    assert cache.ask("POST", f"{XET}/v1/shards", token, body=b"x").status == 403


def test_W06_only_a_token_that_came_with_a_storage_goes_there(hub, cache, people):
    token = xet_token(hub, cache, people.writer)
    for other in (None, people.writer, people.alice, "xet_made_up"):
        for method, path in (("POST", "/v1/shards"), ("GET", "/v1/chunks/default/ab"), ("POST", "/../v1/shards"), ("POST", "//elsewhere/v1")):
            answer = cache.ask(method, XET + path, other, body=b"x" if method == "POST" else None)
            assert answer.status in (400, 401, 404), (other, path, answer)
    assert not hub.calls("cas"), hub.calls("cas")
    for refused in (None, people.bob):
        assert cache.get("/api/models/acme/private/xet-write-token/main", refused).status in (401, 403, 404)
    assert cache.ask("POST", f"{XET}/v1/shards", token, body=b"x").status == 404 and len(hub.calls("cas")) == 1
    cache.restart()
    answer = cache.ask("POST", f"{XET}/v1/shards", token, body=b"x")
    assert answer.status == 401 and "begin the upload anew" in answer.text and len(hub.calls("cas")) == 1
    read = cache.get("/api/models/acme/pub/xet-read-token/main").json()
    assert read["casUrl"] == hub.cas_url, "what it leads to are the storage's own addresses"


@pytest.mark.parametrize("said", [
    '{"accessToken":"xet_1","exp":4102444800,"casUrl":"http://192.0.2.1/cas"}', '{"accessToken":"xet_1","exp":4102444800,"casUrl":"file:///etc"}',
    '{"accessToken":"","exp":4102444800,"casUrl":"CAS"}', '{"accessToken":"xet_1","exp":"x","casUrl":"CAS"}', '{"accessToken":"xet_1","casUrl":"CAS"}',
    '{"accessToken":"xet_1","exp":4102444800,"casUrl":"CAS?q=1"}', '["xet_1"]', 'no json'])
def test_W06_a_storage_that_we_may_not_go_to_is_told_as_it_is(hub, cache, people, said):
    said = said.replace("CAS", hub.cas_url)
    hub.rule("hub", path="xet-write-token", body=said.encode(), headers={"Content-Type": "application/json"})
    answer = cache.get("/api/models/acme/pub/xet-write-token/main", people.writer)
    assert answer.status == 200 and answer.text == said
    assert cache.ask("POST", f"{XET}/v1/shards", "xet_1", body=b"x").status == 401 and not hub.calls("cas")


def test_W06_a_token_for_writing_ends(hub, cache, people):
    said = json.dumps({"accessToken": "xet_old", "exp": int(time.time()) - 400, "casUrl": hub.cas_url})
    hub.rule("hub", path="xet-write-token", body=said.encode(), headers={"Content-Type": "application/json"})
    cache.get("/api/models/acme/pub/xet-write-token/main", people.writer)
    assert cache.ask("POST", f"{XET}/v1/shards", "xet_old", body=b"x").status == 401 and not hub.calls("cas")
    hub.kill()
    cache.until_known_down()
    answer = cache.get("/api/models/acme/pub/xet-write-token/main", people.writer)
    assert answer.status in (503, 504) and answer["Retry-After"]
