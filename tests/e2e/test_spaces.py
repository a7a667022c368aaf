# SPDX-License-Identifier: Apache-2.0
"""Spaces: metadata, files, logs, and a static Space opened as a page (hub-protocol 1.3, reliability N08, R02)."""
from threading import Event

import pytest

from facts import assert_file_head, assert_ignorance, assert_whole, bytes_of, commit_of, file_of
from hubdouble import LFS
from hubdouble.fixture import tiny_png
from page import CHROMIUM, dump
from wire import fields

SITE = "acme/site"
TOP = f"/_space/{SITE}/"
PAGE = b"""<!doctype html><html><head><meta charset="utf-8"><title>Site</title><link rel="stylesheet" href="css/style.css">
<script type="module" src="js/module.mjs"></script></head><body><h1 id="h">Site</h1><img id="i" src="img/logo.png"><p id="out"></p>
<script src="js/main.js"></script></body></html>
"""
MAIN = b"""
const done = {};
function note(name, value) {
  done[name] = value;
  document.getElementById("out").textContent = Object.keys(done).sort().map(k => k + "=" + done[k]).join(";");
}
note("inline", "no");
fetch("data/facts.json").then(r => r.json()).then(j => note("json", j.answer)).catch(e => note("json", "failed"));
fetch("/api/models/acme/pub").then(r => r.json()).then(j => note("hub", j.id)).catch(e => note("hub", "failed"));
try { localStorage.setItem("a", "b"); note("storage", "open"); } catch (e) { note("storage", "closed"); }
note("origin", self.origin);
fetch("/-/status").then(r => note("own", "open")).catch(e => note("own", "closed"));
window.addEventListener("load", () => {
  note("image", document.getElementById("i").naturalWidth);
  note("style", getComputedStyle(document.getElementById("h")).color);
});
window.note = note;
"""
FILES = {"README.md": "---\ntitle: Site\nsdk: static\n---\n# Site\n", "index.html": PAGE, "css/style.css": b"h1 { color: rgb(1, 2, 3) }\n",
         "js/main.js": MAIN, "js/module.mjs": b'import { word } from "./word.mjs";\nwindow.note("module", word);\n',
         "js/word.mjs": b'export const word = "loaded";\n', "img/logo.png": LFS(tiny_png()), "data/facts.json": b'{"answer": 42}\n',
         "sub/index.html": b'<!doctype html><title>Sub</title><p id="sub">below</p><script src="sub.js"></script>\n',
         "sub/sub.js": b'document.getElementById("sub").textContent += " and running";\n', "sub/deep/page.html": b"<p>deep</p>\n",
         "video.mp4": LFS(b"\0\1\2\3" * 5000), "readme.txt": "plain\n"}
EXPECTED = ("hub=acme/pub", "image=4", "inline=no", "json=42", "module=loaded", "origin=null", "own=closed", "storage=closed",
            "style=rgb(1, 2, 3)")


@pytest.fixture
def site(hub):
    repo = hub.content.add_repo("space", SITE)
    repo.commit(FILES)
    return repo


def test_space_metadata(hub, cache, people):
    info = cache.get("/api/spaces/acme/page").json()
    assert info["sdk"] == "static" and info["sha"] == commit_of(hub, "acme/page", kind="space").id and info["runtime"]["stage"] == "RUNNING"
    assert cache.get("/api/spaces/acme/page/revision/main").json()["sha"] == info["sha"]
    tree = cache.get(f"/api/spaces/acme/page/tree/{info['sha']}?recursive=true").json()
    assert {e["path"] for e in tree} == {"README.md", "index.html", "style.css", "logo.png"}
    hub.kill()
    cache.until_known_down()
    assert cache.get("/api/spaces/acme/page").json()["sdk"] == "static"
    assert cache.get(f"/api/spaces/acme/page/tree/{info['sha']}?recursive=true").json() == tree


def test_space_runtime_is_never_kept(hub, cache):
    target = "/api/spaces/acme/page/runtime"
    hub.rule(path="/api/spaces/acme/page/runtime", body=[b'{"stage":"BUILDING"}', b'{"stage":"RUNNING"}'], status=[200, 200],
             headers={"Content-Type": "application/json"})
    assert [cache.get(target).json()["stage"] for _ in range(2)] == ["BUILDING", "RUNNING"]
    hub.kill()
    cache.until_known_down()
    assert_ignorance(cache.get(target))


@pytest.mark.parametrize("which", ["build", "run"])
def test_A15_space_logs_come_as_they_are_made(hub, cache, which):
    one_came = Event()
    hub.rule(path=f"/logs/{which}", body=b"data: one\n\ndata: two\n\n", headers={"Content-Type": "text/event-stream"}, chunked=True,
             stall_after=11, stall_for=one_came)
    with cache.connect() as conn:
        conn.request("GET", f"/api/spaces/acme/page/logs/{which}", fields(Accept="text/event-stream"))
        answer = conn.head()
        assert answer.status == 200 and answer["Content-Type"].startswith("text/event-stream")
        while b"data: one" not in conn.buffer:
            assert conn._more(), "no event came"
        one_came.set()
        assert b"data: two" in conn.body(answer).body


def test_space_files_are_equals_of_models(hub, site, cache):
    url = f"/spaces/{SITE}/resolve/main/img/logo.png"
    assert_whole(cache.get(url), hub, "img/logo.png", SITE, kind="space")
    assert_file_head(cache.head(url), hub, "img/logo.png", SITE, kind="space")
    assert cache.get(f"/spaces/{SITE}/raw/main/img/logo.png").body == file_of(hub, "img/logo.png", SITE, kind="space").pointer
    posted = cache.ask("POST", f"/api/spaces/{SITE}/paths-info/main", headers=fields(Content_Type="application/json"),
                       body=b'{"paths":["index.html"]}')
    assert [e["path"] for e in posted.json()] == ["index.html"]


def test_R02_the_file_of_a_page_stays_a_download(hub, site, cache):
    """The address of a file runs nothing, whatever is in it."""
    for _ in range(2):
        answer = cache.get(f"/spaces/{SITE}/resolve/main/index.html")
        policy = answer["Content-Security-Policy"]
        assert answer.body == PAGE and "sandbox" in policy and "default-src 'none'" in policy and "allow-scripts" not in policy
        assert answer["Cross-Origin-Resource-Policy"] == "same-origin"


def test_static_space_pages(hub, site, cache):
    types = {"": "text/html; charset=utf-8", "index.html": "text/html; charset=utf-8", "css/style.css": "text/css; charset=utf-8",
             "js/main.js": "text/javascript; charset=utf-8", "js/module.mjs": "text/javascript; charset=utf-8", "img/logo.png": "image/png",
             "data/facts.json": "application/json", "sub/": "text/html; charset=utf-8", "video.mp4": "video/mp4",
             "readme.txt": "text/plain; charset=utf-8"}

    def check(is_hit):
        for path, kind in types.items():
            name = path + "index.html" if path in ("", "sub/") else path
            answer = cache.get(TOP + path)
            assert answer.status == 200 and answer["Content-Type"] == kind, (path, answer)
            assert answer.body == bytes_of(hub, name, SITE, kind="space")
            policy = answer["Content-Security-Policy"]
            assert policy.startswith("sandbox allow-scripts") and "allow-same-origin" not in policy and TOP in policy
            assert answer["X-Content-Type-Options"] == "nosniff" and answer["Cross-Origin-Resource-Policy"] == "cross-origin"
            assert ("hit" in answer["Cache-Status"]) == is_hit or not is_hit
            assert cache.head(TOP + path)["Content-Length"] == str(len(answer.body))
    check(False)
    check(True)
    part = cache.get(TOP + "video.mp4", Range="bytes=2-5")
    assert part.status == 206 and part.body == b"\2\3\0\1" and part["Content-Type"] == "video/mp4"
    assert cache.get(TOP + "css/style.css", If_None_Match=part["ETag"]).status == 200
    assert cache.get(TOP + "video.mp4", If_None_Match=part["ETag"]).status == 304
    hub.kill()
    cache.until_known_down()
    check(True)
    cache.restart(hub_offline="yes")
    check(True)


def test_static_space_folders(hub, site, cache):
    for target, wanted in ((f"/_space/{SITE}", TOP), (f"/_space/{SITE}?a=b", TOP + "?a=b"), (TOP + "sub", TOP + "sub/"),
                           (TOP + "sub?x=%20y", TOP + "sub/?x=%20y")):
        for ask in (cache.get, cache.head):
            answer = ask(target)
            assert answer.status == 307 and answer["Location"] == wanted, answer
    assert cache.get(TOP + "sub/deep/page.html").body == b"<p>deep</p>\n"
    for target in ("nothing.html", "sub/nothing", "sub/deep", "sub/deep/", "img/"):
        answer = cache.get(TOP + target)
        assert answer.status == 404 and answer["X-Error-Code"] == "EntryNotFound", (target, answer)
        assert "allow-scripts" not in answer["Content-Security-Policy"]
    for method in ("POST", "PUT", "DELETE"):
        assert cache.ask(method, TOP).status == 405


def test_static_space_with_a_start_page_of_its_own(hub, cache):
    repo = hub.content.add_repo("space", "acme/app")
    repo.commit({"README.md": "---\nsdk: static\napp_file: web/start.html\n---\n", "web/start.html": b"<p>start</p>", "index.html": b"<p>no</p>"})
    assert cache.get("/_space/acme/app/").body == b"<p>start</p>"
    assert cache.get("/_space/acme/app/index.html").body == b"<p>no</p>"


def test_a_space_that_is_a_program_and_does_not_run(hub, cache):
    hub.content.add_repo("space", "acme/demo").commit({"README.md": "---\nsdk: gradio\n---\n", "app.py": "print()\n", "index.html": b"x"})
    for path in ("", "index.html", "app.py"):
        answer = cache.get("/_space/acme/demo/" + path)
        assert answer.status == 503 and b"no address" in answer.body, answer


def test_P4_a_page_of_a_private_space_is_nobodys(hub, cache, people):
    hub.content.add_repo("space", "acme/secret", private=True).commit(FILES)
    hub.content.add_token(people.alice, "alice", {"acme/secret"})
    page = "/_space/acme/secret/"
    strangers = (cache.get(page), cache.get(page + "js/main.js"), cache.get(page, people.bob))
    assert cache.get(page, people.alice).body == PAGE
    assert cache.get(page + "js/main.js", people.alice).body == MAIN
    for before, again in zip(strangers, (cache.get(page), cache.get(page + "js/main.js"), cache.get(page, people.bob))):
        assert before.status == again.status and again.status in (401, 404), again
        assert b"main.js" not in again.body
    assert cache.get(page, people.alice)["Cache-Control"].startswith("private")


def test_a_space_that_only_a_snapshot_has_seen(hub, site, cache):
    """What snapshot_download leaves is enough for a page without upstream."""
    sha = cache.get(f"/api/spaces/{SITE}/revision/main").json()["sha"]
    cache.get(f"/api/spaces/{SITE}/tree/{sha}?recursive=true&expand=false")
    for path in FILES:
        assert cache.get(f"/spaces/{SITE}/resolve/{sha}/{path}").status == 200
    hub.kill()
    cache.restart(hub_offline="yes")
    assert cache.get(TOP).body == PAGE
    assert cache.get(TOP + "sub")["Location"] == TOP + "sub/"
    assert cache.get(TOP + "sub/sub.js").status == 200 and cache.get(TOP + "img/logo.png").body == tiny_png()


def test_an_unknown_space_without_upstream(hub, cache):
    hub.kill()
    cache.until_known_down()
    assert_ignorance(cache.get("/_space/nobody/nothing/"))
    assert_ignorance(cache.get("/_space/nobody/nothing/x.js"))


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
def test_a_static_space_in_chromium(hub, site, cache, folder):
    """Scripts, styles, modules, images and fetch() work, cold, warm and with upstream dead; the page is nobody."""
    def look(when):
        text, errors = dump(folder / f"browser-{when}", cache.url + TOP)
        missing = [word for word in EXPECTED if word not in text]
        assert not missing, (when, missing, text, errors[-3000:])
        text, errors = dump(folder / f"browser-sub-{when}", cache.url + TOP + "sub")
        assert "below and running" in text, (when, text, errors[-3000:])
    look("cold")
    look("warm")
    hub.kill()
    cache.until_known_down()
    look("dead")
    text, _ = dump(folder / "browser-file", cache.url + f"/spaces/{SITE}/resolve/main/index.html")
    assert "json=" not in text, "a file's address ran a script"
