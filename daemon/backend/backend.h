/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend - inference servers of one's own: which models each serves, whether it is there, how much it may be given at a time.
 *
 * Owns      the list, each one's health and inventory, the places (slots) for running calls.
 * Never     passes on a call (infer does, through cast), or reads a body; gives anybody but the server itself its key.
 * Threads   any; probes are sent and heard on the fetch thread.
 * Life      of a backend: READY -> (3 failures in a row) BROKEN -> (30 s, or a good probe) -> READY; LOADING while it says so.
 *           The first call after 30 s goes alone and finds out.
 * Promises  (1) no more than its concurrency are under way at a time, and waiting costs no thread.
 *           (2) each is probed every 5 s, and asked for its models when it comes up.
 */
#pragma once
#include "common/http/uri.h"
#include "common/waiter.h"
#include "dialect/adapt.h"
#include "fetch/fetch.h"

struct backends;

/* What may change while the daemon runs. Borrowed for the call. */
struct backend_rules {
	const char *name;          /* which one this is about */
	const char *const *models; /* globs, NULL ends; none: what it says that it serves */
	const char *served_name;   /* what it calls the model; "": as it is asked for */
	const char *key;           /* its own; "": none */
	uint64_t timeout_ms;       /* until the beginning of an answer; 0: by the kind of call */
	unsigned concurrency;      /* 0: any number */
	bool is_default;           /* for calls that name no model */
	bool drops_unknown; /* parameters that it says it does not know are left away, and it is asked again */
};
struct backend_spec {
	const char *name;
	enum backend_kind kind;
	const char *base_path; /* of its URL, without a slash at its end; "" mostly */
};
struct backends_opts {
	struct fetch *fetch; /* its origins FETCH_BACKEND_FIRST + i are these */
	struct metrics *metrics;
	const struct clock *clock;
	const struct backend_spec *specs;
	unsigned count;
};
struct backends *backends_new(const struct backends_opts *opts);
/* Stops probing. Before fetch_free(). */
void backends_free(struct backends *b);
/* With the first call probing begins. Names that are not known are passed over: they come with the next start. */
void backends_set_rules(struct backends *b, const struct backend_rules *rules, unsigned count);

unsigned backends_count(const struct backends *b); /* 0 also for NULL */

/* --- who serves it --- */
/* How well: an exact name goes before a glob, and both before who takes what has no name. */
enum backend_match { MATCH_NONE, MATCH_DEFAULT, MATCH_GLOB, MATCH_EXACT };
/* model: "" and the names that clients use when they know none ("tgi", "dummy") are for the default ones. */
enum backend_match backend_serves(struct backends *b, unsigned i, struct str model);
/* Does one serve it by name or by a glob? task, if it is known what that one does. */
bool backends_serve(struct backends *b, struct str model, char ret_task[40]);
/* A star stands for anything, also for nothing. */
bool backend_glob_matches(struct str glob, struct str name);
/* For all models that can be named: those of the options that are no globs, and what the servers say. */
void backends_each_model(struct backends *b,
			 bool (*each)(void *ctx, struct str model, struct str task, struct str owner),
			 void *ctx);

/* --- how it is asked --- */
struct backend_road {
	enum adapt how;
	const char *path; /* behind the base path; static */
};
/* Which of its paths does this? task: "" when not known. Returns 0; -ENOTSUP it cannot. */
int backend_road(struct backends *b, unsigned i, enum dialect d, struct str task,
		 const struct call_facts *facts, struct str body, struct backend_road *ret);
const char *backend_name(const struct backends *b, unsigned i); /* constant */
const char *backend_base_path(const struct backends *b, unsigned i);
/* The caller's reference; NULL: it has none. */
struct secret *backend_key(struct backends *b, unsigned i);
bool backend_drops_unknown(struct backends *b, unsigned i);
uint64_t backend_timeout_ms(struct backends *b, unsigned i);
/* What it calls the model that a client asked for. Appends. */
void backend_model_name(struct backends *b, unsigned i, struct str asked, struct buf *out);
/* The commit that it says it has loaded, as an X-Sha field would tell it; false: not known. */
bool backend_commit(struct backends *b, unsigned i, char ret_commit[41]);

/* --- is it there, and may it be asked now --- */
enum backend_state { BACKEND_READY, BACKEND_BUSY, BACKEND_LOADING, BACKEND_BROKEN };
enum backend_state backend_state(struct backends *b, unsigned i);
/* For people: how each one is. Nobody is called under the lock. */
struct backend_view {
	const char *name, *kind, *state; /* constant */
	unsigned running, concurrency;   /* calls under way; and at most, 0: any number */
	unsigned models;                 /* that it says it serves */
};
void backends_each(struct backends *b, void (*each)(void *ctx, const struct backend_view *view), void *ctx);
struct slot;
/* A place for one call. Returns 0 with *ret; -EBUSY all are taken; -EAGAIN it is loading; -EHOSTUNREACH. */
int backend_take(struct backends *b, unsigned i, struct slot **ret);
/* The same of one that is loading: it will say so itself. */
int backend_take_loading(struct backends *b, unsigned i, struct slot **ret);
/* The call is over: error as fetch says, or 0 with the status. 0 and 0: it says nothing about the server. */
void slot_done(struct slot *s, int error, int status);
/* Wakes w, once, when something has changed, or a quarter of a second has passed: then look again. */
void backends_wait(struct backends *b, struct waiter *w);
