#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures hfcached beside nginx in the same run and prints ratios, each next to what it should be and what it must be.

  make bench                       five rounds, about five minutes; ARGS="--quick" one minute
  tests/bench/bench.py [--quick | --smoke] [--only WORD] [--rounds N]

Every case visits all systems in turn, the next round in the opposite order; a ratio is the median of the rounds' ratios.
Below 1 is better than nginx in every row. Absolute figures mean nothing on a shared machine, and a ratio of few rounds is off
by up to 15 %: only what misses the last column of two runs is wrong. Exits 1 when a floor is missed, 2 when it could not measure.
"""
import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
import rig  # noqa: E402
from rig import MIB, Files, Load, Ours, Trouble, Upstream  # noqa: E402

GIB = 1 << 30


class Plan:
    """How much of everything."""

    def __init__(self, name, rounds, seconds, big, cold):
        self.name, self.rounds, self.seconds, self.big, self.cold = name, rounds, seconds, big, cold


PLANS = {"full": Plan("full", 5, 1.5, GIB, 256 * MIB), "quick": Plan("quick", 3, 0.5, GIB, 128 * MIB),
         "smoke": Plan("smoke", 1, 0.2, 64 * MIB, 16 * MIB)}


class Case:
    """One row: how to reduce a run to a number, and the wanted ratio of ours to `yardstick`."""

    def __init__(self, title, number, unit, yardstick, goal=None, floor=None, digits=3):
        self.title, self.number, self.unit, self.yardstick = title, number, unit, yardstick
        self.goal, self.floor, self.digits = goal, floor, digits


class Group:
    """Cases that are read from the same runs: run(server, name of the object) for each of the systems."""

    def __init__(self, systems, run, *cases, is_cold=False):
        self.systems, self.run, self.cases, self.is_cold = systems, run, cases, is_cold


def cpu_per_gb(run):
    return run["server_cpu"] / (run["bytes"] / 1e9)


def cpu_per_request(run):
    return run["server_cpu"] / run["requests"] * 1e6


def time_per_request(run):
    return run["seconds"] / run["requests"] * 1e6


def seconds(run):
    return run["seconds"]


class Direct:
    """Upstream itself, as a server to be measured."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.ports = [upstream.who["direct"]]

    def pids(self):
        return self.upstream.pids()


class Bench:
    """The servers and what they serve, up together. What is held is served from one core, to a client on the other."""

    def __init__(self, folder, plan):
        self.folder, self.plan, self.servers = folder, plan, []

    def start(self):
        folder, plan = self.folder, self.plan
        colds = 3 * plan.rounds
        print(f"making {plan.big / GIB:.2f} GiB, and {colds} files of {plan.cold // MIB} MiB", flush=True)
        self.files = Files(folder / "files", plan.big, plan.cold, colds)
        self.colds = iter(self.files.cold)
        program = rig.build_load(folder)
        self.load, self.free_load = Load(program, -1), Load(program, None)
        self.upstream = self._add(Upstream(folder / "upstream", self.files))
        self.static = self._add(rig.static(folder / "static", self.files, 0))
        self.proxy = self._add(rig.proxy(folder / "proxy", self.upstream, 0))
        self.cold_proxy = self._add(rig.proxy(folder / "cold-proxy", self.upstream))
        self.held = self._add(Ours(folder / "held", self.upstream, threads=1, core=0))
        self.talking = self._add(Ours(folder / "talking", self.upstream, threads=1, core=0, level="info"))
        self.cold = self._add(Ours(folder / "cold", self.upstream, threads=2))

    def _add(self, server):
        self.servers.append(server)
        return server

    def stop(self):
        """Ends all of them, whatever becomes of one."""
        for server in reversed(self.servers):
            try:
                server.stop()
            except (AssertionError, OSError, subprocess.TimeoutExpired) as trouble:
                print(f"could not stop {type(server).__name__}: {trouble}", file=sys.stderr)

    def check(self):
        """The right bytes first; this also fills what is to be held."""
        for server in (self.static, self.proxy, self.held, self.talking):
            for name in ("big.bin", "small.bin"):
                if rig.digest_of(server, Files.target(name)) != self.files.sha256[name]:
                    raise Trouble(f"{type(server).__name__} on port {server.ports[0]} sends wrong bytes of {name}")
        time.sleep(0.5)

    # --- runs ---

    def held_file(self, name, *options):
        return lambda server, _: self.load.run(server, Files.target(name), *options, "-d", self.plan.seconds)

    def held_ranges(self, size, conns):
        return self.held_file("big.bin", "-c", conns, "-r", size, "-s", self.plan.big)

    def fan_out(self, clients):
        def run(server, name):
            counted = self.free_load.run(server, Files.target(name), "-c", clients, "-n", clients)
            if counted["bytes"] != clients * self.plan.cold:
                raise Trouble(f"{counted['bytes']} bytes for {clients} clients of {self.plan.cold}")
            return counted
        return run

    def groups(self):
        held = {"nginx": self.static, "ours": self.held}
        cold = {"direct": Direct(self.upstream), "nginx": self.cold_proxy, "ours": self.cold}
        per_gb, per_request = (cpu_per_gb, "CPU-s/GB"), (cpu_per_request, "CPU-us")
        ten = min(10 * MIB, self.plan.big // 4)
        return [
            Group(held, self.held_file("big.bin", "-c", 1), Case("held, 1 stream", *per_gb, "nginx", 1.10, 1.30)),
            Group(held, self.held_file("big.bin", "-c", 64), Case("held, 64 streams", *per_gb, "nginx", 1.05, 1.25)),
            Group(held, self.held_ranges(ten, 64), Case("held, 10 MiB ranges, 64 conns", *per_gb, "nginx", 1.05, 1.25)),
            Group(held, self.held_ranges(MIB, 1000), Case("held, 1 MiB ranges, 1000 conns", *per_gb, "nginx", 1.15, 1.40)),
            Group(held | {"nginx proxy": self.proxy, "ours, logging": self.talking}, self.held_file("small.bin", "-c", 64),
                  Case("held, 1 KB GET, 64 conns", *per_request, "nginx", 0.80, 1.00, digits=1),
                  Case("  beside nginx proxy_cache", *per_request, "nginx proxy", 0.70, 0.90, digits=1)),
            # Only a loop that stands still misses this floor: libmicrohttpd's own does when 128 events come at once.
            Group(held, self.held_file("small.bin", "-c", 256),
                  Case("held, 1 KB GET, 256 conns, wall", time_per_request, "us", "nginx", None, 5.00, digits=1)),
            Group(held, self.held_file("big.bin", "-m", "HEAD", "-c", 256),
                  Case("held, HEAD, 256 conns", *per_request, "nginx", 1.15, 1.40, digits=1)),
            Group(cold, self.fan_out(1), Case("cold, 1 client, last byte", seconds, "s", "nginx", 0.70, 1.00), is_cold=True),
            Group(cold, self.fan_out(8), Case("cold, 8 clients, last byte", seconds, "s", "nginx"), is_cold=True),
            Group(cold, self.fan_out(64), Case("cold, 64 clients, last byte", seconds, "s", "direct", 0.70, 0.95),
                  Case("  beside nginx proxy_cache", seconds, "s", "nginx"),
                  Case("  CPU of a GB served", *per_gb, "nginx", 1.00, 1.25), is_cold=True)]

    def visit(self, group):
        """{system: [run]}, in the order of the rounds."""
        runs = {name: [] for name in group.systems}
        for number in range(self.plan.rounds):
            name = next(self.colds) if group.is_cold else None
            order = list(group.systems)
            for system in order if number % 2 == 0 else reversed(order):
                runs[system].append(group.run(group.systems[system], name))
        return runs


class Table:
    """Prints rows as they come and remembers what missed its floor."""
    LINE = "{:33}{:>10}{:>11}{:>9}{:>8}{:>7}{:>8}  {}"

    def __init__(self):
        self.missed = []
        print(self.LINE.format("", "ours", "yardstick", "", "ratio", "goal", "floor", ""))

    def row(self, title, ours, other, unit, ratio, goal, floor, note="", digits=3):
        word = ""
        if floor is not None and ratio > floor:
            word = "MISSED"
            self.missed.append(title.strip())
        elif goal is not None and ratio > goal:
            word = "above its goal"

        def text(value, count):
            return "" if value is None else f"{value:.{count}f}"
        print(self.LINE.format(title, text(ours, digits), text(other, digits), unit, text(ratio, 2), text(goal, 2), text(floor, 2),
                               " ".join(filter(None, (word, note)))), flush=True)

    def case(self, case, runs, also=()):
        """A row, and for each name in `also` one more that compares it to the same yardstick without judging."""
        other = [case.number(run) for run in runs[case.yardstick]]
        for system in ("ours", *also):
            ours = [case.number(run) for run in runs[system]]
            ratios = [mine / max(theirs, 1e-9) for mine, theirs in zip(ours, other, strict=True)]
            judged = system == "ours"
            self.row(case.title if judged else f"  {system}", statistics.median(ours), statistics.median(other), case.unit,
                     statistics.median(ratios), case.goal if judged else None, case.floor if judged else None,
                     f"[{min(ratios):.2f}-{max(ratios):.2f}]", case.digits)


def measure(bench, only):
    table = Table()
    for group in bench.groups():
        chosen = [c for c in group.cases if only in group.cases[0].title]
        runs = bench.visit(group) if chosen else None
        for case in chosen:
            table.case(case, runs, [s for s in runs if s.startswith("ours,")] if case is chosen[0] else [])
    cold = bench.plan.cold * sum(1 for name in bench.files.cold if (bench.cold.daemon.blobs().get(bench.files.sha256[name])))
    if cold:
        ratio = bench.upstream.sent("ours") - 2 * (bench.plan.big + 1024)
        table.row("cold: bytes from upstream", ratio / 1e6, cold / 1e6, "MB", ratio / cold, 1.00, 1.01, digits=1)
    if not only or "memory" in only:
        measure_memory(bench, table)
    return table


def measure_memory(bench, table):
    """Resident memory with a thousand connections that wait and a thousand that read ranges."""
    conns, before = min(1000, rig.raise_limits() // 8), bench.held.rss_mb()
    idle = bench.load.hold(bench.held, Files.target("small.bin"), "-c", conns, "-n", conns)
    busy = bench.load.hold(bench.held, Files.target("big.bin"), "-c", conns, "-r", MIB, "-s", bench.plan.big, "-d", bench.plan.seconds)
    rss = bench.held.rss_mb()
    for held in (idle, busy):
        held.communicate()
    # The goal is in MB: as a ratio to the goal's own 50.
    table.row(f"memory, {conns} idle + {conns} active", rss, 50.0, "MB", rss / 50, 1.00, 1.60, f"[{before:.1f} before]", digits=1)


def share_of_sendfile(bench):
    seen = rig.sendfile_share(bench.held, bench.load, Files.target("big.bin"), bench.folder)
    if seen:
        print(f"{seen[0]:.0%} of a large held file left by sendfile, {seen[1] / 1024:.0f} KiB a call")
    else:
        print("no sendfile was seen, or strace does not work here")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three short rounds")
    parser.add_argument("--smoke", action="store_true", help="one tiny round: whether everything runs; nothing is judged")
    parser.add_argument("--only", default="", metavar="WORD", help="cases whose title has it, for example cold")
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args()
    plan = PLANS["smoke" if options.smoke else "quick" if options.quick else "full"]
    plan.rounds = options.rounds or plan.rounds
    network = rig.own_network()
    rig.raise_limits()
    print(f"{network}; {len(rig.CORES)} cores, Linux {platform.release()}; {plan.rounds} rounds")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hfcached-bench-") as folder:
        bench = Bench(Path(folder), plan)
        try:
            bench.start()
            bench.check()
            share_of_sendfile(bench)
            table = measure(bench, options.only)
        except Trouble as trouble:
            print(f"could not measure: {trouble}", file=sys.stderr)
            return 2
        finally:
            bench.stop()
    print(f"{time.monotonic() - began:.0f} s")
    if table.missed and not options.smoke:
        print("Below the floor: " + "; ".join(table.missed))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
