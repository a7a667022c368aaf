# SPDX-License-Identifier: Apache-2.0
"""A repository of the double as a bare git repository on disk, and pushed commits back into the double.

Owns      one folder per repository, made when git first asks for it: loose objects written from the content (commit, tree and blob ids
          are those that the API tells; large files are their pointers) and the refs. After a push, what git received becomes commits
          of the content.
Never     runs git to write; runs it to serve (serve) and to read what a push brought.
Threads   any; `lock` is held while refs are brought up to date and during a whole push.
"""
import atexit
import os
import shutil
import subprocess
import tempfile
import threading
import zlib
from pathlib import Path

from .blobs import CHUNK, File, Memory, read_pointer

CONFIG = """[core]
	repositoryformatversion = 0
	bare = true
[uploadpack]
	allowFilter = true
	allowAnySHA1InWant = true
[receive]
	autogc = false
	denyDeleteCurrent = warn
	advertisePushOptions = true
[gc]
	auto = 0
[http]
	receivepack = true
"""


def git_environment():
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    return kept | {"HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8",
                   "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}


def parse_commit(raw):
    """(parent ids, author's name, seconds, message) of a commit object."""
    head, _, message = raw.partition(b"\n\n")
    parents, author, date = [], "unknown", 0
    for line in head.decode("utf-8", "replace").split("\n"):
        word, _, value = line.partition(" ")
        if word == "parent":
            parents.append(value)
        elif word == "author":
            author = value.partition(" <")[0] or author
        elif word == "committer":
            date = int(value.rsplit(" ", 2)[1])
    return parents, author, date, message.decode("utf-8", "replace").rstrip("\n")


class GitStore:
    """The bare repository of one Repo."""

    def __init__(self, repo, folder):
        self.repo = repo
        self.path = Path(folder)
        self.lock = threading.RLock()
        self.written = set()    # ids of commits that are on disk with all they need
        self.tag_objects = {}   # ref -> (id of the tag object that was pushed, id of its commit)
        for name in ("objects", "refs/heads", "refs/tags"):
            (self.path / name).mkdir(parents=True)
        (self.path / "config").write_text(CONFIG)
        (self.path / "HEAD").write_text("ref: refs/heads/main\n")

    # Content to disk

    def sync(self):
        """Brings objects and refs on disk to what the content holds now."""
        with self.lock:
            wanted = {ref: commit for ref, commit in list(self.repo.refs.items())}
            for commit in wanted.values():
                self._write_history(commit)
            have = self.refs()
            for ref in have.keys() - wanted.keys():
                self._remove_ref(ref)
            for ref, commit in wanted.items():
                if have.get(ref) != commit.id and (have.get(ref), commit.id) != self.tag_objects.get(ref):
                    target = self.path / ref
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_text(commit.id + "\n")

    def _remove_ref(self, ref):
        """The file, and folders that are empty without it: a branch may come to bear their name."""
        place = self.path / ref
        place.unlink()
        while len(place.parent.relative_to(self.path).parts) > 2 and not any(place.parent.iterdir()):
            place = place.parent
            place.rmdir()

    def refs(self):
        """Full name -> object id, from the files (nothing here ever packs refs)."""
        top = self.path / "refs"
        return {p.relative_to(self.path).as_posix(): p.read_text().strip() for p in top.rglob("*") if p.is_file()}

    def _write_history(self, commit):
        waiting = [commit]
        while waiting:
            commit = waiting.pop()
            if commit is None or commit.id in self.written:
                continue
            for folder, (oid, _, _) in commit.folders.items():
                self._write(oid, "tree", lambda folder=folder: commit.tree_body(folder))
            for file in commit.files.values():
                self._write_file(file)
            self._write(commit.id, "commit", lambda: commit.raw)
            self.written.add(commit.id)
            waiting.append(commit.parent)

    def _place(self, oid):
        return self.path / "objects" / oid[:2] / oid[2:]

    def _write(self, oid, kind, make):
        place = self._place(oid)
        if place.exists():
            return
        place.parent.mkdir(exist_ok=True)
        body = make()
        temporary = place.with_suffix(f".{threading.get_ident()}")
        temporary.write_bytes(zlib.compress(b"%s %d\0" % (kind.encode(), len(body)) + body, 1))
        os.replace(temporary, place)

    def _write_file(self, file):
        """A blob: a pointer, or a regular file of any size."""
        if file.is_lfs:
            return self._write(file.oid, "blob", lambda: file.pointer)
        place = self._place(file.oid)
        if place.exists():
            return None
        place.parent.mkdir(exist_ok=True)
        packer = zlib.compressobj(1)
        temporary = place.with_suffix(f".{threading.get_ident()}")
        with open(temporary, "wb") as out:
            out.write(packer.compress(b"blob %d\0" % file.size))
            for at in range(0, file.size, CHUNK):
                out.write(packer.compress(file.source.read(at, CHUNK)))
            out.write(packer.flush())
        os.replace(temporary, place)

    # Serving

    def serve(self, service, protocol=None, advertise=False, body=b""):
        """Runs git-upload-pack or git-receive-pack for one request; its output."""
        command = ["git", service.removeprefix("git-"), "--stateless-rpc"]
        command += ["--advertise-refs"] if advertise else []
        environment = git_environment()
        if protocol:
            environment["GIT_PROTOCOL"] = protocol
        done = subprocess.run(command + [str(self.path)], input=body, capture_output=True, env=environment, check=False)
        return done.stdout

    def receive(self, body, protocol=None):
        """A push: git takes it, then the content follows. Returns (git's answer, refs that changed)."""
        with self.lock:
            self.sync()
            before = self.refs()
            said = self.serve("git-receive-pack", protocol, body=body)
            after = self.refs()
            changed = {ref: after.get(ref) for ref in before.keys() | after.keys() if before.get(ref) != after.get(ref)}
            self._take_over(changed)
            return said, changed

    # Disk to content

    def git(self, *words):
        """What a command of git's says about this repository."""
        return subprocess.run(["git", f"--git-dir={self.path}", *words], capture_output=True, env=git_environment(), check=True).stdout

    def _take_over(self, changed):
        repo = self.repo
        with repo.content.lock:
            for ref, oid in changed.items():
                if oid is None:
                    repo.refs.pop(ref, None)
                    continue
                commit = self.git("rev-parse", f"{oid}^{{commit}}").decode().strip()
                if commit != oid:
                    self.tag_objects[ref] = (oid, commit)
                self._import_history(commit)
                repo.refs[ref] = repo.commits[commit]

    def _import_history(self, oid):
        known = {file.oid: file for commit in self.repo.commits.values() for file in commit.files.values()}
        for each in self.git("rev-list", "--reverse", "--topo-order", oid).decode().split():
            if each not in self.repo.commits:
                self._import(each, known)

    def _import(self, oid, known):
        from .content import Commit
        raw = self.git("cat-file", "commit", oid)
        parents, author, date, message = parse_commit(raw)
        files, modes = {}, {}
        for line in self.git("ls-tree", "-r", "-z", oid).split(b"\0"):
            if not line:
                continue
            meta, _, path = line.partition(b"\t")
            mode, kind, blob = meta.decode().split(" ")
            path = path.decode("utf-8", "surrogateescape")
            if kind != "blob":
                continue
            if blob not in known:
                known[blob] = self._import_blob(blob)
            files[path] = known[blob]
            if mode != "100644":
                modes[path] = mode
        parent = self.repo.commits.get(parents[0]) if parents else None
        commit = Commit(files, parent, message, date, author, modes, raw)
        assert commit.id == oid, f"{oid} came back as {commit.id}"
        self.repo.commits[oid] = commit
        self.written.add(oid)

    def _import_blob(self, oid):
        data = self.git("cat-file", "blob", oid)
        pointer = read_pointer(data)
        large = self.repo.content.by_sha256.get(pointer[0]) if pointer else None
        return large or File(Memory(data))


_top = None
_lock = threading.Lock()


def store_of(repo):
    """The GitStore of a repository, made on first use and brought up to date."""
    global _top
    with _lock:
        if _top is None:
            _top = tempfile.mkdtemp(prefix="hubdouble-git-")
            atexit.register(shutil.rmtree, _top, ignore_errors=True)
        if repo.git is None:
            repo.git = GitStore(repo, tempfile.mkdtemp(prefix=f"{repo.id.replace('/', '--')}-", dir=_top))
    repo.git.sync()
    return repo.git
