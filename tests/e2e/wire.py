# SPDX-License-Identifier: Apache-2.0
"""A small HTTP client that hides nothing.

Owns      one socket a Connection: raw header lines, exact targets, partial and slow reads, how the connection ended.
Never     follows a redirect, retries, decodes a body, or takes a short body for a whole one: Answer.body raises then.
Threads   a Connection belongs to one thread.
"""
import hashlib
import json
import re
import socket
import struct
import time

TIMEOUT = 20
PIECE = 256 * 1024


class Answer:
    """One answer. `end` is "complete" when every promised byte has come, else how it broke: "fin", "rst", "timeout"."""

    def __init__(self, head=b""):
        self.raw_head = head
        self.version, self.status, self.reason, self.fields = "", 0, "", []
        self.end = "open"
        self.received = 0
        self.kept = bytearray()
        self.sha256 = None
        self.t_sent = self.t_head = self.t_first = self.t_end = None
        if head:
            first, *lines = head.decode("latin-1").split("\r\n")
            found = re.fullmatch(r"(HTTP/1\.[01]) (\d{3}) ?(.*)", first)
            assert found, f"not a status line: {first!r}"
            self.version, self.status, self.reason = found[1], int(found[2]), found[3]
            for line in lines:
                name, colon, value = line.partition(":")
                assert colon and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name), f"not a field: {line!r}"
                assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value), f"control byte in a field: {line!r}"
                self.fields.append((name, value.strip(" \t")))

    def __getitem__(self, name):
        """The value of a field; None if it is absent. A field that comes twice must be asked for with all()."""
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None

    def all(self, name):
        return [v for k, v in self.fields if k.lower() == name.lower()]

    def names(self):
        return {k.lower() for k, _ in self.fields}

    @property
    def complete(self):
        return self.end == "complete"

    @property
    def body(self):
        assert self.complete, f"body broke off ({self.end}) after {self.received} bytes: {self}"
        return bytes(self.kept)

    @property
    def partial(self):
        return bytes(self.kept)

    @property
    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        tail = bytes(self.kept[:300])
        return f"<{self.status} {self.end} {self.received} bytes; {self.fields}; {tail!r}>"


class Connection:
    def __init__(self, address, timeout=TIMEOUT, source=None, receive_buffer=None):
        self.timeout = timeout
        self.buffer = b""
        self.ended = None
        self.methods = []
        self.t_sent = None
        self.host = f"{address[0]}:{address[1]}"
        self.socket = socket.socket()
        self.socket.settimeout(timeout)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Ends the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def request(self, method, target, headers=(), body=None, version="HTTP/1.1", host=True):
        """Writes one request; the answer is fetched with read(). headers: pairs, in the order to be sent."""
        lines = [f"{method} {target} {version}"]
        if host:
            lines.append(f"Host: {self.host if host is True else host}")
        lines += [f"{k}: {v}" for k, v in headers]
        if body is not None and not any(k.lower() in ("content-length", "transfer-encoding") for k, _ in headers):
            lines.append(f"Content-Length: {len(body)}")
        self.methods.append(method)
        self.t_sent = time.monotonic()
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8") + (body or b""))

    def _more(self):
        """Reads once into the buffer; False at the end of the connection, which `ended` then tells."""
        if self.ended:
            return False
        try:
            piece = self.socket.recv(PIECE)
        except ConnectionResetError:
            self.ended = "rst"
            return False
        except TimeoutError:
            self.ended = "timeout"
            return False
        if not piece:
            self.ended = "fin"
            return False
        self.buffer += piece
        return True

    def head(self):
        """The next answer's head, interim answers left out. With no answer: status 0 and the way the connection ended."""
        while True:
            while b"\r\n\r\n" not in self.buffer:
                if not self._more():
                    answer = Answer()
                    answer.end, answer.kept = self.ended, bytearray(self.buffer)
                    return answer
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            answer = Answer(head)
            answer.t_sent, answer.t_head = self.t_sent, time.monotonic()
            if answer.status >= 200:
                return answer

    def _is_without_body(self, answer, method):
        return method == "HEAD" or answer.status in (204, 304)

    def body(self, answer, method="GET", most=None, keep=True, rate=None):
        """Reads the body, or on from where it was left; at most until `most` bytes of it have come; at up to `rate` bytes a second.

        keep=False: only counts and hashes."""
        if self._is_without_body(answer, method):
            answer.end, answer.t_end = "complete", time.monotonic()
            return answer
        if "chunked" in (answer["Transfer-Encoding"] or ""):
            return self._chunks(answer)
        length = answer["Content-Length"]
        left = int(length) - answer.received if length is not None else None
        digest = None if keep else hashlib.sha256()
        start = time.monotonic()
        while left is None or left > 0:
            if most is not None and answer.received >= most:
                return answer
            if not self.buffer and not self._more():
                break
            piece = self.buffer if left is None else self.buffer[:left]
            self.buffer = self.buffer[len(piece):]
            answer.t_first = answer.t_first or time.monotonic()
            answer.received += len(piece)
            left = None if left is None else left - len(piece)
            if keep:
                answer.kept += piece
            else:
                digest.update(piece)
            if rate:
                time.sleep(max(0, start + answer.received / rate - time.monotonic()))
        whole = left == 0 or left is None and self.ended == "fin" and answer.version == "HTTP/1.0"
        answer.end = "complete" if whole else self.ended
        answer.t_end = time.monotonic()
        answer.sha256 = digest.hexdigest() if digest else None
        return answer

    def _chunks(self, answer):
        def line():
            while b"\r\n" not in self.buffer:
                if not self._more():
                    return None
            text, _, self.buffer = self.buffer.partition(b"\r\n")
            return text
        while (size := line()) is not None:
            count = int(size.split(b";")[0], 16)
            if count == 0:
                while (trailer := line()):
                    pass
                answer.end = "complete" if trailer == b"" else self.ended
                return answer
            while len(self.buffer) < count + 2:
                if not self._more():
                    answer.end = self.ended
                    return answer
            answer.t_first = answer.t_first or time.monotonic()
            answer.kept += self.buffer[:count]
            answer.received += count
            self.buffer = self.buffer[count + 2:]
        answer.end = self.ended
        return answer

    def read(self, **how):
        """The next answer, whole. Its request's method is remembered, so pipelined ones come out in order."""
        method = self.methods.pop(0) if self.methods else "GET"
        answer = self.head()
        return self.body(answer, method, **how) if answer.status else answer

    def ask(self, method, target, headers=(), body=None, **how):
        self.request(method, target, headers, body)
        return self.read(**how)

    def rest(self, timeout=10):
        """(what else comes, how it ends: "fin", "rst" or "timeout" for: still open)."""
        self.socket.settimeout(timeout)
        while self._more():
            pass
        got, self.buffer = self.buffer, b""
        return got, self.ended


def fields(token=None, headers=(), **named):
    """Header pairs: token as Bearer, then pairs, then keyword arguments with _ for -."""
    pairs = [("Authorization", f"Bearer {token}")] if token else []
    pairs += list(headers.items() if isinstance(headers, dict) else headers)
    return pairs + [(k.replace("_", "-"), v) for k, v in named.items() if v is not None]
