# SPDX-License-Identifier: Apache-2.0
"""Answers that rest on the administrator's word about where a client comes from: for no page of another site, for nobody who comes
from elsewhere; and what this machine lacks is no word about upstream."""
import resource
import signal

import pytest

from facts import CONFIG, file_of
from harness import wait_for
from test_access import GATED, PRIVATE
from test_lfs import WEIGHTS, batch, href_of, wanted
from test_rights import HERE, SERVICE_KEY, THERE, credentials, lend, service, write_list  # noqa: F401 (fixtures)

ORIGIN = {"Origin": "https://page.example"}
ALLOWED = "Access-Control-Allow-Origin"
REPO = {"repo": "/acme/private.git"}


# --- pages of other sites ----------------------------------------------------------------------------------------------------

def test_N08_what_is_lent_by_address_is_for_no_page(hub, lend, service):
    cache = lend()
    for target in (GATED, "/acme/private/resolve/main/config.json", "/api/models/acme/private", "/api/models/acme/private/tree/main"):
        for _ in range(2):
            answer = cache.get(target, headers=ORIGIN)
            assert answer.status == 200 and answer[ALLOWED] is None, (target, answer)
    assert cache.get(CONFIG, headers=ORIGIN)[ALLOWED] == "*"


@pytest.mark.parametrize("policy", ["acl", "open"])
def test_N08_what_the_list_or_everybody_is_shown_offline_is_for_no_page(hub, start, people, folder, policy):
    how = {"offline_acl_file": write_list(folder, f"allow {HERE} *\n")} if policy == "acl" else {}
    cache = start(offline_access=policy, **how)
    own = cache.get(PRIVATE, people.alice, headers=ORIGIN)
    assert own.status == 200 and own[ALLOWED] == "*"
    assert cache.get(CONFIG).status == 200
    hub.kill()
    cache.until_known_down()
    answer = cache.get(PRIVATE, headers=ORIGIN)
    assert answer.status == 200 and answer[ALLOWED] is None
    assert cache.get(CONFIG, headers=ORIGIN)[ALLOWED] == "*"
    if policy == "open":
        assert cache.get(PRIVATE, people.alice, headers=ORIGIN)[ALLOWED] == "*"


# --- tickets -----------------------------------------------------------------------------------------------------------------

def test_Z_a_ticket_carries_no_address_with_it(hub, lend, service):
    """Who is lent to by address gets none: it comes from there again. A ticket that was lent for a key says so anywhere."""
    cache = lend()
    f = file_of(hub, WEIGHTS, "acme/private")
    href = href_of(cache, batch(cache, [wanted(f)], **REPO))
    assert "ticket" not in href
    assert cache.get(href).status == 200 and cache.get(href, source=THERE).status != 200


def test_Z_a_ticket_of_who_was_taken_off_the_list(hub, start, folder, service, people):
    conf = folder / "h.conf"

    def write(clients):
        conf.write_text(f"[hub]\ntoken-credential = hub\ntoken-repos = models/acme/private\ntoken-clients = {clients}\n")
    write(HERE + " 127.0.0.7")
    cache = start(is_started=False)
    cache.environment = credentials(folder, hub=service + "\n")
    cache.command = ["--config", str(conf)]
    cache.canaries.append(service)
    cache.start()
    href = href_of(cache, batch(cache, [wanted(file_of(hub, WEIGHTS, "acme/private"))], **REPO))
    assert cache.get(href).status == 200
    write("127.0.0.7")
    cache.signal(signal.SIGHUP)
    wait_for(lambda: cache.get(PRIVATE).status != 200, 10)
    assert cache.get(href).status != 200


def test_Z_a_listed_address_is_in_no_ticket(hub, start, people, folder):
    path = write_list(folder, f"allow {HERE} models/acme/private\n")
    cache = start(offline_access="acl", offline_acl_file=path)
    href = href_of(cache, batch(cache, [wanted(file_of(hub, WEIGHTS, "acme/private"))], people.alice, **REPO))
    assert "ticket" in href and cache.get(href).status == 200 and cache.get(href, source=THERE).status == 200
    hub.kill()
    cache.until_known_down()
    assert cache.get(href).status == 200
    assert cache.get(PRIVATE, people.alice, source=THERE).status != 200
    assert cache.get(href, source=THERE).status != 200


# --- what this machine lacks -------------------------------------------------------------------------------------------------

def test_D_out_of_descriptors_is_no_outage(hub, start, people):
    """A stranger who uses up our descriptors must not open what only an outage opens, and is told what is lacking."""
    cache = start(offline_access="open")
    cache.expect("error")
    assert cache.get(PRIVATE, people.alice).status == 200 and cache.get(PRIVATE).status in (401, 404)
    hub.rule("hub", path="/api/models/nobody", delay_first_byte=2)
    held = [cache.connect() for _ in range(8)]
    for connection in held:  # so that each is accepted before there is no descriptor for it
        connection.request("GET", "/-/healthz")
        assert connection.read().status == 200
    used = cache.fds()
    resource.prlimit(cache.process.pid, resource.RLIMIT_NOFILE, (used + 1, used + 1))
    try:
        for i, connection in enumerate(held):
            connection.request("GET", f"/api/models/nobody/n{i}")
        told = [connection.read() for connection in held]
        assert len([a for a in told if a.status == 503 and b"descriptors" in a.partial]) >= 3, [(a.status, a.partial) for a in told]
        held[0].request("GET", PRIVATE)
        assert held[0].read().status != 200
    finally:
        for connection in held:
            connection.close()
    assert "upstream cannot be reached" not in cache.stderr()
