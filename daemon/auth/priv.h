/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth/priv - what the files of this room share.
 */
#pragma once
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

struct auth {
	struct index *index; /* borrowed from main */
	uint8_t key[SUBJECT_KEY_BYTES];
	/* may change while others read them: each is right by itself */
	_Atomic enum offline_access offline_access;
	_Atomic uint64_t offline_grace_ms, grant_ttl_ms, public_ttl_ms, deny_ttl_ms;
	const struct clock *clock;
	struct refusals refusals;
	struct metas metas;
};

void refusals_init(struct refusals *r);
void refusals_done(struct refusals *r);
/* Copies v's wording. A refusal of META also refuses FILES. */
void refusals_put(struct refusals *r, const uint8_t subject[SUBJECT_BYTES], const struct verdict_facts *v);
void refusals_forget(struct refusals *r, const uint8_t subject[SUBJECT_BYTES], struct str repo);
/* The time of the refusal that covers this level, or 0. ret_refusal may be NULL. */
int64_t refusals_find(struct refusals *r, const uint8_t subject[SUBJECT_BYTES], struct str repo,
		      enum access_level level, struct refusal *ret_refusal);

void metas_init(struct metas *m);
void metas_done(struct metas *m);
void metas_put(struct metas *m, const uint8_t subject[SUBJECT_BYTES], struct str repo, int64_t at);
/* 0: nothing known. */
int64_t metas_find(struct metas *m, const uint8_t subject[SUBJECT_BYTES], struct str repo);
void metas_forget(struct metas *m, const uint8_t subject[SUBJECT_BYTES], struct str repo);
void metas_forget_subject(struct metas *m, const uint8_t subject[SUBJECT_BYTES]);
