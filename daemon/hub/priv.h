/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/priv - what the handlers share.
 *
 * Glossary  door     access.c: may this subject read? Nothing below it runs without its yes.
 *           name     a revision and the commit it stands for; resolve.c and doc.c turn one into the other.
 *           document an API answer that is kept; doc.c knows when, info/tree/refs/paths_info what it teaches.
 *           lesson   what a work thread does once with an answer: check, learn facts, keep the document.
 */
#pragma once
#include "common/clock.h"
#include "common/http/uri.h"
#include "common/json.h"
#include "common/log.h"
#include "common/map.h"
#include "hub/hub.h"

/* How long a HEAD's word about a branch, and about a file we do not hold yet, is kept to the same client. */
#define PIN_MS 60000
#define PINS_MAX 16384

struct pins {
	struct lock lock;
	struct map *by_key; /* guarded by lock */
	struct list oldest; /* guarded by lock */
};

struct hub {
	struct hub_opts opts;
	_Atomic uint64_t name_ttl_ms, doc_ttl_ms;
	struct pins names;    /* client, subject, repo, revision -> commit */
	struct pins promises; /* content id -> "" : announced by HEAD while not yet held */
	struct pins chains;   /* document keys of tree pages whose predecessors are all known */
};

/* --- pin.c: small memories with an end --- */
void pins_init(struct pins *p);
void pins_done(struct pins *p);
/* value at most COMMIT_HEX bytes. */
void pins_put(struct pins *p, struct str key, struct str value, uint64_t now_mono_ms);
/* false: unknown, or older than PIN_MS. */
bool pins_find(struct pins *p, struct str key, uint64_t now_mono_ms, char ret_value[COMMIT_TEXT]);

/* --- access.c: the door --- */
enum door {
	DOOR_OPEN,   /* go on */
	DOOR_ASK,    /* only upstream knows: the question that is asked next is the proof */
	DOOR_CLOSED, /* reply is filled */
};
/* upstream_error: 0 when upstream can be asked for a proof, else why it cannot: what a client without one is told. */
enum door hub_door(struct hub *h, struct request *q, struct str repo, enum access_level level,
		   enum endpoint_class class, int upstream_error, struct reply *r);
bool is_commit(struct str revision);
/* Fields of the client that upstream may see: its name, and the ids that make support possible. */
void hub_pass_headers(const struct request *q, struct headers *to);
/* q's log fields. */
void hub_note(struct request *q, const struct hub_route *route);
/* Canonical repo into *out (initialised here; the caller's). */
struct str hub_canonical(struct hub *h, const struct hub_route *route, struct buf *out);

/* --- content.c: a file whose identity is known --- */
struct hub_file {
	struct str repo; /* canonical */
	char commit[COMMIT_TEXT];
	struct str path;
	struct content_id content;
	bool is_branch_url; /* addressed by a name that may move */
	bool is_public;     /* may outer caches keep it? */
	bool was_stale;     /* the name could not be checked just now */
	int64_t name_checked_at;
	struct str target; /* path and query on the Hub for the bytes */
};
int hub_serve_file(struct hub *h, struct request *q, const struct hub_file *file, struct reply *r);

/* --- raw.c: the text that git holds for an LFS file --- */
#define POINTER_ID_TEXT (2 * SHA1_BYTES + 1)
/* *out is initialised here, the caller's. ret_git_id: the id git gives it. */
void pointer_text(const struct content_id *content, struct buf *out, char ret_git_id[POINTER_ID_TEXT]);

/* --- learn.c: lessons --- */
struct lesson {
	struct hub *hub;
	char *asked_repo;         /* owned; what stood in the URL */
	char *repo;               /* owned; canonical when asked */
	char *revision;           /* owned or NULL */
	char *path;               /* owned or NULL */
	char *key;                /* owned or NULL: keep the answer as this document */
	char commit[COMMIT_TEXT]; /* of a pinned document, or "" */
	struct subject subject;   /* owned */
	enum access_level proves;
	/* After the checks and before the document is kept. Returns 0, or -EPROTO: the answer is not what
	 * it should be. */
	int (*teach)(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc);
};
struct lesson *lesson_new(struct hub *h, const struct request *q, const struct hub_route *route,
			  struct str repo, enum access_level proves);
void lesson_free(void *l);
/* The document's bytes: upstream's own, without what announces Xet. NULL: not JSON. The caller's. */
struct bytes *document_bytes(struct str text);
/* learn callbacks for questions; ctx is a struct lesson */
int lesson_of_resolve(void *ctx, const struct answer *a);
int lesson_of_document(void *ctx, const struct answer *a);
void learn_name(struct hub *h, struct str repo, struct str revision, struct str commit, int64_t at);
void learn_alias(struct hub *h, struct str asked, struct str canonical, int64_t at);
void learn_entry(struct hub *h, struct str repo, const char commit[COMMIT_TEXT], struct str path,
		 const struct content_id *content, int64_t at);
/* The entries of a tree or paths-info answer; directories are skipped. -EPROTO: malformed, or it contradicts itself. */
int learn_tree_items(struct lesson *l, const struct answer *a, const struct json *json);

/* --- doc.c: documents --- */
struct doc_spec {
	enum endpoint_class class;
	struct str repo; /* canonical */
	struct str key;
	struct str target; /* what upstream is asked */
	const char *method;
	struct str body; /* of the question; ptr NULL: none */
	struct str body_type;
	bool is_pinned;
	char commit[COMMIT_TEXT]; /* pinned to; or "" */
	uint64_t ttl_ms;
	int (*teach)(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc);
};
/* Serves from what is held, or asks and then serves. 0 with a reply, or -EAGAIN. */
int hub_serve_document(struct hub *h, struct request *q, const struct hub_route *route,
		       const struct doc_spec *spec, struct reply *r);
/*
 * The commit of the route's revision, asking for the revision's document if it is not known or too old.
 * Returns 0 with *ret_commit; 1 with a reply; -EAGAIN.
 */
int hub_commit_of(struct hub *h, struct request *q, const struct hub_route *route, struct str repo,
		  char ret_commit[COMMIT_TEXT], struct reply *r);
/* "c:tree/<commit>/<path>?<normal query>". Parameters sorted by name, booleans as true and false,
 * duplicates kept in order. */
int doc_key(struct buf *out, bool is_pinned, const char *what, struct str revision, struct str path,
	    struct str query);

/* --- info.c --- */
int hub_serve_info(struct hub *h, struct request *q, const struct hub_route *route, uint64_t ttl_ms,
		   struct str query, struct reply *r);

/* --- link.c: URLs in fields --- */
/* The rel="next" target of a Link value as path and query on our own server, or NULL. The caller's. */
char *link_next_of(const struct hub *h, struct str link_value);
/* A Location of the Hub's own origin as seen by the client, else unchanged. */
void link_location(const struct hub *h, const struct request *q, struct str location, struct buf *out);
/* "{base}{target}" as a Link value into the reply. */
void link_set_next(struct reply *r, const struct request *q, const char *target);
/* "models/a/b" from a redirect's Location to another name of a repo; ptr NULL when it is none. scratch
 * holds it. */
struct str link_repo_of(const struct hub *h, struct str location, struct buf *scratch);
