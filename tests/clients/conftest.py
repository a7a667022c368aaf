# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests with real clients: those of the wire tests, and machines.

hub       as there, with a real table in acme/table
cas       storage of Xet that takes uploads; its calls, and what was put together there
client    each installed generation of huggingface_hub in turn: hub2, hub1, hub0
machine   machine(to=cache): a fresh machine with that client, whose endpoint is the daemon's (or any url)
phases    phases(client, version, what): cold, warm, dead and so on, with a daemon of its own (phases.py)
cache     a running daemon; afterwards no client has tried Xet, and no token has reached the CDN
"""
import hashlib
import importlib.util
import io
import json
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

from cas import Cas  # noqa: E402
from facts import standard_repos  # noqa: E402
from hubdouble import LFS, HubDouble  # noqa: E402
from machine import CAN_TRACE, CLIENTS, Machine  # noqa: E402
from phases import Phases, write_record  # noqa: E402

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


def add_weights(content):
    """acme/weights: real safetensors files, one model in one file (single/) and one in two with an index."""
    import numpy
    from safetensors.numpy import save
    words = numpy.arange(512 * 700, dtype=numpy.float32).reshape(512, 700)
    many = {f"layer.{n}.bias": numpy.full((8,), n, numpy.float16) for n in range(1500)}    # a header over 100 kB
    first, second = save({"words": words} | many), save({"head": words[:3].copy(), "scale": numpy.ones((1,), numpy.int64)})
    index = {"metadata": {"total_size": words.nbytes},
             "weight_map": {name: "model-00001-of-00002.safetensors" for name in ["words", *many]}
             | {name: "model-00002-of-00002.safetensors" for name in ("head", "scale")}}
    content.add_repo("model", "acme/shards").commit({
        "config.json": "{}\n", "model.safetensors.index.json": json.dumps(index), "model-00001-of-00002.safetensors": LFS(first),
        "model-00002-of-00002.safetensors": LFS(second)})
    content.add_repo("model", "acme/single").commit({"config.json": "{}\n", "model.safetensors": LFS(first)})


def wide_table():
    """Ten row groups of ten rows, 3 MB: id 0..., text of 32,000 letters; the double's viewer tells of these columns and 100 rows."""
    import random
    import pyarrow
    import pyarrow.parquet
    out, letters = io.BytesIO(), random.Random(7)
    table = pyarrow.table({"id": range(100), "text": [letters.randbytes(16_000).hex() for _ in range(100)]})
    pyarrow.parquet.write_table(table, out, row_group_size=10, compression="none", use_dictionary=False)
    return out.getvalue()


CSV_CARD = """---
configs:
- config_name: default
  data_files:
  - {split: train, path: csv/train.csv}
  - {split: test, path: csv/test.csv}
---
"""


def add_rows(content):
    """Datasets of one format each: acme/rows of parquet, with its converted branch; acme/lines of csv; acme/records of json."""
    table, lines = wide_table(), [f"{n},line {n}\n" for n in range(300)]
    repo = content.add_repo("dataset", "acme/rows")
    repo.commit({"README.md": "# Rows\n", "data/train-00000-of-00001.parquet": LFS(table)})
    repo.commit({"default/train/0000.parquet": LFS(table)}, branch="refs/convert/parquet", message="Convert to parquet")
    content.add_repo("dataset", "acme/lines").commit({
        "README.md": CSV_CARD, "csv/train.csv": "number,text\n" + "".join(lines), "csv/test.csv": "number,text\n" + "".join(lines[:30])})
    content.add_repo("dataset", "acme/records").commit({
        "data/rows.jsonl": "".join(json.dumps({"number": n, "text": f"line {n}"}) + "\n" for n in range(200))})


def pytest_terminal_summary(terminalreporter):
    if not CAN_TRACE:
        terminalreporter.write_line("strace does not work here: connections of native code were NOT watched", red=True)


def pytest_sessionfinish():
    write_record()


@pytest.fixture
def hub():
    with HubDouble(cache_dir=_module.GENERATED) as double:
        standard_repos(double)
        double.content.repo("acme/table", "dataset").commit({"data/train-00000-of-00001.parquet": LFS(real_parquet())})
        yield double
        assert not double.leaks(), f"a token went to the CDN: {double.leaks()}"


@pytest.fixture
def cas(hub):
    storage = Cas(hub)
    hub.cas_url = storage.url
    yield storage
    storage.close()


@pytest.fixture(params=list(CLIENTS))
def client(request):
    venv = CLIENTS[request.param].venv
    assert (venv / "bin/python").exists(), f"{venv.name} is missing: run tests/setup"
    return request.param


@pytest.fixture
def cache(hub, start):
    daemon = start()
    yield daemon
    assert not hub.xet_calls(), f"a client tried Xet: {hub.xet_calls()[:3]}"


@pytest.fixture
def machine(request, folder, client):
    count = iter(range(1000))

    def make(to=None, token=None, names=None):
        url = to or request.getfixturevalue("cache").url
        return Machine(folder / f"machine{next(count)}", client, getattr(url, "url", url), token, names)
    return make


@pytest.fixture
def phases(hub, start):
    found = Phases(hub, start)
    yield found
    found.close()
