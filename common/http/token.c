/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token - a search that never fails: broken escapes stand for themselves.
 */
#include "common/http/token.h"

#include "common/http/uri.h"

#define TOKEN_LETTERS_MIN 20

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Takes one byte, decoded, off a text that is not empty. */
static char take_byte(struct str *text)
{
	size_t len = 1;
	char c = text->ptr[0];

	if (c == '%' && text->len > 2 && hex_value(text->ptr[1]) >= 0 && hex_value(text->ptr[2]) >= 0) {
		c = (char)(hex_value(text->ptr[1]) * 16 + hex_value(text->ptr[2]));
		len = 3;
	}
	text->ptr += len;
	text->len -= len;
	return c;
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool begins_with_token(struct str text)
{
	for (const char *want = "hf_"; *want; want++)
		if (text.len == 0 || take_byte(&text) != *want)
			return false;
	for (int i = 0; i < TOKEN_LETTERS_MIN; i++)
		if (text.len == 0 || !is_letter(take_byte(&text)))
			return false;
	return true;
}

bool text_holds_token(struct str text)
{
	for (; text.len > 0; text.ptr++, text.len--)
		if (begins_with_token(text))
			return true;
	return false;
}

static bool is_name_for_token(struct str raw)
{
	static const char *const names[] = { "token", "access_token", "authorization", "api_key" };
	char name[16];
	size_t len = 0;

	while (raw.len > 0) {
		if (len == sizeof(name))
			return false;
		name[len++] = take_byte(&raw);
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (str_eq_nocase((struct str){ name, len }, str_from(names[i])))
			return true;
	return false;
}

bool target_holds_token(struct str target)
{
	struct str path, query, name, value;

	uri_split_target(target, &path, &query);
	while (uri_next_param(&query, &name, &value))
		if (is_name_for_token(name))
			return true;
	return text_holds_token(target);
}
