/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool/priv - what the verbs share.
 *
 *   tool.c    words of the command line, dispatch       help.c    help, manual and completion, from the table
 *   client.c  questions to the daemon                   words.c   sizes, times, ids, filters, as people write them
 *   table.c   tables for people                         plain.c   foreign bytes, harmless
 *   status.c ls.c du.c rm.c env.c ca.c   a verb each
 */
#pragma once
#include <stdio.h>
#include "common/buf.h"
#include "common/json.h"
#include "common/scope.h"
#include "tool/tool.h"

enum verb {
#define VERB(verb, ...) VERB_##verb,
#define FLAG(...)
#include "tool/verbs.def"
#undef FLAG
#undef VERB
	VERB_COUNT
};

enum flag {
#define VERB(...)
#define FLAG(verb, id, ...) FLAG_##verb##_##id,
#include "tool/verbs.def"
#undef FLAG
#undef VERB
	FLAG_COUNT
};

struct verb_row {
	const char *name, *arguments, *summary;
};
struct flag_row {
	enum verb verb;
	int letter; /* 0: none */
	const char *name, *argument, *help;
};
extern const struct verb_row verb_rows[VERB_COUNT];
extern const struct flag_row flag_rows[FLAG_COUNT];

/* The words after the verb. */
struct args {
	const struct tool_opts *opts;
	struct given {
		enum flag flag;
		const char *value; /* "" for one without an argument */
	} * given;                 /* owned */
	size_t count;
	char **rest;
	int rest_count;
};
/* The last value given; NULL: it was not. */
const char *arg_value(const struct args *a, enum flag flag);
static inline bool arg_has(const struct args *a, enum flag flag)
{
	return arg_value(a, flag) != NULL;
}

/* "hfcache: ..." on stderr, without what could steer a terminal; gives exit_code back. */
int tool_say(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same of several lines; nothing foreign goes in. */
int tool_say_lines(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Of every verb: an exit code. */
int verb_status(const struct args *a);
int verb_ls(const struct args *a);
int verb_du(const struct args *a);
int verb_rm(const struct args *a);
int verb_env(const struct args *a);
int verb_ca(const struct args *a);
int verb_help(const struct args *a);
int verb_version(const struct args *a);

/* --- help.c --- */

void help_all(FILE *out);
void help_verb(enum verb verb, FILE *out);
/* The part of hfcache(1) that follows from the table, in scdoc. */
void help_manual(FILE *out);
/* A script for bash. */
void help_completion(FILE *out);

/* --- client.c --- */

struct client;
struct client *client_new(const struct tool_opts *opts);
void client_free(struct client *c);
DEFINE_SCOPE(struct client *, client_free);
/*
 * One question, over the admin socket; a GET over loopback too, if that cannot be had.
 * Returns 0 with the body in out; else an exit code, said on stderr.
 */
int client_get(struct client *c, const char *path, struct buf *out);
int client_delete(struct client *c, const char *path, struct buf *out);
/* Does anybody answer? Says nothing. */
bool client_reaches(struct client *c);
/* A pager over /-/repos: each element of each page. query: "kind=..&match=.."; without "?". */
int client_each_repo(struct client *c, const char *query,
		     int (*visit)(void *ctx, struct str raw, const struct json *repo), void *ctx,
		     uint64_t *ret_hidden);

/* --- plain.c --- */

/* Nothing in it would steer a terminal, end a line or is no UTF-8. */
bool is_plain_text(struct str text);
/* For people: what would steer a terminal, end a line or is no UTF-8 is written as \xNN. */
void print_plain(FILE *out, struct str text);
/* The same as a text; the caller's. */
char *plain_text(const char *text);
/* The same, but its lines stay lines. */
void print_plain_lines(FILE *out, struct str text);
/* For other programs: what the Hub allows in no name is written as %NN, which names nothing. */
void print_word(FILE *out, struct str word);
/* A whole answer of the daemon, which is JSON. */
void print_answer(FILE *out, struct str json);

/* --- words.c --- */

#define SIZE_TEXT 16
/* "5.3G", of 1000 each as the Hub and its own command count. */
const char *size_text(uint64_t bytes, char ret[SIZE_TEXT]);
#define AGE_TEXT 40
/* "3 days ago"; "never" for 0. */
const char *age_text(int64_t at, int64_t now, char ret[AGE_TEXT]);
/* "3d 4h", "12m" */
const char *span_text(uint64_t seconds, char ret[AGE_TEXT]);
/* "30g", "1.5GB", "700" to bytes; "30d", "12h", "2w", "1mo" to seconds. false: it is none. */
bool size_parse(const char *text, uint64_t *ret);
bool span_parse(const char *text, uint64_t *ret_s);
/*
 * "model/acme/x", "models/acme/x", "hf://datasets/acme/x", "acme/x" to kind "models" and id; of an hf:// address with @REV or a
 * path the repository. false: it names none.
 */
struct repo_id {
	const char *kind; /* "models"; static; "inference": id is empty */
	char *id;         /* owned */
	char *revision;   /* owned or NULL: what stood after an @ */
};
bool repo_id_parse(const char *text, struct repo_id *ret);
void repo_id_done(struct repo_id *id);
/* "models" of "model", "Models"; NULL: no kind. Static. */
const char *kind_of(const char *word);
/* The same for people: "model"; of an unknown one itself. */
const char *kind_word(const char *kind);

#define FILTERS_MAX 16
struct filter {
	enum { FILTER_SIZE, FILTER_FILES, FILTER_USED } key;
	enum { OP_LESS, OP_AT_MOST, OP_MORE, OP_AT_LEAST, OP_IS } op;
	uint64_t value; /* bytes, number or seconds */
};
bool filter_parse(const char *text, struct filter *ret);
/* used_at 0: never. */
bool filter_fits(const struct filter *f, uint64_t bytes, uint64_t files, int64_t used_at, int64_t now);

static inline uint64_t json_number(const struct json *object, const char *member)
{
	uint64_t value = 0;

	(void)json_u64(json_get(object, member), &value); /* absent counts as none */
	return value;
}
static inline struct str json_text(const struct json *object, const char *member)
{
	return json_string(json_get(object, member));
}

/* --- table.c --- */

struct table;
enum column { COLUMN_LEFT, COLUMN_RIGHT, COLUMN_SHORTEN /* first, when the line is too narrow */ };
struct table *table_new(bool may_truncate);
void table_add_column(struct table *t, const char *name, enum column how);
/* The cells of one line, as many as there are columns. */
void table_add_line(struct table *t, const char *const *cells);
void table_print(struct table *t);
void table_free(struct table *t);
DEFINE_SCOPE(struct table *, table_free);
