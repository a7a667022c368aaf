/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uri - request targets, percent coding, origins. Pure. Each byte from outside is decoded exactly once
 * (N01, R09).
 */
#pragma once
#include "common/buf.h"
#include "common/str.h"

/*
 * Decodes %XX of one path segment. Returns 0; -EINVAL for a broken escape, an encoded or raw NUL, or text
 * that is not
 * UTF-8 (overlong forms included). '+' stays '+'.
 */
int uri_decode_segment(struct str raw, struct buf *out);
/* Encodes all but unreserved characters (RFC 3986 2.3) and those in keep (may be NULL). */
int uri_encode(struct str text, const char *keep, struct buf *out);
/* Encodes each segment, leaves '/' alone. */
int uri_encode_path(struct str path, struct buf *out);

/* Splits "/a/b?c=d" at the first '?'. */
void uri_split_target(struct str target, struct str *ret_path, struct str *ret_query);
/* Iterates over "a=1&b=2"; raw (still encoded). Returns false at the end. *cursor starts as the query. */
bool uri_next_param(struct str *cursor, struct str *ret_name, struct str *ret_value);
/* The raw value of a parameter; ptr NULL if absent. */
struct str uri_param(struct str query, struct str name);

/* Is path a repo file path: no empty, ".", ".." segment, no NUL, no backslash-only tricks, at most 4096
 * bytes? */
bool uri_is_clean_path(struct str decoded_path);

/* An origin: scheme, host (lower case, no brackets removed), port (the scheme's default filled in). */
struct origin {
	bool is_tls;
	char host[256];
	uint16_t port;
};
/*
 * From an absolute http(s) URL. *ret_rest is path and query ("/" if empty), borrowed. Returns 0; -EINVAL
 * also for
 * user info, fragments, blanks, control bytes, backslashes, and a query directly after the host
 * (uri_resolve()
 * puts the '/' there).
 */
int origin_parse(struct str url, struct origin *ret_origin, struct str *ret_rest);
bool origin_eq(const struct origin *a, const struct origin *b);
/*
 * Resolves a Location against the URL it was answered to (RFC 3986 5.2). out gets an absolute URL without dot
 * segments and without fragment, which origin_parse() accepts. Returns 0; -EINVAL (other schemes too);
 * -E2BIG.
 */
int uri_resolve(struct str base_url, struct str reference, struct buf *out);
