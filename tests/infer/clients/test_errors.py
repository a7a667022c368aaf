# SPDX-License-Identifier: Apache-2.0
"""What real clients make of errors: how often they ask, and what they tell their user."""
import json

import pytest

from asking import CHAT, CLASSIFY, LOVE, SENTIMENT, TEXT, chat
from harness import wait_for


@pytest.fixture
def dead(start, upstream, hub):
    """A daemon that holds nothing and can ask nobody."""
    cache = start()
    upstream.kill()
    hub.kill()
    return cache


def asked(cache):
    """The calls that the daemon's log knows of."""
    return [line for line in cache.log_lines(msg="request") if line.get("method") == "POST"]


def test_I39_without_anybody_to_ask_the_javascript_clients_ask_once(node, dead):
    """Each in a process of its own, so that one that asks for ever is seen."""
    classify = {"url": dead.url + CLASSIFY, "name": "textClassification", "args": LOVE | {"model": SENTIMENT}}
    calls = [("task", classify | {"version": 4, "args": LOVE}), ("task", classify | {"version": 3, "token": "hf_x"}),
             ("task", classify | {"version": 2, "args": LOVE}),
             ("task", {"version": 4, "url": f"{dead.url}/v1", "name": "chatCompletion", "args": chat()}),
             ("stream", {"version": 4, "url": f"{dead.url}/v1", "name": "chatCompletionStream", "args": chat(stream=True)}),
             ("openai", {"url": f"{dead.url}/v1", "what": "chat.completions.create", "args": chat()}),
             ("openai", {"url": f"{dead.url}/v1", "what": "chat.completions.create", "args": chat(stream=True)})]
    results = node(calls, to=dead, is_tried=True)
    assert all("error" in result for result in results), results
    lines = wait_for(lambda: len(asked(dead)) >= len(calls) and asked(dead))
    assert len(lines) == len(calls) and {line["status"] for line in lines} == {"504"}, lines
    for (name, arguments), result in zip(calls, results, strict=True):
        model = SENTIMENT if arguments["url"].endswith(SENTIMENT) else TEXT
        text = result["message"]
        if "[object Object]" in text:    # generation 4 shows no words of an error that is an object, as clients of openai need it
            text = result["body"]["error"]["message"]
        assert model in text, (name, arguments, result)


@pytest.mark.parametrize("client", ["hub2", "hub0"])
def test_I39_without_anybody_to_ask_the_python_clients_ask_once(python, dead, client):
    calls = [("task", {"url": dead.url + CLASSIFY, "name": "text_classification", "arguments": {"text": "I love it"}}),
             ("task", {"url": dead.url + CLASSIFY, "name": "text_classification", "arguments": {"text": "I love it"}, "is_async": True}),
             ("chat", {"url": f"{dead.url}/v1", "arguments": chat()}), ("chat", {"url": f"{dead.url}/v1", "arguments": chat(stream=True)})]
    if client == "hub2":
        calls += [("openai_call", {"url": f"{dead.url}/v1", "what": "chat.completions.create", "arguments": chat()})]
    results = python(client, calls, to=dead, is_tried=True)
    assert all("error" in result for result in results), results
    lines = wait_for(lambda: len(asked(dead)) >= len(calls) and asked(dead))
    assert len(lines) == len(calls) and {line["status"] for line in lines} == {"504"}, lines
    assert all("504" in result["message"] for result in results), results


def test_I39_what_curl_is_told(curl, dead):
    done = curl("-i", "-H", "Content-Type: application/json", "-d", json.dumps(LOVE), dead.url + CLASSIFY).stdout
    head, _, body = done.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 504") and b"\r\nx-should-retry: false" in head.lower()
    assert SENTIMENT in json.loads(body)["error"]


def test_errors_of_upstream_reach_the_user_and_are_not_kept(node, python, cache, upstream):
    """A stream that fails in its middle, a wrong call, a model that nobody has."""
    upstream.rule(path=CHAT, error_event=3, error_data='{"error":{"message":"The GPU fell over","http_status_code":500}}', times=3)
    url = f"{cache.url}/v1"
    results = node([("stream", {"version": 4, "url": url, "name": "chatCompletionStream", "args": chat(stream=True)}),
                    ("openai", {"url": url, "what": "chat.completions.create", "args": chat(stream=True)}),
                    ("task", {"version": 4, "url": f"{cache.url}/hf-inference/models/no/body", "name": "textClassification", "args": LOVE})],
                   is_tried=True)
    results += python("hub2", [("chat", {"url": url, "arguments": chat(stream=True)})], is_tried=True)
    told = [result["message"] for result in results]
    assert all("fell over" in told[n] for n in (0, 1, 3)) and "does not exist" in told[2], told
    assert len(upstream.calls(CHAT)) == 3
    good = python("hub2", [("chat", {"url": url, "arguments": chat(stream=True)})])[0]
    assert good["events"][-1]["choices"][0]["finish_reason"] == "stop" and len(upstream.calls(CHAT)) == 4


@pytest.mark.parametrize("how", [{"cut_event": 5}, {"reset_event": 5}, {"half_event": 5}])
def test_I33_a_stream_that_breaks_is_an_error_for_every_client(node, python, cache, upstream, how):
    """One of them does not look for the end of what it reads: only a broken connection tells it."""
    upstream.rule(path=CHAT, **how)
    url = f"{cache.url}/v1"
    results = node([("stream", {"version": 4, "url": url, "name": "chatCompletionStream", "args": chat("one", stream=True)}),
                    ("openai", {"url": url, "what": "chat.completions.create", "args": chat("two", stream=True)})], is_tried=True)
    results += python("hub2", [("chat", {"url": url, "arguments": chat("three", stream=True)})], is_tried=True)
    assert all("error" in result for result in results), results


def test_I40_a_model_that_loads_makes_no_storm(node, cache, upstream):
    """A client that asks again at once for ever on 503 must not be told it."""
    upstream.rule(path="/models/", loading=3)
    result, = node([("task", {"version": 4, "url": cache.url + CLASSIFY, "name": "textClassification", "args": LOVE})], is_tried=True)
    assert len(upstream.calls()) <= 4, f"{len(upstream.calls())} calls: {result}"
    assert [line for line in asked(cache) if line["status"] == "503"] == []
