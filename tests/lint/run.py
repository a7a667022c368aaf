#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks every rule of this folder and prints TAP. --fast leaves out those that start compilers."""
import argparse
import sys

import arrows  # noqa: F401
import documents  # noqa: F401
import headers  # noqa: F401
import sources  # noqa: F401
import tables  # noqa: F401
import units  # noqa: F401
from tree import RULES, Skip

SHOWN_MAX = 40


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    rules = [r for r in RULES if r[1] or not options.fast]
    failed = 0
    print(f"1..{len(rules)}")
    for number, (title, _, function) in enumerate(rules, 1):
        try:
            breaches = list(function())
        except Skip as reason:
            print(f"ok {number} - {title} # SKIP {reason}")
            continue
        failed += bool(breaches)
        print(f"{'not ok' if breaches else 'ok'} {number} - {title}")
        for breach in breaches[:SHOWN_MAX]:
            print("\n".join(f"# {line}" for line in breach.splitlines()))
        if len(breaches) > SHOWN_MAX:
            print(f"# and {len(breaches) - SHOWN_MAX} more")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
