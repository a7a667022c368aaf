# SPDX-License-Identifier: Apache-2.0
"""Bytes and their names.

Owns what a file *is* before any repository holds it: where its bytes come from (memory, a file on disk, or generated once into a
cache folder) and every identity the Hub gives them: the git blob id of regular files; the SHA-256, the pointer text, the pointer's
git id and a Xet hash of large (LFS) files.
"""
import hashlib
import os
import random
import re
import tempfile
from pathlib import Path

CHUNK = 1 << 20


def git_id(kind, body):
    """The SHA-1 that git gives to an object of this kind ("blob", "tree", "commit")."""
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), len(body)) + body).hexdigest()


def git_blob_id(source):
    """git_id of a blob, without holding its bytes."""
    digest = hashlib.sha1(b"blob %d\0" % source.size)
    for at in range(0, source.size, CHUNK):
        digest.update(source.read(at, CHUNK))
    return digest.hexdigest()


def pointer_text(sha256, size):
    return (f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n").encode()


def xet_hash_of(sha256):
    """A stable 64-hex value that looks like a digest of the bytes and is not: taking it for one is a bug worth catching."""
    return hashlib.sha256(b"hub double xet hash of " + sha256.encode()).hexdigest()


def read_pointer(data):
    """(sha256, size) that a Git-LFS pointer names; None if the bytes are no pointer."""
    found = re.fullmatch(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d+)\n", data)
    return (found[1].decode(), int(found[2])) if found else None


class Memory:
    """Bytes held in memory."""
    path = None

    def __init__(self, data):
        self.data = bytes(data)
        self.size = len(self.data)

    def read(self, offset=0, length=None):
        return self.data[offset:] if length is None else self.data[offset:offset + length]

    def sha256(self):
        return hashlib.sha256(self.data).hexdigest()


class OnDisk:
    """Bytes in a file; nothing of it stays in memory."""

    def __init__(self, path, sha256=None):
        self.path = Path(path)
        self.size = self.path.stat().st_size
        self._sha256 = sha256

    def read(self, offset=0, length=None):
        with open(self.path, "rb") as f:
            f.seek(offset)
            return f.read() if length is None else f.read(length)

    def sha256(self):
        if self._sha256 is None:
            digest = hashlib.sha256()
            with open(self.path, "rb") as f:
                while block := f.read(CHUNK):
                    digest.update(block)
            self._sha256 = digest.hexdigest()
        return self._sha256


class Generated:
    """A promise of `size` bytes that depend on (size, seed) only; see generate()."""

    def __init__(self, size, seed=0):
        self.size = size
        self.seed = seed


def generated(size, seed=0):
    return Generated(size, seed)


def generated_block(seed, index, length=CHUNK):
    """Block `index` (1 MiB each) of a generated file: lets a test check any part without holding the whole."""
    return random.Random((seed << 40) + index).randbytes(CHUNK)[:length]


def generate(spec, cache_dir):
    """Makes the file of a Generated once, with its digest beside it, and returns it as OnDisk."""
    cache_dir = Path(cache_dir)
    cache_dir.mkdir(parents=True, exist_ok=True)
    path = cache_dir / f"gen-{spec.size}-{spec.seed}.bin"
    note = cache_dir / f"gen-{spec.size}-{spec.seed}.sha256"
    if not (path.exists() and note.exists() and path.stat().st_size == spec.size):
        digest = hashlib.sha256()
        fd, temporary = tempfile.mkstemp(dir=cache_dir)
        with os.fdopen(fd, "wb") as f:
            for index in range((spec.size + CHUNK - 1) // CHUNK):
                block = generated_block(spec.seed, index, min(CHUNK, spec.size - index * CHUNK))
                digest.update(block)
                f.write(block)
        os.replace(temporary, path)
        fd, temporary = tempfile.mkstemp(dir=cache_dir)
        with os.fdopen(fd, "w") as f:
            f.write(digest.hexdigest())
        os.replace(temporary, note)
    return OnDisk(path, note.read_text().strip())


class LFS:
    """Marks a value given to repo.commit() as a large file: LFS(bytes), LFS(Path) or LFS(generated(size, seed))."""

    def __init__(self, what):
        self.what = what


class File:
    """One version of one file: its bytes with all the names the Hub knows them by."""

    def __init__(self, source, lfs=False):
        self.source = source
        self.size = source.size
        self.is_lfs = lfs
        if lfs:
            self.sha256 = source.sha256()
            self.pointer = pointer_text(self.sha256, self.size)
            self.oid = git_id("blob", self.pointer)
            self.xet_hash = xet_hash_of(self.sha256)
        else:
            self.sha256 = self.pointer = self.xet_hash = None
            self.oid = git_blob_id(source)

    @property
    def etag(self):
        """What clients must take as the identity of the content."""
        return self.sha256 if self.is_lfs else self.oid


def make_file(value, cache_dir):
    """Turns what a test wrote (bytes, str, Path, Generated, LFS of these, File) into a File."""
    if isinstance(value, File):
        return value
    lfs = isinstance(value, LFS)
    what = value.what if lfs else value
    if isinstance(what, Generated):
        source = generate(what, cache_dir)
    elif isinstance(what, (Memory, OnDisk)):
        source = what
    elif isinstance(what, str):
        source = Memory(what.encode())
    elif isinstance(what, os.PathLike):
        source = OnDisk(what)
    else:
        source = Memory(what)
    return File(source, lfs)
