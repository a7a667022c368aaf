/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command - from the command line of hfcache to the room tool: reads the configuration as the daemon does, and finds out where the
 * daemon would be.
 */
#include "command.h"

#include <errno.h>
#include <stdio.h>
#include <sysexits.h>
#include "common/alloc.h"
#include "house.h"
#include "roads.h"
#include "tool/tool.h"

#include "common/banned.h"

#define SYSTEM_SOCKET "/run/hfcached/admin.sock"
#define SYSTEM_STORE "/var/cache/hfcached"
#define SOCKETS_MAX 3

bool command_is_meant(const char *program)
{
	const char *slash = program ? strrchr(program, '/') : NULL, *name = slash ? slash + 1 : program;

	return name && strcmp(name, "hfcache") == 0;
}

/* The first of $RUNTIME_DIRECTORY: a service may have several. */
static char *runtime_folder(void)
{
	const char *folders = getenv("RUNTIME_DIRECTORY"), *end = folders ? strchrnul(folders, ':') : NULL;

	return folders && *folders == '/' ? xstrndup(folders, (size_t)(end - folders)) : NULL;
}

char *command_admin_socket(const struct config *c, bool *ret_is_chosen)
{
	SCOPED_FREE char *runtime = runtime_folder();
	SCOPED_FREE char *store = house_store_path(c);

	*ret_is_chosen = *c->server_admin_socket != 0;
	if (strcmp(c->server_admin_socket, "none") == 0)
		return NULL;
	if (*ret_is_chosen)
		return xstrdup(c->server_admin_socket);
	return xasprintf("%s/admin.sock", runtime ? runtime : store);
}

/* --- the options of the configuration, wherever they stand before a "--" --- */

struct words {
	struct config_source source;
	const char **sets;  /* owned */
	const char *socket; /* or NULL */
	char **argv;        /* owned: what is left */
	int argc;
};

/* "--set=x" or "--set x". Returns how many words it is: 0 it is another one, -1 its value is missing. */
static int take_option(const char *name, char **argv, const char **ret_value)
{
	size_t len = strlen(name);

	if (strncmp(argv[0], name, len) != 0)
		return 0;
	if (argv[0][len] == '=') {
		*ret_value = argv[0] + len + 1;
		return 1;
	}
	if (argv[0][len] != 0)
		return 0;
	*ret_value = argv[1];
	return argv[1] ? 2 : -1;
}

static int take_word(struct words *w, char **argv, size_t *set_count)
{
	const char *set = NULL;
	int n = take_option("--config", argv, &w->source.file);

	if (n == 0)
		n = take_option("--socket", argv, &w->socket);
	if (n == 0) {
		n = take_option("--set", argv, &set);
		if (n > 0)
			w->sets[(*set_count)++] = set;
	}
	return n;
}

static int split(struct words *w, int argc, char **argv)
{
	size_t set_count = 0;
	int i = 0;

	while (i < argc) {
		int n = i > 0 && strcmp(argv[i], "--") != 0 ? take_word(w, argv + i, &set_count) : 0;

		if (n < 0) {
			(void)fprintf(stderr, "hfcache: %s needs a value\n", argv[i]);
			return EX_USAGE;
		}
		if (n == 0 && strcmp(argv[i], "--") == 0 && i > 0) {
			while (i < argc)
				w->argv[w->argc++] = argv[i++];
			break;
		}
		if (n == 0)
			w->argv[w->argc++] = argv[i++];
		i += n;
	}
	return 0;
}

/*
 * What the daemon's files say. Where they are not for everybody to read, the rest has to do: the system's daemon is found all the
 * same.
 */
static int load(struct words *w, struct config **ret_config)
{
	SCOPED_BUF errors = { 0 };
	int r;

	buf_init(&errors, 65536);
	r = config_load(&w->source, ret_config, &errors);
	if (r == 0)
		return 0;
	if (w->source.file || !strstr(buf_str(&errors).ptr, "ermission")) {
		(void)fputs(buf_str(&errors).ptr, stderr);
		return EX_CONFIG;
	}
	(void)fputs("hfcache: the configuration in /etc/hfcached is not for this user to read; going on "
		    "without it\n",
		    stderr);
	w->source.file = "";
	buf_reset(&errors);
	if (config_load(&w->source, ret_config, &errors) == 0)
		return 0;
	(void)fputs(buf_str(&errors).ptr, stderr);
	return EX_CONFIG;
}

/* --- where it serves --- */

/* The first TCP address of a list; NULL: there is none, or its port is not known before it starts. */
static const char *first_address(const struct config_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		const char *word = list->words[i], *colon = strrchr(word, ':');

		if (strncmp(word, "unix:", 5) != 0)
			return colon && strcmp(colon, ":0") != 0 ? word : NULL;
	}
	return NULL;
}

static bool is_any_address(const char *address)
{
	return strncmp(address, "0.0.0.0:", 8) == 0 || strncmp(address, "[::]:", 5) == 0;
}

/* "127.0.0.1:8090" to be asked from this machine; the caller's, or NULL. */
static char *local_url(const struct config *c)
{
	const char *address = first_address(&c->server_listen);

	if (!address)
		return NULL;
	return is_any_address(address) ? xasprintf("http://127.0.0.1%s", strrchr(address, ':'))
				       : xasprintf("http://%s", address);
}

/* "host:port" as other machines write it; the caller's, or NULL. */
static char *public_address(const struct config_list *list)
{
	const char *address = first_address(list);
	char host[256] = "";

	if (!address)
		return NULL;
	if (!is_any_address(address) || gethostname(host, sizeof(host) - 1) < 0 || !*host)
		return xstrdup(address);
	return xasprintf("%s%s", host, strrchr(address, ':'));
}

static char *public_url(const struct config *c)
{
	SCOPED_FREE char *address = public_address(&c->server_listen);

	if (*c->server_public_url)
		return xstrdup(c->server_public_url);
	return address ? xasprintf("http://%s", address) : NULL;
}

/* server.listen takes CONNECT, whether or not intercept.listen has an address. The caller's, or NULL. */
static char *proxy_address(const struct config *c)
{
	char *address;

	if (!c->intercept_enabled)
		return NULL;
	address = public_address(&c->server_listen);
	if (!address)
		address = public_address(&c->intercept_listen);
	return address ? address : xstrdup("");
}

/*
 * Where the daemon's store is. Root, who looks after the system's daemon, has mostly none of his own: then it is that one's, whose
 * folder the unit names.
 */
static char *store_path(const struct config *c)
{
	SCOPED_FREE char *own = house_store_path(c);

	if (!*c->storage_path && !getenv("CACHE_DIRECTORY") && geteuid() == 0 && access(own, F_OK) < 0 &&
	    access(SYSTEM_STORE, F_OK) == 0)
		return xstrdup(SYSTEM_STORE);
	return TAKE_PTR(own);
}

static int run(struct words *w, const struct config *config)
{
	const char *sockets[SOCKETS_MAX + 1] = { w->socket };
	bool is_chosen = false;
	SCOPED_FREE char *store = store_path(config);
	SCOPED_FREE char *own = command_admin_socket(config, &is_chosen);
	SCOPED_FREE char *in_store = xasprintf("%s/admin.sock", store);
	SCOPED_FREE char *ca_path = roads_ca_path(config, store);
	SCOPED_FREE char *local = local_url(config);
	SCOPED_FREE char *url = public_url(config);
	SCOPED_FREE char *proxy = proxy_address(config);
	struct tool_opts opts = { .argc = w->argc,
				  .argv = w->argv,
				  .sockets = sockets,
				  .local_url = local,
				  .url = url,
				  .ca_path = ca_path,
				  .intercept_address = proxy,
				  .intercept_tunnels = config->intercept_tunnel.count > 0,
				  .intercept_hosts = (const char *const *)config->intercept_hosts.words };
	size_t count = 0;

	if (!w->socket && own)
		sockets[count++] = own;
	if (!w->socket && own && !is_chosen) {
		if (strcmp(own, in_store) != 0)
			sockets[count++] = in_store;
		if (strcmp(own, SYSTEM_SOCKET) != 0)
			sockets[count++] = SYSTEM_SOCKET;
	}
	return tool_main(&opts);
}

int command_run(int argc, char **argv)
{
	struct words w = { .source = { .environment = environ, .system_root = "" } };
	struct config *config = NULL;
	int code;

	w.sets = xcalloc((size_t)argc + 1, sizeof(*w.sets));
	w.argv = xcalloc((size_t)argc + 1, sizeof(*w.argv));
	w.source.sets = w.sets;
	code = split(&w, argc, argv);
	if (code == 0)
		code = load(&w, &config);
	if (code == 0)
		code = run(&w, config);
	config_free(config);
	free(w.sets);
	free(w.argv);
	return code;
}
