/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json - reading what the Hub says, writing our own, and small edits of foreign text that keep every other
 * byte.
 *
 * The only room that includes the JSON library. Limits of abuse case U06: depth 64, members are views into
 * the tree.
 */
#pragma once
#include "common/buf.h"
#include "common/scope.h"
#include "common/str.h"

struct json; /* a value; borrowed from the tree it came from, the root is owned */

/*
 * Returns 0; -EINVAL not JSON, deeper than 64, more than two million values, or followed by more than white
 * space. The caller limits the length. A string never holds NUL: \u0000, and halves of UTF-16 pairs, become
 * U+FFFD.
 */
int json_parse(struct str text, struct json **ret_root);
void json_free(struct json *root);
DEFINE_SCOPE(struct json *, json_free);

bool json_is_object(const struct json *v);
bool json_is_array(const struct json *v);
bool json_is_string(const struct json *v);
/* NULL if v is NULL, no object, or has no such member. Case-sensitive; the first of duplicates. */
const struct json *json_get(const struct json *v, const char *member);
/* Length 0 if it is none. Borrowed. */
struct str json_string(const struct json *v);
/* false unless v is the literal true. */
bool json_is_true(const struct json *v);
bool json_is_false(const struct json *v);
/* Returns 0; -EINVAL unless v is a whole number between 0 and 2^53. */
int json_u64(const struct json *v, uint64_t *ret_value);
size_t json_count(const struct json *v);
/* Elements of an array or values of an object in order: for (c = json_first(v); c; c = json_next(c)). */
const struct json *json_first(const struct json *v);
const struct json *json_next(const struct json *v);
/* The member's name when v was reached as a member of an object. */
struct str json_name(const struct json *v);

/* Appends s as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD. */
int json_write_string(struct buf *out, struct str s);

/*
 * Copies JSON text without the members of these names, at any depth, inside objects; all other bytes stay
 * as they are
 * (order, spacing, number forms). The text need not fit in memory twice: out grows.
 * Returns 0; -EINVAL when the text is not well formed enough to find its members (out is then not to be
 * used); -E2BIG.
 * See hub-protocol 6.2 (xetHash), A02.
 */
int json_strip_members(struct str text, const char *const *names, size_t name_count, struct buf *out);

/* As json_strip_members(), and a member of the name of a swap whose value is spelled `from` gets `to` instead. */
struct json_swap {
	const char *name, *from, *to;
};
int json_edit_members(struct str text, const char *const *names, size_t name_count,
		      const struct json_swap *swaps, size_t swap_count, struct buf *out);

/*
 * The elements of an array's text, one by one, as they are written: *rest starts as what follows the '['.
 * Only for text that json_parse() has accepted, though it may be cut off anywhere.
 * Returns 1 with *ret_element; 0 at the ']'; -EAGAIN when the text ends before the element or its comma does
 * (*rest is then untouched); -EINVAL.
 */
int json_next_element(struct str *rest, struct str *ret_element);
/*
 * The members of an object's text, one by one, as they are written: *rest comes from json_members(). Only for whole text that
 * json_parse() has accepted. Returns 1 with the name, quotes included, and the value; 0 at the end; -EINVAL.
 */
int json_members(struct str object, struct str *ret_rest);
int json_next_member(struct str *rest, struct str *ret_name, struct str *ret_value);
/* Does a name as written, quotes and escapes included, stand for this one? */
bool json_is_name(struct str raw, const char *name);
/* The value of an object's own member, as written. Returns 0; -ENOENT; -EINVAL. Text as above, but whole. */
int json_find_member(struct str object, const char *name, struct str *ret_raw);
/* Appends what a string's text, quotes included, stands for. Returns 0; -EINVAL no string; -E2BIG. */
int json_unquote(struct str raw, struct buf *out);

/*
 * Copies JSON text; each string *value* (not name) for which edit() returns true is replaced by what edit()
 * appended to
 * its buf (unescaped), written as a JSON string. path_member is the name of the innermost member that holds
 * it.
 */
int json_edit_strings(struct str text,
		      bool (*edit)(void *ctx, struct str path_member, struct str value, struct buf *out),
		      void *ctx, struct buf *out);
