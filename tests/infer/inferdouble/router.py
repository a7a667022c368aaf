# SPDX-License-Identifier: Apache-2.0
"""The router: hf-inference in all its spellings, the four dialects under /v1, and a few other providers.

Options: require_token; tokens (if given, only these are known); set_cookie (answers carry a load balancer's cookie).
"""
import base64
import time

from . import models
from .app import App, Refusal, multipart_of, new_id, route, say, say_text
from .generating import Generating
from .models import Model, standard_models
from .tasks import Pipelines

PREFIX = r"(?:/hf-inference|/api/inference-proxy/hf-inference|)"
ID = r"([^/]+(?:/[^/]+)?)"
PROVIDERS = {"groq": "/openai/v1", "fireworks-ai": "/inference/v1", "cohere": "/compatibility/v1", "novita": "/v3/openai",
             "deepinfra": "/v1/openai", "zai-org": "/api/paas/v4", "together": "/v1", "cerebras": "/v1", "nebius": "/v1",
             "sambanova": "/v1", "hyperbolic": "/v1", "scaleway": "/v1", "nscale": "/v1"}
POLICIES = {"fastest", "cheapest", "preferred", *PROVIDERS, "hf-inference", "fal-ai", "replicate"}
VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"


class Router(Generating, Pipelines, App):
    kind = "router"

    def __init__(self, **options):
        super().__init__(**options)
        self.models = standard_models()

    def defaults(self):
        return super().defaults() | {"require_token": False, "tokens": None, "set_cookie": True, "gated": {}}

    # what tests change

    def add_model(self, id, task="text-classification", family="sentiment", **more):
        self.models[id] = Model(id, task, family, **more)
        return self.models[id]

    def move_model(self, id, sha):
        """The model's answers come from another commit from now on."""
        self.models[id].sha = sha

    def gate_model(self, id, tokens):
        """Only these tokens may ask it."""
        self.options.gated[id] = set(tokens)

    # who may ask, and what all answers carry

    def admit(self, request, call):
        given = (request.get("Authorization") or "").removeprefix("Bearer ")
        request.token = given or None
        known = self.options.tokens
        if (given and known is not None and given not in known) or (self.options.require_token and not given):
            raise Refusal(401, "Invalid username or password.", "plain")

    def find(self, id, request):
        model = self.models.get(id)
        if model is None:
            raise Refusal(404, f"Model {id} does not exist", "plain")
        if id in self.options.gated and request.token not in self.options.gated[id]:
            raise Refusal(403, f"Access to model {id} is restricted and you are not in the authorized list.", "plain")
        return model

    def resolve(self, name, request, task):
        """(model, the name in answers): a policy or a provider behind a colon is the router's own."""
        if getattr(request, "path_model", None):
            return request.path_model, request.path_model.id
        if not name:
            raise Refusal(400, "Missing `model`", "invalid_request_error")
        id, colon, policy = name.rpartition(":")
        model = self.find(id if colon and policy in POLICIES else name, request)
        if task == "conversational" and model.family != "text":
            raise Refusal(400, f"The requested model '{name}' is not a chat model", "invalid_request_error")
        return model, model.id

    def headers_of(self, request, call, model, is_stream=False):
        out = [("X-Request-Id", f"Root=1-{new_id()}"), ("x-compute-type", model.compute), ("x-sha", model.sha), ("vary", VARY),
               ("Inference-Id", new_id()), ("x-ratelimit-limit-requests", "1000"), ("x-ratelimit-remaining-requests", "999"),
               ("access-control-allow-credentials", "true")]
        if request.get("Origin"):
            out.append(("access-control-allow-origin", request.get("Origin")))
        if self.options.set_cookie:
            out.append(("set-cookie", f"AWSALB={new_id()}; Expires=Wed, 01 Jan 2031 00:00:00 GMT; Path=/"))
        if not is_stream:
            seconds = time.monotonic() - request.started
            out += [("x-compute-time", f"{seconds:.3f}"), ("x-compute-characters", str(request.content.size))]
        counts = getattr(request, "counts", None)
        if counts and model.compute != "cpu":
            out += [("x-prompt-tokens", str(counts["prompt_tokens"])), ("x-generated-tokens", str(counts["completion_tokens"])),
                    ("x-total-time", "12"), ("x-validation-time", "0"), ("x-queue-time", "0"), ("x-inference-time", "12"),
                    ("x-time-per-token", "1")]
        if "/v1/" in request.path:
            out.append(("openai-processing-ms", "12"))
        return out

    # hf-inference

    @route("POST", PREFIX + rf"/models/{ID}/v1/chat/completions")
    def model_chat(self, request, call, id):
        return self.for_model(request, id, call, self.chat)

    @route("POST", PREFIX + rf"/models/{ID}/v1/completions")
    def model_completions(self, request, call, id):
        return self.for_model(request, id, call, self.completions)

    @route("POST", PREFIX + rf"/models/{ID}/v1/embeddings")
    def model_embeddings(self, request, call, id):
        return self.for_model(request, id, call, self.embeddings)

    def for_model(self, request, id, call, function):
        """The model of the path answers, whatever the body names."""
        request.path_model = self.find(id, request)
        return function(request, call)

    @route("POST", PREFIX + rf"/models/{ID}/pipeline/([a-z0-9-]+)")
    def model_task(self, request, call, id, task):
        return self.run_task(request, call, self.find(id, request), task)

    @route("POST", PREFIX + rf"/pipeline/([a-z0-9-]+)/{ID}")
    def task_model(self, request, call, task, id):
        return self.run_task(request, call, self.find(id, request), task)

    @route("GET", PREFIX + rf"/models/{ID}/(info|health)")
    def model_info(self, request, call, id, what):
        model = self.find(id, request)
        if what == "health":
            return say({"status": "ok"})
        return say({"model_id": model.id, "model_sha": model.sha, "model_pipeline_tag": model.task, "max_input_tokens": 4095,
                    "max_total_tokens": 4096, "version": "3.3.6", "router": "text-generation-router"})

    @route("POST", PREFIX + rf"/models/{ID}")
    def model_default(self, request, call, id):
        return self.run_task(request, call, self.find(id, request))

    @route("GET", PREFIX + rf"/status/{ID}")
    def status(self, request, call, id):
        model = self.find(id, request)
        return say({"loaded": self.options.is_ready, "state": "Loaded" if self.options.is_ready else "Loadable", "compute_type": model.compute,
                    "framework": "transformers"})

    # the dialects

    @route("POST", "/v1/chat/completions")
    def v1_chat(self, request, call):
        return self.chat(request, call)

    @route("POST", "/v1/completions")
    def v1_completions(self, request, call):
        return self.completions(request, call)

    @route("POST", "/v1/responses")
    def v1_responses(self, request, call):
        return self.responses(request, call)

    @route("POST", "/v1/messages")
    def v1_messages(self, request, call):
        return self.messages(request, call)

    @route("POST", "/v1/embeddings")
    def v1_embeddings(self, request, call):
        return self.embeddings(request, call)

    @route("POST", "/v1/audio/transcriptions")
    def v1_transcriptions(self, request, call):
        return transcribe(self, request, call)

    @route("GET", "/v1/models")
    def v1_models(self, request, call):
        return say({"object": "list", "data": [self.entry(m) for m in self.models.values() if m.family == "text"]})

    @route("GET", "/v1/models/(.+)")
    def v1_model(self, request, call, id):
        return say(self.entry(self.find(id, request)))

    @staticmethod
    def entry(model):
        return {"id": model.id, "object": "model", "created": 1700000000, "owned_by": model.id.partition("/")[0],
                "providers": [{"provider": "hf-inference", "status": "live", "context_length": 4096}]}

    # other providers

    @route("POST", r"/(?:api/inference-proxy/)?([a-z-]+)/((?:[a-z0-9]+/)*?)(chat/completions|completions|embeddings|images/generations)")
    def provider(self, request, call, provider, middle, what):
        if provider not in PROVIDERS or f"/{middle}".rstrip("/") != PROVIDERS[provider]:
            raise Refusal(404, "Not Found", "plain")
        if what == "images/generations":
            return self.images(request, call)
        return {"chat/completions": self.chat, "completions": self.completions, "embeddings": self.embeddings}[what](request, call)

    def images(self, request, call):
        body = self.json_of(request)
        call["model"] = body.get("model")
        made = models.jpeg(str([body.get("prompt"), body.get("seed", next(models._calls))]))
        return say({"created": int(time.time()), "data": [{"b64_json": base64.b64encode(made).decode()}]})

    @route("POST", r"/replicate/v1/(?:models/(.+)/)?predictions")
    def replicate(self, request, call, name):
        url = f"http://{request.get('Host')}/replicate/out/{new_id()}.jpeg"
        return say({"id": new_id(), "model": name, "status": "succeeded", "output": [url]}, status=201)

    @route("POST", r"/fal-ai/(.+)")
    def fal(self, request, call, name):
        id = new_id()
        base = f"https://queue.fal.run/{name}/requests/{id}"
        return say({"request_id": id, "status": "IN_QUEUE", "response_url": base, "status_url": base + "/status"})

    @route("GET", r"/fal-ai/(.+)/requests/([0-9a-f]+)(/status)?")
    def fal_poll(self, request, call, name, id, is_status):
        return say({"status": "COMPLETED"} if is_status else {"images": [{"url": f"http://{request.get('Host')}/out/{id}.jpeg"}]})


def transcribe(app, request, call):
    """POST /v1/audio/transcriptions of any server."""
    form = multipart_of(request)
    if "file" not in form:
        raise Refusal(400, "Missing field: file", "invalid_request_error")
    name = form["model"][0][2].decode() if "model" in form else None
    model, name = app.resolve(name, request, "automatic-speech-recognition")
    call["model"], call["task"] = name, "automatic-speech-recognition"
    text = models.transcript(form["file"][0][2])
    kind = form["response_format"][0][2] if "response_format" in form else b"json"
    if kind == b"text":
        return say_text(text)
    return say({"text": text, "usage": {"type": "duration", "seconds": 1}}, app.headers_of(request, call, model))
