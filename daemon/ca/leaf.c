/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ca/leaf - certificates for names, made when they are asked for and remembered.
 *
 * Threads   any. A leaf is made outside of the lock; when two threads make one for the same name, the first one stays.
 */
#include "ca/priv.h"

#include <assert.h>
#include <errno.h>
#include "common/alloc.h"

#include "common/banned.h"

#define LEAF_S ((int64_t)7 * 86400)
#define RENEW_S ((int64_t)86400)

void ca_leaf_done(struct ca_leaf *leaf)
{
	leaf->certificate = bytes_unref(leaf->certificate);
	leaf->key = bytes_unref(leaf->key);
}

static void leaf_free(void *leaf)
{
	ca_leaf_done(leaf);
	free(leaf);
}

static struct ca_leaf copy_of(const struct ca_leaf *leaf)
{
	return (struct ca_leaf){ bytes_ref(leaf->certificate), bytes_ref(leaf->key), leaf->expires_at };
}

/* The day before its end belongs to those who hold it. */
static bool is_fresh(const struct ca_leaf *leaf, int64_t now, int64_t ca_expires_at)
{
	return now < leaf->expires_at - RENEW_S || (leaf->expires_at == ca_expires_at && now < ca_expires_at);
}

static bool find(struct ca *ca, struct str name, int64_t now, struct ca_leaf *ret_leaf)
{
	const struct ca_leaf *leaf;
	SCOPED_LOCK(&ca->lock);

	leaf = map_get(ca->leaves, name);
	if (!leaf || !is_fresh(leaf, now, ca->expires_at))
		return false;
	*ret_leaf = copy_of(leaf);
	return true;
}

/* The one that ends first makes room: it was made first. */
struct oldest {
	char name[HOST_NAME_MAX_BYTES];
	size_t len;
	int64_t expires_at;
};

static int look_for_oldest(void *ctx, struct str name, void *value)
{
	const struct ca_leaf *leaf = value;
	struct oldest *o = ctx;

	if (o->len && leaf->expires_at >= o->expires_at)
		return 0;
	assert(name.len <= sizeof(o->name));
	memcpy(o->name, name.ptr, name.len);
	o->len = name.len;
	o->expires_at = leaf->expires_at;
	return 0;
}

static void remember(struct ca *ca, struct str name, const struct ca_leaf *leaf)
{
	struct ca_leaf *kept = xmalloc(sizeof(*kept)), *old = NULL;
	struct oldest oldest = { 0 };

	*kept = copy_of(leaf);
	lock_take(&ca->lock);
	if (map_count(ca->leaves) >= CA_LEAVES_MAX && !map_get(ca->leaves, name)) {
		(void)map_each(ca->leaves, look_for_oldest, &oldest);
		old = map_take(ca->leaves, (struct str){ oldest.name, oldest.len });
	} else {
		old = map_take(ca->leaves, name);
	}
	(void)map_put(ca->leaves, name, kept);
	lock_drop(&ca->lock);
	if (old)
		leaf_free(old);
}

static int encode(X509 *certificate, EVP_PKEY *key, struct ca_leaf *ret_leaf)
{
	unsigned char *der = NULL, *key_der = NULL;
	int len = i2d_X509(certificate, &der), key_len = i2d_PrivateKey(key, &key_der);

	if (len > 0 && key_len > 0) {
		ret_leaf->certificate = bytes_new_copy((struct str){ (const char *)der, (size_t)len });
		ret_leaf->key = bytes_new_copy((struct str){ (const char *)key_der, (size_t)key_len });
	}
	OPENSSL_free(der);
	OPENSSL_clear_free(key_der, key_len > 0 ? (size_t)key_len : 0);
	return len > 0 && key_len > 0 ? 0 : -ENOMEM;
}

static int make(struct ca *ca, const char *name, int64_t now, struct ca_leaf *ret_leaf)
{
	int64_t until = now + LEAF_S < ca->expires_at ? now + LEAF_S : ca->expires_at;
	SCOPED(EVP_PKEY_free) EVP_PKEY *key = make_key();
	SCOPED(X509_free) X509 *x = key ? make_leaf(ca, key, name, now, until) : NULL;

	if (!x)
		return -ENOMEM;
	ret_leaf->expires_at = until;
	return encode(x, key, ret_leaf);
}

int ca_issue(struct ca *ca, struct str name, int64_t now, struct ca_leaf *ret_leaf)
{
	SCOPED_FREE char *text = NULL;
	struct ca_leaf leaf = { 0 };
	int r;

	if (!ca_covers(ca, name))
		return -EACCES;
	if (now >= ca->expires_at)
		return -ESTALE;
	if (find(ca, name, now, ret_leaf))
		return 0;
	text = str_dup(name);
	r = make(ca, text, now, &leaf);
	if (r < 0)
		return r;
	remember(ca, name, &leaf);
	*ret_leaf = leaf;
	return 0;
}

void leaves_free(struct map *leaves)
{
	map_free(leaves, leaf_free);
}
