# SPDX-License-Identifier: Apache-2.0
"""The registry below /v2/, as ollama, llama.cpp and node-llama-cpp use it (hub-protocol 1.6, 2.3, 2.7: A14, B22, S02; abuse cases
N10, Z08)."""
import hashlib
import json
import time
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from facts import MIB, add_large, assert_ignorance, bytes_of, file_of
from harness import wait_for
from hubdouble import LFS, specimens
from wire import fields

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OLLAMA = {"User-Agent": "ollama/0.5.7 (amd64 linux) Go/go1.23.4", "Accept": MANIFEST}
LLAMA = {"User-Agent": "llama-cpp", "Accept": "application/json"}
NAMES = {"acme/gguf": "Gguf", "acme/gated": "Gated", "acme/closed": "Closed"}


@pytest.fixture
def repo(hub):
    """The public one: its double, the file of a tag, addresses."""
    return registry(hub)


@pytest.fixture
def closed(hub, people):
    """The same in a repository that only alice may read."""
    specimens.add_gguf(hub.content, "acme/closed", gated=True)
    hub.content.tokens[people.alice].grants.add("acme/closed")
    return registry(hub, "acme/closed", is_there=True)


def registry(hub, name="acme/gguf", is_there=False):
    if not is_there:
        specimens.add_gguf(hub.content, name)
    path = f"{NAMES[name]}-Q8_0.gguf"
    file = file_of(hub, path, name)
    return SimpleNamespace(name=name, path=path, file=file, body=bytes_of(hub, path, name), digest=f"sha256:{file.sha256}",
                           manifest=f"/v2/{name}/manifests/Q8_0", blob=f"/v2/{name}/blobs/sha256:{file.sha256}",
                           resolve=f"/{name}/resolve/main/{path}")


def ask(cache, method, target, token=None, who=OLLAMA, **more):
    return cache.ask(method, target, token, headers=list(who.items()), **more)


def layers(answer):
    assert answer.status == 200, answer
    said = answer.json()
    return [said["config"]] + said["layers"]


def blob_of(repo, layer):
    return f"/v2/{repo.name}/blobs/{layer['digest']}"


def is_sha256(body, digest):
    return "sha256:" + hashlib.sha256(body).hexdigest() == digest


def pull(cache, repo, token=None):
    """What ollama does: the manifest; of each layer a HEAD, a GET that is given up, then parts from its Location without a token."""
    manifest = ask(cache, "GET", repo.manifest, token)
    for layer in layers(manifest):
        path = blob_of(repo, layer)
        head = ask(cache, "HEAD", path, token)
        assert head.status == 200 and head["Content-Length"] == str(layer["size"]), head
        with cache.connect() as conn:
            conn.request("GET", path, fields(token, headers=list(OLLAMA.items())))
            first = conn.head()
        assert first.status == 200 and first["Content-Length"] == str(layer["size"]), first
        assert first["Docker-Content-Digest"] == layer["digest"] and first["Content-Encoding"] is None
        where = first["Location"]
        assert urlsplit(where).path == path, where
        step = max(layer["size"] // 4, 1)
        parts = []
        for at in range(0, layer["size"], step):
            end = min(at + step, layer["size"]) - 1
            part = cache.get(where, Range=f"bytes={at}-{end}")
            assert part.status == 206 and part["Content-Range"] == f"bytes {at}-{end}/{layer['size']}", part
            parts.append(part.body)
        assert is_sha256(b"".join(parts), layer["digest"])
    return manifest


# --- manifests ---

def test_A14_two_variants_of_a_manifest(hub, cache, repo):
    plain = ask(cache, "GET", repo.manifest)
    assert plain.status == 200 and "ggufFile" not in plain.json() and plain.json()["layers"][0]["digest"] == repo.digest
    assert is_sha256(plain.body, plain["Docker-Content-Digest"]) and "User-Agent" in plain["Vary"]
    named = ask(cache, "GET", repo.manifest, who=LLAMA)
    assert named.json()["ggufFile"]["rfilename"] == repo.path and named["ETag"] != plain["ETag"]
    assert len(hub.calls("hub")) == 2 and [c.header("User-Agent") for c in hub.calls("hub")] == [OLLAMA["User-Agent"], "llama-cpp"]
    assert MANIFEST in hub.calls("hub")[0].header("Accept")
    for agent, first in (("ollama/0.9", plain), ("llama-cpp/b9000", named), ("Llama-CPP", named)):
        assert ask(cache, "GET", repo.manifest, who={"User-Agent": agent}).body == first.body
    head = ask(cache, "HEAD", repo.manifest)
    assert head.status == 200 and head["Content-Length"] == str(len(plain.body))
    again = cache.get(repo.manifest, If_None_Match=plain["ETag"], User_Agent="ollama/0.9")
    assert again.status == 304 and again["ETag"] == plain["ETag"] and not again.body
    assert len(hub.calls("hub")) == 2


def test_A14_a_manifest_is_asked_for_again_after_its_time(hub, start, repo):
    cache = start(hub_metadata_ttl="1s")
    first = ask(cache, "GET", repo.manifest)
    time.sleep(2.1)
    assert ask(cache, "GET", repo.manifest).body == first.body and len(hub.calls("hub")) == 2
    hub.kill()
    cache.until_known_down()
    stale = ask(cache, "GET", repo.manifest)
    assert stale.status == 200 and stale.body == first.body and stale["Age"] is not None


@pytest.mark.parametrize("tag, status, words", [
    ("Q2_K", 400, "tag is not available"), ("BF16", 400, "sharded GGUF"), ("latest", 200, "layers")])
def test_A14_upstreams_own_words(hub, cache, repo, tag, status, words):
    answer = ask(cache, "GET", f"/v2/acme/gguf/manifests/{tag}")
    assert answer.status == status and words in answer.text and "json" in answer["Content-Type"]


def test_A14_a_repo_without_gguf_and_none_at_all(hub, cache):
    answer = ask(cache, "GET", "/v2/acme/pub/manifests/latest")
    assert answer.status == 400 and "not GGUF" in answer.text
    answer = ask(cache, "GET", "/v2/acme/nothing/manifests/latest")
    assert answer.status == 401 and answer["WWW-Authenticate"].startswith("Basic realm=")


def test_A14_the_ping_is_passed_on(hub, cache):
    hub.rule("hub", path="^/v2/$", status=200, body=b"{}", headers={"Docker-Distribution-API-Version": "registry/2.0"})
    answer = cache.get("/v2/?ticket=00112233445566778899aabbccddeeff")
    assert answer.status == 200 and answer["Docker-Distribution-API-Version"] == "registry/2.0"
    call, = hub.calls("hub")
    assert "ticket" not in call["target"]


# --- what clients do ---

def test_A14_ollama_pulls_cold_warm_and_without_upstream(hub, cache, repo):
    manifest = pull(cache, repo)
    total = sum(layer["size"] for layer in layers(manifest))
    assert hub.body_bytes("cdn") <= repo.file.size + sum(x["size"] for x in layers(manifest) if "projector" in x["mediaType"])
    heads = [c for c in hub.calls("hub") if c["method"] == "HEAD"]
    assert not heads, "the manifest had told all"
    wait_for(lambda: sum(1 for _ in cache.blobs()) >= len(layers(manifest)), 20)
    hub.reset_counters()
    assert pull(cache, repo).body == manifest.body
    assert not hub.calls(), hub.calls()
    hub.kill()
    cache.until_known_down()
    assert pull(cache, repo).body == manifest.body
    cache.restart(kill=True)
    assert pull(cache, repo).body == manifest.body
    assert total > 0


def test_A14_llama_cpp_by_its_manifest(hub, cache, repo):
    """2025 builds: the manifest, then the file by branch."""
    def load():
        said = ask(cache, "GET", repo.manifest, who=LLAMA).json()
        target = f"/{repo.name}/resolve/main/{said['ggufFile']['rfilename']}"
        head = ask(cache, "HEAD", target, who=LLAMA)
        assert head.status == 200 and head["ETag"] == f'"{repo.file.sha256}"' and head["Accept-Ranges"] == "bytes"
        assert ask(cache, "GET", target, who=LLAMA).body == repo.body
    load()
    assert hub.body_bytes("cdn") == repo.file.size
    hub.reset_counters()
    load()
    assert not hub.calls()
    hub.kill()
    cache.until_known_down()
    load()


def test_A14_llama_cpp_by_refs_and_tree(hub, cache, repo):
    """Builds of 2026: refs, tree, HEAD and GET at the commit."""
    def load():
        refs = ask(cache, "GET", f"/api/models/{repo.name}/refs", who=LLAMA).json()
        commit = next(b["targetCommit"] for b in refs["branches"] if b["name"] == "main")
        tree = ask(cache, "GET", f"/api/models/{repo.name}/tree/{commit}?recursive=true", who=LLAMA).json()
        assert any(item["path"] == repo.path and item["lfs"]["oid"] == repo.file.sha256 for item in tree)
        target = f"/{repo.name}/resolve/{commit}/{repo.path}"
        head = ask(cache, "HEAD", target, who=LLAMA)
        assert head.status == 200 and head["Content-Length"] == str(repo.file.size)
        assert ask(cache, "GET", target, who=LLAMA).body == repo.body
    load()
    hub.reset_counters()
    load()
    assert not hub.calls()
    hub.kill()
    cache.until_known_down()
    load()


def test_A14_node_llama_cpp(hub, cache, repo):
    """The manifest, a full GET that it gives up, then ranges of the same address."""
    def load():
        said = ask(cache, "GET", repo.manifest, who=LLAMA).json()
        target = f"/{repo.name}/resolve/main/{said['ggufFile']['rfilename']}?download=true"
        with cache.connect() as conn:
            conn.request("GET", target, fields(headers=list(LLAMA.items())))
            first = conn.head()
        assert first.status == 200 and first["Content-Length"] == str(repo.file.size)
        half = repo.file.size // 2
        parts = [cache.get(target, Range=f"bytes=0-{half - 1}"), cache.get(target, Range=f"bytes={half}-{repo.file.size - 1}")]
        assert b"".join(p.body for p in parts) == repo.body
    load()
    assert hub.body_bytes("cdn") <= repo.file.size + 65536
    hub.reset_counters()
    wait_for(lambda: repo.file.sha256 in cache.blobs(), 20)
    load()
    assert not hub.calls()
    hub.kill()
    cache.until_known_down()
    load()


# --- blobs ---

@pytest.mark.parametrize("first", ["resolve", "registry"])
def test_A14_one_blob_with_resolve(hub, cache, repo, first):
    if first == "resolve":
        assert cache.get(repo.resolve).body == repo.body
        hub.reset_counters()
    got = ask(cache, "GET", repo.blob)
    assert got.status == 200 and got.body == repo.body and got["ETag"] == f'"{repo.file.sha256}"'
    if first == "registry":
        assert hub.body_bytes("cdn") == repo.file.size
        assert cache.get(repo.resolve).body == repo.body
        assert hub.body_bytes("cdn") == repo.file.size
    else:
        assert not hub.calls()


def test_A14_a_blob_without_its_manifest(hub, cache, repo):
    head = ask(cache, "HEAD", repo.blob)
    assert head.status == 200 and head["Content-Length"] == str(repo.file.size) and head["Location"] == repo.blob
    assert all(c["method"] == "HEAD" for c in hub.calls())
    assert ask(cache, "GET", repo.blob, Range="bytes=5-9").body == repo.body[5:10]
    small = layers(ask(cache, "GET", repo.manifest))[0]
    assert is_sha256(ask(cache, "GET", blob_of(repo, small)).body, small["digest"])


@pytest.mark.parametrize("end", ["unread", "read"])
def test_B22_a_pull_that_leaves_after_the_head(hub, cache, end):
    """With all that came in its hands, or not: then its end is a reset, which says at once that nobody is there."""
    _, file = add_large(hub, 48 * MIB, repo="acme/big", name="Big-Q8_0.gguf")
    hub.rate("cdn", MIB)
    assert ask(cache, "GET", "/v2/acme/big/manifests/Q8_0").status == 200
    began = time.monotonic()
    with cache.connect() as conn:
        conn.request("GET", f"/v2/acme/big/blobs/sha256:{file.sha256}", fields(headers=list(OLLAMA.items())))
        answer = conn.head()
        assert answer.status == 200
        wait_for(lambda: cache.metric("hfcache_upstream_received_bytes_total") > 100_000, 5)  # all that it gets at first
        if end == "read":
            conn.socket.settimeout(0.05)
            conn.body(answer, most=300_000)   # until no more comes, unless this takes so long that it stays
            assert answer.received > 60_000
    stayed = time.monotonic() - began   # on a machine with much to do, longer than who leaves does
    wait_for(lambda: cache.metric("hfcache_fills_in_flight") == 0, 10)
    # what was taken of it: what the double has handed to its kernel is more, by the buffers on the way
    most = 500_000 + (stayed * MIB if stayed > 0.2 else 0)
    assert cache.metric("hfcache_upstream_received_bytes_total") < most, stayed


# --- who may ---

def test_S02_a_gated_repo_by_ticket(hub, cache, people, closed):
    manifest = pull(cache, closed, people.alice)
    head = ask(cache, "HEAD", closed.blob, people.alice)
    assert "?ticket=" in head["Location"] and head["Cache-Control"] == "private, no-cache"
    assert not any("ticket" in c["target"] for c in hub.calls())
    ticket = head["Location"].partition("ticket=")[2]
    wait_for(lambda: closed.file.sha256 in cache.blobs(), 20)
    hub.reset_counters()
    pull(cache, closed, people.alice)
    assert not [c for c in hub.calls() if c.authorization or c["origin"] != "hub"]   # it may ask for all of its own accord
    hub.kill()
    cache.until_known_down()
    assert pull(cache, closed, people.alice).body == manifest.body
    assert ticket not in cache.stderr() and ticket not in cache.stdout()
    assert ticket not in cache.get("/-/metrics").text and ticket not in cache.get("/-/status").text


def test_S02_refused_like_the_repo(hub, cache, people, closed):
    pull(cache, closed, people.alice)
    real = ask(cache, "GET", closed.resolve)
    for token in (None, people.bob):
        of_repo = cache.get(closed.resolve, token)
        for method, target in (("GET", closed.blob), ("HEAD", closed.blob), ("GET", closed.manifest)):
            answer = ask(cache, method, target, token)
            assert answer.status == of_repo.status in (401, 403), answer
            assert answer["X-Error-Code"] == of_repo["X-Error-Code"] == "GatedRepo"
            assert answer["X-Error-Message"] == of_repo["X-Error-Message"]
            assert "Location" not in answer.names() and closed.file.sha256 not in answer.text
    assert real.status == 401
    challenge = ask(cache, "GET", closed.blob)["WWW-Authenticate"]
    assert challenge == f'Basic realm="{hub.url}/api/models/acme/closed/ssh-auth"'


def test_S02_tickets_that_are_none(hub, cache, people, closed, repo):
    pull(cache, closed, people.alice)
    where = ask(cache, "HEAD", closed.blob, people.alice)["Location"]
    nobody = ask(cache, "GET", closed.blob)
    other = layers(ask(cache, "GET", closed.manifest, people.alice))[0]
    ticket = where.partition("?")[2]
    for target in (closed.blob + "?ticket=", closed.blob + "?ticket=" + 32 * "0", blob_of(closed, other) + "?" + ticket,
                   closed.blob + "?ticket=" + ticket[7:-1], closed.manifest + "?" + ticket):
        answer = cache.get(target)
        assert answer.status == nobody.status == 401 and answer["X-Error-Code"] == nobody["X-Error-Code"], (target, answer)
    assert cache.get(where, people.bob).status in (401, 403), "who sends a token is who he says"
    assert cache.get(where).body == closed.body
    assert not any("ticket" in c["target"] for c in hub.calls())
    cache.restart()
    assert cache.get(where).status == 401, "a ticket ends with the process that made it"


def test_S02_a_ticket_ends_with_the_right(hub, start, people, closed):
    cache = start(hub_grant_ttl="1s")
    pull(cache, closed, people.alice)
    where = ask(cache, "HEAD", closed.blob, people.alice)["Location"]
    hub.content.tokens[people.alice].grants.discard("acme/closed")
    time.sleep(2.1)
    assert cache.get(where).status in (401, 403)


def test_N10_a_digest_opens_nothing(hub, cache, people, closed, repo):
    """Held for one repository, asked for in another: upstream's own answer, and no byte."""
    assert ask(cache, "GET", repo.blob).body == repo.body
    elsewhere = f"/v2/acme/pub/blobs/{repo.digest}"
    for method in ("GET", "HEAD"):
        answer = ask(cache, method, elsewhere)
        assert answer.status == 404 and repo.body[:64] not in answer.body
    never = f"/v2/acme/gguf/blobs/sha256:{64 * '5'}"
    assert ask(cache, "GET", never).status == 404
    assert ask(cache, "GET", "/v2/acme/gguf/blobs/sha256:nonsense").status == 404
    calls = len(hub.calls("hub"))
    assert ask(cache, "GET", elsewhere).status == 404 and len(hub.calls("hub")) == calls + 1, "what is not there may come"
    hub.kill()
    cache.until_known_down()
    for target in (elsewhere, never):
        assert_ignorance(ask(cache, "GET", target))


def test_Z08_one_blob_in_an_open_and_a_closed_repo(hub, cache, people, closed):
    twin = hub.content.add_repo("model", "acme/twin")
    twin.commit({"Twin-Q8_0.gguf": LFS(closed.body)}, message="initial commit")
    assert ask(cache, "GET", f"/v2/acme/twin/blobs/{closed.digest}").body == closed.body
    assert ask(cache, "GET", closed.blob).status == 401
    answer = ask(cache, "HEAD", f"/v2/acme/twin/blobs/{closed.digest}")
    assert answer.status == 200 and answer["Location"] == f"/v2/acme/twin/blobs/{closed.digest}"
    assert "closed" not in repr(answer)


def test_E06_offline_what_is_not_held(hub, cache, repo):
    manifest = ask(cache, "GET", repo.manifest)
    hub.kill()
    cache.until_known_down()
    assert ask(cache, "GET", repo.manifest).body == manifest.body
    for method in ("HEAD", "GET"):
        answer = ask(cache, method, repo.blob)
        assert answer.status in (503, 504) and answer["Retry-After"] == "0" and "X-Error-Code" not in answer.names()
    assert_ignorance(ask(cache, "GET", "/v2/acme/gguf/manifests/Q4_K_M"))


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"[]", b'{"layers":{}}', b'"x"'])
def test_U06_a_manifest_that_is_none(hub, cache, repo, body):
    hub.rule("hub", path="/manifests/", body=body, headers={"Content-Type": "application/json"})
    assert ask(cache, "GET", repo.manifest).status == 502


def test_U06_a_blob_that_is_a_page(hub, cache, repo):
    """A portal that answers everything with a page proves nothing and is nobody's blob."""
    hub.rule("hub", path="/blobs/", status=200, body=b"<html>sign in</html>", headers={"Content-Type": "text/html"})
    answer = ask(cache, "GET", repo.blob)
    assert answer.status == 502 and b"sign in" not in answer.body
