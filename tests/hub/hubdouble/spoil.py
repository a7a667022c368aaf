# SPDX-License-Identifier: Apache-2.0
"""Answers by rule: those that a rule gives instead of the Hub's, and the changes it makes to one before it is sent."""
import gzip

from .message import Reply

FLIP = bytes(b ^ 0xFF for b in range(256))


def place(where, size):
    """A position in a body of `size` bytes: a number, a negative number (from the end) or "50%"."""
    if isinstance(where, str):
        return int(size * float(where.rstrip("%")) / 100)
    return where if where >= 0 else max(0, size + where)


def scripted(request, a):
    """The answer that a rule gives in place of the handler's; None when it gives none."""
    if not a.get("redirect_to") and "redirect_chain" not in a and (a.get("status") is not None or "body" in a):
        body = a.get("body", b'{"error":"Scripted failure"}')
        body = body.encode() if isinstance(body, str) else body
        headers = a.get("headers") or {}
        reply = Reply(a.get("status") or 200, headers, body)
        if reply.get("Content-Type") is None:
            kind = "application/json" if body[:1] in (b"{", b"[") else "text/html"
            reply.headers.append(("Content-Type", f"{kind}; charset=utf-8"))
        return reply
    if "redirect_chain" in a:
        hop = int(request.param("hop", "0"))
        if hop < a["redirect_chain"]:
            return Reply(a.get("status") or 302, [("Location", f"{request.path}?hop={hop + 1}")])
    if a.get("redirect_to"):
        to = a["redirect_to"]
        reply = Reply(a.get("status") or 302, a.get("headers") or {})
        reply.set("Location", request.target if to == "self" else to)
        return reply
    return None


def spoil(reply, actions):
    """Carries out the actions that change an answer before it is sent."""
    a = actions
    if a.get("force_206") and reply.status == 200:
        reply.status, reply.reason = 206, "Partial Content"
        reply.set("Content-Range", f"bytes 0-{max(0, reply.length - 1)}/{reply.length}")
    if "swap_body" in a:
        body = a["swap_body"]
        reply.body, reply.offset = body.encode() if isinstance(body, str) else body, 0
        reply.length = len(reply.body)
        reply.set("Content-Length", str(reply.length))
    if "truncate" in a:
        reply.length = min(reply.length, place(a["truncate"], reply.length))
        reply.set("Content-Length", str(reply.length))
    if a.get("gzip"):
        reply.body = gzip.compress(reply.whole(), 1)
        reply.offset, reply.length = 0, len(reply.body)
        reply.set("Content-Length", str(reply.length))
        reply.set("Content-Encoding", "gzip")
    if "wrong_bytes" in a:
        at = max(0, place(a["wrong_bytes"], reply.length))
        body = reply.whole()
        reply.body, reply.offset = body[:at] + body[at:].translate(FLIP), 0
    if a.get("wrong_content_range"):
        value = a["wrong_content_range"]
        reply.set("Content-Range", value if isinstance(value, str) else "bytes 7-8/9")
    if a.get("chunked"):
        reply.framing = "chunked"
        if a["chunked"] != "with-length":
            reply.set("Content-Length", None)
        reply.set("Transfer-Encoding", "chunked")
    if "content_length" in a and reply.get("Content-Length") is not None:
        reply.set("Content-Length", str(int(reply.get("Content-Length")) + a["content_length"]))
        reply.close = True
    if "commit" in a:
        reply.set("X-Repo-Commit", a["commit"])
    for name, value in (a.get("set_header") or {}).items():
        reply.set(name, value)
    add = a.get("add_header") or []
    reply.headers += list(add.items()) if isinstance(add, dict) else [tuple(h) for h in add]
    reply.headers += [(f"X-Filler-{i}", "x") for i in range(a.get("many_headers", 0))]
    names = a.get("drop_header") or []
    for name in [names] if isinstance(names, str) else names:
        reply.set(name, None)
        if name.lower() == "content-length":
            reply.close = True
