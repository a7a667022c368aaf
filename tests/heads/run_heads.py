#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sends each head of heads.txt to a running daemon over a bare socket and judges what comes back.

Alone: run_heads.py HOST PORT [ID...]; prints each wrong one and a last line "89 of 89 right".
From a test: run(host, port) returns [(id, want, verdict or None, answers)], None meaning right.
"""
import pathlib
import re
import socket
import sys
import time

CASES = pathlib.Path(__file__).with_name("heads.txt")
SILENCE_S = 0.35  # after an answer: a second one would have come by then
PATIENCE_S = 4.0  # for any reaction at all
NOT_SERVED = {400, 408, 411, 413, 414, 417, 421, 431, 500, 501, 505}


def unescape(text):
    text = re.sub(r"\{(\d+)\*(.*?)\}", lambda m: m.group(2) * int(m.group(1)), text)
    simple = {"r": b"\r", "n": b"\n", "t": b"\t", "\\": b"\\"}
    out = bytearray()
    for m in re.finditer(r"\\x([0-9a-f]{2})|\\(.)|([^\\]+)", text):
        out += bytes.fromhex(m.group(1)) if m.group(1) else simple[m.group(2)] if m.group(2) else m.group(3).encode("ascii")
    return bytes(out)


def cases():
    for line in CASES.read_text(encoding="ascii").splitlines():
        if line and not line.startswith("#"):
            name, want, text = line.split(" ", 2)
            yield name, want, unescape(text)


def exchange(host, port, request):
    """What came back, and whether the connection was closed."""
    got = b""
    began = time.monotonic()
    with socket.create_connection((host, port), timeout=PATIENCE_S) as s:
        try:
            s.sendall(request)
        except OSError:
            pass  # closed while we were still sending: what it said before that counts
        while True:
            left = SILENCE_S if got else PATIENCE_S - (time.monotonic() - began)
            if left <= 0:
                return got, False
            s.settimeout(left)
            try:
                piece = s.recv(65536)
            except socket.timeout:
                return got, False
            except OSError:
                return got, True
            if not piece:
                return got, True
            got += piece


def answers(got):
    """Status codes of the answers in got, without 100; None in the list for bytes that belong to no answer."""
    found = []
    while got:
        head, end, rest = got.partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.[01] (\d{3}) ", head)
        if not end or not status:
            return found + [None]
        code = int(status.group(1))
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
        got = rest[int(length.group(1)):] if length else b"" if code >= 200 else rest
        if code != 100:
            found.append(code)
    return found


def judge(want, found, closed):
    """None when it is as wanted, else a sentence."""
    if None in found:
        return "a body without a head"
    if want.startswith("A"):
        count = int(want[1:] or 1)
        if len(found) != count:
            return f"{len(found)} answers instead of {count}"
        return "refused" if set(found) & NOT_SERVED else None
    if len(found) > 1:
        return "a second message was read"
    if want == "S":
        return None
    if found and (200 <= found[0] < 400 or found[0] == 404):
        return "accepted"
    return None if found or closed else "no reaction"


def run(host, port, only=()):
    results = []
    for name, want, request in cases():
        if only and name not in only:
            continue
        got, closed = exchange(host, port, request)
        found = answers(got)
        results.append((name, want, judge(want, found, closed), found))
    return results


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    results = run(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
    for name, want, wrong, found in results:
        if wrong:
            print(f"wrong: {name} (wanted {want}): {wrong}; answers {found}")
        elif len(sys.argv) > 3:
            print(f"right: {name} (wanted {want}): answers {found}")
    right = sum(1 for r in results if r[2] is None)
    print(f"{right} of {len(results)} right")
    sys.exit(0 if right == len(results) else 1)


if __name__ == "__main__":
    main()
