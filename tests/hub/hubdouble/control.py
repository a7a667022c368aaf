# SPDX-License-Identifier: Apache-2.0
"""The double's controls over HTTP and JSON, for tests that run it as a program of its own."""
import base64

from .ledger import Ledger
from .faults import RuleBook
from .message import Reply
from .wire import Origin
import json


def _plain(value):
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    raise TypeError(type(value).__name__)


class Control:
    """One more origin, whose calls are in no record and subject to no rule."""

    def __init__(self, hub, port=0):
        self.hub = hub
        self.rules = {}
        self.origin = Origin("control", self.handle, Ledger(), RuleBook())
        self.origin.open(port)
        self.url = self.origin.url

    def handle(self, request, call):
        self.origin.ledger.reset()
        action = getattr(self, f"{request.method.lower()}_{request.path.strip('/').replace('-', '_')}", None)
        if action is None:
            known = sorted(n.replace("_", " /", 1).replace("_", "-") for n in dir(self) if n.startswith(("get_", "post_")))
            return self.say({"error": "unknown", "known": known}, 404)
        try:
            asked = dict(request.params) | (request.json() if request.body else {})
            return self.say(action(**asked) or {"ok": True})
        except (KeyError, TypeError, ValueError) as error:
            return self.say({"error": f"{type(error).__name__}: {error}"}, 400)

    @staticmethod
    def say(value, status=200):
        body = json.dumps(value, default=_plain).encode()
        return Reply(status, [("Content-Type", "application/json")], body)

    def get_urls(self):
        return {"url": self.hub.url, "cdn_url": self.hub.cdn_url, "cas_url": self.hub.cas_url,
                "viewer_url": self.hub.viewer_url, "control_url": self.url}

    def post_rule(self, **what):
        rule = self.hub.rule(**what)
        self.rules[rule.id] = rule
        return {"id": rule.id}

    def get_rules(self):
        return {"rules": [{"id": r.id, "origin": r.origin, "path": r.path and r.path.pattern, "seen": r.seen, "hits": r.hits,
                           "actions": sorted(r.actions)} for r in self.hub.rules.rules]}

    def post_clear(self, id=None):
        if id is None:
            self.hub.clear_rules()
        else:
            self.rules[int(id)].remove()

    def get_calls(self, origin=None, path=None, method=None):
        calls = self.hub.calls(origin, path, method)
        return {"calls": calls, "body_bytes": sum(c["sent"] for c in calls), "leaks": len(self.hub.leaks())}

    def get_commit(self, repo, kind="model", rev="main"):
        """What a revision is now: commit id and the identity of every file."""
        commit = self.hub.content.repo(repo, kind).find(rev)
        return {"commit": commit.id, "files": {p: {"size": f.size, "etag": f.etag, "lfs": f.is_lfs} for p, f in commit.files.items()}}

    def post_reset(self):
        self.hub.reset_counters()

    def post_kill(self, origin=None, reset=False):
        self.hub.kill(origin, reset)

    def post_revive(self, origin=None):
        self.hub.revive(origin)

    def post_blackhole(self, origin=None, mode="silent"):
        self.hub.blackhole(origin, mode)

    def post_move_branch(self, repo, to, branch="main", kind="model"):
        return {"commit": self.hub.move_branch(repo, branch, to, kind)}

    def post_commit(self, repo, files, kind="model", branch="main", message="Update files"):
        """files: path -> text, {"b64": ..., "lfs": true} or null (deletes)."""
        from .blobs import LFS
        values = {}
        for path, value in files.items():
            if isinstance(value, dict):
                data = base64.b64decode(value["b64"])
                value = LFS(data) if value.get("lfs") else data
            values[path] = value
        return {"commit": self.hub.content.repo(repo, kind).commit(values, branch, message).id}

    def post_set_visibility(self, repo, kind="model", **flags):
        self.hub.set_visibility(repo, kind, **flags)

    def post_rename(self, repo, to, kind="model"):
        self.hub.content.rename(kind, repo, to)

    def post_delete_repo(self, repo, kind="model"):
        self.hub.content.delete_repo(kind, repo)

    def post_token(self, token, user="alice", grants=(), role="read", revoke=False):
        if revoke:
            self.hub.content.revoke_token(token)
        else:
            self.hub.content.add_token(token, user, grants, role)

    def post_rate(self, origin, bytes_per_second=None, per="origin"):
        self.hub.rate(origin, bytes_per_second, per)

    def post_ratelimit(self, bucket, quota=None, left=None, enforce=None, reset=None, retry_after=None):
        self.hub.set_ratelimit(bucket, quota, left, enforce, reset, retry_after)

    def get_pushes(self):
        return {"pushes": [{"kind": kind, "repo": repo, "refs": refs} for kind, repo, refs in self.hub.content.pushes]}

    def post_gone(self, sha256):
        """Batches answer 410 for this large file from now on."""
        self.hub.content.gone.add(sha256)

    def post_viewer_error(self, dataset, status=501, code="DatasetWithScriptNotSupportedError", message="Not supported"):
        self.hub.content.viewer_errors[dataset] = (status, code, message)

    def post_option(self, **options):
        for name, value in options.items():
            if not hasattr(self.hub.options, name):
                raise ValueError(f"unknown option {name}")
            setattr(self.hub.options, name, value)
