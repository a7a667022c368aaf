#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast inference is passed on and given again: .venv-tests/bin/python tests/bench/infer.py [--smoke]

  given again, classification  processor time of one kept answer, against that of a 1 KB file that is held
  given again, stream          events a second and core, of a kept stream of 500
  first event                  from upstream's first event to the client's, of a chat of 500 events
  together                     calls upstream for 50 equal ones
  open streams                 memory while 1,000 streams wait

Needs what the tests of inference need; the daemon is HFCACHED, as everywhere.
"""
import argparse
import json
import resource
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
for place in (HERE.parent / "hub", HERE.parent / "e2e", HERE.parent / "infer"):
    sys.path.insert(0, str(place))
from asking import CHAT, CLASSIFY, LOVE, chat, post, stream  # noqa: E402
from harness import Daemon, wait_for  # noqa: E402
from hubdouble import HubDouble  # noqa: E402
from inferdouble import InferDouble  # noqa: E402
from rig import build_load, cpu_seconds, processes_below, pin  # noqa: E402,F401

EVENTS = 500


class Bench:
    def __init__(self, folder, hub, upstream, is_smoke):
        self.upstream, self.is_smoke = upstream, is_smoke
        self.load = build_load(folder)
        self.daemon = Daemon(folder / "daemon", hub, inference_url=upstream.url, server_threads=1, log_level="warning",
                             server_max_connections=5000).start()

    def cost(self, target, *options):
        """Seconds of the daemon's processor time for one request, and the load's own figures."""
        import subprocess
        n = 500 if self.is_smoke else 20000
        pids = [self.daemon.process.pid]
        before = cpu_seconds(pids)
        done = subprocess.run([str(self.load), "-c", "16", "-n", str(n), *options, str(self.daemon.port), target], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return (cpu_seconds(pids) - before) / n

    def classification(self):
        assert post(self.daemon, CLASSIFY, LOVE).status == 200
        assert self.daemon.get("/acme/bench/resolve/main/small.bin").status == 200
        body = json.dumps(LOVE)
        pairs = [(self.cost(CLASSIFY, "-m", "POST", "-b", body), self.cost("/acme/bench/resolve/main/small.bin")) for _ in range(1 if self.is_smoke else 5)]
        ours, file = (statistics.median(p[i] for p in pairs) for i in (0, 1))
        print(f"given again, classification  {ours * 1e6:6.1f} us  file {file * 1e6:6.1f} us  ratio {ours / max(file, 1e-9):5.2f}  (1.5)")

    def replay(self):
        self.upstream.rule(path=CHAT, tokens=EVENTS)
        body = chat("long", stream=True, max_tokens=EVENTS)
        with stream(self.daemon, CHAT, body, timeout=60) as one:
            events = len(one.rest())
        each = self.cost(CHAT, "-m", "POST", "-b", json.dumps(body))
        print(f"given again, stream          {events / max(each, 1e-9):9.0f} events a second and core, {events} events in {each * 1e6:.0f} us  "
              f"ratio to what is wanted {events / max(each, 1e-9) / 20000:7.1f}  (20,000: 1)")

    def late(self, server, name):
        """Seconds from upstream's first event to the client's, for each of some streams."""
        out = []
        for i in range(5 if self.is_smoke else 30):
            with stream(server, CHAT, chat(f"{name} {i}", stream=True, temperature=1, max_tokens=EVENTS), timeout=60) as one:
                one.next_event()
                came = time.monotonic()
                one.rest()
            call = wait_for(lambda: self.upstream.posts(CHAT)[-1])
            if call.get("t_events"):
                out.append(came - call["t_events"][0])
        return out

    def first_event(self):
        self.upstream.rule(path=CHAT, tokens=EVENTS)
        ours, direct = self.late(self.daemon, "first"), self.late(self.upstream, "direct")
        one, other = (statistics.median(late) * 1e3 for late in (ours, direct))
        print(f"first event                  median {one:5.2f} ms, worst {max(ours) * 1e3:5.2f} ms; without the daemon {other:5.2f} ms; "
              f"ratio to what is allowed {one / 5:5.2f}  (5 ms: 1)")

    def together(self):
        before = len(self.upstream.posts())
        gate = self.upstream.gate(path=CHAT)
        threads = [threading.Thread(target=lambda: post(self.daemon, CHAT, chat("all"), timeout=60)) for _ in range(50)]
        for t in threads:
            t.start()
        gate.wait_for(1)
        wait_for(lambda: self.daemon.metric("hfcache_http_connections") >= 50)
        time.sleep(0.2)
        gate.open()
        for t in threads:
            t.join()
        print(f"together                     {len(self.upstream.posts()) - before} call upstream for 50  (1)")
        self.upstream.clear_rules()

    def open_streams(self):
        n = 50 if self.is_smoke else 1000
        before = self.daemon.rss()
        gate = self.upstream.gate(path=CHAT, event=1)
        some = []
        for i in range(n):
            one = stream(self.daemon, CHAT, chat(f"open {i}", stream=True, temperature=1), timeout=60)
            some.append(one)
        for one in some:
            assert one.next_event()
        print(f"open streams                 {self.daemon.rss() / 1e6:5.1f} MB with {n}, {before / 1e6:.1f} MB before  (100)")
        for one in some:
            one.close()
        gate.open()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny numbers; nothing is judged")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as folder, HubDouble() as hub, InferDouble() as upstream:
        hub.content.add_repo("model", "acme/bench").commit({"small.bin": bytes(1024), "README.md": "x"})
        bench = Bench(Path(folder), hub, upstream, options.smoke)
        try:
            for part in (bench.classification, bench.replay, bench.first_event, bench.together, bench.open_streams):
                part()
        finally:
            bench.daemon.stop()


if __name__ == "__main__":
    main()
