# SPDX-License-Identifier: Apache-2.0
"""File content: /resolve/, /api/resolve-cache/, /raw/ and /blob/."""
import gzip
import mimetypes
from urllib.parse import quote

from .access import TEXT, Refused, admit, answer, redirect, refuse
from .cdn import signed_url
from .message import with_range


def encode_path(path):
    return quote(path, safe="/!'()*~")


def disposition(path):
    name = path.rsplit("/", 1)[-1]
    plain = "".join(c if c.isprintable() and ord(c) < 256 and c not in '"\\' else "?" for c in name)
    return f"inline; filename*=UTF-8''{quote(name, safe='')}; filename=\"{plain}\";"


def content_type(path, file):
    head = file.source.read(0, 512)
    try:
        head.decode()
        return TEXT
    except UnicodeDecodeError:
        guess = mimetypes.guess_type(path)[0] or ""
        return guess if guess.startswith(("image/", "audio/", "video/")) else "application/octet-stream"


def find_file(hub, request, repo, segments):
    """(commit, path, file) for decoded segments revision/path...; refuses what does not exist."""
    revision, rest = repo.split(segments)
    commit = repo.find(revision)
    if commit is None:
        raise Refused(refuse(hub, request, 404, f"Invalid rev id: {revision}", "RevisionNotFound"))
    path = "/".join(rest)
    if path not in commit.files:
        raise Refused(missing(hub, request, commit))
    return commit, path, commit.files[path]


def missing(hub, request, commit):
    return refuse(hub, request, 404, "Entry not found", "EntryNotFound", [("X-Repo-Commit", commit.id), ("X-Hub-Cache", "MISS")])


def file_headers(commit, path):
    return [("X-Repo-Commit", commit.id), ("Accept-Ranges", "bytes"), ("X-Hub-Cache", "MISS"),
            ("Content-Disposition", disposition(path)), ("Content-Security-Policy", "default-src 'none'; sandbox")]


def handle_resolve(hub, request, kind, repo_id, segments):
    repo = admit(hub, request, kind, repo_id, "bytes", direct=True)
    commit, path, file = find_file(hub, request, repo, segments)
    if file.is_lfs:
        return resolve_large(hub, request, repo, commit, path, file)
    if hub.options.regular == "direct":
        return send_file(hub, request, commit, path, file)
    original = quote(request.path, safe="")
    location = (f"/api/resolve-cache/{repo.plural}/{repo.id}/{commit.id}/{encode_path(path)}"
                f"?{original}=&etag=%22{file.oid}%22")
    extra = [("X-Linked-Etag", f'"{file.oid}"')] if hub.options.linked_etag else []
    return redirect(hub, request, 307, location, extra + file_headers(commit, path))


def resolve_large(hub, request, repo, commit, path, file):
    after = [("X-Repo-Commit", commit.id), ("X-Linked-Size", str(file.size)), ("X-Linked-Etag", f'"{file.sha256}"')]
    if hub.options.xet:
        after += [("X-Xet-Hash", file.xet_hash),
                  ("Link", f'<{hub.url}/api/{repo.plural}/{repo.id}/xet-read-token/{commit.id}>; rel="xet-auth", '
                           f'<{hub.cas_url}/v1/reconstructions/{file.xet_hash}>; rel="xet-reconstruction-info"')]
    after += [("Accept-Ranges", "bytes"), ("Cache-Control", "no-store")]
    if hub.options.lfs == "direct":
        return send_file(hub, request, commit, path, file, after)
    status = 307 if (request.get("User-Agent") or "").startswith("ollama/") else 302
    return redirect(hub, request, status, signed_url(hub, repo, path, file), after)


def send_file(hub, request, commit, path, file, after=None):
    """The bytes themselves, with their range, condition and (as the Hub's front does for text) gzip."""
    etag = f'"{file.etag}"'
    headers = file_headers(commit, path) if after is None else after
    if request.get("If-None-Match") in (etag, f"W/{etag}", "*"):
        return answer(hub, request, 304, first=[("ETag", etag)], after=headers, length=False)
    kind = content_type(path, file)
    if (hub.options.gzip and kind == TEXT and 1000 <= file.size <= 10_000_000 and request.method == "GET" and not request.get("Range")
            and "gzip" in (request.get("Accept-Encoding") or "")):
        reply = answer(hub, request, 200, gzip.compress(file.source.read(), 6), content_type=kind, vary="Origin, Accept-Encoding",
                       first=[("ETag", f"W/{etag}"), ("Content-Encoding", "gzip")], after=headers, length=False)
        reply.framing = "chunked"
        return reply
    reply = answer(hub, request, 200, file.source, content_type=kind, first=[("ETag", etag)], after=headers)
    return with_range(request, reply, etag)


def handle_resolve_cache(hub, request, kind, repo_id, segments):
    repo = admit(hub, request, kind, repo_id, "bytes")
    if not segments or len(segments[0]) != 40:
        return refuse(hub, request, 400, "Invalid commit")
    commit = repo.commits.get(segments[0])
    if commit is None:
        return refuse(hub, request, 404, f"Invalid rev id: {segments[0]}", "RevisionNotFound")
    path = "/".join(segments[1:])
    file = commit.files.get(path)
    if file is None:
        return missing(hub, request, commit)
    if file.is_lfs:
        return resolve_large(hub, request, repo, commit, path, file)
    return send_file(hub, request, commit, path, file)


def handle_raw(hub, request, kind, repo_id, segments):
    """What git holds: the bytes of a regular file, the pointer of a large one."""
    repo = admit(hub, request, kind, repo_id, "bytes", direct=True)
    commit, path, file = find_file(hub, request, repo, segments)
    etag = f'"{file.oid}"'
    headers = file_headers(commit, path)
    if request.get("If-None-Match") == etag:
        return answer(hub, request, 304, first=[("ETag", etag)], after=headers, length=False)
    body = file.pointer if file.is_lfs else file.source
    return with_range(request, answer(hub, request, 200, body, content_type=TEXT, first=[("ETag", etag)], after=headers), etag)


def handle_blob(hub, request, kind, repo_id, segments):
    repo = admit(hub, request, kind, repo_id, "bytes", direct=True)
    _, path, _ = find_file(hub, request, repo, segments)
    page = f"<!doctype html><title>{repo.id}</title><h1>{path}</h1>".encode()
    return answer(hub, request, 200, page, content_type="text/html; charset=utf-8")
