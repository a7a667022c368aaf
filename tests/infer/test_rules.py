# SPDX-License-Identifier: Apache-2.0
"""Rules of the administrator's: scopes and modes, what counters and the status tell, what a backend is asked again, and the disk.

Those of single backends are in test_backends.py.
"""
import json
import re
import socket

import pytest
from asking import CHAT, CLASSIFY, GENERATE, LOVE, RESPONSES, SENTIMENT, TEXT, chat, is_hit, post, stream
from harness import wait_for
from test_backends import MODEL, by, section

SPACE = "X-HF-Cache-Namespace"


def hits(cache, path, body, **how):
    answer = post(cache, path, body, **how)
    assert answer.status == 200, answer.body
    return is_hit(answer)


# --- whose answers (3.4) ---

def test_I27_named_answers_are_kept_apart_and_shared_when_the_model_is_open(start, upstream, people):
    cache = start(inference_scope="named")
    assert cache.get(f"/api/models/{SENTIMENT}").status == 200      # proves that it is open
    one, two = [(SPACE, "eval-1")], [(SPACE, "eval-2")]
    assert not hits(cache, CLASSIFY, LOVE, token=people.alice, headers=one)
    assert hits(cache, CLASSIFY, LOVE, token=people.alice, headers=one) and hits(cache, CLASSIFY, LOVE, token=people.bob, headers=one)
    assert not hits(cache, CLASSIFY, LOVE, token=people.bob, headers=two), "another namespace"
    assert not hits(cache, CLASSIFY, LOVE, token=people.alice), "no namespace: her own answers"
    assert not hits(cache, CLASSIFY, LOVE, token=people.bob), "and his"
    assert len(upstream.posts()) == 4
    for wrong in ("with blank", "x" * 129):
        assert post(cache, CLASSIFY, LOVE, headers=[(SPACE, wrong)]).status == 400
    gated = "/hf-inference/models/acme/gated-clf"
    cache.get("/api/models/acme/gated-clf", token=people.alice)
    assert not hits(cache, gated, LOVE, token=people.alice, headers=one) and hits(cache, gated, LOVE, token=people.alice, headers=one)
    assert not hits(cache, gated, LOVE, token=people.alice, headers=two)
    refused = post(cache, gated, LOVE, token=people.bob, headers=one)
    assert refused.status == 403 and b"POSITIVE" not in refused.body


def test_I27_a_namespace_means_nothing_unless_it_is_allowed(cache, upstream):
    assert not hits(cache, CLASSIFY, LOVE, headers=[(SPACE, "a")]) and hits(cache, CLASSIFY, LOVE, headers=[(SPACE, "b")])


# --- modes of single models and routes (3.1) ---

def test_I12_modes_of_models_and_routes(start, upstream):
    cache = start(inference_modes=f"distilbert/*=off {TEXT}=replay /v1/chat/completions=record /v1/responses=offline")
    assert not hits(cache, CLASSIFY, LOVE) and not hits(cache, CLASSIFY, LOVE)
    sampled = chat("sampled", temperature=1)
    assert not hits(cache, CHAT, sampled) and hits(cache, CHAT, sampled), "the model stands before the route"
    other = chat("sampled", model="meta-llama/Llama-3.1-8B-Instruct", temperature=1)
    assert not hits(cache, CHAT, other) and not hits(cache, CHAT, other)
    asked = len(upstream.posts())
    answer = post(cache, RESPONSES, {"model": "meta-llama/Llama-3.1-8B-Instruct", "input": "x", "temperature": 0, "store": False})
    assert answer.status == 504 and answer["X-Should-Retry"] == "false" and len(upstream.posts()) == asked
    upstream.kill()
    kept = wait_for(lambda: (a := post(cache, CHAT, other)).status == 200 and a)
    assert is_hit(kept) and kept["X-HF-Warning"]


# --- fields ---

def test_I25_what_caches_behind_us_said_stays(cache, upstream):
    upstream.rule(path=CLASSIFY, set_header={"Cache-Status": 'Edge; fwd=uri-miss; detail="a, b"'})
    first = post(cache, CLASSIFY, LOVE)
    assert re.fullmatch(r'Edge; fwd=uri-miss; detail="a, b", hfcache; fwd=uri-miss; fwd-status=200; stored; key="[0-9a-f]{16}"',
                        first["Cache-Status"]), first["Cache-Status"]
    again = post(cache, CLASSIFY, LOVE)
    assert is_hit(again) and again["Cache-Status"].startswith("hfcache; hit")


# --- counters and status ---

def calls_counted(cache, **labels):
    return sum(value for name, found, value in cache.metrics()
               if name == "hfcache_inference_requests_total" and labels.items() <= found.items())


def test_counters_tell_provider_route_code_and_result(start, backend, upstream):
    near = backend("vllm", names=[MODEL])
    cache = start(config=section("near", near, models=[MODEL]))
    post(cache, CLASSIFY, LOVE), post(cache, CLASSIFY, LOVE)
    post(cache, CHAT, chat()), post(cache, CHAT, chat(model=f"{TEXT}:groq")), post(cache, CHAT, chat(model=MODEL)), post(cache, CHAT, chat(model=MODEL))
    post(cache, "/hf-inference/models/acme/nothing", LOVE)
    for labels in ({"provider": "hf-inference", "route": "task", "code": "200", "result": "miss"},
                   {"provider": "hf-inference", "route": "task", "code": "200", "result": "hit"},
                   {"provider": "hf-inference", "route": "task", "code": "404", "result": "miss"},
                   {"provider": "router", "route": "chat", "code": "200", "result": "miss"},
                   {"provider": "groq", "route": "chat", "code": "200", "result": "miss"},
                   {"provider": "backend", "route": "chat", "code": "200", "result": "miss"},
                   {"provider": "backend", "route": "chat", "code": "200", "result": "hit"}):
        assert calls_counted(cache, **labels) == 1, labels
    assert cache.metric("hfcache_inference_time_to_first_byte_seconds_count", provider="router", result="miss") == 1


@pytest.mark.parametrize("is_stream", [False, True])
def test_tokens_are_counted_though_an_answer_is_not_kept(cache, upstream, is_stream):
    body = chat("sampled", temperature=1, max_tokens=7, **({"stream": True, "stream_options": {"include_usage": True}} if is_stream else {}))
    with stream(cache, CHAT, body) as one:
        one.rest()
    wait_for(lambda: cache.metric("hfcache_inference_tokens_total", provider="router", direction="out") == 7)
    assert cache.metric("hfcache_inference_tokens_total", provider="router", direction="in") > 0
    kept = chat("kept", max_tokens=5)
    post(cache, CHAT, kept), post(cache, CHAT, kept)
    wait_for(lambda: cache.metric("hfcache_inference_tokens_total", provider="router", direction="out") == 12)


def test_the_status_tells_how_backends_are(start, backend, upstream):
    near, gone = backend("vllm", names=[MODEL]), backend("tei")
    cache = start(config=section("near", near, models=[MODEL], concurrency=3) + section("gone", gone, models=["acme/x"]), inference_mode="offline")
    gone.kill()
    for n in range(3):
        assert post(cache, "/models/acme/x/pipeline/text-classification", {"inputs": f"{n}"}).status == 504
    assert post(cache, CHAT, chat(model=MODEL)).status == 200

    def told():
        return {one["name"]: one for one in json.loads(cache.get("/-/status").body)["backends"]}
    wait_for(lambda: told()["near"]["models"] == 2 and told()["near"]["running"] == 0)
    assert told()["near"] == {"name": "near", "kind": "vllm", "state": "ready", "running": 0, "concurrency": 3, "models": 2}
    assert told()["gone"]["state"] == "unreachable"
    page = cache.get("/-/").body.decode()
    assert re.search(r"near +vllm +ready", page) and re.search(r"gone +tei +unreachable", page)


def test_a_backend_is_called_ready_only_after_it_was_heard(start, backend, upstream):
    """One that says nothing, and one that is not there: neither is well, however little was asked of it."""
    gone = backend("tei")
    gone.kill()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        cache = start(config=section("gone", gone, models=["acme/x"]) +
                      f"[backend silent]\nkind = vllm\nurl = http://127.0.0.1:{silent.getsockname()[1]}\nmodels = acme/y\n")
        seen = {"gone": set(), "silent": set()}

        def look():
            for one in json.loads(cache.get("/-/status").body)["backends"]:
                seen[one["name"]].add(one["state"])
            return seen["gone"] & {"failing", "unreachable"}
        wait_for(look)
    assert "ready" not in seen["gone"] | seen["silent"] and "not asked yet" in seen["silent"], seen


def test_where_no_inference_url_is_set_the_answer_says_so(start, upstream):
    """With a Hub of one's own there is no router to go with it: the cure is the option, not to wait for upstream."""
    answer = post(start(inference_url=""), CHAT, chat())
    assert answer.status == 404 and b"inference.url is not set" in answer.body and not upstream.posts(), answer.body


# --- what is asked once more without what the server does not know (4.2) ---

REFUSALS = {
    "vllm": (400, b'{"error":{"message":"[{\'type\': \'extra_forbidden\', \'loc\': (\'body\', \'watermark\'), \'msg\': \'Extra inputs are not permitted\'}]",'
                  b'"type":"BadRequestError","code":400}}'),
    "openai": (400, b'{"error":{"message":"Unrecognized request argument supplied: watermark","type":"invalid_request_error","param":null}}'),
    "serde": (422, b"Failed to deserialize the JSON body into the target type: unknown field `watermark`, expected one of `model`, `messages`"),
}


@pytest.mark.parametrize("name", list(REFUSALS))
def test_parameters_that_a_backend_does_not_know_are_left_away_if_the_rules_say_so(start, backend, upstream, name):
    status, text = REFUSALS[name]
    near = backend("vllm", names=[MODEL])
    near.rule(path=CHAT, when=lambda request: b"watermark" in request.body, status=status, body=text,
              set_header={"Content-Type": "text/plain" if name == "serde" else "application/json"})
    body = chat(model=MODEL, watermark=True, top_p=0.5)
    config = section("near", near, models=[MODEL])
    told = start(config=config, inference_mode="offline")
    answer = post(told, CHAT, body)
    assert answer.status == status and answer.body == text and len(near.posts()) == 1, "the client is to hear of it"
    cache = start(config=config + "drop-unknown = yes\n", inference_mode="offline")
    answer = post(cache, CHAT, body)
    assert answer.status == 200 and len(near.posts()) == 3
    assert json.loads(near.posts()[-1].body) == {k: v for k, v in body.items() if k != "watermark"}
    assert hits(cache, CHAT, body)


def test_another_refusal_is_the_answer_also_then(start, backend, upstream):
    near = backend("vllm", names=[MODEL])
    near.rule(path=CHAT, fail=400, message="This model's maximum context length is 10 tokens: top_p")
    cache = start(config=section("near", near, models=[MODEL]) + "drop-unknown = yes\n", inference_mode="offline")
    answer = post(cache, CHAT, chat(model=MODEL, top_p=0.5))
    assert answer.status == 400 and b"maximum context length" in answer.body and len(near.posts()) == 1
    # and it is asked once more, not for ever
    near.clear_rules()
    near.rule(path=CHAT, fail=400, message="unknown field top_p")
    answer = post(cache, CHAT, chat("other", model=MODEL, top_p=0.5))
    assert answer.status == 400 and b"unknown field" in answer.body and len(near.posts()) == 3


# --- adapters ---

def test_I45_vllm_names_one_class_and_the_others_are_named_by_the_model(start, backend, upstream, hub, people):
    """From its config.json, if that is held, and for who may read it."""
    labels = {"id2label": {"0": "bad", "1": "good", "2": "so so"}}
    hub.content.add_repo("model", "acme/clf").commit({"config.json": json.dumps(labels)})
    hub.content.add_repo("model", "acme/private", private=True).commit({"config.json": json.dumps(labels)})
    vllm = backend("vllm", names=["acme/clf", "acme/private"], labels=("NEGATIVE", "POSITIVE", "third"))
    cache = start(config=section("vllm", vllm, models=["acme/clf", "acme/private"]))

    def told(model, text, token=None):
        answer = post(cache, f"/hf-inference/models/acme/{model}/pipeline/text-classification", {"inputs": text}, token=token)
        assert answer.status == 200, answer
        [best] = json.loads(answer.body)
        assert [one["score"] for one in best] == sorted((one["score"] for one in best), reverse=True)
        return [one["label"] for one in best]
    assert told("clf", "I love it") == ["POSITIVE", "LABEL_0", "LABEL_2"]
    assert cache.get("/acme/clf/resolve/main/config.json").status == 200
    assert told("clf", "I love it all") == ["POSITIVE", "bad", "so so"]
    assert cache.get("/acme/private/resolve/main/config.json", token=people.alice).status == 200
    assert told("private", "I love it", token=people.alice) == ["POSITIVE", "bad", "so so"]
    assert told("private", "I love it", token=people.bob) == ["POSITIVE", "LABEL_0", "LABEL_2"]


@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
def test_ranking_by_v1_rerank(start, backend, upstream, kind):
    near = backend(kind, **({"names": ["acme/rank"]} if kind == "vllm" else {}))
    cache = start(config=section("near", near, models=["acme/rank"]), inference_mode="offline")
    path, inputs = "/hf-inference/models/acme/rank/pipeline/text-ranking", {"query": "a cat", "texts": ["taxes", "a cat"]}
    answer = post(cache, path, {"inputs": inputs})
    assert answer.status == 200 and near.posts()[0].path == "/v1/rerank", answer
    sent = json.loads(near.posts()[0].body)
    assert sent == {"model": "acme/rank", "query": "a cat", "documents": ["taxes", "a cat"]}
    rows = json.loads(answer.body)
    assert [set(row) for row in rows] == [{"index", "score"}] * 2 and [row["index"] for row in rows] == [1, 0]
    assert rows[0]["score"] > rows[1]["score"]
    told = json.loads(post(cache, path, {"inputs": inputs, "parameters": {"return_text": True}}).body)
    assert [row["text"] for row in told] == ["a cat", "taxes"]
    assert post(cache, path, {"inputs": inputs, "parameters": {"raw_scores": True}}).status == 422, "it does not say which it tells"


@pytest.mark.parametrize("more", [{}, {"do_sample": True}, {"do_sample": False, "top_k": 3}])
def test_I52_a_temperature_of_0_is_greedy_at_tgi(start, backend, upstream, more):
    """It takes one for a mistake there (validation error), though not in chat."""
    tgi = backend("tgi", model=TEXT)
    cache = start(config=section("near", tgi, models=[TEXT]), inference_mode="offline")
    answer = post(cache, GENERATE, {"inputs": "The sea", "parameters": {"temperature": 0.0, "max_new_tokens": 4} | more})
    assert answer.status == 200 and tgi.posts()[0].path == "/", answer
    assert json.loads(tgi.posts()[0].body)["parameters"] == more | {"max_new_tokens": 4, "do_sample": False}
    assert post(cache, CHAT, chat(temperature=0)).status == 200 and json.loads(tgi.posts()[1].body)["temperature"] == 0


# --- the disk ---

def test_I44_kept_answers_make_room_like_all_else(start, upstream):
    """The quota holds, the oldest answers go first, and what went is asked for again."""
    cache = start(storage_max_size="24M", log_level="info")
    sizes = {"set_header": {"Content-Type": "application/json"}}
    for n in range(16):
        upstream.rule(path=CLASSIFY, status=200, body=json.dumps([[{"label": f"{n:02}" + "x" * (2 << 20), "score": 1}]]).encode(), **sizes)
        assert not hits(cache, CLASSIFY, {"inputs": f"number {n}"})
        upstream.clear_rules()
        assert cache.metric("hfcache_storage_used_bytes") <= 24 << 20
    assert cache.metric("hfcache_storage_evicted_objects_total") >= 4
    asked = len(upstream.posts())
    last = post(cache, CLASSIFY, {"inputs": "number 15"})
    assert is_hit(last) and b'"15x' in last.body[:40] and len(upstream.posts()) == asked
    assert not hits(cache, CLASSIFY, {"inputs": "number 0"})
