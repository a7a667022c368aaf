# SPDX-License-Identifier: Apache-2.0
"""Writes of huggingface_hub, by name; run on a machine of its own: uploads.py NAME JSON-ARGUMENTS. Prints one line of JSON."""
import io
import json
import os
import random
import sys
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

api = HfApi()
LARGE = bytes(range(256)) * 6000


def told(commit):
    return {"oid": commit.oid, "url": str(commit.commit_url)}


def publish(repo_id, kind="model"):
    """A new repo, a folder with small and large files, and a buffer."""
    url = api.create_repo(repo_id, repo_type=kind)
    again = api.create_repo(repo_id, repo_type=kind, exist_ok=True)
    assert url.repo_id == again.repo_id == repo_id, (url, again)
    folder = Path("folder")
    (folder / "deep").mkdir(parents=True)
    (folder / "config.json").write_text('{"a": 1}\n')
    (folder / "deep/ünï.txt").write_text("text\n")
    (folder / "model.safetensors").write_bytes(LARGE)
    (folder / "deep/small.bin").write_bytes(b"small but large")
    first = api.upload_folder(repo_id=repo_id, folder_path=folder, repo_type=kind)
    last = api.upload_file(repo_id=repo_id, path_in_repo="buffer.bin", path_or_fileobj=io.BytesIO(LARGE[::-1]), repo_type=kind)
    return {"url": str(url), "first": told(first), "last": told(last)}


def buffer(repo_id):
    """What goes by LFS even where Xet is installed."""
    return told(api.upload_file(repo_id=repo_id, path_in_repo="by-buffer.bin", path_or_fileobj=io.BytesIO(LARGE * 2)))


def by_xet(repo_id, size, **more):
    """What goes by Xet where it is installed: a file and bytes, none of which repeats."""
    Path("random.bin").write_bytes(random.Random(size).randbytes(size))
    first = api.upload_file(repo_id=repo_id, path_in_repo="deep/random.bin", path_or_fileobj="random.bin", **more)
    last = api.upload_file(repo_id=repo_id, path_in_repo="bytes.bin", path_or_fileobj=random.Random(7).randbytes(300_000), **more)
    return {"first": told(first), "last": told(last)}


def edit(repo_id):
    made = api.create_commit(repo_id, [CommitOperationAdd("added.txt", b"added\n"), CommitOperationDelete("config.json")],
                             commit_message="edit")
    return {"made": told(made), "deleted": told(api.delete_file("deep/small.bin", repo_id))}


def refs(repo_id):
    api.create_branch(repo_id, branch="side")
    on_side = api.upload_file(repo_id=repo_id, path_in_repo="side.txt", path_or_fileobj=b"side\n", revision="side")
    api.create_tag(repo_id, tag="v1.0", revision="side")
    pull = api.upload_file(repo_id=repo_id, path_in_repo="pull.txt", path_or_fileobj=b"pull\n", create_pr=True)
    return {"side": told(on_side), "pull": pull.pr_url, "number": pull.pr_num, "pull_oid": pull.oid}


def squash(repo_id):
    api.super_squash_history(repo_id)
    api.delete_tag(repo_id, tag="v1.0")
    api.delete_branch(repo_id, branch="side")
    return api.model_info(repo_id).sha


def hide(repo_id):
    api.update_repo_settings(repo_id, private=True)
    return api.model_info(repo_id).private


def move(from_id, to_id):
    api.move_repo(from_id, to_id)
    return api.model_info(to_id).id


def delete(repo_id):
    api.delete_repo(repo_id)
    return api.repo_exists(repo_id)


if __name__ == "__main__":
    value = globals()[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps({"value": value, "xet": os.environ.get("HF_HUB_DISABLE_XET")}))
