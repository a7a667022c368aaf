# SPDX-License-Identifier: Apache-2.0
"""Memory, descriptors and threads stay within bounds (design P10)."""
import resource
import time

import pytest

from facts import CONFIG, MIB, MODEL, add_large, assert_whole, bytes_of, file_of
from harness import SLOW, wait_for
from together import Background
from wire import fields


@pytest.fixture(autouse=True)
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.seconds(200)
def test_P10_a_thousand_idle_and_two_hundred_active(hub, cache):
    """RSS below 60 MB, and everything is given back."""
    url, file = add_large(hub, 64 * MIB)
    assert cache.get(url, keep=False).sha256 == file.sha256
    assert_whole(cache.get(CONFIG), hub, "config.json")
    base_fds, base_threads = cache.fds(), cache.threads()
    idle = []
    for _ in range(1000):
        conn = cache.connect(receive_buffer=4096)
        assert conn.ask("GET", CONFIG).status == 200
        idle.append(conn)
    active = []
    for _ in range(200):
        conn = cache.connect(receive_buffer=4096)
        conn.request("GET", url)
        active.append((conn, conn.body(conn.head(), most=1)))
    time.sleep(1)
    assert cache.metric("hfcache_http_connections") >= 1200
    rss = cache.rss()
    print(f"1,000 idle and 200 active connections: {rss / 1e6:.1f} MB, {cache.fds()} descriptors")
    if SLOW == 1:   # sanitizers need memory of their own
        assert rss < 60e6
    assert cache.threads() <= base_threads + 1
    began = time.monotonic()
    assert_whole(cache.get(MODEL), hub, "model.safetensors")
    assert time.monotonic() - began < 2 * SLOW, "others are slowed down"
    for conn in idle + [c for c, _ in active]:
        conn.close()
    wait_for(lambda: cache.fds() <= base_fds + 4, 15, every=0.2, why="descriptors to be given back")
    wait_for(lambda: cache.metric("hfcache_http_connections") <= 2, 10, every=0.2)


def test_P10_no_leak_over_many_requests(hub, cache):
    def turn():
        with cache.connect() as conn:
            for i in range(100):
                conn.ask("GET", CONFIG)
                conn.ask("HEAD", MODEL)
                conn.ask("GET", "/acme/pub/resolve/main/nothing")
                conn.ask("GET", MODEL, fields(Range=f"bytes={i}-{i + 9}"))
                conn.ask("GET", "/api/models/acme/pub")
        for _ in range(20):
            cache.get(CONFIG)
    for _ in range(4):
        turn()
    time.sleep(1.5)   # what is closed in the background
    fds, rss = cache.fds(), cache.rss()
    for _ in range(8):
        turn()
    wait_for(lambda: cache.fds() <= fds + 3, 5, every=0.1, why="descriptors to be given back")
    assert SLOW > 1 or cache.rss() - rss < 4e6, f"{(cache.rss() - rss) / 1e6:.1f} MB more after 4,000 requests"


def test_P10_very_many_names_do_not_grow_the_memory(hub, cache):
    for i in range(300):
        cache.head(f"/acme/pub/resolve/main/no-such-{i}")
    rss = cache.rss()
    with cache.connect() as conn:
        for i in range(3000):
            assert conn.ask("HEAD", f"/acme/pub/resolve/main/never-{i}").status == 404
    assert SLOW > 1 or cache.rss() - rss < 15e6


def test_P10_slow_readers_are_not_buffered(hub, cache):
    url, file = add_large(hub, 64 * MIB)
    rss = cache.rss()
    slow = []
    for _ in range(20):   # cold: the fill goes on at its own speed
        conn = cache.connect(receive_buffer=4096)
        conn.request("GET", url)
        slow.append((conn, conn.body(conn.head(), most=1)))
    wait_for(lambda: file.sha256 in cache.blobs(), 30)
    assert SLOW > 1 or cache.rss() - rss < 20e6
    conn, answer = slow[0]
    assert conn.body(answer).body == file.source.read()
    for conn, _ in slow:
        conn.close()


@pytest.mark.slow
@pytest.mark.seconds(120)
def test_Z14_one_client_cannot_make_upstream_look_gone(hub, start):
    """All connections to upstream busy with its slow answers are our own limit: with offline.access = open it would open everything."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8000, hard), hard))
    hub.rule("hub", path="slow-question", delay_first_byte=60)
    cache = start(offline_access="open")
    held = []
    try:
        for i in range(600):
            connection = cache.connect(timeout=30)
            connection.request("GET", f"/api/models/acme/pub/slow-question?x={i}")
            held.append(connection)
        end = time.monotonic() + 12
        while time.monotonic() < end:
            assert cache.metric("hfcache_upstream_up") == 1
            assert cache.get("/acme/private/resolve/main/config.json", timeout=30).status != 200
            time.sleep(1)
    finally:
        for connection in held:
            connection.reset()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_P10_connections_beyond_the_limit(hub, start):
    cache = start(server_max_connections="20")
    assert_whole(cache.get(CONFIG), hub, "config.json")
    held = []
    for _ in range(40):
        conn = cache.connect(timeout=2 * SLOW)
        conn.request("GET", CONFIG)
        held.append((conn, conn.read()))
    answers = [a for _, a in held]
    good = [a for a in answers if a.status == 200]
    assert 10 <= len(good) <= 20 and all(a.status in (0, 200, 503) for a in answers), [a.status for a in answers]
    for conn, _ in held:
        conn.close()
    assert_whole(wait_for(lambda: (a := cache.get(CONFIG)).status == 200 and a, 10, 0.2), hub, "config.json")


def test_D06_out_of_descriptors(hub, start, folder):
    cache = start(is_started=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (80, hard))
    cache.expect("error").spawn()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    found = wait_for(lambda: cache._address() or cache._has_ended(), 10)
    if found is True:
        assert cache.process.returncode in (69, 71, 74, 78)   # it says that this is too few
        cache.expect("exit")
        return
    cache.url, cache.port = found[1], int(found[2])
    wait_for(cache._is_ready, 10)
    held = [cache.connect(timeout=1) for _ in range(120)]
    used = _cpu(cache)
    time.sleep(2)
    assert _cpu(cache) - used < 0.4 * SLOW, "it spins without descriptors"
    for conn in held:
        conn.close()
    answer = wait_for(lambda: _try(cache), 15, 0.3)
    assert answer.body == bytes_of(hub, "config.json")


def _try(cache):
    try:
        answer = cache.get(CONFIG, timeout=3)
        return answer if answer.status == 200 else None
    except OSError:
        return None


def _cpu(cache):
    fields_ = cache._proc("stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields_[11]) + int(fields_[12])) / 100


def test_P10_idle_costs_nothing(hub, cache):
    assert_whole(cache.get(CONFIG), hub, "config.json")
    time.sleep(0.5)
    used = _cpu(cache)
    time.sleep(3)
    assert _cpu(cache) - used <= 0.1 * SLOW, "it works while nobody asks"


def test_P10_a_waiting_client_costs_nothing(hub, cache):
    hub.rule("cdn", stall_after=100_000, stall_for=4)
    waiting = Background(lambda: cache.get(MODEL))
    wait_for(lambda: hub.body_bytes("cdn") >= 100_000)
    time.sleep(0.3)
    used = _cpu(cache)
    time.sleep(2)
    assert _cpu(cache) - used <= 0.15 * SLOW, "it spins while a client waits"
    assert waiting.result().body == file_of(hub, "model.safetensors").source.read()
