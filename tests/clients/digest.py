# SPDX-License-Identifier: Apache-2.0
"""Short forms of what a client read, the same on both sides of a comparison."""
import hashlib
import json


def digest_of(rows):
    """[count, SHA-256] of rows in order, dicts of plain values."""
    digest, count = hashlib.sha256(), 0
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
        count += 1
    return [count, digest.hexdigest()]
