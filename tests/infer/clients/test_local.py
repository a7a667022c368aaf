# SPDX-License-Identifier: Apache-2.0
"""Real clients served by inference servers of one's own, with nobody upstream: what each parses is what the server's model says."""
import base64

import numpy
import pytest

from asking import SENTIMENT
from inferdouble import models, pictures

TEXT = "I love Hugging Face!"
SOUND = pictures.wav("a sound of the test")


@pytest.fixture
def local(start, backend, upstream):
    """A daemon that never asks upstream, and one server of each kind behind it."""
    upstream.kill()
    kinds = {"clf": (backend("tei"), SENTIMENT), "emb": (backend("tei", type="embedding"), "acme/embed"),
             "llm": (backend("vllm", names=["acme/chat"]), "acme/chat"), "ear": (backend("vllm", names=["acme/ear"]), "acme/ear")}
    config = "".join(f"[backend {name}]\nurl = {server.url}\nkind = {server.kind}\nmodels = {model}\ndefault = {'yes' if name == 'llm' else 'no'}\n"
                     for name, (server, model) in kinds.items())
    cache = start(config=config, hub_offline="yes", inference_mode="offline")
    cache.servers = {name: server for name, (server, _) in kinds.items()}
    return cache


def at(cache, model, task=""):
    return f"{cache.url}/hf-inference/models/{model}" + (f"/pipeline/{task}" if task else "")


@pytest.fixture
def py(python, local):
    return lambda client, *wanted: python(client, list(wanted), to=local)


@pytest.mark.parametrize("client", ["hub2", "hub0"])
def test_I45_I52_python(py, local, client):
    def task(url, name, raw=None, **arguments):
        return "task", {"url": url, "name": name, "arguments": arguments, "raw": raw}
    labels, vector, near, text, full, heard, async_labels = py(
        client, task(at(local, SENTIMENT, "text-classification"), "text_classification", text=TEXT),
        task(at(local, "acme/embed", "feature-extraction"), "feature_extraction", text="a cat"),
        task(at(local, "acme/embed", "sentence-similarity"), "sentence_similarity", sentence="a cat", other_sentences=["a dog", "taxes"]),
        task(at(local, "acme/chat", "text-generation"), "text_generation", prompt="The sea", max_new_tokens=5),
        task(at(local, "acme/chat", "text-generation"), "text_generation", prompt="The sea", max_new_tokens=5, return_full_text=True),
        task(at(local, "acme/ear", "automatic-speech-recognition"), "automatic_speech_recognition", raw=base64.b64encode(SOUND).decode()),
        ("task", {"url": at(local, SENTIMENT, "text-classification"), "name": "text_classification", "arguments": {"text": TEXT},
                  "is_async": True}))
    assert [one["label"] for one in labels] == ["POSITIVE", "NEGATIVE"] and labels == async_labels
    assert numpy.allclose(vector, [models.embed("a cat")], atol=1e-6)
    assert near[0] > near[1]
    assert len(text.split()) == 5 and full == "The sea" + text
    assert heard == {"text": models.transcript(SOUND)}


def test_I52_python_streams(py, local):
    [found] = py("hub2", ("generate_stream", {"url": at(local, "acme/chat", "text-generation"),
                                              "arguments": {"prompt": "The sea", "max_new_tokens": 5}}))
    events = found["events"]
    assert "".join(one["token"]["text"] for one in events) == events[-1]["generated_text"]
    assert events[-1]["details"]["finish_reason"] and len(events) > 4


def test_I46_I47_chat_of_python_openai_and_javascript(py, node, local):
    """InferenceClient says "dummy" when it knows only an address."""
    said = [{"role": "user", "content": "Tell me of the sea."}]
    plain, streamed, named = py(
        "hub2", ("chat", {"url": f"{local.url}/v1", "arguments": {"messages": said, "temperature": 0}}),
        ("chat", {"url": f"{local.url}/v1", "arguments": {"messages": said, "temperature": 0, "stream": True}}),
        ("openai_call", {"url": f"{local.url}/v1", "what": "chat.completions.create",
                         "arguments": {"model": "acme/chat", "messages": said, "temperature": 0}}))
    text = plain["choices"][0]["message"]["content"]
    assert text and text == "".join(one["choices"][0]["delta"].get("content") or "" for one in streamed["events"] if one["choices"])
    assert named["model"] == "acme/chat" and named["choices"][0]["message"]["content"] == text
    js, events = node([("openai", {"url": f"{local.url}/v1", "what": "chat.completions.create",
                                   "args": {"model": "acme/chat", "messages": said, "temperature": 0}}),
                       ("stream", {"version": 4, "url": f"{local.url}/v1", "name": "chatCompletionStream",
                                   "args": {"model": "acme/chat", "messages": said, "temperature": 0}})], to=local)
    assert js["choices"][0]["message"]["content"] == text
    assert "".join(one["choices"][0]["delta"].get("content") or "" for one in events["events"] if one["choices"]) == text
    # the openai clients are one user, the others are nobody, under two names of the model: each of these is asked once
    assert len(local.servers["llm"].posts("chat")) == 3


def test_I45_javascript(node, local):
    labels, *rest = node([("task", {"version": version, "url": at(local, SENTIMENT, "text-classification"), "name": "textClassification",
                                    "args": {"inputs": TEXT}}) for version in (4, 2)],
                         to=local)
    assert [one["label"] for one in labels] == ["POSITIVE", "NEGATIVE"] and all(one == labels for one in rest)
    assert len(local.servers["clf"].posts()) == 1
