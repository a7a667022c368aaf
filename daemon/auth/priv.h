/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth/priv - what the files of this room share.
 */
#pragma once
#include <stdatomic.h>
#include "auth/auth.h"
#include "common/list.h"
#include "common/lock.h"
#include "common/map.h"

/* Refusals remembered at most; beyond it the oldest goes, and its holder asks upstream once more. */
#define REFUSALS_MAX 4096
#define REFUSAL_BODY_MAX 4096
#define SUBJECT_KEY_BYTES 32

struct refusals {
	struct lock lock;
	struct map *by_key; /* guarded by lock; subject + level + repo -> struct remembered */
	struct list oldest; /* guarded by lock */
	size_t count;       /* guarded by lock */
};

#define METAS_MAX 16384

struct metas {
	struct lock lock;
	struct map *by_key; /* guarded by lock; subject + repo -> when, an int64_t */
};

struct tickets {
	struct lock lock;
	struct map *by_text, *by_thing; /* guarded by lock; the first owns */
	struct map *holders;            /* guarded by lock; id of a subject -> struct holder */
	struct list by_use;             /* guarded by lock; the one not used for longest first */
};

/* --- whom.c --- */
struct whom {
	enum { WHOM_SUBJECT, WHOM_UID, WHOM_SUBNET } kind;
	uint8_t subject[SUBJECT_BYTES];
	uint32_t uid;
	uint8_t address[16];
	unsigned bits; /* of address, that count */
};
int whom_parse(struct str text, struct whom *ret_whom);
bool whom_is(const struct whom *w, const struct subject *s);
/* "192.0.2.1", "2001:db8::1", "unix:1000". */
void peer_parse(struct str client, struct peer *ret_peer);
bool peer_is_this_machine(const struct peer *p);
/* A star stands for anything, slashes too. */
bool repo_pattern_matches(struct str pattern, struct str repo);

/* --- shown.c --- */
/* Sets is_of_thing, shown_to_all, shown_to_it. */
void shown_find(struct index *x, const struct subject *s, struct str repo, struct str what,
		struct access_facts *facts);

/* From now on what was shown to s (a token; or none) counts up to this level. */
void shown_hide(struct index *x, const struct subject *s, struct str repo, enum access_level level,
		int64_t now);

/* --- acl.c --- */
bool acl_allows(const struct acl *acl, const struct subject *s, struct str repo);

/* --- lender.c --- */
struct lender {
	_Atomic unsigned refs;
	struct secret *token; /* "Bearer ..." */
	uint8_t id[SUBJECT_BYTES];
	struct whom *clients; /* owned */
	size_t client_count;
	char **repos; /* owned */
	size_t repo_count;
	struct lender_key {
		struct secret *secret;
		uint8_t id[SUBJECT_BYTES];
	} * keys; /* owned */
	size_t key_count;
	_Atomic uint64_t
		refused_mono_ms; /* when upstream called the token invalid, plus one; 0: it did not */
	atomic_bool is_bad;      /* since then it was not heard to be good again */
};
/* Before anybody else sees it: the ids under this key. */
void lender_name(struct lender *l, const uint8_t key[SUBJECT_KEY_BYTES]);
bool lender_knows_peer(const struct lender *l, const struct subject *s);
bool lender_knows_key(const struct lender *l, const uint8_t id[SUBJECT_BYTES]);
bool lender_lends_for(const struct lender *l, struct str repo);
/* The caller's reference, or NULL. */
struct lender *lender_now(struct auth *a);
void lender_refused(struct lender *l, uint64_t now_mono_ms);
bool lender_is_refused(const struct lender *l, uint64_t now_mono_ms);

/* --- knocks.c --- */
#define KNOCKS_MAX 30 /* different invalid tokens that an address may send in a minute */
struct knocks {
	struct lock lock;
	struct map *knockers; /* guarded by lock; address -> struct knocker */
	struct map *good;     /* guarded by lock; ids of subjects whose token upstream took */
};
void knocks_init(struct knocks *k);
void knocks_done(struct knocks *k);
void knocks_bad(struct knocks *k, const struct subject *s, uint64_t now_mono_ms);
void knocks_good(struct knocks *k, const struct subject *s);
/* How long this subject is not heard; 0: it is. */
uint64_t knocks_wait_ms(struct knocks *k, const struct subject *s, uint64_t now_mono_ms);

struct auth {
	struct index *index; /* borrowed from main */
	uint8_t key[SUBJECT_KEY_BYTES];
	/* may change while others read them: each is right by itself */
	_Atomic enum offline_access offline_access;
	_Atomic bool refuses_clear_tokens, has_lender;
	struct lock lock;      /* of the two below: replaced as a whole, used by reference */
	struct acl *acl;       /* guarded by lock */
	struct lender *lender; /* guarded by lock */
	struct knocks knocks;
	_Atomic uint64_t offline_grace_ms, grant_ttl_ms, public_ttl_ms, deny_ttl_ms;
	const struct clock *clock;
	struct refusals refusals;
	struct metas metas;
	struct tickets tickets;
};

void refusals_init(struct refusals *r);
void refusals_done(struct refusals *r);
/* Copies v's wording. A refusal of META also refuses FILES. */
void refusals_put(struct refusals *r, const uint8_t subject[SUBJECT_BYTES], const struct verdict_facts *v);
void refusals_forget(struct refusals *r, const uint8_t subject[SUBJECT_BYTES], struct str repo);
void refusals_forget_repo(struct refusals *r, struct str repo);
/* The time of the refusal that covers this level, or 0. ret_refusal may be NULL. */
int64_t refusals_find(struct refusals *r, const uint8_t subject[SUBJECT_BYTES], struct str repo,
		      enum access_level level, struct refusal *ret_refusal);

void metas_init(struct metas *m);
void metas_done(struct metas *m);
void metas_put(struct metas *m, const uint8_t subject[SUBJECT_BYTES], struct str repo, int64_t at);
/* 0: nothing known. */
int64_t metas_find(struct metas *m, const uint8_t subject[SUBJECT_BYTES], struct str repo);
void metas_forget(struct metas *m, const uint8_t subject[SUBJECT_BYTES], struct str repo);
void metas_forget_repo(struct metas *m, struct str repo);
void metas_forget_subject(struct metas *m, const uint8_t subject[SUBJECT_BYTES]);

void tickets_init(struct tickets *s);
void tickets_done(struct tickets *s);
