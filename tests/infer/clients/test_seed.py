# SPDX-License-Identifier: Apache-2.0
""""I love Hugging Face!" with every client: from the router, then from what is kept while nobody can be asked, then after a restart."""
import json

import pytest

from asking import CLASSIFY, LOVE, SENTIMENT

TEXT = LOVE["inputs"]


def check(found):
    """[{label, score}, ...] as any client gives it."""
    assert [one["label"] for one in found] == ["POSITIVE", "NEGATIVE"], found
    assert 0.5 < found[0]["score"] <= 1 and abs(found[0]["score"] + found[1]["score"] - 1) < 1e-6


def in_python(cache):
    how = {"url": cache.url + CLASSIFY, "name": "text_classification", "arguments": {"text": TEXT}}
    return [("task", how), ("task", how | {"is_async": True})]


def in_javascript(cache, versions, token=None):
    """Generation 3 asks huggingface.co for a model of its own unless one is named."""
    return [("task", {"version": version, "url": cache.url + CLASSIFY, "name": "textClassification", "token": token,
                      "args": {"inputs": TEXT} | ({"model": SENTIMENT} if version == 3 else {})}) for version in versions]


def through(ages, upstream, ask):
    """ask(): what the clients of one process found, in each age."""
    first = None
    for age in ages():
        results = ask()
        for found in results:
            check(found)
        first = first or results[0]
        assert all(found == first for found in results), age
        if age == "live":
            assert [c.model for c in upstream.calls()] == [SENTIMENT]


@pytest.mark.parametrize("client", ["hub2", "hub1", "hub0"])
def test_I01_I02_python_live_kept_and_after_a_restart(python, ages, cache, upstream, client):
    through(ages, upstream, lambda: python(client, in_python(cache)))


@pytest.mark.parametrize("has_token", [True, False])
def test_I01_I02_javascript_live_kept_and_after_a_restart(node, ages, cache, upstream, people, has_token):
    """Generation 3 sends "Bearer" and nothing behind it when it has no token."""
    through(ages, upstream, lambda: node(in_javascript(cache, (4, 3, 2), people.alice if has_token else None)))


def test_I01_I02_curl_live_kept_and_after_a_restart(curl, ages, cache, upstream, folder):
    first = None
    for age in ages():
        head = folder / "head"
        body = curl("-D", str(head), "-H", "Content-Type: application/json", "-d", json.dumps(LOVE), cache.url + CLASSIFY).stdout
        check(json.loads(body)[0])
        first = first or body
        assert body == first, age
        fields = dict(line.lower().split(": ", 1) for line in head.read_text().splitlines() if ": " in line)
        if age == "live":
            assert len(upstream.calls()) == 1 and "hit" not in fields["cache-status"]
        else:
            assert fields["x-compute-type"] == "cache" and int(fields["age"]) >= 0 and "; hit" in fields["cache-status"]


def test_one_answer_for_all_clients(python, node, curl, cache, upstream):
    """Whatever each puts into its body besides."""
    found = [*python("hub2", in_python(cache)), *python("hub0", in_python(cache)), *node(in_javascript(cache, (4, 2)))]
    found.append(json.loads(curl("-H", "Content-Type: application/json", "-d", json.dumps(LOVE), cache.url + CLASSIFY).stdout)[0])
    assert all(one == found[0] for one in found) and len(upstream.calls()) == 1
