/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/page - / and /-/: what this server is and how a client is pointed at it. Plain text: it is read in
 * terminals too.
 */
#include "admin/priv.h"

static void put_backend(void *ctx, const struct backend_view *view)
{
	struct buf *out = ctx;

	buf_appendf(out, "  %-20s %-9s %-12s %u running\n", view->name, view->kind, view->state,
		    view->running);
}

static void put_spaces(const struct admin *a, struct buf *out)
{
	buf_append_str(out, STR("\nSpaces of its own:\n"));
	for (unsigned i = 0; i < a->opts.space_count; i++) {
		struct fetch_view view;

		fetch_look(a->opts.fetch, FETCH_SPACE_FIRST + i, &view);
		buf_appendf(out, "  /_space/%s/  %s%s\n", a->opts.space_names[i],
			    !view.is_tried    ? "not asked yet"
			    : view.down_since ? "cannot be reached: "
					      : "answers",
			    view.reason ? view.reason : "");
	}
}

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
	if (backends_count(a->opts.backends) && admin_is_near(q)) {
		buf_append_str(&body, STR("\nInference servers of its own:\n"));
		backends_each(a->opts.backends, put_backend, &body);
	}
	if (a->opts.space_count && admin_is_near(q))
		put_spaces(a, &body);
	if (a->opts.certificate.len)
		buf_appendf(&body,
			    "\nPrograms that name huggingface.co themselves:\n"
			    "  curl -o hfcached-ca.pem %s/-/ca.pem\n"
			    "  export HTTPS_PROXY=%s SSL_CERT_FILE=$PWD/hfcached-ca.pem\n",
			    q->base, q->base);
	reply_text(r, 200, "text/plain; charset=utf-8", buf_str(&body));
	return 0;
}
