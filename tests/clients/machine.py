# SPDX-License-Identifier: Apache-2.0
"""A user's machine: an empty home folder, one installed client, HF_ENDPOINT and nothing else that a client reads.

Owns      the home folder; processes that end with the call that started them.
Promises  (1) no variable of the test's own surroundings reaches the client, Xet is installed and not switched off.
          (2) every call is watched by strace, native code included: it fails when anything but the daemon was connected to.
"""
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CLIENTS = {"hub2": (ROOT / ".venv-tests", "2."), "hub1": (ROOT / ".venv-hub1", "1.")}  # name -> (environment, begin of the version)
SECONDS = 90 * float(os.environ.get("HFCACHED_SLOW", "1"))
STRACE = shutil.which("strace")
# Calls that can name an address. Sending over what is connected names none.
TRACED = "connect,sendto,sendmsg,sendmmsg"
ADDRESS = re.compile(r"sa_family=AF_INET6?, sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )\"([^\"]+)\"")


class ClientError(Exception):
    """A client raised what it should not have."""


def addresses_of(trace):
    """{(host, port)} of a file that strace wrote."""
    return {(host, int(port)) for port, host in ADDRESS.findall(trace.read_text(errors="replace"))}


def can_trace():
    """Whether programs may be traced here; a container can forbid it."""
    return bool(STRACE) and subprocess.run([STRACE, "-o", "/dev/null", "true"], capture_output=True).returncode == 0


CAN_TRACE = can_trace()


class Machine:
    def __init__(self, home, client, url, token=None):
        self.home = Path(home)
        self.home.mkdir(parents=True)
        self.client = client
        self.url = url
        self.venv, _ = CLIENTS[client]
        self.calls = 0
        cache = self.home / ".cache/huggingface"
        cache.mkdir(parents=True)
        # What "hf auth login" leaves; and "hf" has looked for a newer version of itself today: it asks its registry for that.
        if token:
            (cache / "token").write_text(token)
        (cache / ".check_for_update_done").touch()

    def environment(self):
        return {"HF_ENDPOINT": self.url, "HOME": str(self.home), "PATH": f"{self.venv / 'bin'}:/usr/bin:/bin", "LANG": "C.UTF-8",
                "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, command, seconds=SECONDS, allowed=()):
        """Runs a command as the user of this machine, watched; returns the finished process."""
        self.calls += 1
        trace = self.home.with_name(f"{self.home.name}.{self.calls}.trace")
        watched = [STRACE, "--seccomp-bpf", "-f", "-qq", "-s", "0", "-o", str(trace), "-e", f"trace={TRACED}", *command]
        done = subprocess.run(watched if CAN_TRACE else command, env=self.environment(), cwd=self.home, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=seconds)
        done.addresses = addresses_of(trace) if CAN_TRACE else set()
        self.check_addresses(done.addresses, allowed)
        return done

    def check_addresses(self, addresses, allowed=()):
        own = {int(self.url.rsplit(":", 1)[1]), *allowed}
        foreign = {(host, port) for host, port in addresses if host not in ("127.0.0.1", "::1", "localhost") or port not in own}
        assert not foreign, f"the client connected to others than {self.url}: {sorted(foreign)}"

    def try_several(self, wanted, allowed=()):
        """[(name, arguments)] of calls.py, one after the other in one process; for each {"value"} or {"error", "message"}."""
        done = self.run([str(self.venv / "bin/python"), str(HERE / "calls.py"), json.dumps(wanted)], allowed=allowed)
        assert done.returncode == 0 and done.stdout.strip(), f"{wanted}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        told = json.loads(done.stdout.strip().splitlines()[-1])
        self.check_addresses({(host, int(port)) for host, port in told["addresses"]}, allowed)
        self.stderr = done.stderr
        return told["results"]

    def several(self, wanted):
        """Their values; raises ClientError with what the client raised first."""
        values = []
        for (name, arguments), result in zip(wanted, self.try_several(wanted), strict=True):
            if "error" in result:
                raise ClientError(f"{name} {arguments}: {result['message']}")
            values.append(result["value"])
        return values

    def call(self, name, **arguments):
        return self.several([(name, arguments)])[0]

    def error_of(self, name, allowed=(), **arguments):
        """The names of the classes of the exception that a call ends with; its words are in .message."""
        result, = self.try_several([(name, arguments)], allowed)
        assert "error" in result, f"{name} {arguments} raised nothing but returned {str(result)[:300]}"
        self.message = result["message"]
        return result["error"]

    def hf(self, *arguments):
        """The command line; returns the finished process."""
        return self.run([str(self.venv / "bin/hf"), *arguments])


def files_below(folder):
    """Relative path -> SHA-256 of what a command left in a folder; what the client remembers about it is left out."""
    top = Path(folder)
    found = [p for p in sorted(top.rglob("*")) if p.is_file() and ".cache" not in p.relative_to(top).parts]
    return {p.relative_to(top).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def asked(hub, *where):
    """The double's calls, without the one that every client makes for itself on its first day on a machine."""
    return [c for c in hub.calls(*where) if c["path"] != "/api/agent-harnesses"]


def truth(hub, repo, revision="main", kind="model"):
    """Relative path -> SHA-256 of everything that the double holds at a revision."""
    commit = hub.content.repo(repo, kind).find(revision)
    return {path: file.source.sha256() for path, file in commit.files.items()}
