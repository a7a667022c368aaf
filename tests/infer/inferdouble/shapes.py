# SPDX-License-Identifier: Apache-2.0
"""Generated text in the shapes of each dialect: chat, completions, responses and messages, TGI's own; whole and as events.

A Text is what was generated; the functions whole_* and events_* dress it.
"""
import json
import time

from . import models
from .app import Refusal, new_id

# What has no influence on what is generated.
NO_EFFECT = {"stream", "stream_options", "user", "metadata", "safety_identifier", "prompt_cache_key", "service_tier", "store", "max_tokens",
             "max_completion_tokens", "max_output_tokens", "n"}
NATURAL = 12    # tokens, where nobody asks for fewer


class Text:
    """tokens, finish ("stop", "length", "tool_calls"), prompt tokens, tool (name, arguments) or None, reasoning tokens."""

    def __init__(self, tokens, finish, prompt, tool=None, reasoning=()):
        self.tokens, self.finish, self.prompt, self.tool, self.reasoning = tokens, finish, prompt, tool, list(reasoning)

    @property
    def text(self):
        return "".join(self.tokens)


def bytes_of(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def data(value):
    return b"data: " + bytes_of(value) + b"\n\n"


def named(event, value):
    return f"event: {event}\n".encode() + data(value)


def words_in(value):
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, dict):
        return sum(words_in(v) for v in value.values())
    return sum(words_in(v) for v in value) if isinstance(value, list) else 0


def split_like_tokens(text):
    out = []
    for word in text.split(" "):
        out.append((" " if out else "") + word)
    return out


def generate(body, actions, index=0, prompt=None, limit=None):
    """The Text of one choice that a body asks for."""
    prompt = body.get("messages", body.get("prompt", body.get("input", body.get("inputs")))) if prompt is None else prompt
    if limit is None:
        limit = next((body[k] for k in ("max_completion_tokens", "max_tokens", "max_output_tokens") if body.get(k) is not None), None)
    natural = actions.get("tokens", NATURAL)
    seed = [{k: v for k, v in body.items() if k not in NO_EFFECT and v is not None}, index, models.salt(body)]
    count = natural if limit is None or actions.get("tokens") else min(natural, limit)
    if tool := tool_asked(body, seed):
        return Text([], "tool_calls", words_in(prompt), tool)
    if actions.get("text") is not None:
        tokens = split_like_tokens(actions["text"])
    elif (body.get("response_format") or {}).get("type") in ("json_object", "json_schema", "json"):
        tokens = split_like_tokens(json.dumps({"answer": "".join(models.tokens_of(seed, 3))}, ensure_ascii=False))
    else:
        tokens = models.tokens_of(seed, count)
    finish = "length" if limit is not None and limit <= len(tokens) and count < natural else "stop"
    stops = body.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        if stop and (at := "".join(tokens).find(stop)) >= 0:
            tokens, finish = split_like_tokens("".join(tokens)[:at]), "stop"
    reasoning = models.tokens_of([seed, "reasoning"], 4) if body.get("reasoning_effort") not in (None, "none") else []
    return Text(tokens, finish, words_in(prompt), None, reasoning)


def tool_asked(body, seed):
    """(name, arguments as JSON text) when the body offers tools and does not forbid them."""
    tools = [t.get("function", t) for t in body.get("tools") or [] if isinstance(t, dict)]
    choice = body.get("tool_choice")
    if not tools or choice in ("none", {"type": "none"}):
        return None
    if isinstance(choice, dict):
        name = (choice.get("function") or choice).get("name")
        tools = [t for t in tools if t.get("name") == name] or tools
    schema = tools[0].get("parameters") or tools[0].get("input_schema") or {}
    words = iter(models.tokens_of([seed, "tool"], 32))
    values = {name: 7 if kind.get("type") in ("integer", "number") else next(words).strip()
              for name, kind in (schema.get("properties") or {}).items()}
    return tools[0].get("name", "tool"), json.dumps(values, ensure_ascii=False)


def usage(texts):
    prompt, done = texts[0].prompt, sum(len(t.tokens) + len(t.reasoning) + (5 if t.tool else 0) for t in texts)
    return {"prompt_tokens": prompt, "completion_tokens": done, "total_tokens": prompt + done}


# --- chat and completions ------------------------------------------------------------------------------------------------

def logprobs_of(tokens):
    return {"content": [{"token": t, "logprob": -0.25, "bytes": list(t.encode()), "top_logprobs": []} for t in tokens]}


def message_of(text):
    message = {"role": "assistant", "content": None if text.tool else text.text}
    if text.reasoning:
        message["reasoning_content"] = "".join(text.reasoning)
    if text.tool:
        function = {"name": text.tool[0], "arguments": text.tool[1]}
        message["tool_calls"] = [{"id": new_id("call_"), "type": "function", "function": function}]
    return message


def whole_chat(model, body, texts):
    choices = []
    for index, text in enumerate(texts):
        logprobs = logprobs_of(text.tokens) if body.get("logprobs") else None
        choices.append({"index": index, "message": message_of(text), "logprobs": logprobs, "finish_reason": text.finish})
    return {"id": new_id("chatcmpl-"), "object": "chat.completion", "created": int(time.time()), "model": model,
            "system_fingerprint": "fp_double", "choices": choices, "usage": usage(texts)}


def chat_deltas(text, body):
    """[(delta, logprobs, finish_reason)] of one choice."""
    yield {"role": "assistant", "content": "" if not text.tool else None}, None, None
    for token in text.reasoning:
        yield {"reasoning_content": token}, None, None
    if text.tool:
        name, arguments = text.tool
        yield {"tool_calls": [{"index": 0, "id": new_id("call_"), "type": "function", "function": {"name": name, "arguments": ""}}]}, \
            None, None
        for at in range(0, len(arguments), 5):
            yield {"tool_calls": [{"index": 0, "function": {"arguments": arguments[at:at + 5]}}]}, None, None
    for token in text.tokens:
        yield {"content": token}, logprobs_of([token]) if body.get("logprobs") else None, None
    yield {}, None, text.finish


def events_chat(model, body, texts):
    head = {"id": new_id("chatcmpl-"), "object": "chat.completion.chunk", "created": int(time.time()), "model": model,
            "system_fingerprint": "fp_double"}
    rows = [list(chat_deltas(text, body)) for text in texts]
    for step in range(max(len(row) for row in rows)):
        for index, row in enumerate(rows):
            if step < len(row):
                delta, logprobs, finish = row[step]
                yield data(head | {"choices": [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        yield data(head | {"choices": [], "usage": usage(texts)})
    yield b"data: [DONE]\n\n"


def whole_completion(model, body, texts):
    choices = [{"index": n, "text": (body["prompt"] if body.get("echo") else "") + text.text, "logprobs": None,
                "finish_reason": text.finish} for n, text in enumerate(texts)]
    return {"id": new_id("cmpl-"), "object": "text_completion", "created": int(time.time()), "model": model,
            "system_fingerprint": "fp_double", "choices": choices, "usage": usage(texts)}


def events_completion(model, body, texts):
    head = {"id": new_id("cmpl-"), "object": "text_completion", "created": int(time.time()), "model": model}
    for index, text in enumerate(texts):
        for token in text.tokens:
            yield data(head | {"choices": [{"index": index, "text": token, "logprobs": None, "finish_reason": None}]})
        yield data(head | {"choices": [{"index": index, "text": "", "logprobs": None, "finish_reason": text.finish}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        yield data(head | {"choices": [], "usage": usage(texts)})
    yield b"data: [DONE]\n\n"


# --- responses -----------------------------------------------------------------------------------------------------------

def response_item(text):
    if text.tool:
        return {"type": "function_call", "id": new_id("fc_"), "call_id": new_id("call_"), "name": text.tool[0],
                "arguments": text.tool[1], "status": "completed"}
    part = {"type": "output_text", "text": text.text, "annotations": []}
    return {"type": "message", "id": new_id("msg_"), "role": "assistant", "status": "completed", "content": [part]}


def whole_response(model, body, texts):
    text, count = texts[0], usage(texts)
    incomplete = {"reason": "max_output_tokens"} if text.finish == "length" else None
    return {"id": new_id("resp_"), "object": "response", "created_at": int(time.time()), "model": model, "error": None,
            "status": "incomplete" if incomplete else "completed", "incomplete_details": incomplete, "output": [response_item(text)],
            "instructions": body.get("instructions"), "metadata": body.get("metadata") or {}, "temperature": body.get("temperature"),
            "top_p": body.get("top_p"), "tools": body.get("tools") or [], "tool_choice": body.get("tool_choice") or "auto",
            "parallel_tool_calls": True, "previous_response_id": body.get("previous_response_id"),
            "usage": {"input_tokens": count["prompt_tokens"], "output_tokens": count["completion_tokens"],
                      "total_tokens": count["total_tokens"]}}


def events_response(model, body, texts):
    whole = whole_response(model, body, texts)
    item, numbers = whole["output"][0], iter(range(10**9))
    opened = whole | {"status": "in_progress", "output": [], "usage": None}

    def event(kind, **more):
        return named(kind, {"type": kind, "sequence_number": next(numbers)} | more)
    at = {"item_id": item["id"], "output_index": 0}
    yield event("response.created", response=opened)
    yield event("response.in_progress", response=opened)
    if item["type"] == "function_call":
        yield event("response.output_item.added", output_index=0, item=item | {"arguments": "", "status": "in_progress"})
        yield event("response.function_call_arguments.delta", delta=item["arguments"], **at)
        yield event("response.function_call_arguments.done", arguments=item["arguments"], **at)
    else:
        at["content_index"] = 0
        part = item["content"][0]
        yield event("response.output_item.added", output_index=0, item=item | {"content": [], "status": "in_progress"})
        yield event("response.content_part.added", part=part | {"text": ""}, **at)
        for token in texts[0].tokens:
            yield event("response.output_text.delta", delta=token, **at)
        yield event("response.output_text.done", text=part["text"], **at)
        yield event("response.content_part.done", part=part, **at)
    yield event("response.output_item.done", output_index=0, item=item)
    last = "response.incomplete" if whole["status"] == "incomplete" else "response.completed"
    yield event(last, response=whole)


# --- messages ----------------------------------------------------------------------------------------------------------

STOP_REASON = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def whole_message(model, body, texts):
    text, count = texts[0], usage(texts)
    block = {"type": "text", "text": text.text}
    if text.tool:
        block = {"type": "tool_use", "id": new_id("toolu_"), "name": text.tool[0], "input": json.loads(text.tool[1])}
    return {"id": new_id("msg_"), "type": "message", "role": "assistant", "model": model, "content": [block],
            "stop_reason": STOP_REASON[text.finish], "stop_sequence": None,
            "usage": {"input_tokens": count["prompt_tokens"], "output_tokens": count["completion_tokens"]}}


def events_message(model, body, texts):
    whole, text = whole_message(model, body, texts), texts[0]
    counts = whole["usage"]
    yield named("message_start", {"type": "message_start", "message": whole | {
        "content": [], "stop_reason": None, "usage": counts | {"output_tokens": 1}}})
    block = whole["content"][0]
    empty = block | ({"input": {}} if text.tool else {"text": ""})
    yield named("content_block_start", {"type": "content_block_start", "index": 0, "content_block": empty})
    yield named("ping", {"type": "ping"})
    deltas = [{"type": "text_delta", "text": token} for token in text.tokens]
    if text.tool:
        deltas = [{"type": "input_json_delta", "partial_json": text.tool[1][at:at + 5]} for at in range(0, len(text.tool[1]), 5)]
    for delta in deltas:
        yield named("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta})
    yield named("content_block_stop", {"type": "content_block_stop", "index": 0})
    yield named("message_delta", {"type": "message_delta", "delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None},
                                  "usage": {"output_tokens": counts["output_tokens"]}})
    yield named("message_stop", {"type": "message_stop"})


# --- TGI's own -----------------------------------------------------------------------------------------------------------

def tgi_text(inputs, parameters, actions, default_tokens):
    """(Text, its details) of a call with inputs and parameters."""
    limit = parameters.get("max_new_tokens", default_tokens)
    body = {k: v for k, v in parameters.items() if k not in ("details", "return_full_text", "max_new_tokens")} | {"inputs": inputs}
    body.setdefault("temperature", parameters.get("temperature", 1.0 if parameters.get("do_sample") else 0))
    if parameters.get("do_sample") is False:
        body["temperature"] = 0
    text = generate(body, actions, prompt=inputs, limit=limit)
    reason = {"stop": "eos_token", "length": "length"}.get(text.finish, "eos_token")
    details = {"finish_reason": reason, "generated_tokens": len(text.tokens), "seed": parameters.get("seed")}
    return text, details


def token_of(n, token):
    return {"id": 100 + sum(token.encode()) % 30000, "text": token, "logprob": round(-0.1 - n / 100, 4), "special": False}


def whole_tgi(inputs, parameters, text, details):
    out = {"generated_text": (inputs if parameters.get("return_full_text") else "") + text.text}
    if parameters.get("details") or parameters.get("decoder_input_details"):
        out["details"] = details | {"prefill": [], "tokens": [token_of(n, t) for n, t in enumerate(text.tokens)]}
    return out


def events_tgi(inputs, parameters, text, details):
    prefix = inputs if parameters.get("return_full_text") else ""
    for n, token in enumerate(text.tokens):
        is_last = n == len(text.tokens) - 1
        event = {"index": n + 1, "token": token_of(n, token), "generated_text": prefix + text.text if is_last else None,
                 "details": details | {"input_length": text.prompt} if is_last else None}
        yield b"data:" + bytes_of(event) + b"\n\n"


def check_tgi(parameters):
    """What TGI refuses on its own routes."""
    rules = (("temperature", lambda v: v > 0, "`temperature` must be strictly positive"),
             ("top_p", lambda v: 0 < v < 1, "`top_p` must be > 0.0 and < 1.0"),
             ("top_k", lambda v: v > 0, "`top_k` must be strictly positive"),
             ("max_new_tokens", lambda v: v > 0, "`max_new_tokens` must be strictly positive"),
             ("best_of", lambda v: v < 3, "`best_of` must be <= 2. Given: too many"))
    for name, is_good, message in rules:
        if parameters.get(name) is not None and not is_good(parameters[name]):
            raise Refusal(422, f"Input validation error: {message}")
