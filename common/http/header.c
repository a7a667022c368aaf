/* SPDX-License-Identifier: Apache-2.0 */
/*
 * header - an ordered list of HTTP fields (RFC 9110 section 5).
 *
 * Owns      names and values of its fields.
 * Threads   one at a time.
 * Promises  (1) every name is a token and no value holds a byte that could end the line: what was added can
 *               be sent.
 */
#include "common/http/header.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "common/alloc.h"

#include "common/banned.h"

void headers_init(struct headers *h)
{
	*h = (struct headers){ 0 };
}

static void field_done(struct header_field *f)
{
	free(f->name);
	free(f->value);
}

void headers_done(struct headers *h)
{
	for (size_t i = 0; i < h->count; i++)
		field_done(&h->fields[i]);
	free(h->fields);
	headers_init(h);
}

static bool is_token_char(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

bool header_name_is_token(struct str name)
{
	for (size_t i = 0; i < name.len; i++)
		if (!is_token_char((unsigned char)name.ptr[i]))
			return false;
	return name.len > 0;
}

static bool value_is_clean(struct str value)
{
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.ptr[i];

		if ((c < ' ' && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

/* Takes both strings. */
static void append(struct headers *h, char *name, char *value)
{
	if (h->count == h->room) {
		h->room = h->room ? h->room * 2 : 16;
		h->fields = xrealloc(h->fields, h->room * sizeof(h->fields[0]));
	}
	h->fields[h->count++] = (struct header_field){ .name = name, .value = value };
}

int headers_add(struct headers *h, struct str name, struct str value)
{
	if (!header_name_is_token(name) || !value_is_clean(value))
		return -EINVAL;
	append(h, str_dup(name), str_dup(value));
	return 0;
}

int headers_addf(struct headers *h, const char *name, const char *format, ...)
{
	SCOPED_FREE char *value = NULL;
	va_list args;
	int len;

	va_start(args, format);
	len = vasprintf(&value, format, args);
	va_end(args);
	if (len < 0) {
		value = NULL; /* its contents are undefined now */
		return -ENOMEM;
	}
	return headers_add(h, str_from(name), (struct str){ value, (size_t)len });
}

int headers_set(struct headers *h, struct str name, struct str value)
{
	char *new_name, *new_value;

	if (!header_name_is_token(name) || !value_is_clean(value))
		return -EINVAL;
	/* copied first: either may be borrowed from the field that goes */
	new_name = str_dup(name);
	new_value = str_dup(value);
	headers_remove(h, str_from(new_name));
	append(h, new_name, new_value);
	return 0;
}

void headers_remove(struct headers *h, struct str name)
{
	SCOPED_FREE char *copy = str_dup(name); /* it may be borrowed from a field that goes */
	struct str wanted = { copy, name.len };
	size_t kept = 0;

	for (size_t i = 0; i < h->count; i++) {
		if (str_eq_nocase(str_from(h->fields[i].name), wanted))
			field_done(&h->fields[i]);
		else
			h->fields[kept++] = h->fields[i];
	}
	h->count = kept;
}

struct str headers_get(const struct headers *h, struct str name)
{
	for (size_t i = 0; i < h->count; i++)
		if (str_eq_nocase(str_from(h->fields[i].name), name))
			return str_from(h->fields[i].value);
	return (struct str){ NULL, 0 };
}

size_t headers_count_of(const struct headers *h, struct str name)
{
	size_t count = 0;

	for (size_t i = 0; i < h->count; i++)
		count += str_eq_nocase(str_from(h->fields[i].name), name);
	return count;
}

void headers_copy(struct headers *to, const struct headers *from)
{
	assert(to != from);
	for (size_t i = 0; i < from->count; i++)
		append(to, xstrdup(from->fields[i].name), xstrdup(from->fields[i].value));
}

static bool list_holds(struct str list, struct str token)
{
	struct str item;

	while (list.len) {
		str_cut(list, ',', &item, &list);
		if (str_eq_nocase(str_trim(item), token))
			return true;
	}
	return false;
}

bool header_is_hop_by_hop(const struct headers *h, struct str name)
{
	static const struct str fixed[] = {
		STR("connection"),
		STR("keep-alive"),
		STR("proxy-connection"),
		STR("proxy-authenticate"),
		STR("proxy-authorization"),
		STR("te"),
		STR("trailer"),
		STR("transfer-encoding"),
		STR("upgrade"),
	};

	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		if (str_eq_nocase(name, fixed[i]))
			return true;
	if (!h || !name.len)
		return false;
	for (size_t i = 0; i < h->count; i++)
		if (str_eq_nocase(str_from(h->fields[i].name), STR("connection")) &&
		    list_holds(str_from(h->fields[i].value), name))
			return true;
	return false;
}
