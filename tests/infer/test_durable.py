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


def test_I02_every_kind_of_answer_survives_a_kill(cache, upstream):
    first = [post(cache, *call) for call in CALLS]
    assert [a.status for a in first] == [200] * len(CALLS)
    time.sleep(1)    # a tenth of that is promised
    upstream.kill()
    cache.restart(kill=True)
    for call, before in zip(CALLS, first, strict=True):
        again = post(cache, *call)
        assert again.status == 200 and is_hit(again) and again.body == before.body, call
        assert again["Content-Type"] == before["Content-Type"]
    whole = post(cache, CHAT, chat("stream"))
    assert is_hit(whole) and whole.json()["choices"][0]["message"]["content"]


def test_I02_a_kill_in_the_middle_leaves_nothing_that_is_half(cache, upstream):
    """Killed while answers come in, some of them not durable yet: each is given as it was, or asked for again."""
    def body(n):
        return chat(f"number {n}", stream=n % 2 == 0, max_tokens=6)
    upstream.rule(path=CHAT, pause=0.01)
    bodies, at = {}, 0
    for turn in range(3):
        begun = time.monotonic()
        while time.monotonic() - begun < 0.7:
            answer = post(cache, CHAT, body(at))
            assert answer.status == 200
            bodies[at] = answer.body
            at += 1
        cache.restart(kill=True)
    held = 0
    for n, before in bodies.items():
        again = only_kept(cache, CHAT, body(n))
        assert again.status in (200, 504)
        if again.status == 200:
            held += 1
            assert again.body == before and (n % 2 or events_of(again)[-1] == b"data: [DONE]\n\n")
    assert held >= len(bodies) * 0.6, f"{held} of {len(bodies)}"
    asked = post(cache, CHAT, body(at - 1))
    assert asked.status == 200 and wait_for(lambda: is_hit(post(cache, CHAT, body(at - 1))))
