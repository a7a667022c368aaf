# SPDX-License-Identifier: Apache-2.0
"""What surrounds repositories: discussions, likes, comparisons, croissant, collections, papers, people, and the logs of Spaces.

Owns      plausible answers of those routes, in the shapes that clients read.
Promises  texts hold addresses of huggingface.co on purpose: they are content, not links to follow. Logs are sent event by event as
          they happen (options sse_events, sse_pause, sse_tail), never with a length.
Threads   those of the connections; content.lock guards what is written.
"""
import json
import time

from .access import TEXT, admit, answer, refuse, token_of
from .api import front_matter, info_fields, send_json
from .content import FIRST_DATE, iso
from .gitstore import store_of
from .viewer import parquet_paths

PAPER = {"id": "2401.00001", "title": "A paper", "summary": "See https://huggingface.co/papers/2401.00001 for more.", "upvotes": 7,
         "discussionId": "65a0000000000000000000aa", "publishedAt": "2024-01-01T00:00:00.000Z", "numComments": 1,
         "authors": [{"_id": "65a0000000000000000000ab", "name": "Ada Author", "hidden": False}]}


def person(name):
    return {"_id": "", "name": name, "fullname": name.title(), "avatarUrl": f"https://huggingface.co/avatars/{name}.svg",
            "type": "user", "isPro": False, "isHf": False, "isMod": False}


# Of one repository

def handle_likers(hub, request, kind, repo_id, segments):
    repo = admit(hub, request, kind, repo_id)
    names = [f"fan{number}" for number in range(repo.likes)]
    return send_json(hub, request, [{"user": n, "fullname": n.title(), "avatarUrl": f"https://huggingface.co/avatars/{n}.svg"}
                                    for n in names])


def handle_compare(hub, request, kind, repo_id, segments):
    """git's own diff of a..b; raw=true gives the list of changed files."""
    repo = admit(hub, request, kind, repo_id, "commits")
    left, dots, right = "/".join(segments).partition("..")
    commits = [repo.find(name) for name in (left, right.removeprefix("."))]
    if not dots or None in commits:
        return refuse(hub, request, 404, f"Invalid rev id: {'/'.join(segments)}", "RevisionNotFound")
    words = ["--raw", "--abbrev=40"] if request.flag("raw") else []
    text = store_of(repo).git("diff", *words, commits[0].id, commits[1].id)
    return answer(hub, request, 200, text, content_type=TEXT)


def handle_croissant(hub, request, kind, repo_id, segments):
    repo = admit(hub, request, kind, repo_id)
    converted = repo.find("refs/convert/parquet")
    if kind != "dataset" or converted is None:
        return refuse(hub, request, 404, "Croissant is not available")
    base = f"{hub.url}/datasets/{repo.id}"
    files = [{"@type": "cr:FileObject", "@id": "repo", "name": "repo", "contentUrl": f"{base}/tree/refs%2Fconvert%2Fparquet",
              "encodingFormat": "git+https", "sha256": "https://github.com/mlcommons/croissant/issues/80"}]
    files += [{"@type": "cr:FileSet", "@id": f"parquet-files-for-config-{config}", "containedIn": {"@id": "repo"},
               "encodingFormat": "application/x-parquet", "includes": f"{config}/*/*.parquet"}
              for config in dict.fromkeys(c for c, _, _ in parquet_paths(converted))]
    return send_json(hub, request, {
        "@context": {"@vocab": "https://schema.org/"}, "@type": "sc:Dataset", "name": repo.id.rsplit("/", 1)[-1],
        "description": f"see https://huggingface.co/datasets/{repo.id}", "conformsTo": "http://mlcommons.org/croissant/1.1",
        "url": base, "distribution": files}, after=[("X-Revision", repo.head.id)])


def handle_small(hub, request, kind, repo_id, verb, segments):
    """Short fixed answers: leaderboard, scan, runtime, secrets, variables, lfs-files."""
    repo = admit(hub, request, kind, repo_id, "write" if verb in ("secrets", "variables", "lfs-files") else "info")
    if verb == "runtime":
        return send_json(hub, request, {"stage": "RUNNING", "hardware": {"current": "cpu-basic", "requested": "cpu-basic"},
                                        "storage": None, "gcTimeout": 172800, "replicas": {"current": 1, "requested": 1}})
    if verb == "lfs-files":
        large = {f.sha256: (p, f) for c in repo.commits.values() for p, f in c.files.items() if f.is_lfs}
        return send_json(hub, request, [{"fileOid": oid[:24], "filename": p, "oid": oid, "pushedAt": iso(FIRST_DATE), "ref": "main",
                                         "size": f.size} for oid, (p, f) in large.items()])
    if verb == "scan":
        return send_json(hub, request, {"scansDone": True, "filesWithIssues": []})
    return send_json(hub, request, {} if verb in ("secrets", "variables") else [])


# Discussions; a pull request is the discussion with the number of its refs/pr/N

def talks_of(repo):
    """number -> discussion, with those that refs/pr/N make."""
    for ref, commit in list(repo.refs.items()):
        if ref.startswith("refs/pr/") and int(ref[8:]) not in repo.talks:
            repo.talks[int(ref[8:])] = {"title": commit.title, "author": commit.author, "createdAt": iso(commit.date), "status": "open",
                                        "pull": True, "comments": [("alice", f"See https://huggingface.co/{repo.id}")]}
    return dict(sorted(repo.talks.items(), reverse=True))


def _talk_head(repo, number, talk):
    return {"num": number, "title": talk["title"], "author": person(talk["author"]), "createdAt": talk["createdAt"],
            "status": talk["status"], "isPullRequest": talk["pull"], "pinned": False, "numComments": len(talk["comments"]),
            "repo": {"name": repo.id, "type": repo.kind}, "repoOwner": {"name": repo.namespace, "type": "org"}}


def _talk_events(repo, number, talk):
    events = [{"id": f"{number:012x}{i:012x}", "type": "comment", "createdAt": talk["createdAt"], "author": person(who),
               "data": {"edited": False, "hidden": False, "numEdits": 0, "latest": {"raw": text, "html": f"<p>{text}</p>"}}}
              for i, (who, text) in enumerate(talk["comments"])]
    commit = repo.refs.get(f"refs/pr/{number}")
    if commit:
        events.append({"id": commit.id[:24], "type": "commit", "createdAt": iso(commit.date), "author": person(commit.author),
                       "data": {"subject": commit.title, "oid": commit.id}})
    return events


def handle_discussions(hub, request, kind, repo_id, segments):
    is_read = request.method in ("GET", "HEAD")
    repo = admit(hub, request, kind, repo_id, "commits" if is_read else "write")
    talks = talks_of(repo)
    if not segments and is_read:
        wanted = [(n, t) for n, t in talks.items()
                  if request.param("type") in (None, "all", "pull_request" if t["pull"] else "discussion")
                  and request.param("status") in (None, "all", t["status"])]
        start = 50 * int(request.param("p") or 0)
        page = [_talk_head(repo, n, t) for n, t in wanted[start:start + 50]]
        return send_json(hub, request, {"discussions": page, "count": len(wanted), "start": start, "numClosedDiscussions": 0})
    if not segments:
        return _open_talk(hub, request, repo)
    number = int(segments[0]) if segments[0].isdigit() else 0
    if number not in talks:
        return refuse(hub, request, 404, "Discussion not found")
    talk = talks[number]
    if is_read:
        out = _talk_head(repo, number, talk) | {"events": _talk_events(repo, number, talk), "collection": "discussions"}
        if talk["pull"]:
            out |= {"changes": {"base": "refs/heads/main"}, "filesWithConflicts": [], "diff": ""}
        return send_json(hub, request, out)
    return _change_talk(hub, request, repo, number, talk, segments[1:])


def _open_talk(hub, request, repo):
    asked, who = request.json(), token_of(hub, request).user
    number = 1 + max(repo.talks or [0])
    is_pull = bool(asked.get("pullRequest"))
    repo.talks[number] = {"title": asked["title"], "author": who, "createdAt": iso(FIRST_DATE), "status": "draft" if is_pull else "open",
                          "pull": is_pull, "comments": [(who, asked.get("description") or "")]}
    if is_pull:
        repo.refs[f"refs/pr/{number}"] = repo.head
    return send_json(hub, request, {"num": number, "url": f"{hub.url}{repo.prefix}/discussions/{number}", "pullRequest": is_pull})


def _change_talk(hub, request, repo, number, talk, what):
    asked, who = request.json(), token_of(hub, request).user
    if what == ["comment"]:
        talk["comments"].append((who, asked["comment"]))
        return send_json(hub, request, {"newMessage": _talk_events(repo, number, talk)[len(talk["comments"]) - 1]})
    if what == ["status"]:
        talk["status"] = asked["status"]
    elif what == ["title"]:
        talk["title"] = asked["title"]
    elif what == ["merge"] and talk["pull"]:
        talk["status"] = "merged"
        repo.refs["refs/heads/main"] = repo.refs[f"refs/pr/{number}"]
    else:
        return refuse(hub, request, 404, "Not found")
    event = {"id": f"{number:024x}", "type": "status-change", "createdAt": iso(FIRST_DATE), "author": person(who),
             "data": {"status": talk["status"]}}
    return send_json(hub, request, {"newStatus": event} if what != ["merge"] else {"success": True})


# Hub-wide

def collection(hub, slug, owner="acme"):
    items = []
    for position, ((kind, repo_id), repo) in enumerate(sorted(hub.content.repos.items())[:3]):
        if not repo.private:
            items.append({"_id": repo.object_id, "id": repo_id, "type": kind, "position": position, "author": repo.namespace,
                          "note": {"text": f"see https://huggingface.co{repo.prefix}", "html": ""}, "private": False})
    return {"slug": f"{owner}/{slug}", "title": slug.rsplit("-", 1)[0].title(), "description": "see https://huggingface.co/collections",
            "owner": person(owner), "items": items, "lastUpdated": iso(FIRST_DATE), "position": 0, "private": False, "theme": "blue",
            "upvotes": 1, "isUpvotedByUser": False, "gating": False, "shareUrl": f"https://hf.co/collections/{owner}/{slug}"}


def handle_wide(hub, request, segments):
    """Routes below /api/ that belong to no repository; None for those that are unknown."""
    slugs = [f"things-{number:024x}" for number in range(1, 4)]
    if segments[0] == "collections":
        token_of(hub, request)
        if len(segments) == 1:
            limit, start = int(request.param("limit") or 2), int(request.param("p") or 0)
            page, after = slugs[start * limit:(start + 1) * limit], []
            if (start + 1) * limit < len(slugs):
                kept = "".join(f"{k}={v}&" for k, v in request.params if k != "p")
                after = [("Link", f'<{hub.url}/api/collections?{kept}p={start + 1}>; rel="next"')]
            listed = [{k: v for k, v in collection(hub, slug).items() if k != "position"} for slug in page]
            return send_json(hub, request, listed, after=after)
        if segments[-1] in slugs:
            return send_json(hub, request, collection(hub, segments[-1]))
        return refuse(hub, request, 404, "Collection not found")
    if segments[0] == "papers" and len(segments) == 2:
        if segments[1] == "search":
            return send_json(hub, request, [{"paper": dict(PAPER), "title": PAPER["title"], "publishedAt": PAPER["publishedAt"]}])
        if segments[1] == PAPER["id"]:
            linked = [{k: v for k, v in info_fields(r, r.head).items() if k in ("_id", "id", "likes", "tags")}
                      for r in [hub.content.repos.get(("model", "acme/pub"))] if r]
            return send_json(hub, request, PAPER | {"linkedModels": linked, "numTotalModels": len(linked)})
        return refuse(hub, request, 404, "Paper not found")
    if segments[0] == "daily_papers":
        return send_json(hub, request, [{"paper": dict(PAPER), "title": PAPER["title"], "publishedAt": PAPER["publishedAt"]}])
    if segments[0] in ("users", "organizations") and segments[-1] == "overview":
        counts = {f"num{name}": 0 for name in ("Models", "Datasets", "Spaces", "Followers", "Following", "Likes")}
        return send_json(hub, request, person(segments[1]) | counts)
    if segments[0] in ("trending", "quicksearch"):
        models = [{"id": r.id, "card": front_matter(r.head)} for (k, _), r in sorted(hub.content.repos.items())
                  if k == "model" and not r.private and r.head]
        return send_json(hub, request, {"models": models[:5], "recentlyTrending": []})
    if segments[0] == "jobs" and segments[-1] == "logs":
        return send_events(hub, request)
    return None


# Server-sent events

def handle_logs(hub, request, kind, repo_id, segments):
    admit(hub, request, kind, repo_id, "bytes")
    if segments not in (["run"], ["build"]):
        return refuse(hub, request, 404, "Not found")
    return send_events(hub, request)


def send_events(hub, request):
    """Event after event with pauses between, an empty one to keep the line alive, and a silent end."""
    o, started = hub.options, time.time() - 3600

    def stream():
        for number in range(o.sse_events):
            if number:
                yield float(o.sse_pause)
            event = {"data": f"line {number}, see https://huggingface.co/docs\n", "timestamp": iso(started + number)}
            yield b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
        yield b"data:\n\n"
        yield float(o.sse_tail)
    reply = answer(hub, request, 200, content_type="text/event-stream", length=False,
                   after=[("Cache-Control", "no-cache, no-transform"), ("X-Accel-Buffering", "no")])
    reply.framing, reply.stream = "chunked", stream()
    return reply
