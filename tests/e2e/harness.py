# SPDX-License-Identifier: Apache-2.0
"""The daemon under test: starts the binary, talks to it, looks into its log, its metrics, its process and its store.

Owns      one process and its files below one folder.
Promises  (1) finish() fails the test on: an exit code other than 0, a line of level error, a sanitizer's report, a token or a
          signed address in log or store. A test that provokes one of these says so with expect().
"""
import hashlib
import os
import re
import secrets
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from wire import TIMEOUT, Connection, fields

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("HFCACHED", ROOT / "build/daemon/hfcached")).absolute()
SLOW = float(os.environ.get("HFCACHED_SLOW", "1"))   # > 1 stretches the waits, for sanitizer builds
REPORTS = re.compile(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|UndefinedBehavior|runtime error:|Assertion .* failed|Sanitizer:")
ADDRESS = re.compile(r"Serving on (http://[0-9.]+:(\d+))")
SCANNED_BYTES_MAX = 8 << 20


def fresh_token():
    """A token of the Hub's form that no other test has, to be looked for where it must not be."""
    return "hf_" + "".join(secrets.choice("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(34))


def wait_for(condition, seconds=10.0, every=0.02, why=""):
    """The first true value of condition(); fails after `seconds`."""
    end = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {seconds} s in vain: {why or condition}"
        time.sleep(every)


def within(seconds, ask, tries=5):
    """What ask() gives, as soon as it took less than so long: what else the machine does makes some tries longer, not every one."""
    took = []
    for _ in range(tries):
        began = time.monotonic()
        answer = ask()
        took.append(time.monotonic() - began)
        if took[-1] < seconds * SLOW:
            return answer
    raise AssertionError(f"it took {min(took):.3f} s at best, not {seconds} s: {answer}")


def soon(seconds, scenario, tries=3):
    """As within(), for a scenario that measures by itself: it returns how long what is promised took."""
    took = []
    while not took or took[-1] >= seconds * SLOW:
        assert len(took) < tries, f"it took {min(took):.3f} s at best, not {seconds} s"
        took.append(scenario())


def parse_log_line(line):
    """A dict of one logfmt line."""
    out = {}
    for key, quoted, plain in re.findall(r'([\w.]+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))', line):
        out.setdefault(key, quoted if quoted else plain)
    return out


class Daemon:
    """hfcached with its own store. Options are named section_key, further dashes as underscores: hub_revision_ttl="1s"."""

    def __init__(self, folder, hub=None, canaries=(), environment=None, command=(), **options):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = Path(options.pop("storage_path", self.folder / "store"))
        self.canaries = list(canaries)
        self.environment = environment or {}
        self.command = list(command)
        self.options = {"server_listen": "127.0.0.1:0", "storage_path": str(self.store), "storage_max_size": "2G",
                        "storage_disk_reserve": "1M"}
        if hub is not None:
            self.options["hub_url"] = getattr(hub, "url", hub)
        self.options |= {k: str(v) for k, v in options.items()}
        self.process = None
        self.runs = self.marks = 0
        self.url = self.port = None
        self.host = True        # what the harness itself says in Host; True: the address
        self.may_fail = set()
        self.was_ended = True   # by us; False: it runs, or went by itself

    # --- life ---

    def arguments(self):
        out = [str(BINARY)]
        for name, value in self.options.items():
            section, _, key = name.partition("_")
            out += ["--set", f"{section}.{key.replace('_', '-')}={value}"]
        return out + self.command

    def path(self, name, run=None):
        return self.folder / f"{name}.{self.runs if run is None else run}"

    def spawn(self):
        """Starts the process without waiting for anything."""
        assert BINARY.exists(), f"there is no {BINARY}; build it or set HFCACHED"
        self.runs += 1
        self.was_ended = False
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HFCACHE_", "HF_")) and k != "JOURNAL_STREAM"}
        environment |= {"HOME": str(self.folder), "LANG": "C.UTF-8", "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0",
                        "UBSAN_OPTIONS": "print_stacktrace=1"} | self.environment
        with open(self.path("stdout"), "wb") as out, open(self.path("stderr"), "wb") as err:
            self.process = subprocess.Popen(self.arguments(), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment,
                                            cwd=self.folder, start_new_session=True)
        return self

    def start(self, seconds=15):
        """Starts it and waits until it is ready."""
        self.spawn()
        found = wait_for(lambda: self._address() or self._has_ended(), seconds, why="the address on stdout")
        assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.stderr()}"
        self.url, self.port = found[1], int(found[2])
        wait_for(lambda: self._is_ready(), seconds, why="readiness")
        return self

    def _address(self):
        return ADDRESS.match(self.path("stdout").read_text())

    def _has_ended(self):
        return self.process.poll() is not None

    def _is_ready(self):
        try:
            return self.get("/-/readyz", timeout=2, host=self.host).status == 200
        except OSError:
            return False

    def until_known_down(self):
        """Asks for what nobody holds until the daemon takes upstream for unreachable."""
        wait_for(lambda: self.get("/api/models/nobody/nothing") and self.metric("hfcache_upstream_up") == 0, 10, why="the breaker")
        return self

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.was_ended = self.was_ended or number in (signal.SIGTERM, signal.SIGINT)
        self.process.send_signal(number)

    def kill9(self):
        self.was_ended = self.was_ended or self.is_alive()
        self.process.kill()
        self.process.wait(10)

    def stop(self, seconds=30):
        """SIGTERM; returns the exit code."""
        if self.is_alive():
            self.was_ended = True
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds * SLOW)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(f"it did not end within {seconds} s of SIGTERM") from None

    def restart(self, kill=False, **options):
        """Ends it (with -9 if kill) and starts it again on the same store, with changed options."""
        if kill:
            self.kill9()
        else:
            assert self.stop() == 0, self.stderr()
        self.options |= {k: str(v) for k, v in options.items()}
        return self.start()

    def expect(self, *what):
        """Of "error" (lines of that level), "exit" (its code): these may be, in this test."""
        self.may_fail |= set(what)
        return self

    def finish(self):
        if self.process is None:
            return
        was_alive = self.is_alive()
        code = self.stop()
        died = f"it died of itself with {code}: {self.stderr()[-3000:]}"
        assert self.was_ended or "exit" in self.may_fail, died
        logs = "".join(self.stderr(n) + self.stdout(n) for n in range(1, self.runs + 1))
        if was_alive and "exit" not in self.may_fail:
            assert code == 0, f"exit code {code} on SIGTERM: {logs[-3000:]}"
        report = REPORTS.search(logs)
        assert not report, f"a report: {logs[max(0, report.start() - 200):report.start() + 4000]}"
        if "error" not in self.may_fail:
            errors = [line for line in logs.splitlines() if parse_log_line(line).get("level") == "error"]
            assert not errors, f"errors in the log: {errors[:5]}"
        self.look_for_secrets(logs)

    def look_for_secrets(self, logs):
        needles = [c.encode() for c in self.canaries] + [b"&Signature=", b"Key-Pair-Id="]
        places = [("log", logs.encode())]
        places += [(str(p), p.read_bytes()) for p in self.files() if p.stat().st_size <= SCANNED_BYTES_MAX]
        for where, text in places:
            for needle in needles:
                assert needle not in text, f"{needle[:12]!r}… is in {where}"

    # --- talking to it ---

    def connect(self, **how):
        return Connection(("127.0.0.1", self.port), **how)

    def ask(self, method, target, token=None, headers=(), body=None, timeout=TIMEOUT, host=True, source=None, keep=True, rate=None,
            **named):
        """One request on a connection of its own."""
        with self.connect(timeout=timeout * SLOW, source=source) as conn:
            conn.request(method, target, fields(token, headers, Connection="close", **named), body, host=host)
            return conn.read(keep=keep, rate=rate)

    def get(self, target, token=None, **how):
        return self.ask("GET", target, token, **how)

    def head(self, target, token=None, **how):
        return self.ask("HEAD", target, token, **how)

    # --- looking at it ---

    def stderr(self, run=None):
        return self.path("stderr", run).read_text(errors="replace")

    def stdout(self, run=None):
        return self.path("stdout", run).read_text(errors="replace")

    def log_lines(self, **wanted):
        """Lines of the current run as dicts, those whose fields are as wanted."""
        lines = [parse_log_line(line) for line in self.stderr().splitlines()]
        return [line for line in lines if all(line.get(k) == v for k, v in wanted.items())]

    def metrics(self):
        """[(name, labels, value)]"""
        out = []
        for line in self.get("/-/metrics").text.splitlines():
            found = re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", line)
            if found and not line.startswith("#"):
                out.append((found[1], dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2] or "")), float(found[3])))
        return out

    def metric(self, name, **labels):
        """The sum of a metric's values with these labels; fails if there is no such metric."""
        values = [v for n, have, v in self.metrics() if n == name and all(have.get(k) == x for k, x in labels.items())]
        assert values, f"no metric {name} {labels}"
        return sum(values)

    def received(self):
        """Bytes from upstream. What the double has handed to its kernel is more, by what was on the way when a transfer ended."""
        return self.metric("hfcache_upstream_received_bytes_total")

    def status(self):
        return self.get("/-/status").json()

    def _proc(self, what):
        return Path(f"/proc/{self.process.pid}/{what}")

    def rss(self):
        return 1024 * int(re.search(r"VmRSS:\s+(\d+)", self._proc("status").read_text())[1])

    def fds(self):
        return len(os.listdir(self._proc("fd")))

    def threads(self):
        return int(re.search(r"Threads:\s+(\d+)", self._proc("status").read_text())[1])

    # --- its store ---

    def counted(self, what, *values):
        """SELECT COUNT(*) FROM what, of the index on disk."""
        with closing(sqlite3.connect(f"file:{self.store / 'index.db'}?mode=ro", uri=True)) as db:
            return db.execute(f"SELECT COUNT(*) FROM {what}", values).fetchone()[0]

    def until_durable(self, hub):
        """Until all that it has learned so far is on disk. Facts go there in the order in which they came: one more tells."""
        self.marks += 1
        name = f"acme/mark-{self.folder.name}-{self.marks}"
        hub.content.add_repo("model", name).commit({"config.json": "{}"})
        assert self.get(f"/api/models/{name}").status == 200
        wait_for(lambda: self.counted("docs JOIN repos ON repos.id = repo_id WHERE CAST(name AS TEXT) = ?", f"models/{name}"), 20,
                 why="the last fact to be on disk")

    def files(self, below=""):
        top = self.store / below
        return [p for p in sorted(top.rglob("*")) if p.is_file() and not p.is_symlink()] if top.exists() else []

    def blobs(self):
        return {p.name: p for p in self.files("blobs")}

    def parts(self):
        return [p for p in self.files("incoming") if p.name.endswith(".part")]

    def stored_bytes(self):
        """What finished and unfinished content takes on disk; of a sparse part only what is there."""
        sizes = [p.stat() for p in self.files("blobs") + self.parts()]
        return sum(min(s.st_size, s.st_blocks * 512) for s in sizes)

    def check_store(self):
        """Every file under blobs/ is what its name says, has its sidecar and lies where it should; returns how many."""
        count = 0
        for name, path in self.blobs().items():
            digest = hashlib.sha256()
            with open(path, "rb") as f:
                while piece := f.read(1 << 20):
                    digest.update(piece)
            assert digest.hexdigest() == name, f"{path} holds other bytes"
            assert path.parent.name == name[2:4] and path.parent.parent.name == name[:2]
            assert (self.store / "meta" / name[:2] / name[2:4] / name).exists(), f"{name} has no sidecar"
            count += 1
        return count


def authority(url):
    parts = urlsplit(url)
    return parts.hostname, parts.port
