/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend/priv - the room's inside.
 *
 *   backend.c  the list, its rules, which model is whose
 *   health.c   states and slots
 *   probe.c    asks each one how it is and what it serves; inventory.c reads that
 *   road.c     which path of a server does what
 */
#pragma once
#include <stdatomic.h>

#include "backend/backend.h"
#include "common/clock.h"
#include "common/lock.h"

#define FAILURES_MAX 3
#define BROKEN_MS 30000
#define SERVED_MAX 256 /* names that one server may say */

struct served {
	char *names[SERVED_MAX]; /* owned */
	unsigned count;
	char task[40];   /* "" not known */
	char commit[41]; /* "" not known */
};

struct one {
	struct backends *all;
	unsigned index;
	/* constant */
	char *name, *base_path;
	enum backend_kind kind;

	/* guarded by all->lock */
	char **models; /* owned, NULL ends */
	char *served_name;
	struct secret *key;
	uint64_t timeout_ms;
	unsigned concurrency;
	bool is_default, drops_unknown;
	unsigned running, failures;
	bool is_heard; /* something is known of it */
	bool is_loading;
	bool is_sick;   /* it answers, with errors: that it can be reached proves nothing */
	bool is_trying; /* one call finds out whether it is well again */
	uint64_t broken_until_ms;
	struct served served;
	bool has_inventory;

	/* the fetch thread's */
	bool is_probing, is_listing;
	int status;
	struct buf body;
};

struct backends {
	atomic_uint refs; /* the owner's; of each call and transfer that is under way; of each slot */
	struct fetch *fetch;
	const struct clock *clock;
	struct lock lock;
	bool is_stopping, is_ticking; /* guarded by lock */
	bool has_rules;               /* guarded by lock: they have been set once */
	struct waiters waiters;
	unsigned count; /* constant */
	struct one ones[FETCH_BACKENDS_MAX];
};

struct backends *backends_ref(struct backends *b);
void backends_unref(struct backends *b);
bool backends_are_stopping(struct backends *b);
bool is_no_name(struct str model); /* what clients say when they know none */

/* health.c */
/* A probe's outcome; as slot_done(). */
void health_note(struct one *o, int error, int status, bool is_probe);
bool health_is_any_loading(struct backends *b);

/* probe.c */
void probe_begin(struct backends *b);

/* inventory.c */
void served_done(struct served *s);
/* What a server says of its models: TGI's and TEI's /info, or /v1/models. Returns 0; -EPROTO. Foreign bytes: fuzzed. */
int inventory_read(struct str text, struct served *ret);
