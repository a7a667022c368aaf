# SPDX-License-Identifier: Apache-2.0
"""Starting, refusing to start, stopping: exit codes, messages, locks (design 2; reliability A.5, A.6)."""
import os
import signal
import socket
import time

import pytest

from facts import CONFIG, MIB, MODEL, add_large, assert_whole, file_of
from harness import SLOW, wait_for
from together import Background

USAGE, UNAVAILABLE, CANT_CREATE, IO_ERROR, BAD_CONFIG = 64, 69, 73, 74, 78


def ends(daemon, seconds=15):
    """(exit code, stderr) of a daemon that must not come up."""
    daemon.expect("exit", "error").spawn()
    code = daemon.process.wait(seconds * SLOW)
    return code, daemon.stderr()


def with_file(start, folder, text, **options):
    path = folder / "test.conf"
    path.write_text(text)
    path.chmod(0o600)
    daemon = start(is_started=False, **options)
    daemon.command = ["--config", str(path)]
    return daemon, path


def test_the_first_line_tells_the_address(cache):
    assert cache.stdout().splitlines()[0] == f"Serving on http://127.0.0.1:{cache.port}"


@pytest.mark.parametrize("text,line,word", [
    ("[server]\nlissten = 127.0.0.1:0\n", 2, "listen"), ("[serverr]\nlisten = 127.0.0.1:0\n", 2, "serverr"),
    ("[storage]\n\nmax-size = 5 parsecs\n", 3, "max-size"), ("[hub]\noffline = perhaps\n", 2, "offline"),
    ("[log]\nlevel = loud\n", 2, "level"), ("[server\nlisten = x\n", 1, ""), ("[hub]\nurl = not a url\n", 2, "url"),
    ("[server]\nlisten = nowhere\n", 2, "listen"), ("[hub]\nrevision-ttl = 30\n", 2, "revision-ttl")])
def test_M04_bad_configuration(start, folder, text, line, word):
    daemon, path = with_file(start, folder, text)
    code, said = ends(daemon)
    assert code == BAD_CONFIG, (code, said)
    assert f"{path}:{line}:" in said and word in said, said
    assert not daemon.store.exists(), "it touched the store"


def test_M04_every_error_is_told_at_once(start, folder):
    daemon, path = with_file(start, folder, "[server]\nlissten = x\n[hub]\noffline = perhaps\n[log]\nlevel = loud\n")
    code, said = ends(daemon)
    assert code == BAD_CONFIG and all(f"{path}:{n}:" in said for n in (2, 4, 6)), said


def test_M04_missing_file_and_bad_sets(start, folder):
    daemon = start(is_started=False)
    daemon.command = ["--config", str(folder / "none.conf")]
    code, said = ends(daemon)
    assert code == BAD_CONFIG and "none.conf" in said
    for given in ("server.nothing=1", "nothing", "server.threads=many"):
        daemon = start(is_started=False)
        daemon.command = ["--set", given]
        code, said = ends(daemon)
        assert code in (BAD_CONFIG, USAGE) and given.split("=")[0] in said, (given, code, said)


def test_unknown_option_of_the_command_line(start):
    daemon = start(is_started=False)
    daemon.command = ["--frobnicate"]
    code, said = ends(daemon)
    assert code == USAGE and "frobnicate" in said


def test_environment_and_set(start):
    daemon = start(is_started=False)
    daemon.environment = {"HFCACHE_LOG_LEVEL": "warning", "HFCACHE_HUB_OFFLINE": "yes", "HFCACHE_SERVER_LISTEN": "127.0.0.1:1"}
    daemon.start()   # its --set server.listen wins
    assert daemon.get(CONFIG).status in (503, 504) and not daemon.log_lines(level="info")
    bad = start(is_started=False)
    bad.environment = {"HFCACHE_LOG_LEVEL": "loud"}
    code, said = ends(bad)
    assert code == BAD_CONFIG and "HFCACHE_LOG_LEVEL" in said


def test_port_in_use(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        code, said = ends(start(is_started=False, server_listen=address))
        assert code == UNAVAILABLE and address in said, (code, said)


def test_address_of_another_machine(start):
    code, said = ends(start(is_started=False, server_listen="192.0.2.1:0"))
    assert code == UNAVAILABLE and "192.0.2.1" in said, (code, said)


def test_two_addresses(hub, start, folder):
    cache = start(server_listen=f"127.0.0.1:0 unix:{folder}/socket")
    assert_whole(cache.get(CONFIG), hub, "config.json")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{folder}/socket")
        client.sendall(b"GET /-/healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_D09_second_daemon_on_the_same_store(hub, cache, start):
    second = start(is_started=False, storage_path=cache.store)
    code, said = ends(second)
    assert code in (CANT_CREATE, IO_ERROR) and str(cache.store) in said, (code, said)
    assert_whole(cache.get(CONFIG), hub, "config.json")


def test_D09_store_that_cannot_be_used(start, folder):
    (folder / "file").write_text("I am a file")
    for place in (folder / "file", folder / "file" / "below", "/proc/nothing"):
        code, said = ends(start(is_started=False, storage_path=place))
        assert code in (CANT_CREATE, IO_ERROR), (place, code, said)
        assert str(place) in said or str(folder / "file") in said, said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_D09_store_without_rights(start, folder):
    place = folder / "closed"
    place.mkdir(mode=0o500)
    code, said = ends(start(is_started=False, storage_path=place / "store"))
    assert code in (CANT_CREATE, IO_ERROR), (code, said)


def test_M06_store_of_another_version(hub, start):
    cache = start()
    assert_whole(cache.get(CONFIG), hub, "config.json")
    assert cache.stop() == 0
    mark = cache.store / "FORMAT"
    text = mark.read_text()
    assert text.startswith("hfcached store 1\n")
    mark.chmod(0o600)
    mark.write_text(text.replace("store 1", "store 999"))
    before = {p: p.stat().st_mtime_ns for p in cache.files()}
    code, said = ends(cache)
    assert code in (CANT_CREATE, IO_ERROR, BAD_CONFIG) and str(cache.store) in said, (code, said)
    after = {p: p.stat().st_mtime_ns for p in cache.files()}
    assert {p.name for p in before if before[p] != after.get(p)} <= {"lock"}, "it wrote into a foreign store"


def test_sigterm_ends_idle_connections_and_leaves_with_zero(cache):
    with cache.connect() as conn:
        assert conn.ask("GET", "/-/healthz").status == 200
        began = time.monotonic()
        assert cache.stop() == 0 and time.monotonic() - began < 15 * SLOW
        assert conn.rest(2)[1] in ("fin", "rst")


def test_sigterm_drains(hub, cache):
    url, file = add_large(hub, 8 * MIB, seed=23)
    hub.rate("cdn", 4 * MIB)
    running = Background(lambda: cache.get(url))
    wait_for(lambda: hub.body_bytes("cdn") > MIB)
    with cache.connect() as waiting:
        assert waiting.ask("GET", "/-/readyz").status == 200
        cache.signal(signal.SIGTERM)
        answer = running.result()
    assert answer.status == 200 and answer.body == file.source.read(), "a running answer was cut"
    assert cache.process.wait(10 * SLOW) == 0
    with pytest.raises(OSError):
        cache.get("/-/healthz", timeout=1)
    cache.start()
    hub.kill()
    assert cache.get(url).body == file.source.read()


def test_sigterm_does_not_wait_for_ever(hub, start):
    cache = start(server_drain_timeout="1s")
    url, file = add_large(hub, 64 * MIB)
    with cache.connect(receive_buffer=8192) as slow:
        slow.request("GET", url)
        slow.body(slow.head(), most=1000)
        began = time.monotonic()
        assert cache.stop() == 0
        assert time.monotonic() - began < 15 * SLOW


def test_sigint_and_sighup(hub, cache):
    cache.signal(signal.SIGHUP)
    time.sleep(0.3)
    assert_whole(cache.get(MODEL), hub, "model.safetensors")
    cache.signal(signal.SIGINT)
    assert cache.process.wait(10 * SLOW) == 0


def test_sighup_takes_what_may_change_all_or_nothing(hub, start, folder):
    daemon, path = with_file(start, folder, "[log]\nlevel = info\n[hub]\nrevision-ttl = 1h\n")
    daemon.start()
    assert_whole(daemon.get(CONFIG), hub, "config.json")
    hub.content.repo("acme/pub").commit({"config.json": "{}\n"})
    path.write_text("[log]\nlevel = loud\n[hub]\nrevision-ttl = 1s\n")
    daemon.expect("error").signal(signal.SIGHUP)
    wait_for(lambda: f"{path}:2" in daemon.stderr(), 5, why="a line about the bad file")
    path.write_text("[log]\nlevel = warning\n[hub]\nrevision-ttl = 1s\n")
    daemon.signal(signal.SIGHUP)
    time.sleep(1.5)
    answer = wait_for(lambda: (a := daemon.get(CONFIG, source="127.0.0.7")).received == 3 and a, 10, 0.5)
    assert answer["ETag"] == f'"{file_of(hub, "config.json").oid}"'
    lines = len(daemon.log_lines(level="info"))
    assert daemon.get(CONFIG).status == 200 and len(daemon.log_lines(level="info")) == lines, "log.level did not change"
