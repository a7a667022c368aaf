# SPDX-License-Identifier: Apache-2.0
"""Metadata of one repository: info, tree, paths-info, refs, commits, parquet, Xet tokens."""
import base64
import gzip
import json
from urllib.parse import parse_qsl, quote, unquote, urlencode

from .access import JSON, Refused, admit, answer, redirect, refuse, weak_etag
from .content import iso


def send_json(hub, request, value, status=200, after=(), content_type=JSON):
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    etag = weak_etag(body)
    if status == 200 and request.method in ("GET", "HEAD") and request.get("If-None-Match") == etag:
        return answer(hub, request, 304, first=[("ETag", etag)], length=False)
    first = [("ETag", etag)]
    if hub.options.gzip_api and "gzip" in (request.get("Accept-Encoding") or "") and len(body) >= 1000:
        body = gzip.compress(body, 6)
        first.append(("Content-Encoding", "gzip"))
    return answer(hub, request, status, body, content_type=content_type, first=first, after=after)


def commit_of(hub, request, repo, segments):
    """(revision as asked, commit, path segments left)."""
    revision, rest = repo.split(segments)
    commit = repo.find(revision)
    if commit is None:
        raise Refused(refuse(hub, request, 404, f"Invalid rev id: {revision}", "RevisionNotFound"))
    return revision, commit, rest


def front_matter(commit):
    """The few YAML shapes that cards use at their top level: scalars, lists of scalars, and mappings of scalars."""
    file = commit.files.get("README.md")
    text = file.source.read(0, 65536).decode("utf-8", "replace") if file and not file.is_lfs else ""
    card, key = {}, None
    if not text.startswith("---\n"):
        return card
    for line in text[4:].split("\n---", 1)[0].splitlines():
        if line.startswith("- ") and key:
            card[key] = card[key] if isinstance(card.get(key), list) else []
            card[key].append(line[2:].strip().strip("'\""))
        elif line.startswith("  ") and ":" in line and key:
            card[key] = card[key] if isinstance(card.get(key), dict) else {}
            name, _, value = line.partition(":")
            card[key][name.strip()] = value.strip().strip("'\"")
        elif line[:1].strip() and ":" in line:
            key, _, value = line.partition(":")
            card[key] = value.strip().strip("'\"") or None
    return card


def lfs_fields(file, name="oid"):
    return {name: file.sha256, "size": file.size, "pointerSize": len(file.pointer)}


def sibling(path, file, blobs):
    out = {"rfilename": path}
    if blobs:
        out |= {"blobId": file.oid, "size": file.size}
        if file.is_lfs:
            out["lfs"] = lfs_fields(file, "sha256")
    return out


def info_fields(repo, commit, blobs=False):
    card = front_matter(commit)
    tags = list(card.get("tags") or [])
    if card.get("license"):
        tags.append(f"license:{card['license']}")
    out = {"_id": repo.object_id, "id": repo.id}
    if repo.kind == "model":
        out["modelId"] = repo.id
    out |= {"author": repo.namespace or None, "sha": commit.id, "lastModified": iso(commit.date), "private": repo.private,
            "gated": repo.gated, "disabled": repo.disabled, "tags": tags}
    if repo.kind == "model":
        out |= {key: card[key] for key in ("pipeline_tag", "library_name") if card.get(key)}
    if repo.kind == "space":
        out |= {"subdomain": repo.id.replace("/", "-").lower(), "sdk": card.get("sdk") or "static"}
        host = getattr(repo, "app_url", None)    # where a test runs it; a program that never ran has no host
        if host or out["sdk"] == "static":
            out["host"] = host or f"https://{out['subdomain']}.static.hf.space"
    out["siblings"] = [sibling(path, commit.files[path], blobs) for path, folder in commit.walk(recursive=True) if not folder]
    out |= {"downloads": repo.downloads, "likes": repo.likes}
    if card:
        out["cardData"] = card
    if repo.kind == "model" and "config.json" in commit.files and not commit.files["config.json"].is_lfs:
        try:
            config = json.loads(commit.files["config.json"].source.read())
            out["config"] = {k: config[k] for k in ("architectures", "model_type") if k in config}
        except (ValueError, TypeError):
            pass
    if repo.kind == "space":
        out["runtime"] = {"stage": "RUNNING", "hardware": {"current": None, "requested": None}}
    first = list(commit.history())[-1]
    out |= {"createdAt": iso(first.date), "usedStorage": sum(f.size for f in commit.files.values())}
    return out


def handle_info(hub, request, kind, repo_id, segments):
    repo = admit(hub, request, kind, repo_id)
    if segments:
        _, commit, _ = commit_of(hub, request, repo, segments)
    else:
        commit = repo.head
        if commit is None:
            return send_json(hub, request, {"_id": repo.object_id, "id": repo.id, "private": repo.private, "siblings": []})
    fields = info_fields(repo, commit, request.flag("blobs"))
    expand = request.all_params("expand")
    if expand and expand != ["true"]:
        fields["xetEnabled"] = hub.options.xet
        fields["resourceGroup"] = None
        fields = {"_id": repo.object_id, "id": repo.id} | {k: fields[k] for k in expand if k in fields}
    return send_json(hub, request, fields)


def tree_item(hub, commit, path, folder, expand):
    if folder:
        item = {"type": "directory", "oid": commit.folders[path][0], "size": 0, "path": path}
    else:
        file = commit.files[path]
        item = {"type": "file", "oid": file.oid, "size": file.size}
        if file.is_lfs:
            item["lfs"] = lfs_fields(file)
            if hub.options.xet:
                item["xetHash"] = file.xet_hash
        item["path"] = path
    if expand:
        last = commit.last[path]
        item["lastCommit"] = {"id": last.id, "title": last.title, "date": iso(last.date)}
        if not folder:
            item["securityFileStatus"] = {"status": "safe", "jFrogScan": {"status": "unscanned"}, "protectAiScan": {"status": "unscanned"},
                                          "avScan": {"status": "safe"}, "pickleImportScan": {"status": "unscanned", "pickleImports": []}}
    return item


def read_cursor(cursor):
    """The last path of the page before, from base64(base64({"file_name":...}) + ":" + limit); None if it is not one."""
    try:
        inner, _, _ = base64.b64decode(cursor).decode().rpartition(":")
        return json.loads(base64.b64decode(inner))["file_name"]
    except (ValueError, KeyError, TypeError):
        return None


def make_cursor(path, tree_oid, limit):
    inner = json.dumps({"file_name": path, "tree_oid": tree_oid}, separators=(",", ":"), ensure_ascii=False).encode()
    return base64.b64encode(base64.b64encode(inner) + f":{limit}".encode()).decode()


def next_link(hub, request, limit, cursor):
    """The Link header of a page that is not the last: the same query with limit and cursor behind it."""
    kept = [(k, v) for k, v in request.params if k not in ("limit", "cursor")]
    query = urlencode(kept + [("limit", limit)]) + f"&cursor={quote(cursor, safe='')}"
    return [("Link", f'<{hub.url}{request.path}?{query}>; rel="next"')]


def handle_tree(hub, request, kind, repo_id, segments):
    repo = admit(hub, request, kind, repo_id)
    revision, commit, rest = commit_of(hub, request, repo, segments)
    path = "/".join(s for s in rest if s)
    if path not in commit.folders:
        return refuse(hub, request, 404, f'{path} does not exist on "{revision}"', "EntryNotFound")
    expand = request.flag("expand")
    most = hub.options.expand_page_size if expand else hub.options.page_size
    wanted = request.param("limit") or ""
    limit = max(1, min(int(wanted), most)) if wanted.isdigit() else most
    entries = list(commit.walk(path, request.flag("recursive")))
    start, cursor = 0, request.param("cursor")
    if cursor:
        last = read_cursor(cursor)
        if last is None:
            return refuse(hub, request, 400, "Invalid cursor")
        start = next((i + 1 for i, (name, _) in enumerate(entries) if name == last), len(entries))
    page = entries[start:start + limit]
    more = start + limit < len(entries)
    link = next_link(hub, request, limit, make_cursor(page[-1][0], commit.tree_oid, limit)) if more else ()
    return send_json(hub, request, [tree_item(hub, commit, name, folder, expand) for name, folder in page], after=link)


def handle_paths_info(hub, request, kind, repo_id, segments):
    repo = admit(hub, request, kind, repo_id)
    _, commit, _ = commit_of(hub, request, repo, segments)
    if "json" in (request.get("Content-Type") or ""):
        asked = request.json()
        paths, expand = asked.get("paths", []), bool(asked.get("expand"))
    else:
        form = parse_qsl(request.body.decode(), keep_blank_values=True)
        paths = [v for k, v in form if k in ("paths", "paths[]")]
        expand = any(k == "expand" and v.lower() in ("true", "1") for k, v in form)
    items = []
    for path in [paths] if isinstance(paths, str) else paths:
        path = path.strip("/")
        if path in commit.files:
            items.append(tree_item(hub, commit, path, False, expand))
        elif path and path in commit.folders:
            items.append(tree_item(hub, commit, path, True, expand))
    return send_json(hub, request, items)


def handle_treesize(hub, request, kind, repo_id, segments):
    repo = admit(hub, request, kind, repo_id)
    revision, commit, rest = commit_of(hub, request, repo, segments)
    path = "/".join(s for s in rest if s)
    if path not in commit.folders:
        return refuse(hub, request, 404, f'{path} does not exist on "{revision}"', "EntryNotFound")
    inside = [f.size for name, f in commit.files.items() if not path or name.startswith(path + "/")]
    return send_json(hub, request, {"path": path or "/", "size": sum(inside)})


def handle_refs(hub, request, kind, repo_id, segments):
    repo = admit(hub, request, kind, repo_id)
    out = {"tags": [], "branches": [], "converts": []}
    pulls = []
    for ref, commit in sorted(repo.refs.items(), key=lambda pair: (pair[0] != "refs/heads/main", pair[0])):
        _, group, name = ref.split("/", 2)
        item = {"name": name, "ref": ref, "targetCommit": commit.id}
        {"tags": out["tags"], "heads": out["branches"], "convert": out["converts"], "pr": pulls}[group].append(item)
    if request.flag("include_prs"):
        out["pullRequests"] = pulls
    return send_json(hub, request, out)


def handle_commits(hub, request, kind, repo_id, segments):
    repo = admit(hub, request, kind, repo_id, "commits")
    _, commit, _ = commit_of(hub, request, repo, segments or ["main"])
    history = list(commit.history())
    limit = max(1, min(int(request.param("limit") or 50), 1000))
    page = int(request.param("p") or 0)
    items = []
    for c in history[page * limit:(page + 1) * limit]:
        items.append({"id": c.id, "title": c.title, "message": c.message, "authors": [{"user": c.author, "avatar": "/avatars/none.svg"}],
                      "date": iso(c.date)})
        if "formatted" in request.all_params("expand"):
            items[-1]["formatted"] = {"title": c.title, "message": c.message}
    after = [("X-Total-Count", str(len(history)))]
    if (page + 1) * limit < len(history):
        kept = [(k, v) for k, v in request.params if k != "p"]
        after.append(("Link", f'<{hub.url}{request.path}?{urlencode(kept + [("p", page + 1)])}>; rel="next"'))
    return send_json(hub, request, items, after=after)


def handle_auth_check(hub, request, kind, repo_id, segments):
    admit(hub, request, kind, repo_id, "write" if segments == ["write"] else "bytes")
    return answer(hub, request, 200, b"OK", content_type="text/plain; charset=utf-8")


def handle_xet_token(hub, request, kind, repo_id, segments):
    """Leads to the CAS origin, which serves nobody."""
    repo = admit(hub, request, kind, repo_id, "bytes")
    _, commit, _ = commit_of(hub, request, repo, segments or ["main"])
    token = {"accessToken": f"xet_{commit.id}", "exp": 4102444800, "casUrl": hub.cas_url}
    after = [("X-Xet-Cas-Url", hub.cas_url), ("X-Xet-Access-Token", token["accessToken"]), ("X-Xet-Token-Expiration", str(token["exp"]))]
    return send_json(hub, request, token, after=after)


def handle_parquet(hub, request, kind, repo_id, segments):
    """config -> split -> addresses below refs/convert/parquet; with a path, a redirect to that file."""
    repo = admit(hub, request, kind, repo_id)
    commit = repo.find("refs/convert/parquet")
    if commit is None:
        return refuse(hub, request, 404, "The dataset has no parquet conversion", "EntryNotFound")
    out = {}
    for path in sorted(commit.files):
        parts = path.split("/")
        if len(parts) == 3 and path.endswith(".parquet"):
            out.setdefault(parts[0], {}).setdefault(parts[1], []).append(path)
    base = f"/datasets/{repo.id}/resolve/refs%2Fconvert%2Fparquet/"
    for part in segments[:2]:
        out = out.get(part) if isinstance(out, dict) else None
    if len(segments) == 3:
        number = unquote(segments[2]).removesuffix(".parquet")
        if out and number.isdigit() and int(number) < len(out):
            return redirect(hub, request, 302, base + quote(out[int(number)]))
        out = None
    if out is None:
        return refuse(hub, request, 404, "Entry not found", "EntryNotFound")

    def addresses(value):
        if isinstance(value, dict):
            return {k: addresses(v) for k, v in value.items()}
        return [hub.url + base + quote(path) for path in value]
    return send_json(hub, request, addresses(out))
