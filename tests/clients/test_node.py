# SPDX-License-Identifier: Apache-2.0
"""The JavaScript clients in Node: @huggingface/hub, @huggingface/gguf and @huggingface/transformers; in every phase."""
import hashlib
import json
import shutil
from pathlib import Path

import numpy
import pytest

from facts import add_large, bytes_of, commit_of, file_of
from hubdouble import LFS, generated
from hubdouble.blobs import generated_block
from machine import Machine
from tiny import TENSOR_BYTES, TENSORS, encoder, encoder_repo, gguf_file, gguf_metadata  # noqa: F401

HERE = Path(__file__).resolve().parent / "node"
MIB = 1 << 20
REPO = "acme/js"
NODE = shutil.which("node")


def version_of(package):
    return json.loads((HERE / "node_modules" / package / "package.json").read_text())["version"]


@pytest.fixture
def hub(hub):
    repo = hub.content.add_repo("model", REPO)
    attributes = "*.bin filter=lfs diff=lfs merge=lfs -text\n"
    repo.commit({".gitattributes": attributes, "README.md": "# An older card\n"}, message="initial commit")
    repo.commit({"README.md": "---\nlicense: mit\n---\n# A card\n" + "A line that compresses well.\n" * 50,
                 "config.json": '{"model_type": "bert"}\n', "empty.txt": b"", "deep/er/three words here.txt": "spaces\n",
                 "deep/grüße.txt": "not ASCII\n",
                 "weights.bin": LFS(generated(3 * MIB + 17, 71)),
                 "deep/small.bin": LFS(generated(70_000, 72))}, message="All of it")
    repo.commit({"only-here.txt": "a pull request\n"}, branch="refs/pr/1", message="Add one")
    return hub


@pytest.fixture
def node(folder):
    """node(url, [[name, arguments]...], token): the list of what calls.mjs tells, on a fresh machine."""
    assert NODE and (HERE / "node_modules").is_dir(), "the JavaScript clients are missing: run tests/setup"
    count = iter(range(1000))

    def run(url, wanted, token=None):
        user = Machine(folder / f"machine{next(count)}", None, url)
        environment = {"HUB": url} | ({"TOKEN": token} if token else {})
        done = user.run([NODE, str(HERE / "calls.mjs"), json.dumps(wanted)], environment=environment)
        assert done.returncode == 0, f"{wanted}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return json.loads(done.stdout.strip().splitlines()[-1])
    return run


def values(wanted, results):
    for (name, arguments), result in zip(wanted, results, strict=True):
        assert "value" in result, f"{name} {arguments}: {result}"
    return [result["value"] for result in results]


def whole(hub, path, revision="main"):
    data = bytes_of(hub, path, REPO, revision)
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def entry(hub, path, revision, commit=None):
    file = file_of(hub, path, REPO, revision)
    sha256 = file.sha256 if file.is_lfs else None
    return {"path": path, "type": "file", "size": file.size, "oid": file.oid, "sha256": sha256, "xet": None, "commit": commit}


def reads(hub, revision):
    """[(call, what must come)] of everything that reads."""
    at = {"repo": REPO, "revision": revision}
    commit = commit_of(hub, REPO, revision)
    paths = sorted(commit.files)
    weights = file_of(hub, "weights.bin", REPO)
    out = [(["modelInfo", {"name": REPO, "revision": revision}],
            {"name": REPO, "sha": commit.id, "private": False, "gated": False, "files": paths}),
           (["listCommits", at], [{"id": commit.id, "title": "All of it"}, {"id": commit.parent.id, "title": "initial commit"}]),
           (["pathsInfo", at | {"paths": ["config.json", "weights.bin"]}],
            [entry(hub, path, revision) for path in ("config.json", "weights.bin")]),
           (["pathsInfo", at | {"paths": ["weights.bin"], "expand": True}], [entry(hub, "weights.bin", revision, commit.id)]),
           (["repoExists", {"repo": REPO, "revision": revision}], True),
           (["fileExists", at | {"path": "weights.bin"}], True), (["fileExists", at | {"path": "missing.bin"}], False),
           (["fileDownloadInfo", at | {"path": "weights.bin"}],
            {"size": weights.size, "etag": f'"{weights.sha256}"', "xet": False, "isOurs": True}),
           (["downloadFile", at | {"path": "missing.bin"}], None),
           (["downloadFileToCacheDir", at | {"path": "deep/small.bin"}],
            {"path": f"{commit.id}/deep/small.bin"} | whole(hub, "deep/small.bin")),
           (["snapshotDownload", at], {"commit": commit.id, "files": {p: whole(hub, p)["sha256"] for p in paths}})]
    out += [(["downloadFile", at | {"path": path}], whole(hub, path)) for path in paths]
    for is_expanded in (False, True):
        last = {p: commit.last[p].id if is_expanded else None for p in paths}
        out.append((["listFiles", at | {"recursive": True, "expand": is_expanded}],
                    [entry(hub, path, revision, last[path]) for path in paths]))
    # this client leaves the slashes of a revision as they are when it lists
    pull = {"repo": REPO, "revision": "refs/pr/1"}
    if revision == "main":
        names = sorted(p for p in commit_of(hub, REPO, "refs/pr/1").files if "/" not in p)
        out.append((["listFiles", pull], [entry(hub, p, "refs/pr/1") for p in names]))
        out.append((["downloadFile", pull | {"path": "only-here.txt"}], whole(hub, "only-here.txt", "refs/pr/1")))
    return out


def check_in_every_phase(node, phases, wanted, what, is_pinned=False, token=None):
    for phase in phases("@huggingface/hub", version_of("@huggingface/hub"), what, is_pinned):
        found = values([call for call, _ in wanted], node(phase.url, [call for call, _ in wanted], token))
        for (call, want), value in zip(wanted, found, strict=True):
            assert value == want, f"{phase.name}: {call}"


def test_everything_that_reads(node, hub, phases):
    check_in_every_phase(node, phases, reads(hub, "main"), "info, listing, download of a branch")


def test_everything_that_reads_at_a_commit(node, hub, phases):
    check_in_every_phase(node, phases, reads(hub, commit_of(hub, REPO).id), "info, listing, download at a commit", is_pinned=True)
    # what is not known is not said to be missing
    error, = node(phases.daemon.url, [["fileExists", {"repo": "acme/never-seen", "path": "config.json"}]])
    assert error.get("status") in (503, 504), error


def test_pieces_of_a_large_file(node, hub, phases):
    """A large file is a lazy blob: only what is sliced off is asked for, here and upstream."""
    _, file = add_large(hub, 24 * MIB, seed=75)
    data, commit = file.source.read(), commit_of(hub, "acme/large").id
    pieces = [(0, 300_000), (9 * MIB, 9 * MIB + 500_000), (24 * MIB - 17, 24 * MIB)]
    wanted = [["downloadFile", {"repo": "acme/large", "revision": commit, "path": "weights.bin", "slice": piece}] for piece in pieces]
    for phase in phases("@huggingface/hub", version_of("@huggingface/hub"), "slices of a large file", is_pinned=True):
        for (begin, end), found in zip(pieces, values(wanted, node(phase.url, wanted)), strict=True):
            assert found == {"sha256": hashlib.sha256(data[begin:end]).hexdigest(), "size": end - begin}, phase.name
        if phase.name == "cold":
            assert hub.body_bytes("cdn") <= 16 * MIB


def test_the_head_of_a_gguf(node, hub, phases):
    file = gguf_file()
    hub.content.add_repo("model", "acme/tiny-gguf").commit({"tiny.gguf": LFS(file)})
    commit = commit_of(hub, "acme/tiny-gguf").id
    wanted = [["gguf", {"path": f"/acme/tiny-gguf/resolve/{commit}/tiny.gguf"}]]
    for phase in phases("@huggingface/gguf", version_of("@huggingface/gguf"), "metadata, tensors", is_pinned=True):
        found, = values(wanted, node(phase.url, wanted))
        metadata = found["metadata"]
        assert {name: metadata[name] for name in gguf_metadata()} == gguf_metadata()
        assert found["tensors"] == [[name, shape, kind] for name, shape, kind in TENSORS]
        assert found["offset"] == len(file) - TENSOR_BYTES
        if phase.name == "cold":
            assert hub.body_bytes("cdn") <= len(file)


def test_a_protected_repository(node, hub, people, phases):
    """With its token in every phase; without one it is refused in every phase, and as if it did not exist."""
    at = {"repo": "acme/private"}
    commit = commit_of(hub, "acme/private")
    file = commit.files["model.safetensors"]
    wanted = [(["modelInfo", {"name": "acme/private"}],
               {"name": "acme/private", "sha": commit.id, "private": True, "gated": False, "files": sorted(commit.files)}),
              (["downloadFile", at | {"path": "model.safetensors"}], {"sha256": file.sha256, "size": file.size}),
              (["downloadFile", {"repo": "acme/gated", "path": "model.safetensors"}],
               {"sha256": file_of(hub, "model.safetensors", "acme/gated").sha256, "size": file.size})]
    calls = [call for call, _ in wanted]
    for phase in phases("@huggingface/hub", version_of("@huggingface/hub"), "gated and private repositories"):
        found = values(calls, node(phase.url, calls, people.alice))
        for (call, want), value in zip(wanted, found, strict=True):
            assert value == want, f"{phase.name}: {call}"
        for result in node(phase.url, calls) if phase.name != "warm" else []:    # a stranger is asked about
            assert result.get("status") in (401, 403, 404, 503, 504), f"{phase.name}: {result}"


def test_who_am_i(node, hub, people, phases):
    for phase in phases("@huggingface/hub", version_of("@huggingface/hub"), "whoAmI", until="cold"):
        found, = values([["whoAmI", {}]], node(phase.url, [["whoAmI", {}]], people.alice))
        assert found == {"type": "user", "name": "alice"}
        assert "error" in node(phase.url, [["whoAmI", {}]])[0]


SENTENCES = ["This is an example sentence", "The quick brown fox jumps over the lazy dog.", "Grüße aus Köln"]


@pytest.mark.parametrize("is_pinned", [False, True])
def test_transformers_computes(node, hub, phases, encoder, encoder_repo, is_pinned):
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(encoder.package / "tokenizer.json"))
    tokenizer.no_padding()
    ids = [tokenizer.encode(sentence).ids for sentence in SENTENCES]
    at = {"repo": "acme/encoder", "sentences": SENTENCES} | ({"revision": encoder_repo.id} if is_pinned else {})
    wanted = [["tokenize", at], ["embed", at]]
    what = "tokenizer and a forward pass with ONNX" + (" at a commit" if is_pinned else "")
    for phase in phases("@huggingface/transformers", version_of("@huggingface/transformers"), what, is_pinned):
        tokens, vectors = values(wanted, node(phase.url, wanted))
        assert tokens == ids
        for found, each in zip(vectors, ids, strict=True):
            assert numpy.allclose(found, encoder.embed(each), atol=1e-5), phase.name
        if phase.name == "cold":
            assert hub.body_bytes("cdn") <= encoder_repo.files["onnx/model.onnx"].size * 1.01


@pytest.fixture
def to_upload(folder):
    """{path in the repository: (local file, its bytes)}: one for the commit itself, two for LFS."""
    made = {}
    large = b"".join(generated_block(74, index) for index in range(8))[:7 * MIB + 5]
    for path, data in (("notes.txt", b"a few words\n"), ("small.bin", generated_block(73, 0, 300_000)), ("large.bin", large)):
        local = folder / path
        local.write_bytes(data)
        made[path] = (local, data)
    return made


@pytest.mark.parametrize("in_parts", [False, True])
def test_upload(node, hub, people, phases, to_upload, in_parts):
    hub.options.multipart_over, hub.options.chunk_size = (5 * MIB, 2 * MIB) if in_parts else (5 << 30, 16 << 20)
    at = {"repo": "acme/by-js"}
    files = [[path, str(local)] for path, (local, _) in to_upload.items()]
    wanted = [["createRepo", at], ["uploadFiles", at | {"files": files, "commitTitle": "Add them"}],
              ["deleteFile", at | {"path": "notes.txt"}], ["downloadFile", at | {"path": "large.bin"}]]
    what = "create, upload (LFS in parts), delete" if in_parts else "create, upload (LFS), delete"
    for phase in phases("@huggingface/hub", version_of("@huggingface/hub"), what, until="cold"):
        created, uploaded, deleted, read = values(wanted, node(phase.url, wanted, people.writer))
        assert created == {"isOurs": True, "path": "/acme/by-js"} and uploaded["isOurs"], "an address of the Hub came through"
        repo = hub.content.repo("acme/by-js")
        before = repo.head.parent
        assert repo.head.id == deleted["commit"] and before.id == uploaded["commit"] and before.title == "Add them"
        for path, (_, data) in to_upload.items():
            assert before.files[path].source.read() == data, path
        assert "notes.txt" not in repo.head.files and repo.head.files["large.bin"].is_lfs
        assert read == {"sha256": hashlib.sha256(to_upload["large.bin"][1]).hexdigest(), "size": 7 * MIB + 5}
    hub.kill()
    error, = node(phases.daemon.url, [wanted[1]], people.writer)
    assert error.get("status") in (502, 503, 504), error
