/* SPDX-License-Identifier: Apache-2.0 */
/*
 * head_check - is what a client sends exactly HTTP/1.x as it is written down? Pure; sees every byte of a
 * connection once.
 *
 * Follows requests over their heads and bodies (Content-Length, chunked), so that it knows where the next
 * head begins.
 * What it lets pass, every parser reads the same way; what two parsers might read differently, it refuses
 * (reliability
 * P01-P11, A.7): bare CR or LF, folded lines, space before a colon, two lengths, any Transfer-Encoding but
 * one plain
 * "chunked", chunk extensions, trailers, targets that are not a path, odd Hosts, versions and methods.
 *
 * Threads   none of its own; one struct per connection, in the hands of that connection's loop.
 */
#pragma once
#include "common/str.h"

#define HEAD_BYTES_MAX                                                                                       \
	(12 * 1024) /* with the library's own structures it must fit in a connection's memory */
#define HEAD_TARGET_MAX 8000
#define HEAD_FIELDS_MAX 100 /* cookies count as fields, and their bytes twice */

/* Why a request was refused. HEAD_GOOD: it was not. */
enum head_fault {
	HEAD_GOOD,
	HEAD_BAD_LINE, /* not a request line */
	HEAD_BAD_TARGET,
	HEAD_LONG_TARGET,
	HEAD_BAD_VERSION,
	HEAD_BAD_METHOD,
	HEAD_FORBIDDEN_METHOD, /* TRACE, CONNECT */
	HEAD_BAD_FIELD,
	HEAD_FOLDED,
	HEAD_BAD_BYTE, /* a control byte, or a line end that is not CR LF */
	HEAD_TOO_LARGE,
	HEAD_BAD_HOST,
	HEAD_BAD_LENGTH,
	HEAD_BAD_CODING,
	HEAD_UNWANTED_BODY, /* a body on GET or HEAD */
	HEAD_BAD_EXPECT,
	HEAD_BAD_CHUNK,
	HEAD_FAULT_COUNT,
};

struct head_answer {
	int status;
	const char *reason;   /* of the status line */
	const char *sentence; /* for people */
	const char *word;     /* for the log */
};
/* What to tell the client. fault is not HEAD_GOOD. Static. */
const struct head_answer *head_fault_answer(enum head_fault fault);

struct head_check {
	uint8_t state;
	uint8_t fault;   /* sticky */
	uint8_t special; /* which field this is, of those that matter for framing */
	uint8_t fields;
	uint8_t word_len; /* of `word`; more than fits: longer than any word that matters */
	bool is_http10, has_host, has_length, has_coding, has_bodiless_method, wants_upgrade;
	uint16_t head_bytes, target_bytes;
	uint8_t host_state;
	char word[32];      /* method, version, field name, or value of a special field; without a NUL */
	uint64_t body_left; /* of the body or the chunk */
	uint64_t length;    /* Content-Length */
	uint32_t heads;     /* complete heads let through so far */
};

void head_check_init(struct head_check *c);
/*
 * The next bytes of the connection.
 *
 * Returns how many of them may be passed on: all, or, when c->fault is set by this call, those before the
 * request that
 * is at fault (0 if it began in an earlier call). After a fault always 0. Behind a head that asks for a WebSocket nobody knows
 * what the bytes are until it is answered: those up to its end, then always 0 (head_check_waits), until head_check_go_on().
 */
size_t head_check_feed(struct head_check *c, const char *bytes, size_t len);
/* How many bytes of a request's method have been seen, while it is not complete. */
size_t head_check_method(const struct head_check *c);
/* After HEAD_FORBIDDEN_METHOD: was it this one? */
bool head_check_was_connect(const struct head_check *c);
bool head_check_waits(const struct head_check *c);
/* It stayed a connection of HTTP. */
void head_check_go_on(struct head_check *c);
/* Is a head begun and not complete? */
bool head_check_in_head(const struct head_check *c);
/* Is a body begun and not complete? */
bool head_check_in_body(const struct head_check *c);
