# SPDX-License-Identifier: Apache-2.0
"""Every header compiles alone: it includes what it uses, and may be included twice."""
import concurrent.futures
import shutil
import subprocess

from tree import PROGRAM, ROOT, Skip, files, rule

FLAGS = ["-fsyntax-only", "-x", "c", "-std=gnu17", "-D_GNU_SOURCE", '-DHFCACHED_VERSION="0"', "-Wall", "-Wextra", "-Werror",
         "-Wno-unused-parameter", "-Wno-unused-function", "-I.", "-Idaemon", "-"]


def compile_alone(path):
    name = path.as_posix().removeprefix("daemon/")
    twice = f'#include "{name}"\n#include "{name}"\n'
    return path, subprocess.run(["gcc", *FLAGS], input=twice, cwd=ROOT, capture_output=True, text=True)


@rule("every header compiles alone", fast=False)
def lone_headers():
    if not shutil.which("gcc"):
        raise Skip("there is no gcc")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for path, said in pool.map(compile_alone, files(".h", under=PROGRAM)):
            if said.returncode:
                yield f"{path}: {said.stderr.strip()[:600]}"
