# SPDX-License-Identifier: Apache-2.0
"""Ready-made content: the repositories that most tests use, always with the same bytes and commit ids."""
import json
import struct
import zlib
from pathlib import Path

from .blobs import LFS, Memory, generated
from .specimens import add_bucket, add_card, add_gguf, add_kernel

MIB = 1 << 20
ODD_NAMES = ["odd/with space.txt", "odd/hash#mark.txt", "odd/per%cent.txt", "odd/plus+sign.txt", "odd/[x].txt", "odd/question?.txt",
             "odd/encoded%20space.txt", "odd/grüße-世界.txt", "odd/a&b=c.txt", "odd/it's (1).txt"]
TOKENS = {"alice": "hf_" + "A" * 34, "bob": "hf_" + "B" * 34, "writer": "hf_" + "W" * 34}
LFS_NAMES = (".safetensors", ".bin", ".onnx", ".h5", ".ot", ".parquet")


def tiny_png():
    """A 4x4 PNG."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    rows = b"".join(b"\0" + b"\xff\x9d\x00" * 4 for _ in range(4))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows))
            + chunk(b"IEND", b""))


def fake_parquet(size=200_000):
    """Not a table, only bytes with the right ends; give parquet= to standard_fixture for one that can be read."""
    from .blobs import generated_block
    return b"PAR1" + generated_block(77, 0, size) + b"PAR1"


def small_model(content, repo_id, private=False, gated=False, disabled=False, seed=1, size=MIB):
    repo = content.add_repo("model", repo_id, private, gated, disabled)
    config = json.dumps({"model_type": "bert", "architectures": ["BertModel"], "seed": seed}).encode()
    repo.commit({".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
                 "README.md": f"---\nlicense: mit\npipeline_tag: text-classification\ntags:\n- test\n---\n# {repo_id}\n",
                 "config.json": config, "model.safetensors": LFS(generated(size, seed))}, message="initial commit")
    return repo


def add_public(content):
    repo = content.add_repo("model", "acme/pub")
    files = {".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
             "README.md": "---\nlicense: apache-2.0\nlibrary_name: transformers\npipeline_tag: text-classification\n"
                          "tags:\n- test\n---\n# Pub\n" + "A line of text that compresses well.\n" * 60,
             "config.json": json.dumps({"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 32}, indent=2) + "\n",
             "empty.txt": b"", "sub/dir/one.txt": "one\n", "sub/dir/two.json": '{"two": 2}\n', "sub/top.txt": "top\n",
             "model.safetensors": LFS(generated(3 * MIB, 3))}
    files |= {name: f"content of {name}\n" for name in ODD_NAMES}
    first = repo.commit(files, message="initial commit")
    repo.tag("v1", first)
    repo.commit({"config.json": files["config.json"].replace("32", "64")}, message="Widen it\n\nTwice as wide.")
    repo.commit({"dev.txt": "only on dev\n", "sub/top.txt": None}, branch="dev", message="Work on dev")
    repo.commit({"slash.txt": "branch name with a slash\n"}, branch="feature/x", message="Work on a feature")
    repo.commit({"README.md": "# A better readme\n"}, branch="refs/pr/1", message="Improve the readme")
    return repo


def add_table(content, parquet=None):
    repo = content.add_repo("dataset", "acme/table")
    data = parquet if parquet else fake_parquet()
    attributes = "*.parquet filter=lfs diff=lfs merge=lfs -text\n"
    repo.commit({".gitattributes": attributes, "README.md": "---\nlicense: mit\ntags:\n- test\nconfigs:\n- config_name: default\n"
                              "  data_files: data/*.parquet\n---\n# Table\n",
                 "data/train-00000-of-00001.parquet": LFS(data)}, message="initial commit")
    repo.commit({".gitattributes": attributes, "default/train/0000.parquet": LFS(data)}, branch="refs/convert/parquet",
                message="Convert to parquet")
    return repo


def add_page(content):
    repo = content.add_repo("space", "acme/page")
    repo.commit({"README.md": "---\ntitle: Page\nsdk: static\npinned: false\n---\n# Page\n",
                 "index.html": '<!doctype html><link rel="stylesheet" href="style.css"><h1>Page</h1><img src="logo.png">\n',
                 "style.css": "h1 { color: teal }\n", "logo.png": tiny_png()}, message="initial commit")
    return repo


def add_many(content, count=2500):
    """Plain files in folders of 100, and one large one."""
    repo = content.add_repo("model", "acme/many")
    files = {f"part-{i // 100:02}/file-{i:04}.txt": Memory(f"file {i}\n".encode()) for i in range(count - 1)}
    repo.commit(files | {"model.safetensors": LFS(generated(65536, 9))}, message="initial commit")
    return repo


def add_sentence_model(content, model_dir):
    """A real model from a folder that holds it (its config.json at the top or somewhere below)."""
    top = next(p.parent for p in sorted(Path(model_dir).rglob("modules.json")))
    repo = content.add_repo("model", "sentence-transformers/all-MiniLM-L6-v2")
    files = {}
    for path in sorted(p for p in top.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        large = path.suffix in LFS_NAMES or path.stat().st_size > 5 * MIB
        files[path.relative_to(top).as_posix()] = LFS(path) if large else path
    repo.commit(files, message="initial commit")
    return repo


def standard_fixture(hub, model_dir=None, work_dir=None, parquet=None, big=256 * MIB):
    """Everything; `big=0` leaves acme/big out. Returns the content. Tokens are in fixture.TOKENS: alice may read the gated and the
    private repository, bob is known but granted nothing, writer may read and write all of acme."""
    content = hub.content
    if work_dir:
        content.cache_dir = work_dir
    add_public(content)
    if big:
        small_model(content, "acme/big", seed=5, size=big)
    small_model(content, "acme/gated", gated="auto", seed=11)
    small_model(content, "acme/private", private=True, seed=12)
    small_model(content, "acme/disabled", disabled=True, seed=13)
    small_model(content, "acme/tinymodel", seed=14, size=65536)
    content.add_alias("model", "tinymodel", "acme/tinymodel")
    content.add_alias("model", "old/name", "acme/pub")
    add_table(content, parquet)
    add_page(content)
    add_many(content)
    if model_dir:
        add_sentence_model(content, model_dir)
    add_gguf(content)
    add_kernel(content)
    add_bucket(content)
    add_card(content, getattr(hub, "url", "https://huggingface.co"))
    content.add_token(TOKENS["alice"], "alice", {"acme/gated", "acme/private"})
    content.add_token(TOKENS["bob"], "bob")
    content.add_token(TOKENS["writer"], "acme", {"acme/gated", "acme/private"}, role="write")
    return content


def small_fixture(hub, model_dir=None, work_dir=None, parquet=None):
    """As the standard one without the 256 MiB file."""
    return standard_fixture(hub, model_dir, work_dir, parquet, big=0)


def empty_fixture(hub, model_dir=None, work_dir=None, parquet=None):
    if work_dir:
        hub.content.cache_dir = work_dir
    return hub.content


FIXTURES = {"standard": standard_fixture, "small": small_fixture, "empty": empty_fixture}
