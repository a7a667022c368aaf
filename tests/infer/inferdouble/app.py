# SPDX-License-Identifier: Apache-2.0
"""What all servers have in common: routes, answers in JSON, errors in the dress of the server and of the route.

A server is a class with methods marked by @route(METHOD, PATTERN); it is asked for one reply at a time, by many threads.
"""
import json
import re
import time
import uuid
from types import SimpleNamespace

from hubdouble.message import Reply

JSON = "application/json"


def route(method, pattern):
    """Marks a method: called with (request, call, *groups) when method and path match; the first in order of source wins."""
    def mark(function):
        function.routes = [*getattr(function, "routes", []), (method, re.compile(pattern + r"\Z"))]
        return function
    return mark


class Refusal(Exception):
    """An error answer. `kind` is the type or error_type that goes with it."""

    def __init__(self, status, message, kind="validation", headers=(), is_text=False, extra=None):
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind
        self.headers, self.is_text, self.extra = list(headers), is_text, extra or {}


def say(value, headers=(), status=200):
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(status, [("Content-Type", JSON), *headers], body)


def say_text(text, status=200, headers=(), kind="text/plain; charset=utf-8"):
    return Reply(status, [("Content-Type", kind), *headers], text.encode() if isinstance(text, str) else text)


class App:
    kind = "app"
    name_of_loading = "Model {model} is currently loading"

    def __init__(self, **options):
        self.options = SimpleNamespace(**(self.defaults() | options))
        unknown = set(vars(self.options)) - set(self.defaults())
        if unknown:
            raise ValueError(f"{self.kind} knows no option {', '.join(sorted(unknown))}")
        self.table = [(method, pattern, value) for cls in type(self).__mro__ for value in vars(cls).values()
                      for method, pattern in getattr(value, "routes", [])]

    def defaults(self):
        """Names and values of its options."""
        return {"key": None, "is_ready": True}

    def handle(self, request, call):
        request.started = time.monotonic()
        try:
            self.admit(request, call)
            self.obey(request, call)
            for method, pattern, function in self.table:
                found = pattern.match(request.path)
                if found and method in (request.method, "ANY"):
                    return function(self, request, call, *found.groups())
            raise Refusal(404, "Not Found: there is no such route", "not_found")
        except Refusal as refusal:
            return self.refuse(request, refusal)

    def admit(self, request, call):
        """Who may ask at all."""
        key = self.options.key
        given = request.get("Authorization") or ""
        if key is not None and given != f"Bearer {key}" and request.get("x-api-key") != key:
            raise Refusal(401, "Invalid API key", "authentication_error")

    def obey(self, request, call):
        """Errors that a rule asks for, in this server's dress."""
        a = request.actions
        after = [("Retry-After", str(a["retry_after"]))] if a.get("retry_after") is not None else []
        if a.get("loading"):
            raise self.loading(request, a.get("message"), after)
        if a.get("limited") is not None:
            raise Refusal(429, a.get("message", "Rate limit reached. Please log in or use a HF access token"), "overloaded",
                          [("Retry-After", str(a["limited"]))])
        if a.get("fail"):
            raise Refusal(a["fail"], a.get("message", "Scripted failure"), {404: "not_found", 424: "generation", 429: "overloaded",
                                                                            503: "unavailable"}.get(a["fail"], "validation"), after)
        if not self.options.is_ready and request.method == "POST":
            raise self.loading(request, None, after)

    def loading(self, request, message, after):
        model = "/".join(request.segments[-2:])
        return Refusal(503, message or self.name_of_loading.format(model=model), "unavailable_error", after, extra={"estimated_time": 20.0})

    def style(self, request):
        """ "task" or "openai": how errors look on this route."""
        return "openai" if "/v1" in request.path else "task"

    def refuse(self, request, refusal):
        if refusal.is_text:
            return say_text(refusal.message, refusal.status, refusal.headers)
        if self.style(request) == "openai":
            return self.say_openai(refusal)
        value = {"error": refusal.message}
        if refusal.kind != "plain":
            value["error_type"] = refusal.kind
        return say(value | refusal.extra, refusal.headers, refusal.status)

    @staticmethod
    def say_openai(refusal):
        error = {"message": refusal.message, "type": refusal.kind, "param": None, "code": refusal.status}
        return say({"error": error}, refusal.headers, refusal.status)

    # bodies

    @staticmethod
    def json_of(request):
        """The body as a JSON object; refuses others as axum does."""
        try:
            value = json.loads(request.body)
        except ValueError as trouble:
            raise Refusal(422, f"Failed to parse the request body as JSON: {trouble}", is_text=True) from None
        if not isinstance(value, dict):
            raise Refusal(422, "Failed to deserialize the JSON body into the target type: invalid type", is_text=True)
        return value


def new_id(prefix=""):
    return prefix + uuid.uuid4().hex[:24]


def multipart_of(request):
    """{field: (filename or None, type or None, bytes)} of a multipart body, in order; of a field that comes twice a list."""
    kind = request.get("Content-Type") or ""
    found = re.search(r'boundary="?([^";]+)"?', kind)
    if not kind.startswith("multipart/form-data") or not found:
        raise Refusal(400, "Expected a multipart form", "invalid_request_error")
    out = {}
    for part in request.body.split(b"--" + found[1].encode())[1:]:
        if part.startswith(b"--"):
            break
        head, _, data = part.strip(b"\r\n").partition(b"\r\n\r\n") if not part.startswith(b"\r\n") else part[2:].partition(b"\r\n\r\n")
        data = data.removesuffix(b"\r\n")
        text = head.decode("utf-8", "replace")
        name = re.search(r'[; ]name="([^"]*)"', text)
        file = re.search(r'filename="([^"]*)"', text)
        type_ = re.search(r"(?im)^content-type:\s*([^\r\n]+)", text)
        if name:
            out.setdefault(name[1], []).append((file and file[1], type_ and type_[1].strip(), data))
    return out
