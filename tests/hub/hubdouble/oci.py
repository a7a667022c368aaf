# SPDX-License-Identifier: Apache-2.0
"""The registry that ollama and older llama.cpp speak: /v2/{ns}/{repo}/manifests/{tag} and /blobs/sha256:{hex}.

Owns      the tags of a GGUF repository (its quantisations and "latest"), the layers of a manifest, and who is answered how: a
          User-Agent with llama-cpp also gets ggufFile and mmprojFile.
Promises  weights are a 307 to the CDN; the small layers, made from the files "template", "params" and "system" or from nothing,
          are a 200 whose Location is the same address with a signature that stands for the token.
Threads   those of the connections; nothing is kept.
"""
import hashlib
import hmac
import json
import re

from .access import JSON, Refused, admit, answer, redirect, refuse, weak_etag
from .api import lfs_fields
from .blobs import Memory
from .cdn import signature, signed_url
from .message import with_range

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.ollama.image."
QUANT = re.compile(r"[-.]((?:UD-)?(?:I?Q\d+(?:_\w+?)*|BF16|F16|F32))(-\d{5}-of-\d{5})?\.gguf$", re.IGNORECASE)
TEMPLATE = b"{{ if .System }}<|system|>\n{{ .System }}<|end|>\n{{ end }}<|user|>\n{{ .Prompt }}<|end|>\n<|assistant|>\n"
PARAMS = b'{"stop":["<|end|>","<|user|>"]}'
NO_GGUF = "Repository is not GGUF or is not compatible with llama.cpp"
BAD_TAG = 'The specified tag is not available in the repository. Please use another tag or "latest"'
SHARDED = 'The specified tag is a sharded GGUF. Ollama does not support this yet. Please use another tag or "latest".'


def quants(commit):
    """tag -> [paths], in the order of the files; several paths are the shards of one file."""
    out = {}
    for path in sorted(commit.files):
        found = QUANT.search(path)
        if found and commit.files[path].is_lfs and not is_projector(path):
            out.setdefault(found[1].upper(), []).append(path)
    return out


def is_projector(path):
    return path.rsplit("/", 1)[-1].startswith("mmproj") and path.endswith(".gguf")


def small_layers(commit, tag):
    """[(media type, bytes)] of what is not weights; the first is the config."""
    def text_of(name, default):
        file = commit.files.get(name)
        return file.source.read() if file and not file.is_lfs else default
    layers = [(LAYER + "template", text_of("template", TEMPLATE)), (LAYER + "params", text_of("params", PARAMS))]
    system = text_of("system", None)
    if system is not None:
        layers.insert(1, (LAYER + "system", system))
    config = {"model_format": "gguf", "model_family": "llama", "model_families": ["llama"], "model_type": "1M", "file_type": tag,
              "architecture": "amd64", "os": "linux",
              "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(body).hexdigest()}" for _, body in layers]}}
    return [(CONFIG, json.dumps(config, separators=(",", ":")).encode())] + layers


def handle_v2(hub, request, segments):
    """Everything below /v2/."""
    if request.method not in ("GET", "HEAD"):
        return refuse(hub, request, 405, "Method not allowed")
    if len(segments) == 4 and segments[2] == "manifests":
        return handle_manifest(hub, request, "/".join(segments[:2]), segments[3])
    if len(segments) == 4 and segments[2] == "blobs" and segments[3].startswith("sha256:"):
        return handle_blob(hub, request, "/".join(segments[:2]), segments[3].removeprefix("sha256:"))
    return refuse(hub, request, 404, "Not found")


def entry(media_type, digest, size):
    return {"digest": f"sha256:{digest}", "mediaType": media_type, "size": size}


def gguf_file(path, file):
    return {"rfilename": path, "blobId": f"sha256:{file.sha256}", "size": file.size, "lfs": lfs_fields(file, "sha256")}


def handle_manifest(hub, request, repo_id, tag):
    repo = admit(hub, request, "model", repo_id, "bytes")
    commit = repo.head
    known = quants(commit) if commit else {}
    if not known:
        return refuse(hub, request, 400, NO_GGUF)
    by_name = {path: quant for quant, paths in known.items() for path in paths}
    chosen = ("Q4_K_M" if "Q4_K_M" in known else next(iter(known))) if tag == "latest" else by_name.get(tag, tag.upper())
    if chosen not in known:
        return refuse(hub, request, 400, BAD_TAG)
    agent = (request.get("User-Agent") or "").lower()
    is_llama = "llama-cpp" in agent
    paths = known[chosen]
    if len(paths) > 1 and not is_llama:
        return refuse(hub, request, 400, SHARDED)
    projector = next((p for p in sorted(commit.files) if is_projector(p)), None)
    config, *small = [entry(kind, hashlib.sha256(body).hexdigest(), len(body)) for kind, body in small_layers(commit, chosen)]
    weights = commit.files[paths[0]]
    layers = [entry(LAYER + "model", weights.sha256, weights.size)]
    if projector:
        layers.append(entry(LAYER + "projector", commit.files[projector].sha256, commit.files[projector].size))
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers + small}
    if is_llama:
        manifest["ggufFile"] = gguf_file(paths[0], weights)
        if projector:
            manifest["mmprojFile"] = gguf_file(projector, commit.files[projector])
    body = json.dumps(manifest, separators=(",", ":")).encode()
    etag = weak_etag(body)
    after = [("Cache-Control", "public, max-age=60")]
    if request.get("If-None-Match") == etag:
        return answer(hub, request, 304, first=[("ETag", etag)], after=after, vary="Origin,User-Agent", length=False)
    return answer(hub, request, 200, body, content_type=JSON, first=[("ETag", etag)], vary="Origin,User-Agent", after=after)


def handle_blob(hub, request, repo_id, digest):
    given = request.param("__sign")
    seal = signature(f"{repo_id} {digest}")
    if given is not None and not hmac.compare_digest(given, seal):
        return refuse(hub, request, 403, "Invalid signature")
    if given:
        repo, _ = hub.content.look_up("model", repo_id)
        if repo is None:
            raise Refused(refuse(hub, request, 404, "Repository not found", "RepoNotFound"))
    else:
        repo = admit(hub, request, "model", repo_id, "bytes")
    named = [("Docker-Content-Digest", f"sha256:{digest}")]
    for commit in repo.commits.values():
        for path, file in commit.files.items():
            if file.sha256 == digest:
                return redirect(hub, request, 307, signed_url(hub, repo, path, file), named)
    for commit in repo.commits.values():
        for tag in quants(commit):
            for _, body in small_layers(commit, tag):
                if hashlib.sha256(body).hexdigest() == digest:
                    return send_small(hub, request, body, named, seal)
    return refuse(hub, request, 404, "Blob not found")


def send_small(hub, request, body, named, seal):
    etag = named[0][1].removeprefix("sha256:")
    after = named + [("Location", f"?__sign={seal}"), ("Accept-Ranges", "bytes"), ("Cache-Control", "public, max-age=31536000")]
    reply = answer(hub, request, 200, Memory(body), content_type="application/octet-stream", first=[("ETag", f'"{etag}"')], after=after)
    return with_range(request, reply, f'"{etag}"')
