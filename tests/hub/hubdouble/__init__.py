# SPDX-License-Identifier: Apache-2.0
"""A double of the Hugging Face Hub, true to it on the wire, that can be made to misbehave. See ../README.md."""
from .blobs import LFS, File, generated, generated_block
from .content import Content, Repo
from .double import HubDouble
from .fixture import FIXTURES, standard_fixture

__all__ = ["Content", "FIXTURES", "File", "HubDouble", "LFS", "Repo", "generated", "generated_block", "standard_fixture"]
