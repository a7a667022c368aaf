/* SPDX-License-Identifier: Apache-2.0 */
/*
 * named - sections that may stand there any number of times, each with a name: [backend near].
 *
 * A named section comes into being with the first of its keys that any layer sets; the layers then go on key by key, as
 * everywhere else.
 * Threads   any; a call holds all of its state.
 */
#include "config/priv.h"

#include <errno.h>
#include <stdlib.h>

#include "common/alloc.h"

#include "common/banned.h"

static const struct family {
	const char *word;
	size_t bytes;        /* of its struct */
	const char *needs;   /* a key without which it means nothing */
	const char *sample;  /* a value for that, for the example file */
	const char *letters; /* of its names, besides letters and digits */
	size_t name_bytes_max;
	bool is_pair; /* its names are two words with a slash between them */
} families[CONFIG_FAMILY_COUNT] = {
	[CONFIG_BACKEND] = { "backend", sizeof(struct config_backend), "url", "http://127.0.0.1:3000", "-_.",
			     64, false },
	[CONFIG_SPACE] = { "space", sizeof(struct config_space), "url", "http://127.0.0.1:7860", "-_./", 200,
			   true },
};

bool named_split(struct str section, unsigned *ret_family, struct str *ret_name)
{
	struct str word;

	section = str_trim(section);
	(void)str_cut(section, ' ', &word, ret_name);
	*ret_name = str_trim(*ret_name);
	for (unsigned f = 0; f < CONFIG_FAMILY_COUNT; f++)
		if (str_eq_nocase(word, str_from(families[f].word))) {
			*ret_family = f;
			return true;
		}
	return false;
}

const struct option *named_option(unsigned family, struct str key)
{
	for (size_t i = 0; i < config_option_count; i++)
		if (config_options[i].family == family && str_eq_nocase(str_from(config_options[i].key), key))
			return &config_options[i];
	return NULL;
}

const char *named_sample(const struct option *o)
{
	bool is_needed = o->family != FAMILY_NONE && strcmp(o->key, families[o->family].needs) == 0;

	return is_needed ? families[o->family].sample : o->default_text;
}

const char *named_word(unsigned family)
{
	return family == FAMILY_NONE ? "" : families[family].is_pair ? "OWNER/NAME" : "NAME";
}

/* The first row of a family: origins are counted from there. */
static size_t first_row(unsigned family)
{
	size_t i = 0;

	while (i < config_option_count && config_options[i].family != family)
		i++;
	return i;
}

struct config_origin *named_origin(const struct config_named *named, const struct option *o)
{
	return &named->origins[(size_t)(o - config_options) - first_row(o->family)];
}

struct config_named *named_find(const struct config *c, unsigned family, struct str name)
{
	for (size_t i = 0; i < c->families[family].count; i++)
		if (str_eq_nocase(str_from(c->families[family].items[i]->name), name))
			return c->families[family].items[i];
	return NULL;
}

static bool is_name(const struct family *f, struct str name)
{
	struct str owner, rest;

	if (name.len == 0 || name.len > f->name_bytes_max)
		return false;
	if (f->is_pair && (!str_cut(name, '/', &owner, &rest) || owner.len == 0 || rest.len == 0 ||
			   memchr(rest.ptr, '/', rest.len)))
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.ptr[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      (c && strchr(f->letters, c))))
			return false;
	}
	return true;
}

static struct config_named *add(struct draft *d, unsigned family, struct str name, const char *where)
{
	struct config_named *named = xcalloc(1, families[family].bytes);

	named->name = str_dup(name);
	named->where = xstrdup(where);
	named->origins = xcalloc(config_option_count - first_row(family), sizeof(named->origins[0]));
	d->config->families[family].items[d->config->families[family].count++] = named;
	for (size_t i = first_row(family); i < config_option_count && config_options[i].family == family; i++)
		draft_set_option(d, &config_options[i], named, str_from(config_options[i].default_text),
				 "default");
	return named;
}

/* NULL: it cannot be, and why has been noted. */
static struct config_named *find_or_add(struct draft *d, unsigned family, struct str name, const char *where)
{
	const struct family *f = &families[family];
	struct config_named *named = named_find(d->config, family, name);

	if (named)
		return named;
	if (!is_name(f, name))
		draft_error(d, where, "[%s %s] needs a name of %s1 to %zu letters, digits and any of %s",
			    f->word, named_word(family),
			    strchr(f->letters, '/') ? "the form OWNER/NAME, " : "", f->name_bytes_max,
			    f->letters);
	else if (d->config->families[family].count == CONFIG_NAMED_MAX)
		draft_error(d, where, "is one more than the %d sections [%s %s] that there may be",
			    CONFIG_NAMED_MAX, f->word, named_word(family));
	else
		named = add(d, family, name, where);
	return named;
}

static const struct option *nearest(unsigned family, struct str key)
{
	const struct option *o = option_nearest(str_from(families[family].word), key);

	return o->family == family ? o : &config_options[first_row(family)];
}

void named_set(struct draft *d, unsigned family, struct str name, struct str key, struct str text,
	       const char *where)
{
	const struct option *o = named_option(family, key);
	struct config_named *named;
	SCOPED_BUF shown = { 0 };

	if (o) {
		named = find_or_add(d, family, name, where);
		if (named)
			draft_set_option(d, o, named, text, where);
		return;
	}
	buf_init(&shown, 1024);
	append_shown(&shown, key);
	draft_error(d, where, "%.*s is not known in [%s %s]; did you mean %s?", STR_ARGS(buf_str(&shown)),
		    families[family].word, named_word(family), nearest(family, key)->key);
}

/* --- environment --- */

/* The section whose name would be spelled so in a variable, or a new one. */
static void set_spelled(struct draft *d, const struct option *o, struct str spelled, struct str text,
			const char *where)
{
	struct config_named *named = NULL;
	SCOPED_FREE char *name = str_dup(spelled);

	for (size_t i = 0; i < d->config->families[o->family].count && !named; i++) {
		SCOPED_FREE char *known = xstrdup(d->config->families[o->family].items[i]->name);

		to_variable(known);
		if (str_eq(str_from(known), spelled))
			named = d->config->families[o->family].items[i];
	}
	for (char *c = name; *c; c++)
		*c = *c == '_' ? '-' : *c >= 'A' && *c <= 'Z' ? (char)(*c | 0x20) : *c;
	if (!named)
		named = find_or_add(d, o->family, str_from(name), where);
	if (named)
		draft_set_option(d, o, named, text, where);
}

bool named_set_variable(struct draft *d, struct str variable, struct str text, const char *where)
{
	for (size_t i = 0; i < config_option_count; i++) {
		const struct option *o = &config_options[i];
		SCOPED_FREE char *begin = NULL, *end = NULL;
		size_t both;

		if (o->family == FAMILY_NONE)
			continue;
		begin = xasprintf("HFCACHE_%s_", o->section);
		end = xasprintf("_%s", o->key);
		to_variable(begin);
		to_variable(end);
		both = strlen(begin) + strlen(end);
		if (variable.len <= both || !str_starts_with(variable, str_from(begin)) ||
		    !str_ends_with(variable, str_from(end)))
			continue;
		set_spelled(d, o, (struct str){ variable.ptr + strlen(begin), variable.len - both }, text,
			    where);
		return true;
	}
	return false;
}

/* --- the end --- */

void named_check(struct draft *d)
{
	for (unsigned f = 0; f < CONFIG_FAMILY_COUNT; f++) {
		const struct option *o = named_option(f, str_from(families[f].needs));

		for (size_t i = 0; i < d->config->families[f].count; i++) {
			const struct config_named *named = d->config->families[f].items[i];
			const char *text = named_origin(named, o)->text;

			if (!text || !*text)
				draft_error(d, named->where, "[%s %s] has no %s", families[f].word,
					    named->name, o->key);
		}
	}
}

static void free_one(struct config_named *named, unsigned family)
{
	for (size_t i = first_row(family); i < config_option_count && config_options[i].family == family;
	     i++) {
		struct config_origin *origin = named_origin(named, &config_options[i]);

		config_value_done(&config_options[i], named);
		free(origin->text);
		free(origin->where);
	}
	free(named->origins);
	free(named->name);
	free(named->where);
	free(named);
}

void named_free(struct config *c)
{
	for (unsigned f = 0; f < CONFIG_FAMILY_COUNT; f++)
		for (size_t i = 0; i < c->families[f].count; i++)
			free_one(c->families[f].items[i], f);
}

/* --- after a reload --- */

static size_t note_change(struct buf *names, const char *word, const char *name, const char *key,
			  size_t count)
{
	(void)buf_appendf(names, "%s%s %s%s%s", count ? " " : "", word, name, key ? "." : "", key ? key : "");
	return count + 1;
}

static size_t changes_of(const struct config_named *was, const struct config_named *is, unsigned family,
			 struct buf *names, size_t count)
{
	for (size_t i = first_row(family); i < config_option_count && config_options[i].family == family;
	     i++) {
		const struct option *o = &config_options[i];

		if (!o->can_reload && strcmp(named_origin(was, o)->text, named_origin(is, o)->text) != 0)
			count = note_change(names, o->section, is->name, o->key, count);
	}
	return count;
}

size_t named_changes(const struct config *running, const struct config *next, struct buf *names, size_t count)
{
	for (unsigned f = 0; f < CONFIG_FAMILY_COUNT; f++) {
		for (size_t i = 0; i < next->families[f].count; i++) {
			const struct config_named *is = next->families[f].items[i];
			const struct config_named *was = named_find(running, f, str_from(is->name));

			count = was ? changes_of(was, is, f, names, count)
				    : note_change(names, families[f].word, is->name, NULL, count);
		}
		for (size_t i = 0; i < running->families[f].count; i++) {
			const char *name = running->families[f].items[i]->name;

			if (!named_find(next, f, str_from(name)))
				count = note_change(names, families[f].word, name, NULL, count);
		}
	}
	return count;
}
