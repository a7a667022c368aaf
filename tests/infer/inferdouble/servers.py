# SPDX-License-Identifier: Apache-2.0
"""Local servers: TGI, TEI, vLLM, llama.cpp, Ollama, and any server that speaks the pipeline contract.

Each takes `model` (the id it serves, as its own inventory names it), `key` (what it wants as a bearer token), `is_ready` (False:
it is loading), and what its class says besides. Tokens of the Hub that reach one are in the record: `call.authorization`.
"""
import time

from . import models, shapes
from .app import App, Refusal, new_id, route, say, say_text
from .generating import Generating
from .models import Model
from .router import transcribe
from .tasks import Pipelines, rerank
from .wire import event_reply
from hubdouble.message import Reply


class Local(App):
    kind = "local"
    family, task = "text", "text-generation"

    def __init__(self, **options):
        super().__init__(**options)
        self.model = Model(self.options.model, self.task, self.family, sha=self.options.sha)

    def defaults(self):
        return super().defaults() | {"model": "acme/local", "sha": None}

    def headers_of(self, request, call, model, is_stream=False):
        return []

    def resolve(self, name, request, task):
        """One model, whatever name is given."""
        return self.model, self.model.id

    def health(self, request, call):
        return Reply(200 if self.options.is_ready else 503, [], b"")


class Tgi(Generating, Pipelines, Local):
    kind = "tgi"
    default_new_tokens = 100
    stream_headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no"),
                      ("x-compute-type", "gpu+optimized")]

    def headers_of(self, request, call, model, is_stream=False):
        counts = getattr(request, "counts", None)
        out = [("x-compute-type", "gpu+optimized"), ("vary", "origin, access-control-request-method, access-control-request-headers")]
        if is_stream or not counts:
            return out[1:] if is_stream else out
        return out + [("x-compute-time", "0.012"), ("x-compute-characters", str(request.content.size)),
                      ("x-prompt-tokens", str(counts["prompt_tokens"])), ("x-generated-tokens", str(counts["completion_tokens"])),
                      ("x-total-time", "12"), ("x-validation-time", "0"), ("x-queue-time", "0"), ("x-inference-time", "12"),
                      ("x-time-per-token", "1")]

    def style(self, request):
        return "task"

    def resolve(self, name, request, task):
        return self.model, "tgi" if name == "tgi" else self.model.id

    def loading(self, request, message, after):
        return Refusal(429, message or "Model is overloaded", "overloaded", after)

    @route("GET", "/(?:health|ping|)")
    def get_health(self, request, call):
        return self.health(request, call)

    @route("GET", "/info")
    def info(self, request, call):
        return say({"model_id": self.model.id, "model_sha": self.model.sha, "model_pipeline_tag": "text-generation",
                    "max_concurrent_requests": 128, "max_best_of": 2, "max_stop_sequences": 4, "max_input_tokens": 4095,
                    "max_total_tokens": 4096, "validation_workers": 2, "max_client_batch_size": 4,
                    "router": "text-generation-router", "version": "3.3.6-dev0", "sha": None, "docker_label": None})

    @route("GET", "/v1/models")
    def list(self, request, call):
        return say({"object": "list", "data": [{"id": self.model.id, "object": "model", "created": 0, "owned_by": self.model.id}]})

    @route("POST", "/")
    def root(self, request, call):
        body = self.checked(request)
        return self.generate(request, call, self.model, body["inputs"], body.get("parameters") or {}, body)

    @route("POST", "/(generate|invocations)")
    def post_generate(self, request, call, _):
        body = self.checked(request)
        reply = self.generate(request, call, self.model, body["inputs"], body.get("parameters") or {}, body | {"stream": False})
        reply.body = reply.body[1:-1]     # the object alone
        reply.length = len(reply.body)
        return reply

    @route("POST", "/generate_stream")
    def generate_stream(self, request, call):
        body = self.checked(request)
        return self.generate(request, call, self.model, body["inputs"], body.get("parameters") or {}, body | {"stream": True})

    def checked(self, request):
        body = self.json_of(request)
        if not isinstance(body.get("inputs"), str):
            raise Refusal(422, "Failed to deserialize the JSON body into the target type: missing field `inputs`", is_text=True)
        return body

    @route("POST", "/tokenize")
    def tokenize(self, request, call):
        return say([{"id": n, "text": w, "start": 0, "stop": len(w)} for n, w in enumerate(self.checked(request)["inputs"].split())])

    @route("POST", "/v1/chat/completions")
    def v1_chat(self, request, call):
        return self.chat(request, call)

    @route("POST", "/v1/completions")
    def v1_completions(self, request, call):
        return self.completions(request, call)


class Tei(Generating, Local):
    """`type`: classifier, embedding or reranker; `max_batch`: rows of one call."""
    kind = "tei"
    task = "text-classification"

    def defaults(self):
        return super().defaults() | {"type": "classifier", "max_batch": 32}

    def headers_of(self, request, call, model, is_stream=False):
        return [("x-compute-type", "cpu"), ("x-compute-time", "3"), ("x-compute-characters", str(request.content.size)),
                ("x-compute-tokens", "5"), ("x-total-time", "4"), ("x-tokenization-time", "0"), ("x-queue-time", "0"),
                ("x-inference-time", "3")]

    def style(self, request):
        return "openai" if request.path.startswith("/v1") else "task"

    @staticmethod
    def say_openai(refusal):
        return say({"error": {"message": refusal.message, "code": refusal.status, "type": refusal.kind}}, refusal.headers, refusal.status)

    def is_a(self, type):
        if self.options.type != type:
            raise Refusal(424, f"model is not a {type} model", "backend")

    @route("GET", "/(?:health|ping|)")
    def get_health(self, request, call):
        return self.health(request, call)

    @route("GET", "/info")
    def info(self, request, call):
        type_ = self.options.type
        what = {"classifier": {"id2label": {"0": "NEGATIVE", "1": "POSITIVE"}, "label2id": {"NEGATIVE": 0, "POSITIVE": 1}},
                "reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}, "embedding": {"pooling": "mean"}}[type_]
        return say({"model_id": self.model.id, "model_sha": self.model.sha, "model_dtype": "float32", "model_type": {type_: what},
                    "max_concurrent_requests": 512, "max_input_length": 512, "max_batch_tokens": 16384,
                    "max_client_batch_size": self.options.max_batch, "auto_truncate": True, "tokenization_workers": 2,
                    "version": "1.8.2", "sha": None, "docker_label": None})

    @route("POST", "/")
    def root(self, request, call):
        return {"classifier": self.predict, "embedding": self.embed, "reranker": self.rerank}[self.options.type](request, call)

    def rows(self, rows):
        if not rows:
            raise Refusal(400, "`inputs` cannot be empty", "empty")
        if len(rows) > self.options.max_batch:
            raise Refusal(413, f"batch size {len(rows)} > maximum allowed batch size {self.options.max_batch}", "validation")
        return rows

    def body_of(self, request, name="inputs"):
        body = self.json_of(request)
        if name not in body:
            raise Refusal(422, f"Failed to deserialize the JSON body into the target type: missing field `{name}`", is_text=True)
        return body

    @route("POST", "/predict")
    def predict(self, request, call):
        """A string is one text, a list of two strings is one pair, a list of lists is a batch."""
        self.is_a("classifier")
        body = self.body_of(request)
        call["task"] = "text-classification"
        inputs = body["inputs"]
        is_batch = isinstance(inputs, list) and (not inputs or isinstance(inputs[0], list))
        if isinstance(inputs, list) and not is_batch and len(inputs) != 2:
            raise Refusal(422, "Failed to deserialize the JSON body into the target type: inputs: data did not match any variant of "
                          "untagged enum PredictInput", is_text=True)
        rows = self.rows(inputs) if is_batch else [inputs]
        if any(isinstance(row, list) and len(row) not in (1, 2) for row in rows):
            raise Refusal(422, "Failed to deserialize the JSON body into the target type: inputs: data did not match any variant of "
                          "untagged enum PredictInput", is_text=True)
        out = []
        for row in rows:
            text = row if isinstance(row, str) else " ".join(row)
            both = models.sentiment(text)
            if body.get("raw_scores"):
                both = sorted(({"label": k, "score": v} for k, v in models.logits(text).items()), key=lambda one: -one["score"])
            out.append([{"score": one["score"], "label": one["label"]} for one in both])
        return say(out if is_batch else out[0], self.headers_of(request, call, None))

    @route("POST", "/embed")
    def embed(self, request, call):
        self.is_a("embedding")
        body = self.body_of(request)
        call["task"] = "feature-extraction"
        texts = [body["inputs"]] if isinstance(body["inputs"], str) else self.rows(body["inputs"])
        return say([list(models.embed(t)[:body.get("dimensions") or None]) for t in texts], self.headers_of(request, call, None))

    @route("POST", "/similarity")
    def similarity(self, request, call):
        self.is_a("embedding")
        inputs = self.body_of(request)["inputs"]
        call["task"] = "sentence-similarity"
        one = models.embed(inputs["source_sentence"])
        return say([models.cosine(one, models.embed(t)) for t in self.rows(inputs["sentences"])], self.headers_of(request, call, None))

    @route("POST", "/rerank")
    def rerank(self, request, call):
        self.is_a("reranker")
        body = self.body_of(request, "texts")
        call["task"] = "text-ranking"
        out = [{"index": n, "score": score} | ({"text": body["texts"][n]} if body.get("return_text") else {})
               for n, score in rerank(body["query"], self.rows(body["texts"]), body.get("raw_scores"))]
        return say(out, self.headers_of(request, call, None))

    @route("POST", "/v1/embeddings")
    def v1_embeddings(self, request, call):
        self.is_a("embedding")
        return self.embeddings(request, call)

    @route("POST", "/tokenize")
    def tokenize(self, request, call):
        texts = self.body_of(request)["inputs"]
        return say([[{"id": n, "text": w, "special": False} for n, w in enumerate(t.split())]
                    for t in ([texts] if isinstance(texts, str) else texts)])


class Vllm(Generating, Local):
    """`names`: further served names; `labels`: of a classifier."""
    kind = "vllm"

    def defaults(self):
        return super().defaults() | {"names": (), "labels": ("NEGATIVE", "POSITIVE")}

    stream_headers = [("Content-Type", "text/event-stream; charset=utf-8")]

    def style(self, request):
        return "openai"

    def resolve(self, name, request, task):
        if name is not None and name not in (self.model.id, *self.options.names):
            raise Refusal(404, f"The model `{name}` does not exist.", "NotFoundError")
        return self.model, name or self.model.id

    @route("GET", "/health")
    def get_health(self, request, call):
        return self.health(request, call)

    @route("GET", "/v1/models")
    def list(self, request, call):
        return say({"object": "list", "data": [{"id": name, "object": "model", "created": int(time.time()), "owned_by": "vllm",
                                                "root": self.model.id, "parent": None, "max_model_len": 4096}
                                               for name in (self.model.id, *self.options.names)]})

    @route("GET", "/version")
    def version(self, request, call):
        return say({"version": "0.11.0"})

    @route("POST", "/v1/(chat/completions|completions|responses|messages|embeddings)")
    def v1(self, request, call, what):
        return {"chat/completions": self.chat, "completions": self.completions, "responses": self.responses, "messages": self.messages,
                "embeddings": self.embeddings}[what](request, call)

    @route("POST", "/v1/audio/transcriptions")
    def v1_transcriptions(self, request, call):
        return transcribe(self, request, call)

    @route("POST", "/classify")
    def classify(self, request, call):
        body, _, name = self.ask(request, call, "text-classification", "input")
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        rows = []
        for n, text in enumerate(texts):
            scores = {one["label"]: one["score"] for one in models.sentiment(text)}
            probs = [scores.get(label, 0.0) for label in self.options.labels]
            rows.append({"index": n, "label": self.options.labels[probs.index(max(probs))], "probs": probs, "num_classes": len(probs)})
        count = shapes.words_in(texts)
        return say({"id": new_id("classify-"), "object": "list", "created": int(time.time()), "model": name, "data": rows,
                    "usage": {"prompt_tokens": count, "total_tokens": count, "completion_tokens": 0}})

    @route("POST", "/(?:v1/)?rerank")
    def post_rerank(self, request, call):
        body, _, name = self.ask(request, call, "text-ranking", "documents")
        rows = [{"index": n, "document": {"text": body["documents"][n]}, "relevance_score": score}
                for n, score in rerank(body["query"], body["documents"])]
        return say({"id": new_id("rerank-"), "model": name, "usage": {"total_tokens": 9}, "results": rows[:body.get("top_n") or None]})

    @route("POST", "/tokenize")
    def tokenize(self, request, call):
        words = (self.json_of(request).get("prompt") or "").split()
        return say({"count": len(words), "max_model_len": 4096, "tokens": list(range(len(words)))})


class LlamaCpp(Generating, Local):
    """`router`: names of models that it would load on demand; without it one model, whatever name is asked for."""
    kind = "llamacpp"

    def defaults(self):
        return super().defaults() | {"router": ()}

    stream_headers = [("Content-Type", "text/event-stream")]

    def style(self, request):
        return "openai"

    def headers_of(self, request, call, model, is_stream=False):
        return [("Server", "llama.cpp")]

    @staticmethod
    def say_openai(refusal):
        return say({"error": {"code": refusal.status, "message": refusal.message, "type": refusal.kind}}, refusal.headers, refusal.status)

    def loading(self, request, message, after):
        return Refusal(503, message or "Loading model", "unavailable_error", after)

    def resolve(self, name, request, task):
        names = self.options.router
        if names and name not in (self.model.id, *names):
            raise Refusal(404, f"model '{name}' not found", "not_found_error")
        return self.model, name if names and name else self.model.id

    @route("GET", "/(?:v1/)?health")
    def get_health(self, request, call):
        if not self.options.is_ready:
            raise self.loading(request, None, [])
        return say({"status": "ok"})

    @route("GET", "/v1/models")
    def list(self, request, call):
        meta = {"vocab_type": 2, "n_vocab": 32000, "n_ctx_train": 4096, "n_embd": 64, "n_params": 1000, "size": 4000}
        return say({"object": "list", "data": [{"id": name, "object": "model", "created": int(time.time()), "owned_by": "llamacpp",
                                                "meta": meta} for name in (self.model.id, *self.options.router)]})

    @route("GET", "/models")
    def list_router(self, request, call):
        return say({"data": [{"id": name, "in_cache": True, "status": {"value": "loaded" if name == self.model.id else "unloaded"}}
                             for name in (self.model.id, *self.options.router)]})

    @route("POST", "/(?:v1/)?(chat/completions|completions|responses|messages|embeddings)")
    def v1(self, request, call, what):
        return {"chat/completions": self.chat, "completions": self.completions, "responses": self.responses, "messages": self.messages,
                "embeddings": self.embeddings}[what](request, call)

    @route("POST", "/completion")
    def completion(self, request, call):
        body = self.json_of(request)
        text = shapes.generate({"temperature": 0.8} | body, request.actions, prompt=body.get("prompt", ""), limit=body.get("n_predict"))
        last = {"index": 0, "content": "", "stop": True, "stop_type": "eos", "model": self.model.id, "tokens_predicted": len(text.tokens)}
        if not body.get("stream"):
            return say(last | {"content": text.text})
        events = [*(shapes.data({"index": 0, "content": t, "tokens": [], "stop": False}) for t in text.tokens), shapes.data(last)]
        return event_reply(events, self.stream_headers, request, call)

    @route("POST", "/(?:v1/)?rerank(?:ing)?")
    def post_rerank(self, request, call):
        body = self.json_of(request)
        return say({"model": self.model.id, "object": "list", "usage": {"prompt_tokens": 9, "total_tokens": 9},
                    "results": [{"index": n, "relevance_score": score} for n, score in rerank(body["query"], body["documents"])]})


class Ollama(Generating, Local):
    """`model` is a tag like "smollm:135m"; `names` further ones."""
    kind = "ollama"

    def defaults(self):
        return super().defaults() | {"model": "smollm:135m", "names": ()}

    stream_headers = [("Content-Type", "text/event-stream")]

    def tags(self):
        return (self.model.id, *self.options.names)

    def resolve(self, name, request, task):
        if not name:
            raise Refusal(400, "model is required", "invalid_request_error")
        if name not in self.tags() and f"{name}:latest" not in self.tags():
            raise Refusal(404, f'model "{name}" not found, try pulling it first', "plain" if request.path.startswith("/api") else "api_error")
        return self.model, name

    @route("GET", "/")
    def root(self, request, call):
        return say_text("Ollama is running")

    @route("GET", "/api/version")
    def version(self, request, call):
        return say({"version": "0.12.3"})

    @route("GET", "/api/(?:tags|ps)")
    def list_tags(self, request, call):
        return say({"models": [{"name": tag, "model": tag, "modified_at": "2025-10-01T00:00:00Z", "size": 91, "digest": self.model.sha,
                                "details": {"format": "gguf", "family": "llama"}} for tag in self.tags()]})

    @route("GET", "/v1/models")
    def list(self, request, call):
        return say({"object": "list", "data": [{"id": tag, "object": "model", "created": 1700000000, "owned_by": "library"}
                                               for tag in self.tags()]})

    @route("POST", "/v1/(chat/completions|completions|embeddings|responses)")
    def v1(self, request, call, what):
        return {"chat/completions": self.chat, "completions": self.completions, "embeddings": self.embeddings,
                "responses": self.responses}[what](request, call)

    @route("POST", "/api/(chat|generate)")
    def native(self, request, call, what):
        body = self.json_of(request)
        _, name = self.resolve(body.get("model"), request, what)
        call["model"] = name
        options = body.get("options") or {}
        text = shapes.generate({"model": name, "prompt": body.get("messages") or body.get("prompt"), "temperature": 0.8} | options,
                               request.actions, limit=options.get("num_predict"))

        def line(piece, is_last=False):
            said = {"message": {"role": "assistant", "content": piece}} if what == "chat" else {"response": piece}
            end = {"done_reason": "stop", "total_duration": 12, "eval_count": len(text.tokens)} if is_last else {}
            return {"model": name, "created_at": "2025-10-01T00:00:00Z"} | said | {"done": is_last} | end
        if body.get("stream") is False:
            return say(line(text.text, True))
        lines = [shapes.bytes_of(line(t)) + b"\n" for t in text.tokens] + [shapes.bytes_of(line("", True)) + b"\n"]
        return event_reply(lines, [("Content-Type", "application/x-ndjson")], request, call)

    @route("POST", "/api/embed")
    def native_embed(self, request, call):
        body = self.json_of(request)
        _, name = self.resolve(body.get("model"), request, "embed")
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        return say({"model": name, "embeddings": [list(models.embed(t)) for t in texts], "total_duration": 12})


class Pipeline(Pipelines, Local):
    """Any server with the contract of the task calls, at `path` ("/" unless told); `task`, `family` as in models.py."""
    kind = "pipeline"

    def __init__(self, **options):
        super().__init__(**options)
        self.model = Model(self.options.model, self.options.task, self.options.family, sha=self.options.sha)

    def defaults(self):
        return super().defaults() | {"path": "/", "task": "text-classification", "family": "sentiment"}

    @route("GET", "/health")
    def get_health(self, request, call):
        return self.health(request, call)

    @route("POST", "(/.*)")
    def post(self, request, call, path):
        if path != self.options.path:
            raise Refusal(404, "Not Found", "plain")
        return self.run_task(request, call, self.model)
