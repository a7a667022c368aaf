# SPDX-License-Identifier: Apache-2.0
"""The bench itself works: every row is measured with the right bytes. How fast anything was is not judged here."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent / "bench.py"
ROWS = ["held, 1 stream", "held, 64 streams", "held, 10 MiB ranges, 64 conns", "held, 1 MiB ranges, 1000 conns", "held, 1 KB GET, 64 conns",
        "held, HEAD, 256 conns", "cold, 1 client, last byte", "cold, 8 clients, last byte", "cold, 64 clients, last byte",
        "cold: bytes from upstream", "memory"]


@pytest.mark.skipif(not shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin"), reason="nginx is not installed")
def test_every_row_is_measured():
    done = subprocess.run([sys.executable, str(BENCH), "--smoke"], capture_output=True, text=True, timeout=300)
    print(done.stdout + done.stderr)
    assert done.returncode == 0
    for title in ROWS:
        line = next((line for line in done.stdout.splitlines() if line.startswith(title)), "")
        assert re.search(r"\d\.\d\d", line), f"no figure for {title!r}"
    upstream = re.search(r"cold: bytes from upstream +\S+ +\S+ +MB +(\S+)", done.stdout)
    assert float(upstream[1]) <= 1.01
    seen = re.search(r"(\d+)% of a large held file left by sendfile", done.stdout)
    assert seen is None or int(seen[1]) >= 99, "large bodies do not leave by sendfile"
