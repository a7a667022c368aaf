# SPDX-License-Identifier: Apache-2.0
"""What a user of huggingface_hub writes, one function for each use; run with the client's own interpreter on a fresh machine.

  python calls.py '{"call": "snapshot", "arguments": {...}}'

The last line of its output is JSON: {"value": ...} or {"error": [names of the exception's classes], "message": ...}; and
"addresses", all that Python code tried to connect to or to look up.
Never     sets an option of the client, or catches what a user would see. Standard library and huggingface_hub only.
"""
import hashlib
import json
import sys
from pathlib import Path

ADDRESSES = []


def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        ADDRESSES.append(list(arguments[1][:2]))
    elif event == "socket.getaddrinfo":
        ADDRESSES.append([str(arguments[0]), arguments[1]])


sys.addaudithook(watch)

import huggingface_hub  # noqa: E402
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download  # noqa: E402


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while piece := f.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def all_files(folder):
    """Relative path -> SHA-256; what a download with local_dir remembers about itself is left out."""
    top = Path(folder)
    found = [p for p in sorted(top.rglob("*")) if p.is_file() and ".cache" not in p.relative_to(top).parts]
    return {p.relative_to(top).as_posix(): sha256(p) for p in found}


def version(**_):
    """The client, and whether it would use Xet if that was announced to it."""
    from huggingface_hub.utils._runtime import is_xet_available
    return {"version": huggingface_hub.__version__, "xet": bool(is_xet_available()), "endpoint": constants.ENDPOINT}


def snapshot(**arguments):
    folder = snapshot_download(**arguments)
    return {"folder": folder, "files": all_files(folder)}


def download(**arguments):
    path = hf_hub_download(**arguments)
    return {"path": path, "sha256": sha256(path)}


def download_only(**arguments):
    """Without the path, which is another on each machine."""
    return {"sha256": download(**arguments)["sha256"]}


def several(wanted):
    """[(name, arguments)] in one process, in turn; for each its value, or the names of its exception's classes and the message."""
    out = []
    for name, arguments in wanted:
        try:
            out.append({"value": CALLS[name](**arguments)})
        except Exception as trouble:
            out.append({"error": [c.__name__ for c in type(trouble).__mro__], "message": f"{type(trouble).__name__}: {trouble}"})
    return out


def info(repo_type="model", **arguments):
    found = HfApi().repo_info(repo_type=repo_type, **arguments)
    files = {s.rfilename: {"size": s.size, "oid": s.blob_id, "sha256": s.lfs.sha256 if s.lfs else None} for s in found.siblings}
    return {"id": found.id, "sha": found.sha, "private": found.private, "gated": getattr(found, "gated", None), "files": files}


def entry(item):
    lfs = getattr(item, "lfs", None)
    is_folder = not hasattr(item, "size")
    return {"path": item.path, "is_folder": is_folder, "size": getattr(item, "size", None), "sha256": lfs.sha256 if lfs else None,
            "oid": item.tree_id if is_folder else item.blob_id, "xet": getattr(item, "xet_hash", None),
            "last_commit": item.last_commit.oid if getattr(item, "last_commit", None) else None}


def tree(**arguments):
    return [entry(item) for item in HfApi().list_repo_tree(**arguments)]


def paths_info(**arguments):
    return [entry(item) for item in HfApi().get_paths_info(**arguments)]


def refs(**arguments):
    found = HfApi().list_repo_refs(include_pull_requests=True, **arguments)
    return {kind: {r.ref: r.target_commit for r in getattr(found, kind) or []}
            for kind in ("branches", "tags", "converts", "pull_requests")}


def metadata(**arguments):
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    found = get_hf_file_metadata(hf_hub_url(**arguments))
    return {"etag": found.etag, "size": found.size, "commit": found.commit_hash, "location": found.location,
            "xet": getattr(found, "xet_file_data", None) is not None}


def read_parts(path, pieces):
    """Pieces of a file over the file-system interface: [(offset, length)]."""
    from huggingface_hub import HfFileSystem
    with HfFileSystem().open(path, "rb", block_size=1 << 16) as f:
        out = []
        for offset, length in pieces:
            f.seek(offset)
            out.append(hashlib.sha256(f.read(length)).hexdigest())
    return out


def exists(**arguments):
    api = HfApi()
    revision = {"revision": arguments.get("revision") or "main"}
    return {"repo": api.repo_exists(arguments["repo_id"]), "file": api.file_exists(**arguments),
            "revision": api.revision_exists(arguments["repo_id"], **revision)}


def commits(**arguments):
    return [{"id": c.commit_id, "title": c.title, "message": c.message} for c in HfApi().list_repo_commits(**arguments)]


def plain(value):
    """What a method of the file system returned, without what may differ between versions: bytes as their SHA-256, entries short."""
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, dict) and "name" in value:
        return {"name": value["name"], "size": value["size"] or 0, "type": value["type"]}
    if isinstance(value, dict):
        return {name: plain(each) for name, each in sorted(value.items())}
    return [plain(each) for each in value] if isinstance(value, list) else value


def fs(wanted):
    """[(method of HfFileSystem, arguments)]"""
    from huggingface_hub import HfFileSystem
    system = HfFileSystem()
    return [plain(getattr(system, name)(**arguments)) for name, arguments in wanted]


def tensors(found):
    return {name: [t.dtype, list(t.shape), list(t.data_offsets)] for name, t in sorted(found.tensors.items())}


def safetensors(**arguments):
    found = HfApi().get_safetensors_metadata(**arguments)
    return {"sharded": found.sharded, "parameters": found.parameter_count,
            "files": {name: tensors(each) for name, each in sorted(found.files_metadata.items())}}


def safetensors_file(**arguments):
    return tensors(HfApi().parse_safetensors_file_metadata(**arguments))


CALLS = {f.__name__: f for f in (version, snapshot, download, download_only, info, tree, paths_info, refs, metadata, read_parts, exists,
                                 commits, fs, safetensors, safetensors_file)}


def main():
    results = several(json.loads(sys.argv[1]))
    print(json.dumps({"results": results, "addresses": ADDRESSES}))


if __name__ == "__main__":
    main()
