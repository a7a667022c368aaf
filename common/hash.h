/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash - digests and what the Hub calls a file.
 *
 * The only room that includes the hash library. Threads: an object belongs to one thread at a time.
 */
#pragma once
#include "common/scope.h"
#include "common/str.h"

#define SHA256_BYTES 32
#define SHA1_BYTES 20

struct digest {
	uint8_t bytes[SHA256_BYTES];
};
struct git_oid {
	uint8_t bytes[SHA1_BYTES];
};

static inline bool digest_eq(const struct digest *a, const struct digest *b)
{
	return memcmp(a->bytes, b->bytes, SHA256_BYTES) == 0;
}
static inline bool git_oid_eq(const struct git_oid *a, const struct git_oid *b)
{
	return memcmp(a->bytes, b->bytes, SHA1_BYTES) == 0;
}

/* What the Hub itself calls the bytes: SHA-256 of an LFS file, or the git blob id of a regular one; and
 * their number. */
enum content_kind { CONTENT_GIT, CONTENT_LFS };
struct content_id {
	enum content_kind kind;
	union {
		struct git_oid git;
		struct digest sha256;
	};
	uint64_t size;
};
/* 40 or 64 lower case hex digits and a NUL. */
#define CONTENT_HEX_MAX (2 * SHA256_BYTES + 1)
void content_id_hex(const struct content_id *id, char ret_text[CONTENT_HEX_MAX]);
/* 40 digits: git, 64: LFS; else -EINVAL. */
int content_id_parse(struct str hex, uint64_t size, struct content_id *ret_id);
/* Nothing but no bytes at all has the size 0. */
bool content_id_is_sound(const struct content_id *id);
bool content_id_eq(const struct content_id *a, const struct content_id *b);

/* SHA-256 and the git blob SHA-1 ("blob " size "\0" bytes) of the same stream. with_git = false leaves the
 * SHA-1 out. */
struct hasher;
struct hasher *hasher_new(uint64_t size, bool with_git);
void hasher_free(struct hasher *h);
void hasher_update(struct hasher *h, const void *bytes, size_t len);
/* ret_git may be NULL. The hasher must not be used afterwards except to free it. */
void hasher_final(struct hasher *h, struct digest *ret_sha256, struct git_oid *ret_git);
DEFINE_SCOPE(struct hasher *, hasher_free);

void sha256_of(const void *bytes, size_t len, struct digest *ret_digest);
void git_oid_of(const void *bytes, size_t len, struct git_oid *ret_oid);
void hmac_sha256(const void *key, size_t key_len, const void *bytes, size_t len, struct digest *ret_digest);
/* Fills with random bytes from the kernel. Aborts if there are none. */
void random_bytes(void *bytes, size_t len);
/* Overwrites in a way that the compiler keeps. */
void secret_wipe(void *bytes, size_t len);
/* Constant time. */
bool secret_eq(const void *a, const void *b, size_t len);
