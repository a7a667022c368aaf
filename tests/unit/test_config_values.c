/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_config_values - types and rules: which values are taken, and what is said of those that are not.
 */
#include "config_rig.h"

#include <stdlib.h>
#include <string.h>

static void reads_sizes_percentages_and_times_with_units(void **state)
{
	struct world *w = *state;

	w->sets[0] = "storage.max-size=500G";
	w->sets[1] = "storage.disk-reserve=0";
	w->sets[2] = "offline.grace=12h";
	w->sets[3] = "server.head-timeout=250ms";
	assert_int_equal(load(w), 0);
	assert_int_equal(w->config->storage_max_size.bytes, 500ULL << 30);
	assert_int_equal(w->config->storage_disk_reserve, 0);
	assert_int_equal(w->config->offline_grace, 12 * 3600 * 1000);
	assert_int_equal(w->config->server_head_timeout, 250);
	accepts_set(w, "storage.max-size=100%");
	assert_int_equal(w->config->storage_max_size.percent, 100);
	assert_int_equal(w->config->storage_max_size.bytes, 0);
}

static void refuses_quotas_that_mean_nothing(void **state)
{
	static const char *const texts[] = { "0",    "0G",   "0%",  "101%", "%", "-1%",
					     "80 %", "1.5T", "4TB", "80",   "",  "x" };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		SCOPED_FREE char *set = xasprintf("storage.max-size=%s", texts[i]);
		SCOPED_FREE char *message =
			xasprintf("--set storage.max-size: storage.max-size = %s: it must be a size with its "
				  "unit, such as 500G, or a percentage from 1%% to 100%%\n",
				  texts[i]);

		refuses_set(*state, set, message);
	}
}

static void reads_each_word_for_yes_and_no(void **state)
{
	struct world *w = *state;
	static const char *const yes[] = { "yes", "true", "on", "YES", " yes " };
	static const char *const no[] = { "no", "false", "off", "No" };

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		SCOPED_FREE char *set = xasprintf("hub.offline=%s", yes[i]);

		accepts_set(w, set);
		assert_true(w->config->hub_offline);
	}
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
		SCOPED_FREE char *set = xasprintf("hub.offline=%s", no[i]);

		accepts_set(w, set);
		assert_false(w->config->hub_offline);
	}
	refuses_set(w, "hub.offline=1", "--set hub.offline: hub.offline = 1: it must be yes or no\n");
	refuses_set(w, "hub.offline=", "--set hub.offline: hub.offline = : it must be yes or no\n");
}

static void takes_all_forms_of_addresses(void **state)
{
	struct world *w = *state;

	accepts_set(
		w,
		"server.listen= 127.0.0.1:0 \t [::]:8090   unix:/run/hfcached/admin.sock localhost:65535 ");
	assert_int_equal(w->config->server_listen.count, 4);
	assert_string_equal(w->config->server_listen.words[1], "[::]:8090");
	assert_string_equal(w->config->server_listen.words[2], "unix:/run/hfcached/admin.sock");
	assert_null(w->config->server_listen.words[4]);
}

static void refuses_addresses_that_are_none(void **state)
{
	static const char *const words[] = {
		"8090",          "127.0.0.1",
		"127.0.0.1:",    "127.0.0.1:65536",
		"127.0.0.1:-1",  "127.0.0.1:99999999999999999999",
		"127.0.0.300:1", "::1:80",
		"[::1]",         "[::g]:1",
		"[::1]x:1",      "[::1:1",
		":8090",         "-a:1",
		"a,b:1",         "*:80",
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		SCOPED_FREE char *set = xasprintf("server.listen=%s", words[i]);
		SCOPED_FREE char *message =
			xasprintf("--set server.listen: server.listen = %s: it has \"%s\", which is none of "
				  "ADDRESS:PORT, [IPv6]:PORT and unix:/PATH\n",
				  words[i], words[i]);

		refuses_set(*state, set, message);
	}
	refuses_set(*state, "server.listen=",
		    "--set server.listen: server.listen = : it names no address to serve on\n");
	refuses_set(
		*state, "server.listen=unix:run/x",
		"--set server.listen: server.listen = unix:run/x: it needs an absolute path after unix:\n");
}

static void refuses_a_socket_path_that_the_system_would_not_take(void **state)
{
	struct world *w = *state;
	char path[109];
	SCOPED_FREE char *set = NULL;

	memset(path, 'p', sizeof(path));
	path[0] = '/';
	path[108] = 0;
	set = xasprintf("server.listen=unix:%s", path);
	w->sets[0] = set;
	assert_int_equal(load(w), -EINVAL);
	assert_has(messages(w), "it has a socket path of more than 107 bytes");
	set[strlen(set) - 1] = 0;
	accepts_set(w, set);
}

static void refuses_urls_that_cannot_be_asked(void **state)
{
	static const struct {
		const char *url, *reason;
	} cases[] = {
		{ "", "must begin with http:// or https://" },
		{ "huggingface.co", "must begin with http:// or https://" },
		{ "ftp://x", "must begin with http:// or https://" },
		{ "https://", "has no valid HOST or HOST:PORT" },
		{ "https://:80", "has no valid HOST or HOST:PORT" },
		{ "https://a:0", "has no valid HOST or HOST:PORT" },
		{ "https://a:", "has no valid HOST or HOST:PORT" },
		{ "https://a%2f", "has no valid HOST or HOST:PORT" },
		{ "https://a?x", "has no valid HOST or HOST:PORT" },
		{ "https://a#x", "has no valid HOST or HOST:PORT" },
		{ "https://a b", "has no valid HOST or HOST:PORT" },
		{ "https://a/b", "must end after HOST or HOST:PORT: a path cannot be part of it" },
		{ "https://a/?x", "must end after HOST or HOST:PORT: a path cannot be part of it" },
		{ "https://a//", "must end after HOST or HOST:PORT: a path cannot be part of it" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		SCOPED_FREE char *set = xasprintf("hub.url=%s", cases[i].url);
		SCOPED_FREE char *message =
			xasprintf("--set hub.url: hub.url = %s: it %s\n", cases[i].url, cases[i].reason);

		refuses_set(*state, set, message);
	}
	accepts_set(*state, "hub.url=http://127.0.0.1:8080");
	accepts_set(*state, "hub.url=http://[::1]:8080/");
	accepts_set(*state, "server.public-url=");
	accepts_set(*state, "server.public-url=https://hub.lab.example:8443/");
	refuses_set(*state, "server.public-url=http://a/b",
		    "--set server.public-url: server.public-url = http://a/b: it must end after HOST or "
		    "HOST:PORT: a "
		    "path cannot be part of it\n");
}

static void refuses_a_token_in_place_of_a_credentials_name_without_repeating_it(void **state)
{
	refuses_set(*state, "hub.token-credential=hf_abcdefghijabcdefghijabcdefghij",
		    "--set hub.token-credential: hub.token-credential = ***: it must be the name of a "
		    "credential, never "
		    "the token itself\n");
	refuses_set(*state, "hub.token-credential=../x",
		    "--set hub.token-credential: hub.token-credential = ../x: it must be the name of a "
		    "credential, without "
		    "a folder\n");
}

static void refuses_a_password_in_a_url_without_repeating_it(void **state)
{
	refuses_set(*state, "hub.url=https://me:hf_secret@hub.example",
		    "--set hub.url: hub.url = https://***@hub.example: it must name no user and no password: "
		    "clients send "
		    "their own tokens\n");
}

static void checks_hosts_and_redirect_hosts(void **state)
{
	struct world *w = *state;

	accepts_set(w, "server.hosts=hub.lab.example hub:8090 [::1]:80 127.0.0.1");
	refuses_set(w, "server.hosts=http://a",
		    "--set server.hosts: server.hosts = http://a: it has \"http://a\", which is neither HOST "
		    "nor HOST:PORT\n");
	accepts_set(w, "hub.redirect-hosts=*.cdn.example cdn.example 127.0.0.1:81");
	accepts_set(w, "hub.redirect-hosts=");
	assert_int_equal(w->config->hub_redirect_hosts.count, 0);
	refuses_set(w, "hub.redirect-hosts=*",
		    "--set hub.redirect-hosts: hub.redirect-hosts = *: it has \"*\", which is neither HOST "
		    "nor *.DOMAIN\n");
	refuses_set(w, "hub.redirect-hosts=a.*.example",
		    "--set hub.redirect-hosts: hub.redirect-hosts = a.*.example: it has \"a.*.example\", "
		    "which is neither HOST "
		    "nor *.DOMAIN\n");
}

static void checks_paths(void **state)
{
	struct world *w = *state;
	SCOPED_FREE char *set = xasprintf("hub.ca-file=%s/ca.pem", w->root);

	refuses_set(w, "storage.path=store",
		    "--set storage.path: storage.path = store: it must be an absolute path, one that begins "
		    "with /\n");
	refuses_set(w, "storage.path=~/store",
		    "--set storage.path: storage.path = ~/store: it must be an absolute path; ~ is not "
		    "expanded here\n");
	accepts_set(w, "storage.path=/srv/a b");
	assert_string_equal(w->config->storage_path, "/srv/a b");
	w->sets[0] = set;
	assert_int_equal(load(w), -EINVAL);
	assert_has(messages(w), "it cannot be read (ENOENT)");
	put(w, "/ca.pem", "x");
	accepts_set(w, set);
}

static void checks_ranges_at_both_ends(void **state)
{
	accepts_set(*state, "server.threads=1024");
	refuses_set(*state, "server.threads=1025",
		    "--set server.threads: server.threads = 1025: it is outside of 0 to 1024\n");
	refuses_set(
		*state, "server.threads=18446744073709551616",
		"--set server.threads: server.threads = 18446744073709551616: it must be a whole number\n");
	accepts_set(*state, "server.max-connections=1");
	refuses_set(
		*state, "server.max-connections=0",
		"--set server.max-connections: server.max-connections = 0: it is outside of 1 to 1000000\n");
	accepts_set(*state, "server.head-timeout=100ms");
	refuses_set(*state, "server.head-timeout=99ms",
		    "--set server.head-timeout: server.head-timeout = 99ms: it is outside of 100ms to 10m\n");
	accepts_set(*state, "hub.revision-ttl=0");
	refuses_set(*state, "hub.revision-ttl=366d",
		    "--set hub.revision-ttl: hub.revision-ttl = 366d: it is outside of 0 to 365d\n");
	accepts_set(*state, "hub.grant-ttl=1s");
	refuses_set(*state, "hub.grant-ttl=0", /* a proof must live until the answer that it is for */
		    "--set hub.grant-ttl: hub.grant-ttl = 0: it is outside of 1s to 365d\n");
	refuses_set(*state, "hub.connect-timeout=0",
		    "--set hub.connect-timeout: hub.connect-timeout = 0: it is outside of 100ms to 5m\n");
}

static void refuses_a_list_of_more_than_a_thousand_words(void **state)
{
	struct world *w = *state;
	SCOPED_BUF set = { 0 };

	buf_init(&set, 65536);
	assert_int_equal(buf_appendf(&set, "server.hosts="), 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(buf_appendf(&set, "h%d ", i), 0);
	accepts_set(w, buf_str(&set).ptr);
	assert_int_equal(w->config->server_hosts.count, 1000);
	assert_int_equal(buf_appendf(&set, "one-more"), 0);
	w->sets[0] = buf_str(&set).ptr;
	assert_int_equal(load(w), -EINVAL);
	assert_has(messages(w), "it must be words, separated by spaces");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reads_sizes_percentages_and_times_with_units),
		TEST(refuses_quotas_that_mean_nothing),
		TEST(reads_each_word_for_yes_and_no),
		TEST(takes_all_forms_of_addresses),
		TEST(refuses_addresses_that_are_none),
		TEST(refuses_a_socket_path_that_the_system_would_not_take),
		TEST(refuses_urls_that_cannot_be_asked),
		TEST(refuses_a_token_in_place_of_a_credentials_name_without_repeating_it),
		TEST(refuses_a_password_in_a_url_without_repeating_it),
		TEST(checks_hosts_and_redirect_hosts),
		TEST(checks_paths),
		TEST(checks_ranges_at_both_ends),
		TEST(refuses_a_list_of_more_than_a_thousand_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
