# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's server for one model, until its standard input ends: llamaserver.py MODEL NAME [embeddings | ranks]. Prints its address."""
import sys

import xllamacpp as llama


def main(path, name, does="text"):
    rules = llama.CommonParams()
    rules.model.path = path
    rules.model_alias = name if isinstance(rules.model_alias, str) else [name]
    rules.port, rules.hostnames = 0, "127.0.0.1" if isinstance(rules.hostnames, str) else ["127.0.0.1"]
    rules.n_ctx, rules.n_parallel, rules.n_threads_http, rules.warmup = 1024, 2, 2, False
    rules.cpuparams.n_threads = rules.cpuparams_batch.n_threads = 1
    if does != "text":
        pooling = llama.llama_pooling_type
        rules.embedding = True
        rules.pooling_type = pooling.LLAMA_POOLING_TYPE_RANK if does == "ranks" else pooling.LLAMA_POOLING_TYPE_MEAN
    server = llama.Server(rules)
    print(server.listening_address, flush=True)
    sys.stdin.read()


main(*sys.argv[1:])
