/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply - an answer as a value: status, fields, where the body comes from.
 *
 * Handlers make it; only server/ turns it into library calls. So handlers run in unit tests without a socket.
 * Owns      what the setters took. A reply of which nothing was set is a 500.
 */
#pragma once
#include "common/bytes.h"
#include "reply/request.h"
#include "store/store.h"

enum reply_body {
	REPLY_EMPTY,
	REPLY_BYTES,  /* from memory */
	REPLY_BLOB,   /* a range of a finished blob */
	REPLY_READER, /* a range of a growing one: the request's reader, which the reply takes over */
	REPLY_RELAY, /* streamed: `bytes` if there are any, then the request's relay, which the reply takes over */
	REPLY_EAR, /* streamed: the request's ear, which the reply takes over */
	REPLY_DIAL, /* upgraded: the request's dial, which the reply takes over, and whose host talks from now on */
	REPLY_ABORT, /* no answer at all: close the connection (hub-protocol 2.9, B16) */
};

struct reply {
	int status;
	struct headers headers; /* Content-Length is server/'s: from `length` */
	enum reply_body kind;
	struct bytes *bytes;
	struct blob *blob;
	struct reader *reader;
	struct relay *relay;
	struct ear *ear;
	struct dial *dial;
	uint64_t offset, length; /* of the body within blob or reader; length of bytes */
	int64_t head_length; /* Content-Length to tell for HEAD and for relays; -1: what the body has / unknown */
	bool close;          /* end the connection after it */
	const char
		*cache_status; /* static; RFC 9211 parameters: "hit", "fwd=miss; collapsed"; NULL: no field */
	int64_t age_s;         /* -1: no Age */
};

void reply_init(struct reply *r);
void reply_done(struct reply *r);
/* Sets status and a body of text or JSON. */
void reply_text(struct reply *r, int status, const char *content_type, struct str body);
void reply_bytes(struct reply *r, int status, const char *content_type, struct bytes *bytes);
/* bytes [offset, offset+length) of a blob; takes the reference. Small blobs become REPLY_BYTES when length
 * is all of it. */
void reply_blob(struct reply *r, int status, struct blob *take_blob, uint64_t offset, uint64_t length);
void reply_reader(struct reply *r, int status, struct request *from, uint64_t offset, uint64_t length);
/* Status, allowed fields (hub-protocol A17, U11) and body of the request's relay, whose head has come. */
void reply_relay(struct reply *r, struct request *from, int status, const struct headers *upstream,
		 int64_t content_length);
/* Of a reply that streams: what has been read of the body already, and goes out before the rest. */
void reply_put_first(struct reply *r, struct bytes *bytes);
/* The same of the request's ear. */
void reply_ear(struct reply *r, struct request *from, int status, const struct headers *upstream,
	       int64_t content_length);
/*
 * The request's dial, whose head has come and is 101, to a request for a WebSocket (else it is a defect, and the client is told
 * 503). Nothing of the host's head goes out but what is added to the reply's fields from here on: "Upgrade" and the like.
 */
void reply_dial(struct reply *r, struct request *from);
void reply_abort(struct reply *r);
/* Copies the fields of an upstream answer that may be passed on: an allow list; never Set-Cookie, X-Xet-*,
 * hop-by-hop. */
void reply_copy_allowed(struct headers *to, const struct headers *from);
/* nosniff, CSP sandbox, CORP, CORS and its expose list, Vary: what every answer on a Hub path carries (N08,
 * A18). */
void reply_add_standard(struct reply *r, const struct request *q);
