/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth/lender - the daemon's own token (hub.token-credential): for which repos it is lent, and to whom.
 *
 * It is lent to a client that was named by the administrator, by address or by a key that it sends in a token's place; never
 * to one who came with a token of his own. What it proves belongs to a subject of its own, which no user's token is, not even
 * the same text sent by a user.
 *
 * Never     sends a key upstream: a key is known here and means nothing there.
 * Threads   any; it never changes once auth_set_rules() has it, but for `refused_mono_ms`.
 */
#include "auth/priv.h"

#include <errno.h>
#include "common/alloc.h"

/* Once upstream called it invalid, it is not lent for so long: anonymous is better than a dead token. */
#define REFUSED_MS (10 * 60 * 1000)

struct lender *lender_ref(struct lender *l)
{
	if (l)
		atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
	return l;
}

static void words_free(char **words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(words[i]);
	free(words);
}

struct lender *lender_unref(struct lender *l)
{
	if (!l || atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	for (size_t i = 0; i < l->key_count; i++)
		secret_unref(l->keys[i].secret);
	secret_unref(l->token);
	words_free(l->repos, l->repo_count);
	free(l->clients);
	free(l->keys);
	free(l);
	return NULL;
}

static size_t count_of(const char *const *words)
{
	size_t count = 0;

	while (words && words[count])
		count++;
	return count;
}

static int take_words(struct lender *l, const struct lender_opts *opts)
{
	size_t repos = count_of(opts->repos), clients = count_of(opts->clients);

	l->repos = xcalloc(repos + 1, sizeof(*l->repos));
	l->clients = xcalloc(clients + 1, sizeof(*l->clients));
	for (; l->repo_count < repos; l->repo_count++) {
		struct str pattern = str_from(opts->repos[l->repo_count]);

		if (!repo_pattern_is_sound(pattern))
			return -EINVAL;
		l->repos[l->repo_count] = str_dup(pattern);
	}
	for (; l->client_count < clients; l->client_count++) {
		struct str client = str_from(opts->clients[l->client_count]);

		if (!client_is_sound(client))
			return -EINVAL;
		(void)whom_parse(client, &l->clients[l->client_count]);
	}
	return 0;
}

int lender_new(const struct lender_opts *opts, struct lender **ret_lender)
{
	struct lender *l = xcalloc(1, sizeof(*l));
	SCOPED_BUF value;
	int r = take_words(l, opts);

	atomic_init(&l->refs, 1);
	buf_init(&value, LENDER_TOKEN_MAX + 16);
	buf_appendf(&value, "Bearer %.*s", STR_ARGS(opts->token));
	if (r == 0 && (opts->token.len > LENDER_TOKEN_MAX || !token_is_sound(opts->token) ||
		       l->repo_count == 0 || l->client_count + opts->key_count == 0))
		r = -EINVAL;
	l->keys = xcalloc(opts->key_count + 1, sizeof(*l->keys));
	for (; r == 0 && l->key_count < opts->key_count; l->key_count++) {
		if (!lender_key_is_sound(opts->keys[l->key_count]))
			r = -EINVAL;
		else
			l->keys[l->key_count].secret = secret_new(opts->keys[l->key_count]);
		if (r < 0)
			break;
	}
	if (r == 0)
		l->token = secret_new(buf_str(&value));
	secret_wipe(value.bytes, value.len);
	if (r < 0) {
		lender_unref(l);
		return r;
	}
	*ret_lender = l;
	return 0;
}

bool lender_key_is_sound(struct str key)
{
	return token_is_sound(key) && key.len >= LENDER_KEY_MIN && key.len <= LENDER_TOKEN_MAX;
}

void lender_name(struct lender *l, const uint8_t key[SUBJECT_KEY_BYTES])
{
	struct digest mac;
	SCOPED_BUF text;

	/* a blank and a NUL are in no token: nobody who sends the same token is this subject */
	buf_init(&text, LENDER_TOKEN_MAX + 32);
	buf_append(&text, "service \0", 9);
	buf_append_str(&text, secret_value(l->token));
	hmac_sha256(key, SUBJECT_KEY_BYTES, text.bytes, text.len, &mac);
	memcpy(l->id, mac.bytes, SUBJECT_BYTES);
	secret_wipe(text.bytes, text.len);
	for (size_t i = 0; i < l->key_count; i++)
		subject_id(key, secret_value(l->keys[i].secret), l->keys[i].id);
}

bool lender_knows_peer(const struct lender *l, const struct subject *s)
{
	for (size_t i = 0; i < l->client_count; i++)
		if (whom_is(&l->clients[i], s))
			return true;
	return false;
}

bool lender_knows_key(const struct lender *l, const uint8_t id[SUBJECT_BYTES])
{
	bool is_known = false;

	/* all of them, whichever it is */
	for (size_t i = 0; i < l->key_count; i++)
		is_known |= secret_eq(l->keys[i].id, id, SUBJECT_BYTES);
	return is_known;
}

bool lender_lends_for(const struct lender *l, struct str repo)
{
	for (size_t i = 0; i < l->repo_count; i++)
		if (repo_pattern_matches(str_from(l->repos[i]), repo))
			return true;
	return false;
}

void lender_refused(struct lender *l, uint64_t now_mono_ms)
{
	atomic_store(&l->refused_mono_ms, now_mono_ms + 1);
	atomic_store(&l->is_bad, true);
}

bool lender_is_refused(const struct lender *l, uint64_t now_mono_ms)
{
	uint64_t at = atomic_load(&l->refused_mono_ms);

	return at != 0 && now_mono_ms < at + REFUSED_MS;
}
