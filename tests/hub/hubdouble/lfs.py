# SPDX-License-Identifier: Apache-2.0
"""Git-LFS: batches in both directions, uploads in one piece and in parts, completion, verification, locks.

Owns      {prefix}[.git]/info/lfs/... and /api/complete_multipart at the Hub, PUT /upload/... at the CDN origin (the real Hub's S3).
Promises  every href is absolute and signed; a download is authorised by token and repository, never by knowing the SHA-256; bytes
          whose SHA-256 is not their oid are refused. Objects are remembered per repository from the upload on.
Threads   those of the connections; content.lock guards the tables.
"""
import atexit
import base64
import calendar
import hashlib
import hmac
import json
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path

from .access import LFS_JSON, admit, refuse
from .api import send_json
from .blobs import File, Memory, OnDisk
from .cdn import denied, signature, signed_url
from .message import Reply

MARK = "&X-Amz-Signature="


class Upload:
    """One upload in parts."""

    def __init__(self, repo, oid, size, chunk_size):
        self.id = secrets.token_urlsafe(24)
        self.repo, self.oid, self.size, self.chunk_size = repo, oid, size, chunk_size
        self.parts = {}    # number -> (etag, file)

    @property
    def count(self):
        return -(-self.size // self.chunk_size)


def upload_dir(hub):
    """Where uploaded bytes are kept until the process ends."""
    content = hub.content
    with content.lock:
        if content.upload_dir is None:
            Path(content.cache_dir).mkdir(parents=True, exist_ok=True)
            content.upload_dir = Path(tempfile.mkdtemp(prefix="uploads-", dir=content.cache_dir))
            atexit.register(shutil.rmtree, content.upload_dir, ignore_errors=True)
        return content.upload_dir


# Addresses

def _sign_put(hub, path, query):
    started = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = (f"{path}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={started}&X-Amz-Expires={int(hub.options.signature_ttl)}"
              f"&X-Amz-SignedHeaders=host{query}")
    return f"{hub.cdn_url}{target}{MARK}{signature(target)}"


def _is_signed(request):
    target, mark, given = request.target.partition(MARK)
    if not mark or not hmac.compare_digest(given, signature(target)):
        return False
    started = calendar.timegm(time.strptime(request.param("X-Amz-Date"), "%Y%m%dT%H%M%SZ"))
    return time.time() < started + int(request.param("X-Amz-Expires"))


def _completion_url(hub, upload):
    target = f"/api/complete_multipart?uploadId={upload.id}&bucket=hf-hub-lfs&prefix=repos/{upload.repo.object_id}"
    return f"{hub.url}{target}&signature={signature(target)}"


# The batch

def handle_lfs(hub, request, kind, repo_id, segments):
    """Everything below info/lfs."""
    if segments == ["objects", "batch"] and request.method == "POST":
        return handle_batch(hub, request, kind, repo_id)
    if segments == ["objects", "verify"] and request.method == "POST":
        return handle_verify(hub, request, kind, repo_id)
    if segments[:1] == ["locks"]:
        return handle_locks(hub, request, kind, repo_id, segments[1:])
    return refuse(hub, request, 404, "Not found")


def say(hub, request, value, status=200):
    return send_json(hub, request, value, status, content_type=LFS_JSON)


def handle_batch(hub, request, kind, repo_id):
    asked = request.json()
    is_upload = asked.get("operation") == "upload"
    repo = admit(hub, request, kind, repo_id, "write" if is_upload else "bytes", direct=True)
    if asked.get("hash_algo", "sha256") not in ("sha256", "sha_256"):    # the second is what huggingface.js says
        return say(hub, request, {"message": "Only sha256 is supported"}, 409)
    if asked.get("operation") not in ("upload", "download"):
        return say(hub, request, {"message": "operation must be upload or download"}, 422)
    in_parts = "multipart" in asked.get("transfers", [])
    held = {f.sha256: p for c in repo.commits.values() for p, f in c.files.items() if f.is_lfs}
    held |= {oid: oid for oid in repo.uploaded if oid not in held}
    objects = []
    for wanted in asked.get("objects", []):
        item = {"oid": wanted["oid"], "size": wanted["size"], "authenticated": True}
        objects.append(_offer(hub, repo, held, item, in_parts) if is_upload else _give(hub, repo, held, item))
    are_parts = any("chunk_size" in o.get("actions", {}).get("upload", {}).get("header", {}) for o in objects)
    return say(hub, request, {"transfer": "multipart" if are_parts else "basic", "objects": objects})


def _expiry(hub):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + hub.options.signature_ttl))


def _failed(item, code, message):
    return {"oid": item["oid"], "size": item["size"], "error": {"code": code, "message": message}}


def _give(hub, repo, held, item):
    """The answer for one object of a download."""
    oid = item["oid"]
    if oid in hub.content.gone:
        return _failed(item, 410, "Object was removed")
    if oid not in held:
        return _failed(item, 404, "Object does not exist")
    file = hub.content.by_sha256[oid]
    if file.size != item["size"]:
        return _failed(item, 422, "Object has another size")
    return item | {"actions": {"download": {"href": signed_url(hub, repo, held[oid], file), "expires_at": _expiry(hub)}}}


def _offer(hub, repo, held, item, in_parts):
    """The answer for one object of an upload; without actions if the Hub has it."""
    oid, size = item["oid"], item["size"]
    if oid in held:
        return item
    path = f"/upload/{repo.object_id}/{oid}"
    if in_parts and size > hub.options.multipart_over:
        upload = Upload(repo, oid, size, hub.options.chunk_size)
        hub.content.uploads[upload.id] = upload
        header = {"chunk_size": str(upload.chunk_size)}
        for number in range(1, upload.count + 1):
            header[f"{number:05d}"] = _sign_put(hub, path, f"&partNumber={number}&uploadId={upload.id}&x-id=UploadPart")
        action = {"href": _completion_url(hub, upload), "header": header}
    else:
        action = {"href": _sign_put(hub, path, "&x-id=PutObject"), "expires_at": _expiry(hub)}
    verify = {"href": f"{hub.url}{repo.prefix}.git/info/lfs/objects/verify", "header": {"Authorization": _pass_for(repo, oid)}}
    return item | {"actions": {"upload": action, "verify": verify}}


def _pass_for(repo, oid):
    """The credential that a verify action carries: git-lfs sends none of its own where the batch said authenticated."""
    return "Basic " + base64.b64encode(f"lfs:lfs_{signature(repo.object_id + oid)}".encode()).decode()


# What comes after

def take_upload(hub, request):
    """At the CDN origin: a whole object, or one part of one."""
    if not _is_signed(request):
        return denied("SignatureDoesNotMatch", "The request signature we calculated does not match", 403)
    oid, upload_id = request.segments[-1], request.param("uploadId")
    body = request.load()
    md5 = hashlib.md5()
    with body.open() as source:
        while piece := source.read(1 << 20):
            md5.update(piece)
    etag = f'"{md5.hexdigest()}"'
    if upload_id:
        upload, number = hub.content.uploads.get(upload_id), int(request.param("partNumber"))
        if upload is None or upload.oid != oid:
            return denied("NoSuchUpload", "The specified upload does not exist.", 404)
        place = upload_dir(hub) / f"{hashlib.sha1(upload_id.encode()).hexdigest()}.{number}"
        body.save(place)
        upload.parts[number] = (etag, place)
    else:
        if body.digest.hexdigest() != oid:
            return denied("BadDigest", "The SHA256 you specified did not match", 400)
        keep(hub, request.segments[-2], oid, body)
    return Reply(200, [("ETag", etag), ("x-amz-request-id", secrets.token_hex(8).upper()), ("Server", "AmazonS3")])


def keep(hub, object_id, oid, body):
    """Remembers the bytes of a large file that a commit or a push will name."""
    if body.file is None:
        source = Memory(body.bytes())
    else:
        place = upload_dir(hub) / f"{oid}.bin"
        body.save(place)
        source = OnDisk(place, oid)
    remember(hub, object_id, File(source, lfs=True))


def remember(hub, object_id, file):
    with hub.content.lock:
        hub.content.learn(file)
        for repo in hub.content.repos.values():
            if repo.object_id == object_id:
                repo.uploaded.add(file.sha256)


def handle_completion(hub, request):
    """POST /api/complete_multipart: joins the parts. The signature in the address is all the authority it needs."""
    target, _, given = request.target.partition("&signature=")
    upload = hub.content.uploads.get(request.param("uploadId"))
    if upload is None or not hmac.compare_digest(given, signature(target)):
        return refuse(hub, request, 403, "Invalid signature")
    asked = request.json()
    named = [(part["partNumber"], part["etag"]) for part in asked["parts"]]
    have = [(number, upload.parts.get(number, (None,))[0]) for number in range(1, upload.count + 1)]
    if asked["oid"] != upload.oid or named != have:
        return refuse(hub, request, 400, "The parts are not those that were uploaded")
    place = upload_dir(hub) / f"{upload.oid}.{upload.id[:8].replace('-', '_')}"
    digest = hashlib.sha256()
    with open(place, "wb") as out:
        for number, _ in have:
            with open(upload.parts[number][1], "rb") as part:
                while piece := part.read(1 << 20):
                    digest.update(piece)
                    out.write(piece)
            os.unlink(upload.parts[number][1])
    if digest.hexdigest() != upload.oid:
        os.unlink(place)
        return refuse(hub, request, 400, "The SHA256 of the parts together is another one")
    final = upload_dir(hub) / f"{upload.oid}.bin"
    os.replace(place, final)
    remember(hub, upload.repo.object_id, File(OnDisk(final, upload.oid), lfs=True))
    del hub.content.uploads[upload.id]
    return say(hub, request, {"success": True})


def handle_verify(hub, request, kind, repo_id):
    asked = request.json()
    repo, _ = hub.content.look_up(kind, repo_id)
    if repo is None or request.get("Authorization") != _pass_for(repo, asked["oid"]):
        repo = admit(hub, request, kind, repo_id, "write", direct=True)
    file = hub.content.by_sha256.get(asked["oid"])
    if file is None or asked["oid"] not in repo.uploaded:
        return say(hub, request, {"message": "Object does not exist"}, 404)
    if file.size != asked["size"]:
        return say(hub, request, {"message": "Object has another size"}, 422)
    return say(hub, request, {})


def handle_locks(hub, request, kind, repo_id, segments):
    """The Hub has no locks: 404, or (locks="empty") lists without entries."""
    is_write = request.method == "POST"
    admit(hub, request, kind, repo_id, "write" if is_write else "bytes", direct=True)
    if hub.options.locks == "empty" and segments == ["verify"]:
        return say(hub, request, {"ours": [], "theirs": []})
    if hub.options.locks == "empty" and not is_write:
        return say(hub, request, {"locks": []})
    body = json.dumps({"message": "Not found"})
    return refuse(hub, request, 404, "Not found", body=body)
