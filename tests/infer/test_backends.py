# SPDX-License-Identifier: Apache-2.0
"""Inference servers of one's own: which call goes to which, in which shape, and what happens when one is not well.

The servers are the doubles of TGI, TEI, vLLM, llama.cpp and Ollama; `upstream` is the router, which most cases expect to be left
alone.
"""
import itertools
import json
import os
import re
import subprocess
import threading
import time

import pytest

from asking import CHAT, CLASSIFY, COMPLETIONS, EMBEDDINGS, LOVE, SENTIMENT, chat, data_of, events_of, is_hit, post, said, stream
from harness import BINARY, wait_for

MODEL = "acme/chat"
TASK = f"/hf-inference/models/{MODEL}"
KEY = "sk-the-key-of-a-backend-0123456789"


def section(title, server, kind=None, **keys):
    keys = {"url": getattr(server, "url", server), "kind": kind or server.kind} | keys
    keys = {k: " ".join(v) if isinstance(v, (list, tuple)) else v for k, v in keys.items()}
    return f"[backend {title}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items())


def by(answer):
    return answer["x-inference-backend"]


# --- classification ---

def test_I45_a_list_of_texts_is_a_batch_and_a_single_one_a_nested_list(start, backend, upstream):
    tei = backend("tei")
    cache = start(config=section("near", tei, models=[SENTIMENT]))
    both = post(cache, f"{CLASSIFY}/pipeline/text-classification", {"inputs": ["I love it", "I hate it"]})
    assert both.status == 200 and by(both) == "near"
    assert json.loads(tei.posts()[0].body)["inputs"] == [["I love it"], ["I hate it"]]
    good, bad = json.loads(both.body)
    assert good[0]["label"] == "POSITIVE" and bad[0]["label"] == "NEGATIVE" and len(good) == len(bad) == 2
    one = json.loads(post(cache, f"{CLASSIFY}/pipeline/text-classification", LOVE).body)
    assert len(one) == 1 and one[0][0]["label"] == "POSITIVE" and 0.5 < one[0][0]["score"] <= 1
    best = json.loads(post(cache, f"{CLASSIFY}/pipeline/text-classification", LOVE | {"parameters": {"top_k": 1}}).body)
    assert [len(best), len(best[0])] == [1, 1]
    assert not upstream.posts()


def test_a_task_that_the_path_does_not_tell_is_what_the_server_does(start, backend, upstream):
    tei = backend("tei", model=SENTIMENT)
    cache = start(config=section("near", tei))
    wait_for(lambda: tei.calls("/info"))
    words = itertools.count()   # what upstream has answered is kept, and would be given again
    answer = wait_for(lambda: (a := post(cache, CLASSIFY, {"inputs": f"I love you {next(words)}!"})) and by(a) == "near" and a,
                      why="its inventory")
    assert json.loads(answer.body)[0][0]["label"] == "POSITIVE" and tei.posts()[-1].path == "/predict"


def test_a_function_that_it_does_not_have_is_asked_of_the_next(start, backend, upstream):
    tei = backend("tei")
    cache = start(config=section("near", tei, models=[SENTIMENT]))
    body = LOVE | {"parameters": {"function_to_apply": "sigmoid"}}
    answer = post(cache, f"{CLASSIFY}/pipeline/text-classification", body)
    assert answer.status == 200 and by(answer) == "upstream" and not tei.posts() and len(upstream.posts()) == 1


# --- names of models ---

def test_I46_the_model_is_renamed_both_ways_in_chunks_too(start, backend, upstream):
    vllm = backend("vllm", model="served/name")
    cache = start(config=section("near", vllm, models=["acme/*"], name="served/name"))
    whole = post(cache, CHAT, chat(model=MODEL))
    assert whole.status == 200 and by(whole) == "near" and json.loads(whole.body)["model"] == MODEL
    assert json.loads(vllm.posts()[0].body)["model"] == "served/name"
    with stream(cache, CHAT, chat("Another one.", model=MODEL, stream=True)) as one:
        events = one.rest()
        assert one.end == "complete"
    chunks = [value for value in data_of(events) if value != "[DONE]"]
    assert chunks and {chunk["model"] for chunk in chunks} == {MODEL} and said(events)
    assert events[-1] == b"data: [DONE]\n\n" and not upstream.posts()


@pytest.mark.parametrize("model", ["dummy", "tgi", None])
def test_I47_who_names_no_model_is_served_by_the_default_one(start, backend, upstream, model):
    vllm, other = backend("vllm", model="real/one"), backend("vllm", model="not/asked")
    cache = start(config=section("other", other) + section("near", vllm, models=["real/one"], default="yes"))
    answer = post(cache, CHAT, chat(model=model))
    assert answer.status == 200 and by(answer) == "near", answer
    assert json.loads(vllm.posts()[0].body)["model"] == "real/one"
    assert json.loads(answer.body)["model"] == (model or "real/one")
    assert not other.posts() and not upstream.posts()


def test_exact_names_go_before_globs_and_a_provider_pins_upstream(start, backend, upstream):
    wide, exact = backend("vllm", names=[MODEL]), backend("vllm", names=[MODEL, f"{MODEL}:8b"])
    cache = start(config=section("wide", wide, models=["acme/*"]) + section("exact", exact, models=[MODEL]))
    assert by(post(cache, CHAT, chat(model=MODEL))) == "exact"
    assert by(post(cache, CHAT, chat(model=f"{MODEL}:fastest"))) == "exact"
    assert by(post(cache, CHAT, chat(model=f"{MODEL}:8b"))) == "wide", "another suffix is part of the name"
    assert by(post(cache, CHAT, chat(model=f"{MODEL}:groq"))) == "upstream"


# --- when one is not well ---

def test_I48_the_next_is_asked_once_when_one_refuses_connections(start, backend, upstream):
    first, second = backend("vllm", names=[MODEL]), backend("vllm", names=[MODEL])
    config = section("first", first, models=[MODEL]) + section("second", second, models=["acme/*"])
    cache = start(config=config)
    first.kill()
    answer = post(cache, CHAT, chat(model=MODEL))
    assert answer.status == 200 and by(answer) == "second" and len(second.posts()) == 1
    second.kill()
    upstream.add_model(MODEL, "text-generation", "text")
    answer = post(cache, CHAT, chat("Further.", model=MODEL))
    assert answer.status == 200 and by(answer) == "upstream" and len(upstream.posts()) == 1


@pytest.mark.parametrize("what", [{"fail": 502}, {"fail": 504}, {"close": True}])
def test_I48_what_ends_before_the_first_byte_goes_to_the_next(start, backend, upstream, what):
    first, second = backend("vllm", names=[MODEL]), backend("vllm", names=[MODEL])
    cache = start(config=section("first", first, models=[MODEL]) + section("second", second, models=["acme/*"]))
    first.rule(method="POST", **what)
    answer = post(cache, CHAT, chat(model=MODEL))
    assert answer.status == 200 and by(answer) == "second" and len(first.posts()) == len(second.posts()) == 1


def test_I48_after_the_first_byte_it_is_broken_off(start, backend, upstream):
    first, second = backend("vllm", names=[MODEL]), backend("vllm", names=[MODEL])
    cache = start(config=section("first", first, models=[MODEL]) + section("second", second, models=["acme/*"]))
    first.rule(method="POST", cut_event=3)
    with stream(cache, CHAT, chat(model=MODEL, stream=True)) as one:
        one.rest()
        assert one.answer.status == 200 and one.end != "complete"
    assert not second.posts() and not upstream.posts()
    first.clear_rules()
    assert not is_hit(post(cache, CHAT, chat(model=MODEL))), "what was cut is not kept"


@pytest.mark.parametrize("status", [400, 422, 404])
def test_a_refusal_is_the_answer(start, backend, upstream, status):
    first, second = backend("vllm", names=[MODEL]), backend("vllm", names=[MODEL])
    cache = start(config=section("first", first, models=[MODEL]) + section("second", second, models=["acme/*"]))
    first.rule(method="POST", fail=status, message="never")
    answer = post(cache, CHAT, chat(model=MODEL))
    assert answer.status == status and b"never" in answer.body and not second.posts()


def test_I49_a_server_that_is_loading_is_waited_for_and_not_dead(start, backend, upstream):
    llama = backend("llamacpp")
    llama.rule(method="POST", loading=2)
    cache = start(config=section("near", llama, models=[MODEL]), inference_mode="offline")
    answer = post(cache, CHAT, chat(model=MODEL), x_wait_for_model="true")
    assert answer.status == 200 and by(answer) == "near", answer
    assert len(llama.posts()) == 3


def test_I49_who_does_not_wait_hears_that_it_is_loading(start, backend, upstream):
    llama = backend("llamacpp", is_ready=False)
    llama.rule(method="POST", fail=503, message="Loading model")
    cache = start(config=section("near", llama, models=[MODEL]), inference_mode="offline")
    answer = post(cache, CHAT, chat(model=MODEL))
    assert answer.status == 503 and answer["Retry-After"] and b"Loading model" in answer.body
    answer = post(cache, CHAT, chat(model=MODEL), user_agent="@huggingface/inference/4.13.30")
    assert answer.status == 504
    # another one that serves it is not waited for
    llama.clear_rules()
    llama.options.is_ready = True
    wait_for(lambda: post(cache, CHAT, chat(model=MODEL)).status == 200)


def test_a_silent_one_is_left_after_its_timeout(start, backend, upstream):
    first, second = backend("vllm", names=[MODEL]), backend("vllm", names=[MODEL])
    cache = start(config=section("first", first, models=[MODEL], timeout="300ms") + section("second", second, models=["acme/*"]))
    gate = first.gate(path=CHAT)
    answer = post(cache, CHAT, chat(model=MODEL))
    gate.open()
    assert answer.status == 200 and by(answer) == "second" and len(first.posts()) == 1


@pytest.mark.parametrize("what", [{"close": True}, {"limited": 1}])
def test_an_only_one_is_asked_once_more(start, backend, upstream, what):
    near = backend("vllm", names=[MODEL])
    near.rule(method="POST", times=1, **what)
    cache = start(config=section("near", near, models=[MODEL]), inference_mode="offline")
    answer = post(cache, CHAT, chat(model=MODEL))
    assert answer.status == 200 and len(near.posts()) == 2
    near.rule(method="POST", fail=429, retry_after=30)
    begun = time.monotonic()
    answer = post(cache, CHAT, chat("Another.", model=MODEL))
    assert answer.status == 429 and answer["Retry-After"] == "30" and time.monotonic() - begun < 20, "that is left to the client"


def test_I08_a_model_of_a_glob_is_mapped_when_the_hub_cannot_be_asked(start, backend, upstream):
    near = backend("vllm", names=[MODEL])
    cache = start(config=section("near", near, models=["acme/ch*"]), hub_offline="yes")
    answer = cache.get(f"/api/models/{MODEL}?expand=inferenceProviderMapping")
    [one] = answer.json()["inferenceProviderMapping"]
    assert answer.status == 200 and one["provider"] == "hf-inference" and one["providerId"] == MODEL


def test_three_failures_open_the_circuit_and_a_good_probe_closes_it(start, backend, upstream):
    near = backend("vllm", names=[MODEL])
    cache = start(config=section("near", near, models=[MODEL]), inference_mode="offline")
    wait_for(lambda: near.calls("/health"))
    near.kill()
    for n in range(3):
        answer = post(cache, CHAT, chat(f"Number {n}.", model=MODEL))
        assert answer.status == 504 and answer["x-should-retry"] == "false", answer
    wait_for(lambda: "a backend does not answer" in cache.stderr())
    near.revive()
    answer = wait_for(lambda: (a := post(cache, CHAT, chat("Back.", model=MODEL))).status == 200 and a, 15)
    assert by(answer) == "near"


# --- tokens ---

def test_I50_a_backend_is_sent_its_key_and_never_a_token(start, backend, upstream, people, folder):
    near = backend("vllm", names=[MODEL], key=KEY)
    cache = start(config=section("near", near, models=[MODEL]), command=["--set", f"backend near.key={KEY}"])
    answer = post(cache, CHAT, chat(model=MODEL), token=people.alice, x_api_key="sk-user", cookie="a=b", x_hf_bill_to="acme")
    assert answer.status == 200 and by(answer) == "near"
    for call in near.calls():
        assert call.header("Authorization") == f"Bearer {KEY}", call.path
        assert people.alice not in str(call.headers)
    call = near.posts()[0]
    assert not [name for name in ("x-api-key", "Cookie", "X-HF-Bill-To") if call.header(name)]
    assert KEY not in cache.stderr()


def test_I50_without_a_key_it_is_sent_nothing(start, backend, upstream, people):
    near = backend("vllm", names=[MODEL])
    cache = start(config=section("near", near, models=[MODEL]))
    assert post(cache, CHAT, chat(model=MODEL), token=people.alice).status == 200
    assert not [call for call in near.calls() if call.header("Authorization")]


# --- air gap ---

@pytest.mark.parametrize("how", [{"hub_offline": "yes"}, {"inference_mode": "offline"}])
def test_I51_without_upstream_backends_are_still_asked(start, backend, upstream, how):
    near = backend("vllm", names=[MODEL])
    upstream.add_model(MODEL, "text-generation", "text")
    cache = start(config=section("near", near, models=[MODEL]), **how)
    answer = post(cache, CHAT, chat(model=MODEL))
    assert answer.status == 200 and by(answer) == "near"
    near.kill()
    kept = post(cache, CHAT, chat(model=MODEL))
    assert kept.status == 200 and is_hit(kept) and kept.body == answer.body and by(kept) == "near"
    other = post(cache, CHAT, chat("Something else.", model=MODEL))
    assert other.status == 504 and other["x-should-retry"] == "false"
    assert post(cache, CLASSIFY, LOVE).status == 504
    assert not upstream.calls(), "upstream was asked"


# --- generation ---

@pytest.mark.parametrize("kind", ["vllm", "llamacpp", "ollama"])
def test_I52_generation_is_asked_as_a_completion(start, backend, upstream, kind):
    near = backend(kind, **({"names": [MODEL]} if kind != "llamacpp" else {}))
    cache = start(config=section("near", near, models=[MODEL]))
    path = f"{TASK}/pipeline/text-generation"
    plain = post(cache, path, {"inputs": "The sea", "parameters": {"max_new_tokens": 5}})
    assert plain.status == 200 and by(plain) == "near", plain
    sent = json.loads(near.posts()[0].body)
    assert near.posts()[0].path == COMPLETIONS and sent["prompt"] == "The sea" and sent["max_tokens"] == 5 and sent["temperature"] == 0
    [text] = json.loads(plain.body)
    full = post(cache, path, {"inputs": "The sea", "parameters": {"max_new_tokens": 5, "return_full_text": True}})
    assert json.loads(full.body) == [{"generated_text": "The sea" + text["generated_text"]}]
    with stream(cache, path, {"inputs": "The sea", "parameters": {"max_new_tokens": 5, "top_k": 3}, "stream": True}) as one:
        events = one.rest()
        assert one.end == "complete" and one.answer["Content-Type"].startswith("text/event-stream")
    tokens = data_of(events)
    assert tokens[-1]["generated_text"] == said(events) and all(t["generated_text"] is None for t in tokens[:-1]) and len(tokens) > 2
    assert not upstream.posts()


def test_I52_tgi_takes_the_call_as_it_is_but_for_a_temperature_of_0(start, backend, upstream):
    tgi = backend("tgi")
    cache = start(config=section("near", tgi, models=[MODEL]))
    answer = post(cache, TASK, {"inputs": "The sea", "parameters": {"temperature": 0, "max_new_tokens": 4}})
    assert answer.status == 200 and by(answer) == "near", answer
    assert json.loads(tgi.posts()[0].body)["parameters"] == {"max_new_tokens": 4, "do_sample": False}
    assert json.loads(answer.body)[0]["generated_text"]


@pytest.mark.parametrize("fault", ["cut_event", "reset_event", "half_event", "end_event"])
def test_I52_a_stream_that_breaks_off_anywhere_never_ends_well_and_is_not_kept(start, backend, upstream, fault):
    near = backend("vllm", names=[MODEL])
    cache = start(config=section("near", near, models=[MODEL]), inference_mode="offline")
    path = f"{TASK}/pipeline/text-generation"
    for n in range(4):
        body = {"inputs": f"The sea {n}", "parameters": {"max_new_tokens": 3}, "stream": True}
        rule = near.rule(path=COMPLETIONS, **{fault: n})
        with stream(cache, path, body) as one:
            one.rest()
            assert one.answer.status == 502 or one.end != "complete", (fault, n)
        rule.remove()
        good = post(cache, path, body)     # and so the circuit stays closed
        assert good.status == 200 and not is_hit(good) and data_of(events_of(good))[-1]["generated_text"]
    rule = near.rule(path=COMPLETIONS, error_event=2)
    with stream(cache, path, body | {"inputs": "error"}) as one:
        events = one.rest()
    assert "error" in data_of(events)[-1] and isinstance(data_of(events)[-1]["error"], str)
    rule.remove()
    assert not is_hit(post(cache, path, body | {"inputs": "error"}))


# --- how many at a time ---

def test_I53_over_its_cap_calls_spill_over(start, backend, upstream):
    first, second = backend("vllm", names=[MODEL]), backend("vllm", names=[MODEL])
    cache = start(config=section("first", first, models=[MODEL], concurrency=1) + section("second", second, models=["acme/*"]))
    gate = first.gate(path=CHAT)
    held = threading.Thread(target=post, args=(cache, CHAT, chat("Held.", model=MODEL)))
    held.start()
    gate.wait_for(1)
    answer = post(cache, CHAT, chat("Spilled.", model=MODEL))
    assert answer.status == 200 and by(answer) == "second" and len(first.posts()) == 1
    gate.open()
    held.join()


def test_I53_over_the_cap_of_all_it_waits_a_moment_and_is_429(start, backend, upstream):
    near = backend("vllm", names=[MODEL])
    cache = start(config=section("near", near, models=[MODEL], concurrency=2), inference_mode="offline")
    gate = near.gate(path=CHAT)
    held = [threading.Thread(target=post, args=(cache, CHAT, chat(f"Held {n}.", model=MODEL))) for n in range(2)]
    for thread in held:
        thread.start()
    gate.wait_for(2)
    refused = post(cache, CHAT, chat("Too much.", model=MODEL))
    assert refused.status == 429 and refused["Retry-After"], refused
    # who waits gets the place that becomes free
    waiting = []
    late = threading.Thread(target=lambda: waiting.append(post(cache, CHAT, chat("Late.", model=MODEL))))
    late.start()
    gate.open()
    for thread in [*held, late]:
        thread.join()
    assert waiting[0].status == 200 and len(near.posts()) == 3


def test_I53_equal_calls_need_one_place(start, backend, upstream):
    near = backend("vllm", names=[MODEL])
    cache = start(config=section("near", near, models=[MODEL], concurrency=1), inference_mode="offline")
    gate = near.gate(path=CHAT)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(post(cache, CHAT, chat(model=MODEL)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.wait_for(1)
    wait_for(lambda: cache.metric("hfcache_http_connections") > 8, why="all of them")
    gate.open()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} == {200} and len({answer.body for answer in answers}) == 1 and len(near.posts()) == 1


def test_a_client_that_leaves_frees_the_backend(start, backend, upstream):
    near = backend("vllm", names=[MODEL])
    cache = start(config=section("near", near, models=[MODEL], concurrency=1), inference_mode="offline")
    gate = near.gate(event=2, path=CHAT)
    with stream(cache, CHAT, chat(model=MODEL, stream=True)) as one:
        assert one.next_event()
        gate.wait_for(1)
    wait_for(lambda: near.connections() == 0 or near.posts()[0].left, why="the call's end at the backend")
    answer = None

    def asked_again():
        nonlocal answer
        gate.open()
        answer = post(cache, CHAT, chat("Another.", model=MODEL))
        return answer.status == 200
    wait_for(asked_again)


# --- the other adapters ---

def test_embeddings_and_similarity_by_tei_and_by_v1(start, backend, upstream):
    tei, vllm = backend("tei", type="embedding"), backend("vllm", names=["acme/second"])
    cache = start(config=section("tei", tei, models=["acme/first"]) + section("vllm", vllm, models=["acme/second"]))
    out = {}
    for name in ("first", "second"):
        for task, body in (("feature-extraction", {"inputs": ["a cat", "a dog"]}),
                           ("sentence-similarity", {"inputs": {"source_sentence": "a cat", "sentences": ["a dog", "taxes"]}})):
            answer = post(cache, f"/hf-inference/models/acme/{name}/pipeline/{task}", body)
            assert answer.status == 200 and by(answer) in ("tei", "vllm"), answer
            out[name, task] = json.loads(answer.body)
    assert [len(v) for v in out["first", "feature-extraction"]] == [len(v) for v in out["second", "feature-extraction"]] != []
    for one, two in zip(out["first", "sentence-similarity"], out["second", "sentence-similarity"]):
        assert abs(one - two) < 1e-4
    assert out["first", "sentence-similarity"][0] > out["first", "sentence-similarity"][1]
    assert not upstream.posts()


def test_ranking_by_tei(start, backend, upstream):
    tei = backend("tei", type="reranker")
    cache = start(config=section("tei", tei, models=["acme/rank"]))
    answer = post(cache, "/hf-inference/models/acme/rank/pipeline/text-ranking", {"inputs": {"query": "a cat", "texts": ["a dog", "a cat"]}})
    assert answer.status == 200 and {row["index"] for row in json.loads(answer.body)} == {0, 1}


def test_classification_by_vllm(start, backend, upstream):
    vllm = backend("vllm", names=["acme/clf"])
    cache = start(config=section("vllm", vllm, models=["acme/clf"]))
    [labels] = json.loads(post(cache, "/hf-inference/models/acme/clf/pipeline/text-classification", LOVE).body)
    assert labels[0]["label"] == "POSITIVE" and len(labels) == 2 and labels[0]["score"] > labels[1]["score"]


def test_speech_becomes_a_form(start, backend, upstream):
    vllm = backend("vllm", names=["acme/ear"])
    cache = start(config=section("vllm", vllm, models=["acme/ear"]))
    sound = b"fLaC" + bytes(range(256)) * 40
    answer = post(cache, "/hf-inference/models/acme/ear/pipeline/automatic-speech-recognition", sound, kind="audio/flac")
    assert answer.status == 200 and json.loads(answer.body).keys() == {"text"}, answer
    call = vllm.posts()[0]
    assert call.path == "/v1/audio/transcriptions" and sound in call.body and b'name="model"\r\n\r\nacme/ear\r\n' in call.body


def test_I46_a_form_names_the_model_too(start, backend, upstream):
    vllm = backend("vllm", model="served/ear")
    cache = start(config=section("vllm", vllm, models=["acme/ear"], name="served/ear"))
    sound = b"fLaC" + bytes(range(256)) * 40
    part = b"--b\r\nContent-Disposition: form-data; name=\"%s\"%s\r\n\r\n%s\r\n"
    body = part % (b"model", b"", b"acme/ear") + part % (b"file", b'; filename="a.flac"', sound) + b"--b--\r\n"
    answer = post(cache, "/v1/audio/transcriptions", body, kind="multipart/form-data; boundary=b")
    assert answer.status == 200 and by(answer) == "vllm" and answer.json()["text"], answer
    assert vllm.posts()[0].body == body.replace(b"acme/ear", b"served/ear") and not upstream.posts()


def test_the_pipeline_contract_at_a_path_of_its_own(start, backend, upstream):
    pipeline = backend("pipeline", path="/inner/clf", task="text-classification")
    cache = start(config=section("near", f"{pipeline.url}/inner/clf/", kind="hf", models=["acme/clf"]))
    answer = post(cache, "/hf-inference/models/acme/clf", LOVE)
    assert answer.status == 200 and by(answer) == "near" and pipeline.posts()[0].path == "/inner/clf", answer
    assert json.loads(answer.body)[0][0]["label"] == "POSITIVE"


def test_embeddings_of_openai_clients(start, backend, upstream):
    tei = backend("tei", type="embedding")
    cache = start(config=section("tei", tei, models=["acme/embed"]))
    answer = post(cache, EMBEDDINGS, {"model": "acme/embed", "input": "a cat"})
    assert answer.status == 200 and json.loads(answer.body)["model"] == "acme/embed"


# --- what is kept ---

def test_an_answer_of_a_backend_is_kept_like_upstreams(start, backend, upstream):
    near = backend("vllm", names=[MODEL])
    cache = start(config=section("near", f"{near.url}/v1", kind="openai", models=[MODEL]))
    first, again = post(cache, CHAT, chat(model=MODEL)), post(cache, CHAT, chat(model=MODEL))
    assert not is_hit(first) and is_hit(again) and first.body == again.body and by(first) == by(again) == "near"
    assert len(near.posts()) == 1
    with stream(cache, CHAT, chat(model=MODEL, stream=True)) as one:
        events = one.rest()
    assert said(events) == json.loads(first.body)["choices"][0]["message"]["content"] and len(near.posts()) == 1


# --- the configuration ---

def test_models_and_keys_change_on_sighup(start, backend, upstream, folder):
    import signal
    near = backend("vllm", names=[MODEL, "acme/later"])
    config = folder / "changing.conf"
    config.write_text(section("near", near, models=[MODEL]))
    cache = start(command=["--config", str(config)])
    assert by(post(cache, CHAT, chat(model="acme/later"))) == "upstream"
    config.write_text(section("near", near, models=["acme/*"]))
    cache.signal(signal.SIGHUP)
    wait_for(lambda: "reloaded" in cache.stderr())
    assert by(post(cache, CHAT, chat(model="acme/later"))) == "near"
    config.write_text(section("near", near, models=["acme/*"]) + section("far", near))
    cache.signal(signal.SIGHUP)
    wait_for(lambda: "backend far" in cache.stderr(), why="what takes effect with the next start")


def test_a_key_is_not_shown_and_may_be_a_credential(folder):
    (folder / "near-key").write_text(KEY + "\n")
    (folder / "near-key").chmod(0o600)
    plain = ["--config", "", "--set", "backend near.url=http://127.0.0.1:1", "--set"]
    environment = os.environ | {"CREDENTIALS_DIRECTORY": str(folder)}

    def run(*arguments):
        return subprocess.run([str(BINARY), *arguments], capture_output=True, text=True, env=environment)
    shown = run(*plain, f"backend near.key={KEY}", "--show-config")
    assert shown.returncode == 0 and KEY not in shown.stdout and re.search(r"\nkey = \*\*\*\n", shown.stdout), shown
    assert run(*plain, "backend near.key=credential:near-key", "--check-config").returncode == 0
    missing = run(*plain, "backend near.key=credential:other", "--check-config")
    assert missing.returncode == 78 and "backend near.key" in missing.stderr and "other" in missing.stderr
    bad = run(*plain, f"backend near.key={KEY} {KEY}", "--check-config")
    assert bad.returncode == 78 and KEY not in bad.stderr
