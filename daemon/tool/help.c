/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool/help - what is told about the verbs, all of it from the table.
 *
 * Threads   one.
 */
#include "tool/priv.h"

const struct verb_row verb_rows[VERB_COUNT] = {
#define VERB(verb, arguments, summary) { #verb, arguments, summary },
#define FLAG(...)
#include "tool/verbs.def"
#undef FLAG
#undef VERB
};

const struct flag_row flag_rows[FLAG_COUNT] = {
#define VERB(...)
#define FLAG(verb, id, letter, name, argument, help) { VERB_##verb, letter, name, argument, help },
#include "tool/verbs.def"
#undef FLAG
#undef VERB
};

void help_all(FILE *out)
{
	(void)fputs(
		"usage: hfcache [--config FILE] [--set SECTION.KEY=VALUE]... [--socket PATH] VERB ...\n\n",
		out);
	for (unsigned i = 0; i < VERB_COUNT; i++) {
		const struct verb_row *v = &verb_rows[i];

		(void)fprintf(out, "  %s%s%s\n      %s.\n", v->name, v->arguments[0] ? " " : "", v->arguments,
			      v->summary);
	}
	(void)fputs("\nIt speaks with the daemon over its admin socket: the one of --socket, else of the "
		    "configuration, which is read as\nhfcached reads it. \"hfcache help VERB\" and "
		    "hfcache(1) tell "
		    "more.\n",
		    out);
}

void help_verb(enum verb verb, FILE *out)
{
	const struct verb_row *v = &verb_rows[verb];

	(void)fprintf(out, "usage: hfcache %s [OPTION]...%s%s\n%s.\n\n", v->name, v->arguments[0] ? " " : "",
		      v->arguments, v->summary);
	for (unsigned i = 0; i < FLAG_COUNT; i++) {
		const struct flag_row *f = &flag_rows[i];
		char name[64], letter[8] = "";

		if (f->verb != verb)
			continue;
		if (f->letter)
			(void)snprintf(letter, sizeof(letter), "-%c,", f->letter);
		(void)snprintf(name, sizeof(name), "--%s%s%s", f->name, f->argument ? " " : "",
			       f->argument ? f->argument : "");
		(void)fprintf(out, "  %3s %-18s %s\n", letter, name, f->help);
	}
	(void)fprintf(out, "  %3s %-18s %s\n", "-h,", "--help", "This");
}

/* --- hfcache(1) --- */

/* Everything that scdoc might take for a sign of its own. */
static void print_scdoc(const char *text, FILE *out)
{
	for (; *text; text++) {
		if (strchr("\\_*#[]|-.!~<>", *text))
			(void)fputc('\\', out);
		(void)fputc(*text, out);
	}
}

static void print_flag(const struct flag_row *f, FILE *out)
{
	(void)fputs("\t", out);
	if (f->letter)
		(void)fprintf(out, "*-%c*, ", f->letter);
	(void)fputs("*--", out);
	print_scdoc(f->name, out);
	(void)fprintf(out, "*%s%s%s\n\t\t", f->argument ? " _" : "", f->argument ? f->argument : "",
		      f->argument ? "_" : "");
	print_scdoc(f->help, out);
	(void)fputs(".\n\n", out);
}

void help_manual(FILE *out)
{
	for (unsigned i = 0; i < VERB_COUNT; i++) {
		(void)fprintf(out, "*%s* ", verb_rows[i].name);
		print_scdoc(verb_rows[i].arguments, out);
		(void)fputs("\n\t", out);
		print_scdoc(verb_rows[i].summary, out);
		(void)fputs(".\n\n", out);
		for (unsigned f = 0; f < FLAG_COUNT; f++)
			if (flag_rows[f].verb == i)
				print_flag(&flag_rows[f], out);
	}
}

/* --- bash --- */

static void print_words(enum verb verb, FILE *out)
{
	(void)fprintf(out, "\t%s) words=\"", verb_rows[verb].name);
	for (unsigned i = 0; i < FLAG_COUNT; i++)
		if (flag_rows[i].verb == verb)
			(void)fprintf(out, "--%s ", flag_rows[i].name);
	(void)fputs("--help", out);
	if (verb == VERB_ca)
		(void)fputs(" init export show", out);
	if (verb == VERB_help)
		for (unsigned i = 0; i < VERB_COUNT; i++)
			(void)fprintf(out, " %s", verb_rows[i].name);
	(void)fputs("\";;\n", out);
}

void help_completion(FILE *out)
{
	(void)fputs(
		"# SPDX-License-Identifier: Apache-2.0\n"
		"# Completion of hfcache for bash; made from the table of its verbs.\n"
		"_hfcache()\n{\n"
		"\tlocal word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb= words= i\n"
		"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
		"\t\tcase ${COMP_WORDS[i]} in\n"
		"\t\t--config|--set|--socket) ((i++));;\n"
		"\t\t-*) ;;\n"
		"\t\t*) verb=${COMP_WORDS[i]}; break;;\n"
		"\t\tesac\n\tdone\n"
		"\tcase $before in\n"
		"\t--config|--socket|--ca|--output|-o) COMPREPLY=($(compgen -f -- \"$word\")); return;;\n"
		"\t--kind|-k) COMPREPLY=($(compgen -W \"model dataset space kernel inference\" -- "
		"\"$word\")); return;;\n"
		"\t--by) COMPREPLY=($(compgen -W \"repo org kind\" -- \"$word\")); return;;\n"
		"\t--sort) COMPREPLY=($(compgen -W \"name size used\" -- \"$word\")); return;;\n"
		"\t--shell) COMPREPLY=($(compgen -W \"bash fish pwsh docker k8s\" -- \"$word\")); return;;\n"
		"\tesac\n"
		"\tcase $verb in\n",
		out);
	for (unsigned i = 0; i < VERB_COUNT; i++)
		print_words((enum verb)i, out);
	(void)fputs("\t\"\") words=\"--config --set --socket", out);
	for (unsigned i = 0; i < VERB_COUNT; i++)
		(void)fprintf(out, " %s", verb_rows[i].name);
	(void)fputs("\";;\n\tesac\n"
		    "\tif [[ $verb == rm && $word != -* ]]; then\n"
		    "\t\twords=$(hfcache ls --quiet 2>/dev/null)\n"
		    "\tfi\n"
		    "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\n"
		    "complete -F _hfcache hfcache\n",
		    out);
}
