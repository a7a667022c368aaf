# SPDX-License-Identifier: Apache-2.0
"""go-huggingface; in every phase. Where Go is older than it needs, as in Debian 12, there is none and this is skipped."""
import hashlib
import json
import re
from pathlib import Path

import pytest

from facts import commit_of
from machine import ROOT, Machine, truth

BINARY = ROOT / ".cache/go/hubgo"
VERSION = re.search(r"gomlx/go-huggingface v(\S+)", (Path(__file__).parent / "go/go.mod").read_text())[1]
pytestmark = pytest.mark.skipif(not BINARY.exists(), reason="go-huggingface needs Go 1.24, which is not installed")


@pytest.fixture
def run(folder):
    """run(url, repo=..., revision=..., files=[...]): what it tells, on a fresh machine."""
    count = iter(range(1000))

    def call(url, **wanted):
        user = Machine(folder / f"machine{next(count)}", None, url)
        done = user.run([str(BINARY), json.dumps(wanted)])
        assert done.returncode == 0, f"{wanted}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return json.loads(done.stdout.strip().splitlines()[-1])
    return call


@pytest.mark.parametrize("is_pinned", [False, True])
def test_everything_of_a_repository(run, hub, phases, is_pinned):
    commit, want = commit_of(hub).id, truth(hub, "acme/pub")
    # This client does not escape what an address gives a meaning, so such names never come to us as they are.
    plain = sorted(path for path in want if not path.startswith("odd/"))
    what = "info and download" + (" at a commit" if is_pinned else "")
    for phase in phases("go-huggingface", VERSION, what, is_pinned):
        told = run(phase.url, repo="acme/pub", revision=commit if is_pinned else "main", files=plain)
        assert told.get("commit") == commit and sorted(told["names"]) == sorted(want), told
        for name, path in zip(plain, told["paths"], strict=True):
            assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == want[name], f"{phase.name}: {name}"


def test_a_protected_repository(run, hub, people, phases):
    commit, want = commit_of(hub, "acme/private").id, truth(hub, "acme/private")
    for phase in phases("go-huggingface", VERSION, "a private repository", is_pinned=True):
        told = run(phase.url, repo="acme/private", revision=commit, token=people.alice, files=["model.safetensors"])
        assert hashlib.sha256(Path(told["paths"][0]).read_bytes()).hexdigest() == want["model.safetensors"], phase.name
        if phase.name != "warm":    # a stranger is asked about
            assert "error" in run(phase.url, repo="acme/private", revision=commit, files=["model.safetensors"])
