/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend/inventory - what a server says of its models.
 *
 * TGI and TEI say it in /info: one model, its commit, what it is for. The others have /v1/models.
 */
#include "backend/priv.h"

#include <errno.h>
#include <stdlib.h>

#include "common/json.h"

#include "common/banned.h"

void served_done(struct served *s)
{
	for (unsigned i = 0; i < s->count; i++)
		free(s->names[i]);
	*s = (struct served){ 0 };
}

static void add_name(struct served *s, struct str name)
{
	if (name.len && name.len <= 256 && s->count < SERVED_MAX && !memchr(name.ptr, 0, name.len))
		s->names[s->count++] = str_dup(name);
}

/* "classifier", or {"classifier": {…}} as TEI says it. */
static bool has_type(const struct json *type, const char *word)
{
	return str_eq(json_string(type), str_from(word)) || json_get(type, word) != NULL;
}

static void read_info(const struct json *root, struct served *s)
{
	const struct json *type = json_get(root, "model_type");
	struct str sha = json_string(json_get(root, "model_sha"));
	const char *task = has_type(type, "classifier")  ? "text-classification"
			   : has_type(type, "reranker")  ? "text-ranking"
			   : has_type(type, "embedding") ? "feature-extraction"
							 : "";

	add_name(s, json_string(json_get(root, "model_id")));
	memcpy(s->task, task, strlen(task) + 1);
	if (sha.len == 40 && str_is_lower_hex(sha)) {
		memcpy(s->commit, sha.ptr, 40);
		s->commit[40] = 0;
	}
}

int inventory_read(struct str text, struct served *ret)
{
	SCOPED(json_free) struct json *root = NULL;
	const struct json *list;

	*ret = (struct served){ 0 };
	if (json_parse(text, &root) < 0 || !json_is_object(root))
		return -EPROTO;
	list = json_get(root, "data");
	if (!json_is_array(list)) {
		read_info(root, ret);
		return ret->count ? 0 : -EPROTO;
	}
	for (const struct json *m = json_first(list); m; m = json_next(m))
		add_name(ret, json_string(json_get(m, "id")));
	return 0;
}
