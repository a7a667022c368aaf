#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The table of docs/clients.md: made from what a run of the client tests recorded (phases.py), and compared with it.

  support.py --results DIR            fails, with the difference, when the table says anything else than the run showed
  support.py --results DIR --write    puts the run's table into the document
"""
import argparse
import difflib
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
DOCUMENT = HERE.parents[1] / "docs/clients.md"
BEGIN, END = "<!-- made by tests/clients/support.py -->\n", "<!-- end -->\n"
HEAD = "| client | version | what | cold | warm | upstream dead | note |\n|---|---|---|---|---|---|---|\n"
# Columns: the phases that must all have passed. A column is empty where its first phase does not exist for that use.
COLUMNS = (("cold",), ("warm", "revalidated"), ("dead", "restarted"))
PINNED = " at a commit"
# These come with the system, in whatever version its maintainers think safe today.
SYSTEM = {"curl", "git", "git-lfs", "Chromium"}


def read_results(folder):
    rows = [row for path in sorted(Path(folder).glob("*.json")) for row in json.loads(path.read_text())]
    if not rows:
        sys.exit(f"{folder} holds no results: run tests/run --suite clients")
    return rows


def cell(results, phases):
    """results: phase -> whether every test of it passed."""
    if phases[0] not in results:
        return ""
    return "yes" if all(results.get(phase, True) for phase in phases) else "no"


def order(version):
    return [int(part) for part in re.findall(r"\d+", version)]


def lines_of(rows):
    """A line for each (client, what), with all versions that behave alike; a use of a branch and the same at a commit are one."""
    uses = {}
    for row in rows:
        version = "Debian 12's" if row["client"] in SYSTEM else row["version"]
        use = uses.setdefault((row["client"], row["what"], version), {"note": row["note"], "results": {}})
        use["results"][row["phase"]] = use["results"].get(row["phase"], True) and row["result"] == "passed"
    alike = {}
    for (client, what, version), use in uses.items():
        cells = tuple(cell(use["results"], phases) for phases in COLUMNS)
        plain = what.removesuffix(PINNED)
        note = use["note"] or ("" if any(cells[1:]) else "passed through")
        alike.setdefault((client, plain, cells, note, version), set()).add("commit" if what != plain else "branch")
    merged = {}
    for (client, what, cells, note, version), kinds in alike.items():
        if kinds == {"commit"}:
            what += PINNED
        elif len(kinds) == 2:
            what += "; branch and commit"
        merged.setdefault((client.lower(), client, what, cells, note), []).append(version)
    return [f"| {client} | {', '.join(sorted(versions, key=order, reverse=True))} | {what} | {' | '.join(cells)} | {note} |\n"
            for (_, client, what, cells, note), versions in sorted(merged.items())]


def table_of(rows):
    return HEAD + "".join(lines_of(rows))


def split_document(text):
    before, _, rest = text.partition(BEGIN)
    inside, _, after = rest.partition(END)
    if not rest or END not in text:
        sys.exit(f"{DOCUMENT.name} has no place for the table")
    return before, inside, after


def versions_in(text):
    """client -> versions that the document's table names."""
    found = {}
    for line in split_document(text)[1].splitlines()[2:]:
        _, client, versions, *_ = (part.strip() for part in line.split("|"))
        found.setdefault(client, set()).update(v.strip() for v in versions.split(",") if v.strip())
    return found


def pins():
    """package -> versions that the lists of this folder ask for."""
    found = {}
    for path in HERE.glob("requirements*.txt"):
        for name, version in re.findall(r"^([\w.-]+)==(\S+)$", path.read_text(), re.M):
            found.setdefault(name, set()).add(version)
    for path in HERE.glob("*/package.json"):
        for name, version in json.loads(path.read_text()).get("dependencies", {}).items():
            found.setdefault(name, set()).add(version)
    for path in HERE.glob("rust/*/Cargo.toml"):
        for name, version in re.findall(r'^([\w-]+) = \{ version = "=([\d.]+)"', path.read_text(), re.M):
            found.setdefault(name, set()).add(version)
    return found


def without_absent(table, rows):
    """The table without the lines of clients that could not run here at all: their tests were skipped, with the reason."""
    ran = {row["client"] for row in rows}
    lines = table.splitlines(True)
    return "".join(lines[:2] + [line for line in lines[2:] if line.split("|")[1].strip() in ran])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", required=True)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    text = DOCUMENT.read_text()
    before, inside, after = split_document(text)
    rows = read_results(options.results)
    made = table_of(rows)
    if made == without_absent(inside, rows):
        return 0
    if options.write:
        DOCUMENT.write_text(before + BEGIN + made + END + after)
        return 0
    print(f"docs/clients.md and this run differ; if the run is right: tests/clients/support.py --results {options.results} --write")
    sys.stdout.writelines(difflib.unified_diff(inside.splitlines(True), made.splitlines(True), "the document", "this run", n=0))
    return 1


if __name__ == "__main__":
    sys.exit(main())
