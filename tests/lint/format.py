#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""clang-format over all C files, or over those named. --check only tells which would change, and fails."""
import shutil
import subprocess
import sys
from pathlib import Path

from tree import ROOT, files


def main():
    if not shutil.which("clang-format"):
        sys.exit("there is no clang-format")
    check = "--check" in sys.argv
    named = [Path(a) for a in sys.argv[1:] if a != "--check"]
    chosen = [str(p) for p in named or files(".c", ".h", under=("common/", "config/", "daemon/", "tests/"))]
    how = ["--dry-run", "-Werror", "--ferror-limit=1"] if check else ["-i"]
    return subprocess.run(["clang-format", *how, *chosen], cwd=ROOT).returncode if chosen else 0


if __name__ == "__main__":
    sys.exit(main())
