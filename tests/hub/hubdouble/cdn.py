# SPDX-License-Identifier: Apache-2.0
"""The CDN origin: signed URLs, bytes by Xet hash; and the CAS origin, which only fails, to show who went there."""
import base64
import hashlib
import hmac
import json
import time
from urllib.parse import quote

from .message import Reply, with_range

SECRET = b"the hub double signs with this"


def signature(target):
    return base64.urlsafe_b64encode(hmac.new(SECRET, target.encode(), hashlib.sha256).digest()).decode().rstrip("=") + "__"


def signed_url(hub, repo, path, file):
    """The address of a large file, good for hub.options.signature_ttl seconds."""
    from .resolve import disposition
    expires = int(time.time() + hub.options.signature_ttl)
    resource = f"/xet-bridge-us/{repo.object_id}/{file.xet_hash}"
    policy = json.dumps({"Statement": [{"Condition": {"DateLessThan": {"AWS:EpochTime": expires}}, "Resource": hub.cdn_url + resource}]},
                        separators=(",", ":"))
    target = (f"{resource}?X-Xet-Cas-Uid=public&response-content-disposition={quote(disposition(path), safe='')}&Expires={expires}"
              f"&Policy={base64.urlsafe_b64encode(policy.encode()).decode().replace('=', '_')}")
    return f"{hub.cdn_url}{target}&Signature={signature(target)}&Key-Pair-Id=K2L8F4GPSG1IFC"


def denied(code="AccessDenied", message="Access denied", status=403):
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body))), ("X-Cache", "Error from cloudfront")]
    return Reply(status, headers, body)


def valid(request):
    """Whether the target is one that signed_url() made, byte for byte, and still good."""
    target, mark, rest = request.target.partition("&Signature=")
    given, _, _ = rest.partition("&")
    if not mark or not hmac.compare_digest(given, signature(target)) or rest != f"{given}&Key-Pair-Id=K2L8F4GPSG1IFC":
        return False
    return time.time() < int(request.param("Expires"))


def handle_cdn(hub, request, call):
    if request.get("Authorization") or request.get("Cookie"):
        call["leak"] = True
        return denied("InvalidArgument", "Only one auth mechanism allowed", 400)
    if request.method == "PUT" and request.path.startswith("/upload/"):
        from .lfs import take_upload
        return take_upload(hub, request)
    if request.method not in ("GET", "HEAD"):
        return denied("MethodNotAllowed", "The specified method is not allowed", 405)
    if request.actions.get("expire_signature") or not valid(request):
        return denied()
    file = hub.content.by_xet.get(request.segments[-1])
    if file is None:
        return denied("NoSuchKey", "The specified key does not exist.", 404)
    etag = f'"{file.xet_hash}"'
    shown = request.param("response-content-disposition")
    reply = Reply(200, [("Content-Length", str(file.size)), ("Content-Disposition", shown),
                        ("Cache-Control", "public, max-age=31536000"), ("ETag", etag), ("Access-Control-Allow-Origin", "*"),
                        ("Access-Control-Expose-Headers",
                         "Accept-Ranges, Content-Range, Content-Type, Content-Disposition, ETag, X-Cache"),
                        ("Accept-Ranges", "bytes"), ("X-Request-Id", f"01{call['n']:024X}"), ("X-Cache", "Hit from cloudfront"),
                        ("Age", "270414"), ("Content-Security-Policy", "default-src 'none'; sandbox")], file.source)
    if request.get("If-None-Match") == etag:
        return Reply(304, [("ETag", etag)])
    return with_range(request, reply, etag)


def handle_cas(hub, request, call):
    """Nobody is served here. Every call is in the record with origin "cas"."""
    body = b'{"error":"the hub double has no CAS server"}'
    return Reply(hub.options.cas_status, [("Content-Type", "application/json")], body)
