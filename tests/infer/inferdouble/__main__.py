# SPDX-License-Identifier: Apache-2.0
"""The doubles as a program: python3 -m inferdouble --server tei:type=embedding --ready-file ready.json"""
import argparse
import json
import os
import signal
import sys
import tempfile
import threading

from . import KINDS, Server
from .control import Control


def value_of(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


def main():
    parser = argparse.ArgumentParser(prog="inferdouble", description="A router of inference calls and local servers on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0, help="of the router (0: any)")
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--server", action="append", default=[], metavar="KIND[:NAME=VALUE,...]",
                        help=f"one more server: {', '.join(sorted(KINDS))}; port=N gives it that port; may repeat")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="of the router; may repeat")
    parser.add_argument("--ready-file", help="JSON with the URLs, written when everything listens")
    given = parser.parse_args()

    options = {name: value_of(value) for name, _, value in (o.partition("=") for o in given.option)}
    servers = {"router": Server("router", given.port, **options).start()}
    for one in given.server:
        kind, _, rest = one.partition(":")
        wanted = {name: value_of(value) for name, _, value in (o.partition("=") for o in rest.split(",") if o)}
        count = sum(name.startswith(kind) for name in servers)
        servers[kind if not count else f"{kind}{count + 1}"] = Server(kind, **wanted).start()
    control = Control(servers, given.control_port)
    ready = control.get_urls(servers["router"]) | {"pid": os.getpid()}
    if given.ready_file:
        target = os.path.abspath(given.ready_file)
        with tempfile.NamedTemporaryFile("w", dir=os.path.dirname(target), delete=False) as f:
            json.dump(ready, f)
        os.replace(f.name, target)
    print(json.dumps(ready), flush=True)

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    for server in servers.values():
        server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
