# SPDX-License-Identifier: Apache-2.0
"""Writes through the API: repositories, their settings and refs, preupload and commit."""
import base64
import json
import os
import tempfile
from pathlib import Path

from .access import admit, refuse, token_of
from .api import commit_of, send_json
from .lfs import upload_dir

LONG_LINE = 4 << 20
PIECE = 1 << 20         # of base64: a multiple of four
REGULAR_MOST = 10 * 1024 * 1024
LARGE_NAMES = (".bin", ".safetensors", ".gguf", ".parquet", ".onnx", ".h5", ".pt", ".msgpack", ".zip", ".gz")

ATTRIBUTES = "".join(f"*{name} filter=lfs diff=lfs merge=lfs -text\n" for name in LARGE_NAMES)


def handle_create(hub, request):
    token = token_of(hub, request)
    if token is None:
        return refuse(hub, request, 401, "Invalid username or password.")
    asked = request.json()
    kind = asked.get("type") or "model"
    name = asked["name"]
    repo_id = name if "/" in name else f"{asked.get('organization') or token.user}/{name}"
    private = bool(asked.get("private")) or asked.get("visibility") == "private"
    repo, _ = hub.content.look_up(kind, repo_id)
    if repo:
        return send_json(hub, request, {"error": f"You already created this {kind} repo", "url": hub.url + repo.prefix}, 409)
    repo = hub.content.add_repo(kind, repo_id, private=private)
    token.grants.add(repo_id)
    repo.commit({".gitattributes": ATTRIBUTES}, message="initial commit", author=token.user)
    return send_json(hub, request, {"url": hub.url + repo.prefix, "name": repo_id, "id": repo.object_id})


def handle_delete(hub, request):
    asked = request.json()
    name = asked["name"]
    repo_id = name if "/" in name or not asked.get("organization") else f"{asked['organization']}/{name}"
    repo = admit(hub, request, asked.get("type") or "model", repo_id, "write")
    hub.content.delete_repo(repo.kind, repo.id)
    return send_json(hub, request, {"success": True})


def handle_move(hub, request):
    asked = request.json()
    repo = admit(hub, request, asked.get("type") or "model", asked["fromRepo"], "write")
    if hub.content.repos.get((repo.kind, asked["toRepo"])):
        return refuse(hub, request, 409, f"{asked['toRepo']} exists already")
    hub.content.rename(repo.kind, repo.id, asked["toRepo"])
    return send_json(hub, request, {"success": True})


def handle_settings(hub, request, kind, repo_id, segments):
    repo = admit(hub, request, kind, repo_id, "write")
    asked = request.json()
    if "private" in asked or "visibility" in asked:
        repo.private = bool(asked.get("private", asked.get("visibility") == "private"))
    if "gated" in asked:
        repo.gated = asked["gated"]
    return send_json(hub, request, {"success": True, "private": repo.private, "gated": repo.gated})


def handle_preupload(hub, request, kind, repo_id, segments):
    repo = admit(hub, request, kind, repo_id, "write")
    _, commit, _ = commit_of(hub, request, repo, segments)
    files = []
    for asked in request.json()["files"]:
        large = asked["path"].endswith(LARGE_NAMES) or asked.get("size", 0) > REGULAR_MOST
        item = {"path": asked["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        if asked["path"] in commit.files:
            item["oid"] = commit.files[asked["path"]].oid
        files.append(item)
    return send_json(hub, request, {"files": files, "commitOid": commit.id})


def lines_of(view):
    """(start, end) of every line of a body, which may be a map of a file."""
    start, size = 0, len(view)
    while start < size:
        end = view.find(b"\n", start)
        end = size if end < 0 else end
        if end > start:
            yield start, end
        start = end + 1


def read_operation(view, start, end, folder):
    """One line as a dict; the content of a line that is long goes to a file, piece by piece, and is given as its path."""
    if end - start <= LONG_LINE:
        return json.loads(view[start:end])
    mark = view.find(b'"content":', start, end)
    first = view.find(b'"', mark + 10, end) + 1
    last = view.find(b'"', first, end)
    operation = json.loads(view[start:first] + view[last:end])
    if mark < 0 or operation["value"].get("encoding") != "base64":
        return json.loads(view[start:end])
    fd, path = tempfile.mkstemp(prefix="commit-", dir=folder)
    with os.fdopen(fd, "wb") as out:
        for at in range(first, last, PIECE):
            out.write(base64.b64decode(view[at:min(at + PIECE, last)]))
    operation["value"]["content"] = Path(path)
    return operation


def content_of(value):
    content = value["content"]
    if isinstance(content, Path):
        return content
    return base64.b64decode(content) if value.get("encoding") == "base64" else content.encode()


def handle_commit(hub, request, kind, repo_id, segments):
    """NDJSON in, a real commit out; create_pr=1 puts it on a new refs/pr/N. The body is never in memory as a whole."""
    repo = admit(hub, request, kind, repo_id, "write")
    revision, commit, _ = commit_of(hub, request, repo, segments)
    message, files, parent = "Update", {}, None
    view = request.load().view()
    for start, end in lines_of(view):
        operation = read_operation(view, start, end, upload_dir(hub))
        key, value = operation["key"], operation["value"]
        if key == "header":
            message = value.get("summary", "") + ("\n\n" + value["description"] if value.get("description") else "")
            parent = value.get("parentCommit")
        elif key == "file":
            files[value["path"]] = content_of(value)
        elif key == "lfsFile":
            file = hub.content.by_sha256.get(value["oid"])
            if file is None:
                return refuse(hub, request, 400, f"LFS object {value['oid']} was not uploaded")
            files[value["path"]] = file
        elif key == "deletedFile":
            files[value["path"]] = None
        elif key == "deletedFolder":
            files |= {p: None for p in commit.files if p.startswith(value["path"].rstrip("/") + "/")}
    if parent and parent != commit.id:
        return refuse(hub, request, 412, "A commit has happened since. Please refresh and try again.")
    branch, extra = revision, {}
    if request.flag("create_pr"):
        number = 1 + max([int(r.rsplit("/", 1)[1]) for r in repo.refs if r.startswith("refs/pr/")] or [0])
        branch = f"refs/pr/{number}"
        extra = {"pullRequestUrl": f"{hub.url}{repo.prefix}/discussions/{number}"}
    made = repo.commit(files, branch, message, author=token_of(hub, request).user)
    return send_json(hub, request, {"success": True, "commitOid": made.id, "commitUrl": f"{hub.url}{repo.prefix}/commit/{made.id}",
                                    "hookOutput": ""} | extra)


def handle_squash(hub, request, kind, repo_id, segments):
    """POST /super-squash/{branch}: one commit without a parent takes the place of the branch's history."""
    repo = admit(hub, request, kind, repo_id, "write")
    revision, commit, _ = commit_of(hub, request, repo, segments)
    message = request.json().get("message") or f"Super-squash branch '{revision}'"
    made = repo.commit(dict(commit.files), revision, message, orphan=True, author=token_of(hub, request).user)
    return send_json(hub, request, {"success": True, "commitOid": made.id})


def handle_duplicate(hub, request, kind, repo_id, segments):
    repo = admit(hub, request, kind, repo_id, "bytes")
    token, asked = token_of(hub, request), request.json()
    if token is None or token.role != "write":
        return refuse(hub, request, 403 if token else 401, "Forbidden")
    new_id = asked.get("repository") or f"{token.user}/{repo.id.rsplit('/', 1)[-1]}"
    if hub.content.look_up(kind, new_id)[0]:
        return send_json(hub, request, {"error": f"You already created this {kind} repo", "url": f"{hub.url}/{new_id}"}, 409)
    made = hub.content.add_repo(kind, new_id, private=asked.get("visibility") == "private" or bool(asked.get("private")))
    made.commits.update(repo.commits)
    made.refs.update(repo.refs)
    token.grants.add(new_id)
    return send_json(hub, request, {"url": hub.url + made.prefix, "name": new_id, "id": made.object_id})


def handle_ref(hub, request, kind, repo_id, segments, verb):
    """POST and DELETE of /branch/{name} and /tag/{name-or-revision}."""
    repo = admit(hub, request, kind, repo_id, "write")
    name = "/".join(segments)
    if request.method == "DELETE":
        if not repo.delete_ref(f"refs/{'heads' if verb == 'branch' else 'tags'}/{name}"):
            return refuse(hub, request, 404, f"Invalid rev id: {name}", "RevisionNotFound")
        return send_json(hub, request, {"success": True})
    asked = request.json()
    start = repo.find(asked.get("startingPoint") or "main") if verb == "branch" else repo.find(name)
    target = f"refs/heads/{name}" if verb == "branch" else f"refs/tags/{asked['tag']}"
    if start is None:
        return refuse(hub, request, 404, "Invalid rev id", "RevisionNotFound")
    if target in repo.refs:
        return refuse(hub, request, 409, f"Reference {target} already exists")
    repo.refs[target] = start
    return send_json(hub, request, {"success": True}, 201)
