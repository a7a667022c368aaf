# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests with real clients: those of the wire tests, and machines.

hub       as there, with a real table in acme/table
client    each installed client in turn: hub2, hub1
machine   machine(to=cache): a fresh machine with that client, whose endpoint is the daemon's (or any url)
cache     a running daemon; afterwards no client has tried Xet, and no token has reached the CDN
"""
import importlib.util
import io
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
for place in (HERE.parent / "hub", HERE.parent / "e2e", HERE):
    sys.path.insert(0, str(place))

_spec = importlib.util.spec_from_file_location("e2e_fixtures", HERE.parent / "e2e" / "conftest.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
globals().update({name: value for name, value in vars(_module).items() if not name.startswith("_")})

from facts import standard_repos  # noqa: E402
from hubdouble import LFS, HubDouble  # noqa: E402
from machine import CAN_TRACE, CLIENTS, Machine  # noqa: E402

ROWS = 1000


def real_parquet():
    """A table of ROWS rows: id 0..., text "row N", score N / 8."""
    import pyarrow
    import pyarrow.parquet
    out = io.BytesIO()
    ids = list(range(ROWS))
    table = pyarrow.table({"id": ids, "text": [f"row {n}" for n in ids], "score": [n / 8 for n in ids]})
    pyarrow.parquet.write_table(table, out)
    return out.getvalue()


def pytest_terminal_summary(terminalreporter):
    if not CAN_TRACE:
        terminalreporter.write_line("strace does not work here: connections of native code were NOT watched", red=True)


@pytest.fixture
def hub():
    with HubDouble(cache_dir=_module.GENERATED) as double:
        standard_repos(double)
        double.content.repo("acme/table", "dataset").commit({"data/train-00000-of-00001.parquet": LFS(real_parquet())})
        yield double
        assert not double.leaks(), f"a token went to the CDN: {double.leaks()}"


@pytest.fixture(params=list(CLIENTS))
def client(request):
    venv, _ = CLIENTS[request.param]
    assert (venv / "bin/python").exists(), f"{venv.name} is missing: run tests/setup"
    return request.param


@pytest.fixture
def cache(hub, start):
    daemon = start()
    yield daemon
    assert not hub.xet_calls(), f"a client tried Xet: {hub.xet_calls()[:3]}"


@pytest.fixture
def machine(folder, client, cache):
    count = iter(range(1000))

    def make(to=None, token=None):
        url = to or cache.url
        return Machine(folder / f"machine{next(count)}", client, getattr(url, "url", url), token)
    return make
