# SPDX-License-Identifier: Apache-2.0
"""The Hub origin's routes: which handler a method and a path belong to."""
from .access import Refused, answer, refuse
from .content import KINDS
from . import api, buckets, extras, githttp, lfs, listing, oci, resolve, writes

PLURALS = {plural: kind for kind, plural in KINDS.items()}
READS = {"revision": api.handle_info, "tree": api.handle_tree, "treesize": api.handle_treesize, "refs": api.handle_refs,
         "commits": api.handle_commits, "auth-check": api.handle_auth_check, "xet-read-token": api.handle_xet_token,
         "parquet": api.handle_parquet, "likers": extras.handle_likers, "compare": extras.handle_compare,
         "croissant": extras.handle_croissant, "discussions": extras.handle_discussions, "logs": extras.handle_logs}
POSTS = {"paths-info": api.handle_paths_info, "preupload": writes.handle_preupload, "commit": writes.handle_commit,
         "super-squash": writes.handle_squash, "duplicate": writes.handle_duplicate, "discussions": extras.handle_discussions}
CONTENT = {"resolve": resolve.handle_resolve, "raw": resolve.handle_raw, "blob": resolve.handle_blob}
SMALL = {"runtime", "scan", "secrets", "variables", "leaderboard", "lfs-files"}
OTHER = SMALL | {"branch", "tag", "settings", "xet-write-token"}
API_VERBS = set(READS) | set(POSTS) | OTHER
CONTENT_VERBS = set(CONTENT) | {"info", "HEAD", "objects", "git-upload-pack", "git-receive-pack"}


def split_at_verb(segments, verbs):
    """(repo id, verb, segments behind it); the id has one or two segments. Verb is None if there is none."""
    for at in (1, 2):
        if len(segments) > at and segments[at] in verbs:
            return "/".join(segments[:at]), segments[at], segments[at + 1:]
    return "/".join(segments), None, []


def handle_hub(hub, request, call):
    try:
        left = hub.take_ratelimit(request)
        if left is not None:
            return left
        return _route(hub, request)
    except Refused as refused:
        return refused.reply


def _route(hub, request):
    segments = request.segments
    if request.method == "OPTIONS":
        return answer(hub, request, 204, length=False, after=[
            ("Access-Control-Allow-Methods", "GET,HEAD,POST,PUT,DELETE,OPTIONS"),
            ("Access-Control-Allow-Headers", request.get("Access-Control-Request-Headers") or "authorization")])
    if segments[0] == "api":
        return _route_api(hub, request, segments[1:])
    if segments[0] == "v2":
        return oci.handle_v2(hub, request, segments[1:])
    if segments[0] == "buckets":
        return buckets.handle_resolve(hub, request, segments[1:])
    if segments[0] == "papers" and segments[-1].endswith(".md"):
        return answer(hub, request, 200, b"# A paper\nsee https://huggingface.co/papers\n", content_type="text/markdown; charset=utf-8")
    kind = "model"
    if segments[0] in ("datasets", "spaces", "kernels"):
        kind, segments = PLURALS[segments[0]], segments[1:]
    repo_id, verb, rest = split_at_verb(segments, CONTENT_VERBS)
    if verb == "info" and rest[:1] == ["lfs"]:
        return lfs.handle_lfs(hub, request, kind, repo_id.removesuffix(".git"), rest[1:])
    if githttp.is_git_path(verb, rest):
        return githttp.handle_git(hub, request, kind, repo_id.removesuffix(".git"), verb, rest)
    if verb in CONTENT:
        if request.method not in ("GET", "HEAD"):
            return refuse(hub, request, 405, "Method not allowed")
        return CONTENT[verb](hub, request, kind, repo_id, rest)
    if verb is None and segments != [""]:
        repo, _ = hub.content.look_up(kind, repo_id)
        if repo and not repo.private:
            return answer(hub, request, 200, f"<!doctype html><title>{repo.id}</title>".encode(), content_type="text/html; charset=utf-8")
    if segments == [""]:
        return answer(hub, request, 200, b"<!doctype html><title>Hub double</title>", content_type="text/html; charset=utf-8")
    return refuse(hub, request, 404, "Sorry, we can't find the page you are looking for.")


def _route_api(hub, request, segments):
    method = "GET" if request.method == "HEAD" else request.method
    first = segments[0] if segments else ""
    if first == "resolve-cache" and len(segments) > 3 and segments[1] in PLURALS:
        return resolve.handle_resolve_cache(hub, request, PLURALS[segments[1]], "/".join(segments[2:4]), segments[4:])
    if first == "whoami-v2" and method == "GET":
        return listing.handle_whoami(hub, request)
    if first == "complete_multipart" and method == "POST":
        return lfs.handle_completion(hub, request)
    if first == "repos" and method in ("POST", "DELETE"):
        action = {"create": writes.handle_create, "delete": writes.handle_delete, "move": writes.handle_move}.get(segments[-1])
        if action:
            return action(hub, request)
    if first == "buckets" and len(segments) > 1:
        return buckets.handle_api(hub, request, segments[1:])
    if first not in PLURALS:
        wide = extras.handle_wide(hub, request, segments) if method == "GET" and first else None
        if wide is not None:
            return wide
        return listing.handle_other(hub, request)
    kind = PLURALS[first]
    if len(segments) == 1:
        if method == "GET":
            return listing.handle_list(hub, request, kind)
        return listing.handle_other(hub, request)
    repo_id, verb, rest = split_at_verb(segments[1:], API_VERBS)
    if verb is None and repo_id.count("/") < 2 and method == "GET":
        return api.handle_info(hub, request, kind, repo_id, [])
    if method == "GET" and verb == "xet-write-token":
        return api.handle_xet_token(hub, request, kind, repo_id, [s for s in rest if s != "None"])
    if method == "GET" and verb in READS:
        return READS[verb](hub, request, kind, repo_id, rest)
    if method == "POST" and verb in POSTS:
        return POSTS[verb](hub, request, kind, repo_id, rest)
    if method == "GET" and verb in SMALL:
        return extras.handle_small(hub, request, kind, repo_id, verb, rest)
    if method in ("POST", "DELETE") and verb in ("branch", "tag"):
        return writes.handle_ref(hub, request, kind, repo_id, rest, verb)
    if method == "PUT" and verb == "settings":
        return writes.handle_settings(hub, request, kind, repo_id, rest)
    return listing.handle_other(hub, request)
