"""Writes, kept minimal, and Git-LFS batches in both directions."""
import base64
import json
import time

from .access import LFS_JSON, admit, refuse, token_of
from .api import commit_of, send_json
from .cdn import signed_url

REGULAR_MOST = 10 * 1024 * 1024
LARGE_NAMES = (".bin", ".safetensors", ".gguf", ".parquet", ".onnx", ".h5", ".pt", ".msgpack", ".zip", ".gz")


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
    repo.commit({".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}, message="initial commit", author=token.user)
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


def handle_commit(hub, request, kind, repo_id, segments):
    """NDJSON in, a real commit out; create_pr=1 puts it on a new refs/pr/N."""
    repo = admit(hub, request, kind, repo_id, "write")
    revision, commit, _ = commit_of(hub, request, repo, segments)
    message, files, parent = "Update", {}, None
    for line in request.body.splitlines():
        if not line.strip():
            continue
        operation = json.loads(line)
        key, value = operation["key"], operation["value"]
        if key == "header":
            message = value.get("summary", "") + ("\n\n" + value["description"] if value.get("description") else "")
            parent = value.get("parentCommit")
        elif key == "file":
            content = value["content"]
            files[value["path"]] = base64.b64decode(content) if value.get("encoding") == "base64" else content.encode()
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


def handle_ref(hub, request, kind, repo_id, segments, verb):
    """POST and DELETE of /branch/{name} and /tag/{name-or-revision}."""
    repo = admit(hub, request, kind, repo_id, "write")
    name = "/".join(segments)
    if request.method == "DELETE":
        repo.delete_ref(f"refs/{'heads' if verb == 'branch' else 'tags'}/{name}")
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


def handle_lfs(hub, request, kind, repo_id, segments):
    """info/lfs/objects/batch and the verify call."""
    if segments[:2] == ["objects", "verify"]:
        admit(hub, request, kind, repo_id, "write", direct=True)
        return send_json(hub, request, {}, content_type=LFS_JSON)
    if segments != ["objects", "batch"]:
        return refuse(hub, request, 404, "Not found")
    asked = request.json()
    upload = asked.get("operation") == "upload"
    repo = admit(hub, request, kind, repo_id, "write" if upload else "bytes", direct=True)
    held = {f.sha256: p for c in repo.commits.values() for p, f in c.files.items() if f.is_lfs}
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + hub.options.signature_ttl))
    objects = []
    for wanted in asked.get("objects", []):
        oid, item = wanted["oid"], {"oid": wanted["oid"], "size": wanted["size"], "authenticated": True}
        if upload:
            if oid not in held:
                item["actions"] = {"upload": {"href": f"{hub.cdn_url}/upload/{oid}"},
                                   "verify": {"href": f"{hub.url}{repo.prefix}.git/info/lfs/objects/verify"}}
        elif oid in held:
            href = signed_url(hub, repo, held[oid], hub.content.by_sha256[oid])
            item["actions"] = {"download": {"href": href, "expires_at": expires}}
        else:
            item = {"oid": oid, "size": wanted["size"], "error": {"code": 404, "message": "Object does not exist"}}
        objects.append(item)
    return send_json(hub, request, {"transfer": "basic", "objects": objects}, content_type=LFS_JSON)
