# SPDX-License-Identifier: Apache-2.0
"""The pipeline contract: what a task call carries, what each task answers; used by the router and by "any server that speaks it"."""
import base64
import binascii
import json

from . import models, shapes
from .app import Refusal, say
from .pictures import jpeg, png, wav
from .wire import event_reply
from hubdouble.message import Reply

RAW = {"automatic-speech-recognition", "audio-classification", "image-classification", "object-detection", "image-segmentation",
       "image-to-text", "audio-to-audio"}
ALIASES = {"sentence-embeddings": "feature-extraction", "conversational": "text-generation", "asr": "automatic-speech-recognition"}


def call_of(request, task):
    """(inputs, parameters, whole body) of a task call: JSON, or raw bytes where the task takes them."""
    kind = (request.get("Content-Type") or "").partition(";")[0].strip().lower()
    raw = request.body
    if kind == "application/json" or (task not in RAW and raw[:1] in (b"{", b"[")):
        try:
            body = json.loads(raw)
        except ValueError:
            raise Refusal(400, "Invalid JSON in the request body", "plain") from None
        if not isinstance(body, dict):
            body = {"inputs": body}
        inputs = body.get("inputs")
        if task in RAW and isinstance(inputs, str):
            try:
                inputs = base64.b64decode(inputs, validate=True)
            except binascii.Error:
                raise Refusal(400, "Malformed base64 in inputs", "plain") from None
        return inputs, body.get("parameters") or {}, body
    if task in RAW:
        return raw, {}, {}
    try:
        return raw.decode(), {}, {}
    except UnicodeDecodeError:
        raise Refusal(400, "Malformed soundfile or text", "plain") from None


def need(value, name, kind=None):
    if value is None or (kind and not isinstance(value, kind)):
        raise Refusal(400, [f"Error in `{name}`: field required"], "plain", extra={"warnings": []})
    return value


def each(inputs):
    return [inputs] if isinstance(inputs, str) else list(inputs)


def text_classification(model, inputs, parameters, body):
    texts = each(need(inputs, "inputs"))
    rows = []
    for text in texts:
        both = models.sentiment(text)
        if parameters.get("function_to_apply") == "none":
            raw = models.logits(text)
            both = sorted(({"label": k, "score": v} for k, v in raw.items()), key=lambda one: -one["score"])
        rows.append(both[:parameters.get("top_k") or None])
    return rows


def feature_extraction(model, inputs, parameters, body):
    texts = each(need(inputs, "inputs"))
    cut = body.get("dimensions") or parameters.get("dimensions")
    vectors = [list(models.embed(text)[:cut]) for text in texts]
    if model.family == "plain-embedding":     # a vector for each token
        vectors = [[[vector[:8], vector[8:16]]] for vector in vectors]
    return vectors[0] if isinstance(inputs, str) else vectors


def sentence_similarity(model, inputs, parameters, body):
    source, others = need(inputs, "inputs", dict).get("source_sentence"), inputs.get("sentences")
    one = models.embed(need(source, "source_sentence"))
    return [models.cosine(one, models.embed(text)) for text in need(others, "sentences", list)]


def zero_shot(model, inputs, parameters, body):
    labels = need(parameters.get("candidate_labels"), "candidate_labels")
    return [{"label": label, "score": share} for label, share in models.shares(json.dumps(inputs), labels)]


def token_classification(model, inputs, parameters, body):
    return models.entities(need(inputs, "inputs", str))


def fill_mask(model, inputs, parameters, body):
    text = need(inputs, "inputs", str)
    if "[MASK]" not in text:
        raise Refusal(400, "No mask_token ([MASK]) found on the input", "plain", extra={"warnings": ["There was an inference error"]})
    found = models.shares(text, parameters.get("targets") or ["paris", "lyon", "rome", "london", "berlin"])
    return [{"score": share, "token": 1000 + len(word), "token_str": word, "sequence": text.replace("[MASK]", word).lower()}
            for word, share in found[:parameters.get("top_k") or 5]]


def question_answering(model, inputs, parameters, body):
    asked = inputs if isinstance(inputs, dict) else body
    need(asked.get("question"), "question")
    context = need(asked.get("context"), "context")
    words = context.split()
    answer = max(words, key=len) if words else ""
    start = context.find(answer)
    one = {"score": 0.5 + len(answer) / 100, "start": start, "end": start + len(answer), "answer": answer}
    return [one] * parameters["top_k"] if parameters.get("top_k", 1) > 1 else one


def table_question(model, inputs, parameters, body):
    table = need(need(inputs, "inputs", dict).get("table"), "table")
    column = next(iter(table))
    cell = str(table[column][0])
    return {"answer": cell, "coordinates": [[0, 0]], "cells": [cell], "aggregator": "NONE"}


def translation(model, inputs, parameters, body):
    return [{"translation_text": "".join(models.tokens_of(["translation", text, parameters], 6))} for text in each(need(inputs, "inputs"))]


def summarization(model, inputs, parameters, body):
    text = need(inputs, "inputs", str)
    return [{"summary_text": " ".join(text.split()[:8])}]


def image_labels(model, inputs, parameters, body):
    labels = ["tabby", "egyptian cat", "lynx", "remote control", "window screen"]
    found = models.shares(bytes_digest(inputs), labels)
    return [{"label": label, "score": share} for label, share in found[:parameters.get("top_k") or 5]]


def object_detection(model, inputs, parameters, body):
    share = models.shares(bytes_digest(inputs), ["cat", "couch"])
    return [{"score": score, "label": label, "box": {"xmin": 1, "ymin": 2, "xmax": 30, "ymax": 40}} for label, score in share
            if score >= parameters.get("threshold", 0)]


def segmentation(model, inputs, parameters, body):
    mask = base64.b64encode(png(bytes_digest(inputs))).decode()
    return [{"score": 0.9, "label": "cat", "mask": mask}]


def caption(model, inputs, parameters, body):
    return [{"generated_text": "".join(models.tokens_of(["caption", bytes_digest(inputs)], 5))}]


def speech(model, inputs, parameters, body):
    data = need(inputs, "inputs", bytes)
    if not data:
        raise Refusal(400, "Malformed soundfile", "plain")
    out = {"text": models.transcript(data)}
    if parameters.get("return_timestamps"):
        out["chunks"] = [{"text": out["text"], "timestamp": [0.0, 1.5]}]
    return out


def tabular(model, inputs, parameters, body):
    table = body.get("table") or need(inputs, "inputs", dict).get("data")
    return [len(str(row)) % 3 for row in next(iter(need(table, "table").values()))]


def bytes_digest(data):
    if isinstance(data, dict):
        return json.dumps(data, sort_keys=True)
    return models.hashlib.sha256(need(data, "inputs", bytes)).hexdigest()


TASKS = {"text-classification": text_classification, "sentiment-analysis": text_classification, "feature-extraction": feature_extraction,
         "sentence-similarity": sentence_similarity, "zero-shot-classification": zero_shot, "token-classification": token_classification,
         "fill-mask": fill_mask, "question-answering": question_answering, "table-question-answering": table_question,
         "translation": translation, "summarization": summarization, "image-classification": image_labels,
         "audio-classification": image_labels, "object-detection": object_detection, "image-segmentation": segmentation,
         "image-to-text": caption, "automatic-speech-recognition": speech, "tabular-classification": tabular,
         "tabular-regression": tabular}


def rerank(query, texts, raw=False):
    """[(index, score)], the best first."""
    one = models.embed(query)
    scores = [models.cosine(one, models.embed(text)) for text in texts]
    found = [(n, s if raw else 1 / (1 + models.math.exp(-6 * s))) for n, s in enumerate(scores)]
    return sorted(found, key=lambda pair: -pair[1])


class Pipelines:
    """The task contract as a mix-in. Needs headers_of(request, call, model)."""

    default_new_tokens = 20
    stream_headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no")]

    def run_task(self, request, call, model, task=None):
        task = ALIASES.get(task, task) or model.task
        call["model"], call["task"] = model.id, task
        if task in ("text-to-image", "text-to-speech", "text-to-audio"):
            return self.make(request, call, model, task)
        inputs, parameters, body = call_of(request, task)
        if task in ("text-generation", "text2text-generation"):
            return self.generate(request, call, model, inputs, parameters, body)
        if task == "text-ranking":
            inputs = need(inputs, "inputs", dict)
            return self.tell(request, call, model, [{"index": n, "score": s} for n, s in rerank(inputs["query"], inputs["texts"])])
        if task not in TASKS:
            raise Refusal(400, f"Task {task} is not supported for this model", "plain")
        value = TASKS[task](model, inputs, parameters, body)
        if task == "sentence-similarity" and model.family != "embedding":
            raise Refusal(400, "This model does not support sentence similarity", "plain")
        return self.tell(request, call, model, value)

    def tell(self, request, call, model, value):
        return say(value, self.headers_of(request, call, model))

    def generate(self, request, call, model, inputs, parameters, body):
        if model.is_pipeline:
            self.refuse_unused(parameters)
        else:
            shapes.check_tgi(parameters)
        text, details = shapes.tgi_text(need(inputs, "inputs", str), parameters, request.actions, self.default_new_tokens)
        if body.get("stream"):
            headers = self.stream_headers + self.headers_of(request, call, model, is_stream=True)
            return event_reply(shapes.events_tgi(inputs, parameters, text, details), headers, request, call)
        request.counts = shapes.usage([text])
        return self.tell(request, call, model, [shapes.whole_tgi(inputs, parameters, text, details)])

    @staticmethod
    def refuse_unused(parameters):
        strange = [name for name in ("watermark", "details", "decoder_input_details", "stop", "best_of") if name in parameters]
        if strange:
            raise Refusal(400, f"The following `model_kwargs` are not used by the model: {strange} (note: typos in the generate "
                          "arguments will also show up in this list)", "plain", extra={"warnings": ["There was an inference error"]})

    def make(self, request, call, model, task):
        inputs, parameters, _ = call_of(request, task)
        key = models.json.dumps([need(inputs, "inputs", str), parameters, None if parameters.get("seed") is not None
                                 else next(models._calls)], sort_keys=True)
        if task == "text-to-image":
            size = parameters.get("width") or 32, parameters.get("height") or 32
            made, kind = (png(key, *size), "image/png") if request.actions.get("answer") == "png" else (jpeg(key, *size), "image/jpeg")
        else:
            made, kind = wav(key), "audio/wav"
        return Reply(200, [("Content-Type", kind), *self.headers_of(request, call, model)], made)
