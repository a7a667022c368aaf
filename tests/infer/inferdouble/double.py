# SPDX-License-Identifier: Apache-2.0
"""Servers with their port, their rules and their record; and InferDouble, the router with any local servers beside it."""
from .gates import Gate
from .gradio import Gradio, echo
from .router import Router
from .servers import LlamaCpp, Ollama, Pipeline, Tei, Tgi, Vllm
from .wire import Ledger, Origin, RuleBook

KINDS = {app.kind: app for app in (Router, Tgi, Tei, Vllm, LlamaCpp, Ollama, Pipeline, Gradio)}


class _Port(Origin):
    app = None

    def upgrade(self, conn, request, call):
        if self.app.kind != "gradio" or not request.get("Upgrade"):
            return False
        call["status"] = 101
        return echo(conn, request)


class Server:
    """One server of a kind on a port of its own. Use as a context manager, or start() and close()."""

    def __init__(self, kind="router", port=0, tls=None, **options):
        self.kind = kind
        self.app = KINDS[kind](**options)
        self.options = self.app.options
        self.ledger, self.rules, self.wanted_port = Ledger(), RuleBook(), port
        self.origin = _Port(kind, self.app.handle, self.ledger, self.rules, tls)
        self.origin.app = self.app
        self.is_started = False

    def start(self):
        """Opens the port; does nothing the second time."""
        if not self.is_started:
            self.is_started = True
            self.origin.open(self.wanted_port)
            self.url, self.port = self.origin.url, self.origin.port
        return self

    def close(self):
        if self.is_started:
            self.origin.close()

    __enter__ = start

    def __exit__(self, *_):
        self.close()

    # what goes wrong

    def rule(self, **what):
        """Adds a rule (README.md) and returns it: .hits, .seen, .remove()."""
        return self.rules.add(**what)

    def clear_rules(self):
        self.rules.clear()

    def gate(self, event=None, **what):
        """A rule whose answers wait (before their head, or before that event) until the returned Gate is opened."""
        gate = Gate()
        gate.rule = self.rule(gate=gate, **({} if event is None else {"gate_event": event}), **what)
        return gate

    def kill(self, reset=False):
        """Connection refused on the same port until revive(); ends all connections, with RST if reset."""
        self.origin.kill(reset)

    def revive(self):
        """Undoes kill() and blackhole()."""
        self.origin.revive()

    def blackhole(self, mode="silent"):
        self.origin.blackhole(mode)

    # what happened

    def calls(self, path=None, method=None):
        """One dict a request, in order of arrival; those whose target matches."""
        return self.ledger.calls(None, path, method)

    def posts(self, path=None):
        return self.calls(path, "POST")

    def reset_counters(self):
        self.ledger.reset()

    def connections(self):
        return len(self.origin.conns)

    # the router's models

    def __getattr__(self, name):
        if name in ("models", "add_model", "move_model", "gate_model", "files"):
            return getattr(self.app, name)
        raise AttributeError(name)


class InferDouble:
    """The router (its calls are this object's own: url, rule, calls, kill, ...) and servers that add() starts beside it."""

    def __init__(self, port=0, tls=None, **options):
        self.router = Server("router", port, tls, **options)
        self.servers = []

    def add(self, kind, **options):
        """Starts a server of a kind; it is closed with the double."""
        server = Server(kind, **options).start()
        self.servers.append(server)
        return server

    def start(self):
        self.router.start()
        return self

    def close(self):
        for server in [self.router, *self.servers]:
            server.close()

    __enter__ = start

    def __exit__(self, *_):
        self.close()

    def __getattr__(self, name):
        if name in ("router", "servers"):
            raise AttributeError(name)
        return getattr(self.router, name)
