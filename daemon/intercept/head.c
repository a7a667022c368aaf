/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intercept/head - the head of a CONNECT, read strictly: what two programs could read differently is refused. Pure.
 */
#include "intercept/priv.h"

#include <errno.h>
#include "common/http/address.h"
#include "common/http/header.h"

#include "common/banned.h"

#define FIELDS_MAX 100

/* Lines end in CR LF, and no other control byte stands anywhere but tabs. A CR may be the last byte that has come. */
static bool is_clean(struct str head)
{
	for (size_t i = 0; i < head.len; i++) {
		unsigned char c = (unsigned char)head.ptr[i];
		bool before_lf = i + 1 == head.len || head.ptr[i + 1] == '\n';

		if (c == '\r'   ? !before_lf
		    : c == '\n' ? i == 0 || head.ptr[i - 1] != '\r'
				: (c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

/* The part up to the empty line, with it; 0: it has not come. */
static size_t whole(struct str text)
{
	const char *end = memmem(text.ptr, text.len, "\r\n\r\n", 4);

	return end ? (size_t)(end - text.ptr) + 4 : 0;
}

/* "line\r\n" off the front. */
static struct str take_line(struct str *rest)
{
	struct str line;

	(void)str_cut(*rest, '\n', &line, rest);
	line.len -= line.len > 0; /* its CR */
	return line;
}

static bool parse_port(struct str text, uint16_t *ret_port)
{
	uint64_t port = 0;

	if (text.len > 5 || parse_u64(text, &port) < 0 || port == 0 || port > 65535)
		return false;
	*ret_port = (uint16_t)port;
	return true;
}

/* "name:443", "10.0.0.1:443", "[::1]:443" */
static bool parse_authority(struct str text, struct str *ret_name, uint16_t *ret_port)
{
	struct str name = host_without_port(text);
	struct address address;

	if (name.len == text.len ||
	    !parse_port((struct str){ text.ptr + name.len + 1, text.len - name.len - 1 }, ret_port))
		return false;
	*ret_name = name;
	return host_is_name(name) || address_parse(name, &address) == 0;
}

static bool parse_request_line(struct str line, struct str *ret_name, uint16_t *ret_port)
{
	struct str method, target, version;

	return str_cut(line, ' ', &method, &line) && str_cut(line, ' ', &target, &version) &&
	       str_eq(method, STR("CONNECT")) &&
	       (str_eq(version, STR("HTTP/1.1")) || str_eq(version, STR("HTTP/1.0"))) &&
	       parse_authority(target, ret_name, ret_port);
}

/* A body could hide another request from somebody in between (RFC 9110 9.3.6: there is none). */
static bool announces_body(struct str name, struct str value)
{
	if (str_eq_nocase(name, STR("Content-Length")))
		return !str_eq(str_trim(value), STR("0"));
	return str_eq_nocase(name, STR("Transfer-Encoding"));
}

static bool are_fields(struct str rest)
{
	for (unsigned n = 0; rest.len > 2; n++) {
		struct str line = take_line(&rest), name, value;

		if (n == FIELDS_MAX || !str_cut(line, ':', &name, &value) || !header_name_is_token(name) ||
		    announces_body(name, value))
			return false;
	}
	return true;
}

/* As far as it has come: may this become a CONNECT? */
static bool may_begin(struct str text)
{
	struct str method = STR("CONNECT ");

	return str_starts_with(text.len < method.len ? method : text, text.len < method.len ? text : method);
}

ssize_t connect_head_parse(struct str text, struct str *ret_name, uint16_t *ret_port)
{
	size_t len = whole(text);
	struct str head = { text.ptr, len ? len : text.len }, name;
	uint16_t port;

	if (!may_begin(head) || !is_clean(head))
		return -EINVAL;
	if (!len)
		return -EAGAIN;
	if (!parse_request_line(take_line(&head), &name, &port) || !are_fields(head))
		return -EINVAL;
	*ret_name = name;
	*ret_port = port;
	return (ssize_t)len;
}
