/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/labels - how a model's classes are called, from its config.json if that is held (inference-protocol 4.3): servers that tell
 * all probabilities name only the best class.
 *
 * They are a word of the repo: of one that is not public, only who may read its files hears them.
 */
#include "infer/priv.h"

#include <errno.h>
#include "common/alloc.h"

#define CONFIG_BYTES_MAX ((uint64_t)1 << 20)

static bool may_read(struct infer *i, const struct call *c, const struct request *q)
{
	struct refusal ignored;
	enum access_verdict verdict;

	if (c->is_public)
		return true;
	verdict = auth_may_read(i->opts.auth, &q->subject, buf_str(&c->repo), ACCESS_FILES,
				fetch_is_down(i->opts.fetch) ? UPSTREAM_GONE : UPSTREAM_ANSWERS, &ignored);
	refusal_done(&ignored);
	return verdict == ACCESS_ALLOW;
}

/* A commit that only others were shown may be another repo's that had this name. */
static bool was_shown(struct infer *i, const struct call *c, const struct request *q, struct str commit)
{
	struct str repo = buf_str(&c->repo);

	return c->is_public ? auth_shown_to_all(i->opts.auth, repo, commit) == ACCESS_FILES
			    : auth_may_see(i->opts.auth, &q->subject, repo, commit, ACCESS_FILES,
					   fetch_is_down(i->opts.fetch) ? UPSTREAM_GONE : UPSTREAM_ANSWERS);
}

static int find_config(struct infer *i, const struct call *c, const struct request *q, struct digest *ret)
{
	struct str repo = buf_str(&c->repo);
	char commit[COMMIT_TEXT];
	struct content_id content;
	int r = index_find_name(i->opts.index, repo, STR("main"), commit, NULL);

	if (r == 0 && !was_shown(i, c, q, str_from(commit)))
		r = -ENODATA;
	if (r == 0)
		r = index_find_entry(i->opts.index, repo, str_from(commit), STR("config.json"), &content);
	return r == 0 ? index_find_blob(i->opts.index, &content, ret) : r;
}

int model_labels(struct infer *i, const struct call *c, const struct request *q, struct buf *out)
{
	SCOPED(blob_unref) struct blob *blob = NULL;
	SCOPED(json_free) struct json *json = NULL;
	SCOPED_FREE char *text = NULL;
	struct digest digest;
	struct str raw;
	size_t size;

	if (!c->repo.len || !may_read(i, c, q) || find_config(i, c, q, &digest) < 0 ||
	    store_open_blob(i->opts.store, &digest, &blob) < 0 || blob_size(blob) > CONFIG_BYTES_MAX)
		return -ENODATA;
	size = (size_t)blob_size(blob);
	text = xmalloc(size + 1);
	if (blob_read(blob, 0, text, size) < 0 || json_parse((struct str){ text, size }, &json) < 0 ||
	    !json_is_object(json_get(json, "id2label")) ||
	    json_find_member(str_trim((struct str){ text, size }), "id2label", &raw) < 0 || raw.ptr[0] != '{')
		return -ENODATA;
	return buf_append_str(out, raw);
}
