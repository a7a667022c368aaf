# SPDX-License-Identifier: Apache-2.0
"""Who may see what, by rule: the policies for the time without upstream, the daemon's own token, and the abuse cases of A.3 that
test_access.py does not have (Z01 to Z14, M01 to M03, M08)."""
import os
import re
import signal
import socket
import statistics
import subprocess
import time

import pytest

from facts import CONFIG, IGNORANCE, PUB, add_large, assert_whole, at_commit, file_of
from harness import BINARY, SLOW, Daemon, fresh_token, soon, wait_for
from hubdouble import LFS
from test_access import GATED, PRIVATE, assert_gated, assert_like_a_repo_that_is_not, routes, warm
from test_start import BAD_CONFIG, ends
from together import Background

HERE, THERE = "127.0.0.1", "127.0.0.9"   # two machines, as far as the daemon can tell
REFUSED = (401, 403, 404, *IGNORANCE)   # what upstream said to him within deny-ttl may be repeated
SERVICE_KEY = "a-key-of-ours-" + "k" * 20


def subject_of(cache, token):
    """What --subject prints for it."""
    done = subprocess.run([str(BINARY), "--set", f"storage.path={cache.store}", "--subject"], input=token + "\n", text=True,
                          capture_output=True, check=True, timeout=20 * SLOW)
    return done.stdout.strip()


def write_list(folder, text):
    path = folder / "readers"
    path.write_text(text)
    path.chmod(0o640)
    return path


def credentials(folder, **contents):
    place = folder / "credentials"
    place.mkdir(mode=0o700, exist_ok=True)
    for name, text in contents.items():
        (place / name).write_text(text)
        (place / name).chmod(0o400)
    return {"CREDENTIALS_DIRECTORY": str(place)}


@pytest.fixture
def service(hub):
    """A token of the daemon's own: it may read all of acme."""
    token = fresh_token()
    hub.content.add_token(token, "robot", {"acme/gated", "acme/private"})
    return token


@pytest.fixture
def lend(start, folder, service):
    """A daemon that lends the service token for acme/gated and acme/private to HERE and to who has SERVICE_KEY."""
    def make(**options):
        wanted = {"hub_token_credential": "hub", "hub_token_repos": "models/acme/gated models/acme/private",
                  "hub_token_clients": HERE, "hub_token_client_keys": "keys"} | options
        daemon = start(is_started=False, **wanted)
        daemon.canaries += [service, SERVICE_KEY]
        daemon.environment = credentials(folder, hub=service + "\n", keys=f"{'x' * 24}\n{SERVICE_KEY}\n")
        return daemon.start()
    return make


def asked_with(hub, token):
    return [c for c in hub.calls() if c["authorization"] == f"Bearer {token}"]


# --- offline.access ---

def test_Z14_a_list_of_readers(hub, start, people, folder):
    cache = start()
    for repo in ("acme/gated", "acme/private"):
        warm(hub, cache, repo, people.alice)
    bob = subject_of(cache, people.bob)
    assert re.fullmatch("token:[0-9a-f]{32}", bob)
    readers = write_list(folder, f"# who reads what\n\nallow {bob} models/acme/gat*\nallow 127.0.0.8/31 models/acme/private datasets/*\n")
    cache.restart(offline_access="acl", offline_acl_file=readers)
    assert_gated(cache.get(GATED, people.bob), 403)          # upstream is there: its word counts
    assert cache.get(PRIVATE, source=THERE).status == 401
    hub.kill()
    cache.until_known_down()
    assert_whole(cache.get(GATED, people.bob), hub, "model.safetensors", "acme/gated")
    assert_whole(cache.get(PRIVATE, source=THERE), hub, "model.safetensors", "acme/private")
    assert_whole(cache.get(PRIVATE, people.bob, source="127.0.0.8"), hub, "model.safetensors", "acme/private")
    for target, token, source in ((PRIVATE, people.bob, HERE), (GATED, None, THERE), (GATED, people.alice, HERE), (PRIVATE, None, HERE),
                                  (PRIVATE, None, "127.0.0.10")):
        answer = cache.get(target, token, source=source)
        assert answer.status in REFUSED and answer["ETag"] is None, (target, source, answer)
    assert cache.status()["offline"]["access"] == "acl"


def test_Z14_the_list_is_read_again_all_or_nothing(hub, start, people, folder):
    cache = start()
    warm(hub, cache, "acme/private", people.alice)
    readers = write_list(folder, "allow 127.0.0.1 models/acme/private\n")
    hub.kill()
    cache.restart(hub_offline="yes", offline_access="acl", offline_acl_file=readers)
    assert cache.get(PRIVATE).status == 200
    readers.write_text("allow 127.0.0.9 *\nallow 10.0.0.0/99 *\n")
    cache.expect("error").signal(signal.SIGHUP)
    wait_for(lambda: f"{readers}:2" in cache.stderr(), why="a line about the bad list")
    assert cache.get(PRIVATE).status == 200 and cache.get(PRIVATE, source=THERE).status in IGNORANCE
    readers.write_text("allow 127.0.0.9 *\n")
    cache.signal(signal.SIGHUP)
    wait_for(lambda: cache.get(PRIVATE, source=THERE).status == 200)
    assert cache.get(PRIVATE).status in IGNORANCE


def test_users_of_the_socket_file_are_known(hub, start, people, folder):
    cache = start()
    warm(hub, cache, "acme/private", people.alice)
    readers = write_list(folder, f"allow uid:{os.getuid()} models/acme/private\n")
    hub.kill()
    cache.restart(hub_offline="yes", offline_access="acl", offline_acl_file=readers, server_listen=f"127.0.0.1:0 unix:{folder}/s")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{folder}/s")
        client.sendall(b"HEAD %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % PRIVATE.encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    assert cache.get(PRIVATE).status in IGNORANCE


def list_faults():
    token = fresh_token()
    return [("allow 127.0.0.1 *\nalow 127.0.0.1 *\n", 2, "allow"), (f"\nallow {token} models/acme/x\n", 2, "--subject"),
            ("allow 127.0.0.1\n", 1, "repository"), ("allow 127.0.0.1 acme/x\n", 1, "models/"),
            ("allow 10.0.0.0/33 *\n", 1, "ADDRESS"), ("allow token:12 *\n", 1, "ADDRESS"), ("allow uid:-1 *\n", 1, "ADDRESS")]


@pytest.mark.parametrize("text,line,word", list_faults(), ids=range(7))
def test_M04_mistakes_in_the_list(start, folder, text, line, word):
    readers = write_list(folder, text)
    code, said = ends(start(is_started=False, offline_access="acl", offline_acl_file=readers))
    assert code == BAD_CONFIG and f"{readers}:{line}:" in said and word in said, said
    assert "hf_" not in said


def test_M03_files_that_others_can_change_or_read(start, folder):
    code, said = ends(start(is_started=False, offline_access="acl"))
    assert code == BAD_CONFIG and "acl-file" in said, said
    readers = write_list(folder, "allow 127.0.0.1 *\n")
    for mode in (0o660, 0o602):
        readers.chmod(mode)
        code, said = ends(start(is_started=False, offline_access="acl", offline_acl_file=readers))
        assert code == BAD_CONFIG and str(readers) in said and "chmod" in said, said
    if os.geteuid() == 0:
        readers.chmod(0o640)
        os.chown(readers, 12345, 0)
        code, said = ends(start(is_started=False, offline_access="acl", offline_acl_file=readers))
        assert code == BAD_CONFIG and "chown" in said, said
    daemon = start(is_started=False, hub_token_credential="hub", hub_token_repos="*", hub_token_clients="127.0.0.1")
    daemon.environment = credentials(folder, hub=fresh_token())
    (folder / "credentials" / "hub").chmod(0o444)
    code, said = ends(daemon)
    assert code == BAD_CONFIG and "chmod o-r" in said and "hf_" not in said, said


def test_M03_a_store_that_everybody_can_change(start):
    daemon = start(is_started=False)
    daemon.store.mkdir(parents=True)
    daemon.store.chmod(0o777)
    code, said = ends(daemon)
    assert code in (73, 74) and str(daemon.store) in said, said


def test_Z14_open_must_be_written_and_is_shown(hub, start, people):
    cache = start(offline_access="open")
    warm(hub, cache, "acme/private", people.alice)
    assert cache.get(PRIVATE).status == 401, "open to a stranger while upstream is there"
    rule = hub.rule("hub", path="acme/private", close="reset")   # one question that fails is no outage
    for _ in range(2):
        answer = cache.get("/acme/private/resolve/main/config.json", people.bob)
        assert answer.status in (502, 503, 504) and answer["ETag"] is None, answer
    rule.remove()
    hub.kill()
    cache.until_known_down()
    assert_whole(cache.get(PRIVATE), hub, "model.safetensors", "acme/private")
    assert [line for line in cache.log_lines(level="warning") if "offline.access is open" in line["msg"]]
    status = cache.status()
    assert status["offline"]["access"] == "open" and "open" in str(status["warnings"])
    assert cache.metric("hfcache_offline_open") == 1
    cache.restart(offline_access="grants")
    assert cache.get(PRIVATE).status in IGNORANCE and cache.metric("hfcache_offline_open") == 0


@pytest.mark.parametrize("policy", ["public", "grants"])
def test_Z14_cutting_the_uplink_opens_nothing(hub, start, people, policy):
    cache = start(offline_access=policy)
    warm(hub, cache, "acme/private", people.alice)
    assert cache.get(PRIVATE, people.bob).status == 404
    hub.kill()
    cache.until_known_down()
    files, facts = routes(hub, "acme/private")
    for target in files + facts:
        for token in (None, people.bob, fresh_token()):
            assert cache.get(target, token).status in REFUSED, target
    assert (cache.get(PRIVATE, people.alice).status == 200) == (policy == "grants")


def test_Z14_an_old_refusal_is_no_knowledge(hub, start, people):
    cache = start(hub_deny_ttl="1s")
    assert cache.get(PRIVATE, people.bob).status == 404
    hub.kill()
    cache.until_known_down()
    wait_for(lambda: cache.get(PRIVATE, people.bob).status in IGNORANCE, 5, 0.2)


# --- the daemon's own token ---

@pytest.mark.parametrize("options,word", [
    ({"hub_token_credential": "hub"}, "token-repos"), ({"hub_token_credential": "hub", "hub_token_repos": "*"}, "token-clients"),
    ({"hub_token_credential": "hub", "hub_token_clients": "127.0.0.1"}, "token-repos"), ({"hub_token_repos": "*"}, "token-credential"),
    ({"hub_token_clients": "127.0.0.1"}, "token-credential"), ({"hub_token_client_keys": "keys"}, "token-credential"),
    ({"hub_token_credential": "none", "hub_token_repos": "*", "hub_token_clients": "127.0.0.1"}, "not there"),
    ({"hub_token_credential": "../hub", "hub_token_repos": "*", "hub_token_clients": "127.0.0.1"}, "name of a credential"),
    ({"hub_token_credential": "hub", "hub_token_repos": "acme/x", "hub_token_clients": "127.0.0.1"}, "models/"),
    ({"hub_token_credential": "hub", "hub_token_repos": "*", "hub_token_clients": "lab"}, "ADDRESS"),
    ({"hub_token_credential": "hub", "hub_token_repos": "*", "hub_token_client_keys": "short"}, "20")])
def test_M02_a_token_for_everybody_is_refused(start, folder, service, options, word):
    daemon = start(is_started=False, **options)
    daemon.environment = credentials(folder, hub=service, keys=SERVICE_KEY, short="abc")
    code, said = ends(daemon)
    assert code == BAD_CONFIG and word in said and service not in said, said
    assert not daemon.store.exists(), "it touched the store"


def test_M02_a_credential_needs_its_folder(start):
    code, said = ends(start(is_started=False, hub_token_credential="hub", hub_token_repos="*", hub_token_clients="127.0.0.1"))
    assert code == BAD_CONFIG and "CREDENTIALS_DIRECTORY" in said, said


def test_M02_the_daemons_token_is_lent_to_named_clients_for_named_repos(hub, lend, people, service):
    cache = lend()
    hub.content.add_repo("model", "acme/other", private=True).commit({"config.json": "{}"})
    assert_whole(cache.get(GATED), hub, "model.safetensors", "acme/gated")
    for target in sum(routes(hub, "acme/private"), []):
        assert cache.get(target).status == 200, target
    assert_gated(cache.get(GATED, source=THERE), 401)
    assert cache.get(PRIVATE, source=THERE).status == 401
    assert_whole(cache.get(PRIVATE, SERVICE_KEY, source=THERE), hub, "model.safetensors", "acme/private")
    assert cache.get("/acme/other/resolve/main/config.json").status == 401
    assert cache.get("/acme/other/resolve/main/config.json", SERVICE_KEY).status == 401
    lent = asked_with(hub, service)
    assert lent and all("acme/gated" in c["target"] or "acme/private" in c["target"] for c in lent)
    assert not asked_with(hub, SERVICE_KEY)
    assert cache.status()["lends_token"] is True


def test_M02_who_has_a_token_is_himself(hub, lend, people, service):
    cache = lend()
    assert_whole(cache.get(GATED), hub, "model.safetensors", "acme/gated")
    hub.reset_counters()
    assert_gated(cache.get(GATED, people.bob), 403)
    assert cache.get(PRIVATE, people.bob).status == 404
    assert_gated(cache.get(GATED, people.nobody), 401)
    assert not asked_with(hub, service)
    # the same token, sent by a user, is another subject
    assert_whole(cache.get(GATED, service, source=THERE), hub, "model.safetensors", "acme/gated")
    assert asked_with(hub, service), "what was proved for the daemon's own subject was used for a user"


def test_M02_personal_and_written_things_never_use_it(hub, lend, service):
    cache = lend(hub_token_repos="*")
    assert cache.get("/api/whoami-v2").status == 401
    assert cache.get("/api/whoami-v2", SERVICE_KEY).status == 401
    assert "acme/private" not in [m["id"] for m in cache.get("/api/models?author=acme").json()]
    for method, target in (("POST", "/api/models/acme/private/branch/new"), ("PUT", "/api/models/acme/private/settings"),
                           ("POST", "/api/repos/create")):
        assert cache.ask(method, target, body=b"{}", Content_Type="application/json").status in (401, 403, 404), target
    assert not asked_with(hub, service)


def test_Z09_what_is_malformed_is_not_lent_to(hub, lend, service):
    cache = lend()
    assert cache.get(GATED).status == 200
    hub.reset_counters()
    for value in ("Basic", "Basic ", "Basic !!!", "Digest x=y", "Bearer " + "x" * 10_000, "Bearer a b", "", f"Bearer {SERVICE_KEY} x"):
        answer = cache.get(GATED, headers=[("Authorization", value)])
        assert answer.status in (400, 401, 431), f"{value[:20]}: {answer}"
    assert cache.get(GATED, headers=[("Authorization", f"Bearer {SERVICE_KEY}"), ("Authorization", "Bearer x")]).status == 400
    assert cache.get(f"{GATED}?token={service}").status == 400
    assert cache.get(f"http://user:{service}@{HERE}:{cache.port}{GATED}").status in (400, 401)
    assert not hub.calls()


@pytest.mark.parametrize("target", [
    "/{}/resolve/main/secret.txt", "/{}/raw/main/secret.txt", "/api/models/{}", "/api/models/{}/tree/main", "/api/models/{}/refs",
    "/api/models/{}/tree/main?made=up", "/api/models/{}?made=up", "/api/models/{}/revision/main", "/api/models/{}/commits/main",
    "/api/models/{}/paths-info/main", "/api/models/{}/tree/{commit}?made=up", "/{}/resolve/{commit}/secret.txt"])
def test_M02_a_rename_does_not_carry_the_token_away(hub, lend, service, target):
    hidden = hub.content.add_repo("model", "acme/hidden", private=True)
    hidden.commit({"config.json": "{}", "secret.txt": "hidden away"})
    hub.content.tokens[service].grants.add("acme/hidden")
    hub.content.add_alias("model", "acme/listed", "acme/hidden")
    cache = lend(hub_token_repos="models/acme/listed")
    target = target.replace("{commit}", hidden.head.id).format("acme/listed")
    how = {"body": b'{"paths":["secret.txt"]}', "Content_Type": "application/json"} if "paths-info" in target else {}
    for _ in range(3):
        answer = cache.ask("POST" if how else "GET", target, **how)
        assert answer.status >= 400 and b"hidden" not in answer.body, answer
        assert answer["ETag"] is None and answer["X-Repo-Commit"] is None, answer
    assert answer.status == 401, answer   # known by now: it is another repo, and anonymous may not see it


def test_M02_without_upstream_its_proofs_are_its_own(hub, lend, people):
    cache = lend()
    assert cache.get(GATED).status == 200
    hub.kill()
    cache.restart()
    cache.until_known_down()
    assert_whole(cache.get(GATED), hub, "model.safetensors", "acme/gated")
    assert_whole(cache.get(GATED, SERVICE_KEY, source=THERE), hub, "model.safetensors", "acme/gated")
    for token, source in ((None, THERE), (people.bob, HERE)):
        assert cache.get(GATED, token, source=source).status in IGNORANCE
    cache.restart(offline_access="public")
    cache.until_known_down()
    assert cache.get(GATED).status in IGNORANCE


def test_M02_a_dead_token_holds_nobody_up(hub, lend, service):
    cache = lend(hub_token_repos="*", hub_grant_ttl="1s", hub_deny_ttl="1s")
    assert not cache.status()["warnings"]
    hub.content.revoke_token(service)
    cache.get(CONFIG)
    assert_whole(cache.get(CONFIG), hub, "config.json")
    assert [w for w in cache.status()["warnings"] if "hub.token-credential" in w]
    assert [line for line in cache.log_lines(level="warning") if "hub.token-credential" in line["msg"]]


# --- abuse cases ---

def apart(cache, count):
    """By how much the medians differ of asking for what is held and for what is not."""
    targets, took = [PRIVATE, "/acme/hidden/resolve/main/model.safetensors"], [[], []]
    with cache.connect() as conn:
        for i in range(count):
            for n in (0, 1) if i % 2 else (1, 0):
                began = time.perf_counter()
                assert conn.ask("GET", targets[n]).status == 401
                took[n].append(time.perf_counter() - began)
    return abs(statistics.median(took[0]) - statistics.median(took[1]))


@pytest.mark.slow
def test_Z01_no_clock_tells_what_is_cached(hub, start, people):
    """A stranger's refusals take as long for a private repo that is held as for one that is not."""
    cache = start(hub_deny_ttl="1h", log_level="warning")
    hub.content.add_repo("model", "acme/hidden", private=True).commit({"model.safetensors": LFS(b"x" * 4096), "config.json": "{}"})
    warm(hub, cache, "acme/private", people.alice)
    soon(0.001, lambda: apart(cache, 1000), 6)


@pytest.mark.slow
def test_Z01_no_clock_tells_it_while_upstream_is_asked(hub, start, people):
    cache = start(hub_deny_ttl="0", log_level="warning")
    hub.content.add_repo("model", "acme/hidden", private=True).commit({"model.safetensors": LFS(b"x" * 4096), "config.json": "{}"})
    warm(hub, cache, "acme/private", people.alice)
    soon(0.001, lambda: apart(cache, 300), 6)


def test_Z02_a_token_without_a_grant(hub, cache, people):
    assert_whole(cache.get(GATED, people.alice), hub, "model.safetensors", "acme/gated")
    before = {p: p.stat().st_mtime_ns for p in cache.files("blobs")}
    hub.reset_counters()
    assert_gated(cache.get(GATED, people.bob), 403)
    assert asked_with(hub, people.bob), "upstream was not asked"
    assert {p: p.stat().st_mtime_ns for p in cache.files("blobs")} == before and not hub.body_bytes("cdn")


def test_Z03_one_refusal_ends_a_grant_at_once(hub, start, people):
    cache = start(hub_grant_ttl="1h", hub_revision_ttl="1s")
    pinned = at_commit(hub, "model.safetensors", "acme/gated")
    assert cache.get(pinned, people.alice).status == 200
    hub.content.tokens[people.alice].grants.discard("acme/gated")
    assert cache.get(pinned, people.alice).status == 200   # nobody has been asked: it is good for grant-ttl
    assert_gated(cache.get("/acme/gated/resolve/main/README.md", people.alice), 403)
    assert_gated(cache.get(pinned, people.alice), 403)


def test_Z03_a_refusal_of_the_bytes_counts_too(hub, start, people):
    """The question was answered well, the download is refused: what was proved before is asked about again."""
    cache = start(hub_grant_ttl="1h")
    pinned = at_commit(hub, "config.json", "acme/gated")
    assert cache.get(pinned, people.alice).status == 200
    rule = hub.rule("hub", method="GET", path="model.safetensors", status=403)
    assert cache.get(GATED, people.alice).status == 403
    rule.remove()
    hub.reset_counters()
    assert cache.get(pinned, people.alice).status == 200
    assert asked_with(hub, people.alice), "the grant outlived a refusal"


def test_Z03_a_grant_ends_by_itself(hub, start, people):
    cache = start(hub_grant_ttl="1s", hub_deny_ttl="1s")
    pinned = at_commit(hub, "model.safetensors", "acme/gated")
    assert cache.get(pinned, people.alice).status == 200
    hub.content.tokens[people.alice].grants.discard("acme/gated")
    wait_for(lambda: cache.get(pinned, people.alice).status == 403, 5, 0.3)


def test_Z04_a_revoked_token_loses_all_at_once(hub, start, people):
    cache = start(hub_grant_ttl="1h")
    pinned = [at_commit(hub, "config.json", repo) for repo in ("acme/gated", "acme/private")]
    for target in pinned:
        assert cache.get(target, people.alice).status == 200
    hub.content.revoke_token(people.alice)
    assert cache.get("/api/whoami-v2", people.alice).status == 401   # heard in passing
    for target in pinned:
        assert cache.get(target, people.alice).status == 401
    hub.kill()
    cache.restart(hub_offline="yes")
    for target in pinned:
        assert cache.get(target, people.alice).status in IGNORANCE, "the proofs of a dead token live on disk"


def test_Z05_a_public_repo_turns_private(hub, start, people):
    cache = start(hub_public_ttl="1s")
    pinned = at_commit(hub, "model.safetensors")
    assert cache.get(pinned).status == 200
    hub.set_visibility(PUB, private=True)
    wait_for(lambda: cache.get(pinned).status == 401, 5, 0.3)
    assert cache.get(pinned, people.bob).status == 404
    assert cache.get(pinned, people.writer).status == 200


def test_Z11_a_running_answer_may_finish_the_next_is_refused(hub, start, people):
    cache = start(hub_grant_ttl="1h")
    url, file = add_large(hub, 6 << 20, seed=31, repo="acme/locked")
    hub.content.repo("acme/locked").commit({"more.txt": "more"})
    hub.set_visibility("acme/locked", gated="auto")
    hub.content.tokens[people.alice].grants.add("acme/locked")
    hub.rate("cdn", 4 << 20)
    running = Background(lambda: cache.get(url, people.alice))
    wait_for(lambda: hub.body_bytes("cdn") > 1 << 20)
    hub.content.tokens[people.alice].grants.discard("acme/locked")
    assert_gated(cache.get("/acme/locked/resolve/main/more.txt", people.alice), 403)
    assert_gated(cache.get(url, people.alice), 403)
    assert running.result().body == file.source.read()


def test_Z12_trying_tokens_through_us(hub, cache, people):
    assert cache.get("/api/whoami-v2", people.alice).status == 200
    hub.reset_counters()
    statuses = [cache.get(target, fresh_token()).status for _ in range(25) for target in ("/api/whoami-v2", GATED)]
    assert statuses[:30] == [401] * 30 and statuses[30:] == [429] * 20, statuses
    assert len(hub.calls()) == 30
    refused = cache.get(CONFIG, fresh_token())
    assert refused.status == 429 and 1 <= int(refused["Retry-After"]) <= 60
    assert cache.get("/api/whoami-v2", people.alice).status == 200   # a token that upstream took
    assert_whole(cache.get(GATED, people.alice), hub, "model.safetensors", "acme/gated")
    assert_whole(cache.get(CONFIG), hub, "config.json")              # without a token
    assert cache.get("/api/whoami-v2", people.bob, source=THERE).status == 200   # from elsewhere
    assert [line for line in cache.log_lines(level="warning") if "invalid tokens" in line["msg"]]


def test_Z12_one_dead_token_shuts_nobody_out(hub, cache, people):
    for _ in range(45):
        assert cache.get("/api/whoami-v2", people.nobody).status == 401
    assert cache.get("/api/whoami-v2", people.bob).status == 200


@pytest.mark.parametrize("ask", ["GET", "HEAD"])
def test_Z13_guessing_names_of_private_repos(hub, cache, people, ask):
    warm(hub, cache, "acme/private", people.alice)
    for target in ("/{}/resolve/main/model.safetensors", "/api/models/{}", "/api/models/{}/tree/main?recursive=true",
                   "/api/models/{}/revision/main"):
        for token in (None, people.bob):
            for how in ({}, {"Range": "bytes=0-0"}, {"If_None_Match": "*"}):
                there = cache.ask(ask, target.format("acme/private"), token, **how)
                assert_like_a_repo_that_is_not(there, cache.ask(ask, target.format("acme/missing"), token, **how))


# --- mistakes of administrators ---

def test_M01_an_address_for_all_is_told(hub, start):
    cache = start(server_listen="0.0.0.0:0")
    assert [line for line in cache.log_lines(level="warning") if "in the clear" in line["msg"]]
    assert "in the clear" in str(cache.get("/-/healthz").json()["warnings"])
    assert not start().get("/-/healthz").json()["warnings"]


def own_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


@pytest.mark.skipif(own_address().startswith("127."), reason="this machine has no address but its own")
def test_M01_strict_takes_no_tokens_in_the_clear(hub, start, people):
    cache = start(server_listen="0.0.0.0:0", server_strict="yes")
    assert_whole(cache.get(GATED, people.alice), hub, "model.safetensors", "acme/gated")   # from this machine
    with socket.create_connection((own_address(), cache.port)) as client:
        client.sendall(f"GET {GATED} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {people.alice}\r\nConnection: close\r\n\r\n".encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 403")
    assert not cache.get("/-/healthz").json()["warnings"]


def test_M08_no_secret_in_the_most_talkative_log(hub, lend, people):
    cache = lend(log_level="debug")
    for token in (None, SERVICE_KEY, people.alice, people.bob, people.nobody):
        for target in (GATED, PRIVATE, "/api/whoami-v2", "/api/models/acme/private/tree/main"):
            cache.get(target, token)
    cache.get(f"/acme/pub/resolve/{people.alice}/x")
    hub.kill()
    cache.get("/acme/gated/resolve/main/README.md", people.alice)
    assert len(cache.log_lines()) > 10   # the end of the test looks through log and store for tokens and signatures
