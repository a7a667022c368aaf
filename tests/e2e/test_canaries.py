# SPDX-License-Identifier: Apache-2.0
"""Tokens are looked for wherever they must not be (design P5; reliability I7, U07 to U09, N09).

Every test of this folder already looks through log and store for its tokens (harness.finish). Here one long life of a daemon, with
everything that carries a token in it, is searched in all places at once; and redirects lead to listeners that must not be spoken to.
"""
import base64
import json
import socket
import threading
from urllib.parse import quote

import pytest

from facts import PUB, at_commit, bytes_of, commit_of, file_of
from hubdouble import LFS
from wire import fields

LFS_JSON = "application/vnd.git-lfs+json"


class Listener:
    """Takes connections and keeps what they say; answers 404."""

    def __init__(self, address="127.0.0.1", family=socket.AF_INET):
        self.socket = socket.create_server((address, 0), family=family)
        self.port = self.socket.getsockname()[1]
        self.url = f"http://[{address}]:{self.port}" if family == socket.AF_INET6 else f"http://{address}:{self.port}"
        self.heard = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                conn, _ = self.socket.accept()
            except OSError:
                return
            self.heard.append(b"(a connection)")
            threading.Thread(target=self.listen, args=(conn,), daemon=True).start()

    def listen(self, conn):
        with conn:
            conn.settimeout(2)
            said = b""
            try:
                while b"\r\n\r\n" not in said and (piece := conn.recv(65536)):
                    said += piece
                conn.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            except OSError:
                pass
            self.heard.append(said)

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


@pytest.fixture
def listeners():
    made = []

    def make(*how):
        made.append(Listener(*how))
        return made[-1]
    yield make
    for each in made:
        each.close()


def forms_of(token):
    """How a token may look when somebody has passed it on."""
    out = {token, token[3:], token[::-1], quote(token, safe=""), token.encode().hex()}
    for user in ("", "alice", "user", "hf_user"):
        text = base64.b64encode(f"{user}:{token}".encode()).decode()
        out |= {text, text.rstrip("=")[4:-4]}    # whatever stands around it
    for shift in range(3):                       # the token in the middle of something that was encoded
        out.add(base64.b64encode(b"x" * shift + token.encode())[4:-4].decode())
    return {form.encode() for form in out}


class Search:
    def __init__(self, tokens):
        self.needles = set().union(*(forms_of(t) for t in tokens)) | {b"&Signature=", b"Key-Pair-Id=", b"X-Amz-Signature="}
        self.finds, self.places = [], 0

    def look(self, where, data):
        self.places += 1
        data = data if isinstance(data, bytes) else str(data).encode()
        self.finds += [(where, needle[:12]) for needle in self.needles if needle in data]

    def look_into_file(self, path):
        """Of any size, in pieces that overlap."""
        tail = b""
        with open(path, "rb") as f:
            while piece := f.read(1 << 22):
                self.look(str(path), tail + piece)
                tail = piece[-512:]


def basic(user, token):
    return [("Authorization", "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode())]


def batch(operation, file):
    return json.dumps({"operation": operation, "transfers": ["basic"], "objects": [{"oid": file.sha256, "size": file.size}]}).encode()


def questions(hub, people):
    """[(method, target, headers, body)]: all that carries a token, in every way that clients carry one."""
    out = []
    lfs = [("Content-Type", LFS_JSON), ("Accept", LFS_JSON)]
    for repo in ("acme/gated", "acme/private", PUB):
        commit, large = commit_of(hub, repo).id, file_of(hub, "model.safetensors", repo)
        for token in vars(people).values():
            bearer = fields(token)
            for target in (f"/{repo}/resolve/main/model.safetensors", f"/{repo}/resolve/{commit}/config.json", f"/{repo}/resolve/main/nothing",
                           f"/{repo}/raw/main/model.safetensors", f"/{repo}/resolve/nobranch/x", f"/api/models/{repo}",
                           f"/api/models/{repo}/tree/main?recursive=true", f"/api/models/{repo}/refs", f"/api/models/{repo}/commits/main",
                           f"/api/models/{repo}/xet-read-token/main", f"/api/models/{repo}/discussions", f"/{repo}/blob/main/config.json",
                           f"/v2/{repo}/blobs/sha256:{large.sha256}", f"/v2/{repo}/manifests/latest",
                           f"/api/resolve-cache/models/{repo}/{commit}/config.json"):
                out.append(("GET", target, bearer, None))
            out.append(("HEAD", f"/{repo}/resolve/main/config.json", bearer, None))
            out.append(("GET", f"/{repo}/resolve/main/config.json", basic("alice", token), None))
            out.append(("GET", f"/{repo}.git/info/refs?service=git-upload-pack", basic("hf_user", token), None))
            out.append(("POST", f"/{repo}.git/info/lfs/objects/batch", basic("user", token) + lfs, batch("download", large)))
            out.append(("GET", f"/{repo}.git/info/lfs/objects/{large.sha256}", basic("user", token), None))
            out.append(("POST", f"/api/models/{repo}/paths-info/main", bearer + [("Content-Type", "application/json")],
                        b'{"paths":["config.json"],"expand":false}'))
    for token in vars(people).values():
        out += [("GET", target, fields(token), None) for target in (
            "/api/whoami-v2", "/api/models?author=acme", "/api/spaces/acme/page", "/api/datasets/acme/table/parquet", "/settings/tokens",
            "/api/agent-harnesses", "/api/telemetry/x", "/api/unknown/thing", "/nobody/none/resolve/main/x", "/-/status", "/-/metrics", "/-/")]
        # where tokens do not belong
        out += [("GET", f"/{PUB}/resolve/main/config.json?token={token}", [], None), ("GET", f"/api/models/{token}/x", [], None),
                ("GET", f"/{PUB}/resolve/{token}/config.json", [], None), ("GET", f"/api/models?search={token}", fields(token), None),
                ("GET", f"/api/models/{PUB}?access_token={token}", [], None), ("GET", "/api/whoami-v2", [("Authorization", token)], None),
                ("GET", "/api/whoami-v2", fields(token) * 2, None), ("GET", "/api/whoami-v2", [("Authorization", f"Digest {token}")], None)]
    writer = fields(people.writer)
    ndjson = [("Content-Type", "application/x-ndjson")]
    out += [("POST", "/api/repos/create", writer + [("Content-Type", "application/json")], b'{"name":"made","organization":"acme","type":"model"}'),
            ("POST", f"/api/models/{PUB}/commit/main", writer + ndjson,
             b'{"key":"header","value":{"summary":"s","description":""}}\n{"key":"file","value":{"content":"aGk=","path":"hi.txt","encoding":"base64"}}\n'),
            ("POST", f"/api/models/{PUB}/branch/other", writer + [("Content-Type", "application/json")], b"{}"),
            ("PUT", f"/api/models/{PUB}/settings", writer + [("Content-Type", "application/json")], b'{"private":false}'),
            ("POST", f"/{PUB}.git/info/lfs/objects/batch", basic("acme", people.writer) + lfs,
             json.dumps({"operation": "upload", "transfers": ["basic"], "objects": [{"oid": "a" * 64, "size": 5}]}).encode())]
    return out


def search_all(cache, hub, search, foreign):
    for run in range(1, cache.runs + 1):
        search.look(f"log {run}", cache.stderr(run))
        search.look(f"stdout {run}", cache.stdout(run))
    for path in cache.files():
        search.look(str(path.relative_to(cache.store)), str(path))
        search.look_into_file(path)
    for call in hub.calls():
        for name, value in call["headers"]:
            if call["origin"] != "hub" or name.lower() != "authorization":
                search.look(f"{call['origin']}: {name}", value)
        if call["origin"] != "hub":
            assert not call["authorization"] and not call.header("Cookie"), call
    for each in foreign:
        for said in each.heard:
            search.look("a foreign host", said)


@pytest.mark.seconds(240)
def test_I7_no_token_is_found_anywhere(hub, start, people, listeners):
    cache = start(log_level="debug", hub_deny_ttl="0s")
    near, far = listeners(), listeners("127.0.0.2")
    search = Search(vars(people).values())
    asked = questions(hub, people)
    answers = 0

    def ask_all(some):
        nonlocal answers
        for method, target, headers, body in some:
            answer = cache.ask(method, target, headers=headers, body=body)
            answers += 1
            text = answer.raw_head + bytes(answer.kept)
            if "lfs/objects/batch" in target:    # uploads go straight to the store that the Hub names
                text = text.replace(b"X-Amz-Signature=", b"")
            search.look(f"the answer to {method} {target[:60]}", text)
    ask_all(asked)
    # trouble of every kind, with tokens on the way
    some = [q for q in asked if "acme/gated" in q[1] or "whoami" in q[1]][::3]
    for trouble in (dict(status=500), dict(status=429, headers={"Retry-After": "1"}), dict(close="reset"), dict(body=b"<html>no JSON"),
                    dict(redirect_to=f"{near.url}/near"), dict(redirect_to=f"{far.url}/far"), dict(set_header={"X-Error-Message": "no"})):
        rule = hub.rule("hub", times=len(some) * 4, path="acme/gated|whoami", **trouble)
        ask_all(some[::2] if "status" in trouble or "close" in trouble else some)
        rule.remove()
    cache.kill9()
    cache.start()
    ask_all(some)
    hub.kill()
    ask_all(some)
    cache.restart(hub_offline="yes")
    ask_all(some)
    for page in ("/-/", "/-/status", "/-/metrics", "/-/readyz", "/-/healthz"):
        search.look(page, cache.get(page).body)
    for name in ("cmdline", "environ"):
        search.look(name, cache._proc(name).read_bytes())
    search_all(cache, hub, search, [near, far])
    cache.stop()
    search_all(cache, hub, search, [near, far])
    assert not search.finds, f"{len(search.finds)} finds in {search.places} places: {sorted(set(map(str, search.finds)))[:20]}"
    assert answers > 250 and search.places > 1000, "that was too little to say anything"
    assert not far.heard, f"a host that is not listed was spoken to: {far.heard}"


def test_I7_nothing_of_a_closed_repo_is_in_log_metrics_or_pages(hub, start, people):
    """Bytes and listings are in the store alone; pages that anybody may see do not even name it (N09)."""
    cache = start(log_level="debug")
    text = "canary-in-the-bytes-" + "xyz" * 11
    repo = hub.content.add_repo("model", "acme/veiled", private=True)
    repo.commit({"canary-in-a-name.txt": text, "README.md": f"---\ntags:\n- canary-in-a-tag\n---\n{text}\n", "big.bin": LFS(text.encode() * 3000)},
                message="canary in a title")
    hub.content.tokens[people.alice].grants.add("acme/veiled")
    for target in ("/acme/veiled/resolve/main/big.bin", "/acme/veiled/resolve/main/README.md", "/api/models/acme/veiled",
                   "/api/models/acme/veiled/tree/main?recursive=true&expand=true", "/api/models/acme/veiled/tree/main?recursive=true",
                   "/api/models/acme/veiled/commits/main"):
        assert cache.get(target, people.alice).status == 200, target
        assert cache.get(target).status == 401 and cache.get(target, people.bob).status == 404
    for page in ("/-/", "/-/status", "/-/metrics", "/-/readyz"):
        shown = cache.get(page).text
        assert "veiled" not in shown and "canary" not in shown, f"{page} tells of a private repository"
    log = cache.stderr()
    for what in ("canary-in-the-bytes", "canary-in-a-name", "canary-in-a-tag", "canary in a title", repo.head.files["big.bin"].sha256):
        assert what not in log, f"{what} is in the log"


# Where a redirect must not lead: what is not the Hub's, by whatever name.
def unlisted(listeners):
    trap = listeners("127.0.0.2")
    six = listeners("::1", socket.AF_INET6) if socket.has_ipv6 and has_ipv6() else None
    number = int.from_bytes(socket.inet_aton("127.0.0.2"), "big")
    places = [trap.url, f"http://{number}:{trap.port}", f"http://127.2:{trap.port}", f"http://0177.0.0.2:{trap.port}",
              f"http://[::ffff:127.0.0.2]:{trap.port}", f"http://alice:x@127.0.0.2:{trap.port}", "http://169.254.169.254/latest/meta-data",
              "http://[fe80::1]", "http://0.0.0.0:9", "http://10.255.255.1"]
    if six:
        places.append(six.url)
    return places, [trap] + ([six] if six else [])


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        return True
    except OSError:
        return False


def told(hub, path, repo="acme/gated"):
    file = file_of(hub, path, repo)
    return {"X-Repo-Commit": commit_of(hub, repo).id, "X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(file.size)}


@pytest.mark.parametrize("route", ["small file", "large file", "second hop", "repo info", "tree", "registry", "LFS address"])
def test_U08_redirects_lead_nowhere_that_is_not_listed(hub, cache, people, listeners, route):
    places, traps = unlisted(listeners)
    large = file_of(hub, "model.safetensors", "acme/gated")
    for place in places:
        target, headers, origin, path = {
            "small file": ("/acme/gated/resolve/main/config.json", told(hub, "config.json"), "hub", "acme/gated/resolve"),
            "large file": ("/acme/gated/resolve/main/model.safetensors", told(hub, "model.safetensors"), "hub", "acme/gated/resolve"),
            "second hop": ("/acme/gated/resolve/main/model.safetensors", {}, "cdn", "xet-bridge"),
            "repo info": ("/api/models/acme/gated", {}, "hub", "api/models"),
            "tree": (f"/api/models/acme/gated/tree/{commit_of(hub, 'acme/gated').id}", {}, "hub", "/tree/"),
            "registry": (f"/v2/acme/gated/blobs/sha256:{large.sha256}", {}, "hub", "/v2/"),
            "LFS address": (f"/acme/gated.git/info/lfs/objects/{large.sha256}", {}, "hub", "objects/batch"),
        }[route]
        if route == "LFS address":
            href = {"href": f"{place}/x", "expires_at": "2099-01-01T00:00:00Z", "header": {"Authorization": "Bearer of-the-store"}}
            said = {"transfer": "basic", "objects": [{"oid": large.sha256, "size": large.size, "authenticated": True,
                                                      "actions": {"download": href}}]}
            rule = hub.rule(origin, path=path, body=json.dumps(said).encode(), headers={"Content-Type": LFS_JSON})
        else:
            rule = hub.rule(origin, path=path, redirect_to=f"{place}/x", headers=headers)
        answer = cache.get(target, people.alice, timeout=40)
        rule.remove()
        assert answer.status >= 400 or not answer.complete or answer.status == 0, f"{place}: {answer}"
    for trap in traps:
        assert not trap.heard, f"somebody was spoken to: {trap.heard}"


@pytest.mark.parametrize("hop", ["hub", "cdn"])
def test_U09_no_token_follows_a_redirect_that_is_allowed(hub, cache, people, listeners, hop):
    """Another port of the same address is listed where the Hub itself is a loopback address; but it is not the Hub."""
    near = listeners()
    if hop == "hub":
        for path in ("config.json", "model.safetensors"):
            hub.rule("hub", path=f"acme/gated/resolve/[^/]+/{path}", redirect_to=f"{near.url}/{path}", headers=told(hub, path))
    else:
        hub.rule("cdn", redirect_to=f"{near.url}/x")
    for path in ("config.json", "model.safetensors"):
        answer = cache.get(f"/acme/gated/resolve/main/{path}", people.alice, timeout=40)
        assert answer.status != 200 or bytes(answer.kept) == bytes_of(hub, path, "acme/gated")
    for target in ("/api/models/acme/gated", "/api/whoami-v2"):
        rule = hub.rule("hub", path=target.replace("/api", ""), redirect_to=f"{near.url}/x")
        cache.get(target, people.alice)
        rule.remove()
    assert near.heard, "nothing was tried"
    for said in near.heard:
        assert people.alice.encode() not in said and b"authorization" not in said.lower() and b"cookie" not in said.lower(), said


def test_U08_what_is_refused_is_tried_anew_when_the_hub_is_itself_again(hub, cache, people, listeners):
    trap = listeners("127.0.0.2")
    rule = hub.rule("hub", path="acme/gated/resolve", redirect_to=f"{trap.url}/x", headers=told(hub, "config.json"))
    target = at_commit(hub, "config.json", "acme/gated")
    assert cache.get(target, people.alice).status == 502
    rule.remove()
    assert cache.get(target, people.alice).status == 200 and not trap.heard
