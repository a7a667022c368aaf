# SPDX-License-Identifier: Apache-2.0
"""HubDouble: the whole in one object, for tests that run it in their own process."""
import time
from types import SimpleNamespace

from .access import refuse
from .cdn import handle_cas, handle_cdn
from .content import Content
from .faults import Bucket, RuleBook
from .hub import handle_hub
from .ledger import Ledger
from .viewer import handle_viewer
from .wire import Origin

QUOTAS = {"api": 500, "resolvers": 3000, "pages": 100}


def default_options():
    return SimpleNamespace(
        regular="redirect",       # regular files on /resolve/: "redirect" (307 to resolve-cache) or "direct" (200 on the first hop)
        lfs="cdn",                # large files: "cdn" (302 to a signed address) or "direct"
        linked_etag=True,         # X-Linked-Etag on the 307 of regular files
        xet=True,                 # announce Xet in headers and JSON
        gzip=True,                # text is gzip'd on its second hop for clients that accept it
        gzip_api=False,           # JSON is gzip'd for clients that accept it
        signature_ttl=3600,       # seconds a signed address is good for
        page_size=1000,           # entries of a tree page
        expand_page_size=50,      # the same with expand=true
        multipart_over=5 << 30,   # larger files are uploaded in parts, if the client offers to
        chunk_size=16 << 20,      # bytes of such a part
        locks="none",             # Git-LFS locks: "none" (404) or "empty"
        sse_events=3,             # events of a log, the pause between them, and the silence before its end (seconds)
        sse_pause=0.2,
        sse_tail=0.2,
        cas_status=404,           # what the CAS origin says to everybody
        enforce_ratelimit=False)  # 429 when a bucket is empty


class HubDouble:
    """Hub, CDN, CAS and dataset viewer origins on 127.0.0.1. Use as a context manager, or start() and close()."""

    def __init__(self, content=None, port=0, cdn_port=0, cas_port=0, viewer_port=0, cache_dir=None, tls=None, cdn_tls=None, **options):
        self.content = content or Content(cache_dir)
        self.options = default_options()
        for name, value in options.items():
            if not hasattr(self.options, name):
                raise ValueError(f"unknown option {name}")
            setattr(self.options, name, value)
        self.is_started = False
        self.ledger = Ledger()
        self.rules = RuleBook()
        self.quotas = {name: [quota, quota] for name, quota in QUOTAS.items()}
        self.scripted_quotas = set()
        self.windows = {}    # bucket -> when its window ends (monotonic), for those that a test has set
        self.retry_after = {}
        self.ports = {"hub": port, "cdn": cdn_port, "cas": cas_port, "viewer": viewer_port}
        self.origins = {
            name: Origin(name, lambda request, call, handler=handler: handler(self, request, call), self.ledger, self.rules, certificate)
            for name, handler, certificate in (("hub", handle_hub, tls), ("cdn", handle_cdn, cdn_tls), ("cas", handle_cas, None),
                                               ("viewer", handle_viewer, None))}

    def start(self):
        """Opens the ports; does nothing the second time."""
        if self.is_started:
            return self
        self.is_started = True
        for name, origin in self.origins.items():
            origin.open(self.ports[name])
        self.url, self.cdn_url, self.cas_url, self.viewer_url = (self.origins[name].url for name in ("hub", "cdn", "cas", "viewer"))
        return self

    def close(self):
        for origin in self.origins.values():
            origin.close()

    __enter__ = start

    def __exit__(self, *_):
        self.close()

    # What goes wrong

    def rule(self, origin="hub", **what):
        """Adds a rule (faults.py, README.md) and returns it: .hits, .seen, .remove()."""
        return self.rules.add(origin=origin, **what)

    def clear_rules(self):
        self.rules.clear()

    def rate(self, origin, bytes_per_second, per="origin"):
        """Limits the speed of bodies over all connections of an origin, or per="connection" (new ones); None lifts it."""
        if per == "connection":
            self.origins[origin].per_connection = bytes_per_second
        else:
            self.origins[origin].bucket = Bucket(bytes_per_second) if bytes_per_second else None

    def _each(self, origin):
        return self.origins.values() if origin is None else [self.origins[origin]]

    def kill(self, origin=None, reset=False):
        """Connection refused on the same ports until revive(); ends all connections, with RST if reset."""
        for each in self._each(origin):
            each.kill(reset)

    def revive(self, origin=None):
        """Undoes kill() and blackhole()."""
        for each in self._each(origin):
            each.revive()

    def blackhole(self, origin=None, mode="silent"):
        """mode="silent": takes connections and requests, never answers. mode="drop": leaves even the handshake unanswered."""
        for each in self._each(origin):
            each.blackhole(mode)

    # What happened

    def calls(self, origin=None, path=None, method=None):
        return self.ledger.calls(origin, path, method)

    def body_bytes(self, origin=None, path=None):
        return self.ledger.body_bytes(origin, path)

    def leaks(self):
        """Calls that carried a token or cookie to the CDN."""
        return self.ledger.leaks()

    def xet_calls(self):
        """Calls of clients that tried Xet: for a token, or at the CAS."""
        return self.calls("cas") + self.calls("hub", r"/xet-(read|write)-token/")

    def reset_counters(self):
        self.ledger.reset()

    def connections(self, origin="hub"):
        return len(self.origins[origin].conns)

    # What changes on the Hub

    def move_branch(self, repo_id, branch="main", to=None, kind="model"):
        """Points a branch at what `to` names (branch, tag, commit, short commit)."""
        repo = self.content.repo(repo_id, kind)
        commit = repo.find(to)
        if commit is None:
            raise ValueError(f"{to} names no commit of {repo_id}")
        repo.refs[repo.full_ref(branch)] = commit
        return commit.id

    def set_visibility(self, repo_id, kind="model", **flags):
        """private=, gated=, disabled=; unnamed ones stay."""
        repo = self.content.repo(repo_id, kind)
        for name, value in flags.items():
            if name not in ("private", "gated", "disabled"):
                raise ValueError(f"unknown flag {name}")
            setattr(repo, name, value)

    # Rate limits

    def set_ratelimit(self, bucket, quota=None, left=None, enforce=None, reset=None, retry_after=None):
        """Of "api", "resolvers" or "pages". reset: seconds until the bucket is full again (once, then windows are 300 s as ever);
        retry_after: a Retry-After header on its 429 answers (the Hub sends none); False takes it away."""
        self.scripted_quotas.add(bucket)
        if quota is not None:
            self.quotas[bucket] = [quota, quota]
        if left is not None:
            self.quotas[bucket][1] = left
        if enforce is not None:
            self.options.enforce_ratelimit = enforce
        if reset is not None:
            self.windows[bucket] = time.monotonic() + reset
        if retry_after is not None:
            self.retry_after[bucket] = retry_after

    def ratelimit(self, bucket):
        """(quota, left, seconds until the window ends)"""
        ends = self.windows.get(bucket)
        if ends is not None and ends <= time.monotonic():
            del self.windows[bucket]
            self.quotas[bucket][1] = self.quotas[bucket][0]
            ends = None
        quota, left = self.quotas[bucket]
        wait = 300 - int(time.time()) % 300 if ends is None else max(1, round(ends - time.monotonic()))
        return quota, max(0, left), wait

    def take_ratelimit(self, request):
        """Counts a request; a 429 answer when limits are enforced and its bucket is empty.

        A bucket that no test has set fills up again when it is half empty, so that long tests see no limit by accident."""
        bucket = "resolvers" if "resolve" in request.path else "api" if request.path.startswith("/api/") else "pages"
        self.ratelimit(bucket)    # ends a window whose time has come
        quota = self.quotas[bucket]
        quota[1] -= 1
        if bucket not in self.scripted_quotas and not self.options.enforce_ratelimit and quota[1] <= quota[0] // 2:
            quota[1] = quota[0]
        if self.options.enforce_ratelimit and quota[1] < 0:
            wait = self.retry_after.get(bucket)
            after = [("Retry-After", str(wait))] if wait not in (None, False) else []
            return refuse(self, request, 429, "We had to rate limit your IP. To continue using our service, create a HF account or login.",
                          after=after)
        return None
