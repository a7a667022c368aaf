# SPDX-License-Identifier: Apache-2.0
"""The files of the project, and how a rule is written.

A rule is a function with a sentence as its title; it yields one line for each breach. A rule that cannot be checked on this
machine raises Skip with the reason. Fast rules read text only; the others start programs.
"""
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SKIPPED_FOLDERS = ("build", ".venv", ".git", ".cache", "__pycache__", "node_modules", "debian/.debhelper")
RULES = []


class Skip(Exception):
    pass


def rule(title, fast=True):
    def add(function):
        RULES.append((title, fast, function))
        return function
    return add


def files(*suffixes, under=("",)):
    """Paths relative to the root, sorted; without suffixes all files."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        folders[:] = sorted(f for f in folders if not (here / f).as_posix().startswith(SKIPPED_FOLDERS)
                            and f not in SKIPPED_FOLDERS)
        found += [here / name for name in names]
    return sorted(p for p in found if (not suffixes or p.suffix in suffixes or p.name in suffixes)
                  and any(p.as_posix().startswith(u) for u in under))


PROGRAM = ("common/", "config/", "daemon/")


def text(path):
    return (ROOT / path).read_text(encoding="utf-8", errors="surrogateescape")


def lines(path):
    """(number, line) from 1."""
    return enumerate(text(path).splitlines(), 1)


def is_text(path):
    head = (ROOT / path).read_bytes()[:4096]
    return b"\0" not in head
