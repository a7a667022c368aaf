# SPDX-License-Identifier: Apache-2.0
"""Runs huggingface_hub straight against the Hub double: if a client fails behind the daemon, it is not for want of a true double.

Skipped where huggingface_hub is not installed."""
import importlib.util
import os
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from hubdouble import HubDouble  # noqa: E402
from hubdouble.fixture import TOKENS, small_fixture  # noqa: E402
from probe import WORK, run_all  # noqa: E402

HAS_CLIENT = importlib.util.find_spec("huggingface_hub") is not None
WRITER = TOKENS["writer"]


def started():
    if not HAS_CLIENT:
        raise unittest.SkipTest("huggingface_hub is not installed")
    hub = HubDouble(cache_dir=WORK).start()
    small_fixture(hub, work_dir=WORK)
    return hub


def run(hub, program, **environment):
    """Runs a program with `api`, an HfApi, and returns what it printed."""
    with tempfile.TemporaryDirectory() as home:
        names = {"PATH": os.environ["PATH"], "HOME": home, "HF_HOME": f"{home}/hf", "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1",
                 "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_TOKEN": WRITER, "NO_PROXY": "*"} | environment
        text = "import io, os\nfrom huggingface_hub import *\napi = HfApi()\n" + textwrap.dedent(program)
        done = subprocess.run([sys.executable, "-c", text], env=names, cwd=home, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:] + str([(c.method, c.target, c.status) for c in hub.calls()][-6:])
        return done.stdout.split()


def test_uploads_arrive():
    with started() as hub:
        hub.options.multipart_over, hub.options.chunk_size = 1_000_000, 700_000
        out = run(hub, """
            large = os.urandom(1_500_000)
            small = os.urandom(50_000)
            print(api.create_repo("acme/up", exist_ok=True).repo_id, api.create_repo("acme/up", exist_ok=True).repo_id)
            api.upload_file(repo_id="acme/up", path_in_repo="large.bin", path_or_fileobj=large)
            api.upload_file(repo_id="acme/up", path_in_repo="small.safetensors", path_or_fileobj=io.BytesIO(small))
            info = api.upload_file(repo_id="acme/up", path_in_repo="notes.txt", path_or_fileobj=b"plain")
            print(info.oid, info.commit_url)
            import hashlib
            print(hashlib.sha256(large).hexdigest(), hashlib.sha256(small).hexdigest())
            assert open(hf_hub_download("acme/up", "large.bin"), "rb").read() == large
            print(api.upload_file(repo_id="acme/up", path_in_repo="pr.txt", path_or_fileobj=b"pr", create_pr=True).pr_num)
        """)
        repo = hub.content.repo("acme/up")
        assert out[:2] == ["acme/up", "acme/up"] and out[2] == repo.head.id and out[3] == f"{hub.url}/acme/up/commit/{repo.head.id}"
        assert [repo.head.files[n].sha256 for n in ("large.bin", "small.safetensors")] == out[4:6] and out[6] == "1"
        assert len(hub.calls("cdn", "partNumber=", "PUT")) == 3 and len(hub.calls("hub", "complete_multipart")) == 1
        body = hub.calls("cdn", "PutObject", "PUT")[0]
        assert body["body_sha256"] == out[5] and not hub.leaks() and not hub.xet_calls()


def test_repositories_through_their_life():
    with started() as hub:
        out = run(hub, """
            api.create_repo("acme/one", private=True)
            api.update_repo_settings("acme/one", private=False)
            api.create_branch("acme/one", branch="b/1")
            api.create_tag("acme/one", tag="v1", revision="main")
            api.delete_branch("acme/one", branch="b/1")
            api.upload_folder(repo_id="acme/one", folder_path=os.path.dirname(os.__file__) + "/json")
            api.delete_file("encoder.py", "acme/one")
            api.super_squash_history("acme/one")
            print(len(api.list_repo_commits("acme/one")), len(api.list_repo_files("acme/one")) > 3)
            api.move_repo("acme/one", "acme/two")
            print(api.model_info("acme/one").id)
            api.delete_repo("acme/two")
            try:
                api.model_info("acme/two")
            except Exception as error:
                print(type(error).__name__)
        """)
        assert out == ["1", "True", "acme/two", "RepositoryNotFoundError"]


def test_lists_and_what_surrounds():
    with started() as hub:
        hub.content.repo("acme/pub").likes = 3
        hub.content.add_repo("space", "acme/app").commit({"README.md": "# App\n"})
        out = run(hub, """
            print(len(list(api.list_datasets(author="acme"))), [m.id for m in api.list_models(search="gguf")][0])
            print(len(list(api.list_repo_likers("acme/pub"))), [d.num for d in api.get_repo_discussions("acme/pub")][0])
            print(api.get_discussion_details("acme/pub", 1).events[0].type)
            print(len(list(api.list_collections(limit=3))), len(api.get_collection(next(iter(api.list_collections())).slug).items))
            print(api.paper_info("2401.00001").id, len(list(api.fetch_space_logs("acme/app"))))
            print(api.create_discussion("acme/pub", title="Why").num, api.create_pull_request("acme/pub", title="Do").num)
            print(api.merge_pull_request("acme/pub", 3) is None, api.get_space_runtime("acme/app").stage)
        """)
        assert out == ["1", "acme/gguf", "3", "1", "comment", "3", "3", "2401.00001", "3", "2", "3", "True", "RUNNING"]


def test_buckets_kernels_and_snapshots():
    with started() as hub:
        out = run(hub, """
            print(api.bucket_info("acme/bucket").total_files, len(list(api.list_bucket_tree("acme/bucket", recursive=True))))
            print(api.get_bucket_file_metadata("acme/bucket", "data/one.bin").size)
            print(len(list(api.get_bucket_paths_info("acme/bucket", ["notes.txt", "no"]))), api.create_bucket("acme/new").bucket_id)
            print(api.kernel_info("acme/kernel").id)
            print(sorted(os.listdir(snapshot_download("acme/gguf")))[0])
            print(open(hf_hub_download("acme/table", "default/train/0000.parquet", repo_type="dataset",
                                       revision="refs/convert/parquet"), "rb").read(4).decode())
        """)
        assert out == ["3", "3", "200000", "1", "acme/new", "acme/kernel", ".gitattributes", "PAR1"]
        assert not hub.xet_calls()


if __name__ == "__main__":
    run_all(globals())
