# SPDX-License-Identifier: Apache-2.0
"""What stays of answers when the daemon is killed: each one that was there long enough to be durable, whole, and nothing else."""
import time

from asking import CHAT, CLASSIFY, EMBEDDING, EMBEDDINGS, GENERATE, PICTURE, chat, events_of, is_hit, post
from harness import wait_for

CALLS = [(CLASSIFY, {"inputs": "kept"}), (CHAT, chat("whole")), (CHAT, chat("stream", stream=True)),
         (GENERATE, {"inputs": "tokens", "stream": True}), (EMBEDDINGS, {"model": EMBEDDING, "input": "vector"}),
         (f"/hf-inference/models/{PICTURE}/pipeline/text-to-image", {"inputs": "picture", "parameters": {"seed": 1}})]


def only_kept(cache, path, body):
    return post(cache, path, body, headers=[("Cache-Control", "only-if-cached")])


def until_durable(cache, hub, calls):
    """An answer is kept a moment after its last byte has gone out."""
    for call in calls:
        wait_for(lambda: only_kept(cache, *call).status == 200)
    cache.until_durable(hub)


def test_I02_every_kind_of_answer_survives_a_kill(cache, upstream, hub):
    first = [post(cache, *call) for call in CALLS]
    assert [a.status for a in first] == [200] * len(CALLS)
    until_durable(cache, hub, CALLS)
    upstream.kill()
    cache.restart(kill=True)
    for call, before in zip(CALLS, first, strict=True):
        again = post(cache, *call)
        assert again.status == 200 and is_hit(again) and again.body == before.body, call
        assert again["Content-Type"] == before["Content-Type"]
    whole = post(cache, CHAT, chat("stream"))
    assert is_hit(whole) and whole.json()["choices"][0]["message"]["content"]


def test_I02_a_kill_in_the_middle_leaves_nothing_that_is_half(cache, upstream, hub):
    """Killed while answers come in, some of them not durable yet: each is given as it was, or asked for again."""
    def body(n):
        return chat(f"number {n}", stream=n % 2 == 0, max_tokens=6)
    upstream.rule(path=CHAT, pause=0.01)
    bodies, durable = {}, set()

    def ask_for_a_while():
        begun, at = time.monotonic(), len(bodies)
        while time.monotonic() - begun < 0.35:
            answer = post(cache, CHAT, body(len(bodies)))
            assert answer.status == 200
            bodies[len(bodies)] = answer.body
        return range(at, len(bodies))
    for turn in range(3):
        asked = ask_for_a_while()
        until_durable(cache, hub, [(CHAT, body(n)) for n in asked])
        durable.update(asked)
        ask_for_a_while()
        cache.restart(kill=True)
    for n, before in bodies.items():
        again = only_kept(cache, CHAT, body(n))
        assert again.status == 200 or again.status == 504 and n not in durable, n
        if again.status == 200:
            assert again.body == before and (n % 2 or events_of(again)[-1] == b"data: [DONE]\n\n")
    at = len(bodies)
    asked = post(cache, CHAT, body(at - 1))
    assert asked.status == 200 and wait_for(lambda: is_hit(post(cache, CHAT, body(at - 1))))
