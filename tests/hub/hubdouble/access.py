# SPDX-License-Identifier: Apache-2.0
"""Who may do what, and every refusal in the Hub's own words."""
import base64
import binascii
import hashlib
import re
import secrets
import time
from email.utils import formatdate

from .message import Reply

EXPOSED = ("X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,Link,Accept-Ranges,Content-Range,"
           "X-Linked-Size,X-Linked-ETag,X-Xet-Hash")
TEXT = "text/plain; charset=utf-8"
JSON = "application/json; charset=utf-8"
LFS_JSON = "application/vnd.git-lfs+json"


class Refused(Exception):
    """Carries the answer to send instead."""

    def __init__(self, reply):
        self.reply = reply


def weak_etag(body):
    """The entity tag that Express computes for a generated body."""
    return f'W/"{len(body):x}-{base64.b64encode(hashlib.sha1(body).digest()).decode()[:27]}"'


def request_id(request):
    theirs = request.get("X-Amzn-Trace-Id")
    own = f"Root=1-{int(time.time()):08x}-{secrets.token_hex(12)}"
    return f"{own};{theirs}" if theirs else own


def answer(hub, request, status, body=b"", first=(), after=(), vary="Origin", content_type=None, length=True):
    """A reply with the headers that the Hub puts on everything, `first` before and `after` behind them."""
    bucket = "resolvers" if "resolve" in request.path else "api" if request.path.startswith("/api/") else "pages"
    quota, left, reset = hub.ratelimit(bucket)
    reply = Reply(status, body=body)
    head = [("Content-Type", content_type)] if content_type else []
    head += [("Content-Length", str(reply.length))] if length else []
    origin = request.get("Origin")
    reply.headers = [("Date", formatdate(usegmt=True))] + head + list(first) + [
        ("X-Powered-By", "huggingface-moon"),
        ("X-Request-Id", request_id(request)),
        ("RateLimit", f'"{bucket}";r={left};t={reset}'),
        ("RateLimit-Policy", f'"fixed window";"{bucket}";q={quota};w=300'),
        ("cross-origin-opener-policy", "same-origin"),
        ("Referrer-Policy", "strict-origin-when-cross-origin"),
        ("Access-Control-Max-Age", "86400"),
        ("Access-Control-Allow-Origin", origin or hub.url),
        ("Vary", vary),
        ("Access-Control-Expose-Headers", EXPOSED)] + list(after)
    reply.headers.append(("X-Cache", "Error from cloudfront" if status >= 400 else "Miss from cloudfront"))
    return reply


def is_api(request):
    return request.path.startswith(("/api/", "/v2/")) and "/resolve-cache/" not in request.path


GIT_PATH = re.compile(r"/(?:(?:datasets|spaces|kernels)/)?[^/]+(?:/[^/]+)?/"
                      r"(?:info/refs|info/lfs/.*|git-upload-pack|git-receive-pack|HEAD|objects/[^/]+(?:/[^/]+)?)")


def is_git(request):
    return GIT_PATH.fullmatch(request.path) is not None


def refuse(hub, request, status, message, code=None, after=(), told=None, body=None):
    """An error answer: JSON below /api/, plain text elsewhere."""
    import json
    extra = [("X-Error-Code", code)] if code else []
    extra += [("X-Error-Message", told or message)]
    if status == 401 and request.path.startswith("/v2/"):
        realm = f"{hub.url}/api/models/{'/'.join(request.raw_segments[1:3])}/ssh-auth"
        extra.append(("WWW-Authenticate", f'Basic realm="{realm}"'))
    elif status == 401:
        scheme = "Basic" if is_git(request) else "Bearer"
        extra.append(("WWW-Authenticate", f'{scheme} realm="Authentication required", charset="UTF-8"'))
    if body is None:
        body = json.dumps({"error": message}, separators=(",", ":"), ensure_ascii=False) if is_api(request) else message
    body = body.encode()
    return answer(hub, request, status, body, content_type=JSON if body[:1] == b"{" else TEXT, vary="Origin, Accept",
                  first=[("ETag", weak_etag(body))], after=list(after) + extra)


def secret_of(request):
    """The token a request carries, Bearer or the password of Basic; None if it carries none."""
    scheme, _, value = (request.get("Authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return value
    return (request.get("Authorization") or None)


def token_of(hub, request):
    """The Token of a request, None for an anonymous one; refuses unknown tokens."""
    secret = secret_of(request)
    if secret is None:
        return None
    token = hub.content.tokens.get(secret)
    if token is None:
        raise Refused(refuse(hub, request, 401, "Invalid credentials in Authorization header"))
    return token


def may_see(token, repo):
    """Whether a private repository exists for this token."""
    return not repo.private or belongs(token, repo)


def belongs(token, repo):
    return bool(token) and (repo.id in token.grants or (repo.kind, repo.id) in token.grants or repo.namespace == token.user)


def not_found(hub, request, token):
    if token:
        return refuse(hub, request, 404, "Repository not found", "RepoNotFound")
    return refuse(hub, request, 401, "Invalid username or password.")


def gate(hub, request, token, repo):
    if token is None:
        message = (f"Access to {repo.kind} {repo.id} is restricted. You must have access to it and be authenticated to access it. "
                   "Please log in.")
        return refuse(hub, request, 401, message, "GatedRepo")
    message = (f"Access to {repo.kind} {repo.id} is restricted and you are not in the authorized list. "
               f"Visit {hub.url}{repo.prefix} to ask for access.")
    return refuse(hub, request, 403, message, "GatedRepo")


def admit(hub, request, kind, repo_id, need="info", direct=False):
    """The repository, if this request may do `need` with it: "info", "bytes", "commits" (as bytes) or "write".

    Another name of it is redirected, unless `direct` and the name is one that is answered in place."""
    repo, how = hub.content.look_up(kind, repo_id)
    secret = secret_of(request)
    if secret is not None and secret not in hub.content.tokens and repo and repo.gated and not repo.private and need != "info":
        raise Refused(gate(hub, request, None, repo))
    token = token_of(hub, request)
    if repo is None or not may_see(token, repo):
        raise Refused(not_found(hub, request, token))
    if how == "alias" or how == "direct" and not direct:
        raise Refused(moved(hub, request, repo_id, repo.id))
    if repo.disabled:
        raise Refused(refuse(hub, request, 403, "Access to this resource is disabled."))
    if need == "write":
        if token is None:
            raise Refused(refuse(hub, request, 401, "Invalid username or password."))
        if token.role != "write" or not belongs(token, repo):
            raise Refused(refuse(hub, request, 403, f"Forbidden: you must have write access to {repo.id}"))
    elif repo.gated and need != "info" and not belongs(token, repo):
        raise Refused(gate(hub, request, token, repo))
    return repo


def moved(hub, request, old, new):
    """The relative 307 for renamed repositories and wrong letter case; keeps the query."""
    width = old.count("/") + 1
    at = next(i for i in range(len(request.segments)) if "/".join(request.segments[i:i + width]).removesuffix(".git") == old)
    suffix = ".git" if request.segments[at + width - 1].endswith(".git") else ""
    path = "/" + "/".join(request.raw_segments[:at] + [new + suffix] + request.raw_segments[at + width:])
    return redirect(hub, request, 307, path + (f"?{request.query}" if request.query else ""))


def redirect(hub, request, status, location, after=()):
    word = "Temporary Redirect" if status == 307 else "Found"
    body = f"{word}. Redirecting to {location}".encode()
    return answer(hub, request, status, body, content_type=TEXT, first=[("Location", location)], vary="Origin, Accept", after=after)
