/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_config_shown - what is printed: the configuration in force, the example file, the manual, what waits for a restart.
 */
#include "config_rig.h"

#include <stdlib.h>

static void what_is_shown_is_a_configuration_that_gives_the_same_values(void **state)
{
	struct world *w = *state;
	SCOPED_BUF first = { 0 };
	SCOPED_BUF second = { 0 };
	SCOPED_FREE char *path = xasprintf("%s/shown.conf", w->root);

	buf_init(&first, 65536);
	buf_init(&second, 65536);
	w->sets[0] = "hub.redirect-hosts=*.a.example  b.example";
	w->sets[1] = "storage.max-size=4T";
	w->environment[0] = "HFCACHE_HUB_OFFLINE=on";
	assert_int_equal(load(w), 0);
	assert_int_equal(config_show(w->config, &first), 0);
	assert_has(buf_str(&first).ptr, "# --set storage.max-size\nmax-size = 4T\n");
	assert_has(buf_str(&first).ptr, "# HFCACHE_HUB_OFFLINE\noffline = on\n");
	assert_has(buf_str(&first).ptr, "[server]\n# default\nlisten = 127.0.0.1:8090\n");

	put(w, "/shown.conf", buf_str(&first).ptr);
	w->file = path;
	w->sets[0] = NULL;
	w->environment[0] = NULL;
	assert_int_equal(load(w), 0);
	assert_int_equal(w->config->storage_max_size.bytes, 4ULL << 40);
	assert_int_equal(w->config->hub_redirect_hosts.count, 2);
	assert_true(w->config->hub_offline);
	assert_int_equal(config_show(w->config, &second), 0);
	assert_has(buf_str(&second).ptr, "/shown.conf:");
}

/* The file as it is, and with every option's line taken in: both are the defaults. */
static void the_example_file_is_valid_and_holds_every_default(void **state)
{
	struct world *w = *state;
	SCOPED_BUF example = { 0 };
	SCOPED_BUF names = { 0 };
	SCOPED_BUF active = { 0 };
	struct config *defaults;

	buf_init(&example, 65536);
	buf_init(&active, 65536);
	buf_init(&names, 65536);
	assert_int_equal(load(w), 0);
	defaults = TAKE_PTR(w->config);
	assert_int_equal(config_example(&example), 0);
	put(w, "/etc/hfcached/hfcached.conf", buf_str(&example).ptr);
	assert_int_equal(load(w), 0);

	for (const char *c = buf_str(&example).ptr; *c; c++)
		if (!(c[0] == '#' && c[1] != ' '))
			assert_int_equal(buf_append_char(&active, *c), 0);
	put(w, "/etc/hfcached/hfcached.conf", buf_str(&active).ptr);
	if (load(w) < 0)
		fail_msg("%s", messages(w));
	/* taken in, it describes a backend of the name NAME and a Space OWNER/NAME; there is none by default */
	assert_int_equal(config_changes_for_restart(defaults, w->config, &names), 2);
	assert_string_equal(buf_str(&names).ptr, "backend NAME space OWNER/NAME");
	assert_has(config_origin(w->config, "log", "level"), "hfcached.conf:");
	config_free(defaults);
}

static void the_manual_describes_every_option_with_its_default(void **state)
{
	SCOPED_BUF manual = { 0 };

	buf_init(&manual, 65536);
	assert_int_equal(config_manual(&manual), 0);
#define OPTION(section, key, field, type, default_text, reload, help)                                        \
	assert_has(buf_str(&manual).ptr, "*" #key "*\n\t");
#define NAMED(family, key, ...) assert_has(buf_str(&manual).ptr, "*" #key "*\n\t");
#include "config/options.def"
#undef NAMED
#undef OPTION
	assert_has(buf_str(&manual).ptr, "## [backend NAME]\n");
	assert_has(buf_str(&manual).ptr, "## [space OWNER/NAME]\n");
	assert_has(buf_str(&manual).ptr, "## [storage]\n");
	assert_has(buf_str(&manual).ptr, "Default: *127\\.0\\.0\\.1:8090*.\n");
	assert_has(buf_str(&manual).ptr, "May change on SIGHUP.\n");
}

static void printing_into_a_full_buffer_says_so(void **state)
{
	struct world *w = *state;
	SCOPED_BUF small = { 0 };

	assert_int_equal(load(w), 0);
	buf_init(&small, 10);
	assert_int_equal(config_show(w->config, &small), -E2BIG);
	buf_reset(&small);
	assert_int_equal(config_example(&small), -E2BIG);
	buf_reset(&small);
	assert_int_equal(config_manual(&small), -E2BIG);
}

static void names_the_options_that_wait_for_a_restart(void **state)
{
	struct world *w = *state;
	SCOPED_BUF names = { 0 };
	struct config *running;

	buf_init(&names, 1024);
	assert_int_equal(load(w), 0);
	running = TAKE_PTR(w->config);
	w->sets[0] = "log.level=debug";
	w->sets[1] = "server.listen=127.0.0.1:1";
	w->sets[2] = "storage.path=/srv";
	assert_int_equal(load(w), 0);
	assert_int_equal(config_changes_for_restart(running, w->config, &names), 2);
	assert_string_equal(buf_str(&names).ptr, "server.listen storage.path");
	config_free(running);
}

static void freeing_nothing_is_fine(void **state)
{
	config_free(NULL);
	assert_int_equal(load(*state), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_shown_is_a_configuration_that_gives_the_same_values),
		TEST(the_example_file_is_valid_and_holds_every_default),
		TEST(the_manual_describes_every_option_with_its_default),
		TEST(printing_into_a_full_buffer_says_so),
		TEST(names_the_options_that_wait_for_a_restart),
		TEST(freeing_nothing_is_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
