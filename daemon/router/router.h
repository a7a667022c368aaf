/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router - method and raw path to one row of routes.def; the row's handler.
 *
 * The raw path is split at '/' first and each segment decoded once afterwards, so %2F is data (hub-protocol
 * 1.1, N01).
 * Never     touches a body, knows a status beyond those of paths and methods, and 508 for what has come in a circle.
 * Threads   any; no state but the table.
 */
#pragma once
#include "admin/admin.h"
#include "hub/hub.h"
#include "infer/infer.h"

struct router;

struct router_opts {
	struct hub *hub;
	struct infer *infer;
	struct admin *admin;
	const char *mark; /* what our own questions carry as X-HF-Cache-Hop: such a request has come in a circle; NULL: none does */
};
struct router *router_new(const struct router_opts *opts);
void router_free(struct router *r);

/*
 * Before the body is read: which row, and what may its body be? Sets q->route, q->body_kind.
 * Returns 0; or fills reply (400, 404, 405 with Allow, 411, 413, 508) and returns 1.
 */
int router_classify(struct router *r, struct request *q, struct reply *reply);
/* The handler of that row. Returns 0 or -EAGAIN. May be called again. */
int router_handle(struct router *r, struct request *q, struct reply *reply);
