/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/plain - questions whose answers are for who asks, and teach nothing: buckets, the dataset viewer, Xet's fields.
 *
 * They are shared only by the same subject that asks the same at the same time.
 *
 * Threads   a server thread's.
 */
#include "hub/priv.h"

#include <errno.h>

int hub_ask_plainly(struct hub *h, struct request *q, const char *what, struct question *question,
		    const struct answer **ret_answer)
{
	struct headers extra;
	SCOPED_BUF key;
	int r;

	buf_init(&key, 65536);
	buf_appendf(&key, "%s ", what);
	buf_append(&key, q->subject.id, SUBJECT_BYTES);
	buf_append_str(&key, question->target);
	if (buf_error(&key))
		return -E2BIG; /* cut short it would be the key of other questions too */
	headers_init(&extra);
	hub_pass_headers(q, &extra);
	question->token = q->subject.token;
	question->headers = &extra;
	question->follow = FETCH_FOLLOW_SAME_ORIGIN;
	r = request_ask(q, h->opts.asks, buf_str(&key), question, ret_answer);
	question->headers = NULL;
	headers_done(&extra);
	return r;
}
