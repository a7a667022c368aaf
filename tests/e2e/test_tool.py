# SPDX-License-Identifier: Apache-2.0
"""The command hfcache, against a running daemon: what it shows, what it deletes, and to whom it does not listen."""
import hashlib
import json
import os
import pty
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from facts import CONFIG, MIB, MODEL, MODEL_BYTES, all_bytes, assert_whole, bytes_of, file_of
from harness import BINARY, ROOT, SLOW, fresh_token, wait_for
from hubdouble import LFS, generated
from hubdouble.fixture import small_model
from wire import fields

USAGE, NO_INPUT, UNAVAILABLE, TRY_AGAIN, NO_PERMISSION, CONFIGURATION = 64, 66, 69, 75, 77, 78


def tool_path(folder):
    path = folder / "hfcache"
    if not path.is_symlink():
        path.symlink_to(BINARY)
    return path


def run(folder, *arguments, environment=None, cwd=None, **how):
    """The command without a daemon of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HFCACHE_", "HF_"))}
    env |= {"HOME": str(folder), "LANG": "C.UTF-8", "SHELL": "/bin/bash"} | (environment or {})
    done = subprocess.run([tool_path(folder), *arguments], stdin=how.pop("stdin", subprocess.DEVNULL), capture_output=True, text=True,
                          env=env, cwd=cwd, timeout=60 * SLOW, **how)
    assert not re.search(r"Sanitizer|runtime error", done.stderr), done.stderr
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)


class Tool:
    """The command, told where the daemon's store is."""

    def __init__(self, daemon):
        self.daemon = daemon

    def __call__(self, *arguments, code=0, **how):
        done = run(self.daemon.folder, "--config=", "--set", f"storage.path={self.daemon.store}", *arguments, **how)
        assert done.code == code, done
        return done

    def json(self, *arguments, **how):
        return json.loads(self(*arguments, "--json", **how).out)

    def ls(self, *arguments):
        return {repo["id"]: repo for repo in self.json("ls", *arguments)}


@pytest.fixture
def tool(cache):
    return Tool(cache)


def over_socket(daemon, method, target, headers=()):
    """One request over the admin socket, as whoever has it can make them."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20 * SLOW)
        s.connect(str(daemon.store / "admin.sock"))
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close"] + [f"{k}: {v}" for k, v in headers]
        s.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        text = b""
        while piece := s.recv(65536):
            text += piece
    head, _, body = text.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def held(daemon, *files):
    """Those of these files whose bytes are in the store."""
    return [f for f in files if hashlib.sha256(f.source.read()).hexdigest() in daemon.blobs()]


# --- looking ---

def test_ls_shows_what_was_downloaded(hub, cache, tool):
    assert_whole(cache.get(MODEL), hub, "model.safetensors")
    assert_whole(cache.get(CONFIG), hub, "config.json")
    config = file_of(hub, "config.json")
    repo = tool.ls()["model/acme/pub"]
    assert (repo["kind"], repo["name"], repo["visibility"]) == ("model", "acme/pub", "public")
    assert repo["files"] == 2 and repo["partial_files"] == 0 and repo["shared_bytes"] == 0
    assert repo["bytes"] >= MODEL_BYTES + config.size
    assert abs(repo["used_at"] - time.time()) < 120 * SLOW
    text = tool("ls").out
    assert re.search(r"^model/acme/pub +3\.\dM +2 +(just now|1 minute ago) +public *$", text, re.M), text
    closing = tool("ls").err
    assert re.match(r"Found 1 repo\(s\) with \d+ revision\(s\) and 3\.\dM on disk\.\n$", closing), closing
    assert tool("ls", "-q").out == "model/acme/pub\n" and tool("ls", "-q").err == ""


def test_ls_revisions_name_commits_and_what_is_held_of_them(hub, cache, tool):
    cache.get(MODEL)
    cache.get(CONFIG)
    commit = hub.content.repo("acme/pub").find("main").id
    revisions = tool.ls("--revisions")["model/acme/pub"]["revisions"]
    main = next(r for r in revisions if r["commit"] == commit)
    assert main["names"] == ["main"] and main["files"] == 2 and main["bytes"] == MODEL_BYTES + file_of(hub, "config.json").size
    assert re.search(rf"^model/acme/pub {commit} +3\.\dM +2 main$", tool("ls", "--revisions").out, re.M)


def test_ls_filters_patterns_and_sorting(hub, cache, tool):
    cache.get(MODEL)
    cache.get("/acme/tinymodel/resolve/main/config.json")
    cache.get("/datasets/acme/table/resolve/main/README.md")
    names = lambda *a: tool("ls", "-q", *a).out.split()  # noqa: E731
    everything = ["dataset/acme/table", "model/acme/pub", "model/acme/tinymodel"]
    assert names() == everything
    assert names("--kind", "model") == names("-k", "models") == everything[1:]
    assert names("acme/*") == names("acme") == everything and names("hf://models/acme/*") == everything[1:]
    assert names("model/acme/p*") == names("models/acme/pub") == names("acme/pub") == ["model/acme/pub"]
    assert names("--filter", "size>2m") == names("-f", "size >= 2.5MB") == ["model/acme/pub"]
    assert names("-f", "size<2m", "-f", "files=1") == ["dataset/acme/table", "model/acme/tinymodel"]
    assert names("-f", "used<1h") == everything and names("-f", "used>1h") == []
    assert names("--sort", "size")[0] == "model/acme/pub"
    assert names("nobody/*") == []
    for wrong in (["--filter", "size"], ["--filter", "colour=red"], ["--kind", "car"], ["--sort", "colour"], ["a", "b"], ["--car"]):
        assert run(cache.folder, "--config=", "--set", f"storage.path={cache.store}", "ls", *wrong).code == USAGE, wrong


def test_du_sums_up_by_kind_organisation_and_repository(hub, cache, tool):
    cache.get(MODEL)
    cache.get("/acme/tinymodel/resolve/main/config.json")
    cache.get("/datasets/acme/table/resolve/main/README.md")
    by_kind = {g["group"]: g for g in tool.json("du")["groups"]}
    assert by_kind["model"]["repos"] == 2 and by_kind["dataset"]["repos"] == 1
    by_org = tool.json("du", "--by", "org")
    assert [g["group"] for g in by_org["groups"]] == ["acme"] and by_org["groups"][0]["files"] == 3
    by_repo = tool.json("du", "--by", "repo")["groups"]
    assert by_repo[0]["group"] == "model/acme/pub", "the largest first"
    total = by_org["total"]
    assert total["used_bytes"] >= total["bytes"] >= MODEL_BYTES and total["unreferenced_bytes"] == 0
    assert re.search(r"^model +3\.\dM +2 +2 ", tool("du").out, re.M), tool("du").out


def test_status_is_one_screen_and_its_json_is_the_daemons(hub, cache, tool):
    cache.get(MODEL)
    cache.get(MODEL)
    wait_for(lambda: cache.status()["served"]["cache_bytes"] >= MODEL_BYTES, why="the second answer is counted")
    text = tool("status").out
    assert len(text.splitlines()) < 25
    assert re.search(r"^hfcached +\S+, up for \d+s, since \d{4}-", text, re.M), text
    assert re.search(rf"^upstream +{re.escape(hub.url)} is reachable$", text, re.M), text
    assert re.search(r"^store +3\.\dM of 2\.0G \(0%\), \d+ objects; \S+ free on the disk$", text, re.M), text
    assert re.search(r"^fills +none$", text, re.M) and re.search(r"^saved +3\.\dM of 6\.\dM sent \(\d\d%\); 50% came from", text, re.M), text
    status = tool.json("status")
    assert set(status) >= {"version", "started_at", "now", "upstream", "store", "fills", "served"}


def test_status_without_upstream(hub, cache, tool):
    cache.get(CONFIG)
    assert tool("rm", "-n", "acme/pub").err == ""
    hub.kill()
    cache.until_known_down()
    assert "is UNREACHABLE since" in tool("status").out
    assert "upstream cannot be reached" in tool("rm", "-n", "acme/pub").err, "what is forgotten now is not to be had again"


def test_status_names_the_inference_router_and_spaces(hub, start, folder):
    config = folder / "spaces.conf"
    config.write_text("[space acme/app]\nurl = http://127.0.0.1:9/inner\n")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))   # and does not listen
        router = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        cache = start(inference_url=router, command=[f"--config={config}"])
        wait_for(lambda: cache.status()["inference"]["reachable"] is False)
        text = Tool(cache)("status").out
    assert re.search(rf"^inference +{re.escape(router)} is UNREACHABLE since \d{{4}}-.*\n +[A-Z]\w+.*", text, re.M), text
    assert re.search(r"^spaces +acme/app at http://127.0.0.1:9 was not asked yet$", text, re.M), text


def test_status_says_when_upstream_is_never_asked(hub, start):
    text = Tool(start(hub_offline="yes"))("status").out
    assert re.search(rf"^upstream +{re.escape(hub.url)} is not asked \(hub.offline\)$", text, re.M) and "UNREACHABLE" not in text, text


# --- deleting ---

def test_rm_frees_the_files_and_the_next_client_gets_them_from_upstream(hub, cache, tool):
    cache.get(MODEL)
    cache.get(CONFIG)
    model, config = file_of(hub, "model.safetensors"), file_of(hub, "config.json")
    before = cache.status()["store"]["used_bytes"]
    [result] = tool.json("rm", "-y", "acme/pub")
    assert result["id"] == "model/acme/pub" and not result["dry_run"] and result["kept_bytes"] == 0
    assert result["freed_bytes"] >= model.size + config.size and result["files"] >= 2
    assert not held(cache, model, config) and cache.blobs() == {}
    assert cache.status()["store"]["used_bytes"] <= before - model.size
    assert tool.ls() == {} and tool.json("du")["total"]["bytes"] == 0
    hub.reset_counters()
    assert_whole(cache.get(MODEL), hub, "model.safetensors")
    assert hub.body_bytes("cdn") == model.size
    assert tool.ls()["model/acme/pub"]["files"] == 1
    assert cache.check_store() >= 1


@pytest.mark.parametrize("how", ["restart", "kill", "rebuild"])
def test_what_was_removed_stays_away(hub, cache, tool, how):
    cache.get(MODEL)
    cache.get("/acme/tinymodel/resolve/main/model.safetensors")
    assert re.match(r"model/acme/pub: freed 3\.\dM in \d+ files?\nfreed 3\.\dM\n$", tool("rm", "--yes", "models/acme/pub").out)
    if how == "rebuild":
        assert cache.stop() == 0
        for path in cache.store.glob("index.db*"):
            path.unlink()
        hub.kill()
        cache.start()
    else:
        hub.kill()
        cache.restart(kill=how == "kill")
    assert list(tool.ls()) == ["model/acme/tinymodel"]
    assert cache.get("/acme/tinymodel/resolve/main/model.safetensors").status == 200
    assert cache.get(MODEL).status in (503, 504), "it is not known any more, and nobody can be asked"
    assert not held(cache, file_of(hub, "model.safetensors"))
    assert "nothing is known of model/acme/pub" in tool("rm", "-n", "acme/pub", code=NO_INPUT).err


def test_what_others_hold_too_stays(hub, cache, tool):
    shared = LFS(generated(2 * MIB, 77))
    for name in ("acme/one", "acme/two"):
        hub.content.add_repo("model", name).commit({"same.bin": shared, "own.bin": LFS(generated(MIB, hash(name) % 1000 + 1)),
                                                     "same.json": '{"small": "the same in both"}'})
    for name in ("one", "two"):
        for file in ("same.bin", "own.bin", "same.json"):
            assert cache.get(f"/acme/{name}/resolve/main/{file}").status == 200
    same, small = file_of(hub, "same.bin", "acme/one"), file_of(hub, "same.json", "acme/one")
    listed = tool.ls()
    assert {r["shared_bytes"] for r in listed.values()} == {same.size + small.size}
    assert [g["shared_bytes"] for g in tool.json("du", "--by", "repo")["groups"]] == [same.size + small.size] * 2
    [result] = tool.json("rm", "-y", "acme/one")
    assert result["kept_bytes"] == same.size + small.size and MIB <= result["freed_bytes"] < 2 * MIB
    assert len(held(cache, same, small)) == 2
    hub.kill()
    assert_whole(cache.get("/acme/two/resolve/main/same.bin"), hub, "same.bin", "acme/two")
    assert cache.get("/acme/two/resolve/main/same.json").status == 200 and cache.get("/acme/one/resolve/main/same.json").status in (503, 504)
    assert {r["shared_bytes"] for r in tool.ls().values()} == {0}
    [result] = tool.json("rm", "-y", "acme/two")
    assert result["kept_bytes"] == 0 and result["freed_bytes"] >= 3 * MIB and cache.blobs() == {}


def test_a_dry_run_tells_and_does_nothing(hub, cache, tool):
    cache.get(MODEL)
    expected = tool.json("rm", "-n", "acme/pub")[0]
    assert expected["dry_run"] and expected["freed_bytes"] >= MODEL_BYTES
    assert re.search(r"^model/acme/pub: would free 3\.\dM in \d+ files?\nwould free 3\.\dM\n$", tool("rm", "-n", "acme/pub").out)
    assert tool.ls()["model/acme/pub"]["files"] == 1 and held(cache, file_of(hub, "model.safetensors"))
    done = tool.json("rm", "-y", "acme/pub")[0]
    assert (done["freed_bytes"], done["files"]) == (expected["freed_bytes"], expected["files"])


def test_a_revision_loses_only_what_no_other_has(hub, cache, tool):
    repo = hub.content.repo("acme/pub")
    old = repo.find("main").id
    repo.tag("v1", old)
    repo.commit({"new.bin": LFS(generated(MIB, 88)), "model.safetensors": LFS(generated(MIB, 89))})
    for path in ("/acme/pub/resolve/v1/model.safetensors", "/acme/pub/resolve/v1/config.json", "/acme/pub/resolve/main/config.json",
                 "/acme/pub/resolve/main/new.bin"):
        assert cache.get(path).status == 200
    config = file_of(hub, "config.json")
    [result] = tool.json("rm", "-y", "acme/pub", "--revision", "v1")
    assert result["commit"] == old and result["freed_bytes"] >= MODEL_BYTES
    assert result["kept_bytes"] == config.size and held(cache, config)
    assert cache.get("/acme/pub/resolve/main/new.bin").status == 200
    assert old not in [r["commit"] for r in tool.ls("--revisions")["model/acme/pub"]["revisions"] if r["files"] == 2]
    [again] = tool.json("rm", "-y", "acme/pub", "--revision", old[:10])
    assert again["freed_bytes"] == 0
    said = tool("rm", "-y", "acme/pub", "--revision", "nobody-has-it", code=NO_INPUT).err
    assert "nothing is known of model/acme/pub at nobody" in said and "hfcache ls --revisions model/acme/pub" in said, said
    assert tool("rm", "-y", "acme/pub", "--revision", "", code=USAGE)
    assert tool("rm", "-y", "hf://acme/pub@main").out.startswith("model/acme/pub: freed")


def test_not_while_it_is_downloaded(hub, cache, tool):
    hub.rate("cdn", MIB)
    first = threading.Thread(target=lambda: cache.get(MODEL, keep=False, timeout=60))
    first.start()
    wait_for(lambda: cache.status()["fills"]["held_bytes"] > 0, why="the fill has begun")
    total = tool.json("du")["total"]
    assert 0 < total["open_bytes"] <= total["partial_bytes"] <= total["used_bytes"] + total["open_bytes"], total
    assert "being downloaded" in tool("rm", "-y", "acme/pub", code=TRY_AGAIN).err
    assert tool("rm", "-n", "acme/pub").code == 0
    hub.rate("cdn", None)
    first.join(60 * SLOW)
    wait_for(lambda: cache.status()["fills"]["running"] == 0, why="the fill has ended")
    assert tool.json("rm", "-y", "acme/pub")[0]["freed_bytes"] >= MODEL_BYTES


def test_unfinished_files_go_too(hub, cache, tool):
    hub.content.add_repo("model", "acme/large").commit({"weights.bin": LFS(generated(64 * MIB, 91))})
    answer = cache.get("/acme/large/resolve/main/weights.bin", headers=[("Range", "bytes=0-1048575")])
    assert answer.status == 206
    wait_for(lambda: cache.status()["fills"]["running"] == 0 and cache.parts(), why="the part is left alone")
    repo = tool.ls()["model/acme/large"]
    assert repo["partial_files"] == 1 and "unfinished" in tool("ls").out
    [result] = tool.json("rm", "-y", "acme/large")
    assert result["partial_files"] == 1 and result["freed_bytes"] >= MIB and not cache.parts()
    assert cache.status()["store"]["partial_bytes"] == 0


def test_a_reader_keeps_what_he_reads(hub, cache, tool):
    hub.content.add_repo("model", "acme/large").commit({"weights.bin": LFS(generated(48 * MIB, 92))})
    file = file_of(hub, "weights.bin", "acme/large")
    url = "/acme/large/resolve/main/weights.bin"
    assert cache.get(url, keep=False).sha256 == file.sha256
    with cache.connect(receive_buffer=65536) as conn:
        conn.request("GET", url, fields(None, (), Connection="close"))
        answer = conn.head()
        conn.body(answer, most=MIB)
        assert tool.json("rm", "-y", "acme/large")[0]["freed_bytes"] >= 48 * MIB
        assert not held(cache, file)
        conn.body(answer)
        assert answer.complete and hashlib.sha256(answer.body).hexdigest() == file.sha256


@pytest.mark.slow
@pytest.mark.parametrize("ms", [1, 10])
def test_a_crash_in_the_middle_leaves_nothing_wrong(hub, cache, tool, ms):
    files = {f"file-{n}.txt": f"number {n}\n" * 200 for n in range(40)}
    hub.content.add_repo("model", "acme/many").commit(files)
    with cache.connect() as conn:
        for name in files:
            conn.request("GET", f"/acme/many/resolve/main/{name}")
            assert conn.read().status == 200
    assert tool.ls()["model/acme/many"]["files"] == 40
    remover = threading.Thread(target=lambda: run(cache.folder, "--config=", "--set", f"storage.path={cache.store}", "rm", "-y", "acme/many"))
    remover.start()
    wait_for(lambda: "model/acme/many" in str(cache.log_lines(path="/-/repos/models/acme/many")) or len(cache.blobs()) < 40 or not remover.is_alive(),
             every=0.001, why="it has begun")
    time.sleep(ms / 1000)
    cache.kill9()
    remover.join(30 * SLOW)
    cache.start()
    left = tool.ls().get("model/acme/many")
    assert left is None or left["files"] in (0, 40) or left["files"] == len(cache.blobs()), "forgotten, or not yet"
    assert tool.json("du")["total"]["unreferenced_bytes"] <= 40 * 4000
    cache.check_store()
    for name in ("file-0.txt", "file-39.txt"):
        assert_whole(cache.get(f"/acme/many/resolve/main/{name}"), hub, name, "acme/many")


def rights_on_disk(daemon, repo):
    """How many rows say that somebody may read it, or was shown something of it. The daemon is stopped."""
    import sqlite3
    with closing(sqlite3.connect(daemon.store / "index.db")) as db:
        return sum(db.execute(f"SELECT count(*) FROM {table} t JOIN repos r ON r.id = t.repo_id WHERE r.name = ?", (repo.encode(),)).fetchone()[0]
                   for table in ("grants", "publics", "shown"))


def test_rights_go_with_a_private_repository(hub, people, cache, tool):
    url = "/acme/private/resolve/main/model.safetensors"
    assert cache.get(url, people.alice).status == 200
    assert tool.ls()["model/acme/private"]["visibility"] == "protected"
    hub.kill()
    cache.until_known_down()
    assert cache.get(url, people.alice).status == 200, "her right is remembered"
    assert tool("rm", "-y", "acme/private").code == 0
    assert cache.get(url, people.alice).status in (401, 403, 404, 503, 504)
    assert "acme/private" not in tool("ls").out and not held(cache, file_of(hub, "model.safetensors", "acme/private"))
    # it comes back with somebody else: her right was proved before, and has gone with the rest
    assert cache.stop() == 0
    assert rights_on_disk(cache, "models/acme/private") == 0
    hub.revive()
    cache.start()
    assert cache.get(url, people.writer).status == 200
    hub.kill()
    cache.until_known_down()
    assert cache.get(url, people.writer).status == 200
    assert cache.get(url, people.alice).status in (401, 403, 404, 503, 504)


def test_an_old_name_leads_to_the_repository(hub, cache, tool):
    assert cache.get("/old/name/resolve/main/config.json").status == 200
    assert tool.json("rm", "-n", "old/name")[0]["id"] == "model/acme/pub"


def test_what_was_meant_is_told(hub, cache, tool):
    cache.get(CONFIG)
    assert "did you mean model/acme/pub?" in tool("rm", "-y", "dataset/acme/pub", code=NO_INPUT).err, "of another kind"
    assert "takes no patterns" in tool("rm", "-y", "acme/*", code=USAGE).err


def test_several_at_once_and_one_that_is_not_there(hub, cache, tool):
    cache.get(CONFIG)
    cache.get("/acme/tinymodel/resolve/main/config.json")
    done = tool("rm", "-y", "acme/pub", "acme/tinymodle", "dataset/acme/pub", "model/acme/tinymodel", code=NO_INPUT)
    assert [line.split(":")[0] for line in done.out.splitlines()][:2] == ["model/acme/pub", "model/acme/tinymodel"]
    assert done.out.splitlines()[-1].startswith("freed ")
    assert "nothing is known of model/acme/tinymodle" in done.err and "did you mean model/acme/tinymodel?" in done.err
    assert tool.ls() == {}
    for wrong in ("", "a/b/c/d", "/", "acme//pub", "acme/"):
        assert tool("rm", "-y", wrong, code=USAGE)
    for odd in ("acme/" + "x" * 200, "äöü/日本語", "acme/with space", "acme/%2e%2e", "acme/a%2Fb", "..", "acme/..", "acme/\x01"):
        assert "Traceback" not in tool("rm", "-y", odd, code=USAGE if odd in ("..", "acme/..") else NO_INPUT).err
    assert tool("rm", code=USAGE) and tool("rm", "acme/pub", code=USAGE).err.count("--yes")


def test_it_asks_on_a_terminal(hub, cache, tool):
    cache.get(CONFIG)
    for answer, code in (("n\n", TRY_AGAIN), ("y\n", 0)):
        main, terminal = pty.openpty()
        os.write(main, answer.encode())
        done = tool("rm", "acme/pub", code=code, stdin=terminal)
        os.close(terminal)
        os.close(main)
        assert "Forget 1 repository and free" in done.err and "would free" in done.out
        assert (tool.ls() == {}) == (answer == "y\n")


# --- who may ---

def test_the_socket_is_for_the_daemons_user_and_there_only_when_wanted(hub, start, folder):
    cache = start()
    path = cache.store / "admin.sock"
    state = path.stat()
    assert stat.S_ISSOCK(state.st_mode) and stat.S_IMODE(state.st_mode) == 0o600
    cache.restart(kill=True)
    assert path.is_socket() and Tool(cache).json("status"), "a stale one is replaced"
    cache.stop()
    assert not path.exists()
    elsewhere = start(server_admin_socket=folder / "other.sock")
    assert not (elsewhere.store / "admin.sock").exists()
    assert run(folder, "--socket", str(folder / "other.sock"), "status").code == 0
    assert run(folder, f"--set=server.admin-socket={folder}/other.sock", "--config", "", "ls", "--json").out == "[]\n"
    none = start(server_admin_socket="none")
    assert not (none.store / "admin.sock").exists()
    missing = run(folder, "--config=", "--set", "server.admin-socket=none", "--set", "server.listen=127.0.0.1:1", "status")
    assert missing.code == UNAVAILABLE and "the daemon does not answer" in missing.err


def test_a_path_that_is_too_long_for_a_socket_is_told(start, folder):
    deep = folder / ("d" * 90)
    cache = start(storage_path=deep / "store")
    wait_for(lambda: cache.log_lines(level="warning", room="main"), why="the warning")
    assert any("no admin socket" in line["msg"] for line in cache.log_lines(level="warning"))
    done = run(folder, "--config=", "--set", f"storage.path={deep}/store", "--set", "server.listen=127.0.0.1:1", "rm", "-y", "acme/pub")
    assert done.code == UNAVAILABLE and "longer than a socket's path may be" in done.err
    chosen = start(is_started=False, server_admin_socket=folder / ("e" * 120)).expect("exit")
    assert chosen.spawn().process.wait(30 * SLOW) == UNAVAILABLE


def test_without_a_right_to_the_socket_what_is_public_is_shown(hub, people, cache, tool):
    """Root may use any socket, so this is told by one that is not there: the command then asks over loopback."""
    cache.get(CONFIG)
    cache.get("/acme/private/resolve/main/config.json", people.alice)
    listen = f"server.listen=127.0.0.1:{cache.port}"
    command = ("--config=", "--set", listen, "--set", "server.admin-socket=/nowhere/admin.sock")
    shown = run(cache.folder, *command, "ls")
    assert shown.code == 0 and "model/acme/pub" in shown.out and "private" not in shown.out and "was not found at" in shown.err
    gone = run(cache.folder, *command, "rm", "-y", "acme/pub")
    assert gone.code == UNAVAILABLE and f"a daemon answers at http://127.0.0.1:{cache.port}" in gone.err
    assert "1 more, not public, is shown" in shown.err
    # nor does a pattern tell whether there is one
    assert json.loads(cache.get("/-/repos?match=acme%2Fnobody").text)["hidden"] == json.loads(cache.get("/-/repos?match=acme%2Fprivate").text)["hidden"] == 1
    usage = json.loads(run(cache.folder, *command, "du", "--by", "repo", "--json").out)
    assert [g["group"] for g in usage["groups"]] == ["model/acme/pub"] and usage["hidden"] == 1
    # that others hold the same bytes is for who may know of them
    assert "shared_bytes" not in usage["groups"][0] and "shared_bytes" not in json.loads(cache.get("/-/repos").text)["repos"][0]
    refused = run(cache.folder, *command, "rm", "-y", "acme/pub")
    assert refused.code == UNAVAILABLE and "/nowhere/admin.sock: it is not there" in refused.err


def test_nothing_is_changed_over_tcp_nor_for_a_page(hub, people, cache):
    cache.get(CONFIG)
    for target in ("/-/repos/models/acme/pub", "/-/repos/inference", "/-/repos/models/acme/pub?dry-run=1"):
        answer = cache.ask("DELETE", target)
        assert answer.status == 403 and "admin socket" in answer.json()["error"]
        assert answer["Access-Control-Allow-Origin"] is None
    for name, value in (("Origin", "http://localhost"), ("Sec-Fetch-Site", "same-origin"), ("Referer", "http://evil.example/")):
        assert over_socket(cache, "DELETE", "/-/repos/models/acme/pub", [(name, value)])[0] == 403
        assert cache.get("/-/repos", headers=[(name, value)]).status == 403
    assert cache.ask("POST", "/-/repos/models/acme/pub").status == 405 and cache.get("/-/repos/models/acme/pub").status == 405
    assert cache.ask("OPTIONS", "/-/repos/models/acme/pub", headers=[("Origin", "http://a"), ("Access-Control-Request-Method", "DELETE")])[
        "Access-Control-Allow-Methods"] is None
    assert "acme/pub" in cache.get("/-/repos").text
    # a name that was made to lead here, and a proxy that passes on what comes from elsewhere
    for name in ("evil.example", "127.evil.example", "localhost.evil.example"):
        assert cache.get("/-/repos", host=f"{name}:{cache.port}").status == 403
    assert cache.get("/-/usage", headers=[("X-Forwarded-For", "192.0.2.1")]).status == 403
    assert cache.get("/-/repos", host=f"localhost:{cache.port}").status == 200


def test_other_machines_are_shown_nothing(hub, start):
    cache = start(server_listen="0.0.0.0:0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        own = probe.getsockname()[0]
    if own.startswith("127."):
        pytest.skip("this machine has no address but loopback's")
    from wire import Connection
    for target in ("/-/repos", "/-/usage"):
        with Connection((own, cache.port)) as conn:
            conn.request("GET", target, fields(None, (), Connection="close"))
            assert conn.read().status == 403


def test_odd_questions_over_the_socket(hub, cache):
    for target, status in (("/-/repos?kind=car", 400), ("/-/usage?by=colour", 400), ("/-/repos?cursor=zz-1", 400),
                           ("/-/repos?cursor=0123456789abcdef-0", 410), ("/-/repos?match=%ff", 400)):
        assert over_socket(cache, "GET", target)[0] == status, target
    for target, status in (("/-/repos/models/a/b/c", 400), ("/-/repos/inference/x", 400), ("/-/repos/cars/acme/pub", 400),
                           ("/-/repos/models/acme%2fpub/x", 400), ("/-/repos/models/acme/pub?dry-run=2", 400),
                           ("/-/repos/models/acme/none", 404), ("/-/repos/models/acme/pub?revision=", 400)):
        assert over_socket(cache, "DELETE", target)[0] == status, target
    assert over_socket(cache, "GET", "/-/repos?match=" + "*a" * 1000 + "b")[0] == 200


# --- how it prints ---

def on_terminal(folder, *arguments, columns=60, environment=None):
    """What the command prints on a terminal of this width."""
    import fcntl
    import struct
    import termios
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "TERM": "xterm-256color"} | (environment or {})
    process = subprocess.Popen([tool_path(folder), *arguments], stdout=terminal, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=env)
    os.close(terminal)
    text = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:
            break
        if not piece:
            break
        text += piece
    os.close(main)
    assert process.wait(20 * SLOW) == 0
    return text.decode().replace("\r\n", "\n")


def test_tables_fit_the_terminal_and_are_whole_without_one(hub, cache, tool):
    long_name = "a-model-with-a-very-long-name-" + "x" * 60
    small_model(hub.content, f"acme/{long_name}", seed=33, size=65536)
    hub.content.repo(f"acme/{long_name}").branch("früh/日本", "main")
    cache.get(f"/acme/{long_name}/resolve/fr%C3%BCh%2F%E6%97%A5%E6%9C%AC/config.json")
    assert long_name in tool("ls").out and long_name in tool("ls", environment={"COLUMNS": "40"}).out
    where = ("--config=", "--set", f"storage.path={cache.store}")
    for environment in ({}, {"NO_COLOR": "1"}):
        text = on_terminal(cache.folder, *where, "ls", columns=70, environment=environment)
        assert long_name not in text and max(len(line) for line in text.splitlines()) <= 70
        assert "\x1b" not in text
    assert long_name in on_terminal(cache.folder, *where, "ls", "--no-truncate", columns=70)
    assert "früh/日本" in tool("ls", "--revisions").out
    assert tool.ls("--revisions")[f"model/acme/{long_name}"]["revisions"][0]["names"] == ["früh/日本"]


def test_a_pipe_that_is_closed_early_is_no_trouble(hub, cache, tool):
    cache.get(CONFIG)
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {tool_path(cache.folder)} --config= --set storage.path={cache.store} ls --json | head -c 1"],
                          capture_output=True, text=True, env={"PATH": os.environ["PATH"], "HOME": str(cache.folder)}, timeout=60)
    assert done.stdout == "[" and "rror" not in done.stderr
    with open("/dev/full", "w") as full:
        process = subprocess.run([tool_path(cache.folder), "version"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert process.returncode == 74 and "could not be written" in process.stderr


# --- foreign bytes ---

def test_a_name_that_the_hub_cannot_have_is_not_learned(hub, cache, tool):
    for number, odd in enumerate(("acme/\x1b[31modd", "acme/a\nmodel/acme/pub", "acme/ü", "acme/a b", "a/b/c", "/acme", "acme/.x", "")):
        info = {"_id": "65a000000000000000000001", "id": odd, "sha": "a" * 40, "private": False, "siblings": []}
        hub.rule("hub", path=f"/api/models/acme/odd{number}$", body=json.dumps(info).encode(), set_header={"Content-Type": "application/json"})
        assert cache.get(f"/api/models/acme/odd{number}").status == (502 if odd else 200), odd
    assert set(tool.ls()) <= {f"model/acme/odd{number}"}


@contextmanager
def someone_else(body, status=200):
    """Answers where the daemon would."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield ("--config=", "--set", f"server.listen=127.0.0.1:{server.server_port}", "--socket", "/nonexistent")
    finally:
        server.shutdown()
        server.server_close()


def test_what_others_say_steers_no_terminal(folder):
    evil = "x\x1b[31m\x9b\nmodel/acme/pub \u202e"
    repo = {"id": f"model/{evil}", "kind": "model", "name": evil, "visibility": evil, "bytes": 1, "files": 1, "commits": 1, "used_at": 1,
            "revisions": [{"commit": evil, "names": [evil]}]}
    lists = json.dumps({"repos": [repo], "hidden": 0, "version": evil, "now": 1, "upstream": {"url": evil, "reachable": True,
                        "rate_limits": {evil: {"waiting": 1}}}, "offline": {"access": evil}, "warnings": [evil], "groups": [{"group": evil}],
                        "backends": [{"name": evil, "state": evil}], "total": {}}, ensure_ascii=False).encode()
    calls = [("ls",), ("ls", "-q"), ("ls", "--revisions"), ("ls", "--json"), ("du",), ("du", "--json"), ("status",), ("status", "--json")]
    with someone_else(lists) as on:
        done = {words: run(folder, words[0], *on, *words[1:]) for words in calls}
    with someone_else(json.dumps({"error": evil}).encode(), 403) as on:
        done["error"] = run(folder, "ls", *on)
        done["rm"] = run(folder, "rm", *on, "--yes", f"model/{evil}")
    with someone_else(b"\x1b[31m\xff plain", 403) as on:
        done["plain"] = run(folder, "ls", *on)
    for words, one in done.items():
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", one.out + one.err), (words, one)
        assert one.code == (0 if words in calls else one.code) and "\nmodel/acme" not in one.out + one.err, (words, one)
    assert done["ls", "-q"].out == "model/x%1B%5B31m%C2%9B%0Amodel/acme/pub%20%E2%80%AE\n"
    assert json.loads(done["ls", "--json"].out)[0]["id"] == f"model/{evil}" and json.loads(done["status", "--json"].out)["version"] == evil
    assert "x\\x1B[31m\\xC2\\x9B\\x0Amodel" in done["error"].err and "\\x1B[31m\\xFF plain" in done["plain"].err


# --- without a daemon ---

def test_help_names_every_verb_and_wrong_words_are_told(folder):
    text = run(folder, "help").out
    verbs = re.findall(r"^  (\w+)", text, re.M)
    assert verbs == ["status", "ls", "du", "rm", "env", "ca", "help", "version"]
    texts = [text, run(folder, "--help").out]
    for verb in verbs:
        texts.append(run(folder, "help", verb).out)
        assert texts[-1] == run(folder, verb, "--help").out != ""
    assert not re.search(r"[ \t]$", "".join(texts), re.M)
    assert run(folder, "version").out.startswith("hfcache ") and json.loads(run(folder, "version", "--json").out)["version"]
    assert run(folder).code == USAGE and run(folder, "dance").code == USAGE and run(folder, "ls", "--dance").code == USAGE
    assert run(folder, "--set").code == USAGE and run(folder, "--set", "no.such=1", "ls").code == CONFIGURATION
    none = run(folder, "--config=", "--set", "server.listen=127.0.0.1:1", "status")
    assert none.code == UNAVAILABLE and "systemctl start hfcached" in none.err and str(folder) in none.err


def environment_of(shell, text):
    """What a shell has in its environment after it has run this text."""
    done = subprocess.run([shell, "-c", f'eval "$1"; env -0', shell, text], capture_output=True, text=True,
                          env={"PATH": os.environ["PATH"]}, check=True)
    return dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)


@pytest.mark.parametrize("shell", ["bash", "dash", "zsh"])
def test_env_can_be_evaluated(folder, shell):
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell} here")
    odd = "http://hub.lab:8090/it's;$(touch)`y`\\z"
    expected = json.loads(run(folder, "--config=", "env", "--json", "--url", odd).out)
    assert expected["HF_ENDPOINT"] == odd and expected["OPENAI_BASE_URL"] == odd + "/v1" and expected["HF_INFERENCE_ENDPOINT"] == odd
    got = environment_of(shell, run(folder, "--config=", "env", "--shell", "bash", "--url", odd).out)
    assert {k: got.get(k) for k in expected} == expected


def test_env_follows_the_configuration_and_other_forms(folder):
    url = lambda *sets: json.loads(run(folder, "--config=", *[w for s in sets for w in ("--set", s)], "env", "--json").out)["HF_ENDPOINT"]  # noqa: E731
    assert url() == "http://127.0.0.1:8090"
    assert url("server.public-url=https://cache.lab/") == "https://cache.lab"
    assert url("server.listen=0.0.0.0:9000") == f"http://{socket.gethostname()}:9000"
    assert run(folder, "--config=", "--set", "server.listen=127.0.0.1:0", "env").code == CONFIGURATION
    forms = {shell: run(folder, "--config=", "env", "--shell", shell).out for shell in ("fish", "pwsh", "docker", "k8s")}
    assert "\nset -gx HF_ENDPOINT 'http://127.0.0.1:8090'\n" in forms["fish"]
    assert "\n$Env:HF_ENDPOINT = 'http://127.0.0.1:8090'\n" in forms["pwsh"]
    assert "\nHF_ENDPOINT=http://127.0.0.1:8090\n" in forms["docker"]
    assert '\n- name: HF_ENDPOINT\n  value: "http://127.0.0.1:8090"\n' in forms["k8s"]
    assert "set -gx" in run(folder, "--config=", "env", environment={"SHELL": "/usr/bin/fish"}).out
    assert run(folder, "--config=", "env", "--shell", "cmd").code == USAGE and run(folder, "--config=", "env", "--url", "ftp://x").code == USAGE
    assert run(folder, "--config=", "env", "--url", "http://a b").code == USAGE


def test_env_takes_no_quotes_of_typographers_and_no_lines_for_values(folder):
    on = ("--config=", "--set", "intercept.enabled=yes", "--set", "server.listen=127.0.0.1:8090")
    for quote in "'\u2018\u2019\u201a\u201b":
        out = run(folder, *on, "env", "--shell", "pwsh", "--url", f"http://a{quote};id;{quote}\\").out
        assert f"\n$Env:HF_ENDPOINT = 'http://a{quote * 2};id;{quote * 2}\\'\n" in out
    assert "http://a\u201c'\n" in run(folder, *on, "env", "--shell", "pwsh", "--url", "http://a\u201c").out
    forms = [("--shell", shell) for shell in ("bash", "fish", "pwsh", "docker", "k8s")] + [("--json",)]
    for form in forms:
        odd = ("x\rEVIL=1", "x\x1b[31m", "x\x85", "x\u2028", os.fsdecode(b"x\xff")) if "docker" in form else ()
        for bad in ("x\nEVIL=1", *odd):
            for words in (("--ca", bad), ("--ca", "/x", "--url", f"http://{bad}"))[:len(odd) + 1]:
                done = run(folder, *on, "env", *form, "--intercept", *words)
                assert done.code == USAGE and done.out == "" and len(done.err.splitlines()) == 1


def test_env_for_interception(folder):
    assert run(folder, "--config=", "env", "--intercept", "--ca", "x").code == CONFIGURATION
    on = ("--config=", "--set", "intercept.enabled=yes", "--set", "server.listen=127.0.0.1:8090")
    values = json.loads(run(folder, *on, "env", "--intercept", "--ca", "/etc/site.pem", "--json").out)
    assert values["HTTPS_PROXY"] == "http://127.0.0.1:8090" and values["NODE_USE_ENV_PROXY"] == "1"
    assert {values[k] for k in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")} == {"/etc/site.pem"}
    assert values["NO_PROXY"].split(",") == ["localhost", "127.0.0.1", "::1"]
    values = json.loads(run(folder, *on, "env", "--intercept", "--ca", "/x", "--json", "--url", "http://[fd00::1]:8090/").out)
    assert values["NO_PROXY"].split(",")[3:] == ["fd00::1"]
    assert "# Node 22.21, 24 and later" in run(folder, *on, "env", "--intercept", "--ca", "/x").out


@pytest.mark.parametrize("sets,proxy", [
    ((), "127.0.0.1:8090"), (("server.listen=0.0.0.0:9000",), f"{socket.gethostname()}:9000"),
    (("server.listen=127.0.0.1:9000", "intercept.listen=0.0.0.0:443"), "127.0.0.1:9000"),
    (("server.listen=unix:/tmp/x", "intercept.listen=127.0.0.2:8443", "server.public-url=http://cache.lab"), "127.0.0.2:8443")])
def test_env_names_the_servers_own_address_as_the_proxy(folder, sets, proxy):
    words = [w for s in ("intercept.enabled=yes", *sets) for w in ("--set", s)]
    assert json.loads(run(folder, "--config=", *words, "env", "--intercept", "--ca", "/x", "--json").out)["HTTPS_PROXY"] == f"http://{proxy}"


def test_env_says_so_when_nobody_can_tell_the_proxy(folder):
    words = ("--set", "intercept.enabled=yes", "--set", "server.listen=unix:/tmp/x", "--set", "server.public-url=http://cache.lab")
    done = run(folder, "--config=", *words, "env", "--intercept", "--ca", "/x")
    assert done.code == CONFIGURATION and "server.listen" in done.err and done.out == ""


def test_env_without_ca_names_the_daemons_file_where_all_may_read_it(folder):
    place = Path(tempfile.mkdtemp(dir="/tmp"))     # everybody may come there, whatever the folder of this test is
    try:
        path = place / "site/ca.pem"
        on = ("--config=", "--set", "intercept.enabled=yes", "--set", f"intercept.ca-file={path}", "--set", f"storage.path={folder}/store")
        path.parent.mkdir()

        def told(*more, sets=()):
            done = run(folder, *on, *sets, "env", "--intercept", "--shell", "bash", *more)
            assert done.code in (0, USAGE) and (done.code == 0) == (done.out != "")
            return re.search("^export SSL_CERT_FILE='(.*)'$", done.out, re.M)[1] if done.code == 0 else None

        def modes(folder_mode, file_mode):
            place.chmod(0o755)
            path.parent.chmod(folder_mode)
            path.chmod(file_mode)
        assert told() is None, "there is none yet"
        assert run(folder, *on, "ca", "init").code == 0
        modes(0o755, 0o644)
        assert told() == str(path)
        assert told("--shell", "docker") is None, "in a container it is not there"
        assert told(sets=("--set", "intercept.tunnel=*.example.org")) is None, "other hosts have other authorities"
        assert told("--url", "https://cache.lab") is None, "which may be another's certificate"
        for one in ((0o755, 0o600), (0o750, 0o644), (0o700, 0o644)):
            modes(*one)
            assert told() is None, one
        modes(0o755, 0o644)
        place.chmod(0o700)
        assert told() is None
    finally:
        shutil.rmtree(place)


def test_env_without_ca_says_what_to_type(folder):
    on = ("--set", "intercept.enabled=yes", "--set", f"storage.path={folder}/store")
    (folder / "store").mkdir()
    assert run(folder, "--config=", *on, "ca", "init").code == 0
    done = run(folder, "--config=", *on, "env", "--intercept")
    assert done.code == USAGE and done.out == ""
    first, second = [line.strip() for line in done.err.splitlines() if line.startswith("  ")]
    for line in (first, second):
        program, *words = line.split()
        assert program == "hfcache"
        done = run(folder, "--config=", *on, *words, cwd=folder)
        assert done.code == 0, done
    assert f"SSL_CERT_FILE='{folder}/hfcached.pem'" in done.out and "BEGIN CERTIFICATE" in (folder / "hfcached.pem").read_text()


def test_ca_is_made_shown_and_handed_out(folder):
    where = ("--config=", "--set", f"storage.path={folder}/store", "--set", "server.listen=127.0.0.1:1")
    path = folder / "store/ca/ca.pem"
    assert run(folder, *where, "ca", "show").code == NO_INPUT and run(folder, *where, "ca", "export").code == NO_INPUT
    assert run(folder, *where, "ca").code == USAGE and run(folder, *where, "ca", "burn").code == USAGE
    (folder / "store").mkdir()
    owner = 65534 if os.geteuid() == 0 else os.geteuid()
    os.chown(folder / "store", owner, -1)
    made = run(folder, *where, "ca", "init", "--json")
    assert json.loads(made.out)["names"]
    assert made.code == 0 and "huggingface.co" in made.err and stat.S_IMODE(path.stat().st_mode) == 0o644
    key = path.with_suffix(".key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {p.stat().st_uid for p in (path, key, path.parent)} == {owner}, "what root makes for the daemon is the daemon's"
    again = run(folder, *where, "ca", "init")
    assert again.code == 73 and "there is one already" in again.err
    shown = json.loads(run(folder, *where, "ca", "show", "--json").out)
    openssl = subprocess.run(["openssl", "x509", "-in", path, "-noout", "-fingerprint", "-sha256"], capture_output=True, text=True, check=True)
    assert shown["fingerprint_sha256"] == openssl.stdout.strip().split("=")[1] and "router.huggingface.co" in shown["names"]
    assert shown["fingerprint_sha256"] in run(folder, *where, "ca", "show").out
    pem = run(folder, *where, "ca", "export").out
    assert json.loads(run(folder, *where, "ca", "export", "--json").out) == {"certificates": pem}
    assert pem == path.read_text() and "PRIVATE" not in pem
    bundle = folder / "bundle.pem"
    assert run(folder, *where, "ca", "export", "--bundle", "-o", str(bundle)).code == 0
    text = bundle.read_text()
    assert text.startswith(pem) and text.count("BEGIN CERTIFICATE") > 50 and stat.S_IMODE(bundle.stat().st_mode) == 0o644
    assert run(folder, *where, "ca", "export", "-o", str(folder / "no/such/file")).code == 73
    path.write_text(pem + key.read_text())
    assert run(folder, *where, "ca", "export").code == CONFIGURATION, "a key that was put beside it is not handed out"


def test_a_ca_behind_a_symbolic_link(folder):
    where = ("--config=", "--set", f"storage.path={folder}/store")
    (folder / "store").mkdir()
    (folder / "elsewhere").mkdir()
    (folder / "store/ca").symlink_to(folder / "elsewhere")
    if os.geteuid() == 0:
        os.chown(folder / "store/ca", 65534, -1, follow_symlinks=False)
        done = run(folder, *where, "ca", "init")
        assert done.code == NO_PERMISSION and "symbolic link" in done.err and not list((folder / "elsewhere").iterdir())
        os.chown(folder / "store/ca", 0, -1, follow_symlinks=False)
    assert run(folder, *where, "ca", "init").code == 0
    assert {p.name for p in (folder / "elsewhere").iterdir()} == {"ca.pem", "ca.key"}


def test_the_completion_of_bash_knows_the_verbs():
    script = BINARY.parent / "tool/hfcache"
    if not script.exists():
        pytest.skip("this build has no completion")
    done = subprocess.run(["bash", "-c", f"source {script}; COMP_WORDS=(hfcache r); COMP_CWORD=1; _hfcache; echo ${{COMPREPLY[@]}};"
                                         "COMP_WORDS=(hfcache --config x ls --s); COMP_CWORD=4; _hfcache; echo ${COMPREPLY[@]}"],
                          capture_output=True, text=True, check=True)
    assert done.stdout == "rm\n--sort\n" and done.stderr == ""


# --- very many ---

def fill_index(store, repos, blobs):
    """So many more repositories, as if they had been asked for: of each a commit with 12 files, some of which are held."""
    import sqlite3
    held = [path.name for path in (store / "blobs").rglob("*") if path.is_file()]
    with sqlite3.connect(store / "index.db") as db:
        db.execute("PRAGMA synchronous = OFF")
        git = dict(db.execute("SELECT sha256, git FROM blobs WHERE git IS NOT NULL"))
        held = sorted(git)[:blobs]
        first, commit = db.execute("SELECT max(id) FROM repos").fetchone()[0] + 1, db.execute("SELECT max(id) FROM commits").fetchone()[0] + 1
        now = int(time.time())
        for n in range(repos):
            db.execute("INSERT INTO repos (id, name) VALUES (?, ?)", (first + n, f"models/org{n % 500}/model-{n:06}".encode()))
            db.execute("INSERT INTO publics VALUES (?, 2, ?, ?)", (first + n, now, now))
            db.execute("INSERT INTO commits (id, repo_id, hash) VALUES (?, ?, ?)", (commit, first + n, hashlib.sha1(b"%d" % commit).digest()))
            rows = [(commit, b"file-%d" % f, 0, git[held[(n + f) % len(held)]] if f < 3 else hashlib.sha1(b"%d %d" % (n, f)).digest(), 100, now, now)
                    for f in range(10)]
            rows += [(commit, b"large-%d" % f, 1, held[(n + f) % len(held)] if f < 1 else hashlib.sha256(b"%d %d" % (n, f)).digest(), 100, now, now)
                     for f in range(2)]
            db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            commit += 1
    db.close()


@pytest.mark.slow
def test_twenty_thousand_repositories(hub, start):
    repos = 20000
    many = hub.content.add_repo("model", "acme/many")
    many.commit({f"file-{n}.txt": f"number {n}\n" * 10 for n in range(60)})
    cache = start()
    tool = Tool(cache)
    for n in range(60):
        assert cache.get(f"/acme/many/resolve/main/file-{n}.txt").status == 200
    assert cache.stop() == 0
    fill_index(cache.store, repos, 50)
    cache.start()
    before = cache.rss()
    began = time.monotonic()
    listed = tool.ls()
    took = time.monotonic() - began
    assert len(listed) == repos + 1, "in more than one page, and none twice"
    assert listed["model/org7/model-000007"]["files"] == 3 and listed["model/org7/model-000007"]["commits"] == 1
    assert took < 40 * SLOW, f"ls took {took:.1f} s"
    assert cache.rss() - before < 96 * MIB * SLOW, f"{(cache.rss() - before) / MIB:.0f} MiB more"
    groups = tool.json("du", "--by", "org")["groups"]
    assert len(groups) == 501 and groups[0]["repos"] in (1, repos // 500)
    began = time.monotonic()
    done = tool.json("rm", "-y", "org7/model-000007")[0]
    assert done["freed_bytes"] == 0 and done["kept_bytes"] > 0, "others hold the same files"
    assert time.monotonic() - began < 40 * SLOW
    assert len(tool("ls", "-q").out.split()) == repos


def test_a_client_that_was_led_here_by_env_is_intercepted(hub, start, folder):
    """Made, handed out, exported, used: curl asks for the Hub's own name and gets what the cache has."""
    cache = start(intercept_enabled="yes")
    where = ("--config=", "--set", f"storage.path={cache.store}", "--set", "intercept.enabled=yes", "--set", f"server.listen=127.0.0.1:{cache.port}")
    bundle = folder / "bundle.pem"
    assert run(folder, *where, "ca", "export", "--bundle", "-o", str(bundle)).code == 0
    asked = run(folder, "--config=", "--socket", str(cache.store / "admin.sock"), "--set", "intercept.ca-file=/nowhere/ca.pem", "ca", "export")
    assert asked.out == (cache.store / "ca/ca.pem").read_text(), "who cannot read the file asks the daemon"
    text = run(folder, *where, "env", "--shell", "bash", "--intercept", "--ca", str(bundle)).out
    script = f"{text}\ncurl -sS --max-time 20 https://huggingface.co/api/models/acme/pub; echo; curl -sS --max-time 20 $HF_ENDPOINT/api/models/acme/pub"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env={"PATH": os.environ["PATH"]}, timeout=60 * SLOW)
    through, direct = done.stdout.splitlines()
    assert json.loads(through)["id"] == json.loads(direct)["id"] == "acme/pub", done
    wait_for(lambda: cache.log_lines(path="/api/models/acme/pub", status="200"), why="the line of a request, which follows its end")
