#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A mirror, not a fence: how long our functions and files are, and the ten longest of each."""
import re
import statistics

from tree import PROGRAM, files, text

BEGIN = re.compile(r"^[A-Za-z_][\w\s*,()\[\].\"]*?\b(\w+)\(")


def functions(path):
    """(name, line number, lines) of each function: from its first line to the } in the first column."""
    head, body, name = None, None, ""
    for number, line in enumerate(text(path).splitlines(), 1):
        if body is None and (found := BEGIN.match(line)) and not line.rstrip().endswith(";"):
            head, name = number, found[1]
        if line == "{" and head:
            body = number
        elif line.startswith("}"):
            if body:
                yield name, head, number - head + 1
            head = body = None


def main():
    found = sorted(((length, f"{path}:{line} {name}") for path in files(".c", under=PROGRAM)
                    for name, line, length in functions(path)), reverse=True)
    sizes = sorted(((len(text(p).splitlines()), str(p)) for p in files(".c", under=PROGRAM)), reverse=True)
    if not found:
        return
    lengths = sorted(length for length, _ in found)
    print(f"{len(found)} functions, median {statistics.median(lengths):.0f} lines, 95 % within {lengths[int(len(lengths) * 0.95)]}")
    print(f"{len(sizes)} files, median {statistics.median(s for s, _ in sizes):.0f} lines")
    for length, where in found[:10] + sizes[:10]:
        print(f"{length:6} {where}")


if __name__ == "__main__":
    main()
