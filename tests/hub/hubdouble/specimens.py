# SPDX-License-Identifier: Apache-2.0
"""More ready-made repositories: GGUF weights, a kernel, a bucket, a card full of addresses.

Owns      their bytes, which never change between runs. fixture.py puts them into the standard content.
Never     depends on a running double.
"""
import json

from .blobs import LFS, generated_block
from .buckets import Bucket

MIB = 1 << 20
GGUF_HEAD = b"GGUF\x03\x00\x00\x00"


def gguf_bytes(size, seed):
    """A file that starts like a GGUF and goes on at random."""
    blocks = b"".join(generated_block(seed, index) for index in range(-(-size // MIB)))
    return GGUF_HEAD + blocks[len(GGUF_HEAD):size]


def add_gguf(content, repo_id="acme/gguf", gated=False, private=False):
    """Two quantisations, a projector, a template and parameters; a third one in shards."""
    repo = content.add_repo("model", repo_id, private=private, gated=gated)
    name = repo_id.split("/")[-1].title()
    repo.commit({
        ".gitattributes": "*.gguf filter=lfs diff=lfs merge=lfs -text\n",
        "README.md": "---\nlicense: mit\nlibrary_name: gguf\npipeline_tag: text-generation\n---\n# GGUF\n",
        f"{name}-Q4_K_M.gguf": LFS(gguf_bytes(3 * MIB, 41)), f"{name}-Q8_0.gguf": LFS(gguf_bytes(5 * MIB + 123, 42)),
        "mmproj-F16.gguf": LFS(gguf_bytes(MIB, 43)),
        f"{name}-BF16-00001-of-00002.gguf": LFS(gguf_bytes(65536, 44)), f"{name}-BF16-00002-of-00002.gguf": LFS(gguf_bytes(65536, 45)),
        "template": "{{ .System }}\n{{ .Prompt }}\n", "params": '{"stop":["</s>"],"temperature":0.2}'}, message="initial commit")
    return repo


def add_kernel(content, repo_id="acme/kernel"):
    """A repository of the kind "kernel", with a version branch."""
    repo = content.add_repo("kernel", repo_id)
    repo.commit({"README.md": "---\nlicense: apache-2.0\ntags:\n- kernel\n---\n# Kernel\n",
                 "build/torch-universal/kernel/__init__.py": "def relu(x):\n    return x.relu()\n",
                 "build/torch-universal/kernel/_ops.so": LFS(generated_block(51, 0, 70000))}, message="initial commit")
    repo.branch("v1")
    return repo


def add_bucket(content, bucket_id="acme/bucket"):
    bucket = Bucket(content, bucket_id)
    bucket.put("data/one.bin", generated_block(61, 0, 200_000))
    bucket.put("data/two.bin", generated_block(62, 0, 1000))
    bucket.put("notes.txt", b"not in git\n")
    return bucket


def add_card(content, hub_url="https://huggingface.co", repo_id="acme/card"):
    """A model whose card and config hold addresses of the Hub, which are text and must stay as they are."""
    repo = content.add_repo("model", repo_id)
    text = f"see https://huggingface.co/acme/pub and {hub_url}/acme/pub"
    card = (f"---\nlicense: mit\nbase_model: https://huggingface.co/acme/pub\nhomepage: {hub_url}/acme/pub\nsummary: {text}\n"
            f"tags:\n- https://huggingface.co/docs\n- {hub_url}/docs\n---\n# Card\n[link](https://huggingface.co/acme/pub) {text}\n")
    config = json.dumps({"model_type": "bert", "architectures": ["BertModel"], "_name_or_path": f"{hub_url}/acme/pub"})
    repo.commit({"README.md": card, "config.json": config}, message=f"initial commit, {text}")
    return repo
