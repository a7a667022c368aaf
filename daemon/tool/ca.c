/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool/ca - the site's authority: made here, handed out to clients, looked at.
 *
 * Never     reads or prints the key: only the room ca does, to use it.
 * Threads   one.
 */
#include "tool/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include "ca/ca.h"
#include "common/alloc.h"
#include "common/log.h"
#include "common/path.h"

#include "common/banned.h"

#define NAMES_MAX 64
#define PEM_BYTES_MAX (1 << 16)
#define BUNDLE_BYTES_MAX (16 << 20)

static int say_error(const struct args *a, int error, const char *reason)
{
	const char *path = a->opts->ca_path;

	switch (error) {
	case -ENOENT:
		return tool_say(EX_NOINPUT, "there is no %s: make it with \"hfcache ca init\"", path);
	case -EEXIST:
		return tool_say(EX_CANTCREAT,
				"there is one already: %s; clients trust it, so it is left as it is", path);
	case -EACCES:
		return tool_say(EX_NOPERM,
				"no right to use %s and its key: run this as the daemon's user, or with sudo",
				path);
	default:
		return tool_say(error == -ENOSPC || error == -EROFS ? EX_CANTCREAT : EX_CONFIG, "%s: %s",
				path, reason && *reason ? reason : log_errno_name(error));
	}
}

/* "*.hf.space" speaks for what is below hf.space, as "hf.space" does. */
static void collect_names(const struct args *a, const char *names[NAMES_MAX + 1])
{
	size_t count = 0;

	for (const char *const *host = a->opts->intercept_hosts; host && *host && count < NAMES_MAX; host++) {
		const char *name = strncmp(*host, "*.", 2) == 0 ? *host + 2 : *host;
		bool is_there = *name == 0;

		for (size_t i = 0; i < count; i++)
			is_there |= strcmp(names[i], name) == 0;
		if (!is_there)
			names[count++] = name;
	}
	names[count] = NULL;
}

/*
 * What root makes in the daemon's folder is to be the daemon's. The folder's owner may have put something else in its place
 * meanwhile: only a file of root's own that has no second name is given away.
 */
static void give_away(const char *path, const struct stat *folder)
{
	SCOPED_FD int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != 0 || (S_ISREG(st.st_mode) && st.st_nlink != 1))
		return;
	if (fchown(fd, folder->st_uid, folder->st_gid) < 0)
		(void)tool_say(0, "%s could not be given to the owner of its folder", path);
}

/* The folder is made too, within one that is there. Root follows no link that somebody else has put in its place. */
static int make_folder(const char *path)
{
	SCOPED_FREE char *copy = xstrdup(path);
	const char *folder = dirname(copy);
	SCOPED_FREE char *copy_folder = xstrdup(folder);
	struct stat above, own;

	if (geteuid() == 0 && lstat(folder, &own) == 0 && S_ISLNK(own.st_mode) && own.st_uid != 0)
		return tool_say(EX_NOPERM, "%s is a symbolic link of another user: run this as that one",
				folder);
	if (mkdir(folder, 0700) == 0 && geteuid() == 0 && stat(dirname(copy_folder), &above) == 0)
		give_away(folder, &above);
	return 0;
}

static void give_to_owner(const char *path)
{
	SCOPED_FREE char *key = xasprintf("%.*s.key", (int)(strlen(path) - strlen(".pem")), path);
	SCOPED_FREE char *copy = xstrdup(path);
	struct stat folder;

	if (geteuid() != 0 || stat(dirname(copy), &folder) < 0 || folder.st_uid == 0)
		return;
	give_away(key, &folder);
	give_away(path, &folder);
}

static int show(const struct args *a);

static int init(const struct args *a)
{
	const char *names[NAMES_MAX + 1];
	struct ca_spec spec = { .names = names, .now = (int64_t)time(NULL) };
	SCOPED_FREE char *reason = NULL;
	int r;

	collect_names(a, names);
	r = make_folder(a->opts->ca_path);
	if (r)
		return r;
	r = ca_create(a->opts->ca_path, &spec, &reason);
	if (r < 0)
		return say_error(a, r, reason);
	give_to_owner(a->opts->ca_path);
	(void)fprintf(stderr, "Made %s; it speaks for", a->opts->ca_path);
	for (size_t i = 0; names[i]; i++)
		(void)fprintf(stderr, " %s", names[i]);
	(void)fputs(".\nIts key beside it is for the daemon's user alone.\n"
		    "Hand out what \"hfcache ca export\" prints; \"hfcache env --intercept\" says how "
		    "clients use it.\n",
		    stderr);
	return arg_has(a, FLAG_ca_json) ? show(a) : 0;
}

/* --- export --- */

static int wrap_in_json(struct buf *text)
{
	SCOPED_BUF json = { 0 };

	buf_init(&json, 2 * BUNDLE_BYTES_MAX);
	(void)buf_append_str(&json, STR("{\"certificates\":"));
	(void)json_write_string(&json, buf_str(text));
	if (buf_append_str(&json, STR("}\n")) < 0)
		return tool_say(EX_CONFIG, "the certificates are too long");
	buf_reset(text);
	return buf_append_str(text, buf_str(&json)) < 0 ? tool_say(EX_CONFIG, "the certificates are too long")
							: 0;
}

/* The daemon gives it to anybody; its folder is mostly closed to others. */
static int ask_certificate(const struct args *a, int error, struct buf *out)
{
	SCOPED(client_free) struct client *c = client_new(a->opts);

	return client_reaches(c) && client_get(c, "/-/ca.pem", out) == 0 ? 0 : say_error(a, error, NULL);
}

static int read_certificate(const struct args *a, struct buf *out)
{
	int r = fs_read_file(AT_FDCWD, a->opts->ca_path, out);

	if (r == -ENOENT || r == -EACCES) {
		buf_done(out);
		r = ask_certificate(a, r, out);
		if (r)
			return r;
	} else if (r < 0) {
		return say_error(a, r, NULL);
	}
	/* somebody may have put both into one file */
	if (!strstr(buf_str(out).ptr, "-----BEGIN CERTIFICATE-----") ||
	    strstr(buf_str(out).ptr, "PRIVATE KEY"))
		return tool_say(EX_CONFIG, "%s is not a certificate alone: nothing was printed",
				a->opts->ca_path);
	return 0;
}

static int append_system_roots(struct buf *out)
{
	static const char *const places[] = { "/etc/ssl/certs/ca-certificates.crt",
					      "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
					      "/etc/ssl/cert.pem" };

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		SCOPED_BUF roots = { 0 };

		buf_init(&roots, BUNDLE_BYTES_MAX);
		if (fs_read_file(AT_FDCWD, places[i], &roots) < 0 || roots.len == 0)
			continue;
		(void)buf_append_char(out, '\n');
		return buf_append_str(out, buf_str(&roots)) < 0
			       ? tool_say(EX_CONFIG, "%s is too long", places[i])
			       : 0;
	}
	return tool_say(EX_UNAVAILABLE,
			"the system's own authorities were not found: install ca-certificates");
}

static int write_file(const char *path, struct str text)
{
	SCOPED_FREE char *copy = xstrdup(path);
	SCOPED_FREE char *copy_name = xstrdup(path);
	SCOPED_FD int dir = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = dir < 0 ? -errno : fs_replace_file(dir, basename(copy_name), text.ptr, text.len, 0644);

	return r < 0 ? tool_say(EX_CANTCREAT, "%s cannot be written: %s", path, log_errno_name(r)) : 0;
}

static int export(const struct args *a)
{
	const char *path = arg_value(a, FLAG_ca_output);
	SCOPED_BUF text = { 0 };
	int code;

	buf_init(&text, BUNDLE_BYTES_MAX);
	code = read_certificate(a, &text);
	if (code == 0 && arg_has(a, FLAG_ca_bundle))
		code = append_system_roots(&text);
	if (code == 0 && arg_has(a, FLAG_ca_json))
		code = wrap_in_json(&text);
	if (code)
		return code;
	if (path && strcmp(path, "-") != 0)
		return write_file(path, buf_str(&text));
	(void)fwrite(text.bytes, 1, text.len, stdout);
	return 0;
}

/* --- show --- */

static void print_show(const struct args *a, const struct ca *ca, const char *const *names)
{
	int64_t expires = ca_expires_at(ca), now = (int64_t)time(NULL);
	time_t at = (time_t)expires;
	char day[32] = "?", span[AGE_TEXT];
	struct tm parts;

	if (gmtime_r(&at, &parts))
		(void)strftime(day, sizeof(day), "%Y-%m-%d", &parts);
	(void)printf("file         %s\nfingerprint  %s (SHA-256)\nuntil        %s (%s)\nspeaks for  ",
		     a->opts->ca_path, ca_fingerprint(ca), day,
		     span_text(expires > now ? (uint64_t)(expires - now) : 0, span));
	for (size_t i = 0; names[i]; i++)
		if (ca_covers(ca, str_from(names[i])))
			(void)printf(" %s", names[i]);
	(void)putchar('\n');
	for (size_t i = 0; names[i]; i++)
		if (!ca_covers(ca, str_from(names[i])))
			(void)tool_say(0, "%s is in intercept.hosts, and this authority may not speak for it",
				       names[i]);
}

static void print_show_json(const struct args *a, const struct ca *ca, const char *const *names)
{
	bool is_first = true;
	SCOPED_BUF out = { 0 };

	buf_init(&out, 1 << 20);
	(void)buf_append_str(&out, STR("{\"file\":"));
	(void)json_write_string(&out, str_from(a->opts->ca_path));
	(void)buf_appendf(&out, ",\"fingerprint_sha256\":\"%s\",\"expires_at\":%lld,\"names\":[",
			  ca_fingerprint(ca), (long long)ca_expires_at(ca));
	for (size_t i = 0; names[i]; i++) {
		if (!ca_covers(ca, str_from(names[i])))
			continue;
		(void)buf_append_str(&out, is_first ? STR("") : STR(","));
		(void)json_write_string(&out, str_from(names[i]));
		is_first = false;
	}
	(void)buf_append_str(&out, STR("]}"));
	(void)puts(buf_str(&out).ptr);
}

static int show(const struct args *a)
{
	const char *names[NAMES_MAX + 1];
	SCOPED(ca_free) struct ca *ca = NULL;
	SCOPED_FREE char *reason = NULL;
	int r = ca_open(a->opts->ca_path, (int64_t)time(NULL), &ca, &reason);

	if (r < 0)
		return say_error(a, r, reason);
	collect_names(a, names);
	if (arg_has(a, FLAG_ca_json))
		print_show_json(a, ca, names);
	else
		print_show(a, ca, names);
	return 0;
}

int verb_ca(const struct args *a)
{
	const char *word = a->rest_count == 1 ? a->rest[0] : "";

	if (!a->opts->ca_path || !*a->opts->ca_path)
		return tool_say(EX_CONFIG, "there is no place for it: set intercept.ca-file");
	if (strcmp(word, "init") == 0)
		return init(a);
	if (strcmp(word, "export") == 0)
		return export(a);
	if (strcmp(word, "show") == 0)
		return show(a);
	return tool_say(EX_USAGE, "init, export or show? See \"hfcache help ca\"");
}
