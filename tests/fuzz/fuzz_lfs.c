/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz entry for the texts of Git-LFS: what a batch asks, and what upstream answers. What is written for either is JSON.
 */
#include <assert.h>

#include "common/json.h"
#include "hub/lfs_text.h"

#include "common/banned.h"

#define OUT_BYTES_MAX (64 * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_be_json(struct str text)
{
	SCOPED(json_free) struct json *root = NULL;
	int r = json_parse(text, &root);

	assert(r == 0);
}

static void check_question(struct str text)
{
	struct lfs_question q;
	SCOPED_BUF out;

	buf_init(&out, OUT_BYTES_MAX);
	lfs_question_read(text, &q);
	assert(q.operation == LFS_DOWNLOAD || !q.count);
	if (q.operation == LFS_DOWNLOAD) {
		int r = lfs_question_write(&q, &out);

		assert(r == 0);
		must_be_json(buf_str(&out));
	}
	lfs_question_done(&q);
}

static int count_given(void *ctx, const struct lfs_given *g)
{
	size_t *count = ctx;

	assert(!g->href.ptr || g->href.len);
	assert(!g->error_code || (g->error_code >= 400 && g->error_code <= 599));
	*count += g->href.ptr != NULL;
	return 0;
}

static void our_url(void *ctx, const struct lfs_wanted *object, struct buf *out)
{
	size_t *count = ctx;

	++*count;
	buf_append_str(out, STR("http://here/\"and\\there"));
}

static void check_answer(struct str text)
{
	size_t given = 0, edited = 0;
	SCOPED_BUF out;

	buf_init(&out, OUT_BYTES_MAX);
	(void)lfs_answer_each(text, 1700000000, count_given, &given);
	if (lfs_answer_edit(text, our_url, &edited, &out) < 0)
		return;
	must_be_json(buf_str(&out));
	if (!edited)
		assert(str_eq(buf_str(&out), text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = { (const char *)data, size };
	int64_t at;

	check_question(text);
	check_answer(text);
	(void)lfs_time_parse(text, &at);
	return 0;
}
