# SPDX-License-Identifier: Apache-2.0
"""Pieces of files that nobody fetched whole: kept, given again without upstream, and what they cost it (promises P3, P6, P7)."""
import random
import re
import sqlite3
import time
from contextlib import closing

import pytest

from facts import MIB, add_large, commit_of
from harness import SLOW, wait_for
from together import Background
from wire import fields


def large(hub, size=24 * MIB, seed=41):
    _, file = add_large(hub, size, seed=seed)
    return f"/acme/large/resolve/{commit_of(hub, 'acme/large').id}/weights.bin", file


def ask(cache, url, begin, end, **named):
    return cache.get(url, Range=f"bytes={begin}-{end - 1}", **named)


def assert_piece(cache, url, file, begin, end):
    answer = ask(cache, url, begin, end)
    assert answer.status == 206, f"bytes {begin}-{end}: {answer}"
    assert answer.body == file.source.read(begin, end - begin), f"bytes {begin}-{end}"


def requests_made(cache):
    """Also those that nobody was there to hear."""
    return sum(value for name, _, value in cache.metrics() if name == "hfcache_upstream_requests_total")


def quiet(cache):
    """Until no flight is left: their parts are closed."""
    wait_for(lambda: cache.metric("hfcache_fills_in_flight") == 0, 10)


def on_disk(cache):
    """The ranges that maps speak of: what survives a kill."""
    maps = (cache.store / "incoming").glob("*.map")
    return [(int(a), int(b)) for path in maps for a, b in re.findall(r"^range=(\d+)-(\d+)$", path.read_text(), re.MULTILINE)]


def is_on_disk(cache, begin, end):
    return any(a <= begin and end <= b for a, b in on_disk(cache))


def some_pieces(dice, size, count):
    for _ in range(count):
        begin = dice.randrange(size)
        yield begin, min(size, begin + dice.choice([1, 17, 5000, 70_000, 300_000, 900_000]))


def facts_are_on_disk(cache):
    """What the file is, and who may read it: durable a moment after they went out (P3)."""
    with closing(sqlite3.connect(f"file:{cache.store / 'index.db'}?mode=ro", uri=True)) as db:
        return all(db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in ("entries", "publics"))


@pytest.mark.parametrize("state", ["online", "dead", "unreachable", "restarted", "killed"])
def test_a_range_that_is_held_asks_nobody(hub, cache, state):
    url, file = large(hub)
    hub.rate("cdn", 128 << 10)    # the rest of its window does not come before its client has gone
    assert_piece(cache, url, file, 0, 1)
    quiet(cache)
    hub.rate("cdn", None)
    assert_piece(cache, url, file, 9 * MIB, 9 * MIB + 500_000)
    quiet(cache)
    if state == "killed":
        wait_for(lambda: is_on_disk(cache, 0, 10) and is_on_disk(cache, 9 * MIB, 9 * MIB + 500_000), 10)
        wait_for(lambda: facts_are_on_disk(cache), 10)
        cache.restart(kill=True)
    elif state != "online":
        hub.kill()
        if state == "unreachable":
            cache.until_known_down()
        if state == "restarted":
            cache.restart()
    hub.reset_counters()
    before = requests_made(cache)
    for piece in [(0, 10), (0, 1), (9 * MIB, 9 * MIB + 10), (9 * MIB + 100, 9 * MIB + 500_000)]:
        assert_piece(cache, url, file, *piece)
    quiet(cache)
    assert not hub.calls("cdn") and requests_made(cache) == before, "upstream was asked for what is held"


def test_a_range_that_is_not_held_is_still_told_so(hub, cache):
    """Beside one that is: the one that lacks bytes does not take the other along."""
    url, file = large(hub)
    assert_piece(cache, url, file, 0, 4 * MIB)
    quiet(cache)
    hub.kill()
    cache.until_known_down()
    with cache.connect(receive_buffer=16384) as slow:
        slow.request("GET", url, fields(Range=f"bytes=0-{4 * MIB - 1}"))
        head = slow.head()
        assert head.status == 206
        answer = ask(cache, url, 12 * MIB, 13 * MIB)
        assert answer.status == 503 and answer["Retry-After"], answer
        slow.body(head)
        assert head.body == file.source.read(0, 4 * MIB)


@pytest.mark.parametrize("seed", range(3))
def test_P3_pieces_survive_a_clean_stop(hub, start, seed):
    """Whatever runs at that moment: pieces, and a whole file that has hardly begun."""
    dice, cache = random.Random(seed), start(server_drain_timeout="10ms")
    url, file = large(hub, seed=50 + seed)
    hub.rate("cdn", 32 * MIB)
    pieces = list(some_pieces(dice, file.size, 24))
    with cache.connect(receive_buffer=16384) as whole:
        if dice.random() < 0.7:
            whole.request("GET", url, fields())
            whole.head()
        workers = [Background(lambda p=p: assert_piece(cache, url, file, *p)) for p in pieces[:8]]
        for piece in pieces[8:]:
            assert_piece(cache, url, file, *piece)
        for worker in workers:
            worker.result()
        running = Background(lambda: cache.get(url, Range=f"bytes={13 * MIB}-{14 * MIB}", keep=False))
        time.sleep(dice.random() / 20)
        assert cache.stop() == 0
        try:
            running.result()
        except (OSError, AssertionError):
            pass    # cut off by the stop
    hub.kill()
    cache.start()
    for piece in pieces:
        assert_piece(cache, url, file, *piece)
    cache.restart()
    for piece in reversed(pieces):
        assert_piece(cache, url, file, *piece)


def test_P3_pieces_whose_flight_is_over_survive_a_kill(hub, cache):
    dice = random.Random(7)
    url, file = large(hub)
    pieces = list(some_pieces(dice, file.size, 12))
    for piece in pieces:
        assert_piece(cache, url, file, *piece)
    wait_for(lambda: all(is_on_disk(cache, *piece) for piece in pieces), 10, why="the map")
    wait_for(lambda: facts_are_on_disk(cache), 10)
    hub.kill()
    cache.restart(kill=True)
    for piece in pieces:
        assert_piece(cache, url, file, *piece)


def test_B22_a_download_that_is_only_looked_at(hub, cache):
    """node-llama-cpp opens a file this way to learn where it leads, and hangs up."""
    url, _ = large(hub, 64 * MIB)
    hub.rate("cdn", 256 << 10)    # a machine with much to do hangs up late
    with cache.connect() as conn:
        conn.request("GET", url + "?download=true", fields(User_Agent="llama-cpp"))
        assert conn.head().status == 200
    quiet(cache)
    assert cache.metric("hfcache_upstream_received_bytes_total") < MIB, "an abandoned GET pulled more than 1 MB"


@pytest.mark.parametrize("count", [1, 4])
def test_P6_a_fill_that_is_cut_short_brings_no_byte_twice(hub, cache, count):
    """Readers far ahead take over where the fill would have gone on; of the piece in which it ends, the rest is lost."""
    url, file = large(hub, 40 * MIB)
    hub.rate("cdn", (16 if SLOW == 1 else 6) * MIB)   # the ranges are asked for while it is not there yet
    whole = Background(lambda: cache.get(url))
    wait_for(lambda: hub.body_bytes("cdn") > MIB)
    ranges = [((12 + 6 * i) * MIB + 12345, (13 + 6 * i) * MIB) for i in range(count)]
    for window in [Background(lambda r=r: assert_piece(cache, url, file, *r)) for r in ranges]:
        window.result()
    assert whole.result().body == file.source.read()
    begun = [c["range"] for c in hub.calls("cdn")]
    assert len(set(begun)) == len(begun) > count
    received = cache.metric("hfcache_upstream_received_bytes_total")
    assert file.size <= received <= file.size + count * (16 << 10), f"{received - file.size} bytes came twice: {begun}"
