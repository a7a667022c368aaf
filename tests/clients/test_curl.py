# SPDX-License-Identifier: Apache-2.0
"""curl as people use it in scripts: whole files, ranges, resume, conditions."""
import hashlib
import shutil
import subprocess
import time

import pytest

from facts import CONFIG, MODEL, add_large, bytes_of, commit_of, file_of
from machine import Machine

MIB = 1 << 20
pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


@pytest.fixture
def curl(folder, cache):
    """curl(arguments..., target) in a folder of its own; returns the finished process with bytes in .stdout."""
    place = folder / "curl"
    place.mkdir()

    def run(*arguments, ok=True, **how):
        *options, target = arguments
        done = subprocess.run(["curl", "-sS", "-q", "--noproxy", "*", *options, cache.url + target], cwd=place, capture_output=True,
                              env={"PATH": "/usr/bin:/bin", "HOME": str(place)}, timeout=60, **how)
        assert not ok or done.returncode == 0, f"curl {arguments}: {done.returncode} {done.stderr.decode()}"
        return done
    run.folder = place
    return run


def test_a_file_without_following_redirects(curl, hub):
    assert curl("-f", MODEL).stdout == bytes_of(hub, "model.safetensors")
    assert curl("-f", CONFIG).stdout == bytes_of(hub, "config.json")


def test_the_name_that_the_server_gives(curl, hub):
    curl("-f", "-L", "-OJ", MODEL)
    assert (curl.folder / "model.safetensors").read_bytes() == bytes_of(hub, "model.safetensors")


def test_head_tells_size_and_identity(curl, hub):
    text = curl("-I", MODEL).stdout.decode().lower()
    file = file_of(hub, "model.safetensors")
    assert text.startswith("http/1.1 200") and f"content-length: {file.size}\r\n" in text
    assert f'etag: "{file.etag}"' in text and f"x-repo-commit: {commit_of(hub).id}" in text and "accept-ranges: bytes" in text


@pytest.mark.parametrize("is_warm", [False, True])
def test_ranges(curl, hub, is_warm):
    body = bytes_of(hub, "model.safetensors")
    if is_warm:
        curl("-f", MODEL)
    for text, want in (("0-0", body[:1]), ("100-1000099", body[100:1000100]), ("3000000-", body[3000000:]), ("-17", body[-17:])):
        assert curl("-f", "-r", text, MODEL).stdout == want, text
    outside = curl("-o", "/dev/null", "-w", "%{http_code}", "-r", f"{len(body)}-", MODEL)
    assert outside.stdout == b"416"


def test_resume_of_a_part(curl, hub):
    body, out = bytes_of(hub, "model.safetensors"), curl.folder / "out"
    for size in (1, 1 * MIB + 17, len(body) - 1):
        out.write_bytes(body[:size])
        curl("-f", "-C", "-", "-o", "out", MODEL)
        assert out.read_bytes() == body, size


def test_resume_after_the_client_was_stopped_in_a_cold_transfer(curl, hub):
    target, file = add_large(hub, 24 * MIB, seed=26)
    rule = hub.rule("cdn", rate=8 * MIB)
    out = curl.folder / "out"
    stopped = curl("-f", "-m", "1", "-o", "out", target, ok=False)
    assert stopped.returncode == 28 and 0 < out.stat().st_size < file.size
    rule.remove()
    curl("-f", "-C", "-", "-o", "out", target)
    assert hashlib.sha256(out.read_bytes()).hexdigest() == file.sha256
    assert hub.body_bytes("cdn") <= 1.35 * file.size, "the part that was held was fetched again"


def test_what_did_not_change_is_not_sent_again(curl, hub):
    curl("-f", "--etag-save", "tag", "-o", "out", MODEL)
    again = curl("-f", "--etag-compare", "tag", "-o", "out2", "-w", "%{http_code} %{size_download}", MODEL)
    assert again.stdout == b"304 0"


def test_several_files_over_one_connection(curl, hub, cache):
    done = curl("-f", "-w", "%{num_connects}\n", "-o", "a", cache.url + MODEL, "-o", "b", cache.url + CONFIG, "-o", "c",
                "/acme/pub/resolve/main/README.md")
    assert done.stdout.split() == [b"1", b"0", b"0"]
    assert (curl.folder / "a").read_bytes() == bytes_of(hub, "model.safetensors")
    assert (curl.folder / "c").read_bytes() == bytes_of(hub, "README.md")


def test_many_at_once(curl, hub, cache):
    """One cold file, sixteen transfers in parallel."""
    target, file = add_large(hub, 8 * MIB, seed=27)
    began = time.monotonic()
    pieces = [part for n in range(15) for part in ("-o", f"out{n}", cache.url + target)]
    curl("-f", "-Z", "--parallel-immediate", *pieces, "-o", "out15", target)
    for n in range(16):
        assert hashlib.sha256((curl.folder / f"out{n}").read_bytes()).hexdigest() == file.sha256, n
    assert hub.body_bytes("cdn") <= file.size * 1.01
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("is_pinned", [False, True])
def test_curl_in_every_phase(folder, hub, phases, is_pinned):
    body, config = bytes_of(hub, "model.safetensors"), bytes_of(hub, "config.json")
    where = f"/acme/pub/resolve/{commit_of(hub).id if is_pinned else 'main'}"
    for phase in phases("curl", "", "files, ranges, resume" + (" at a commit" if is_pinned else ""), is_pinned):
        user = Machine(folder / phase.name, None, phase.url)
        out = user.home / "out"

        def curl(*arguments, phase=phase, user=user, out=out):
            *options, name = arguments
            done = user.run(["curl", "-sS", "-q", "-f", "--noproxy", "*", *options, "-o", str(out), f"{phase.url}{where}/{name}"])
            assert done.returncode == 0, f"{phase.name}: {done.stderr}"
            return out.read_bytes()
        assert curl("-r", "1000000-1999999", "model.safetensors") == body[1_000_000:2_000_000]
        out.write_bytes(body[:2_000_000])
        assert curl("-C", "-", "model.safetensors") == body
        assert curl("model.safetensors") == body and curl("config.json") == config
