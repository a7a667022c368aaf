# SPDX-License-Identifier: Apache-2.0
"""The OpenAI, Responses and Messages routes, as the router and all local servers of text have them; a server mixes Generating in."""
import base64
import struct

from . import models, shapes
from .app import Refusal, say
from .wire import event_reply

STREAM_HEADERS = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache"), ("X-Accel-Buffering", "no")]


class Generating:
    """Needs of its class: resolve(name, request, task) -> (model or None, the name in answers), headers_of(request, call, model)."""

    stream_headers = STREAM_HEADERS

    def ask(self, request, call, task, needs):
        body = self.json_of(request)
        if needs not in body:
            raise Refusal(422, f"Failed to deserialize the JSON body into the target type: missing field `{needs}`", is_text=True)
        model, name = self.resolve(body.get("model"), request, task)
        call["model"], call["task"] = name, task
        return body, model, name

    def answer(self, request, call, body, model, name, whole, events):
        count = body.get("n") or 1
        texts = [shapes.generate(body, request.actions, index) for index in range(count)]
        if body.get("stream"):
            headers = self.stream_headers + self.headers_of(request, call, model, is_stream=True)
            return event_reply(events(name, body, texts), headers, request, call)
        request.counts = shapes.usage(texts)
        return say(whole(name, body, texts), self.headers_of(request, call, model))

    def chat(self, request, call):
        body, model, name = self.ask(request, call, "conversational", "messages")
        if not isinstance(body["messages"], list):
            raise Refusal(422, "Failed to deserialize the JSON body into the target type: messages: invalid type", is_text=True)
        return self.answer(request, call, body, model, name, shapes.whole_chat, shapes.events_chat)

    def completions(self, request, call):
        body, model, name = self.ask(request, call, "text-generation", "prompt")
        return self.answer(request, call, body, model, name, shapes.whole_completion, shapes.events_completion)

    def responses(self, request, call):
        body, model, name = self.ask(request, call, "responses", "input")
        return self.answer(request, call, body, model, name, shapes.whole_response, shapes.events_response)

    def messages(self, request, call):
        body, model, name = self.ask(request, call, "messages", "messages")
        return self.answer(request, call, body, model, name, shapes.whole_message, shapes.events_message)

    def embeddings(self, request, call):
        body, model, name = self.ask(request, call, "feature-extraction", "input")
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if not texts or not all(isinstance(t, str) for t in texts):
            raise Refusal(400, "`input` must be a string or a list of strings", "invalid_request_error")
        rows = []
        for index, text in enumerate(texts):
            vector = models.embed(text)[:body.get("dimensions") or None]
            packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            rows.append({"object": "embedding", "index": index,
                         "embedding": packed if body.get("encoding_format") == "base64" else list(vector)})
        count = shapes.words_in(texts)
        return say({"object": "list", "data": rows, "model": name, "usage": {"prompt_tokens": count, "total_tokens": count}},
                   self.headers_of(request, call, model))
