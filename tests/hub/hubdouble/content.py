# SPDX-License-Identifier: Apache-2.0
"""What the Hub double holds: repositories, their history and refs, who may see them, and the tokens that exist.

Everything is real where a client can check it: tree ids and commit ids are git's. Commits never change once made, so readers need
no lock; refs, visibility and tokens may change at any time, from any thread.
"""
import hashlib
import tempfile
import threading
import time

from .blobs import git_id, make_file

KINDS = {"model": "models", "dataset": "datasets", "space": "spaces", "kernel": "kernels"}
FIRST_DATE = 1708340265  # 2024-02-19T10:57:45Z; every commit of a repository is an hour after the one before


def kind_of(name):
    """"model" for "model" and "models", and so on."""
    return name[:-1] if name.endswith("s") else name


def iso(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


class Commit:
    """One immutable state of all files, with its folders (path -> tree id, folder names, file names).

    `raw` is the text of git's commit object, for a commit that came by push; `modes` those of files that are not 100644."""

    def __init__(self, files, parent, message, date, author, modes=None, raw=None):
        self.files = files
        self.modes = modes or {}
        self.parent = parent
        self.title, _, self.message = message.partition("\n")
        self.message = self.message.strip()
        self.date = date
        self.author = author
        self.folders = {}
        self.tree_oid = self._fold()
        text = f"tree {self.tree_oid}\n" + (f"parent {parent.id}\n" if parent else "")
        who = f"{author} <{author}@users.noreply.example> {date} +0000"
        self.raw = raw or f"{text}author {who}\ncommitter {who}\n\n{message}\n".encode()
        self.id = git_id("commit", self.raw)
        self.last = self._last_touched()

    def _fold(self):
        nested = {}
        for path in self.files:
            *parents, name = path.split("/")
            level = nested
            for part in parents:
                level = level.setdefault(part, {})
            level[name] = None
        return self._fold_one("", nested)

    def _fold_one(self, where, level):
        folders, names = [], []
        for name, below in level.items():
            if below is None:
                names.append(name)
            else:
                folders.append(name)
                self._fold_one(f"{where}/{name}" if where else name, below)
        self.folders[where] = (None, sorted(folders, key=str.encode), sorted(names, key=str.encode))
        oid = git_id("tree", self.tree_body(where))
        self.folders[where] = (oid, *self.folders[where][1:])
        return oid

    def tree_body(self, folder=""):
        """The content of git's tree object of a folder, whose folders are folded already."""
        _, folders, names = self.folders[folder]
        prefix = folder + "/" if folder else ""
        entries = [(name.encode(), self.modes.get(prefix + name, "100644"), self.files[prefix + name].oid) for name in names]
        entries += [(name.encode() + b"/", "40000", self.folders[prefix + name][0]) for name in folders]
        return b"".join(mode.encode() + b" " + key.rstrip(b"/") + b"\0" + bytes.fromhex(oid) for key, mode, oid in sorted(entries))

    def _last_touched(self):
        """path -> the commit that last changed it, for files and folders."""
        old = self.parent
        last = {}
        for path, file in self.files.items():
            same = old and path in old.files and old.files[path].oid == file.oid
            last[path] = old.last[path] if same else self
        for path, (oid, _, _) in self.folders.items():
            same = old and path in old.folders and old.folders[path][0] == oid
            last[path or "/"] = old.last[path or "/"] if same else self
        return last

    def history(self):
        commit = self
        while commit:
            yield commit
            commit = commit.parent

    def walk(self, folder="", recursive=False):
        """Paths below a folder, as (path, is_folder): folders before files, level by level."""
        waiting = [folder]
        while waiting:
            where = waiting.pop(0)
            _, folders, names = self.folders[where]
            prefix = where + "/" if where else ""
            for name in folders:
                yield prefix + name, True
                if recursive:
                    waiting.append(prefix + name)
            for name in names:
                yield prefix + name, False


class Repo:
    def __init__(self, content, kind, repo_id, private=False, gated=False, disabled=False):
        self.content = content
        self.kind = kind
        self.id = repo_id
        self.private = private
        self.gated = gated
        self.disabled = disabled
        self.object_id = hashlib.sha1(f"{kind} {repo_id} {len(content.repos)}".encode()).hexdigest()[:24]
        self.refs = {}      # "refs/heads/main", "refs/tags/v1", "refs/pr/1", "refs/convert/parquet" -> Commit
        self.commits = {}   # id -> Commit
        self.likes = 0
        self.downloads = 0
        self.uploaded = set()    # sha256 of large files that came by LFS, committed or not
        self.talks = {}     # number -> discussion (extras.py)
        self.git = None     # GitStore, once git has asked for it

    @property
    def plural(self):
        return KINDS[self.kind]

    @property
    def prefix(self):
        """In front of /resolve/: "/acme/pub", "/datasets/acme/table"."""
        return f"/{self.id}" if self.kind == "model" else f"/{self.plural}/{self.id}"

    @property
    def namespace(self):
        return self.id.split("/")[0] if "/" in self.id else ""

    @staticmethod
    def full_ref(name):
        return name if name.startswith("refs/") else f"refs/heads/{name}"

    def commit(self, files, branch="main", message="Update files", orphan=None, author="alice"):
        """Adds a commit to a branch (or refs/pr/N, refs/convert/NAME). A value of None deletes that path.

        A branch that does not exist yet starts from main, a convert ref from nothing; orphan=True starts from nothing as well."""
        ref = self.full_ref(branch)
        with self.content.lock:
            orphan = ref.startswith("refs/convert/") and ref not in self.refs if orphan is None else orphan
            parent = None if orphan else self.refs.get(ref) or self.refs.get("refs/heads/main")
            state = dict(parent.files) if parent else {}
            modes = {p: m for p, m in parent.modes.items() if p not in files} if parent else {}
            for path, value in files.items():
                if value is None:
                    state.pop(path, None)
                else:
                    state[path] = make_file(value, self.content.cache_dir)
            commit = Commit(state, parent, message, FIRST_DATE + 3600 * len(self.commits), author, modes)
            self.commits[commit.id] = commit
            self.refs[ref] = commit
            for file in state.values():
                self.content.learn(file)
        return commit

    def branch(self, name, at="main"):
        self.refs[self.full_ref(name)] = self.find(at)

    def tag(self, name, at="main"):
        self.refs[f"refs/tags/{name}"] = self.find(at)

    def delete_ref(self, name):
        """Whether there was such a ref."""
        return any(self.refs.pop(ref, None) for ref in (name, f"refs/heads/{name}", f"refs/tags/{name}"))

    def find(self, revision):
        """The commit that a branch, tag, ref, full or short commit id names; None if it names nothing."""
        if isinstance(revision, Commit):
            return revision
        if revision == "HEAD":
            revision = "main"
        for ref in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if ref in self.refs:
                return self.refs[ref]
        if revision in self.commits:
            return self.commits[revision]
        if 7 <= len(revision) < 40:
            fits = [c for i, c in self.commits.items() if i.startswith(revision)]
            if len(fits) == 1:
                return fits[0]
        return None

    def split(self, segments):
        """Splits decoded path segments that start with a revision into (revision, rest); knows refs with slashes."""
        best = 1
        if segments and segments[0] == "refs":
            best = min(3, len(segments))
        for ref in list(self.refs):
            for name in (ref, ref.split("/", 2)[2]):
                parts = name.split("/")
                if len(parts) > best and segments[:len(parts)] == parts:
                    best = len(parts)
        return "/".join(segments[:best]), segments[best:]

    @property
    def head(self):
        return self.refs.get("refs/heads/main")


class Token:
    def __init__(self, value, user, grants, role="read"):
        self.value = value
        self.user = user
        self.grants = set(grants)
        self.role = role


class Content:
    """All repositories, aliases, tokens and known large files."""

    def __init__(self, cache_dir=None):
        self.cache_dir = cache_dir or f"{tempfile.gettempdir()}/hubdouble-cache"
        self.lock = threading.RLock()
        self.repos = {}      # (kind, id) -> Repo
        self.aliases = {}    # (kind, old id) -> (new id, answered directly on /resolve/)
        self.tokens = {}
        self.by_xet = {}     # xet hash -> File
        self.by_sha256 = {}  # sha256 -> File
        self.gone = set()    # sha256 of large files that batches answer with 410
        self.uploads = {}    # id -> Upload (lfs.py) that is not complete
        self.upload_dir = None
        self.buckets = {}    # "ns/name" -> Bucket (buckets.py)
        self.viewer_errors = {}    # dataset -> (status, code, message) that the viewer says of it
        self.pushes = []     # (kind, repo id, {ref: new commit id or None}) of every git push

    def add_repo(self, kind, repo_id, private=False, gated=False, disabled=False):
        with self.lock:
            repo = Repo(self, kind_of(kind), repo_id, private, gated, disabled)
            self.repos[repo.kind, repo_id] = repo
            return repo

    def add_alias(self, kind, old, new, direct=None):
        """An old name. direct=True (the default for one-segment names) answers /resolve/ under the old name without a redirect."""
        self.aliases[kind_of(kind), old] = (new, "/" not in old if direct is None else direct)

    def rename(self, kind, old, new):
        with self.lock:
            repo = self.repos.pop((kind_of(kind), old))
            repo.id = new
            self.repos[repo.kind, new] = repo
            self.add_alias(kind, old, new)
            return repo

    def delete_repo(self, kind, repo_id):
        self.repos.pop((kind_of(kind), repo_id), None)

    def repo(self, repo_id, kind="model"):
        return self.repos[kind_of(kind), repo_id]

    def look_up(self, kind, repo_id):
        """(repo, how): how is "exact", "alias" or "direct" (another name, redirect or not), or (None, None)."""
        repo = self.repos.get((kind, repo_id))
        if repo:
            return repo, "exact"
        if (kind, repo_id) in self.aliases:
            new, direct = self.aliases[kind, repo_id]
            return self.repos.get((kind, new)), "direct" if direct else "alias"
        low = repo_id.lower()
        for (other_kind, other), repo in list(self.repos.items()):
            if other_kind == kind and other.lower() == low:
                return repo, "alias"
        return None, None

    def add_token(self, value, user="alice", grants=(), role="read"):
        self.tokens[value] = Token(value, user, grants, role)
        return self.tokens[value]

    def revoke_token(self, value):
        self.tokens.pop(value, None)

    @staticmethod
    def user_id(name):
        return hashlib.sha1(f"user {name}".encode()).hexdigest()[:24]

    def learn(self, file):
        if file.is_lfs:
            self.by_xet[file.xet_hash] = file
            self.by_sha256[file.sha256] = file
