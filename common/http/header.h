/* SPDX-License-Identifier: Apache-2.0 */
/*
 * header - an ordered list of HTTP fields (RFC 9110 section 5). Names compare without case; repeated fields
 * stay apart.
 */
#pragma once
#include "common/buf.h"
#include "common/str.h"

struct header_field {
	char *name;  /* owned */
	char *value; /* owned; no CR, LF or NUL inside: headers_add refuses them */
};
struct headers {
	struct header_field *fields; /* owned */
	size_t count;
	size_t room;
};

void headers_init(struct headers *h);
void headers_done(struct headers *h);
/* Returns 0; -EINVAL for a name that is no token or a value with control bytes (tab is allowed): nothing
 * was added. */
int headers_add(struct headers *h, struct str name, struct str value);
int headers_addf(struct headers *h, const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Replaces all fields of that name. */
int headers_set(struct headers *h, struct str name, struct str value);
void headers_remove(struct headers *h, struct str name);
/* The first field's value; length 0 and ptr NULL if there is none. Borrowed until the list changes. */
struct str headers_get(const struct headers *h, struct str name);
size_t headers_count_of(const struct headers *h, struct str name);
/* Appends all fields of from to those of to. */
void headers_copy(struct headers *to, const struct headers *from);
/* Is the name one of a hop-by-hop set (RFC 9110 7.6.1), counting the names listed in Connection of h (may
 * be NULL)? */
bool header_is_hop_by_hop(const struct headers *h, struct str name);
bool header_name_is_token(struct str name);
