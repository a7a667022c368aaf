# SPDX-License-Identifier: Apache-2.0
"""What inference answers need beyond the Hub double's sockets: answers made of events, and faults between two of them.

Owns      the rules' further actions (README.md has the table), the further fields of the record, the order of events on the wire.
Threads   the thread of the connection.
"""
import itertools
import select
import socket
import threading

from hubdouble import faults, ledger, wire
from hubdouble.message import Reply
from hubdouble.outlet import Cut

OWN = {"gate", "gate_event", "cut_event", "reset_event", "stall_event", "end_event", "half_event", "error_event", "error_data",
       "fail", "loading", "limited", "message", "retry_after", "pause", "tokens", "dress", "pieces", "keep_alive", "answer", "text", "head_first"}
TICKS = (0.02, 0.02, 0.05, 0.1, 0.2)    # how often one that stands at a gate looks whether its client is still there
TICK_LAST = 0.5    # and from then on: a thousand may stand there


def ticks():
    yield from TICKS
    yield from itertools.repeat(TICK_LAST)


class Rule(faults.Rule):
    def __init__(self, origin="any", **what):
        own = {name: what.pop(name) for name in list(what) if name in OWN}
        unknown = {name for name in what if name not in faults.ACTIONS and not name.endswith("_b64")
                   and name not in ("method", "path", "nth", "times", "header", "when")}
        if unknown:
            raise ValueError(f"unknown action {', '.join(sorted(unknown))}; known: {', '.join(sorted(OWN | faults.ACTIONS))}")
        if "loading" in own:    # so many calls find the model loading
            what.setdefault("times", own["loading"])
        super().__init__(origin=origin, **what)
        self.actions |= own


class RuleBook(faults.RuleBook):
    def add(self, **what):
        rule = Rule(**what)
        rule.book = self
        with self.lock:
            self.rules.append(rule)
        return rule


class Ledger(ledger.Ledger):
    def __init__(self):
        super().__init__()
        self.lock = threading.RLock()

    def open(self, request):
        with self.lock:
            call = super().open(request)
            # left: the client went before it had all; events: how many went out whole; t_events: when each did
            call.update(left=False, events=0, t_events=[], model=None, task=None)
            return call


class Origin(wire.Origin):
    """One port whose handler answers inference calls; a call whose client leaves is marked so."""

    def _answer(self, conn, request, a, outlet, call):
        try:
            request.load()
            if a.get("gate") is not None and a.get("gate_event") is None and not a.get("head_first"):
                self._stand(conn, a["gate"])
            if self.upgrade(conn, request, call):
                return False
            return super()._answer(conn, request, a, outlet, call)
        except OSError:
            call["left"] = not self.dead
            raise

    def upgrade(self, conn, request, call):
        """Takes the connection over; True if it did."""
        return False

    def _stand(self, conn, gate):
        gate.arrive()
        try:
            for tick in ticks():
                if gate.may_pass(tick):
                    return
                readable, _, _ = select.select([conn], [], [], 0)
                if readable and not conn.recv(1, socket.MSG_PEEK):
                    raise ConnectionError("client left at the gate")
                if self.dead:
                    raise ConnectionError("killed")
        finally:
            gate.leave()


def event_reply(events, headers, request, call, status=200):
    """A chunked answer of events (each the bytes of one, up to its blank line; numbers are pauses), told apart for the rules."""
    reply = Reply(status, headers)
    reply.framing = "chunked"
    reply.stream = conduct(events, request.actions, call)
    return reply


def conduct(events, a, call):
    """Yields the events as the rules of this call want them."""
    done = 0
    if a.get("head_first"):
        yield from stand(a["gate"])
    for event in events:
        if isinstance(event, (int, float)):
            yield event
            continue
        yield from before(event, done, a)
        if a.get("error_event") == done:
            yield error_event(a)
            return
        if a.get("end_event") == done:
            return
        if a.get("pause") and done:
            yield a["pause"]
        yield from dressed(event, a)
        done += 1
        call["events"] = done
        call["t_events"].append(wire.time.monotonic())
    yield from before(b"", done, a)    # the boundary behind the last one
    if a.get("error_event") == done:
        yield error_event(a)


def before(event, done, a):
    """What is due at the boundary in front of event number `done`."""
    if a.get("gate_event") == done and a.get("gate") is not None:
        yield from stand(a["gate"])
    if a.get("keep_alive") and done in (a["keep_alive"] if isinstance(a["keep_alive"], (list, tuple)) else [a["keep_alive"]]):
        yield b": keep-alive\n\n"
    if a.get("stall_event") == done:
        seconds = a.get("stall_for")
        yield from itertools.repeat(1.0) if seconds is None else [seconds]
    if a.get("half_event") == done:
        if event:
            yield event[:len(event) // 2]
        raise Cut()
    if a.get("cut_event") == done:
        raise Cut()
    if a.get("reset_event") == done:
        raise Cut(reset=True)


def stand(gate):
    gate.arrive()
    try:
        for tick in ticks():
            if gate.may_pass(tick):
                return
            yield 0.001    # looks whether the client is still there
    finally:
        gate.leave()


def error_event(a):
    data = a.get("error_data", '{"error":"Request failed during generation: Server error: ","error_type":"generation"}')
    return data if isinstance(data, bytes) else f"data: {data}\n\n".encode()


def dressed(event, a):
    """The event in the spelling that the rule asks for, in pieces of any size if it asks for that."""
    dress = a.get("dress")
    if dress == "crlf":
        event = event.replace(b"\n", b"\r\n")
    elif dress == "tight":    # old TGI: no space behind the colon
        event = b"\n".join(line.replace(b"data: ", b"data:", 1) if line.startswith(b"data: ") else line for line in event.split(b"\n"))
    elif dress == "no-done" and event.strip() == b"data: [DONE]":
        return
    elif dress == "old-tgi":
        if event.strip() == b"data: [DONE]":
            return
        event = event.replace(b"data: ", b"data:", 1)
    size = a.get("pieces") or len(event) or 1
    for at in range(0, len(event), size):
        yield event[at:at + size]
