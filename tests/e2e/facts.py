# SPDX-License-Identifier: Apache-2.0
"""What the double holds, as the tests ask for it: files, commits, addresses; and what every good answer must look like.

Never     takes its truth from the daemon.
"""
import re

from hubdouble import LFS, generated
from hubdouble.fixture import add_page, add_public, add_table, small_model

MIB = 1 << 20
PUB = "acme/pub"
MODEL = "/acme/pub/resolve/main/model.safetensors"
CONFIG = "/acme/pub/resolve/main/config.json"
MODEL_BYTES = 3 * MIB
EMPTY_OID = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
# Statuses that say: I do not know (hub-protocol 3.5).
IGNORANCE = (503, 504)
EXPOSED = ("X-Repo-Commit", "X-Error-Code", "X-Error-Message", "X-Total-Count", "ETag", "Link", "Accept-Ranges", "Content-Range",
           "X-Linked-Size", "X-Linked-ETag")


def standard_repos(hub):
    """The small repositories of the standard fixture; tests that need many files or large ones add them."""
    content = hub.content
    add_public(content)
    small_model(content, "acme/gated", gated="auto", seed=11)
    small_model(content, "acme/private", private=True, seed=12)
    small_model(content, "acme/disabled", disabled=True, seed=13)
    small_model(content, "acme/tinymodel", seed=14, size=65536)
    content.add_alias("model", "tinymodel", "acme/tinymodel")
    content.add_alias("model", "old/name", "acme/pub")
    add_table(content)
    add_page(content)


def add_large(hub, size=64 * MIB, seed=21, repo="acme/large", name="weights.bin"):
    """A public repository with one large file; returns (its address at main, its File)."""
    made = hub.content.add_repo("model", repo)
    commit = made.commit({name: LFS(generated(size, seed)), "README.md": f"# {repo}\n"})
    return f"/{repo}/resolve/main/{name}", commit.files[name]


def commit_of(hub, repo=PUB, revision="main", kind="model"):
    return hub.content.repo(repo, kind).find(revision)


def file_of(hub, path, repo=PUB, revision="main", kind="model"):
    return commit_of(hub, repo, revision, kind).files[path]


def bytes_of(hub, path, repo=PUB, revision="main", kind="model"):
    return file_of(hub, path, repo, revision, kind).source.read()


def at_commit(hub, path, repo=PUB, revision="main", kind="model"):
    """The address of a file at the full commit id."""
    from urllib.parse import quote
    prefix = hub.content.repo(repo, kind).prefix
    return f"{prefix}/resolve/{commit_of(hub, repo, revision, kind).id}/{quote(path)}"


def resolve_calls(hub, path=None):
    """Calls for names or bytes of files at the Hub: /resolve/ and what its redirects lead to."""
    return [c for c in hub.calls("hub", r"/resolve(-cache)?/") if path is None or re.search(path, c["target"])]


def all_bytes(hub):
    """Body bytes of files that upstream sent, over Hub and CDN."""
    return sum(c["sent"] for c in hub.calls() if c["method"] == "GET" and c["status"] in (200, 206))


def assert_file_head(answer, hub, path, repo=PUB, revision="main", kind="model", status=200):
    """What HEAD, 200, 206 and 304 of a file must all carry (hub-protocol 2.2)."""
    file, commit = file_of(hub, path, repo, revision, kind), commit_of(hub, repo, revision, kind)
    assert answer.status == status, answer
    assert answer["ETag"] == f'"{file.etag}"'
    assert answer["X-Repo-Commit"] == commit.id
    assert answer["Accept-Ranges"] == "bytes"
    assert answer["Content-Encoding"] is None and answer["Transfer-Encoding"] is None
    assert not [n for n in answer.names() if n.startswith("x-xet")] and answer["Link"] is None and answer["Location"] is None
    if file.is_lfs:
        assert answer["X-Linked-Etag"] == f'"{file.sha256}"' and answer["X-Linked-Size"] == str(file.size)
    else:
        assert answer["X-Linked-Etag"] in (None, f'"{file.oid}"')
    assert answer["X-Content-Type-Options"] == "nosniff" and "sandbox" in answer["Content-Security-Policy"]
    assert answer["Cache-Status"].startswith("hfcache;")
    if status == 200:
        assert answer["Content-Length"] == str(file.size)
        assert answer["Content-Range"] is None or file.size == 0
    return file


def assert_whole(answer, hub, path, repo=PUB, revision="main", kind="model"):
    file = assert_file_head(answer, hub, path, repo, revision, kind)
    assert answer.body == file.source.read(), f"wrong bytes for {path}"
    return file


def assert_ignorance(answer):
    """Upstream cannot be asked and the daemon says so, without claiming to know (P8, E06, E07)."""
    assert answer.status in IGNORANCE, answer
    assert answer["Retry-After"] is not None and answer["Retry-After"].isdigit()
    assert answer["X-Error-Code"] is None and answer["X-Repo-Commit"] is None


def assert_no_clean_end(answer):
    """The body did not end as if it were whole (P2)."""
    assert not answer.complete, f"a clean end: {answer}"
    assert answer.end in ("fin", "rst"), answer


def hit(answer):
    return "hit" in [p.strip() for p in (answer["Cache-Status"] or "").split(";")]
