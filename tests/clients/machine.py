# SPDX-License-Identifier: Apache-2.0
"""A user's machine: an empty home folder, one installed client, HF_ENDPOINT and nothing else that a client reads.

  Machine(folder / "m", "hub2", url).call("download", repo_id=..., filename=...)     a Python client, by calls.py
  Machine(folder / "m", None, url).run(["node", "script.mjs"])                        any program

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
from collections import namedtuple
from pathlib import Path

from phases import asked, file_bodies  # noqa: F401

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
Client = namedtuple("Client", "venv version")    # its environment, the begin of huggingface_hub's version in it
CLIENTS = {"hub2": Client(ROOT / ".venv-tests", "2."), "hub1": Client(ROOT / ".venv-hub1", "1."),
           "hub0": Client(ROOT / ".venv-hub0", "0.36.")}
SECONDS = 90 * float(os.environ.get("HFCACHED_SLOW", "1"))
STRACE = shutil.which("strace")
# Calls that can name an address. Sending over what is connected names none.
TRACED = "connect,sendto,sendmsg,sendmmsg"
ADDRESS = re.compile(r"sa_family=AF_INET6?, sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )\"([^\"]+)\"")


def version_of(package, client="hub2"):
    """The version of a Python package that is installed in a client's environment."""
    name = package.replace("-", "_").lower()
    for place in CLIENTS[client].venv.glob("lib/python3*/site-packages/*.dist-info"):
        found, _, version = place.name.removesuffix(".dist-info").partition("-")
        if found.replace("-", "_").lower() == name:
            return version
    raise FileNotFoundError(f"{package} is not installed for {client}: run tests/setup")


class ClientError(Exception):
    """A client raised what it should not have."""


def addresses_of(trace):
    """{(host, port)} of a file that strace wrote."""
    return {(host, int(port)) for port, host in ADDRESS.findall(trace.read_text(errors="replace"))}


def can_trace():
    """Whether programs may be traced here; a container can forbid it."""
    return bool(STRACE) and subprocess.run([STRACE, "-o", "/dev/null", "true"], capture_output=True).returncode == 0


def can_name():
    """Whether a program may be given names of hosts of its own."""
    return subprocess.run(["unshare", "-m", "mount", "--bind", "/etc/hosts", "/etc/hosts"], capture_output=True).returncode == 0


CAN_TRACE = can_trace()
# Mounts files of names over the system's, for one program and those it starts.
NAMED = ["unshare", "-m", "sh", "-c",
         'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/nsswitch.conf && shift 2 && exec "$@"', "sh"]


class Machine:
    def __init__(self, home, client, url, token=None, names=None):
        """names: what this machine can look up besides localhost, all of it this host; without it, whatever the system can."""
        self.home = Path(home)
        self.home.mkdir(parents=True)
        self.client = client
        self.url = url
        self.venv = CLIENTS[client].venv if client else None
        self.calls = 0
        self.names = names
        self.in_vain = set()    # names that the client may look up, though this machine does not know them
        cache = self.home / ".cache/huggingface"
        cache.mkdir(parents=True)
        # What "hf auth login" leaves; and "hf" has looked for a newer version of itself today: it asks its registry for that.
        if token:
            (cache / "token").write_text(token)
        (cache / ".check_for_update_done").touch()

    def environment(self):
        path = f"{self.venv / 'bin'}:/usr/bin:/bin" if self.venv else "/usr/bin:/bin"
        return {"HF_ENDPOINT": self.url, "HOME": str(self.home), "PATH": path, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, command, seconds=SECONDS, allowed=(), environment=()):
        """Runs a command as the user of this machine, watched; returns the finished process. What else must be in its environment
        is no variable of a client."""
        self.calls += 1
        trace = self.home.with_name(f"{self.home.name}.{self.calls}.trace")
        watched = [STRACE, "--seccomp-bpf", "-f", "-qq", "-s", "0", "-o", str(trace), "-e", f"trace={TRACED}", *command]
        if not CAN_TRACE:
            watched = command
        done = subprocess.run([*self.naming(), *watched], env=self.environment() | dict(environment), cwd=self.home,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)
        done.addresses = addresses_of(trace) if CAN_TRACE else set()
        self.check_addresses(done.addresses, allowed)
        return done

    def naming(self):
        if self.names is None:
            return []
        hosts, switch = (self.home.with_name(f"{self.home.name}.{name}") for name in ("hosts", "nsswitch"))
        hosts.write_text("127.0.0.1 localhost " + " ".join(self.names) + "\n")
        switch.write_text("hosts: files\n")
        return [*NAMED, str(hosts), str(switch)]

    def check_addresses(self, addresses, allowed=()):
        own = {int(self.url.rsplit(":", 1)[1]), *allowed}
        here = {"127.0.0.1", "::1", "localhost", *(self.names or ())}
        foreign = {(host, port) for host, port in addresses if host not in here or port not in own}
        assert not foreign, f"the client connected to others than {self.url}: {sorted(foreign)}"

    def try_several(self, wanted, allowed=(), script="calls.py"):
        """[(name, arguments)] of a script, one after the other in one process; for each {"value"} or {"error", "message"}."""
        done = self.run([str(self.venv / "bin/python"), str(HERE / script), json.dumps(wanted)], allowed=allowed)
        assert done.returncode == 0 and done.stdout.strip(), f"{wanted}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        told = json.loads(done.stdout.strip().splitlines()[-1])
        self.check_addresses({(host, int(port)) for host, port in told["addresses"] if host not in self.in_vain}, allowed)
        self.stderr = done.stderr
        return told["results"]

    def several(self, wanted, script="calls.py"):
        """Their values; raises ClientError with what the client raised first."""
        values = []
        for (name, arguments), result in zip(wanted, self.try_several(wanted, script=script), strict=True):
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


def truth(hub, repo, revision="main", kind="model"):
    """Relative path -> SHA-256 of everything that the double holds at a revision."""
    commit = hub.content.repo(repo, kind).find(revision)
    return {path: file.source.sha256() for path, file in commit.files.items()}
