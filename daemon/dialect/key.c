/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/key - what makes two calls the same (inference-protocol 3.3).
 *
 * The whole body counts but for a short closed list: whoever lists what counts instead forgets something, and a wrong answer
 * is given. A body without one clear meaning counts byte by byte.
 */
#include "dialect/priv.h"

#include "common/json_canonical.h"

#include "common/banned.h"

#define CANONICAL_MAX ((size_t)128 * 1024 * 1024)

static bool is_one_of(struct str name, const char *const *list)
{
	for (; *list; list++)
		if (str_eq(name, str_from(*list)))
			return true;
	return false;
}

/* How the answer comes, and who pays for it. */
static bool is_idle_member(const struct call_key *k, const struct json_member *m)
{
	static const char *const always[] = {
		"stream",           "stream_options", "user", "metadata", "safety_identifier",
		"prompt_cache_key", "service_tier",   NULL
	};

	if (is_one_of(m->name, always))
		return true;
	if (str_eq(m->name, STR("store")))
		return str_eq(m->value, STR("false"));
	if (str_eq(m->name, STR("encoding_format")))
		return k->dialect == DIALECT_EMBEDDINGS;
	if (str_eq(m->name, STR("n")))
		return k->dialect == DIALECT_CHAT && str_eq(m->value, STR("1"));
	return false;
}

/* The model of the path again, or the spelling of the one that the key already names. */
static bool is_model_again(const struct call_key *k, const struct json_member *m)
{
	struct str inside = raw_inside(m->value);

	if (!str_eq(m->name, STR("model")) || !raw_is_string(m->value))
		return false;
	return k->dialect == DIALECT_TASK ? str_eq(inside, k->model) : k->dialect != DIALECT_OTHER;
}

static bool leaves_out(void *ctx, const struct json_member *m)
{
	static const char *const idle_options[] = { "use_cache", "wait_for_model", "use_gpu", NULL };
	const struct call_key *k = ctx;
	bool is_empty = str_eq(m->value, STR("{}"));

	if (m->depth == 2 && str_eq(m->parent, STR("parameters")))
		return str_eq(m->value, STR("null"));
	if (m->depth == 2 && str_eq(m->parent, STR("options")))
		return is_one_of(m->name, idle_options) || str_eq(m->value, STR("null"));
	if (m->depth != 1)
		return false;
	if (str_eq(m->value, STR("null")) || is_idle_member(k, m) || is_model_again(k, m))
		return true;
	return is_empty && (str_eq(m->name, STR("options")) || str_eq(m->name, STR("parameters")));
}

static void put_field(struct hasher *h, struct str s)
{
	uint8_t length[8];

	for (unsigned i = 0; i < 8; i++)
		length[i] = (uint8_t)((uint64_t)s.len >> 8 * i);
	hasher_update(h, length, sizeof(length));
	hasher_update(h, s.ptr, s.len);
}

void call_body_digest(const struct call_key *k, struct str body, const struct digest *body_digest,
		      struct digest *ret_digest, bool *ret_is_canonical)
{
	SCOPED(hasher_free) struct hasher *h = hasher_new(0, false);
	SCOPED_BUF canonical;
	bool is_canonical;

	buf_init(&canonical, CANONICAL_MAX);
	is_canonical = body.len && json_canonical(body, leaves_out, (void *)(uintptr_t)k, &canonical) == 0;
	/* so that no body can be spelled like the digest of another */
	put_field(h, is_canonical ? STR("json") : STR("raw"));
	put_field(h, is_canonical ? buf_str(&canonical)
				  : (struct str){ (const char *)body_digest->bytes, SHA256_BYTES });
	hasher_final(h, ret_digest, NULL);
	if (ret_is_canonical)
		*ret_is_canonical = is_canonical;
}

void call_key_of_digest(const struct call_key *k, const struct digest *digest, struct digest *ret_key)
{
	SCOPED(hasher_free) struct hasher *h = hasher_new(0, false);

	put_field(h, STR("hfi/1"));
	put_field(h, k->partition);
	put_field(h, str_from(dialect_name(k->dialect)));
	put_field(h, k->route);
	put_field(h, k->model);
	put_field(h, k->media);
	put_field(h, k->variant);
	put_field(h, (struct str){ (const char *)digest->bytes, SHA256_BYTES });
	hasher_final(h, ret_key, NULL);
}

void call_key_of(const struct call_key *k, struct str body, const struct digest *body_digest,
		 struct digest *ret_key, bool *ret_is_canonical)
{
	struct digest digest;

	call_body_digest(k, body, body_digest, &digest, ret_is_canonical);
	call_key_of_digest(k, &digest, ret_key);
}
