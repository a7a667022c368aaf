# SPDX-License-Identifier: Apache-2.0
"""The bench of inference works: every row is measured. How fast anything was is not judged here."""
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parent / "infer.py"
ROWS = ["given again, classification", "given again, stream", "first event", "together", "open streams"]


@pytest.mark.slow
def test_every_row_of_inference_is_measured():
    done = subprocess.run([sys.executable, str(BENCH), "--smoke"], capture_output=True, text=True, timeout=300)
    print(done.stdout + done.stderr)
    assert done.returncode == 0
    for title in ROWS:
        line = next((line for line in done.stdout.splitlines() if line.startswith(title)), "")
        assert re.search(r"\d", line), f"no figure for {title!r}"
    assert "1 call upstream for 50" in done.stdout
