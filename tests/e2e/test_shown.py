# SPDX-License-Identifier: Apache-2.0
"""What is held is given to who was shown it (P4): a name that stands for another repository than before, when nobody ever asked which
one it is; and what only a token has shown of a repository that was open when it was last looked at (reliability Z06, F.2).

The old repository is alice's, and private unless a test says otherwise; it is known by its files, listings and objects only. Nobody
asks in her place whether it is for all (hub.prove-public; test_for_all.py).
"""
import json
import sqlite3
import time

import pytest

from facts import IGNORANCE, assert_whole, at_commit, commit_of
from harness import wait_for
from hubdouble import LFS
from test_made_anew import OLD, OLD_CONFIG, make, none_opens, old_doors, old_repo

SAID = [("Content-Type", "application/json")]
LFS_SAID = [("Content-Type", "application/vnd.git-lfs+json")]
ONCE = "acme/once"
MAIN = f"/{ONCE}/resolve/main/config.json"
OPTIONS = dict(hub_revision_ttl="1s", hub_metadata_ttl="1s", hub_deny_ttl="0s", hub_prove_public="no")


def doors_by_file(hub):
    """Those that do not ask which repository it is."""
    doors, batch, secrets = old_doors(hub)
    return [d for d in doors if "/revision/" not in d[1]], batch, secrets


def warm(cache, doors, token):
    for method, target, body in doors[0]:
        answer = cache.ask(method, target, token, body=body, headers=SAID if body else ())
        assert answer.status == 200, f"{method} {target}: {answer}"
    assert cache.ask("POST", doors[1][0], token, body=doors[1][1], headers=LFS_SAID).status == 200


def new_repo(hub, files=None, **visibility):
    hub.content.delete_repo("model", ONCE)
    files = files or {"config.json": b'{"new": 1}', "README.md": b"# new\n", "model.safetensors": LFS(b"new weights " * 4000)}
    return make(hub, ONCE, "b", files, **visibility)


def rebuild(cache, **options):
    assert cache.stop() == 0
    for path in cache.store.glob("index.db*"):
        path.unlink()
    cache.options |= options
    cache.start()


def no_break(hub, cache):
    pass


def restart(hub, cache):
    cache.restart()


def crash(hub, cache):
    cache.until_durable(hub)
    cache.restart(kill=True)


def lost_index(hub, cache):
    rebuild(cache)


def outage(hub, cache):
    hub.kill()
    cache.until_known_down()
    cache.get(MAIN)
    hub.revive()
    wait_for(lambda: cache.metric("hfcache_upstream_up") == 1, 20, why="upstream's return")


SLOW_ONES = [pytest.param(crash, marks=pytest.mark.slow), pytest.param(outage, marks=pytest.mark.slow)]


# --- made anew, and nobody asked which it is ---------------------------------------------------------------------

@pytest.mark.parametrize("between", [no_break, restart, lost_index, *SLOW_ONES])
def test_Z06_public_now(hub, start, people, between):
    cache = start(**OPTIONS)
    old_repo(hub, people)
    doors = doors_by_file(hub)
    warm(cache, doors, people.alice)
    new_repo(hub)
    between(hub, cache)
    assert_whole(cache.get(MAIN), hub, "config.json", ONCE)
    none_opens(cache, doors, None, (404,))
    none_opens(cache, doors, people.bob, (404,))
    between(hub, cache)
    none_opens(cache, doors, None, (404,))
    hub.kill()
    cache.restart(hub_offline="yes")
    assert_whole(cache.get(MAIN), hub, "config.json", ONCE)
    none_opens(cache, doors, None, IGNORANCE)
    rebuild(cache)
    assert_whole(cache.get(MAIN), hub, "config.json", ONCE)
    none_opens(cache, doors, None, IGNORANCE)


@pytest.mark.parametrize("visibility", [dict(private=True), dict(gated="auto")], ids=["private", "gated"])
def test_Z06_somebody_elses_now(hub, start, people, visibility):
    """Bob may read the new one, alice may not any more; what was hers is not his."""
    cache = start(**OPTIONS)
    old_repo(hub, people)
    doors = doors_by_file(hub)
    warm(cache, doors, people.alice)
    new_repo(hub, **visibility)
    hub.content.tokens[people.alice].grants.discard(ONCE)
    hub.content.tokens[people.bob].grants.add(ONCE)
    assert_whole(cache.get(MAIN, people.bob), hub, "config.json", ONCE)
    none_opens(cache, doors, people.bob, (404,))
    none_opens(cache, doors, None, (401, 404))
    hub.kill()
    cache.restart(hub_offline="yes")
    assert_whole(cache.get(MAIN, people.bob), hub, "config.json", ONCE)
    none_opens(cache, doors, people.bob, IGNORANCE)
    none_opens(cache, doors, None, IGNORANCE)


def test_Z06_a_gated_one_whose_card_all_could_see(hub, start, people):
    """Its listing was open, its files were not; they do not open with the files of the new one."""
    cache = start(**OPTIONS)
    hub.content.tokens[people.alice].grants.add(ONCE)
    make(hub, ONCE, "a", {"config.json": OLD_CONFIG, "model.safetensors": LFS(OLD)}, gated="auto")
    doors = doors_by_file(hub)
    warm(cache, doors, people.alice)
    tree = f"/api/models/{ONCE}/tree/{commit_of(hub, ONCE).id}"
    assert cache.get(tree).status == 200
    new_repo(hub)
    assert_whole(cache.get(MAIN), hub, "config.json", ONCE)
    for method, target, body in doors[0]:
        if "/api/models" not in target:
            answer = cache.ask(method, target, body=body)
            assert answer.status == 404 and OLD[:24] not in bytes(answer.kept), (target, answer)
    hub.kill()
    cache.restart(hub_offline="yes")
    assert cache.get(tree).status == 200
    for method, target, body in doors[0]:
        if "/api/" not in target:
            assert cache.ask(method, target, body=body).status in IGNORANCE, target


def test_Z06_who_may_read_both_does_not_join_them(hub, start, people):
    """Alice reads the new one under the same name: its commit is known before anybody else asks."""
    cache = start(**OPTIONS)
    old_repo(hub, people)
    doors = doors_by_file(hub)
    warm(cache, doors, people.alice)
    new_repo(hub)
    time.sleep(1.1)
    assert_whole(cache.get(MAIN, people.alice), hub, "config.json", ONCE)
    assert_whole(cache.get(at_commit(hub, "config.json", ONCE), people.alice), hub, "config.json", ONCE)
    assert_whole(cache.get(MAIN), hub, "config.json", ONCE)
    none_opens(cache, doors, None, (404,))
    assert cache.get(doors[0][0][1], people.alice).body == OLD   # she was shown it


def test_Z06_the_same_commit_in_another_repo_opens_that_commit_alone(hub, start, people):
    """Deleted to be rid of a branch, and pushed again without it."""
    cache = start(**OPTIONS)
    old = old_repo(hub, people)
    head, config = old.head, hub.content.repo(ONCE).head.files["config.json"]
    old.branch("secret")
    secret = old.commit({"plans.txt": b"nobody may know"}, branch="secret")
    for target in (MAIN, f"/{ONCE}/resolve/secret/plans.txt", f"/{ONCE}/resolve/{secret.id}/config.json"):
        assert cache.get(target, people.alice).status == 200
    assert cache.get(f"/api/models/{ONCE}/tree/{secret.id}", people.alice).status == 200
    hub.content.delete_repo("model", ONCE)
    copy = hub.content.add_repo("model", ONCE)
    copy.object_id = "b" * 24
    copy.refs = {ref: commit for ref, commit in old.refs.items() if "secret" not in ref}
    copy.commits = {i: c for i, c in old.commits.items() if i != secret.id}
    assert cache.get(MAIN).body == config.source.read() and cache.get(f"/{ONCE}/resolve/{head.id}/config.json").status == 200
    for target in (f"/{ONCE}/resolve/{secret.id}/plans.txt", f"/{ONCE}/resolve/secret/plans.txt", f"/{ONCE}/resolve/{secret.id}/config.json",
                   f"/api/models/{ONCE}/tree/{secret.id}"):
        assert cache.get(target).status == 404, target


@pytest.mark.parametrize("way", ["no such file", "no such revision", "batch", "registry", "git", "listing"])
def test_Z06_answers_that_name_no_commit_open_nothing(hub, start, people, way):
    cache = start(**OPTIONS)
    old_repo(hub, people)
    doors = doors_by_file(hub)
    warm(cache, doors, people.alice)
    new = new_repo(hub)
    large = new.head.files["model.safetensors"]
    batch = json.dumps({"operation": "download", "transfers": ["basic"], "objects": [{"oid": large.sha256, "size": large.size}]})
    answer = {"no such file": lambda: cache.get(f"/{ONCE}/resolve/main/no-such-file"),
              "no such revision": lambda: cache.get(f"/{ONCE}/resolve/no-such-branch/config.json"),
              "batch": lambda: cache.ask("POST", doors[1][0], body=batch.encode(), headers=LFS_SAID),
              "registry": lambda: cache.get(f"/v2/{ONCE}/blobs/sha256:{large.sha256}"),
              "git": lambda: cache.get(f"/{ONCE}.git/info/refs?service=git-upload-pack"),
              "listing": lambda: cache.get(f"/api/models/{ONCE}/refs")}[way]()
    assert answer.status == (404 if way.startswith("no ") else 200), answer
    none_opens(cache, doors, None, (404,))
    hub.kill()
    cache.restart(hub_offline="yes")
    none_opens(cache, doors, None, IGNORANCE)


def test_Z06_open_once_and_closed_before_it_was_made_anew(hub, start, people):
    """Its owner had closed it, and anonymous had heard so."""
    cache = start(**OPTIONS, hub_public_ttl="2s")
    make(hub, ONCE, "a", {"config.json": OLD_CONFIG, "model.safetensors": LFS(OLD)})
    doors = doors_by_file(hub)
    warm(cache, doors, None)
    hub.set_visibility(ONCE, private=True)
    time.sleep(2.1)
    assert cache.get(doors[0][0][1]).status == 401
    new_repo(hub)
    assert_whole(cache.get(MAIN), hub, "config.json", ONCE)
    cache.restart()
    none_opens(cache, doors, None, (404,))
    hub.kill()
    rebuild(cache, hub_offline="yes")
    none_opens(cache, doors, None, IGNORANCE)


# --- what only a token has shown ----------------------------------------------------------------------------------

def open_repo(hub):
    return make(hub, ONCE, "a", {"config.json": b'{"open": 1}', "model.safetensors": LFS(b"for all " * 5000)})


def closed_docs(commit):
    return [f"/api/models/{ONCE}", f"/api/models/{ONCE}/revision/main", f"/api/models/{ONCE}/revision/{commit}", f"/api/models/{ONCE}/refs",
            f"/api/models/{ONCE}/tree/main?recursive=true", f"/api/models/{ONCE}/tree/{commit}", f"/api/models/{ONCE}/commits/main"]


def closed_files(commit):
    return [f"/{ONCE}/resolve/{commit}/config.json", f"/{ONCE}/resolve/{commit}/secret.bin", f"/{ONCE}/raw/{commit}/config.json",
            f"/api/resolve-cache/models/{ONCE}/{commit}/config.json", f"/{ONCE}/resolve/main/secret.bin", f"/{ONCE}/resolve/{commit}/no-such"]


@pytest.mark.parametrize("docs", [False, True], ids=["files", "documents"])
@pytest.mark.parametrize("after", [no_break, restart, lost_index, SLOW_ONES[0]])
def test_Z14_what_was_open_stays_and_what_only_a_token_saw_is_hers(hub, start, people, docs, after):
    """Closed while nobody without a token asked; alice went on reading; then upstream is lost."""
    cache = start(**OPTIONS)
    repo = open_repo(hub)
    opened = repo.head.id
    shown = [MAIN, f"/{ONCE}/resolve/{opened}/model.safetensors", f"/api/models/{ONCE}/tree/{opened}", f"/api/models/{ONCE}/refs"]
    if docs:
        shown += [f"/api/models/{ONCE}", f"/api/models/{ONCE}/revision/main", f"/api/models/{ONCE}/tree/main"]
    before = {target: cache.get(target).body for target in shown}
    hub.content.tokens[people.alice].grants.add(ONCE)
    hub.set_visibility(ONCE, private=True)
    closed = repo.commit({"config.json": b'{"closed": 2}', "secret.bin": LFS(b"not for all " * 5000)})
    secret = closed.files["secret.bin"]
    time.sleep(1.1)
    for target in closed_files(closed.id)[:-1] + [MAIN] + (closed_docs(closed.id) if docs else [f"/api/models/{ONCE}/refs"]):
        assert cache.get(target, people.alice).status == 200, target
    after(hub, cache)
    hub.kill()
    cache.restart(hub_offline="yes")
    if docs:   # the Hub said to alice that it is closed: nothing of it is for who has no token
        for target in shown + closed_files(closed.id) + closed_docs(closed.id):
            assert cache.get(target).status in IGNORANCE, target
    else:
        for target in shown:
            answer = cache.get(target)
            assert answer.status == 200 and answer.body == before[target], (target, answer)
        for target in closed_files(closed.id):
            answer = cache.get(target)
            assert answer.status in IGNORANCE and closed.id not in str(answer.fields), (target, answer)
        assert cache.get(f"/v2/{ONCE}/blobs/sha256:{secret.sha256}").status in IGNORANCE
        assert cache.get(f"/{ONCE}.git/info/lfs/objects/{secret.sha256}").status in IGNORANCE
    for stranger in (people.bob,):
        assert cache.get(f"/{ONCE}/resolve/{closed.id}/secret.bin", stranger).status in IGNORANCE
    if after is not lost_index:
        assert cache.get(f"/{ONCE}/resolve/main/secret.bin", people.alice).status == 200
    cache.restart(offline_access="public")
    assert cache.get(f"/{ONCE}/resolve/{closed.id}/secret.bin", people.alice).status in IGNORANCE
    cache.restart(offline_access="open")
    assert cache.get(f"/{ONCE}/resolve/{closed.id}/secret.bin").status == 200


def test_P3_what_a_token_saw_first_is_for_all_once_it_was_shown_to_all(hub, start, people):
    cache = start(hub_revision_ttl="4s", hub_deny_ttl="0s", hub_prove_public="no")   # two requests have to fit into it
    repo = open_repo(hub)
    assert cache.get(MAIN).status == 200
    commit = repo.commit({"config.json": b'{"open": 2}', "more.bin": LFS(b"more for all " * 5000)})
    time.sleep(4.1)
    for target in (MAIN, f"/{ONCE}/resolve/{commit.id}/more.bin"):
        assert cache.get(target, people.alice).status == 200
    hub.reset_counters()
    assert cache.get(MAIN).body == b'{"open": 2}'
    assert len(hub.calls("hub", f"^/{ONCE}/")) == 1 and not hub.calls("cdn")
    assert cache.get(f"/{ONCE}/resolve/main/more.bin").status == 200   # the commit was shown
    assert len(hub.calls("hub", f"^/{ONCE}/")) == 1 and not hub.calls("cdn")
    hub.kill()
    cache.restart(hub_offline="yes")
    assert cache.get(f"/{ONCE}/resolve/{commit.id}/more.bin").status == 200
    rebuild(cache)
    assert cache.get(f"/{ONCE}/resolve/main/more.bin").status == 200


def test_P3_the_hubs_own_word_to_a_token_that_all_may_see_it(hub, start, people):
    """Alice takes a new snapshot of a public repository: without upstream it is there for who has no token, too."""
    cache = start(**OPTIONS)
    repo = open_repo(hub)
    assert cache.get(f"/api/models/{ONCE}").status == 200
    commit = repo.commit({"more.bin": LFS(b"more for all " * 5000)})
    time.sleep(1.1)
    for target in (f"/api/models/{ONCE}/revision/main", f"/api/models/{ONCE}/tree/{commit.id}?recursive=true",
                   f"/{ONCE}/resolve/{commit.id}/more.bin", f"/{ONCE}/resolve/main/config.json"):
        assert cache.get(target, people.alice).status == 200
    hub.kill()
    cache.restart(hub_offline="yes")
    for target in (f"/api/models/{ONCE}/revision/main", f"/{ONCE}/resolve/{commit.id}/more.bin", f"/{ONCE}/resolve/main/more.bin"):
        assert cache.get(target).status == 200, target


def test_Z14_a_grant_to_the_old_repo_is_none_to_the_new_one(hub, start, people):
    """Bob and alice read the old one; of the new one, which is closed to bob, alice has shown a commit; then upstream is lost."""
    cache = start(**OPTIONS)
    old_repo(hub, people)
    hub.content.tokens[people.bob].grants.add(ONCE)
    doors = doors_by_file(hub)
    warm(cache, doors, people.alice)
    assert cache.get(doors[0][0][1], people.bob).body == OLD
    assert cache.get(MAIN, people.bob).status == 200
    new = new_repo(hub, private=True)
    hub.content.tokens[people.bob].grants.discard(ONCE)
    time.sleep(1.1)
    for target in (MAIN, f"/{ONCE}/resolve/main/model.safetensors", f"/api/models/{ONCE}/tree/{new.head.id}"):
        assert cache.get(target, people.alice).status == 200
    hub.kill()
    cache.restart(hub_offline="yes")
    large = new.head.files["model.safetensors"].sha256
    for target in (f"/{ONCE}/resolve/{new.head.id}/config.json", f"/{ONCE}/resolve/{new.head.id}/model.safetensors",
                   f"/api/models/{ONCE}/tree/{new.head.id}", f"/{ONCE}/resolve/{new.head.id}/no-such", f"/v2/{ONCE}/blobs/sha256:{large}"):
        assert cache.get(target, people.bob).status in IGNORANCE, target
    assert cache.get(MAIN, people.bob).body == OLD_CONFIG   # where it stood when he last looked
    assert cache.get(doors[0][0][1], people.bob).body == OLD
    assert cache.get(MAIN, people.alice).body == b'{"new": 1}'


def test_P3_snapshots_of_one_private_repo_are_shared_by_those_who_may_read_it(hub, start, people):
    """Both asked which repository it is; what alice then fetched is bob's as well while his right lives."""
    cache = start(**OPTIONS)
    repo = old_repo(hub, people)
    hub.content.tokens[people.bob].grants.add(ONCE)
    for token in (people.alice, people.bob):
        for target in (f"/api/models/{ONCE}/revision/main", MAIN):
            assert cache.get(target, token).status == 200
    commit = repo.commit({"more.bin": LFS(b"more for both " * 5000)})
    time.sleep(1.1)
    for target in (f"/api/models/{ONCE}/revision/main", f"/api/models/{ONCE}/tree/{commit.id}?recursive=true", f"/{ONCE}/resolve/{commit.id}/more.bin"):
        assert cache.get(target, people.alice).status == 200
    hub.kill()
    cache.restart(hub_offline="yes")
    for target in (f"/api/models/{ONCE}/revision/main", f"/{ONCE}/resolve/{commit.id}/more.bin", f"/{ONCE}/resolve/main/more.bin"):
        assert cache.get(target, people.bob).status == 200, target
        assert cache.get(target).status in IGNORANCE, target


def test_P7_the_second_who_asks_costs_one_question(hub, start, people):
    cache = start()
    repo = old_repo(hub, people)
    hub.content.tokens[people.bob].grants.add(ONCE)
    files = [MAIN, f"/{ONCE}/resolve/{repo.head.id}/model.safetensors", f"/{ONCE}/resolve/main/model.safetensors"]
    for target in files:
        assert cache.get(target, people.alice).status == 200
    hub.reset_counters()
    for target in files:
        assert cache.get(target, people.bob).status == 200
    assert len(hub.calls("hub", f"^/{ONCE}/")) == 1 and not hub.calls("cdn")
    hub.reset_counters()
    for token in (people.alice, people.bob):
        for target in files:
            assert cache.get(target, token).status == 200
    assert not hub.calls()


def test_Z06_a_clock_that_was_ahead_before_the_restart(hub, start, people):
    """What was shown of which repo is told apart by when: such times never come again, though the machine's clock was put back."""
    cache = start(hub_deny_ttl="0s")
    new_repo(hub)
    assert cache.get(f"/api/models/{ONCE}").status == cache.get(MAIN).status == 200   # which one it is, is known, and that it is open
    assert cache.stop() == 0
    with sqlite3.connect(cache.store / "index.db") as db:
        assert db.execute("UPDATE shown SET at = at + 3600000000 WHERE CAST(what AS TEXT) = 'repo'").rowcount > 0
    db.close()
    cache.start()
    hub.content.delete_repo("model", ONCE)
    closed = make(hub, ONCE, "c", {"config.json": OLD_CONFIG}, private=True)
    hub.content.tokens[people.alice].grants.add(ONCE)
    target = f"/{ONCE}/resolve/{closed.head.id}/config.json"
    assert cache.get(target, people.alice).body == OLD_CONFIG
    hub.kill()
    cache.until_known_down()
    assert cache.get(target).status in IGNORANCE
