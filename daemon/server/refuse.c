/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/refuse - answers that do not go through the library: faults of the head, time-outs, no room for a connection.
 *
 * A refusal is one small answer that says why in one sentence, closes the connection, makes one line in the log and
 * counts once.
 * Promises  (1) it never comes out of turn: it is not written before or into the answers to earlier requests. When it
 *               would have to wait for them, the last of them closes the connection and the refusal is not sent at all.
 *           (2) nothing that the client sent is repeated in it.
 */
#include "server/priv.h"

#include "common/buf.h"

#include "common/banned.h"

static void send_refusal(int fd, const struct wire_refusal *why)
{
	SCOPED_BUF text;

	buf_init(&text, 2048);
	buf_appendf(&text,
		    "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "
		    "%zu\r\nConnection: close\r\n",
		    why->status, why->reason, strlen(why->sentence) + 1);
	if (why->status == 405)
		buf_appendf(&text, "Allow: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS\r\n");
	if (why->status == 503)
		buf_appendf(&text, "Retry-After: 1\r\n");
	buf_appendf(
		&text,
		"X-Content-Type-Options: nosniff\r\nContent-Security-Policy: sandbox; default-src 'none'\r\n"
		"Cross-Origin-Resource-Policy: same-origin\r\nCache-Control: no-store\r\n\r\n%s\n",
		why->sentence);
	/* one try: a client whose socket is full does not read answers */
	(void)send(fd, text.bytes, text.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)shutdown(fd, SHUT_WR);
}

static void report(struct server *s, const char *peer, const struct wire_refusal *why)
{
	metrics_add(s->metrics, METRIC_HTTP_REJECTED, why->rejected, 0, 0, 1);
	log_info("server", "refused", LOG_TEXT("reason", why->word), LOG_TEXT("client", peer),
		 LOG_U64("status", (uint64_t)why->status), LOG_END);
}

void refuse_conn(struct conn *c, const struct wire_refusal *why)
{
	if (c->is_closing)
		return;
	c->is_closing = true;
	c->has_unread = true;
	if (c->exchange && c->exchange->is_queued) /* promise 1 */
		return;
	send_refusal(c->fd, why);
	if (c->exchange)
		c->exchange->status = why->status;
	report(c->loop->server, c->peer, why);
}

void refuse_fd(struct loop *l, int fd, const char *peer, const struct wire_refusal *why)
{
	send_refusal(fd, why);
	report(l->server, peer, why);
	linger_add(l, fd, true);
}

static struct wire_refusal refusal_of(const struct conn *c)
{
	const struct head_answer *a = head_fault_answer((enum head_fault)c->check.fault);

	return (struct wire_refusal){ a->status, a->reason, a->sentence, a->word, REJECTED_HEAD };
}

/*
 * Heads that were let through belong to requests that end some time (conn->ended). A fault in a head waits for all of
 * them, a fault in a body for all but the one whose body it is.
 */
void refuse_fault(struct conn *c)
{
	bool is_in_body = c->check.fault == HEAD_BAD_CHUNK;
	struct wire_refusal why = refusal_of(c);

	c->is_refused = true;
	if (c->check.heads - c->ended <= (is_in_body ? 1u : 0u))
		refuse_conn(c, &why);
}

bool refuse_is_next(const struct conn *c)
{
	return c->is_refused && c->check.heads - c->ended == 1;
}

void refuse_silently(struct conn *c)
{
	struct wire_refusal why = refusal_of(c);

	c->is_closing = true;
	c->has_unread = true;
	report(c->loop->server, c->peer, &why);
}
