# SPDX-License-Identifier: Apache-2.0
"""Inference by clients that are told nothing: "I love Hugging Face!" without a base URL, through interception, in every age, and from
a server of one's own."""
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from asking import SENTIMENT, chat
from machine import can_name
from test_seed import check
from tlsroad import ROAD_OPTIONS, Road
from roadmachine import NODE, NamedMachine, ProxyMachine, free_address, named_options

HERE = Path(__file__).resolve().parent
SCRIPT = HERE.parent / "node/unaware.mjs"
LOVE = "I love Hugging Face!"


def node_takes_proxies():
    """NODE_USE_ENV_PROXY came with Node 24.0 and 22.21."""
    said = subprocess.run([NODE, "-p", "process.versions.node"], capture_output=True, text=True).stdout
    major, minor = (int(n) for n in said.split(".")[:2])
    return major >= 24 or (major == 22 and minor >= 21)


def backend_of(near):
    return f"[backend near]\nurl = {near.url}\nkind = {near.kind}\nmodels = {SENTIMENT}\n"


@pytest.fixture
def hub(hub):
    """It says that the models are served by hf-inference."""
    def rule(id, task):
        one = {"provider": "hf-inference", "providerId": id, "hfModelId": id, "status": "live", "task": task}
        hub.rule("hub", method="GET", path=f"/api/models/{id}\\?expand", body=json.dumps(
            {"_id": "621ffdc036468d709f17434d", "id": id, "inferenceProviderMapping": [one]}).encode(),
            headers={"Content-Type": "application/json; charset=utf-8"})
    rule(SENTIMENT, "text-classification")
    return hub


@pytest.fixture
def proxied(start, folder, count):
    """(road, machine(client)): by CONNECT."""
    road = Road(start(**ROAD_OPTIONS))
    return road, lambda client: ProxyMachine(folder / f"machine{next(count)}", client, road)


@pytest.fixture
def named(start, folder, count):
    """The same by DNS."""
    address = free_address()
    if not address or not can_name():
        pytest.skip("port 443 or names of a program's own are not to be had here")
    road = Road(start(**named_options(address)))
    return road, lambda client: NamedMachine(folder / f"machine{next(count)}", client, road)


def ages(road, upstream, hub):
    yield "live"
    upstream.kill()
    hub.kill()
    upstream.reset_counters()
    yield "kept"
    road.daemon.restart()
    yield "restarted"
    assert not upstream.calls()


def in_python(client):
    """Generation 0 is asynchronous with aiohttp, which looks for a proxy in its environment only when it is told to."""
    how = {"name": "text_classification", "arguments": {"text": LOVE, "model": SENTIMENT}}
    return [("unaware_task", how), ("unaware_task", how | {"is_async": True} | ({"trust_env": True} if client == "hub0" else {}))]


def ask_python(machine, client):
    return machine(client).several(in_python(client), script=str(HERE / "unaware.py"))


@pytest.mark.slow
@pytest.mark.parametrize("client", ["hub2", "hub1", "hub0"])
def test_I06_seed_in_python_by_a_proxy(proxied, upstream, hub, client):
    road, machine = proxied
    first = None
    for age in ages(road, upstream, hub):
        for found in ask_python(machine, client):
            check(found)
            first = first or found
            assert found == first, age
        if age == "live":
            assert len(upstream.posts()) == 1


def in_javascript(versions):
    return [("task", {"version": version, "name": "textClassification", "args": {"inputs": LOVE, "model": SENTIMENT}})
            for version in versions]


def through_node(road, machine, upstream, hub):
    first = None
    for age in ages(road, upstream, hub):
        for found in machine(None).node(SCRIPT, in_javascript((4, 3, 2))):
            check(found)
            first = first or found
            assert found == first, age
        if age == "live":
            assert len(upstream.posts()) == 1


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which(NODE) or not node_takes_proxies(), reason="this Node takes no proxy from its environment")
def test_seed_in_javascript_by_a_proxy(proxied, upstream, hub):
    through_node(*proxied, upstream, hub)


@pytest.mark.slow
def test_I06_seed_in_javascript_by_dns(named, upstream, hub):
    through_node(*named, upstream, hub)


@pytest.mark.slow
def test_I06_seed_in_python_by_dns(named, upstream, hub):
    road, machine = named
    for found in ask_python(machine, "hub2"):
        check(found)
    assert len(upstream.posts()) == 1


@pytest.mark.slow
def test_I06_seed_from_a_server_of_ones_own(start, backend, upstream, hub, folder, count):
    near = backend("tei", type="classifier")
    address = free_address() if can_name() else None
    options = named_options(address) if address else ROAD_OPTIONS
    road = Road(start(config=backend_of(near), hub_offline="yes", **options))
    for found in ProxyMachine(folder / "by-proxy", "hub2", road).several(in_python("hub2"), script=str(HERE / "unaware.py")):
        check(found)
    if address:
        for found in NamedMachine(folder / "by-name", None, road).node(SCRIPT, in_javascript((4, 3, 2))):
            check(found)
    assert near.posts() and not upstream.calls() and not hub.calls()


@pytest.mark.slow
def test_I06_openai_with_the_address_of_the_documentation(proxied, upstream, people):
    road, machine = proxied
    plain, = machine("hub2").several([("unaware_openai", {"what": "chat.completions.create", "arguments": chat(), "key": people.alice})],
                                     script=str(HERE / "unaware.py"))
    mine = machine("hub2").several([("unaware_chat", {"arguments": chat(), "token": people.alice}),
                                    ("unaware_chat", {"arguments": chat(stream=True), "token": people.alice})], script=str(HERE / "unaware.py"))
    words = plain["choices"][0]["message"]["content"]
    assert words and mine[0]["choices"][0]["message"]["content"] == words
    assert "".join(c["delta"].get("content") or "" for one in mine[1] for c in one["choices"]) == words
    assert len(upstream.posts()) == 1


@pytest.mark.slow
def test_I06_openai_and_chat_in_javascript(named, upstream, people):
    road, machine = named
    how = {"version": 4, "args": chat(), "token": people.alice}
    said, events, mine = machine(None).node(SCRIPT, [("openai", {"args": chat(), "key": people.alice}),
                                                    ("stream", how | {"name": "chatCompletionStream"}),
                                                    ("task", how | {"name": "chatCompletion"})])
    words = said["choices"][0]["message"]["content"]
    assert words and mine["choices"][0]["message"]["content"] == words
    assert "".join(c["delta"].get("content") or "" for one in events for c in one["choices"]) == words
    assert len(upstream.posts()) == 1


def test_I06_curl_by_a_proxy(proxied, folder):
    road, machine = proxied
    user = machine(None)
    done = user.run(["curl", "-sS", "-q", "-x", user.url, "--cacert", str(user.ca), "-H", "Content-Type: application/json", "-d",
                     json.dumps({"inputs": LOVE}), f"https://router.huggingface.co/hf-inference/models/{SENTIMENT}"])
    assert done.returncode == 0, done.stderr
    check(json.loads(done.stdout)[0])
    done = user.run(["curl", "-sS", "-q", "-x", user.url, "--cacert", str(user.ca), "https://example.org/"])
    assert done.returncode == 56 and "403" in done.stderr
