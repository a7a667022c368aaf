# SPDX-License-Identifier: Apache-2.0
"""A machine with git and git-lfs, as they come from the distribution, and a home of its own.

Never     reads the configuration of who runs the tests, asks a person, or goes through a proxy.
"""
import os
import shutil
import subprocess
import time

import pytest

from harness import SLOW

POINTER = b"version https://git-lfs"


class Box:
    """token: what a credential helper of this machine answers to whoever asks for a password."""

    def __init__(self, folder, token=None, lfs=True):
        if not shutil.which("git") or lfs and not shutil.which("git-lfs"):
            pytest.skip("git or git-lfs is not installed")
        self.path = folder
        self.path.mkdir()
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1",
                            "LC_ALL": "C.UTF-8"}
        if token:
            self._answer_with(token)
        for name, value in (("user.name", "Tess"), ("user.email", "tess@example.net"), ("init.defaultBranch", "main"), ("gc.auto", "0")):
            self.git("config", "--global", name, value)
        if lfs:
            self.git("lfs", "install", "--skip-repo")
        self.took = 0.0

    def _answer_with(self, token):
        script = self.path / "askpass"
        script.write_text(f'#!/bin/sh\ncase "$1" in *sername*) echo tess ;; *) echo {token} ;; esac\n')
        script.chmod(0o700)
        self.environment["GIT_ASKPASS"] = str(script)

    def git(self, *words, where=".", fails=False, **environment):
        """What it printed: standard output, or of one that fails standard error."""
        began = time.monotonic()
        done = subprocess.run(["git", *words], cwd=self.path / where, env=self.environment | environment, capture_output=True, text=True,
                              timeout=60 * SLOW)
        self.took = time.monotonic() - began
        assert (done.returncode != 0) == fails, (words, done.stdout, done.stderr)
        return done.stderr if fails else done.stdout.strip()

    def clone(self, url, where, *options, lfs=True):
        self.git("clone", "-q", *options, url, where, GIT_LFS_SKIP_SMUDGE="0" if lfs else "1")
        return self.path / where


def with_token(url, token):
    """The form that people paste."""
    return url.replace("http://", f"http://user:{token}@")
