# SPDX-License-Identifier: Apache-2.0
"""Real clients straight against the doubles, without a daemon: what these answer is what clients are made for."""
import pytest

from asking import SENTIMENT, chat
from inferdouble import InferDouble


@pytest.fixture
def double():
    with InferDouble() as one:
        yield one


SESSION = [("/greet", ["World"]), ("/sentiment", ["I hate it"])]


def check(found):
    assert found[0] == "Hello World!" and found[1]["label"] == "NEGATIVE" and found[2]["text"] == "A FILE", found


def test_a_session_with_an_app(python, node, double):
    app = double.add("gradio", beat=1)
    one, = python("hub2", [("gradio", {"url": app.url, "session": [*SESSION, ("/shout", [{"file": "a file"}])]})], to=app)
    other, = node([("gradio", {"url": app.url, "session": [*SESSION, ("/shout", [{"blob": "a file"}])]})], to=app)
    check(one["out"])
    check(other["out"])
    assert other["root"] == app.url and other["out"][2]["url"].startswith(app.url)
    paths = {c.path.removeprefix("/gradio_api") for c in app.calls()}
    assert {"/config", "/queue/join", "/queue/data", "/upload"} <= paths and any(p.startswith("/heartbeat/") for p in paths)


def test_local_servers_with_the_clients_of_openai(python, node, double):
    """Each on an address of its own."""
    for kind in ("tgi", "vllm", "llamacpp", "ollama"):
        server = double.add(kind, model="acme/local")
        body = chat(model="acme/local", stream=True)
        if kind == "vllm":
            found, = python("hub2", [("openai_call", {"url": f"{server.url}/v1", "what": "chat.completions.create", "arguments": body})], to=server)
        else:
            found, = node([("openai", {"url": f"{server.url}/v1", "what": "chat.completions.create", "args": body})], to=server)
        assert found["events"][-1]["choices"][0]["finish_reason"] == "stop", kind


def test_a_pipeline_server_with_all_generations(python, node, double):
    server = double.add("pipeline")
    one, other = (python(client, [("task", {"url": server.url, "name": "text_classification", "arguments": {"text": "I love it"}})],
                         to=server)[0] for client in ("hub2", "hub0"))
    third, fourth = node([("task", {"version": version, "url": server.url, "name": "textClassification", "args": {
        "inputs": "I love it", "model": SENTIMENT}}) for version in (4, 3)], to=server)
    assert one == other == third == fourth and one[0]["label"] == "POSITIVE"
