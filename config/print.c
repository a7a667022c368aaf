/* SPDX-License-Identifier: Apache-2.0 */
/*
 * print - the table for people: the configuration in force, the example file, the manual's list.
 *
 * Never     prints a secret: what is kept of one for showing are three stars.
 * Promises  (1) what config_show() and config_example() print is a valid configuration file.
 */
#include "config/config.h"
#include "config/priv.h"

#include "common/banned.h"

#define HELP_COLUMNS 100

static bool begins_section(size_t i)
{
	return i == 0 || strcmp(config_options[i].section, config_options[i - 1].section) != 0;
}

static void show_option(const struct option *o, const struct config_origin *origin, struct buf *out)
{
	(void)buf_appendf(out, "# %s\n%s =%s%s\n", origin->where, o->key, origin->text[0] ? " " : "",
			  origin->text);
}

static void show_family(const struct config *c, unsigned family, struct buf *out)
{
	for (size_t n = 0; n < c->families[family].count; n++) {
		const struct config_named *named = c->families[family].items[n];
		bool has_head = false;

		for (size_t i = 0; i < config_option_count; i++) {
			const struct option *o = &config_options[i];

			if (o->family != family)
				continue;
			if (!has_head)
				(void)buf_appendf(out, "\n[%s %s]\n", o->section, named->name);
			has_head = true;
			show_option(o, named_origin(named, o), out);
		}
	}
}

int config_show(const struct config *c, struct buf *out)
{
	for (size_t i = 0; i < config_option_count && config_options[i].family == FAMILY_NONE; i++) {
		if (begins_section(i))
			(void)buf_appendf(out, "%s[%s]\n", i ? "\n" : "", config_options[i].section);
		show_option(&config_options[i], &c->origins[i], out);
	}
	for (unsigned f = 0; f < CONFIG_FAMILY_COUNT; f++)
		show_family(c, f, out);
	return buf_error(out);
}

/* Words of text in lines of at most HELP_COLUMNS, each after "# ". */
static void append_comment(struct buf *out, struct str text)
{
	size_t column = 0;

	while (text.len) {
		struct str word;

		(void)str_cut(text, ' ', &word, &text);
		if (column && column + 1 + word.len > HELP_COLUMNS) {
			(void)buf_append_char(out, '\n');
			column = 0;
		}
		(void)buf_append_str(out, column ? STR(" ") : STR("# "));
		(void)buf_append_str(out, word);
		column += 1 + word.len;
	}
	(void)buf_append_char(out, '\n');
}

int config_example(struct buf *out)
{
	append_comment(
		out,
		STR("hfcached.conf - every option with its default. Take the # away from an option's line to "
		    "change it. Comments stand on lines of their own. See hfcached.conf(5)."));
	for (size_t i = 0; i < config_option_count; i++) {
		const struct option *o = &config_options[i];

		(void)buf_append_char(out, '\n');
		if (begins_section(i) && o->family == FAMILY_NONE)
			(void)buf_appendf(out, "[%s]\n", o->section);
		else if (begins_section(i)) /* any number of them: there is none without being written */
			(void)buf_appendf(out, "#[%s %s]\n", o->section, named_word(o->family));
		append_comment(out, str_from(o->help));
		(void)buf_appendf(out, "#%s =%s%s\n", o->key, named_sample(o)[0] ? " " : "", named_sample(o));
	}
	return buf_error(out);
}

/* Everything that scdoc might take for a sign of its own. */
static void append_scdoc(struct buf *out, struct str text)
{
	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] && strchr("\\_*#[]|-.!~", text.ptr[i]))
			(void)buf_append_char(out, '\\');
		(void)buf_append_char(out, text.ptr[i]);
	}
}

static void append_option_manual(struct buf *out, const struct option *o)
{
	(void)buf_appendf(out, "*%s*\n\t", o->key);
	append_scdoc(out, str_from(o->help));
	(void)buf_appendf(out, "++\nValue: ");
	append_scdoc(out, str_from(value_form(o)));
	(void)buf_appendf(out, ". Default: ");
	if (o->default_text[0]) {
		(void)buf_append_char(out, '*');
		append_scdoc(out, str_from(o->default_text));
		(void)buf_append_char(out, '*');
	} else {
		(void)buf_appendf(out, "empty");
	}
	(void)buf_appendf(out, ".%s\n\n", o->can_reload ? " May change on SIGHUP." : "");
}

int config_manual(struct buf *out)
{
	for (size_t i = 0; i < config_option_count; i++) {
		if (begins_section(i)) /* headings are taken as they are */
			(void)buf_appendf(out, "## [%s%s%s]\n\n", config_options[i].section,
					  config_options[i].family == FAMILY_NONE ? "" : " ",
					  named_word(config_options[i].family));
		append_option_manual(out, &config_options[i]);
	}
	return buf_error(out);
}
