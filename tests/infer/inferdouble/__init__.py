# SPDX-License-Identifier: Apache-2.0
"""Doubles of what answers inference calls: the router with real small models, local servers of every kind, a Gradio app.

README.md of this folder's parent tells how to use them. Sockets, rules and the record are those of the Hub double."""
import sys
from pathlib import Path

_hub = str(Path(__file__).resolve().parents[2] / "hub")
if _hub not in sys.path:
    sys.path.append(_hub)

from .double import KINDS, InferDouble, Server  # noqa: E402
from .gates import Gate  # noqa: E402
from .models import MODELS, Model  # noqa: E402

__all__ = ["KINDS", "MODELS", "Gate", "InferDouble", "Model", "Server"]
