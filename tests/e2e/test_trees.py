# SPDX-License-Identifier: Apache-2.0
"""Trees that are wholly known, and what else hangs on a commit: listings, paths, sizes, history, parquet (hub-protocol 10.3, 10.4)."""
import base64
import json
import re
import time
from urllib.parse import quote

import pytest

from facts import PUB, assert_ignorance, at_commit, bytes_of, commit_of, hit
from hubdouble.fixture import add_many
from probe import ask
from test_api import FORM, JSON, forged_cursor, pages, plain
from wire import fields

PUB_API = "/api/models/acme/pub"


def learn(cache, repo="acme/pub", revision="main", kind="models"):
    """Lists the whole tree once; returns its entries."""
    return pages(cache, f"/api/{kind}/{repo}/tree/{revision}?recursive=true")[0]


def upstream_pages(hub, target):
    """(all entries of the double's own listing, the first page's bytes)."""
    out, first = [], None
    while target:
        answer = ask(hub.url + target)
        assert answer.status == 200
        first = first or answer.body
        out += json.loads(plain(answer.body))
        link = answer["Link"]
        target = re.search("<http://[^/]+([^>]+)>", link)[1] if link else None
    return out, first


# --- one page ---

@pytest.mark.parametrize("page_size", [1000, 7, 5, 1])
def test_A06_a_known_tree_is_one_page_and_costs_nothing(hub, cache, page_size):
    commit = commit_of(hub).id
    target = f"{PUB_API}/tree/{commit}?recursive=true"
    whole = plain(ask(hub.url + target).body)
    hub.options.page_size = page_size
    entries = learn(cache)
    assert entries == json.loads(whole)
    hub.reset_counters()
    for query in ("recursive=true", "recursive=true&expand=false", "expand=False&recursive=True", "recursive=1", "recursive=true&limit=1000"):
        for revision in (commit, "main"):
            answer = cache.get(f"{PUB_API}/tree/{revision}?{query}")
            assert answer.status == 200 and answer.body == whole and answer["Link"] is None and hit(answer), answer
            assert answer["Content-Type"] == "application/json; charset=utf-8"
    assert not hub.calls()
    hub.kill()
    answer = cache.get(target)
    assert answer.body == whole and answer["Link"] is None


@pytest.mark.parametrize("how", ["stop", "kill", "rebuild"])
def test_A06_it_is_known_after_a_restart(hub, cache, how):
    hub.options.page_size = 7
    commit = commit_of(hub).id
    target = f"{PUB_API}/tree/{commit}?recursive=true"
    entries = learn(cache)
    cache.until_durable(hub)
    hub.kill()
    if how == "rebuild":
        assert cache.stop() == 0
        for path in cache.store.glob("index.db*"):
            path.unlink()
        cache.start()
    else:
        cache.restart(kill=how == "kill")
    answer = cache.get(target)
    assert answer.status == 200 and answer.json() == entries and answer["Link"] is None, answer
    assert [e["path"] for e in cache.get(f"{PUB_API}/tree/{commit}/sub").json()] == ["sub/dir", "sub/top.txt"]
    missing = cache.get(f"/acme/pub/resolve/{commit}/nothing.here")
    assert missing.status == 404 and missing["X-Error-Code"] == "EntryNotFound"


def test_A06_a_restart_in_the_middle_of_a_listing(hub, cache):
    hub.options.page_size = 7
    commit = commit_of(hub).id
    first = cache.get(f"{PUB_API}/tree/{commit}?recursive=true")
    time.sleep(1.2)
    cache.restart()
    rest, count = pages(cache, re.search("<http://[^/]+([^>]+)>", first["Link"])[1])
    assert count > 1
    hub.kill()
    answer = cache.get(f"{PUB_API}/tree/{commit}?recursive=true")
    assert answer.json() == first.json() + rest and answer["Link"] is None


def test_A06_pages_in_any_order(hub, cache):
    hub.options.page_size = 5
    commit = commit_of(hub).id
    targets, target = [], f"{PUB_API}/tree/{commit}?recursive=true"
    entries, _ = upstream_pages(hub, target)
    while target:
        targets.append(target)
        link = ask(hub.url + target)["Link"]
        target = re.search("<http://[^/]+([^>]+)>", link)[1] if link else None
    assert len(targets) > 3
    for target in [targets[-1], targets[0]] + targets[-2:0:-1]:
        assert cache.get(target).status == 200
    hub.reset_counters()
    answer = cache.get(targets[0])
    assert answer.json() == entries and answer["Link"] is None and not hub.calls()


def test_A06_a_page_that_is_missing_is_not_made_up(hub, cache):
    hub.options.page_size = 5
    commit = commit_of(hub).id
    first = cache.get(f"{PUB_API}/tree/{commit}?recursive=true")
    second = cache.get(re.search("<http://[^/]+([^>]+)>", first["Link"])[1])
    third = re.search("<http://[^/]+([^>]+)>", second["Link"])[1]
    hub.kill()
    assert len(cache.get(f"{PUB_API}/tree/{commit}?recursive=true").json()) == 5
    assert_ignorance(cache.get(third))
    assert_ignorance(cache.get(f"{PUB_API}/tree/{commit}/sub"))
    assert_ignorance(cache.get(f"{PUB_API}/tree/{commit}/no/such/folder"))


def test_A06_expanded_pages_are_not_mixed_in(hub, cache):
    hub.options.expand_page_size = 7
    commit = commit_of(hub).id
    expanded, count = pages(cache, f"{PUB_API}/tree/{commit}?recursive=true&expand=true")
    assert count > 2 and all("lastCommit" in e for e in expanded)
    answer = cache.get(f"{PUB_API}/tree/{commit}?recursive=true")
    assert not any("lastCommit" in e for e in answer.json())
    hub.kill()
    again, _ = pages(cache, f"{PUB_API}/tree/{commit}?recursive=true&expand=true")
    assert again == expanded, "expanded listings are given as they came"


# --- cursors and limits ---

def test_A06_limits_and_cursors_walk_through_all(hub, cache):
    commit = commit_of(hub).id
    entries = learn(cache)
    hub.kill()
    for limit in (1, 3, 5, 1000):
        got, count = pages(cache, f"{PUB_API}/tree/{commit}?recursive=true&limit={limit}")
        assert got == entries and count == -(-len(entries) // limit)
    folder, count = pages(cache, f"{PUB_API}/tree/{commit}/odd?limit=3")
    assert count == 4 and folder == [e for e in entries if e["path"].startswith("odd/")]


def test_A06_our_cursor_is_the_hubs(hub, cache):
    """A client that was given a page of ours may follow it to the Hub itself."""
    commit = commit_of(hub).id
    learn(cache)
    link = cache.get(f"{PUB_API}/tree/{commit}?recursive=true&limit=4")["Link"]
    target = re.fullmatch(r'<http://127\.0\.0\.1:\d+([^>]+)>; rel="next"', link)[1]
    assert ask(hub.url + target).json() == ask(hub.url + f"{PUB_API}/tree/{commit}?recursive=true").json()[4:8]
    inner, _, limit = base64.b64decode(re.search("cursor=([^&]+)", target)[1].replace("%3D", "=")).decode().rpartition(":")
    assert limit == "4" and "file_name" in json.loads(base64.b64decode(inner))


def test_A06_the_loop_of_text_generation_webui(hub, cache):
    entries = learn(cache)
    hub.kill()
    got, cursor = [], ""
    for _ in range(20):
        page = cache.get(f"{PUB_API}/tree/main?recursive=true{cursor}").json()
        if not page:
            break
        got += page
        cursor = "&cursor=" + forged_cursor(page[-1]["path"])
    assert not page and got == entries


@pytest.mark.parametrize("cursor", ["nonsense", "%3D%3D", base64.b64encode(b"{}:50").decode(), forged_cursor("no/such/file"), ""])
def test_A06_what_is_no_cursor_of_ours_is_the_hubs_to_answer(hub, cache, cursor):
    learn(cache)
    target = f"{PUB_API}/tree/{commit_of(hub).id}?recursive=true&cursor={cursor}"
    upstream, answer = ask(hub.url + target), cache.get(target)
    assert answer.status == upstream.status
    assert answer.body == plain(upstream.body)


@pytest.mark.parametrize("query", ["recursive=true&x=1", "recursive=maybe", "recursive=true&limit=0", "recursive=true&limit=x", "expand=lastCommit"])
def test_A16_a_question_that_is_not_understood_goes_upstream(hub, cache, query):
    learn(cache)
    hub.reset_counters()
    target = f"{PUB_API}/tree/{commit_of(hub).id}?{query}"
    answer = cache.get(target)
    assert [c["target"] for c in hub.calls("hub")] == [target]
    assert answer.status == ask(hub.url + target).status


# --- what a question is ---

@pytest.mark.parametrize("query", ["recursive=false&recursive=true", "recursive=true&recursive=false", "recursive=true&recursive=true",
                                   "expand=false&expand=true", "recursive=true&limit=5&limit=7", "x=1&cursor=a&cursor=b"])
def test_N04_a_parameter_that_comes_twice(hub, cache, query):
    """The Hub takes one of the two: which one must not decide what others get."""
    commit = commit_of(hub).id
    answer = cache.get(f"{PUB_API}/tree/{commit}?{query}")
    assert answer.status == 400 and "twice" in answer["X-Error-Message"], answer
    assert not hub.calls()
    assert len(learn(cache, revision=commit)) > len(cache.get(f"{PUB_API}/tree/{commit}").json())
    assert cache.get(f"{PUB_API}/tree/{commit}?{query}").status == 400   # known or not


def test_N04_one_answer_is_asked_for_by_its_name(hub, cache):
    commit = commit_of(hub).id
    assert cache.get(f"{PUB_API}/tree/{commit}?recursive=1&limit=3&expand=False").status == 200
    assert [c["target"] for c in hub.calls("hub")] == [f"{PUB_API}/tree/{commit}?limit=3&recursive=true"]


UNKNOWN = [("GET", "/tree/{}?recursive=true&x{}=1", b""), ("GET", "/tree/{}?recursive=y{}", b""), ("GET", "/revision/{}?x{}=1", b""),
           ("GET", "/treesize/{}?x{}=1", b""), ("GET", "/commits/{}?x{}=1", b""), ("POST", "/paths-info/{}?x{}=1", b"paths=model.safetensors"),
           ("GET", "/refs?x={1}{0}", b""), ("GET", "?x{1}={0}", b"")]


@pytest.mark.parametrize("method,form,body", UNKNOWN)
def test_Z09_made_up_parameters_leave_nothing_behind(hub, cache, method, form, body):
    commit = commit_of(hub).id
    headers = [("Content-Type", FORM)] if body else []

    def numbers():
        return cache.ask(method, PUB_API + form.format(commit, 0), headers=headers, body=body or None)

    first = numbers()
    for n in range(1, 30):
        target = PUB_API + form.format(commit, n)
        hub.reset_counters()
        answer = cache.ask(method, target, headers=headers, body=body or None)
        assert answer.status == first.status and answer.body == first.body, answer
        assert b"xetHash" not in answer.body and b'"xetEnabled":true' not in answer.body
        assert target in [c["target"] for c in hub.calls("hub")]
    cache.stop()
    assert not cache.blobs()
    for path in cache.files():
        assert path.stat().st_size > 1 << 20 or not re.search(rb"[?&](x\d*|recursive)=(y?\d)", path.read_bytes()), path


@pytest.mark.parametrize("method,form,body", UNKNOWN)
def test_P8_made_up_parameters_without_upstream(hub, cache, method, form, body):
    commit = commit_of(hub).id
    headers = [("Content-Type", FORM)] if body else []
    learn(cache)
    assert cache.ask(method, PUB_API + form.format(commit, 1), headers=headers, body=body or None).status == 200
    hub.kill()
    assert_ignorance(cache.ask(method, PUB_API + form.format(commit, 1), headers=headers, body=body or None))


def test_S05_what_is_not_kept_is_behind_the_same_door(hub, cache, people):
    target = "/api/models/acme/private?x=1"
    assert cache.get(target, people.alice).status == 200
    assert cache.get(target).status == 401 and cache.get(target, people.bob).status in (401, 403, 404)


# --- folders ---

@pytest.mark.parametrize("path", ["", "/sub", "/sub%2Fdir", "/sub/dir", "/odd"])
@pytest.mark.parametrize("recursive", ["", "?recursive=true"])
def test_C04_folders_of_a_known_tree(hub, cache, path, recursive):
    commit = commit_of(hub).id
    hub.options.page_size = 7
    learn(cache)
    hub.options.page_size = 1000
    want = plain(ask(hub.url + f"{PUB_API}/tree/{commit}{path}{recursive}").body)
    hub.reset_counters()
    for revision in (commit, "main"):
        answer = cache.get(f"{PUB_API}/tree/{revision}{path}{recursive}")
        assert answer.status == 200 and answer.body == want and answer["Link"] is None and hit(answer)
        assert answer["X-Repo-Commit"] == commit
    assert not hub.calls()
    hub.kill()
    assert cache.get(f"{PUB_API}/tree/main{path}{recursive}").body == want


@pytest.mark.parametrize("path", ["nothing", "sub/none", "config.json", "sub/top.txt", "SUB"])
def test_E02_a_folder_that_is_not_there(hub, cache, path):
    commit = commit_of(hub).id
    learn(cache)
    upstream = ask(hub.url + f"{PUB_API}/tree/{commit}/{path}")
    hub.reset_counters()
    for _ in range(2):
        answer = cache.get(f"{PUB_API}/tree/main/{path}")
        assert answer.status == upstream.status == 404 and answer["X-Error-Code"] == upstream["X-Error-Code"] == "EntryNotFound"
        assert answer["X-Repo-Commit"] == commit and answer["X-Error-Message"]
    assert not hub.calls()
    hub.kill()
    assert cache.get(f"{PUB_API}/tree/{commit}/{path}").status == 404


def test_E01_a_missing_file_is_asked_once(hub, cache):
    target = at_commit(hub, "config.json").replace("config.json", "none.json")
    first = cache.head(target)
    hub.reset_counters()
    again = cache.head(target)
    for answer in (first, again):
        assert answer.status == 404 and answer["X-Error-Code"] == "EntryNotFound" and answer["X-Repo-Commit"] == commit_of(hub).id
    assert not hub.calls()


# --- paths-info ---

QUESTIONS = [(FORM, "paths=config.json&paths=model.safetensors&expand=false"), (FORM, "expand=False&paths=model.safetensors&paths=config.json"),
             (FORM, "paths=config.json&paths=config.json"), (FORM, "paths=nothing&paths=sub&paths=sub%2Fdir%2Fone.txt"), (FORM, "paths=nothing"),
             (FORM, "paths=odd%2Fwith+space.txt&paths=odd%2Fplus%2Bsign.txt&paths=odd%2Fgr%C3%BC%C3%9Fe-%E4%B8%96%E7%95%8C.txt"),
             (FORM, "paths=odd%2Fa%26b%3Dc.txt&paths=odd%2Fper%25cent.txt&paths=odd/encoded%2520space.txt"),
             (JSON, '{"paths":["config.json","model.safetensors"],"expand":false}'), (JSON, '{"expand":false,"paths":["sub","nothing","sub/dir"]}'),
             (JSON, '{"paths":["odd/[x].txt","odd/question?.txt","odd/gr\\u00fc\\u00dfe-\\u4e16\\u754c.txt"]}'), (JSON, '{"paths":[]}')]


@pytest.mark.parametrize("kind,body", QUESTIONS)
def test_A03_paths_of_a_known_tree_cost_nothing(hub, cache, kind, body):
    hub.options.page_size = 7
    learn(cache)
    commit = commit_of(hub).id
    target = f"{PUB_API}/paths-info/{commit}"
    want = plain(ask(hub.url + target, "POST", body.encode(), **{k.replace("-", "_"): v for k, v in kind}).body)
    hub.reset_counters()
    for revision in (commit, "main"):
        answer = cache.ask("POST", f"{PUB_API}/paths-info/{revision}", headers=kind, body=body.encode())
        assert answer.status == 200 and answer.body == want and hit(answer), answer
    assert not hub.calls()
    hub.kill()
    assert cache.ask("POST", target, headers=kind, body=body.encode()).body == want


@pytest.mark.parametrize("kind,body", [
    (FORM, "paths=config.json&expand=true"), (FORM, "paths=config.json&expand=True"), (JSON, '{"paths":["config.json"],"expand":true}')])
def test_A03_expanded_paths_come_from_upstream_once(hub, cache, kind, body):
    learn(cache)
    target = f"{PUB_API}/paths-info/{commit_of(hub).id}"
    hub.reset_counters()
    first = cache.ask("POST", target, headers=kind, body=body.encode())
    assert first.json()[0]["lastCommit"]["id"] and len(hub.calls("hub", "paths-info")) == 1
    hub.kill()
    assert cache.ask("POST", target, headers=kind, body=body.encode()).body == first.body


@pytest.mark.parametrize("kind,body", [
    (FORM, "paths=/config.json"), (FORM, "paths=sub/"), (FORM, "paths=a//b"), (FORM, "what=config.json&paths=config.json"),
    (JSON, '{"paths":"config.json"}'), (JSON, '{"paths":["config.json"],"more":1}'), (JSON, '{"paths":[1]}'), (JSON, '{"paths":'), (JSON, "")])
def test_A16_paths_in_odd_forms_go_upstream(hub, cache, kind, body):
    learn(cache)
    hub.reset_counters()
    cache.ask("POST", f"{PUB_API}/paths-info/{commit_of(hub).id}", headers=kind, body=body.encode())
    assert len(hub.calls("hub", "paths-info")) == 1


# --- large ones ---

@pytest.mark.slow
@pytest.mark.seconds(300)
def test_A05_A07_a_large_tree(hub, cache):
    add_many(hub.content)
    commit = commit_of(hub, "acme/many").id
    target = f"/api/models/acme/many/tree/{commit}?recursive=true"
    entries, count = pages(cache, target)
    assert count == 3 or len(entries) < 2000
    _, first = upstream_pages(hub, target)
    hub.kill()
    answer = cache.get(target)
    assert answer.json() == entries and answer["Link"] is None and len(answer.json()) >= len(json.loads(first))
    walked, count = pages(cache, target + "&limit=1000")
    assert walked == entries and count == 3
    part = cache.get(f"/api/models/acme/many/tree/{commit}/part-07").json()
    assert part == [e for e in entries if e["path"].startswith("part-07/")] and len(part) == 100
    body = "&".join(f"paths={quote(e['path'], safe='')}" for e in entries[100:1000:3])
    answer = cache.ask("POST", f"/api/models/acme/many/paths-info/{commit}", headers=FORM, body=body.encode())
    assert answer.json() == entries[100:1000:3]


def test_A07_a_folder_of_more_than_a_page(hub, cache):
    repo = hub.content.add_repo("model", "acme/flat")
    repo.commit({f"data/{i:04}.txt": b"x" for i in range(1200)} | {"a.txt": b"a"})
    entries = learn(cache, "acme/flat")
    target = f"/api/models/acme/flat/tree/{repo.head.id}/data"
    upstream = ask(hub.url + target).json()
    hub.kill()
    first = cache.get(target)
    assert first.json() == upstream and len(upstream) == 1000 and first["Link"]
    got, count = pages(cache, target)
    assert count == 2 and got == [e for e in entries if e["path"].startswith("data/")]


# --- who may see it ---

def test_P4_a_known_tree_is_not_for_everybody(hub, cache, people):
    commit = commit_of(hub, "acme/private").id
    base = "/api/models/acme/private"
    assert cache.get(f"{base}/tree/{commit}?recursive=true", people.alice).status == 200
    for token in (None, people.bob, people.nobody):
        for answer in (cache.get(f"{base}/tree/{commit}?recursive=true", token), cache.get(f"{base}/tree/{commit}", token),
                       cache.get(f"{base}/tree/{commit}/none", token), cache.get(f"{base}/commits/{commit}", token),
                       cache.ask("POST", f"{base}/paths-info/{commit}", token, headers=FORM, body=b"paths=config.json")):
            assert answer.status in (401, 404) and answer["X-Error-Code"] != "EntryNotFound" and b"config" not in answer.body, answer
    hub.kill()
    cache.until_known_down()
    assert cache.get(f"{base}/tree/{commit}?recursive=true", people.alice).status == 200
    for token in (None, people.bob):
        assert cache.get(f"{base}/tree/{commit}?recursive=true", token).status >= 400


def test_P4_the_history_of_a_gated_repo(hub, cache, people):
    """Its metadata is open, its history is not (hub-protocol 4.2)."""
    target = "/api/models/acme/gated/commits/main"
    assert cache.get(target, people.alice).status == 200
    assert cache.get("/api/models/acme/gated/tree/main?recursive=true", people.bob).status == 200
    for token in (people.bob, None):
        upstream = ask(hub.url + target, **({"Authorization": f"Bearer {token}"} if token else {}))
        answer = cache.get(target, token)
        assert answer.status == upstream.status and answer["X-Error-Code"] == "GatedRepo"
    hub.reset_counters()
    assert cache.get(target, people.alice).status == 200 and not hub.calls()
    hub.kill()
    cache.until_known_down()
    assert cache.get(target, people.alice).status == 200
    assert cache.get(target, people.bob).status >= 400 and cache.get(target).status >= 400


# --- history, sizes, parquet, croissant ---

def test_A01_history(hub, cache):
    commit = commit_of(hub).id
    target = f"{PUB_API}/commits/{commit}"
    upstream = ask(hub.url + target)
    first = cache.get(target)
    assert first.body == upstream.body and first["X-Total-Count"] == upstream["X-Total-Count"]
    assert first["Content-Type"] == upstream["Content-Type"]
    assert cache.get(f"{PUB_API}/commits/main").body == first.body
    hub.reset_counters()
    for revision in (commit, "main"):
        answer = cache.get(f"{PUB_API}/commits/{revision}")
        assert hit(answer) and answer.body == first.body and answer["X-Total-Count"] == first["X-Total-Count"]
    assert not hub.calls()
    hub.kill()
    time.sleep(1.2)
    cache.restart()
    answer = cache.get(f"{PUB_API}/commits/main")
    assert answer.body == first.body and answer["X-Total-Count"] == first["X-Total-Count"]


def test_A04_pages_of_history(hub, cache):
    for i in range(4):
        hub.content.repo(PUB).commit({"n.txt": str(i)})
    got, count = pages(cache, f"{PUB_API}/commits/main?limit=2")
    assert count == 3 and [c["id"] for c in got] == [c.id for c in commit_of(hub).history()]
    hub.kill()
    assert pages(cache, f"{PUB_API}/commits/main?limit=2")[0] == got


def test_A20_treesize(hub, cache):
    for path in ("", "/sub"):
        want = ask(hub.url + f"{PUB_API}/treesize/main{path}").json()
        for _ in range(2):
            assert cache.get(f"{PUB_API}/treesize/main{path}").json() == want
    assert cache.get(f"{PUB_API}/treesize/main/none").status == 404
    hub.kill()
    assert cache.get(f"{PUB_API}/treesize/main").status == 200
    assert cache.get(f"{PUB_API}/treesize/{commit_of(hub).id}/sub").json() == want


def test_A20_what_a_shell_greps(hub, cache):
    """No blanks behind colons, type before size before path, on pages of ours too."""
    learn(cache)
    text = cache.get(f"{PUB_API}/tree/main?recursive=true&limit=9").text
    text = re.sub(r'"lfs":\{[^}]*\},?', "", text)
    found = re.findall(r'"type":"([a-z]+)"[^{}]*"size":(\d+)[^{}]*"path":"([^"]*)"', text)
    assert len(found) == 9
    info = cache.get(f"{PUB_API}/revision/main?blobs=true").text
    assert set(re.findall(r'"rfilename":"([^"]*)"', info)) == set(commit_of(hub).files)


@pytest.mark.parametrize("host", ["hub.example:8090", True])
def test_A11_parquet_points_to_where_the_client_came(hub, cache, host):
    target = "/api/datasets/acme/table/parquet"
    upstream = ask(hub.url + target)
    base = f"http://127.0.0.1:{cache.port}" if host is True else f"http://{host}"
    for _ in range(2):
        answer = cache.get(target, host=host)
        assert answer.status == 200 and answer.text == upstream.body.decode().replace(hub.url, base)
    urls = answer.json()["default"]["train"]
    assert urls and all(u.startswith(base + "/datasets/acme/table/resolve/refs%2Fconvert%2Fparquet/") for u in urls)
    data = bytes_of(hub, "default/train/0000.parquet", "acme/table", "refs/convert/parquet", "dataset")
    assert cache.get(urls[0].removeprefix(base)).body == data
    assert len(hub.calls("hub", "/parquet$")) <= 2
    hub.kill()
    other = cache.get(target, host="third.example")
    assert other.json()["default"]["train"][0].startswith("http://third.example/datasets/")
    assert cache.get(urls[0].removeprefix(base)).body == data


def test_A11_a_part_of_the_parquet_listing(hub, cache):
    for part in ("/default", "/default/train"):
        want = ask(hub.url + "/api/datasets/acme/table/parquet" + part).body.decode().replace(hub.url, cache.url.rstrip("/"))
        assert cache.get("/api/datasets/acme/table/parquet" + part).text == want
    assert cache.get("/api/datasets/acme/table/parquet/none").status == 404


def test_A19_croissant_is_left_alone(hub, cache):
    text = '{"@type":"sc:Dataset","url":"https://huggingface.co/datasets/acme/table","name":"table","xetEnabled":true}'
    hub.rule(path="/api/datasets/acme/table/croissant", body=text.encode(), headers={"Content-Type": "application/ld+json; charset=utf-8"}, times=1)
    first = cache.get("/api/datasets/acme/table/croissant")
    assert first.status == 200 and first["Content-Type"].startswith("application/ld+json"), first
    assert first.json()["url"] == "https://huggingface.co/datasets/acme/table"
    hub.kill()
    assert cache.get("/api/datasets/acme/table/croissant").body == first.body


def test_A16_lists_are_not_kept(hub, cache):
    assert cache.get("/api/models?search=pub").status == 200
    hub.kill()
    assert_ignorance(cache.get("/api/models?search=pub"))


# --- names ---

def test_C03_refs_cost_nothing_within_their_time(hub, start):
    cache = start(hub_revision_ttl="30s")
    refs = cache.get(f"{PUB_API}/refs")
    assert refs.status == 200
    hub.reset_counters()
    assert cache.get(f"{PUB_API}/refs").body == refs.body
    for revision in ("main", "v1", "dev"):   # what the listing told is believed as well
        assert cache.get(f"{PUB_API}/tree/{revision}").status == 200
    assert not hub.calls("hub", "/refs|/revision/")


def test_A01_a_commit_of_a_branch_that_was_asked(hub, cache):
    main = cache.get(f"{PUB_API}/revision/main?blobs=true")
    commit = main.json()["sha"]
    hub.reset_counters()
    assert cache.get(f"{PUB_API}/revision/{commit}?blobs=true").body == main.body and not hub.calls()
    hub.kill()
    assert cache.get(f"{PUB_API}/revision/{commit}?blobs=true").body == main.body


def test_A01_a_branch_of_a_commit_that_was_asked(hub, cache):
    commit = commit_of(hub).id
    info = cache.get(f"{PUB_API}/revision/{commit}")
    assert cache.head("/acme/pub/resolve/main/config.json").status == 200
    hub.kill()
    assert cache.get(f"{PUB_API}/revision/main").body == info.body
    assert cache.get(PUB_API).body == info.body


def test_A01_short_commits(hub, cache):
    commit = commit_of(hub).id
    learn(cache)
    assert cache.get(f"{PUB_API}/revision/{commit[:9]}").json()["sha"] == commit
    hub.kill()
    for _ in range(2):
        assert cache.get(f"{PUB_API}/revision/{commit[:7]}").json()["sha"] == commit
        assert cache.get(f"{PUB_API}/tree/{commit[:8]}?recursive=true").status == 200
        assert cache.get(f"{PUB_API}/tree/{commit[:8]}/sub").status == 200
    assert_ignorance(cache.get(f"{PUB_API}/tree/0000000"))


def test_E08_the_first_request_of_an_outage(hub, start):
    """What main was is known from a file; that upstream is gone turns out with this very request."""
    cache = start(hub_revision_ttl="1s")
    commit = commit_of(hub).id
    assert cache.get(f"{PUB_API}/tree/{commit}?recursive=true").status == 200
    assert cache.head("/acme/pub/resolve/main/config.json").status == 200
    time.sleep(2.1)
    hub.kill()
    answer = cache.get(f"{PUB_API}/tree/main?recursive=true")
    assert answer.status == 200 and answer["X-Repo-Commit"] == commit


@pytest.mark.parametrize("name", ["old/name", "ACME/Pub"])
def test_A08_A09_trees_under_other_names(hub, cache, name):
    base = f"/api/models/{name}"
    entries = learn(cache, name)
    hub.reset_counters()
    assert cache.get(f"{PUB_API}/tree/main?recursive=true").json() == entries
    assert not hub.calls("hub", "/tree/"), "two entries for one tree"
    assert cache.get(f"{base}/refs").status == 200 and cache.get(f"{base}/commits/main").status == 200
    time.sleep(1.2)
    hub.kill()
    cache.restart()
    for repo in (base, PUB_API):
        assert cache.get(f"{repo}/tree/main?recursive=true").json() == entries
        assert cache.get(f"{repo}/tree/main/sub").status == 200
        assert cache.get(f"{repo}/refs").status == 200 and cache.get(f"{repo}/commits/main").status == 200
        assert cache.ask("POST", f"{repo}/paths-info/main", headers=FORM, body=b"paths=config.json").json()[0]["path"] == "config.json"
        assert cache.get(f"{repo}/revision/main").json()["id"] == PUB
        assert cache.get(f"{repo}/tree/main/none")["X-Error-Code"] == "EntryNotFound"


def test_C01_a_branch_in_a_document_and_in_a_file(hub, start):
    cache = start(hub_revision_ttl="1s")
    head = cache.head("/acme/pub/resolve/main/config.json")
    hub.content.repo(PUB).commit({"config.json": '{"new": true}\n'})
    time.sleep(1.2)
    sha = cache.get(f"{PUB_API}/revision/main").json()["sha"]
    assert sha == commit_of(hub).id
    get = cache.get("/acme/pub/resolve/main/config.json")
    assert get["X-Repo-Commit"] == head["X-Repo-Commit"] and get["ETag"] == head["ETag"]
    assert cache.head("/acme/pub/resolve/main/config.json")["X-Repo-Commit"] == sha


def test_C02_a_listing_stays_with_its_commit(hub, start):
    cache = start(hub_revision_ttl="1s", hub_metadata_ttl="1s")
    hub.options.page_size = 5
    old = commit_of(hub).id
    first = cache.get(f"{PUB_API}/tree/main?recursive=true")
    hub.content.repo(PUB).commit({"a-new-file.txt": "new\n"})
    time.sleep(1.2)
    rest, _ = pages(cache, re.search("<http://[^/]+([^>]+)>", first["Link"])[1])
    names = {e["path"] for e in first.json() + rest}
    assert names >= set(hub.content.repo(PUB).find(old).files) and "a-new-file.txt" not in names
    assert "a-new-file.txt" in {e["path"] for e in learn(cache)}
    hub.kill()
    assert {e["path"] for e in cache.get(f"{PUB_API}/tree/{old}?recursive=true").json()} == names


# --- what a write answers ---

def test_S01_addresses_in_the_answer_of_a_commit(hub, cache, people):
    lines = [json.dumps({"key": "header", "value": {"summary": "Add a file", "description": ""}}),
             json.dumps({"key": "file", "value": {"path": "n.txt", "content": base64.b64encode(b"n\n").decode(), "encoding": "base64"}})]
    answer = cache.ask("POST", "/api/models/acme/pub/commit/main", people.writer, body="\n".join(lines).encode(),
                       headers=fields(Content_Type="application/x-ndjson"))
    assert answer.status == 200, answer
    said = answer.json()
    assert said["commitUrl"].startswith(f"http://127.0.0.1:{cache.port}/acme/pub/commit/") and said["commitOid"] == commit_of(hub).id
    assert cache.head("/acme/pub/resolve/main/n.txt").status == 200, "the branch is looked up again"


@pytest.mark.parametrize("status,body,want", [
    (200, '{"url":"%(hub)s/acme/new","name":"acme/new","id":"1"}', '{"url":"%(base)s/acme/new","name":"acme/new","id":"1"}'),
    (409, '{"error":"You already created %(hub)s/x","url":"%(hub)s/acme/new"}', '{"error":"You already created %(hub)s/x","url":"%(base)s/acme/new"}'),
    (200, '{"url":"https://huggingface.co/acme/new"}', '{"url":"%(base)s/acme/new"}'),
    (200, '{"url":"https://huggingface.co.evil.test/x","other":"%(hub)s/y"}', '{"url":"https://huggingface.co.evil.test/x","other":"%(hub)s/y"}'),
    (200, "not json", "not json")])
def test_S01_addresses_in_the_answer_of_a_new_repo(hub, cache, people, status, body, want):
    names = {"hub": hub.url, "base": f"http://127.0.0.1:{cache.port}"}
    hub.rule(path="/api/repos/create", status=status, body=(body % names).encode(), headers={"Content-Type": "application/json; charset=utf-8"})
    answer = cache.ask("POST", "/api/repos/create", people.writer, headers=JSON, body=b'{"name":"new"}')
    assert answer.status == status and answer.text == want % names
