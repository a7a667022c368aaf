/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/record - a kept answer as a blob: one line of JSON, then the body as it came. The line is read without the body, and
 * the body is sent without the line.
 */
#include "infer/priv.h"

#include <errno.h>

static const char *const forms[] = { [FORM_WHOLE] = "whole", [FORM_STREAM] = "stream", [FORM_RAW] = "raw" };
static const char *const repeats[] = {
	[REPEAT_YES] = "yes", [REPEAT_SEEDED] = "seeded", [REPEAT_SAMPLE] = "sample"
};

const char *form_name(enum infer_form form)
{
	return forms[form];
}

void record_done(struct record *r)
{
	free(r->type);
	free(r->sha);
	free(r->model);
	free(r->compute_time);
	free(r->request_id);
	free(r->served_by);
	*r = (struct record){ 0 };
}

static void put_text(struct buf *out, const char *name, const char *value)
{
	if (!value)
		return;
	buf_appendf(out, ",\"%s\":", name);
	(void)json_write_string(out, str_from(value));
}

void record_write(const struct record *r, struct buf *out)
{
	buf_appendf(out, "{\"answer\":1,\"form\":\"%s\",\"repeat\":\"%s\",\"made_at\":%lld", forms[r->form],
		    repeats[r->repeat], (long long)r->made_at);
	if (r->has_usage)
		buf_append_str(out, STR(",\"usage\":true"));
	put_text(out, "dialect", dialect_name(r->dialect));
	put_text(out, "type", r->type);
	put_text(out, "model", r->model);
	put_text(out, "sha", r->sha);
	put_text(out, "compute_time", r->compute_time);
	put_text(out, "request_id", r->request_id);
	put_text(out, "served_by", r->served_by);
	buf_append_str(out, STR("}\n"));
}

/* Which of the words the member is; -1: none. */
static int word_of(const struct json *line, const char *member, const char *const *words, int count)
{
	struct str word = json_string(json_get(line, member));

	for (int i = 0; i < count; i++)
		if (words[i] && str_eq(word, str_from(words[i])))
			return i;
	return -1;
}

static int dialect_of(const struct json *line)
{
	struct str name = json_string(json_get(line, "dialect"));

	for (int d = DIALECT_TASK; d <= DIALECT_OTHER; d++)
		if (str_eq(name, str_from(dialect_name((enum dialect)d))))
			return d;
	return -1;
}

/* NULL: not there, or nothing that may stand in a field of an answer. */
static char *text_of(const struct json *line, const char *member)
{
	struct str value = json_string(json_get(line, member));

	uint32_t code = 0;
	size_t len;

	for (struct str rest = value; rest.len; rest = (struct str){ rest.ptr + len, rest.len - len }) {
		len = str_utf8_next(rest, &code);
		if (len == 0 || code < ' ' || code == 0x7f)
			return NULL;
	}
	return value.len ? str_dup(value) : NULL;
}

ssize_t record_read(struct str text, struct record *ret)
{
	SCOPED(json_free) struct json *line = NULL;
	struct str first, rest;
	uint64_t version = 0, made_at = 0;
	int form, repeat, dialect;

	if (!str_cut(text, '\n', &first, &rest) || first.len >= RECORD_LINE_MAX ||
	    json_parse(first, &line) < 0)
		return -EBADMSG;
	form = word_of(line, "form", forms, FORM_RAW + 1);
	repeat = word_of(line, "repeat", repeats, REPEAT_SAMPLE + 1);
	dialect = dialect_of(line);
	if (json_u64(json_get(line, "answer"), &version) < 0 || version != 1 || form < 0 || repeat < 0 ||
	    dialect < 0 || json_u64(json_get(line, "made_at"), &made_at) < 0)
		return -EBADMSG;
	*ret = (struct record){ .form = (enum infer_form)form,
				.dialect = (enum dialect)dialect,
				.repeat = (enum repeat)repeat,
				.made_at = (int64_t)made_at,
				.has_usage = json_is_true(json_get(line, "usage")),
				.type = text_of(line, "type"),
				.model = text_of(line, "model"),
				.sha = text_of(line, "sha"),
				.compute_time = text_of(line, "compute_time"),
				.request_id = text_of(line, "request_id"),
				.served_by = text_of(line, "served_by") };
	return (ssize_t)first.len + 1;
}
