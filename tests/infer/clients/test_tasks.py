# SPDX-License-Identifier: Apache-2.0
"""The tasks of the pipeline contract with real clients: what they parse out of a live answer and out of a kept one is the same, and
each of them is asked of the router once."""
import base64
import struct

import numpy
import pytest

from asking import EMBEDDING, PICTURE, SPEECH, TEXT
from inferdouble import models, pictures

SOUND = pictures.wav("a sound of the test")
IMAGE = pictures.png("a picture of the test")


def b64(data):
    return base64.b64encode(data).decode()


def at(cache, model, task=None):
    return f"{cache.url}/hf-inference/models/{model}" + (f"/pipeline/{task}" if task else "")


def python_tasks(cache):
    """[(call, what it must be like)]"""
    def task(model, name, route=None, raw=None, **arguments):
        return "task", {"url": at(cache, model, route), "name": name, "arguments": arguments, "raw": raw}
    two = ["The cat sits outside", "A man is playing guitar"]
    return [
        (task(EMBEDDING, "feature_extraction", "feature-extraction", text="This is an example sentence"),
         lambda v: numpy.allclose(v, models.embed("This is an example sentence"), atol=1e-6)),
        (task(EMBEDDING, "sentence_similarity", "sentence-similarity", sentence="The cat is out", other_sentences=two),
         lambda v: len(v) == 2 and v[0] > 0.5 > v[1]),
        (task(TEXT, "text_generation", prompt="Once upon a time", do_sample=False, max_new_tokens=5), lambda v: len(v.split()) == 5),
        (task(TEXT, "text_generation", prompt="Once upon a time", do_sample=False, details=True),
         lambda v: v["details"]["generated_tokens"] == 12 == len(v["details"]["tokens"])),
        (task(SPEECH, "automatic_speech_recognition", raw=b64(SOUND)), lambda v: v == {"text": models.transcript(SOUND)}),
        (task(PICTURE, "text_to_image", prompt="a lighthouse", seed=7),
         lambda v: v["format"] == "JPEG" and v["size"] == [32, 32]),
        (task("google/vit-base-patch16-224", "image_classification", raw=b64(IMAGE)), lambda v: abs(sum(e["score"] for e in v) - 1) < 1e-6),
        (task("google/vit-base-patch16-224", "image_classification", raw=b64(IMAGE), top_k=2), lambda v: len(v) == 2),
        (task("facebook/detr-resnet-50", "object_detection", raw=b64(IMAGE)), lambda v: v[0]["box"]["xmax"] == 30),
        (task("dslim/bert-base-NER", "token_classification", text="Clara lives in Berlin"), lambda v: [e["word"] for e in v] == ["Clara", "Berlin"]),
        (task("google-bert/bert-base-uncased", "fill_mask", text="The goal is [MASK]."), lambda v: len(v) == 5),
        (task("deepset/roberta-base-squad2", "question_answering", question="Who?", context="It was Ferdinand."), lambda v: v["answer"] == "Ferdinand."),
        (task("Helsinki-NLP/opus-mt-en-de", "translation", text="Good morning"), lambda v: len(v["translation_text"].split()) == 6),
        (task("facebook/bart-large-cnn", "summarization", text="one two three four five six seven eight nine"),
         lambda v: v["summary_text"] == "one two three four five six seven eight"),
        (task("facebook/bart-large-mnli", "zero_shot_classification", text="I love it", candidate_labels=["good", "bad"]),
         lambda v: sorted(e["label"] for e in v) == ["bad", "good"])]


@pytest.mark.parametrize("client", ["hub2", "hub0"])
def test_python_tasks_live_kept_and_after_a_restart(python, ages, cache, upstream, client):
    first = None
    for age in ages():
        tasks = python_tasks(cache)    # after a restart the daemon has another port
        if client == "hub0":    # it reads the older form of these answers only
            tasks = [t for t in tasks if t[0][1]["name"] != "zero_shot_classification"]
        values = python(client, [call for call, _ in tasks])
        first = first or values
        assert values == first, age
        if age == "live":
            for (call, is_right), value in zip(tasks, values, strict=True):
                assert is_right(value), (call, value)
            assert len(upstream.calls()) == len(tasks)


def test_python_asynchronous_tasks(python, cache, upstream):
    tasks = python_tasks(cache)[:6]
    plain = python("hub2", [call for call, _ in tasks])
    again = python("hub2", [(name, arguments | {"is_async": True}) for (name, arguments), _ in tasks])
    assert again == plain and len(upstream.calls()) == len(tasks)


def node_tasks(cache, version):
    def task(model, name, route=None, raw=None, **args):
        if version == 3:
            args["model"] = model
        return "task", {"version": version, "url": at(cache, model, route), "name": name, "args": args, "token": "hf_x", "raw": raw}
    return [
        (task(EMBEDDING, "featureExtraction", "feature-extraction", inputs="This is an example sentence"),
         lambda v: numpy.allclose(v, models.embed("This is an example sentence"), atol=1e-6)),
        (task(SPEECH, "automaticSpeechRecognition", raw=b64(SOUND)), lambda v: v["text"] == models.transcript(SOUND)),
        (task(PICTURE, "textToImage", inputs="a lighthouse", parameters={"seed": 7}), lambda v: v["type"] == "image/jpeg" and v["size"] > 150),
        (task("google/vit-base-patch16-224", "imageClassification", raw=b64(IMAGE)), lambda v: len(v) == 5),
        (task("dslim/bert-base-NER", "tokenClassification", inputs="Clara lives in Berlin"), lambda v: len(v) == 2),
        (task("facebook/bart-large-cnn", "summarization", inputs="one two three four five six seven eight nine"),
         lambda v: v["summary_text"].endswith("eight"))]


@pytest.mark.parametrize("version", [4, 3, 2])
def test_javascript_tasks_live_kept_and_after_a_restart(node, ages, cache, upstream, version):
    first = None
    for age in ages():
        tasks = node_tasks(cache, version)
        values = node([call for call, _ in tasks])
        first = first or values
        assert values == first, age
        if age == "live":
            for (call, is_right), value in zip(tasks, values, strict=True):
                assert is_right(value), (call, value)
            assert len(upstream.calls()) == len(tasks)


def test_I21_embeddings_in_base64_after_floats(node, python, cache, upstream):
    """openai of JavaScript asks for base64 by itself and gives floats."""
    text = "This is an example sentence"
    plain, = python("hub2", [("openai_call", {"url": f"{cache.url}/v1", "what": "embeddings.create", "arguments": {
        "model": EMBEDDING, "input": text, "encoding_format": "float"}})])
    again, third = node([("openai", {"url": f"{cache.url}/v1", "what": "embeddings.create", "args": {"model": EMBEDDING, "input": text}}),
                         ("openai", {"url": f"{cache.url}/v1", "what": "embeddings.create",
                                     "args": {"model": EMBEDDING, "input": text, "encoding_format": "base64"}})])
    vector = plain["data"][0]["embedding"]
    assert numpy.allclose(vector, models.embed(text), atol=1e-7)
    assert numpy.array_equal(numpy.float32(again["data"][0]["embedding"]), numpy.float32(vector))
    found = struct.unpack("<384f", base64.b64decode(third["data"][0]["embedding"]))
    assert numpy.array_equal(numpy.float32(found), numpy.float32(vector))
    assert [c.path for c in upstream.calls()] == ["/v1/embeddings"]


def test_openai_transcription(node, python, cache, upstream):
    """Another boundary each time."""
    how = {"url": f"{cache.url}/v1", "what": "audio.transcriptions.create", "raw": b64(SOUND)}
    one, other = node([("openai", how | {"args": {"model": SPEECH}})] * 2)
    third, = python("hub2", [("openai_call", how | {"arguments": {"model": SPEECH}})])
    assert one["text"] == other["text"] == third["text"] == models.transcript(SOUND)
    assert len(upstream.calls()) == 1


def test_a_model_that_refuses_parameters(python, cache, upstream):
    """The client drops them itself when it is told which."""
    value, = python("hub2", [("task", {"url": at(cache, "gpt2"), "name": "text_generation",
                                       "arguments": {"prompt": "Once", "do_sample": False, "stop": ["x"], "max_new_tokens": 4}})])
    *refused, answered = [c.status for c in upstream.calls()]
    assert len(value.split()) == 4 and set(refused) == {400} and answered == 200
