# SPDX-License-Identifier: Apache-2.0
"""Hub-wide reads: lists and searches, whoami, telemetry and the like."""
import base64
from urllib.parse import quote, urlencode

from .access import Refused, answer, may_see, refuse, token_of
from .api import front_matter, info_fields, send_json
from .content import iso


def handle_list(hub, request, kind):
    """/api/models and its sisters: public repositories and those of this token."""
    token = token_of(hub, request)
    search = (request.param("search") or "").lower()
    author = request.param("author")
    gated = request.param("gated")
    wanted = [f for value in request.all_params("filter") for f in value.split(",")]
    found = []
    for (repo_kind, repo_id), repo in sorted(hub.content.repos.items()):
        if repo_kind != kind or not may_see(token, repo) or repo.head is None or repo.disabled:
            continue
        if search and search not in repo_id.lower() or author and repo.namespace != author:
            continue
        if gated and bool(repo.gated) != (gated.lower() in ("true", "1")):
            continue
        card = front_matter(repo.head)
        tags = list(card.get("tags") or []) + [card.get("pipeline_tag"), card.get("library_name")]
        if any(f not in tags for f in wanted) or request.param("pipeline_tag") not in (None, card.get("pipeline_tag")):
            continue
        found.append(repo)
    limit = max(1, min(int(request.param("limit") or 1000), 1000))
    start = _read_offset(request.param("cursor"))
    page = found[start:start + limit]
    after = []
    if start + limit < len(found):
        kept = [(k, v) for k, v in request.params if k != "cursor"]
        cursor = quote(base64.b64encode(f'{{"offset":{start + limit}}}'.encode()).decode(), safe="")
        query = urlencode(kept) + ("&" if kept else "") + f"cursor={cursor}"
        after = [("Link", f'<{hub.url}{request.path}?{query}>; rel="next"')]
    return send_json(hub, request, [_item(request, repo) for repo in page], after=after)


def _read_offset(cursor):
    try:
        return int(base64.b64decode(cursor or "").decode().partition(":")[2].strip("}") or 0)
    except ValueError:
        return 0


def _item(request, repo):
    full = info_fields(repo, repo.head)
    expand = request.all_params("expand")
    if expand:
        return {"_id": repo.object_id, "id": repo.id} | {k: full[k] for k in expand if k in full}
    names = ["_id", "id", "likes", "private", "downloads", "tags", "pipeline_tag", "library_name", "createdAt", "modelId", "sdk"]
    if request.flag("full"):
        names += ["author", "sha", "lastModified", "gated", "disabled", "siblings"]
    names += [n for n in ("config", "cardData") if request.flag(n)]
    return {n: full[n] for n in names if n in full}


def handle_whoami(hub, request):
    token = token_of(hub, request)
    if token is None:
        return refuse(hub, request, 401, "Invalid username or password.")
    return send_json(hub, request, {
        "type": "user", "id": hub.content.user_id(token.user), "name": token.user, "fullname": token.user.title(), "isPro": False,
        "avatarUrl": "/avatars/none.svg", "orgs": [],
        "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": token.role, "createdAt": iso(1708340265)}}})


def handle_other(hub, request):
    """Paths below /api/ that belong to no repository."""
    path = request.path
    if path.startswith("/api/telemetry/"):
        return answer(hub, request, 200)
    if path == "/api/agent-harnesses":
        return send_json(hub, request, {"standardEnvVars": [], "harnesses": {}})
    if path.endswith("-tags-by-type"):
        return send_json(hub, request, {"pipeline_tag": [], "library": [], "license": []})
    if path in ("/api/tasks",):
        return send_json(hub, request, {})
    if path == "/api/validate-yaml" and request.method == "POST":
        return send_json(hub, request, {"errors": [], "warnings": []})
    raise Refused(refuse(hub, request, 404, "Sorry, we can't find the page you are looking for."))
