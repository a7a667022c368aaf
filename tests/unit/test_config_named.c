/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_config_named - sections with names: how they grow, what is wrong with them, and what is not shown of them.
 */
#include "config_rig.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void a_named_section_grows_key_by_key_through_the_layers(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf",
	    "[backend near-1]\nurl = http://near:1\nkind = tei\nmodels = acme/a acme/*\n[backend far]\nurl = "
	    "http://far:2\n");
	w->environment[0] = "HFCACHE_BACKEND_NEAR_1_NAME=served";
	w->environment[1] = "HFCACHE_BACKEND_THIRD_URL=https://third";
	w->environment[2] = "HFCACHE_BACKEND_THIRD_SERVICE_HOST=10.0.0.1"; /* of an orchestrator */
	w->sets[0] = "backend NEAR-1.concurrency=7";
	w->sets[1] = "backend far.default=yes";
	if (load(w) < 0)
		fail_msg("%s", messages(w));
	assert_int_equal(config_backend_count(w->config), 3);
	assert_string_equal(config_backend(w->config, 0)->named.name, "near-1");
	assert_int_equal(config_backend(w->config, 0)->backend_kind, BACKEND_TEI);
	assert_int_equal(config_backend(w->config, 0)->backend_models.count, 2);
	assert_string_equal(config_backend(w->config, 0)->backend_name, "served");
	assert_int_equal(config_backend(w->config, 0)->backend_concurrency, 7);
	assert_true(config_backend(w->config, 1)->backend_default);
	assert_string_equal(config_backend(w->config, 2)->named.name, "third");
	assert_has(config_origin(w->config, "backend near-1", "url"), "hfcached.conf:2");
	assert_string_equal(config_origin(w->config, "backend near-1", "name"),
			    "HFCACHE_BACKEND_NEAR_1_NAME");
	assert_string_equal(config_origin(w->config, "backend far", "timeout"), "default");
	assert_null(config_origin(w->config, "backend nobody", "timeout"));
}

static void a_space_is_named_by_owner_and_name(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf",
	    "[space acme/my.app]\nurl = http://10.0.0.5:7860/inner/\n[backend near]\nurl = http://near:1\n"
	    "[space Acme/Two]\nurl = https://two\n");
	w->sets[0] = "space ACME/two.url=http://elsewhere:1";
	w->sets[1] = NULL;
	assert_int_equal(load(w), 0);
	assert_int_equal(config_space_count(w->config), 2);
	assert_int_equal(config_backend_count(w->config), 1);
	assert_string_equal(config_space(w->config, 0)->named.name, "acme/my.app");
	assert_string_equal(config_space(w->config, 0)->space_url, "http://10.0.0.5:7860/inner/");
	assert_string_equal(config_space(w->config, 1)->space_url, "http://elsewhere:1");
	w->sets[0] = NULL;
	put(w, "/etc/hfcached/hfcached.conf",
	    "[space app]\nurl = http://x\n[space a/b/c]\nurl = http://x\n[space a/b]\nurl = ftp://x\n[space "
	    "a/c]\n"
	    "host = x\n");
	assert_int_equal(load(w), -EINVAL);
	assert_has(
		messages(w),
		"hfcached.conf:2: [space OWNER/NAME] needs a name of the form OWNER/NAME, 1 to 200 letters");
	assert_has(messages(w), "hfcached.conf:4: [space OWNER/NAME] needs a name");
	assert_has(messages(w), "hfcached.conf:6: space a/b.url = ftp://x: it must begin with http");
	assert_has(messages(w), "host is not known in [space OWNER/NAME]; did you mean url?");
}

static void says_what_is_wrong_with_a_named_section(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf",
	    "[backend near]\nkind = tgi\nmodel = x\nkind = vllm\ntimeout = 2h\n[backend]\nurl = "
	    "http://x\n[backend a/b]\nurl = http://x\n");
	assert_int_equal(load(w), -EINVAL);
	assert_has(messages(w), "hfcached.conf:2: [backend near] has no url\n");
	assert_has(messages(w),
		   "hfcached.conf:3: model is not known in [backend NAME]; did you mean models?\n");
	assert_has(messages(w),
		   "hfcached.conf:4: backend near.kind is set a second time; line 2 set it first\n");
	assert_has(messages(w), "hfcached.conf:5: backend near.timeout = 2h: it is outside of 0 to 1h\n");
	assert_has(messages(w), "hfcached.conf:7: [backend NAME] needs a name of 1 to 64 letters");
	assert_has(messages(w), "hfcached.conf:9: [backend NAME] needs a name of 1 to 64 letters");
	put(w, "/etc/hfcached/hfcached.conf", "");
	refuses_set(w, "backend x.url=ftp://y",
		    "--set backend x.url: backend x.url = ftp://y: it must begin with http:// or https://\n"
		    "--set backend x.url: [backend x] has no url\n");
	refuses_set(
		w, "backend x.url=http://y/a?b",
		"--set backend x.url: backend x.url = http://y/a?b: it must be http(s)://HOST[:PORT][/PATH], "
		"without a query\n--set backend x.url: [backend x] has no url\n");
}

static void there_are_as_many_named_sections_as_there_may_be(void **state)
{
	struct world *w = *state;
	SCOPED_BUF text;

	buf_init(&text, 65536);
	for (unsigned i = 0; i < CONFIG_NAMED_MAX; i++)
		buf_appendf(&text, "[backend b%u]\nurl = http://x:%u\n", i, i + 1);
	put(w, "/etc/hfcached/hfcached.conf", buf_str(&text).ptr);
	if (load(w) < 0)
		fail_msg("%s", messages(w));
	buf_appendf(&text, "[backend more]\nurl = http://x\n");
	put(w, "/etc/hfcached/hfcached.conf", buf_str(&text).ptr);
	assert_int_equal(load(w), -EINVAL);
	assert_has(messages(w), ":66: is one more than the 32 sections [backend NAME] that there may be\n");
}

static void a_key_is_neither_shown_nor_repeated_nor_read_where_everybody_reads(void **state)
{
	struct world *w = *state;
	SCOPED_FREE char *full = xasprintf("%s/etc/hfcached/hfcached.conf", w->root);
	SCOPED_BUF shown;

	buf_init(&shown, 65536);
	put(w, "/etc/hfcached/hfcached.conf", "[backend near]\nurl = http://x\nkey = sk-secret\n");
	assert_int_equal(load(w), -EINVAL);
	assert_has(messages(w),
		   "hfcached.conf:3: backend near.key = ***: it stands in a file that every user can read");
	assert_int_equal(chmod(full, 0640), 0);
	if (load(w) < 0)
		fail_msg("%s", messages(w));
	assert_string_equal(config_backend(w->config, 0)->backend_key, "sk-secret");
	assert_int_equal(config_show(w->config, &shown), 0);
	assert_has(buf_str(&shown).ptr, "\n[backend near]\n");
	assert_has(buf_str(&shown).ptr, "\nkey = ***\n");
	assert_null(strstr(buf_str(&shown).ptr, "sk-secret"));
	refuses_set(w, "backend near.key=two words",
		    "--set backend near.key: backend near.key = ***: it must be one word of visible ASCII "
		    "characters\n");
	put(w, "/etc/hfcached/hfcached.conf", "[backend near]\nurl = http://x\nkey = credential:near\n");
	accepts_set(w, "backend near.timeout=1s");
	refuses_set(w, "backend near.key=credential:../x",
		    "--set backend near.key: backend near.key = credential:../x: it must be the name of a "
		    "credential, "
		    "without a folder\n");
}

static void names_the_named_sections_that_wait_for_a_restart(void **state)
{
	struct world *w = *state;
	struct config *running;
	SCOPED_BUF names;

	buf_init(&names, 4096);
	put(w, "/etc/hfcached/hfcached.conf",
	    "[backend a]\nurl = http://a\n[backend b]\nurl = http://b\nmodels = x\n[backend c]\nurl = "
	    "http://c\n");
	assert_int_equal(load(w), 0);
	running = TAKE_PTR(w->config);
	put(w, "/etc/hfcached/hfcached.conf",
	    "[backend a]\nurl = http://changed\n[backend b]\nurl = http://b\nmodels = y\n[backend d]\nurl = "
	    "http://d\n");
	w->sets[0] = "hub.offline=yes";
	assert_int_equal(load(w), 0);
	assert_int_equal(config_changes_for_restart(running, w->config, &names), 4);
	assert_string_equal(buf_str(&names).ptr, "hub.offline backend a.url backend d backend c");
	config_free(running);
}

static void shows_control_bytes_of_names_as_question_marks_and_cuts_long_ones(void **state)
{
	struct world *w = *state;
	char name[400];

	memset(name, 'k', sizeof(name));
	name[0] = '\x1b';
	memcpy(name + sizeof(name) - 4, ".x=", 4);
	w->sets[0] = name;
	assert_int_equal(load(w), -EINVAL);
	assert_has(messages(w), "--set ?kkk");
	assert_has(messages(w), "kkk...");
	assert_true(w->errors.len < 400);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_named_section_grows_key_by_key_through_the_layers),
		TEST(a_space_is_named_by_owner_and_name),
		TEST(says_what_is_wrong_with_a_named_section),
		TEST(there_are_as_many_named_sections_as_there_may_be),
		TEST(a_key_is_neither_shown_nor_repeated_nor_read_where_everybody_reads),
		TEST(names_the_named_sections_that_wait_for_a_restart),
		TEST(shows_control_bytes_of_names_as_question_marks_and_cuts_long_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
