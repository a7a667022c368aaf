# SPDX-License-Identifier: Apache-2.0
"""What a user writes who knows of no cache: clients without a base URL, an endpoint or a setting; run as infercalls.py is."""
import infercalls
from infercalls import calls, client_of, plain


def unaware_task(name, arguments, is_async=False, **where):
    """InferenceClient().text_classification(text, model=...), and the like."""
    import asyncio
    client = client_of(is_async, **where)
    begun = getattr(client, name)(**arguments)
    if not is_async:
        return plain(begun)

    async def run():
        return plain(await begun)
    return asyncio.run(run())


def unaware_chat(arguments, **where):
    client = client_of(False, **where)
    value = client.chat.completions.create(**arguments)
    return [plain(one) for one in value] if arguments.get("stream") else plain(value)


def unaware_openai(what, arguments, key="nobody"):
    """The documentation's own base URL."""
    return infercalls.openai_call("https://router.huggingface.co/v1", what, arguments, key=key)


calls.CALLS |= {f.__name__: f for f in (unaware_task, unaware_chat, unaware_openai)}

if __name__ == "__main__":
    calls.main()
