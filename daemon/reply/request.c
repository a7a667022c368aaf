/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply/request - what a request holds while it waits, and how it parks.
 *
 * A request waits for one thing at a time; its asks stay with it until it ends, so that a handler that is
 * called again
 * finds each answer where it left it.
 */
#include "reply/request.h"

#include <assert.h>
#include <errno.h>
#include "common/alloc.h"
#include "common/http/token.h"

void request_init(struct request *r, void (*wake)(struct waiter *))
{
	*r = (struct request){ .result = RESULT_BYPASS, .route = ROUTE_OTHER };
	headers_init(&r->headers);
	buf_init(&r->body, REQUEST_BODY_MAX);
	waiter_init(&r->waiter, wake);
}

void request_done(struct request *r)
{
	waiter_cancel(&r->waiter);
	for (unsigned i = 0; i < r->ask_count; i++)
		ask_unref(r->asks[i]);
	r->ask_count = 0;
	reader_free(TAKE_PTR(r->reader));
	relay_free(TAKE_PTR(r->relay));
	ear_free(TAKE_PTR(r->ear));
	dial_free(TAKE_PTR(r->dial));
	if (r->free_memo)
		r->free_memo(TAKE_PTR(r->memo));
	if (r->free_trail)
		r->free_trail(TAKE_PTR(r->trail));
	r->spool = spool_unref(r->spool);
	headers_done(&r->headers);
	buf_done(&r->body);
	subject_done(&r->subject);
	free(r->method);
	free(r->target);
	free(r->host);
	free(r->base);
	free(r->client);
	free(r->log_repo);
	free(r->log_revision);
}

struct str request_header(const struct request *r, struct str name)
{
	return headers_get(&r->headers, name);
}

static struct ask *find_ask(struct request *r, struct str key)
{
	for (unsigned i = 0; i < r->ask_count; i++)
		if (str_eq(ask_key(r->asks[i]), key))
			return r->asks[i];
	return NULL;
}

int request_ask(struct request *r, struct asks *asks, struct str key, const struct question *q,
		const struct answer **ret_answer)
{
	struct ask *k = find_ask(r, key);

	if (!k) {
		if (r->ask_count == REQUEST_ASKS_MAX) {
			if (q->free_ctx)
				q->free_ctx(q->learn_ctx);
			return -ELOOP;
		}
		struct question mine = *q;

		mine.who = str_from(r->client ? r->client : "");
		k = ask_start(asks, key, &mine);
		r->asks[r->ask_count++] = k;
		r->used_upstream = true;
	} else if (q->free_ctx) {
		q->free_ctx(q->learn_ctx);
	}

	if (!ask_is_done(k) && ask_wait(k, &r->waiter))
		return -EAGAIN;
	*ret_answer = ask_answer(k);
	if ((*ret_answer)->error == -EBUSY)
		r->busy_ms = (*ret_answer)->wait_ms;
	return 0;
}

int request_park_reader(struct request *r, uint64_t offset)
{
	assert(r->reader);
	return reader_wait(r->reader, offset, &r->waiter) ? -EAGAIN : 0;
}

int request_park_relay(struct request *r, bool want_write)
{
	assert(r->relay);
	return relay_wait(r->relay, want_write, &r->waiter) ? -EAGAIN : 0;
}

int request_park_ear(struct request *r)
{
	assert(r->ear);
	return ear_wait(r->ear, &r->waiter) ? -EAGAIN : 0;
}

int request_park_dial(struct request *r)
{
	assert(r->dial);
	return dial_wait(r->dial, &r->waiter) ? -EAGAIN : 0;
}

/* Fields that are between us and the client, or ours to set upstream. */
static bool is_ours(struct str name)
{
	static const char *const ours[] = { "Host",
					    "Authorization",
					    "Accept-Encoding",
					    "Cookie",
					    "Content-Length",
					    "Expect",
					    "Origin",
					    "Referer",
					    "X-Forwarded-For",
					    "X-Forwarded-Host",
					    "X-Forwarded-Proto",
					    "Forwarded",
					    "X-Real-IP",
					    "X-Request-Id" };

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (str_eq_nocase(name, str_from(ours[i])))
			return true;
	return str_starts_with(name, STR("Sec-"));
}

void request_forward_fields(const struct request *r, struct headers *to)
{
	for (size_t i = 0; i < r->headers.count; i++) {
		struct str name = str_from(r->headers.fields[i].name),
			   value = str_from(r->headers.fields[i].value);

		if (is_ours(name) || header_is_hop_by_hop(&r->headers, name))
			continue;
		/* announcing Xet is ours to refuse (hub-protocol 6.2 rule 4) */
		if (str_eq_nocase(name, STR("Accept")) &&
		    str_starts_with(value, STR("application/vnd.xet-fileinfo+json")))
			value = STR("*/*");
		(void)headers_add(to, name, value);
	}
	(void)headers_set(to, STR("X-Request-Id"), str_from(r->id));
}

void request_forward_fields_abroad(const struct request *r, struct headers *to)
{
	request_forward_fields(r, to);
	headers_remove(to, STR("X-HF-Authorization"));
	for (size_t i = to->count; i > 0; i--)
		if (text_holds_token(str_from(to->fields[i - 1].value))) {
			headers_remove(to, str_from(to->fields[i - 1].name));
			i = to->count + 1; /* it may have been there more than once */
		}
	headers_remove(to, STR("X-Request-Id"));
}
