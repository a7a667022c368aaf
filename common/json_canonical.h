/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_canonical - one spelling for all texts that say the same in JSON: what cache keys of request bodies are made of.
 *
 * Members are ordered by the UTF-16 code units of their names, strings have the fewest escapes, there is no white space: as
 * RFC 8785. Numbers are NOT read as doubles, since two seeds of 64 bits would become one: a number keeps its digits, but for
 * whole numbers below 2^53 however they are written (1.0, 1e0, -0).
 *
 * Owns      nothing beyond a call. A scanner of its own, since the JSON library cuts strings at \u0000 and rounds numbers.
 * Threads   any.
 * Promises  (1) two texts get the same spelling only if they say the same.
 *           (2) what two readers of JSON may understand differently is refused: then the raw bytes are the key.
 */
#pragma once
#include "common/buf.h"

/* A member, on its way out. depth 1: of the outermost object. parent: the name of the member that holds its object, or "". */
struct json_member {
	unsigned depth;
	struct str parent, name; /* unescaped */
	struct str value;        /* in canonical spelling, its own members already left out */
};

/*
 * Appends the canonical spelling of text.
 * leave_out  true: the member is not part of it; may be NULL
 * Returns 0; -EINVAL not JSON, a name twice in one object, invalid UTF-8, half of a surrogate pair, \u0000, deeper than 200
 * levels, a number beyond a double, or something behind the value; -E2BIG: out's maximum. After an error out is not to be used.
 */
int json_canonical(struct str text, bool (*leave_out)(void *ctx, const struct json_member *m), void *ctx,
		   struct buf *out);
