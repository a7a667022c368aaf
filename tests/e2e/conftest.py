# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the wire tests: a Hub double, people with tokens of this test only, daemons that are checked when they end.

hub       a double with the small standard repositories (facts.py tells what is in them)
people    alice may read the gated and the private repository, bob nothing, writer all of acme; nobody: a token the Hub does not know
start     start(**options): a running daemon in front of hub; as many as wanted
cache     one with default options
folder    a folder of this test, removed unless the test failed
"""
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).resolve().parent
for place in (HERE, HERE.parent / "e2e", HERE.parent / "hub"):
    sys.path.insert(0, str(place))

from facts import standard_repos  # noqa: E402
from harness import BINARY, SLOW, Daemon, fresh_token  # noqa: E402
from hubdouble import HubDouble  # noqa: E402

TEST_SECONDS = int(os.environ.get("HFCACHED_TEST_SECONDS", "150"))
GENERATED = os.environ.get("HUBDOUBLE_CACHE", os.path.join(tempfile.gettempdir(), "hubdouble-cache"))


def pytest_configure(config):
    config.addinivalue_line("markers", "seconds(n): how long the test may take")
    config.addinivalue_line("markers", "slow: left out of the quick run")


def pytest_sessionstart(session):
    if not BINARY.exists():
        pytest.exit(f"there is no daemon at {BINARY}: build it, or say where it is with HFCACHED", returncode=4)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        item.has_failed = True
    return report


@pytest.fixture(autouse=True)
def deadline(request):
    """No test hangs."""
    def ring(*_):
        raise TimeoutError("the test took too long")
    marker = request.node.get_closest_marker("seconds")
    seconds = (marker.args[0] if marker else TEST_SECONDS) * SLOW
    old = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


@pytest.fixture
def folder(request):
    path = Path(tempfile.mkdtemp(prefix=f"hfcached-{request.node.name[:40].replace('/', '_').replace('[', '-').rstrip(']')}-"))
    yield path
    if getattr(request.node, "has_failed", False) and not os.environ.get("HFCACHED_KEEP_NOTHING"):
        print(f"kept: {path}")
        for name in sorted(path.rglob("stderr.*")):
            print(f"--- {name}\n" + name.read_text(errors="replace")[-6000:])
    else:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def hub():
    with HubDouble(cache_dir=GENERATED) as double:
        standard_repos(double)
        yield double
        assert not double.leaks(), f"a token went to the CDN: {double.leaks()}"


@pytest.fixture
def people(hub):
    names = SimpleNamespace(alice=fresh_token(), bob=fresh_token(), writer=fresh_token(), nobody=fresh_token())
    hub.content.add_token(names.alice, "alice", {"acme/gated", "acme/private"})
    hub.content.add_token(names.bob, "bob")
    hub.content.add_token(names.writer, "acme", {"acme/gated", "acme/private"}, role="write")
    return names


@pytest.fixture
def start(request, hub, people, folder):
    daemons = []

    def make(to=hub, is_started=True, **options):
        daemon = Daemon(folder / f"daemon{len(daemons)}", to, canaries=vars(people).values(), **options)
        daemons.append(daemon)
        return daemon.start() if is_started else daemon
    yield make
    problems = []
    for daemon in daemons:
        try:
            daemon.finish()
        except AssertionError as problem:
            problems.append(str(problem))
        finally:
            if daemon.is_alive():
                daemon.kill9()
    if problems:
        request.node.has_failed = True
    assert not problems, "\n".join(problems)


@pytest.fixture
def cache(start):
    return start()
