# SPDX-License-Identifier: Apache-2.0
"""Buckets: storage without git and without revisions, whose files clients reach over Xet.

Owns      Bucket (files by path, mutable), /api/buckets/... and /buckets/{id}/resolve/{path}.
Promises  resolve gives the Xet headers and a signed address at the CDN, whose bytes are right even without Xet; nothing here has a
          commit. A bucket that may not be seen is 401, or with a token 404 RepoNotFound.
Threads   those of the connections; content.lock guards the tables.
"""
import base64
import hashlib
import json
import time
from urllib.parse import quote, urlencode

from .access import Refused, answer, not_found, redirect, refuse, token_of
from .api import send_json
from .blobs import LFS, make_file
from .cdn import signed_url
from .content import iso

FIRST_DATE = 1750000000
VERBS = ("tree", "paths-info", "batch", "settings", "xet-read-token", "xet-write-token")


class Bucket:
    """Files by path. Bytes given to put() are as in repo.commit()."""

    def __init__(self, content, bucket_id, private=False):
        self.content = content
        self.id = bucket_id
        self.kind = "bucket"
        self.private = private
        self.object_id = hashlib.sha1(f"bucket {bucket_id}".encode()).hexdigest()[:24]
        self.files = {}    # path -> (File, seconds)
        content.buckets[bucket_id] = self

    @property
    def namespace(self):
        return self.id.split("/")[0]

    @property
    def prefix(self):
        return f"/buckets/{self.id}"

    def put(self, path, value):
        self.keep(path, make_file(value if isinstance(value, LFS) else LFS(value), self.content.cache_dir))

    def keep(self, path, file):
        with self.content.lock:
            self.content.learn(file)
            self.files[path] = (file, FIRST_DATE + len(self.files))

    def fields(self):
        return {"_id": self.object_id, "id": self.id, "author": self.namespace, "private": self.private, "createdAt": iso(FIRST_DATE),
                "updatedAt": iso(FIRST_DATE), "size": sum(f.size for f, _ in self.files.values()), "totalFiles": len(self.files)}

    def item(self, path):
        file, date = self.files[path]
        return {"type": "file", "path": path, "size": file.size, "xetHash": file.xet_hash, "mtime": iso(date), "uploadedAt": iso(date)}

    def listing(self, prefix, recursive):
        """Items below a prefix, folders of one level unless recursive."""
        folders, items = {}, []
        for path in sorted(self.files):
            if not path.startswith(prefix):
                continue
            below, slash, _ = path[len(prefix):].partition("/")
            if slash and not recursive:
                folders.setdefault(prefix + below, iso(self.files[path][1]))
            else:
                items.append(self.item(path))
        return [{"type": "directory", "path": p, "uploadedAt": date} for p, date in folders.items()] + items


def find_bucket(hub, request, bucket_id, write=False):
    bucket, token = hub.content.buckets.get(bucket_id), token_of(hub, request)
    mine = bool(token) and bucket is not None and (token.user == bucket.namespace or bucket_id in token.grants)
    if bucket is None or bucket.private and not mine:
        raise Refused(not_found(hub, request, token))
    if write and not (mine and token.role == "write"):
        raise Refused(refuse(hub, request, 403 if token else 401, f"Forbidden: you must have write access to {bucket_id}"))
    return bucket


def handle_api(hub, request, segments):
    """Everything below /api/buckets/."""
    method = "GET" if request.method == "HEAD" else request.method
    if len(segments) == 1 and method == "GET":
        token = token_of(hub, request)
        shown = [b.fields() for b in hub.content.buckets.values() if b.namespace == segments[0]
                 and (not b.private or token and token.user == b.namespace) and (request.param("search") or "") in b.id]
        return send_json(hub, request, shown)
    bucket_id, verb, rest = "/".join(segments[:2]), segments[2] if len(segments) > 2 else None, segments[3:]
    if verb is None:
        return handle_whole(hub, request, method, bucket_id)
    if verb == "batch" and method == "POST":
        return handle_batch(hub, request, find_bucket(hub, request, bucket_id, write=True))
    if verb == "settings" and method == "PUT":
        bucket = find_bucket(hub, request, bucket_id, write=True)
        bucket.private = bool(request.json().get("private", bucket.private))
        return send_json(hub, request, {"success": True})
    bucket = find_bucket(hub, request, bucket_id)
    if verb == "tree" and method == "GET":
        return handle_tree(hub, request, bucket, "/".join(rest))
    if verb == "paths-info" and method == "POST":
        return send_json(hub, request, [bucket.item(p) for p in request.json().get("paths", []) if p in bucket.files])
    if verb in ("xet-read-token", "xet-write-token") and method == "GET":
        token = {"accessToken": f"xet_{bucket.object_id}", "exp": 4102444800, "casUrl": hub.cas_url}
        after = [("X-Xet-Cas-Url", hub.cas_url), ("X-Xet-Access-Token", token["accessToken"]),
                 ("X-Xet-Token-Expiration", str(token["exp"]))]
        return send_json(hub, request, token, after=after)
    return refuse(hub, request, 404, "Not found")


def handle_whole(hub, request, method, bucket_id):
    if method == "GET":
        return send_json(hub, request, find_bucket(hub, request, bucket_id).fields())
    if method == "DELETE":
        del hub.content.buckets[find_bucket(hub, request, bucket_id, write=True).id]
        return answer(hub, request, 204, length=False)
    token = token_of(hub, request)
    if method != "POST" or token is None:
        return refuse(hub, request, 405 if token else 401, "Method not allowed" if token else "Invalid username or password.")
    bucket_id = f"{token.user}/{bucket_id[3:]}" if bucket_id.startswith("me/") else bucket_id
    url = f"{hub.url}/buckets/{bucket_id}"
    if bucket_id in hub.content.buckets:
        return send_json(hub, request, {"error": "You already created this bucket", "url": url}, 409)
    Bucket(hub.content, bucket_id, private=request.json().get("visibility") == "private")
    token.grants.add(bucket_id)
    return send_json(hub, request, {"url": url, "name": bucket_id, "id": hub.content.buckets[bucket_id].object_id})


def handle_tree(hub, request, bucket, prefix):
    if prefix and not prefix.endswith("/") and prefix not in bucket.files:
        prefix += "/"
    items = bucket.listing(prefix, request.flag("recursive"))
    limit = max(1, min(int(request.param("limit") or hub.options.page_size), hub.options.page_size))
    start = int(base64.b64decode(request.param("cursor") or "MA==").decode() or 0)
    after = ()
    if start + limit < len(items):
        kept = [(k, v) for k, v in request.params if k not in ("limit", "cursor")]
        cursor = quote(base64.b64encode(str(start + limit).encode()).decode(), safe="")
        query = urlencode(kept + [("limit", limit)]) + f"&cursor={cursor}"
        after = [("Link", f'<{hub.url}{request.path}?{query}>; rel="next"')]
    return send_json(hub, request, items[start:start + limit], after=after)


def handle_batch(hub, request, bucket):
    """NDJSON of addFile, copyFile and deleteFile."""
    done, failed = 0, []
    for line in request.body.splitlines():
        asked = json.loads(line) if line.strip() else None
        if not asked:
            continue
        if asked["type"] == "deleteFile":
            bucket.files.pop(asked["path"], None)
        elif asked.get("xetHash") in hub.content.by_xet:
            bucket.keep(asked["path"], hub.content.by_xet[asked["xetHash"]])
        else:
            failed.append({"path": asked["path"], "error": "Xet file was not uploaded"})
            continue
        done += 1
    status = 422 if failed and not done else 200
    return send_json(hub, request, {"success": not failed, "processed": done + len(failed), "succeeded": done, "failed": failed}, status)


def handle_resolve(hub, request, segments):
    """/buckets/{ns}/{name}/resolve/{path}, the path as one encoded segment or as several."""
    if len(segments) < 4 or segments[2] != "resolve" or request.method not in ("GET", "HEAD"):
        return refuse(hub, request, 404, "Sorry, we can't find the page you are looking for.")
    bucket = find_bucket(hub, request, "/".join(segments[:2]))
    path = "/".join(segments[3:])
    if path not in bucket.files:
        return refuse(hub, request, 404, "Entry not found", "EntryNotFound")
    file, date = bucket.files[path]
    after = [("X-Linked-Size", str(file.size)), ("X-Linked-Etag", f'"{file.xet_hash}"'),
             ("Last-Modified", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(date)))]
    if hub.options.xet:
        after += [("X-Xet-Hash", file.xet_hash),
                  ("Link", f'<{hub.url}/api/buckets/{bucket.id}/xet-read-token>; rel="xet-auth", '
                           f'<{hub.cas_url}/v1/reconstructions/{file.xet_hash}>; rel="xet-reconstruction-info"')]
    after += [("Accept-Ranges", "bytes"), ("Cache-Control", "no-store")]
    return redirect(hub, request, 302, signed_url(hub, bucket, path, file), after)
