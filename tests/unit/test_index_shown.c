/* SPDX-License-Identifier: Apache-2.0 */
/* index: to whom upstream has shown what. */
#include "index_rig.h"

#define SUBJECT(n) ((const uint8_t[SUBJECT_BYTES]){ (n), (n), (n), (n) })

static struct fact shown_fact(uint8_t subject, const char *what, enum access_level level)
{
	struct fact f = {
		.kind = FACT_SHOWN, .repo = REPO, .path = str_from(what), .level = level, .at = 1000
	};

	memcpy(f.subject, SUBJECT(subject), SUBJECT_BYTES);
	return f;
}

static struct fact hide_fact(uint8_t subject, enum access_level level)
{
	struct fact f = shown_fact(subject, "", level);

	f.kind = FACT_HIDE;
	return f;
}

static enum access_level level_of(struct fixture *f, uint8_t subject, const char *what)
{
	return index_find_shown(f->index, REPO, SUBJECT(subject), str_from(what), NULL);
}

static void look_at_each(struct fixture *f)
{
	int64_t at = 0;

	assert_int_equal(level_of(f, 0, C1), ACCESS_FILES);
	assert_int_equal(level_of(f, 1, C1), ACCESS_NONE);
	assert_int_equal(level_of(f, 1, C2), ACCESS_META);
	assert_int_equal(level_of(f, 2, C2), ACCESS_NONE);
	assert_int_equal(level_of(f, 0, C2), ACCESS_NONE);
	assert_int_equal(index_find_shown(f->index, STR("models/acme/other"), SUBJECT(0), STR(C1), NULL),
			 ACCESS_NONE);
	assert_int_equal(index_find_shown(f->index, REPO, SUBJECT(0), STR(C1), &at), ACCESS_FILES);
	assert_int_equal(at, 1000);
}

static void knows_what_was_shown_to_whom(void **state)
{
	learn(*state, shown_fact(0, C1, ACCESS_FILES));
	learn(*state, shown_fact(1, C2, ACCESS_META));
	in_every_phase(*state, look_at_each);
}

static void look_at_files(struct fixture *f)
{
	assert_int_equal(level_of(f, 1, C1), ACCESS_FILES);
}

static void more_is_shown_later(void **state)
{
	struct fixture *f = *state;

	learn(f, shown_fact(1, C1, ACCESS_META));
	commit(f);
	reopen(f);
	learn(f, shown_fact(1, C1, ACCESS_FILES));
	in_every_phase(f, look_at_files);
}

static void look_at_hidden(struct fixture *f)
{
	assert_int_equal(level_of(f, 0, C1), ACCESS_META);
	assert_int_equal(level_of(f, 0, C2), ACCESS_META);
	assert_int_equal(level_of(f, 1, C1), ACCESS_NONE);
	assert_int_equal(level_of(f, 2, C1), ACCESS_FILES);
	assert_int_equal(index_find_shown(f->index, REPO, SHOWN_ITSELF, STR(C1), NULL), ACCESS_FILES);
}

static void hides_from_one_subject_down_to_a_level(void **state)
{
	struct fixture *f = *state;
	struct fact itself = shown_fact(0, C1, ACCESS_FILES);

	memcpy(itself.subject, SHOWN_ITSELF, SUBJECT_BYTES);
	learn(f, itself);
	learn(f, shown_fact(0, C1, ACCESS_FILES));
	learn(f, shown_fact(0, C2, ACCESS_META));
	learn(f, shown_fact(1, C1, ACCESS_FILES));
	learn(f, shown_fact(2, C1, ACCESS_FILES));
	commit(f);
	reopen(f); /* they are on disk only */
	learn(f, hide_fact(0, ACCESS_META));
	learn(f, hide_fact(1, ACCESS_NONE));
	assert_int_equal(level_of(f, 1, C1), ACCESS_NONE); /* at once */
	assert_in_range(level_of(f, 0, C1), ACCESS_NONE, ACCESS_META);
	commit(f);
	in_every_phase(f, look_at_hidden);
}

static void look_at_shown_again(struct fixture *f)
{
	assert_int_equal(level_of(f, 0, C1), ACCESS_FILES);
	assert_int_equal(level_of(f, 0, C2), ACCESS_NONE);
}

static void what_is_shown_after_it_was_hidden_is_shown(void **state)
{
	struct fixture *f = *state;

	learn(f, shown_fact(0, C1, ACCESS_FILES));
	learn(f, shown_fact(0, C2, ACCESS_FILES));
	commit(f);
	learn(f, hide_fact(0, ACCESS_NONE));
	learn(f, shown_fact(0, C1, ACCESS_FILES));
	in_every_phase(f, look_at_shown_again);
}

static void look_at_nothing(struct fixture *f)
{
	assert_int_equal(level_of(f, 0, C1), ACCESS_NONE);
	assert_int_equal(level_of(f, 1, C1), ACCESS_NONE);
}

static void ends_with_the_repo(void **state)
{
	struct fixture *f = *state;

	learn(f, shown_fact(0, C1, ACCESS_FILES));
	learn(f, shown_fact(1, C1, ACCESS_FILES));
	commit(f);
	learn(f, (struct fact){ .kind = FACT_FORGET_ALL, .repo = REPO, .at = 200 });
	in_every_phase(f, look_at_nothing);
}

/* --- places of an object --- */

struct visited {
	int count, stop_at;
	char commits[4][COMMIT_TEXT];
};

static int visit(void *ctx, const struct object *o)
{
	struct visited *v = ctx;

	assert_true(v->count < 4);
	assert_string_equal(o->path, "a.bin");
	memcpy(v->commits[v->count++], o->commit, COMMIT_TEXT);
	return v->count == v->stop_at;
}

static bool has(const struct visited *v, const char *commit_id)
{
	for (int i = 0; i < v->count; i++)
		if (strcmp(v->commits[i], commit_id) == 0)
			return true;
	return false;
}

static void look_at_places(struct fixture *f)
{
	struct content_id content = lfs_content(7, 700);
	struct visited all = { .count = 0 }, first = { .stop_at = 1 };

	assert_int_equal(index_object_each(f->index, REPO, &content.sha256, visit, &all), 0);
	assert_true(has(&all, C1) && has(&all, C2));
	assert_int_equal(index_object_each(f->index, REPO, &content.sha256, visit, &first), 1);
	assert_int_equal(first.count, 1);
}

static void finds_all_commits_that_have_an_object(void **state)
{
	struct fixture *f = *state;

	learn(f, entry_fact(C1, "a.bin", lfs_content(7, 700)));
	learn(f, entry_fact(C2, "a.bin", lfs_content(7, 700)));
	learn(f, entry_fact(C2, "b.bin", lfs_content(8, 800)));
	in_every_phase(f, look_at_places);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(knows_what_was_shown_to_whom),
		TEST(more_is_shown_later),
		TEST(hides_from_one_subject_down_to_a_level),
		TEST(what_is_shown_after_it_was_hidden_is_shown),
		TEST(ends_with_the_repo),
		TEST(finds_all_commits_that_have_an_object),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
