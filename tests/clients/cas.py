# SPDX-License-Identifier: Apache-2.0
"""Storage of Xet that takes uploads: what the Hub's own would, so that a file that was sent there is there to be committed.

Owns      one port on 127.0.0.1.
Never     looks into a shard, nor checks a hash: a file is what all chunks of its xorbs are, one after the other. That holds for one file of
          bytes that do not repeat, which is what is sent here.
"""
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hubdouble import LFS
from hubdouble.blobs import make_file


def chunks_of(xorb):
    """The bytes of its chunks, in order; those must be stored as they are (scheme 0)."""
    at = 0
    while at < len(xorb) and xorb[at:at + 7] != b"XETBLOB":
        stored, scheme, plain = int.from_bytes(xorb[at + 1:at + 4], "little"), xorb[at + 4], int.from_bytes(xorb[at + 5:at + 8], "little")
        assert xorb[at] == 0 and scheme == 0 and stored == plain, (xorb[at], scheme, stored, plain)
        yield xorb[at + 8:at + 8 + stored]
        at += 8 + stored


class Cas:
    """calls: (method, path, Authorization, X-Forwarded-For) in order; files: bytes that were put together."""

    def __init__(self, hub):
        self.hub, self.calls, self.files, self.xorbs = hub, [], [], []
        self.lock = threading.Lock()
        cas = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def body(self):
                if self.headers.get("Transfer-Encoding", "") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def answer(self):
                status, kind, text = cas.take(self.command, self.path, self.headers, self.body())
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)
            do_GET = do_POST = do_PUT = answer
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def take(self, method, path, headers, body):
        with self.lock:
            self.calls.append((method, path, headers.get("Authorization")))
            if method == "POST" and "/v1/xorbs/" in path:
                self.xorbs.append(b"".join(chunks_of(body)))
                return 200, "application/json", b'{"was_inserted":true}'
            if "/xorb-grants/" in path:
                return 200, "application/json", b'{"url":"%s/elsewhere"}' % self.url.encode()
            if method == "POST" and path == "/v1/shards":
                self.settle()
                return 200, "application/json", b'{"result":1}'
            return 404, "application/json", b'{"error":"not found"}'

    def settle(self):
        if self.xorbs:
            self.files.append(b"".join(self.xorbs))
            self.xorbs = []
            self.hub.content.learn(make_file(LFS(self.files[-1]), self.hub.content.cache_dir))
