# SPDX-License-Identifier: Apache-2.0
"""Kept answers as the command hfcache sees them: one line, counted, and gone when they are removed."""
from asking import CLASSIFY, LOVE, post
from harness import wait_for
from test_tool import Tool


def test_kept_answers_are_one_line_and_can_be_removed(hub, upstream, cache):
    tool = Tool(cache)
    for text in ("I love Hugging Face!", "I do not.", "I love Hugging Face!"):
        assert post(cache, CLASSIFY, {"inputs": text}).status == 200
    calls = len(upstream.calls())
    kept = wait_for(lambda: tool.ls("--kind", "inference").get("inference"), why="the answers are kept")
    assert kept["files"] == 2 and kept["bytes"] > 0 and kept["visibility"] == "protected" and kept["name"] == ""
    assert [g["files"] for g in tool.json("du")["groups"] if g["group"] == "inference"] == [2]
    [result] = tool.json("rm", "-y", "inference")
    assert result["id"] == "inference" and result["files"] == 2 and result["freed_bytes"] == kept["bytes"]
    assert "inference" not in tool.ls()
    assert post(cache, CLASSIFY, LOVE).status == 200
    assert len(upstream.calls()) == calls + 1, "it is asked for again"
