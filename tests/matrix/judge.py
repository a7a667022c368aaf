# SPDX-License-Identifier: Apache-2.0
"""Is an answer what the rules expect? Every function returns the reasons why not, in words; an empty list is a yes."""
import json
import re

from rules import FACTS, IGNORANCE, LIMITED, REFUSALS, ROUTES, SERVE
from world import NUMBER, RANGE

DISABLED = "Access to this resource is disabled."
# Fields that differ from answer to answer and tell nothing: a number of the request, the clock, the count of a rate limit.
PASSING = {"date", "x-request-id", "ratelimit", "retry-after"}


def whole_bytes(answer):
    return answer.raw_head + b"\r\n\r\n" + bytes(answer.kept)


def judge(world, place, route, question, answer, wanted, direct=None):
    """direct: what the double itself says to the same token, for refusals."""
    if not answer.status or not answer.complete:
        return [f"no whole answer ({answer.end})"]
    if wanted == SERVE:
        return judge_served(world, place, route, question, answer)
    wrong = {IGNORANCE: judge_ignorance, LIMITED: judge_limited}.get(wanted, judge_refusal)(answer, wanted, route)
    if direct is not None:
        wrong += compare_refusals(question, answer, direct)
    return wrong + judge_silence(world, place, question, answer)


def told_instead(answer):
    return f"got {answer.status} {answer['X-Error-Code'] or ''} {answer['X-Error-Message'] or ''}".strip()


def judge_served(world, place, route, question, answer):
    if answer.status != (206 if route == "range GET" else 200):
        return [told_instead(answer)]
    wrong = []
    strangers = {n for n, _ in world.traces(whole_bytes(answer)) if n != place.number}
    if strangers:
        wrong.append(f"tells of other repositories: {sorted(strangers)}")
    if not is_open_to_all(place, route):
        control, vary = answer["Cache-Control"] or "", answer["Vary"] or ""
        if not re.search(r"\b(private|no-store)\b", control):
            wrong.append(f"a protected answer with Cache-Control: {control or 'none'}")
        if "authorization" not in vary.lower():
            wrong.append(f"a protected answer with Vary: {vary or 'none'}")
    return wrong + (judge_document if ROUTES[route] == FACTS else judge_file)(world, place, route, answer)


def is_open_to_all(place, route):
    return place.kind == "public" or place.kind.startswith("gated") and ROUTES[route] == FACTS


def judge_document(world, place, route, answer):
    try:
        told = json.loads(answer.body)
    except ValueError as error:
        return [f"no JSON: {error}"]
    return [] if told == world.true_answer(place, route) else [f"another document than the Hub's: {answer.body[:200]!r}"]


def judge_file(world, place, route, answer):
    file = place.commit.files["config.json" if route == "GET resolve" else "weights.bin"]
    wrong = []
    if route != "HEAD resolve" and answer.body != world.true_answer(place, route):
        wrong.append("other bytes than the file's")
    if route != "hash URL" and (answer["ETag"] != f'"{file.etag}"' or answer["X-Repo-Commit"] != place.commit.id):
        wrong.append(f"ETag {answer['ETag']}, commit {answer['X-Repo-Commit']}")
    if route == "HEAD resolve" and answer["Content-Length"] != str(file.size):
        wrong.append(f"Content-Length {answer['Content-Length']}")
    if route == "range GET" and answer["Content-Range"] != f"bytes {RANGE[0]}-{RANGE[1]}/{file.size}":
        wrong.append(f"Content-Range {answer['Content-Range']}")
    return wrong


def judge_ignorance(answer, *_):
    if answer.status not in (503, 504):
        return [told_instead(answer)]
    wrong = [] if (answer["Retry-After"] or "").isdigit() else ["without Retry-After"]
    return wrong + ([f"claims to know: {answer['X-Error-Code']}"] if answer["X-Error-Code"] else [])


def judge_limited(answer, *_):
    if answer.status != 429:
        return [told_instead(answer)]
    has_wait = (answer["Retry-After"] or "").isdigit() or "t=" in (answer["RateLimit"] or "")
    return [] if has_wait else ["without the time to wait"]


def judge_refusal(answer, wanted, route):
    status, code = REFUSALS[wanted]
    codes = {code, None} if route == "hash URL" and wanted == "401 no repo" else {code}    # registries know no codes
    wrong = [] if answer.status == status and answer["X-Error-Code"] in codes else [told_instead(answer)]
    if wanted.endswith("disabled") and answer["X-Error-Message"] != DISABLED:
        wrong.append(f"the message is {answer['X-Error-Message']!r}")
    return wrong


def challenge(answer):
    """The scheme of WWW-Authenticate; what stands behind it may hold the address of who says it."""
    return [value.split(" ")[0] for value in answer.all("WWW-Authenticate")]


def compare_refusals(question, answer, direct):
    """Status, message, challenge and body are the Hub's own (F.2 rule 7)."""
    wrong = []
    for what, ours, theirs in (("status", answer.status, direct.status), ("WWW-Authenticate", challenge(answer), challenge(direct)),
                               ("X-Error-Message", answer["X-Error-Message"], direct["X-Error-Message"]),
                               ("Content-Type", answer["Content-Type"], direct["Content-Type"]),
                               ("body", bytes(answer.kept), bytes(direct.kept)),
                               ("Content-Length", answer["Content-Length"], direct["Content-Length"])):
        if ours != theirs:
            wrong.append(f"{what} is {ours!r}, the Hub's {theirs!r}")
    if direct["X-Error-Code"] and answer["X-Error-Code"] != direct["X-Error-Code"]:
        wrong.append(f"X-Error-Code is {answer['X-Error-Code']!r}, the Hub's {direct['X-Error-Code']!r}")
    return wrong


def judge_silence(world, place, question, answer):
    """Nothing of any repository in what is told to who may not read it: names, texts, ids, sizes."""
    said = whole_bytes(answer)
    wrong = [f"LEAK: {text} of repository {number}" for number, text in world.traces(said, question.sent())]
    if place.commit:
        sizes = {str(f.size).encode() for f in place.commit.files.values() if f.size >= 10000}
        wrong += [f"LEAK: the size {m[0].decode()}" for m in NUMBER.finditer(said) if m[0] in sizes]
    for name in ("ETag", "X-Linked-Etag", "X-Linked-Size", "X-Repo-Commit", "Content-Range", "Last-Modified", "Age", "X-HF-Warning"):
        if answer[name] is not None and not answer[name].startswith("W/"):    # a weak tag is of the words themselves
            wrong.append(f"a refusal with {name}: {answer[name]}")
    return wrong


def unlike(one, question_one, other, question_other, also_ignored=()):
    """How two answers can be told apart, once what the client itself said is taken out."""
    ignored = PASSING | {n.lower() for n in also_ignored}

    def said(answer, question):
        fields = sorted(f"{k.lower()}: {v}" for k, v in answer.fields if k.lower() not in ignored)
        lines = [f"status {answer.status}", *fields, f"body {bytes(answer.kept).decode('latin-1')}"]
        for word in re.findall(r"r\d{3}\b|[0-9a-f]{40,64}", question.target):
            lines = [line.replace(word, "#") for line in lines]
        return set(lines)
    a, b = said(one, question_one), said(other, question_other)
    return [f"{sorted(a - b)}, not {sorted(b - a)}"] if a != b else []
