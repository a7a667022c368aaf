# SPDX-License-Identifier: Apache-2.0
"""The doubles themselves: shapes, real models, rules, the record. No daemon."""
import base64
import json
import math
import struct
import subprocess
import sys
import threading
import urllib.request
import zlib
from pathlib import Path

import pytest

from asking import (CHAT, CLASSIFY, COMPLETIONS, EMBEDDING, EMBEDDINGS, GENERATE, LOVE, MESSAGES, PICTURE, RESPONSES, SENTIMENT, SPEECH,
                    TEXT, chat, data_of, events_of, post, said, stream)
from harness import wait_for
from inferdouble import Gate, InferDouble, Server, models
from wire import Connection

HERE = Path(__file__).resolve().parent


@pytest.fixture
def double():
    with InferDouble() as one:
        yield one


def test_the_seed_example_in_every_spelling(double):
    bodies = {post(double, f"{prefix}/models/{SENTIMENT}{suffix}", LOVE).body
              for prefix in ("", "/hf-inference", "/api/inference-proxy/hf-inference") for suffix in ("", "/pipeline/text-classification")}
    bodies |= {post(double, f"{prefix}/pipeline/text-classification/{SENTIMENT}", LOVE).body for prefix in ("", "/hf-inference")}
    (first, second), = json.loads(bodies.pop())
    assert not bodies and first["label"] == "POSITIVE" and second["label"] == "NEGATIVE"
    assert 0.5 < first["score"] < 1 and math.isclose(first["score"] + second["score"], 1)
    answer = post(double, CLASSIFY, {"inputs": ["I love it", "I hate it"]})
    assert [row[0]["label"] for row in answer.json()] == ["POSITIVE", "NEGATIVE"]
    assert len(answer["x-sha"]) == 40 and answer["x-compute-type"] == "cpu" and answer["set-cookie"]


def test_vectors_are_those_of_the_real_model(double):
    text = "This is an example sentence"
    vector = post(double, f"/models/{EMBEDDING}/pipeline/feature-extraction", {"inputs": text}).json()
    assert [round(x, 4) for x in vector[:4]] == [0.0677, 0.0635, 0.0487, 0.0793] and len(vector) == 384
    floats = post(double, EMBEDDINGS, {"model": EMBEDDING, "input": text}).json()["data"][0]["embedding"]
    packed = post(double, EMBEDDINGS, {"model": EMBEDDING, "input": text, "encoding_format": "base64"}).json()["data"][0]["embedding"]
    assert floats == vector == list(struct.unpack("<384f", base64.b64decode(packed)))
    near = post(double, f"/models/{EMBEDDING}", {"inputs": {"source_sentence": "A man is eating food.", "sentences": [
        "A man is eating a piece of bread.", "The girl is carrying a baby."]}}).json()
    assert 0.74 < near[0] < 0.77 and near[1] < 0


STREAMS = [(CHAT, chat()), (COMPLETIONS, {"model": TEXT, "prompt": "x", "temperature": 0}), (GENERATE, {"inputs": "x"}),
           (RESPONSES, {"model": TEXT, "input": "x", "temperature": 0}), (MESSAGES, {"model": TEXT, "messages": [], "temperature": 0})]


@pytest.mark.parametrize("path,body", STREAMS, ids=["chat", "completions", "tgi", "responses", "messages"])
def test_a_stream_says_what_the_whole_answer_says(double, path, body):
    whole = post(double, path, body).json()
    answer = post(double, path, body | {"stream": True})
    events = events_of(answer)
    assert answer["content-type"] == "text/event-stream" and answer["cache-control"] == "no-cache" and answer["x-compute-time"] is None
    values = data_of(events)
    if path == CHAT:
        assert said(events) == whole["choices"][0]["message"]["content"] and values[-1] == "[DONE]"
        assert events[-1] == b"data: [DONE]\n\n" and values[-2]["choices"][0]["finish_reason"] == "stop"
    elif path == COMPLETIONS:
        assert said(events) == whole["choices"][0]["text"] and values[-1] == "[DONE]"
    elif path == GENERATE:
        assert said(events) == values[-1]["generated_text"] == whole[0]["generated_text"] and values[0]["generated_text"] is None
    elif path == RESPONSES:
        text = "".join(v["delta"] for v in values if v["type"] == "response.output_text.delta")
        assert text == whole["output"][0]["content"][0]["text"] and values[-1]["type"] == "response.completed"
    else:
        text = "".join(v["delta"]["text"] for v in values if v["type"] == "content_block_delta")
        assert text == whole["content"][0]["text"] and values[-1]["type"] == "message_stop"
    call = double.calls()[-1]
    wait_for(lambda: call.complete)    # the last of it may be here before that is written down
    assert call.events == len(events)


def test_what_is_repeatable_repeats(double):
    def text(**more):
        return post(double, CHAT, chat(**more)).json()["choices"][0]["message"]["content"]
    assert text() == text() and text(temperature=1, seed=3) == text(temperature=1, seed=3)
    assert text(temperature=1) != text(temperature=1) and text(temperature=None) != text(temperature=None)
    assert text() != text(top_k=4) and len(text(max_tokens=3).split()) == 3
    assert post(double, CHAT, chat(max_tokens=3)).json()["choices"][0]["finish_reason"] == "length"


def test_pictures_and_speech(double):
    picture = post(double, f"/models/{PICTURE}", {"inputs": "x", "parameters": {"seed": 1}}, Accept="image/png")
    assert picture["content-type"] == "image/jpeg" and picture.body[:3] == b"\xff\xd8\xff" and picture.body[-2:] == b"\xff\xd9"
    assert picture.body == post(double, f"/models/{PICTURE}", {"inputs": "x", "parameters": {"seed": 1}}).body
    double.rule(path="FLUX", answer="png")
    png = post(double, f"/models/{PICTURE}", {"inputs": "x"}).body
    at = png.index(b"IDAT")
    size, = struct.unpack(">I", png[at - 4:at])
    assert len(zlib.decompress(png[at + 4:at + 4 + size])) == 32 * (1 + 3 * 32)
    for kind in (None, "audio/flac", "application/octet-stream"):
        assert post(double, f"/models/{SPEECH}", b"\0sound", kind=kind).json() == {"text": models.transcript(b"\0sound")}
    assert post(double, f"/models/{SPEECH}", {"inputs": base64.b64encode(b"\0sound").decode()}).json()["text"] == models.transcript(b"\0sound")


def test_errors_wear_the_dress_of_their_route(double):
    assert post(double, "/models/no/body", LOVE).json() == {"error": "Model no/body does not exist"}
    assert "not exist" in post(double, CHAT, chat(model="no/body")).json()["error"]["message"]
    wrong = post(double, CHAT, b"{}x")
    assert wrong.status == 422 and wrong["content-type"].startswith("text/plain")
    refused = post(double, "/models/gpt2", {"inputs": "x", "parameters": {"watermark": True}})
    assert refused.status == 400 and "`model_kwargs`" in refused.json()["error"] and refused.json()["warnings"]
    assert post(double, GENERATE, {"inputs": "x", "parameters": {"temperature": 0}}).json()["error_type"] == "validation"
    double.rule(path="/models/", loading=2)
    answers = [post(double, CLASSIFY, LOVE) for _ in range(3)]
    assert [a.status for a in answers] == [503, 503, 200] and answers[0].json()["estimated_time"] == 20.0
    double.rule(path=CHAT, limited=7)
    assert post(double, CHAT, chat())["Retry-After"] == "7"


def test_faults_between_events(double):
    for how, end, count in (({"cut_event": 2}, "fin", 2), ({"reset_event": 2}, "rst", 2), ({"half_event": 2}, "fin", 2),
                            ({"end_event": 2}, "complete", 2), ({"error_event": 2}, "complete", 3), ({"cut_event": 15}, "fin", 15)):
        rule = double.rule(path=CHAT, **how)
        with stream(double, CHAT, chat(stream=True)) as one:
            events = one.rest()
            assert (one.end, len(events)) == (end, count) and bool(one.text) == ("half_event" in how), how
        rule.remove()
    double.rule(path=CHAT, dress="old-tgi", pieces=7, keep_alive=[3])
    answer = post(double, CHAT, chat(stream=True))
    assert b"data:{" in answer.body and b"[DONE]" not in answer.body and answer.body.count(b": keep-alive\n\n") == 1


def test_gates_hold_and_let_go(double):
    gate = double.gate(event=3, path=CHAT)
    with stream(double, CHAT, chat(stream=True)) as one:
        assert all(one.next_event() for _ in range(3))
        gate.wait_for(1)
        assert gate.waiting == 1 and double.calls()[0].events == 3, double.calls()[0]
        gate.open()
        assert len(one.rest()) == 12
    before = double.gate(path="/models/")
    found = []
    threads = [threading.Thread(target=lambda: found.append(post(double, CLASSIFY, LOVE).status)) for _ in range(2)]
    for thread in threads:
        thread.start()
    before.wait_for(2)
    assert not found
    before.one()
    wait_for(lambda: found == [200])
    before.open()
    for thread in threads:
        thread.join()
    assert found == [200, 200]


def test_the_record_knows_who_left(double):
    double.rule(path=CHAT, stall_event=2)
    with stream(double, CHAT, chat(stream=True)) as one:
        assert one.next_event() and one.next_event()
    wait_for(lambda: double.calls()[0].t_end)
    call = double.calls()[0]
    assert call.left and not call.complete and call.events == 2 and call.model == TEXT
    double.rule(path="/models/", gate=Gate())
    with stream(double, CLASSIFY, LOVE):
        wait_for(lambda: len(double.calls()) == 2)
    wait_for(lambda: double.calls()[1].left)


def test_tei_reads_two_strings_as_a_pair(double):
    tei = double.add("tei", model="acme/clf")
    assert len(post(tei, "/predict", {"inputs": ["a", "b"]}).json()) == 2 and "label" in post(tei, "/predict", {"inputs": "a"}).json()[0]
    assert [row[0]["label"] for row in post(tei, "/predict", {"inputs": [["I love it"], ["I hate it"]]}).json()] == ["POSITIVE", "NEGATIVE"]
    assert post(tei, "/embed", {"inputs": "a"}).status == 424
    assert post(tei, "/predict", {"inputs": [["a"]] * 33}).status == 413
    near = double.add("tei", type="embedding")
    assert len(post(near, "/embed", {"inputs": "a"}).json()[0]) == 384
    best = double.add("tei", type="reranker")
    found = post(best, "/rerank", {"query": "eating", "texts": ["A girl", "A man is eating food"]}).json()
    assert [one["index"] for one in found] == [1, 0]


def test_local_servers_have_their_own_manners(double):
    vllm, llama, ollama, tgi = (double.add(kind) for kind in ("vllm", "llamacpp", "ollama", "tgi"))
    assert post(vllm, CHAT, chat(model="other")).status == 404 and post(vllm, CHAT, chat(model="acme/local")).json()["model"] == "acme/local"
    assert post(vllm, "/classify", {"model": "acme/local", "input": ["I love it"]}).json()["data"][0]["label"] == "POSITIVE"
    assert post(llama, CHAT, chat(model="whatever")).json()["model"] == "acme/local"
    llama.options.is_ready = False
    assert post(llama, "/health", method="GET").json()["error"]["message"] == "Loading model"
    assert post(ollama, CHAT, chat(model="nothing")).status == 404
    lines = post(ollama, "/api/generate", {"model": "smollm:135m", "prompt": "x", "options": {"temperature": 0}}).body.splitlines()
    assert json.loads(lines[-1])["done"] and len(lines) == 13
    assert post(tgi, CHAT, chat(model="tgi")).json()["model"] == "tgi"
    assert isinstance(post(tgi, "/generate", {"inputs": "x"}).json(), dict) and isinstance(post(tgi, "/", {"inputs": "x"}).json(), list)
    locked = double.add("vllm", key="secret")
    assert post(locked, "/v1/models", method="GET").status == 401
    assert post(locked, "/v1/models", method="GET", token="secret").status == 200


def test_an_app_takes_a_session(double):
    app = double.add("gradio", beat=0.1)
    config = post(app, "/config", method="GET")
    assert config.json()["root"] == app.url and config["Set-Cookie"]
    assert post(app, "/config", method="GET", X_Forwarded_Host="me.test/app", X_Forwarded_Proto="https").json()["root"] == "https://me.test/app"
    form = b'--B\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\nhello\r\n\r\n--B--\r\n'
    path, = post(app, "/gradio_api/upload", form, kind="multipart/form-data; boundary=B").json()
    assert post(app, f"/gradio_api/file={path}", method="GET").body == b"hello\r\n"
    join = {"data": [{"path": path}], "fn_index": 2, "session_hash": "s"}
    assert post(app, "/gradio_api/queue/join", join).json()["event_id"]
    messages = data_of(events_of(post(app, "/gradio_api/queue/data?session_hash=s", method="GET")))
    assert [m["msg"] for m in messages][-2:] == ["process_completed", "close_stream"]
    made = messages[-2]["output"]["data"][0]
    assert made["url"].startswith(app.url) and post(app, f"/gradio_api/file={made['path']}", method="GET").body == b"HELLO\r\n"
    event = post(app, "/gradio_api/call/greet", {"data": ["You"]}).json()["event_id"]
    assert post(app, f"/gradio_api/call/greet/{event}", method="GET").body == b'event: complete\ndata: ["Hello You!"]\n\n'


def test_an_app_echoes_over_a_web_socket(double):
    app = double.add("gradio")
    with Connection(("127.0.0.1", app.port)) as conn:
        conn.request("GET", "/ws", [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
                                    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")])
        while b"\r\n\r\n" not in conn.buffer:
            assert conn._more()
        head, _, conn.buffer = conn.buffer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        conn.send(b"\x81\x85\0\0\0\0hello" + b"\x88\x80\0\0\0\0")
        assert conn.rest()[0] == b"\x81\x05hello\x88\x00"


def test_as_a_program(folder):
    ready = folder / "ready.json"
    program = subprocess.Popen([sys.executable, "-m", "inferdouble", "--server", "tei:type=embedding", "--ready-file", str(ready)],
                               cwd=HERE, stdout=subprocess.DEVNULL)
    try:
        wait_for(ready.exists)
        urls = json.loads(ready.read_text())

        def ask(url, value=None):
            request = urllib.request.Request(url, None if value is None else json.dumps(value).encode(),
                                             {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        ask(urls["control"] + "/rule", {"server": "tei", "path": "/embed", "body": "[[1]]"})
        assert ask(urls["tei"] + "/embed", {"inputs": "x"}) == [[1]]
        assert [c["path"] for c in ask(urls["control"] + "/calls?server=tei")["calls"]] == ["/embed"]
    finally:
        program.terminate()
        assert program.wait(10) == 0


def test_a_server_comes_and_goes():
    with Server("tgi") as one:
        assert post(one, "/health", method="GET").status == 200
        one.kill()
        with pytest.raises(ConnectionRefusedError):
            post(one, "/health", method="GET")
        one.revive()
        assert post(one, "/health", method="GET").status == 200
    with pytest.raises(ValueError):
        one.rule(no_such_action=1)
