# SPDX-License-Identifier: Apache-2.0
"""Bodies while they are fetched: shared, cut, stalled, wrong, abandoned (hub-protocol 10.2: B08, B09, B13 to B20, B22)."""
import socket
import struct
import time
from pathlib import Path

import pytest

from facts import (CONFIG, MIB, MODEL, MODEL_BYTES, add_large, all_bytes, assert_file_head, assert_no_clean_end, assert_whole, bytes_of,
                   file_of, resolve_calls)
from harness import SLOW, wait_for
from hubdouble import LFS
from together import Background, all_at_once
from wire import fields


def cdn_gets(hub):
    return [c for c in hub.calls("cdn") if c["method"] == "GET"]


def test_B08_sixteen_ranges_of_a_cold_file(hub, cache):
    url, file = add_large(hub, 64 * MIB)
    hub.rate("cdn", 32 * MIB)
    step = file.size // 16
    began = time.monotonic()

    def part(i):
        return lambda: cache.get(url, Range=f"bytes={i * step}-{(i + 1) * step - 1 if i < 15 else file.size}")
    answers = all_at_once(*[part(i) for i in range(16)])
    for i, answer in enumerate(answers):
        assert answer.status == 206 and answer.body == file.source.read(i * step, step), f"part {i}"
    first, end = max(a.t_first for a in answers) - began, max(a.t_end for a in answers) - began
    assert first < 0.75 * end, f"a part waited for bytes before it: {first:.1f} of {end:.1f} s"
    assert cache.received() <= 1.05 * file.size


def test_B09_resume_beyond_the_fill(hub, cache):
    url, file = add_large(hub, 16 * MIB, seed=22)
    hub.rate("cdn", 8 * MIB)
    first = Background(lambda: cache.get(url))
    wait_for(lambda: hub.body_bytes("cdn") > MIB)
    second = cache.get(url, Range=f"bytes={8 * MIB}-")
    assert second.status == 206 and second.body == file.source.read(8 * MIB)
    assert first.result().body == file.source.read()
    assert cache.received() <= 1.1 * file.size


def test_B13_cut_upstream_is_one_body_for_the_client(hub, cache):
    rule = hub.rule("cdn", cut_after="50%", times=1)
    assert_whole(cache.get(MODEL), hub, "model.safetensors")
    assert rule.hits == 1
    first, second = cdn_gets(hub)
    assert second["range"] and second["range"].startswith(f"bytes={MODEL_BYTES // 2}-"), "not resumed where it broke"
    assert hub.body_bytes("cdn") == MODEL_BYTES


@pytest.mark.parametrize("positions", [[1], ["90%"], [-1], ["20%", "50%", "50%"]])
def test_B13_cut_anywhere_and_often(hub, cache, positions):
    for n, where in enumerate(positions, 1):
        hub.rule("cdn", nth=n, cut_after=where)
    assert_whole(cache.get(MODEL), hub, "model.safetensors")
    assert hub.body_bytes("cdn") == MODEL_BYTES


def test_B13_reset_upstream(hub, cache):
    hub.rule("cdn", reset_after="50%", times=1)
    assert_whole(cache.get(MODEL), hub, "model.safetensors")


def test_B13_cut_of_a_regular_file(hub, cache):
    hub.rule("hub", path="resolve-cache.*README", method="GET", cut_after="50%", times=1)
    assert_whole(cache.get("/acme/pub/resolve/main/README.md"), hub, "README.md")


@pytest.mark.slow
def test_B14_stall_then_on(hub, cache):
    hub.rule("cdn", stall_after="50%", stall_for=8, times=1)
    with cache.connect(timeout=10 * SLOW) as conn:   # ten seconds without a byte is where the Python client reconnects
        conn.request("GET", MODEL)
        answer = conn.read()
    if not answer.complete:
        rest = cache.get(MODEL, Range=f"bytes={answer.received}-")
        assert answer.partial + rest.body == bytes_of(hub, "model.safetensors")
    else:
        assert_whole(answer, hub, "model.safetensors")
    assert all_bytes(hub) <= 1.05 * MODEL_BYTES


@pytest.mark.slow
def test_B15_failing_for_good_in_the_middle(hub, cache):
    hub.rule("cdn", cut_after="50%", times=1)
    cut = hub.rule("cdn", nth=[2, 3, 4, 5, 6, 7], close="reset")
    answer = cache.get(MODEL, timeout=60)
    assert answer.status == 200 and answer.end == "fin", answer
    assert answer.partial == bytes_of(hub, "model.safetensors")[:answer.received]
    assert answer.received <= MODEL_BYTES // 2
    assert not cache.blobs() and cache.parts(), "the part was not kept, or taken for whole"
    cut.remove()
    sent = hub.body_bytes("cdn")
    assert_whole(wait_for(lambda: (a := cache.get(MODEL)).status == 200 and a, 40), hub, "model.safetensors")
    assert hub.body_bytes("cdn") - sent <= MODEL_BYTES // 2 + 65536, "the part was not resumed"


def test_B16_a_head_is_a_promise(hub, cache):
    assert cache.head(MODEL).status == 200
    hub.kill()
    answer = cache.get(MODEL)
    if answer.status:
        assert answer.status in (200, 206), f"an error body after a good HEAD: {answer}"
    assert_no_clean_end(answer)


def test_B16_blob_gone_after_head(hub, cache):
    assert_whole(cache.get(MODEL), hub, "model.safetensors")
    assert cache.head(MODEL).status == 200
    hub.kill()
    for path in cache.blobs().values():
        path.unlink()
    cache.expect("error")
    answer = cache.get(MODEL)
    assert answer.status in (0, 200, 206), f"an error body after a good HEAD: {answer}"
    if answer.complete:   # it still had the file open
        assert answer.body == bytes_of(hub, "model.safetensors")


@pytest.mark.parametrize("path", ["model.safetensors", "config.json", "README.md"])
def test_B17_wrong_bytes_are_never_kept(hub, cache, path):
    url, file = f"/acme/pub/resolve/main/{path}", file_of(hub, path)
    rule = hub.rule("any", method="GET", path="xet-bridge|resolve-cache", wrong_bytes="50%")
    answer = cache.expect("error").get(url, timeout=60)
    if answer.complete:
        assert answer.status == 502 and answer["Retry-After"] is not None, answer
    else:
        assert answer.end in ("fin", "rst") and answer.received < file.size
    assert not cache.blobs()
    assert cache.metric("hfcache_fills_total", outcome="corrupt") >= 1, "no counter says so"
    rule.remove()
    assert_whole(cache.get(url), hub, path)
    hub.kill()
    assert_whole(cache.get(url), hub, path)


def test_B17_wrong_only_once_is_made_good(hub, cache):
    hub.rule("cdn", wrong_bytes=-10, times=1)
    first = cache.expect("error").get(MODEL, timeout=60)
    if first.complete and first.status == 200:
        assert first.body == bytes_of(hub, "model.safetensors")
    assert_whole(cache.get(MODEL), hub, "model.safetensors")


def test_B17_all_readers_of_a_wrong_fill_are_stopped(hub, cache):
    url, file = add_large(hub, 8 * MIB, seed=23)
    hub.rate("cdn", 16 * MIB)
    hub.rule("cdn", wrong_bytes="10%")
    cache.expect("error")
    for answer in all_at_once(*[lambda: cache.get(url, timeout=60)] * 4):
        assert not (answer.complete and answer.status == 200), f"wrong bytes ended cleanly: {answer}"
    assert not cache.blobs()


def test_B18_signature_expires_in_the_middle(hub, cache):
    hub.rule("cdn", nth=1, cut_after="50%")
    hub.rule("cdn", nth=2, expire_signature=True)
    assert_whole(cache.get(MODEL), hub, "model.safetensors")
    assert len([c for c in resolve_calls(hub, "model.safetensors") if c["method"] == "GET"]) >= 2, "no new address was asked for"
    assert hub.body_bytes("cdn") <= MODEL_BYTES + 1000
    ranges = [c["range"] for c in cdn_gets(hub)]
    assert ranges[-1] and ranges[-1].startswith(f"bytes={MODEL_BYTES // 2}-")


def test_B19_same_bytes_in_two_repos_move_once(hub, cache):
    data = bytes_of(hub, "model.safetensors")
    hub.content.add_repo("dataset", "acme/copy").commit({"data.bin": LFS(data)})
    assert_whole(cache.get(MODEL), hub, "model.safetensors")
    sent = all_bytes(hub)
    assert_whole(cache.get("/datasets/acme/copy/resolve/main/data.bin"), hub, "data.bin", "acme/copy", kind="dataset")
    assert all_bytes(hub) == sent and len(cache.blobs()) == 1


def test_B20_others_go_on_when_one_leaves(hub, cache):
    url, file = add_large(hub, 16 * MIB, seed=22)
    hub.rate("cdn", 16 * MIB)
    other = Background(lambda: cache.get(url))
    with cache.connect() as conn:
        conn.request("GET", url)
        conn.body(conn.head(), most=2 * MIB)
        wait_for(lambda: cache.metric("hfcache_fill_collapsed_total"), why="both")
        conn.reset()
    assert other.result().body == file.source.read()
    assert hub.body_bytes("cdn") <= 1.02 * file.size


def test_B20_the_first_one_leaves(hub, cache):
    url, file = add_large(hub, 16 * MIB, seed=22)
    hub.rate("cdn", 16 * MIB)
    with cache.connect() as conn:
        conn.request("GET", url)
        conn.body(conn.head(), most=MIB)
        other = Background(lambda: cache.get(url))
        wait_for(lambda: hub.body_bytes("cdn") > 3 * MIB and cache.metric("hfcache_fill_collapsed_total"), why="both")
        conn.reset()
        assert other.result().body == file.source.read()
    assert hub.body_bytes("cdn") <= 1.02 * file.size


def test_B22_a_client_that_only_wants_the_head(hub, cache):
    url, file = add_large(hub, 64 * MIB)
    hub.rate("cdn", 256 << 10)    # a machine with much to do hangs up late
    with cache.connect(receive_buffer=16384) as conn:
        conn.request("GET", url, fields(User_Agent="ollama/0.5"))
        assert_file_head(conn.head(), hub, "weights.bin", "acme/large")
    wait_for(lambda: cache.metric("hfcache_fills_in_flight") == 0, 10)
    assert hub.body_bytes("cdn") < MIB, "an abandoned GET pulled more than 1 MB"


def test_small_file_head_then_get_moves_once(hub, cache):
    assert_file_head(cache.head(CONFIG), hub, "config.json")
    assert_whole(cache.get(CONFIG), hub, "config.json")
    assert_whole(cache.get(CONFIG), hub, "config.json")
    assert all_bytes(hub) == file_of(hub, "config.json").size


# --- of requests, that upstream does not take ---

COMMIT = "/api/models/acme/pub/commit/main"


NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20


def unread(conn):
    """How many bytes of this connection its other end, on this machine, has not read yet."""
    (host, port), (other, other_port) = conn.socket.getsockname(), conn.socket.getpeername()
    asked = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0xffffffff) + struct.pack(
        "!HH16s16s", other_port, port, socket.inet_aton(other), socket.inet_aton(host)) + b"\0" * 4 + b"\xff" * 8
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_SOCK_DIAG) as kernel:
        kernel.send(struct.pack("=IHHII", 16 + len(asked), SOCK_DIAG_BY_FAMILY, 1, 0, 0) + asked)
        said = kernel.recv(65536)
    if struct.unpack_from("=H", said, 4)[0] == SOCK_DIAG_BY_FAMILY:
        return struct.unpack_from("=I", said, 72)[0]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:   # slow where there are many, and may miss one
        _, local, remote, _, queues = line.split()[:5]
        if local.endswith(f":{other_port:04X}") and remote.endswith(f":{port:04X}"):
            return int(queues.partition(":")[2], 16)
    return 0


def fill(conn):
    """Writes until nobody reads it, but no more than the kernel takes: what comes next, comes right behind it."""
    for _ in range(1024):
        conn.send(b"x" * 8192)
        end = time.monotonic() + 0.5 * SLOW
        while unread(conn):
            if time.monotonic() > end:
                return
            time.sleep(0.01)
    raise AssertionError("it takes all")


@pytest.mark.parametrize("end", ["fin", "rst"])
@pytest.mark.parametrize("framing", [{"Content_Length": str(1 << 30)}, {"Transfer_Encoding": "chunked"}])
def test_W05_a_writer_that_leaves_where_upstream_takes_nothing(hub, start, people, framing, end):
    """It is let go at once, and what it wrote counts as unknown: the name is looked up anew."""
    cache = start(hub_connect_timeout="100s")
    assert cache.get(CONFIG).status == 200
    before = len(resolve_calls(hub, "config.json"))
    hub.blackhole(mode="drop")
    with cache.connect() as conn:
        conn.request("POST", COMMIT, fields(people.writer, **framing), b"")
        conn.send(b"%x\r\n" % (1 << 24) if "Transfer_Encoding" in framing else b"")
        fill(conn)
        assert cache.get(CONFIG).status == 200 and cache.metric("hfcache_http_connections") > 1   # one is that of the question
        conn.reset() if end == "rst" else conn.close()
        wait_for(lambda: cache.metric("hfcache_http_connections") <= 1, 10, why="its connection to be closed")
    hub.revive()
    wait_for(lambda: cache.get(CONFIG).status == 200 and len(resolve_calls(hub, "config.json")) > before, 20, 0.1, "a doubt")


@pytest.mark.parametrize("is_chunked", [False, True])
def test_W05_a_writer_that_only_has_no_more_to_say(hub, cache, people, is_chunked):
    """It closes its side behind a whole body, most of which nobody has read yet: its answer still comes."""
    rule = hub.rule(path="/commit/", delay_read=4, status=200, body=b"{}", headers={"Content-Type": "application/json"})
    body = b"y" * 300_000
    with cache.connect() as conn:
        named = {"Transfer_Encoding": "chunked"} if is_chunked else {"Content_Length": str(len(body))}
        conn.request("POST", COMMIT, fields(people.writer, **named), b"")
        conn.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body)
        conn.socket.shutdown(socket.SHUT_WR)
        assert conn.read().status == 200
    assert rule.hits == 1 and hub.calls("hub", "/commit/")[0]["received"] == len(body)
