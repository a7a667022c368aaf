/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rights - from options, a list and credentials to the rules of auth. Door in rights.h.
 */
#include "rights.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sysexits.h>
#include "common/alloc.h"
#include "common/path.h"
#include "house.h"

#define ACL_BYTES_MAX (1 << 20)
#define CREDENTIAL_BYTES_MAX 65536
#define KEYS_MAX 1000
#define SUBJECT_KEY_BYTES 32

/* What one load holds while it runs. */
struct load {
	const struct config *c;
	struct rights *r;
	struct buf *errors;
	size_t error_count;
};

static void error_at(struct load *l, const char *section, const char *key, const char *text)
{
	l->error_count++;
	(void)buf_appendf(l->errors, "%s: %s.%s %s\n", config_origin(l->c, section, key), section, key, text);
}

static int read_whole(int fd, struct buf *text)
{
	char chunk[4096];
	ssize_t n;
	int r = 0;

	while (r == 0 && ((n = read(fd, chunk, sizeof(chunk))) > 0 || (n < 0 && errno == EINTR)))
		if (n > 0)
			r = buf_append(text, chunk, (size_t)n);
	secret_wipe(chunk, sizeof(chunk));
	return r < 0 ? r : n < 0 ? -errno : 0;
}

/* Opens, looks at whose it is, reads. NULL: *text is the file's; else what is wrong with it. */
static const char *read_guarded(const char *path, mode_t forbidden, struct buf *text)
{
	SCOPED_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return errno == ENOENT ? "is not there" : "cannot be read";
	if (!S_ISREG(st.st_mode))
		return "is no file";
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return "must belong to root or to the user of this daemon: chown root";
	if (st.st_mode & forbidden & S_IROTH)
		return "can be read by everybody: chmod o-r";
	if (st.st_mode & forbidden)
		return "can be changed by others than its owner: chmod go-w";
	r = read_whole(fd, text);
	return r == -E2BIG ? "is too large" : r < 0 ? "cannot be read" : NULL;
}

/* --- the list --- */

static void load_acl(struct load *l)
{
	const char *path = l->c->offline_acl_file, *trouble;
	SCOPED_FREE char *said = NULL;
	SCOPED_BUF text;

	buf_init(&text, ACL_BYTES_MAX);
	if (l->c->offline_access != OFFLINE_ACL)
		return;
	if (!*path) {
		error_at(l, "offline", "access", "is acl, and offline.acl-file names no list");
		return;
	}
	trouble = read_guarded(path, S_IWGRP | S_IWOTH, &text);
	if (trouble) {
		said = xasprintf("= %s %s", path, trouble);
		error_at(l, "offline", "acl-file", said);
	} else if (acl_parse(path, buf_str(&text), &l->r->rules.acl, l->errors) < 0) {
		l->error_count++;
	}
}

/* --- the daemon's own token --- */

/* true: *text holds it. */
static bool read_credential(struct load *l, const char *section, const char *key, const char *name,
			    struct buf *text)
{
	const char *folder = getenv("CREDENTIALS_DIRECTORY"), *trouble;
	SCOPED_FREE char *path = NULL;
	SCOPED_FREE char *said = NULL;

	if (!folder || folder[0] != '/') {
		said = xasprintf(
			"= %s: there are no credentials here ($CREDENTIALS_DIRECTORY is not set); see "
			"LoadCredential= in systemd.exec(5)",
			name);
		error_at(l, section, key, said);
		return false;
	}
	path = xasprintf("%s/%s", folder, name);
	trouble = read_guarded(path, S_IROTH | S_IWGRP | S_IWOTH, text);
	if (!trouble)
		return true;
	said = xasprintf("= %s: %s %s", name, path, trouble);
	error_at(l, section, key, said);
	return false;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The next word of *text, cut off it; empty at its end. */
static struct str next_word(struct str *text)
{
	size_t begin = 0, end;

	while (begin < text->len && is_space(text->ptr[begin]))
		begin++;
	for (end = begin; end < text->len && !is_space(text->ptr[end]); end++)
		;
	struct str word = { text->ptr + begin, end - begin };

	*text = (struct str){ text->ptr + end, text->len - end };
	return word;
}

/* keys has room for KEYS_MAX; what they point at is text's. */
static size_t find_keys(struct load *l, struct str text, struct str *keys)
{
	size_t count = 0;

	for (struct str word = next_word(&text); word.len; word = next_word(&text)) {
		if (count == KEYS_MAX || !lender_key_is_sound(word)) {
			error_at(l, "hub", "token-client-keys",
				 "must hold at most 1000 keys, each of 20 to 1024 printable characters");
			return 0;
		}
		keys[count++] = word;
	}
	if (count == 0)
		error_at(l, "hub", "token-client-keys", "holds no key");
	return count;
}

static void check_words(struct load *l)
{
	for (size_t i = 0; i < l->c->hub_token_repos.count; i++)
		if (!repo_pattern_is_sound(str_from(l->c->hub_token_repos.words[i])))
			error_at(l, "hub", "token-repos",
				 "has a pattern that begins with none of models/, datasets/, spaces/, "
				 "kernels/ and *");
	for (size_t i = 0; i < l->c->hub_token_clients.count; i++)
		if (!client_is_sound(str_from(l->c->hub_token_clients.words[i])))
			error_at(l, "hub", "token-clients",
				 "has a word that is none of ADDRESS, ADDRESS/BITS and uid:NUMBER");
}

/* A token for all who come, for all repos, is what nobody means: each part must be said. */
static bool is_complete(struct load *l)
{
	bool has_token = *l->c->hub_token_credential, has_repos = l->c->hub_token_repos.count > 0,
	     has_clients = l->c->hub_token_clients.count > 0 || *l->c->hub_token_client_keys;

	if (!has_token && has_repos)
		error_at(l, "hub", "token-repos", "is set, and hub.token-credential is not");
	if (!has_token && *l->c->hub_token_client_keys)
		error_at(l, "hub", "token-client-keys", "is set, and hub.token-credential is not");
	if (!has_token && l->c->hub_token_clients.count)
		error_at(l, "hub", "token-clients", "is set, and hub.token-credential is not");
	if (has_token && !has_repos)
		error_at(l, "hub", "token-credential",
			 "is set: hub.token-repos must say for which repositories it is lent");
	if (has_token && !has_clients)
		error_at(l, "hub", "token-credential",
			 "is set: hub.token-clients or hub.token-client-keys must say to whom it is lent");
	return has_token && has_repos && has_clients;
}

static void load_lender(struct load *l)
{
	SCOPED_FREE struct str *keys = xcalloc(KEYS_MAX, sizeof(*keys));
	struct lender_opts opts = { .repos = (const char *const *)l->c->hub_token_repos.words,
				    .clients = (const char *const *)l->c->hub_token_clients.words,
				    .keys = keys };
	size_t errors_before = l->error_count;
	SCOPED_BUF token, key_text;
	struct str rest;

	buf_init(&token, CREDENTIAL_BYTES_MAX);
	buf_init(&key_text, CREDENTIAL_BYTES_MAX);
	if (!is_complete(l))
		return;
	check_words(l);
	if (read_credential(l, "hub", "token-credential", l->c->hub_token_credential, &token)) {
		rest = buf_str(&token);
		opts.token = next_word(&rest);
		if (!token_is_sound(opts.token) || opts.token.len > LENDER_TOKEN_MAX || next_word(&rest).len)
			error_at(l, "hub", "token-credential", "must hold one token and nothing else");
	}
	if (*l->c->hub_token_client_keys &&
	    read_credential(l, "hub", "token-client-keys", l->c->hub_token_client_keys, &key_text))
		opts.key_count = find_keys(l, buf_str(&key_text), keys);
	if (l->error_count == errors_before && lender_new(&opts, &l->r->rules.lender) < 0)
		error_at(l, "hub", "token-credential", "cannot be used as it is");
	secret_wipe(token.bytes, token.len);
	secret_wipe(key_text.bytes, key_text.len);
}

/* --- keys of backends --- */

static void load_backend_key(struct load *l, size_t i)
{
	const struct config_backend *backend = config_backend(l->c, i);
	SCOPED_FREE char *section = xasprintf("backend %s", backend->named.name);
	struct str key = str_from(backend->backend_key), rest;
	SCOPED_BUF text;

	buf_init(&text, CREDENTIAL_BYTES_MAX);
	if (str_starts_with(key, STR("credential:"))) {
		if (!read_credential(l, section, "key", key.ptr + strlen("credential:"), &text))
			return;
		rest = buf_str(&text);
		key = next_word(&rest);
		if (!token_is_sound(key) || next_word(&rest).len) {
			error_at(l, section, "key", "must hold one key and nothing else");
			key = STR("");
		}
	}
	if (key.len)
		l->r->backend_keys[i] = str_dup(key);
	secret_wipe(text.bytes, text.len);
}

/* --- doors --- */

/* "127.0.0.1:8090", "[::1]:1", "localhost:1", "unix:/path": nobody from elsewhere gets there. */
static bool is_own_address(struct str word)
{
	return str_starts_with(word, STR("unix:")) || str_starts_with(word, STR("127.")) ||
	       str_starts_with(word, STR("[::1]:")) || str_starts_with(word, STR("localhost:"));
}

static bool is_reachable(const struct config *c)
{
	for (size_t i = 0; i < c->server_listen.count; i++)
		if (!is_own_address(str_from(c->server_listen.words[i])))
			return true;
	return false;
}

int rights_load(const struct config *config, struct rights **ret_rights, struct buf *errors)
{
	struct load l = { .c = config, .r = xcalloc(1, sizeof(*l.r)), .errors = errors };

	l.r->rules = (struct auth_rules){ .offline_access = config->offline_access,
					  .offline_grace_ms = config->offline_grace,
					  .grant_ttl_ms = config->hub_grant_ttl,
					  .public_ttl_ms = config->hub_public_ttl,
					  .deny_ttl_ms = config->hub_deny_ttl,
					  .refuses_clear_tokens = config->server_strict };
	l.r->is_reachable = is_reachable(config);
	load_acl(&l);
	load_lender(&l);
	for (size_t i = 0; i < config_backend_count(config); i++)
		load_backend_key(&l, i);
	if (l.error_count) {
		rights_free(l.r);
		return -EINVAL;
	}
	*ret_rights = l.r;
	return 0;
}

void rights_free(struct rights *r)
{
	if (!r)
		return;
	acl_unref(r->rules.acl);
	lender_unref(r->rules.lender);
	for (size_t i = 0; i < CONFIG_NAMED_MAX; i++) {
		if (r->backend_keys[i])
			secret_wipe(r->backend_keys[i], strlen(r->backend_keys[i]));
		free(r->backend_keys[i]);
	}
	free(r);
}

void rights_warn(const struct rights *r)
{
	if (r->rules.offline_access == OFFLINE_OPEN)
		log_warning(
			"main",
			"offline.access is open: while upstream is unreachable everybody who gets to this "
			"server reads everything it holds, private repositories too",
			LOG_END);
	if (r->is_reachable && !r->rules.refuses_clear_tokens)
		log_warning("main",
			    "other machines can connect, and nothing encrypts what they send: their tokens "
			    "travel "
			    "in the clear; put a TLS proxy in front and listen on 127.0.0.1, or set "
			    "server.strict",
			    LOG_END);
}

/* --- --subject --- */

int rights_print_subject(const char *store_path)
{
	SCOPED_FD int folder = open(store_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char line[LENDER_TOKEN_MAX + 2], hex[2 * SUBJECT_BYTES + 1];
	uint8_t id[SUBJECT_BYTES];
	struct str rest, token;
	SCOPED_BUF key;

	buf_init(&key, SUBJECT_KEY_BYTES);
	if (folder < 0 || fs_read_file(folder, "key", &key) < 0 || key.len != SUBJECT_KEY_BYTES)
		return say(EX_IOERR,
			   "cannot read the key in %s: it is made when hfcached first starts, for its user "
			   "alone",
			   store_path);
	if (isatty(STDIN_FILENO))
		(void)fputs("Token: ", stderr);
	if (!fgets(line, sizeof(line), stdin))
		line[0] = 0;
	rest = str_from(line);
	token = next_word(&rest);
	if (!token_is_sound(token) || next_word(&rest).len) {
		secret_wipe(line, sizeof(line));
		return say(EX_USAGE, "one token is expected on standard input");
	}
	subject_id((const uint8_t *)key.bytes, token, id);
	format_hex(id, SUBJECT_BYTES, hex);
	secret_wipe(line, sizeof(line));
	secret_wipe(key.bytes, key.len);
	(void)printf("token:%s\n", hex);
	return 0;
}
