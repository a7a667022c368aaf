/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool - from the words of the command line to a verb.
 *
 * Threads   one.
 */
#include "tool/priv.h"

#include <getopt.h>
#include <locale.h>
#include <stdarg.h>
#include <sysexits.h>
#include "common/alloc.h"

/* getopt's values of flags: from here on, in the order of the table. */
#define FLAG_FIRST 256
#define HELP (FLAG_FIRST + FLAG_COUNT)

static int (*const verb_functions[VERB_COUNT])(const struct args *) = {
#define VERB(verb, ...) verb_##verb,
#define FLAG(...)
#include "tool/verbs.def"
#undef FLAG
#undef VERB
};

static int say(int exit_code, void (*print)(FILE *out, struct str text), const char *format, va_list args)
{
	SCOPED_FREE char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	(void)fputs("hfcache: ", stderr);
	if (out) {
		(void)vfprintf(out, format, args);
		if (fclose(out) == 0)
			print(stderr, str_from(text));
	}
	(void)fputc('\n', stderr);
	return exit_code;
}

int tool_say(int exit_code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	exit_code = say(exit_code, print_plain, format, args);
	va_end(args);
	return exit_code;
}

int tool_say_lines(int exit_code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	exit_code = say(exit_code, print_plain_lines, format, args);
	va_end(args);
	return exit_code;
}

const char *arg_value(const struct args *a, enum flag flag)
{
	for (size_t i = a->count; i > 0; i--)
		if (a->given[i - 1].flag == flag)
			return a->given[i - 1].value;
	return NULL;
}

static int find_verb(const char *word)
{
	for (int i = 0; i < VERB_COUNT; i++)
		if (strcmp(word, verb_rows[i].name) == 0)
			return i;
	return -1;
}

/* What getopt_long() wants to know of one verb's flags. */
struct grammar {
	char letters[2 * FLAG_COUNT + 3];
	struct option options[FLAG_COUNT + 2];
};

static void make_grammar(enum verb verb, struct grammar *ret)
{
	size_t letters = 0, options = 0;

	*ret = (struct grammar){ .letters = "" };
	for (unsigned i = 0; i < FLAG_COUNT; i++) {
		const struct flag_row *f = &flag_rows[i];

		if (f->verb != verb)
			continue;
		if (f->letter) {
			ret->letters[letters++] = (char)f->letter;
			if (f->argument)
				ret->letters[letters++] = ':';
		}
		ret->options[options++] =
			(struct option){ f->name, f->argument ? required_argument : no_argument, NULL,
					 (int)(FLAG_FIRST + i) };
	}
	ret->letters[letters] = 'h';
	ret->options[options] = (struct option){ "help", no_argument, NULL, HELP };
}

static unsigned flag_of(enum verb verb, int option)
{
	if (option >= FLAG_FIRST)
		return (unsigned)(option - FLAG_FIRST);
	for (unsigned i = 0; i < FLAG_COUNT; i++)
		if (flag_rows[i].verb == verb && flag_rows[i].letter == option)
			return i;
	return FLAG_COUNT;
}

/* Returns 0; 1 help was wanted; else an exit code. */
static int parse(enum verb verb, int argc, char **argv, struct args *a)
{
	struct grammar grammar;
	int option;

	make_grammar(verb, &grammar);
	a->given = xcalloc((size_t)argc + 1, sizeof(*a->given));
	optind = 1;
	while ((option = getopt_long(argc, argv, grammar.letters, grammar.options, NULL)) != -1) {
		unsigned flag =
			option == '?' || option == 'h' || option == HELP ? FLAG_COUNT : flag_of(verb, option);

		if (option == 'h' || option == HELP)
			return 1;
		if (flag >= FLAG_COUNT) /* getopt_long() has said what is wrong */
			return tool_say(EX_USAGE, "see \"hfcache help %s\"", verb_rows[verb].name);
		a->given[a->count++] =
			(struct given){ (enum flag)flag, flag_rows[flag].argument ? optarg : "" };
	}
	a->rest = argv + optind;
	a->rest_count = argc - optind;
	if (a->rest_count && verb_rows[verb].arguments[0] == 0)
		return tool_say(EX_USAGE, "\"%s\" takes no \"%s\"; see \"hfcache help %s\"",
				verb_rows[verb].name, a->rest[0], verb_rows[verb].name);
	return 0;
}

/* A full disk behind stdout must not look like success. */
static int flush(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	return code ? code : tool_say(EX_IOERR, "the output could not be written");
}

static int run(enum verb verb, const struct tool_opts *opts, int argc, char **argv)
{
	struct args a = { .opts = opts };
	int code = parse(verb, argc, argv, &a);

	if (code == 1) {
		help_verb(verb, stdout);
		code = 0;
	} else if (code == 0) {
		code = verb_functions[verb](&a);
	}
	free(a.given);
	return flush(code);
}

int tool_main(const struct tool_opts *opts)
{
	const char *word = opts->argc > 1 ? opts->argv[1] : NULL;
	int verb;

	(void)setlocale(LC_ALL, ""); /* else names beyond ASCII are printed as escapes */
	if (!word) {
		help_all(stderr);
		return EX_USAGE;
	}
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
		word = "help";
	if (strcmp(word, "--version") == 0)
		word = "version";
	verb = find_verb(word);
	if (verb < 0)
		return tool_say(EX_USAGE, "there is no \"%s\"; see \"hfcache help\"", word);
	opts->argv[1] = opts->argv[0]; /* getopt_long() begins its sentences with it */
	return run((enum verb)verb, opts, opts->argc - 1, opts->argv + 1);
}

int verb_version(const struct args *a)
{
	if (arg_has(a, FLAG_version_json))
		(void)puts("{\"version\":\"" HFCACHED_VERSION "\"}");
	else
		(void)puts("hfcache " HFCACHED_VERSION);
	return 0;
}

int verb_help(const struct args *a)
{
	int verb = a->rest_count ? find_verb(a->rest[0]) : -1;

	if (a->rest_count == 0) {
		help_all(stdout);
		return 0;
	}
	if (verb < 0)
		return tool_say(EX_USAGE, "there is no \"%s\"; see \"hfcache help\"", a->rest[0]);
	help_verb((enum verb)verb, stdout);
	return 0;
}
