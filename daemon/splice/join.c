/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice/join - a join and its phases.
 *
 *   unwrap  GREETING -> SHAKING (client) ---------------------------------> OPEN -> LINGERING -> DEAD
 *   tunnel  CONNECTING -> OPEN (no host: LINGERING behind the refusal)
 *   dial    CONNECTING -> SHAKING (host) -> ASKING -> HELD -> (dial_join) -> OPEN
 *
 * Owns      both ends, both flows, what the phase needs.
 * Promises  (1) each phase but OPEN and HELD has a limit in time.
 *           (2) when one side breaks, the other is reset; when all has been said by both, they are closed.
 *           (3) a client that was told all there is gets a moment to hear it: its own bytes would make the kernel answer with a
 *               reset that overtakes the last words.
 * Threads   the splice thread; join_new() and what fills the join before join_enter(): any.
 */
#include "splice/priv.h"

#include <assert.h>
#include <errno.h>
#include "common/alloc.h"
#include "common/hash.h"
#include "common/log.h"

#include "common/banned.h"

#define LINGER_MS 2000u
#define LINGER_BYTES_MAX ((size_t)4 * 1024 * 1024)

struct join *join_new(struct splices *s, enum join_kind kind)
{
	struct join *j = xcalloc(1, sizeof(*j));

	j->splices = s;
	j->kind = kind;
	list_init(&j->node);
	list_init(&j->ready_node);
	list_init(&j->post.node);
	end_init(&j->client, j);
	end_init(&j->inner, j);
	return j;
}

void join_free(struct join *j)
{
	end_close(&j->client);
	end_close(&j->inner);
	flow_done(&j->up);
	flow_done(&j->down);
	if (j->dial)
		dial_unref(TAKE_PTR(j->dial));
	free(j->greeting);
	free(j->refusal);
	free(j);
}

void join_set_phase(struct join *j, enum join_phase phase, uint64_t limit_ms)
{
	j->phase = phase;
	j->moved_mono_ms = splices_now(j->splices);
	j->until_mono_ms = limit_ms ? j->moved_mono_ms + limit_ms : 0;
}

/* There may be a token in it. */
static void forget_head(struct join *j)
{
	if (j->up.bytes)
		secret_wipe(j->up.bytes, j->up.len);
	flow_done(&j->up);
}

/* Its memory goes with the end of the turn: events that were fetched already may mean it. */
static void bury(struct join *j, int error)
{
	if (j->connector)
		connector_cancel(j->connector);
	if (j->dial)
		dial_lost(j->dial, error);
	if (j->kind == JOIN_DIAL && j->phase < JOIN_HELD)
		forget_head(j);
	j->phase = JOIN_DEAD;
	list_remove(&j->ready_node);
	list_remove(&j->node);
	list_add_tail(&j->splices->dead, &j->node);
	splices_dismiss(j->splices, j);
}

void join_close(struct join *j)
{
	if (j->phase == JOIN_DEAD)
		return;
	end_close(&j->client);
	end_close(&j->inner);
	bury(j, -ECONNRESET);
}

static void cut(struct join *j, int error)
{
	if (j->phase == JOIN_DEAD)
		return;
	end_reset(&j->client);
	end_reset(&j->inner);
	bury(j, error);
}

void join_cut(struct join *j)
{
	cut(j, -ECONNRESET);
}

/* Promise 3. */
static void linger(struct join *j)
{
	end_close(&j->inner);
	j->lingered = 0;
	join_set_phase(j, JOIN_LINGERING, LINGER_MS);
}

static void run_lingering(struct join *j)
{
	char waste[16384];

	while (j->client.can_read) {
		ssize_t n = end_read_socket(&j->client, waste, sizeof(waste));

		if (n == -EAGAIN)
			return;
		if (n > 0)
			j->lingered += (size_t)n;
		if (n <= 0 || j->lingered > LINGER_BYTES_MAX) {
			join_close(j);
			return;
		}
	}
}

/* --- open --- */

/* All is said to the client, and nobody is there to hear what it might still say. */
static bool is_heard_out(const struct join *j)
{
	return j->down.is_passed && !j->up.is_passed && (j->inner.is_gone || j->up.is_dropped);
}

static void run_open(struct join *j)
{
	const uint64_t now = splices_now(j->splices);
	int up = flow_run(&j->up, &j->client, &j->inner, now, &j->moved_mono_ms);
	int down = flow_run(&j->down, &j->inner, &j->client, now, &j->moved_mono_ms);

	if (up < 0 && is_heard_out(j)) /* it has what it wanted, and left */
		join_close(j);
	else if (up < 0 || down < 0 ||
		 (j->down.is_dropped && j->up.is_passed)) /* the last: it has left altogether */
		join_cut(j);
	else if (j->up.is_passed && j->down.is_passed)
		join_close(j);
	else if (is_heard_out(j) && !up)
		linger(j);
	else if ((up || down) && list_is_empty(&j->ready_node))
		list_add_tail(&j->splices->ready, &j->ready_node);
}

static void open_up(struct join *j)
{
	join_set_phase(j, JOIN_OPEN, 0);
	j->rate_mono_ms = 0;
}

/* --- a client's TLS --- */

static void run_greeting(struct join *j)
{
	while (j->greeting && j->greeting[j->greeting_at]) {
		const char *rest = j->greeting + j->greeting_at;
		ssize_t n = j->client.can_write ? end_write(&j->client, rest, strlen(rest)) : -EAGAIN;

		if (n == -EAGAIN)
			return;
		if (n < 0) {
			join_cut(j);
			return;
		}
		j->greeting_at += (size_t)n;
	}
	free(TAKE_PTR(j->greeting));
	if (tls_serve(&j->client) < 0)
		join_cut(j);
	else
		j->phase = JOIN_SHAKING; /* within the same limit */
}

static void open_inner(struct join *j)
{
	int fd = j->host->open_inner(j->ctx, str_from(j->name), &j->from);

	if (fd < 0 || end_open(&j->inner, fd) < 0 || splices_watch(j->splices, &j->inner.watch) < 0) {
		log_warning("splice", "a client cannot be served", LOG_TEXT("name", j->name),
			    LOG_ERR("error", fd < 0 ? fd : -errno), LOG_END);
		join_cut(j);
		return;
	}
	j->inner.half_end_breaks = j->host->half_end_breaks;
	open_up(j);
}

static void shaken_badly(struct join *j)
{
	log_info("splice", "no TLS with this client", LOG_TEXT("client", j->who),
		 LOG_TEXT("name", j->name[0] ? j->name : "-"), LOG_TEXT("reason", tls_reason()), LOG_END);
	/* the alert is on its way */
	SSL_free(TAKE_PTR(j->client.tls));
	(void)shutdown(j->client.watch.fd, SHUT_WR);
	linger(j);
}

static void host_is_bad(struct join *j)
{
	long verdict = SSL_get_verify_result(j->inner.tls);

	log_info("splice", "no TLS with this host", LOG_TEXT("host", j->name),
		 LOG_TEXT("reason",
			  verdict != X509_V_OK ? X509_verify_cert_error_string(verdict) : tls_reason()),
		 LOG_END);
	cut(j, -EPROTO);
}

/* --- hosts that are connected to --- */

static void ask(struct join *j)
{
	join_set_phase(j, JOIN_ASKING, ANSWER_MS);
}

static void refuse(struct join *j)
{
	const char *text = j->refusal ? j->refusal : "";

	/* one try: it fits into an empty socket */
	(void)end_write(&j->client, text, strlen(text));
	(void)shutdown(j->client.watch.fd, SHUT_WR);
	linger(j);
	join_run(j);
}

static void tunnel_connected(struct join *j)
{
	/* what follows here goes through the flow, so that it cannot overtake */
	flow_put(&j->down, str_from(j->greeting));
	open_up(j);
	join_run(j);
}

void join_connected(struct join *j, int take_fd, int error)
{
	int r = error;

	if (r == 0)
		r = end_open(&j->inner, take_fd);
	if (r == 0)
		r = splices_rewatch(j->splices, &j->inner.watch);
	if (r == 0 && j->is_tls)
		r = tls_ask(&j->inner);
	if (r < 0)
		log_info("splice", "no connection to this host", LOG_TEXT("host", j->name),
			 LOG_ERR("error", r), LOG_END);
	if (r < 0 && j->kind == JOIN_TUNNEL) {
		refuse(j);
		return;
	}
	if (r < 0) {
		cut(j, r);
		return;
	}
	if (j->kind == JOIN_TUNNEL) {
		tunnel_connected(j);
		return;
	}
	if (j->is_tls)
		join_set_phase(j, JOIN_SHAKING, SHAKE_MS);
	else
		ask(j);
	join_run(j);
}

static void run_shaking(struct join *j)
{
	struct end *e = j->kind == JOIN_UNWRAP ? &j->client : &j->inner;
	int r = e->can_read || e->can_write ? end_shake(e) : -EAGAIN;

	if (r == -EAGAIN)
		return;
	if (j->kind == JOIN_UNWRAP && r == 0)
		open_inner(j);
	else if (j->kind == JOIN_UNWRAP)
		shaken_badly(j);
	else if (r == 0)
		ask(j);
	else
		host_is_bad(j);
}

/* The head goes out of the flow that will be the client's; the answer comes into the other one. */
static void run_asking(struct join *j)
{
	int r = 0;

	while (j->up.at < j->up.len && j->inner.can_write) {
		ssize_t n = end_write(&j->inner, j->up.bytes + j->up.at, j->up.len - j->up.at);

		if (n > 0)
			j->up.at += (size_t)n;
		else if (n != -EAGAIN)
			r = -ECONNRESET;
		if (n <= 0)
			break;
	}
	if (j->up.at == j->up.len)
		forget_head(j);
	if (r == 0)
		r = dial_hear(j);
	if (r == 0)
		join_set_phase(j, JOIN_HELD, 0);
	else if (r != -EAGAIN)
		cut(j, r);
}

/* --- all --- */

void join_run(struct join *j)
{
	enum join_phase before;

	do {
		before = j->phase;
		switch (before) {
		case JOIN_GREETING:
			run_greeting(j);
			break;
		case JOIN_SHAKING:
			run_shaking(j);
			break;
		case JOIN_ASKING:
			run_asking(j);
			break;
		case JOIN_OPEN:
			run_open(j);
			break;
		case JOIN_LINGERING:
			run_lingering(j);
			break;
		case JOIN_CONNECTING: /* the connector's */
		case JOIN_HELD:
		case JOIN_DEAD:
			break;
		}
	} while (j->phase != before);
}

void join_enter(struct join *j)
{
	struct splices *s = j->splices;

	list_add_tail(&s->joins, &j->node);
	if (j->client.watch.fd >= 0 && splices_watch(s, &j->client.watch) < 0) {
		join_cut(j);
		return;
	}
	if (j->kind == JOIN_UNWRAP) {
		join_set_phase(j, JOIN_GREETING, SHAKE_MS);
		join_run(j);
		return;
	}
	join_set_phase(j, JOIN_CONNECTING, CONNECT_MS);
	connector_start(j);
}

void join_run_out(struct join *j)
{
	if (j->phase == JOIN_LINGERING)
		join_close(j);
	else if (j->phase == JOIN_CONNECTING && j->kind == JOIN_TUNNEL) {
		connector_cancel(j->connector);
		refuse(j);
	} else
		cut(j, -ETIMEDOUT);
}
