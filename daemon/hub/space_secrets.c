/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/space_secrets - what an app on a machine of one's own is not told: tokens of the Hub, in whatever field they come.
 *
 * A client that takes this cache for the Hub sends its token to all of it, in the usual field, in one that a library invented, or
 * as git does, inside Basic. An app of one's own needs none of that; passwords of its own it is sent as they are.
 * Never     looks into bodies.
 */
#include "hub/space.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/http/token.h"

/* Of less it cannot be told whether it is there by chance; a scheme alone is no token. */
#define KNOWN_BYTES_MIN 8

/* Tokens that are no "hf_" and letters. */
static const char *const beginnings[] = { "hf_oauth_", "hf_jwt_", "hf_app_", "api_org_" };

static bool holds_token(struct str text)
{
	if (text_holds_token(text))
		return true;
	for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++)
		if (memmem(text.ptr, text.len, beginnings[i], strlen(beginnings[i])))
			return true;
	return false;
}

static int value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	return c == '/' || c == '_' ? 63 : -1;
}

/* What base64 stands for; letters of another kind are passed over. */
static void decode(struct str text, struct buf *out)
{
	uint32_t bits = 0;
	unsigned have = 0;

	buf_init(out, text.len + 1);
	for (size_t i = 0; i < text.len; i++) {
		int v = value_of(text.ptr[i]);

		if (v < 0)
			continue;
		bits = bits << 6 | (uint32_t)v;
		have += 6;
		if (have >= 8) {
			have -= 8;
			buf_append_char(out, (char)(bits >> have));
		}
	}
}

/* "s3cret" of "Bearer s3cret". */
static struct str credentials_of(struct str value)
{
	struct str scheme, rest;

	if (!str_cut(str_trim(value), ' ', &scheme, &rest))
		return scheme;
	return str_trim(rest);
}

/* The token of the field that is for the Hub alone, whatever it looks like. */
static bool holds_known(const struct request *q, struct str text)
{
	for (size_t i = 0; i < q->headers.count; i++) {
		struct str known = credentials_of(str_from(q->headers.fields[i].value));

		if (str_eq_nocase(str_from(q->headers.fields[i].name), STR("X-HF-Authorization")) &&
		    known.len >= KNOWN_BYTES_MIN && memmem(text.ptr, text.len, known.ptr, known.len))
			return true;
	}
	return false;
}

static bool is_for_the_hub(const struct request *q, struct str value)
{
	SCOPED_BUF plain;
	bool is;

	decode(credentials_of(value), &plain);
	is = holds_token(value) || holds_known(q, value) || holds_token(buf_str(&plain)) ||
	     holds_known(q, buf_str(&plain));
	if (plain.bytes)
		secret_wipe(plain.bytes, plain.len);
	return is;
}

void space_drop_tokens(const struct request *q, struct headers *fields)
{
	for (size_t i = 0; i < fields->count;) {
		SCOPED_FREE char *name = NULL;

		if (!is_for_the_hub(q, str_from(fields->fields[i].value))) {
			i++;
			continue;
		}
		name = str_dup(str_from(fields->fields[i].name));
		headers_remove(fields, str_from(name)); /* all of that name */
		i = 0;
	}
}
