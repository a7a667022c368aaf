/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin - our own pages under /-/: health, readiness, metrics, status.
 *
 * Never     changes state; names a repo that is not public (N09); speaks to clients that are not on
 *           loopback about anything
 *           but healthz and readyz (design 9) unless they come through the unix socket.
 * Threads   server threads.
 */
#pragma once
#include "reply/errors.h"
#include "reply/reply.h"

struct admin;

struct admin_opts {
	struct metrics *metrics;
	struct store *store;
	struct flights *flights;
	struct fetch *fetch;
	const struct clock *clock;
	const char *version;
	const char *upstream; /* for the status: the Hub's URL */
	/* Asked by healthz and readyz; each returns NULL when well, else a static sentence. */
	const char *(*loops_alive)(void *ctx);
	const char *(*is_draining)(void *ctx);
	const char *(*index_ok)(void *ctx);
	void *ctx;
};
/* Who may see what, for the status; what may change while running. */
struct admin_rights {
	enum offline_access offline_access;
	uint64_t offline_grace_ms;
	bool lends_token;
	bool is_strict;
	bool is_reachable; /* other machines can connect, and nothing encrypts what they send */
};
struct admin *admin_new(const struct admin_opts *opts);
void admin_free(struct admin *a);
/* Any thread, at any time. */
void admin_set_rights(struct admin *a, const struct admin_rights *rights);

int admin_healthz(struct admin *a, struct request *q, struct reply *r);
int admin_readyz(struct admin *a, struct request *q, struct reply *r);
int admin_metrics(struct admin *a, struct request *q, struct reply *r);
int admin_status(struct admin *a, struct request *q, struct reply *r);
int admin_index(struct admin *a, struct request *q,
		struct reply *r); /* /-/ : one plain page that says what this is and how to use it */
