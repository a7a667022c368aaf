# SPDX-License-Identifier: Apache-2.0
"""Documents against the tree: what they name exists."""
import re

from tables import metrics, options
from tree import ROOT, files, lines, rule, text

DOCUMENTS = ("README.md", "ARCHITECTURE.md", "HACKING.md")
ARCHITECTURE_LINES_MAX = 300
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
# Made by the build or by a person, not by the project.
MADE = ("build/", "build-", ".venv", "path/", "obj-")
FOLDERS = ("common/", "config/", "daemon/", "systemd/", "tests/", "debian/", "man/", ".ci/")


def documents():
    return [p for p in files(".md") if p.as_posix() in DOCUMENTS or p.name == "README.md"]


def in_code(path):
    """(line number, text) of what stands in backticks or in a fenced block."""
    fenced = False
    for number, line in lines(path):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced:
            yield number, line
        else:
            for found in CODE.findall(line):
                yield number, found


@rule("README.md, ARCHITECTURE.md and HACKING.md are there, the second within its length")
def are_there():
    for name in DOCUMENTS:
        if not (ROOT / name).exists():
            yield f"{name} is missing"
    if (ROOT / DOCUMENTS[1]).exists() and (count := len(text(DOCUMENTS[1]).splitlines())) >= ARCHITECTURE_LINES_MAX:
        yield f"{DOCUMENTS[1]} has {count} lines; under {ARCHITECTURE_LINES_MAX} it is read"


def exists(name, path):
    """Below the root, beside the document, or as a room of the daemon. N, n and * in a name stand for something."""
    for place in (ROOT, ROOT / path.parent, ROOT / "daemon"):
        if "*" in name and any(place.glob(name)) or (place / name).exists():
            return True
    return False


@rule("every path that a document names exists")
def paths():
    for path in documents():
        for number, line in lines(path):
            for name in LINK.findall(line):
                if not exists(name, path):
                    yield f"{path}:{number}: {name} does not exist"
        for number, code in in_code(path):
            for word in re.findall(r"(?<![\w./<{-])[\w.-]+(?:/[\w.*-]+)+/?", code):
                word = word.rstrip(".")
                if word.startswith("tests/test_"):  # a target of the build
                    word = word.replace("tests/", "tests/unit/") + ".c"
                if word.startswith(FOLDERS) and not word.startswith(MADE) and not exists(word, path):
                    yield f"{path}:{number}: {word} does not exist"


@rule("every option that a document names is in the table")
def option_names():
    table = {f"{section}.{key}" for section, key, *_ in options()}
    sections = "|".join({section for section, *_ in options()})
    name = re.compile(rf"(?<![\w./-])({sections})\.([a-z]+(?:-[a-z]+)*)\b(?![.(/])")
    for path in documents():
        for number, code in in_code(path):
            for section, key in name.findall(code):
                if f"{section}.{key}" not in table and key not in ("c", "h", "def", "md", "py", "conf", "service", "socket"):
                    yield f"{path}:{number}: there is no option {section}.{key}"


@rule("every metric that a document names is in the table")
def metric_names():
    table = {name for _, name, *_ in metrics()}
    for path in documents():
        for number, line in lines(path):
            for name in re.findall(r"\bhfcache_[a-z_]+[a-z]\b(?!\*)", line):
                if name not in table and re.sub(r"_(bucket|sum|count)$", "", name) not in table and name != "hfcache_build_info":
                    yield f"{path}:{number}: there is no metric {name}"


@rule("every make target that a document names is in the Makefile")
def make_targets():
    targets = set(re.findall(r"^([a-z-]+)(?: [a-z-]+)*:", text("Makefile"), re.M))
    for several in re.findall(r"^([a-z-]+(?: [a-z-]+)+):", text("Makefile"), re.M):
        targets |= set(several.split())
    for path in documents():
        for number, code in in_code(path):
            for name in re.findall(r"(?:^|[;&|] *)make ([a-z][a-z-]*)\b(?!=)", code):
                if name not in targets:
                    yield f"{path}:{number}: there is no target {name}"


@rule("the manual of the daemon names every exit status and signal that main knows")
def manual_is_whole():
    manual = text("man/hfcached.8.scd")
    if not (ROOT / "daemon/main.c").exists():
        return
    main = "".join(p.read_text() for p in (ROOT / "daemon").glob("*.c"))
    codes = {"EX_USAGE": "64", "EX_UNAVAILABLE": "69", "EX_SOFTWARE": "70", "EX_OSERR": "71", "EX_CANTCREAT": "73", "EX_IOERR": "74",
             "EX_NOPERM": "77", "EX_CONFIG": "78"}
    for word in sorted(set(re.findall(r"\bEX_[A-Z]+\b", main)) - {"EX_OK"}):
        if not re.search(rf"\b{codes.get(word, word)}\b", manual):
            yield f"man/hfcached.8.scd: exit status {codes.get(word, word)} ({word}) is missing"
    for word in sorted(set(re.findall(r"\bSIG(?:TERM|INT|HUP|USR1|USR2|QUIT)\b", main))):
        if word not in manual:
            yield f"man/hfcached.8.scd: {word} is missing"
    for word in sorted(set(re.findall(r'"(--[a-z-]+)"', main))):
        if word not in manual:
            yield f"man/hfcached.8.scd: {word} is missing"
