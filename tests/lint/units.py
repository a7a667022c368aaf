# SPDX-License-Identifier: Apache-2.0
"""The units of the service manager: valid, and confined. Needs no running systemd."""
import shutil
import subprocess
import tempfile
from pathlib import Path

from tree import ROOT, Skip, rule, text

EXPOSURE_MAX = 15  # in tenths


def analyze(*arguments):
    """systemd-analyze over copies of the units whose program exists here."""
    if not shutil.which("systemd-analyze"):
        raise Skip("there is no systemd-analyze")
    with tempfile.TemporaryDirectory() as where:
        service = text("systemd/hfcached.service.in").replace("@SBINDIR@/hfcached", "/bin/true")
        (Path(where) / "hfcached.service").write_text(service)
        shutil.copy(ROOT / "systemd/hfcached.socket", where)
        return subprocess.run(["systemd-analyze", *arguments, "./hfcached.service"], cwd=where, capture_output=True, text=True)


@rule("systemd finds no fault with the units", fast=False)
def valid():
    said = analyze("verify", "--man=no", "./hfcached.socket")
    for line in (said.stdout + said.stderr).splitlines():
        if "hfcached" in line:
            yield line
    if said.returncode:
        yield f"systemd-analyze verify: exit code {said.returncode}"


@rule(f"the service's exposure is at most {EXPOSURE_MAX / 10}", fast=False)
def confined():
    said = analyze("security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE_MAX}")
    if said.returncode:
        yield from (line for line in said.stdout.splitlines() if line.startswith(("✗", "→")))


@rule("the service does not start again what a start cannot mend")
def no_useless_restarts():
    if "\nRestartPreventExitStatus=64 78\n" not in text("systemd/hfcached.service.in"):
        yield "systemd/hfcached.service.in: RestartPreventExitStatus=64 78 is missing"
