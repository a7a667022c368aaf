/* SPDX-License-Identifier: Apache-2.0 */
/* index: facts as journal lines. */
#include "index_rig.h"

static void expect_same_doc(const struct doc *a, const struct doc *b)
{
	assert_memory_equal(&a->body, &b->body, SHA256_BYTES);
	assert_int_equal(a->body_size, b->body_size);
	assert_int_equal(a->fetched_at, b->fetched_at);
	assert_string_equal(a->commit, b->commit);
	assert_true(str_eq(str_from(a->content_type), str_from(b->content_type)));
	assert_true(str_eq(str_from(a->link_next), str_from(b->link_next)));
}

static void expect_round_trip(const struct fact *f)
{
	SCOPED_BUF line, scratch;
	struct doc doc;
	struct fact got;

	buf_init(&line, 100000);
	buf_init(&scratch, 100000);
	assert_int_equal(fact_encode(f, &line), 1);
	for (size_t i = 0; i < line.len; i++)
		assert_in_range((unsigned char)line.bytes[i], ' ', '~');
	assert_int_equal(fact_decode(f->repo, buf_str(&line), &scratch, &got, &doc), 0);
	assert_int_equal(got.kind, f->kind);
	assert_true(str_eq(got.repo, f->repo));
	assert_true(str_eq(got.revision, f->revision));
	assert_true(str_eq(got.path, f->path));
	assert_true(str_eq(got.to, f->to));
	assert_string_equal(got.commit, f->commit);
	assert_int_equal(got.level, f->level);
	assert_int_equal(got.size, f->size);
	if (f->kind == FACT_DOC)
		expect_same_doc(got.doc, f->doc);
	else
		assert_int_equal(got.at, f->at);
	if (f->kind == FACT_SHOWN)
		assert_memory_equal(got.subject, f->subject, SUBJECT_BYTES);
	if (f->kind == FACT_ENTRY)
		assert_true(content_id_eq(&got.content, &f->content));
}

static void facts_survive_the_way_through_a_line(void **state)
{
	char every_byte[256];
	struct fact f;
	struct doc doc = make_doc(3, 1700000000), bare = { .fetched_at = 1 };

	for (int i = 0; i < 256; i++)
		every_byte[i] = (char)i;
	f = name_fact("refs/pr/1", C1, 1700000000);
	expect_round_trip(&f);
	f.revision = (struct str){ every_byte, 256 };
	expect_round_trip(&f);
	f = entry_fact(C1, "", lfs_content(7, INT64_MAX));
	f.path = (struct str){ every_byte, 256 };
	expect_round_trip(&f);
	f.content = git_content(7, 0);
	expect_round_trip(&f);
	f = commit_fact(FACT_ABSENT, C2, "a=b c%20d");
	expect_round_trip(&f);
	f = commit_fact(FACT_TREE, C2, "");
	f.size = 12345;
	expect_round_trip(&f);
	f = (struct fact){ .kind = FACT_ALIAS, .repo = REPO, .to = STR("models/b"), .at = 5 };
	expect_round_trip(&f);
	f = (struct fact){ .kind = FACT_IDENTITY, .repo = REPO, .to = STR("65a1 %="), .at = 5 };
	expect_round_trip(&f);
	f = (struct fact){ .kind = FACT_FORGET_ALL, .repo = REPO, .at = 6 };
	expect_round_trip(&f);
	f = (struct fact){ .kind = FACT_FORGET, .repo = REPO, .at = 6 };
	expect_round_trip(&f);
	f.revision = STR("a/b c");
	expect_round_trip(&f);
	for (enum access_level level = ACCESS_NONE; level <= ACCESS_FILES; level++) {
		f = right_fact(FACT_PUBLIC, 0, level, 77);
		expect_round_trip(&f);
	}
	f = (struct fact){ .kind = FACT_SHOWN, .repo = REPO, .path = STR(C1), .level = ACCESS_META, .at = 7 };
	expect_round_trip(&f);
	memcpy(f.subject, SHOWN_ITSELF, SUBJECT_BYTES);
	expect_round_trip(&f);
	f = (struct fact){ .kind = FACT_HIDE, .repo = REPO, .level = ACCESS_NONE, .at = 7 };
	expect_round_trip(&f);
	f = (struct fact){ .kind = FACT_DOC, .repo = REPO, .path = STR("m:x y?a=1&b=%"), .doc = &doc };
	expect_round_trip(&f);
	f.doc = &bare;
	expect_round_trip(&f);
}

static void kinds_that_are_not_journaled_make_no_line(void **state)
{
	static const enum fact_kind kinds[] = { FACT_GRANT, FACT_BLOB, FACT_BLOB_GONE, FACT_USE,
						FACT_FORGET_GRANTS };
	SCOPED_BUF line;

	buf_init(&line, 1000);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct fact f = { .kind = kinds[i], .repo = REPO };

		assert_int_equal(fact_encode(&f, &line), 0);
		assert_int_equal(line.len, 0);
	}
}

static void a_line_that_does_not_fit_leaves_the_buffer_as_it_was(void **state)
{
	struct fact f = name_fact("main", C1, 1);
	SCOPED_BUF line;

	buf_init(&line, 20);
	(void)buf_append_str(&line, STR("before"));
	assert_int_equal(fact_encode(&f, &line), -E2BIG);
	assert_string_equal(line.bytes, "before");
}

static int decode(const char *text, struct fact *ret)
{
	static struct doc doc;
	SCOPED_BUF scratch;

	buf_init(&scratch, 1000);
	return fact_decode(REPO, str_from(text), &scratch, ret, &doc);
}

static void refuses_lines_that_are_none(void **state)
{
	static const char *const bad[] = {
		"",
		"name",
		"name rev=main",
		"name commit=" C1 " at=1",
		"name rev=main commit=123 at=1",
		"name rev=main commit=111111111111111111111111111111111111111G at=1",
		"name rev=main commit=" C1 " at=-1",
		"name rev=main commit=" C1 " at=99999999999999999999",
		"name rev=%zz commit=" C1,
		"name rev=%2 commit=" C1,
		"name rev=a\tb commit=" C1,
		"name rev commit=" C1,
		"name  rev=main commit=" C1,
		"entry commit=" C1 " path=a size=1",
		"entry commit=" C1 " path=a git=" C1,
		"entry commit=" C1 " path=a git=" C1 "11 size=1",
		"entry commit=" C1 " path=a git=" C1 " sha256=" C1 "111111111111111111111111 size=1",
		"entry commit=" C1 " path=a git=" C1 " size=9223372036854775808",
		"public level=all",
		"identity at=1",
		"identity to=x at=1",
		"doc key=a size=1",
		"doc key=a size=1 body=" C1 "111111111111111111111111 type=a%00b",
		"frobnicate a=b",
	};
	struct fact f = { .kind = FACT_USE };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (decode(bad[i], &f) != -EINVAL)
			fail_msg("taken: \"%s\"", bad[i]);
	assert_int_equal(f.kind, FACT_USE); /* untouched */
}

static void passes_over_fields_of_newer_programs(void **state)
{
	struct fact f;

	assert_int_equal(decode("name colour=%XX rev=main commit=" C1 " at=5 shape=", &f), 0);
	assert_int_equal(f.at, 5);
	assert_int_equal(decode("tree commit=" C1, &f), 0);
	assert_int_equal(f.size, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(facts_survive_the_way_through_a_line),
		TEST(kinds_that_are_not_journaled_make_no_line),
		TEST(a_line_that_does_not_fit_leaves_the_buffer_as_it_was),
		TEST(refuses_lines_that_are_none),
		TEST(passes_over_fields_of_newer_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
