/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config - the layers, in their order: defaults, files, environment, --set. Promises in the door.
 *
 * Owns      the config while it is built (struct draft); a config with an error is never given out.
 * Never     reads a file itself (file.c), knows a type (value.c) or a rule (check.c).
 * Threads   any; a call holds all of its state.
 */
#include "config/config.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/alloc.h"
#include "common/http/token.h"
#include "config/priv.h"

#include "common/banned.h"

#define SHOWN_BYTES_MAX 80
#define REASON_BYTES_MAX 1024

void append_shown(struct buf *out, struct str s)
{
	for (size_t i = 0; i < s.len && i < SHOWN_BYTES_MAX; i++)
		(void)buf_append_char(out,
				      (unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f ? '?' : s.ptr[i]);
	if (s.len > SHOWN_BYTES_MAX)
		(void)buf_appendf(out, "...");
}

void draft_error(struct draft *d, const char *where, const char *format, ...)
{
	char text[REASON_BYTES_MAX];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	d->error_count++;
	/* a full buf drops the rest: the first errors are the ones to mend first */
	(void)buf_appendf(d->errors, "%s: %s\n", where, text);
}

/* A password in a URL, and a token anywhere, is refused, and must not get into a log by being refused. */
static void append_value_shown(struct buf *out, struct str text)
{
	const char *begin = memmem(text.ptr, text.len, "://", 3);
	const char *at = text.len ? memrchr(text.ptr, '@', text.len) : NULL;

	if (text_holds_token(text)) {
		(void)buf_appendf(out, "***");
		return;
	}
	if (!begin || !at || at < begin) {
		append_shown(out, text);
		return;
	}
	append_shown(out, str_from_range(text.ptr, begin + 3));
	(void)buf_appendf(out, "***");
	append_shown(out, str_from_range(at, text.ptr + text.len));
}

/* A key is not shown; the name of a credential is none. */
static bool is_to_be_hidden(const struct option *o, struct str text)
{
	return o->type == OPTION_SECRET && text.len && !str_starts_with(text, STR("credential:"));
}

static void note_origin(struct draft *d, const struct option *o, struct config_named *named, struct str text,
			const char *where)
{
	struct config_origin *origin =
		named ? named_origin(named, o) : &d->config->origins[o - config_options];

	free(origin->text);
	free(origin->where);
	text = str_trim(text);
	origin->text = is_to_be_hidden(o, text) ? xstrdup("***") : str_dup(text);
	origin->where = xstrdup(where);
}

void draft_set_option(struct draft *d, const struct option *o, struct config_named *named, struct str text,
		      const char *where)
{
	void *owner = named ? (void *)named : (void *)d->config;
	SCOPED_BUF reason = { 0 };
	SCOPED_BUF shown = { 0 };
	int r = 0;

	buf_init(&reason, REASON_BYTES_MAX);
	buf_init(&shown, REASON_BYTES_MAX);
	if (d->is_open_file && is_to_be_hidden(o, str_trim(text))) {
		(void)buf_appendf(
			&reason,
			"stands in a file that every user can read: chmod o-r, or use credential:NAME");
		r = -EACCES;
	}
	if (r == 0)
		r = value_parse(o, text, owner, &reason);
	if (r == 0)
		r = value_check(o, owner, &reason);
	if (r == 0) {
		note_origin(d, o, named, text, where);
		return;
	}
	if (is_to_be_hidden(o, str_trim(text)))
		(void)buf_appendf(&shown, "***");
	else
		append_value_shown(&shown, text);
	draft_error(d, where, "%s%s%s.%s = %.*s: it %.*s", o->section, named ? " " : "",
		    named ? named->name : "", o->key, STR_ARGS(buf_str(&shown)), STR_ARGS(buf_str(&reason)));
}

void draft_set(struct draft *d, struct str section, struct str key, struct str text, const char *where)
{
	const struct option *o = option_find(section, key);
	const struct option *near;
	SCOPED_BUF shown = { 0 };
	struct str name;
	unsigned family;

	if (named_split(section, &family, &name)) {
		named_set(d, family, name, key, text, where);
		return;
	}
	if (o) {
		draft_set_option(d, o, NULL, text, where);
		return;
	}
	near = option_nearest(section, key);
	buf_init(&shown, REASON_BYTES_MAX);
	append_shown(&shown, section);
	(void)buf_append_char(&shown, '.');
	append_shown(&shown, key);
	draft_error(d, where, "%.*s is not known%s; did you mean %s%s%s.%s?", STR_ARGS(buf_str(&shown)),
		    section_is_known(section) ? "" : ", nor is its section", near->section,
		    near->family == FAMILY_NONE ? "" : " ", named_word(near->family), near->key);
}

static void set_defaults(struct draft *d)
{
	for (size_t i = 0; i < config_option_count; i++)
		if (config_options[i].family == FAMILY_NONE)
			draft_set_option(d, &config_options[i], NULL,
					 str_from(config_options[i].default_text), "default");
}

/* --- files ----------------------------------------------------------------------------------------------- */

/* Visible files only: editors and orchestrators keep their own in dotted names. */
static int is_drop_in(const struct dirent *entry)
{
	struct str name = str_from(entry->d_name);

	return !str_starts_with(name, STR(".")) && str_ends_with(name, STR(".conf"));
}

/* By bytes, not by locale: the order of a site's files must not depend on who starts us. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void read_drop_ins(struct draft *d, const char *folder)
{
	struct dirent **entries = NULL;
	int count = scandir(folder, &entries, is_drop_in, by_name);

	if (count < 0) {
		if (errno != ENOENT && errno != ENOTDIR)
			draft_error(d, folder, "cannot be read (%s)", log_errno_name(-errno));
		return;
	}
	for (int i = 0; i < count; i++) {
		SCOPED_FREE char *path = xasprintf("%s/%s", folder, entries[i]->d_name);

		if (file_read(d, path) == -ENOENT)
			draft_error(d, path, "cannot be read (a link that leads nowhere)");
		free(entries[i]);
	}
	free(entries);
}

/* Returns -ENOENT when FILE of --config is not there. */
static int read_files(struct draft *d, const struct config_source *source)
{
	const char *root = source->system_root ? source->system_root : "";
	SCOPED_FREE char *vendor = xasprintf("%s/usr/lib/hfcached", root);
	SCOPED_FREE char *file = NULL;
	SCOPED_FREE char *folder = NULL;
	int r;

	if (source->file && source->file[0] == 0)
		return 0;
	file = source->file ? xstrdup(source->file) : xasprintf("%s/etc/hfcached/hfcached.conf", root);
	folder = source->file ? xasprintf("%s.d", file) : xasprintf("%s/etc/hfcached/conf.d", root);

	read_drop_ins(d, vendor);
	r = file_read(d, file);
	if (r == -ENOENT && source->file) {
		draft_error(d, file, "is not there");
		return -ENOENT;
	}
	read_drop_ins(d, folder);
	return 0;
}

/* --- environment ----------------------------------------------------------------------------------------- */

/*
 * Kubernetes puts variables for each Service of a namespace into every pod; one for a Service named
 * "hfcache" looks like ours: HFCACHE_SERVICE_HOST, HFCACHE_SERVICE_PORT_HTTP, HFCACHE_PORT,
 * HFCACHE_PORT_8090_TCP_ADDR, HFCACHE_WEB_PORT, ...
 */
static bool is_service_link(struct str name)
{
	SCOPED_FREE char *text = str_dup(name);

	return strstr(text, "_SERVICE_HOST") || strstr(text, "_SERVICE_PORT") || strstr(text, "_PORT_") ||
	       str_ends_with(name, STR("_PORT"));
}

static const struct option *find_variable(struct str name)
{
	for (size_t i = 0; i < config_option_count; i++) {
		SCOPED_FREE char *known = option_variable(&config_options[i]);

		if (config_options[i].family == FAMILY_NONE && str_eq(name, str_from(known)))
			return &config_options[i];
	}
	return NULL;
}

/* HFCACHE_SERVER_LISTEN -> the option nearest to server.listen. */
static const struct option *nearest_to_variable(struct str name)
{
	SCOPED_FREE char *lower = str_dup((struct str){ name.ptr + 8, name.len - 8 });
	struct str section, key;

	(void)str_cut(str_from(lower), '_', &section, &key);
	for (char *c = lower; *c; c++)
		if (*c == '_')
			*c = '-';
	return option_nearest(section, key);
}

static void set_from_variable(struct draft *d, struct str name, struct str text)
{
	const struct option *o = find_variable(name);
	SCOPED_FREE char *near = NULL;
	SCOPED_BUF where = { 0 };

	buf_init(&where, REASON_BYTES_MAX);
	append_shown(&where, name);
	if (o) {
		draft_set_option(d, o, NULL, text, buf_str(&where).ptr);
		return;
	}
	if (named_set_variable(d, name, text, buf_str(&where).ptr) || is_service_link(name))
		return;
	near = option_variable(nearest_to_variable(name));
	draft_error(d, buf_str(&where).ptr, "is not known; did you mean %s?", near);
}

static void read_environment(struct draft *d, char *const *environment)
{
	for (; environment && *environment; environment++) {
		struct str name, text;

		if (str_cut(str_from(*environment), '=', &name, &text) &&
		    str_starts_with(name, STR("HFCACHE_")))
			set_from_variable(d, name, text);
	}
}

/* --- command line ---------------------------------------------------------------------------------------- */

/* "section.key=value"; a section may have dots in it, so that the key begins after the last one. */
static void set_from_word(struct draft *d, const char *word)
{
	struct str name, text;
	bool has_value = str_cut(str_from(word), '=', &name, &text);
	const char *dot;
	SCOPED_BUF where = { 0 };

	buf_init(&where, REASON_BYTES_MAX);
	(void)buf_appendf(&where, "--set ");
	name = str_trim(name);
	append_shown(&where, name);
	dot = name.len ? memrchr(name.ptr, '.', name.len) : NULL;
	if (!has_value || !dot) {
		draft_error(d, buf_str(&where).ptr, "must have the form --set SECTION.KEY=VALUE");
		return;
	}
	draft_set(d, str_from_range(name.ptr, dot), str_from_range(dot + 1, name.ptr + name.len), text,
		  buf_str(&where).ptr);
}

/* --- doors ----------------------------------------------------------------------------------------------- */

int config_load(const struct config_source *source, struct config **ret_config, struct buf *errors)
{
	struct draft d = { .config = xcalloc(1, sizeof(struct config)), .errors = errors };
	int r;

	d.config->origins = xcalloc(config_option_count, sizeof(struct config_origin));
	set_defaults(&d);
	r = read_files(&d, source);
	read_environment(&d, source->environment);
	for (const char *const *set = source->sets; set && *set; set++)
		set_from_word(&d, *set);
	named_check(&d);
	if (r == 0 && d.error_count)
		r = -EINVAL;
	if (r < 0) {
		config_free(d.config);
		return r;
	}
	*ret_config = d.config;
	return 0;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	named_free(c);
	for (size_t i = 0; i < config_option_count; i++) {
		if (config_options[i].family == FAMILY_NONE)
			config_value_done(&config_options[i], c);
		free(c->origins[i].text);
		free(c->origins[i].where);
	}
	free(c->origins);
	free(c);
}

const char *config_origin(const struct config *c, const char *section, const char *key)
{
	const struct option *o = option_find(str_from(section), str_from(key));
	const struct config_named *named;
	struct str name;
	unsigned family;

	if (named_split(str_from(section), &family, &name)) {
		named = named_find(c, family, name);
		o = named_option(family, str_from(key));
		return named && o ? named_origin(named, o)->where : NULL;
	}
	return o ? c->origins[o - config_options].where : NULL;
}

size_t config_changes_for_restart(const struct config *running, const struct config *next, struct buf *names)
{
	size_t count = 0;

	for (size_t i = 0; i < config_option_count; i++) {
		const struct option *o = &config_options[i];

		if (o->family != FAMILY_NONE || o->can_reload ||
		    strcmp(running->origins[i].text, next->origins[i].text) == 0)
			continue;
		(void)buf_appendf(names, "%s%s.%s", count ? " " : "", o->section, o->key);
		count++;
	}
	return named_changes(running, next, names, count);
}
