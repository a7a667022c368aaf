# SPDX-License-Identifier: Apache-2.0
"""Ranges, conditions on them, and framing (hub-protocol 10.2: B01 to B07, B10 to B12, B21)."""
import random
import time

import pytest

from facts import (CONFIG, MIB, MODEL, MODEL_BYTES, add_large, assert_file_head, assert_whole, bytes_of, file_of)
from harness import SLOW
from wire import fields


@pytest.fixture(params=["cold", "warm"])
def model(request, hub, cache):
    """Asks for the large public file, before or after it is stored; each with the true bytes."""
    if request.param == "warm":
        assert_whole(cache.get(MODEL), hub, "model.safetensors")
    data = bytes_of(hub, "model.safetensors")
    return lambda wanted, **more: (cache.get(MODEL, Range=wanted, **more), data)


def assert_part(answer, data, first, last):
    assert answer.status == 206, answer
    assert answer["Content-Range"] == f"bytes {first}-{last}/{len(data)}"
    assert answer["Content-Length"] == str(last - first + 1)
    assert answer.body == data[first:last + 1]


def test_B01_one_byte(hub, model):
    answer, data = model("bytes=0-0")
    assert_part(answer, data, 0, 0)
    assert_file_head(answer, hub, "model.safetensors", status=206)


def test_B01_one_byte_of_a_huge_cold_file_moves_little(hub, cache):
    url, file = add_large(hub, 256 * MIB, seed=5)
    hub.rate("cdn", 20 * MIB)
    began = time.monotonic()
    answer = cache.get(url, Range="bytes=0-0")
    assert answer.status == 206 and answer["Content-Range"] == f"bytes 0-0/{file.size}" and answer.body == file.source.read(0, 1)
    assert time.monotonic() - began < 5 * SLOW, "all of it takes 13 s"
    time.sleep(1)
    assert hub.body_bytes("cdn") <= 2 * MIB, "it fetched far more than was asked for"
    tail = cache.get(url, Range=f"bytes={200 * MIB}-{200 * MIB + 99}")
    assert tail.body == file.source.read(200 * MIB, 100)
    time.sleep(0.5)
    assert hub.body_bytes("cdn") <= 4 * MIB


def test_B02_one_past_the_end(model):
    answer, data = model(f"bytes=1000-{MODEL_BYTES}")
    assert_part(answer, data, 1000, MODEL_BYTES - 1)


def test_B03_far_past_the_end_of_a_small_file(hub, cache):
    data = bytes_of(hub, "config.json")
    for _ in range(2):
        assert_part(cache.get(CONFIG, Range="bytes=0-100000"), data, 0, len(data) - 1)


def test_B04_suffixes(hub, cache, model):
    answer, data = model("bytes=-262144")
    assert_part(answer, data, MODEL_BYTES - 262144, MODEL_BYTES - 1)
    answer, data = model(f"bytes=-{MODEL_BYTES + 5}")
    assert_part(answer, data, 0, MODEL_BYTES - 1)
    small = bytes_of(hub, "config.json")
    assert_part(cache.get(CONFIG, Range="bytes=-1"), small, len(small) - 1, len(small) - 1)


def test_B05_beyond_the_end(model):
    for wanted in (f"bytes={MODEL_BYTES}-", f"bytes={MODEL_BYTES + 7}-{MODEL_BYTES + 9}", "bytes=-0", "bytes=99999999999999999-"):
        answer, _ = model(wanted)
        assert answer.status == 416 and answer["Content-Range"] == f"bytes */{MODEL_BYTES}", answer
        assert answer["X-Error-Code"] is None


@pytest.mark.parametrize("wanted", ["bytes=abc", "bytes=5-2", "chapters=1-2", "bytes", "bytes=", "bytes=-", "bytes=1-2-3", "bytes=0x1-0x2",
                                    "bytes=+1-2", "bytes=1.5-2", "bytes=18446744073709551616-18446744073709551617", "=0-1"])
def test_B06_what_is_no_range_is_ignored(hub, cache, wanted):
    answer = cache.get(CONFIG, Range=wanted)
    if answer.status == 416:   # a number beyond all sizes may also be taken for a range beyond the end
        assert "18446744073709551616" in wanted
    else:
        assert_whole(answer, hub, "config.json")


def test_B07_several_ranges(hub, cache, model):
    for wanted in ("bytes=0-1,5-6", "bytes=5-6, 0-1", "bytes=0-0,-1", "bytes=" + ",".join(f"{i}-{i + 9}" for i in range(1000))):
        answer, data = model(wanted)
        if answer.status == 200:
            assert answer["Content-Range"] is None and answer.body == data
            continue
        assert answer.status == 206 and answer["Content-Type"].startswith("multipart/byteranges; boundary="), answer
        boundary = answer["Content-Type"].split("boundary=")[1].strip('"').encode()
        parts = answer.body.split(b"--" + boundary)[1:-1]
        assert len(parts) == wanted.count(",") + 1
        for part in parts:
            head, _, body = part.partition(b"\r\n\r\n")
            span = head.lower().split(b"content-range: bytes ")[1].split(b"/")[0].split(b"-")
            assert body.removesuffix(b"\r\n") == data[int(span[0]):int(span[1]) + 1]


@pytest.mark.parametrize("path", ["model.safetensors", "config.json"])
def test_B10_if_range(hub, cache, path):
    url, etag, data = f"/acme/pub/resolve/main/{path}", f'"{file_of(hub, path).etag}"', bytes_of(hub, path)
    assert_part(cache.get(url, Range="bytes=1-5", If_Range=etag), data, 1, 5)
    for other in ('"other"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT", '"unterminated'):
        assert_whole(cache.get(url, Range="bytes=1-5", If_Range=other), hub, path)


def test_B11_lengths_are_always_told(hub, cache):
    for round_ in range(2):
        for path in ("README.md", "config.json", "model.safetensors", "sub/dir/two.json"):
            answer = cache.get(f"/acme/pub/resolve/main/{path}", Accept_Encoding="gzip, br", TE="trailers")
            assert_whole(answer, hub, path)
            assert answer["Transfer-Encoding"] is None and answer["Content-Length"] is not None, round_


def test_B12_no_content_range_on_200(hub, cache):
    for url in (MODEL, CONFIG, MODEL):
        assert cache.get(url)["Content-Range"] is None


def test_B21_http_1_0(hub, cache):
    data = bytes_of(hub, "config.json")
    for _ in range(2):
        with cache.connect() as conn:
            conn.request("GET", CONFIG, version="HTTP/1.0")
            answer = conn.read()
            assert answer.status == 200 and answer.body == data and answer["Transfer-Encoding"] is None
            assert conn.rest() == (b"", "fin")


def test_B21_connection_close(hub, cache):
    with cache.connect() as conn:
        conn.request("GET", CONFIG, fields(Connection="close"))
        assert conn.read().body == bytes_of(hub, "config.json")
        assert conn.rest() == (b"", "fin")


def test_B21_pipelined_head_then_get(hub, cache):
    with cache.connect() as conn:
        for method, url in (("HEAD", CONFIG), ("GET", CONFIG), ("HEAD", MODEL), ("GET", MODEL), ("GET", "/acme/pub/resolve/main/none")):
            conn.request(method, url)
        assert_file_head(conn.read(), hub, "config.json")
        assert_whole(conn.read(), hub, "config.json")
        assert_file_head(conn.read(), hub, "model.safetensors")
        assert_whole(conn.read(), hub, "model.safetensors")
        assert conn.read().status == 404
        assert_whole(conn.ask("GET", CONFIG), hub, "config.json")


def test_B21_one_connection_carries_many_requests(hub, cache):
    with cache.connect() as conn:
        for i in range(50):
            part = conn.ask("GET", MODEL, fields(Range=f"bytes={i * 1000}-{i * 1000 + 999}"))
            assert part.body == file_of(hub, "model.safetensors").source.read(i * 1000, 1000)
    # between two requests nobody reads: a fill that a range of a small file began goes on by itself
    assert len(hub.calls("cdn")) == 1


@pytest.mark.parametrize("seed", range(4))
def test_P1_any_part_of_any_file(hub, cache, seed):
    """Random ranges of random files, cold, filling and warm, on one connection: always the true bytes of that commit and path."""
    dice = random.Random(seed)
    url, _ = add_large(hub, 24 * MIB, seed=27)
    hub.rate("cdn", 64 * MIB)
    places = [(url, "weights.bin", "acme/large"), (MODEL, "model.safetensors", "acme/pub"),
              ("/acme/pub/resolve/main/README.md", "README.md", "acme/pub"), (CONFIG, "config.json", "acme/pub")]
    with cache.connect() as conn:
        for _ in range(60):
            target, path, repo = dice.choice(places)
            file = file_of(hub, path, repo)
            first = dice.choice([0, file.size - 1, dice.randrange(file.size)])
            last = min(file.size - 1, first + dice.choice([0, 1, 999, 65_536, 1_000_000]))
            wanted = dice.choice([f"bytes={first}-{last}", f"bytes={first}-{last}", f"bytes={max(first, file.size - 100_000)}-"])
            answer = conn.ask("GET", target, fields(Range=wanted))
            span = answer["Content-Range"].removeprefix("bytes ").split("/")[0].split("-")
            assert answer.status == 206 and int(span[0]) == int(wanted[6:].split("-")[0]), answer
            assert answer.body == file.source.read(int(span[0]), int(span[1]) - int(span[0]) + 1), f"seed {seed}: {target} {wanted}"
            assert answer["ETag"] == f'"{file.etag}"'
