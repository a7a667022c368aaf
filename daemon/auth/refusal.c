/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth/refusal - how upstream refused whom, kept in memory so that it can be said again in its own words.
 *
 * Promises  (1) a refusal is found only for the subject and the repo it was said to.
 *           (2) never more than REFUSALS_MAX of them.
 */
#include "auth/priv.h"

#include <errno.h>
#include "common/alloc.h"

struct remembered {
	struct list node;
	char *key; /* owned */
	size_t key_len;
	int64_t at;
	struct refusal refusal; /* owned */
};

static char *optional_dup(struct str s)
{
	return s.ptr ? str_dup(s) : NULL;
}

void refusal_done(struct refusal *r)
{
	free(r->error_code);
	free(r->error_message);
	free(r->www_authenticate);
	free(r->content_type);
	bytes_unref(r->body);
	*r = (struct refusal){ 0 };
}

static void refusal_copy(struct refusal *to, const struct refusal *from)
{
	*to = (struct refusal){
		.status = from->status,
		.error_code = from->error_code ? xstrdup(from->error_code) : NULL,
		.error_message = from->error_message ? xstrdup(from->error_message) : NULL,
		.www_authenticate = from->www_authenticate ? xstrdup(from->www_authenticate) : NULL,
		.content_type = from->content_type ? xstrdup(from->content_type) : NULL,
		.body = from->body ? bytes_ref(from->body) : NULL,
	};
}

static void remembered_free(void *p)
{
	struct remembered *m = p;

	list_remove(&m->node);
	refusal_done(&m->refusal);
	free(m->key);
	free(m);
}

void refusals_init(struct refusals *r)
{
	lock_init(&r->lock, LOCK_AUTH);
	r->by_key = map_new();
	list_init(&r->oldest);
	r->count = 0;
}

void refusals_done(struct refusals *r)
{
	map_free(r->by_key, remembered_free);
	lock_done(&r->lock);
}

static void make_key(struct buf *out, const uint8_t subject[SUBJECT_BYTES], enum access_level level,
		     struct str repo)
{
	buf_init(out, 8192);
	buf_append(out, subject, SUBJECT_BYTES);
	buf_append_char(out, (char)level);
	buf_append_str(out, repo);
}

static void forget_locked(struct refusals *r, struct str key)
{
	struct remembered *old = map_take(r->by_key, key);

	if (!old)
		return;
	remembered_free(old);
	r->count--;
}

void refusals_put(struct refusals *r, const uint8_t subject[SUBJECT_BYTES], const struct verdict_facts *v)
{
	struct remembered *m = xcalloc(1, sizeof(*m));
	struct str body = v->body;
	SCOPED_BUF key;

	make_key(&key, subject, v->proves, v->repo);
	if (buf_error(&key)) {
		free(m);
		return;
	}
	if (body.len > REFUSAL_BODY_MAX)
		body.len = 0;
	list_init(&m->node);
	m->at = v->asked_at;
	m->refusal = (struct refusal){
		.status = v->status,
		.error_code = optional_dup(headers_get(v->headers, STR("X-Error-Code"))),
		.error_message = optional_dup(headers_get(v->headers, STR("X-Error-Message"))),
		.www_authenticate = optional_dup(headers_get(v->headers, STR("WWW-Authenticate"))),
		.content_type = optional_dup(headers_get(v->headers, STR("Content-Type"))),
		.body = body.len ? bytes_new_copy(body) : NULL,
	};
	m->key = buf_take(&key, &m->key_len);

	SCOPED_LOCK(&r->lock);
	forget_locked(r, (struct str){ m->key, m->key_len });
	if (r->count >= REFUSALS_MAX) {
		struct remembered *oldest = LIST_ENTRY(r->oldest.next, struct remembered, node);

		forget_locked(r, (struct str){ oldest->key, oldest->key_len });
	}
	map_put(r->by_key, (struct str){ m->key, m->key_len }, m);
	list_add_tail(&r->oldest, &m->node);
	r->count++;
}

void refusals_forget(struct refusals *r, const uint8_t subject[SUBJECT_BYTES], struct str repo)
{
	SCOPED_LOCK(&r->lock);

	for (enum access_level level = ACCESS_META; level <= ACCESS_FILES; level++) {
		SCOPED_BUF key;

		make_key(&key, subject, level, repo);
		forget_locked(r, buf_str(&key));
	}
}

void refusals_forget_repo(struct refusals *r, struct str repo)
{
	SCOPED_LOCK(&r->lock);

	LIST_EACH(it, &r->oldest) {
		const struct remembered *m = LIST_ENTRY(it, struct remembered, node);
		struct str key = { m->key, m->key_len };

		/* subject, level, repo */
		if (key.len == SUBJECT_BYTES + 1 + repo.len && str_ends_with(key, repo))
			forget_locked(r, key);
	}
}

int64_t refusals_find(struct refusals *r, const uint8_t subject[SUBJECT_BYTES], struct str repo,
		      enum access_level level, struct refusal *ret_refusal)
{
	SCOPED_LOCK(&r->lock);

	for (enum access_level refused = ACCESS_META; refused <= level; refused++) {
		const struct remembered *m;
		SCOPED_BUF key;

		make_key(&key, subject, refused, repo);
		m = map_get(r->by_key, buf_str(&key));
		if (!m)
			continue;
		if (ret_refusal)
			refusal_copy(ret_refusal, &m->refusal);
		return m->at;
	}
	return 0;
}
