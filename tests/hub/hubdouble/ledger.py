# SPDX-License-Identifier: Apache-2.0
"""The record of every request: what came, what was answered, how many bytes left and when."""
import itertools
import re
import threading
import time


class Call(dict):
    """One request; a dict that is also readable by attribute and is updated while its answer is being sent.

    n, origin, conn, method, target, path, query, headers (list of pairs), range, authorization, status, sent (body bytes),
    t_in (head), t_body (body whole), t_first, t_end (monotonic; None until it happens), complete (the whole answer was handed to the
    kernel), rules, leak; of the request's body: received (bytes so far), body_framing ("length", "chunked" or None), body_sha256,
    body (the bytes, of bodies up to 64 KiB), continued (100 Continue was sent)."""
    __getattr__ = dict.__getitem__

    def header(self, name):
        return next((v for k, v in self["headers"] if k.lower() == name.lower()), None)


class Ledger:
    def __init__(self):
        self.lock = threading.Lock()
        self.list = []
        self.numbers = itertools.count(1)

    def open(self, request):
        call = Call(n=next(self.numbers), origin=request.origin, conn=request.conn_id, method=request.method, target=request.target,
                    path=request.path, query=request.query, headers=request.headers, range=request.get("Range"),
                    authorization=request.get("Authorization"), status=None, sent=0, t_in=time.monotonic(), t_first=None, t_end=None,
                    complete=False, rules=[], leak=False, t_body=None, received=0, body_framing=None, body_sha256=None, body=None,
                    continued=False)
        with self.lock:
            self.list.append(call)
        return call

    def calls(self, origin=None, path=None, method=None):
        pattern = re.compile(path) if path else None
        with self.lock:
            calls = list(self.list)
        return [c for c in calls if origin in (None, c["origin"]) and method in (None, c["method"])
                and (not pattern or pattern.search(c["target"]))]

    def body_bytes(self, origin=None, path=None):
        return sum(c["sent"] for c in self.calls(origin, path))

    def leaks(self):
        return [c for c in self.calls() if c["leak"]]

    def reset(self):
        with self.lock:
            self.list.clear()
