# SPDX-License-Identifier: Apache-2.0
"""Many clients, one download (design P6; hub-protocol 0.3)."""
import hashlib
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from facts import MIB, MODEL, MODEL_BYTES, add_large, all_bytes, assert_whole, bytes_of
from harness import SLOW, wait_for
from together import Background, all_at_once
from wire import Connection

SIZE = 256 * MIB
RATE = 40_000_000


def download_directly(hub, url):
    """Hub hop, CDN hop, body, as the simplest client would; returns (seconds to first byte, seconds in all)."""
    began = time.monotonic()
    with Connection(_place(hub.url)) as conn:
        location = conn.ask("GET", url)["Location"]
    with Connection(_place(location)) as conn:
        conn.request("GET", "/" + location.split("/", 3)[3])
        answer = conn.body(conn.head(), keep=False)
        assert answer.complete and answer.received == SIZE
    return answer.t_first - began, answer.t_end - began


def _place(url):
    parts = urlsplit(url)
    return parts.hostname, parts.port


def eight_clients(hub, start):
    """One cold run; returns what was measured."""
    url, file = add_large(hub, SIZE, seed=5, repo="acme/big")
    hub.rate("cdn", RATE)
    _, direct = download_directly(hub, url)
    hub.reset_counters()
    cache = start()
    began = time.monotonic()
    answers = all_at_once(*[lambda: cache.get(url, keep=False, timeout=60)] * 8, seconds=100)
    assert all(a.status == 200 and a.complete and a.sha256 == file.sha256 for a in answers), "a client got other bytes"
    assert hub.body_bytes("cdn") == SIZE, f"upstream sent {hub.body_bytes('cdn') / SIZE:.3f}x"
    assert len([c for c in hub.calls("cdn") if c["method"] == "GET"]) == 1
    first_upstream = min(c["t_first"] for c in hub.calls("cdn"))
    joined = [a for a in answers if "collapsed" in a["Cache-Status"]]
    assert len(joined) == 7, [a["Cache-Status"] for a in answers]
    return {"lag": max(a.t_first for a in answers) - first_upstream, "total": max(a.t_end for a in answers) - began, "direct": direct}


@pytest.mark.seconds(240)
@pytest.mark.slow
def test_P6_eight_clients_and_a_cold_256_mib_file(hub, start):
    """All right, 1.00x upstream, and nobody waits for the whole. How fast it is, tests/bench says ("cold, 8 clients")."""
    found = eight_clients(hub, start)
    print(f"eight clients: {found}")
    assert found["lag"] < found["direct"] / 2 and found["total"] < 4 * found["direct"] * SLOW


def test_P6_the_herd(hub, cache):
    """A hundred clients on one small file at the same moment."""
    answers = all_at_once(*[lambda: cache.get(MODEL, keep=False, timeout=60)] * 100)
    right = hashlib.sha256(bytes_of(hub, "model.safetensors")).hexdigest()
    assert all(a.status == 200 and a.sha256 == right for a in answers)
    assert all_bytes(hub) == MODEL_BYTES
    assert len(hub.calls("hub", "/resolve/")) <= 3, "the name was asked for more than once"


def test_P6_others_do_not_wait_for_a_slow_one(hub, cache):
    url, file = add_large(hub, 16 * MIB, seed=22)
    with cache.connect(receive_buffer=8192) as slow:
        slow.request("GET", url)
        slow.body(slow.head(), most=1000)
        began = time.monotonic()
        answer = cache.get(url)
        assert answer.body == file.source.read() and time.monotonic() - began < 5 * SLOW
        assert slow.socket.fileno() >= 0


def test_P6_a_slow_reader_gets_it_all(hub, cache):
    url, file = add_large(hub, 4 * MIB, seed=25)
    answer = cache.get(url, rate=2 * MIB)
    assert answer.body == file.source.read()


def test_P6_joining_at_any_time(hub, cache):
    url, file = add_large(hub, 16 * MIB, seed=22)
    hub.rate("cdn", 8 * MIB)
    readers = []
    for i in range(8):
        readers.append(Background(lambda: cache.get(url)))
        time.sleep(0.2)
    assert all(r.result().body == file.source.read() for r in readers)
    assert hub.body_bytes("cdn") == file.size


def test_P6_a_second_process_of_clients_after_the_fill(hub, cache):
    assert_whole(cache.get(MODEL), hub, "model.safetensors")
    hub.kill()
    answers = all_at_once(*[lambda: cache.get(MODEL)] * 20)
    assert all(a.body == bytes_of(hub, "model.safetensors") for a in answers)


def test_P6_bytes_come_while_they_are_fetched(hub, cache):
    """Nobody waits for the end of a fill: what came is sent on within moments."""
    url, file = add_large(hub, 8 * MIB, seed=23)
    has_come = threading.Event()
    hub.rule("cdn", rate=2 * MIB, stall_after=2 * MIB, stall_for=has_come)
    with cache.connect() as conn:
        conn.request("GET", url)
        answer = conn.body(conn.head(), most=2 * MIB)
        assert answer.received >= 2 * MIB and hub.body_bytes("cdn") == 2 * MIB, "more was needed before the client saw what had come"
        has_come.set()
        assert conn.body(answer).body == file.source.read()


def test_half_closed_client_still_gets_its_answer(hub, cache):
    with cache.connect() as conn:
        conn.request("GET", MODEL)
        conn.socket.shutdown(socket.SHUT_WR)
        answer = conn.read()
        assert answer.end in ("complete", "fin", "rst")
        if answer.complete:
            assert answer.body == bytes_of(hub, "model.safetensors")
    assert wait_for(lambda: cache.get(MODEL).status == 200)
