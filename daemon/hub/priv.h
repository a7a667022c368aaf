/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/priv - what the handlers share.
 *
 * Glossary  door     access.c: may this subject read? Nothing below it runs without its yes.
 *           name     a revision and the commit it stands for; resolve.c and doc.c turn one into the other.
 *           document an API answer that is kept; doc.c knows when, info/tree/refs/paths_info/dataset what it teaches.
 *           whole    the text of all entries of a commit, joined from the pages of its tree (chain.c, whole.c).
 *           layout   where the items of a whole tree lie in its text (layout.c).
 *           lesson   what a work thread does once with an answer: check, learn facts, keep the document.
 */
#pragma once
#include <stdatomic.h>
#include "common/clock.h"
#include "common/http/uri.h"
#include "common/json.h"
#include "common/log.h"
#include "common/map.h"
#include "hub/hub.h"

struct space_keeps;

/* How long a HEAD's word about a branch, and about a file we do not hold yet, is kept to the same client. */
#define PIN_MS 60000
#define PINS_MAX 16384

struct pins {
	uint64_t life_ms; /* constant */
	struct lock lock;
	struct map *by_key; /* guarded by lock */
	struct list oldest; /* guarded by lock */
};

struct layouts {
	struct lock lock;
	struct list latest;  /* guarded by lock */
	size_t count, items; /* guarded by lock */
};

/* hrefs.c: signed addresses of objects, as upstream gave them. */
#define HREF_BYTES_MAX 8192
#define HREFS_MAX 8192
#define HREFS_BYTES_MAX ((size_t)16 * 1024 * 1024)

struct hrefs {
	struct lock lock;
	struct map *by_key; /* guarded by lock */
	struct list oldest; /* guarded by lock */
	size_t bytes;       /* guarded by lock */
};

/* tunnel.c: addresses of the Hub's storage that clients put bytes to, by ticket. */
#define TUNNELS_MAX 32768
#define TUNNEL_BYTES_MAX ((size_t)32 * 1024 * 1024)

struct tunnels {
	struct lock lock;
	struct map *by_ticket; /* guarded by lock */
	struct map *shares;    /* guarded by lock; id of a subject -> how much of it is its own */
	struct list oldest;    /* guarded by lock */
	size_t bytes;          /* guarded by lock */
};

/* xet_upload.c: where tokens for writing lead to. */
#define XET_UPLOADS_MAX 4096
#define XET_UPLOADS_OF_ONE_MAX 256

struct xet_uploads {
	struct lock lock;
	struct map *by_token; /* guarded by lock; what stands for a token -> its storage */
	struct list oldest;   /* guarded by lock */
};

struct hub {
	struct hub_opts opts;
	_Atomic uint64_t name_ttl_ms, doc_ttl_ms;
	_Atomic uint64_t write_count; /* writes.c */
	_Atomic int64_t tick;         /* lesson.c: the last time that it gave */
	struct pins writes;           /* repo, or who wrote and repo -> the number of its last write */
	struct tunnels tunnels;
	struct xet_uploads xet_uploads;
	struct pins names;    /* client, subject, repo, revision -> commit */
	struct pins promises; /* content id -> "" : announced by HEAD while not yet held */
	_Atomic bool asks_for_all; /* for_all.c */
	struct pins not_for_all;   /* repo -> "" */
	struct layouts layouts;
	struct hrefs hrefs;              /* repo and object -> where its bytes are */
	struct space_keeps *space_keeps; /* space_keep.c; a count of ours */
};

/* --- pin.c: small memories with an end --- */
void pins_init(struct pins *p, uint64_t life_ms);
void pins_done(struct pins *p);
/* value at most COMMIT_HEX bytes. */
void pins_put(struct pins *p, struct str key, struct str value, uint64_t now_mono_ms);
/* false: unknown, or its life is over. */
bool pins_find(struct pins *p, struct str key, uint64_t now_mono_ms, char ret_value[COMMIT_TEXT]);
void pins_drop(struct pins *p, struct str key);

/* --- hrefs.c --- */
void hrefs_init(struct hrefs *s);
void hrefs_done(struct hrefs *s);
/* expires_at and now: wall clock. One that is too long, or that is over, is not kept. */
void hrefs_put(struct hrefs *s, struct str repo, const struct digest *oid, struct str url, int64_t expires_at,
	       int64_t now);
/* Appends it. false: not known, or it is over. */
bool hrefs_find(struct hrefs *s, struct str repo, const struct digest *oid, int64_t now, struct buf *out);

/* --- access.c: the door --- */
enum door {
	DOOR_OPEN,   /* go on */
	DOOR_ASK,    /* only upstream knows: the question that is asked next is the proof */
	DOOR_CLOSED, /* reply is filled */
};
/* upstream_error: 0 when upstream can be asked for a proof, else why it cannot: what a client without one is told. */
enum door hub_door(struct hub *h, struct request *q, struct str repo, enum access_level level,
		   enum endpoint_class class, int upstream_error, struct reply *r);
/* Is it known before asking that upstream cannot be asked? Once asked, what this request heard itself is what counts. */
bool hub_is_down(const struct hub *h, const struct request *q);
/*
 * Why there is no proof, of an answer. A rate limit is no outage: whoever uses it up must not get more than what is proved already,
 * so it counts like any other answer that proves nothing.
 */
int proof_error(const struct answer *a);
bool is_commit(struct str revision);
/* Fields of the client that upstream may see: its name, and the ids that make support possible. */
void hub_pass_headers(const struct request *q, struct headers *to);
/* q's log fields. */
void hub_note(struct request *q, const struct hub_route *route);
/* Canonical repo into *out (initialised here; the caller's): the route's own when an alias of it is to be looked at again. */
struct str hub_canonical(struct hub *h, const struct request *q, const struct hub_route *route,
			 struct buf *out);

/* --- content.c: a file whose identity is known --- */
/*
 * What upstream said of size and digest cannot both be true: bytes with this digest are held, and have another size. Sizes are
 * written by whoever commits a pointer, so nothing may be learned from that, and nothing served by it.
 */
bool hub_is_contradicted(struct hub *h, const struct content_id *content);
struct hub_file {
	struct str repo; /* canonical */
	char commit[COMMIT_TEXT];
	struct str path;
	struct content_id content;
	bool is_branch_url; /* addressed by a name that may move */
	bool is_public;     /* may outer caches keep it? */
	bool was_stale;     /* the name could not be checked just now */
	int64_t name_checked_at;
	struct str target;   /* path and query on the Hub for the bytes */
	struct str location; /* as in struct flight_source */
	bool is_object;      /* named by its SHA-256: path is for messages only, commit may be "" */
	struct str self;     /* of a registry's blob: what a 200 gives as its Location */
	enum endpoint_class class;
};
/* Returns 0 with a reply; -EAGAIN; -ERESTART; 1: it is not held, and file says neither target nor location. */
int hub_serve_file(struct hub *h, struct request *q, const struct hub_file *file, struct reply *r);

/* --- object.c: bytes by SHA-256, within one repo: LFS objects and registry blobs --- */
struct hub_object {
	struct str repo; /* canonical */
	struct digest sha256;
	/* What upstream is asked for the bytes when no entry of the repo names them. Set by find_source(). */
	struct buf *target, *location;
	bool must_ask; /* only upstream knows whether it is there, or whether this subject may read it */
	const struct answer
		*answer; /* find_source()'s, if it asked and leaves what no help means to object.c; or NULL */
};
struct hub_object_kind {
	/*
	 * The object, or where its bytes come from, is not known: ask upstream, with the request's own subject, and learn it
	 * (FACT_OBJECT) or set target or location. Returns 0: look again; 1 with a reply; -EAGAIN parked. Called only after
	 * the door said OPEN or ASK; a good answer proves ACCESS_FILES.
	 */
	int (*find_source)(struct hub *h, struct request *q, const struct hub_route *route,
			   struct hub_object *o, struct reply *r);
	bool is_registry; /* Docker-Content-Digest, and a Location to itself on 200 (hub-protocol 2.7) */
	enum endpoint_class class;
};
/*
 * Who asks is the request's Authorization, else the ticket of its query ("ticket="). Same rules, same blobs and same flights as
 * resolve. 0 with a reply, or -EAGAIN.
 */
int hub_serve_object(struct hub *h, struct request *q, const struct hub_route *route, struct str oid_hex,
		     const struct hub_object_kind *kind, struct reply *r);
/*
 * The request's ticket leaves its query, which may go upstream from here on; if the request has no token of its own and the
 * ticket is one for this object, it is asked as the ticket's subject.
 */
void hub_take_ticket(struct hub *h, struct request *q, struct str repo, const struct digest *sha256);
/*
 * The address of an object on our own server, for this request's subject: "{base}{path}", with a ticket unless anybody may read
 * the repo's files. path may have a query. *out is initialised here, the caller's.
 */
void hub_object_url(struct hub *h, struct request *q, struct str repo, const struct digest *sha256,
		    struct str path, struct buf *out);

/* --- raw.c: the text that git holds for an LFS file --- */
#define POINTER_ID_TEXT (2 * SHA1_BYTES + 1)
/* *out is initialised here, the caller's. ret_git_id: the id git gives it. */
void pointer_text(const struct content_id *content, struct buf *out, char ret_git_id[POINTER_ID_TEXT]);

/* "/acme/pub/resolve/main/a%20b": a file on the Hub. *out is initialised here, the caller's. */
void content_target(struct str repo, struct str revision, struct str path, struct buf *out);

/* --- file_head.c: what is told about a file, beside its bytes --- */
void file_set_fields(const struct hub_file *file, int status, struct reply *r);

/* --- for_all.c: may everybody see what a token has been shown? --- */
#define FOR_ALL_AGAIN_MS 3600000
struct lesson;
/* It was a good one. If it was a token's, and it is not known whether it is for all, the Hub is asked; returns at once. */
void hub_ask_for_all(const struct lesson *l, const struct answer *a);
/* The same of a document that it has just kept. */
void hub_ask_document_for_all(const struct lesson *l, const struct doc *doc);
/* What the Hub said last, to anybody: may not everybody read it? */
void hub_is_not_for_all(struct hub *h, struct str repo, bool is_not);

/* --- learn.c: lessons --- */
struct lesson {
	struct hub *hub;
	char *asked_repo;         /* owned; what stood in the URL */
	char *repo;               /* owned; canonical when asked */
	char *target;             /* owned; path and query of the question */
	char *revision;           /* owned or NULL */
	char *path;               /* owned or NULL */
	char *key;                /* owned or NULL: keep the answer as this document */
	char *accept;             /* owned or NULL: what kind of answer was asked for */
	char *agent;              /* owned or NULL: as which program, where the answer depends on it */
	bool is_get;              /* and nothing but its address says what is asked */
	char commit[COMMIT_TEXT]; /* of a pinned document, or "" */
	struct subject subject;   /* owned */
	char *who;                /* owned; the address of who asked */
	uint64_t writes;          /* write_count when it was asked */
	int64_t asked, heard;     /* of the clock that auth.h wants; heard 0: not looked at yet */
	bool tells_identity;      /* the answer itself says which repo it is about */
	bool is_identified;       /* and by its id */
	enum access_level opens;  /* what, by its own words, everybody may see */
	enum access_level level;  /* who asked had shown that he may see so much: of a document */
	enum access_level proves;
	/* After the checks and before the document is kept. Returns 0, or -EPROTO: the answer is not what
	 * it should be. */
	int (*teach)(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc);
	/* Once it is kept. May be NULL. */
	void (*kept)(struct lesson *l, const struct answer *a, const struct doc *doc);
};
/* repo: the name that target, what upstream is asked, holds; facts are booked on it. */
struct lesson *lesson_new(struct hub *h, const struct request *q, const struct hub_route *route,
			  struct str repo, struct str target, enum access_level proves);
void lesson_free(void *l);
/* The document's bytes: upstream's own, without what announces Xet. NULL: not JSON. The caller's. */
struct bytes *document_bytes(const struct hub *h, struct str text);
/* learn callbacks for questions; ctx is a struct lesson */
/* -EXDEV: nothing was learned, for it must be known first which repo it is: hub_ask_identity(), and ask again. */
int lesson_of_resolve(void *ctx, const struct answer *a);
int lesson_of_document(void *ctx, const struct answer *a);
/* The answer is a yes or a refusal of the repo itself. -EPROTO it is about another repo than the token was lent for. */
int lesson_of_proof(struct lesson *l, const struct answer *a);
/* Only: may this subject read the files? */
int lesson_of_check(void *ctx, const struct answer *a);
void learn_name(struct hub *h, struct str repo, struct str revision, struct str commit, int64_t at);
void learn_alias(struct hub *h, struct str asked, struct str canonical, int64_t at);
void learn_entry(struct hub *h, struct str repo, const char commit[COMMIT_TEXT], struct str path,
		 const struct content_id *content, int64_t at);
/* Upstream's answer showed it to who asked; its words say that everybody may see it; it is of the repo of this identity. */
void lesson_shows(struct lesson *l, struct str what, enum access_level level, int64_t at);
void lesson_opens(struct lesson *l, struct str what, enum access_level level, int64_t at);
void lesson_belongs(struct lesson *l, struct str what);
/* The identity that is known was seen. */
void lesson_identifies(struct lesson *l);
/* The repo holds an object of this content, as who asked was shown. */
void learn_object(struct lesson *l, const struct content_id *content, int64_t at);
/* The entries of a tree or paths-info answer; directories are skipped. -EPROTO: malformed, or it contradicts itself. */
int learn_tree_items(struct lesson *l, const struct answer *a, const struct json *json);

/* --- seen.c: what is known, as far as this request's subject may be told of it --- */
/*
 * All: repo is canonical and its door is open at this level; upstream_error as given to hub_door(). -ENODATA also when it is known
 * but was not shown to the subject: upstream has to be asked, and its answer shows it.
 */
#define SEEN_BODY_TEXT (2 * SHA256_BYTES + 1)
struct sight {
	struct hub *hub;
	struct request *request;
	struct str repo;
	enum access_level level;
	int upstream_error;
};
bool seen_may_tell(const struct sight *s, struct str what);
/* As index_find_entry(). */
int seen_entry(const struct sight *s, struct str commit, struct str path, struct content_id *ret_content);
/* As index_find_name(); of a name that leads to what was not shown, where it stood when it was last seen before that. */
int seen_name(const struct sight *s, struct str revision, char ret_commit[COMMIT_TEXT],
	      int64_t *ret_checked_at);
/* As index_find_doc(); likewise. */
int seen_doc(const struct sight *s, struct str key, struct doc *ret_doc);
/* As index_find_object(). */
int seen_object(const struct sight *s, const struct digest *sha256, struct object *ret_object);
/* Who was shown the commit may see the document: there is nothing in it about the repo that the commit does not say. */
bool seen_follows_from_commit(struct str key, const char *commit);
/* What stands for the body of a document, and for an object. */
void seen_body(const struct digest *sha256, char ret_text[SEEN_BODY_TEXT]);
/* Everybody may read it, so that a cache for many may keep it. */
bool seen_is_open(struct hub *h, struct str repo, struct str what);
bool seen_doc_is_open(const struct sight *s, struct str key, const struct doc *doc);
bool seen_object_is_open(struct hub *h, struct str repo, const struct digest *sha256);
/* About to be replaced by what not everybody has been shown: the one before is kept beside it. */
void seen_keep_name(struct hub *h, struct str repo, struct str revision, struct str commit);
void seen_keep_doc(struct hub *h, struct str repo, struct str key, const struct doc *doc);

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
	bool is_unkept; /* its answer is for who asks now: nothing is stored, and nothing learned but access */
	bool asks_old_name; /* target holds the name that the client used: its answer says what has become of it */
	char commit[COMMIT_TEXT]; /* pinned to; or "" */
	uint64_t ttl_ms;
	enum access_level level; /* who may see it; ACCESS_NONE stands for META */
	bool proves_files; /* its own answer is the proof that its asker may read the files: no other question is needed */
	struct str accept; /* what upstream is asked to answer with; empty: not said */
	struct str agent; /* what of the User-Agent the answer depends on */
	bool has_hub_urls; /* all its strings are addresses: those of the Hub become ours when it is served */
	struct str
		stand_in; /* the key of a pinned document that says the same; for when upstream is no help */
	int (*teach)(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc);
	void (*kept)(struct lesson *l, const struct answer *a, const struct doc *doc);
	const struct answer **ret_misfit; /* or NULL: the answer that teach() found wrong; the request's */
};
/* Serves from what is held, or asks and then serves. 0 with a reply, or -EAGAIN. */
int hub_serve_document(struct hub *h, struct request *q, const struct hub_route *route,
		       const struct doc_spec *spec, struct reply *r);
/* The Content-Type of an answer, with its X-Total-Count. The caller's. */
char *doc_type_of(const struct answer *a);
/* What goes with a document's body. */
void doc_set_fields(struct hub *h, struct request *q, const struct doc *doc, bool is_fresh, struct reply *r);
/* What not everybody may see is for no cache but the client's own. level: ACCESS_NONE stands for META. */
void doc_set_privacy(struct hub *h, struct request *q, struct str repo, enum access_level level,
		     struct reply *r);
/* Asks for a document below a commit: "/api/{repo}/{what}/{commit}[/{path}]" with the client's query. The rest of
 * spec is the caller's. 0 with a reply, or -EAGAIN. */
int hub_serve_of_commit(struct hub *h, struct request *q, const struct hub_route *route, const char *what,
			struct doc_spec *spec, struct reply *r);

/* --- key.c --- */
/*
 * The query in its one spelling: parameters sorted by name, flags as true and left out when false, lists in order. Returns 0;
 * -ENOTSUP a parameter or value that is not known for what ("tree", "info", ...): its answer is never kept;
 * -EINVAL one that is no list is there twice; -E2BIG. *out is initialised here, the caller's.
 */
int doc_query(const char *what, struct str query, struct buf *out);
/* "c:tree/<commit>/<path>?<the query of doc_query()>"; errors as there. *out is initialised here, the caller's. */
int doc_key(struct buf *out, bool is_pinned, const char *what, struct str revision, struct str path,
	    struct str query);
/*
 * Ends a question: the query behind target, and its key; both stay the caller's. method, class and is_pinned are set in spec.
 * What upstream is asked and the name of the answer come from the same text. A query that is not known goes as it came, and
 * spec->is_unkept. key is initialised here. Returns 0; 1 with a reply.
 */
#define QUESTION_KEY_MAX 32768
int doc_question(struct doc_spec *spec, const char *what, struct str revision, struct str path,
		 struct str query, struct buf *key, struct buf *target, struct reply *r);

/* --- cursor.c: the Hub's form of "after this path" --- */
/* parameter as in the query. *ret_path is initialised here, the caller's. -EINVAL it is none. */
int cursor_read(struct str parameter, struct buf *ret_path);
/* Percent-encoded, ready for a query. */
int cursor_write(struct str path, uint64_t limit, struct buf *out);

/* --- hub.c: bytes into the store, also into a full one --- */
struct store_put hub_put_of(const struct hub *h);

/* --- chain.c: the pages of a tree --- */
/* The key of the joined text. */
int whole_key(struct buf *out, struct str commit);
/* A page of a listing was kept: a lesson's `kept`. */
void whole_page_came(struct lesson *l, const struct answer *a, const struct doc *doc);
/* Joins the stored pages of a tree that is wholly known. Returns 0; -ENODATA a page is missing; -E2BIG; others. */
int whole_join(struct hub *h, struct str repo, struct str commit);

/* --- layout.c: items of a joined text --- */
#define LAYOUT_ROOT UINT32_MAX
struct layout_item {
	uint64_t hash, folder_hash; /* of its path, and of the folder that it is in */
	uint32_t offset, length;    /* in the text */
	uint32_t folder;            /* the item of the folder that it is in; LAYOUT_ROOT: none */
	bool is_folder, is_at_root;
};
struct layout {
	_Atomic int refs;
	struct list node;
	struct digest body;
	uint32_t count;
	struct layout_item *items; /* owned; in the order of the text */
	uint32_t *by_path;         /* owned; sorted by hash */
	bool has_folders;          /* each item's folder is an item before it: the tree answers for folders */
};
void layouts_init(struct layouts *s);
void layouts_done(struct layouts *s);
/* NULL: the text cannot be read, or is no tree. The caller's reference. */
struct layout *layout_of(struct layouts *s, struct blob *blob, const struct digest *body);
struct layout *layout_unref(struct layout *l);
/* LAYOUT_ROOT: there is no such path. */
uint32_t layout_find(const struct layout *l, struct blob *blob, struct str path);
/* *out is initialised here, the caller's. */
int layout_path(const struct layout *l, struct blob *blob, uint32_t at, struct buf *out);
bool layout_is_below(const struct layout *l, uint32_t item, uint32_t folder, bool at_any_depth);

/* --- whole.c: listings of a wholly known tree --- */
/* Both: 0 with a reply, or 1: it is not known wholly, or the question is not understood. */
int whole_serve_tree(struct hub *h, struct request *q, const struct hub_route *route, struct str repo,
		     struct str commit, struct reply *r);
struct paths_asked {
	struct str *paths;
	size_t count;
};
int whole_serve_paths(struct hub *h, struct request *q, struct str repo, struct str commit,
		      const struct paths_asked *asked, struct reply *r);

/* --- info.c --- */
int hub_serve_info(struct hub *h, struct request *q, const struct hub_route *route, uint64_t ttl_ms,
		   struct str query, struct reply *r);
/* Which repo is it? Asks for its info. Returns 0: known now; 1 with a reply; -EAGAIN. */
int hub_ask_identity(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
/*
 * The commit of the route's revision, asking for the revision's document if it is not known or too old.
 * Returns 0 with *ret_commit; 1 with a reply; -EAGAIN.
 */
int hub_commit_of(struct hub *h, struct request *q, const struct hub_route *route, struct str repo,
		  char ret_commit[COMMIT_TEXT], struct reply *r);

/* --- forward.c --- */
int hub_forward_to(struct hub *h, struct request *q, enum fetch_origin to, const struct hub_route *route,
		   struct reply *r);

/*
 * The same in two steps, for who looks at the answer before the client does. Returns 0 with the final head, whose relay is the
 * request's; 1 with a reply; -EAGAIN. *ret is borrowed from the relay.
 */
struct upstream_head {
	int status;
	const struct headers *headers;
	int64_t content_length;
};
int hub_forward_head(struct hub *h, struct request *q, enum fetch_origin to, const struct hub_route *route,
		     struct upstream_head *ret, struct reply *r);
/* Streams the rest of it to the client. */
void hub_forward_stream(struct hub *h, struct request *q, const struct upstream_head *head, struct reply *r);
/* Only the fields of the answer, and what is told about it. */
void hub_forward_fields(struct hub *h, struct request *q, const struct upstream_head *head, struct reply *r);
/*
 * The rest of the answer into q->body, behind what is there. Returns 0 at its end; -EAGAIN; -E2BIG: no more fits, what is
 * still to come is still in the relay; other: it broke.
 */
int hub_forward_gather(struct request *q);

/* --- writes.c: what a write changes --- */
bool is_write(const struct request *q);
/* The names, listings and negatives of a repo (canonical) are asked for anew from here on, by everybody. */
void hub_forget_names(struct hub *h, const struct request *q, struct str repo);
/* That, under which names it is known, who may read it, and all that it held: from here on another repo has its name, or none. */
void hub_forget_repo(struct hub *h, const struct request *q, struct str repo);
/* The same when nobody wrote through us: the repo that stands under this name (canonical) is not the one that was known. */
void hub_made_anew(struct hub *h, struct str repo);
/* Was it so since write_count was this? Then an older question was about another repo. */
bool hub_was_made_anew(struct hub *h, struct str repo, uint64_t since);
/*
 * Is it the repo that was known? From now on the answer to a question that was asked later tells: `when` is write_count as it was
 * then. For PIN_MS.
 */
void hub_doubt_identity(struct hub *h, struct str repo);
void hub_saw_identity(struct hub *h, struct str repo, uint64_t when);
/* Since it was doubted. */
bool hub_has_seen_identity(struct hub *h, struct str repo);
/* What this request, a write that went well, makes untrue of the repo that its path names. */
void hub_forget_written(struct hub *h, const struct request *q, const struct hub_route *route);
/* Nobody knows whether the write was done: the name it was about is looked up anew, if upstream can be asked. */
void hub_doubt_written(struct hub *h, const struct request *q, const struct hub_route *route);
/* It is being sent: if its client leaves before hub_settle_written(), it counts as doubted. */
void hub_watch_written(struct hub *h, struct request *q, const struct hub_route *route);
/* What has become of it is known, and booked. */
void hub_settle_written(struct request *q);
/* Asks for the repo's refs for what they teach; who may see them, and what is said of it, is the handler's business. Returns
 * 0 when there is an answer, or none to be had; -EAGAIN parked. */
int hub_ask_refs(struct hub *h, struct request *q, const struct hub_route *route);
/*
 * Is the route's revision, 40 hex digits, a branch or tag by the repo's own list? Asks for that. Returns 0 with the commit it
 * stood on; -EAGAIN; -ENODATA: no, or nobody knows.
 */
int hub_find_odd_name(struct hub *h, struct request *q, const struct hub_route *route,
		      char ret_commit[COMMIT_TEXT]);
/*
 * Appends what changes with each write to the repo (canonical), to keys of questions: one that was asked before a write is
 * not the answer after it. who: NULL, or only those of this client.
 */
void hub_write_mark(struct hub *h, const struct request *who, struct str repo, struct buf *key);
/* Was there a write to the repo since write_count was this? */
bool hub_was_written(struct hub *h, struct str repo, uint64_t since);

/* --- tunnel.c: uploads to the Hub's storage --- */
void tunnels_init(struct tunnels *s);
void tunnels_done(struct tunnels *s);
/* Can this absolute URL be given out as one of ours? Only a host that we may go to, and not the Hub itself. */
bool hub_tunnel_takes(const struct hub *h, struct str url);
/*
 * Appends "{base}/-/upload/{ticket}", which stands for exactly that URL for an hour, to be PUT to by who asks now. false: out has
 * the URL itself, since hub_tunnel_takes() says no, or there is no room: then no address of the same object should be ours.
 */
bool hub_tunnel_url(struct hub *h, const struct request *q, struct str url, struct buf *out);

/* --- xet.c: files above hub.xet-above --- */
/* JSON without what announces Xet, but for files of a listing that are above it. Returns 0; -EINVAL; -E2BIG. */
int hub_strip_xet(const struct hub *h, struct str text, struct buf *out);

/* Behind the type of a document that is kept: what of Xet is in it. text: its body. */
void xet_mark(const struct hub *h, struct str text, struct doc *doc);
/* Its type without that; ptr NULL: it has none. ret_above: 0: nothing of Xet is in it. */
struct str xet_type_of(const struct doc *doc, uint64_t *ret_above);
/* A listing that was kept when fewer files were to be announced: it is asked for anew, if it can be. */
bool xet_is_too_little(const struct hub *h, const struct doc *doc, struct str key);
/* One that was kept when more were. */
bool xet_is_too_much(const struct hub *h, const struct doc *doc);
/* Takes out of a reply that is made of the document what is not to be announced any more. */
void xet_fit(const struct hub *h, const struct doc *doc, struct reply *r);

/* --- xet_upload.c --- */
void xet_uploads_init(struct xet_uploads *s);
void xet_uploads_done(struct xet_uploads *s);

/* --- plain.c --- */
/*
 * Asks what is nobody else's answer: its method, origin, target and answer_bytes_max are the caller's, all else is set here. what:
 * a word that no other kind of question begins its key with. As request_ask().
 */
int hub_ask_plainly(struct hub *h, struct request *q, const char *what, struct question *question,
		    const struct answer **ret_answer);

/* --- bucket.c --- */
/* The fields that announce Xet and carry its tokens, for the few answers that must have them. */
void hub_copy_xet(const struct headers *from, struct reply *r);

/* --- link.c: URLs in fields --- */
/* The rel="next" target of a Link value as path and query on our own server, or NULL. The caller's. */
char *link_next_of(const struct hub *h, struct str link_value);
/* A Location of the Hub's own origin as seen by the client, else unchanged. */
void link_location(const struct hub *h, const struct request *q, struct str location, struct buf *out);
/* Text whose strings are addresses, those of the Hub's origin as seen by the client. members NULL: all of them; else
 * only values of members of these names, ended by NULL. Returns 0; -EINVAL; -E2BIG. */
int link_edit_urls(const struct hub *h, const struct request *q, struct str text, const char *const *members,
		   struct buf *out);
/* "{base}{target}" as a Link value into the reply. */
void link_set_next(struct reply *r, const struct request *q, const char *target);
/* One or two segments of what the Hub allows in names, as the router takes them: nothing else is learned as a repo's name. */
bool link_is_repo_id(struct str id);
/*
 * The repo a redirect leads to when it is the same question (target, a path) under another name of `repo`; ptr NULL when it is
 * anything else: a login page is no repo. scratch holds it.
 */
struct str link_repo_of(const struct hub *h, struct str location, struct str target, struct str repo,
			struct buf *scratch);
