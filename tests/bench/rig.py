# SPDX-License-Identifier: Apache-2.0
"""What bench.py measures with: a network of its own, nginx in three parts, the daemon, processor time, and the load client.

upstream   nginx that answers file addresses as the Hub does, with a port for each system so that its log tells who fetched what
static     nginx as well tuned as it gets for the same files: the yardstick for what is held
proxy      nginx with proxy_cache in front of upstream: the yardstick for misses, and for small files that are held
Never     talks to anything but 127.0.0.1.
"""
import ctypes
import fcntl
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
from harness import Daemon  # noqa: E402

MIB = 1 << 20
COMMIT = "c" * 40
REPO = "acme/bench"
CORES = sorted(os.sched_getaffinity(0))
CLONE_NEWNET = 0x40000000
TICKS = os.sysconf("SC_CLK_TCK")


class Trouble(Exception):
    """The measurement itself could not be made."""


# --- surroundings -------------------------------------------------------------------------------------------------------

def own_network():
    """A network namespace with plain congestion control, if this is allowed; returns what to tell the reader."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        control = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
        return f"loopback of this machine, {control} (as root a network namespace with reno is used)"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("16sh14x", b"lo", 1 | 64)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(s, 0x8914, request)  # SIOCSIFFLAGS
    Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text("reno")
    return "a network namespace of its own, reno"


def raise_limits():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (want, hard))
    return want


def pin(core):
    """For preexec_fn: the server on the first core, the client on the last; everybody everywhere with core=None."""
    return None if core is None or len(CORES) < 2 else lambda: os.sched_setaffinity(0, {CORES[core]})


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def processes_below(pid):
    """A process and its children."""
    out = [pid]
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            out.append(int(path.parent.name))
    return out


def cpu_seconds(pids):
    """User and system time of processes with all their threads."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


# --- files ----------------------------------------------------------------------------------------------------------------

class Files:
    """Random files below one folder: big.bin, small.bin, and cold-N.bin that differ in their first bytes only."""

    def __init__(self, folder, big_bytes, cold_bytes, cold_count):
        self.folder = folder
        folder.mkdir()
        self.big_bytes, self.cold_bytes = big_bytes, cold_bytes
        self.sha256 = {}
        self._write("small.bin", 1, 1024)
        self._write("big.bin", 1, big_bytes)
        self.cold = [f"cold-{n}.bin" for n in range(cold_count)]
        for number, name in enumerate(self.cold):
            self._write(name, number, cold_bytes)

    def _write(self, name, number, size):
        block = bytearray(os.urandom(min(size, 16 * MIB)))
        block[:8] = number.to_bytes(8, "big")
        digest = hashlib.sha256()
        with open(self.folder / name, "wb") as f:
            for at in range(0, size, len(block)):
                piece = memoryview(block)[:size - at]
                f.write(piece)
                digest.update(piece)
        self.sha256[name] = digest.hexdigest()

    def names(self):
        return list(self.sha256)

    def size(self, name):
        return (self.folder / name).stat().st_size

    @staticmethod
    def target(name):
        return f"/{REPO}/resolve/{COMMIT}/{name}"


# --- nginx ----------------------------------------------------------------------------------------------------------------

MAIN = """
{user}daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
worker_rlimit_nofile {files};
events {{ worker_connections {half}; }}
http {{
  types {{}} default_type application/octet-stream;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
  scgi_temp_path {folder}/s;
  log_format sent '$server_port $body_bytes_sent'; access_log {log};
  sendfile on; tcp_nopush on; sendfile_max_chunk 2m; keepalive_requests 100000000; open_file_cache max=1000 inactive=600s;
  etag off;
  {http}
}}
"""
# The headers that our own answers have too.
HEADERS = """add_header X-Repo-Commit {commit}; add_header ETag '"{sha256}"'; add_header X-Linked-Etag '"{sha256}"';
    add_header X-Linked-Size {size}; add_header Content-Disposition 'inline; filename="{name}"';
    add_header Content-Security-Policy "default-src 'none'; sandbox"; add_header X-Content-Type-Options nosniff;
    add_header Access-Control-Expose-Headers 'X-Repo-Commit, ETag';"""


def locations(files):
    out = []
    for name in files.names():
        headers = HEADERS.format(commit=COMMIT, sha256=files.sha256[name], size=files.size(name), name=name)
        out.append(f"location = {files.target(name)} {{ alias {files.folder / name}; {headers} }}")
    return "\n  ".join(out)


class Nginx:
    def __init__(self, folder, http, ports, core=None, log="off"):
        self.folder = folder
        folder.mkdir()
        self.ports = ports
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        user = "user root; " if os.geteuid() == 0 else ""
        text = MAIN.format(user=user, folder=folder, files=limit, half=limit // 2, log=log, http=http)
        (folder / "nginx.conf").write_text(text)
        program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if not program:
            raise Trouble("nginx is not installed: nothing to compare with")
        self.process = subprocess.Popen([program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")],
                                        preexec_fn=pin(core), stderr=subprocess.DEVNULL)
        for port in ports:
            wait_for_port(port, self)

    def why(self):
        return (self.folder / "error.log").read_text()[-1000:] if (self.folder / "error.log").exists() else "no log"

    def pids(self):
        return processes_below(self.process.pid)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


def wait_for_port(port, server):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise Trouble(f"no answer on port {port}: {server.why()}")


class Upstream(Nginx):
    """A port for each of "direct", "proxy" and "ours"."""

    def __init__(self, folder, files):
        self.who = {name: free_port() for name in ("direct", "proxy", "ours")}
        listens = " ".join(f"listen 127.0.0.1:{port} reuseport;" for port in self.who.values())
        self.log = folder / "access.log"
        super().__init__(folder, f"server {{ {listens}\n  {locations(files)}\n }}", self.who.values(), log=f"{self.log} sent")

    def sent(self, who):
        """Body bytes so far, by one of the names."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return sum(int(size) for port, size in (line.split() for line in lines) if int(port) == self.who[who])


def static(folder, files, core):
    port = free_port()
    return Nginx(folder, f"server {{ listen 127.0.0.1:{port} reuseport;\n  {locations(files)}\n }}", [port], core)


def proxy(folder, upstream, core=None):
    port = free_port()
    http = f"""proxy_cache_path {folder}/cache levels=1:2 keys_zone=all:10m max_size=100g inactive=1d use_temp_path=off;
  upstream hub {{ server 127.0.0.1:{upstream.who["proxy"]}; keepalive 16; }}
  server {{ listen 127.0.0.1:{port} reuseport;
    location / {{ proxy_pass http://hub; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_cache all;
      proxy_cache_valid 200 1d; proxy_cache_lock on; proxy_cache_lock_timeout 600s; proxy_cache_lock_age 600s;
      proxy_max_temp_file_size 0; }} }}"""
    return Nginx(folder, http, [port], core)


# --- the daemon -----------------------------------------------------------------------------------------------------------

class Ours:
    """hfcached in front of upstream. Its log says as little as nginx's unless asked for more."""

    def __init__(self, folder, upstream, threads, core=None, level="warning"):
        command = Daemon(folder, f"http://127.0.0.1:{upstream.who['ours']}", storage_max_size="100G", server_threads=threads,
                         log_level=level, server_max_connections=5000)
        own = os.sched_getaffinity(0)
        if core is not None and len(CORES) > 1:
            os.sched_setaffinity(0, {CORES[core]})  # is inherited
        try:
            self.daemon = command.start()
        finally:
            os.sched_setaffinity(0, own)
        self.ports = [self.daemon.port]

    def pids(self):
        return [self.daemon.process.pid]

    def stop(self):
        self.daemon.stop()

    def rss_mb(self):
        return self.daemon.rss() / 1e6


# --- load -----------------------------------------------------------------------------------------------------------------

def build_load(folder):
    program = folder / "load"
    compiler = os.environ.get("CC", "cc").split()
    done = subprocess.run([*compiler, "-std=gnu17", "-O2", "-D_GNU_SOURCE", "-o", str(program), str(HERE / "load.c")],
                          capture_output=True, text=True)
    if done.returncode:
        raise Trouble(f"load.c does not compile:\n{done.stderr}")
    return program


class Load:
    """One run of the client against a server: what it counted, and the server's processor time meanwhile."""

    def __init__(self, program, core):
        self.program, self.core = program, core

    def run(self, server, target, *options):
        pids = server.pids()
        before = cpu_seconds(pids)
        done = subprocess.run([str(self.program), *map(str, options), str(server.ports[0]), target], capture_output=True, text=True,
                              preexec_fn=pin(self.core), timeout=300)
        cpu = cpu_seconds(pids) - before
        if done.returncode:
            raise Trouble(f"load {options} {target}: {done.stdout} {done.stderr}")
        return json.loads(done.stdout) | {"server_cpu": cpu}

    def hold(self, server, target, *options):
        """Starts it and returns it when its requests are done and its connections wait; end with .communicate()."""
        held = subprocess.Popen([str(self.program), "-w", *map(str, options), str(server.ports[0]), target], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
        for line in held.stdout:
            if line == "waiting\n":
                return held
        raise Trouble(f"load {options}: ended with {held.wait()}")


def digest_of(server, target):
    """SHA-256 of what a server sends, with another client than the one that measures."""
    import http.client
    connection = http.client.HTTPConnection("127.0.0.1", server.ports[0], timeout=120)
    connection.request("GET", target)
    answer = connection.getresponse()
    if answer.status != 200:
        raise Trouble(f"GET {target}: {answer.status} {answer.read(500)!r}")
    digest = hashlib.sha256()
    while piece := answer.read(MIB):
        digest.update(piece)
    return digest.hexdigest()


def sendfile_share(server, load, target, folder):
    """The part of the body that left by sendfile, and bytes for each call, by strace; None if it does not work here."""
    strace = shutil.which("strace")
    if not strace:
        return None
    trace = folder / "sendfile.trace"
    watch = subprocess.Popen([strace, "-f", "-o", str(trace), "-e", "trace=sendfile,sendfile64", "-p", str(server.pids()[-1])],
                             stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    counted = load.run(server, target, "-c", 1, "-n", 1)
    watch.send_signal(signal.SIGINT)
    watch.wait(20)
    sizes = [int(n) for n in re.findall(r"= (\d+)$", trace.read_text(), re.M)]
    return (sum(sizes) / counted["bytes"], sum(sizes) / len(sizes)) if sizes else None
