/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash - digests, and what the Hub calls a file.
 *
 * The only file that includes the hash library. A failure of the library itself (no memory, a digest switched
 * off by the system's policy) aborts: without digests nothing here can keep its promises.
 * Threads   an object belongs to one thread at a time; the rest any.
 */
#include "common/hash.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <sys/random.h>

#include "common/alloc.h"

#include "common/banned.h"

struct hasher {
	EVP_MD_CTX *sha256; /* owned */
	EVP_MD_CTX *sha1;   /* owned; NULL without git */
};

static void must(int ok)
{
	if (ok != 1)
		abort();
}

static EVP_MD_CTX *start(const EVP_MD *kind)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	must(ctx && EVP_DigestInit_ex(ctx, kind, NULL) == 1);
	return ctx;
}

/* git hashes a short head before the bytes: that is why the size must be known at the start. */
static EVP_MD_CTX *start_git(uint64_t size)
{
	EVP_MD_CTX *ctx = start(EVP_sha1());
	char head[32];
	int len = snprintf(head, sizeof(head), "blob %llu", (unsigned long long)size);

	must(EVP_DigestUpdate(ctx, head, (size_t)len + 1));
	return ctx;
}

struct hasher *hasher_new(uint64_t size, bool with_git)
{
	struct hasher *h = xcalloc(1, sizeof(*h));

	h->sha256 = start(EVP_sha256());
	if (with_git)
		h->sha1 = start_git(size);
	return h;
}

void hasher_free(struct hasher *h)
{
	if (!h)
		return;
	EVP_MD_CTX_free(h->sha256);
	EVP_MD_CTX_free(h->sha1);
	free(h);
}

void hasher_update(struct hasher *h, const void *bytes, size_t len)
{
	must(EVP_DigestUpdate(h->sha256, bytes, len));
	if (h->sha1)
		must(EVP_DigestUpdate(h->sha1, bytes, len));
}

void hasher_final(struct hasher *h, struct digest *ret_sha256, struct git_oid *ret_git)
{
	assert(h->sha1 || !ret_git); /* asked for what hasher_new() left out */
	must(EVP_DigestFinal_ex(h->sha256, ret_sha256->bytes, NULL));
	if (ret_git)
		must(EVP_DigestFinal_ex(h->sha1, ret_git->bytes, NULL));
}

void sha256_of(const void *bytes, size_t len, struct digest *ret_digest)
{
	must(EVP_Digest(bytes, len, ret_digest->bytes, NULL, EVP_sha256(), NULL));
}

void git_oid_of(const void *bytes, size_t len, struct git_oid *ret_oid)
{
	EVP_MD_CTX *ctx = start_git(len);

	must(EVP_DigestUpdate(ctx, bytes, len));
	must(EVP_DigestFinal_ex(ctx, ret_oid->bytes, NULL));
	EVP_MD_CTX_free(ctx);
}

void hmac_sha256(const void *key, size_t key_len, const void *bytes, size_t len, struct digest *ret_digest)
{
	assert(key_len < INT32_MAX);
	must(HMAC(EVP_sha256(), key ? key : "", (int)key_len, bytes, len, ret_digest->bytes, NULL) != NULL);
}

void content_id_hex(const struct content_id *id, char ret_text[CONTENT_HEX_MAX])
{
	if (id->kind == CONTENT_GIT)
		format_hex(id->git.bytes, SHA1_BYTES, ret_text);
	else
		format_hex(id->sha256.bytes, SHA256_BYTES, ret_text);
}

int content_id_parse(struct str hex, uint64_t size, struct content_id *ret_id)
{
	/* all of it, so that equal ids are equal bytes too */
	struct content_id id = { .kind = CONTENT_LFS, .sha256 = { { 0 } }, .size = size };
	int r;

	if (hex.len == 2 * SHA1_BYTES) {
		id.kind = CONTENT_GIT;
		r = parse_hex(hex, id.git.bytes, SHA1_BYTES);
	} else {
		r = parse_hex(hex, id.sha256.bytes, SHA256_BYTES);
	}
	if (r < 0)
		return r;
	*ret_id = id;
	return 0;
}

bool content_id_is_sound(const struct content_id *id)
{
	struct git_oid git;
	struct digest sha256;

	if (id->size != 0)
		return true;
	if (id->kind == CONTENT_GIT) {
		git_oid_of("", 0, &git);
		return git_oid_eq(&git, &id->git);
	}
	sha256_of("", 0, &sha256);
	return digest_eq(&sha256, &id->sha256);
}

bool content_id_eq(const struct content_id *a, const struct content_id *b)
{
	if (a->kind != b->kind || a->size != b->size)
		return false;
	return a->kind == CONTENT_GIT ? git_oid_eq(&a->git, &b->git) : digest_eq(&a->sha256, &b->sha256);
}

void random_bytes(void *bytes, size_t len)
{
	char *at = bytes;

	while (len) {
		ssize_t got = getrandom(at, len, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			abort();
		at += got;
		len -= (size_t)got;
	}
}

void secret_wipe(void *bytes, size_t len)
{
	OPENSSL_cleanse(bytes, len);
}

bool secret_eq(const void *a, const void *b, size_t len)
{
	return CRYPTO_memcmp(a, b, len) == 0;
}
