/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool/client - questions to the daemon: over its admin socket, or over loopback.
 *
 * Owns      one curl handle, and which road worked.
 * Never     uses a proxy of the environment, follows a redirect, sends a token.
 * Threads   one.
 */
#include "tool/priv.h"

#include <curl/curl.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sysexits.h>
#include "common/alloc.h"
#include "common/log.h"

#include "common/banned.h"

#define ANSWER_BYTES_MAX (64 << 20)
#define CONNECT_MS 5000L
#define PATH_MAX_HERE 4096

struct client {
	const struct tool_opts *opts; /* borrowed */
	CURL *curl;                   /* owned */
	const char *socket;         /* borrowed: the one that works; NULL not looked for yet, or none does */
	const char *refused_socket; /* borrowed: there is one, and we may not use it */
	struct buf tried;           /* where it was looked for and what was found, for people */
	bool was_looked, uses_loopback, is_local_said;
};

struct client *client_new(const struct tool_opts *opts)
{
	struct client *c = xcalloc(1, sizeof(*c));

	c->opts = opts;
	buf_init(&c->tried, 16384);
	(void)curl_global_init(CURL_GLOBAL_DEFAULT); /* what fails here fails at the first question */
	c->curl = curl_easy_init();
	return c;
}

void client_free(struct client *c)
{
	if (!c)
		return;
	curl_easy_cleanup(c->curl);
	buf_done(&c->tried);
	free(c);
}

/* --- which road --- */

static int try_socket(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	SCOPED_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(a.sun_path))
		return -ENAMETOOLONG;
	memcpy(a.sun_path, path, strlen(path) + 1);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	return 0;
}

static const char *why_not(int error)
{
	switch (error) {
	case -ENOENT:
		return "it is not there";
	case -ECONNREFUSED:
		return "nobody listens";
	case -EACCES:
	case -EPERM:
		return "not permitted";
	case -ENAMETOOLONG:
		return "longer than a socket's path may be: set server.admin-socket to a shorter one";
	default:
		return log_errno_name(error);
	}
}

static void note_tried(struct client *c, const char *place, const char *reason)
{
	(void)buf_appendf(&c->tried, "\n  %s: %s", place, reason);
}

static void look_for_socket(struct client *c)
{
	if (c->was_looked)
		return;
	c->was_looked = true;
	for (const char *const *path = c->opts->sockets; path && *path; path++) {
		int r = try_socket(*path);

		if (r == 0) {
			c->socket = *path;
			return;
		}
		if (r == -EACCES || r == -EPERM)
			c->refused_socket = *path;
		note_tried(c, *path, why_not(r));
	}
}

/* "root", or its number. */
static const char *user_name(uid_t uid, char ret[64])
{
	struct passwd entry, *found = NULL;
	char room[4096];

	(void)snprintf(ret, 64, "%u", (unsigned)uid);
	if (getpwuid_r(uid, &entry, room, sizeof(room), &found) == 0 && found)
		(void)snprintf(ret, 64, "%s", entry.pw_name);
	return ret;
}

static const char *group_name(gid_t gid, char ret[64])
{
	struct group entry, *found = NULL;
	char room[16384];

	(void)snprintf(ret, 64, "%u", (unsigned)gid);
	if (getgrgid_r(gid, &entry, room, sizeof(room), &found) == 0 && found)
		(void)snprintf(ret, 64, "%s", entry.gr_name);
	return ret;
}

static int say_refused(const char *path)
{
	char user[64], group[64];
	struct stat st;

	if (stat(path, &st) < 0)
		return tool_say(EX_NOPERM,
				"no right to use %s, nor to look at its folder: run this as the daemon's "
				"user, or with sudo",
				path);
	return tool_say(EX_NOPERM,
			"no right to use %s: it belongs to %s:%s (mode %04o); run this as %s, or with sudo",
			path, user_name(st.st_uid, user), group_name(st.st_gid, group),
			(unsigned)(st.st_mode & 07777), user);
}

static int ask(struct client *c, const char *base, const char *method, const char *path, struct buf *out,
	       long *ret_status);

/* One runs, and was told of another place for its socket than we were. */
static bool is_elsewhere(struct client *c)
{
	SCOPED_BUF ignored = { 0 };
	long status = 0;

	buf_init(&ignored, ANSWER_BYTES_MAX);
	return !c->socket && c->opts->local_url &&
	       ask(c, c->opts->local_url, "GET", "/-/healthz", &ignored, &status) == 0;
}

static int say_no_daemon(struct client *c)
{
	if (is_elsewhere(c))
		return tool_say_lines(
			EX_UNAVAILABLE,
			"a daemon answers at %s, but its admin socket is not where it was looked for:%s\n"
			"Say what it was told too: --config, --set storage.path=..., or --socket PATH.",
			c->opts->local_url, buf_str(&c->tried).ptr);
	return tool_say_lines(
		EX_UNAVAILABLE,
		"the daemon does not answer. Looked for it at:%s\nStart it with \"systemctl start "
		"hfcached\", or run hfcached; "
		"or say with --socket, --config or --set where it is.",
		buf_str(&c->tried).ptr);
}

/* --- one question --- */

static size_t on_body(char *bytes, size_t size, size_t count, void *ctx)
{
	return buf_append(ctx, bytes, size * count) == 0 ? size * count : 0;
}

/* Returns 0 with the status, -ECONNREFUSED nobody was reached, -E2BIG, -EIO. */
static int ask(struct client *c, const char *base, const char *method, const char *path, struct buf *out,
	       long *ret_status)
{
	SCOPED_FREE char *url = xasprintf("%s%s", base, path);
	CURLcode code;

	buf_reset(out);
	curl_easy_reset(c->curl);
	(void)curl_easy_setopt(c->curl, CURLOPT_URL, url);
	(void)curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
	(void)curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(c->curl, CURLOPT_PATH_AS_IS, 1L);
	(void)curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	(void)curl_easy_setopt(c->curl, CURLOPT_USERAGENT, "hfcache/" HFCACHED_VERSION);
	(void)curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_body);
	(void)curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, out);
	if (c->socket)
		(void)curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, c->socket);
	code = curl_easy_perform(c->curl);
	if (code == CURLE_OK)
		return curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, ret_status) == CURLE_OK ? 0 : -EIO;
	if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
	    code == CURLE_OPERATION_TIMEDOUT)
		return -ECONNREFUSED;
	return code == CURLE_WRITE_ERROR ? -E2BIG : -EIO;
}

static int exit_code_of(long status)
{
	switch (status) {
	case 400:
		return EX_USAGE;
	case 401:
	case 403:
	case 421:
		return EX_NOPERM;
	case 404:
		return EX_NOINPUT;
	case 409:
	case 410:
	case 429:
	case 503:
	case 504:
	case 507:
		return EX_TEMPFAIL;
	default:
		return EX_SOFTWARE;
	}
}

/* The daemon's own sentence. */
static int say_status(long status, const struct buf *body)
{
	SCOPED(json_free) struct json *root = NULL;
	struct str sentence = { NULL, 0 };

	if (json_parse(buf_str(body), &root) == 0)
		sentence = json_text(root, "error");
	if (sentence.len == 0)
		sentence = str_trim(buf_str(body));
	if (sentence.len == 0 || sentence.len > 2000)
		return tool_say(exit_code_of(status), "the daemon answered with status %ld", status);
	return tool_say(exit_code_of(status), "%.*s", STR_ARGS(sentence));
}

static int finish(struct client *c, int r, long status, struct buf *out)
{
	if (r == -E2BIG)
		return tool_say(EX_SOFTWARE, "the daemon's answer is longer than 64 MiB");
	if (r < 0)
		return tool_say(EX_UNAVAILABLE, "the daemon broke the connection off; see its log");
	return status == 200 ? 0 : say_status(status, out);
}

static void say_local(struct client *c)
{
	if (c->is_local_said)
		return;
	c->is_local_said = true;
	if (c->refused_socket)
		(void)say_refused(c->refused_socket);
	else
		(void)tool_say_lines(0, "the daemon's admin socket was not found at:%s",
				     buf_str(&c->tried).ptr);
	(void)tool_say(0, "asked without it: only what is public is shown");
}

static int ask_somewhere(struct client *c, const char *method, const char *path, bool may_use_loopback,
			 struct buf *out)
{
	long status = 0;
	int r;

	buf_init(out, ANSWER_BYTES_MAX);
	if (!c->curl)
		return tool_say(EX_OSERR, "the HTTP library could not be started");
	look_for_socket(c);
	if (c->socket) {
		r = ask(c, "http://localhost", method, path, out, &status);
		return r == -ECONNREFUSED ? say_no_daemon(c) : finish(c, r, status, out);
	}
	if (!may_use_loopback)
		return c->refused_socket ? say_refused(c->refused_socket) : say_no_daemon(c);
	r = c->opts->local_url ? ask(c, c->opts->local_url, method, path, out, &status) : -ECONNREFUSED;
	if (r != -ECONNREFUSED) {
		say_local(c);
		return finish(c, r, status, out);
	}
	if (c->opts->local_url)
		note_tried(c, c->opts->local_url, "nobody answers");
	return c->refused_socket ? say_refused(c->refused_socket) : say_no_daemon(c);
}

bool client_reaches(struct client *c)
{
	SCOPED_BUF ignored = { 0 };
	long status = 0;

	buf_init(&ignored, ANSWER_BYTES_MAX);
	look_for_socket(c);
	return c->curl && (c->socket || (c->opts->local_url && ask(c, c->opts->local_url, "GET", "/-/healthz",
								   &ignored, &status) == 0));
}

int client_get(struct client *c, const char *path, struct buf *out)
{
	return ask_somewhere(c, "GET", path, true, out);
}

int client_delete(struct client *c, const char *path, struct buf *out)
{
	return ask_somewhere(c, "DELETE", path, false, out);
}

/* --- lists that come in pages --- */

static int visit_page(struct str text, const struct json *root,
		      int (*visit)(void *ctx, struct str raw, const struct json *repo), void *ctx)
{
	const struct json *repo = json_first(json_get(root, "repos"));
	struct str rest, raw;
	int r = json_find_member(text, "repos", &rest);

	if (r < 0 || rest.len == 0 || rest.ptr[0] != '[')
		return EX_SOFTWARE;
	rest.ptr++;
	rest.len--;
	for (r = 0; r == 0 && repo && json_next_element(&rest, &raw) == 1; repo = json_next(repo))
		r = visit(ctx, str_trim(raw), repo);
	return r;
}

int client_each_repo(struct client *c, const char *query,
		     int (*visit)(void *ctx, struct str raw, const struct json *repo), void *ctx,
		     uint64_t *ret_hidden)
{
	SCOPED_FREE char *path = xasprintf("/-/repos%s%s", *query ? "?" : "", query);

	while (path) {
		SCOPED_BUF text = { 0 };
		SCOPED(json_free) struct json *root = NULL;
		int code = client_get(c, path, &text);
		struct str next;

		if (code)
			return code;
		if (json_parse(buf_str(&text), &root) < 0)
			return tool_say(EX_SOFTWARE,
					"the daemon's answer is no JSON: is it of another version?");
		*ret_hidden = json_number(root, "hidden");
		code = visit_page(buf_str(&text), root, visit, ctx);
		if (code)
			return code;
		next = json_text(root, "next");
		free(path);
		path = next.len && next.len < PATH_MAX_HERE ? str_dup(next) : NULL;
	}
	return 0;
}
