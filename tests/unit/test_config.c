/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_config - the configuration through its door: layers, types, rules, and each message with its file and
 * line.
 *
 * Each test has a folder of its own that stands for the root of the system, and the environment it gives
 * itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "common/alloc.h"
#include "config/config.h"

struct world {
	char root[64];
	const char *file; /* --config */
	const char *sets[8];
	const char *environment[8];
	struct buf errors;
	struct config *config;
	int result;
};

static int setup(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	(void)snprintf(w->root, sizeof(w->root), "/tmp/test_config.XXXXXX");
	assert_non_null(mkdtemp(w->root));
	buf_init(&w->errors, 65536);
	*state = w;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	struct world *w = *state;

	config_free(w->config);
	buf_done(&w->errors);
	(void)nftw(w->root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(w);
	return 0;
}

/* Makes the folders above it too. */
static void put_bytes(struct world *w, const char *path, const char *text, size_t len)
{
	SCOPED_FREE char *full = xasprintf("%s%s", w->root, path);
	FILE *f;

	for (char *slash = strchr(full + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		(void)mkdir(full, 0755);
		*slash = '/';
	}
	f = fopen(full, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(full, 0644), 0);
}

static void put(struct world *w, const char *path, const char *text)
{
	put_bytes(w, path, text, strlen(text));
}

static int load(struct world *w)
{
	struct config_source source = {
		.file = w->file,
		.sets = w->sets,
		.environment = (char *const *)w->environment,
		.system_root = w->root,
	};

	config_free(w->config);
	w->config = NULL;
	buf_reset(&w->errors);
	w->result = config_load(&source, &w->config, &w->errors);
	if (w->result < 0)
		assert_null(w->config);
	else
		assert_int_equal(w->errors.len, 0);
	return w->result;
}

/* The messages, without the folder that the test made up. */
static const char *messages(struct world *w)
{
	static __thread char text[65536];
	const char *from = buf_str(&w->errors).ptr;
	size_t len = 0;

	while (*from && len + 1 < sizeof(text)) {
		if (strncmp(from, w->root, strlen(w->root)) == 0)
			from += strlen(w->root);
		else
			text[len++] = *from++;
	}
	text[len] = 0;
	return text;
}

static void assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" is missing in: %s", part, text);
}

static void refuses_set(struct world *w, const char *set, const char *message)
{
	w->sets[0] = set;
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(messages(w), message);
}

static void accepts_set(struct world *w, const char *set)
{
	w->sets[0] = set;
	if (load(w) != 0)
		fail_msg("%s is refused: %s", set, messages(w));
}

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

/* --- files ----------------------------------------------------------------------------------------------- */

static void a_value_keeps_its_comment_signs_and_equal_signs(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf", "[storage]\npath = /srv/a;b # c = d\n");
	assert_int_equal(load(w), 0);
	assert_string_equal(w->config->storage_path, "/srv/a;b # c = d");
}

static void takes_windows_line_ends_a_byte_order_mark_and_long_lines(void **state)
{
	struct world *w = *state;
	SCOPED_BUF text = { 0 };

	buf_init(&text, 65536);
	assert_int_equal(buf_appendf(&text, "\xef\xbb\xbf[log]\r\nlevel = debug\r\n[server]\r\nhosts ="), 0);
	for (int i = 0; i < 500; i++)
		assert_int_equal(buf_appendf(&text, " host%d.example", i), 0);
	put(w, "/etc/hfcached/hfcached.conf", buf_str(&text).ptr);
	assert_int_equal(load(w), 0);
	assert_int_equal(w->config->log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(w->config->server_hosts.count, 500);
	assert_string_equal(w->config->server_hosts.words[499], "host499.example");
}

static void a_section_may_be_taken_up_again(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf",
	    "[hub]\noffline = yes\n[log]\nlevel = debug\n[hub]\ndeny-ttl = 1m\n");
	assert_int_equal(load(w), 0);
	assert_true(w->config->hub_offline);
	assert_int_equal(w->config->hub_deny_ttl, 60000);
}

static void names_file_and_line_of_every_error_in_one_go(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf",
	    "[server]\nlisten = nowhere\nthreads = many\n\n[storage]\nmax-size = 80\ndisk-reserve = 1 G\n");
	put(w, "/etc/hfcached/conf.d/a.conf", "[hub]\nrevision-ttl = 30\noffline = perhaps\n");
	put(w, "/etc/hfcached/conf.d/b.conf", "[offline]\naccess = everybody\n[log]\nlevel = loud\n");
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(
		messages(w),
		"/etc/hfcached/hfcached.conf:2: server.listen = nowhere: it has \"nowhere\", which is none "
		"of ADDRESS:PORT, "
		"[IPv6]:PORT and unix:/PATH\n"
		"/etc/hfcached/hfcached.conf:3: server.threads = many: it must be a whole number\n"
		"/etc/hfcached/hfcached.conf:6: storage.max-size = 80: it must be a size with its unit, such "
		"as 500G, or a "
		"percentage from 1% to 100%\n"
		"/etc/hfcached/hfcached.conf:7: storage.disk-reserve = 1 G: it must be a size with its unit, "
		"B K M G T or P, "
		"such as 500G\n"
		"/etc/hfcached/conf.d/a.conf:2: hub.revision-ttl = 30: it must be a time with its unit, ms s "
		"m h or d, such "
		"as 30s\n"
		"/etc/hfcached/conf.d/a.conf:3: hub.offline = perhaps: it must be yes or no\n"
		"/etc/hfcached/conf.d/b.conf:2: offline.access = everybody: it must be grants, public, acl "
		"or open\n"
		"/etc/hfcached/conf.d/b.conf:4: log.level = loud: it must be error, warning, info or "
		"debug\n");
}

static void names_the_nearest_known_option(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf",
	    "[server]\nlisen = 1\n[sever]\nlisten = 1\n[hub]\nmax-size = 1G\nofline = "
	    "yes\n[storage]\nmaxsize = 1G\n");
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(
		messages(w),
		"/etc/hfcached/hfcached.conf:2: server.lisen is not known; did you mean server.listen?\n"
		"/etc/hfcached/hfcached.conf:4: sever.listen is not known, nor is its section; did you mean "
		"server.listen?\n"
		"/etc/hfcached/hfcached.conf:6: hub.max-size is not known; did you mean storage.max-size?\n"
		"/etc/hfcached/hfcached.conf:7: hub.ofline is not known; did you mean hub.offline?\n"
		"/etc/hfcached/hfcached.conf:9: storage.maxsize is not known; did you mean "
		"storage.max-size?\n");
}

static void names_the_line_of_each_syntax_error(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf", "[server]\nlisten\n[hub\n= 5\n[]\nurl = http://ok.example\n");
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(messages(w), "/etc/hfcached/hfcached.conf:2: Equal sign is missing\n"
					 "/etc/hfcached/hfcached.conf:3: No closing bracket\n"
					 "/etc/hfcached/hfcached.conf:4: Property name is missing\n"
					 "/etc/hfcached/hfcached.conf:5: Section name is missing\n");
}

static void refuses_an_option_before_any_section(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf", "# x\n\nlisten = 127.0.0.1:1\n[server]\n");
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(messages(w), "/etc/hfcached/hfcached.conf:3: stands before any [section]\n");
}

static void refuses_an_option_that_is_set_twice_in_one_file(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf",
	    "[hub]\nurl = http://a.example\n[log]\nlevel = info\n[hub]\nurl = http://b.example\nURL = "
	    "http://c.example\n");
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(
		messages(w),
		"/etc/hfcached/hfcached.conf:6: hub.url is set a second time; line 2 set it first\n"
		"/etc/hfcached/hfcached.conf:7: hub.url is set a second time; line 2 set it first\n");
}

static void refuses_bytes_that_are_not_text(void **state)
{
	struct world *w = *state;
	static const char nul[] = "[storage]\npath = /a\0/b\n";

	put_bytes(w, "/etc/hfcached/hfcached.conf", nul, sizeof(nul) - 1);
	put(w, "/etc/hfcached/conf.d/a.conf", "[storage]\n\npath = /\xff\n");
	put(w, "/etc/hfcached/conf.d/b.conf", "[storage]\npath = /a\x1b[31m\n");
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(messages(w), "/etc/hfcached/hfcached.conf:2: has a NUL byte\n"
					 "/etc/hfcached/conf.d/a.conf:3: has bytes that are not UTF-8\n"
					 "/etc/hfcached/conf.d/b.conf:2: storage.path = /a?[31m: it has "
					 "control characters or is not UTF-8\n");
}

static void refuses_a_file_that_everybody_may_change(void **state)
{
	struct world *w = *state;
	SCOPED_FREE char *path = xasprintf("%s/etc/hfcached/hfcached.conf", w->root);

	put(w, "/etc/hfcached/hfcached.conf", "[log]\nlevel = info\n");
	assert_int_equal(chmod(path, 0666), 0);
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(messages(w),
			    "/etc/hfcached/hfcached.conf: may be changed by every user of this machine; take "
			    "that away: chmod o-w\n");
}

static void refuses_a_folder_and_a_file_of_more_than_a_mebibyte(void **state)
{
	struct world *w = *state;
	size_t len = (1 << 20) + 1;
	SCOPED_FREE char *text = xmalloc(len);

	memset(text, '\n', len);
	put_bytes(w, "/etc/hfcached/hfcached.conf", text, len);
	put(w, "/etc/hfcached/conf.d/a.conf/b", "");
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(messages(w), "/etc/hfcached/hfcached.conf: is larger than 1 MiB\n"
					 "/etc/hfcached/conf.d/a.conf: cannot be read (EISDIR)\n");
}

static void one_error_in_a_drop_in_gives_no_config_at_all(void **state)
{
	struct world *w = *state;

	put(w, "/etc/hfcached/hfcached.conf", "[log]\nlevel = debug\n");
	put(w, "/etc/hfcached/conf.d/a.conf", "[log]\nlevel = loud\n");
	assert_int_equal(load(w), -EINVAL);
	assert_null(w->config);
}

static void a_full_error_buffer_still_means_failure(void **state)
{
	struct world *w = *state;

	buf_done(&w->errors);
	buf_init(&w->errors, 8);
	w->sets[0] = "log.level=loud";
	assert_int_equal(load(w), -EINVAL);
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

/* --- sections with names --- */

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
	    "[space app]\nurl = http://x\n[space a/b/c]\nurl = http://x\n[space a/b]\nurl = ftp://x\n[space a/c]\n"
	    "host = x\n");
	assert_int_equal(load(w), -EINVAL);
	assert_has(messages(w), "hfcached.conf:2: [space OWNER/NAME] needs a name of the form OWNER/NAME, 1 to 200 letters");
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

/* --- types and rules ------------------------------------------------------------------------------------- */

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

/* --- what is printed ------------------------------------------------------------------------------------- */

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
		TEST(a_value_keeps_its_comment_signs_and_equal_signs),
		TEST(takes_windows_line_ends_a_byte_order_mark_and_long_lines),
		TEST(a_section_may_be_taken_up_again),
		TEST(names_file_and_line_of_every_error_in_one_go),
		TEST(names_the_nearest_known_option),
		TEST(names_the_line_of_each_syntax_error),
		TEST(refuses_an_option_before_any_section),
		TEST(refuses_an_option_that_is_set_twice_in_one_file),
		TEST(refuses_bytes_that_are_not_text),
		TEST(refuses_a_file_that_everybody_may_change),
		TEST(refuses_a_folder_and_a_file_of_more_than_a_mebibyte),
		TEST(one_error_in_a_drop_in_gives_no_config_at_all),
		TEST(a_full_error_buffer_still_means_failure),
		TEST(reads_variables_with_underscores_for_dashes),
		TEST(names_the_nearest_variable),
		TEST(passes_over_the_variables_of_a_kubernetes_service),
		TEST(refuses_a_set_without_key_or_value),
		TEST(the_key_of_a_set_begins_after_the_last_dot),
		TEST(a_named_section_grows_key_by_key_through_the_layers),
		TEST(a_space_is_named_by_owner_and_name),
		TEST(says_what_is_wrong_with_a_named_section),
		TEST(there_are_as_many_named_sections_as_there_may_be),
		TEST(a_key_is_neither_shown_nor_repeated_nor_read_where_everybody_reads),
		TEST(names_the_named_sections_that_wait_for_a_restart),
		TEST(shows_control_bytes_of_names_as_question_marks_and_cuts_long_ones),
		TEST(reads_sizes_percentages_and_times_with_units),
		TEST(refuses_quotas_that_mean_nothing),
		TEST(reads_each_word_for_yes_and_no),
		TEST(takes_all_forms_of_addresses),
		TEST(refuses_addresses_that_are_none),
		TEST(refuses_a_socket_path_that_the_system_would_not_take),
		TEST(refuses_urls_that_cannot_be_asked),
		TEST(refuses_a_password_in_a_url_without_repeating_it),
		TEST(refuses_a_token_in_place_of_a_credentials_name_without_repeating_it),
		TEST(checks_hosts_and_redirect_hosts),
		TEST(checks_paths),
		TEST(checks_ranges_at_both_ends),
		TEST(refuses_a_list_of_more_than_a_thousand_words),
		TEST(what_is_shown_is_a_configuration_that_gives_the_same_values),
		TEST(the_example_file_is_valid_and_holds_every_default),
		TEST(the_manual_describes_every_option_with_its_default),
		TEST(printing_into_a_full_buffer_says_so),
		TEST(names_the_options_that_wait_for_a_restart),
		TEST(freeing_nothing_is_fine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
