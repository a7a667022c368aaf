# SPDX-License-Identifier: Apache-2.0
"""git and git-lfs against the daemon: clones, and LFS objects in every phase."""
import hashlib
import re
import shutil
import subprocess

import pytest

from facts import commit_of, file_of
from gitbox import POINTER
from hubdouble import LFS, generated
from hubdouble.blobs import generated_block
from machine import Machine, truth
from phases import asked, short

MIB = 1 << 20
REPO = "acme/cloned"
IDENTITY = {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}


def version_of(program):
    """git version 2.39.5, or git-lfs/3.3.0 (...)"""
    said = subprocess.run([program, "version"], capture_output=True, text=True).stdout
    return re.search(r"[ /](\d+\.\d+\.\d+)", said)[1]


@pytest.fixture
def hub(hub):
    repo = hub.content.add_repo("model", REPO)
    repo.commit({".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "README.md": "# Cloned\n",
                 "deep/er/words.txt": "deep\n", "weights.bin": LFS(generated(5 * MIB + 17, 91)),
                 "small.bin": LFS(generated(70_000, 92))}, message="All of it")
    return hub


@pytest.fixture
def git(folder):
    """git(user, ...): runs git as the user of a machine, who has installed git-lfs; its output."""
    assert shutil.which("git") and shutil.which("git-lfs"), "git or git-lfs is missing: run tests/setup"

    def run(user, *words, allowed=(), fails=False, **environment):
        if not (user.home / ".gitconfig").exists():
            user.run(["git", "lfs", "install", "--skip-repo"], environment=IDENTITY)
        done = user.run(["git", *words], allowed=allowed, environment=IDENTITY | environment)
        assert (done.returncode != 0) == fails, f"git {words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr
    return run


def files_of(clone):
    return {p.relative_to(clone).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in clone.rglob("*") if p.is_file() and ".git" not in p.relative_to(clone).parts}


def lfs_size(hub):
    return sum(file.size for file in commit_of(hub, REPO).files.values() if file.is_lfs)


def test_a_clone(git, hub, phases, folder):
    """git's own part is passed through; the objects of LFS come from upstream once, whoever fetched them first."""
    for phase in phases("git", version_of("git"), "clone with LFS", until="cold"):
        first = Machine(folder / "first", None, phase.url)
        git(first, "clone", "-q", f"{phase.url}/{REPO}", "here")
        assert files_of(first.home / "here") == truth(hub, REPO)
        assert lfs_size(hub) <= hub.body_bytes("cdn") <= lfs_size(hub) * 1.01
    url = phases.daemon.url
    hub.reset_counters()
    second = Machine(folder / "second", None, url)
    git(second, "clone", "-q", f"{url}/{REPO}.git", "here")
    assert files_of(second.home / "here") == truth(hub, REPO) and not hub.calls("cdn")
    python = Machine(folder / "python", "hub2", url).call("snapshot", repo_id=REPO)
    assert python["files"] == truth(hub, REPO) and not hub.calls("cdn"), "the same bytes came again for another client"
    hub.kill()
    third = Machine(folder / "third", None, url)
    said = git(third, "clone", "-q", f"{url}/{REPO}", "here", fails=True)
    assert "503" in said or "504" in said, said


def test_objects_of_lfs(git, hub, phases, folder):
    """Who has the commits, say from an earlier clone, gets the objects in every phase."""
    bare = Machine(folder / "bare", None, hub.url)
    git(bare, "clone", "-q", f"{hub.url}/{REPO}", "here", GIT_LFS_SKIP_SMUDGE="1")
    for phase in phases("git-lfs", version_of("git-lfs"), "pull", is_pinned=True):
        user = Machine(folder / phase.name, None, phase.url)
        shutil.copytree(bare.home / "here", user.home / "here", symlinks=True)
        assert (user.home / "here/weights.bin").read_bytes().startswith(POINTER)
        git(user, "-C", "here", "remote", "set-url", "origin", f"{phase.url}/{REPO}")
        git(user, "-C", "here", "lfs", "pull")
        assert files_of(user.home / "here") == truth(hub, REPO), phase.name
        if phase.name == "cold":
            assert lfs_size(hub) <= hub.body_bytes("cdn") <= lfs_size(hub) * 1.01


def test_a_push(git, hub, people, phases, folder):
    for phase in phases("git", version_of("git"), "push with LFS", until="cold"):
        user = Machine(folder / "user", None, phase.url)
        script = user.home / "askpass"
        script.write_text(f'#!/bin/sh\ncase "$1" in *sername*) echo acme ;; *) echo {people.writer} ;; esac\n')
        script.chmod(0o700)
        how = {"GIT_ASKPASS": str(script), "GIT_AUTHOR_NAME": "acme", "GIT_AUTHOR_EMAIL": "a@example.net",
               "GIT_COMMITTER_NAME": "acme", "GIT_COMMITTER_EMAIL": "a@example.net"}
        git(user, "clone", "-q", f"{phase.url}/{REPO}", "here", **how)
        data = generated_block(93, 0) + b"end"
        (user.home / "here/pushed.bin").write_bytes(data)
        (user.home / "here/README.md").write_text("# Pushed\n")
        git(user, "-C", "here", "add", ".", **how)
        git(user, "-C", "here", "commit", "-q", "-m", "By git", **how)
        git(user, "-C", "here", "push", "-q", "origin", "HEAD:main", **how)
        pushed = file_of(hub, "pushed.bin", REPO)
        assert pushed.is_lfs and pushed.source.read() == data and commit_of(hub, REPO).title == "By git"
        read = Machine(folder / "reader", "hub2", phase.url).call("download", repo_id=REPO, filename="pushed.bin")
        assert read["sha256"] == hashlib.sha256(data).hexdigest()
        assert not [c for c in hub.calls("cdn") if c["method"] == "PUT" and c["authorization"]], short(asked(hub))
