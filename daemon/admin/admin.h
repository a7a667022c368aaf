/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin - our own pages under /-/: health, readiness, metrics, status, what is held.
 *
 * Owns      one thread, for what takes long.
 * Never     changes anything, or names a repo that is not public (N09), but for the administrator's own socket; speaks to clients
 *           that are not on loopback about anything but healthz and readyz (design 9) unless they come through a unix socket.
 * Threads   server threads, and its own.
 */
#pragma once
#include "auth/auth.h"
#include "backend/backend.h"
#include "keeper/keeper.h"
#include "reply/errors.h"
#include "reply/reply.h"

struct admin;

struct admin_opts {
	struct metrics *metrics;
	struct store *store;
	struct flights *flights;
	struct fetch *fetch;
	struct backends *backends; /* NULL: there are none */
	struct index *index;
	struct keeper *keeper;
	struct auth *auth;
	const struct clock *clock;
	const char *version;
	const char *upstream;   /* for the status: the Hub's URL */
	/* Those that run on machines of one's own, at FETCH_SPACE_FIRST + their number: "acme/app"; borrowed for its life. */
	const char *const *space_names;
	unsigned space_count;
	struct str certificate; /* of the site CA, PEM; borrowed for its life; empty: there is none */
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
/* For every client: who does not trust it yet must be able to fetch it. */
int admin_certificate(struct admin *a, struct request *q, struct reply *r);
/* What is held: each repo, or summed up. May return -EAGAIN, as all below. */
int admin_repos(struct admin *a, struct request *q, struct reply *r);
int admin_usage(struct admin *a, struct request *q, struct reply *r);
/* DELETE: one repo is forgotten. */
int admin_repo(struct admin *a, struct request *q, struct reply *r);
int admin_index(struct admin *a, struct request *q,
		struct reply *r); /* /-/ : one plain page that says what this is and how to use it */
