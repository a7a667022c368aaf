# SPDX-License-Identifier: Apache-2.0
"""A real server of llama.cpp behind the daemon, with nobody upstream: real clients, every road, live and kept.

The model is made here (../tinymodel.py); what it says is checked against what the server says to who asks it itself.
"""
import json
import platform
import subprocess
from pathlib import Path

import pytest

from asking import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, chat, data_of, is_hit, post, said, stream
from harness import wait_for
import tinymodel

HERE = Path(__file__).resolve().parents[1]
PYTHON = HERE.parents[1] / ".venv-llama/bin/python"
HAS_SERVER = platform.machine() == "x86_64"
TEXT, VECTOR, RANK = "acme/tiny", "acme/tiny-embed", "acme/tiny-rank"

pytestmark = pytest.mark.skipif(not HAS_SERVER, reason="there is no llama.cpp server built for this processor")


class Llama:
    """One running server; .port and .url, as the doubles have them."""
    kind = "llamacpp"

    def __init__(self, model, name, does):
        assert PYTHON.exists(), "the server of llama.cpp is missing: run tests/setup"
        self.process = subprocess.Popen([str(PYTHON), str(HERE / "llamaserver.py"), str(model), name, does], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://"), f"it did not start: exit code {self.process.wait(10)}"
        self.port = int(self.url.rsplit(":", 1)[1])

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tinymodel.write(folder / "text.gguf")
    tinymodel.write(folder / "rank.gguf", ranks=True)
    return folder


@pytest.fixture
def llama(models):
    servers = {}

    def run(does="text"):
        file, name = {"text": ("text.gguf", TEXT), "embeddings": ("text.gguf", VECTOR), "ranks": ("rank.gguf", RANK)}[does]
        servers[does] = Llama(models / file, name, does)
        return servers[does]
    yield run
    for server in servers.values():
        server.kill()


@pytest.fixture
def local(start, llama, upstream):
    """A daemon that never asks upstream, before a server that makes text; its models are those that it says it has."""
    server = llama()
    cache = start(config=f"[backend near]\nurl = {server.url}\nkind = llamacpp\ndefault = yes\n", hub_offline="yes", inference_mode="offline")
    cache.server = server
    wait_for(lambda: TEXT in post(cache, "/v1/models", method="GET").body.decode(), why="its inventory")
    yield cache
    assert not upstream.calls()


def without_chance(answer):
    """An answer's words: ids and times of the server are its own."""
    return [(c.get("text") or c["message"]["content"], c["finish_reason"]) for c in json.loads(answer.body)["choices"]]


def test_I46_I52_llama_cpp_on_every_road_live_and_kept(local):
    body = chat("Tell me about the sea.", model=TEXT, max_tokens=12)
    own, first = post(local.server, CHAT, body), post(local, CHAT, body)
    assert first.status == 200 and first["x-inference-backend"] == "near" and not is_hit(first), first
    assert without_chance(first) == without_chance(own) and json.loads(first.body)["model"] == TEXT
    with stream(local, CHAT, body | {"stream": True, "max_tokens": 13, "stream_options": {"include_usage": True}}) as one:
        events = one.rest()
        assert one.end == "complete" and one.answer.status == 200
    chunks = data_of(events)
    assert chunks[-1] == "[DONE]" and {c["model"] for c in chunks[:-1]} == {TEXT} and chunks[-2]["usage"]["completion_tokens"] == 13
    text = post(local, COMPLETIONS, {"model": TEXT, "prompt": "the sea", "temperature": 0, "max_tokens": 8})
    response = post(local, RESPONSES, {"model": TEXT, "input": "the sea", "temperature": 0, "max_output_tokens": 8, "store": False})
    message = post(local, MESSAGES, {"model": TEXT, "messages": [{"role": "user", "content": "the sea"}], "max_tokens": 8, "temperature": 0})
    task = post(local, f"/hf-inference/models/{TEXT}/pipeline/text-generation", {"inputs": "the sea", "parameters": {"max_new_tokens": 8}})
    words = json.loads(text.body)["choices"][0]["text"]
    assert json.loads(task.body) == [{"generated_text": words}] and len(words.split()) <= 8
    assert json.loads(response.body)["status"] and json.loads(message.body)["type"] == "message"
    with stream(local, f"/models/{TEXT}/pipeline/text-generation", {"inputs": "the sea", "parameters": {"max_new_tokens": 9}, "stream": True}) as one:
        tokens = data_of(one.rest())
    assert tokens[-1]["generated_text"].startswith(words) and tokens[-1]["details"]["finish_reason"] == "length"
    local.server.kill()
    assert post(local, CHAT, body).body == first.body
    with stream(local, CHAT, body | {"stream": True, "max_tokens": 13, "stream_options": {"include_usage": True}}) as one:
        assert one.rest() == events and is_hit(one.answer)
    with stream(local, CHAT, body | {"stream": True}) as one:
        made = one.rest()
    assert said(made) == json.loads(first.body)["choices"][0]["message"]["content"]
    miss = post(local, CHAT, chat("Never asked.", model=TEXT))
    assert miss.status == 504 and miss["x-should-retry"] == "false"


def test_I44_errors_of_llama_cpp_come_through(local):
    answer = post(local, EMBEDDINGS, {"model": TEXT, "input": "the sea"})
    assert answer.status == 501 and "embeddings" in json.loads(answer.body)["error"]["message"]
    long = post(local, CHAT, chat("the sea " * 3000, model=TEXT))
    assert long.status == 400 and json.loads(long.body)["error"]["type"] == "exceed_context_size_error"


def test_I34_who_leaves_frees_llama_cpp(local):
    """Its slots are two: if they were not freed, the last calls would wait for tokens without end."""
    for n in range(4):
        with stream(local, CHAT, chat(f"story {n}", model=TEXT, stream=True, max_tokens=900)) as one:
            assert one.next_event()
    assert post(local, CHAT, chat("the end", model=TEXT, max_tokens=2)).status == 200


def test_I21_vectors_and_ranks_of_llama_cpp(start, llama, upstream):
    near, rank = llama("embeddings"), llama("ranks")
    cache = start(config=f"[backend near]\nurl = {near.url}\nkind = llamacpp\nmodels = {VECTOR}\n"
                         f"[backend rank]\nurl = {rank.url}\nkind = llamacpp\nmodels = {RANK}\n", hub_offline="yes", inference_mode="offline")
    body = {"model": VECTOR, "input": ["the sea", "a gull"]}
    own, first = post(near, EMBEDDINGS, body), post(cache, EMBEDDINGS, body)
    assert [one["embedding"] for one in json.loads(first.body)["data"]] == [one["embedding"] for one in json.loads(own.body)["data"]]
    packed = post(cache, EMBEDDINGS, body | {"encoding_format": "base64"})
    assert is_hit(packed) and isinstance(json.loads(packed.body)["data"][1]["embedding"], str)
    task = post(cache, f"/models/{VECTOR}/pipeline/feature-extraction", {"inputs": "the sea"})
    assert len(json.loads(task.body)[0]) == tinymodel.WIDTH
    same, other = json.loads(post(cache, f"/models/{VECTOR}/pipeline/sentence-similarity",
                                  {"inputs": {"source_sentence": "the sea", "sentences": ["the sea", "a gull"]}}).body)
    assert same > 0.9999 > other
    rows = json.loads(post(cache, f"/models/{RANK}/pipeline/text-ranking", {"inputs": {"query": "sea", "texts": ["a gull", "the sea"]}}).body)
    own = json.loads(post(rank, "/v1/rerank", {"query": "sea", "documents": ["a gull", "the sea"]}).body)["results"]
    assert {row["index"]: row["score"] for row in rows} == {row["index"]: row["relevance_score"] for row in own}
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert not upstream.calls()


def test_I07_I47_clients_at_llama_cpp_live_and_kept(python, node, local):
    said_before = [{"role": "user", "content": "Tell me about the sea."}]
    arguments = {"messages": said_before, "temperature": 0, "max_tokens": 10}

    def ask():
        plain, streamed, named, text = python("hub2", [
            ("chat", {"url": f"{local.url}/v1", "arguments": arguments}),
            ("chat", {"url": f"{local.url}/v1", "arguments": arguments | {"stream": True}}),
            ("openai_call", {"url": f"{local.url}/v1", "what": "chat.completions.create", "arguments": arguments | {"model": TEXT}}),
            ("task", {"url": f"{local.url}/hf-inference/models/{TEXT}", "name": "text_generation",
                      "arguments": {"prompt": "the sea", "max_new_tokens": 6}})], to=local)
        js, events = node([("openai", {"url": f"{local.url}/v1", "what": "chat.completions.create", "args": arguments | {"model": TEXT}}),
                           ("stream", {"version": 4, "url": f"{local.url}/v1", "name": "chatCompletionStream", "args": arguments | {"model": TEXT}})],
                          to=local)
        words = plain["choices"][0]["message"]["content"]
        assert words and named["choices"][0]["message"]["content"] == js["choices"][0]["message"]["content"] == words
        for found in (streamed, events):
            assert "".join(one["choices"][0]["delta"].get("content") or "" for one in found["events"] if one["choices"]) == words
        return words, text
    live = ask()
    local.server.kill()
    assert ask() == live
