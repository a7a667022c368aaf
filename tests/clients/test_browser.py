# SPDX-License-Identifier: Apache-2.0
"""Chromium: pages of another origin that read the Hub through the daemon, in every phase.

A page may connect to the daemon and to where it came from: its policy tells the browser to refuse everything else, so a redirect
that leads past the daemon is an error that the page sees.
"""
import hashlib
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy
import pytest

from facts import bytes_of, commit_of, file_of
from machine import SECONDS
from tiny import encoder, encoder_repo  # noqa: F401

HERE = Path(__file__).resolve().parent
DIST = HERE / "node/node_modules/@huggingface/transformers/dist"
CHROMIUM = shutil.which("chromium")
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--disable-extensions", "--no-proxy-server"]
TYPES = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}


class Site(BaseHTTPRequestHandler):
    """The page's own server: the page, its plan, and what it saw."""
    protocol_version = "HTTP/1.1"

    def send(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", f"connect-src 'self' {self.server.hub}; default-src 'self' 'unsafe-inline' "
                                                    "'unsafe-eval' blob:")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        folder, _, name = self.path.lstrip("/").rpartition("/")
        place = (DIST if folder == "transformers" else HERE / "browser") / name
        if self.path == "/plan":
            self.send(json.dumps(self.server.plan).encode(), "application/json")
        elif folder in ("", "transformers") and place.is_file():
            self.send(place.read_bytes(), TYPES[place.suffix])
        else:
            self.send_error(404)

    def do_POST(self):
        told = self.rfile.read(int(self.headers["Content-Length"]))
        self.send(b"", "text/plain")
        self.server.seen.put(json.loads(told))

    def log_message(self, *_):
        pass


@pytest.fixture
def visit(folder):
    """visit(page, hub, plan): opens a page in a browser that was never used before; what the page saw."""
    assert CHROMIUM, "chromium is missing: run tests/setup"
    sites = []

    def look(page, hub, plan):
        site = ThreadingHTTPServer(("127.0.0.1", 0), Site)
        site.hub, site.plan, site.seen = hub, plan, queue.Queue()
        threading.Thread(target=site.serve_forever, daemon=True).start()
        sites.append(site)
        home = folder / f"browser{len(sites)}"
        home.mkdir()
        url = f"http://localhost:{site.server_port}/{page}"
        with open(home / "log", "wb") as log:
            environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
            browser = subprocess.Popen([CHROMIUM, *QUIET, f"--user-data-dir={home / 'profile'}", url], stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            return site.seen.get(timeout=SECONDS)
        except queue.Empty:
            pytest.fail(f"the page said nothing: {(home / 'log').read_text(errors='replace')[-2000:]}")
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
    yield look
    for site in sites:
        site.shutdown()
        site.server_close()


def version():
    return subprocess.run([CHROMIUM, "--version"], capture_output=True, text=True).stdout.split()[1] if CHROMIUM else ""


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def assert_body(answer, data, status=200):
    assert answer["status"] == status and answer["size"] == len(data), answer
    assert answer["sha256"] == hashlib.sha256(data).hexdigest(), answer


def plan(hub, url, token, revision):
    """[(what the page asks, check of what it saw)]"""
    commit, model = commit_of(hub), file_of(hub, "model.safetensors")
    data, config, secret = (bytes_of(hub, "model.safetensors"), bytes_of(hub, "config.json"),
                            bytes_of(hub, "model.safetensors", "acme/private"))
    at = f"{url}/acme/pub/resolve/{revision}"
    private = f"{url}/acme/private/resolve/{commit_of(hub, 'acme/private').id}/model.safetensors"

    def file_fields(answer):
        seen = answer["fields"]
        assert seen["etag"] == f'"{model.sha256}"' and seen["x-repo-commit"] == commit.id and seen["accept-ranges"] == "bytes"
        assert seen["x-linked-size"] == str(model.size) and seen["x-linked-etag"] == f'"{model.sha256}"'
        assert not answer["redirected"] and answer["type"] == "cors"

    def whole(answer):
        assert_body(answer, data)
        file_fields(answer)

    def head(answer):
        assert answer["status"] == 200 and answer["fields"]["content-length"] == str(len(data))
        file_fields(answer)

    def piece(begin, end, of, status=206):
        def check(answer):
            assert_body(answer, of[begin:end], status)
            assert answer["fields"]["content-range"] == f"bytes {begin}-{end - 1}/{len(of)}"
        return check

    def info(answer):
        found = json.loads(answer["text"])
        assert answer["status"] == 200 and found["sha"] == commit.id and len(found["siblings"]) == len(commit.files)

    def tree(answer):
        assert answer["status"] == 200 and {"config.json", "model.safetensors"} <= {e["path"] for e in json.loads(answer["text"])}

    def paths(answer):
        found, = json.loads(answer["text"])
        assert answer["status"] == 200 and found["size"] == len(data) and "xetHash" not in found

    def missing(answer):
        assert answer["status"] == 404 and answer["fields"]["x-error-code"] == "EntryNotFound"

    return [({"url": f"{url}/api/models/acme/pub/revision/{revision}"}, info),
            ({"url": f"{url}/api/models/acme/pub/tree/{revision}"}, tree),
            ({"url": f"{url}/api/models/acme/pub/paths-info/{revision}", "method": "POST",
              "fields": {"Content-Type": "application/json"}, "body": {"paths": ["model.safetensors"]}}, paths),
            ({"url": f"{at}/model.safetensors", "method": "HEAD"}, head),
            ({"url": f"{at}/model.safetensors", "fields": {"Range": "bytes=1000000-1999999"}}, piece(1_000_000, 2_000_000, data)),
            ({"url": f"{at}/model.safetensors", "fields": {"Range": "bytes=0-0"}}, piece(0, 1, data)),
            ({"url": f"{at}/model.safetensors", "keep": True}, whole),
            ({"url": f"{at}/config.json", "keep": True}, lambda answer: assert_body(answer, config)),
            ({"url": f"{at}/config.json", "fields": bearer(token)}, lambda answer: assert_body(answer, config)),
            ({"url": f"{at}/missing.json"}, missing),
            ({"url": private, "fields": bearer(token)}, lambda answer: assert_body(answer, secret)),
            ({"url": private, "method": "HEAD", "fields": bearer(token)}, lambda answer: assert_body(answer, b"")),
            ({"url": private, "fields": bearer(token) | {"Range": "bytes=100-199"}}, piece(100, 200, secret))]


@pytest.mark.parametrize("is_pinned", [False, True])
def test_a_page_reads(visit, hub, people, phases, is_pinned):
    revision = commit_of(hub).id if is_pinned else "main"
    what = "fetch() from another origin: info, tree, HEAD, GET, Range" + (" at a commit" if is_pinned else "")
    for phase in phases("Chromium", version(), what, is_pinned):
        wanted = plan(hub, phase.url, people.alice, revision)
        seen = visit("page.html", phase.url, [ask for ask, _ in wanted])
        for (ask, check), answer in zip(wanted, seen, strict=True):
            assert "error" not in answer, f"{phase.name}: {ask}: {answer}"
            assert answer["url"] == ask["url"], f"{phase.name}: it was led elsewhere: {answer}"
            check(answer)


def test_refusals_can_be_read(visit, hub, people, cache):
    """A page learns why: status and code of a refusal, also when upstream is gone."""
    private = f"{cache.url}/acme/private/resolve/main/model.safetensors"
    gated = f"{cache.url}/acme/gated/resolve/main/model.safetensors"
    asks = [{"url": private}, {"url": private, "fields": bearer(people.bob)}, {"url": gated, "fields": bearer(people.bob)}]
    seen = visit("page.html", cache.url, asks)
    found = [(a["status"], a["fields"]["x-error-code"]) for a in seen]
    assert found == [(401, "RepoNotFound"), (404, "RepoNotFound"), (403, "GatedRepo")], seen
    hub.kill()
    answer, = visit("page.html", cache.url, [{"url": f"{cache.url}/acme/never-seen/resolve/main/config.json"}])
    assert answer["status"] in (503, 504), answer


def test_pages_cannot_read_what_is_the_administrators(visit, cache):
    seen = visit("page.html", cache.url, [{"url": f"{cache.url}/-/status"}, {"url": f"{cache.url}/-/metrics"},
                                          {"url": f"{cache.url}/-/status", "fields": {"X-Any": "1"}}])
    assert [answer.get("error") for answer in seen] == ["TypeError"] * 3, seen


def test_a_page_computes(visit, hub, phases, encoder, encoder_repo):
    """transformers.js in a page, its model from the daemon."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(encoder.package / "tokenizer.json"))
    tokenizer.no_padding()
    sentences = ["This is an example sentence", "The quick brown fox jumps over the lazy dog."]
    want = [encoder.embed(tokenizer.encode(sentence).ids) for sentence in sentences]
    release = json.loads((DIST.parent / "package.json").read_text())["version"]
    for phase in phases("@huggingface/transformers", release, "in a page: tokenizer and a forward pass", is_pinned=True):
        wanted = {"hub": phase.url, "repo": "acme/encoder", "sentences": sentences, "revision": encoder_repo.id}
        seen = visit("compute.html", phase.url, wanted)
        assert isinstance(seen, list), f"{phase.name}: {seen}"
        for found, each in zip(seen, want, strict=True):
            assert numpy.allclose(found, each, atol=1e-5), phase.name
