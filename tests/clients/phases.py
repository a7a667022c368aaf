# SPDX-License-Identifier: Apache-2.0
"""A use of a client in every phase of the cache's life, what upstream may see of it, and the record that the support table is made of.

  for phase in phases(client, version, what, is_pinned=True):
      machine(phase.url)...        # a fresh machine each time; the answers must be the same each time

cold         an empty store: no byte of a file comes from upstream twice
warm         a second machine: no call at all
revalidated  only where a branch is named: its time is over, names are asked for again, bytes are not
dead         upstream refuses every connection
restarted    and the daemon was started again

Owns      its own daemon; the record of this process, written when its tests are over.
Promises  (1) a phase is recorded as passed only when the body of the loop and the checks of its calls were.
"""
import json
import os
import re
import time
from collections import namedtuple
from pathlib import Path

PHASES = ("cold", "warm", "revalidated", "dead", "restarted")
RESULTS = "HFCACHED_CLIENT_RESULTS"    # names the folder of the record
LONG = {"hub_revision_ttl": "10m", "hub_metadata_ttl": "10m"}
SHORT = {"hub_revision_ttl": "1s", "hub_metadata_ttl": "1s"}
CDN_RATE = 32 << 20
# When a transfer is cut short, since another one began where it would have gone on:
AHEAD = 1 << 20    # what upstream may have given to its connection, which nobody reads any more
PIECE = 16 << 10    # the piece in which its end lies comes whole
# What a client may ask once more for a branch: who stands where, not what a commit holds.
NAMES = re.compile(r"/resolve/|/api/(models|datasets|spaces)/|/info/refs|/v2/|/api/resolve-cache/")

Phase = namedtuple("Phase", "name url")
Row = namedtuple("Row", "client version what phase result note")
RECORD = []


def asked(hub, *where):
    """The double's calls, without those that a client makes for itself, about nothing that anybody holds, and without the viewer's:
    that is a service of its own, passed through."""
    return [c for c in hub.calls(*where) if c["path"] not in ("/api/agent-harnesses", "/api/telemetry") and c["origin"] != "viewer"]


def file_bodies(hub):
    """Calls that moved bytes of files."""
    return [c for c in hub.calls(method="GET", path=r"/resolve(-cache)?/|/xet-bridge|/cdn-") if c["status"] in (200, 206) and c["sent"]]


def short(calls):
    return [(c["method"], c["target"][:120], c["range"], c["status"], c["sent"]) for c in calls]


def check_no_byte_twice(hub, received):
    """received: what the daemon took of upstream's bodies."""
    files, seen = file_bodies(hub), {}
    for call in files:
        found = re.match(r"bytes=(\d+)-", call["range"] or "bytes=0-")
        assert found, f"an unexpected range upstream: {call['range']}"
        begin = int(found[1]) if call["status"] == 206 else 0
        seen.setdefault((call["origin"], call["target"].split("?")[0]), []).append((begin, begin + call["sent"]))
    covered, cut = sum(c["sent"] for c in hub.calls() if c not in files), 0
    for (_, path), pieces in seen.items():
        pieces.sort()
        assert len({begin for begin, _ in pieces}) == len(pieces), f"{path} was begun twice at one place: {pieces}"
        reached = 0
        for begin, end in pieces:
            assert begin + AHEAD >= reached, f"bytes of {path} came twice: {pieces}"
            cut += begin < reached
            covered += max(0, end - max(begin, reached))
            reached = max(reached, end)
    assert received <= covered + cut * PIECE, f"{received} bytes came from upstream for {covered}: {short(files)}"


class Phases:
    def __init__(self, hub, start):
        self.hub = hub
        self.start = start
        self.daemon = None
        self.open = None     # the use whose phase has begun and not ended

    def __call__(self, client, version, what, is_pinned=False, until=None, note="", **options):
        """until: the last phase in which it can work, for what is only passed through. note: for the reader of the table. Options
        are the daemon's."""
        self.daemon = self.start(**LONG, **options)
        for name in PHASES[:PHASES.index(until) + 1 if until else None]:
            if name == "revalidated" and is_pinned:
                continue
            self.open = Row(client, version, what, name, "failed", note)
            getattr(self, name)()
            self.hub.reset_counters()
            yield Phase(name, self.daemon.url)
            getattr(self, f"check_{name}")()
            assert not self.hub.xet_calls(), f"a client tried Xet: {short(self.hub.xet_calls()[:3])}"
            RECORD.append(self.open._replace(result="passed"))
            self.open = None

    def close(self):
        if self.open:
            RECORD.append(self.open)

    def cold(self):
        """A pace at which the double does not run far ahead of what the daemon takes: what it gave to a connection that was ended
        counts as sent."""
        self.hub.rate("cdn", CDN_RATE)

    def check_cold(self):
        check_no_byte_twice(self.hub, self.daemon.metric("hfcache_upstream_received_bytes_total"))
        self.hub.rate("cdn", None)

    def warm(self):
        pass

    def check_warm(self):
        assert not asked(self.hub), f"upstream was asked: {short(asked(self.hub))}"

    def revalidated(self):
        time.sleep(1.2)
        self.daemon.restart(**SHORT)

    def check_revalidated(self):
        calls = asked(self.hub)
        assert calls, "a branch was believed for ever"
        assert not file_bodies(self.hub) and not self.hub.calls("cdn"), f"bytes came again: {short(file_bodies(self.hub))}"
        foreign = [c for c in calls if not NAMES.search(c["target"])]
        assert not foreign, f"more than names was asked: {short(foreign)}"

    def dead(self):
        self.hub.kill()

    def check_dead(self):
        pass

    def restarted(self):
        self.daemon.restart()

    check_restarted = check_dead


def write_record():
    """One file of this process below the folder that the environment names, if it does."""
    folder = os.environ.get(RESULTS)
    if folder and RECORD:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{os.getpid()}.json").write_text(json.dumps([row._asdict() for row in RECORD], indent=0))
