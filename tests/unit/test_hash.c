/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the digests against published values, the git form of a blob id, and the parsing of content ids.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/hash.h"

#include <errno.h>

static void assert_sha256(const struct digest *d, const char *hex)
{
	char text[2 * SHA256_BYTES + 1];

	format_hex(d->bytes, SHA256_BYTES, text);
	assert_string_equal(text, hex);
}

static void assert_git(const struct git_oid *oid, const char *hex)
{
	char text[2 * SHA1_BYTES + 1];

	format_hex(oid->bytes, SHA1_BYTES, text);
	assert_string_equal(text, hex);
}

static void knows_sha256_of_nothing_and_of_abc(void **state)
{
	struct digest d;

	sha256_of("", 0, &d);
	assert_sha256(&d, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	sha256_of("abc", 3, &d);
	assert_sha256(&d, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void knows_git_ids_of_nothing_and_of_a_line(void **state)
{
	struct git_oid oid;

	git_oid_of("", 0, &oid);
	assert_git(&oid, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
	git_oid_of("hello\n", 6, &oid);
	assert_git(&oid, "ce013625030ba8dba906f756967f9e9ca394464a");
}

static void hashes_a_stream_in_pieces_like_the_whole(void **state)
{
	struct hasher *h = hasher_new(6, true);
	struct digest d, whole;
	struct git_oid oid;

	hasher_update(h, "he", 2);
	hasher_update(h, "", 0);
	hasher_update(h, "llo\n", 4);
	hasher_final(h, &d, &oid);
	hasher_free(h);
	sha256_of("hello\n", 6, &whole);
	assert_true(digest_eq(&d, &whole));
	assert_git(&oid, "ce013625030ba8dba906f756967f9e9ca394464a");
}

static void git_id_of_the_wrong_size_differs(void **state)
{
	SCOPED(hasher_free) struct hasher *h = hasher_new(7, true);
	struct git_oid oid, right;
	struct digest d;

	hasher_update(h, "hello\n", 6);
	hasher_final(h, &d, &oid);
	git_oid_of("hello\n", 6, &right);
	assert_false(git_oid_eq(&oid, &right));
}

static void may_be_freed_half_way_or_never_made(void **state)
{
	struct hasher *h = hasher_new(100, true);

	hasher_update(h, "x", 1);
	hasher_free(h);
	hasher_free(NULL);
}

/* RFC 4231, cases 1 and 2 */
static void knows_hmac_of_the_rfc(void **state)
{
	uint8_t key[20];
	struct digest d;

	memset(key, 0x0b, sizeof(key));
	hmac_sha256(key, sizeof(key), "Hi There", 8, &d);
	assert_sha256(&d, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
	hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, &d);
	assert_sha256(&d, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	hmac_sha256(NULL, 0, "", 0, &d);
	assert_sha256(&d, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void reads_and_writes_content_ids_of_both_kinds(void **state)
{
	static const char lfs[] = "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707";
	static const char git[] = "10c66461e4c109db5a2196bff4bb59be30396ed8";
	struct content_id a, b;
	char text[CONTENT_HEX_MAX];

	assert_int_equal(content_id_parse(STR(lfs), 548105171, &a), 0);
	assert_int_equal(a.kind, CONTENT_LFS);
	content_id_hex(&a, text);
	assert_string_equal(text, lfs);
	assert_int_equal(content_id_parse(STR(git), 665, &b), 0);
	assert_int_equal(b.kind, CONTENT_GIT);
	content_id_hex(&b, text);
	assert_string_equal(text, git);
	assert_false(content_id_eq(&a, &b));
	assert_true(content_id_eq(&a, &a));
}

static void ids_of_one_digest_and_two_sizes_differ(void **state)
{
	struct content_id a, b;

	content_id_parse(STR("10c66461e4c109db5a2196bff4bb59be30396ed8"), 665, &a);
	content_id_parse(STR("10c66461e4c109db5a2196bff4bb59be30396ed8"), 666, &b);
	assert_false(content_id_eq(&a, &b));
}

static void refuses_ids_of_other_lengths_or_digits(void **state)
{
	struct content_id id = { .size = 77 };

	assert_int_equal(content_id_parse(STR(""), 0, &id), -EINVAL);
	assert_int_equal(content_id_parse(STR("10c66461e4c109db5a2196bff4bb59be30396ed"), 0, &id), -EINVAL);
	assert_int_equal(content_id_parse(STR("10c66461e4c109db5a2196bff4bb59be30396edg"), 0, &id), -EINVAL);
	assert_int_equal(content_id_parse(STR("10c66461e4c109db5a2196bff4bb59be30396ed8-gzip"), 0, &id),
			 -EINVAL);
	assert_int_equal(id.size, 77);
}

static void random_bytes_are_not_the_same_twice(void **state)
{
	uint8_t a[32] = { 0 }, b[32] = { 0 };

	random_bytes(a, sizeof(a));
	random_bytes(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
}

static void wipes_and_compares_secrets(void **state)
{
	char secret[8] = "hf_abcd";

	assert_true(secret_eq(secret, "hf_abcd", 8));
	assert_false(secret_eq(secret, "hf_abce", 8));
	secret_wipe(secret, sizeof(secret));
	assert_memory_equal(secret, "\0\0\0\0\0\0\0", 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_sha256_of_nothing_and_of_abc),
		cmocka_unit_test(knows_git_ids_of_nothing_and_of_a_line),
		cmocka_unit_test(hashes_a_stream_in_pieces_like_the_whole),
		cmocka_unit_test(git_id_of_the_wrong_size_differs),
		cmocka_unit_test(may_be_freed_half_way_or_never_made),
		cmocka_unit_test(knows_hmac_of_the_rfc),
		cmocka_unit_test(reads_and_writes_content_ids_of_both_kinds),
		cmocka_unit_test(ids_of_one_digest_and_two_sizes_differ),
		cmocka_unit_test(refuses_ids_of_other_lengths_or_digits),
		cmocka_unit_test(random_bytes_are_not_the_same_twice),
		cmocka_unit_test(wipes_and_compares_secrets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
