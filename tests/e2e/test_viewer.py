# SPDX-License-Identifier: Apache-2.0
"""The dataset viewer beside the Hub (hub-protocol 1.7, A10), and redirects of forwarded reads back to the Hub."""

import pytest

from facts import IGNORANCE
from harness import within
from wire import fields

DATA = "acme/table"
PARQUET = {"default/train/0000.parquet": b"PAR1" + bytes(range(256)) * 64 + b"PAR1", "default/test/0000.parquet": b"PAR1" * 300}
VIEWER = "datasets-server.localhost"


@pytest.fixture
def table(hub):
    """A dataset whose conversion has files."""
    repo = hub.content.add_repo("dataset", DATA)
    repo.commit({"data.csv": b"id,text\n1,a\n"})
    repo.commit(PARQUET, branch="refs/convert/parquet")
    return repo


@pytest.fixture
def viewing(start, hub, table):
    return start(hub_viewer_url=hub.viewer_url)


def host_of(cache):
    return f"{VIEWER}:{cache.port}"


def test_A10_files_come_through_the_cache(hub, viewing):
    answer = viewing.get(f"/parquet?dataset={DATA}", host=host_of(viewing))
    assert answer.status == 200 and answer["X-Revision"] == hub.content.repo(DATA, "dataset").head.id, answer
    files = answer.json()["parquet_files"]
    assert len(files) == len(PARQUET)
    for file in files:
        assert file["url"].startswith(f"http://localhost:{viewing.port}/datasets/{DATA}/resolve/"), file["url"]
        target = file["url"][len(f"http://localhost:{viewing.port}"):]
        hub.reset_counters()
        data = viewing.get(target, host=f"localhost:{viewing.port}")
        assert data.status == 200 and data.body == PARQUET[f"{file['config']}/{file['split']}/{file['filename']}"]
        again = viewing.get(target, host=f"localhost:{viewing.port}")
        assert again.body == data.body and len(hub.calls("hub", "/resolve/", "GET")) == 1


def test_A10_nothing_else_is_changed(hub, viewing):
    mine = viewing.get(f"/info?dataset={DATA}", host=host_of(viewing))
    ours = f"http://localhost:{viewing.port}"
    assert mine.status == 200 and ours.encode() not in mine.body, mine
    assert f"https://huggingface.co/datasets/{DATA}".encode() in mine.body
    assert viewing.head(f"/info?dataset={DATA}", host=host_of(viewing))["Content-Length"] == mine["Content-Length"]


def test_A10_never_mixed_with_hub_routes(hub, viewing):
    hub.reset_counters()
    for target in ("/parquet", "/info", "/splits?dataset=no/such", "/api/models/acme/pub", "/acme/pub/resolve/main/config.json"):
        viewing.get(target, host=host_of(viewing))
    assert len(hub.calls("viewer")) == 5 and not hub.calls("hub")
    assert viewing.get("/-/status", host=host_of(viewing)).status == 404
    assert viewing.get("/-/healthz", host=host_of(viewing)).status == 404
    answer = viewing.get(f"/parquet?dataset={DATA}")   # a Hub path without the host
    assert answer.status == 404 and len(hub.calls("viewer")) == 5


@pytest.mark.parametrize("target", ["/info?dataset=acme/private-data", "/rows?dataset=x", "/info", "/is-valid?dataset=no/such"])
def test_A10_refusals_in_its_own_words(hub, viewing, people, target):
    hub.content.add_repo("dataset", "acme/private-data", private=True).commit({"a.csv": b"a"})
    with viewing.connect() as conn, type(conn)((*hub.viewer_url.rsplit("/", 1)[-1].split(":")[:1], int(hub.viewer_url.rsplit(":", 1)[-1]))) as direct:
        for token in (None, people.bob):
            true = direct.ask("GET", target, fields(token))
            got = viewing.get(target, token, host=host_of(viewing))
            assert (got.status, got["X-Error-Code"], got.body) == (true.status, true["X-Error-Code"], true.body), got


def test_A10_it_gets_the_token_and_nothing_is_shared(hub, viewing, people):
    hub.content.add_repo("dataset", "acme/private", private=True)
    repo = hub.content.repo("acme/private", "dataset")
    repo.commit({"a.csv": b"a"})
    repo.commit(PARQUET, branch="refs/convert/parquet")
    target = "/parquet?dataset=acme/private"
    assert viewing.get(target, people.alice, host=host_of(viewing)).status == 200
    assert viewing.get(target, people.bob, host=host_of(viewing)).status == 404
    assert viewing.get(target, host=host_of(viewing)).status == 401


def test_A10_away_is_said_fast(hub, viewing):
    assert viewing.get(f"/splits?dataset={DATA}", host=host_of(viewing)).status == 200
    hub.kill()
    for _ in range(5):
        answer = within(1, lambda: viewing.get(f"/info?dataset={DATA}", host=host_of(viewing)))
        assert answer.status in IGNORANCE and answer["Retry-After"], answer
    viewing.restart(hub_offline="yes")
    for target in (f"/info?dataset={DATA}", "/rows?dataset=x"):
        assert within(0.1, lambda: viewing.get(target, host=host_of(viewing))).status == 503


def test_A10_without_one_it_is_not_there(hub, cache):
    answer = cache.get(f"/info?dataset={DATA}", host=host_of(cache))
    assert answer.status == 404 and "viewer" in answer.json()["error"], answer
    assert not hub.calls()


def test_A10_a_host_that_is_served_has_a_viewer(hub, start, table):
    cache = start(is_started=False, hub_viewer_url=hub.viewer_url, server_hosts="cache.lab")
    cache.host = "cache.lab"
    cache.start()
    assert cache.get(f"/info?dataset={DATA}", host="datasets-server.cache.lab").status == 200
    assert cache.get(f"/info?dataset={DATA}", host="datasets-server.evil.lab").status == 421


def test_redirects_of_forwarded_reads_come_back_to_us(hub, cache, table):
    hub.rule("hub", path="/api/datasets/acme/table/parquet/default/train/0.parquet", times=2,
             redirect_to=f"{hub.url}/datasets/{DATA}/resolve/refs%2Fconvert%2Fparquet/default/train/0000.parquet")
    for _ in range(2):
        answer = cache.get(f"/api/datasets/{DATA}/parquet/default/train/0.parquet")
        assert answer.status == 302, answer
        target = answer["Location"][len(cache.url):]
        assert answer["Location"].startswith(cache.url + "/datasets/"), answer
        assert cache.get(target).body == PARQUET["default/train/0000.parquet"]
    assert len(hub.calls("hub", "/resolve/", "GET")) == 1, "it was not kept"


def test_redirects_of_forwarded_reads_to_storage_are_followed(hub, cache):
    hub.rule("hub", path="/api/datasets/acme/table/elsewhere", redirect_to=f"{hub.cdn_url}/somewhere")
    hub.rule("cdn", path="/somewhere", body=b"stored")
    answer = cache.get("/api/datasets/acme/table/elsewhere")
    assert answer.status == 200 and answer.body == b"stored"
