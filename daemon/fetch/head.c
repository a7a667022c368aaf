/* SPDX-License-Identifier: Apache-2.0 */
/*
 * head - the reader in head.h.
 */
#include "fetch/head.h"

#include <errno.h>

#include "common/banned.h"

void head_init(struct head *h)
{
	*h = (struct head){ 0 };
	headers_init(&h->headers);
}

void head_done(struct head *h)
{
	headers_done(&h->headers);
}

static struct str without_line_end(struct str line)
{
	if (line.len && line.ptr[line.len - 1] == '\n')
		line.len--;
	if (line.len && line.ptr[line.len - 1] == '\r')
		line.len--;
	return line;
}

/* "HTTP/1.1 200 OK", "HTTP/2 200 " */
static int take_status(struct head *h, struct str line)
{
	struct str version, rest;
	uint64_t status;

	headers_done(&h->headers);
	headers_init(&h->headers);
	if (!str_cut(line, ' ', &version, &rest) || rest.len < 3)
		return -EPROTO;
	if (rest.len > 3 && rest.ptr[3] != ' ')
		return -EPROTO;
	if (parse_u64((struct str){ rest.ptr, 3 }, &status) < 0 || status < 100 || status > 599)
		return -EPROTO;
	h->status = (int)status;
	return 0;
}

static int take_field(struct head *h, struct str line)
{
	struct str name, value;

	/* a folded line starts with a space: what it continues is anybody's guess */
	if (line.ptr[0] == ' ' || line.ptr[0] == '\t' || !str_cut(line, ':', &name, &value))
		return -EPROTO;
	if (h->headers.count >= HEAD_FIELDS_MAX)
		return -EPROTO;
	return headers_add(&h->headers, name, str_trim(value)) < 0 ? -EPROTO : 0;
}

static int take_end(struct head *h)
{
	if (h->status == 0)
		return -EPROTO;
	if (h->status >= 200) {
		h->is_complete = true;
		return 1;
	}
	/* 101 would change the protocol, which nobody asked for */
	if (h->status == 101 || ++h->interim > HEAD_INTERIM_MAX)
		return -EPROTO;
	h->status = 0;
	return 0;
}

int head_line(struct head *h, struct str line)
{
	h->bytes += line.len;
	if (h->bytes > HEAD_BYTES_MAX)
		return -EPROTO;
	if (h->is_complete)
		return 0; /* trailers */
	line = without_line_end(line);
	if (line.len == 0)
		return take_end(h);
	if (h->status == 0)
		return str_starts_with(line, STR("HTTP/")) ? take_status(h, line) : -EPROTO;
	return take_field(h, line);
}

int head_content_length(const struct head *h, int64_t *ret_length)
{
	struct str first = { 0 };
	uint64_t length;

	for (size_t i = 0; i < h->headers.count; i++) {
		struct str value = str_from(h->headers.fields[i].value);

		if (!str_eq_nocase(str_from(h->headers.fields[i].name), STR("Content-Length")))
			continue;
		if (first.ptr && !str_eq(first, value))
			return -EPROTO;
		first = value;
	}
	if (!first.ptr || headers_get(&h->headers, STR("Transfer-Encoding")).ptr) {
		*ret_length = -1;
		return 0;
	}
	if (parse_u64(first, &length) < 0 || length > INT64_MAX)
		return -EPROTO;
	*ret_length = (int64_t)length;
	return 0;
}
