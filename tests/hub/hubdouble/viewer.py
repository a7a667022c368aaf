# SPDX-License-Identifier: Apache-2.0
"""The dataset viewer, a service of its own beside the Hub: /parquet, /info, /splits, /size, /is-valid.

Owns      what it says of a dataset that has refs/convert/parquet, and its refusals: 401 for what is gated, private or not there,
          404 with a token that does not help and for renamed datasets, 501 where there is no conversion, 422 without a dataset.
Promises  X-Revision is the commit of main; every url is an absolute address of the Hub.
Threads   those of the connections; nothing is kept. content.viewer_errors may script an answer for a dataset.
"""
import json
from email.utils import formatdate
from urllib.parse import quote

from .access import belongs, secret_of
from .message import Reply

UNKNOWN = ("The dataset does not exist, or is not accessible without authentication (private or gated). Please check the spelling of "
           "the dataset name or retry with authentication.")
USELESS = ("The dataset does not exist, or is not accessible with the current credentials (private or gated). Please check the "
           "spelling of the dataset name or retry with other authentication credentials.")
SCRIPT = ("The dataset viewer doesn't support this dataset because it runs arbitrary Python code. You can convert it to a Parquet "
          "data-only dataset by using the convert_to_parquet CLI from the datasets library.")
NO_CONVERSION = "The dataset is not supported by the dataset viewer."


def say(request, status, value, after=()):
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    headers = [("Date", formatdate(usegmt=True)), ("Content-Type", "application/json"), ("Content-Length", str(len(body))),
               ("Cache-Control", "no-store" if status >= 400 else "max-age=120"), ("Access-Control-Allow-Origin", "*"),
               ("Access-Control-Expose-Headers", "X-Error-Code,X-Revision,X-Request-Id"), ("Vary", "Accept-Encoding")]
    return Reply(status, headers + list(after), body)


def fail(request, status, code, message, after=()):
    return say(request, status, {"error": message}, [("X-Error-Code", code), *after])


def parquet_paths(commit, config=None):
    """[(config, split, path)] of a conversion's files."""
    out = []
    for path in sorted(commit.files):
        parts = path.split("/")
        if len(parts) == 3 and path.endswith(".parquet") and config in (None, parts[0]):
            out.append((parts[0], parts[1], path))
    return out


def handle_viewer(hub, request, call):
    if request.method not in ("GET", "HEAD"):
        return say(request, 405, {"detail": "Method Not Allowed"})
    maker = {"/parquet": parquet, "/info": info, "/splits": splits, "/size": size, "/is-valid": is_valid}.get(request.path)
    if request.path == "/healthcheck":
        return Reply(200, [("Content-Type", "text/plain")], b"ok")
    if maker is None:
        return say(request, 404, {"detail": "Not Found"})
    name = request.param("dataset")
    if not name:
        return fail(request, 422, "MissingRequiredParameter", "Parameter 'dataset' is required")
    scripted = hub.content.viewer_errors.get(name)
    if scripted:
        return fail(request, *scripted)
    repo, how = hub.content.look_up("dataset", name)
    token = hub.content.tokens.get(secret_of(request) or "")
    if repo is None or (repo.private or repo.gated) and not belongs(token, repo):
        if token:
            return fail(request, 404, "ExternalAuthenticatedError", USELESS)
        return fail(request, 401, "ExternalUnauthenticatedError", UNKNOWN)
    if how != "exact":
        return fail(request, 404, "RenamedDatasetError", "The dataset has been renamed. Please use the current dataset name.")
    revision = [("X-Revision", repo.head.id)]
    converted = repo.find("refs/convert/parquet")
    if converted is None:
        script = f"{repo.id.rsplit('/', 1)[-1]}.py" in repo.head.files
        code = "DatasetWithScriptNotSupportedError" if script else "DatasetFormatNotSupportedError"
        return fail(request, 501, code, SCRIPT if script else NO_CONVERSION, revision)
    config = request.param("config")
    if config and not parquet_paths(converted, config):
        return fail(request, 404, "ConfigNotFoundError", f"The config '{config}' does not exist for the dataset.'", revision)
    return say(request, 200, maker(hub, repo, converted, config), revision)


def parquet(hub, repo, commit, config):
    files = [{"dataset": repo.id, "config": c, "split": s,
              "url": f"{hub.url}/datasets/{repo.id}/resolve/refs%2Fconvert%2Fparquet/{quote(path)}",
              "filename": path.rsplit("/", 1)[-1], "size": commit.files[path].size} for c, s, path in parquet_paths(commit, config)]
    return {"parquet_files": files, "pending": [], "failed": [], "partial": False}


def _one_info(hub, repo, commit, config):
    paths = parquet_paths(commit, config)
    per_split = {}
    for _, split, path in paths:
        per_split[split] = per_split.get(split, 0) + commit.files[path].size
    total = sum(per_split.values())
    return {"description": f"{repo.id}, see https://huggingface.co/datasets/{repo.id}", "citation": "", "homepage": hub.url, "license": "",
            "features": {"id": {"dtype": "int64", "_type": "Value"}, "text": {"dtype": "string", "_type": "Value"}},
            "builder_name": "parquet", "dataset_name": repo.id.rsplit("/", 1)[-1], "config_name": config,
            "version": {"version_str": "0.0.0", "major": 0, "minor": 0, "patch": 0},
            "splits": {s: {"name": s, "num_bytes": n, "num_examples": 100, "dataset_name": repo.id.rsplit("/", 1)[-1]}
                       for s, n in per_split.items()},
            "download_size": total, "dataset_size": total}


def info(hub, repo, commit, config):
    rest = {"pending": [], "failed": [], "partial": False}
    if config:
        return {"dataset_info": _one_info(hub, repo, commit, config), "partial": False}
    names = dict.fromkeys(c for c, _, _ in parquet_paths(commit))
    return {"dataset_info": {name: _one_info(hub, repo, commit, name) for name in names}} | rest


def splits(hub, repo, commit, config):
    pairs = dict.fromkeys((c, s) for c, s, _ in parquet_paths(commit, config))
    return {"splits": [{"dataset": repo.id, "config": c, "split": s} for c, s in pairs], "pending": [], "failed": []}


def size(hub, repo, commit, config):
    sizes = [commit.files[path].size for _, _, path in parquet_paths(commit, config)]
    return {"size": {"dataset": {"dataset": repo.id, "num_bytes_original_files": sum(sizes), "num_bytes_parquet_files": sum(sizes),
                                 "num_bytes_memory": sum(sizes), "num_rows": 100}}, "pending": [], "failed": [], "partial": False}


def is_valid(hub, repo, commit, config):
    return {"preview": True, "viewer": True, "search": True, "filter": True, "statistics": True}
