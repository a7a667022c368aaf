# SPDX-License-Identifier: Apache-2.0
"""Rules about single lines: licence tag, plate, width, banned calls, words that have no place here."""
import ast
import re
import subprocess

from tree import PROGRAM, ROOT, files, is_text, lines, rule, text

COLUMNS_MAX = 110
COMMENT_COLUMNS_MAX = 132  # plates and door comments are laid out by hand; clang-format leaves them alone
TAG = "SPDX-License-Identifier: Apache-2.0"
TAGGED = (".c", ".h", ".def", ".py", ".sh", ".socket", ".sysusers", ".in", "meson.build", "meson_options.txt", "Makefile",
          "run", "setup", "install-deps", "pre-commit", "rules")
WITHOUT_TAG = (".scd.in", ".json.in")

# Paths of somebody's machine, and hosts of package registries: clients know their own.
FORBIDDEN = [
    (re.compile(r"(?<![\w.$}])/(work|root|home/\w+)/(?!.*\bexample\b)"), "a path of one machine"),
    (re.compile(r"pypi[.]org|pythonhosted[.]org|npmjs[.]org|crates[.]io|golang[.]org/|deb[.]debian[.]org|maven[.]org", re.I),
     "a registry's host"),
]
# Data of tests: what clients and the Hub really say.
FORBIDDEN_NOT_IN = ("tests/fuzz/corpus/", "tests/heads/")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?!\.md)")


@rule("every source file has the licence tag in its first line")
def licence_tags():
    for path in files(*TAGGED):
        if path.name.endswith(WITHOUT_TAG) or "corpus" in path.parts:
            continue
        first = text(path).split("\n", 2)
        tagged = first[1] if first[0].startswith("#!") and len(first) > 1 else first[0]
        if TAG not in tagged:
            yield f"{path}:1: {TAG} is missing"


@rule("every C file begins with a plate: its name and what it is for; a test says what it proves")
def plates():
    for path in files(".c", ".h", under=PROGRAM):
        begin = text(path).split("\n", 4)
        if len(begin) < 3 or begin[1] != "/*" or not re.match(r" \* \S+.* - \S", begin[2]):
            yield f'{path}:2: expected "/*" and then " * {path.stem} - what it is for"'
    for path in files(".c", under=("tests/",)):
        if not text(path).split("\n", 2)[1].startswith("/*"):
            yield f"{path}:2: expected a comment that says what it proves"


BUF = re.compile(r"^\s*SCOPED_BUF ([^;=]*);", re.M)


@rule("a SCOPED_BUF is initialised before anything returns: its end frees whatever stands in it")
def scoped_bufs():
    for path in files(".c", under=PROGRAM + ("tests/",)):
        source = text(path)
        for function in re.finditer(r"^\{\n(.*?)^\}", source, re.S | re.M):
            for declared in BUF.finditer(function[1]):
                rest = function[1][declared.end():]
                for name in (word.strip() for word in declared[1].split(",")):
                    first_use = re.search(rf"&{name}\b", rest)
                    if re.search(r"\breturn\b[^;]*;", rest[:first_use.start()] if first_use else rest):
                        line = source[:function.start(1) + declared.start()].count("\n") + 2
                        yield f"{path}:{line}: {name} may be uninitialised at a return"


@rule(f"no line of C is wider than {COLUMNS_MAX} columns, no line of comment than {COMMENT_COLUMNS_MAX}")
def width():
    for path in files(".c", ".h", under=PROGRAM + ("tests/",)):
        for number, line in lines(path):
            columns = len(line.expandtabs(8))
            is_comment = line.lstrip().startswith(("*", "/*")) or re.search(r"/\*.*\*/$", line)
            # a string is never broken up: a message must be found by searching for it
            ends_in_string = re.search(r'"[^"]*"[,;) {}]*$', line)
            if columns > (COMMENT_COLUMNS_MAX if is_comment or ends_in_string else COLUMNS_MAX):
                yield f"{path}:{number}: {columns} columns"


@rule("no blanks stand at the end of a line, and files end with one line end")
def blanks():
    for path in files():
        if "corpus" in path.parts or "heads" in path.parts or path.suffix in (".case", ".patch") or not is_text(path):
            continue
        for number, line in lines(path):
            if line != line.rstrip():
                yield f"{path}:{number}: blanks at its end"
        content = text(path)
        if content and (not content.endswith("\n") or content.endswith("\n\n")):
            yield f"{path}: must end with one line end"


def banned_names():
    return [name for line in text("common/banned.h").splitlines() if line.startswith("#pragma GCC poison")
            for name in line.split()[3:]]


@rule("no call that common/banned.h names is made")
def banned_calls():
    call = re.compile(r"(?<![\w.>])(" + "|".join(banned_names()) + r")\s*\(")
    for path in files(".c", under=PROGRAM):
        for number, line in lines(path):
            if (found := call.search(re.sub(r'"(\\.|[^"\\])*"|/\*.*?\*/|^\s*\*.*|//.*', "", line))):
                yield f"{path}:{number}: {found[1]} is banned"


@rule("nothing is marked as unfinished")
def unfinished():
    for path in files(".c", ".h", ".def", ".py", ".sh", ".md", "meson.build", "Makefile"):
        if path.as_posix() == "tests/lint/sources.py":
            continue
        for number, line in lines(path):
            if UNFINISHED.search(line):
                yield f"{path}:{number}: {line.strip()[:80]}"


@rule("no file names a path of one machine or the host of a registry")
def forbidden_words():
    for path in files():
        if not is_text(path) or path.as_posix().startswith(FORBIDDEN_NOT_IN) or path.as_posix() == "tests/lint/sources.py":
            continue
        for number, line in lines(path):
            for pattern, what in FORBIDDEN:
                if found := pattern.search(line):
                    yield f"{path}:{number}: {what}: {found[0]}"


@rule("every Python and shell file can be parsed")
def parses():
    for path in files():
        name = path.as_posix()
        if name.startswith(FORBIDDEN_NOT_IN) or not is_text(path):
            continue
        first = text(path).split("\n", 1)[0]
        if path.suffix == ".py" or re.match(r"#!.*python", first):
            try:
                ast.parse(text(path), name)
            except SyntaxError as trouble:
                yield f"{path}:{trouble.lineno}: {trouble.msg}"
        elif found := re.match(r"#!.*/(bash|sh)\b", first):
            said = subprocess.run([found[1], "-n", str(ROOT / path)], capture_output=True, text=True)
            if said.returncode:
                yield f"{path}: {said.stderr.strip()}"


@rule("every script with a first line for the kernel may be executed, and no other file")
def executable():
    for path in files():
        if not is_text(path) or path.as_posix().startswith(FORBIDDEN_NOT_IN):
            continue
        may = (ROOT / path).stat().st_mode & 0o100
        has = text(path).startswith("#!")
        if has and not may:
            yield f"{path}: chmod +x"
        if may and not has:
            yield f"{path}: chmod -x"
