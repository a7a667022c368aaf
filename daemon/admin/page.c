/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/page - / and /-/: what this server is and how a client is pointed at it. Plain text: it is read in
 * terminals too.
 */
#include "admin/priv.h"

int admin_index(struct admin *a, struct request *q, struct reply *r)
{
	SCOPED_BUF body;

	buf_init(&body, 16384);
	buf_appendf(&body,
		    "hfcached %s: a cache in front of %s\n\n"
		    "Use it:\n"
		    "  export HF_ENDPOINT=%s\n"
		    "  hf download openai-community/gpt2\n\n"
		    "Look at it:\n"
		    "  %s/-/status    what it holds and does\n"
		    "  %s/-/metrics   counters for Prometheus\n"
		    "  %s/-/healthz   is it alive?\n"
		    "  %s/-/readyz    may it be sent requests?\n",
		    a->version, a->upstream, q->base, q->base, q->base, q->base, q->base);
	reply_text(r, 200, "text/plain; charset=utf-8", buf_str(&body));
	return 0;
}
