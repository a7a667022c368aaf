# SPDX-License-Identifier: Apache-2.0
"""Sentence embeddings with numpy alone, of a MiniLM model: from the numbers of its words, six layers of BERT, mean, length 1.

Owns      nothing; reads the file with the weights.
"""
import math

import numpy
from safetensors.numpy import load_file

# Abramowitz and Stegun 7.1.26, to 1.5e-7: numpy has no erf.
ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def erf(x):
    t = 1 / (1 + 0.3275911 * numpy.abs(x))
    series = sum(c * t ** (power + 1) for power, c in enumerate(ERF))
    return numpy.sign(x) * (1 - series * numpy.exp(-x * x))


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def softmax(x):
    grown = numpy.exp(x - x.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)


class MiniLM:
    def __init__(self, config, weights):
        """What config.json says, and the path of model.safetensors."""
        self.config = config
        self.weights = {name: array.astype(numpy.float32) for name, array in load_file(weights).items()}

    def linear(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def normalise(self, x, name):
        mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
        scaled = (x - mean) / numpy.sqrt(variance + self.config["layer_norm_eps"])
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attend(self, x, name):
        heads = self.config["num_attention_heads"]
        size = x.shape[-1] // heads
        query, key, value = (self.linear(x, f"{name}.self.{part}").reshape(-1, heads, size).transpose(1, 0, 2)
                             for part in ("query", "key", "value"))
        seen = softmax(query @ key.transpose(0, 2, 1) / math.sqrt(size)) @ value
        joined = seen.transpose(1, 0, 2).reshape(x.shape)
        return self.normalise(x + self.linear(joined, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def layer(self, x, name):
        x = self.attend(x, f"{name}.attention")
        inner = gelu(self.linear(x, f"{name}.intermediate.dense"))
        return self.normalise(x + self.linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def embed(self, ids):
        """One vector of length 1, of the words that a tokenizer gave these numbers."""
        words = self.weights["embeddings.word_embeddings.weight"][ids]
        places = self.weights["embeddings.position_embeddings.weight"][:len(ids)]
        x = self.normalise(words + places + self.weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for number in range(self.config["num_hidden_layers"]):
            x = self.layer(x, f"encoder.layer.{number}")
        mean = x.mean(axis=0)
        return mean / numpy.linalg.norm(mean)
