# SPDX-License-Identifier: Apache-2.0
"""Interception: the site CA, CONNECT and the TLS listener, what is reached through them and what is not."""
import json
import re
import socket
import ssl
import stat
import subprocess
import time

import pytest

from facts import CONFIG, MODEL, MODEL_BYTES, PUB, add_large, assert_no_clean_end, bytes_of, commit_of, hit, resolve_calls
from harness import BINARY, SLOW, fresh_token, wait_for
from hubdouble import LFS, generated
from tlsroad import HUB, ROAD_OPTIONS, Refused, Road, TlsHost, connect_to, openssl, plain_connection
from wire import fields

NOT_LISTED = "intercept.hosts"
ALERT_NAME = "UNRECOGNIZED_NAME"


@pytest.fixture
def intercept(start):
    def make(**options):
        return Road(start(**ROAD_OPTIONS | options))
    return make


@pytest.fixture
def road(intercept):
    return intercept()


def refused(daemon, target, headers=(), source=None):
    with plain_connection(daemon, source=source) as conn, pytest.raises(Refused) as caught:
        connect_to(conn, target, headers)
    answer = caught.value.answer
    assert answer["Connection"] == "close" and answer["Content-Type"].startswith("text/plain")
    return answer


def keys_of(daemon):
    """The secret lines of the CA's key file."""
    return [line for line in (daemon.store / "ca/ca.key").read_bytes().splitlines() if line and b"-----" not in line]


# --- the site CA ---

def test_a_ca_is_made_once_and_only_its_certificate_leaves(intercept, hub, people):
    road = intercept()
    daemon = road.daemon
    key, certificate = daemon.store / "ca/ca.key", daemon.store / "ca/ca.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and stat.S_IMODE(certificate.stat().st_mode) == 0o644
    assert sorted(p.name for p in certificate.parent.iterdir()) == ["ca.key", "ca.pem"]
    answer = daemon.get("/-/ca.pem")
    assert answer.status == 200 and answer["Content-Type"] == "application/x-pem-file" and answer.body == certificate.read_bytes()
    assert daemon.head("/-/ca.pem")["Content-Length"] == str(len(answer.body))
    code, said = openssl("x509", "-in", str(certificate), "-noout", "-fingerprint", "-sha256")
    fingerprint = said.strip().rpartition("=")[2]
    line, = [line for line in daemon.log_lines(room="main") if line.get("sha256")]
    assert code == 0 and line["sha256"] == fingerprint and line["path"] == str(certificate) and "made" in line["msg"]
    assert road.get(CONFIG).status == 200 and daemon.get("/-/status").status == 200
    daemon.restart()
    again = Road(daemon)
    assert again.pem == road.pem and again.get(CONFIG).status == 200
    line, = [line for line in daemon.log_lines(room="main") if line.get("sha256")]
    assert line["sha256"] == fingerprint and "made" not in line["msg"]
    told = "".join(daemon.stderr(n) + daemon.stdout(n) for n in (1, 2)).encode()
    told += b"".join(daemon.get(f"/-/{page}").body for page in ("ca.pem", "status", "metrics", "healthz", "readyz", ""))
    for secret in keys_of(daemon):
        assert secret not in told
        assert not [p for p in daemon.files() if p != key and secret in p.read_bytes()]


def signed(folder, authority, names, name="leaf"):
    """A server's certificate that somebody with the stolen key makes."""
    (folder / "ext").write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\n")
    run = [("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x", "-keyout",
            f"{name}.key", "-out", f"{name}.csr"),
           ("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial", "-days", "2",
            "-extfile", "ext", "-out", f"{name}.pem")]
    for words in run:
        code, said = openssl(*words, cwd=folder)
        assert code == 0, said
    return f"{name}.pem", f"{name}.key"


def test_a_stolen_key_speaks_for_no_other_name(road, folder):
    for names, good in (("DNS:huggingface.co", True), ("DNS:a.hf.co", True), ("DNS:example.org", False),
                        ("DNS:huggingface.co,DNS:example.org", False), ("DNS:nothuggingface.co", False), ("IP:127.0.0.1", False),
                        ("IP:::1", False)):
        check_stolen(road, folder, names, good)


def check_stolen(road, folder, names, good):
    authority = road.daemon.store / "ca/ca"
    certificate, key = signed(folder, authority, names)
    code, said = openssl("verify", "-CAfile", f"{authority}.pem", "-purpose", "sslserver", certificate, cwd=folder)
    assert (code == 0) == good and ("subtree violation" in said) != good, said
    # and Python's own TLS is of the same mind
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / certificate, folder / key)
    kind, _, value = names.split(",")[-1].partition(":")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = road.context().wrap_bio(incoming, outgoing, server_hostname=value)
    theirs = server.wrap_bio(outgoing, incoming, server_side=True)

    def shake():
        for _ in range(4):
            for side in (client, theirs):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    pass
    if good:
        shake()
        assert client.getpeercert()["subjectAltName"]
    else:
        with pytest.raises(ssl.SSLCertVerificationError, match="subtree violation"):
            shake()


def test_nor_for_an_authority_below_or_for_anything_but_servers(road, folder):
    authority = road.daemon.store / "ca/ca"
    (folder / "ext").write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n")
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=below", "-keyout",
            "below.key", "-out", "below.csr", cwd=folder)
    openssl("x509", "-req", "-in", "below.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial", "-extfile",
            "ext", "-days", "2", "-out", "below.pem", cwd=folder)
    certificate, _ = signed(folder, folder / "below", "DNS:huggingface.co")
    code, said = openssl("verify", "-CAfile", f"{authority}.pem", "-untrusted", "below.pem", certificate, cwd=folder)
    assert code != 0 and "path length" in said, said
    certificate, _ = signed(folder, authority, "DNS:huggingface.co")
    code, said = openssl("verify", "-CAfile", f"{authority}.pem", "-purpose", "smimesign", certificate, cwd=folder)
    assert code != 0, said
    # what the daemon hands out
    with road.connect() as conn:
        der = conn.socket.getpeercert(binary_form=True)
    (folder / "handed.pem").write_text(ssl.DER_cert_to_PEM_cert(der))
    code, said = openssl("x509", "-in", "handed.pem", "-noout", "-text", cwd=folder)
    for part in ("DNS:huggingface.co", "TLS Web Server Authentication", "CA:FALSE", "Authority Key Identifier", "P-256"):
        assert part in said, said
    code, said = openssl("verify", "-x509_strict", "-CAfile", f"{authority}.pem", "-purpose", "sslserver", "-verify_hostname", HUB,
                         "handed.pem", cwd=folder)
    assert code == 0, said


def check_config(*sets):
    return subprocess.run([BINARY, "--check-config", *(word for one in sets for word in ("--set", one))], capture_output=True, text=True)


def test_a_name_that_the_ca_does_not_cover_is_told_and_refused(intercept, folder):
    road = intercept(intercept_hosts="hf.co")
    daemon = road.daemon
    daemon.restart(intercept_hosts="hf.co huggingface.co")
    assert [line for line in daemon.log_lines(level="warning") if "huggingface.co" in line["msg"] and "may not speak" in line["msg"]]
    again = Road(daemon)
    assert again.pem == road.pem and again.get(CONFIG, host="hf.co").status == 200
    answer = refused(daemon, "huggingface.co:443")
    assert answer.status == 403 and "intercept.ca-file" in answer.text
    with pytest.raises(ssl.SSLError, match=ALERT_NAME):
        again.connect(by="tls")
    done = check_config(f"storage.path={daemon.store}", "intercept.enabled=yes", "intercept.hosts=hf.co huggingface.co")
    assert done.returncode == 0 and "may not speak" in done.stderr and "ok" in done.stdout


@pytest.mark.parametrize("option, word", [("intercept.hosts=*", "intercept.hosts"), ("intercept.tunnel=https://a.b", "intercept.tunnel"),
                                          ("intercept.listen=localhost", "intercept.listen")])
def test_a_list_that_is_badly_written_is_told(folder, option, word):
    done = check_config(f"storage.path={folder}", "intercept.enabled=yes", option)
    assert done.returncode == 78 and word in done.stderr and "--set" in done.stderr


def test_a_key_that_others_may_read_is_not_used(intercept):
    daemon = intercept().daemon
    assert daemon.stop() == 0
    (daemon.store / "ca/ca.key").chmod(0o640)
    daemon.expect("exit").spawn()
    assert daemon.process.wait(20 * SLOW) == 78 and "nobody else may read" in daemon.stderr()


@pytest.mark.parametrize("kind", ["rsa:2048", "ed25519"])
def test_a_ca_of_ones_own(intercept, folder, hub, kind):
    """Without name constraints: what it may speak for is then intercept.hosts alone."""
    code, said = openssl("req", "-x509", "-newkey", kind, "-nodes", "-days", "9", "-subj", "/CN=Ours", "-keyout", "own.key", "-out",
                         "own.pem", "-addext", "basicConstraints=critical,CA:TRUE", cwd=folder)
    assert code == 0, said
    (folder / "own.key").chmod(0o600)
    road = intercept(intercept_ca_file=folder / "own.pem")
    assert road.pem == (folder / "own.pem").read_text() and not (road.daemon.store / "ca").exists()
    assert road.get(CONFIG).body == bytes_of(hub, "config.json")
    with pytest.raises(ssl.SSLError, match=ALERT_NAME):
        road.connect(sni="example.org", context=road.context(check_hostname=False))


def test_without_interception_there_is_nothing_of_it(start):
    daemon = start()
    assert daemon.get("/-/ca.pem").status == 404 and not (daemon.store / "ca").exists()
    with plain_connection(daemon) as conn, pytest.raises(Refused) as caught:
        connect_to(conn, "huggingface.co:443")
    assert caught.value.answer.status == 405


# --- what is served ---

@pytest.mark.parametrize("by", ["connect", "tls"])
def test_files_as_by_any_other_road(road, hub, by):
    daemon = road.daemon
    first = road.get(MODEL, by=by)
    assert first.status == 200 and first.body == bytes_of(hub, "model.safetensors") and first["Location"] is None
    again = daemon.get(MODEL)
    assert hit(again) and again.body == first.body
    part = road.get(MODEL, by=by, range="bytes=100-199")
    assert part.status == 206 and part.body == first.body[100:200] and hit(part)
    assert road.ask("HEAD", MODEL, by=by)["Content-Length"] == str(MODEL_BYTES)
    assert daemon.metric("hfcache_intercept_connections_total", road="served") == 3
    line = daemon.log_lines(room="access", status="206")[0] if daemon.log_lines(room="access") else None
    assert line is None or line["client"] == "127.0.0.1"


def test_many_requests_on_one_connection(road, hub):
    with road.connect() as conn:
        for path in ("config.json", "README.md", "model.safetensors"):
            answer = conn.ask("GET", f"/{PUB}/resolve/main/{path}")
            assert answer.body == bytes_of(hub, path)
        conn.send(b"".join(f"GET /{PUB}/resolve/main/config.json HTTP/1.1\r\nHost: {HUB}\r\n\r\n".encode() for _ in range(5)))
        for _ in range(5):
            assert conn.read().body == bytes_of(hub, "config.json")


def test_addresses_lead_back_by_the_same_road(road, hub, people):
    hub.options.page_size = 2
    page = road.get(f"/api/models/{PUB}/tree/main?recursive=true&limit=2")
    assert page.status == 200 and page["Link"].startswith(f"<https://{HUB}/api/models/{PUB}/tree/"), page
    sha256 = commit_of(hub).files["model.safetensors"].sha256
    wanted = json.dumps({"operation": "download", "transfers": ["basic"], "objects": [{"oid": sha256, "size": MODEL_BYTES}]}).encode()
    batch = road.ask("POST", f"/{PUB}.git/info/lfs/objects/batch", body=wanted, accept="application/vnd.git-lfs+json",
                     content_type="application/vnd.git-lfs+json")
    href = batch.json()["objects"][0]["actions"]["download"]["href"]
    assert href.startswith(f"https://{HUB}/"), batch
    assert road.get(href.removeprefix(f"https://{HUB}")).body == bytes_of(hub, "model.safetensors")
    alias = road.get("/api/models/old/name")
    assert alias.status in (200, 307) and (alias["Location"] or f"https://{HUB}/").startswith((f"https://{HUB}/", "/"))


def test_a_pull_by_the_registry_of_hf_co(road, hub):
    """What "ollama pull hf.co/..." asks."""
    made = hub.content.add_repo("model", "acme/big").commit({"Big-Q8_0.gguf": LFS(generated(300_000, 5))})
    manifest = road.get("/v2/acme/big/manifests/Q8_0", host="hf.co")
    assert manifest.status == 200, manifest
    file = made.files["Big-Q8_0.gguf"]
    assert f"sha256:{file.sha256}" in manifest.text
    blob = road.get(f"/v2/acme/big/blobs/sha256:{file.sha256}", host="hf.co")
    assert blob.status == 200 and blob.body == file.source.read()


@pytest.mark.parametrize("by", ["connect", "tls"])
def test_none_of_our_own_pages_is_there(road, by):
    for target in ("/", "/-/", "/-", "/-/status", "/-/metrics", "/-/ca.pem", "/-/healthz", "/-/readyz", "/-/x", "//-/status", "/%2d/status"):
        answer = road.get(target, by=by)
        assert answer.status in (400, 404) and b"hfcache_" not in answer.body and b"CERTIFICATE" not in answer.body, target


def test_another_host_than_the_listed_ones_is_421(road, hub):
    for says in ("example.org", "127.0.0.1", "localhost", "huggingface.co.example.org", "evil-huggingface.co", "[::1]"):
        for target in (CONFIG, "/-/status"):
            answer = road.get(target, says=says)
            assert answer.status == 421, answer
    assert not resolve_calls(hub)


def test_what_an_address_alone_opens_is_not_for_them(road, hub, intercept, people, folder):
    service = fresh_token()
    hub.content.add_token(service, "robot", {"acme/private"})
    place = folder / "credentials"
    place.mkdir()
    (place / "hub").write_text(service + "\n")
    (place / "hub").chmod(0o600)
    daemon = road.daemon
    daemon.canaries.append(service)
    daemon.environment = {"CREDENTIALS_DIRECTORY": str(place)}
    daemon.restart(hub_token_credential="hub", hub_token_repos="*", hub_token_clients="127.0.0.1")
    private = "/acme/private/resolve/main/config.json"
    assert daemon.get(private).status == 200, "it is lent to this address"
    for by in ("connect", "tls"):
        assert Road(daemon).get(private, by=by).status == 401
    assert Road(daemon).get(private, people.alice).status == 200


def test_strict_takes_tokens_that_came_in_tls(intercept, people):
    road = intercept(server_strict="yes")
    assert road.get("/acme/private/resolve/main/config.json", people.alice).status == 200


# --- what is refused ---

def test_I06_an_unlisted_host_is_403_with_a_sentence(road):
    secret = "Basic c2VjcmV0OnNlY3JldA=="
    targets = "example.org:443", "huggingface.co.example.org:443", "127.0.0.1:443", "[::1]:443", "cdn-lfs.hf.co:443", "localhost:443"
    for target in targets:
        answer = refused(road.daemon, target, [("Proxy-Authorization", secret)])
        assert answer.status == 403 and NOT_LISTED in answer.reason
        assert "intercept.hosts" in answer.text and "intercept.tunnel" in answer.text and target in answer.text
    lines = wait_for(lambda: (lines := road.daemon.log_lines(room="intercept", msg="refused")) and len(lines) >= len(targets) and lines)
    assert [line["target"] for line in lines] == list(targets)
    assert all(line["client"] == "127.0.0.1" and line["status"] == "403" for line in lines)
    assert secret not in road.daemon.stderr()
    assert road.daemon.metric("hfcache_intercept_connections_total", road="refused") == len(targets)


def test_of_a_listed_host_only_port_443(road):
    for port in (22, 80, 8443, 1):
        answer = refused(road.daemon, f"{HUB}:{port}")
        assert answer.status == 403 and "443" in answer.text


MALFORMED = [b"CONNECT huggingface.co HTTP/1.1\r\n\r\n", b"CONNECT huggingface.co:443\r\n\r\n", b"CONNECT :443 HTTP/1.1\r\n\r\n",
             b"CONNECT huggingface.co:0 HTTP/1.1\r\n\r\n", b"CONNECT huggingface.co:99999 HTTP/1.1\r\n\r\n",
             b"CONNECT https://huggingface.co:443 HTTP/1.1\r\n\r\n", b"CONNECT huggingface.co:443/ HTTP/1.1\r\n\r\n",
             b"CONNECT x@huggingface.co:443 HTTP/1.1\r\n\r\n", b"CONNECT huggingface.co:443 HTTP/2.0\r\n\r\n",
             b"CONNECT huggingface.co:443 HTTP/1.1\n\n", b"CONNECT huggingface.co:443 HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
             b"CONNECT huggingface.co:443 HTTP/1.1\r\nContent-Length: 4\r\n\r\nGET ",
             b"CONNECT huggingface.co:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
             b"CONNECT hugging\x00face.co:443 HTTP/1.1\r\n\r\n", b"CONNECT huggingface.co:443 HTTP/1.1\r\nA\x01: b\r\n\r\n"]


@pytest.mark.parametrize("where", ["server", "listener"])
def test_malformed_heads_are_400(road, where):
    address = road.address("connect" if where == "server" else "tls")
    for head in MALFORMED:
        with socket.create_connection(address, 10 * SLOW) as conn:
            conn.sendall(head)
            assert re.match(rb"HTTP/1.1 400 ", conn.recv(4096)), head
    assert road.get(CONFIG).status == 200


def test_a_head_of_17_kib_is_431(road):
    for address in (road.address("connect"), road.address("tls")):
        with socket.create_connection(address, 10 * SLOW) as conn:
            conn.sendall(b"CONNECT huggingface.co:443 HTTP/1.1\r\nA: " + b"b" * 17000)
            assert b" 431 " in conn.recv(4096)


def test_the_listener_takes_nothing_but_tls_and_connect(road):
    with socket.create_connection(road.listener(), 10 * SLOW) as conn:
        conn.sendall(b"GET / HTTP/1.1\r\nHost: huggingface.co\r\n\r\n")
        answer = conn.recv(4096)
        assert answer.startswith(b"HTTP/1.1 400 ") and b"intercept.listen" in answer
    with socket.create_connection(road.listener(), 10 * SLOW) as conn:
        conn.sendall(b"\x16\x03\x01\x00\x05hello")
        conn.settimeout(10 * SLOW)
        wait_for(lambda: not conn.recv(4096))


def test_connect_by_the_listener_too(road, hub):
    with socket.create_connection(road.listener(), 10 * SLOW) as plain:
        plain.sendall(b"CONNECT huggingface.co:443 HTTP/1.1\r\n\r\n")
        assert plain.recv(4096).startswith(b"HTTP/1.1 200 ")
        with road.context().wrap_socket(plain, server_hostname=HUB) as tls:
            tls.sendall(f"GET {CONFIG} HTTP/1.1\r\nHost: {HUB}\r\nConnection: close\r\n\r\n".encode())
            got = b""
            while piece := tls.recv(65536):
                got += piece
    assert got.endswith(bytes_of(hub, "config.json"))


@pytest.mark.slow
@pytest.mark.parametrize("begin", [b"CONNECT huggingface.co:443 HTTP/1.1\r\n", b"\x16", b"\x16\x03\x01"])
def test_a_slow_client_is_let_go_after_10_s(road, begin):
    address = road.address("tls")
    began = time.monotonic()
    with socket.create_connection(address, 40 * SLOW) as conn:
        conn.sendall(begin)
        got = b""
        try:
            while piece := conn.recv(4096):
                got += piece
        except ConnectionResetError:
            pass
    assert 8 < time.monotonic() - began < 20 * SLOW
    assert begin[:1] != b"C" or b" 408 " in got


def test_a_storm_from_one_address_leaves_room_for_others(road, hub):
    held = []
    try:
        for _ in range(64):
            conn = socket.create_connection(("127.0.0.1", road.daemon.port), 10 * SLOW)
            conn.sendall(b"CONNECT huggingface.co:443 HTTP/1.1\r\n")
            held.append(conn)
        wait_for(lambda: refused_by_storm(road), why="the limit of one address")
        with plain_connection(road.daemon, source="127.0.0.9") as conn:
            connect_to(conn, f"{HUB}:443")
    finally:
        for conn in held:
            conn.close()
    wait_for(lambda: not refused_by_storm(road), why="room again")
    assert road.get(CONFIG).body == bytes_of(hub, "config.json")


def test_a_few_addresses_do_not_take_all_places_either(road, hub):
    held = []
    try:
        for number in range(2, 7):
            for _ in range(64):
                conn = socket.create_connection(road.address("tls"), 10 * SLOW, source_address=(f"127.0.0.{number}", 0))
                conn.sendall(b"CONNECT huggingface.co:443 HTTP/1.1\r\n")
                held.append(conn)
        for by in ("connect", "tls"):
            with road.connect(by=by, source="127.0.0.99") as conn:
                conn.request("GET", CONFIG, fields(None, (), Connection="close"), None, host=HUB)
                assert conn.read().body == bytes_of(hub, "config.json")
        # who is about to speak TLS there is told nothing in the clear
        with socket.create_connection(road.address("tls"), 10 * SLOW, source_address=("127.0.0.2", 0)) as silent:
            assert silent.recv(100) == b""
    finally:
        for conn in held:
            conn.close()


def test_one_address_does_not_take_all_that_may_be_joined(intercept, hub):
    with socket.create_server(("127.0.0.1", 0), backlog=128) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        road = intercept(intercept_tunnel=target, server_max_connections=40)
        held, answer = [], None
        try:
            while answer is None and len(held) <= 40:
                conn = plain_connection(road.daemon)
                held.append(conn)
                try:
                    connect_to(conn, target)
                except Refused as refusal:
                    answer = refusal.answer
            assert len(held) == 21 and answer.status == 503 and answer["Retry-After"] and target in answer.text
            # neither more of the same, nor what is served here; and it hears so though its next words have come already
            assert refused(road.daemon, f"{HUB}:443").status == 503
            with plain_connection(road.daemon) as conn:
                conn.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode() + b"\x16" * 9000)
                assert conn.read().status == 503
            wait_for(lambda: {line["target"] for line in road.daemon.log_lines(msg="refused")} >= {target, f"{HUB}:443"})
            with road.connect(source="127.0.0.9") as conn:
                conn.request("GET", CONFIG, fields(None, (), Connection="close"), None, host=HUB)
                assert conn.read().body == bytes_of(hub, "config.json")
        finally:
            for conn in held:
                conn.close()
    wait_for(lambda: road.daemon.metric("hfcache_splice_joins") == 0, why="all have gone, the host too")
    assert road.get(CONFIG).body == bytes_of(hub, "config.json")


def refused_by_storm(road):
    with plain_connection(road.daemon) as conn:
        try:
            connect_to(conn, f"{HUB}:443")
        except Refused as refusal:
            return refusal.answer.status == 503
    return False


@pytest.mark.parametrize("by", ["connect", "tls"])
def test_a_name_that_is_not_listed_ends_with_the_alert(road, by):
    for sni in ("example.org", "huggingface.co.example.org", "x" * 60 + ".example.org"):
        with pytest.raises(ssl.SSLError, match=ALERT_NAME):
            road.connect(by=by, sni=sni, context=road.context(check_hostname=False))
        wait_for(lambda: [line for line in road.daemon.log_lines(room="intercept", msg="refused") if line.get("name") == sni])


def test_another_listed_name_than_in_the_connect_is_that_name(road, hub):
    with road.connect(HUB, sni="hf.co") as conn:
        names = [value for _, value in conn.socket.getpeercert()["subjectAltName"]]
        assert names == ["hf.co"]
        conn.request("GET", CONFIG, fields(Connection="close"), host="hf.co")
        assert conn.read().body == bytes_of(hub, "config.json")


def test_tls_without_a_name_is_refused(road):
    context = road.context(check_hostname=False)
    with socket.create_connection(road.listener(), 10 * SLOW) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain)


def test_only_http_1_1_is_spoken_inside(road):
    context = road.context()
    context.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        road.connect(context=context)
    context = road.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with road.connect(context=context) as conn:
        assert conn.socket.selected_alpn_protocol() == "http/1.1"
    with road.connect() as conn:
        assert conn.socket.selected_alpn_protocol() is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_tls_is_not_spoken(road):
    for version, spoken in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)):
        context = road.context()
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, version
        if spoken:
            with road.connect(context=context) as conn:
                assert conn.socket.version() == version.name.replace("_", ".")
        else:
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                road.connect(context=context)


# --- blind tunnels ---

@pytest.fixture
def elsewhere(folder):
    host = TlsHost(folder)
    yield host
    host.close()


def test_what_is_listed_is_passed_through_unread(intercept, elsewhere):
    target = f"127.0.0.1:{elsewhere.port}"
    road = intercept(intercept_tunnel=f"wheels.example {target}")
    with plain_connection(road.daemon) as conn:
        connect_to(conn, target)
        # its own certificate, not one of ours
        with elsewhere.client_context().wrap_socket(conn.socket, server_hostname=elsewhere.name, suppress_ragged_eofs=False) as tls:
            for size in (5, 1 << 20):
                sent, got = b"secret words " * (size // 13 + 1), b""
                tls.sendall(sent)
                while len(got) < len(sent):
                    got += tls.recv(65536)
                assert got == sent.upper()
            conn.socket = tls.unwrap()
    assert elsewhere.served == 1 and "secret" not in road.daemon.stderr()
    assert road.daemon.metric("hfcache_intercept_connections_total", road="tunnelled") == 1
    assert refused(road.daemon, f"127.0.0.2:{elsewhere.port}").status == 403
    assert refused(road.daemon, "127.0.0.1:443").status == 403


def test_no_name_leads_a_tunnel_to_this_machine(intercept, elsewhere):
    road = intercept(intercept_tunnel=f"* localhost:{elsewhere.port} *:{elsewhere.port}")
    for target in (f"localhost:{elsewhere.port}", f"127.0.0.1:{elsewhere.port}", f"[::1]:{elsewhere.port}"):
        answer = refused(road.daemon, target)
        assert answer.status == 502 and "intercept.tunnel" in answer.text
    assert refused(road.daemon, "localhost:22").status == 403
    assert elsewhere.served == 0


def test_a_tunnel_to_nobody_is_502(intercept):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{free.getsockname()[1]}"
        road = intercept(intercept_tunnel=target)
        assert refused(road.daemon, target).status == 502
    assert road.get(CONFIG).status == 200


# --- large answers, broken ones ---

def test_a_file_that_grows_comes_while_it_grows(road, hub):
    target, file = add_large(hub, 24 << 20)
    hub.rule("cdn", rate=12 << 20)
    with road.connect() as conn:
        conn.request("GET", target)
        answer = conn.head()
        conn.body(answer, most=4 << 20, keep=False)
        assert answer.received < file.size and hub.body_bytes("cdn") < file.size, "it is still coming"
        second = road.get(target, by="tls", keep=False)
        assert second.sha256 == file.sha256
    assert hub.body_bytes("cdn") <= file.size + (1 << 20)
    third = road.get(target, keep=False)
    assert third.sha256 == file.sha256 and hit(third)


@pytest.mark.slow
def test_P2_a_cut_body_is_a_broken_stream(road, hub):
    """Also for a client that takes an end without close_notify for a good one, as Python's TLS does by default."""
    target, _ = add_large(hub, 8 << 20)
    hub.rule("cdn", cut_after="50%")
    hub.rule("hub", path="/resolve/", nth=[3, 4, 5, 6, 7, 8], close="reset")
    context = road.context()
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    with road.connect(context=context, timeout=60 * SLOW) as conn:
        conn.request("GET", target)
        answer = conn.read()
    assert answer.status == 200 and answer.received > 0
    assert_no_clean_end(answer)
    assert answer.end == "rst"


def test_P2_the_daemon_dies_in_the_middle(road, hub):
    target, _ = add_large(hub, 8 << 20)
    hub.rule("cdn", stall_after="50%")
    with road.connect(timeout=30 * SLOW) as conn:
        conn.request("GET", target)
        answer = conn.head()
        conn.body(answer, most=1 << 20, keep=False)
        road.daemon.kill9()
        conn.body(answer, keep=False)
        assert_no_clean_end(answer)
        assert answer.end == "rst"


def test_a_client_that_leaves_frees_upstream(intercept, hub):
    """What is passed on for one client alone ends with it."""
    road = intercept()
    target, _ = add_large(hub, 64 << 20)
    hub.rule("cdn", rate=4 << 20)
    conn = road.connect()
    conn.request("GET", target)
    conn.body(conn.head(), most=1 << 20, keep=False)
    conn.plain.close()
    conn.reset()
    daemon = road.daemon
    wait_for(lambda: daemon.metric("hfcache_fill_waiters") == 0 and daemon.metric("hfcache_http_connections") <= 1, 15,
             why="the connection's end")


def test_running_answers_are_finished_at_the_end(road, hub):
    target, file = add_large(hub, 8 << 20)
    hub.rule("cdn", rate=4 << 20)
    with road.connect(timeout=30 * SLOW) as conn:
        conn.request("GET", target, fields(Connection="close"))
        answer = conn.head()
        conn.body(answer, most=1 << 20)
        road.daemon.signal(15)
        conn.body(answer)
        assert answer.complete and len(answer.body) == file.size


def test_nothing_is_left_over(road, hub):
    daemon = road.daemon
    road.get(CONFIG)
    wait_for(lambda: daemon.metric("hfcache_http_connections") <= 1)
    before = daemon.fds()
    for n in range(60):
        road.get(CONFIG, by=("connect", "tls")[n % 2])
        if n % 10 == 0:
            refused(daemon, "example.org:443")
            with pytest.raises(ssl.SSLError):
                road.connect(sni="example.org", by="tls", context=road.context(check_hostname=False))
    wait_for(lambda: daemon.fds() <= before + 4, 10, why="descriptors are closed")


# --- circles ---

def test_a_daemon_that_is_led_to_itself_says_so(start, hub):
    daemon = start(**ROAD_OPTIONS)
    daemon.restart(server_listen=f"127.0.0.1:{daemon.port}", hub_url=daemon.url)
    # at its start it finds nobody there yet
    answer = wait_for(lambda: (a := daemon.get(CONFIG)).status != 503 and a, 20, 0.2, "the first question to itself")
    assert answer.status in (502, 508) and "itself" in answer.text, answer
    lines = [line for line in daemon.log_lines(level="warning") if "asks itself" in line["msg"]]
    assert len(lines) == 1 and not hub.calls()


def test_a_daemon_does_not_connect_to_its_own_listener(start, hub):
    """The machine's own name service leads the Hub's name there."""
    road = Road(start(**ROAD_OPTIONS))
    daemon = road.daemon
    assert road.get(CONFIG).status == 200
    address = "{}:{}".format(*road.listener())
    daemon.restart(intercept_listen=address, hub_url=f"https://{address}")
    told = wait_for(lambda: [line for line in daemon.log_lines(level="warning") if "leads to intercept.listen" in line["msg"]], 15,
                    why="the first probe")
    assert len(told) == 1 and daemon.get(CONFIG).body == bytes_of(hub, "config.json"), "what is held is served"
    assert daemon.get("/acme/other/resolve/main/x").status in (503, 504)
    assert not daemon.log_lines(room="splice")
