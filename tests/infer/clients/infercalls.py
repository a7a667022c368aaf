# SPDX-License-Identifier: Apache-2.0
"""What a user of InferenceClient, AsyncInferenceClient and openai writes; run as tests/clients/calls.py is, on a fresh machine.

Never     sets an option of a client beyond the address it is for; catches what a user would see. Times are those of the machine's
          monotonic clock, which the test reads too.
"""
import asyncio
import base64
import hashlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "clients"))

import calls  # noqa: E402


def client_of(is_async, **where):
    from huggingface_hub import AsyncInferenceClient, InferenceClient
    return (AsyncInferenceClient if is_async else InferenceClient)(**where)


def plain(value):
    """What a client returned, as JSON can hold it; its texts, labels and numbers, and of a picture what it shows."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if type(value).__module__.startswith("PIL."):
        value.load()
        return {"format": value.format, "size": list(value.size), "pixels": hashlib.sha256(value.tobytes()).hexdigest()}
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if v is not None}
    if hasattr(value, "model_dump"):
        return plain(value.model_dump())
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


async def collected(stream, times):
    out = []
    async for one in stream:
        times.append(time.monotonic())
        out.append(plain(one))
    return out


def task(url, name, arguments, is_async=False, raw=None, **where):
    """A method of the client on exactly this address. raw: bytes as base64, for tasks that take them first."""
    client = client_of(is_async, model=url, **where)
    first = [base64.b64decode(raw)] if raw is not None else []
    begun = getattr(client, name)(*first, **arguments)
    if not is_async:
        return plain(begun)

    async def run():
        return plain(await begun)
    return asyncio.run(run())


def generate_stream(url, arguments, is_async=False, **where):
    """Events of text_generation(stream=True, details=True), and when each came."""
    client, times = client_of(is_async, model=url, **where), []
    if not is_async:
        out = []
        for one in client.text_generation(stream=True, details=True, **arguments):
            times.append(time.monotonic())
            out.append(plain(one))
        return {"events": out, "times": times}

    async def run():
        return await collected(await client.text_generation(stream=True, details=True, **arguments), times)
    return {"events": asyncio.run(run()), "times": times}


def chat(url, arguments, is_async=False, **where):
    """chat.completions.create(); of a stream the chunks, and when each came."""
    client, times = client_of(is_async, base_url=url, **where), []
    if is_async:
        async def run():
            found = await client.chat.completions.create(**arguments)
            return await collected(found, times) if arguments.get("stream") else plain(found)
        value = asyncio.run(run())
    else:
        value = client.chat.completions.create(**arguments)
        if not arguments.get("stream"):
            return plain(value)
        out = []
        for one in value:
            times.append(time.monotonic())
            out.append(plain(one))
        value = out
    return {"events": value, "times": times} if arguments.get("stream") else value


def status(url, **where):
    from huggingface_hub import InferenceClient
    return plain(InferenceClient(model=url, **where).health_check())


def openai_call(url, what, arguments, raw=None, key="nobody"):
    """what: "chat.completions.create" and the like."""
    import openai
    found = openai.OpenAI(base_url=url, api_key=key)
    for name in what.split("."):
        found = getattr(found, name)
    if raw is not None:
        arguments = arguments | {"file": ("sound.flac", base64.b64decode(raw))}
    value = found(**arguments)
    if not arguments.get("stream"):
        return plain([one for one in value] if what == "models.list" else value)
    out, times = [], []
    for one in value:
        times.append(time.monotonic())
        out.append(plain(one))
    return {"events": out, "times": times}


def gradio(url, session):
    """A whole session with a Gradio app: [(api name, values)]; a value {"file": text} is uploaded, of a file that comes back its text."""
    from gradio_client import Client, handle_file
    client, out = Client(url, verbose=False), []
    for name, values in session:
        given = []
        for value in values:
            if isinstance(value, dict) and "file" in value:
                path = Path.home() / "given.txt"
                path.write_text(value["file"])
                value = handle_file(str(path))
            given.append(value)
        found = client.predict(*given, api_name=name)
        made = isinstance(found, str) and found.startswith("/") and Path(found).is_file()
        out.append({"text": Path(found).read_text()} if made else found)
    client.close()
    return {"src": client.src, "out": out}


calls.CALLS |= {f.__name__: f for f in (task, generate_stream, chat, status, openai_call, gradio)}

if __name__ == "__main__":
    calls.main()
