/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/priv - what the pages share.
 */
#pragma once
#include <stdatomic.h>
#include "admin/admin.h"
#include "common/buf.h"
#include "common/json.h"
#include "common/log.h"
#include "common/work.h"

struct admin {
	struct admin_opts opts;
	char *version;
	char *upstream;
	/* each is right by itself while others read it */
	_Atomic enum offline_access offline_access;
	_Atomic uint64_t offline_grace_ms;
	_Atomic bool lends_token, is_strict, is_reachable;
	int64_t started_at; /* wall clock */

	/* for what takes long (call.c) */
	struct work *work; /* owned; one thread; NULL: it could not be started */
	atomic_uint calls; /* that wait for it */
	atomic_bool is_stopping;
	struct snapshot *snapshots; /* owned; that thread's alone (repos.c) */
};

/* Counts and configuration are for the machine itself: not loopback, not the unix socket -> a 403 in reply,
 * false. */
/* A JSON list of sentences: what an administrator should know about his own choices. */
void admin_write_warnings(const struct admin *a, struct buf *out);
bool admin_is_local(const struct request *q, struct reply *r);
/* The same without an answer. */
bool admin_is_near(const struct request *q);

/* --- call.c --- */

struct call {
	struct job job;
	atomic_uint refs;
	struct admin *admin;
	void (*run)(struct call *c); /* on the room's thread: sets status and body */
	struct lock lock;
	struct waiters waiters;
	bool is_done; /* guarded by lock */
	/* the question */
	bool is_admin, wants_revisions, is_dry;
	const char *kind, *by;            /* static or NULL */
	struct buf repo, match, revision; /* decoded */
	uint64_t snapshot, from;          /* of a list that goes on; 0: it begins */
	/* the answer */
	int status;
	struct buf body;
};
struct call *call_new(struct admin *a, void (*run)(struct call *c));
/* Takes the call. Returns as a handler does: 0 or -EAGAIN. */
int call_start(struct call *c, struct request *q, struct reply *r);
/* Of a request that has a call already. */
int call_wait(struct request *q, struct reply *r);
void call_unref(void *call);
void call_fail(struct call *c, int status, const char *sentence);
void call_fail_errno(struct call *c, int error);

/* --- rows.c --- */

/* "models" of "model" or "models"; NULL: no kind. Static. */
const char *admin_kind(struct str word);
/* "model" and "acme/pub" */
struct str admin_split_repo(struct str repo, struct str *ret_name);
/* "model/acme/pub" of "models/acme/pub", as the Hub's own command writes ids. Appends. */
void admin_write_id(struct buf *out, struct str repo);
void admin_write_id_json(struct buf *out, struct str repo);
/* The repo under which answers of inference servers are kept. */
bool admin_is_inference(struct str repo);
/* To who asks: the administrator, or anybody on this machine. */
bool admin_is_shown(const struct call *c, const struct usage_row *row);
/* Is it of the kind and the pattern that were asked for? */
bool admin_fits(const struct call *c, const struct usage_row *row);
uint64_t admin_count_hidden(const struct call *c, const struct usage *u);

/* --- repos.c --- */

void snapshots_free(struct snapshot *all);
struct usage_query admin_usage_query(struct admin *a);
/* What was learned until now is looked at as well. */
int admin_survey(struct call *c, struct usage **ret_usage);
/* The decoded value of a parameter into out. Returns 1; 0 absent; -EINVAL. */
int admin_param(const struct request *q, struct str name, struct buf *out);
/* A page in a browser has no business here, whatever it was told about our address: a 403 in reply, true. */
bool admin_is_page(const struct request *q, struct reply *r);

/* --- usage.c --- */

void admin_run_usage(struct call *c);

/* --- glob.c --- */

/* * stands for anything, ? for a byte. */
bool glob_matches(struct str pattern, struct str text);
