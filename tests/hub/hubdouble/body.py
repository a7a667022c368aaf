# SPDX-License-Identifier: Apache-2.0
"""Request bodies: taken off the connection piece by piece, small ones into memory, large ones into an unnamed file.

Owns      the framings (Content-Length, chunks), the interim 100 Continue, and what the record says of a body: how many bytes have
          come, their SHA-256, and the first of them.
Never     holds more of a body in memory than SMALL, however large the body and however long its chunks.
Threads   the thread of the connection.
"""
import gzip
import hashlib
import io
import mmap
import os
import tempfile
import time
import zlib

from .faults import Bucket

SMALL = 1 << 20         # more than this goes to disk
SHOWN = 64 << 10        # of smaller bodies the record keeps all bytes
PIECE = 256 << 10


class BadRequest(Exception):
    pass


class Body:
    """The bytes of one request."""

    def __init__(self):
        self.size = 0
        self.digest = hashlib.sha256()
        self.memory = bytearray()
        self.file = None

    def add(self, piece):
        self.size += len(piece)
        self.digest.update(piece)
        if self.file is None and self.size > SMALL:
            self.file = tempfile.TemporaryFile(prefix="hubdouble-body-")
            self.file.write(self.memory)
            self.memory = bytearray()
        if self.file:
            self.file.write(piece)
        else:
            self.memory += piece

    def bytes(self):
        """All of it, in memory."""
        if self.file is None:
            return bytes(self.memory)
        self.file.seek(0)
        return self.file.read()

    def view(self):
        """Something with find() and slices that costs no memory: the bytes, or a map of the file."""
        if self.file is None:
            return bytes(self.memory)
        self.file.flush()
        return mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)

    def open(self):
        """A readable file at its start."""
        if self.file is None:
            return io.BytesIO(self.memory)
        self.file.flush()
        return os.fdopen(os.open(f"/proc/self/fd/{self.file.fileno()}", os.O_RDONLY), "rb")

    def save(self, path):
        """Writes it to a file whose name appears when the file is whole."""
        fd, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
        with os.fdopen(fd, "wb") as out, self.open() as source:
            while piece := source.read(PIECE):
                out.write(piece)
        os.replace(temporary, path)

    def close(self):
        if self.file:
            self.file.close()


class Feed:
    """A connection with what was read of it ahead of time; slows down, stops and cuts as the rules say."""

    def __init__(self, conn, buffer, actions):
        self.conn, self.buffer = conn, buffer
        self.bucket = Bucket(actions["read_rate"]) if actions.get("read_rate") else None
        self.cut = actions.get("read_cut_after")
        self.reset = bool(actions.get("read_reset"))
        self.taken = 0

    def _more(self, most):
        more = self.conn.recv(min(PIECE, most) if self.bucket is None else min(PIECE, most, self.bucket.portion()))
        if not more:
            raise BadRequest("body cut short")
        return more

    def some(self, most):
        """At least one and at most `most` bytes of the body."""
        from .outlet import Cut
        if self.cut is not None and self.taken >= self.cut:
            raise Cut(self.reset)
        if self.cut is not None:
            most = min(most, self.cut - self.taken)
        data = self.buffer or self._more(most)
        piece, self.buffer = data[:most], data[most:]
        self.taken += len(piece)
        if self.bucket:
            time.sleep(self.bucket.draw(len(piece)))
        return piece

    def line(self):
        while b"\r\n" not in self.buffer:
            if len(self.buffer) > PIECE:
                raise BadRequest("chunk head too long")
            self.buffer += self._more(PIECE)
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line


def framing_of(request):
    """"chunked", "length" or None (there is no body)."""
    if "chunked" in (request.get("Transfer-Encoding") or "").lower():
        return "chunked"
    return "length" if int(request.get("Content-Length") or 0) else None


def take_body(conn, buffer, request, actions, call):
    """Reads the body of a request from its connection, noting in the record what has come; (body, rest of the buffer)."""
    body, feed, framing = Body(), Feed(conn, buffer, actions), framing_of(request)
    call["body_framing"] = framing

    def take(size):
        while size:
            piece = feed.some(size)
            body.add(piece)
            call["received"] = body.size
            size -= len(piece)

    if framing and actions.get("delay_read"):
        time.sleep(actions["delay_read"])
    if (request.get("Expect") or "").lower() == "100-continue":
        conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        call["continued"] = True
    if framing == "length":
        take(int(request.get("Content-Length")))
    elif framing == "chunked":
        while size := int(feed.line().split(b";")[0], 16):
            take(size)
            if feed.line():
                raise BadRequest("bad chunk")
        while feed.line():
            pass
    call["t_body"] = time.monotonic()
    if framing:
        call["body_sha256"] = body.digest.hexdigest()
        call["body"] = bytes(body.memory) if body.size <= SHOWN and body.file is None else None
    return body, feed.buffer


def decoded(request):
    """The bytes of a body as they were before Content-Encoding."""
    encoding = (request.get("Content-Encoding") or "identity").lower()
    if encoding in ("gzip", "x-gzip"):
        return gzip.decompress(request.body)
    if encoding == "deflate":
        return zlib.decompress(request.body)
    return request.body
