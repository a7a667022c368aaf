# SPDX-License-Identifier: Apache-2.0
"""Sockets: one thread per connection, HTTP/1.1 with keep-alive, and every fault down to the single byte.

An Origin is one listening port with a handler (request -> reply). The rules that match a request change its reply (spoil.py) and the
way it is sent (outlet.py). Origins can be killed (connection refused), revived on the same port, or turned into a black hole.
"""
import itertools
import socket
import ssl
import threading
import time
import traceback

from .body import BadRequest
from .faults import Bucket
from .message import Conversation, Reply
from .outlet import Cut, Outlet, abandon, finish, hang_up
from .spoil import scripted, spoil

PIECE = 256 * 1024


def head_bytes(reply):
    out = [f"HTTP/1.1 {reply.status} {reply.reason}\r\n".encode("latin-1")]
    for name, value in reply.headers:
        name, value = (x if isinstance(x, bytes) else str(x).encode("utf-8", "surrogateescape") for x in (name, value))
        out.append(name + b": " + value + b"\r\n")
    return b"".join(out) + b"\r\n"


def _bound(port):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


class Origin:
    def __init__(self, name, handler, ledger, rules, tls=None, idle=75):
        self.name, self.handler, self.ledger, self.rules, self.idle = name, handler, ledger, rules, idle
        self.tls = tls                  # (certificate file, key file), or None
        self.bucket = None              # speed limit over all connections
        self.per_connection = None      # bytes/s of each connection
        self.gate = threading.Event()   # closed in a black hole
        self.gate.set()
        self.dead = False               # killed
        self.deaf = False               # not even listening, though not killed
        self.conns = {}
        self.lock = threading.Lock()
        self.numbers = itertools.count(1)
        self.listener = self.fillers = None

    def open(self, port=0):
        first = _bound(port)
        self.port = first.getsockname()[1]
        self.listener = _bound(self.port)    # bound by number: only such a socket keeps its port through kill()
        first.close()
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"
        self._listen()

    def _listen(self):
        self.dead = self.deaf = False
        self.listener.listen(512)
        self.acceptor = threading.Thread(target=self._accept, args=(self.listener,), daemon=True)
        self.acceptor.start()

    def _accept(self, listener):
        while not (self.dead or self.deaf):
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                if self.dead:
                    conn.close()
                    return
                number = next(self.numbers)
                self.conns[number] = conn
            threading.Thread(target=self._serve, args=(conn, number), daemon=True).start()

    def kill(self, reset=False):
        """Refuses connections from now on and ends those there are. The port stays ours: a bound socket that does not listen."""
        self._drain_fillers()
        self._stop_listening()
        self.dead = True
        self.gate.set()
        with self.lock:
            for conn in self.conns.values():
                abandon(conn, reset)

    def _stop_listening(self):
        if not (self.dead or self.deaf):
            self.deaf = True
            self.listener.shutdown(socket.SHUT_RDWR)
            self.acceptor.join(2)

    def revive(self):
        """Undoes kill and blackhole; transfers that a black hole held up go on."""
        self._drain_fillers()
        if self.dead or self.deaf:
            self._listen()
        self.gate.set()

    def blackhole(self, mode="silent"):
        """silent: connections are taken and requests read, nothing is answered. drop: not even the handshake is answered."""
        self.gate.clear()
        if mode == "drop":
            self._drain_fillers()
            self._stop_listening()
            self.listener.listen(0)
            self.fillers = []
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", self.port))
                self.fillers.append(filler)

    def _drain_fillers(self):
        """Ends the state that blackhole("drop") leaves the listener in."""
        if self.fillers:
            for filler in self.fillers:
                filler.close()
            self.fillers = None
            self.listener.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.kill()
        self.listener.close()

    def _serve(self, conn, number):
        try:
            if self.tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*self.tls)
                conn.settimeout(self.idle)
                conn = context.wrap_socket(conn, server_side=True)
                self.conns[number] = conn
            self._converse(conn, number)
        except Cut as cut:
            if cut.reset:
                hang_up(conn)
            else:
                finish(conn, cut.patience)
        except (OSError, BadRequest, ValueError):
            pass
        finally:
            with self.lock:
                self.conns.pop(number, None)
            conn.close()

    def _converse(self, conn, number):
        own = [Bucket(self.per_connection)] if self.per_connection else []
        talk = Conversation(conn, self.name, number)
        while True:
            conn.settimeout(self.idle)
            try:
                request = talk.next()
                if request is None:
                    return
                call = self.ledger.open(request)
                talk.promise(request, call)
                actions, buckets, call["rules"] = self.rules.judge(request)
                request.actions = actions
                if not actions.get("early"):
                    request.load()
            except Cut:
                call["t_end"] = time.monotonic()
                raise
            except BadRequest:
                conn.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            conn.settimeout(None)
            self.gate.wait()
            if self.dead:
                return
            outlet = Outlet(conn, self, own + buckets, actions, call)
            try:
                keep = self._answer(conn, request, actions, outlet, call)
            finally:
                call["t_end"] = time.monotonic()
                if request.content:
                    request.content.close()
            if not keep:
                finish(conn)
                return

    def _answer(self, conn, request, a, outlet, call):
        if a.get("close"):
            raise Cut(reset=a["close"] == "reset")
        if a.get("ignore_range"):
            request.headers = [(k, v) for k, v in request.headers if k.lower() not in ("range", "if-range")]
        reply = self._reply(request, a, call)
        if reply.get("Content-Length") is None and reply.status not in (204, 304) and reply.framing is None:
            reply.headers.append(("Content-Length", str(reply.length)))
        if reply.framing == "chunked":
            reply.set("Content-Length", None)
            reply.set("Transfer-Encoding", "chunked")
        spoil(reply, a)
        keep = not reply.close and (request.get("Connection") or "").lower() != "close" and request.version == "HTTP/1.1"
        keep = keep and request.content is not None and not a.get("raw") and not a.get("trailing")
        keep = keep and a.get("chunked") not in ("broken", "unterminated", "with-length")
        if reply.get("Connection") is None:
            reply.headers.append(("Connection", "keep-alive" if keep else "close"))
        call["status"] = reply.status
        if a.get("delay_first_byte"):
            outlet.stall(a["delay_first_byte"])
        has_body = request.method != "HEAD" and reply.status not in (204, 304)
        if a.get("from_head") or a.get("raw"):
            outlet.arm(reply.length)
        if a.get("raw"):
            outlet.write(a["raw"])
        else:
            outlet.write(head_bytes(reply))
            if not a.get("from_head"):
                outlet.arm(reply.length if has_body else 0)
            outlet.in_body = True
            if a.get("delay_body"):
                outlet.stall(a["delay_body"])
            if has_body:
                self._send_body(reply, outlet, a)
            else:
                outlet.room()
            if a.get("trailing"):
                outlet.write(a["trailing"], counted=False)
        call["complete"] = True
        return keep

    def _reply(self, request, a, call):
        reply = scripted(request, a)
        if reply:
            return reply
        try:
            return self.handler(request, call)
        except Exception:
            traceback.print_exc()
            return Reply(500, [("Content-Type", "text/plain")], traceback.format_exc().encode())

    def _send_body(self, reply, outlet, a):
        if reply.stream is not None:
            self._send_stream(reply, outlet)
        elif reply.framing == "chunked":
            for at in range(0, reply.length, 65536):
                block = reply.read(at, 65536)
                size = b"zz" if a.get("chunked") == "broken" and at + 65536 >= reply.length else b"%x" % len(block)
                outlet.write(size + b"\r\n", counted=False)
                outlet.write(block)
                outlet.write(b"\r\n", counted=False)
            if a.get("chunked") != "unterminated":
                outlet.write(b"0\r\n\r\n", counted=False)
        elif isinstance(reply.body, (bytes, bytearray)):
            outlet.write(memoryview(reply.body)[reply.offset:reply.offset + reply.length])
        elif reply.body.path is None:
            outlet.write(memoryview(reply.body.data)[reply.offset:reply.offset + reply.length])
        elif self.tls:
            for at in range(0, reply.length, PIECE):
                outlet.write(reply.read(at, PIECE))
        else:
            outlet.send_file(reply.body.path, reply.offset, reply.length)

    @staticmethod
    def _send_stream(reply, outlet):
        """Pieces go out as the stream yields them; a number is a pause of so many seconds."""
        for piece in reply.stream:
            if isinstance(piece, (int, float)):
                outlet.stall(piece)
                continue
            if reply.framing == "chunked":
                outlet.write(b"%x\r\n" % len(piece), counted=False)
            outlet.write(piece)
            if reply.framing == "chunked":
                outlet.write(b"\r\n", counted=False)
        if reply.framing == "chunked":
            outlet.write(b"0\r\n\r\n", counted=False)
