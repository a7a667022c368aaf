/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth - which token has proved that it may read what.
 *
 * Owns      the key of subjects; the meaning of Authorization; remembered refusals.
 * Never     decides by itself who may read: verdicts come from upstream's own answer to the same token
 *           (reliability F.2).
 *           Never writes a token anywhere.
 * Threads   any.
 * Promises  (1) auth_may_read() says ALLOW only with a live grant of this subject, or a live public mark of
 *           the repo (P4).
 *           (2) a refusal is remembered for this subject only, and given back as upstream worded it.
 *           (3) 429, 5xx, time-outs and pages that are no Hub answer never create, extend or delete anything.
 */
#pragma once
#include "common/bytes.h"
#include "common/http/header.h"
#include "fetch/fetch.h"
#include "index/index.h"

struct auth;

struct auth_opts {
	struct index *index; /* borrowed, outlives auth */
	const uint8_t *key;  /* 32 bytes, copied */
	const struct clock *clock;
};
/* How long what upstream said is believed; milliseconds. */
struct auth_rules {
	enum offline_access offline_access;
	uint64_t offline_grace_ms, grant_ttl_ms, public_ttl_ms, deny_ttl_ms;
};
struct auth *auth_new(const struct auth_opts *opts);
void auth_free(struct auth *a);
/* Must be called before the first question, and may be again at any time. */
void auth_set_rules(struct auth *a, const struct auth_rules *rules);

/* Who asks. Lives as long as its request. */
struct subject {
	uint8_t id[SUBJECT_BYTES]; /* HMAC of the token, cut; zero: anonymous */
	struct secret *token;      /* owned reference; NULL: anonymous */
	char fingerprint[7];       /* six hex digits for the log, "-" for anonymous */
};
/*
 * From the request's Authorization fields (Bearer in any case, Basic with the token as password: the same
 * subject).
 * Returns 0; -EINVAL malformed, more than one, or over 4 KiB: 400, never treated as anonymous (Z09).
 */
int auth_subject(struct auth *a, const struct headers *request, struct subject *ret_subject);
void subject_done(struct subject *s);

/* How upstream worded its refusal. */
struct refusal {
	int status;             /* 401 403 404 451 */
	char *error_code;       /* X-Error-Code or NULL */
	char *error_message;    /* X-Error-Message or NULL */
	char *www_authenticate; /* or NULL */
	char *content_type;     /* or NULL */
	struct bytes *body;     /* at most 4 KiB, or NULL */
};
void refusal_done(struct refusal *r);

/*
 * May this subject read `level` of repo (canonical) now?
 * upstream_is_down  fetch_is_down()
 * ret_refusal       filled for ACCESS_DENY when upstream's wording is known (status 0 otherwise: offline
 *                   policy); done by the caller
 */
enum access_verdict auth_may_read(struct auth *a, const struct subject *s, struct str repo,
				  enum access_level level, bool upstream_is_down,
				  struct refusal *ret_refusal);

/* What upstream answered to this subject's own request on this repo, asked for at `asked_at` (wall clock,
 * start of the probe). */
struct verdict_facts {
	struct str repo;
	enum access_level proves; /* FILES: a resolve, raw, LFS answer. META: an /api answer. */
	int status;
	const struct headers *headers;
	struct str body; /* of a refusal */
	int64_t asked_at;
};
/* Learns from any answer. Refusals that are about an entry or a revision (EntryNotFound, RevisionNotFound)
 * prove access. */
void auth_learn(struct auth *a, const struct subject *s, const struct verdict_facts *v);
/* Did upstream say that the token itself is no good (any more)? Then all that it has proved is void. */
bool auth_is_bad_token(int status, const struct headers *answer);
void auth_forget_subject(struct auth *a, const struct subject *s);
