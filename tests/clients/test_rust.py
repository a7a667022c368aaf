# SPDX-License-Identifier: Apache-2.0
"""The Rust clients: hf-hub 0.x, blocking and in parallel pieces, and hf-hub 1.x; in every phase."""
import hashlib
import json
import re
from pathlib import Path

import pytest

from facts import bytes_of, commit_of, file_of
from hubdouble import LFS, generated
from machine import ROOT, Machine

MIB = 1 << 20
REPO = "acme/rust"
BINARIES = ROOT / ".cache/rust/bin"


def version_of(client):
    """As it was locked."""
    versions = re.findall(r'name = "hf-hub"\nversion = "([^"]+)"', (Path(__file__).parent / "rust/Cargo.lock.in").read_text())
    found, = [v for v in versions if v.startswith(client.removeprefix("hub"))]
    return found


@pytest.fixture
def hub(hub):
    repo = hub.content.add_repo("model", REPO)
    attributes = "*.bin filter=lfs diff=lfs merge=lfs -text\n"
    repo.commit({".gitattributes": attributes, "README.md": "# An older card\n"}, message="initial commit")
    repo.commit({"config.json": '{"model_type": "bert"}\n', "deep/er/words.txt": "deep\n",
                 "weights.bin": LFS(generated(5 * MIB + 17, 81)), "small.bin": LFS(generated(70_000, 82))}, message="All of it")
    return hub


@pytest.fixture
def run(folder):
    """run(client, url, [[name, arguments]...], token): its values, on a fresh machine."""
    count = iter(range(1000))

    def call(client, url, wanted, token=None):
        assert (BINARIES / client).exists(), "the Rust clients are missing: run tests/setup"
        user = Machine(folder / f"machine{next(count)}", None, url, token)
        environment = {"HUB": url} | ({"TOKEN": token} if token else {})
        done = user.run([str(BINARIES / client), json.dumps(wanted)], environment=environment)
        assert done.returncode == 0, f"{wanted}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return json.loads(done.stdout.strip().splitlines()[-1])
    return call


def values(wanted, results):
    for call, result in zip(wanted, results, strict=True):
        assert "value" in result, f"{call}: {result}"
    return [result["value"] for result in results]


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def digests(hub, repo=REPO):
    return {path: file.source.sha256() for path, file in commit_of(hub, repo).files.items()}


@pytest.mark.parametrize("how", ["get", "get_in_pieces"])
@pytest.mark.parametrize("is_pinned", [False, True])
def test_the_old_client(run, hub, phases, how, is_pinned):
    commit, want = commit_of(hub, REPO).id, digests(hub)
    at = {"repo": REPO, "revision": commit if is_pinned else "main"}
    wanted = [["info", at]] + [[how, at | {"file": path}] for path in want]
    what = ("blocking" if how == "get" else "in parallel pieces") + (" at a commit" if is_pinned else "")
    for phase in phases("hf-hub", version_of("hub0"), what, is_pinned):
        info, *paths = values(wanted, run("hub0", phase.url, wanted))
        assert info["sha"] == commit and sorted(info["files"]) == sorted(want)
        for (name, digest), path in zip(want.items(), paths, strict=True):
            assert f"/snapshots/{commit}/{name}" in path and sha256(path) == digest, f"{phase.name}: {path}"
        if phase.name == "cold" and how == "get":    # else transfers are cut short for others, with bytes on their way
            size = sum(file.size for file in commit_of(hub, REPO).files.values() if file.is_lfs)
            assert hub.body_bytes("cdn") <= size * 1.01


def entry(file, path):
    return {"path": path, "oid": file.oid, "size": file.size, "xet": None}


@pytest.mark.parametrize("is_pinned", [False, True])
def test_the_new_client(run, hub, phases, is_pinned):
    commit, weights, want = commit_of(hub, REPO), file_of(hub, "weights.bin", REPO), digests(hub)
    at = {"repo": REPO, "revision": commit.id if is_pinned else "main"}
    data = bytes_of(hub, "weights.bin", REPO)
    wanted = [(["info", at], {"id": REPO, "sha": commit.id, "private": False}),
              (["commits", at], [commit.id, commit.parent.id]), (["refs", at], [commit.id]),
              (["exists", at | {"file": "small.bin"}], [True, True, True]),
              (["exists", at | {"file": "missing.bin"}], [True, True, False]),
              (["metadata", at | {"file": "weights.bin"}],
               {"etag": weights.sha256, "commit": commit.id, "size": weights.size, "xet": None}),
              (["paths_info", at | {"file": "weights.bin"}], [entry(weights, "weights.bin")]),
              (["download_range", at | {"file": "weights.bin", "range": [MIB - 5, MIB + 5]}], data[MIB - 5:MIB + 5].hex())]
    if is_pinned:
        wanted = [each for each in wanted if each[0][0] not in ("refs", "exists")]    # they are about branches
    calls = [call for call, _ in wanted] + [["list", at], ["download", at | {"file": "deep/er/words.txt"}], ["snapshot", at]]
    what = "info, listing, download" + (" at a commit" if is_pinned else "")
    for phase in phases("hf-hub", version_of("hub1"), what, is_pinned):
        *found, listed, single, folder = values(calls, run("hub1", phase.url, calls))
        for (call, truth), value in zip(wanted, found, strict=True):
            assert value == truth, f"{phase.name}: {call}"
        assert {e["path"]: e for e in listed if "size" in e} == {path: entry(file, path) for path, file in commit.files.items()}
        assert sha256(single) == want["deep/er/words.txt"] and Path(folder).name == commit.id
        assert {p.relative_to(folder).as_posix(): sha256(p) for p in Path(folder).rglob("*") if p.is_file()} == want
        if phase.name == "cold":
            size = sum(file.size for file in commit.files.values() if file.is_lfs)
            assert hub.body_bytes("cdn") <= size * 1.01


@pytest.mark.parametrize("client", ["hub0", "hub1"])
def test_a_protected_repository(run, hub, people, phases, client):
    commit, file = commit_of(hub, "acme/private"), file_of(hub, "model.safetensors", "acme/private")
    call = ["get" if client == "hub0" else "download", {"repo": "acme/private", "revision": commit.id, "file": "model.safetensors"}]
    for phase in phases("hf-hub", version_of(client), "a private repository", is_pinned=True):
        path, = values([call], run(client, phase.url, [call], people.alice))
        assert sha256(path) == file.sha256
        if phase.name != "warm":    # a stranger is asked about
            assert "error" in run(client, phase.url, [call])[0]


@pytest.mark.parametrize("client", ["hub0", "hub1"])
def test_an_error_never_becomes_a_file(run, hub, cache, client):
    """The new client keeps whatever body comes after a good HEAD."""
    call = ["get" if client == "hub0" else "download", {"repo": REPO, "revision": "main", "file": "weights.bin"}]
    hub.rule("cdn", wrong_bytes="50%")
    cache.expect("error")
    result, = run(client, cache.url, [call])
    assert "error" in result, result
    hub.kill()
    result, = run(client, cache.url, [call])
    assert "error" in result, result
