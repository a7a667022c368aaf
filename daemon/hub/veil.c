/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/veil - what a refused client is told names the repo as the client did.
 *
 * Questions go upstream under the name that their answers are booked on, so upstream's refusal of an old name speaks of the new
 * one, and so do sentences of ours. A repo that was renamed and closed must not give its new name away.
 *
 * Never     touches an answer that is no error: whoever gets one may see the repo.
 * Threads   any; it has no state.
 */
#include "hub/priv.h"

#include "common/alloc.h"

#define BODY_BYTES_MAX ((size_t)64 * 1024)

/* "models/acme/pub" -> "acme/pub" */
static struct str id_of(struct str repo)
{
	struct str kind, id;

	return str_cut(repo, '/', &kind, &id) ? id : repo;
}

/* Appends text, name by name. Returns whether there was one. */
static bool append_veiled(struct str text, struct str hidden, struct str shown, struct buf *out)
{
	bool was_there = false;

	while (text.len > 0) {
		if (text.len >= hidden.len && str_eq_nocase((struct str){ text.ptr, hidden.len }, hidden)) {
			(void)buf_append_str(out, shown);
			text = str_from_range(text.ptr + hidden.len, text.ptr + text.len);
			was_there = true;
		} else {
			(void)buf_append_char(out, *text.ptr);
			text = str_from_range(text.ptr + 1, text.ptr + text.len);
		}
	}
	return was_there;
}

/* A value that cannot be told without it is not told. */
static void veil_fields(struct headers *fields, struct str hidden, struct str shown)
{
	for (size_t i = 0; i < fields->count; i++) {
		struct header_field *f = &fields->fields[i];
		SCOPED_BUF value;

		buf_init(&value, 16384);
		if (!append_veiled(str_from(f->value), hidden, shown, &value))
			continue;
		free(f->value);
		f->value = str_dup(buf_error(&value) ? STR("") : buf_str(&value));
	}
}

static void veil_body(struct reply *r, struct str hidden, struct str shown)
{
	SCOPED_BUF text = { 0 };

	if (r->kind != REPLY_BYTES || r->length > BODY_BYTES_MAX)
		return;
	buf_init(&text, 16 * BODY_BYTES_MAX);
	if (append_veiled(bytes_str(r->bytes), hidden, shown, &text))
		reply_text(r, r->status, NULL, buf_error(&text) ? STR("") : buf_str(&text));
}

void hub_veil_name(struct hub *h, const struct hub_route *route, struct reply *r)
{
	struct str hidden, shown = id_of(route->repo);
	SCOPED_BUF canonical = { 0 };

	if (r->status < 400 || route->repo.len == 0)
		return;
	buf_init(&canonical, 1024);
	(void)index_canonical_repo(h->opts.index, route->repo, 0, &canonical);
	hidden = id_of(buf_str(&canonical));
	if (hidden.len == 0 || str_eq_nocase(hidden, shown))
		return;
	veil_fields(&r->headers, hidden, shown);
	veil_body(r, hidden, shown);
}
