# SPDX-License-Identifier: Apache-2.0
"""Hub clients that are told nothing but a proxy and a CA, or not even that: no HF_ENDPOINT anywhere (docs/interception.md)."""
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from facts import PUB, bytes_of
from machine import Machine, can_name, files_below, truth
from roadmachine import NamedMachine, ProxyMachine, free_address, named_options
from test_git import IDENTITY
from test_uploads import write
from tlsroad import ROAD_OPTIONS, Road

HERE = Path(__file__).resolve().parent
HUB = "https://huggingface.co"


class TwoVariables(ProxyMachine):
    """Nothing but what docs/interception.md says for Python."""

    def environment(self):
        trusts = "REQUESTS_CA_BUNDLE" if self.client == "hub0" else "SSL_CERT_FILE"
        return {k: v for k, v in Machine.environment(self).items() if k != "HF_ENDPOINT"} | {"HTTPS_PROXY": self.url, trusts: str(self.ca)}


@pytest.fixture
def road(start):
    return Road(start(**ROAD_OPTIONS))


@pytest.fixture
def named(start):
    address = free_address()
    if not address or not can_name():
        pytest.skip("port 443 or names of a program's own are not to be had here")
    return Road(start(**named_options(address)))


@pytest.mark.slow
def test_python_reads_by_a_proxy(road, hub, folder, client):
    user = ProxyMachine(folder / "user", client, road)
    assert user.call("snapshot", repo_id=PUB)["files"] == truth(hub, PUB)
    assert user.call("info", repo_id=PUB)
    done = user.hf("download", PUB, "config.json", "--local-dir", "here")
    assert done.returncode == 0, done.stderr
    assert files_below(user.home / "here") == {"config.json": truth(hub, PUB)["config.json"]}
    hub.kill()
    fresh = ProxyMachine(folder / "fresh", client, road)
    assert fresh.call("snapshot", repo_id=PUB)["files"] == truth(hub, PUB)
    assert not hub.xet_calls()


@pytest.mark.slow
def test_python_reads_by_dns(named, hub, folder):
    user = NamedMachine(folder / "user", "hub2", named)
    assert user.call("snapshot", repo_id=PUB)["files"] == truth(hub, PUB)


@pytest.mark.slow
def test_python_reads_what_is_protected_with_a_token_and_not_without(road, hub, folder, people):
    alice = ProxyMachine(folder / "alice", "hub2", road, token=people.alice)
    assert alice.call("snapshot", repo_id="acme/private")["files"] == truth(hub, "acme/private")
    anybody = ProxyMachine(folder / "anybody", "hub2", road)
    assert "RepositoryNotFoundError" in anybody.error_of("info", repo_id="acme/private")


@pytest.mark.slow
def test_python_writes_by_a_proxy(road, hub, folder, people):
    writer = ProxyMachine(folder / "writer", "hub2", road, token=people.writer)
    made = write(writer, "publish", repo_id="acme/story")
    assert made["url"].startswith(HUB)
    reader = ProxyMachine(folder / "reader", "hub2", road)
    assert reader.call("snapshot", repo_id="acme/story")["files"] == truth(hub, "acme/story")
    uploads = [c for c in hub.calls("cdn") if c["method"] == "PUT"]
    assert uploads and not any(c["authorization"] for c in uploads)


@pytest.mark.slow
def test_W06_python_uploads_over_xet_by_a_proxy(road, hub, cas, folder, people, client):
    """Two variables: what would go to the storage goes to it through us, by the same road."""
    writer = TwoVariables(folder / "writer", client, road, token=people.writer)
    write(writer, "by_xet", environment=(), repo_id=PUB, size=3_000_000)
    batches = hub.calls("hub", "/objects/batch")
    if client == "hub0":   # asks whether the repo has Xet
        assert batches and not cas.calls
    else:
        assert {3_000_000, 300_000} <= {len(file) for file in cas.files} and not batches
        assert {authorization[:11] for _, _, authorization in cas.calls} == {"Bearer xet_"}, "a token of the Hub's went to the storage"
    reader = TwoVariables(folder / "reader", client, road)
    assert reader.call("snapshot", repo_id=PUB)["files"] == truth(hub, PUB) and {"deep/random.bin", "bytes.bin"} <= set(truth(hub, PUB))
    told = {authorization.removeprefix("Bearer ") for _, _, authorization in cas.calls}
    assert not [line for line in road.daemon.log_lines() if any(token in str(line) for token in told)]


@pytest.mark.slow
def test_W06_python_uploads_over_xet_by_dns(named, hub, cas, folder, people):
    writer = NamedMachine(folder / "writer", "hub2", named, token=people.writer)
    write(writer, "by_xet", environment=(), repo_id=PUB, size=1_000_000)
    assert {1_000_000, 300_000} <= {len(file) for file in cas.files} and not hub.calls("hub", "/objects/batch")


@pytest.mark.slow
def test_git_clones_and_pushes_by_a_proxy(road, hub, folder, people):
    user = ProxyMachine(folder / "user", None, road)
    script = user.home / "askpass"
    script.write_text(f'#!/bin/sh\ncase "$1" in *sername*) echo acme ;; *) echo {people.writer} ;; esac\n')
    script.chmod(0o700)
    how = IDENTITY | {"GIT_ASKPASS": str(script)}
    how |= {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "acme"), ("EMAIL", "a@example.net"))}
    # as an administrator sets it for all of a machine's users, instead of variables
    plain = {"HTTPS_PROXY": "", "https_proxy": "", "GIT_SSL_CAINFO": str(user.ca)}
    configured = ("-c", f"http.proxy={user.url}", "-c", f"http.sslCAInfo={user.ca}")

    def git(*words, environment=how):
        done = user.run(["git", *words], environment=environment)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    git("lfs", "install", "--skip-repo")
    git(*configured, "clone", "-q", f"{HUB}/{PUB}", "first", environment=how | plain)
    git("clone", "-q", f"{HUB}/{PUB}", "here")
    for name in ("first", "here"):
        clone = user.home / name
        assert (clone / "model.safetensors").read_bytes() == bytes_of(hub, "model.safetensors")
    (user.home / "here/pushed.bin").write_bytes(b"pushed" * 50_000)
    git("-C", "here", "lfs", "track", "*.bin")
    git("-C", "here", "add", ".")
    git("-C", "here", "commit", "-q", "-m", "By git")
    git("-C", "here", "push", "-q", "origin", "HEAD:main")
    assert bytes_of(hub, "pushed.bin") == b"pushed" * 50_000


@pytest.mark.slow
def test_javascript_reads_by_dns(named, hub, folder):
    user = NamedMachine(folder / "user", None, named)
    info, files, found = user.node(HERE / "node/calls.mjs", [
        ["modelInfo", {"name": PUB}], ["listFiles", {"repo": PUB, "recursive": True}],
        ["downloadFile", {"repo": PUB, "path": "model.safetensors"}]])
    assert info["name"] == PUB and {f["path"] for f in files} == set(truth(hub, PUB))
    assert found["sha256"] == truth(hub, PUB)["model.safetensors"]


def test_curl_by_a_proxy_and_by_its_own_options(road, hub, folder):
    user = ProxyMachine(folder / "user", None, road)
    target = f"{HUB}/{PUB}/resolve/main/model.safetensors"
    for words in ([], ["-x", user.url, "--cacert", str(user.ca)]):
        done = user.run(["curl", "-sSfL", "-q", *words, "-o", "out", target])
        assert done.returncode == 0, done.stderr
        assert (user.home / "out").read_bytes() == bytes_of(hub, "model.safetensors")
    # whoever does not trust the CA is not served by mistake
    done = subprocess.run(["curl", "-sS", "-q", "-x", user.url, target], capture_output=True, text=True,
                          env={"PATH": "/usr/bin:/bin", "HOME": str(user.home)})
    assert done.returncode == 60, done.stderr
    assert shutil.which("curl") and json.loads(road.daemon.get("/-/status").text)
