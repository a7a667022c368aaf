# SPDX-License-Identifier: Apache-2.0
"""Clients that stand on huggingface_hub or read plain addresses: datasets, pandas, polars, pyarrow, duckdb; in every phase."""
import io
import json

import pytest

from conftest import add_rows
from digest import digest_of
from facts import bytes_of, commit_of
from machine import can_name, version_of

REPO, LINES, RECORDS = "acme/rows", "acme/lines", "acme/records"
PARQUET = "data/train-00000-of-00001.parquet"
CONVERTED = "default/train/0000.parquet"
CAN_NAME = can_name()
# What datasets looks up besides its endpoint: a counter of downloads and, by its endpoint's name, the viewer. Neither is needed.
IN_VAIN = {"s3.amazonaws.com", "datasets-server.localhost"}
pytestmark = pytest.mark.parametrize("client", ["hub2"])


@pytest.fixture
def hub(hub):
    add_rows(hub.content)
    return hub


@pytest.fixture
def rows(hub):
    """What each file holds, read without any client of the Hub: name -> list of dicts."""
    import pyarrow.csv
    import pyarrow.parquet

    def whole(repo, path):
        return io.BytesIO(bytes_of(hub, path, repo, kind="dataset"))
    return {"parquet": pyarrow.parquet.read_table(whole(REPO, PARQUET)).to_pylist(),
            "train": pyarrow.csv.read_csv(whole(LINES, "csv/train.csv")).to_pylist(),
            "test": pyarrow.csv.read_csv(whole(LINES, "csv/test.csv")).to_pylist(),
            "json": [json.loads(line) for line in whole(RECORDS, "data/rows.jsonl")]}


def in_every_phase(phases, machine, client, what, calls, is_pinned=False, names=None, **options):
    """calls(url) -> [(name of data.py, arguments, what must come)]"""
    for phase in phases(client, version_of(client), what, is_pinned, **options):
        wanted = calls(phase.url)
        url = phase.url if names is None else phase.url.replace("127.0.0.1", "localhost")
        user = machine(url, names=names)
        user.in_vain = IN_VAIN if names is not None else set()
        found = user.several([(name, arguments) for name, arguments, _ in wanted], script="data.py")
        for (name, arguments, want), value in zip(wanted, found, strict=True):
            assert value == want, f"{phase.name}: {name} {arguments}"


@pytest.fixture(params=["viewer", "no viewer"])
def viewer(request, hub):
    """datasets looks for the dataset viewer at datasets-server.HOST of its endpoint: where that name exists and where it does not.
    Arguments of in_every_phase()."""
    if not CAN_NAME:
        pytest.skip("programs may not be given host names of their own here")
    if request.param == "viewer":
        return {"names": ["datasets-server.localhost"], "hub_viewer_url": hub.viewer_url}
    return {"names": []}


def whole(hub, rows, is_pinned=False, **how):
    """[(name of data.py, arguments, what must come)] of each format."""
    want = {REPO: {"train": digest_of(rows["parquet"])}, RECORDS: {"train": digest_of(rows["json"])},
            LINES: {"train": digest_of(rows["train"]), "test": digest_of(rows["test"])}}
    return [("dataset", {"path": repo} | how | ({"revision": commit_of(hub, repo, kind="dataset").id} if is_pinned else {}), each)
            for repo, each in want.items()]


@pytest.mark.parametrize("is_pinned", [False, True])
def test_datasets_whole(machine, hub, phases, rows, viewer, is_pinned):
    what = "load_dataset: parquet, csv, json" + (" at a commit" if is_pinned else "")
    in_every_phase(phases, machine, "datasets", what, lambda _: whole(hub, rows, is_pinned), is_pinned, **viewer)


def test_datasets_streamed(machine, hub, phases, rows, viewer):
    in_every_phase(phases, machine, "datasets", "load_dataset, streaming: parquet, csv, json",
                   lambda _: whole(hub, rows, streaming=True), **viewer)


def test_datasets_converted(machine, hub, phases, rows, viewer):
    """The branch that the Hub converts a dataset into."""
    def calls(_):
        want = {"train": digest_of(rows["parquet"])}
        place = f"hf://datasets/{REPO}@refs%2Fconvert%2Fparquet/default/train/*.parquet"
        return [("dataset", {"path": REPO, "revision": "refs/convert/parquet"}, want),
                ("dataset", {"path": "parquet", "data_files": {"train": place}}, want),
                ("dataset", {"path": "parquet", "data_files": {"train": place}, "streaming": True}, want)]
    in_every_phase(phases, machine, "datasets", "load_dataset of refs/convert/parquet", calls, **viewer)


def test_pandas(machine, hub, phases, rows):
    commit = commit_of(hub, LINES, kind="dataset").id

    def calls(url):
        plain = f"{url}/datasets/{REPO}/resolve/main"
        return [("pandas_read", {"how": "parquet", "path": f"hf://datasets/{REPO}/{PARQUET}"}, digest_of(rows["parquet"])),
                ("pandas_read", {"how": "csv", "path": f"hf://datasets/{LINES}@{commit}/csv/train.csv"}, digest_of(rows["train"])),
                ("pandas_read", {"how": "json", "path": f"hf://datasets/{RECORDS}/data/rows.jsonl", "lines": True}, digest_of(rows["json"])),
                ("pandas_read", {"how": "csv", "path": f"{url}/datasets/{LINES}/resolve/main/csv/test.csv"}, digest_of(rows["test"])),
                ("pandas_read", {"how": "parquet", "path": f"{plain}/{PARQUET}"}, digest_of(rows["parquet"]))]
    in_every_phase(phases, machine, "pandas", "read_parquet, read_csv, read_json: hf:// and plain URLs", calls)


def test_pyarrow(machine, hub, phases, rows):
    """Two row groups of ten, two columns of three: by ranges."""
    want = digest_of([{"id": row["id"], "text": row["text"]} for row in rows["parquet"][20:30] + rows["parquet"][90:]])
    what = {"groups": [2, 9], "columns": ["id", "text"]}

    def calls(url):
        return [("pyarrow_groups", {"path": f"datasets/{REPO}/{PARQUET}"} | what, want),
                ("pyarrow_groups", {"path": f"datasets/{REPO}@refs%2Fconvert%2Fparquet/{CONVERTED}"} | what, want),
                ("pyarrow_url", {"url": f"{url}/datasets/{REPO}/resolve/main/{PARQUET}"} | what, want)]
    in_every_phase(phases, machine, "pyarrow", "row groups of parquet by range: HfFileSystem and plain URLs", calls)


def test_polars(machine, hub, phases, rows):
    def calls(url):
        plain = f"{url}/datasets/{REPO}/resolve/main"
        want = digest_of([{"id": row["id"], "text": row["text"]} for row in rows["parquet"][95:]])
        return [("polars_scan", {"url": f"{plain}/{PARQUET}", "least": 95}, want),
                ("polars_read", {"how": "parquet", "url": f"{plain}/{PARQUET}"}, digest_of(rows["parquet"])),
                ("polars_read", {"how": "csv", "url": f"{url}/datasets/{LINES}/resolve/main/csv/train.csv"}, digest_of(rows["train"]))]
    in_every_phase(phases, machine, "polars", "scan_parquet, read_parquet, read_csv: plain URLs", calls)


def test_duckdb(machine, hub, phases, rows):
    def calls(url):
        plain = f"{url}/datasets/{REPO}/resolve/main"
        table = rows["parquet"]
        texts = [[row["text"][:40]] for row in table[70:73]]
        return [("duckdb_query", {"query": f"SELECT count(*), sum(id), sum(length(text)) FROM read_parquet('{plain}/{PARQUET}')"},
                 [[len(table), sum(row["id"] for row in table), sum(len(row["text"]) for row in table)]]),
                ("duckdb_query", {"query": f"SELECT text[:40] FROM '{plain}/{PARQUET}' WHERE id BETWEEN 70 AND 72 ORDER BY id"}, texts),
                ("duckdb_query", {"query": f"SELECT count(*), sum(number) FROM read_csv('{url}/datasets/{LINES}/resolve/main/csv/train.csv')"},
                 [[300, sum(range(300))]])]
    in_every_phase(phases, machine, "duckdb", "read_parquet, read_csv: plain URLs", calls)
