/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/tag - what is known of a model: its task, from the Hub's information on it; and whether answers of it are kept, for whom.
 *
 * For the second there is one document for each model and identity: its body is the answer that was kept last, its type the task.
 * So nobody has to look through all answers, and when the last one has been evicted the model is not known any more.
 */
#include "infer/priv.h"

#include <errno.h>
#include "common/alloc.h"

#define INFO_BYTES_MAX ((uint64_t)1 << 20)
#define TASK_MAX 64

/* Words that may stand in a path, a header and JSON. */
static bool is_task(struct str s)
{
	if (s.len == 0 || s.len > TASK_MAX)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!((s.ptr[i] >= 'a' && s.ptr[i] <= 'z') || (s.ptr[i] >= '0' && s.ptr[i] <= '9') ||
		      s.ptr[i] == '-'))
			return false;
	return true;
}

static void read_tag(struct infer *i, const struct digest *info, struct buf *out)
{
	SCOPED(blob_unref) struct blob *blob = NULL;
	SCOPED(json_free) struct json *json = NULL;
	SCOPED_FREE char *text = NULL;
	struct str tag;

	if (store_open_blob(i->opts.store, info, &blob) < 0 || blob_size(blob) > INFO_BYTES_MAX)
		return;
	text = xmalloc((size_t)blob_size(blob) + 1);
	if (blob_read(blob, 0, text, (size_t)blob_size(blob)) < 0 ||
	    json_parse((struct str){ text, (size_t)blob_size(blob) }, &json) < 0)
		return;
	tag = json_string(json_get(json, "pipeline_tag"));
	if (is_task(tag))
		buf_append_str(out, tag);
}

int tag_of(struct infer *i, struct str repo, struct buf *out)
{
	struct doc doc = { 0 };
	struct kept *kept;

	if (!repo.len || index_find_doc(i->opts.index, repo, STR("m:info//"), &doc) < 0)
		return -ENODATA;
	kept = shelf_find(&i->shelf, &doc.body, 't');
	if (!kept) {
		SCOPED_BUF tag;

		buf_init(&tag, TASK_MAX);
		read_tag(i, &doc.body, &tag);
		kept = kept_new(&doc.body);
		kept->body = bytes_new_copy(buf_str(&tag));
		shelf_put(&i->shelf, kept, 't');
	}
	buf_append_str(out, bytes_str(kept->body));
	kept_unref(kept);
	doc_done(&doc);
	return out->len ? 0 : -ENODATA;
}

static void key_of_model(struct str partition, struct str model, struct buf *out)
{
	char hex[2 * SUBJECT_BYTES + 1] = "";

	if (partition.len == SUBJECT_BYTES)
		format_hex((const uint8_t *)partition.ptr, SUBJECT_BYTES, hex);
	buf_init(out, 1024);
	buf_appendf(out, "m:model:%s:%.*s", hex, STR_ARGS(model_id(model)));
}

void known_put(struct infer *i, struct str partition, struct str model, struct str task,
	       const struct doc *answer)
{
	struct doc doc = *answer;
	char type[TASK_MAX + 1] = "";
	SCOPED_BUF key;

	key_of_model(partition, model, &key);
	if (!model.len || buf_error(&key))
		return;
	if (is_task(task))
		memcpy(type, task.ptr, task.len);
	doc.content_type = type;
	index_learn(i->opts.index, &(struct fact){ .kind = FACT_DOC,
						   .repo = STR(INFER_REPO),
						   .path = buf_str(&key),
						   .at = answer->fetched_at,
						   .doc = &doc });
}

int known_task(struct infer *i, struct str partition, struct str model, struct buf *out)
{
	SCOPED(blob_unref) struct blob *blob = NULL;
	struct doc doc = { 0 };
	SCOPED_BUF key;
	int r;

	key_of_model(partition, model, &key);
	if (index_find_doc(i->opts.index, STR(INFER_REPO), buf_str(&key), &doc) < 0)
		return -ENODATA;
	r = store_open_blob(i->opts.store, &doc.body, &blob);
	if (r == 0 && doc.content_type)
		buf_append_str(out, str_from(doc.content_type));
	doc_done(&doc);
	return r < 0 ? -ENODATA : 0;
}
