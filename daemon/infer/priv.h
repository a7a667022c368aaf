/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/priv - what the files of this room share.
 *
 *   path.c     which call a path is: all spellings of one call become one
 *   control.c  what the request says about caching
 *   decide.c   give, ask or refuse: the truth table
 *   record.c   an answer as a blob
 *   serve.c    the handler
 *   give.c     a stored answer in the form that this client wants
 *   keep.c     an answer that has come: is it one, and if so it is kept
 *   trouble.c  errors in the shape of the route
 *
 * Glossary  form    stream or whole: how the bytes of an answer are framed.
 *           record  a kept answer.
 */
#pragma once
#include <stdatomic.h>
#include "common/clock.h"
#include "common/http/uri.h"
#include "common/json.h"
#include "common/log.h"
#include "infer/infer.h"

#define INFER_REPO "inference" /* under which the index keeps records; no repo of the Hub has such a name */

struct infer {
	struct infer_opts opts;
	struct lock lock;
	struct infer_rules rules; /* guarded by lock */
};
struct infer_rules infer_rules_of(struct infer *i);

/* --- path.c --- */
struct infer_path {
	enum dialect dialect;
	struct str
		provider;  /* "" hf-inference or the router's own routes; else the provider's path segment */
	struct str model;  /* "" when only the body tells */
	struct str task;   /* "" when the path does not tell */
	struct buf route;  /* canonical, for the key */
	struct buf target; /* what upstream is asked */
	bool is_known;     /* a route whose bodies we understand; else it only passes through */
};
/* Parts point into the request. Returns 0; -ENOENT no inference path. ret is the caller's: path_done(). */
int path_read(const struct request *q, struct infer_path *ret);
void path_done(struct infer_path *p);

/* --- control.c --- */
struct infer_control {
	bool no_lookup, no_store; /* of Cache-Control, Pragma, x-use-cache */
	bool only_if_cached;
	bool waits_for_model;
	int64_t max_age_s, min_fresh_s, max_stale_s; /* -1: not said; max_stale INT64_MAX: any */
};
void control_read(const struct request *q, const struct call_facts *facts, struct infer_control *ret);

/* --- decide.c --- */
struct infer_facts {
	enum infer_mode mode;
	enum repeat repeat; /* of this call */
	const struct infer_control *control;
	bool is_held;     /* there is a record */
	bool is_sample;   /* it is one of many answers that could have been given */
	bool is_outdated; /* its model has moved since */
	int64_t age_s;
	bool upstream_is_down; /* nobody can be asked */
};
enum infer_verdict {
	INFER_GIVE,       /* the record */
	INFER_GIVE_STALE, /* the record, with a warning: it is only better than nothing */
	INFER_ASK,        /* upstream */
	INFER_REFUSE,     /* neither */
};
enum infer_verdict infer_decide(const struct infer_facts *f);
/* May the answer to this call be kept? And may others hear it while it comes? */
bool infer_may_keep(const struct infer_facts *f);
bool infer_may_share(const struct infer_facts *f);

/* --- record.c --- */
enum infer_form { FORM_WHOLE, FORM_STREAM, FORM_RAW };
struct record {
	enum infer_form form;
	enum dialect dialect;
	enum repeat repeat;
	int64_t made_at;
	char *type;         /* owned; Content-Type */
	char *sha;          /* owned or NULL: the model's commit as the service said */
	char *model;        /* owned */
	char *compute_time; /* owned or NULL */
	char *request_id;   /* owned or NULL: upstream's */
	char *served_by;    /* owned: "upstream" or a backend's name */
};
void record_done(struct record *r);
/* The line before the body, with its newline. */
void record_write(const struct record *r, struct buf *out);
/* text: at least the beginning of a blob. Returns the length of the line; -EBADMSG. Foreign bytes: fuzzed. */
#define RECORD_LINE_MAX 4096
ssize_t record_read(struct str text, struct record *ret);

/* --- keep.c --- */
/* What a cast needs to judge and keep its answer. All copied. */
struct keeping {
	struct infer *infer;
	struct digest key;
	enum dialect dialect;
	enum repeat repeat;
	bool wants_stream;
	struct stream_watch watch;
	bool is_stream; /* the answer says so */
	int status;
	char *model;     /* owned */
	struct buf rest; /* of an event that is not complete yet; the fetch thread's */
};
struct keeping *keeping_new(struct infer *i, const struct digest *key, enum dialect d, enum repeat repeat,
			    struct str model);
void keeping_free(void *k);
extern const struct cast_filter keeping_filter;
void keeping_ended(void *ctx, const struct cast_answer *a);

/* --- give.c --- */
/* Opens the record of this key. Returns 0 with the blob (the caller's) and its line's length; -ENODATA. */
int record_find(struct infer *i, const struct digest *key, struct record *ret, struct blob **ret_blob,
		size_t *ret_line);
/* The record as this client wants it. Takes the blob. */
int record_give(struct infer *i, struct request *q, const struct record *record, struct blob *take_blob,
		size_t line, const struct call_facts *facts, bool is_stale, struct reply *r);

/* --- trouble.c --- */
/* error: as fetch says; -ENODATA nobody can be asked and nothing is held. */
void trouble(struct reply *r, struct request *q, const struct infer_path *p, struct str model, int error);
void trouble_text(struct reply *r, const struct infer_path *p, int status, const char *code,
		  struct str sentence);
