# SPDX-License-Identifier: Apache-2.0
"""git over HTTP: the smart protocol (v0, v1, v2), push, and the few files of the dumb one.

Owns      the routes {prefix}[.git]/info/refs, /git-upload-pack, /git-receive-pack, /HEAD and /objects/...
Promises  a 401 here offers Basic (access.py), without which git does not use the password it has. Answers of the two services are
          chunked, as a Hub's are, and not to be cached.
Threads   those of the connections.
"""
import zlib

from .access import TEXT, admit, answer, refuse
from .blobs import OnDisk
from .body import decoded
from .gitstore import store_of

SERVICES = ("git-upload-pack", "git-receive-pack")
NEVER_CACHED = [("Expires", "Fri, 01 Jan 1980 00:00:00 GMT"), ("Pragma", "no-cache"),
                ("Cache-Control", "no-cache, max-age=0, must-revalidate")]
FOREVER = [("Cache-Control", "public, max-age=31536000")]


def is_git_path(verb, rest):
    """Whether verb and the segments behind it, below a repository, are git's."""
    return (verb == "info" and rest == ["refs"] or verb in SERVICES and not rest or verb == "HEAD" and not rest
            or verb == "objects" and len(rest) in (2, 3))


def pkt_line(text):
    return f"{len(text) + 4:04x}{text}".encode()


def handle_git(hub, request, kind, repo_id, verb, rest):
    method = "GET" if request.method == "HEAD" else request.method
    wanted = request.param("service") if verb == "info" else verb
    repo = admit(hub, request, kind, repo_id, "write" if wanted == "git-receive-pack" else "bytes")
    if verb in SERVICES:
        if method != "POST":
            return refuse(hub, request, 405, "Method not allowed")
        return handle_service(hub, request, repo, verb)
    if method != "GET":
        return refuse(hub, request, 405, "Method not allowed")
    if verb == "info":
        return handle_refs(hub, request, repo, wanted)
    store = store_of(repo)
    place = store.path / "/".join([verb, *rest])
    if ".." in rest or not place.is_file():
        return refuse(hub, request, 404, "Not found")
    lasting = FOREVER if verb == "objects" else NEVER_CACHED
    content_type = TEXT if verb == "HEAD" else "application/x-git-loose-object"
    return answer(hub, request, 200, OnDisk(place), content_type=content_type, after=lasting)


def handle_refs(hub, request, repo, service):
    if service is None:
        store_of(repo)
        lines = [f"{commit.id}\t{ref}\n" for ref, commit in sorted(repo.refs.items())]
        return answer(hub, request, 200, "".join(lines).encode(), content_type=TEXT, after=NEVER_CACHED)
    if service not in SERVICES:
        return refuse(hub, request, 403, f"Unsupported service: {service}")
    protocol = request.get("Git-Protocol")
    body = store_of(repo).serve(service, protocol, advertise=True)
    if not body.startswith(b"000eversion 2"):
        body = pkt_line(f"# service={service}\n") + b"0000" + body
    return answer(hub, request, 200, body, content_type=f"application/x-{service}-advertisement", after=NEVER_CACHED)


def handle_service(hub, request, repo, service):
    if request.get("Content-Type") != f"application/x-{service}-request":
        return refuse(hub, request, 415, "Unsupported Media Type")
    try:
        body = decoded(request)
    except (OSError, EOFError, zlib.error):
        return refuse(hub, request, 400, "The body is not what Content-Encoding says")
    store, protocol = store_of(repo), request.get("Git-Protocol")
    if service == "git-receive-pack":
        said, changed = store.receive(body, protocol)
        repo.content.pushes.append((repo.kind, repo.id, changed))
    else:
        said = store.serve(service, protocol, body=body)
    reply = answer(hub, request, 200, said, content_type=f"application/x-{service}-result", after=NEVER_CACHED, length=False)
    reply.framing = "chunked"
    return reply
