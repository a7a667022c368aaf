# SPDX-License-Identifier: Apache-2.0
"""Downloads and listings with each installed huggingface_hub, unmodified, HF_ENDPOINT and nothing else set."""
import hashlib
import json
import time

import pytest

from facts import add_large, commit_of, file_of
from hubdouble.fixture import ODD_NAMES, add_many
from machine import CAN_TRACE, CLIENTS, files_below, truth

MIB = 1 << 20
REVISIONS = ["main", "dev", "feature/x", "v1", "refs/pr/1"]


def test_the_client_is_the_one_meant_and_has_xet(machine, cache):
    found = machine().call("version")
    assert found["version"].startswith(CLIENTS[machine().client][1])
    assert found["xet"] is True and found["endpoint"] == cache.url


@pytest.mark.skipif(not CAN_TRACE, reason="strace does not work here: connections of native code are NOT watched")
def test_the_guard_sees_a_client_that_uses_xet(machine, hub):
    """Straight to the double, which announces Xet: the same client goes to other ports. By the host's other name, since clients
    take redirects within one host for the Hub's own."""
    url = hub.url.replace("127.0.0.1", "localhost")
    everywhere = [int(each.rsplit(":", 1)[1]) for each in (hub.cdn_url, hub.cas_url)]
    with pytest.raises(AssertionError, match="connected to others"):
        machine(to=url).call("download", repo_id="acme/pub", filename="model.safetensors")
    machine(to=url).try_several([("download", {"repo_id": "acme/pub", "filename": "model.safetensors"})], everywhere)
    assert hub.xet_calls(), "the client would never have used Xet"
    hub.reset_counters()


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_snapshot_of_every_kind_of_revision_has_the_hubs_files(machine, hub, revision):
    found = machine().call("snapshot", repo_id="acme/pub", revision=revision)
    assert found["files"] == truth(hub, "acme/pub", revision)
    assert found["folder"].endswith(f"/snapshots/{commit_of(hub, revision=revision).id}")


def test_a_snapshot_of_a_commit_and_of_the_default_branch(machine, hub):
    user, old = machine(), commit_of(hub, revision="v1")
    assert user.call("snapshot", repo_id="acme/pub", revision=old.id)["files"] == truth(hub, "acme/pub", "v1")
    assert user.call("snapshot", repo_id="acme/pub")["files"] == truth(hub, "acme/pub")


def test_single_files_of_every_kind_of_revision(machine, hub):
    revisions = [*REVISIONS, commit_of(hub, revision="v1").id]
    wanted = [{"repo_id": "acme/pub", "filename": name, "revision": revision}
              for revision in revisions for name in ("config.json", "README.md", "model.safetensors", "empty.txt", "sub/dir/one.txt")]
    found_files = machine().several([("download", one) for one in wanted])
    for one, found in zip(wanted, found_files, strict=True):
        want = file_of(hub, one["filename"], revision=one["revision"]).source.sha256()
        assert found["sha256"] == want, one
        assert f"/snapshots/{commit_of(hub, revision=one['revision']).id}/" in found["path"]


def test_names_that_need_quoting(machine, hub):
    wanted = [{"repo_id": "acme/pub", "filename": name} for name in ODD_NAMES]
    for one, found in zip(wanted, machine().several([("download", one) for one in wanted]), strict=True):
        assert found["sha256"] == file_of(hub, one["filename"]).source.sha256(), one


def test_an_old_name_and_a_name_of_one_word(machine, hub):
    user = machine()
    assert user.call("snapshot", repo_id="old/name")["files"] == truth(hub, "acme/pub")
    assert user.call("snapshot", repo_id="tinymodel")["files"] == truth(hub, "acme/tinymodel")


def test_a_download_into_a_folder_of_the_users_choice(machine, hub):
    user = machine()
    found = user.call("snapshot", repo_id="acme/pub", local_dir=str(user.home / "here"), allow_patterns=["*.json", "*.safetensors"])
    assert found["files"] == {name: value for name, value in truth(hub, "acme/pub").items() if name.endswith((".json", ".safetensors"))}
    again = user.call("snapshot", repo_id="acme/pub", local_dir=str(user.home / "here"))
    assert again["files"] == truth(hub, "acme/pub")


def test_the_command_line(machine, hub):
    user = machine()
    done = user.hf("download", "acme/pub")
    assert done.returncode == 0, done.stderr
    assert str(user.home) in done.stdout and commit_of(hub).id in done.stdout
    done = user.hf("download", "acme/pub", "config.json", "model.safetensors", "--revision", "v1", "--local-dir", "some")
    assert done.returncode == 0, done.stderr
    want = truth(hub, "acme/pub", "v1")
    assert files_below(user.home / "some") == {name: want[name] for name in ("config.json", "model.safetensors")}
    done = user.hf("download", "acme/none")
    assert done.returncode != 0 and "not found" in (done.stdout + done.stderr).lower()


def test_information_about_a_repository(machine, hub):
    user, commit = machine(), commit_of(hub)
    found = user.call("info", repo_id="acme/pub", files_metadata=True)
    assert (found["id"], found["sha"], found["private"]) == ("acme/pub", commit.id, False)
    assert found["files"] == {path: {"size": f.size, "oid": f.oid, "sha256": f.sha256} for path, f in commit.files.items()}
    at_revisions = user.several([("info", {"repo_id": "acme/pub", "revision": revision}) for revision in REVISIONS])
    assert [i["sha"] for i in at_revisions] == [commit_of(hub, revision=revision).id for revision in REVISIONS]
    assert user.call("info", repo_id="acme/table", repo_type="dataset")["sha"] == commit_of(hub, "acme/table", kind="dataset").id
    assert user.call("info", repo_id="acme/page", repo_type="space")["sha"] == commit_of(hub, "acme/page", kind="space").id


def assert_entries(found, commit, expand=False):
    """Entries of a tree or of paths-info against the double's commit."""
    for entry in found:
        path = entry["path"]
        if entry["is_folder"]:
            assert entry["oid"] == commit.folders[path][0], path
        else:
            file = commit.files[path]
            assert (entry["size"], entry["oid"], entry["sha256"]) == (file.size, file.oid, file.sha256), path
        assert entry["xet"] is None, f"{path} still announces Xet"
        if expand:
            assert entry["last_commit"] == commit.last[path].id, path


def test_listings(machine, hub):
    user, commit = machine(), commit_of(hub)
    found = user.call("tree", repo_id="acme/pub", recursive=True)
    assert [e["path"] for e in found] == [path for path, _ in commit.walk(recursive=True)]
    assert_entries(found, commit)
    below = user.call("tree", repo_id="acme/pub", path_in_repo="sub/dir", revision="v1")
    assert [e["path"] for e in below] == ["sub/dir/one.txt", "sub/dir/two.json"]
    assert_entries(user.call("tree", repo_id="acme/pub", expand=True), commit, expand=True)
    names = ["config.json", "model.safetensors", "sub", "no/such.txt", ODD_NAMES[0]]
    told = user.call("paths_info", repo_id="acme/pub", paths=names)
    assert sorted(e["path"] for e in told) == sorted(set(names) - {"no/such.txt"})
    assert_entries(told, commit)


def test_a_listing_of_several_pages(machine, hub):
    add_many(hub.content)
    commit = commit_of(hub, "acme/many")
    found = machine().call("tree", repo_id="acme/many", recursive=True)
    assert [e["path"] for e in found] == [path for path, _ in commit.walk(recursive=True)]
    assert_entries(found, commit)


def test_branches_tags_and_pull_requests(machine, hub):
    user, repo = machine(), hub.content.repo("acme/pub")
    found = user.call("refs", repo_id="acme/pub")
    merged = {ref: commit for part in found.values() for ref, commit in part.items()}
    assert merged == {ref: commit.id for ref, commit in repo.refs.items()}
    assert "refs/tags/v1" in found["tags"] and "refs/pr/1" in found["pull_requests"] and "refs/heads/feature/x" in found["branches"]


def test_metadata_of_a_file_names_no_other_place(machine, hub, cache):
    user = machine()
    for name in ("config.json", "model.safetensors"):
        found, file = user.call("metadata", repo_id="acme/pub", filename=name), file_of(hub, name)
        assert (found["etag"], found["size"], found["commit"]) == (file.etag, file.size, commit_of(hub).id)
        assert found["location"].startswith(cache.url + "/") and found["xet"] is False


def test_a_table_of_a_dataset_can_be_read(machine, hub):
    import pyarrow.parquet
    from conftest import ROWS
    name = "data/train-00000-of-00001.parquet"
    user = machine()
    found = user.call("download", repo_id="acme/table", repo_type="dataset", filename=name)
    table = pyarrow.parquet.read_table(found["path"])
    assert table.column("id").to_pylist() == list(range(ROWS))
    assert table.slice(ROWS - 1).to_pylist() == [{"id": ROWS - 1, "text": f"row {ROWS - 1}", "score": (ROWS - 1) / 8}]
    assert user.call("snapshot", repo_id="acme/table", repo_type="dataset")["files"] == truth(hub, "acme/table", kind="dataset")
    converted = user.call("snapshot", repo_id="acme/table", repo_type="dataset", revision="refs/convert/parquet")
    assert converted["files"] == truth(hub, "acme/table", "refs/convert/parquet", "dataset")


def test_files_of_a_static_space(machine, hub):
    found = machine().call("snapshot", repo_id="acme/page", repo_type="space")
    assert found["files"] == truth(hub, "acme/page", kind="space")


def test_pieces_of_a_large_file_over_the_file_system(machine, hub):
    _, file = add_large(hub, 8 * MIB, seed=23)
    pieces = [(0, 8), (8, 1000), (5 * MIB - 3, 100_000), (8 * MIB - 10, 10)]
    found = machine().call("read_parts", path="acme/large/weights.bin", pieces=pieces)
    assert found == [hashlib.sha256(file.source.read(at, count)).hexdigest() for at, count in pieces]


def test_what_does_not_exist_is_said_not_to(machine):
    user = machine()
    assert "RepositoryNotFoundError" in user.error_of("info", repo_id="acme/none")
    assert "RevisionNotFoundError" in user.error_of("info", repo_id="acme/pub", revision="nowhere")
    assert "RevisionNotFoundError" in user.error_of("download", repo_id="acme/pub", filename="config.json", revision="nowhere")
    assert "EntryNotFoundError" in user.error_of("download", repo_id="acme/pub", filename="no/such.txt")
    assert user.call("exists", repo_id="acme/pub", filename="config.json") == {"repo": True, "file": True, "revision": True}
    assert user.call("exists", repo_id="acme/pub", filename="none.json") == {"repo": True, "file": False, "revision": True}


def test_a_branch_that_moved_is_followed(machine, hub, start):
    daemon = start(hub_revision_ttl="1s", hub_metadata_ttl="1s")
    user = machine(to=daemon)
    assert user.call("snapshot", repo_id="acme/pub")["files"] == truth(hub, "acme/pub")
    new = hub.content.repo("acme/pub").commit({"config.json": json.dumps({"new": True}), "added.txt": "new\n", "empty.txt": None})
    time.sleep(1.2)
    found = user.call("snapshot", repo_id="acme/pub")
    assert found["files"] == truth(hub, "acme/pub", new.id) and new.id in found["folder"]
    assert machine(to=daemon).call("snapshot", repo_id="acme/pub")["files"] == truth(hub, "acme/pub", new.id)
