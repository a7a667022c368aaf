# SPDX-License-Identifier: Apache-2.0
"""Requests and replies as values, and reading a request from a connection."""
import json
import re
from urllib.parse import parse_qsl, unquote

from .body import BadRequest, take_body

MAX_HEAD = 256 * 1024
REASONS = {200: "OK", 201: "Created", 204: "No Content", 206: "Partial Content", 301: "Moved Permanently", 302: "Found", 303: "See Other",
           304: "Not Modified", 307: "Temporary Redirect", 308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized",
           403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout", 409: "Conflict", 410: "Gone",
           412: "Precondition Failed", 413: "Payload Too Large", 415: "Unsupported Media Type", 416: "Range Not Satisfiable",
           421: "Misdirected Request", 422: "Unprocessable Entity", 429: "Too Many Requests",
           451: "Unavailable For Legal Reasons", 500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
           503: "Service Unavailable", 504: "Gateway Timeout"}


class Request:
    """One request. `segments` are split on the raw path first and decoded afterwards, so %2F inside a segment is data.

    The body stays on the connection until load() or the first use of `body`, `content` or json()."""

    def __init__(self, origin, conn_id, method, target, headers):
        self.origin = origin
        self.conn_id = conn_id
        self.method = method
        self.target = target
        self.headers = headers
        self.loader = None     # what load() calls, once
        self.content = None    # the Body
        self.path, _, self.query = target.partition("?")
        if self.path.startswith("http://"):
            self.path = "/" + self.path[7:].partition("/")[2]
        self.raw_segments = self.path.split("/")[1:]
        self.segments = [unquote(s, errors="surrogateescape") for s in self.raw_segments]
        self.params = parse_qsl(self.query, keep_blank_values=True)
        self.actions = {}

    def get(self, name):
        name = name.lower()
        return next((v for k, v in self.headers if k.lower() == name), None)

    def param(self, name, default=None):
        return next((v for k, v in self.params if k == name), default)

    def all_params(self, name):
        return [v for k, v in self.params if k in (name, name + "[]")]

    def flag(self, name):
        return (self.param(name) or "").lower() in ("1", "true")

    def load(self):
        if self.content is None:
            self.content = self.loader()
        return self.content

    @property
    def body(self):
        """All bytes of the body; for one that may be large use load().open() or .view()."""
        return self.load().bytes()

    def json(self):
        return json.loads(self.body or b"{}")


class Reply:
    """One answer. The body is bytes, or a source (blobs.py) of which `length` bytes from `offset` are sent."""

    def __init__(self, status, headers=(), body=b"", reason=None):
        self.status = status
        self.reason = reason or REASONS.get(status, "Unknown")
        self.headers = list(headers.items() if isinstance(headers, dict) else headers)
        self.body = body
        self.offset = 0
        self.length = len(body) if isinstance(body, (bytes, bytearray)) else body.size
        self.close = False
        self.framing = None    # None: Content-Length; "chunked": chunks
        self.stream = None     # instead of the body: an iterator of bytes and of pauses (numbers), sent as it yields

    def get(self, name):
        return next((v for k, v in self.headers if k.lower() == name.lower()), None)

    def set(self, name, value):
        """Replaces the header in its place, or adds it; None removes it."""
        low, done, out = name.lower(), False, []
        for k, v in self.headers:
            if k.lower() != low:
                out.append((k, v))
            elif not done and value is not None:
                out.append((k, value))
                done = True
        if not done and value is not None:
            out.append((name, value))
        self.headers = out

    def read(self, offset, n):
        """n bytes of the part that is sent, from `offset` in that part."""
        n = min(n, self.length - offset)
        if isinstance(self.body, (bytes, bytearray)):
            return self.body[self.offset + offset:self.offset + offset + n]
        return self.body.read(self.offset + offset, n)

    def whole(self):
        return self.read(0, self.length)


def read_head(conn, origin, conn_id, buffer):
    """Reads the head of one request; (request, rest of the buffer), or (None, b"") at the end of the connection."""
    while b"\r\n\r\n" not in buffer:
        if len(buffer) > MAX_HEAD:
            raise BadRequest("head too large")
        more = conn.recv(65536)
        if not more:
            return None, b""
        buffer = (buffer + more).lstrip(b"\r\n") if not buffer else buffer + more
    head, _, rest = buffer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, version = first.split(" ")
        headers = [(k.strip(), v.strip()) for k, v in (line.split(":", 1) for line in lines)]
        request = Request(origin, conn_id, method, target, headers)
        int(request.get("Content-Length") or 0)
    except ValueError:
        raise BadRequest("bad head") from None
    request.version = version
    return request, rest


class Conversation:
    """The bytes of a connection that were read ahead; gives requests their bodies."""

    def __init__(self, conn, origin, number):
        self.conn, self.origin, self.number, self.buffer = conn, origin, number, b""

    def next(self):
        request, self.buffer = read_head(self.conn, self.origin, self.number, self.buffer)
        return request

    def promise(self, request, call):
        """Lets the body be read when it is first asked for."""
        def load():
            body, self.buffer = take_body(self.conn, self.buffer, request, request.actions, call)
            return body
        request.loader = load


def parse_range(value, size):
    """What a Range header asks of a body of this size: None (the whole), "unsatisfiable", or (first, last)."""
    found = re.fullmatch(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", value or "")
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        n = int(last)
        if n == 0 or size == 0:
            return "unsatisfiable"
        return max(0, size - n), size - 1
    first = int(first)
    if last and int(last) < first:
        return None
    if first >= size:
        return "unsatisfiable"
    return first, min(int(last), size - 1) if last else size - 1


def with_range(request, reply, etag=None):
    """Turns a whole 200 answer into the 206 or 416 that the request's Range asks for."""
    wanted = parse_range(request.get("Range"), reply.length)
    condition = request.get("If-Range")
    if reply.status != 200 or wanted is None or (condition and condition != etag):
        return reply
    total = reply.length
    if wanted == "unsatisfiable":
        out = Reply(416, [(k, v) for k, v in reply.headers if k.lower() not in ("content-length", "content-type")])
        out.set("Content-Range", f"bytes */{total}")
        return out
    first, last = wanted
    reply.status, reply.reason = 206, "Partial Content"
    reply.offset, reply.length = first, last - first + 1
    reply.set("Content-Length", str(reply.length))
    reply.set("Content-Range", f"bytes {first}-{last}/{total}")
    return reply
