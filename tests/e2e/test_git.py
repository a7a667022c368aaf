# SPDX-License-Identifier: Apache-2.0
"""git through the daemon: the real client, and what it needs on the wire (hub-protocol 1.5: A13; 8.2)."""
import gzip
import subprocess
import threading
from urllib.parse import quote

import pytest

from facts import CONFIG, IGNORANCE, PUB, at_commit, bytes_of, commit_of
from gitbox import POINTER, Box, with_token
from harness import SLOW, wait_for
from wire import fields

REFS = "info/refs?service=git-upload-pack"
BASIC = 'Basic realm="'


@pytest.fixture
def box(folder):
    return Box(folder / "git", lfs=False)


def pkt(text):
    return b"%04x%s" % (len(text) + 4, text)


def list_refs():
    """A question of protocol version 2."""
    return pkt(b"command=ls-refs\n") + b"0001" + pkt(b"peel\n") + pkt(b"ref-prefix refs/heads/\n") + b"0000"


@pytest.mark.parametrize("suffix,options", [("", ()), (".git", ()), (".git", ("-c", "protocol.version=0"))])
def test_A13_clone(hub, cache, box, suffix, options):
    box.git(*options, "clone", "-q", f"{cache.url}/acme/pub{suffix}", "one")
    assert box.git("rev-parse", "HEAD", where="one") == commit_of(hub).id
    assert box.git("rev-parse", "HEAD^{tree}", where="one") == commit_of(hub).tree_oid
    assert (box.path / "one/config.json").read_bytes() == bytes_of(hub, "config.json")
    assert (box.path / "one/model.safetensors").read_bytes().startswith(POINTER)
    assert not hub.calls("cdn") and all(c["path"].startswith("/acme/pub" + suffix) for c in hub.calls("hub"))


def test_A13_fetch_shallow_partial_and_other_kinds(hub, cache, box):
    box.clone(f"{cache.url}/acme/pub", "one")
    box.git("fetch", "-q", "origin", "refs/pr/1:pr1", where="one")
    assert box.git("rev-parse", "pr1", where="one") == commit_of(hub, revision="refs/pr/1").id
    made = hub.content.repo(PUB).commit({"later.txt": "later\n"})
    box.git("pull", "-q", where="one")
    assert box.git("rev-parse", "HEAD", where="one") == made.id and (box.path / "one/later.txt").read_text() == "later\n"
    box.clone(f"{cache.url}/acme/pub", "shallow", "--depth", "1", "--filter=blob:none")
    assert box.git("rev-list", "--count", "HEAD", where="shallow") == "1"
    box.clone(f"{cache.url}/datasets/acme/table", "table")
    assert box.git("rev-parse", "HEAD", where="table") == commit_of(hub, "acme/table", kind="dataset").id


@pytest.mark.parametrize("is_chunked", [False, True])
def test_A13_a_question_goes_as_it_came(hub, cache, is_chunked):
    body = gzip.compress(list_refs())
    head = fields(Content_Type="application/x-git-upload-pack-request", Content_Encoding="gzip", Git_Protocol="version=2",
                  Accept="application/x-git-upload-pack-result", Expect="100-continue" if is_chunked else None,
                  Transfer_Encoding="chunked" if is_chunked else None)
    with cache.connect() as conn:
        if is_chunked:
            conn.request("POST", "/acme/pub.git/git-upload-pack", head, b"")
            for piece in (body[:7], body[7:], b""):
                conn.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            answer = conn.read()
        else:
            answer = conn.ask("POST", "/acme/pub.git/git-upload-pack", head, body)
    assert answer.status == 200 and answer["Content-Type"] == "application/x-git-upload-pack-result"
    assert commit_of(hub).id.encode() in answer.body
    call = hub.calls("hub", "git-upload-pack$")[-1]
    assert call["body"] == body and call.header("Content-Encoding") == "gzip" and call.header("Git-Protocol") == "version=2"
    assert call["body_framing"] == ("chunked" if is_chunked else "length")


def test_A13_refs_are_never_kept(hub, cache, box):
    def head():
        return box.git("ls-remote", f"{cache.url}/acme/pub", "refs/heads/main").split()[0]
    assert head() == commit_of(hub).id
    made = hub.content.repo(PUB).commit({"next.txt": "next\n"})
    assert head() == made.id
    answer = cache.get(f"/acme/pub/{REFS}")
    assert answer.status == 200 and "no-cache" in answer["Cache-Control"]
    assert answer["Content-Type"] == "application/x-git-upload-pack-advertisement"


def test_A13_a_private_repo_asks_for_a_token_and_takes_it_in_both_ways(hub, cache, people, folder, box):
    url = f"{cache.url}/acme/private"
    assert "could not read Username" in box.git("clone", url, "none", fails=True)
    box.clone(with_token(url, people.alice), "pasted")
    helped = Box(folder / "helped", token=people.alice, lfs=False)
    helped.clone(url + ".git", "one")
    assert helped.git("rev-parse", "HEAD", where="one") == commit_of(hub, "acme/private").id
    assert all(c["authorization"] is None or c["authorization"].startswith("Basic ") for c in hub.calls("hub"))
    stranger = Box(folder / "stranger", token=people.bob, lfs=False)
    assert "not found" in stranger.git("clone", url, "one", fails=True)
    assert "403" in stranger.git("clone", f"{cache.url}/acme/gated", "one", fails=True)


@pytest.mark.parametrize("method,path", [
    ("GET", REFS), ("GET", "info/refs?service=git-receive-pack"), ("POST", "git-upload-pack"), ("POST", "git-receive-pack"), ("GET", "HEAD"),
    ("POST", "info/lfs/objects/batch"), ("GET", "info/lfs/locks"), ("POST", "info/lfs/locks/verify"), ("GET", "info/lfs/objects/" + "ab" * 32)])
@pytest.mark.parametrize("suffix", ["", ".git"])
def test_A13_a_refusal_offers_basic_whatever_upstream_offered(hub, cache, method, path, suffix):
    hub.rule("hub", set_header={"WWW-Authenticate": 'Bearer realm="Authentication required"'})
    body = b'{"operation":"download","objects":[{"oid":"%s","size":1}]}' % (b"ab" * 32)
    for _ in range(2):   # the second time from memory, where there is one
        answer = cache.ask(method, f"/acme/private{suffix}/{path}", body=body if method == "POST" else None)
        assert answer.status == 401 and answer["WWW-Authenticate"].startswith(BASIC), answer
        assert len(answer.all("WWW-Authenticate")) == 1
        if "lfs" in path:
            assert answer["LFS-Authenticate"].startswith(BASIC)


def test_A13_redirects_of_git_lead_to_us(hub, cache, box):
    box.clone(f"{cache.url}/old/name", "moved")
    assert box.git("rev-parse", "HEAD", where="moved") == commit_of(hub).id
    hub.rule("hub", path="^/acme/gone/info/refs", redirect_to=f"{hub.url}/acme/pub/{REFS}", times=1)
    answer = cache.get(f"/acme/gone/{REFS}")
    assert answer.status == 302 and answer["Location"] == f"{cache.url}/acme/pub/{REFS}"


def test_A13_a_clone_does_not_make_the_cache_forget(hub, cache, box):
    assert cache.get(CONFIG).status == 200
    box.clone(f"{cache.url}/acme/pub", "one")
    hub.kill()
    assert cache.get(CONFIG).body == bytes_of(hub, "config.json")


def test_E_a_clone_without_upstream_fails_at_once_and_says_why(hub, cache, box):
    hub.kill()
    for _ in range(2):   # before and after the daemon has noticed
        said = box.git("clone", f"{cache.url}/acme/pub", "none", fails=True)
        assert "remote: " in said and "upstream cannot be reached" in said and "503" in said, said
        assert box.took < 20 * SLOW
        cache.until_known_down()


def test_push_and_what_the_cache_says_after_it(hub, start, people, box):
    cache = start(hub_revision_ttl="1h", hub_metadata_ttl="1h")
    box.clone(with_token(f"{cache.url}/acme/pub", people.writer), "one")
    old = commit_of(hub).id
    assert cache.head(CONFIG)["X-Repo-Commit"] == old and cache.head("/acme/pub/resolve/main/new.txt").status == 404
    assert cache.get("/api/models/acme/pub").json()["sha"] == old
    (box.path / "one/new.txt").write_text("new\n")
    (box.path / "one/big.txt").write_text("".join(f"line {i * 7919 % 104729}\n" for i in range(200_000)))
    box.git("add", "-A", where="one")
    box.git("commit", "-q", "-m", "more", where="one")
    box.git("-c", "http.postBuffer=65536", "push", "-q", "origin", "HEAD:main", where="one")   # chunked, after a probe
    made = box.git("rev-parse", "HEAD", where="one")
    assert commit_of(hub).id == made != old
    assert cache.head(CONFIG)["X-Repo-Commit"] == made
    assert cache.get("/acme/pub/resolve/main/new.txt").body == b"new\n"
    assert cache.get("/api/models/acme/pub").json()["sha"] == made
    assert [c for c in hub.calls("hub", "git-receive-pack$") if c["body_framing"] == "chunked"]
    box.clone(f"{cache.url}/acme/pub", "two")
    assert "rejected" in box.git("push", "origin", "HEAD~1:main", where="one", fails=True)


def test_a_push_is_known_when_upstream_goes(hub, start, people, box):
    cache = start(hub_revision_ttl="1h", hub_metadata_ttl="1h")
    hub.content.repo(PUB).tag("v1")
    box.clone(with_token(f"{cache.url}/acme/pub", people.writer), "one")
    old = commit_of(hub).id
    for name in ("main", "v1"):
        assert cache.get(f"/acme/pub/resolve/{name}/config.json").status == 200
    (box.path / "one/new.txt").write_text("new\n")
    box.git("add", "-A", where="one")
    box.git("commit", "-q", "-m", "more", where="one")
    hub.reset_counters()
    box.git("push", "-q", "origin", "HEAD:main", "HEAD:refs/heads/side", where="one")
    made = box.git("rev-parse", "HEAD", where="one")
    assert len([c for c in hub.calls("hub", "/api/models/acme/pub/refs$") if c.authorization]) == 1
    hub.kill()
    stands = {b["name"]: b["targetCommit"] for b in cache.get("/api/models/acme/pub/refs", people.writer).json()["branches"]}
    assert stands["main"] == stands["side"] == made
    assert cache.get("/acme/pub/resolve/v1/config.json")["X-Repo-Commit"] == old
    for name in ("main", "side"):      # of its files nothing is held, and the old ones are not given for them
        assert cache.get(f"/acme/pub/resolve/{name}/config.json", people.writer).status in (503, 504)


def test_a_push_is_over_when_its_answer_ends(hub, start, people):
    """What is learned between the head of the answer and its end may be what was before the push."""
    cache = start(hub_revision_ttl="1h")
    report = pkt(b"unpack ok\n") + pkt(b"ok refs/heads/main\n") + b"0000"
    is_seen = threading.Event()
    hub.rule("hub", path="git-receive-pack$", method="POST", body=report, stall_after=4, stall_for=is_seen,
             headers={"Content-Type": "application/x-git-receive-pack-result"})
    old, got = commit_of(hub).id, []
    pusher = threading.Thread(target=lambda: got.append(cache.ask(
        "POST", "/acme/pub/git-receive-pack", people.writer, Content_Type="application/x-git-receive-pack-request", body=b"0000")))
    pusher.start()
    wait_for(lambda: [c for c in hub.calls("hub", "git-receive-pack$") if c["t_first"]], 5)
    assert cache.head(CONFIG)["X-Repo-Commit"] == old
    assert not got
    made = hub.content.repo(PUB).commit({"pushed.txt": "x\n"})
    is_seen.set()
    pusher.join()
    assert got[0].status == 200 and got[0].body == report and len(got[0].all("Content-Type")) == 1
    assert cache.head(CONFIG)["X-Repo-Commit"] == made.id
    assert cache.get(at_commit(hub, "pushed.txt")).body == b"x\n"


def upstream_is_gone(hub, cache):
    hub.kill()
    cache.until_known_down()


@pytest.mark.parametrize("kind", ["branch", "tag"])
def test_a_name_that_a_push_deletes_is_gone_when_upstream_goes(hub, start, people, box, kind):
    cache = start(hub_revision_ttl="1h", hub_metadata_ttl="1h")
    repo = hub.content.repo(PUB)
    repo.commit({"dev.txt": "dev\n"}, branch="dev")
    repo.tag("v1")
    gone, kept = ("dev", "v1") if kind == "branch" else ("v1", "dev")
    for name in ("dev", "v1", "main", "refs/pr/1", commit_of(hub).id[:9]):
        assert cache.get(f"/acme/pub/resolve/{quote(name, safe='')}/config.json").status == 200, name
        assert cache.get(f"/api/models/acme/pub/revision/{quote(name, safe='')}").status == 200, name
    box.clone(with_token(f"{cache.url}/acme/pub", people.writer), "one")
    box.git("push", "-q", "origin", f":{gone}", where="one")
    assert gone not in {ref.split("/", 2)[2] for ref in repo.refs}
    upstream_is_gone(hub, cache)
    for target in (f"/acme/pub/resolve/{gone}/config.json", f"/api/models/acme/pub/revision/{gone}", f"/api/models/acme/pub/tree/{gone}"):
        answer = cache.get(target)
        assert answer.status in (404, *IGNORANCE) and answer["X-Repo-Commit"] is None, (target, answer)
    for name in (kept, "main", "refs/pr/1", commit_of(hub).id[:9]):
        assert cache.get(f"/acme/pub/resolve/{quote(name, safe='')}/config.json").body == bytes_of(hub, "config.json"), name


@pytest.mark.slow
def test_a_push_whose_answer_is_long_is_heard_whole(hub, start, people, box):
    """5 MiB of what hooks say: the real client hears all of it, and what was known is asked for anew."""
    cache = start(hub_revision_ttl="1h")
    assert cache.get(CONFIG).status == 200
    box.clone(with_token(f"{cache.url}/acme/pub", people.writer), "one")
    (box.path / "one/new.txt").write_text("new\n")
    box.git("add", "-A", where="one")
    box.git("commit", "-q", "-m", "more", where="one")
    lines = [b"".join(b"line %07d of what a hook says\n" % (n + i) for i in range(1000)) for n in range(0, 200_000, 1000)]
    report = pkt(b"unpack ok\n") + pkt(b"ok refs/heads/main\n") + b"0000"
    said = b"".join(pkt(b"\2" + text) for text in lines) + pkt(b"\1" + report) + b"0000"
    assert len(said) > 5 << 20
    made = []

    def moves(_):   # what the double does not do while the rule answers
        made.append(hub.content.repo(PUB).commit({"new.txt": "new\n"}))
        return True
    hub.rule("hub", path="git-receive-pack$", method="POST", body=said, headers={"Content-Type": "application/x-git-receive-pack-result"},
             when=moves)
    heard = subprocess.run(["git", "push", "origin", "HEAD:main"], cwd=box.path / "one", env=box.environment, capture_output=True, text=True,
                           timeout=60 * SLOW)
    assert heard.returncode == 0, heard.stderr[-500:]
    assert len([line for line in heard.stderr.splitlines() if "of what a hook says" in line]) == 200_000
    assert made and cache.head(CONFIG)["X-Repo-Commit"] == made[-1].id
    answer = cache.ask("POST", "/acme/pub/git-receive-pack", people.writer, body=b"0000",
                       Content_Type="application/x-git-receive-pack-request")
    assert answer.status == 200 and answer.body == said
