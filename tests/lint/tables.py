# SPDX-License-Identifier: Apache-2.0
"""The tables of options, metrics and routes, each for itself."""
import re
from collections import Counter

from tree import ROOT, Skip, rule, text

ROW = r'^{}\((.*)\)\s*(?:/\*.*\*/)?$'
FIELD = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,\s][^,]*)')


def rows(path, macro):
    """The arguments of each row, strings without their quotes."""
    for line in text(path).splitlines():
        if found := re.match(ROW.format(macro), line.strip()):
            yield [quoted or plain.strip() for quoted, plain in FIELD.findall(found[1])]


def options():
    """[section, key, field, type, (default,) reload, help]: an empty default leaves nothing."""
    return [(r[0], r[1], r[2], r[3], r[-2], r[-1]) for macro in ("OPTION", "NAMED") for r in rows("config/options.def", macro)]


def metrics():
    return [(r[0], r[1], r[2], r[3], r[-1]) for r in rows("daemon/metrics/metrics.def", "METRIC")]


def twice(names):
    return [name for name, count in Counter(names).items() if count > 1]


@rule("options: each name once, its field named after it, its help a sentence")
def option_table():
    table = options()
    if not table:
        yield "config/options.def: no rows found"
    for name in twice(f"{section}.{key}" for section, key, *_ in table) + twice(field for _, _, field, *_ in table):
        yield f"{name} stands there twice"
    seen = []
    for section, key, field, kind, reload, help_text in table:
        name = f"{section}.{key}"
        if not re.fullmatch(r"[a-z]+(-[a-z]+)*", key) or not re.fullmatch(r"[a-z]+", section):
            yield f"{name}: names are small letters, words of a key joined by -"
        if field != name.replace(".", "_").replace("-", "_") and field != key.replace("-", "_"):
            yield f"{name}: its field is {field}"
        if reload not in ("0", "1"):
            yield f"{name}: reload is {reload}"
        if not help_text.endswith(".") or not help_text[0].isupper() and not help_text.startswith("error,"):
            yield f"{name}: its help must be a sentence"
        if section in seen and seen[-1] != section:
            yield f"{name}: a section's rows stand together"
        seen.append(section)


@rule("metrics: each name once, with the prefix and the ending of its type and unit")
def metric_table():
    table = metrics()
    if not table:
        yield "daemon/metrics/metrics.def: no rows found"
    for name in twice(m[0] for m in table) + twice(m[1] for m in table):
        yield f"{name} stands there twice"
    for _, name, kind, labels, help_text in table:
        if not re.fullmatch(r"hfcache_[a-z]+(_[a-z]+)*", name):
            yield f"{name}: names are hfcache_ and small letters"
        if kind not in ("counter", "gauge", "histogram"):
            yield f"{name}: {kind} is no type"
        if (kind == "counter") != name.endswith("_total"):
            yield f"{name}: counters, and only they, end in _total"
        if kind == "histogram" and not name.endswith(("_seconds", "_bytes")):
            yield f"{name}: a histogram ends in its unit"
        if re.search(r"_(ms|us|milliseconds|kb|mb)(_|$)", name):
            yield f"{name}: units are seconds and bytes"
        if not help_text:
            yield f"{name}: has no help"


@rule("metrics: every row is used where the fact is born")
def metric_uses():
    sources = "".join(p.read_text() for p in (ROOT / "daemon").rglob("*.c"))
    for ident, name, *_ in metrics():
        if f"METRIC_{ident}" not in sources:
            yield f"{name}: nothing counts METRIC_{ident}"


@rule("options: every row is used by main")
def option_uses():
    if not (ROOT / "daemon/main.c").exists():
        raise Skip("there is no daemon/main.c")
    sources = "".join(p.read_text() for p in (ROOT / "daemon").glob("*.c"))
    for section, key, field, *_ in options():
        if not re.search(rf"\b{field}\b", sources):
            yield f"{section}.{key}: no file of main reads it"
