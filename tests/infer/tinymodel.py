# SPDX-License-Identifier: Apache-2.0
"""A language model of a few hundred kilobytes, as a GGUF file: a Llama of two layers whose weights are noise, and a vocabulary of
some words. What it says makes no sense, but greedily it says the same again, and it says words.

    write(path)          of text
    write(path, ranks=True)   with a head that scores, for a server that ranks

Two columns are not noise: the first of each embedding is large and no layer adds to it, so that the first column of the output
decides which tokens are likely. Words are; single bytes and the marks of begin and end are not.
"""
import array
import random
import struct

WORDS = ("the sea wind a wave of and light is to salt sky in deep gull sand with blue stone was boat it over under long night day storm "
         "shore tide . , ! ? I love hate good bad Hugging Face story tell me about user assistant system :").split() + ["\n"]
WIDTH, HEADS, LAYERS, INNER, CONTEXT = 64, 4, 2, 128, 2048
FORMATS = {"u32": (4, "<I"), "i32": (5, "<i"), "f32": (6, "<f")}
STRING, ARRAY = 8, 9
UNKNOWN, BEGIN, END, BYTES = 0, 1, 2, 256


def text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def member(name, kind, value):
    if kind == "text":
        return text(name) + struct.pack("<I", STRING) + text(value)
    number, layout = FORMATS[kind]
    return text(name) + struct.pack("<I", number) + struct.pack(layout, value)


def members(name, kind, values):
    number = STRING if kind == "text" else FORMATS[kind][0]
    items = b"".join(text(v) if kind == "text" else struct.pack(FORMATS[kind][1], v) for v in values)
    return text(name) + struct.pack("<IIQ", ARRAY, number, len(values)) + items


def vocabulary():
    """(text, score, kind) of each token: marks, all bytes, words, letters."""
    out = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)] + [(f"<0x{i:02X}>", 0.0, 6) for i in range(BYTES)]
    letters = sorted(set("".join(WORDS)) | {"\u2581"})
    return out + [("\u2581" + word, -float(i), 1) for i, word in enumerate(WORDS)] + [(c, -1000.0 - i, 1) for i, c in enumerate(letters)]


def tensors(count, ranks):
    noise = random.Random(1)

    def matrix(rows, columns, scale, is_first_empty=False):
        out = [[noise.gauss(0, scale) for _ in range(columns)] for _ in range(rows)]
        return [[0.0] * columns, *out[1:]] if is_first_empty else out
    words = range(3 + BYTES, 3 + BYTES + len(WORDS))
    embedding, output, ones = matrix(count, WIDTH, 1.0), matrix(count, WIDTH, 0.5), [[1.0] * WIDTH]
    for i in range(count):
        embedding[i][0] = 8.0
        output[i][0] = 0.0 if i in words else -1.0 if i == END else -20.0
    yield "token_embd.weight", embedding
    yield "output_norm.weight", ones
    yield "output.weight", output
    for layer in range(LAYERS):
        at = f"blk.{layer}."
        yield at + "attn_norm.weight", ones
        yield at + "ffn_norm.weight", ones
        for name in "qkv":
            yield f"{at}attn_{name}.weight", matrix(WIDTH, WIDTH, 0.3)
        yield at + "attn_output.weight", matrix(WIDTH, WIDTH, 0.3, True)
        yield at + "ffn_gate.weight", matrix(INNER, WIDTH, 0.3)
        yield at + "ffn_up.weight", matrix(INNER, WIDTH, 0.3)
        yield at + "ffn_down.weight", matrix(WIDTH, INNER, 0.3, True)
        if ranks:
            yield at + "attn_q_norm.weight", [[1.0] * (WIDTH // HEADS)]
            yield at + "attn_k_norm.weight", [[1.0] * (WIDTH // HEADS)]
    if ranks:
        yield "cls.output.weight", matrix(2, WIDTH, 0.5)


def write(path, ranks=False):
    tokens, family = vocabulary(), "qwen3" if ranks else "llama"
    about = [member("general.architecture", "text", family), member("general.name", "text", "tiny"),
             *(member(f"{family}.{name}", "u32", value) for name, value in (
                 ("context_length", CONTEXT), ("embedding_length", WIDTH), ("block_count", LAYERS), ("feed_forward_length", INNER),
                 ("attention.head_count", HEADS), ("attention.head_count_kv", HEADS), ("rope.dimension_count", WIDTH // HEADS),
                 ("attention.key_length", WIDTH // HEADS), ("attention.value_length", WIDTH // HEADS), ("vocab_size", len(tokens)))),
             member(f"{family}.attention.layer_norm_rms_epsilon", "f32", 1e-5),
             member("tokenizer.ggml.model", "text", "llama"), members("tokenizer.ggml.tokens", "text", [t[0] for t in tokens]),
             members("tokenizer.ggml.scores", "f32", [t[1] for t in tokens]), members("tokenizer.ggml.token_type", "i32", [t[2] for t in tokens]),
             member("tokenizer.ggml.unknown_token_id", "u32", UNKNOWN), member("tokenizer.ggml.bos_token_id", "u32", BEGIN),
             member("tokenizer.ggml.eos_token_id", "u32", END),
             member("tokenizer.chat_template", "text",
                    "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }}\n{% endfor %}assistant :")]
    if ranks:
        about.append(members(f"{family}.classifier.output_labels", "text", ["yes", "no"]))
    table, data, count = b"", b"", 0
    for name, rows in tensors(len(tokens), ranks):
        shape = [len(rows[0])] if len(rows) == 1 else [len(rows[0]), len(rows)]
        table += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in shape) + struct.pack("<IQ", 0, len(data))
        data += array.array("f", [x for row in rows for x in row]).tobytes()
        data += bytes(-len(data) % 32)
        count += 1
    head = b"GGUF" + struct.pack("<IQQ", 3, count, len(about)) + b"".join(about) + table
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % 32) + data)
