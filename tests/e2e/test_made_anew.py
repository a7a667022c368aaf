# SPDX-License-Identifier: Apache-2.0
"""Names that stand for another repository than before: deleted and made anew under the same name, moved away and the old name
taken by somebody else (reliability Z06; hub-protocol 4.3, 5.3).

Never     waits for an hour: an alias is made older in the index of a daemon that is not running.
"""
import json
import sqlite3
import time
from contextlib import closing

import pytest

from facts import IGNORANCE, assert_whole, at_commit, bytes_of, commit_of
from harness import wait_for
from hubdouble import LFS
from together import Background

OLD = b"what only alice may know " * 4000
OLD_CONFIG = b'{"old": "and private"}'


def make(hub, repo, object_id, files, **visibility):
    made = hub.content.add_repo("model", repo, **visibility)
    made.object_id = object_id * 24
    made.commit(files)
    return made


def old_repo(hub, people, repo="acme/once"):
    hub.content.tokens[people.alice].grants.add(repo)
    return make(hub, repo, "a", {"config.json": OLD_CONFIG, "model.safetensors": LFS(OLD)}, private=True)


def new_repo(hub, repo="acme/once", **visibility):
    hub.content.delete_repo("model", repo)
    return make(hub, repo, "b", {"config.json": b'{"new": 1}', "README.md": b"# new\n"}, **visibility)


def old_doors(hub, repo="acme/once"):
    """Everything that names the old repository's content by commit or hash; to be called while it is there."""
    commit, large = commit_of(hub, repo).id, hub.content.repo(repo).head.files["model.safetensors"]
    batch = json.dumps({"operation": "download", "transfers": ["basic"], "objects": [{"oid": large.sha256, "size": large.size}]})
    doors = [("GET", f"/{repo}/resolve/{commit}/model.safetensors", None), ("GET", f"/{repo}/resolve/{commit[:10]}/config.json", None),
             ("GET", f"/{repo}/resolve/{commit}/config.json", None), ("HEAD", f"/{repo}/resolve/{commit}/config.json", None),
             ("GET", f"/{repo}/raw/{commit}/model.safetensors", None), ("GET", f"/{repo}/raw/{commit}/config.json", None),
             ("GET", f"/api/resolve-cache/models/{repo}/{commit}/config.json", None),
             ("GET", f"/api/models/{repo}/tree/{commit}?recursive=true", None), ("GET", f"/api/models/{repo}/tree/{commit}", None),
             ("GET", f"/api/models/{repo}/revision/{commit}", None), ("GET", f"/v2/{repo}/blobs/sha256:{large.sha256}", None),
             ("POST", f"/api/models/{repo}/paths-info/{commit}", b'{"paths": ["model.safetensors"]}')]
    return doors, (f"/{repo}.git/info/lfs/objects/batch", batch.encode()), [large.sha256, large.oid, commit[12:]]


def warm_old(cache, doors, token):
    for method, target, body in doors[0]:
        answer = cache.ask(method, target, token, body=body, headers=[("Content-Type", "application/json")] if body else ())
        assert answer.status == 200, f"{method} {target}: {answer}"
    assert cache.get("/api/models/acme/once", token).json()["_id"] == "a" * 24
    assert cache.get("/api/models/acme/once/revision/main", token).status == 200
    assert cache.ask("POST", doors[1][0], token, body=doors[1][1], headers=[("Content-Type", "application/vnd.git-lfs+json")]).status == 200


def none_opens(cache, doors, token, statuses):
    """No door to the old content is open, and none says anything about it that was not in the question."""
    for method, target, body in doors[0]:
        answer = cache.ask(method, target, token, body=body, headers=[("Content-Type", "application/json")] if body else ())
        assert answer.status in statuses or (answer.status == 200 and method == "POST" and answer.body == b"[]"), f"{method} {target}: {answer}"
        said = bytes(answer.kept) + str(answer.fields).encode()
        assert OLD[:24] not in said and OLD_CONFIG not in said and str(len(OLD)).encode() not in said, f"{method} {target}: {answer}"
        assert not [x for x in doors[2] if x.encode() in said and x not in target], f"{method} {target}: {answer}"
    answer = cache.ask("POST", doors[1][0], token, body=doors[1][1], headers=[("Content-Type", "application/vnd.git-lfs+json")])
    assert b"download" not in bytes(answer.kept), answer


def test_Z06_what_a_private_repo_held_is_not_the_new_ones(hub, start, people):
    """Deleted, and made again public: the old commit's addresses are as unknown as at the Hub, at once, after a restart, from the
    journals, and without upstream."""
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s", hub_deny_ttl="0s")
    old_repo(hub, people)
    doors = old_doors(hub)
    warm_old(cache, doors, people.alice)
    new_repo(hub)
    assert cache.get("/api/models/acme/once").json()["_id"] == "b" * 24
    assert_whole(cache.get("/acme/once/resolve/main/config.json"), hub, "config.json", "acme/once")
    assert cache.log_lines(level="warning", repo="models/acme/once")
    for token in (None, people.bob, people.alice):
        none_opens(cache, doors, token, (404,))
    cache.restart()
    none_opens(cache, doors, None, (404,))
    assert cache.stop() == 0
    for path in cache.store.glob("index.db*"):
        path.unlink()
    cache.start()
    none_opens(cache, doors, None, (404,))
    assert_whole(cache.get("/acme/once/resolve/main/config.json"), hub, "config.json", "acme/once")
    hub.kill()
    cache.restart(hub_offline="yes")
    assert cache.get("/acme/once/resolve/main/config.json").status == 200
    for token in (None, people.alice):
        none_opens(cache, doors, token, IGNORANCE)
    assert cache.stop() == 0
    for path in cache.store.glob("index.db*"):
        path.unlink()
    cache.start()
    none_opens(cache, doors, None, IGNORANCE)


def test_Z06_a_crash_right_after_it_was_seen_brings_nothing_back(hub, start, people):
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s", hub_deny_ttl="0s")
    old_repo(hub, people)
    doors = old_doors(hub)
    warm_old(cache, doors, people.alice)
    cache.restart()
    new_repo(hub)
    assert cache.get("/api/models/acme/once").status == 200
    cache.restart(kill=True)
    assert cache.get("/api/models/acme/once").status == 200   # if that was not durable yet, it is seen again
    none_opens(cache, doors, None, (404,))


def test_Z06_the_owner_of_the_old_repo_has_no_right_to_the_new_one(hub, start, people):
    """Alice asks; it was deleted and made again private by somebody else: she is refused, offline she has neither the old nor the new."""
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s", hub_deny_ttl="0s")
    old_repo(hub, people)
    doors = old_doors(hub)
    warm_old(cache, doors, people.alice)
    new_repo(hub, private=True)
    hub.content.tokens[people.alice].grants.discard("acme/once")
    assert cache.get("/api/models/acme/once", people.writer).json()["_id"] == "b" * 24
    assert cache.get(at_commit(hub, "config.json", "acme/once"), people.writer).status == 200
    none_opens(cache, doors, people.alice, (404,))
    none_opens(cache, doors, people.writer, (404,))
    assert cache.get(at_commit(hub, "config.json", "acme/once"), people.alice).status == 404


def test_Z06_a_written_name_does_not_hide_that_the_repo_is_another(hub, start, people):
    """A write takes the mutable documents back; the id of the repo is remembered all the same, also over a restart."""
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s", hub_deny_ttl="0s")
    old_repo(hub, people)
    doors = old_doors(hub)
    warm_old(cache, doors, people.alice)
    assert cache.ask("POST", "/api/models/acme/once/tag/main", people.writer, body=b'{"tag": "v1"}',
                     headers=[("Content-Type", "application/json")]).status in (200, 201)
    cache.restart()
    new_repo(hub)
    # another question about it than any that was asked before
    assert cache.get("/api/models/acme/once/revision/main?blobs=true").status == 200
    none_opens(cache, doors, None, (404,))


def test_Z06_a_repo_that_stays_itself_keeps_everything(hub, start, people):
    """The same id: what was held is held, with no question more."""
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s")
    old_repo(hub, people)
    doors = old_doors(hub)
    warm_old(cache, doors, people.alice)
    hub.content.repo("acme/once").commit({"more.txt": b"more"})
    time.sleep(1.2)
    assert cache.get("/api/models/acme/once", people.alice).status == 200
    cache.restart()
    hub.reset_counters()
    answer = cache.get(doors[0][0][1], people.alice)
    assert answer.status == 200 and answer.body == OLD
    assert not hub.calls("hub", "resolve")
    hub.kill()
    cache.restart(hub_offline="yes")
    for method, target, body in doors[0]:
        answer = cache.ask(method, target, people.alice, body=body, headers=[("Content-Type", "application/json")] if body else ())
        assert answer.status == 200, f"{method} {target}: {answer}"


def test_Z06_deleted_and_made_anew_through_the_daemon(hub, start, people):
    cache = start(hub_deny_ttl="0s")
    old_repo(hub, people)
    doors = old_doors(hub)
    warm_old(cache, doors, people.alice)
    said = [("Content-Type", "application/json")]
    assert cache.ask("DELETE", "/api/repos/delete", people.writer, headers=said,
                     body=b'{"name": "once", "organization": "acme", "type": "model"}').status == 200
    none_opens(cache, doors, people.alice, (404,))
    assert cache.ask("POST", "/api/repos/create", people.writer, headers=said,
                     body=b'{"name": "once", "organization": "acme", "type": "model"}').status in (200, 201)
    hub.content.repo("acme/once").commit({"config.json": b'{"new": 1}'})
    # no info is asked: the write itself has said enough
    assert_whole(cache.get("/acme/once/resolve/main/config.json"), hub, "config.json", "acme/once")
    none_opens(cache, doors, None, (404,))
    hub.kill()
    cache.restart(hub_offline="yes")
    none_opens(cache, doors, None, IGNORANCE)


def test_Z06_moved_away_through_the_daemon(hub, start, people):
    cache = start(hub_deny_ttl="0s")
    old_repo(hub, people)
    doors = old_doors(hub)
    warm_old(cache, doors, people.alice)
    assert cache.ask("POST", "/api/repos/move", people.writer, headers=[("Content-Type", "application/json")],
                     body=b'{"fromRepo": "acme/once", "toRepo": "acme/twice", "type": "model"}').status == 200
    make(hub, "acme/once", "b", {"config.json": b'{"new": 1}'})
    assert_whole(cache.get("/acme/once/resolve/main/config.json"), hub, "config.json", "acme/once")
    none_opens(cache, doors, None, (404,))


def test_Z06_an_answer_of_the_old_repo_that_comes_late_teaches_nothing(hub, start, people):
    """Asked before it was deleted, answered after the new one was seen; the bytes themselves are held."""
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s", hub_deny_ttl="0s")
    old = old_repo(hub, people)
    old.commit({"again.bin": LFS(OLD)})
    file, late_target = old.head.files["again.bin"], at_commit(hub, "again.bin", "acme/once")
    assert cache.get("/api/models/acme/once", people.alice).status == 200
    assert cache.get(at_commit(hub, "model.safetensors", "acme/once"), people.alice).body == OLD
    rule = hub.rule("hub", method="HEAD", path="again.bin", delay_first_byte=1.5, times=1, status=200, headers={
        "X-Repo-Commit": old.head.id, "X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size), "ETag": f'"{file.sha256}"'})
    late = Background(lambda: cache.get(late_target, people.alice))
    wait_for(lambda: rule.hits)
    new_repo(hub)
    assert cache.get("/api/models/acme/once").json()["_id"] == "b" * 24
    assert late.result().status == 404   # it is asked again
    assert cache.get(late_target).status == 404


def test_C01_a_pin_to_the_old_repo_ends_with_it(hub, start, people):
    """HEAD main, deleted and made anew, GET main by the same client: the new file, not an error for a minute."""
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s", hub_deny_ttl="0s")
    make(hub, "acme/once", "a", {"config.json": b'{"old": 1}'})
    assert cache.get("/api/models/acme/once").status == 200
    assert cache.head("/acme/once/resolve/main/config.json").status == 200
    new_repo(hub)
    time.sleep(1.2)
    assert cache.get("/api/models/acme/once").json()["_id"] == "b" * 24
    assert_whole(cache.get("/acme/once/resolve/main/config.json"), hub, "config.json", "acme/once")


# --- old names ---------------------------------------------------------------------------------------------------

def make_old(cache, name):
    """As if the alias had last been seen two hours ago."""
    assert cache.stop() == 0
    with closing(sqlite3.connect(cache.store / "index.db")) as db, db:
        assert db.execute("UPDATE aliases SET at = at - 7200 WHERE name = ?", (name.encode(),)).rowcount == 1
    cache.start()


def alias_of(cache, name):
    """(target, at) as on disk; stops the daemon."""
    assert cache.stop() == 0
    with closing(sqlite3.connect(cache.store / "index.db")) as db:
        found = db.execute("SELECT target, at FROM aliases WHERE name = ?", (name.encode(),)).fetchone()
    cache.start()
    return found


def test_U07_an_old_name_is_looked_at_again_after_an_hour(hub, cache, people):
    """One question, whose answer renews it; not before, and not without upstream."""
    target = "/old/name/resolve/main/config.json"
    assert_whole(cache.get(target), hub, "config.json")
    cache.restart()
    hub.reset_counters()
    assert_whole(cache.get(target), hub, "config.json")
    assert not hub.calls("hub", "/old/name/")
    make_old(cache, "models/old/name")
    assert_whole(cache.get(target), hub, "config.json")
    assert len(hub.calls("hub", "/old/name/resolve")) == 1 and hub.body_bytes("cdn") == 0
    assert_whole(cache.get(target), hub, "config.json")
    assert len(hub.calls("hub", "/old/name/resolve")) == 1
    assert abs(alias_of(cache, "models/old/name")[1] - time.time()) < 600
    make_old(cache, "models/old/name")
    hub.kill()
    cache.restart(hub_offline="yes")
    assert_whole(cache.get(target), hub, "config.json")


@pytest.mark.parametrize("trouble", [dict(status=500), dict(status=429), dict(close="reset")])
def test_U07_an_old_name_that_cannot_be_looked_at_again_is_followed(hub, cache, trouble):
    target = "/old/name/resolve/main/config.json"
    assert_whole(cache.get(target), hub, "config.json")
    make_old(cache, "models/old/name")
    hub.rule("hub", path="/old/name/", **trouble)
    assert_whole(cache.get(target), hub, "config.json")


@pytest.mark.parametrize("who", ["anonymous", "bob", "alice"])
@pytest.mark.parametrize("way", ["resolve", "tree", "info"])
def test_Z06_an_old_name_taken_by_somebody_else_is_reached(hub, cache, people, who, way):
    """Also by those whom the repo that it once meant refuses, and nothing of that one is shown to them."""
    token = None if who == "anonymous" else getattr(people, who)
    hub.content.add_alias("model", "bob/model", "acme/private")
    private, commit = bytes_of(hub, "config.json", "acme/private"), commit_of(hub, "acme/private").id
    assert cache.get("/bob/model/resolve/main/config.json", people.alice).body == private
    assert cache.get(f"/bob/model/resolve/{commit}/model.safetensors", people.alice).status == 200
    assert cache.get("/api/models/bob/model/tree/main", people.alice).status == 200
    make_old(cache, "models/bob/model")
    hub.content.aliases.pop(("model", "bob/model"))
    make(hub, "bob/model", "c", {"config.json": b'{"bob": 1}', "README.md": b"bob's"})
    target = {"resolve": "/bob/model/resolve/main/README.md", "tree": "/api/models/bob/model/tree/main",
              "info": "/api/models/bob/model"}[way]
    assert cache.get(target, token).status == 200
    assert_whole(cache.get("/bob/model/resolve/main/config.json", token), hub, "config.json", "bob/model")
    assert [i["path"] for i in cache.get("/api/models/bob/model/tree/main", token).json()] == ["README.md", "config.json"]
    for asked in (f"/bob/model/resolve/{commit}/config.json", f"/bob/model/resolve/{commit}/model.safetensors",
                  f"/api/models/bob/model/tree/{commit}"):
        assert cache.get(asked, token).status == 404, asked
    assert cache.get("/acme/private/resolve/main/config.json", people.alice).body == private
    for stranger in (None, people.bob):
        assert cache.get(f"/acme/private/resolve/{commit}/config.json", stranger).status in (401, 404)
    assert alias_of(cache, "models/bob/model") is None
    hub.kill()
    cache.restart(hub_offline="yes")
    assert_whole(cache.get("/bob/model/resolve/main/config.json", token), hub, "config.json", "bob/model")


def test_C02_a_short_name_that_is_answered_in_place_stays_one(hub, cache):
    """bert-base-uncased is resolved without a redirect: its documents lie under the long name, and are found there offline."""
    assert cache.get("/api/models/tinymodel").json()["id"] == "acme/tinymodel"
    assert_whole(cache.get("/tinymodel/resolve/main/config.json"), hub, "config.json", "acme/tinymodel")
    make_old(cache, "models/tinymodel")
    for path in ("config.json", "README.md"):
        assert_whole(cache.get(f"/tinymodel/resolve/main/{path}"), hub, path, "acme/tinymodel")
    assert alias_of(cache, "models/tinymodel")[0] == b"models/acme/tinymodel"
    hub.kill()
    cache.restart(hub_offline="yes")
    assert cache.get("/api/models/tinymodel").json()["id"] == "acme/tinymodel"
    assert_whole(cache.get("/tinymodel/resolve/main/config.json"), hub, "config.json", "acme/tinymodel")


def test_Z06_a_copy_under_the_old_name_opens_nothing_of_the_private_one(hub, cache, people):
    """Whoever takes the name brings the same commit, public: it is booked on that name alone."""
    hub.content.add_alias("model", "bob/model", "acme/private")
    repo = hub.content.repo("acme/private")
    target = f"/acme/private/resolve/{repo.head.id}/model.safetensors"
    assert cache.get("/bob/model/resolve/main/model.safetensors", people.alice).status == 200
    make_old(cache, "models/bob/model")
    hub.content.aliases.pop(("model", "bob/model"))
    copy = hub.content.add_repo("model", "bob/model")
    copy.object_id = "c" * 24
    copy.refs = repo.refs
    copy.commits = repo.commits
    cache.head("/bob/model/resolve/main/config.json")
    for stranger in (None, people.bob):
        assert cache.get(target, stranger).status in (401, 404)
        assert cache.get("/acme/private/resolve/main/config.json", stranger).status in (401, 404)


# --- no question about the repo itself: only files, as many clients ask -------------------------------------------

def test_Z06_a_client_that_asks_for_files_only_does_not_open_the_old_repo(hub, start, people):
    """Which repo it is, is asked for when a closed one seems to have opened; once."""
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s", hub_deny_ttl="0s")
    old_repo(hub, people)
    doors = old_doors(hub)
    warm_old(cache, doors, people.alice)
    new_repo(hub)
    time.sleep(1.2)
    hub.reset_counters()
    assert_whole(cache.get("/acme/once/resolve/main/config.json"), hub, "config.json", "acme/once")
    assert len(hub.calls("hub", "/api/models/acme/once")) == 1
    none_opens(cache, doors, None, (404,))
    assert_whole(cache.get("/acme/once/resolve/main/README.md"), hub, "README.md", "acme/once")
    hub.kill()
    cache.restart(hub_offline="yes")
    assert cache.get("/acme/once/resolve/main/config.json").status == 200
    none_opens(cache, doors, None, IGNORANCE)


def test_Z06_a_file_at_the_new_commit_does_not_open_the_old_repo(hub, start, people):
    cache = start(hub_deny_ttl="0s")
    old_repo(hub, people)
    doors = old_doors(hub)
    warm_old(cache, doors, people.alice)
    new_repo(hub)
    new = commit_of(hub, "acme/once").id
    assert cache.get(f"/api/models/acme/once/tree/{new}").status == 200
    assert cache.get(f"/acme/once/raw/{new}/config.json").status == 200
    assert_whole(cache.get(at_commit(hub, "config.json", "acme/once")), hub, "config.json", "acme/once")
    none_opens(cache, doors, None, (404,))


def test_P3_a_private_repo_that_turns_public_keeps_what_it_held(hub, start, people):
    """The same repo with a new commit: all of it is for all now, and nothing is fetched again."""
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s", hub_deny_ttl="0s")
    repo = old_repo(hub, people)
    doors = old_doors(hub)
    warm_old(cache, doors, people.alice)
    repo.commit({"more.txt": b"for all"})
    hub.set_visibility("acme/once", private=False)
    time.sleep(1.2)
    hub.reset_counters()
    assert_whole(cache.get("/acme/once/resolve/main/more.txt"), hub, "more.txt", "acme/once")
    assert len(hub.calls("hub", "/api/models/acme/once")) <= 1   # none, when it has asked for all of its own accord just before
    assert cache.get(doors[0][0][1]).body == OLD
    assert hub.body_bytes("cdn") == 0
    hub.kill()
    cache.restart(hub_offline="yes")
    for token in (None, people.alice):
        assert cache.get(doors[0][0][1], token).body == OLD
