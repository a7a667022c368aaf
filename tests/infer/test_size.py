# SPDX-License-Identifier: Apache-2.0
"""A gigabyte up and a gigabyte down: in constant memory, every byte, and nothing of it is kept."""
import hashlib
import socket
import threading

import pytest
from harness import SLOW
from wire import Connection

GIGABYTE, PIECE = 1 << 30, 1 << 20
PATH = "/hf-inference/models/openai/whisper-large-v3"
MEMORY_MAX = 32 << 20    # of the daemon at its highest, over what it had before


class Service:
    """Takes one call after the other, of any length, and keeps only its digest. Answers `size` bytes of pattern()."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.bodies, self.size = [], 15
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        with conn, conn.makefile("rb") as file:
            head = {}
            if not file.readline():
                return
            while (line := file.readline().strip()):
                name, _, value = line.decode().partition(":")
                head[name.lower()] = value.strip()
            digest, size = hashlib.sha256(), 0
            for piece in self.pieces(file, head):
                digest.update(piece)
                size += len(piece)
            if size:
                self.bodies.append((size, digest.hexdigest()))
            text = b'{"text":"long"}' if self.size == 15 else b""
            conn.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {self.size}\r\n\r\n".encode() + text)
            if not text:
                for piece in pattern(self.size):
                    conn.sendall(piece)

    @staticmethod
    def pieces(file, head):
        left = int(head.get("content-length", 0))
        while left:
            piece = file.read(min(left, PIECE))
            assert piece
            left -= len(piece)
            yield piece
        while head.get("transfer-encoding") == "chunked" and (size := int(file.readline().strip(), 16)):
            yield file.read(size)
            file.readline()

    def close(self):
        self.listener.close()


def pattern(size):
    for at in range(0, size, PIECE):
        yield (at.to_bytes(8, "big") * (PIECE // 8))[:size - at]


def digest_of(size):
    digest = hashlib.sha256()
    for piece in pattern(size):
        digest.update(piece)
    return digest.hexdigest()


def highest(cache):
    """Resident bytes at their highest, of the process's own memory: what is mapped from files is the page cache's."""
    with open(f"/proc/{cache.process.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


@pytest.fixture
def service():
    one = Service()
    yield one
    one.close()


@pytest.mark.slow
@pytest.mark.seconds(120)
@pytest.mark.parametrize("is_chunked", [False, True], ids=["its length told", "in chunks"])
def test_I17_a_gigabyte_goes_up(start, service, is_chunked):
    cache = start(inference_url=service.url)
    before, used = highest(cache), cache.metric("hfcache_storage_used_bytes")
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {GIGABYTE}"
    with Connection(("127.0.0.1", cache.port), timeout=100 * SLOW) as conn:
        conn.send(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: audio/flac\r\n{framing}\r\n\r\n".encode())
        for piece in pattern(GIGABYTE):
            conn.send(b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece)
        if is_chunked:
            conn.send(b"0\r\n\r\n")
        answer = conn.read()
    assert answer.status == 200 and answer.json() == {"text": "long"}, answer
    assert service.bodies == [(GIGABYTE, digest_of(GIGABYTE))]
    assert cache.metric("hfcache_storage_used_bytes") == used
    if SLOW == 1:
        assert highest(cache) - before < MEMORY_MAX


@pytest.mark.slow
@pytest.mark.seconds(120)
def test_I44_a_gigabyte_comes_down(start, service):
    """An answer is held in memory for as long as it may be one that is kept."""
    cache = start(inference_url=service.url, inference_max_answer="8M")
    service.size = GIGABYTE
    before, used = highest(cache), cache.metric("hfcache_storage_used_bytes")
    body = b'{"inputs":"x"}'
    digest, size = hashlib.sha256(), 0
    with Connection(("127.0.0.1", cache.port), timeout=100 * SLOW) as conn:
        conn.send(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        head = conn.head()
        assert head.status == 200 and head["Content-Length"] == str(GIGABYTE)
        while size < GIGABYTE:
            piece, conn.buffer = conn.buffer, b""
            digest.update(piece)
            size += len(piece)
            if size < GIGABYTE and not conn.buffer:
                assert conn._more(), f"it ended after {size} bytes"
    assert (size, digest.hexdigest()) == (GIGABYTE, digest_of(GIGABYTE))
    assert cache.metric("hfcache_storage_used_bytes") == used
    if SLOW == 1:
        assert highest(cache) - before < MEMORY_MAX
