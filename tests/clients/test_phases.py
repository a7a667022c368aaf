# SPDX-License-Identifier: Apache-2.0
"""What people do with huggingface_hub and hf, each generation, in every phase: cold, warm, a branch that is asked about again, upstream
dead, and a daemon that was started anew meanwhile (X01, C07)."""
import hashlib

import pytest

from conftest import add_rows, add_weights
from facts import add_large, commit_of, file_of
from machine import files_below, truth, version_of

MIB = 1 << 20
CLIENT = "huggingface_hub"


@pytest.fixture
def run(machine, client, phases):
    """run(what, calls, check, is_pinned): the calls of calls.py in each phase, the same values each time; the first are checked."""
    def run(what, calls, check, is_pinned=False, token=None, name=CLIENT, **options):
        first = None
        for phase in phases(name, version_of(CLIENT, client), what, is_pinned, **options):
            values = machine(phase.url, token).several(calls)
            if first is None:
                check(values)
                first = values
            assert values == first, f"{phase.name}: {what}"
    return run


def without_home(snapshot):
    return {"commit": snapshot["folder"].rsplit("/", 1)[-1], "files": snapshot["files"]}


@pytest.mark.parametrize("is_pinned", [False, True])
def test_C07_X01_snapshots_and_files(machine, client, hub, phases, is_pinned):
    at = {"revision": commit_of(hub, revision="v1").id} if is_pinned else {}
    commit = commit_of(hub, revision=at.get("revision", "main"))
    whole = truth(hub, "acme/pub", commit.id)
    some = {path: digest for path, digest in whole.items() if path.endswith((".json", ".md"))}
    what = "snapshot_download, hf_hub_download, allow_patterns" + (" at a commit" if is_pinned else "")
    for phase in phases(CLIENT, version_of(CLIENT, client), what, is_pinned):
        user = machine(phase.url)
        part, one, all_of_it = user.several([
            ("snapshot", {"repo_id": "acme/pub", "allow_patterns": ["*.json", "*.md"]} | at),
            ("download", {"repo_id": "acme/pub", "filename": "model.safetensors"} | at), ("snapshot", {"repo_id": "acme/pub"} | at)])
        assert without_home(part) == {"commit": commit.id, "files": some}
        assert without_home(all_of_it) == {"commit": commit.id, "files": whole} and one["sha256"] == whole["model.safetensors"]
        if phase.name == "cold":
            assert hub.body_bytes("cdn") == file_of(hub, "model.safetensors").size


@pytest.mark.parametrize("is_pinned", [False, True])
def test_information(run, hub, is_pinned):
    at = {"revision": commit_of(hub).id} if is_pinned else {}
    table, page = ({"revision": commit_of(hub, repo, kind=kind).id} if is_pinned else {}
                   for repo, kind in (("acme/table", "dataset"), ("acme/page", "space")))
    calls = [("info", {"repo_id": "acme/pub", "files_metadata": True} | at),
             ("info", {"repo_id": "acme/table", "repo_type": "dataset"} | table),
             ("info", {"repo_id": "acme/page", "repo_type": "space"} | page),
             ("tree", {"repo_id": "acme/pub", "recursive": True} | at), ("tree", {"repo_id": "acme/pub", "expand": True} | at),
             ("tree", {"repo_id": "acme/table", "repo_type": "dataset", "path_in_repo": "data"} | table),
             ("paths_info", {"repo_id": "acme/pub", "paths": ["config.json", "sub", "model.safetensors", "none"]} | at),
             ("commits", {"repo_id": "acme/pub"} | at)]
    if not is_pinned:
        # without upstream, HEAD of a file is good only where the file is held: it promises the bytes
        calls += [("refs", {"repo_id": "acme/pub"}), ("refs", {"repo_id": "acme/table", "repo_type": "dataset"}),
                  ("download_only", {"repo_id": "acme/pub", "filename": "config.json"}),
                  ("exists", {"repo_id": "acme/pub", "filename": "config.json"}),
                  ("exists", {"repo_id": "acme/pub", "filename": "none.json"})]

    def check(values):
        model, dataset, space, tree, _, below, paths, history, *others = values
        assert [each["sha"] for each in (model, dataset, space)] == [
            commit_of(hub, repo, kind=kind).id for repo, kind in (("acme/pub", "model"), ("acme/table", "dataset"), ("acme/page", "space"))]
        assert [e["path"] for e in tree] == [path for path, _ in commit_of(hub).walk(recursive=True)]
        assert [e["path"] for e in below] == ["data/train-00000-of-00001.parquet"]
        assert {e["path"] for e in paths} == {"config.json", "sub", "model.safetensors"}
        assert [e["id"] for e in history] == [c.id for c in commit_of(hub).history()]
        if others:
            refs, converted, _, is_there, is_not = others
            assert refs["branches"]["refs/heads/main"] == commit_of(hub).id
            assert converted["converts"] == {"refs/convert/parquet": commit_of(hub, "acme/table", "refs/convert/parquet", "dataset").id}
            assert is_there == {"repo": True, "file": True, "revision": True} and is_not["file"] is False
    run("model_info, dataset_info, space_info, trees, commits, refs, exists" + (" at a commit" if is_pinned else ""), calls, check, is_pinned)


@pytest.mark.parametrize("is_pinned", [False, True])
def test_the_file_system(run, hub, is_pinned):
    add_rows(hub.content)
    _, file = add_large(hub, 8 * MIB, seed=31)
    commits = {"acme/pub": commit_of(hub), "acme/large": commit_of(hub, "acme/large"),
               "datasets/acme/rows": commit_of(hub, "acme/rows", kind="dataset")}
    pub, large, rows = (f"{name}@{commit.id}" if is_pinned else name for name, commit in commits.items())
    table = file_of(hub, "data/train-00000-of-00001.parquet", "acme/rows", kind="dataset")
    pieces = [(0, 8), (8, 1000), (5 * MIB - 3, 100_000), (8 * MIB - 10, 10)]
    wanted = [("ls", {"path": f"{pub}/sub", "detail": False}), ("ls", {"path": pub}), ("glob", {"path": f"{pub}/**/*.json"}),
              ("info", {"path": f"{pub}/model.safetensors"}), ("find", {"path": f"{rows}/data"}),
              ("cat_file", {"path": f"{pub}/config.json"}), ("isdir", {"path": f"{pub}/sub/dir"}), ("exists", {"path": f"{pub}/none"}),
              ("cat_file", {"path": f"{rows}/data/train-00000-of-00001.parquet", "start": 1_000_000, "end": 1_200_000})]

    def check(values):
        found, parts = values
        names, listed, matched, info, below, config, is_folder, is_there, piece = found
        assert names == [f"{pub}/sub/dir", f"{pub}/sub/top.txt"]
        assert {e["name"].rsplit("/", 1)[-1] for e in listed} == {p.split("/")[0] for p in commits["acme/pub"].files}
        assert sorted(matched) == sorted(f"{pub}/{p}" for p in commits["acme/pub"].files if p.endswith(".json"))
        assert info == {"name": f"{pub}/model.safetensors", "size": 3 * MIB, "type": "file"}
        assert below == [f"{rows}/data/train-00000-of-00001.parquet"]
        assert config == file_of(hub, "config.json").source.sha256() and is_folder is True and is_there is False
        assert piece == hashlib.sha256(table.source.read(1_000_000, 200_000)).hexdigest()
        assert parts == [hashlib.sha256(file.source.read(at, count)).hexdigest() for at, count in pieces]
    run("HfFileSystem: ls, glob, find, info, ranges, open and seek" + (" at a commit" if is_pinned else ""),
        [("fs", {"wanted": wanted}), ("read_parts", {"path": f"{large}/weights.bin", "pieces": pieces})], check, is_pinned)


def test_safetensors_metadata(run, hub):
    """Of headers alone: the rest of the files is not read by the client."""
    add_weights(hub.content)

    def check(values):
        one, several, file = values
        assert one["sharded"] is False and several["sharded"] is True
        assert one["parameters"] == {"F32": 512 * 700, "F16": 1500 * 8}
        assert several["parameters"] == {"F32": 515 * 700, "F16": 1500 * 8, "I64": 1}
        assert set(several["files"]) == {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
        assert one["files"]["model.safetensors"] == several["files"]["model-00001-of-00002.safetensors"]
        assert file["head"] == ["F32", [3, 700], file["head"][2]]
    run("get_safetensors_metadata, parse_safetensors_file_metadata",
        [("safetensors", {"repo_id": "acme/single"}), ("safetensors", {"repo_id": "acme/shards"}),
         ("safetensors_file", {"repo_id": "acme/shards", "filename": "model-00002-of-00002.safetensors"})], check)


def patterns(client, *names):
    """What --include is given: 0.x takes several values, later ones take the option several times."""
    return ["--include", *names] if client == "hub0" else [part for name in names for part in ("--include", name)]


def test_the_command_line_in_every_phase(machine, client, hub, phases):
    whole = truth(hub, "acme/pub")
    for phase in phases("hf", version_of(CLIENT, client), "download: files, --include, --exclude, --revision", is_pinned=False):
        user = machine(phase.url)
        for arguments, want in (
                (["--local-dir", "a", *patterns(client, "*.json", "*.safetensors")],
                 {p: d for p, d in whole.items() if p.endswith((".json", ".safetensors"))}),
                (["--local-dir", "b", "--exclude", "odd/*", "--revision", "dev"],
                 {p: d for p, d in truth(hub, "acme/pub", "dev").items() if not p.startswith("odd/")})):
            done = user.hf("download", "acme/pub", *arguments)
            assert done.returncode == 0, f"{phase.name}: {done.stderr}"
            assert files_below(user.home / arguments[1]) == want, phase.name


@pytest.mark.parametrize("client", ["hub2", "hub1"])
def test_files_are_verified_by_the_command_line(machine, client, hub, phases):
    """Against the ids of the tree: also a file that was damaged on this machine is found."""
    for phase in phases("hf", version_of(CLIENT, client), "cache verify", is_pinned=False):
        user = machine(phase.url)
        folder = user.call("snapshot", repo_id="acme/pub")["folder"]
        done = user.hf("cache", "verify", "acme/pub")
        assert done.returncode == 0, f"{phase.name}: {done.stdout}{done.stderr}"
        assert str(len(truth(hub, "acme/pub"))) in done.stdout + done.stderr
        if phase.name == "cold":
            blob = (user.home / folder / "model.safetensors").resolve()
            blob.write_bytes(b"\xff" + blob.read_bytes()[1:])
            done = user.hf("cache", "verify", "acme/pub")
            assert done.returncode != 0 and "model.safetensors" in done.stdout + done.stderr


def test_protected_repositories_by_token(machine, client, hub, phases, people):
    """Each phase for somebody who was let in and for somebody who was not (S01, S03)."""
    repos = ("acme/gated", "acme/private")
    for phase in phases(CLIENT, version_of(CLIENT, client), "gated and private repos, by token", is_pinned=False):
        user = machine(phase.url, people.alice)
        found = user.several([("snapshot", {"repo_id": repo}) for repo in repos])
        assert [each["files"] for each in found] == [truth(hub, repo) for repo in repos], phase.name
        # a 503 is tried again: by 0.36 for half a minute, by the others for seconds; so that one has one file, once
        is_brief = client == "hub0" and phase.name in ("dead", "restarted")
        for token in [people.bob, None] if not is_brief else [None] if phase.name == "dead" else []:
            stranger = machine(phase.url, token)
            results = stranger.try_several([("download", {"repo_id": repo, "filename": "model.safetensors"}) for repo in repos[is_brief:]])
            assert all("error" in each for each in results), phase.name
            assert not files_below(stranger.home / ".cache/huggingface/hub"), phase.name


def test_old_names(run, hub):
    def check(values):
        info, file, listing = values
        assert info["id"] == "acme/pub" and file["sha256"] == truth(hub, "acme/pub")["config.json"]
        assert [e["path"] for e in listing] == ["sub/dir/one.txt", "sub/dir/two.json"]

    run("renamed repos", [("info", {"repo_id": "old/name"}), ("download_only", {"repo_id": "old/name", "filename": "config.json"}),
                          ("tree", {"repo_id": "old/name", "path_in_repo": "sub/dir"})], check)
