/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/rows - ids as people write them; which of what is held a question is about, and which of that may be shown.
 *
 * Threads   any. Pure.
 */
#include "admin/priv.h"

#include "common/banned.h"

static const struct {
	const char *kind, *word;
} kinds[] = { { "models", "model" },   { "datasets", "dataset" }, { "spaces", "space" },
	      { "kernels", "kernel" }, { "buckets", "bucket" },   { "inference", "inference" } };
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

const char *admin_kind(struct str word)
{
	for (size_t i = 0; i < KINDS; i++)
		if (str_eq(word, str_from(kinds[i].kind)) || str_eq(word, str_from(kinds[i].word)))
			return kinds[i].kind;
	return NULL;
}

/* "model" and "acme/pub" */
struct str admin_split_repo(struct str repo, struct str *ret_name)
{
	struct str kind;

	(void)str_cut(repo, '/', &kind, ret_name);
	for (size_t i = 0; i < KINDS; i++)
		if (str_eq(kind, str_from(kinds[i].kind)))
			return str_from(kinds[i].word);
	return kind;
}

void admin_write_id(struct buf *out, struct str repo)
{
	struct str name, word = admin_split_repo(repo, &name);

	(void)buf_append_str(out, word);
	if (name.len) {
		(void)buf_append_char(out, '/');
		(void)buf_append_str(out, name);
	}
}

void admin_write_id_json(struct buf *out, struct str repo)
{
	SCOPED_BUF id = { 0 };

	buf_init(&id, repo.len + 1);
	admin_write_id(&id, repo);
	(void)json_write_string(out, buf_str(&id));
}

/* --- which rows --- */

bool admin_is_inference(struct str repo)
{
	return str_eq(repo, STR("inference"));
}

/* Kept answers have no name that could tell anything. */
bool admin_is_shown(const struct call *c, const struct usage_row *row)
{
	return c->is_admin || row->is_public || admin_is_inference(str_from(row->repo));
}

/* The pattern may be written with the kind, in either form, or without it; a bare name stands for all below it too. */
static bool fits_one(struct str pattern, struct str text)
{
	bool is_bare = !memchr(pattern.ptr, '*', pattern.len) && !memchr(pattern.ptr, '?', pattern.len);

	if (glob_matches(pattern, text))
		return true;
	return is_bare && text.len > pattern.len && text.ptr[pattern.len] == '/' &&
	       str_starts_with(text, pattern);
}

bool admin_fits(const struct call *c, const struct usage_row *row)
{
	struct str repo = str_from(row->repo), name, pattern = buf_str(&c->match),
		   kind = admin_split_repo(repo, &name);
	SCOPED_BUF id = { 0 };

	if (c->kind && admin_kind(kind) != c->kind)
		return false;
	if (pattern.len == 0)
		return true;
	buf_init(&id, repo.len + 1);
	admin_write_id(&id, repo);
	return fits_one(pattern, name) || fits_one(pattern, repo) || fits_one(pattern, buf_str(&id));
}

uint64_t admin_count_hidden(const struct call *c, const struct usage *u)
{
	uint64_t hidden = 0;

	for (size_t i = 0; i < u->count; i++)
		hidden += !admin_is_shown(c, &u->rows[i]);
	return hidden;
}
