# SPDX-License-Identifier: Apache-2.0
"""A real Gradio app: sentiment, a file that is made out of a file that was uploaded, and numbers that come one after the other.

app.py PORT. The page presses its own button once it is there, so that whoever opens it sees an answer.
"""
import sys
import tempfile
from pathlib import Path

import gradio
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

ANALYZER = SentimentIntensityAnalyzer()
PRESS = "() => setTimeout(() => document.querySelector('#go').click(), 300)"


def sentiment(text):
    found = ANALYZER.polarity_scores(text)
    return {"POSITIVE": found["pos"], "NEGATIVE": found["neg"]}


def shout(path):
    made = Path(tempfile.mkdtemp()) / "shout.txt"
    made.write_text(Path(path).read_text().upper())
    return str(made)


def count(number):
    yield from range(int(number))


with gradio.Blocks(title="Mood") as app:
    words, mood = gradio.Textbox(value="I love Hugging Face!", label="Words"), gradio.Label(label="Mood")
    gradio.Button("Go", elem_id="go").click(sentiment, words, mood, api_name="sentiment")
    given, made = gradio.File(label="Given"), gradio.File(label="Made")
    gradio.Button("Shout").click(shout, given, made, api_name="shout")
    number, counted = gradio.Number(label="Number"), gradio.Number(label="Counted")
    gradio.Button("Count").click(count, number, counted, api_name="count")

app.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), quiet=True, js=PRESS, ssr_mode=False)
