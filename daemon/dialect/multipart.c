/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/multipart - forms with files (RFC 7578), as transcriptions are asked for. What counts is which parts there are: the
 * boundary between them is made up anew each time (inference-protocol 3.3).
 */
#include "dialect/priv.h"

#include <errno.h>
#include <stdlib.h>

#include "common/banned.h"

#define PARTS_MAX 256
#define BOUNDARY_MAX 70
#define PART_HEAD_MAX 8192

/* The value of a parameter of a field ("name" of `form-data; name="file"`), without quotes. Backslashes stay as they are. */
static struct str parameter_of(struct str field, struct str name)
{
	struct str rest, word;

	(void)str_cut(field, ';', &word, &rest);
	while (rest.len) {
		struct str key, value;
		const char *end;

		rest = str_trim(rest);
		if (!str_cut(rest, '=', &key, &value))
			return (struct str){ 0 };
		if (value.len && value.ptr[0] == '"') {
			value = (struct str){ value.ptr + 1, value.len - 1 };
			end = memchr(value.ptr, '"', value.len);
			if (!end)
				return (struct str){ 0 };
			rest = str_from_range(end + 1, rest.ptr + rest.len);
			value.len = (size_t)(end - value.ptr);
			(void)str_cut(rest, ';', &word, &rest);
		} else {
			(void)str_cut(value, ';', &value, &rest);
		}
		if (str_eq_nocase(str_trim(key), name))
			return value;
	}
	return (struct str){ 0 };
}

struct str form_boundary(struct str content_type)
{
	static const char kind[] = "multipart/form-data";
	struct str boundary;

	if (content_type.len < sizeof(kind) ||
	    !str_eq_nocase((struct str){ content_type.ptr, sizeof(kind) - 1 }, STR(kind)))
		return (struct str){ 0 };
	boundary = parameter_of(content_type, STR("boundary"));
	return boundary.len <= BOUNDARY_MAX ? boundary : (struct str){ 0 };
}

/* The head of a part: of its lines only Content-Disposition tells what it is. */
static int read_head(struct str head, struct form_part *ret)
{
	struct str line, name, value;

	*ret = (struct form_part){ 0 };
	while (head.len) {
		(void)str_cut(head, '\n', &line, &head);
		if (line.len && line.ptr[line.len - 1] == '\r')
			line.len--;
		if (!str_cut(str_trim(line), ':', &name, &value))
			continue;
		if (!str_eq_nocase(str_trim(name), STR("Content-Disposition")))
			continue;
		ret->name = parameter_of(value, STR("name"));
		ret->file = parameter_of(value, STR("filename"));
	}
	return ret->name.ptr ? 0 : -EPROTO;
}

static const char *find(struct str text, struct str needle)
{
	return text.len < needle.len ? NULL : memmem(text.ptr, text.len, needle.ptr, needle.len);
}

int form_next(struct str *rest, struct str boundary, struct form_part *ret)
{
	char mark[BOUNDARY_MAX + 5] = "\r\n--";
	struct str line = { mark, boundary.len + 4 }, left = *rest;
	const char *head, *end;
	int r;

	if (!boundary.len || boundary.len > BOUNDARY_MAX)
		return -EPROTO;
	memcpy(mark + 4, boundary.ptr, boundary.len);
	/* the first one has no line before it */
	if (str_starts_with(left, (struct str){ mark + 2, line.len - 2 }))
		left = str_from_range(left.ptr + line.len - 2, left.ptr + left.len);
	else if ((head = find(left, line)))
		left = str_from_range(head + line.len, left.ptr + left.len);
	else
		return -EPROTO;
	if (str_starts_with(left, STR("--")))
		return 0;
	if (!str_starts_with(left, STR("\r\n")))
		return -EPROTO;
	head = find((struct str){ left.ptr, left.len < PART_HEAD_MAX ? left.len : PART_HEAD_MAX },
		    STR("\r\n\r\n"));
	if (!head)
		return -EPROTO;
	r = read_head(str_from_range(left.ptr + 2, head + 2), ret);
	left = str_from_range(head + 4, left.ptr + left.len);
	end = find(left, line);
	if (r < 0 || !end)
		return -EPROTO;
	ret->body = str_from_range(left.ptr, end);
	*rest = str_from_range(end, left.ptr + left.len);
	return 1;
}

struct str form_value(struct str body, struct str boundary, const char *name)
{
	struct form_part part;

	while (form_next(&body, boundary, &part) == 1)
		if (str_eq(part.name, str_from(name)) && !part.file.ptr)
			return str_trim(part.body);
	return (struct str){ 0 };
}

/* --- its key --- */

static void put_field(struct hasher *h, struct str s)
{
	uint8_t length[8];

	for (unsigned i = 0; i < 8; i++)
		length[i] = (uint8_t)((uint64_t)s.len >> 8 * i);
	hasher_update(h, length, sizeof(length));
	hasher_update(h, s.ptr, s.len);
}

/* ".wav" of "a b.wav": what a decoder goes by. The rest of the name says nothing. */
static struct str extension_of(struct str file)
{
	for (size_t i = file.len; i > 0; i--)
		if (file.ptr[i - 1] == '.')
			return (struct str){ file.ptr + i - 1, file.len - i + 1 };
	return STR("");
}

static void digest_of_part(const struct form_part *part, struct digest *ret)
{
	SCOPED(hasher_free) struct hasher *h = hasher_new(0, false);

	put_field(h, part->name);
	put_field(h, part->file.ptr ? STR("file") : STR("value"));
	put_field(h, extension_of(part->file));
	put_field(h, part->body);
	hasher_final(h, ret, NULL);
}

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct digest));
}

int form_digest(struct str body, struct str boundary, struct digest *ret)
{
	struct digest parts[PARTS_MAX];
	SCOPED(hasher_free) struct hasher *h = hasher_new(0, false);
	struct form_part part;
	size_t count = 0;
	int r;

	while ((r = form_next(&body, boundary, &part)) == 1) {
		if (count == PARTS_MAX)
			return -E2BIG;
		digest_of_part(&part, &parts[count++]);
	}
	if (r < 0)
		return r;
	qsort(parts, count, sizeof(parts[0]), by_bytes);
	hasher_update(h, parts, count * sizeof(parts[0]));
	hasher_final(h, ret, NULL);
	return 0;
}
