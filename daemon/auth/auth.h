/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth - which token has proved that it may read what.
 *
 * Owns      the key of subjects; the meaning of Authorization; remembered refusals; the daemon's own token and whom it is
 *           lent to; the administrator's list; who tries tokens.
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
/*
 * The administrator's list (acl.c). name is what messages call the file. Returns 0 and the caller's list; -EINVAL with a line
 * "NAME:LINE: reason" in errors for each mistake.
 */
struct acl;
int acl_parse(const char *name, struct str text, struct acl **ret_acl, struct buf *errors);
struct acl *acl_ref(struct acl *acl);
struct acl *acl_unref(struct acl *acl);
/* The daemon's own token (lender.c). Everything is copied. -EINVAL: something is missing, or is not sound. */
struct lender;
struct lender_opts {
	struct str token;
	const char *const *repos;   /* patterns; NULL ends */
	const char *const *clients; /* address, address/bits, uid:N; NULL ends */
	const struct str *keys;     /* what clients send in a token's place */
	size_t key_count;
};
int lender_new(const struct lender_opts *opts, struct lender **ret_lender);
struct lender *lender_ref(struct lender *l);
struct lender *lender_unref(struct lender *l);
/* For messages about options, before lender_new(). */
bool token_is_sound(struct str token);
#define LENDER_KEY_MIN 20
#define LENDER_TOKEN_MAX 1024
bool lender_key_is_sound(struct str key);
bool repo_pattern_is_sound(struct str pattern);
bool client_is_sound(struct str client); /* address, address/bits, uid:N */

/* How long what upstream said is believed, in milliseconds; and what the administrator said. */
struct auth_rules {
	enum offline_access offline_access;
	uint64_t offline_grace_ms, grant_ttl_ms, public_ttl_ms, deny_ttl_ms;
	bool refuses_clear_tokens; /* from other machines */
	struct acl *acl;           /* or NULL; referenced */
	struct lender *lender;     /* or NULL; referenced */
};
struct auth *auth_new(const struct auth_opts *opts);
void auth_free(struct auth *a);
/* Must be called before the first question, and may be again at any time. */
void auth_set_rules(struct auth *a, const struct auth_rules *rules);

/* Where a request comes from. */
struct peer {
	enum { PEER_UNKNOWN, PEER_ADDRESS, PEER_UNIX } kind;
	uint8_t address[16]; /* IPv4 as ::ffff:a.b.c.d */
	bool is_sealed; /* its bytes came in TLS: it was not in the clear, and nobody is told by the address who may what */
	uint32_t uid; /* PEER_UNIX */
};
/* Who asks. Lives as long as its request. */
struct subject {
	uint8_t id[SUBJECT_BYTES]; /* HMAC of the token, cut; zero: anonymous */
	struct secret *token;      /* owned reference; NULL: anonymous */
	char fingerprint[7];       /* six hex digits for the log, "-" for anonymous */
	struct peer peer;
	/* it has no token of its own, and may be lent the daemon's: for where it comes from, or for a key that it sent */
	enum { BORROWS_NOTHING, BORROWS_BY_PEER, BORROWS_BY_KEY } borrows;
	uint8_t key_id[SUBJECT_BYTES]; /* BORROWS_BY_KEY: that key's */
	bool is_lent;                  /* id and token are those of the daemon's token: auth_lend() */
};
/*
 * From the request's Authorization fields (Bearer in any case, Basic with the token as password: the same
 * subject).
 * client   its address, "tls:" and its address when it spoke TLS, or "unix:UID"
 * Returns 0; -EINVAL malformed, more than one, or over 4 KiB: never treated as anonymous (Z09); -EPERM a token that came in the
 * clear from another machine, and rules refuse that; -EBUSY too many invalid tokens from there (Z12).
 */
int auth_subject(struct auth *a, const struct headers *request, struct str client,
		 struct subject *ret_subject);
/* What stands for any secret that a request carries in other fields, under the same key. The secret is not kept. */
void auth_id_of(const struct auth *a, struct str secret, uint8_t ret_id[SUBJECT_BYTES]);
/* What stands for a token under this key: the id of its subject. */
void subject_id(const uint8_t key[32], struct str token, uint8_t ret_id[SUBJECT_BYTES]);
/*
 * From here on the request is about this repo (canonical): s becomes the daemon's own token where that is lent to it for this
 * repo, and itself again where not. To be called whenever the repo is known anew; the door does.
 */
void auth_lend(struct auth *a, struct subject *s, struct str repo);
/* May what this subject's question found be used for this repo? No: its token was lent for another one. */
bool auth_is_lent_for(struct auth *a, const struct subject *s, struct str repo);
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

enum upstream_state {
	UPSTREAM_ANSWERS,
	UPSTREAM_FAILED, /* this question; others may fare better */
	UPSTREAM_GONE,   /* fetch_is_down() */
};
/*
 * May this subject read `level` of repo (canonical) now?
 * ret_refusal       filled for ACCESS_DENY when upstream's wording is known (status 0 otherwise: offline
 *                   policy); done by the caller
 */
enum access_verdict auth_may_read(struct auth *a, const struct subject *s, struct str repo,
				  enum access_level level, enum upstream_state upstream,
				  struct refusal *ret_refusal);

/*
 * The same of one thing of the repo, once the repo itself may be read: has upstream shown it to this subject, or to somebody
 * without a token? what: as in index_find_shown(). No: for this subject it is as if it were not known, and upstream is asked.
 */
bool auth_may_see(struct auth *a, const struct subject *s, struct str repo, struct str what,
		  enum access_level level, enum upstream_state upstream);
/* What somebody without a token has been shown of it. */
enum access_level auth_shown_to_all(struct auth *a, struct str repo, struct str what);
/*
 * Of which repo a thing is. Times are in microseconds, of one clock that never stands still: `asked` before the question,
 * `heard` after its answer. The Hub's own id of the repo was seen, and is the one that is known; a thing that an answer with that
 * id names is of that repo; and so is what an answer showed that lies between two at which the id was seen.
 */
void auth_identity_seen(struct auth *a, struct str repo, int64_t asked, int64_t heard);
void auth_belongs(struct auth *a, struct str repo, struct str what, int64_t heard);
void auth_may_belong(struct auth *a, struct str repo, struct str what, int64_t asked, int64_t heard);
/* Upstream showed it to s; NULL: to all. */
void auth_shown(struct auth *a, const struct subject *s, struct str repo, struct str what,
		enum access_level level, int64_t at);

/*
 * Would it be allowed for what the request itself carries, and for what everybody may read? No: the administrator's word about
 * where it comes from, or about all, is what opened. Such an answer is for the client's programs and not for every page that a
 * browser there has open.
 */
/* what: ptr NULL: the repo itself. */
bool auth_is_own_right(struct auth *a, const struct subject *s, struct str repo, struct str what,
		       enum access_level level, enum upstream_state upstream);

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
/*
 * A ticket is a word in a URL that stands for a subject, for clients that do not send their token again: who holds it asks as
 * that subject, for one thing of one repo, until it was not used for an hour, and for a day at most. It opens nothing by
 * itself: the subject's own right is looked at as ever, and where it comes from is where its holder comes from. So who is
 * lent to by address needs none. Kept in memory only, at most 65,536; those not used for longest go
 * first. The same subject gets the same ticket for the same thing.
 * what  the thing ("sha256:<hex>"); with repo it must be the same when the ticket is found
 */
#define TICKET_TEXT 33
void auth_ticket_new(struct auth *a, const struct subject *s, struct str repo, struct str what,
		     char ret_ticket[TICKET_TEXT]);
/* from: of who presents it. Returns 0 with the subject, the caller's; -ENODATA no such ticket, too old, for something else, or its
 * key is not known any more. */
int auth_ticket_find(struct auth *a, struct str ticket, struct str repo, struct str what,
		     const struct peer *from, struct subject *ret_subject);

/*
 * Upstream's answer, of any kind, to a request with this subject's token: is the token itself any good? When it is not (any
 * more) all that it has proved is void. auth_learn() does this too.
 */
void auth_heard(struct auth *a, const struct subject *s, int status, const struct headers *answer);
/* Upstream called the daemon's own token invalid, and has not taken it since. */
bool auth_own_token_is_bad(struct auth *a);
/*
 * A repo has come into being, gone, or changed who may read it: what was proved or refused there, by anybody, counts no more.
 */
void auth_forget_repo(struct auth *a, struct str repo);
/* The Hub's word, to anybody, that everybody may see this much of it at most. The mark becomes an old one. */
void auth_narrow(struct auth *a, struct str repo, enum access_level level);
/* The bytes of a file were refused, in words that nobody kept: what was proved about the repo's files ends. */
void auth_refused(struct auth *a, const struct subject *s, struct str repo);
