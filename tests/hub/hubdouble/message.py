"""Requests and replies as values, and reading a request from a connection."""
import json
import re
from urllib.parse import parse_qsl, unquote

MAX_HEAD = 256 * 1024
REASONS = {200: "OK", 201: "Created", 204: "No Content", 206: "Partial Content", 301: "Moved Permanently", 302: "Found", 303: "See Other",
           304: "Not Modified", 307: "Temporary Redirect", 308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized",
           403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout", 409: "Conflict", 410: "Gone",
           413: "Payload Too Large", 416: "Range Not Satisfiable", 421: "Misdirected Request", 429: "Too Many Requests",
           451: "Unavailable For Legal Reasons", 500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
           503: "Service Unavailable", 504: "Gateway Timeout"}


class BadRequest(Exception):
    pass


class Request:
    """One request. `segments` are split on the raw path first and decoded afterwards, so %2F inside a segment is data."""

    def __init__(self, origin, conn_id, method, target, headers, body):
        self.origin = origin
        self.conn_id = conn_id
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
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


def read_request(conn, origin, conn_id, buffer):
    """Reads one request from a socket; (request, rest of the buffer), or (None, b"") at the end of the connection."""
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
    except ValueError:
        raise BadRequest("bad head") from None
    request = Request(origin, conn_id, method, target, headers, b"")
    request.version = version
    if (request.get("Expect") or "").lower() == "100-continue":
        conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in (request.get("Transfer-Encoding") or "").lower():
        request.body, rest = _read_chunks(conn, rest)
    elif length := int(request.get("Content-Length") or 0):
        request.body, rest = _read_exact(conn, rest, length)
    return request, rest


def _read_exact(conn, buffer, n):
    parts, have = [buffer], len(buffer)
    while have < n:
        more = conn.recv(min(1 << 20, n - have))
        if not more:
            raise BadRequest("body cut short")
        parts.append(more)
        have += len(more)
    buffer = b"".join(parts)
    return buffer[:n], buffer[n:]


def _read_line(conn, buffer):
    while b"\r\n" not in buffer:
        more = conn.recv(65536)
        if not more:
            raise BadRequest("body cut short")
        buffer += more
    line, _, rest = buffer.partition(b"\r\n")
    return line, rest


def _read_chunks(conn, buffer):
    body = bytearray()
    while True:
        line, buffer = _read_line(conn, buffer)
        size = int(line.split(b";")[0], 16)
        if size == 0:
            while line:
                line, buffer = _read_line(conn, buffer)
            return bytes(body), buffer
        data, buffer = _read_exact(conn, buffer, size + 2)
        body += data[:-2]


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
