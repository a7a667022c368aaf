# SPDX-License-Identifier: Apache-2.0
"""Inference calls of clients that name the service itself, through CONNECT and through the TLS listener."""
import json

import pytest

from asking import CHAT, CLASSIFY, LOVE, SENTIMENT, chat, data_of, events_of, is_hit, post
from tlsroad import HUB, ROAD_OPTIONS, Refused, Road, connect_to, plain_connection
from wire import fields

ROUTER, LEGACY = "router.huggingface.co", "api-inference.huggingface.co"


@pytest.fixture
def road(start):
    return Road(start(**ROAD_OPTIONS))


def call(road, path, body, host=ROUTER, by="connect", **how):
    return road.ask("POST", path, body=json.dumps(body).encode(), host=host, by=by, content_type="application/json", **how)


@pytest.mark.parametrize("by", ["connect", "tls"])
def test_I06_the_router_by_its_own_name_is_the_same_as_by_ours(road, upstream, by):
    first = call(road, CHAT, chat(), by=by)
    assert first.status == 200 and first.json()["choices"] and not is_hit(first)
    ours = post(road.daemon, CHAT, chat())
    assert is_hit(ours) and ours.body == first.body
    again = call(road, CHAT, chat(), by=by)
    assert is_hit(again) and again.body == first.body and len(upstream.posts()) == 1


def test_I06_streams_come_through(road, upstream):
    gate = upstream.gate(event=3, path=CHAT)
    with road.connect(ROUTER) as conn:
        conn.request("POST", CHAT, fields(content_type="application/json"), json.dumps(chat(stream=True)).encode())
        answer = conn.head()
        assert answer.status == 200 and answer["Content-Type"].startswith("text/event-stream")
        gate.wait_for(1)
        while b"\n\n" not in conn.buffer:
            assert conn._more(), "the first event comes before the last is made"
        gate.open()
        conn.body(answer)
    assert data_of(events_of(answer))[-1] == "[DONE]"
    assert is_hit(call(road, CHAT, chat(stream=True)))


def test_I06_an_unlisted_host_is_403(road):
    with plain_connection(road.daemon) as conn, pytest.raises(Refused) as caught:
        connect_to(conn, "fal.run:443")
    assert caught.value.answer.status == 403 and "intercept.tunnel" in caught.value.answer.text


def test_I06_a_task_by_router_legacy_host_and_hub(road, upstream):
    first = call(road, CLASSIFY, LOVE)
    assert first.status == 200 and first.json()[0][0]["label"] == "POSITIVE"
    for host, path in ((LEGACY, f"/models/{SENTIMENT}"), (LEGACY, f"/pipeline/text-classification/{SENTIMENT}"),
                       (HUB, f"/api/inference-proxy/hf-inference/models/{SENTIMENT}"),
                       (ROUTER, f"/hf-inference/models/{SENTIMENT}/pipeline/text-classification")):
        answer = call(road, path, LOVE, host)
        assert answer.body == first.body, (host, path)
    assert len(upstream.posts()) <= 2, "the task in the path is part of the call"


def test_I06_what_the_router_has_besides(road, upstream):
    models = road.get("/v1/models", host=ROUTER)
    assert models.status == 200 and models.json()["data"]
    # the router has no files, and no page of ours
    assert road.get("/acme/pub/resolve/main/config.json", host=ROUTER).status in (404, 400)
    for path in ("/", "/-/status"):
        assert road.get(path, host=ROUTER).status == 404


def test_I06_offline_and_after_a_restart(road, upstream, hub):
    first = call(road, CLASSIFY, LOVE)
    upstream.kill()
    hub.kill()
    road.daemon.restart()
    again = Road(road.daemon)
    kept = call(again, CLASSIFY, LOVE)
    assert is_hit(kept) and kept.body == first.body
    missing = call(again, CLASSIFY, {"inputs": "Never asked."})
    assert missing.status == 504 and missing["x-should-retry"] == "false"
