/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy - decisions: facts in, verdict out. No I/O, no clock of its own, no state; every truth table is a
 * unit test.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "common/http/range.h"
#include "common/str.h"

/* --- freshness
 * ------------------------------------------------------------------------------------------------ */

enum freshness {
	FRESH_USE,        /* answer from what we hold */
	FRESH_REVALIDATE, /* ask upstream; what we hold may be used if upstream is unreachable */
	FRESH_FETCH,      /* nothing held: ask upstream or say that we do not know */
};

struct freshness_facts {
	bool is_held;
	bool is_immutable;  /* addressed by a commit */
	int64_t checked_at; /* wall clock, when upstream last agreed */
	int64_t now;
	uint64_t ttl_ms;
	bool upstream_is_down; /* breaker open or offline: what is held is used at once */
};
enum freshness policy_freshness(const struct freshness_facts *f);

/* --- grants (reliability F.2, hub-protocol 4.3)
 * ----------------------------------------------------------------- */

enum access_level { ACCESS_NONE, ACCESS_META, ACCESS_FILES };
enum access_verdict { ACCESS_ALLOW, ACCESS_DENY, ACCESS_PROBE };
/*
 * Who reads what is not public while upstream cannot be asked. PUBLIC: nobody. GRANTS: whose own proof is young enough.
 * ACL: whom the administrator's list names, and nobody else. OPEN: everybody.
 */
enum offline_access { OFFLINE_PUBLIC, OFFLINE_GRANTS, OFFLINE_ACL, OFFLINE_OPEN };
const char *policy_offline_name(enum offline_access access); /* the word of the option offline.access */

struct access_facts {
	enum access_level wanted;
	/* the repo's mark: what an anonymous request was last allowed, and when that was learnt (0: never) */
	enum access_level public_level;
	int64_t public_at;
	/* this subject's grant */
	enum access_level granted;
	int64_t granted_at;
	/* this subject's last refusal, newer than its grant (0: none) */
	int64_t denied_at;
	bool is_anonymous;
	/*
	 * Not the repo is wanted but one thing of it: a commit with all that is pinned to it, a document, an object. Then it also
	 * counts what upstream itself has shown of that thing: to somebody without a token, and to this subject.
	 */
	bool is_of_thing;
	enum access_level shown_to_all, shown_to_it;
	int64_t now;
	bool upstream_is_down; /* this question found nobody to prove it */
	/* nobody can ask it anything, and no client brought that about: only then do the administrator's own words count */
	bool upstream_is_gone;
	enum offline_access offline_access;
	bool is_listed; /* the list of OFFLINE_ACL names this subject for this repo */
	uint64_t public_ttl_ms, grant_ttl_ms, deny_ttl_ms, offline_grace_ms;
};
/* A clock that runs backwards (now + 5 min < learnt) makes every grant unusable: PROBE, or DENY when
 * upstream is down. */
enum access_verdict policy_access(const struct access_facts *f);

/* --- inference --- */

/* What is kept and given again (inference-protocol 3.1). */
enum infer_mode {
	INFER_OFF,           /* pass everything through */
	INFER_DETERMINISTIC, /* keep what is repeatable */
	INFER_RECORD,        /* keep samples too, for when upstream is out of reach */
	INFER_REPLAY,        /* give whatever is kept; ask for the rest */
	INFER_OFFLINE,       /* never ask */
};
/* Who is given what was kept (3.4). */
enum infer_scope {
	INFER_IDENTITY, /* the token that asked for it */
	INFER_SHARED,   /* everybody, for models that are proven to be public */
	INFER_NAMED,    /* the same, among those who name the same namespace */
};
/* Which program an inference server of one's own is: its paths, and how it says things (inference-protocol 4.1). */
enum backend_kind {
	BACKEND_HF, /* the pipeline contract of the Hub's own service, at the URL itself */
	BACKEND_TGI,
	BACKEND_TEI,
	BACKEND_VLLM,
	BACKEND_LLAMACPP,
	BACKEND_OLLAMA,
	BACKEND_OPENAI, /* any server that speaks /v1/… */
};
/* Their words, as options spell them. policy_infer_mode(): -EINVAL it is none. */
int policy_infer_mode(struct str word);
const char *policy_backend_name(enum backend_kind kind);

/* --- fills
 * --------------------------------------------------------------------------------------------------- */

enum fill_plan {
	FILL_WHOLE,  /* fetch everything; the reader is fed on the way */
	FILL_WINDOW, /* fetch what was asked for, rounded to *ret_window, and no more */
};
/*
 * wanted  the bytes one reader asks for, within [0, size)
 * A small file is always fetched whole (at most 8 MiB); so is an open-ended or large range (at least half
 * of the file).
 */
enum fill_plan policy_fill_plan(struct byte_range wanted, bool is_open, uint64_t size,
				struct byte_range *ret_window);
/* Should a reader at `offset` wait for a transfer that now stands at `position` and runs at `bytes_per_s`,
 * or start its own? */
bool policy_worth_waiting(uint64_t offset, uint64_t position, uint64_t bytes_per_s);
/* How many of the last bytes of a file of this size stay back until its digest matches. */
uint64_t policy_held_back_bytes(uint64_t size);

/* --- retry (reliability C.5, hub-protocol 2.1)
 * ------------------------------------------------------------------ */

struct retry_facts {
	int error;              /* 0 or -errno of the transport */
	int status;             /* HTTP status, 0 if none */
	unsigned attempts;      /* made so far, without progress between */
	bool made_progress;     /* bytes arrived since the last failure */
	bool is_signed_hop;     /* the answer came from a signed URL, not from the Hub's origin */
	int64_t retry_after_ms; /* -1: none said */
};
struct retry_verdict {
	bool again;
	uint64_t wait_ms; /* with jitter taken from `dice` (0..UINT32_MAX) */
};
struct retry_verdict policy_retry(const struct retry_facts *f, uint32_t dice);
/* A connection that was not made for want of descriptors, memory or ports, or by a rule of this machine: fetch/ tells it so. */
bool policy_is_own_limit(int error);

/* --- quota
 * --------------------------------------------------------------------------------------------------- */

/* Bytes to free so that `wanted` more fit under `limit` (0 means no limit) and `reserve` stays free on the
 * disk;
 * UINT64_MAX when it can never fit. */
uint64_t policy_bytes_to_free(uint64_t used, uint64_t reserved, uint64_t wanted, uint64_t limit,
			      uint64_t disk_free, uint64_t disk_reserve);

/* --- upstream's rate limits (hub-protocol 5.4)
 * ------------------------------------------------------------------ */

/* The Hub counts requests in these; the viewer is a service of its own. */
enum rate_bucket { RATE_API, RATE_RESOLVERS, RATE_PAGES, RATE_VIEWER, RATE_BUCKET_COUNT };
/* Where the Hub counts a request to this path (the query does not matter). */
enum rate_bucket policy_rate_bucket(struct str path);
/* "api" … as upstream itself writes it. */
const char *policy_rate_name(enum rate_bucket bucket);

/* What one principal may still ask in one bucket. All zero: nothing is known, everything passes. */
struct rate_budget {
	bool is_told;            /* left and quota mean something until window_mono_ms */
	uint64_t left, quota;    /* quota 0: not told */
	uint64_t window_mono_ms; /* the end of the window that left speaks of */
	uint64_t closed_mono_ms; /* nothing before; in the past: open */
	bool was_refused;        /* closed by a 429: afterwards one goes alone and finds out */
	bool is_trying;          /* that one is out */
	unsigned refusals;       /* 429 in a row */
};
enum rate_pass {
	RATE_PASS,
	RATE_TRY, /* alone; its end goes to policy_rate_told() or policy_rate_unsure() */
	RATE_STOP,
};
/*
 * is_background  nobody waits for it: it leaves the last tenth of a window to those who do
 * ret_wait_ms    with RATE_STOP: when to come again; at least one second
 */
enum rate_pass policy_rate_ask(struct rate_budget *b, uint64_t now_mono_ms, bool is_background,
			       uint64_t *ret_wait_ms);
/* The same look, without going: 0 when it may. */
uint64_t policy_rate_wait_ms(const struct rate_budget *b, uint64_t now_mono_ms);

/* An answer's words; negative: not said, or nonsense. */
struct rate_told {
	bool is_refusal; /* 429 */
	int64_t left, window_ms, quota;
	int64_t retry_after_ms;
};
/* dice: jitter, 0..UINT32_MAX. No wait is longer than ten minutes, whatever upstream says (U13). */
void policy_rate_told(struct rate_budget *b, const struct rate_told *told, uint64_t now_mono_ms, bool was_try,
		      uint32_t dice);
/* The one that was to find out ended without an answer: the next may try. */
void policy_rate_unsure(struct rate_budget *b);
