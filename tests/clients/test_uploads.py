# SPDX-License-Identifier: Apache-2.0
"""Writes of real clients through the daemon, and what others read right afterwards (hub-protocol 8; W01, W02, W06, W08)."""
import json

import pytest

from facts import commit_of
from machine import HERE, truth

WITHOUT_XET = {"HF_HUB_DISABLE_XET": "1"}


def write(user, name, environment=WITHOUT_XET.items(), **arguments):
    done = user.run([str(user.venv / "bin/python"), str(HERE / "uploads.py"), name, json.dumps(arguments)], environment=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])["value"]


@pytest.fixture
def writer(machine, people):
    return machine(token=people.writer)


@pytest.fixture
def reader(machine):
    return machine()


def read(reader, repo, **more):
    return reader.call("snapshot", repo_id=repo, **more)["files"]


def test_W02_what_is_written_is_read_by_others_at_once(hub, cache, writer, reader):
    """One story, each chapter read by somebody else without a pause."""
    made = write(writer, "publish", repo_id="acme/story")
    assert made["url"].startswith(cache.url) and made["last"]["url"] == f"{cache.url}/acme/story/commit/{commit_of(hub, 'acme/story').id}"
    assert read(reader, "acme/story") == truth(hub, "acme/story")
    assert {"config.json", "deep/ünï.txt", "model.safetensors", "buffer.bin"} <= set(truth(hub, "acme/story"))
    write(writer, "edit", repo_id="acme/story")
    files = read(reader, "acme/story")
    assert files == truth(hub, "acme/story") and "added.txt" in files and "config.json" not in files and "deep/small.bin" not in files
    told = write(writer, "refs", repo_id="acme/story")
    assert told["pull"].startswith(cache.url)
    for revision in ("side", "v1.0", f"refs/pr/{told['number']}"):
        assert read(reader, "acme/story", revision=revision) == truth(hub, "acme/story", revision)
    assert write(writer, "squash", repo_id="acme/story") == commit_of(hub, "acme/story").id
    assert read(reader, "acme/story") == truth(hub, "acme/story")
    assert write(writer, "move", from_id="acme/story", to_id="acme/tale") == "acme/tale"
    assert read(reader, "acme/tale") == truth(hub, "acme/tale")
    assert write(writer, "hide", repo_id="acme/tale") is True
    assert "RepositoryNotFoundError" in reader.error_of("info", repo_id="acme/tale")
    assert write(writer, "delete", repo_id="acme/tale") is False
    assert not hub.xet_calls()
    uploads = [c for c in hub.calls("cdn") if c["method"] == "PUT"]
    assert len(uploads) == 3 and not any(c["authorization"] for c in uploads)


def test_W06_uploads_in_parts_and_from_a_buffer(hub, cache, writer, reader):
    hub.options.multipart_over, hub.options.chunk_size = 1_000_000, 700_000
    write(writer, "publish", repo_id="acme/parts", kind="dataset")
    assert read(reader, "acme/parts", repo_type="dataset") == truth(hub, "acme/parts", kind="dataset")
    parts = [c for c in hub.calls("cdn", "partNumber") if c["status"] == 200]
    assert len(parts) == 2 * 3, "two files in three parts each"
    # with Xet installed and not switched off
    write(writer, "buffer", environment=(), repo_id="acme/pub")
    assert read(reader, "acme/pub") == truth(hub, "acme/pub")
    assert not hub.xet_calls()
    assert hub.content.repo("acme/pub").head.files["by-buffer.bin"].size == 2 * 256 * 6000


@pytest.mark.slow
def test_W06_with_xet_installed_uploads_go_by_xet_and_through_us(hub, cas, start, machine, people):
    """No variable but HF_ENDPOINT: these clients ask nobody whether they shall use Xet; what they send goes to the storage through us."""
    cache = start()
    writer, reader = machine(to=cache, token=people.writer), machine(to=cache)
    write(writer, "by_xet", environment=(), repo_id="acme/pub", size=3_000_000)
    done = writer.hf("upload", "acme/pub", "random.bin", "by-hand.bin", "--create-pr")
    assert done.returncode == 0, done.stderr[-2000:]
    write(writer, "by_xet", environment=(), repo_id="acme/table", size=200_000, repo_type="dataset")
    batches = hub.calls("hub", "/objects/batch")
    if writer.client == "hub0":   # asks whether the repo has Xet
        assert batches and not cas.calls
    else:
        assert {3_000_000, 300_000, 200_000} <= {len(file) for file in cas.files} and not batches
        assert {authorization[:11] for _, _, authorization in cas.calls} == {"Bearer xet_"}, "a token of the Hub's went to the storage"
    assert read(reader, "acme/pub") == truth(hub, "acme/pub") and {"deep/random.bin", "bytes.bin"} <= set(truth(hub, "acme/pub"))
    assert read(reader, "acme/table", repo_type="dataset") == truth(hub, "acme/table", kind="dataset")
    assert not [n for n in cache.log_lines() if "xet_" in str(n)]
