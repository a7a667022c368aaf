# SPDX-License-Identifier: Apache-2.0
"""Fixtures for real clients of inference, on machines as those of tests/clients: fresh, watched, nothing set but an address.

python    python(client, [(name, arguments)...]): values of infercalls.py, of "hub2", "hub1" or "hub0"
node      node([(name, arguments)...]): values of ../node/calls.mjs
ages      for age in ages(): "live", then "kept" (upstream and the Hub refuse every connection), then "restarted"; one daemon, whose
          url is in cache
curl      curl(arguments...): the finished process
"""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
for place in (HERE.parents[1] / "clients", HERE):
    if str(place) not in sys.path:
        sys.path.append(str(place))

from machine import CAN_TRACE, ClientError, Machine  # noqa: E402

NODE, NODE_FOLDER = shutil.which("node"), HERE.parent / "node"


def pytest_terminal_summary(terminalreporter):
    if not CAN_TRACE:
        terminalreporter.write_line("strace does not work here: connections of native code were NOT watched", red=True)


@pytest.fixture
def count():
    return iter(range(1000))


@pytest.fixture
def machines(folder, count, request):
    """machine(client): a fresh one, for the daemon unless told otherwise."""
    def make(client, to=None):
        return Machine(folder / f"machine{next(count)}", client, (to or request.getfixturevalue("cache")).url)
    return make


@pytest.fixture
def python(machines):
    def run(client, wanted, to=None, is_tried=False):
        user = machines(client, to)
        return (user.try_several if is_tried else user.several)(wanted, script=str(HERE / "infercalls.py"))
    return run


@pytest.fixture
def node(machines):
    assert NODE and (NODE_FOLDER / "node_modules").is_dir(), "the JavaScript clients are missing: run tests/setup"

    def run(wanted, to=None, is_tried=False):
        user = machines(None, to)
        done = user.run([NODE, str(NODE_FOLDER / "calls.mjs"), json.dumps(wanted)])
        assert done.returncode == 0, f"{wanted}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        results = json.loads(done.stdout.strip().splitlines()[-1])
        if is_tried:
            return results
        for (name, arguments), result in zip(wanted, results, strict=True):
            if "error" in result:
                raise ClientError(f"{name} {arguments}: {result['error']}: {result['message']}")
        return [result["value"] for result in results]
    return run


@pytest.fixture
def curl(folder):
    def run(*arguments, ok=True):
        done = subprocess.run(["curl", "-sS", "-q", "--noproxy", "*", *arguments], cwd=folder, capture_output=True, timeout=60,
                              env={"PATH": "/usr/bin:/bin", "HOME": str(folder)})
        assert not ok or done.returncode == 0, f"curl {arguments}: {done.returncode} {done.stderr.decode()}"
        return done
    return run


@pytest.fixture
def ages(cache, upstream, hub):
    def run():
        yield "live"
        upstream.kill()
        hub.kill()
        upstream.reset_counters()
        yield "kept"
        cache.restart()
        yield "restarted"
        assert not upstream.calls()
    return run
