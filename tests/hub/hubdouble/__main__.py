# SPDX-License-Identifier: Apache-2.0
"""The double as a program: python3 -m hubdouble --fixture standard --ready-file ready.json"""
import argparse
import json
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

from . import FIXTURES, HubDouble
from .control import Control
from .fixture import TOKENS


def main():
    parser = argparse.ArgumentParser(prog="hubdouble", description="A Hugging Face Hub on 127.0.0.1 that can be made to misbehave.")
    parser.add_argument("--port", type=int, default=0, help="of the Hub (0: any)")
    parser.add_argument("--cdn-port", type=int, default=0)
    parser.add_argument("--cas-port", type=int, default=0)
    parser.add_argument("--viewer-port", type=int, default=0, help="of the dataset viewer")
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--fixture", choices=sorted(FIXTURES), default="standard")
    parser.add_argument("--model-dir", help="folder with a sentence-transformers model, served as sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--parquet", help="parquet file for the dataset acme/table")
    parser.add_argument("--work-dir", help="where generated files are kept between runs (default: below the temporary folder)")
    parser.add_argument("--ready-file", help="JSON with the URLs, written when everything listens")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="see README.md; may repeat")
    given = parser.parse_args()

    options = {}
    for option in given.option:
        name, _, value = option.partition("=")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    hub = HubDouble(port=given.port, cdn_port=given.cdn_port, cas_port=given.cas_port, viewer_port=given.viewer_port, **options)
    parquet = Path(given.parquet) if given.parquet else None
    FIXTURES[given.fixture](hub, model_dir=given.model_dir, work_dir=given.work_dir, parquet=parquet)
    hub.start()
    control = Control(hub, given.control_port)
    ready = control.get_urls() | {"pid": os.getpid(), "tokens": TOKENS}
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
    hub.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
