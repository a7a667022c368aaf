# SPDX-License-Identifier: Apache-2.0
"""Upstream fails at every boundary between two events of every dialect, in every way: nothing wrong is kept, and nothing ends as if it
were whole that is not.

Each cell is a call of its own (another text in its body). It is made while upstream is at fault, and then again: upstream is asked
again and its answer is whole. Where all of an answer had come before the fault, it may be kept or not, but it is right."""
import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from asking import CHAT, COMPLETIONS, GENERATE, MESSAGES, RESPONSES, TEXT, chat, events_of, post, stream
from harness import SLOW, wait_for
from inferdouble import Gate

TOKENS = 3
FAULTS = ("cut", "reset", "half", "end", "error", "leave")
AT_ONCE = 8


class Dialect:
    """`count` events; from `finished` on what came says how the answer ended, so that a clean end makes it whole."""

    def __init__(self, path, body, count, finished, error):
        self.path, self.body, self.count, self.finished, self.error = path, body, count, finished, error


def data(value, event=None):
    return ((f"event: {event}\n" if event else "") + f"data: {json.dumps(value)}\n\n").encode()


TGI_ERROR = data({"error": "The GPU fell over", "error_type": "generation"})
DIALECTS = {
    "chat": Dialect(CHAT, lambda text: chat(text, stream=True, stream_options={"include_usage": True}), TOKENS + 4, TOKENS + 2,
                    data({"error": {"message": "The GPU fell over", "http_status_code": 500}})),
    "completions": Dialect(COMPLETIONS, lambda text: {"model": TEXT, "prompt": text, "temperature": 0, "stream": True}, TOKENS + 2,
                           TOKENS + 1, data({"error": {"message": "The GPU fell over", "type": "server_error", "code": 500}})),
    "tgi": Dialect(GENERATE, lambda text: {"inputs": text, "parameters": {"do_sample": False}, "stream": True}, TOKENS, TOKENS, TGI_ERROR),
    "responses": Dialect(RESPONSES, lambda text: {"model": TEXT, "input": text, "temperature": 0, "store": False, "stream": True},
                         TOKENS + 8, TOKENS + 8, data({"type": "error", "message": "The GPU fell over", "sequence_number": 9}, "error")),
    "messages": Dialect(MESSAGES, lambda text: {"model": TEXT, "max_tokens": 9, "temperature": 0, "stream": True,
                                                "messages": [{"role": "user", "content": text}]}, TOKENS + 6, TOKENS + 6,
                        data({"type": "error", "error": {"type": "overloaded_error", "message": "The GPU fell over"}}, "error")),
}


def cells(dialect):
    """[(fault, how many events come before it)]"""
    return [(fault, at) for fault, at in itertools.product(FAULTS, range(dialect.count + 1))
            if at < dialect.count or fault not in ("half", "leave")]


def action(fault, at, dialect):
    if fault == "error":
        return {"error_event": at, "error_data": dialect.error}
    if fault == "leave":    # upstream thinks a little, then goes on slowly
        return {"stall_event": at, "stall_for": 0.3, "pause": 0.1}
    return {f"{fault}_event": at}


class Cell:
    def __init__(self, cache, upstream, dialect, fault, at):
        self.cache, self.upstream, self.dialect, self.fault, self.at = cache, upstream, dialect, fault, at
        text = f"<{fault} {at}>"
        self.mark, self.body = text.encode(), dialect.body(text)
        upstream.rule(path=dialect.path, times=1, when=lambda request: self.mark in request.body, **action(fault, at, dialect))

    def asked(self):
        return [c for c in self.upstream.calls(self.dialect.path) if self.mark in (c.body or b"")]

    def check(self):
        self.check_fault()
        self.check_after()

    def may_be_whole(self):
        if self.fault == "leave":
            return self.asked()[0].events == self.dialect.count    # it was through before it was seen that nobody listens
        return self.at == self.dialect.count or (self.fault == "end" and self.at >= self.dialect.finished)

    def check_fault(self):
        with stream(self.cache, self.dialect.path, self.body, timeout=20 * SLOW) as one:
            if self.fault == "leave":
                assert one.head().status == 200 and all(one.next_event() for _ in range(self.at)), f"not {self.at} events came"
            else:
                self.check_end(one, one.head().status)
        if self.fault == "leave":
            wait_for(lambda: self.asked()[0].t_end, why="upstream is left alone")

    def check_end(self, one, status):
        """Upstream's head had come, so it is the client's; unless the fault was seen before it was sent on."""
        if status != 200:
            assert self.at == 0 and self.fault != "error" and status in (502, 504), f"status {status}"
            return
        events = one.rest()
        if self.fault == "error" and self.at == self.dialect.count:
            return    # behind the end nobody reads on
        if self.fault == "error":
            assert events[-1] == self.dialect.error, f"the error did not come through: {events[-1:]}"
            assert len(events) == self.at + 1 and one.end in ("complete", "fin", "rst")
            return
        assert one.end != "complete" or self.may_be_whole(), f"it ended as if it were whole after {len(events)} events"
        assert len(events) <= self.at if self.fault == "reset" else len(events) == self.at, f"{len(events)} events"

    def check_after(self):
        again = post(self.cache, self.dialect.path, self.body, timeout=20 * SLOW)
        assert again.status == 200 and again.complete, f"upstream is well, but the answer is not: {again}"
        events = events_of(again)
        if self.may_be_whole():
            assert len(events) >= self.dialect.finished and b"fell over" not in again.body
            return
        assert self.fault != "leave" or self.asked()[0].left
        assert len(self.asked()) == 2, f"upstream was asked {len(self.asked())} times: what came before the fault was kept"
        assert len(events) == self.dialect.count, f"{len(events)} of {self.dialect.count} events"
        last = post(self.cache, self.dialect.path, self.body)
        assert last.body == again.body and len(self.asked()) == 2, "what was whole was not kept"


def trouble_of(cell):
    try:
        cell.check()
    except AssertionError as trouble:
        return f"{cell.fault} after {cell.at} events: {str(trouble).splitlines()[0][:300]}"
    return None


@pytest.mark.parametrize("name", list(DIALECTS))
def test_I32_I33_I34_every_fault_at_every_boundary(cache, upstream, name):
    upstream.rule(tokens=TOKENS)
    every = [Cell(cache, upstream, DIALECTS[name], *cell) for cell in cells(DIALECTS[name])]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        bad = [trouble for trouble in pool.map(trouble_of, every) if trouble]
    assert not bad, f"{len(bad)} of {len(every)} cells:\n" + "\n".join(bad)


@pytest.mark.slow
@pytest.mark.seconds(200)
def test_I33_upstream_falls_silent_at_every_boundary(cache, upstream):
    """For ever, in every dialect at once: the daemon gives up, the client is told by a broken connection, and nothing is kept."""
    upstream.rule(tokens=TOKENS)
    every = [Cell(cache, upstream, dialect, "stall", at) for dialect in DIALECTS.values() for at in range(dialect.count)]

    def trouble_in(cell):
        try:
            with stream(cache, cell.dialect.path, cell.body, timeout=120 * SLOW) as one:
                cell.check_end(one, one.head().status)
            cell.check_after()
        except AssertionError as trouble:
            return f"{cell.dialect.path} silent after {cell.at} events: {str(trouble).splitlines()[0][:300]}"
    with ThreadPoolExecutor(len(every)) as pool:
        bad = [trouble for trouble in pool.map(trouble_in, every) if trouble]
    assert not bad, f"{len(bad)} of {len(every)} cells:\n" + "\n".join(bad)


@pytest.mark.parametrize("is_silent", [False, True])
def test_I34_who_leaves_frees_upstream(cache, upstream, is_silent):
    """Also while no event comes for a long time."""
    upstream.rule(path=CHAT, **({"stall_event": 3} if is_silent else {"pause": 0.2}))
    with stream(cache, CHAT, chat(stream=True)) as one:
        assert all(one.next_event() for _ in range(3))
    wait_for(lambda: upstream.calls()[0].left, 15, why="upstream is left alone")
    upstream.clear_rules()
    assert len(events_of(post(cache, CHAT, chat(stream=True)))) == 15 and len(upstream.calls()) == 2


WHOLE_FAULTS = {"reset before its head": {"close": "reset"}, "closed before its head": {"close": "fin"}, "nothing of it": {"cut_after": 0},
                "half of it": {"cut_after": "50%"}, "all but one byte": {"cut_after": -1}, "a reset in it": {"reset_after": "50%"},
                "promised more": {"content_length": 5}, "no last chunk": {"chunked": "unterminated"}, "a bad chunk": {"chunked": "broken"},
                "an error": {"status": 500}, "a 200 that is an error": {"body": b'{"error":"The GPU fell over"}'},
                "a 200 of nothing": {"body": b""}, "loading": {"loading": 1}, "too much asked": {"limited": 0}}


@pytest.mark.parametrize("name", list(WHOLE_FAULTS))
@pytest.mark.parametrize("path,body,word", [(CHAT, chat, b"choices"), (GENERATE, lambda text: {
    "inputs": text, "parameters": {"do_sample": False}}, b"generated_text")], ids=["chat", "tgi"])
def test_I33_I41_I42_every_fault_of_an_answer_that_is_no_stream(cache, upstream, path, body, word, name):
    asked = body("The sea.")
    upstream.rule(path=path, times=1, **WHOLE_FAULTS[name])
    answer = post(cache, path, asked)
    if "200" not in name:
        assert answer.status != 200 or not answer.complete or word in answer.partial, answer
    again = post(cache, path, asked)
    if name == "a 200 of nothing":    # who has its head has all of it, and it may just be ending for who asks then
        again = wait_for(lambda: (one := post(cache, path, asked)).partial and one)
    assert again.status == 200 and again.complete and word in again.body, f"{again}; upstream saw {upstream.calls()}"
    assert post(cache, path, asked).body == again.body and len(upstream.calls()) == 2


# --- the same with others who listen, and with nobody ---

class Heard(Cell):
    """Two clients hear the same call when the fault comes; the second one joined while upstream stood at a gate."""

    def __init__(self, *cell):
        super().__init__(*cell)
        self.gate = Gate()
        where = {"gate_event": self.at - 1} if self.at else {}
        self.upstream.rule(path=self.dialect.path, times=1, when=lambda request: self.mark in request.body, gate=self.gate, **where)

    def check_fault(self):
        with stream(self.cache, self.dialect.path, self.body, timeout=20 * SLOW) as first:
            self.gate.wait_for(1)
            with stream(self.cache, self.dialect.path, self.body, timeout=20 * SLOW) as second:
                before = self.at - 1
                if before > 0:    # so it listens to the same call
                    assert all(second.next_event() for _ in range(before))
                self.gate.open()
                heard = [first.next_event() for _ in range(max(before, 0))]
                self.check_end(Behind(first, heard), first.head().status)
                heard += second.rest()
                if not self.is_asked_anew(second, len(heard)):
                    self.check_end(Behind(second, heard), second.head().status)

    def is_asked_anew(self, one, count):
        """No event had come by then: who was too late to listen, or only listened and heard nothing, has asked for himself."""
        return (self.at <= 1 and len(self.asked()) == 2 and one.head().status == 200 and one.end == "complete"
                and count == self.dialect.count)

    def check_after(self):
        if self.at > 1 or len(self.asked()) < 2:
            super().check_after()


class Behind:
    """A stream of which these events have been read."""

    def __init__(self, one, heard):
        self.one, self.heard = one, heard

    def rest(self):
        return [*self.heard, *self.one.rest()]

    end = property(lambda self: self.one.end)


@pytest.mark.parametrize("name", list(DIALECTS))
def test_I32_I33_every_fault_at_every_boundary_while_others_listen(cache, upstream, name):
    upstream.rule(tokens=TOKENS)
    every = [Heard(cache, upstream, DIALECTS[name], *cell) for cell in cells(DIALECTS[name]) if cell[0] != "leave"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        bad = [trouble for trouble in pool.map(trouble_of, every) if trouble]
    assert not bad, f"{len(bad)} of {len(every)} cells:\n" + "\n".join(bad)


class Left(Cell):
    """The client leaves at once, and the call is to be finished all the same: then the fault comes."""

    def __init__(self, *cell):
        super().__init__(*cell)
        self.gate = Gate()
        self.upstream.rule(path=self.dialect.path, times=1, when=lambda request: self.mark in request.body, gate=self.gate, head_first=True)

    def is_kept(self):
        answer = post(self.cache, self.dialect.path, self.body, headers=[("Cache-Control", "only-if-cached")])
        assert answer.status in (200, 504)
        return answer if answer.status == 200 else None

    def asked_again(self):
        """The first ones may still hear the end of the call that failed."""
        answer = post(self.cache, self.dialect.path, self.body)
        return answer if len(self.asked()) >= 2 and answer.status == 200 and answer.complete else None

    def check(self):
        with stream(self.cache, self.dialect.path, self.body, timeout=20 * SLOW) as one:
            assert one.head().status == 200
            self.gate.wait_for(1)
        self.gate.open()
        wait_for(lambda: self.asked()[0].t_end, why="the end of the call")
        if self.may_be_whole() or self.fault == "leave":
            kept = wait_for(self.is_kept, why="what was finished is kept")
            assert len(events_of(kept)) >= self.dialect.finished and len(self.asked()) == 1
            return
        again = wait_for(self.asked_again, why="upstream is asked again: what came before the fault was kept")
        assert len(events_of(again)) == self.dialect.count
        assert wait_for(self.is_kept).body == again.body


@pytest.mark.parametrize("name", list(DIALECTS))
def test_I32_I33_I34_every_fault_at_every_boundary_of_what_is_finished_alone(start, upstream, name):
    cache = start(inference_finish_on_abort="yes")
    upstream.rule(tokens=TOKENS)
    every = [Left(cache, upstream, DIALECTS[name], *cell) for cell in cells(DIALECTS[name])]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        bad = [trouble for trouble in pool.map(trouble_of, every) if trouble]
    assert not bad, f"{len(bad)} of {len(every)} cells:\n" + "\n".join(bad)
