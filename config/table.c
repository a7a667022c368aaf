/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table - options.def in memory, and finding a row by name, exactly or nearly.
 *
 * Never     reads anything from outside but the name it is asked for.
 * Threads   any; the table is constant.
 */
#include "config/priv.h"

#include <stddef.h>

#include "common/alloc.h"

#include "common/banned.h"

const struct option config_options[] = {
#define OPTION(section_, key_, field_, type_, default_, reload_, help_)                                      \
	{ #section_, #key_,   OPTION_##type_, FAMILY_NONE, offsetof(struct config, field_),                  \
	  default_,  reload_, help_ },
#define NAMED(family, ...) NAMED_##family(__VA_ARGS__)
#define NAMED_backend(key_, field_, type_, default_, reload_, help_)                                         \
	{ "backend", #key_,   OPTION_##type_, CONFIG_BACKEND, offsetof(struct config_backend, field_),       \
	  default_,  reload_, help_ },
#define NAMED_space(key_, field_, type_, default_, reload_, help_)                                           \
	{ "space",  #key_,   OPTION_##type_, CONFIG_SPACE, offsetof(struct config_space, field_),            \
	  default_, reload_, help_ },
#include "config/options.def"
#undef NAMED_space
#undef NAMED_backend
#undef NAMED
#undef OPTION
};
const size_t config_option_count = sizeof(config_options) / sizeof(config_options[0]);

/* Longer names are cut before they are compared: no known one comes near. */
#define NAME_COMPARED_MAX 40
/* A key in the wrong section is a smaller mistake than three wrong letters. */
#define SECTION_MISTAKES_MAX 2

bool section_is_known(struct str section)
{
	for (size_t i = 0; i < config_option_count; i++)
		if (str_eq_nocase(str_from(config_options[i].section), section))
			return true;
	return false;
}

const struct option *option_find(struct str section, struct str key)
{
	for (size_t i = 0; i < config_option_count; i++) {
		const struct option *o = &config_options[i];

		if (o->family == FAMILY_NONE && str_eq_nocase(str_from(o->section), section) &&
		    str_eq_nocase(str_from(o->key), key))
			return o;
	}
	return NULL;
}

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t ab = a < b ? a : b;

	return ab < c ? ab : c;
}

/*
 * Letters to add, leave out, replace or swap with their neighbour (optimal string alignment, three rows at a
 * time).
 */
static size_t mistakes_between(struct str a, struct str b)
{
	size_t rows[3][NAME_COMPARED_MAX + 1];
	size_t *before = rows[0], *above = rows[1], *row = rows[2];

	a.len = a.len < NAME_COMPARED_MAX ? a.len : NAME_COMPARED_MAX;
	b.len = b.len < NAME_COMPARED_MAX ? b.len : NAME_COMPARED_MAX;
	for (size_t j = 0; j <= b.len; j++)
		before[j] = above[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		size_t *spare = before;

		row[0] = i;
		for (size_t j = 1; j <= b.len; j++) {
			bool is_same = str_eq_nocase((struct str){ a.ptr + i - 1, 1 },
						     (struct str){ b.ptr + j - 1, 1 });

			row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + !is_same);
			if (i > 1 && j > 1 && a.ptr[i - 1] == b.ptr[j - 2] && a.ptr[i - 2] == b.ptr[j - 1] &&
			    before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
		before = above;
		above = row;
		row = spare;
	}
	return above[b.len];
}

const struct option *option_nearest(struct str section, struct str key)
{
	const struct option *best = &config_options[0];
	size_t best_mistakes = SIZE_MAX;
	struct str word, name;
	bool has_name = str_cut(section, ' ', &word, &name);

	for (size_t i = 0; i < config_option_count; i++) {
		const struct option *o = &config_options[i];
		size_t mistakes = mistakes_between(has_name ? word : section, str_from(o->section));

		if (mistakes > SECTION_MISTAKES_MAX)
			mistakes = SECTION_MISTAKES_MAX;
		mistakes += mistakes_between(key, str_from(o->key));
		if (mistakes < best_mistakes) {
			best_mistakes = mistakes;
			best = o;
		}
	}
	return best;
}

void to_variable(char *text)
{
	for (char *c = text; *c; c++) {
		if (*c == '-' || *c == '.' || *c == '/')
			*c = '_';
		else if (*c >= 'a' && *c <= 'z')
			*c = (char)(*c - 'a' + 'A');
	}
}

char *option_variable(const struct option *o)
{
	char *name =
		xasprintf("HFCACHE_%s_%s%s", o->section, o->family == FAMILY_NONE ? "" : "NAME_", o->key);

	to_variable(name);
	return name;
}
