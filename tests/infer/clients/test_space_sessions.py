# SPDX-License-Identifier: Apache-2.0
"""A real Gradio app and its real clients through the daemon: in Python, in JavaScript, and its own page in a browser (I55, I56, I62).

Where the app is: "hub", the Hub says that it is the host of acme/app; "own", the configuration maps acme/app to it, and upstream is
dead.
"""
import subprocess
from pathlib import Path

import pytest

from harness import wait_for
from page import CHROMIUM, dump

HERE = Path(__file__).resolve().parent
PYTHON = HERE.parents[2] / ".venv-gradio/bin/python"
APP = "acme/app"
SESSION = [("/sentiment", ["I love Hugging Face!"]), ("/count", [4])]
pytestmark = [pytest.mark.slow, pytest.mark.seconds(240)]


def free_port():
    import socket
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def gradio_app(tmp_path_factory):
    assert PYTHON.exists(), "there is no Gradio: run tests/setup"
    folder, port = tmp_path_factory.mktemp("gradio"), free_port()
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([PYTHON, HERE.parent / "app/app.py", str(port)], cwd=folder, env=environment, stdout=log, stderr=log)

    def is_there():
        assert process.poll() is None, (folder / "log").read_text()
        import urllib.request
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/config", timeout=5).status == 200
        except OSError:
            return False
    try:
        wait_for(is_there, 60, 0.2, why="the app")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(params=["hub", "own"])
def where(request, hub, upstream, start, gradio_app):
    """A daemon through which the app is reached."""
    if request.param == "hub":
        repo = hub.content.add_repo("space", APP)
        repo.commit({"README.md": "---\nsdk: gradio\n---\n", "app.py": "print()\n"})
        repo.app_url = gradio_app
        return start()
    hub.kill()
    return start(config=f"[space {APP}]\nurl = {gradio_app}\n")


def check(out):
    mood, last, *made = out
    assert mood["label"] == "POSITIVE" and mood["confidences"][0]["label"] == "POSITIVE" and mood["confidences"][0]["confidence"] > 0.5
    assert last == 3 and [m["text"] for m in made] == ["A FILE"]


def test_I55_a_session_in_python(where, python):
    """The machine watches: nothing but the daemon was connected to."""
    name, address = python("hub2", [("gradio", {"url": url, "session": [*SESSION, ("/shout", [{"file": "a file"}])]})
                                    for url in (APP, f"{where.url}/_space/{APP}/")], to=where)
    for found in (name, address):
        assert found["src"].rstrip("/") == f"{where.url}/_space/{APP}"
        check(found["out"])
    assert not where.log_lines(status="502") and where.log_lines(path=f"/_space/{APP}/gradio_api/queue/join")


def test_I56_a_session_in_javascript(where, node):
    found, = node([("gradio", {"url": f"{where.url}/_space/{APP}/", "session": [("/sentiment", ["I love Hugging Face!"]), ("/count", [1]),
                                                                              ("/shout", [{"blob": "a file"}])]})], to=where)
    assert found["root"] == f"{where.url}/_space/{APP}"
    mood, _, made = found["out"]
    assert mood["label"] == "POSITIVE" and made["text"] == "A FILE"
    assert made["url"].startswith(f"{where.url}/_space/{APP}/gradio_api/file=")


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
def test_I62_its_page_in_a_browser(where, folder):
    """The page opens, its button is pressed, its answer is there; in a sandbox. A browser's time without a screen runs ahead while a
    stream is silent, so on a busy machine it may look too early: then once more."""
    for turn in range(3):
        text, errors = dump(folder / f"browser{turn}", f"{where.url}/_space/{APP}/")
        if "POSITIVE" in text:
            break
    assert "POSITIVE" in text and "Shout" in text, (text[-3000:], errors[-3000:])
    assert where.log_lines(path=f"/_space/{APP}/gradio_api/queue/join", status="200")


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
def test_I63_a_socket_of_a_page_in_a_browser(hub, upstream, start, folder):
    """From its sandbox, to its own app; and to nothing else of this server."""
    page = """<p id="out">nothing</p><script>
    const out = document.getElementById("out"), here = "ws" + location.href.slice(4), found = [];
    function say(word) { found.push(word); out.textContent = found.sort().join(" "); }
    const one = new WebSocket(here + "ws"); one.onopen = () => one.send("hello"); one.onmessage = e => { say("said:" + e.data); one.close(); };
    try { const other = new WebSocket(here.replace("/_space/acme/app/", "/_space/acme/other/") + "ws");
      fetch("slow");
      other.onopen = () => say("other:open"); other.onerror = () => say("other:closed"); } catch (e) { say("other:closed"); }
    </script>"""
    app, other = (upstream.add("gradio", page=page) for _ in range(2))
    app.rule(path="/slow", delay_first_byte=2)    # a browser's time without a screen stands still while it waits for an answer
    cache = start(config=f"[space acme/app]\nurl = {app.url}\n[space acme/other]\nurl = {other.url}\n")
    text, errors = dump(folder / "browser", f"{cache.url}/_space/acme/app/")
    assert "other:closed said:hello" in text and not other.calls("/ws"), (text[-2000:], errors[-3000:])


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
def test_its_page_opens_when_the_app_is_gone(hub, upstream, start, gradio_app, folder):
    repo = hub.content.add_repo("space", APP)
    repo.commit({"README.md": "---\nsdk: gradio\n---\n", "app.py": "print()\n"})
    repo.app_url = gradio_app
    cache = start()
    dump(folder / "browser-first", f"{cache.url}/_space/{APP}/")
    cache.restart(hub_offline="yes")
    text, errors = dump(folder / "browser", f"{cache.url}/_space/{APP}/")
    assert "Shout" in text and "POSITIVE" not in text, (text[-3000:], errors[-3000:])
