/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/space - Spaces at /_space/{owner}/{name}/: what the files space*.c share.
 *
 *   space.c         the handler, and what every page of a Space is told
 *   space_map.c     which Space it is: static, an app where the Hub says it is, or an app on a machine of one's own
 *   space_static.c  pages from files
 *   space_ask.c     requests to an app
 *   space_app.c     its answers
 *   space_socket.c  a WebSocket to an app
 *   space_keep.c    what of an app is kept
 *   space_text.c    addresses inside what an app says
 *   space_location.c  where it sends its clients
 *   space_secrets.c   what an app of one's own is not told
 *   space_info.c    what the API says of Spaces
 */
#pragma once
#include "hub/priv.h"
#include "hub/space_text.h"

enum space_kind {
	SPACE_STATIC, /* pages are files of the repo */
	SPACE_APP,    /* a program, at the address that the Hub says */
	SPACE_LOCAL,  /* a program, at an address of the configuration */
};
/* Fields that a static Space's own README may ask for; as indices into a short list, 0: not asked for. */
struct space_custom {
	unsigned embedder, opener, resource;
};
struct space {
	bool is_found; /* the rest is known */
	/* space_take_asker() */
	bool asks_by_field;  /* who asks is said in the field of Gradio's clients */
	bool drops_field;    /* what stands there is nobody's token, and not for the app */
	bool has_two_askers; /* the two fields name two subjects */
	enum space_kind kind;
	char *url; /* owned; of an app: where it is, without a slash at its end; NULL: nowhere */
	enum fetch_origin origin;
	char commit[COMMIT_TEXT]; /* of an app; "": not known */
	char *page;               /* owned; of a static one: the file that "/" stands for; NULL: index.html */
	bool is_built;            /* its pages are those of refs/convert/build */
	struct space_custom custom;
};
void space_done(struct space *s);

/* --- space_map.c --- */
/* The route of a Space's own repo. *repo is initialised here, the caller's. */
struct hub_route space_route(const struct hub_route *route, struct buf *repo);
/* The number of the mapped Space of this id; -ENOENT. */
int space_find_local(const struct hub *h, struct str id);
/*
 * Who asks is said in the field that Gradio's clients put their token into, when it is not said in the usual one: from here on the
 * request is asked as that subject. With both, the usual one counts. Returns 0 with the first fields of ret, or an error of
 * auth_subject(): the field is refused as that one is.
 */
int space_take_asker(struct hub *h, struct request *q, struct space *ret);
/* Returns 0 with *ret, the caller's; 1 with a reply; -EAGAIN. */
int space_find(struct hub *h, struct request *q, const struct hub_route *route, struct space *ret,
	       struct reply *r);
/* The text of a reply, from wherever it is. *out is initialised here. Returns 0; -E2BIG; -EIO. */
int space_read_text(const struct reply *answer, struct buf *out);

/* --- space.c --- */
/* "/_space/acme/app" as the client wrote it. */
struct str space_prefix(const struct request *q);
/* The same address with a slash at its end: from there a page's relative addresses are right. */
void space_send_to_folder(const struct request *q, struct reply *r);
enum space_reach { SPACE_REACHES_CACHE, SPACE_REACHES_WEB };
/* The policy of a page: it is nobody. Beside its own folder it reaches this cache, or what any page on the web reaches. */
void space_set_policy(const struct request *q, enum space_reach reach, struct reply *r);

/* --- space_static.c --- */
int space_static(struct hub *h, struct request *q, const struct hub_route *route, const struct space *s,
		 struct reply *r);
/* "header-name" and value to an index of space_custom; 0: none that is known. */
void space_custom_read(const struct json *card, struct space_custom *ret);

/* --- space_ask.c --- */
/* All that is worked out of a request, for one run of the handler. */
struct space_call {
	struct hub *hub;
	struct request *q;
	const struct hub_route *route;
	const struct space *s;
	struct str prefix, rest; /* "/_space/acme/app", "/config": raw */
	struct buf to;           /* "http://cache:8090/_space/acme/app" */
	struct buf tag;          /* in front of the names of its cookies */
	struct buf key;          /* under which the answer is kept; empty: it is not */
	bool is_build;
	struct space_rule rule;
};
void space_call_init(struct space_call *c, struct hub *h, struct request *q, const struct hub_route *route,
		     const struct space *s);
void space_call_done(struct space_call *c);
/* Opens the request's relay. Returns as relay_start(); -EINVAL the address is too long. */
int space_call_start(const struct space_call *c);
/* What goes out of a Set-Cookie field of the app's. */
void space_set_cookies(const struct space_call *c, const struct headers *from, struct reply *r);
/* The fields that a request to the app carries. *to is initialised here, the caller's. */
void space_request_fields(struct hub *h, struct request *q, const struct hub_route *route,
			  const struct space *s, struct headers *to);
/* Appends "GET /inner/ws?a=b HTTP/1.1" and its line end: the request line of one of its own. */
void space_append_target(const struct request *q, const struct space *s, struct buf *out);
/* May its address be of this house? As for all that is fetched: when the configuration names the host. */
bool space_is_near(const struct hub *h, const struct space *s, const struct origin *origin);

/* --- space_secrets.c --- */
/* Takes away all fields that hold a token of the Hub: a known form of one, also within Basic, or that of X-HF-Authorization. */
void space_drop_tokens(const struct request *q, struct headers *fields);

/* --- space_app.c --- */
int space_app(struct hub *h, struct request *q, const struct hub_route *route, const struct space *s,
	      struct reply *r);
/* It cannot be had: which Space, and what to look at. */
void space_tell_trouble(struct hub *h, struct request *q, const struct hub_route *route,
			const struct space *s, int error, struct reply *r);
/* Which text of an app is edited: SPACE_JSON or SPACE_HTML; -ENOENT: none of it. rest: the path within the app. */
int space_form_of(struct str rest, struct str content_type);

/* --- space_socket.c --- */
bool space_is_socket(const struct request *q);
int space_socket(struct hub *h, struct request *q, const struct hub_route *route, const struct space *s,
		 struct reply *r);

/* --- space_info.c --- */
/* Repo information of a Space, as hub_serve_info(), with our address in it. */
int space_info(struct hub *h, struct request *q, const struct hub_route *route, uint64_t ttl_ms,
	       struct reply *r);

/* --- space_keep.c --- */
struct space_keeps; /* how many answers are being kept; shared by count */
struct space_keeps *space_keeps_new(void);
void space_keeps_unref(struct space_keeps *k);
/*
 * Appends the name under which the answer to this request is kept. false: it is not.
 * ret_is_build  it is part of what was built from that commit, and does not change
 */
bool space_keep_key(const struct request *q, const struct space *s, struct str rest, bool is_shared,
		    struct buf *key, bool *ret_is_build);
/* Does the request say nothing that its answer may depend on but what is in the key? Its cookies are for the caller to look at. */
bool space_is_common(const struct request *q, const struct space *s);
/* Does the app let this answer be kept, for all who have the same key? */
bool space_may_keep(const struct headers *answer, bool was_built);
/* An answer that is being gathered; NULL: there is no room to. */
struct space_keeping;
struct space_keeping *space_keep_begin(struct hub *h, struct str repo, struct str key, bool was_built,
				       struct str content_type);
void space_keep_piece(struct space_keeping *k, struct str piece);
/* It came whole: it is kept, on a work thread. Takes k. */
void space_keep_end(struct space_keeping *take_k);
void space_keep_drop(struct space_keeping *take_k);
/* Returns 0 with a reply; -ENODATA. rule: of the answer's addresses. */
int space_serve_kept(struct hub *h, struct request *q, struct str repo, struct str key, struct str rest,
		     const struct space_rule *rule, struct reply *r);
