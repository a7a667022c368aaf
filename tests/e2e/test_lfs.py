# SPDX-License-Identifier: Apache-2.0
"""Git-LFS through the daemon (hub-protocol 1.5, 8: A12, S02, W06; abuse cases N10, Z08)."""
import base64
import hashlib
import json
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from facts import MODEL, MODEL_BYTES, PUB, at_commit, bytes_of, commit_of, file_of
from gitbox import POINTER, Box, with_token
from harness import SLOW, authority, wait_for
from hubdouble import LFS, generated, generated_block
from wire import Connection

JSON = "application/vnd.git-lfs+json"
WEIGHTS = "model.safetensors"


@pytest.fixture
def machine(folder):
    """machine(name): one more computer with git-lfs."""
    return lambda name, **how: Box(folder / name, **how)


def wanted(file):
    return {"oid": file.sha256, "size": file.size}


def batch(cache, objects, token=None, repo="/acme/pub.git", operation="download", headers=(), **more):
    asked = {"operation": operation, "transfers": ["basic"], "objects": objects, "hash_algo": "sha256"} | more
    return cache.ask("POST", f"{repo}/info/lfs/objects/batch", token, headers=headers, body=json.dumps(asked).encode(), Accept=JSON,
                     Content_Type=JSON)


def batches(hub):
    return hub.calls("hub", "info/lfs/objects/batch")


def target_of(cache, href):
    """Path and query of an address that must be one of the daemon's."""
    assert href.startswith(cache.url + "/"), href
    return href[len(cache.url):]


def href_of(cache, answer, at=0):
    assert answer.status == 200, answer
    return target_of(cache, answer.json()["objects"][at]["actions"]["download"]["href"])


@pytest.mark.parametrize("repo", ["/acme/pub.git", "/acme/pub"])
def test_A12_a_batch_leads_to_us(hub, cache, repo):
    file = file_of(hub, WEIGHTS)
    answer = batch(cache, [wanted(file)], repo=repo, transfers=["xet", "lfs-standalone-file", "basic"], ref={"name": "refs/heads/main"})
    assert answer.status == 200 and answer["Content-Type"] == JSON and "no-store" in answer["Cache-Control"]
    said = answer.json()
    assert list(said) == ["transfer", "objects"] and said["transfer"] == "basic"
    assert list(said["objects"][0]) == ["oid", "size", "authenticated", "actions"]
    assert list(said["objects"][0]["actions"]["download"]) == ["href", "expires_at"]
    target = href_of(cache, answer)
    assert urlsplit(target).path == f"/acme/pub.git/info/lfs/objects/{file.sha256}"
    call, = batches(hub)
    assert json.loads(call["body"])["transfers"] == ["basic"] and json.loads(call["body"])["ref"] == {"name": "refs/heads/main"}
    got = cache.get(target)
    assert got.status == 200 and got.body == bytes_of(hub, WEIGHTS) and got["Content-Length"] == str(file.size)
    assert hub.body_bytes("cdn") == file.size and len(batches(hub)) == 1


def test_A12_upstreams_text_is_kept_but_for_the_address(hub, cache):
    file = file_of(hub, WEIGHTS)
    text = ('{ "objects" : [ {"actions": {"download": {"href": "%s/x?Signature=1", "header": {"Authorization": "Basic c2VjcmV0"},'
            ' "expires_in": 77}}, "size": %d, "oid": "%s", "new": 1.50}], "hash_algo": "sha256", "later" : null}'
            % (hub.cdn_url, file.size, file.sha256))
    hub.rule("hub", path="/objects/batch$", body=text.encode(), headers={"Content-Type": JSON})
    answer = batch(cache, [wanted(file)])
    href = href_of(cache, answer)
    assert answer.text == (text.replace(', "header": {"Authorization": "Basic c2VjcmV0"}', "")
                           .replace(f"{hub.cdn_url}/x?Signature=1", cache.url + href))


@pytest.mark.parametrize("text", [
    '{"transfer":"xet","objects":[{"oid":"OID","size":SIZE,"actions":{"download":{"href":"CDN/x"}}}]}',
    '{"objects":[{"oid":"OID","size":SIZE,"actions":{"download":{"href":"CDN/x"},"download":{"href":"CDN/y"}}}]}',
    '{"objects":[{"oid":"OID","size":SIZE,"actions":{"download":{"href":"CDN/x"},"other":{"href":"CDN/y"}}}]}',
    '{"objects":[{"oid":"nonsense","size":SIZE,"actions":{"download":{"href":"CDN/x"}}}]}',
    '{"objects":[],"objects":[{"oid":"OID","size":SIZE,"actions":{"download":{"href":"CDN/x"}}}]}',
    '<html>welcome</html>', '[]'])
def test_A12_an_answer_that_is_none_opens_nothing(hub, cache, text):
    file = file_of(hub, WEIGHTS)
    text = text.replace("OID", file.sha256).replace("SIZE", str(file.size)).replace("CDN", hub.cdn_url)
    hub.rule("hub", path="/objects/batch$", body=text.encode(), headers={"Content-Type": JSON})
    answer = batch(cache, [wanted(file)])
    assert answer.status == 502 and answer["Content-Type"] == JSON and answer.json()["message"]
    assert hub.cdn_url not in answer.text


@pytest.mark.parametrize("first", ["resolve", "lfs"])
def test_A12_one_blob_with_resolve(hub, cache, first):
    file, body = file_of(hub, WEIGHTS), bytes_of(hub, WEIGHTS)
    if first == "resolve":
        assert cache.get(MODEL).body == body
        hub.reset_counters()
    answer = batch(cache, [wanted(file)])
    assert cache.get(href_of(cache, answer)).body == body
    if first == "lfs":
        assert len(batches(hub)) == 1 and hub.body_bytes("cdn") == file.size
        assert cache.get(MODEL).body == body and cache.get(at_commit(hub, WEIGHTS)).body == body
        assert hub.body_bytes("cdn") == file.size
    else:   # all of it was known from there: the right, the object, the bytes
        assert not hub.calls(), hub.calls()
    assert len([b for b in cache.blobs() if b == file.sha256]) == 1


def test_A12_eight_at_once_are_one_transfer(hub, cache):
    file, body = file_of(hub, WEIGHTS), bytes_of(hub, WEIGHTS)
    hub.rate("cdn", 6 << 20)
    with ThreadPoolExecutor(9) as pool:
        def one(_):
            return cache.get(href_of(cache, batch(cache, [wanted(file)]))).body == body
        resolved = pool.submit(lambda: cache.get(MODEL).body == body)
        assert all(pool.map(one, range(8))) and resolved.result()
    assert hub.body_bytes("cdn") == file.size and len([c for c in hub.calls("cdn") if c["method"] == "GET"]) == 1


def test_A12_ranges_heads_and_conditions(hub, cache):
    file, body = file_of(hub, WEIGHTS), bytes_of(hub, WEIGHTS)
    target = href_of(cache, batch(cache, [wanted(file)]))
    head = cache.head(target)
    assert head.status == 200 and head["Content-Length"] == str(file.size) and head["ETag"] == f'"{file.sha256}"'
    for _ in range(2):   # cold and warm
        part = cache.get(target, Range="bytes=1000000-")
        assert part.status == 206 and part.body == body[1000000:]
        assert part["Content-Range"] == f"bytes 1000000-{file.size - 1}/{file.size}"
        assert cache.get(target, Range=f"bytes={file.size}-").status == 416
        assert cache.get(target).body == body
    assert cache.get(target, If_None_Match=f'"{file.sha256}"').status == 304
    assert hub.body_bytes("cdn") <= file.size + (1 << 20)


def test_A12_errors_are_told_for_each_object(hub, cache, people):
    file, secret = file_of(hub, WEIGHTS), file_of(hub, WEIGHTS, "acme/private")
    gone = hub.content.repo(PUB).commit({"gone.bin": LFS(generated(5000, 99))}).files["gone.bin"]
    hub.content.gone.add(gone.sha256)
    asked = [wanted(file), wanted(gone), wanted(secret), {"oid": file_of(hub, WEIGHTS).sha256, "size": 3}]
    for token in (None, people.alice):
        said = batch(cache, asked, token).json()["objects"]
        assert [o["oid"] for o in said] == [o["oid"] for o in asked]
        assert "actions" in said[0] and [o.get("error", {}).get("code") for o in said] == [None, 410, 404, 422]
        assert [o.get("error", {}).get("message") for o in said[1:3]] == ["Object was removed", "Object does not exist"]
    assert cache.get(f"/acme/pub.git/info/lfs/objects/{gone.sha256}").status == 410
    assert cache.get(f"/acme/pub.git/info/lfs/objects/{'ab' * 32}").status == 404


def test_A12_what_is_known_is_answered_without_upstream(hub, cache, people):
    file, body = file_of(hub, WEIGHTS), bytes_of(hub, WEIGHTS)
    target = href_of(cache, batch(cache, [wanted(file)]))
    assert cache.get(target).body == body
    hub.reset_counters()
    again = batch(cache, [wanted(file)])
    assert again.json()["objects"][0]["authenticated"] is True and cache.get(href_of(cache, again)).body == body
    assert not hub.calls()
    hub.kill()
    assert cache.get(href_of(cache, batch(cache, [wanted(file)]))).body == body
    cache.restart()
    cache.until_known_down()
    answer = batch(cache, [wanted(file), {"oid": "ab" * 32, "size": 7}])
    assert cache.get(href_of(cache, answer)).body == body
    assert answer.json()["objects"][1]["error"]["code"] == 503
    other = batch(cache, [{"oid": "ab" * 32, "size": 7}])
    assert other.status == 503 and other["Retry-After"] and "upstream" in other.json()["message"]


def test_D04_an_object_that_does_not_fit_is_asked_for_once(hub, start, people):
    """Where it lies in the repo is not known, and the store has no room: it is passed through, and no fill is begun twice for one GET."""
    cache = start(storage_max_size="1M")
    for i in range(12):
        file = hub.content.add_repo("model", f"acme/r{i}").commit({"w.bin": LFS(generated(3 << 20, 100 + i))}).files["w.bin"]
        href = href_of(cache, batch(cache, [wanted(file)], people.alice, f"/acme/r{i}.git"))
        begun = len(cache.log_lines(room="flight"))
        answer = cache.get(href, people.alice)
        assert answer.status == 200 and hashlib.sha256(answer.body).hexdigest() == file.sha256
        assert len(cache.log_lines(room="flight")) - begun <= 2, cache.log_lines(room="flight")[begun:][:5]


def test_A12_the_source_is_found_again(hub, cache):
    """After a restart no address of upstream's is left; the object is known all the same."""
    file, body = file_of(hub, WEIGHTS), bytes_of(hub, WEIGHTS)
    target = href_of(cache, batch(cache, [wanted(file)]))
    cache.restart()   # what was learned by then is durable
    hub.reset_counters()
    assert cache.get(target).body == body
    assert len(batches(hub)) == 1 and not hub.calls("hub", "/resolve/") and hub.body_bytes("cdn") == file.size
    assert json.loads(batches(hub)[0]["body"])["objects"] == [wanted(file)]


def test_A12_an_address_says_what_size_to_ask_for(hub, start):
    """Another daemon, or one whose store is gone, knows nothing of the object; upstream insists on its size."""
    file, body = file_of(hub, WEIGHTS), bytes_of(hub, WEIGHTS)
    given, other = start(), start()
    target = href_of(given, batch(given, [wanted(file)]))
    hub.reset_counters()
    assert other.get(target).body == body and len(batches(hub)) == 1
    assert json.loads(batches(hub)[0]["body"])["objects"] == [wanted(file)]
    wrong = start().get(f"{urlsplit(target).path}?size=3")
    assert wrong.status == 422 and body not in wrong.body
    assert other.get(f"{urlsplit(target).path}?size=3").body == body, "known by now"


def test_A12_an_address_that_expired_is_asked_for_anew(hub, cache):
    hub.options.signature_ttl = 12
    file, body = file_of(hub, WEIGHTS), bytes_of(hub, WEIGHTS)
    target = href_of(cache, batch(cache, [wanted(file)]))
    time.sleep(2.5)   # it has less than ten seconds left
    assert cache.get(target).body == body and len(batches(hub)) == 2


def test_A12_what_only_upstream_understands_is_passed_on(hub, cache):
    file = file_of(hub, WEIGHTS)
    assert batch(cache, [wanted(file)], hash_algo="sha512").status == 409
    assert batch(cache, [wanted(file)], operation="remove").status == 422
    assert batch(cache, [wanted(file)], transfers=["xet"]).json()["transfer"] == "basic"
    for path in ("/acme/pub.git/info/lfs/locks", "/acme/pub/info/lfs/locks?limit=1"):
        assert cache.get(path).status == 404
    hub.options.locks = "empty"
    assert cache.get("/acme/pub.git/info/lfs/locks").json() == {"locks": []}
    hub.rule("hub", path="/info/lfs/locks", status=501, body=b'{"message":"not here"}', headers={"Content-Type": JSON})
    answer = cache.ask("POST", "/acme/pub.git/info/lfs/locks/verify", body=b"{}", Content_Type=JSON)
    assert answer.status == 501 and answer.json() == {"message": "not here"} and answer["Content-Type"] == JSON


def test_S02_the_same_refusals_as_upstreams(hub, cache, people):
    """By batch and by object; cold, and when the bytes are held."""
    for repo, may in (("acme/private", people.alice), ("acme/gated", people.alice)):
        file = file_of(hub, WEIGHTS, repo)
        target = f"/{repo}.git/info/lfs/objects/{file.sha256}"
        for _ in range(2):
            for token in (None, people.bob, people.nobody):
                answers = batch(cache, [wanted(file)], token, f"/{repo}.git"), cache.get(target, token), cache.head(target, token)
                expected = 401 if token in (None, people.nobody) else 404 if repo == "acme/private" else 403
                for answer in answers:
                    assert answer.status == expected, (answer, token)
                    assert file.sha256 not in answer.text and hub.cdn_url not in answer.text
                    if repo == "acme/gated":
                        assert answer["X-Error-Code"] == "GatedRepo"
            held = cache.get(href_of(cache, batch(cache, [wanted(file)], may, f"/{repo}.git")), may)
            assert held.body == bytes_of(hub, WEIGHTS, repo)


def test_S02_an_address_given_to_one_is_for_this_object_alone(hub, start, people):
    cache = start(hub_grant_ttl="2s")
    file, other = file_of(hub, WEIGHTS, "acme/private"), file_of(hub, WEIGHTS)
    target = href_of(cache, batch(cache, [wanted(file)], people.alice, "/acme/private.git"))
    assert people.alice not in target and base64.b64encode(people.alice.encode())[:20].decode() not in target
    assert cache.get(target).body == bytes_of(hub, WEIGHTS, "acme/private")   # git-lfs comes without its token
    query = urlsplit(target).query
    for path in (f"/acme/gated.git/info/lfs/objects/{file_of(hub, WEIGHTS, 'acme/gated').sha256}",
                 f"/acme/private.git/info/lfs/objects/{other.sha256}", f"/acme/private/resolve/main/{WEIGHTS}", "/acme/private/raw/main/README.md"):
        assert cache.get(f"{path}?{query}").status in (401, 404), path
    # what upstream gave a moment ago is no proof any more: neither its address nor the ticket
    hub.content.revoke_token(people.alice)
    hub.reset_counters()
    wait_for(lambda: cache.get(target).status == 401, 10)
    assert batches(hub) or hub.calls("hub")
    assert cache.get(target).status == 401 and cache.head(target).status == 401


def test_N10_knowing_a_name_opens_nothing(hub, cache, people):
    file = file_of(hub, WEIGHTS, "acme/private")
    assert cache.get(href_of(cache, batch(cache, [wanted(file)], people.alice, "/acme/private.git"))).status == 200
    for token in (None, people.bob, people.alice):
        said = batch(cache, [wanted(file)], token).json()["objects"][0]   # in a repo that does not hold it
        assert said["error"]["code"] == 404 and "actions" not in said
        assert cache.get(f"/acme/pub.git/info/lfs/objects/{file.sha256}", token).status == 404


def test_Z08_one_blob_in_a_public_and_a_private_repo(hub, cache, people):
    shared = generated_block(5, 0, 300_000)
    hub.content.repo(PUB).commit({"both.bin": LFS(shared)})
    file = hub.content.repo("acme/private").commit({"inside.bin": LFS(shared)}).files["inside.bin"]
    answer = batch(cache, [wanted(file)])
    got = cache.get(href_of(cache, answer))
    assert got.body == shared and "acme/private" not in answer.text + str(got.fields) and "inside" not in str(got.fields)
    assert batch(cache, [wanted(file)], people.bob, "/acme/private.git").status == 404
    assert cache.get(f"/acme/private.git/info/lfs/objects/{file.sha256}").status == 401
    assert cache.get(href_of(cache, batch(cache, [wanted(file)], people.alice, "/acme/private.git"))).body == shared
    assert hub.body_bytes("cdn") == file.size


def upload_answer(hub, cache, people, size, transfers, operation="upload"):
    data = generated_block(size, 0, size)
    asked = {"oid": hashlib.sha256(data).hexdigest(), "size": size}
    answer = batch(cache, [asked], people.writer, operation=operation, transfers=transfers)
    assert answer.status == 200, answer
    return data, asked, answer.json()["objects"][0]["actions"]


def test_W06_verify_and_completion_come_through_us(hub, cache, people):
    hub.options.multipart_over, hub.options.chunk_size = 100_000, 100_000
    data, asked, actions = upload_answer(hub, cache, people, 250_000, ["basic", "multipart"])
    parts = {int(name): url for name, url in actions["upload"]["header"].items() if name.isdigit()}
    ours = [url.startswith(cache.url + "/") for url in parts.values()]
    assert len(parts) == 3 and all(ours)
    named = []
    for number, url in sorted(parts.items()):
        named.append({"partNumber": number, "etag": put(url, data[(number - 1) * 100_000:number * 100_000])["ETag"]})
    assert hub.body_bytes("cdn") == 0
    wait_for(lambda: passed(cache, "^/-/upload/") == 3)   # a line of the log is written when its request has ended
    done = cache.ask("POST", target_of(cache, actions["upload"]["href"]), people.writer, Content_Type=JSON,
                     body=json.dumps({"oid": asked["oid"], "parts": named}).encode())
    assert done.status == 200 and done.json() == {"success": True}
    verify = actions["verify"]
    assert verify["header"]["Authorization"].startswith("Basic ")
    answer = cache.ask("POST", target_of(cache, verify["href"]), headers=verify["header"], Content_Type=JSON, body=json.dumps(asked).encode())
    assert answer.status == 200
    assert hub.calls("hub", "/objects/verify$")[-1]["authorization"] == verify["header"]["Authorization"]


def put(url, data):
    with Connection(authority(url)) as conn:
        parts = urlsplit(url)
        return conn.ask("PUT", f"{parts.path}?{parts.query}", (), data)


def test_W06_a_basic_upload(hub, cache, people):
    data, asked, actions = upload_answer(hub, cache, people, 70_000, ["basic"])
    assert put(actions["upload"]["href"], data).status == 200
    verify = actions["verify"]
    assert cache.ask("POST", target_of(cache, verify["href"]), headers=verify["header"], Content_Type=JSON,
                     body=json.dumps(asked).encode()).status == 200
    call, = batches(hub)
    assert json.loads(call["body"])["transfers"] == ["basic"] and call["authorization"] == f"Bearer {people.writer}"
    refused = batch(cache, [asked | {"oid": "ab" * 32}], people.bob, operation="upload")
    assert refused.status == 403
    target = href_of(cache, batch(cache, [wanted(file_of(hub, WEIGHTS))], people.bob))
    assert cache.get(target, people.bob).status == 200, "who may not write may still read"


def test_W07_an_upload_is_asked_for_once(hub, cache, people):
    hub.rule("hub", path="/objects/batch$", close="reset")
    assert batch(cache, [{"oid": "ab" * 32, "size": 9}], people.writer, operation="upload").status in (502, 503)
    assert len(batches(hub)) == 1


# The real client


def lfs_file(box, clone, name=WEIGHTS):
    return (box.path / clone / name).read_bytes()


def passed(cache, path):
    """How many requests for such a path the daemon has served well in this run."""
    return len([x for x in cache.log_lines(msg="request") if re.search(path, x["path"]) and x["status"] in ("200", "206")])


def assert_nothing_went_past(hub):
    """What reached the double's CDN came from the daemon itself, without a token; uploads came through its tunnel."""
    assert not hub.leaks() and not hub.xet_calls()
    assert all(c.header("User-Agent").startswith("hfcached/") for c in hub.calls("cdn") if c["method"] != "PUT")


@pytest.mark.seconds(300)
def test_A12_machines_with_git_lfs_share_one_transfer(hub, cache, machine):
    body = bytes_of(hub, WEIGHTS)
    large = [f for f in commit_of(hub).files.values() if f.is_lfs]
    one = machine("one")
    one.clone(f"{cache.url}/acme/pub", "pub")
    assert lfs_file(one, "pub") == body
    assert hub.body_bytes("cdn") == sum(f.size for f in large)
    wait_for(lambda: passed(cache, "/info/lfs/objects/[0-9a-f]{64}$") == len(large))
    hub.reset_counters()
    two = machine("two")
    two.clone(f"{cache.url}/acme/pub.git", "pub", lfs=False)
    assert lfs_file(two, "pub").startswith(POINTER)
    two.git("lfs", "pull", where="pub")
    assert lfs_file(two, "pub") == body
    assert not hub.calls("cdn") and not batches(hub)
    assert cache.get(MODEL).body == body and not hub.calls("cdn")
    assert_nothing_went_past(hub)
    # upstream dies: an existing clone without its objects still gets them
    three = machine("three")
    three.clone(f"{cache.url}/acme/pub", "pub", lfs=False)
    hub.kill()
    three.git("lfs", "pull", where="pub")
    assert lfs_file(three, "pub") == body


@pytest.mark.seconds(300)
def test_A12_git_lfs_in_a_private_repo(hub, cache, people, machine):
    body = bytes_of(hub, WEIGHTS, "acme/private")
    pasted = machine("pasted")
    pasted.clone(with_token(f"{cache.url}/acme/private", people.alice), "private")
    assert lfs_file(pasted, "private") == body
    helped = machine("helped", token=people.alice)
    helped.clone(f"{cache.url}/acme/private", "private")
    assert lfs_file(helped, "private") == body
    assert hub.body_bytes("cdn") == sum(f.size for f in commit_of(hub, "acme/private").files.values() if f.is_lfs)
    stranger = machine("stranger", token=people.bob)
    stranger.git("init", "-q", "private")
    stranger.git("remote", "add", "origin", f"{cache.url}/acme/private", where="private")
    (stranger.path / "private/w").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:"
                                             f"{file_of(hub, WEIGHTS, 'acme/private').sha256}\nsize {MODEL_BYTES}\n")
    (stranger.path / "private/.gitattributes").write_text("w filter=lfs -text\n")
    stranger.git("add", "-A", where="private")
    stranger.git("commit", "-q", "-m", "guess", where="private")
    assert "epository not found" in stranger.git("lfs", "fetch", "origin", "HEAD", where="private", fails=True)
    assert_nothing_went_past(hub)
    # the right is known, upstream is away
    hub.kill()
    shutil.rmtree(helped.path / "private/.git/lfs")
    helped.git("lfs", "pull", where="private")
    assert lfs_file(helped, "private") == body
    stranger.git("lfs", "fetch", "origin", "HEAD", where="private", fails=True)
    assert not hub.leaks()


@pytest.mark.seconds(300)
def test_E_git_lfs_without_upstream_and_what_is_not_held(hub, cache, machine):
    box = machine("one")
    box.clone(f"{cache.url}/acme/pub", "pub", lfs=False)
    hub.kill()
    cache.until_known_down()
    said = box.git("lfs", "pull", where="pub", fails=True)
    assert "upstream cannot be reached" in said and box.took < 20 * SLOW, said


@pytest.mark.seconds(300)
def test_push_with_git_lfs(hub, cache, people, machine):
    data = generated_block(77, 0, 1_000_000)
    box = machine("one", token=people.writer)
    box.clone(f"{cache.url}/acme/pub", "pub", lfs=False)
    (box.path / "pub/added.safetensors").write_bytes(data)
    box.git("lfs", "track", "*.safetensors", where="pub")
    box.git("add", "-A", where="pub")
    box.git("commit", "-q", "-m", "weights", where="pub")
    box.git("push", "-q", "origin", "HEAD:main", where="pub")
    made = file_of(hub, "added.safetensors")
    assert made.is_lfs and made.source.read() == data
    verified = hub.calls("hub", "/objects/verify$")
    assert verified and all(c.header("Host") == urlsplit(hub.url).netloc for c in verified)
    assert cache.get("/acme/pub/resolve/main/added.safetensors").body == data
    assert len(hub.calls("cdn", method="PUT")) == 1
    wait_for(lambda: passed(cache, "^/-/upload/") == 1)
    assert_nothing_went_past(hub)


def test_W06_an_upload_is_not_led_past_us_by_xet(hub, cache, people):
    """As git-xet asks. All else of the question is as it came."""
    data = generated_block(5, 0, 1000)
    text = ('{ "operation":"upload", "transfers" : [ "xet","multipart", "basic" ],"hash_algo":"sha256","xet":"xet",\n"objects":[{"oid":"%s",'
            '"size":1000}]}' % hashlib.sha256(data).hexdigest())
    answer = cache.ask("POST", "/acme/pub.git/info/lfs/objects/batch", people.writer, body=text.encode(), Accept=JSON, Content_Type=JSON)
    assert answer.status == 200 and answer.json()["transfer"] == "basic"
    assert batches(hub)[-1]["body"].decode() == text.replace('[ "xet"', '[ "basic"')
