#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""clang-tidy over the C files of the program, two at a time, with the compile commands of a build folder: tidy.py BUILD."""
import concurrent.futures
import shutil
import subprocess
import sys

from tree import PROGRAM, ROOT, files


def tidy(path):
    return subprocess.run(["clang-tidy", "--quiet", "--warnings-as-errors=*", "-p", sys.argv[1], str(path)], cwd=ROOT,
                          capture_output=True, text=True)


def main():
    if not shutil.which("clang-tidy"):
        sys.exit("there is no clang-tidy")
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for said in pool.map(tidy, files(".c", under=PROGRAM)):
            failed += said.returncode != 0
            print(said.stdout, end="")
    print(f"clang-tidy: {failed} files with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
