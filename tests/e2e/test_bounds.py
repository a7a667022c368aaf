# SPDX-License-Identifier: Apache-2.0
"""Memory, descriptors and threads stay within bounds (design P10)."""
import json
import resource
import time

import pytest

from facts import CONFIG, MIB, MODEL, add_large, assert_whole, bytes_of, file_of
from harness import SLOW, wait_for, within
from hubdouble import LFS
from test_lfs import JSON, batch
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
    assert time.monotonic() - began < 10 * SLOW, "others wait behind them"
    assert_whole(within(1, lambda: cache.get(MODEL)), hub, "model.safetensors")
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
    """What its own slow questions leave no connection for says nothing about upstream: with offline.access = open it would open
    everything."""
    hub.rule("hub", path="slow-question", delay_first_byte=60)
    cache = start(offline_access="open")
    held = []
    try:
        for i in range(300):
            connection = cache.connect(timeout=30)
            connection.request("GET", f"/api/models/acme/pub/slow-question?x={i}")
            held.append(connection)
        wait_for(lambda: len(hub.calls("hub", "slow-question")) >= 256, 10)
        waiting = [Background(lambda i=i: cache.get(f"/acme/private/resolve/main/config.json?{i}", timeout=60)) for i in range(8)]
        answers = [w.result() for w in waiting]   # none of them finds a connection in its time
        assert cache.metric("hfcache_upstream_up") == 1
        assert {a.status for a in answers} == {503} and b"no connection to upstream free" in answers[0].body, answers[0]
        assert cache.get("/acme/private/resolve/main/config.json", timeout=60).status != 200
        assert ask_from(cache, OTHER, "/acme/private/resolve/main/config.json").status == 401
    finally:
        for connection in held:
            connection.reset()


def test_P10_upload_addresses_of_one_user_leave_room_for_others(hub, cache, people):
    """They are kept for an hour each: who has half of all there can be is told the storage's own from then on."""
    count = 4000
    objects = [{"oid": f"{i:064x}", "size": 1, "authenticated": True,
                "actions": {"upload": {"href": f"{hub.cdn_url}/put/{i}?X-Amz-Signature=s"}}} for i in range(count)]
    hub.rule("hub", path="info/lfs/objects/batch", status=200, headers={"Content-Type": JSON},
             body=json.dumps({"transfer": "basic", "objects": objects}).encode())
    hub.content.add_token("hf_second_writer", "acme", {"acme/gated"}, role="write")

    def ours(token):
        answer = batch(cache, [{"oid": f"{1:064x}", "size": 1}], token, operation="upload")
        assert answer.status == 200, answer
        return sum("/-/upload/" in o["actions"]["upload"]["href"] for o in answer.json()["objects"])

    given = [ours(people.writer) for _ in range(5)]
    assert given == [count] * 4 + [0], given   # all of an answer, or none
    assert ours(people.writer) == 0
    assert ours("hf_second_writer") == count


OTHER = "127.0.0.2"


def ask_from(cache, address, target, timeout=30):
    with cache.connect(timeout=timeout, source=address) as connection:
        return connection.ask("GET", target)


@pytest.mark.parametrize("kind", ["questions", "forwarded", "files"])
def test_P10_one_client_leaves_connections_for_others(hub, cache, kind):
    """It asks for more slow things than there are connections; somebody else is served meanwhile as if it were not there."""
    if kind == "files":   # more than there are fills at once
        commit = hub.content.repo("acme/pub").commit({f"many/{i}.bin": LFS(b"%d" % i * 30_000) for i in range(300)}).id
        targets = [f"/acme/pub/resolve/{commit}/many/{i}.bin" for i in range(300)]
        hub.rule("cdn", stall_after=1000, stall_for=60)
    elif kind == "questions":
        targets = [f"/acme/pub/resolve/slow-branch-{i}/config.json" for i in range(600)]
        hub.rule("hub", path="slow-branch", delay_first_byte=60)
    else:
        targets = [f"/api/models/acme/pub/slow-question?x={i}" for i in range(600)]
        hub.rule("hub", path="slow-question", delay_first_byte=60)
    held = []
    try:
        for target in targets:
            connection = cache.connect(timeout=30)
            connection.request("GET", target)
            held.append(connection)
        wait_for(lambda: len(hub.calls("cdn" if kind == "files" else "hub")) >= 100, 20)
        time.sleep(1)
        hub.clear_rules() if kind == "files" else None   # what has begun goes on stalling
        began = time.monotonic()
        answer = ask_from(cache, OTHER, "/acme/pub/resolve/main/config.json")
        assert answer.status == 200 and answer.body == bytes_of(hub, "config.json"), answer
        answer = ask_from(cache, OTHER, MODEL)
        assert answer.status == 200 and answer.body == bytes_of(hub, "model.safetensors")
        assert ask_from(cache, OTHER, "/api/experimental").status == 404
        assert time.monotonic() - began < 6 * SLOW, "others wait behind it"
    finally:
        for connection in held:
            connection.reset()


@pytest.mark.slow
@pytest.mark.seconds(120)
def test_P10_slow_readers_of_forwarded_bodies(hub, cache):
    """256 KiB for each at most, 1 MiB for eight of them; and there is an end to how many of them one client may have."""
    hub.rule("hub", path="/api/experimental", body=b"x" * (8 << 20))
    assert cache.get("/api/experimental").status == 200
    base, held, answers = cache.rss(), [], []
    try:
        for _ in range(300):
            connection = cache.connect(receive_buffer=4096)
            connection.request("GET", "/api/experimental")
            held.append(connection)
        answers = [connection.head() for connection in held]
        good = [a for a in answers if a.status == 200]
        refused = [c.body(a) for c, a in zip(held, answers) if a.status != 200]
        time.sleep(2)   # until it stands still
        each = (cache.rss() - base - 8 * (768 << 10)) / len(good)
        print(f"{len(good)} slow readers: {each / 1024:.0f} KiB each")
        assert len(good) == 256 and all(a.status == 503 and a["Retry-After"] == "0" for a in refused), refused[:1]
        assert b"for this client's address" in refused[0].body
        assert SLOW > 1 or each < 256 << 10
        assert ask_from(cache, OTHER, "/api/experimental").status == 200
        assert len(held[0].body(answers[0]).body) == 8 << 20, "a slow one is served to its end"
    finally:
        for connection in held:
            connection.reset()
    wait_for(lambda: cache.get("/api/experimental").status == 200, 10)


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
    held = [cache.connect() for _ in range(120)]
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
