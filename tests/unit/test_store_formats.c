/* SPDX-License-Identifier: Apache-2.0 */
/* store, inside: sets of ranges against a bitmap; the text files against every single changed or missing byte. */
#include "test_store.h"

#include "store/priv.h"

/* --- ranges --- */

#define MODEL_SIZE 200

static void check_against(const struct ranges *r, const bool held[MODEL_SIZE])
{
	uint64_t count = 0, pieces = 0;

	for (unsigned i = 0; i < MODEL_SIZE; i++) {
		struct byte_range gap;
		unsigned end = i, gap_at = i, gap_end;

		count += held[i];
		pieces += held[i] && (i == 0 || !held[i - 1]);
		while (end < MODEL_SIZE && held[end])
			end++;
		assert_int_equal(ranges_held_from(r, i), end - i);
		while (gap_at < MODEL_SIZE && held[gap_at])
			gap_at++;
		for (gap_end = gap_at; gap_end < MODEL_SIZE && !held[gap_end];)
			gap_end++;
		assert_int_equal(ranges_next_gap(r, i, MODEL_SIZE, &gap), gap_at < MODEL_SIZE);
		if (gap_at < MODEL_SIZE) {
			assert_int_equal(gap.first, gap_at);
			assert_int_equal(gap.end, gap_end);
		}
	}
	assert_int_equal(r->bytes, count);
	assert_int_equal(r->count, pieces); /* nothing touches */
}

static void ranges_are_what_a_bitmap_says(void **state)
{
	uint32_t x = 1;

	for (unsigned round = 0; round < 200; round++) {
		SCOPED_RANGES r = { .at = NULL };
		bool held[MODEL_SIZE] = { false };

		for (unsigned step = 0; step < 30; step++) {
			unsigned first, len;

			x = x * 1664525u + 1013904223u;
			first = (x >> 8) % MODEL_SIZE;
			len = (x >> 20) % 12;
			if (first + len > MODEL_SIZE)
				len = MODEL_SIZE - first;
			ranges_add(&r, (struct byte_range){ first, first + len });
			for (unsigned i = 0; i < len; i++)
				held[first + i] = true;
			check_against(&r, held);
		}
	}
}

/* --- files --- */

typedef int (*decoder)(struct str text);

static int decode_sidecar(struct str text)
{
	struct blob_meta meta;

	return sidecar_decode(text, &meta);
}

#define KEY "s-000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static int decode_map(struct str text)
{
	SCOPED_PART_MAP map = { .size = 0 };

	return part_map_decode(text, STR(KEY), &map);
}

static void expect_every_change_is_noticed(struct str good, decoder decode)
{
	char *bad = malloc(good.len + 1);

	assert_int_equal(decode(good), 0);
	for (size_t i = 0; i < good.len; i++) {
		assert_int_equal(decode((struct str){ good.ptr, i }), -EBADMSG);
		for (unsigned bit = 0; bit < 8; bit++) {
			memcpy(bad, good.ptr, good.len);
			bad[i] = (char)(bad[i] ^ 1 << bit);
			assert_int_equal(decode((struct str){ bad, good.len }), -EBADMSG);
		}
	}
	memcpy(bad, good.ptr, good.len);
	bad[good.len] = '\n';
	assert_int_equal(decode((struct str){ bad, good.len + 1 }), -EBADMSG);
	free(bad);
}

static void a_sidecar_comes_back_or_is_refused(void **state)
{
	struct blob_meta meta = meta_of("hello", 5), found = { 0 };
	SCOPED_BUF text;

	buf_init(&text, SIDECAR_BYTES_MAX);
	meta.size = UINT64_C(1) << 40;
	assert_int_equal(sidecar_encode(&meta, &text), 0);
	assert_int_equal(sidecar_decode(buf_str(&text), &found), 0);
	assert_int_equal(found.size, meta.size);
	assert_true(digest_eq(&found.sha256, &meta.sha256));
	assert_true(git_oid_eq(&found.git, &meta.git));
	expect_every_change_is_noticed(buf_str(&text), decode_sidecar);
}

static void a_map_comes_back_or_is_refused(void **state)
{
	SCOPED_PART_MAP map = { .size = 5000, .validator = strdup("\"etag\n=1\"") };
	SCOPED_PART_MAP found = { .size = 0 };
	SCOPED_BUF text;

	buf_init(&text, MAP_BYTES_MAX);
	ranges_add(&map.held, (struct byte_range){ 0, 1000 });
	ranges_add(&map.held, (struct byte_range){ 4000, 5000 });
	assert_int_equal(part_map_encode(KEY, &map, &text), 0);
	assert_int_equal(part_map_decode(buf_str(&text), STR(KEY), &found), 0);
	assert_int_equal(found.size, 5000);
	assert_int_equal(found.held.count, 2);
	assert_int_equal(found.held.bytes, 2000);
	assert_int_equal(found.held.at[1].first, 4000);
	assert_string_equal(found.validator, "\"etag\n=1\"");
	part_map_done(&found);
	assert_int_equal(part_map_decode(buf_str(&text), STR("g-00"), &found), -EBADMSG); /* another part's */
	expect_every_change_is_noticed(buf_str(&text), decode_map);
}

/* With a right check, and yet not to be believed. */
static int decode_body(const char *magic, const char *body, decoder decode)
{
	SCOPED_BUF text;

	buf_init(&text, 4096);
	buf_append_str(&text, str_from(magic));
	buf_append_str(&text, str_from(body));
	assert_int_equal(seal_close(&text), 0);
	return decode(buf_str(&text));
}

static int decode_map_lines(const char *body)
{
	return decode_body("hfcached map 1\n", body, decode_map);
}

static void a_map_with_impossible_ranges_is_refused(void **state)
{
	assert_int_equal(decode_map_lines("content=" KEY "\nsize=10\nvalidator=\nrange=0-10\nlater=x\n"), 0);
	assert_int_equal(decode_map_lines("content=" KEY "\nsize=10\nvalidator=\nrange=0-11\n"), -EBADMSG);
	assert_int_equal(decode_map_lines("content=" KEY "\nsize=10\nvalidator=\nrange=5-5\n"), -EBADMSG);
	assert_int_equal(decode_map_lines("content=" KEY "\nsize=10\nvalidator=\nrange=5-2\n"), -EBADMSG);
	assert_int_equal(decode_map_lines("content=" KEY "\nsize=10\nvalidator=\nrange=5-7\nrange=6-8\n"),
			 -EBADMSG);
	assert_int_equal(decode_map_lines("content=" KEY "\nsize=10\nvalidator=\nrange=5-7\nrange=0-2\n"),
			 -EBADMSG);
	assert_int_equal(decode_map_lines("content=" KEY "\nsize=10\nvalidator=\nrange=0\n"), -EBADMSG);
	assert_int_equal(decode_map_lines("content=" KEY "\nsize=10\nvalidator=\nrange=-1-5\n"), -EBADMSG);
	assert_int_equal(decode_map_lines("content=" KEY "\nsize=10\nvalidator=\nrange=0-5\nsize=3\n"),
			 -EBADMSG);
	assert_int_equal(decode_map_lines("content=" KEY "\nsize=ten\nvalidator=\n"), -EBADMSG);
	assert_int_equal(decode_map_lines("content=" KEY "\nsize=10\nvalidator=0\n"), -EBADMSG);
	assert_int_equal(decode_map_lines("content=" KEY "\nsize=10\nvalidator=00\n"), -EBADMSG);
	assert_int_equal(decode_map_lines("content=" KEY "\nsize=10\nvalidator=41\nvalidator=41\n"),
			 -EBADMSG);
	assert_int_equal(decode_map_lines("content=" KEY "\nsize=10\n"), -EBADMSG);
	assert_int_equal(decode_map_lines("size=10\nvalidator=\n"), -EBADMSG);
	assert_int_equal(decode_map_lines("content=" KEY "\nsize=10\nvalidator=\nno sign\n"), -EBADMSG);
}

static int decode_sidecar_lines(const char *body)
{
	return decode_body("hfcached meta 1\n", body, decode_sidecar);
}

#define SHA256_LINE "sha256=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
#define GIT_LINE "git=000102030405060708090a0b0c0d0e0f10111213\n"

static void a_sidecar_that_lacks_a_fact_is_refused(void **state)
{
	assert_int_equal(decode_sidecar_lines(SHA256_LINE GIT_LINE "size=1\nlater=x\n"), 0);
	assert_int_equal(decode_sidecar_lines(GIT_LINE "size=1\n"), -EBADMSG);
	assert_int_equal(decode_sidecar_lines(SHA256_LINE "size=1\n"), -EBADMSG);
	assert_int_equal(decode_sidecar_lines(SHA256_LINE GIT_LINE), -EBADMSG);
	assert_int_equal(decode_sidecar_lines(SHA256_LINE GIT_LINE "size=-1\n"), -EBADMSG);
	assert_int_equal(decode_sidecar_lines(SHA256_LINE "git=0001\nsize=1\n"), -EBADMSG);
	assert_int_equal(decode_sidecar_lines(SHA256_LINE GIT_LINE "size=1\njunk\n"), -EBADMSG);
	assert_int_equal(decode_sidecar_lines(""), -EBADMSG);
}

static void charges_do_not_overflow(void **state)
{
	assert_int_equal(file_charge(0), 0);
	assert_int_equal(file_charge(1), 4096);
	assert_int_equal(file_charge(4096), 4096);
	assert_int_equal(blob_charge(4097), 8192 + 4096);
	assert_true(file_charge(UINT64_MAX) >= UINT64_MAX - STORE_BLOCK);
	assert_true(blob_charge(UINT64_MAX) >= UINT64_MAX - STORE_BLOCK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_are_what_a_bitmap_says),
		cmocka_unit_test(a_sidecar_comes_back_or_is_refused),
		cmocka_unit_test(a_map_comes_back_or_is_refused),
		cmocka_unit_test(a_map_with_impossible_ranges_is_refused),
		cmocka_unit_test(a_sidecar_that_lacks_a_fact_is_refused),
		cmocka_unit_test(charges_do_not_overflow),
	};

	return cmocka_run_group_tests_name("store_formats", tests, NULL, NULL);
}
