# SPDX-License-Identifier: Apache-2.0
"""Names: every revision, every file name, every name of a repository, in each spelling, on each road, cold, warm and without upstream
(hub-protocol 1.1, R08 to R10, R16, R17, A08, A09; reliability N01, N02, R01)."""
import json
import re
import sys
import unicodedata
from urllib.parse import quote, unquote

import pytest

from facts import assert_file_head, assert_whole, bytes_of, commit_of, file_of
from hubdouble import LFS
from wire import fields

sys.setrecursionlimit(10_000)   # the double folds folders into each other
KINDS = {"model": "", "dataset": "/datasets", "space": "/spaces", "kernel": "/kernels"}
PLURAL = {"model": "models", "dataset": "datasets", "space": "spaces", "kernel": "kernels"}
COFFEE = "café.txt"
DEEP = "/".join(["a"] * 1990 + ["deep.txt"])             # close to the 4 KiB of a path, one letter a folder
LONG = "n" * 255
NAMES = ["with space.txt", "hash#mark.txt", "per%cent.txt", "percent%2Fslash.txt", "plus+sign.txt", "[x].txt", "question?.txt", "a&b=c;d.txt",
         "it's (1)!*~.txt", "quote\"d.txt", "back\\slash.txt", unicodedata.normalize("NFC", COFFEE), unicodedata.normalize("NFD", COFFEE),
         "世界/文件.txt", "emoji-🤗.bin", LONG, f"{LONG[:200]}/{LONG}/{LONG}.bin", DEEP, "resolve/main/x", "resolve/resolve/resolve/main/x", "tree", "raw/main",
         "revision/main/tree", "commits", "api/models/x", "info/lfs/objects", "blob/main", "-/healthz", ".hidden", "..dots", "dots..", "...",
         "trailing.", "trailing ", " leading", "a..b/c", "~tilde", "@at:colon", "line\r\nX-Injected: yes", "tab\there", "\x7fdel", "empty.txt",
         "comma,name", "semi;colon/param=1", "%", "%%", "%zz", "+", "&", "=", "#", "?", "a?b=c#d"]
LARGE = {"emoji-🤗.bin", "with space.txt", f"{LONG[:200]}/{LONG}/{LONG}.bin", "line\r\nX-Injected: yes", "#"}


def add_names(hub, kind, repo="acme/names"):
    made = hub.content.add_repo(kind, repo)
    made.commit({name: b"" if name == "empty.txt" else LFS(f"large {name!r} of {kind}".encode()) if name in LARGE
                 else f"content of {name!r} of {kind}\n".encode() for name in NAMES})
    return made


def all_escaped(text):
    """Each byte but the slashes as %XX, in small letters: another spelling of the same."""
    return "".join(c if c == "/" else "".join(f"%{b:02x}" for b in c.encode()) for c in text)


def spellings(path):
    """Ways in which clients write a path: by segment, as one segment, everything escaped, and as little as possible."""
    barely = "".join(c if c.isascii() and (c.isalnum() or c in "/-._~!$&'()*+,;=:@[]") else quote(c) for c in path)
    return [quote(path), quote(path, safe=""), barely, all_escaped(path)] if len(path) < 1000 else [quote(path)]


def is_valid(target):
    """Only what RFC 3986 lets stand in a path or query."""
    return re.fullmatch(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?\[\]]|%[0-9A-Fa-f]{2})+", target) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_R09_every_file_name(hub, cache, kind):
    add_names(hub, kind)
    base = f"{KINDS[kind]}/acme/names/resolve"
    commit = commit_of(hub, "acme/names", kind=kind).id

    def check(revision, which, spelled, method="GET"):
        for name in NAMES:
            ways = spellings(name)
            answer = cache.ask(method, f"{base}/{revision}/{ways[spelled % len(ways)]}")
            check_one = assert_whole if method == "GET" else assert_file_head
            try:
                check_one(answer, hub, name, "acme/names", kind=kind)
            except AssertionError as problem:
                raise AssertionError(f"{which}: {name!r} as {ways[spelled % len(ways)]}: {problem}") from problem
            assert "x-injected" not in answer.names()
            shown = answer["Content-Disposition"]
            assert shown is None or shown.isascii() and unquote(shown.split("''")[1].split(";")[0]) == name.rsplit("/", 1)[-1]
    check("main", "cold", 0)
    assert all(is_valid(c["target"]) for c in hub.calls("hub")), [c["target"] for c in hub.calls("hub") if not is_valid(c["target"])]
    hub.reset_counters()
    for spelled in (1, 2, 3):
        check(commit, "warm, pinned", spelled)
    check("main", "warm", 3, "HEAD")
    assert not [c for c in hub.calls() if c["method"] == "GET"], "another spelling was another file"
    hub.kill()
    cache.until_known_down()
    check("main", "dead", 2)
    check(commit, "dead", 1, "HEAD")


@pytest.mark.parametrize("kind", KINDS)
def test_R09_every_file_name_in_listings(hub, cache, kind):
    add_names(hub, kind)
    api, commit = f"/api/{PLURAL[kind]}/acme/names", commit_of(hub, "acme/names", kind=kind).id
    listed = [n for n in NAMES if n != DEEP]

    def check():
        tree = {e["path"]: e for e in cache.get(f"{api}/tree/main?recursive=true&limit=1000").json() if e["type"] == "file"}
        for name in listed:
            file = file_of(hub, name, "acme/names", kind=kind)
            assert tree[name]["oid"] == file.oid and tree[name]["size"] == file.size, name
        form = "&".join("paths=" + quote(n, safe="") for n in listed).encode()
        posted = cache.ask("POST", f"{api}/paths-info/{commit}", headers=fields(Content_Type="application/x-www-form-urlencoded"), body=form)
        as_json = cache.ask("POST", f"{api}/paths-info/main", headers=fields(Content_Type="application/json"),
                            body=json.dumps({"paths": listed, "expand": False}).encode())
        assert {e["path"] for e in posted.json()} >= set(listed) and posted.json() == as_json.json()
        for folder in ("世界", "resolve/resolve", "semi;colon", LONG[:200], "a..b"):
            below = sorted(n for n in NAMES if n.startswith(folder + "/"))
            for spelled in spellings(folder):
                got = cache.get(f"{api}/tree/{commit}/{spelled}?recursive=true").json()
                assert sorted(e["path"] for e in got if e["type"] == "file") == below, (folder, spelled)
        for name in listed:
            file = file_of(hub, name, "acme/names", kind=kind)
            answer = cache.get(f"{KINDS[kind]}/acme/names/raw/main/{spellings(name)[0]}")
            assert answer.status == 200 and answer.body == (file.pointer if file.is_lfs else file.source.read()), (name, answer)
            assert answer["ETag"] == f'"{file.oid}"'
    check()
    hub.kill()
    cache.until_known_down()
    check()


def test_N02_names_that_look_alike_are_two(hub, cache):
    add_names(hub, "model")
    one, two = (quote(unicodedata.normalize(form, COFFEE)) for form in ("NFC", "NFD"))
    assert one != two
    for _ in range(2):
        first, second = (cache.get(f"/acme/names/resolve/main/{n}") for n in (one, two))
        assert first.status == second.status == 200 and first["ETag"] != second["ETag"]
    assert cache.head("/acme/names/resolve/main/CAF%C3%89.txt").status == 404


@pytest.mark.parametrize("path", ["..", ".", "../x", "a/../b", "a/..", "%2e%2e/x", "%2e%2e", "a%2f..%2fb", "a%2F%2E%2E", "a/%2e/b", "a//b", "%00", "a%00b",
                                  "a\\..\\b", "%c0%ae%c0%ae/x", "%ff", "%zz", "%"])
@pytest.mark.parametrize("verb", ["resolve", "raw"])
def test_N01_names_that_are_refused(hub, cache, verb, path):
    for method in ("GET", "HEAD"):
        assert cache.ask(method, f"/acme/pub/{verb}/main/{path}").status == 400
    assert cache.get(f"/api/models/acme/pub/tree/main/{path}").status == 400
    assert not hub.calls(), "it was asked upstream"


REVISIONS = {"main": "main", "HEAD": "main", "v1": "v1", "v1/beta": "v1/beta", "dev": "dev", "feature/x": "feature/x", "team/a/b/c": "team/a/b/c",
             "refs/pr/1": "refs/pr/1", "refs/convert/parquet": "refs/convert/parquet", "refs/heads/dev": "dev", "ünï": "ünï", "with+plus": "with+plus"}


def add_revisions(hub, kind, repo="acme/revs"):
    made = hub.content.add_repo(kind, repo)
    made.commit({"top.txt": "main top\n", "sub/file.txt": "main sub\n", "x/file.txt": "x on main\n", "w.bin": LFS(b"main weights")})
    made.tag("v1")
    for number, branch in enumerate(["dev", "feature/x", "team/a/b/c", "refs/pr/1", "refs/convert/parquet", "ünï", "with+plus", "tmp"]):
        made.commit({"top.txt": f"{branch} top\n", "sub/file.txt": f"{branch} sub\n", "only.txt": branch, "w.bin": LFS(f"{branch} w{number}".encode())},
                    branch=branch)
    made.tag("v1/beta", "tmp")
    return made


def revision_spellings(name):
    return {quote(name, safe=""), quote(name), all_escaped(name).replace("/", "%2f")}


@pytest.mark.parametrize("kind", KINDS)
def test_R08_every_revision(hub, cache, kind):
    made = add_revisions(hub, kind)
    names = dict(REVISIONS)
    names |= {made.find(n).id: n for n in ("main", "feature/x")} | {made.find(n).id[:9]: n for n in ("dev", "v1/beta")}
    content, api = f"{KINDS[kind]}/acme/revs", f"/api/{PLURAL[kind]}/acme/revs"

    def check(which):
        for name, means in names.items():
            want = made.find(means)
            for spelled in sorted(revision_spellings(name)):
                for path in ("top.txt", "sub/file.txt", "w.bin"):
                    url = f"{content}/resolve/{spelled}/{path}"
                    answer = cache.get(url)
                    assert answer.status == 200, (which, url, answer)
                    assert answer.body == want.files[path].source.read() and answer["X-Repo-Commit"] == want.id, (which, url)
                    assert cache.head(url)["X-Repo-Commit"] == want.id
                raw = cache.get(f"{content}/raw/{spelled}/w.bin")
                assert raw.body == want.files["w.bin"].pointer, (which, spelled)
                tree = cache.get(f"{api}/tree/{spelled}")
                assert sorted(e["path"] for e in tree.json() if e["type"] == "file") == sorted(p for p in want.files if "/" not in p), (which, spelled)
                assert [e["path"] for e in cache.get(f"{api}/tree/{spelled}/sub").json()] == ["sub/file.txt"], (which, spelled)
                assert cache.get(f"{api}/revision/{spelled}").json()["sha"] == want.id, (which, spelled)
                posted = cache.ask("POST", f"{api}/paths-info/{spelled}", headers=fields(Content_Type="application/json"),
                                   body=b'{"paths":["top.txt"]}')
                assert posted.json()[0]["oid"] == want.files["top.txt"].oid, (which, spelled)
    check("cold")
    assert not [c for c in hub.calls("hub") if c["status"] in (404, 400)], "something was asked by a wrong guess"
    hub.reset_counters()
    check("warm")
    assert not [c for c in hub.calls() if c["method"] == "GET" and "/resolve" in c["target"]], "another spelling was another file"
    hub.kill()
    cache.until_known_down()
    check("dead")
    cache.restart(hub_offline="yes")
    check("restarted")


def test_R08_a_branch_with_slashes_that_nobody_named_before(hub, cache):
    """The first word about it comes with raw slashes: nothing wrong is learned, and at most one call for refs is made."""
    add_revisions(hub, "model")
    url = "/acme/revs/resolve/team/a/b/c/sub/file.txt"
    assert cache.get(url).body == b"team/a/b/c sub\n"
    assert len(hub.calls("hub", "/refs")) == 1
    assert cache.get("/acme/revs/resolve/team%2Fa%2Fb%2Fc/sub/file.txt").body == b"team/a/b/c sub\n"
    assert len(hub.calls("hub", "resolve-cache.*file.txt", "GET")) == 1, "two entries for one file"
    for wrong in ("team/a/b/c/nothing.txt", "team/a/b/c/sub/nothing.txt"):
        answer = cache.get(f"/acme/revs/resolve/{wrong}")
        assert answer.status == 404 and answer["X-Error-Code"] == "EntryNotFound"
        assert answer["X-Repo-Commit"] == commit_of(hub, "acme/revs", "team/a/b/c").id
    answer = cache.get("/acme/revs/resolve/nothing/at/all/x.txt")
    assert answer.status == 404 and answer["X-Error-Code"] == "RevisionNotFound", answer
    assert len(hub.calls("hub", "/refs")) == 1


def test_R08_main_and_commits_cost_no_extra_call(hub, cache):
    commit = commit_of(hub).id
    for revision in ("main", commit, "refs%2Fpr%2F1", "refs/pr/1"):
        assert cache.head(f"/acme/pub/resolve/{revision}/sub/dir/one.txt").status == 200
    assert cache.head("/acme/pub/resolve/v1/config.json").status == 200
    assert not hub.calls("hub", "^/api/models/acme/pub/refs")


def test_R08_a_protected_repo_tells_no_refs(hub, cache, people):
    hub.content.repo("acme/private").commit({"sub/file.txt": "secret\n"}, branch="feature/x")
    url = "/acme/private/resolve/feature/x/sub/file.txt"
    assert cache.get(url, people.alice).body == b"secret\n"
    for token in (None, people.bob):
        assert cache.get(url, token).status in (401, 404)
        assert cache.get(url, token)["X-Repo-Commit"] is None


def test_R16_short_commits(hub, cache):
    made = add_revisions(hub, "model")
    for length in (7, 12, 39):
        answer = cache.get(f"/acme/revs/resolve/{made.find('dev').id[:length]}/sub/file.txt")
        assert answer.body == b"dev sub\n" and answer["X-Repo-Commit"] == made.find("dev").id
    hub.kill()
    cache.until_known_down()
    answer = cache.get(f"/acme/revs/resolve/{made.find('dev').id[:20]}/sub/file.txt")
    assert answer.status == 200 and answer["X-Repo-Commit"] == made.find("dev").id


@pytest.mark.parametrize("kind", KINDS)
def test_R10_single_segments_and_lookalikes(hub, cache, kind):
    """datasets/x/y is not the model x/y of a user called datasets; ids of one segment have the same roads."""
    for other in KINDS:
        hub.content.add_repo(other, "acme/same").commit({"a/b.txt": f"{other}\n", "w.bin": LFS(other.encode() * 9)})
    hub.options.regular = "direct"   # the double's own redirects know ids of two segments only
    hub.content.add_repo(kind, "solo").commit({"a/b.txt": f"solo {kind}\n", "resolve/main/x": "odd\n"}, branch="main")
    assert cache.get(f"{KINDS[kind]}/acme/same/resolve/main/a/b.txt").body == f"{kind}\n".encode()
    assert cache.get(f"{KINDS[kind]}/acme/same/resolve/main/w.bin").body == kind.encode() * 9
    assert cache.get(f"{KINDS[kind]}/solo/resolve/main/a/b.txt").body == f"solo {kind}\n".encode()
    assert cache.get(f"{KINDS[kind]}/solo/resolve/main/resolve/main/x").body == b"odd\n"
    assert cache.get(f"/api/{PLURAL[kind]}/solo").json()["id"] == "solo"
    assert [e["path"] for e in cache.get(f"/api/{PLURAL[kind]}/solo/tree/main/a").json()] == ["a/b.txt"]
    hub.kill()
    cache.until_known_down()
    assert cache.get(f"{KINDS[kind]}/solo/resolve/main/a/b.txt").body == f"solo {kind}\n".encode()
    assert cache.get(f"/api/{PLURAL[kind]}/solo").json()["id"] == "solo"


@pytest.mark.parametrize("kind", KINDS)
def test_A08_A09_one_entry_under_all_names(hub, cache, kind):
    hub.content.add_repo(kind, "acme/New").commit({"a.txt": "a\n", "w.bin": LFS(b"weights" * 50)})
    hub.content.add_alias(kind, "acme/Old", "acme/New")
    hub.content.add_alias(kind, "short", "acme/New")
    others = ["acme/Old", "short", "ACME/new", "acme/new"]
    for name in others:
        for path, body in (("a.txt", b"a\n"), ("w.bin", b"weights" * 50)):
            assert cache.get(f"{KINDS[kind]}/{name}/resolve/main/{path}").body == body, name
        assert cache.get(f"/api/{PLURAL[kind]}/{name}/revision/main").json()["id"] == "acme/New"
        assert {e["path"] for e in cache.get(f"/api/{PLURAL[kind]}/{name}/tree/main").json()} == {"a.txt", "w.bin"}
        posted = cache.ask("POST", f"/api/{PLURAL[kind]}/{name}/paths-info/main", headers=fields(Content_Type="application/json"),
                           body=b'{"paths":["w.bin"]}')
        assert posted.status == 200 and posted.json()[0]["path"] == "w.bin"
        assert cache.get(f"/api/{PLURAL[kind]}/{name}/refs").json()["branches"][0]["name"] == "main"
    assert len({c["target"] for c in hub.calls("cdn", method="GET")}) == 1, "two downloads of one file"
    hub.kill()
    cache.until_known_down()
    for name in ["acme/New"] + others:
        assert cache.get(f"{KINDS[kind]}/{name}/resolve/main/w.bin").body == b"weights" * 50, name
        assert cache.get(f"/api/{PLURAL[kind]}/{name}/tree/main").status == 200, name
    cache.restart(hub_offline="yes")
    for name in ["acme/New"] + others:
        assert cache.get(f"{KINDS[kind]}/{name}/resolve/main/a.txt").body == b"a\n", name


def test_R06_names_that_would_forge_the_log(hub, cache):
    add_names(hub, "model")
    before = len(cache.stderr().splitlines())
    assert cache.get("/acme/names/resolve/main/" + quote("line\r\nX-Injected: yes")).status == 200
    assert cache.get("/acme/names/resolve/main/" + quote("none\r\n2026 level=error msg=forged\x1b[31m")).status == 404
    lines = cache.stderr().splitlines()[before:]
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line) for line in lines) and "\x1b" not in "".join(lines)
    assert not [line for line in lines if line.startswith(("X-Injected", "2026 level=error"))]


@pytest.mark.parametrize("who", ["anonymous", "bob", "alice"])
@pytest.mark.parametrize("verb", ["resolve", "raw"])
def test_U07_an_old_name_whose_repo_is_gone_and_that_another_has_taken_is_reached_at_once(hub, cache, people, who, verb):
    token = None if who == "anonymous" else getattr(people, who)
    target = f"/bob/model/{verb}/main/config.json"
    made = hub.content.add_repo("model", "acme/gone")
    made.commit({"config.json": b'{"gone": 1}', "secret.txt": b"secret"})
    hub.content.add_alias("model", "bob/model", "acme/gone")
    for asks in (people.alice, None):
        assert cache.get(target, asks).body == b'{"gone": 1}'
        assert cache.get("/api/models/bob/model", asks).json()["id"] == "acme/gone"
    hub.content.delete_repo("model", "acme/gone")
    hub.content.aliases.pop(("model", "bob/model"))
    taken = hub.content.add_repo("model", "bob/model")
    taken.object_id = "c" * 24
    taken.commit({"config.json": b'{"bob": 1}', "README.md": b"bob's"})
    # what nobody has asked for yet: the repo is asked, and is gone
    assert cache.get(f"/bob/model/{verb}/main/README.md", token).body == b"bob's"
    assert cache.get(f"/bob/model/{verb}/main/README.md", token)["X-Repo-Commit"] == taken.head.id
    assert cache.get(f"/bob/model/{verb}/{made.head.id}/secret.txt", token).status == 404
    assert cache.get("/acme/gone/resolve/main/none.txt", token).status in (401, 404)
    assert [i["path"] for i in cache.get("/api/models/bob/model/tree/main", token).json()] == ["README.md", "config.json"]
    hub.kill()
    cache.until_known_down()
    assert cache.get(f"/bob/model/{verb}/main/README.md", token).body == b"bob's"


def test_Z06_a_stranger_does_not_take_an_old_name_away(hub, cache, people):
    """Who may not see the repo is told so under the old name as well; who may goes on by it, also without upstream."""
    hub.content.add_alias("model", "bob/model", "acme/private")
    target = "/bob/model/resolve/main/config.json"
    for _ in range(3):
        answer = cache.get(target, people.alice)
        assert answer.body == bytes_of(hub, "config.json", "acme/private")
        for stranger in (None, people.bob):
            refused = cache.get(target, stranger)
            assert refused.status == (404 if stranger else 401) and "acme/private" not in refused.text + str(refused.fields)
    cache.get(target)
    hub.kill()
    cache.until_known_down()
    assert cache.get(target, people.alice).body == bytes_of(hub, "config.json", "acme/private")
    assert cache.get(target).status != 200


def test_R08_a_branch_that_is_called_like_a_commit(hub, start):
    """What is asked for by 40 hex digits is a commit, unless the repo's own list has a branch of that name: then it is what upstream
    says now, and never kept under the name."""
    cache = start(hub_revision_ttl="1s")
    repo, odd = hub.content.repo("acme/pub"), "ab" * 20
    bodies = [b'{"odd": %d}' % n for n in range(3)]

    def check(body, verb="resolve", method="GET"):
        answer = cache.ask(method, f"/acme/pub/{verb}/{odd}/config.json")
        assert answer.status == 200 and answer["X-Repo-Commit"] == repo.find(odd).id, answer
        assert "immutable" not in answer["Cache-Control"] and (method == "HEAD" or answer.body == body)
    for body in bodies:
        made = repo.commit({"config.json": body, "w.bin": LFS(body * 1000)}, branch=odd)
        for verb in ("resolve", "raw"):
            check(body, verb, "HEAD")
            check(body, verb)
        assert cache.get(f"/acme/pub/resolve/{odd}/w.bin").body == body * 1000
        assert cache.get(f"/acme/pub/resolve/{made.id}/config.json").body == body
        assert cache.get(f"/acme/pub/resolve/{odd}/none.txt")["X-Error-Code"] == "EntryNotFound"
        for _ in range(2):
            told = cache.get(f"/api/models/acme/pub/revision/{odd}")
            assert told.status == 200 and told.json()["sha"] == made.id, told
    hub.kill()
    cache.until_known_down()
    assert cache.get(f"/acme/pub/resolve/{odd}/config.json").status in (503, 504)
    assert cache.get(f"/api/models/acme/pub/revision/{odd}").status in (503, 504)
    assert cache.get(f"/api/models/acme/pub/revision/{made.id}").json()["sha"] == made.id
    assert cache.get(f"/acme/pub/resolve/{made.id}/config.json").body == bodies[-1]


def test_U02_another_commit_than_was_asked_for_is_still_wrong(hub, cache):
    commit = commit_of(hub).id
    hub.rule("hub", path="resolve/", commit="cd" * 20)
    for method in ("GET", "HEAD"):
        assert cache.ask(method, f"/acme/pub/resolve/{commit}/model.safetensors").status == 502
    hub.rule("hub", path="resolve/", commit=commit)
    assert cache.get(f"/acme/pub/resolve/{commit}/model.safetensors").body == bytes_of(hub, "model.safetensors")
