# SPDX-License-Identifier: Apache-2.0
"""Chat and generation with real clients, whole and as streams: live, kept, and each form out of the other.

One process of each runtime goes through all of it in each age: starting one costs more than all it does."""
import json

import pytest

from asking import CHAT, GENERATE, TEXT, chat, post

# runtime -> the clients that live in it
CLIENTS = {"hub2": ["sync", "async", "openai"], "hub0": ["sync", "async"], "node": ["openai-js", "hf.js-4"]}
PAUSE = 0.1
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "d", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}}]


class Talk:
    """Collects calls, makes them in one process, and gives each asker its result."""

    def __init__(self, run, url):
        self.run, self.url, self.wanted = run, url, []

    def ask(self, name, arguments):
        self.wanted.append((name, arguments))
        return len(self.wanted) - 1

    def chat(self, client, body):
        url = f"{self.url}/v1"
        if client == "openai":
            return self.ask("openai_call", {"url": url, "what": "chat.completions.create", "arguments": body})
        if client == "openai-js":
            return self.ask("openai", {"url": url, "what": "chat.completions.create", "args": body})
        if client == "hf.js-4":
            call, name = ("stream", "chatCompletionStream") if body.get("stream") else ("task", "chatCompletion")
            return self.ask(call, {"version": 4, "url": url, "name": name, "args": body})
        return self.ask("chat", {"url": url, "arguments": body, "is_async": client == "async"})

    def results(self):
        return self.run(self.wanted)


@pytest.fixture
def talk(python, node, cache):
    return lambda runtime: Talk(node if runtime == "node" else lambda wanted: python(runtime, wanted), cache.url)


def text_of(found):
    if "events" in found:
        return "".join((choice["delta"].get("content") or "") for chunk in found["events"] for choice in chunk["choices"])
    return found["choices"][0]["message"]["content"]


def finish_of(found):
    if "events" in found:
        return [c["finish_reason"] for chunk in found["events"] for c in chunk["choices"] if c.get("finish_reason")][-1]
    return found["choices"][0]["finish_reason"]


def without_times(results):
    return [one["events"] if isinstance(one, dict) and "events" in one else one for one in results]


def check_tool(streamed, whole):
    deltas = [d for chunk in streamed["events"] for c in chunk["choices"] for d in c["delta"].get("tool_calls") or []]
    made, = whole["choices"][0]["message"]["tool_calls"]
    assert made["id"] == deltas[0]["id"] and made["function"]["name"] == "weather" == deltas[0]["function"]["name"]
    assert made["function"]["arguments"] == "".join(d["function"].get("arguments") or "" for d in deltas)
    assert set(json.loads(made["function"]["arguments"])) == {"city", "days"}
    assert finish_of(whole) == finish_of(streamed) == "tool_calls"


def dialect_text(what, found):
    """Of completions and of responses, whole or as a stream."""
    events = found.get("events")
    if what == "completions":
        return found["choices"][0]["text"] if events is None else "".join(c["text"] for e in events for c in e["choices"])
    if events is None:
        return found["output"][0]["content"][0]["text"]
    assert events[-1]["type"] == "response.completed"
    return "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")


def ask_dialects(one, runtime):
    """Completions and responses with a client of openai, each as a stream and whole."""
    name, given = ("openai", "args") if runtime == "node" else ("openai_call", "arguments")
    for what, body in (("completions", {"prompt": "Once"}), ("responses", {"input": "Once", "store": False})):
        for more in ({"stream": True}, {}):
            one.ask(name, {"url": f"{one.url}/v1", "what": f"{what}.create", given: {"model": TEXT, "temperature": 0} | body | more})


def check_dialects(results):
    for what, streamed, whole in (("completions", *results[:2]), ("responses", *results[2:])):
        assert dialect_text(what, streamed) == dialect_text(what, whole) and len(dialect_text(what, whole).split()) == 12, what


@pytest.mark.parametrize("runtime", list(CLIENTS))
def test_I07_I28_I29_I30_I37_chat_in_every_form_and_age(talk, ages, upstream, runtime):
    upstream.rule(path=CHAT, pause=PAUSE, when=lambda request: b"A stream first" in request.body)
    has_dialects = runtime != "hub0"
    first = None
    for age in ages():
        one = talk(runtime)
        for client in CLIENTS[runtime]:
            own = f" says {client}"    # each client's answers are its own
            one.chat(client, chat("A stream first" + own, stream=True))
            one.chat(client, chat("A stream first" + own))
            one.chat(client, chat("A whole answer first" + own))
            one.chat(client, chat("A whole answer first" + own, stream=True))
            one.chat(client, chat("The weather?" + own, tools=TOOLS, stream=True))
            one.chat(client, chat("The weather?" + own, tools=TOOLS))
            one.chat(client, chat("Count" + own, stream=True, stream_options={"include_usage": True}))
            one.chat(client, chat("Count" + own, stream=True))
        if has_dialects:
            ask_dialects(one, runtime)
        results = one.results()
        if has_dialects:
            check_dialects(results[-4:])
        for n, client in enumerate(CLIENTS[runtime]):
            stream, whole, whole_first, stream_second, tool_stream, tool_whole, counted, uncounted = results[8 * n:8 * n + 8]
            assert text_of(stream) == text_of(whole) and len(text_of(whole).split()) == 12, (client, age)
            assert text_of(stream_second) == text_of(whole_first) and len(text_of(whole_first).split()) == 12, (client, age)
            assert {finish_of(x) for x in (stream, whole, whole_first, stream_second)} == {"stop"}
            assert len(stream["events"]) >= 13
            check_tool(tool_stream, tool_whole)
            assert counted["events"][-1]["usage"]["completion_tokens"] == 12 and not counted["events"][-1]["choices"]
            assert all(chunk["choices"] for chunk in uncounted["events"]) and text_of(uncounted) == text_of(counted)
        if age == "live":
            streams = [c for c in upstream.calls() if b"A stream first" in c.body]
            for n, call in enumerate(streams):    # its first event is with the client before the last one is made
                assert results[8 * n]["times"][0] < call.t_events[-1] - PAUSE, "the first event was held back"
            assert len(upstream.calls()) == 4 * len(CLIENTS[runtime]) + 2 * has_dialects and len(streams) == len(CLIENTS[runtime])
        first = first or without_times(results)
        assert without_times(results) == first, age


def test_I30_a_strict_reader_of_a_made_stream(cache):
    post(cache, CHAT, chat())
    events = post(cache, CHAT, chat(stream=True)).body.split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    for event in events[:-2]:
        assert event.startswith(b"data: {") and b"\n" not in event and json.loads(event[6:])["object"] == "chat.completion.chunk"


@pytest.mark.parametrize("client", ["hub2", "hub0"])
def test_I38_tokens_of_TGI_in_a_stream(python, ages, cache, upstream, client):
    first = None
    for age in ages():
        results = python(client, [("generate_stream", {"url": cache.url + GENERATE, "is_async": is_async, "arguments": {
            "prompt": "Once", "do_sample": False, "max_new_tokens": 6}}) for is_async in (False, True)])
        assert results[0]["events"] == results[1]["events"]
        events = results[0]["events"]
        assert len(events) == 6 and events[-1]["generated_text"] == "".join(e["token"]["text"] for e in events)
        assert events[-1]["details"]["finish_reason"] == "length"
        first = first or events
        assert events == first, age
        if age == "live":
            assert len(upstream.calls()) == 1


def test_curl_of_a_stream(curl, ages, cache):
    first = None
    for age in ages():
        body = curl("-N", "-H", "Content-Type: application/json", "-d", json.dumps(chat(stream=True)), cache.url + CHAT).stdout
        assert body.endswith(b"data: [DONE]\n\n")
        first = first or body
        assert body == first, age


@pytest.mark.parametrize("runtime", ["hub2", "node"])
def test_I07_models_are_listed(talk, runtime):
    one = talk(runtime)
    if runtime == "node":
        one.ask("openai", {"url": f"{one.url}/v1", "what": "models.list", "args": {}})
    else:
        one.ask("openai_call", {"url": f"{one.url}/v1", "what": "models.list", "arguments": {}})
    found, = one.results()
    assert TEXT in [m["id"] for m in found]
