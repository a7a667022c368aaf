/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/git - git's own protocol: /{repo}[.git]/info/refs, git-upload-pack, git-receive-pack, and the files of the dumb one.
 *
 * Passed through and never kept: what a branch stands on is older tomorrow, and packs are made for who asks.
 * A push is over when upstream has said all it has to say: only then is it known which names it moved. So that answer is
 * gathered, the names are forgotten and asked for anew, and then the client hears of it: what it pushed is known from then on,
 * also when upstream goes. Of an answer that is too long for that the client hears once the names are forgotten.
 */
#include "hub/priv.h"

#include <errno.h>

#include "common/banned.h"

/* A line for each name that was pushed, and what hooks had to say: some 80,000 names. It waits in memory for its reader (P10). */
#define PUSH_ANSWER_BYTES_MAX ((size_t)4 * REQUEST_BODY_MAX)

/* git shows the text of an answer that failed, and sends its token only after a Basic challenge. */
static int finish(struct reply *r)
{
	struct str said = headers_get(&r->headers, STR("X-Error-Message"));

	if (r->status == 401)
		(void)headers_set(&r->headers, STR("WWW-Authenticate"),
				  STR("Basic realm=\"Authentication required\", charset=\"UTF-8\""));
	if (r->status >= 400 && r->kind == REPLY_BYTES && said.ptr) {
		SCOPED_BUF text;

		buf_init(&text, 8192);
		buf_append_str(&text, said);
		buf_append_char(&text, '\n');
		reply_text(r, r->status, "text/plain; charset=utf-8", buf_str(&text));
	}
	return 0;
}

int hub_git(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	int error = hub_forward(h, q, route, r);

	if (error != 0)
		return error;
	if (r->status < 300 && !headers_get(&r->headers, STR("Cache-Control")).ptr)
		(void)headers_set(&r->headers, STR("Cache-Control"), STR("no-cache"));
	return finish(r);
}

/* Not a second time in memory: it goes out as slowly as its reader likes. The request's body is empty afterwards. */
static struct bytes *take_bytes(struct buf *b)
{
	size_t len;
	char *data = buf_take(b, &len);

	return data ? bytes_new_take(data, len) : bytes_new_copy(STR(""));
}

/* error: of the gathering of its answer. */
static void tell_push(struct hub *h, struct request *q, const struct upstream_head *head, int error,
		      struct reply *r)
{
	SCOPED(bytes_unref) struct bytes *said = NULL;

	if (error < 0 && error != -E2BIG) {
		relay_free(TAKE_PTR(q->relay));
		reply_abort(r);
		return;
	}
	said = take_bytes(&q->body);
	if (error == -E2BIG) {
		hub_forward_stream(h, q, head, r);
		reply_put_first(r, said);
		return;
	}
	hub_forward_fields(h, q, head, r);
	reply_bytes(r, 200, NULL, said);
	relay_free(TAKE_PTR(q->relay));
}

int hub_git_push(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	struct upstream_head head;
	int error = hub_forward_head(h, q, FETCH_HUB, route, &head, r);

	if (error < 0)
		return error;
	if (error > 0)
		return finish(r);
	if (head.status != 200) {
		hub_forward_stream(h, q, &head, r);
		return finish(r);
	}
	q->body.bytes_max = PUSH_ANSWER_BYTES_MAX;
	error = hub_forward_gather(q);
	if (error == -EAGAIN)
		return -EAGAIN;
	if (q->ask_count == 0)
		hub_forget_written(h, q, route); /* also when the answer broke off: it may have been done */
	if (error == 0 && hub_ask_refs(h, q, route) == -EAGAIN)
		return -EAGAIN;
	tell_push(h, q, &head, error, r);
	return 0;
}
