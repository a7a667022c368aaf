# SPDX-License-Identifier: Apache-2.0
"""Inference calls over the bare client of the wire tests (e2e/wire.py), and reading what comes back.

  post(cache, CLASSIFY, {"inputs": "..."})        an Answer, whole
  stream(cache, CHAT, chat(stream=True))          an iterator of events as they come, each with its time
"""
import json
import time

from wire import Connection, fields

SENTIMENT = "distilbert/distilbert-base-uncased-finetuned-sst-2-english"
EMBEDDING = "sentence-transformers/all-MiniLM-L6-v2"
TEXT = "HuggingFaceTB/SmolLM3-3B"
SPEECH = "openai/whisper-large-v3"
PICTURE = "black-forest-labs/FLUX.1-dev"
CLASSIFY = f"/hf-inference/models/{SENTIMENT}"
GENERATE = f"/hf-inference/models/{TEXT}"
CHAT, COMPLETIONS, RESPONSES, MESSAGES, EMBEDDINGS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages",
                                                      "/v1/embeddings")
LOVE = {"inputs": "I love Hugging Face!"}
SECONDS = 20


def chat(text="Tell me about the sea.", model=TEXT, temperature=0, **more):
    """The body of a chat call; temperature=None leaves it out. More members as named, in order."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "temperature": temperature} | more
    return {k: v for k, v in body.items() if v is not None}


def body_bytes(body):
    if body is None or isinstance(body, (bytes, bytearray)):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def head_of(token, kind, headers, named):
    pairs = list(headers.items() if isinstance(headers, dict) else headers)
    if kind and not any(k.lower() == "content-type" for k, _ in pairs):
        pairs.insert(0, ("Content-Type", kind))
    return fields(token, pairs, **named)


def post(server, path, body=None, token=None, headers=(), kind="application/json", timeout=SECONDS, method="POST", host=True, **named):
    """One call, on a connection of its own; the Answer (its .end tells whether it is whole). server: has .port."""
    with Connection(("127.0.0.1", server.port), timeout=timeout) as conn:
        conn.request(method, path, head_of(token, kind, headers, named | {"Connection": "close"}), body_bytes(body), host=host)
        return conn.read()


class Stream:
    """An open call. `answer` is its head; iterate over events (bytes, up to their blank line), or next_event(); close() leaves."""

    def __init__(self, server, path, body, token=None, headers=(), kind="application/json", timeout=SECONDS, host=True, **named):
        self.conn = Connection(("127.0.0.1", server.port), timeout=timeout)
        self.conn.request("POST", path, head_of(token, kind, headers, named), body_bytes(body), host=host)
        self.answer = None
        self.text, self.end, self.times = b"", None, []

    def head(self):
        if self.answer is None:
            self.answer = self.conn.head()
            self.is_chunked = "chunked" in (self.answer["Transfer-Encoding"] or "")
            self.left = int(self.answer["Content-Length"] or 0)
        return self.answer

    def _line(self):
        while b"\r\n" not in self.conn.buffer:
            if not self.conn._more():
                return None
        line, _, self.conn.buffer = self.conn.buffer.partition(b"\r\n")
        return line

    def _piece(self):
        """Adds one piece of the body; False at its end, which `end` then tells: "complete", "fin", "rst", "timeout"."""
        self.head()
        if self.end:
            return False
        if not self.is_chunked:
            while not self.conn.buffer and self.left and self.conn._more():
                pass
            piece, self.conn.buffer = self.conn.buffer[:self.left], self.conn.buffer[self.left:]
            self.left -= len(piece)
            self.text += piece
            if not piece:
                self.end = self.conn.ended if self.left else "complete"
            return bool(piece)
        size = self._line()
        count = None if size is None else int(size.split(b";")[0], 16)
        if not count:
            self.end = self.conn.ended if count is None or self._line() is None else "complete"
            return False
        while len(self.conn.buffer) < count + 2:
            if not self.conn._more():
                self.text += self.conn.buffer[:count]
                self.end = self.conn.ended
                return False
        self.text += self.conn.buffer[:count]
        self.conn.buffer = self.conn.buffer[count + 2:]
        return True

    def next_event(self):
        """The next event, or None at the end; what is left over then is in `text`."""
        while True:
            places = [(at, len(end)) for end in (b"\n\n", b"\r\n\r\n") if (at := self.text.find(end)) >= 0]
            if places:
                at, size = min(places)
                event, self.text = self.text[:at + size], self.text[at + size:]
                self.times.append(time.monotonic())
                return event
            if not self._piece():
                return None

    def __iter__(self):
        while (event := self.next_event()) is not None:
            yield event

    def rest(self):
        """All further events."""
        return list(self)

    def close(self):
        self.conn.close()

    __enter__ = lambda self: self    # noqa: E731

    def __exit__(self, *_):
        self.close()


def stream(server, path, body, **how):
    return Stream(server, path, body, **how)


def events_of(answer):
    """The events of a whole answer."""
    text, out = answer.body.replace(b"\r\n", b"\n"), []
    while b"\n\n" in text:
        event, _, text = text.partition(b"\n\n")
        out.append(event + b"\n\n")
    assert not text, f"something behind the last event: {text!r}"
    return out


def data_of(events):
    """The JSON of each event's data; "[DONE]" as that text. Comments are left out."""
    out = []
    for event in events:
        lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
        if lines:
            text = b"\n".join(lines)
            out.append("[DONE]" if text == b"[DONE]" else json.loads(text))
    return out


def said(events):
    """The text of a chat or completions stream, or of TGI's tokens."""
    out = ""
    for value in data_of(events):
        if isinstance(value, dict) and "token" in value:
            out += value["token"]["text"]
        elif isinstance(value, dict):
            for choice in value.get("choices") or []:
                out += (choice.get("delta") or {}).get("content") or choice.get("text") or ""
    return out


def is_hit(answer):
    """Whether the daemon gave it from what it keeps, by all the marks that say so."""
    status = answer["Cache-Status"] or ""
    marks = "; hit" in status or ";hit" in status, answer["X-Cache"] in ("HIT", "STALE", "OFFLINE"), answer["x-compute-type"] == "cache"
    assert len(set(marks)) == 1, f"the marks disagree: {answer}"
    return marks[0]
