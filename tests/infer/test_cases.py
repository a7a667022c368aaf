# SPDX-License-Identifier: Apache-2.0
"""Cases I02 to I44 on the wire: roads into the daemon, keys, control, streams, errors (real clients: clients/)."""
import base64
import json
import socket
import struct
import threading
import time

import pytest
from asking import (CHAT, CLASSIFY, COMPLETIONS, EMBEDDING, EMBEDDINGS, GENERATE, LOVE, MESSAGES, PICTURE, RESPONSES, SENTIMENT, SPEECH, TEXT,
                    chat, data_of, events_of, is_hit, post, said, stream)
from harness import SLOW, fresh_token, wait_for, within
from wire import Connection

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
LOOK = "/hf-inference/models/google/vit-base-patch16-224"


def count(upstream):
    return len(upstream.posts())


def hits(cache, path, body, **how):
    """Asks; whether it was given from what is kept. The answer must be a 200."""
    answer = post(cache, path, body, **how)
    assert answer.status == 200, answer.body
    return is_hit(answer)


def gone(cache, upstream):
    """Upstream dies, and the daemon knows."""
    upstream.kill()
    for _ in range(4):
        post(cache, CHAT, chat(f"nobody asked this {time.monotonic()}"))


# --- roads ---

def test_I02_the_seed_example_again_without_upstream(cache, upstream):
    first = post(cache, CLASSIFY, LOVE)
    label = json.loads(first.body)[0][0]
    assert label["label"] == "POSITIVE" and 0.5 < label["score"] <= 1 and not is_hit(first)
    upstream.kill()
    again = post(cache, CLASSIFY, LOVE)
    assert again.body == first.body and is_hit(again) and int(again["Age"]) >= 0
    assert again["X-Compute-Type"] == "cache" and "hit" in again["Cache-Status"]


def test_I02_answers_survive_a_kill(cache, upstream, hub):
    first = post(cache, CLASSIFY, LOVE)
    wait_for(lambda: hits(cache, CLASSIFY, LOVE))
    cache.until_durable(hub)
    upstream.kill()
    cache.restart(kill=True)
    again = post(cache, CLASSIFY, LOVE)
    assert again.body == first.body and is_hit(again)


def test_I03_I04_spellings_of_a_route_are_one(cache, upstream):
    assert not hits(cache, CLASSIFY, LOVE)
    for path in (f"/models/{SENTIMENT}", CLASSIFY, f"/api/inference-proxy/hf-inference/models/{SENTIMENT}"):
        assert hits(cache, path, LOVE) and hits(cache, path, '{"inputs": "I love Hugging Face!", "parameters": {}}')
    body = {"inputs": ["a", "b"]}
    assert not hits(cache, f"/pipeline/feature-extraction/{EMBEDDING}", body)
    assert hits(cache, f"/hf-inference/pipeline/feature-extraction/{EMBEDDING}", body)
    assert hits(cache, f"/hf-inference/models/{EMBEDDING}/pipeline/feature-extraction", body)
    assert count(upstream) == 2


def test_I04_a_task_that_is_known_of_the_model_is_the_same_call(cache, upstream):
    assert not hits(cache, CLASSIFY, LOVE)
    assert cache.get(f"/api/models/{SENTIMENT}").status == 200
    assert hits(cache, CLASSIFY, LOVE)                    # kept before the task was known
    other = {"inputs": "I hate it"}
    assert not hits(cache, CLASSIFY, other) and hits(cache, f"{CLASSIFY}/pipeline/text-classification", other)


@pytest.mark.parametrize("host", ["api-inference.huggingface.co", "router.huggingface.co:443"])
def test_I05_the_names_of_the_service(cache, upstream, host):
    path = f"/models/{SENTIMENT}" if host.startswith("api") else CLASSIFY
    assert post(cache, path, LOVE, host=host).status == 200
    assert upstream.posts()[-1]["target"] == CLASSIFY
    assert hits(cache, CLASSIFY, LOVE)
    info = post(cache, f"{path}/info", method="GET", host=host)
    assert json.loads(info.body)["model_id"] == SENTIMENT
    assert post(cache, "/v1/models", method="GET", host=host).status == 200
    assert post(cache, "/some-new-provider/v1/x", {"a": 1}, host=host).status == 404
    assert upstream.posts()[-1]["target"] == "/some-new-provider/v1/x"
    assert cache.get("/-/healthz", host=host).status == 200


def test_I05_hosts_that_are_not_served_stay_so(start, upstream):
    cache = start(server_hosts="cache.lab", is_started=False)
    cache.host = "cache.lab"
    cache.start()
    assert post(cache, CLASSIFY, LOVE, host="router.huggingface.co").status == 421
    assert post(cache, CLASSIFY, LOVE, host="cache.lab").status == 200


def test_I07_the_list_of_models(cache, upstream):
    first = post(cache, "/v1/models", method="GET")
    assert TEXT in {m["id"] for m in json.loads(first.body)["data"]}
    assert json.loads(post(cache, f"/v1/models/{TEXT}", method="GET").body)["id"] == TEXT
    upstream.kill()
    again = post(cache, "/v1/models", method="GET")
    assert again.status == 200 and json.loads(again.body) == json.loads(first.body)


def test_I07_status_info_and_health_of_a_model(cache, upstream):
    for path in (f"{CLASSIFY}/info", f"{CLASSIFY}/health", f"/status/{SENTIMENT}"):
        first = post(cache, path, method="GET")
        assert first.status == 200, path
    upstream.kill()
    for path in (f"{CLASSIFY}/info", f"{CLASSIFY}/health", f"/status/{SENTIMENT}"):
        assert post(cache, path, method="GET").status == 200, path
    assert post(cache, "/models/acme/other/info", method="GET").status == 504


@pytest.mark.parametrize("expand", ["expand=inferenceProviderMapping", "expand[]=inferenceProviderMapping", "expand%5B%5D=inferenceProviderMapping"])
def test_I08_who_serves_a_model_without_the_hub(cache, upstream, hub, expand):
    assert not hits(cache, CLASSIFY, LOVE)
    hub.kill()
    cache.until_known_down()
    answer = cache.get(f"/api/models/{SENTIMENT}?{expand}")
    assert answer.status == 200, answer.body
    (one,) = json.loads(answer.body)["inferenceProviderMapping"]
    assert (one["provider"], one["providerId"], one["status"], one["task"]) == ("hf-inference", SENTIMENT, "live", "text-classification")
    assert cache.get(f"/api/models/acme/nothing?{expand}").status in (503, 504)
    info = json.loads(cache.get(f"/api/models/{SENTIMENT}").body)
    assert info["id"] == SENTIMENT and info["pipeline_tag"] == "text-classification"
    assert cache.get(f"/api/models/{SENTIMENT}/revision/main").status in (503, 504)
    assert cache.get(f"/api/models/{SENTIMENT}?{expand}", token=fresh_token()).status in (503, 504)


@pytest.mark.parametrize("expand", ["expand=inferenceProviderMapping", "expand[]=inferenceProviderMapping"])
def test_I08_what_the_hub_said_of_a_model_that_is_not_served_here_stays(cache, upstream, hub, expand):
    path = f"/api/models/{TEXT}?{expand}"
    first = cache.get(path)
    assert first.status == 200
    hub.kill()
    cache.until_known_down()
    again = cache.get(path)
    assert again.status == 200 and again.body == first.body


def test_I08_a_model_that_only_a_server_of_our_own_has(start, backend):
    own = backend("pipeline", path="/predict", task="text-classification", family="sentiment")
    cache = start(config=f"[backend own]\nurl = {own.url}/predict\nkind = hf\nmodels = acme/ours\n", inference_mode="offline")
    answer = cache.get("/api/models/acme/ours?expand=inferenceProviderMapping")
    assert answer.status == 200 and json.loads(answer.body)["inferenceProviderMapping"][0]["provider"] == "hf-inference"
    assert cache.get("/api/models/acme/others?expand=inferenceProviderMapping").status in (401, 404)
    assert [m["id"] for m in json.loads(post(cache, "/v1/models", method="GET").body)["data"]] == ["acme/ours"]
    for path in ("/models/acme/ours/info", "/models/acme/ours/health", "/status/acme/ours", "/v1/models/acme/ours"):
        assert post(cache, path, method="GET").status == 200, path
    assert post(cache, "/models/acme/ours", LOVE).status == 200


def test_I09_the_list_of_tasks_without_the_hub(cache, hub):
    first = cache.get("/api/tasks")
    hub.kill()
    again = cache.get("/api/tasks")
    assert first.status == again.status == 200 and again.body == first.body


def test_I10_pages_in_a_browser(cache, upstream):
    asked = "authorization,content-type,x-use-cache,x-wait-for-model,x-hf-bill-to"
    flight = cache.ask("OPTIONS", CHAT, headers=[("Origin", "http://one.example"), ("Access-Control-Request-Method", "POST"),
                                                ("Access-Control-Request-Headers", asked)])
    assert flight.status == 204 and flight["Access-Control-Allow-Headers"] == asked
    assert "POST" in flight["Access-Control-Allow-Methods"] and flight["Access-Control-Allow-Origin"] == "*"
    for origin in ("http://one.example", "http://two.example"):
        answer = post(cache, CLASSIFY, LOVE, Origin=origin)
        assert answer["Access-Control-Allow-Origin"] in ("*", origin) and "X-Compute-Type" in answer["Access-Control-Expose-Headers"]
    assert is_hit(answer)
    wrong = post(cache, "/hf-inference/models/acme/nothing", LOVE, Origin="http://one.example")
    assert wrong.status == 404 and wrong["Access-Control-Allow-Origin"]


# --- keys ---

def test_I11_what_is_the_same_call(cache, upstream):
    body = {"model": TEXT, "messages": [{"role": "user", "content": "x"}], "temperature": 0}
    assert not hits(cache, CHAT, body)
    assert hits(cache, CHAT, dict(reversed(body.items()))) and hits(cache, CHAT, json.dumps(body, indent=3))
    for more in ({"top_k": 1}, {"max_tokens": 3}, {"tool_choice": "none"}, {"reasoning_effort": "low"}, {"x": 1}):
        assert not hits(cache, CHAT, body | more), more
    for more in ({"user": "u"}, {"stream": False}, {"metadata": {"a": "b"}}, {"n": 1}, {"seed": None}):
        assert hits(cache, CHAT, body | more), more


def test_I12_what_is_sampled(start, upstream):
    cache = start(inference_mode="record")
    for temperature in (None, 0.7):
        body = chat("sampled", temperature=temperature)
        one, two = post(cache, CHAT, body), post(cache, CHAT, body)
        assert not is_hit(one) and not is_hit(two)
    assert count(upstream) == 4
    assert not hits(cache, CHAT, chat("zero")) and hits(cache, CHAT, chat("zero", temperature=0.0))
    upstream.kill()
    kept = wait_for(lambda: (a := post(cache, CHAT, body)).status == 200 and a)
    assert kept.body == two.body and is_hit(kept) and kept["X-HF-Warning"] and kept["X-Cache"] == "STALE"


def test_I12_samples_are_not_kept_unless_wanted(cache, upstream):
    body = chat("sampled", temperature=1)
    assert post(cache, CHAT, body).status == 200
    upstream.kill()
    assert post(cache, CHAT, body).status == 504


def test_I13_I14_numbers_and_strings_that_only_look_alike(cache, upstream):
    assert not hits(cache, CHAT, chat("x", temperature=1, seed=14663482367758619000))
    assert not hits(cache, CHAT, chat("x", temperature=1, seed=14663482367758619001))
    assert not hits(cache, CLASSIFY, '{"inputs":"x\\u0000y"}') and not hits(cache, CLASSIFY, '{"inputs":"x\\u0000z"}')
    assert not hits(cache, CLASSIFY, '{"inputs":"a","inputs":"b"}') and not hits(cache, CLASSIFY, '{"inputs":"b"}')


def test_I15_fields_that_change_nothing(cache, upstream):
    assert not hits(cache, CLASSIFY, LOVE)
    for name, value in (("X-Amzn-Trace-Id", "a;b=1"), ("User-Agent", "other/1"), ("x-stainless-retry-count", "2"),
                        ("Accept-Language", "de"), ("X-HF-Bill-To", "acme"), ("Cookie", "AWSALB=1")):
        assert hits(cache, CLASSIFY, LOVE, headers=[(name, value)]), name
    assert not hits(cache, CLASSIFY, LOVE, headers=[("Prefer", "wait")])


def test_I16_bytes_with_and_without_a_type(cache, upstream):
    assert not hits(cache, LOOK, PNG, kind=None)
    assert hits(cache, LOOK, PNG, kind="image/png") and hits(cache, LOOK, PNG, kind="application/octet-stream")
    assert not hits(cache, LOOK, PNG[:-1] + b"\x00", kind="image/png")
    assert not hits(cache, LOOK, {"inputs": base64.b64encode(PNG).decode(), "parameters": {"top_k": 2}})


def form(boundary, *parts):
    out = b""
    for name, value in parts:
        file = f'; filename="{value[0]}"' if isinstance(value, tuple) else ""
        data = value[1] if isinstance(value, tuple) else value.encode()
        out += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"
    return out + f"--{boundary}--\r\n".encode()


def test_I18_forms_without_their_boundary(cache, upstream):
    sound = b"RIFF\0\0\0\0WAVE" + bytes(range(256)) * 8
    parts = [("file", ("a.wav", sound)), ("model", SPEECH), ("language", "de")]

    def ask(boundary, parts, mark='"'):
        return post(cache, "/v1/audio/transcriptions", form(boundary, *parts), kind=f"multipart/form-data; boundary={mark}{boundary}{mark}")
    first = ask("xxAxx", parts)
    assert first.status == 200 and not is_hit(first) and json.loads(first.body)["text"]
    again = ask("----other7", parts[::-1], mark="")
    assert is_hit(again) and again.body == first.body
    for other in ([("file", ("a.wav", sound[:-1])), *parts[1:]], [("file", ("a.mp3", sound)), *parts[1:]], parts[:2],
                  [*parts, ("temperature", "0.5")]):
        assert not is_hit(ask("xxAxx", other))
    assert not is_hit(ask("xxAxx", [*parts, ("temperature", "0.5")]))       # sampled


def test_I19_I20_names_of_models(cache, upstream):
    assert not hits(cache, CHAT, chat("m")) and not hits(cache, CHAT, chat("m", model=f"{TEXT}:groq"))
    assert not hits(cache, CLASSIFY, LOVE) and hits(cache, CLASSIFY, LOVE | {"model": SENTIMENT})
    assert not hits(cache, CLASSIFY, LOVE | {"model": "other"})


def test_I21_vectors_as_numbers_and_as_base64(cache, upstream):
    body = {"model": EMBEDDING, "input": "a sentence"}
    plain = post(cache, EMBEDDINGS, body)
    packed = post(cache, EMBEDDINGS, body | {"encoding_format": "base64"})
    assert not is_hit(plain) and is_hit(packed) and count(upstream) == 1
    numbers = json.loads(plain.body)["data"][0]["embedding"]
    raw = base64.b64decode(json.loads(packed.body)["data"][0]["embedding"])
    assert struct.pack(f"<{len(numbers)}f", *numbers) == raw
    assert hits(cache, EMBEDDINGS, body | {"encoding_format": "float"})


def test_I22_pictures_and_the_type_that_is_asked_for(cache, upstream):
    path, body = f"/hf-inference/models/{PICTURE}/pipeline/text-to-image", {"inputs": "a cat", "parameters": {"seed": 7}}
    first = post(cache, path, body, Accept="image/png")
    again = post(cache, path, body, Accept="image/png")
    assert first["Content-Type"] == again["Content-Type"] == "image/jpeg" and first.body == again.body
    assert not is_hit(first) and is_hit(again)
    other = {"inputs": "a dog", "parameters": {"seed": 7}}
    assert not hits(cache, path, other, Accept="*/*") and hits(cache, path, other, Accept="image/jpeg")
    assert hits(cache, path, other, Accept="*/*") and not hits(cache, path, other, Accept="image/webp")


def test_I20_a_model_and_its_old_name(cache, upstream):
    path = "/hf-inference/models/gpt2"
    assert not hits(cache, path, {"inputs": "before"})
    cache.get("/api/models/gpt2"), cache.get("/api/models/openai-community/gpt2")
    assert hits(cache, path, {"inputs": "before"})
    assert not hits(cache, path, {"inputs": "after"}) and hits(cache, "/models/openai-community/gpt2", {"inputs": "after"})


# --- control ---

@pytest.mark.parametrize("how", [{"headers": [("X-Use-Cache", "False")]}, {"headers": [("x-use-cache", "0")]}, {}])
def test_I23_without_the_cache(cache, upstream, how):
    body = LOVE if how else LOVE | {"options": {"use_cache": False}}
    assert not hits(cache, CLASSIFY, body, **how) and not hits(cache, CLASSIFY, body, **how)
    assert not hits(cache, CLASSIFY, LOVE) and hits(cache, CLASSIFY, LOVE)
    assert not hits(cache, CLASSIFY, body, **how) and count(upstream) == 4
    assert hits(cache, CLASSIFY, LOVE | {"options": {"use_cache": True, "wait_for_model": True}})


def test_I24_cache_control(start, upstream):
    cache = start(inference_mode="record")
    body = chat("control")
    first = post(cache, CHAT, body)
    for field in ("Cache-Control", "Pragma"):
        fresh = post(cache, CHAT, body, headers=[(field, "no-cache")])
        assert not is_hit(fresh) and fresh.body != first.body
        assert post(cache, CHAT, body).body == fresh.body
    other = post(cache, CHAT, body, headers=[("Cache-Control", "no-store")])
    assert not is_hit(other) and post(cache, CHAT, body).body == fresh.body
    only = [("Cache-Control", "only-if-cached")]
    assert hits(cache, CHAT, body, headers=only)
    miss = within(1, lambda: post(cache, CHAT, chat("never asked"), headers=only))
    assert miss.status == 504 and miss["X-Should-Retry"] == "false"
    sampled = chat("sampled", temperature=1)
    assert not hits(cache, CHAT, sampled)
    old = post(cache, CHAT, sampled, headers=only)
    assert old.status == 200 and is_hit(old) and old["X-HF-Warning"]


def test_I24_ages(cache, upstream):
    assert not hits(cache, CLASSIFY, LOVE)
    assert hits(cache, CLASSIFY, LOVE, headers=[("Cache-Control", "max-age=100")])
    assert hits(cache, CLASSIFY, LOVE, headers=[("Cache-Control", "min-fresh=100")])     # it does not get old
    assert not hits(cache, CLASSIFY, LOVE, headers=[("Cache-Control", "max-age=100, min-fresh=200")])
    wait_for(lambda: int(post(cache, CLASSIFY, LOVE)["Age"]) >= 2, 10)
    assert hits(cache, CLASSIFY, LOVE, headers=[("Cache-Control", "max-age=0, max-stale=1000")])
    assert hits(cache, CLASSIFY, LOVE, headers=[("Cache-Control", "max-age=1, max-stale")])
    assert not hits(cache, CLASSIFY, LOVE, headers=[("Cache-Control", "max-age=1")])


def test_I25_what_a_hit_says(cache, upstream):
    first, again = post(cache, CHAT, chat()), post(cache, CHAT, chat())
    for answer in (first, again):
        assert not answer["Set-Cookie"]
    assert is_hit(again)
    assert again["X-Sha"] == first["X-Sha"] == upstream.models[TEXT].sha
    assert again["X-Compute-Time"] == first["X-Compute-Time"] and first["X-Original-Request-Id"] == again["X-Original-Request-Id"]
    assert again["X-Request-Id"] not in (None, first["X-Request-Id"], again["X-Original-Request-Id"])
    for name in ("Inference-Id", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "openai-processing-ms"):
        assert not again[name], name
    key = again["Cache-Status"].split('key="')[1]
    assert key in first["Cache-Status"] and "stored" in first["Cache-Status"]


def test_I25_no_cookie_goes_up(cache, upstream):
    post(cache, CLASSIFY, LOVE, Cookie="AWSALB=secret")
    assert upstream.posts()[-1]["headers"] and not [v for k, v in upstream.posts()[-1]["headers"] if k.lower() == "cookie"]


def test_I26_a_model_that_has_moved(start, upstream, hub):
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s")
    assert not hits(cache, CLASSIFY, LOVE)
    assert cache.get(f"/api/models/{SENTIMENT}").status == 200 and hits(cache, CLASSIFY, LOVE)
    commit = hub.content.repo(SENTIMENT).commit({"config.json": '{"moved": true}'})
    sha = getattr(commit, "id", commit)
    upstream.move_model(SENTIMENT, sha)
    wait_for(lambda: json.loads(cache.get(f"/api/models/{SENTIMENT}/revision/main").body)["sha"] == sha)
    renewed = post(cache, CLASSIFY, LOVE)
    assert not is_hit(renewed) and renewed["X-Sha"] == sha and hits(cache, CLASSIFY, LOVE)


def test_I26_a_model_that_has_moved_while_nobody_can_be_asked(start, upstream, hub):
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s")
    assert not hits(cache, CLASSIFY, LOVE)
    assert cache.get(f"/api/models/{SENTIMENT}").status == 200
    sha = hub.content.repo(SENTIMENT).commit({"config.json": '{"moved": true}'})
    sha = getattr(sha, "id", sha)
    wait_for(lambda: json.loads(cache.get(f"/api/models/{SENTIMENT}/revision/main").body)["sha"] == sha)
    upstream.kill()
    old = post(cache, CLASSIFY, LOVE)
    assert old.status == 200 and is_hit(old) and old["X-HF-Warning"] and old["X-Cache"] == "STALE"


# --- whose answers ---

def test_I27_answers_belong_to_the_token(cache, upstream, people):
    assert not hits(cache, CLASSIFY, LOVE, token=people.alice) and hits(cache, CLASSIFY, LOVE, token=people.alice)
    assert not hits(cache, CLASSIFY, LOVE, token=people.bob) and not hits(cache, CLASSIFY, LOVE)
    for name in ("X-Api-Key", "X-HF-Authorization"):
        one, two = [(name, fresh_token())], [(name, fresh_token())]
        assert not hits(cache, CLASSIFY, LOVE, headers=one) and hits(cache, CLASSIFY, LOVE, headers=one)
        assert not hits(cache, CLASSIFY, LOVE, headers=two)
        cache.canaries += [one[0][1], two[0][1]]


def test_I27_shared_by_all_when_the_model_is_open(start, upstream, people):
    cache = start(inference_scope="shared")
    assert cache.get(f"/api/models/{SENTIMENT}").status == 200      # proves it
    assert not hits(cache, CLASSIFY, LOVE, token=people.alice)
    assert hits(cache, CLASSIFY, LOVE, token=people.bob) and hits(cache, CLASSIFY, LOVE)
    for id in ("acme/gated-clf", "acme/private-clf"):
        path = f"/hf-inference/models/{id}"
        cache.get(f"/api/models/{id}", token=people.alice)
        assert not hits(cache, path, LOVE, token=people.alice) and hits(cache, path, LOVE, token=people.alice)
        for token in (people.bob, None):
            refused = post(cache, path, LOVE, token=token)
            assert refused.status == 403 and b"POSITIVE" not in refused.body
    # what nobody has proved open is nobody else's
    assert not hits(cache, f"/models/{EMBEDDING}", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}, token=people.alice)
    assert not hits(cache, f"/models/{EMBEDDING}", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}, token=people.bob)


def test_I27_answers_of_a_gated_model_without_upstream(start, upstream, hub, people):
    cache = start(offline_grace="1h")
    path = "/hf-inference/models/acme/gated-clf"
    assert cache.get("/api/models/acme/gated-clf", token=people.alice).status == 200
    first = post(cache, path, LOVE, token=people.alice)
    upstream.kill(), hub.kill()
    cache.until_known_down()
    mine = wait_for(lambda: (a := post(cache, path, LOVE, token=people.alice)).status == 200 and a)
    assert mine.body == first.body
    assert post(cache, path, LOVE, token=people.bob).status == 504 and post(cache, path, LOVE).status == 504
    cache.restart(offline_grace="1s")
    cache.until_known_down()
    time.sleep(2)
    assert post(cache, path, LOVE, token=people.alice).status == 504


# --- streams ---

def test_I28_events_come_as_they_are_made(cache, upstream):
    gate = upstream.gate(event=2, path=CHAT)
    with stream(cache, CHAT, chat(stream=True)) as one:
        assert one.next_event() and one.next_event()
        assert one.answer["Content-Type"].startswith("text/event-stream") and one.answer["X-Accel-Buffering"] == "no"
        assert one.answer["Cache-Control"] == "no-cache" and not one.answer["Content-Encoding"]
        gate.wait_for(1)
        gate.open()
        rest = one.rest()
        assert one.end == "complete" and rest[-1] == b"data: [DONE]\n\n"


def whole_stream(cache, path, body, **how):
    with stream(cache, path, body, **how) as one:
        events = one.rest()
        assert one.end == "complete", one.end
        return one.answer, events


def test_I29_a_stream_again_and_as_one(cache, upstream):
    body = chat("weather", tools=[{"type": "function", "function": {"name": "weather", "parameters": {}}}], n=2)
    for body in (body, chat("plain"), chat("with usage", stream_options={"include_usage": True}, logprobs=True)):
        answer, events = whole_stream(cache, CHAT, body | {"stream": True})
        again, replay = whole_stream(cache, CHAT, body | {"stream": True})
        assert not is_hit(answer) and is_hit(again) and replay == events
        merged = post(cache, CHAT, body)
        assert is_hit(merged) and merged["Content-Type"] == "application/json"
        value = json.loads(merged.body)
        chunks = [v for v in data_of(events) if v != "[DONE]"]
        assert value["object"] == "chat.completion" and value["id"] == chunks[0]["id"]
        for choice in value["choices"]:
            mine = [c for v in chunks for c in v["choices"] if c["index"] == choice["index"]]
            text = "".join(c["delta"].get("content") or "" for c in mine)
            calls = [t for c in mine for t in c["delta"].get("tool_calls") or []]
            assert (choice["message"]["content"] or "") == text
            arguments = "".join(t["function"].get("arguments") or "" for t in calls)
            assert "".join(t["function"]["arguments"] for t in choice["message"].get("tool_calls", [])) == arguments
            assert choice["finish_reason"] == [c["finish_reason"] for c in mine if c["finish_reason"]][-1]
        if "stream_options" in body:
            assert value["usage"] == [v["usage"] for v in chunks if v.get("usage")][-1]


@pytest.mark.parametrize("path, body", [(CHAT, chat("whole first")), (COMPLETIONS, {"model": TEXT, "prompt": "x", "temperature": 0}),
                                        (GENERATE, {"inputs": "x", "parameters": {"details": True}})])
def test_I30_a_whole_answer_as_a_stream(cache, upstream, path, body):
    whole = post(cache, path, body)
    assert whole.status == 200, whole.body
    answer, events = whole_stream(cache, path, body | {"stream": True})
    assert is_hit(answer) and answer["Content-Type"].startswith("text/event-stream") and count(upstream) == 1
    value = json.loads(whole.body)
    if path == GENERATE:
        value = value[0] if isinstance(value, list) else value
        assert data_of(events)[-1]["generated_text"] == value["generated_text"]
        return
    assert events[-1] == b"data: [DONE]\n\n"
    for event in events:
        assert event.startswith(b"data: ") and event.endswith(b"\n\n") and event.count(b"\n") == 2
    choice = value["choices"][0]
    assert said(events) == (choice["message"]["content"] if path == CHAT else choice["text"])
    assert [c["finish_reason"] for v in data_of(events)[:-1] for c in v["choices"]][-1] == choice["finish_reason"]


@pytest.mark.parametrize("path, body, last", [
    (RESPONSES, {"model": TEXT, "input": "x", "temperature": 0, "store": False}, b"response.completed"),
    (MESSAGES, {"model": TEXT, "messages": [{"role": "user", "content": "x"}], "max_tokens": 5, "temperature": 0}, b"message_stop")])
def test_I30_the_other_two_dialects(cache, upstream, path, body, last):
    _, events = whole_stream(cache, path, body | {"stream": True})
    answer, replay = whole_stream(cache, path, body | {"stream": True})
    assert is_hit(answer) and replay == events and last in events[-1]
    assert is_hit(merged := post(cache, path, body)) and json.loads(merged.body)["id"]
    other = body | {"temperature": 0.0, "top_p": 1}
    assert not hits(cache, path, other)
    answer, split = whole_stream(cache, path, other | {"stream": True})
    assert is_hit(answer) and last in split[-1]


@pytest.mark.parametrize("dress", ["tight", "no-done", "old-tgi", "crlf"])
def test_I31_streams_in_old_dress(cache, upstream, dress):
    upstream.rule(path=CHAT, dress=dress)
    answer, events = whole_stream(cache, CHAT, chat("dress", stream=True))
    assert said(events)
    again, replay = whole_stream(cache, CHAT, chat("dress", stream=True))
    assert is_hit(again) and replay == events
    assert is_hit(post(cache, CHAT, chat("dress")))


def test_I31_no_reason_no_record(cache, upstream):
    upstream.rule(path=CHAT, end_event=3)
    with stream(cache, CHAT, chat("cut", stream=True)) as one:
        one.rest()
        assert one.end != "complete"
    upstream.clear_rules()
    assert not is_hit(whole_stream(cache, CHAT, chat("cut", stream=True))[0])


@pytest.mark.parametrize("at", [0, 1, 4])
def test_I32_errors_inside_a_stream(cache, upstream, at):
    rule = upstream.rule(path=CHAT, error_event=at)
    with stream(cache, CHAT, chat("wrong", stream=True)) as one:
        events = one.rest()
        assert one.answer.status == 200 and any(b'"error"' in e for e in events)
    rule.remove()
    assert not is_hit(whole_stream(cache, CHAT, chat("wrong", stream=True))[0])


STREAMS = {
    "chat": (CHAT, chat("count", stream=True, max_tokens=3)),
    "completions": (COMPLETIONS, {"model": TEXT, "prompt": "x", "temperature": 0, "stream": True, "max_tokens": 3}),
    "generate": (GENERATE, {"inputs": "x", "parameters": {"max_new_tokens": 3}, "stream": True}),
    "responses": (RESPONSES, {"model": TEXT, "input": "x", "temperature": 0, "store": False, "stream": True, "max_output_tokens": 3}),
    "messages": (MESSAGES, {"model": TEXT, "messages": [{"role": "user", "content": "x"}], "max_tokens": 3, "temperature": 0, "stream": True}),
}


@pytest.mark.parametrize("how", ["cut_event", "reset_event", "half_event", "end_event", "error_event"])
@pytest.mark.parametrize("dialect", STREAMS)
def test_I33_I32_what_breaks_at_any_event_is_not_kept(cache, upstream, dialect, how):
    """Nothing ends well that is not complete; what ended well and was kept is exactly what upstream would have said."""
    path, body = STREAMS[dialect]
    count = len(whole_stream(cache, path, body)[1])
    for at in range(count):
        mark = {"x": f"{how} {at}"}
        rule = upstream.rule(path=path, **{how: at})
        with stream(cache, path, body | mark) as one:
            events = one.rest()
            ended_well = one.end == "complete" and one.answer.status == 200
        rule.remove()
        if how == "error_event":
            assert any(b"error" in e for e in events) or not ended_well
        else:
            # chat and completions have said all but [DONE] by then
            is_whole = how == "end_event" and dialect in ("chat", "completions") and at == count - 1
            assert ended_well == is_whole, f"{how} {at} of {count}: {one.end}"
        again, full = whole_stream(cache, path, body | mark)
        if is_hit(again):
            assert how == "end_event" and ended_well and len(events) == at and full == events
        else:
            assert len(full) == count


@pytest.mark.parametrize("how", ["cut_event", "reset_event", "half_event"])
def test_I33_upstream_dies_at_each_event(cache, upstream, how):
    n = len(whole_stream(cache, CHAT, chat("count", stream=True, max_tokens=4))[1])
    for at in range(n):
        rule = upstream.rule(path=CHAT, **{how: at})
        with stream(cache, CHAT, chat(f"die {at}", stream=True, max_tokens=4)) as one:
            one.rest()
            whole = one.end == "complete" and one.answer.status == 200
            assert not whole, f"{how} {at}: {one.end}"
        rule.remove()
        assert not is_hit(whole_stream(cache, CHAT, chat(f"die {at}", stream=True, max_tokens=4))[0]), at


def test_I34_who_leaves_frees_upstream(cache, upstream):
    gate = upstream.gate(event=2, path=CHAT)
    one = stream(cache, CHAT, chat("leave", stream=True))
    assert one.next_event()
    gate.wait_for(1)
    one.close()
    wait_for(lambda: [m for m in cache.metrics() if m[0] == "hfcache_http_aborted_total" and m[1]["side"] == "client"], 10, why="it is noticed")
    wait_for(lambda: upstream.posts(CHAT)[0].get("left"), 10, why="upstream is let go")   # while it says nothing
    gate.open()
    upstream.clear_rules()
    assert not is_hit(whole_stream(cache, CHAT, chat("leave", stream=True))[0])


def test_I34_finished_all_the_same(start, upstream):
    cache = start(inference_finish_on_abort="yes")
    gate = upstream.gate(event=2, path=CHAT)
    one = stream(cache, CHAT, chat("leave", stream=True))
    assert one.next_event()
    gate.wait_for(1)
    one.close()
    gate.open()
    upstream.clear_rules()
    wait_for(lambda: is_hit(post(cache, CHAT, chat("leave"), headers=[("Cache-Control", "only-if-cached")])), 10)
    assert count(upstream) == 1


def together(n, function):
    out = [None] * n

    def one(i):
        out[i] = function(i)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return out


def test_I35_fifty_at_once(cache, upstream):
    gate = upstream.gate(event=2, path=CHAT)
    opened = []

    def open_when_all_listen():
        gate.wait_for(1)
        wait_for(lambda: cache.metric("hfcache_http_connections") >= 50, 20)
        time.sleep(0.3)
        gate.open()
        opened.append(1)
    helper = threading.Thread(target=open_when_all_listen)
    helper.start()
    answers = together(50, lambda i: whole_stream(cache, CHAT, chat("together", stream=True), timeout=60))
    helper.join()
    assert opened and count(upstream) == 1
    assert all(events == answers[0][1] for _, events in answers)


def test_I35_sampled_ones_are_fifty_calls(cache, upstream):
    answers = together(50, lambda i: whole_stream(cache, CHAT, chat("sampled", stream=True, temperature=1, max_tokens=2), timeout=60))
    assert len(answers) == 50 and count(upstream) == 50


def test_I35_the_leader_leaves_and_the_others_hear_on(cache, upstream):
    gate = upstream.gate(event=2, path=CHAT)
    leader = stream(cache, CHAT, chat("lead", stream=True))
    assert leader.next_event()
    follower = stream(cache, CHAT, chat("lead", stream=True))
    first = follower.next_event()
    leader.close()
    time.sleep(0.2)
    gate.open()
    rest = follower.rest()
    assert follower.end == "complete" and first and rest[-1] == b"data: [DONE]\n\n" and count(upstream) == 1
    follower.close()


def test_I35_one_follower_of_a_failed_leader_asks_again(cache, upstream):
    gate = upstream.gate(path=CHAT, times=1)
    upstream.rule(path=CHAT, times=1, reset_event=0, nth=1)
    done = []
    helper = threading.Thread(target=lambda: done.extend(together(5, lambda i: post(cache, CHAT, chat("fail"), timeout=60))))
    helper.start()
    gate.wait_for(1)
    wait_for(lambda: cache.metric("hfcache_http_connections") >= 5, 20)
    time.sleep(0.3)
    upstream.rule(path=CHAT, nth=1, close=True)
    gate.open()
    helper.join()
    assert count(upstream) <= 3
    assert sum(a.status == 200 for a in done) >= 4, [a.status for a in done]


def test_I36_what_upstream_says_of_caches(cache, upstream):
    answer, _ = whole_stream(cache, CHAT, chat("no-cache", stream=True))
    assert is_hit(whole_stream(cache, CHAT, chat("no-cache", stream=True))[0])
    for value in ("no-store", "private"):
        upstream.rule(path=CLASSIFY, set_header={"Cache-Control": value})
        body = {"inputs": value}
        assert not hits(cache, CLASSIFY, body) and not hits(cache, CLASSIFY, body)
        upstream.clear_rules()
    upstream.rule(path=CLASSIFY, set_header={"Cache-Control": "no-cache, max-age=0", "Expires": "0", "Pragma": "no-cache"})
    assert not hits(cache, CLASSIFY, LOVE) and hits(cache, CLASSIFY, LOVE)


def test_I37_usage_only_for_who_wants_it(cache, upstream):
    usage = {"stream_options": {"include_usage": True}}

    def tells(events):
        return [v for v in data_of(events) if v != "[DONE]" and v.get("usage")]
    assert tells(whole_stream(cache, CHAT, chat(stream=True, **usage))[1])
    answer, events = whole_stream(cache, CHAT, chat(stream=True))
    assert is_hit(answer) and not tells(events) and events[-1] == b"data: [DONE]\n\n"
    answer, events = whole_stream(cache, CHAT, chat(stream=True, **usage))
    assert is_hit(answer) and tells(events)
    assert not is_hit(whole_stream(cache, CHAT, chat("other", stream=True))[0])
    answer, events = whole_stream(cache, CHAT, chat("other", stream=True, **usage))
    assert tells(events) and not is_hit(answer)             # what was kept does not tell


def test_I38_tokens_of_tgi(cache, upstream):
    body = {"inputs": "x", "parameters": {"max_new_tokens": 4, "details": True}, "stream": True}
    _, events = whole_stream(cache, GENERATE, body)
    answer, replay = whole_stream(cache, GENERATE, body)
    assert is_hit(answer) and replay == events and data_of(events)[-1]["generated_text"]
    merged = post(cache, GENERATE, body | {"stream": False})
    assert is_hit(merged) and json.loads(merged.body)[0]["generated_text"] == data_of(events)[-1]["generated_text"]


def test_I28_comments_pass(cache, upstream):
    upstream.rule(path=CHAT, keep_alive=2)
    _, events = whole_stream(cache, CHAT, chat("beat", stream=True))
    assert any(e.startswith(b":") for e in events)
    answer, replay = whole_stream(cache, CHAT, chat("beat", stream=True))
    assert is_hit(answer) and said(replay) == said(events)


# --- errors ---

def test_I39_an_offline_miss(cache, upstream):
    gone(cache, upstream)
    for path, body in ((CHAT, chat("miss")), (CLASSIFY, {"inputs": "miss"})):
        miss = within(0.15, lambda: post(cache, path, body))
        assert miss.status == 504 and miss["X-Should-Retry"] == "false" and "offline" in miss["Cache-Status"]
    assert count(upstream) <= 4


def test_I40_a_model_that_is_loading(cache, upstream):
    upstream.rule(path=CLASSIFY, loading=2, retry_after=1)
    answer = post(cache, CLASSIFY, LOVE, headers=[("X-Wait-For-Model", "true")])
    assert answer.status == 200 and count(upstream) == 3


def test_I40_who_does_not_wait(cache, upstream):
    upstream.rule(path=CLASSIFY, loading=100)
    plain = post(cache, CLASSIFY, LOVE)
    assert plain.status == 503 and int(plain["Retry-After"]) > 0 and "loading" in json.loads(plain.body)["error"]
    assert post(cache, CLASSIFY, LOVE, headers=[("User-Agent", "@huggingface/inference/4.13.30")]).status == 504
    assert count(upstream) == 2


def test_I40_a_budget_for_all(start, upstream):
    cache = start(inference_wait_budget="20s")
    upstream.rule(path=CLASSIFY, loading=1, retry_after=1)
    assert post(cache, CLASSIFY, LOVE).status == 200
    short = start(inference_wait_budget="1s")
    upstream.rule(path=CHAT, loading=100, retry_after=1)
    assert post(short, CHAT, chat("never")).status == 503


@pytest.mark.parametrize("status, kind, text", [
    (422, "text/plain", b"Failed to deserialize the JSON body into the target type"), (404, "application/json", b'{"error":"Model X does not exist"}'),
    (400, "application/json", b'{"error":"The following `model_kwargs` are not used by the model: [\'x\']","warnings":[]}'),
    (429, "application/json", b'{"error":"Rate limit reached."}'), (424, "application/json", b'{"error":"x","error_type":"generation"}')])
def test_I41_errors_pass_as_they_are(cache, upstream, status, kind, text):
    rule = upstream.rule(path=CLASSIFY, status=status, body=text, set_header={"Content-Type": kind, "Retry-After": "7"})
    answer = post(cache, CLASSIFY, LOVE)
    assert answer.status == status and answer.body == text and answer["Content-Type"].startswith(kind) and answer["Retry-After"] == "7"
    rule.remove()
    if status != 429:
        assert not hits(cache, CLASSIFY, LOVE)


def test_I41_a_rate_limit_tells_how_long(cache, upstream):
    upstream.rule(path=CLASSIFY, limited=5)
    assert post(cache, CLASSIFY, LOVE).status == 429
    again = post(cache, CLASSIFY, {"inputs": "other"})
    assert again.status == 429 and 0 < int(again["Retry-After"]) <= 5 and not again["X-Should-Retry"]


def test_I42_an_error_in_the_dress_of_success(cache, upstream):
    for body in (b'{"error":"CUDA out of memory"}', b'\n {"error": {"message": "x"}}'):
        rule = upstream.rule(path=CLASSIFY, status=200, body=body)
        assert post(cache, CLASSIFY, LOVE).body == body
        rule.remove()
    assert not hits(cache, CLASSIFY, LOVE)


def test_I43_errors_in_the_shape_of_the_route(cache, upstream):
    gone(cache, upstream)
    value = json.loads(post(cache, CHAT, chat("shape")).body)
    assert isinstance(value["error"]["message"], str) and value["message"] == value["error"]["message"] and TEXT in value["message"]
    value = json.loads(post(cache, CLASSIFY, {"inputs": "shape"}).body)
    assert isinstance(value["error"], str) and value["error_type"]


def test_I44_too_long_a_request(start, upstream):
    cache = start(inference_max_request="1M")
    with Connection(("127.0.0.1", cache.port), timeout=20 * SLOW) as conn:
        conn.send(f"POST {CLASSIFY} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {1 << 30}\r\n\r\n".encode())
        assert conn.read().status == 413
    assert count(upstream) == 0
    with Connection(("127.0.0.1", cache.port), timeout=20 * SLOW) as conn:
        conn.send(f"POST {CLASSIFY} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        try:
            for _ in range(40):
                conn.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        except OSError:
            pass
        try:
            status = conn.read().status
        except (OSError, AssertionError, EOFError, ValueError):
            status = 413        # it was told and cut off while we were still sending
        assert status == 413
    assert count(upstream) == 0 and post(cache, CLASSIFY, LOVE).status == 200


def test_I44_too_long_an_answer(start, upstream):
    cache = start(inference_max_answer="64K")
    upstream.rule(path=CLASSIFY, status=200, body=json.dumps([["x" * 200000]]).encode(), set_header={"Content-Type": "application/json"})
    for _ in range(2):
        answer = post(cache, CLASSIFY, LOVE)
        assert answer.status == 200 and len(answer.body) > 200000 and not is_hit(answer)


def memory(cache):
    """Resident bytes of the process, without what is mapped from files."""
    for line in open(f"/proc/{cache.process.pid}/status", encoding="ascii"):
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def test_I17_audio_of_25_mb(cache, upstream):
    sound = b"fLaC" + bytes(1 << 20) * 25
    post(cache, f"/hf-inference/models/{SPEECH}", sound[:100000], kind=None)
    before = memory(cache)
    first = post(cache, f"/hf-inference/models/{SPEECH}", sound, kind=None, timeout=60)
    assert first.status == 200, first.body
    assert upstream.posts()[-1]["received"] == len(sound)
    assert dict((k.lower(), v) for k, v in upstream.posts()[-1]["headers"])["content-length"] == str(len(sound))
    if SLOW == 1:
        assert memory(cache) - before < 8 << 20
    assert hits(cache, f"/hf-inference/models/{SPEECH}", sound, kind="audio/flac", timeout=60)


def test_I17_more_than_is_looked_into(cache, upstream):
    """65 MiB: passed on, not kept."""
    sound = b"fLaC" + bytes(1 << 20) * 65
    upstream.rule(path=SPEECH, status=200, body=b'{"text":"long"}', set_header={"Content-Type": "application/json"})
    before = memory(cache)
    for _ in range(2):
        answer = post(cache, f"/hf-inference/models/{SPEECH}", sound, kind="audio/flac", timeout=60)
        assert answer.status == 200 and json.loads(answer.body)["text"] == "long" and not is_hit(answer)
    assert count(upstream) == 2 and upstream.posts()[-1]["received"] == len(sound)
    if SLOW == 1:
        assert memory(cache) - before < 8 << 20


def test_I17_a_long_body_whose_length_is_not_told(cache, upstream):
    upstream.rule(path=SPEECH, status=200, body=b'{"text":"long"}', set_header={"Content-Type": "application/json"})
    before = memory(cache)
    for _ in range(2):
        with Connection(("127.0.0.1", cache.port), timeout=60 * SLOW) as conn:
            conn.send(f"POST /hf-inference/models/{SPEECH} HTTP/1.1\r\nHost: x\r\nContent-Type: audio/flac\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            for _ in range(65):
                conn.send(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
            conn.send(b"0\r\n\r\n")
            answer = conn.read()
        assert answer.status == 200 and not is_hit(answer)
    assert upstream.posts()[-1]["received"] == 65 << 20
    if SLOW == 1:
        assert memory(cache) - before < 8 << 20


def test_I17_encoded_bodies_pass_and_are_not_kept(cache, upstream):
    import gzip
    upstream.rule(path=CHAT, status=200, body=b'{"id":"1","choices":[]}', set_header={"Content-Type": "application/json"})
    for _ in range(2):
        answer = post(cache, CHAT, gzip.compress(json.dumps(chat("zip")).encode()), headers=[("Content-Encoding", "gzip")])
        assert answer.status == 200 and not is_hit(answer)
    assert count(upstream) == 2
    assert dict((k.lower(), v) for k, v in upstream.posts()[-1]["headers"])["content-encoding"] == "gzip"


# --- never kept (3.6) ---

@pytest.mark.parametrize("what", [
    {"status": 201, "body": b"[1]"}, {"status": 202, "body": b"[1]"}, {"status": 200, "body": b""}, {"cut_after": 5}, {"content_length": +3},
    {"status": 200, "body": b'[1'}, {"gzip": True}, {"status": 404, "body": b'{"error":"Model x does not exist"}'}, {"status": 500, "body": b"{}"}],
    ids=lambda w: "-".join(f"{k}-{v if isinstance(v, int) else 'x'}" for k, v in w.items()))
def test_I42_what_is_never_kept(cache, upstream, what):
    more = {"set_header": {"Content-Type": "application/json"}} if "body" in what else {}
    rule = upstream.rule(path=CLASSIFY, **what, **more)
    post(cache, CLASSIFY, LOVE)
    rule.remove()
    assert not hits(cache, CLASSIFY, LOVE)


@pytest.mark.parametrize("more", [{}, {"store": True}, {"store": False, "previous_response_id": "r"}, {"store": False, "conversation": "c"},
                                  {"store": False, "tools": [{"type": "web_search"}]}, {"store": False, "tools": [{"type": "mcp"}]}])
def test_I42_calls_that_change_something(cache, upstream, more):
    body = {"model": TEXT, "input": "x", "temperature": 0} | more
    assert not hits(cache, RESPONSES, body) and not hits(cache, RESPONSES, body)


def test_I42_jobs_of_providers(cache, upstream):
    for _ in range(2):
        answer = post(cache, "/fal-ai/fal-ai/flux/dev?_subdomain=queue", {"prompt": "x", "seed": 1})
        assert answer.status == 200 and not is_hit(answer)
    assert count(upstream) == 2
    id = json.loads(answer.body)["request_id"]
    poll = post(cache, f"/fal-ai/fal-ai/flux/dev/requests/{id}/status", method="GET")
    assert json.loads(poll.body)["status"] == "COMPLETED"


@pytest.mark.parametrize("mode", ["off", "deterministic", "record", "replay", "offline"])
def test_I12_modes(start, upstream, mode):
    cache = start(inference_mode=mode)
    sampled = chat("x", temperature=1)
    if mode == "offline":
        assert post(cache, CHAT, chat("x")).status == 504 and count(upstream) == 0
        return
    kept = not hits(cache, CHAT, chat("x")) and hits(cache, CHAT, chat("x"))
    assert kept == (mode != "off")
    again = not hits(cache, CHAT, sampled) and hits(cache, CHAT, sampled)
    assert again == (mode == "replay")


def test_I25_counts(cache, upstream):
    post(cache, CHAT, chat()), post(cache, CHAT, chat())
    assert cache.metric("hfcache_inference_requests_total", provider="router", route="chat", code="200", result="miss") == 1
    assert cache.metric("hfcache_inference_requests_total", provider="router", route="chat", code="200", result="hit") == 1
    wait_for(lambda: cache.metric("hfcache_inference_tokens_total", provider="router", direction="out") > 0)
