# SPDX-License-Identifier: Apache-2.0
"""The doubles' controls over HTTP and JSON, for when they run as a program of their own."""
import json

from hubdouble.faults import RuleBook
from hubdouble.ledger import Ledger
from hubdouble.message import Reply
from hubdouble.wire import Origin

from .app import say
from .gates import Gate


def _plain(value):
    return value.decode("utf-8", "replace") if isinstance(value, (bytes, bytearray)) else type(value).__name__


class Control:
    """One more port, whose calls are in no record. `server` is the name that a server was started under ("router", "tei", "tei2")."""

    def __init__(self, servers, port=0):
        self.servers = servers
        self.rules, self.gates = {}, {}
        self.origin = Origin("control", self.handle, Ledger(), RuleBook())
        self.origin.open(port)
        self.url = self.origin.url

    def handle(self, request, call):
        self.origin.ledger.reset()
        action = getattr(self, f"{request.method.lower()}_{request.path.strip('/').replace('-', '_')}", None)
        if action is None:
            known = sorted(n.replace("_", " /", 1).replace("_", "-") for n in dir(self) if n.startswith(("get_", "post_")))
            return say({"error": "unknown", "known": known}, status=404)
        try:
            asked = dict(request.params) | (request.json() if request.body else {})
            server = self.servers[asked.pop("server", "router")]
            value = action(server, **asked) or {"ok": True}
            return Reply(200, [("Content-Type", "application/json")], json.dumps(value, default=_plain).encode())
        except (KeyError, TypeError, ValueError, AttributeError) as trouble:
            return say({"error": f"{type(trouble).__name__}: {trouble}"}, status=400)

    def get_urls(self, server):
        return {name: one.url for name, one in self.servers.items()} | {"control": self.url}

    def post_rule(self, server, gate=None, **what):
        """gate: a name; POST /open with it lets the answers go on."""
        if gate is not None:
            what["gate"] = self.gates.setdefault(gate, Gate())
        rule = server.rule(**what)
        self.rules[rule.id] = rule
        return {"id": rule.id}

    def post_open(self, server, gate):
        self.gates.setdefault(gate, Gate()).open()

    def post_clear(self, server, id=None):
        if id is None:
            server.clear_rules()
        else:
            self.rules[int(id)].remove()

    def get_calls(self, server, path=None, method=None):
        return {"calls": server.calls(path, method)}

    def post_reset(self, server):
        server.reset_counters()

    def post_kill(self, server, reset=False):
        server.kill(reset)

    def post_revive(self, server):
        server.revive()

    def post_option(self, server, **options):
        for name, value in options.items():
            if not hasattr(server.options, name):
                raise ValueError(f"unknown option {name}")
            setattr(server.options, name, value)

    def post_add_model(self, server, **what):
        server.add_model(**what)
