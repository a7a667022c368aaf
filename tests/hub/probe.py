# SPDX-License-Identifier: Apache-2.0
"""What the self-tests share: a client that follows nothing, a raw socket, one double for all that only read."""
import http.client
import json
import os
import socket
import tempfile
import time
import unittest
from urllib.parse import urlsplit

from hubdouble import HubDouble, standard_fixture

MIB = 1 << 20
WORK = os.environ.get("HUBDOUBLE_CACHE", os.path.join(tempfile.gettempdir(), "hubdouble-cache"))


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __getitem__(self, name):
        return next((v for k, v in self.headers if k.lower() == name.lower()), None)

    def json(self):
        return json.loads(self.body)


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.01)


def ask(url, method="GET", body=None, token=None, **headers):
    """One request without following redirects; header names are written with underscores."""
    parts = urlsplit(url)
    conn = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    sent = {k.replace("_", "-"): v for k, v in headers.items()}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    try:
        conn.request(method, url[len(f"{parts.scheme}://{parts.netloc}"):] or "/", body=body, headers=sent)
        reply = conn.getresponse()
        return Answer(reply.status, reply.getheaders(), reply.read())
    finally:
        conn.close()


def raw(url, target="/", timeout=3, head="GET"):
    """Everything a connection yields, and how it ended: "fin", "rst" or "timeout"."""
    parts = urlsplit(url)
    got = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=timeout) as s:
        s.sendall(f"{head} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        try:
            while more := s.recv(65536):
                got += more
            return got, "fin"
        except ConnectionResetError:
            return got, "rst"
        except TimeoutError:
            return got, "timeout"


_shared = None


def shared():
    """One double for all tests that only read."""
    global _shared
    if _shared is None:
        _shared = HubDouble().start()
        standard_fixture(_shared, work_dir=WORK, big=8 * MIB)
    _shared.clear_rules()
    _shared.reset_counters()
    return _shared


def signed(hub, path="/acme/pub/resolve/main/model.safetensors"):
    return ask(hub.url + path)["Location"]


def run_all(names):
    """Runs the tests of a module without pytest."""
    for name, test in list(names.items()):
        if name.startswith("test_"):
            try:
                test()
                print("ok", name)
            except unittest.SkipTest as reason:
                print("skipped", name, reason)
