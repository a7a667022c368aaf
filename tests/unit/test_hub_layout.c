/* SPDX-License-Identifier: Apache-2.0 */
/* hub/layout: items are found in the text of a whole tree, with the folder that each is in. */
#include "test_store.h"

#include "common/hash.h"
#include "hub/priv.h"

#define FILE_ITEM(path) "{\"type\":\"file\",\"oid\":\"0\",\"size\":1,\"path\":\"" path "\"}"
#define FOLDER_ITEM(path) "{\"type\":\"directory\",\"oid\":\"0\",\"size\":0,\"path\":\"" path "\"}"
#define TREE                                                                                                 \
	"[" FOLDER_ITEM("a") "," FOLDER_ITEM("a\\u00fc") "," FILE_ITEM("z") "," FOLDER_ITEM(                 \
		"a/b") "," FILE_ITEM("a/y") "," FILE_ITEM("a/b/x") "]"

struct rig {
	struct fixture *f;
	struct layouts layouts;
	struct digest body;
	struct blob *blob;
};

static void ignore(void *ctx, const struct blob_meta *meta)
{
}

static struct layout *lay_out(struct rig *g, struct str text)
{
	struct bytes *bytes = bytes_new_copy(text);
	struct blob_meta meta;

	g->blob = blob_unref(g->blob);
	assert_int_equal(store_put_bytes(g->f->store, bytes, &meta), 0);
	bytes_unref(bytes);
	assert_int_equal(store_flush_pending(g->f->store, ignore, NULL), 0);
	assert_int_equal(store_open_blob(g->f->store, &meta.sha256, &g->blob), 0);
	g->body = meta.sha256;
	return layout_of(&g->layouts, g->blob, &g->body);
}

static int rig_up(void **state)
{
	struct rig *g = calloc(1, sizeof(*g));

	g->f = fixture_new();
	open_store(g->f);
	layouts_init(&g->layouts);
	*state = g;
	return 0;
}

static int rig_down(void **state)
{
	struct rig *g = *state;

	blob_unref(g->blob);
	layouts_done(&g->layouts);
	store_close(g->f->store);
	g->f->store = NULL;
	fixture_free(g->f);
	free(g);
	return 0;
}

static void finds_each_path_in_the_text(void **state)
{
	struct rig *g = *state;
	struct layout *l = lay_out(g, STR(TREE));
	SCOPED_BUF path = { 0 };

	assert_non_null(l);
	assert_int_equal(l->count, 6);
	assert_int_equal(layout_find(l, g->blob, STR("a/b/x")), 5);
	assert_int_equal(layout_find(l, g->blob, STR("a\xc3\xbc")), 1);
	assert_int_equal(layout_find(l, g->blob, STR("a/b/")), LAYOUT_ROOT);
	assert_int_equal(layout_find(l, g->blob, STR("A")), LAYOUT_ROOT);
	assert_int_equal(layout_path(l, g->blob, 4, &path), 0);
	assert_string_equal(path.bytes, "a/y");
	layout_unref(l);
}

static void knows_what_is_below_what(void **state)
{
	struct rig *g = *state;
	struct layout *l = lay_out(g, STR(TREE));

	assert_true(l->has_folders);
	assert_true(layout_is_below(l, 2, LAYOUT_ROOT, false));
	assert_false(layout_is_below(l, 3, LAYOUT_ROOT, false));
	assert_true(layout_is_below(l, 5, LAYOUT_ROOT, true));
	assert_true(layout_is_below(l, 3, 0, false));
	assert_false(layout_is_below(l, 5, 0, false));
	assert_true(layout_is_below(l, 5, 0, true));
	assert_true(layout_is_below(l, 5, 3, false));
	assert_false(layout_is_below(l, 4, 3, true));
	assert_false(layout_is_below(l, 0, 0, true));
	layout_unref(l);
}

static void a_tree_without_its_folders_answers_for_none(void **state)
{
	struct rig *g = *state;
	struct layout *l = lay_out(g, STR("[" FILE_ITEM("a/y") "," FILE_ITEM("z") "]"));

	assert_false(l->has_folders);
	layout_unref(l);
	l = lay_out(g, STR("[" FILE_ITEM("a/y") "," FOLDER_ITEM("a") "]")); /* too late: it might be a ring */
	assert_false(l->has_folders);
	layout_unref(l);
	l = lay_out(g, STR("[" FILE_ITEM("a") "," FILE_ITEM("a/y") "]"));
	assert_false(l->has_folders);
	layout_unref(l);
	l = lay_out(g, STR("[" FOLDER_ITEM("a") "," FOLDER_ITEM("a") "]"));
	assert_false(l->has_folders);
	layout_unref(l);
}

static void refuses_text_that_is_no_tree(void **state)
{
	struct rig *g = *state;

	assert_null(lay_out(g, STR("[{\"type\":\"file\"}]")));
	assert_null(lay_out(g, STR("[" FILE_ITEM("a"))));
	assert_null(lay_out(g, STR("[1]")));
	assert_null(lay_out(g, STR("[")));
}

static void an_empty_tree_has_no_items(void **state)
{
	struct rig *g = *state;
	struct layout *l = lay_out(g, STR("[]"));

	assert_int_equal(l->count, 0);
	assert_int_equal(layout_find(l, g->blob, STR("a")), LAYOUT_ROOT);
	layout_unref(l);
}

static void reads_a_text_that_is_longer_than_its_window(void **state)
{
	struct rig *g = *state;
	struct layout *l;
	char path[64];
	SCOPED_BUF text;

	buf_init(&text, 8 << 20);
	buf_append_str(&text, STR("["));
	for (int i = 0; i < 20000; i++)
		buf_appendf(&text, "%s" FILE_ITEM("file-%05d"), i ? "," : "", i);
	buf_append_str(&text, STR("]"));
	l = lay_out(g, buf_str(&text));
	assert_int_equal(l->count, 20000);
	for (int i = 0; i < 20000; i += 333) {
		(void)snprintf(path, sizeof(path), "file-%05d", i);
		assert_int_equal(layout_find(l, g->blob, str_from(path)), i);
	}
	layout_unref(l);
}

static void the_same_text_is_laid_out_once(void **state)
{
	struct rig *g = *state;
	struct layout *first = lay_out(g, STR(TREE)), *second = layout_of(&g->layouts, g->blob, &g->body);

	assert_ptr_equal(first, second);
	layout_unref(first);
	layout_unref(second);
	for (int i = 0; i < 100; i++) {
		char text[200];

		(void)snprintf(text, sizeof(text), "[" FILE_ITEM("file-%d") "]", i);
		layout_unref(lay_out(g, str_from(text)));
	}
	assert_true(g->layouts.count <= 64);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_up, rig_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(finds_each_path_in_the_text),
		TEST(knows_what_is_below_what),
		TEST(a_tree_without_its_folders_answers_for_none),
		TEST(refuses_text_that_is_no_tree),
		TEST(an_empty_tree_has_no_items),
		TEST(reads_a_text_that_is_longer_than_its_window),
		TEST(the_same_text_is_laid_out_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
