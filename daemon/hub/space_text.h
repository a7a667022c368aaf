/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/space_text - addresses of an app in what it says, turned into ours, while it passes. Pure.
 *
 * Only inside JSON, and there only the values of the members root, url and path that begin with an address of the app: in
 * documents, in the data of server-sent events, and in a page's script that sets window.gradio_config. All other bytes stay.
 *
 * Foreign bytes: fuzzed.
 * Promises  (1) the text may come in pieces of any size: what comes out is the same. (2) at most HOLD_MAX bytes are held back,
 *               and only inside such a value: an event is never kept waiting for the next one.
 */
#pragma once
#include "common/buf.h"

#define SPACE_HOLD_MAX 1024
#define SPACE_FROM_MAX 2

enum space_form {
	SPACE_JSON, /* a document, or a stream of events */
	SPACE_HTML, /* a page with a script */
};
struct space_rule {
	struct str from
		[SPACE_FROM_MAX]; /* "https://acme-app.hf.space": what the value must begin with; empty: none */
	struct str to;            /* what stands there instead: "http://cache:8090/_space/acme/app" */
};
struct space_text {
	enum space_form form;
	struct space_rule rule; /* borrowed */
	/* where we are */
	bool is_script;    /* of a page: behind the mark */
	unsigned mark_len; /* how much of the mark has come */
	unsigned depth;
	bool in_string, is_escaped;
	bool is_known; /* the last string was the name of such a member */
	bool is_value; /* the next string is the value of one */
	bool is_held;  /* this string is, and it is not known yet what to do with it */
	bool has_long; /* the string is longer than any name that counts */
	char name[8];
	size_t name_len;
	/* of a held value: its bytes, what they stand for so far, and which addresses it may still begin with */
	char hold[SPACE_HOLD_MAX], plain[SPACE_HOLD_MAX];
	size_t hold_len, seen;
	bool is_alive[SPACE_FROM_MAX];
	size_t end[SPACE_FROM_MAX]; /* where in hold the address ends */
};
/* The rule's strings are borrowed for as long as the text comes. */
void space_text_init(struct space_text *t, enum space_form form, const struct space_rule *rule);
/* Appends what becomes of a piece. Returns 0; -E2BIG. */
int space_text_feed(struct space_text *t, struct str piece, struct buf *out);
/* Appends what was held back, as it is: the value was broken off. */
int space_text_end(struct space_text *t, struct buf *out);

/* --- single fields --- */
/* What is known of the request that a Location answers. */
struct space_place {
	struct str app;          /* "https://acme-app.hf.space", "http://10.0.0.5:7860/inner" */
	struct str rest;         /* the app's path that was asked for, and the query: raw */
	struct str base, prefix; /* "http://cache:8090", "/_space/acme/app" */
	bool is_told_base;       /* the app was told that this is its host */
	const char *const
		*names; /* more names of this server, with a port or without; NULL ends; may be NULL */
};
/*
 * Appends a Location as the client may be told it: what is the app's own as ours, inside the prefix and without dot segments; what
 * leads to other hosts as it is (space_location.c). Returns 0; -EACCES it leads to this server, outside of the prefix; -EINVAL it
 * can be understood in two ways; -E2BIG.
 */
int space_map_location(const struct space_place *p, struct str location, struct buf *out);
/*
 * A Set-Cookie value for one Space: its name gets the tag in front, it counts only below path, and not only over TLS when this
 * server does not speak it. Returns 0; -EINVAL it is none.
 */
int space_cookie_out(struct str value, struct str tag, struct str path, bool is_tls, struct buf *out);
/* Of a Cookie value those with the tag, without it. out stays empty when there are none. */
int space_cookie_in(struct str value, struct str tag, struct buf *out);
