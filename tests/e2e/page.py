# SPDX-License-Identifier: Apache-2.0
"""A page in a real browser: headless Chromium, with a folder of its own and no way to other hosts."""
import os
import shutil
import subprocess

from harness import SLOW

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")


def dump(folder, url):
    """The page as Chromium has it once its scripts have run, and what it printed."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
               "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
               f"--user-data-dir={folder}", "--virtual-time-budget=20000", "--timeout=40000", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, timeout=60 * SLOW, check=False, stdin=subprocess.DEVNULL,
                          env={**os.environ, "HOME": str(folder)})
    return done.stdout.decode(), done.stderr.decode(errors="replace")
