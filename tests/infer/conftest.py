# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the inference tests: those of the wire tests (e2e/conftest.py), and what answers inference calls.

hub       as there; it also holds the models of the router double, each with its task in its card
upstream  an InferDouble: the router, whose models are at the commits that hub has; alice alone may ask acme/gated-clf and
          acme/private-clf
backend   backend(kind, **options): a running local server
start     as there; the daemon's inference.url is upstream unless told otherwise. config="..." is a configuration file's text
cache     one with default options
"""
import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
for place in (HERE.parent / "hub", HERE.parent / "e2e", HERE):
    sys.path.insert(0, str(place))

_spec = importlib.util.spec_from_file_location("e2e_fixtures", HERE.parent / "e2e" / "conftest.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
globals().update({name: value for name, value in vars(_module).items() if not name.startswith("_")})
plain_people, plain_start = _module.people, _module.start

from facts import standard_repos  # noqa: E402
from hubdouble import HubDouble  # noqa: E402
from inferdouble import MODELS, InferDouble  # noqa: E402

GUARDED = {"acme/gated-clf": {"gated": "auto"}, "acme/private-clf": {"private": True}}


def card(task):
    return {"README.md": f"---\nlicense: mit\npipeline_tag: {task}\n---\n# A model\n", "config.json": '{"model_type": "bert"}\n'}


@pytest.fixture
def hub():
    with HubDouble(cache_dir=_module.GENERATED) as double:
        standard_repos(double)
        for id, task, _ in MODELS:
            double.content.add_repo("model", id if "/" in id else f"openai-community/{id}").commit(card(task))
        double.content.add_alias("model", "gpt2", "openai-community/gpt2")
        for id, how in GUARDED.items():
            double.content.add_repo("model", id, **how).commit(card("text-classification"))
        yield double
        assert not double.leaks(), f"a token went to the CDN: {double.leaks()}"


@pytest.fixture
def people(plain_people, hub):
    hub.content.add_token(plain_people.alice, "alice", {"acme/gated", "acme/private", *GUARDED})
    return plain_people


@pytest.fixture
def upstream(hub, people):
    with InferDouble() as double:
        for id in GUARDED:
            double.add_model(id)
            double.gate_model(id, {people.alice})
        for model in double.models.values():
            model.sha = hub.content.repo(model.id if "/" in model.id else f"openai-community/{model.id}").head.id
        yield double


@pytest.fixture
def backend(upstream):
    return upstream.add


@pytest.fixture
def start(plain_start, upstream, folder):
    count = iter(range(1000))

    def make(config=None, **options):
        options.setdefault("inference_url", getattr(options.get("inference_url"), "url", None) or upstream.url)
        if config is not None:
            path = folder / f"hfcached{next(count)}.conf"
            path.write_text(config)
            options["command"] = [*options.get("command", ()), "--config", str(path)]
        return plain_start(**options)
    return make


@pytest.fixture
def cache(start):
    return start()
