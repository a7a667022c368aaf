# SPDX-License-Identifier: Apache-2.0
"""Every other way to what a closed repository holds, tried by those who may not: hashes, commits, ranges, conditions, other names,
other repositories, running downloads, restarts, changes of visibility (reliability A.3; hub-protocol 10.6).

The acceptance matrix (../matrix) asks the nine common routes in all states; here are the routes that nobody uses honestly.
"""
import base64
import json
import statistics
import subprocess
import time

import pytest

from facts import IGNORANCE, PUB, add_large, assert_whole, at_commit, commit_of, file_of
from harness import BINARY, SLOW, wait_for
from hubdouble import LFS
from together import Background, all_at_once
from wire import Connection, fields

LFS_JSON = "application/vnd.git-lfs+json"
STRANGERS = ("anonymous", "bob", "nobody")
CLOSED = ("acme/gated", "acme/private")
# What an honest client may add to any question about a file. None of it may change a refusal.
CONDITIONS = [{}, {"Range": "bytes=0-0"}, {"Range": "bytes=-1"}, {"Range": "bytes=999999999999-"}, {"Range": "bytes=0-1,5-6"},
              {"If-None-Match": "*"}, {"If-None-Match": "the tag"}, {"If-Range": "the tag", "Range": "bytes=0-0"},
              {"If-Modified-Since": "Thu, 01 Jan 2099 00:00:00 GMT"}, {"Cookie": "token=x"}, {"X-Forwarded-User": "alice"},
              {"X-Original-URL": "/acme/pub/resolve/main/config.json"}]


def direct(hub, method, target, token=None, headers=(), body=None):
    """The double's own answer."""
    with Connection(("127.0.0.1", hub.origins["hub"].port)) as conn:
        return conn.ask(method, target, fields(token, headers, Connection="close"), body)


def token_of(people, who):
    return None if who == "anonymous" else getattr(people, who)


def batch(oid, size):
    return json.dumps({"operation": "download", "transfers": ["basic"], "objects": [{"oid": oid, "size": size}]}).encode()


def doors_to_files(hub, repo):
    """[(method, target, headers, body)]: all ways to bytes, sizes and tags of bytes."""
    commit, large = commit_of(hub, repo).id, file_of(hub, "model.safetensors", repo)
    targets = [f"/{repo}/resolve/main/model.safetensors", f"/{repo}/resolve/{commit}/model.safetensors",
               f"/{repo}/resolve/{commit[:10]}/config.json", f"/{repo}/resolve/{commit}/config.json",
               f"/{repo}/raw/main/model.safetensors", f"/{repo}/raw/{commit}/config.json",
               f"/{repo}/resolve/main/config.json?download=true",
               f"/api/resolve-cache/models/{repo}/{commit}/config.json", f"/api/resolve-cache/models/{repo}/{commit}/model.safetensors",
               f"/v2/{repo}/blobs/sha256:{large.sha256}"]
    doors = [(method, target, [], None) for target in targets for method in ("GET", "HEAD")]
    return doors + [("POST", f"/{repo}.git/info/lfs/objects/batch", [("Content-Type", LFS_JSON), ("Accept", LFS_JSON)],
                     batch(large.sha256, large.size))]


def secrets_of(hub, repo):
    """Texts that nobody outside can know."""
    made = hub.content.repo(repo)
    out = {made.object_id}
    for commit in made.commits.values():
        out |= {commit.id, commit.tree_oid}
        for file in commit.files.values():
            out |= {file.oid, file.source.sha256()} | ({file.sha256, file.xet_hash} if file.is_lfs else set())
            if file.size >= 1000:
                out.add(file.source.read(0, 24))
    return {s.encode() if isinstance(s, str) else s for s in out}


def assert_silent(hub, repo, answer, sent):
    """Nothing of the repository is in head or body, but for what the client has said itself."""
    text = answer.raw_head + bytes(answer.kept)
    found = [s for s in secrets_of(hub, repo) if s in text and s not in sent]
    assert not found, f"{sent[:100]} told {found}: {answer}"
    assert (answer["ETag"] or "W/").startswith("W/"), f"{sent[:100]}: ETag {answer['ETag']}"    # a weak one is of the words themselves
    for name in ("X-Linked-Etag", "X-Linked-Size", "X-Repo-Commit", "Content-Range", "Age", "X-HF-Warning", "Last-Modified"):
        assert answer[name] is None, f"{sent[:100]}: {name} {answer[name]}"


def warm(hub, cache, repo, token):
    """All that alice can make it hold."""
    commit = commit_of(hub, repo).id
    for path in commit_of(hub, repo).files:
        assert cache.get(f"/{repo}/resolve/main/{path}", token).status == 200
    for target in (f"/api/models/{repo}", f"/api/models/{repo}/revision/main", f"/api/models/{repo}/tree/{commit}?recursive=true",
                   f"/api/models/{repo}/refs", f"/api/models/{repo}/commits/main"):
        assert cache.get(target, token).status == 200, target


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize("repo", CLOSED)
def test_S02_no_door_and_no_condition_opens_a_closed_repo(hub, cache, people, repo, who):
    warm(hub, cache, repo, people.alice)
    sent, token = hub.body_bytes("cdn"), token_of(people, who)
    tag = f'"{file_of(hub, "model.safetensors", repo).sha256}"'
    for method, target, headers, body in doors_to_files(hub, repo):
        theirs = direct(hub, method, target, token, headers, body)
        for condition in CONDITIONS if body is None else [{}]:
            extra = [(k, v.replace("the tag", tag)) for k, v in condition.items()]
            ours = cache.ask(method, target, token, headers=headers + extra, body=body)
            assert ours.status == theirs.status, f"{method} {target} {extra}: {ours}, not {theirs}"
            for name in ("X-Error-Message", "X-Error-Code"):
                assert not theirs[name] or ours[name] == theirs[name], f"{method} {target} {extra}: {ours}, not {theirs}"
            assert_silent(hub, repo, ours, target.encode() + (body or b"") + tag.encode() * bool(extra))
    assert hub.body_bytes("cdn") == sent, "bytes were fetched for a stranger"


@pytest.mark.parametrize("who", STRANGERS)
def test_S03_every_page_of_a_private_repo_is_the_hubs_own(hub, cache, people, who):
    """What is passed through, or kept for those who may see it, says to a stranger what the Hub says."""
    repo, token = "acme/private", token_of(people, who)
    commit = commit_of(hub, repo).id
    api = f"/api/models/{repo}"
    targets = [api, f"{api}?blobs=true", f"{api}?expand=siblings", f"{api}/revision/{commit}", f"{api}/tree/main?expand=true",
               f"{api}/tree/{commit}?recursive=true&limit=2", f"{api}/treesize/main", f"{api}/commits/main", f"{api}/commits/{commit}?limit=1",
               f"{api}/refs?include_prs=1", f"{api}/likers", f"{api}/discussions", f"{api}/auth-check", f"{api}/lfs-files", f"{api}/scan",
               f"{api}/compare/{commit}..{commit}", f"/{repo}", f"/{repo}/tree/main", f"/{repo}/blob/main/config.json",
               f"/{repo}/info/refs?service=git-upload-pack", f"/{repo}.git/info/refs?service=git-upload-pack", f"/{repo}/HEAD",
               f"/v2/{repo}/manifests/latest", "/api/models?author=acme", "/api/models?search=private"]
    for target in targets:
        cache.get(target, people.alice)
        theirs = direct(hub, "GET", target, token)
        for _ in range(2):
            ours = cache.get(target, token)
            assert ours.status == theirs.status, f"{target}: {ours}, not {theirs}"
            text = ours.raw_head + bytes(ours.kept)
            found = [s for s in secrets_of(hub, repo) if s in text and s not in target.encode()]
            assert not found, f"{target} told {found}: {ours}"
            if ours.status == 200:
                assert repo.encode() not in text, f"{target} tells that there is a {repo}: {ours}"


@pytest.mark.parametrize("repo", CLOSED)
def test_N10_a_hash_or_commit_opens_nothing_by_way_of_an_open_repo(hub, cache, people, repo):
    warm(hub, cache, repo, people.alice)
    assert cache.get(f"/{PUB}/resolve/main/config.json").status == 200
    assert cache.get(f"/api/models/{PUB}/tree/main?recursive=true").status == 200
    commit, large = commit_of(hub, repo).id, file_of(hub, "model.safetensors", repo)
    for target in (f"/{PUB}/resolve/{commit}/config.json", f"/{PUB}/resolve/{commit[:12]}/config.json", f"/{PUB}/raw/{commit}/model.safetensors",
                   f"/api/resolve-cache/models/{PUB}/{commit}/config.json", f"/api/models/{PUB}/tree/{commit}?recursive=true",
                   f"/api/models/{PUB}/revision/{commit}", f"/v2/{PUB}/blobs/sha256:{large.sha256}",
                   f"/{PUB}.git/info/lfs/objects/{large.sha256}", f"/{PUB}/info/lfs/objects/{large.sha256}"):
        for token in (None, people.bob, people.alice):
            answer = cache.get(target, token)
            assert answer.status in (400, 404), f"{target}: {answer}"
            assert_silent(hub, repo, answer, target.encode())
    for token in (None, people.bob, people.alice):
        answer = cache.ask("POST", f"/{PUB}.git/info/lfs/objects/batch", token, body=batch(large.sha256, large.size),
                           headers=[("Content-Type", LFS_JSON), ("Accept", LFS_JSON)])
        assert answer.status == 200 and answer.json()["objects"][0]["error"]["code"] == 404, answer


def test_Z07_a_stranger_in_the_middle_of_a_download(hub, cache, people):
    add_large(hub, 6 << 20, seed=81, repo="acme/secret", name="model.safetensors")
    hub.content.repo("acme/secret").commit({"config.json": b'{"secret": 1}'})
    hub.set_visibility("acme/secret", private=True)
    hub.content.tokens[people.alice].grants.add("acme/secret")
    data = file_of(hub, "model.safetensors", "acme/secret").source.read()
    hub.content.add_repo("model", "acme/open").commit({"copy.bin": LFS(data)})
    hub.rate("cdn", 4 << 20)
    first = Background(lambda: cache.get("/acme/secret/resolve/main/model.safetensors", people.alice))
    wait_for(lambda: hub.body_bytes("cdn") > 1 << 19)
    refused = 0
    for method, target, headers, body in doors_to_files(hub, "acme/secret"):
        for token in (None, people.bob):
            answer = cache.ask(method, target, token, headers=headers + [("Range", "bytes=0-99")], body=body)
            assert answer.status in (401, 404), f"{method} {target}: {answer}"
            assert_silent(hub, "acme/secret", answer, target.encode() + (body or b""))
            refused += 1
    hub.rate("cdn", None)
    answer = cache.get("/acme/open/resolve/main/copy.bin")
    assert_whole(answer, hub, "copy.bin", "acme/open")
    assert b"secret" not in answer.raw_head and refused > 20
    assert first.result().body == data
    assert hub.body_bytes("cdn") < 1.2 * len(data), "the same bytes came twice"


@pytest.mark.parametrize("how", ["restarted", "killed"])
def test_S02_after_a_restart(hub, start, people, how):
    cache = start(hub_grant_ttl="1h")
    for repo in CLOSED:
        warm(hub, cache, repo, people.alice)
    cache.restart(kill=how == "killed")
    for repo in CLOSED:
        for method, target, headers, body in doors_to_files(hub, repo):
            for who in STRANGERS:
                token = token_of(people, who)
                theirs, ours = direct(hub, method, target, token, headers, body), cache.ask(method, target, token, headers=headers, body=body)
                assert ours.status == theirs.status, f"{method} {target}: {ours}, not {theirs}"
                assert_silent(hub, repo, ours, target.encode() + (body or b""))
        assert cache.get(at_commit(hub, "model.safetensors", repo), people.alice).status == 200


def everything_refuses(hub, cache, repo, token):
    for method, target, headers, body in doors_to_files(hub, repo):
        theirs, ours = direct(hub, method, target, token, headers, body), cache.ask(method, target, token, headers=headers, body=body)
        assert theirs.status >= 400 and ours.status == theirs.status, f"{method} {target}: {ours}, not {theirs}"
        assert_silent(hub, repo, ours, target.encode() + (body or b""))


def test_Z03_all_doors_close_when_a_grant_has_ended(hub, start, people):
    cache = start(hub_grant_ttl="2s", hub_revision_ttl="1s", hub_metadata_ttl="1s", hub_deny_ttl="1s")
    for repo in CLOSED:
        warm(hub, cache, repo, people.alice)
    hub.content.tokens[people.alice].grants.clear()
    time.sleep(2.2)
    for repo in CLOSED:
        everything_refuses(hub, cache, repo, people.alice)
    assert cache.get("/api/models/acme/private/tree/main", people.alice).status == 404


@pytest.mark.parametrize("change", ["private", "gated", "disabled", "deleted"])
def test_Z05_all_doors_close_when_a_public_repo_is_public_no_more(hub, start, people, change):
    cache = start(hub_public_ttl="2s", hub_revision_ttl="1s", hub_metadata_ttl="1s", hub_deny_ttl="1s")
    hub.content.add_repo("model", "acme/once").commit({"config.json": b'{"once": 1}' + b" " * 1000, "model.safetensors": LFS(b"once " * 9000)})
    for token in (None, people.bob):
        warm(hub, cache, "acme/once", token)
    made = hub.content.repo("acme/once")
    if change == "deleted":
        doors = doors_to_files(hub, "acme/once")
        hub.content.delete_repo("model", "acme/once")
    else:
        hub.set_visibility("acme/once", **{change: True})
    time.sleep(2.2)
    if change != "deleted":
        for token in (None, people.bob, people.nobody):
            everything_refuses(hub, cache, "acme/once", token)
        return
    for method, target, headers, body in doors:
        for token, status in ((None, 401), (people.bob, 404), (people.nobody, 401)):
            answer = cache.ask(method, target, token, headers=headers, body=body)
            assert answer.status == status, f"{method} {target}: {answer}"
            assert made.head.files["model.safetensors"].source.read(0, 20) not in bytes(answer.kept)


def test_Z05_the_hubs_word_to_somebody_else_ends_the_public_mark(hub, cache, people):
    """Its owner is told by the Hub that the repo is private now: from then on strangers are asked about, however young the mark."""
    hub.content.add_repo("model", "acme/once").commit({"config.json": b'{"once": 1}', "model.safetensors": LFS(b"once " * 9000)})
    pinned = at_commit(hub, "model.safetensors", "acme/once")
    assert cache.get(pinned).status == 200 and cache.get("/api/models/acme/once").status == 200
    hub.set_visibility("acme/once", private=True)
    assert cache.get("/api/models/acme/once?blobs=true", people.writer).status == 200
    for target in (pinned, "/api/models/acme/once", "/acme/once/resolve/main/config.json"):
        for token in (None, people.bob):
            answer = cache.get(target, token)
            assert answer.status >= 400, f"{target}: {answer}"
            assert_silent(hub, "acme/once", answer, target.encode())


def test_Z05_a_commit_that_only_a_token_has_shown_is_not_public_before_it_is_asked(hub, start, people):
    cache = start(hub_revision_ttl="1s")
    repo = hub.content.add_repo("model", "acme/once")
    repo.commit({"config.json": b'{"once": 1}', "model.safetensors": LFS(b"once " * 9000)})
    target = "/acme/once/resolve/main/model.safetensors"
    assert cache.get(target).status == 200
    hub.set_visibility("acme/once", private=True)
    repo.commit({"model.safetensors": LFS(b"never for all " * 9000)})
    time.sleep(1.2)
    assert cache.get(target, people.writer).status == 200    # nobody has asked for its visibility
    for asked in (target, at_commit(hub, "model.safetensors", "acme/once")):
        answer = cache.get(asked)
        assert answer.status == 401, answer
        assert_silent(hub, "acme/once", answer, asked.encode())


def test_Z06_a_repo_made_anew_under_the_same_name_is_another_one(hub, start, people):
    """Deleted, and made again by somebody else, private: the right to the old one opens nothing of the new one."""
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s")
    hub.content.add_repo("model", "acme/once").commit({"config.json": b'{"old": 1}', "model.safetensors": LFS(b"old  " * 9000)})
    for token in (None, people.bob):
        warm(hub, cache, "acme/once", token)
    hub.content.delete_repo("model", "acme/once")
    made = hub.content.add_repo("model", "acme/once", private=True)
    made.object_id = "f" * 24
    made.commit({"config.json": b'{"new": 1}', "model.safetensors": LFS(b"new  " * 9000)})
    time.sleep(1.2)
    warm(hub, cache, "acme/once", people.writer)
    for token in (None, people.bob):
        everything_refuses(hub, cache, "acme/once", token)
        assert cache.get("/api/models/acme/once", token).status in (401, 404)


@pytest.mark.parametrize("policy", ["public", "grants"])
def test_Z14_no_door_opens_without_upstream(hub, start, people, policy):
    cache = start(offline_access=policy)
    for repo in CLOSED:
        warm(hub, cache, repo, people.alice)
    hub.kill()
    cache.restart(hub_offline="yes")
    for repo in CLOSED:
        for method, target, headers, body in doors_to_files(hub, repo):
            for who in STRANGERS + ("writer",) + (("alice",) if policy == "public" else ()):
                answer = cache.ask(method, target, token_of(people, who), headers=headers, body=body)
                assert answer.status in IGNORANCE, f"{who}: {method} {target}: {answer}"
                assert_silent(hub, repo, answer, target.encode() + (body or b""))
            if policy == "grants":
                answer = cache.ask(method, target, people.alice, headers=headers, body=body)
                assert answer.status == 200, f"alice: {method} {target}: {answer}"


def admit_bob(cache, people, repo):
    """The administrator's list, on which bob is for one repository."""
    address = cache.folder / "list.acl"
    said = subprocess.run([BINARY, "--set", f"storage.path={cache.store}", "--subject"], check=True, capture_output=True,
                          input=f"{people.bob}\n".encode()).stdout.decode().strip()
    address.write_text(f"allow token:{said.removeprefix('token:')} models/{repo}\n")
    address.chmod(0o600)
    return {"offline_access": "acl", "offline_acl_file": address}


@pytest.mark.parametrize("policy", ["acl", "open"])
def test_Z14_the_administrators_word_counts_at_every_door_and_offline_only(hub, cache, people, policy):
    for repo in CLOSED:
        warm(hub, cache, repo, people.alice)
    options = admit_bob(cache, people, "acme/gated") if policy == "acl" else {"offline_access": "open"}
    cache.restart(hub_grant_ttl="1s", hub_deny_ttl="0s", **options)
    time.sleep(1.2)
    # to whoever can make one question fail nothing opens
    for trouble in (dict(status=429, headers={"Retry-After": "600"}), dict(close="reset")):
        rule = hub.rule("hub", path="acme/(gated|private)", **trouble)
        targets = [d[1] for repo in CLOSED for d in doors_to_files(hub, repo)[::4] if d[0] == "GET"]
        for answer in all_at_once(*[lambda t=t: cache.get(t, people.bob, timeout=40) for t in targets]):
            assert answer.status in (429, 502, 503, 504), answer
            assert_silent(hub, "acme/gated", answer, "".join(targets).encode())
            assert_silent(hub, "acme/private", answer, "".join(targets).encode())
        rule.remove()
    hub.kill()
    cache.restart(hub_offline="yes")
    for repo in CLOSED:
        for method, target, headers, body in doors_to_files(hub, repo):
            for who in STRANGERS + ("alice",):
                answer = cache.ask(method, target, token_of(people, who), headers=headers, body=body)
                if policy == "open" or (who, repo) == ("bob", "acme/gated"):
                    assert answer.status == 200, f"{who}: {method} {target}: {answer}"
                else:
                    assert answer.status in IGNORANCE, f"{who}: {method} {target}: {answer}"
                    assert_silent(hub, repo, answer, target.encode() + (body or b""))


def test_P9_a_pin_is_for_who_got_the_word(hub, start, people):
    """Two people at one address: what HEAD promised to one does not hold the other back, nor tell him anything."""
    cache = start(hub_revision_ttl="1s")
    repo = hub.content.repo("acme/private")
    old = repo.head.id
    assert cache.head("/acme/private/resolve/main/config.json", people.alice)["X-Repo-Commit"] == old
    new = repo.commit({"config.json": b'{"new": 1}'}).id
    time.sleep(1.2)
    assert cache.get("/acme/private/resolve/main/config.json", people.writer)["X-Repo-Commit"] == new
    assert cache.get("/acme/private/resolve/main/config.json", people.alice)["X-Repo-Commit"] == old
    for token in (None, people.bob):
        answer = cache.get("/acme/private/resolve/main/config.json", token)
        assert answer.status in (401, 404)
        assert_silent(hub, "acme/private", answer, b"")


def test_S08_a_token_in_basic_opens_no_more_than_in_bearer(hub, cache, people):
    warm(hub, cache, "acme/private", people.alice)
    target = at_commit(hub, "config.json", "acme/private")
    for name, token in (("alice", people.bob), (people.alice[:-1], people.bob), ("alice", people.nobody), ("", people.bob)):
        basic = base64.b64encode(f"{name}:{token}".encode()).decode()
        answer = cache.get(target, headers=[("Authorization", f"Basic {basic}")])
        assert answer.status in (401, 404), answer
        assert_silent(hub, "acme/private", answer, target.encode())


def href_of(cache, repo, file, token):
    """Where a batch sends a client for an object: (path on the daemon, whole address)."""
    answer = cache.ask("POST", f"/{repo}.git/info/lfs/objects/batch", token, body=batch(file.sha256, file.size),
                       headers=[("Content-Type", LFS_JSON), ("Accept", LFS_JSON)])
    assert answer.status == 200, answer
    href = answer.json()["objects"][0]["actions"]["download"]["href"]
    assert href.startswith(cache.url + "/"), f"away from here: {href}"
    return href[len(cache.url):], href


def test_A12_an_address_from_a_batch_opens_one_object_for_as_long_as_its_owner_may(hub, start, people):
    cache = start(hub_grant_ttl="2s", hub_deny_ttl="0s", log_level="debug")
    file, other = file_of(hub, "model.safetensors", "acme/gated"), file_of(hub, "model.safetensors", "acme/private")
    path, href = href_of(cache, "acme/gated", file, people.alice)
    assert cache.get(path).body == file.source.read(), "git-lfs sends no token with it"
    query = path.partition("?")[2]
    moved = [path.replace(file.sha256, other.sha256), path.replace("acme/gated", "acme/private"),
             path.replace("acme/gated", "acme/private").replace(file.sha256, other.sha256), path.partition("?")[0], path[:-4] + "AAAA",
             f"/v2/acme/private/blobs/sha256:{other.sha256}?{query}", f"/acme/gated/resolve/main/config.json?{query}",
             f"/acme/private/resolve/main/config.json?{query}", f"/api/models/acme/private?{query}"]
    for target in moved:
        for token in (None, people.bob):
            answer = cache.get(target, token)
            assert answer.status in (400, 401, 403, 404), f"{target}: {answer}"
            for repo in CLOSED:
                assert_silent(hub, repo, answer, target.encode())
    hub.content.tokens[people.alice].grants.clear()
    time.sleep(2.2)
    answer = cache.get(path)
    assert answer.status in (401, 403), f"the address outlived the right: {answer}"
    if query:
        word = query.partition("=")[2]
        assert word not in cache.stderr(), "what opens a door is in the log"
        assert not [p for p in cache.files() if word.encode() in p.read_bytes()], "what opens a door is in the store"
        assert word not in cache.get("/-/status").text and href not in cache.stderr()


@pytest.mark.slow
@pytest.mark.skipif(SLOW > 1, reason="measures time")
@pytest.mark.parametrize("deny_ttl", ["30s", "0s"])
def test_Z01_time_does_not_tell_a_private_repo_from_none(hub, start, people, deny_ttl):
    cache = start(hub_deny_ttl=deny_ttl)
    warm(hub, cache, "acme/private", people.alice)
    pairs = [(f"/{repo}/resolve/main/model.safetensors", f"/api/models/{repo}/tree/main") for repo in ("acme/private", "acme/nosuch")]

    def differences():
        out = []
        for route in range(2):
            spent = ([], [])
            with cache.connect() as conn:
                for i in range(300):
                    for which in ((0, 1) if i % 2 else (1, 0)):
                        began = time.perf_counter()
                        assert conn.ask("GET", pairs[which][route]).status == 401
                        spent[which].append(time.perf_counter() - began)
            out.append(abs(statistics.median(spent[0]) - statistics.median(spent[1])))
        return out
    wait_for(lambda: max(differences()) < 0.001, 40, why="medians within a millisecond of each other")
