# SPDX-License-Identifier: Apache-2.0
"""Small real pictures and sounds, made by hand: a PNG, a baseline JPEG of one colour a block, a WAV of one tone."""
import hashlib
import math
import struct
import zlib

# The tables for luminance DC of the JPEG standard (K.3), and an AC table that only knows "end of block".
DC_COUNTS, DC_VALUES = bytes((0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0)), bytes(range(12))
AC_COUNTS, AC_VALUES = bytes((1,) + (0,) * 15), b"\0"


def colours(text, count):
    """That many (red, green, blue) for a prompt."""
    stream = b""
    while len(stream) < 3 * count:
        stream += hashlib.sha256(f"{len(stream)}:{text}".encode()).digest()
    return [tuple(stream[3 * n:3 * n + 3]) for n in range(count)]


def png(text, width=32, height=32):
    rows = colours(text, height)
    raw = b"".join(b"\0" + bytes(row) * width for row in rows)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def _codes(counts, values):
    out, code, at = {}, 0, 0
    for length, count in enumerate(counts, 1):
        for _ in range(count):
            out[values[at]] = (code, length)
            code, at = code + 1, at + 1
        code <<= 1
    return out


def jpeg(text, width=32, height=32):
    """Grey, of blocks of 8 by 8."""
    across, down = (width + 7) // 8, (height + 7) // 8
    dc, (end_code, end_length) = _codes(DC_COUNTS, DC_VALUES), _codes(AC_COUNTS, AC_VALUES)[0]
    bits, before = [], 0
    for red, green, blue in colours(text, across * down):
        level = (299 * red + 587 * green + 114 * blue) // 1000 - 128    # with a quantum of 8, level * 8 / 8
        step, before = level - before, level
        size = abs(step).bit_length()
        code, length = dc[size]
        bits.append(f"{code:0{length}b}")
        if size:
            bits.append(f"{step if step > 0 else step + (1 << size) - 1:0{size}b}")
        bits.append(f"{end_code:0{end_length}b}")
    stream = "".join(bits)
    stream += "1" * (-len(stream) % 8)
    scan = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\0")

    def part(marker, data):
        return b"\xff" + bytes((marker,)) + struct.pack(">H", len(data) + 2) + data
    return (b"\xff\xd8" + part(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + part(0xDB, b"\0" + b"\x08" * 64)
            + part(0xC0, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")
            + part(0xC4, b"\0" + DC_COUNTS + DC_VALUES) + part(0xC4, b"\x10" + AC_COUNTS + AC_VALUES)
            + part(0xDA, b"\1\1\0\0\x3f\0") + scan + b"\xff\xd9")


def wav(text, seconds=0.25, rate=8000):
    pitch = 200 + hashlib.sha256(text.encode()).digest()[0] * 4
    samples = b"".join(struct.pack("<h", int(9000 * math.sin(2 * math.pi * pitch * n / rate))) for n in range(int(seconds * rate)))
    return (b"RIFF" + struct.pack("<I", 36 + len(samples)) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16)
            + b"data" + struct.pack("<I", len(samples)) + samples)
