# SPDX-License-Identifier: Apache-2.0
"""Who may include whom, and which room may include which library."""
import re

from tree import PROGRAM, files, lines, rule

# Includes point to the right only, over any distance; rooms of one step do not see each other.
STEPS = [["main"], ["server", "tool"], ["router"], ["hub", "infer", "admin"], ["reply"], ["auth", "ask", "flight", "relay", "cast", "backend", "keeper", "intercept"],
         ["fetch", "store", "index", "splice"], ["ca"], ["policy", "metrics", "dialect"], ["common"]]
STEP = {room: step for step, rooms in enumerate(STEPS) for room in rooms}
# The configuration is seen by main alone; it names some decisions of policy.
CONFIG_SEES = {"config", "policy", "common"}

# Beginning of the header's name -> the one place that includes it.
LIBRARIES = {
    "microhttpd.h": "daemon/server/",
    "curl/": ("daemon/fetch/", "daemon/tool/"),
    "sqlite3.h": "daemon/index/",
    "cJSON.h": "common/json",
    "cjson/": "common/json",
    "openssl/": ("common/hash.c", "daemon/ca/", "daemon/splice/"),
    "uthash.h": "common/map.c",
    "utlist.h": "common/map.c",
    "ini_": "config/file.c",
    "libsmartcols": "daemon/tool/",
    "systemd/": "daemon/notify.c",
    "cmocka.h": "tests/",
}
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')


def room_of(path):
    parts = path.parts
    if parts[0] == "daemon":
        return parts[1] if len(parts) > 2 else "main"
    return parts[0]


def room_of_include(name, path):
    first = name.split("/")[0]
    if "/" not in name:
        return "main" if name == "notify.h" else room_of(path)
    return first


def includes(path):
    for number, line in lines(path):
        if found := INCLUDE.match(line):
            yield number, found[1], found[2]


@rule("includes between rooms point in the direction of the arrows")
def arrows():
    for path in files(".c", ".h", ".def", under=PROGRAM):
        here = room_of(path)
        for number, quote, name in includes(path):
            there = room_of_include(name, path)
            if quote == "<" or here == there:
                continue
            if here == "config":
                fine = there in CONFIG_SEES
            elif there == "config":
                fine = here == "main"
            elif here not in STEP or there not in STEP:
                yield f"{path}:{number}: {there if here in STEP else here} is no room that tests/lint/arrows.py knows"
                continue
            else:
                fine = STEP[there] > STEP[here]
            if not fine:
                yield f"{path}:{number}: {here} must not see {there} ({name})"


@rule("a room's inner header is included inside of it only")
def inner_headers():
    for path in files(".c", ".h", under=PROGRAM):
        for number, _, name in includes(path):
            if name.endswith("/priv.h") and name.split("/")[-2] != path.parts[-2]:
                yield f"{path}:{number}: {name} belongs to another room"


@rule("each library's header is included in one place only")
def libraries():
    for path in files(".c", ".h", ".def", under=PROGRAM):  # a test may look behind a door to see what is true
        for number, quote, name in includes(path):
            for begin, place in LIBRARIES.items():
                if name.startswith(begin) and quote == "<" and not path.as_posix().startswith(place):
                    yield f"{path}:{number}: <{name}> belongs to {place}"
