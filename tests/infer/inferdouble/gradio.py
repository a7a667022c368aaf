# SPDX-License-Identifier: Apache-2.0
"""A small Gradio app (version 5): config, info, queue, server-sent events, uploads, files, heartbeat, the plain call API, a cookie,
and a WebSocket that echoes.

Functions: /greet (text -> text), /sentiment (text -> label, VADER), /shout (a file -> a file), /count (number -> numbers, one
after the other), /fail (raises). Options: space_id, beat (seconds between heartbeats), pause (between events), root (what /config
says; None: as Gradio builds it, from X-Forwarded-Host and -Proto or Host), prefix ("/gradio_api").
"""
import base64
import hashlib
import itertools
import json
import queue
import struct
import threading
from urllib.parse import quote, unquote

from . import models
from .app import App, Refusal, multipart_of, new_id, route, say, say_text
from .shapes import data
from .wire import conduct
from hubdouble.message import Reply

API = r"(?:/gradio_api)?"
FUNCTIONS = ["greet", "sentiment", "shout", "count", "fail"]
FOLDER = "/srv/app/gradio"    # no folder of a client
WEBSOCKET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT = {"type": "string"}
FILE = {"type": "object", "title": "FileData", "properties": {"path": {"type": "string"}}}
PARAMETERS = {"greet": ("Textbox", TEXT), "sentiment": ("Textbox", TEXT), "shout": ("File", FILE), "count": ("Number", {"type": "number"}),
              "fail": ("Textbox", TEXT)}
RETURNS = {"greet": ("Textbox", TEXT), "sentiment": ("Label", {"type": "object"}), "shout": ("File", FILE),
           "count": ("Number", {"type": "number"}), "fail": ("Textbox", TEXT)}


class Gradio(App):
    kind = "gradio"

    def __init__(self, **options):
        super().__init__(**options)
        self.files = {}       # path -> bytes
        self.sessions = {}    # session hash -> queue of messages
        self.events = {}      # event id -> queue of messages, of the call API
        self.lock = threading.Lock()

    def defaults(self):
        return super().defaults() | {"space_id": None, "beat": 15, "pause": 0.02, "root": None, "page": "<title>Double</title>"}

    def style(self, request):
        return "task"

    def root_of(self, request):
        if self.options.root is not None:
            return self.options.root
        host = request.get("X-Forwarded-Host") or request.get("Host")
        return f"{request.get('X-Forwarded-Proto') or 'http'}://{host}".rstrip("/")

    def config(self, request):
        components, dependencies = [], []
        for n, name in enumerate(FUNCTIONS):
            for offset, (kind, _) in enumerate((PARAMETERS[name], RETURNS[name])):
                components.append({"id": 2 * n + offset, "type": kind.lower(), "props": {"label": kind, "name": kind.lower(), "value": None},
                                   "skip_api": False, "component_class_id": kind, "key": None})
            dependencies.append({
                "id": n, "targets": [[2 * n, "submit"]], "inputs": [2 * n], "outputs": [2 * n + 1], "backend_fn": True, "js": None,
                "queue": True, "api_name": name, "scroll_to_output": False, "show_progress": "full", "batch": False, "max_batch_size": 4,
                "cancels": [], "types": {"generator": name == "count", "cancel": False}, "collects_event_data": False,
                "trigger_after": None, "trigger_only_on_success": False, "trigger_mode": "once", "show_api": True,
                "api_visibility": "public", "zerogpu": False, "rendered_in": None, "connection": "sse", "time_limit": None,
                "stream_every": 0.5, "api_description": None})
        return {"version": "5.49.1", "api_prefix": "/gradio_api", "mode": "interface", "app_id": 7, "dev_mode": False,
                "analytics_enabled": False, "components": components, "dependencies": dependencies, "css": None, "js": None, "head": None,
                "title": "Double", "space_id": self.options.space_id, "enable_queue": True, "show_error": True, "show_api": True,
                "is_colab": False, "max_file_size": None, "stylesheets": [], "theme": "default", "protocol": "sse_v3",
                "root": self.root_of(request), "username": None, "is_space": self.options.space_id is not None,
                "layout": {"id": 99, "children": [{"id": c["id"]} for c in components]}, "body_css": {}, "theme_hash": "0", "connect_heartbeat": True,
                "pages": [["", "Home"]], "page": {"": {"layout": {"id": 99, "children": []}, "components": [c["id"] for c in components],
                                                       "dependencies": list(range(len(FUNCTIONS)))}}, "current_page": ""}

    # what opens the app

    @route("GET", "/")
    def page(self, request, call):
        config = json.dumps(self.config(request)).replace("<", "\\u003c")
        page = f"<!doctype html>{self.options.page}<script>window.gradio_config = {config};</script><script src=\"./assets/app.js\"></script>"
        return say_text(page, kind="text/html; charset=utf-8", headers=[("Set-Cookie", f"session={new_id()}; Domain=.hf.space; Path=/; Secure; HttpOnly")])

    @route("GET", "/config")
    def get_config(self, request, call):
        return say(self.config(request), [("Set-Cookie", f"spaces-jwt={new_id()}; Path=/; Secure; HttpOnly; SameSite=None")])

    @route("GET", API + "/info")
    def info(self, request, call):
        named = {}
        for name in FUNCTIONS:
            (kind, schema), (out, out_schema) = PARAMETERS[name], RETURNS[name]
            named[f"/{name}"] = {
                "parameters": [{"label": kind, "parameter_name": "value", "parameter_has_default": False, "parameter_default": None,
                                "type": schema, "python_type": {"type": "filepath" if kind == "File" else "str", "description": ""},
                                "component": kind, "example_input": None}],
                "returns": [{"label": out, "type": out_schema, "python_type": {"type": "filepath" if out == "File" else "str",
                                                                               "description": ""}, "component": out}],
                "api_visibility": "public", "show_api": True}
        return say({"named_endpoints": named, "unnamed_endpoints": {}})

    @route("GET", "/(?:theme.css|assets/[^/]+|static/.+)")
    def asset(self, request, call):
        kind = "text/css" if request.path.endswith(".css") else "text/javascript"
        return say_text(f"/* {request.path} */\n", kind=kind, headers=[("Cache-Control", "max-age=604800, immutable"), ("ETag", '"1"')])

    @route("GET", "/redirect")
    def redirect(self, request, call):
        return Reply(307, [("Location", self.root_of(request) + "/config")])

    # files

    @route("POST", API + "/upload")
    def upload(self, request, call):
        paths = []
        for name, _, content in multipart_of(request).get("files", []):
            path = f"{FOLDER}/{hashlib.sha256(content).hexdigest()}/{name}"
            self.files[path] = content
            paths.append(path)
        return say(paths)

    @route("GET", API + "/file=(.+)")
    def file(self, request, call, path):
        content = self.files.get(unquote(path))
        if content is None:
            raise Refusal(404, "File not found", "plain")
        return Reply(200, [("Content-Type", "text/plain; charset=utf-8"), ("Accept-Ranges", "bytes"),
                           ("Content-Disposition", f"attachment; filename*=UTF-8''{quote(path.rsplit('/', 1)[1])}")], content)

    # calls through the queue

    @route("POST", API + "/queue/join")
    def join(self, request, call):
        body = self.json_of(request)
        event = new_id()
        with self.lock:
            messages = self.sessions.setdefault(body["session_hash"], queue.Queue())
        name = FUNCTIONS[body["fn_index"]] if body.get("fn_index") is not None else body.get("api_name", "").strip("/")
        call["task"] = name
        for message in self.run(name, body["data"], request):
            messages.put(message | {"event_id": event})
        return say({"event_id": event})

    def run(self, name, values, request):
        """The messages of one call, in order."""
        yield {"msg": "estimation", "rank": 0, "queue_size": 1, "rank_eta": 0.1}
        yield {"msg": "process_starts", "eta": 0.1}
        done = {"is_generating": False, "duration": 0.1, "average_duration": 0.1, "render_config": None, "changed_state_ids": []}
        if name == "fail":
            yield {"msg": "process_completed", "output": {"error": "the function failed"}, "success": False, "title": "Error"}
            return
        if name == "count":
            for n in range(int(values[0]) - 1):
                kind = [n] if n == 0 else [[["replace", [], n]]]
                yield {"msg": "process_generating", "success": True, "output": {"data": kind} | done | {"is_generating": True}}
            yield {"msg": "process_generating", "success": True, "output": {"data": [[["replace", [], int(values[0]) - 1]]]} | done
                   | {"is_generating": True}}
        yield {"msg": "process_completed", "success": True, "title": None, "output": {"data": [self.compute(name, values, request)]} | done}

    def compute(self, name, values, request):
        value = values[0]
        if name == "greet":
            return f"Hello {value}!"
        if name == "sentiment":
            found = models.sentiment(value)
            return {"label": found[0]["label"], "confidences": [{"label": f["label"], "confidence": f["score"]} for f in found]}
        if name == "count":
            return int(value) - 1
        content = self.files[value["path"]].upper()
        path = f"{FOLDER}/{hashlib.sha256(content).hexdigest()}/shout.txt"
        self.files[path] = content
        return {"path": path, "url": f"{self.root_of(request)}/gradio_api/file={path}", "size": len(content), "orig_name": "shout.txt",
                "mime_type": "text/plain", "is_stream": False, "meta": {"_type": "gradio.FileData"}}

    @route("GET", API + "/queue/data")
    def queue_data(self, request, call):
        with self.lock:
            messages = self.sessions.setdefault(request.param("session_hash"), queue.Queue())
        return self.events_reply(self.follow(messages), request, call)

    def follow(self, messages):
        """Messages as they come; closes when a call has ended and nothing waits."""
        for waited in itertools.count():
            try:
                message = messages.get_nowait()
            except queue.Empty:
                if waited and waited * 0.02 % self.options.beat < 0.02:
                    yield data({"msg": "heartbeat"})
                yield 0.02
                continue
            yield self.options.pause
            yield data(message)
            if message["msg"] == "process_completed" and messages.empty():
                yield data({"msg": "close_stream", "event_id": None})
                return

    @staticmethod
    def events_reply(events, request, call):
        reply = Reply(200, [("Content-Type", "text/event-stream; charset=utf-8"), ("Cache-Control", "no-cache")])
        reply.framing, reply.stream = "chunked", conduct(events, request.actions, call)
        return reply

    @route("GET", API + "/heartbeat/([^/]+)")
    def heartbeat(self, request, call, session):
        def beats():
            while True:
                yield b"data: ALIVE\n\n"
                yield self.options.beat
        return self.events_reply(beats(), request, call)

    @route("POST", API + "/(?:cancel|reset)")
    def cancel(self, request, call):
        return say({"success": True})

    # the plain API

    @route("POST", API + "/call/(v2/)?([a-z]+)")
    def call_join(self, request, call, is_named, name):
        body = self.json_of(request)
        event = new_id()
        with self.lock:
            self.events[event] = list(self.run(name, list(body.values()) if is_named else body["data"], request))
        return say({"event_id": event})

    @route("GET", API + "/call/(?:v2/)?([a-z]+)/([^/]+)")
    def call_data(self, request, call, name, event):
        messages = self.events.pop(event, None)
        if messages is None:
            raise Refusal(404, "Event not found", "plain")

        def events():
            for message in messages:
                kind = {"process_generating": "generating", "process_completed": "complete" if message.get("success") else "error"}.get(message["msg"])
                if kind:
                    yield self.options.pause
                    value = message["output"].get("data") if kind != "error" else message["output"].get("error")
                    yield f"event: {kind}\ndata: {json.dumps(value)}\n\n".encode()
        return self.events_reply(events(), request, call)


def echo(conn, request):
    """The server's side of a WebSocket at /ws: text frames come back, a close frame ends it. False if it is none."""
    if request.path != "/ws" or (request.get("Upgrade") or "").lower() != "websocket":
        return False
    accept = base64.b64encode(hashlib.sha1((request.get("Sec-WebSocket-Key") + WEBSOCKET).encode()).digest()).decode()
    conn.sendall(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    stream = conn.makefile("rb")
    while head := stream.read(2):
        size = head[1] & 127
        if size == 126:
            size, = struct.unpack(">H", stream.read(2))
        elif size == 127:
            size, = struct.unpack(">Q", stream.read(8))
        mask = stream.read(4) if head[1] & 128 else b"\0" * 4
        content = bytes(b ^ mask[n % 4] for n, b in enumerate(stream.read(size)))
        length = bytes((size,)) if size < 126 else struct.pack(">BH", 126, size) if size < 65536 else struct.pack(">BQ", 127, size)
        conn.sendall(bytes((head[0],)) + length + content)
        if head[0] & 15 == 8:
            break
    return True
