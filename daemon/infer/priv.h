/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/priv - what the files of this room share.
 *
 *   path.c     which call a path is: all spellings of one call become one
 *   control.c  what the request says about caching
 *   decide.c   give, ask or refuse: the truth table
 *   record.c   an answer as a blob
 *   call.c     all of that of one request, once; the keys of its answer
 *   tag.c      what is known of a model: its task, and whether answers of it are kept
 *   shelf.c    answers that were given lately, in memory
 *   nap.c      waiting for a time
 *   page_path.c, page.c  what is read with GET: lists of models, how one is, which tasks there are
 *   mapping.c  who serves a model, when the Hub cannot be asked
 *   large.c    bodies that are too long to be looked into
 *   targets.c  whom to ask, in which order; target_ask.c: how
 *   labels.c   how a model's classes are called
 *   chain.c    what a backend says, translated
 *   ask.c      the call is made
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
#include "common/map.h"
#include "infer/infer.h"

#define INFER_REPO "inference" /* under which the index keeps records; no repo of the Hub has such a name */

/* Longer bodies are passed on in constant memory, and nothing is kept of them (inference-protocol 3.6). */
#define CALL_BODY_MAX ((uint64_t)64 << 20)
/* What is sampled, or repeated only by the promise of a seed, is old after that (3.5). */
#define SAMPLE_TTL_S ((int64_t)30 * 24 * 3600)

#define INFER_MODES_MAX 256

struct shelf {
	struct lock lock;
	struct map *by_key; /* guarded by lock */
	struct list oldest; /* guarded by lock */
	size_t bytes;       /* guarded by lock */
};

struct infer {
	struct shelf shelf;
	struct infer_opts opts;
	struct lock lock;
	struct infer_rules rules; /* guarded by lock; without its list */
	struct {
		char *pattern; /* owned */
		enum infer_mode mode;
	} modes[INFER_MODES_MAX]; /* guarded by lock */
	unsigned mode_count;      /* guarded by lock */
};
/* The mode for one call: that of the first pattern that fits its model, as it was named or as it is called now, or its path. */
enum infer_mode infer_mode_of(struct infer *i, struct str model, struct str repo, struct str target);
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
/* Without ":groq", ":fastest" and the like: what the Hub calls it. */
struct str model_id(struct str model);
/* Is this first segment the name of a provider? */
bool path_is_provider(struct str segment);

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
	bool is_held; /* there is a record */
	bool is_closed; /* it may be given only after upstream was asked, or not at all: its model is protected */
	bool is_seeded;   /* it repeats by the promise of a seed */
	bool lacks_usage; /* the client wants to hear of tokens, and the record does not tell */
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
const char *form_name(enum infer_form form);
struct record {
	enum infer_form form;
	enum dialect dialect;
	enum repeat repeat;
	int64_t made_at;
	bool has_usage;
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

/* --- call.c --- */
#define CALL_KEYS_MAX 8
struct call {
	int error; /* -ENOENT no path; -EINVAL the body could not be read; -EDOM no name of a namespace */
	struct infer_path path;
	struct str body;     /* borrowed from the request's spool */
	struct str boundary; /* of a form; borrowed from its fields */
	struct call_facts facts;
	struct infer_control control;
	struct str model; /* as the client named it */
	struct str task;  /* as the path says, or what is known of the model */
	struct buf tag;
	struct buf repo; /* "models/…", what the Hub calls it now; empty: no model is named */
	uint8_t identity[SUBJECT_BYTES]; /* who asks */
	uint8_t own
		[SUBJECT_BYTES]; /* whose own answers: those of identity, in the namespace that was named */
	struct str space;        /* "ns:NAME"; "" none was named, or none may be */
	struct buf space_text;
	bool is_anonymous;
	bool is_public, is_protected; /* its model, as the Hub said last; neither: not known */
	bool is_opaque;               /* the body was not looked into: nothing may be kept */
	bool is_shared;               /* keys[0] is everybody's */
	bool is_image;
	char accept[64];                         /* of makers of images: the one type that is wanted */
	struct digest keys[CALL_KEYS_MAX], base; /* base: keys[0] for any type */
	unsigned key_count;                      /* 0: nothing is kept or given */

	/* what the handler remembers between its runs */
	struct nap *nap;
	uint64_t waits_until_ms; /* monotonic; 0: it has not begun to wait */
	bool was_promoted;
	bool had_old;  /* when it was made there was an answer, but none that was good enough */
	bool was_late; /* its answer was kept between the look-up and the call; that is believed once */
};
/* The request's; its error is set when it cannot be read. */
struct call *call_of(struct infer *i, struct request *q);
/* Whose own answers a request may be given: its token's, or those of the other secrets that it carries. Returns false: nobody's. */
bool identity_of(struct infer *i, const struct request *q, uint8_t ret[SUBJECT_BYTES]);
/* May a kept answer be given without asking upstream? Rights of protected models end (inference-protocol 3.4). */
bool call_may_be_given(struct infer *i, const struct call *c, const struct request *q);
/* Whom a call is for, or who answered it ("upstream", or a backend's name; NULL: nobody yet), as counters call them. */
unsigned call_provider(const struct call *c, const char *answered_by);
/* The key of the same call with this one acceptable type. */
void key_for_type(const struct digest *base, struct str type, struct digest *ret);

/* --- tag.c --- */
/* The task of a model ("models/…"), as the Hub's information on it says. Returns 0, appended; -ENODATA. */
int tag_of(struct infer *i, struct str repo, struct buf *out);
/* An answer of this model is kept for whom this partition stands for: from now on known_task() tells so. */
void known_put(struct infer *i, struct str partition, struct str model, struct str task,
	       const struct doc *answer);
/* Is one kept? Returns 0 with its task, maybe "", appended; -ENODATA. */
int known_task(struct infer *i, struct str partition, struct str model, struct buf *out);

/* --- nap.c --- */
struct nap *nap_begin(struct fetch *f, uint64_t ms);
/* false: it is over. */
bool nap_wait(struct nap *n, struct waiter *w);
void nap_free(struct nap *n);

/* --- shelf.c --- */
/* A record that is open, ready to be given. Immutable once it is on the shelf. */
struct kept {
	_Atomic int refs;
	struct digest digest; /* of its blob */
	struct record record;
	struct bytes *body; /* in the form that was wanted; NULL: as it lies in blob, behind line */
	struct blob *blob;
	size_t line;
};
struct kept *kept_new(const struct digest *blob);
struct kept *kept_ref(struct kept *k);
struct kept *kept_unref(struct kept *k); /* returns NULL */
void shelf_init(struct shelf *s);
void shelf_done(struct shelf *s);
/* form: which of its forms; a letter of the caller's. A reference, or NULL. */
struct kept *shelf_find(struct shelf *s, const struct digest *blob, char form);
void shelf_put(struct shelf *s, struct kept *kept, char form);

/* --- keep.c --- */
/* The two ends of an answer that is not a stream. */
struct glance {
	char head[2048], tail[2048];
	size_t head_len, tail_len;
};
/* What a cast needs to judge and keep its answer. All copied. */
struct keeping {
	struct infer *infer;
	struct digest key, base;
	enum dialect dialect;
	enum repeat repeat;
	bool is_image, is_shared;
	char accept[64];
	uint8_t partition[SUBJECT_BYTES]; /* unless is_shared */
	struct stream_watch watch;
	bool is_stream; /* the answer says so */
	int status;
	char *model, *task; /* owned */
	char *served_by;    /* owned */
	unsigned provider;
	struct glance *glance; /* owned; NULL: it is no JSON; the fetch thread's */
	struct buf rest;       /* of an event that is not complete yet; the fetch thread's */
};
struct keeping *keeping_new(struct infer *i, const struct call *c, const char *served_by);
void keeping_free(void *k);
extern const struct cast_filter keeping_filter;
void keeping_ended(void *ctx, const struct cast_answer *a);
/* Stores bytes; a full store makes room for them as it does for a file. Waits: for work threads. Returns as store_put_bytes(). */
int answer_put(const struct infer *i, struct bytes *bytes, struct blob_meta *ret);

/* --- targets.c, target_ask.c: whom to ask, in which order (inference-protocol 4.2, 4.4) --- */
/* What one run of the handler asks for; all borrowed. */
struct targets_call {
	struct request *q;
	const struct infer_path *path;
	const struct call_facts *facts;
	const struct infer_control *control;
	const struct infer_rules *rules;
	struct str model; /* as the client named it, with its suffix; "" */
	struct str task;  /* as the path says, or what is known of the model; "" */
	struct str body;
	const struct call *call;
};
/*
 * Is there anybody who may be asked for it? For infer_facts: backends are asked in mode offline and without the Hub too, upstream
 * is not.
 */
bool targets_any(struct infer *i, const struct targets_call *c);
#define UPSTREAM FETCH_BACKENDS_MAX /* its number among the candidates */
/* What a request remembers of those that it has asked. */
struct trail {
	bool has_failed[UPSTREAM + 1], was_repeated[UPSTREAM + 1];
	unsigned current;
	const char *name; /* of the current one */
	int error;        /* why the last one failed */
	uint64_t queue_until_ms, pause_until_ms;
	bool has_dropped; /* parameters that one said it does not know */
	unsigned drops_for;
	struct buf dropped; /* their names, a line each */
};
struct trail *trail_of(struct request *q);
/* The key of a cast of this target; *out is initialised here. */
void target_key(struct str key, const char *name, struct buf *out);
/* Without the router's policies: ":fastest", ":groq". */
struct str name_of_model(struct str model);
struct target {
	const char *name;   /* "upstream", or the backend's; constant for the daemon's life */
	unsigned candidate; /* targets.c's own */
	struct slot *slot;
};
/*
 * The next one that has not failed yet.
 * key  what makes this call shareable; empty: with nobody. The same for all targets.
 * Returns 0: target_ask() must follow; 1: q->ear hears what others have begun; -EAGAIN parked, return it; -E2BIG all are busy
 * (429); else why there is nobody: the last one's error, or -ENODATA, -EDESTADDRREQ.
 */
int targets_next(struct infer *i, const struct targets_call *c, struct str key, struct target *ret);
/*
 * Begins. query has answer_max, finish_alone, filter, ended, ctx, free_ctx set by the caller, whose filter hears what the client
 * does; all the rest is the target's. Takes the target, and ctx as cast_join() does. Returns as cast_join(), with q->ear; 1: this
 * target cannot be asked for it after all: call targets_next() again (ctx is freed).
 */
int target_ask(struct infer *i, const struct targets_call *c, struct target *take, struct str key,
	       struct cast_query *query);
/*
 * The ear has its head (error 0), or has none (error).
 * Returns 0: this is the answer; 1: q->ear is gone, call targets_next(); -EAGAIN parked, with or without it; else the error.
 */
int targets_settle(struct infer *i, const struct targets_call *c, int error, int status,
		   const struct headers *fields);
/* Whom q->ear hears: "upstream", or the backend's name. */
const char *targets_name(const struct request *q);
/* Does a backend serve it, maybe by a glob? task, appended: what that one does; "" when not known. */
bool targets_serve(struct infer *i, struct str model, struct buf *task);
/* For what can be answered here without upstream; false ends it. task: "" when not known. */
void targets_each_model(struct infer *i,
			bool (*each)(void *ctx, struct str model, struct str task, struct str owner),
			void *ctx);

/* --- ask.c, serve.c --- */
/* One run of the handler. */
struct run {
	struct infer *infer;
	struct request *q;
	struct infer_rules rules;
	struct call *call;
	struct targets_call targets;
	struct infer_facts known;
	struct kept *kept; /* the record, or NULL */
};
/* Looks up again: is there an answer that would be given now? */
bool run_would_give(struct run *x);
struct answer_head {
	int status;
	const struct headers *fields;
	int64_t length;
};
/*
 * Makes the call. Returns 0 with the head of the answer, borrowed from q->ear; -EAGAIN parked; -EALREADY the answer has been kept
 * meanwhile: it is to be looked up; else why there is none.
 */
int run_ask(struct run *x, struct answer_head *ret);

/* --- labels.c --- */
/* Appends the model's "id2label" as JSON. Returns 0; -ENODATA not known, or not for this client. */
int model_labels(struct infer *i, const struct call *c, const struct request *q, struct buf *out);

/* --- chain.c --- */
/* Puts the translation between the server and the filter that the query has. commit: "" not known. */
void chain_put(struct adapted *take_adapted, struct slot *take_slot, const char commit[41],
	       struct cast_query *query);

/* --- give.c --- */
/* Which form of an answer this call wants: a letter for the shelf. */
char wanted_form(const struct call *c);
/* Opens the record of this key. Returns 0 with the caller's reference; -ENODATA. */
int record_find(struct infer *i, const struct digest *key, char form, struct kept **ret);
/* The record as this client wants it. */
int record_give(struct infer *i, struct request *q, const struct call *c, struct kept *kept, bool is_stale,
		struct reply *r);
/* What pages may read of an answer. */
void expose_fields(struct reply *r);
/* "hfcache; {words}; key=…", behind what the fields of an answer that came now say; heard: those, or NULL. */
void set_cache_status(struct reply *r, const char *words, const struct call *c, const struct headers *heard);

/* --- page_path.c --- */
#define PAGE_BYTES_MAX ((size_t)16 << 20)
enum page_kind { PAGE_PASS, PAGE_MODELS, PAGE_MODEL, PAGE_INFO, PAGE_HEALTH, PAGE_STATUS, PAGE_TASKS };

struct page {
	enum page_kind kind;
	enum fetch_origin origin;
	struct str model; /* points into the request */
	struct buf target, body;
	struct digest key;
	uint8_t identity[SUBJECT_BYTES];
	bool is_personal; /* asked for with the client's token, and kept for it alone */
	char *type;       /* owned or NULL: of body */
	bool is_whole;    /* body is the answer */
};
/* The request's, in its memo. */
struct page *page_of(struct infer *i, struct request *q);

/* --- mapping.c --- */
/* Does a backend of one's own say that it serves it? Appends its task, maybe none. */
bool backend_has(struct infer *i, struct str model, struct buf *task);
/* Who it is that asks, of a request that is no call. */
void page_identity(struct infer *i, const struct request *q, uint8_t ret[SUBJECT_BYTES]);
/* Is it served here: by a backend, or from kept answers of this identity? task may stay empty. */
bool model_is_local(struct infer *i, const uint8_t identity[SUBJECT_BYTES], struct str model,
		    struct buf *task);

/* --- trouble.c --- */
/* error: as fetch says; -ENODATA nobody can be asked and nothing is held. */
void trouble(struct reply *r, struct request *q, const struct infer_path *p, struct str model, int error);
void trouble_text(struct reply *r, const struct infer_path *p, int status, const char *code,
		  struct str sentence);
