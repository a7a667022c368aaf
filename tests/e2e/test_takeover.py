# SPDX-License-Identifier: Apache-2.0
"""A client whose TLS is taken off hears what every other client hears: all kinds of bodies, at a steady pace, in bounded memory."""
import os
import subprocess
import time

import pytest

from facts import CONFIG, MIB, MODEL, MODEL_BYTES, add_large, bytes_of
from harness import SLOW, soon, wait_for
from tlsroad import HUB, ROAD_OPTIONS, Road
from wire import Connection, fields

PATHS_INFO = "/api/models/acme/pub/paths-info/main"
KIB = 1024
# What a join with its session, its pair of sockets and the server's connection behind it may take (measured: 20 KiB).
JOIN_MEMORY = 100 * KIB


@pytest.fixture
def road(start):
    return Road(start(**ROAD_OPTIONS))


def cpu_seconds(daemon):
    words = open(f"/proc/{daemon.process.pid}/stat").read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def test_bodies_of_every_kind_on_one_connection(road, hub):
    whole, size = bytes_of(hub, "model.safetensors"), MODEL_BYTES
    with road.connect() as conn:
        def ask(method, target, body=None, **named):
            conn.request(method, target, fields(None, (), **named), body, host=HUB)
            return conn.read()
        first = ask("GET", MODEL)
        assert first.status == 200 and first.body == whole
        head = ask("HEAD", MODEL)
        assert head.status == 200 and head["Content-Length"] == str(size) and head["ETag"] == first["ETag"]
        for value, begin, end in (("bytes=0-0", 0, 1), ("bytes=1000000-2999999", 1000000, 3000000), ("bytes=-70000", size - 70000, size)):
            part = ask("GET", MODEL, Range=value)
            assert part.status == 206 and part.body == whole[begin:end]
            assert part["Content-Range"] == f"bytes {begin}-{end - 1}/{size}"
        assert ask("GET", MODEL, Range=f"bytes={size}-").status == 416
        assert ask("GET", MODEL, If_None_Match=first["ETag"]).status == 304
        assert ask("GET", CONFIG).body == bytes_of(hub, "config.json")
        assert ask("GET", "/acme/pub/resolve/main/none").status == 404
        listed = ask("POST", PATHS_INFO, b'{"paths": ["config.json"]}', Content_Type="application/json")
        assert listed.status == 200 and listed.json()[0]["path"] == "config.json"


def test_a_body_waits_for_its_word(road):
    body = b'{"paths": ["config.json"]}'
    with road.connect() as conn:
        conn.request("POST", PATHS_INFO, fields(None, (), Expect="100-continue", Content_Type="application/json",
                                                Content_Length=str(len(body))), host=HUB)
        assert conn.socket.recv(len(b"HTTP/1.1 100 Continue\r\n\r\n")) == b"HTTP/1.1 100 Continue\r\n\r\n"
        conn.send(body)
        assert conn.read().status == 200


def test_a_slow_reader_holds_nobody_up_and_takes_no_room(road, hub):
    target, _ = add_large(hub, 32 * MIB)
    road.daemon.get(target)
    before = road.daemon.rss()
    with road.connect(receive_buffer=16 * KIB) as slow:
        slow.request("GET", target, fields(), host=HUB)
        assert slow.head().status == 200
        began = time.monotonic()
        for _ in range(20):
            assert road.get(CONFIG).body == bytes_of(hub, "config.json")
        assert time.monotonic() - began < 60 * SLOW
        assert SLOW > 1 or road.daemon.rss() - before < 12 * MIB   # a sanitizer keeps what is freed


def test_a_client_that_leaves_in_the_middle_leaves_nothing(road, hub):
    target, _ = add_large(hub, 16 * MIB)
    road.daemon.get(target)
    fds = road.daemon.fds()
    for _ in range(5):
        conn = road.connect(receive_buffer=16 * KIB)
        conn.request("GET", target, fields(), host=HUB)
        assert conn.head().status == 200
        conn.reset()
    wait_for(lambda: road.daemon.fds() <= fds, why="descriptors")


def test_a_connect_behind_an_unanswered_request_is_refused(road):
    with Connection(("127.0.0.1", road.daemon.port)) as conn:
        conn.send(f"GET /-/healthz HTTP/1.1\r\nHost: {conn.host}\r\n\r\nCONNECT {HUB}:443 HTTP/1.1\r\n\r\n".encode())
        conn.methods += ["GET"]
        assert conn.read().status == 200
        assert not conn._more() and conn.ended == "fin"


@pytest.mark.slow
def test_many_idle_clients_take_little_room(road):
    count, context = int(os.environ.get("TAKEOVER_CLIENTS", "200")), road.context()
    first = [road.connect(context=context) for _ in range(20)]
    before = road.daemon.rss()
    more = [road.connect(context=context) for _ in range(count)]
    each = (road.daemon.rss() - before) / count
    print(f"a join and its connection: {each / KIB:.0f} KiB")
    assert SLOW > 1 or each < JOIN_MEMORY
    for conn in first + more:
        conn.close()


@pytest.mark.slow
def test_a_large_hit_goes_through_at_a_good_pace(road, hub, tmp_path):
    size = int(os.environ.get("TAKEOVER_MIB", "256")) * MIB
    target, _ = add_large(hub, size)
    road.daemon.ask("GET", target, keep=False, timeout=600)
    (tmp_path / "ca.pem").write_text(road.pem)
    soon(1 / 20, lambda: 1 / pace_of_tls(road, target, size, tmp_path))


def pace_of_tls(road, target, size, tmp_path):
    """In MiB/s."""
    took = {}
    for name, words in (("clear", [f"http://127.0.0.1:{road.daemon.port}{target}"]),
                        ("tls", ["--proxy", f"http://127.0.0.1:{road.daemon.port}", "--cacert", str(tmp_path / "ca.pem"),
                                 f"https://{HUB}{target}"])):
        cpu, began = cpu_seconds(road.daemon), time.monotonic()
        done = subprocess.run(["curl", "-sS", "--max-time", "300", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", *words],
                              capture_output=True, text=True)
        assert done.stdout == f"200 {size}", done.stderr
        seconds = time.monotonic() - began
        took[name] = (size / MIB / seconds, cpu_seconds(road.daemon) - cpu)
    print({name: f"{rate:.0f} MiB/s, {cpu:.2f} s of CPU" for name, (rate, cpu) in took.items()})
    return took["tls"][0]
