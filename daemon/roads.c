/* SPDX-License-Identifier: Apache-2.0 */
/*
 * roads - the options of [intercept] to their rooms.
 */
#include "roads.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include "common/alloc.h"
#include "common/path.h"
#include "house.h"

#include "common/banned.h"

/* A client's trust is not renewed in a day. */
#define WARN_BEFORE_S ((int64_t)60 * 86400)

struct roads {
	const struct config *config; /* borrowed */
	char *ca_path;
	struct ca *ca;                         /* owned; NULL: there is no interception */
	_Atomic(struct intercept *) intercept; /* owned */
	atomic_bool has_told_of_circle;
	_Atomic(struct server *) server; /* borrowed; NULL until it has started */
};

char *roads_ca_path(const struct config *c, const char *store_path)
{
	return *c->intercept_ca_file ? xstrdup(c->intercept_ca_file) : xasprintf("%s/ca/ca.pem", store_path);
}

/* --- the names that it speaks for --- */

/* "*.Example.org" to "example.org" */
static char *name_of(const char *pattern)
{
	char *name = xstrdup(strncmp(pattern, "*.", 2) == 0 ? pattern + 2 : pattern);

	for (char *p = name; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return name;
}

static bool is_below(const char *name, const char *other)
{
	struct str n = str_from(name), o = str_from(other);

	return n.len > o.len && str_ends_with(n, o) && n.ptr[n.len - o.len - 1] == '.';
}

/* Each name of the hosts once, without those that another one takes in. Owned by the caller, as are the names. */
static char **names_of(const struct config_list *hosts)
{
	char **names = xcalloc(hosts->count + 1, sizeof(*names)), **kept = names;

	for (size_t i = 0; i < hosts->count; i++)
		names[i] = name_of(hosts->words[i]);
	for (size_t i = 0; i < hosts->count; i++) {
		bool is_needed = true;

		for (size_t k = 0; k < hosts->count; k++)
			if (names[i] && names[k] && k != i)
				is_needed = is_needed && !is_below(names[i], names[k]) &&
					    !(k < i && strcmp(names[i], names[k]) == 0);
		if (!is_needed) {
			free(names[i]);
			names[i] = NULL;
		}
	}
	for (size_t i = 0; i < hosts->count; i++)
		if (names[i])
			*kept++ = names[i];
	*kept = NULL;
	return names;
}

static void names_free(char **names)
{
	for (char **name = names; *name; name++)
		free(*name);
	free(names);
}

/* --- what is wrong, what should be known --- */

static void warn_of_names(const struct ca *ca, const struct config *c, const char *path, struct buf *warnings)
{
	for (size_t i = 0; i < c->intercept_hosts.count; i++) {
		SCOPED_FREE char *name = name_of(c->intercept_hosts.words[i]);

		if (!ca_covers(ca, str_from(name)))
			buf_appendf(warnings,
				    "intercept.hosts has %s, for which the site CA %s may not speak: it is "
				    "refused. Move "
				    "that file and its key away, and the next start makes a new one, which "
				    "clients must be "
				    "given again\n",
				    c->intercept_hosts.words[i], path);
	}
}

static void warn(const struct ca *ca, const struct config *c, const char *path, int64_t now,
		 struct buf *warnings)
{
	warn_of_names(ca, c, path, warnings);
	if (ca_expires_at(ca) - now < WARN_BEFORE_S)
		buf_appendf(warnings,
			    "the site CA %s expires in %lld days: move it and its key away, and the next "
			    "start makes a new "
			    "one, which clients must be given again\n",
			    path, (long long)((ca_expires_at(ca) - now) / 86400));
}

static const char *wrong_key(const char *reason)
{
	static const char *const keys[] = { "listen", "hosts", "tunnel" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (strncmp(reason + strlen("intercept."), keys[i], strlen(keys[i])) == 0)
			return keys[i];
	return "hosts";
}

int roads_check(const struct config *c, const char *store_path, struct buf *errors, struct buf *warnings)
{
	SCOPED_FREE char *path = roads_ca_path(c, store_path);
	SCOPED(ca_free) struct ca *ca = NULL;
	SCOPED_FREE char *reason = NULL;
	int64_t now = clock_wall_s(&clock_system);
	int r = intercept_check((const char *const *)c->intercept_listen.words,
				(const char *const *)c->intercept_hosts.words,
				(const char *const *)c->intercept_tunnel.words, &reason);

	if (r < 0) {
		buf_appendf(errors, "%s: %s\n", config_origin(c, "intercept", wrong_key(reason)), reason);
		return -EINVAL;
	}
	if (!c->intercept_enabled)
		return 0;
	if (c->intercept_hosts.count == 0) {
		buf_appendf(errors, "%s: intercept.hosts names no host to serve\n",
			    config_origin(c, "intercept", "hosts"));
		return -EINVAL;
	}
	r = ca_open(path, now, &ca, &reason);
	if (r == 0) {
		warn(ca, c, path, now, warnings);
		return 0;
	}
	if (r == -ENOENT ||
	    r == -EACCES) /* it is made at the start; or it is for the daemon's user to read */
		return 0;
	buf_appendf(errors, "%s: intercept.ca-file: %s\n", config_origin(c, "intercept", "ca-file"), reason);
	return -EINVAL;
}

/* --- start --- */

static int make_ca(const struct config *c, const char *path, char **ret_reason)
{
	SCOPED_FREE char *folder = xstrdup(path);
	char **names = names_of(&c->intercept_hosts), *slash = strrchr(folder, '/');
	int r = 0;

	if (slash && slash != folder) {
		SCOPED_FD int fd = -1;

		*slash = 0;
		fd = fs_open_dir(folder);
		r = fd < 0 ? fd : 0;
	}
	if (r < 0)
		*ret_reason = xasprintf("cannot make the folder %s: %s", folder, log_errno_name(r));
	else
		r = ca_create(path,
			      &(struct ca_spec){ .names = (const char *const *)names,
						 .now = clock_wall_s(&clock_system) },
			      ret_reason);
	names_free(names);
	return r;
}

static void tell_of_ca(const struct roads *r, bool is_new)
{
	char until[16] = "?";
	time_t expires_at = (time_t)ca_expires_at(r->ca);
	struct tm day;

	if (gmtime_r(&expires_at, &day))
		(void)strftime(until, sizeof(until), "%Y-%m-%d", &day);
	log_info("main", is_new ? "a site CA was made; give its certificate to clients" : "the site CA",
		 LOG_TEXT("path", r->ca_path), LOG_TEXT("sha256", ca_fingerprint(r->ca)),
		 LOG_TEXT("until", until), LOG_END);
}

static void log_warnings(const struct roads *r)
{
	struct str rest, line;
	SCOPED_BUF warnings;

	buf_init(&warnings, 65536);
	warn(r->ca, r->config, r->ca_path, clock_wall_s(&clock_system), &warnings);
	rest = buf_str(&warnings);
	while (rest.len) {
		SCOPED_FREE char *text = NULL;

		(void)str_cut(rest, '\n', &line, &rest);
		text = str_dup(line);
		log_warning("main", text, LOG_END);
	}
}

static int open_ca(struct roads *r, char **ret_reason)
{
	int64_t now = clock_wall_s(&clock_system);
	int error = ca_open(r->ca_path, now, &r->ca, ret_reason);
	bool is_new = error == -ENOENT;

	if (is_new) {
		free(TAKE_PTR(*ret_reason));
		error = make_ca(r->config, r->ca_path, ret_reason);
		if (error == 0)
			error = ca_open(r->ca_path, now, &r->ca, ret_reason);
	}
	if (error < 0)
		return error;
	tell_of_ca(r, is_new);
	log_warnings(r);
	return 0;
}

int roads_new(const struct config *c, const char *store_path, struct roads **ret_roads)
{
	struct roads *r = xcalloc(1, sizeof(*r));
	SCOPED_FREE char *reason = NULL;
	int error;

	r->config = c;
	r->ca_path = roads_ca_path(c, store_path);
	error = c->intercept_enabled ? open_ca(r, &reason) : 0;
	if (error == 0) {
		*ret_roads = r;
		return 0;
	}
	roads_free(r);
	return say(error == -EBADMSG || error == -ESTALE || error == -EPERM || error == -EINVAL
			   ? EX_CONFIG
			   : EX_CANTCREAT,
		   "intercept.ca-file: %s", reason ? reason : log_errno_name(error));
}

/* Its other end is a connection of the server. */
static int open_inner(void *ctx, const struct sockaddr_storage *from)
{
	struct roads *r = ctx;
	struct server *server = atomic_load(&r->server);
	int ends[2], error;

	if (!server)
		return -EAGAIN;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	error = server_add(server, ends[1], from, SERVER_INTERCEPTED);
	if (error == 0)
		return ends[0];
	(void)close(ends[0]);
	return error;
}

int roads_start(struct roads *r, struct splices *splices, struct metrics *metrics, const struct clock *clock)
{
	const struct config *c = r->config;
	struct intercept_opts opts = { .listen = (const char *const *)c->intercept_listen.words,
				       .hosts = (const char *const *)c->intercept_hosts.words,
				       .tunnels = (const char *const *)c->intercept_tunnel.words,
				       .ca = r->ca,
				       .splices = splices,
				       .metrics = metrics,
				       .clock = clock,
				       .open_inner = open_inner,
				       .ctx = r };
	SCOPED_FREE char *reason = NULL;
	struct intercept *i = NULL;
	int error = r->ca ? intercept_start(&opts, &i, &reason) : 0;

	if (error < 0)
		return say(error == -EINVAL ? EX_CONFIG : EX_UNAVAILABLE, "%s", reason);
	atomic_store(&r->intercept, i);
	if (i && intercept_address(i))
		log_info("main", "listening for intercepted clients",
			 LOG_TEXT("address", intercept_address(i)), LOG_END);
	return 0;
}

struct str roads_certificate(const struct roads *r)
{
	return r->ca ? ca_pem(r->ca) : STR("");
}

const char *const *roads_hosts(const struct roads *r)
{
	return r->ca ? (const char *const *)r->config->intercept_hosts.words : NULL;
}

void roads_serve(struct roads *r, struct server *server)
{
	atomic_store(&r->server, server);
}

bool roads_is_own(void *ctx, const struct sockaddr *address, socklen_t len)
{
	struct roads *r = ctx;
	const struct intercept *i = atomic_load(&r->intercept);

	if (!i || !intercept_is_at(i, address, len))
		return false;
	if (!atomic_exchange(&r->has_told_of_circle, true))
		log_warning("main",
			    "upstream's name leads to intercept.listen of this daemon: its own machine must "
			    "resolve "
			    "the real names of the Hub, by another resolver",
			    LOG_END);
	return true;
}

void roads_take(void *ctx, int take_fd, const struct sockaddr_storage *from, struct str early)
{
	struct roads *r = ctx;

	intercept_take(r->intercept, take_fd, from, early);
}

void roads_stop(struct roads *r)
{
	if (r)
		intercept_stop(r->intercept);
}

void roads_free(struct roads *r)
{
	if (!r)
		return;
	intercept_free(r->intercept);
	ca_free(r->ca);
	free(r->ca_path);
	free(r);
}
