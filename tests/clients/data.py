# SPDX-License-Identifier: Apache-2.0
"""What a user of datasets, transformers, pandas, polars, pyarrow and duckdb writes; run as calls.py is, and it can do all of that too.

Never     sets an option of a client. duckdb loads its own extension from the package that holds it: here it cannot fetch it.
"""
import os
import sys
from pathlib import Path

import calls
from digest import digest_of


def dataset(**arguments):
    """Each split of load_dataset, to its end."""
    from datasets import load_dataset
    return {name: digest_of(split) for name, split in load_dataset(**arguments).items()}


def pandas_read(how, path, **arguments):
    import pandas
    return digest_of(getattr(pandas, f"read_{how}")(path, **arguments).to_dict("records"))


def polars_scan(url, least):
    """Only the columns and row groups that it needs."""
    import polars
    found = polars.scan_parquet(url).filter(polars.col("id") >= least).select("id", "text").collect()
    return digest_of(found.to_dicts())


def polars_read(how, url):
    import polars
    return digest_of(getattr(polars, f"read_{how}")(url).to_dicts())


def pyarrow_groups(path, groups, columns):
    """Row groups of a table over the Hub's file system."""
    import pyarrow.parquet
    from huggingface_hub import HfFileSystem
    with HfFileSystem().open(path) as f:
        return digest_of(pyarrow.parquet.ParquetFile(f).read_row_groups(groups, columns).to_pylist())


def pyarrow_url(url, groups, columns):
    """The same over a plain URL."""
    import fsspec
    import pyarrow.parquet
    with fsspec.open(url) as f:
        return digest_of(pyarrow.parquet.ParquetFile(f).read_row_groups(groups, columns).to_pylist())


def duckdb_query(query):
    import duckdb
    import duckdb_extension_httpfs
    extension = next(Path(duckdb_extension_httpfs.__path__[0]).rglob("httpfs.duckdb_extension"))
    connection = duckdb.connect()
    connection.execute(f"LOAD '{extension}'")
    return [list(row) for row in connection.execute(query).fetchall()]


def tokenize(repo, sentences, **arguments):
    from transformers import AutoTokenizer
    return AutoTokenizer.from_pretrained(repo, **arguments)(sentences)["input_ids"]


def config(repo, **arguments):
    from transformers import AutoConfig
    found = AutoConfig.from_pretrained(repo, **arguments)
    return {"type": type(found).__name__, "hidden_size": found.hidden_size, "num_hidden_layers": found.num_hidden_layers}


def embed(repo, sentences, **arguments):
    """The model's vectors: its words by AutoTokenizer, its shape by AutoConfig, its weights as downloaded, its layers in numpy."""
    from huggingface_hub import hf_hub_download
    from minilm import MiniLM
    from transformers import AutoConfig, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(repo, **arguments)
    shape = AutoConfig.from_pretrained(repo, **arguments).to_dict()
    model = MiniLM(shape, hf_hub_download(repo, "model.safetensors", **arguments))
    return [model.embed(tokenizer(sentence)["input_ids"]).tolist() for sentence in sentences]


calls.CALLS |= {f.__name__: f for f in (dataset, pandas_read, polars_scan, polars_read, pyarrow_groups, pyarrow_url, duckdb_query,
                                        tokenize, config, embed)}

if __name__ == "__main__":
    calls.main()
    # streaming leaves threads of a native library behind, which sometimes abort the interpreter while it takes itself apart
    sys.stdout.flush()
    os._exit(0)
