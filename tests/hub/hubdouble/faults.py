# SPDX-License-Identifier: Apache-2.0
"""What can be made to go wrong: rules, and the shapers of speed.

A rule says which requests it is for and what happens to their answers. All rules that match are merged, later ones win. The table of
actions is in README.md; `wire.py` carries them out.
"""
import base64
import itertools
import re
import threading
import time

BEFORE = {"status", "headers", "body", "raw", "redirect_to", "redirect_chain", "ignore_range", "expire_signature", "close"}
CHANGES = {"drop_header", "set_header", "add_header", "many_headers", "content_length", "wrong_content_range", "force_206", "gzip",
           "wrong_bytes", "swap_body", "truncate", "chunked", "trailing", "commit"}
SENDING = {"delay_first_byte", "delay_body", "rate", "cut_after", "reset_after", "stall_after", "stall_for", "half_close", "from_head"}
READING = {"early", "delay_read", "read_rate", "read_cut_after", "read_reset"}
ACTIONS = BEFORE | CHANGES | SENDING | READING


class Rule:
    """For whom (origin, method, path, nth, times, header, when), and what (actions)."""
    ids = itertools.count(1)

    def __init__(self, origin="hub", method=None, path=None, nth=None, times=None, header=None, when=None, **actions):
        for name in list(actions):
            if name.endswith("_b64"):
                actions[name[:-4]] = base64.b64decode(actions.pop(name))
        unknown = set(actions) - ACTIONS
        if unknown:
            raise ValueError(f"unknown action {', '.join(sorted(unknown))}; known: {', '.join(sorted(ACTIONS))}")
        self.id = next(self.ids)
        self.origin = origin
        self.method = method
        self.path = re.compile(path) if path else None
        self.nth = {nth} if isinstance(nth, int) else set(nth) if nth else None
        self.times = times
        self.header = {k.lower(): re.compile(v) for k, v in (header or {}).items()}
        self.when = when
        self.actions = actions
        self.seen = 0    # requests that matched
        self.hits = 0    # requests it acted on
        self.book = None
        self.bucket = Bucket(actions["rate"]) if actions.get("rate") else None

    def remove(self):
        self.book.remove(self)

    def fits(self, request):
        if self.origin not in ("any", None, request.origin):
            return False
        if self.method and request.method not in self.method.split("|"):
            return False
        if self.path and not self.path.search(request.target):
            return False
        if any(not pattern.search(request.get(name) or "") for name, pattern in self.header.items()):
            return False
        return not self.when or bool(self.when(request))

    def fire(self):
        """Counts a matching request; the actions for it, or None when it is not this one's turn."""
        self.seen += 1
        if self.nth and self.seen not in self.nth:
            return None
        if self.times is not None and self.hits >= self.times:
            return None
        actions = dict(self.actions)
        for name in ("status", "body"):
            if isinstance(actions.get(name), (list, tuple)):
                series = actions[name]
                value = series[self.hits] if self.hits < len(series) else None
                if value is None:
                    actions.pop(name)
                else:
                    actions[name] = value
        self.hits += 1
        return actions


class RuleBook:
    def __init__(self):
        self.rules = []
        self.lock = threading.Lock()

    def add(self, **what):
        rule = Rule(**what)
        rule.book = self
        with self.lock:
            self.rules.append(rule)
        return rule

    def remove(self, rule):
        with self.lock:
            if rule in self.rules:
                self.rules.remove(rule)

    def clear(self):
        with self.lock:
            self.rules.clear()

    def judge(self, request):
        """(merged actions, buckets to draw from, ids of the rules) for one request."""
        merged, buckets, ids = {}, [], []
        with self.lock:
            rules = list(self.rules)
        fitting = [rule for rule in rules if rule.fits(request)]    # without the lock: `when` may read the body
        with self.lock:
            for rule in fitting:
                actions = rule.fire()
                if actions is not None:
                    merged.update(actions)
                    ids.append(rule.id)
                    if rule.bucket:
                        buckets.append(rule.bucket)
        return merged, buckets, ids


class Bucket:
    """A token bucket of bytes per second, shared by whoever draws from it."""

    def __init__(self, rate):
        self.rate = float(rate)
        self.lock = threading.Lock()
        self.next = 0.0

    def portion(self):
        """How much to send at once: little enough that a hundred connections take turns within a fraction of a second."""
        return max(1, min(256 * 1024, int(self.rate / 400)))

    def draw(self, n):
        """Seconds to wait before these n bytes may leave."""
        with self.lock:
            now = time.monotonic()
            start = max(self.next, now - 0.02)
            self.next = start + n / self.rate
            return max(0.0, start - now)
