/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_config - the configuration through its door: which layer wins, what each is read from, and what its messages say.
 */
#include "config_rig.h"

#include <stdlib.h>
#include <unistd.h>

/* --- layers ---------------------------------------------------------------------------------------------- */

static void serves_without_any_configuration(void **state)
{
	struct world *w = *state;

	assert_int_equal(load(w), 0);
	assert_int_equal(w->config->server_listen.count, 1);
	assert_string_equal(w->config->server_listen.words[0], "127.0.0.1:8090");
	assert_null(w->config->server_listen.words[1]);
	assert_string_equal(w->config->hub_url, "https://huggingface.co");
	assert_string_equal(w->config->storage_path, "");
	assert_int_equal(w->config->storage_max_size.percent, 80);
	assert_int_equal(w->config->storage_max_size.bytes, 0);
	assert_int_equal(w->config->storage_disk_reserve, 1ULL << 30);
	assert_int_equal(w->config->offline_access, OFFLINE_GRANTS);
	assert_int_equal(w->config->offline_grace, 7ULL * 24 * 3600 * 1000);
	assert_int_equal(w->config->log_level, LOG_LEVEL_INFO);
	assert_false(w->config->hub_offline);
	assert_string_equal(config_origin(w->config, "hub", "url"), "default");
}

static void takes_an_empty_file_and_one_with_comments_only(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf", "");
	put(w, "/etc/hfcached/conf.d/a.conf", "# nothing\n\n; here\n");
	put(w, "/etc/hfcached/conf.d/b.conf", "\n");
	put(w, "/etc/hfcached/conf.d/c.conf", "[server]\n");
	assert_int_equal(load(w), 0);
}

static void each_layer_wins_over_the_one_below(void **state)
{
	struct world *w = *state;
	static const struct {
		const char *file, *variable, *set, *value;
	} layers[] = {
		{ .file = "/usr/lib/hfcached/50-site.conf", .value = "http://vendor.example" },
		{ .file = "/usr/lib/hfcached/60-site.conf", .value = "http://later.example" },
		{ .file = "/etc/hfcached/hfcached.conf", .value = "http://main.example" },
		{ .file = "/etc/hfcached/conf.d/10-hub.conf", .value = "http://drop-in.example" },
		{ .file = "/etc/hfcached/conf.d/90-hub.conf", .value = "http://last.example" },
		{ .variable = "HFCACHE_HUB_URL=http://variable.example", .value = "http://variable.example" },
		{ .set = "hub.url=http://set.example", .value = "http://set.example" },
	};

	for (size_t i = 0; i < sizeof(layers) / sizeof(layers[0]); i++) {
		if (layers[i].file) {
			SCOPED_FREE char *text = xasprintf("[hub]\nurl = %s\n", layers[i].value);

			put(w, layers[i].file, text);
		}
		w->environment[0] = w->environment[0] ? w->environment[0] : layers[i].variable;
		w->sets[0] = layers[i].set;
		assert_int_equal(load(w), 0);
		assert_string_equal(w->config->hub_url, layers[i].value);
	}
}

static void says_where_each_value_came_from(void **state)
{
	struct world *w = *state;
	SCOPED_FREE char *where = xasprintf("%s/etc/hfcached/hfcached.conf:4", w->root);

	put(w, "/etc/hfcached/hfcached.conf", "# site\n[hub]\n\nurl = http://a.example\n");
	w->environment[0] = "HFCACHE_HUB_OFFLINE=yes";
	w->sets[0] = "log.level=debug";
	assert_int_equal(load(w), 0);
	assert_string_equal(config_origin(w->config, "hub", "url"), where);
	assert_string_equal(config_origin(w->config, "hub", "offline"), "HFCACHE_HUB_OFFLINE");
	assert_string_equal(config_origin(w->config, "log", "level"), "--set log.level");
	assert_string_equal(config_origin(w->config, "server", "hosts"), "default");
	assert_null(config_origin(w->config, "server", "nothing"));
}

static void last_set_of_the_same_option_wins(void **state)
{
	struct world *w = *state;

	w->sets[0] = "log.level=debug";
	w->sets[1] = "log.level=error";
	assert_int_equal(load(w), 0);
	assert_int_equal(w->config->log_level, LOG_LEVEL_ERROR);
}

static void a_named_file_replaces_the_systems_one_and_brings_its_own_folder(void **state)
{
	struct world *w = *state;
	SCOPED_FREE char *mine = xasprintf("%s/home/my.conf", w->root);

	put(w, "/etc/hfcached/hfcached.conf", "[log]\nlevel = error\n");
	put(w, "/etc/hfcached/conf.d/a.conf", "[hub]\noffline = yes\n");
	put(w, "/home/my.conf", "[hub]\nurl = http://mine.example\n");
	put(w, "/home/my.conf.d/a.conf", "[hub]\nrevision-ttl = 2s\n");
	w->file = mine;
	assert_int_equal(load(w), 0);
	assert_int_equal(w->config->log_level, LOG_LEVEL_INFO);
	assert_false(w->config->hub_offline);
	assert_string_equal(w->config->hub_url, "http://mine.example");
	assert_int_equal(w->config->hub_revision_ttl, 2000);
}

static void an_empty_name_means_no_file_at_all(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf", "broken");
	put(w, "/usr/lib/hfcached/a.conf", "broken");
	w->file = "";
	assert_int_equal(load(w), 0);
}

static void reports_a_named_file_that_is_not_there(void **state)
{
	struct world *w = *state;
	SCOPED_FREE char *mine = xasprintf("%s/none.conf", w->root);

	w->file = mine;
	w->sets[0] = "hub.offline=perhaps";
	assert_int_equal(load(w), -ENOENT);
	assert_string_equal(messages(w), "/none.conf: is not there\n"
					 "--set hub.offline: hub.offline = perhaps: it must be yes or no\n");
}

static void reads_only_visible_files_whose_name_ends_in_conf(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/conf.d/a.conf~", "broken");
	put(w, "/etc/hfcached/conf.d/.a.conf", "broken");
	put(w, "/etc/hfcached/conf.d/README", "broken");
	put(w, "/etc/hfcached/conf.d/b.conf", "[log]\nlevel = debug\n");
	assert_int_equal(load(w), 0);
	assert_int_equal(w->config->log_level, LOG_LEVEL_DEBUG);
}

/* A ConfigMap is mounted as links through a dotted folder. */
static void follows_links_and_reports_one_that_leads_nowhere(void **state)
{
	struct world *w = *state;
	SCOPED_FREE char *link = xasprintf("%s/etc/hfcached/conf.d/a.conf", w->root);

	put(w, "/etc/hfcached/conf.d/..data/a.conf", "[log]\nlevel = debug\n");
	assert_int_equal(symlink("..data/a.conf", link), 0);
	assert_int_equal(load(w), 0);
	assert_int_equal(w->config->log_level, LOG_LEVEL_DEBUG);

	assert_int_equal(unlink(link), 0);
	assert_int_equal(symlink("nowhere", link), 0);
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(messages(w),
			    "/etc/hfcached/conf.d/a.conf: cannot be read (a link that leads nowhere)\n");
}

/* --- environment and command line ------------------------------------------------------------------------ */

static void reads_variables_with_underscores_for_dashes(void **state)
{
	struct world *w = *state;

	w->environment[0] = "HFCACHE_SERVER_PUBLIC_URL=https://hub.example:8443";
	w->environment[1] = "HFCACHE_STORAGE_MAX_SIZE=4T";
	w->environment[2] = "PATH=/bin";
	w->environment[3] = "HFCACHED=/x";
	assert_int_equal(load(w), 0);
	assert_string_equal(w->config->server_public_url, "https://hub.example:8443");
	assert_int_equal(w->config->storage_max_size.bytes, 4ULL << 40);
	assert_int_equal(w->config->storage_max_size.percent, 0);
}

static void names_the_nearest_variable(void **state)
{
	struct world *w = *state;

	w->environment[0] = "HFCACHE_STORAGE_MAXSIZE=4T";
	w->environment[1] = "HFCACHE_HUB_OFFLINE=maybe";
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(messages(w),
			    "HFCACHE_STORAGE_MAXSIZE: is not known; did you mean HFCACHE_STORAGE_MAX_SIZE?\n"
			    "HFCACHE_HUB_OFFLINE: hub.offline = maybe: it must be yes or no\n");
}

static void passes_over_the_variables_of_a_kubernetes_service(void **state)
{
	struct world *w = *state;

	w->environment[0] = "HFCACHE_SERVICE_HOST=10.0.0.1";
	w->environment[1] = "HFCACHE_SERVICE_PORT_HTTP=8090";
	w->environment[2] = "HFCACHE_PORT=tcp://10.0.0.1:8090";
	w->environment[3] = "HFCACHE_PORT_8090_TCP_ADDR=10.0.0.1";
	w->environment[4] = "HFCACHE_WEB_SERVICE_HOST=10.0.0.1";
	w->environment[5] = "HFCACHE_WEB_PORT_80_TCP=tcp://10.0.0.1:80";
	assert_int_equal(load(w), 0);
}

static void refuses_a_set_without_key_or_value(void **state)
{
	struct world *w = *state;

	refuses_set(w, "log.level", "--set log.level: must have the form --set SECTION.KEY=VALUE\n");
	refuses_set(w, "level=info", "--set level: must have the form --set SECTION.KEY=VALUE\n");
	refuses_set(w, "", "--set : must have the form --set SECTION.KEY=VALUE\n");
	refuses_set(w, "=", "--set : must have the form --set SECTION.KEY=VALUE\n");
	refuses_set(w, "log.levl=info", "--set log.levl: log.levl is not known; did you mean log.level?\n");
	refuses_set(w, ".=", "--set .: . is not known, nor is its section; did you mean hub.url?\n");
}

static void the_key_of_a_set_begins_after_the_last_dot(void **state)
{
	struct world *w = *state;

	refuses_set(w, "nothing a.b.url=x",
		    "--set nothing a.b.url: nothing a.b.url is not known, nor is its section; did you mean "
		    "hub.url?\n");
	accepts_set(w, "backend a.b.url=http://x:1/inner");
	assert_int_equal(config_backend_count(w->config), 1);
	assert_string_equal(config_backend(w->config, 0)->named.name, "a.b");
	assert_string_equal(config_backend(w->config, 0)->backend_url, "http://x:1/inner");
	assert_int_equal(config_backend(w->config, 0)->backend_kind, BACKEND_OPENAI);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(serves_without_any_configuration),
		TEST(takes_an_empty_file_and_one_with_comments_only),
		TEST(each_layer_wins_over_the_one_below),
		TEST(says_where_each_value_came_from),
		TEST(last_set_of_the_same_option_wins),
		TEST(a_named_file_replaces_the_systems_one_and_brings_its_own_folder),
		TEST(an_empty_name_means_no_file_at_all),
		TEST(reports_a_named_file_that_is_not_there),
		TEST(reads_only_visible_files_whose_name_ends_in_conf),
		TEST(follows_links_and_reports_one_that_leads_nowhere),
		TEST(reads_variables_with_underscores_for_dashes),
		TEST(names_the_nearest_variable),
		TEST(passes_over_the_variables_of_a_kubernetes_service),
		TEST(refuses_a_set_without_key_or_value),
		TEST(the_key_of_a_set_begins_after_the_last_dot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
