/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool/ls - what is held: a line for each repository, or for each of its revisions.
 *
 * Threads   one.
 */
#include "tool/priv.h"

#include <inttypes.h>
#include <sysexits.h>
#include <time.h>
#include "common/alloc.h"
#include "common/http/uri.h"

#include "common/banned.h"

#define QUERY_BYTES_MAX 8192
#define NAMES_TEXT 400

struct found {
	char *raw; /* owned: its JSON as it came */
	uint64_t bytes;
	int64_t used_at;
};

struct listing {
	const struct args *args;
	struct filter filters[FILTERS_MAX];
	size_t filter_count;
	int64_t now;
	struct found *at; /* owned */
	size_t count, room;
	uint64_t bytes, revisions;
};

static void listing_done(struct listing *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->at[i].raw);
	free(l->at);
}

static int take_filters(struct listing *l)
{
	for (size_t i = 0; i < l->args->count; i++) {
		const struct given *g = &l->args->given[i];

		if (g->flag != FLAG_ls_filter)
			continue;
		if (l->filter_count == FILTERS_MAX)
			return tool_say(EX_USAGE, "more than %d filters", FILTERS_MAX);
		if (!filter_parse(g->value, &l->filters[l->filter_count++]))
			return tool_say(EX_USAGE,
					"\"%s\" is no filter: write size>30g, files<=2, used>30d or used<12h",
					g->value);
	}
	return 0;
}

/* "kind=models&match=acme%2F%2A&revisions=1" */
static int make_query(const struct args *a, struct buf *out)
{
	const char *kind = arg_value(a, FLAG_ls_kind), *pattern = a->rest_count ? a->rest[0] : NULL;

	if (a->rest_count > 1)
		return tool_say(EX_USAGE,
				"one pattern at a time: put it between quotes, else the shell reads the *");
	if (kind && !kind_of(kind))
		return tool_say(EX_USAGE, "\"%s\" is no kind: model, dataset, space, kernel or inference",
				kind);
	if (kind)
		(void)buf_appendf(out, "kind=%s&", kind_of(kind));
	if (pattern) {
		(void)buf_append_str(out, STR("match="));
		(void)uri_encode(str_from(strncmp(pattern, "hf://", 5) == 0 ? pattern + 5 : pattern), NULL,
				 out);
		(void)buf_append_char(out, '&');
	}
	if (arg_has(a, FLAG_ls_revisions))
		(void)buf_append_str(out, STR("revisions=1&"));
	if (buf_error(out))
		return tool_say(EX_USAGE, "the pattern is too long");
	if (out->len)
		out->bytes[--out->len] = 0; /* the last & */
	return 0;
}

static int take_repo(void *ctx, struct str raw, const struct json *repo)
{
	struct listing *l = ctx;
	struct found f = { .bytes = json_number(repo, "bytes"),
			   .used_at = (int64_t)json_number(repo, "used_at") };

	for (size_t i = 0; i < l->filter_count; i++)
		if (!filter_fits(&l->filters[i], f.bytes, json_number(repo, "files"), f.used_at, l->now))
			return 0;
	if (l->count == l->room) {
		l->room = l->room ? 2 * l->room : 256;
		l->at = xrealloc(l->at, l->room * sizeof(*l->at));
	}
	f.raw = str_dup(raw);
	l->bytes += f.bytes;
	l->revisions += json_number(repo, "commits");
	l->at[l->count++] = f;
	return 0;
}

static int by_size(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return x->bytes < y->bytes ? 1 : x->bytes > y->bytes ? -1 : 0;
}

static int by_use(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return x->used_at < y->used_at ? 1 : x->used_at > y->used_at ? -1 : 0;
}

static int sort(struct listing *l)
{
	const char *key = arg_value(l->args, FLAG_ls_sort);

	if (!key || strcmp(key, "name") == 0 || l->count == 0)
		return 0;
	if (strcmp(key, "size") == 0)
		qsort(l->at, l->count, sizeof(*l->at), by_size);
	else if (strcmp(key, "used") == 0)
		qsort(l->at, l->count, sizeof(*l->at), by_use);
	else
		return tool_say(EX_USAGE, "\"%s\" is nothing to sort by: name, size or used", key);
	return 0;
}

/* --- printing --- */

static void print_json(const struct listing *l)
{
	(void)fputs("[", stdout);
	for (size_t i = 0; i < l->count; i++) {
		(void)printf("%s\n", i ? "," : "");
		print_answer(stdout, str_from(l->at[i].raw));
	}
	(void)fputs(l->count ? "\n]\n" : "]\n", stdout);
}

/* "12", or "12 + 1 unfinished" */
static const char *files_text(const struct json *v, char ret[48])
{
	uint64_t files = json_number(v, "files"), partial = json_number(v, "partial_files");

	if (partial)
		(void)snprintf(ret, 48, "%" PRIu64 " + %" PRIu64 " unfinished", files, partial);
	else
		(void)snprintf(ret, 48, "%" PRIu64, files);
	return ret;
}

static void add_repo(struct table *t, const struct json *repo, const char *id, int64_t now)
{
	SCOPED_FREE char *visibility = str_dup(json_text(repo, "visibility"));
	char size[SIZE_TEXT], shared[SIZE_TEXT], files[48], age[AGE_TEXT];
	uint64_t shared_bytes = json_number(repo, "shared_bytes");

	table_add_line(t, (const char *[]){ id, size_text(json_number(repo, "bytes"), size),
					    shared_bytes ? size_text(shared_bytes, shared) : "",
					    files_text(repo, files),
					    age_text((int64_t)json_number(repo, "used_at"), now, age),
					    visibility });
}

static const char *names_text(const struct json *revision, char ret[NAMES_TEXT])
{
	size_t len = 0;

	ret[0] = 0;
	for (const struct json *n = json_first(json_get(revision, "names")); n; n = json_next(n)) {
		struct str name = json_string(n);
		int more = snprintf(ret + len, NAMES_TEXT - len, "%s%.*s", len ? ", " : "", STR_ARGS(name));

		if (more < 0 || (size_t)more >= NAMES_TEXT - len)
			break;
		len += (size_t)more;
	}
	return ret;
}

static void add_revisions(struct table *t, const struct json *repo, const char *id)
{
	for (const struct json *r = json_first(json_get(repo, "revisions")); r; r = json_next(r)) {
		SCOPED_FREE char *commit = str_dup(json_text(r, "commit"));
		char size[SIZE_TEXT], files[48], names[NAMES_TEXT];

		table_add_line(t, (const char *[]){ id, commit, size_text(json_number(r, "bytes"), size),
						    files_text(r, files), names_text(r, names) });
	}
}

static void add_columns(struct table *t, bool of_revisions)
{
	table_add_column(t, "ID", COLUMN_SHORTEN);
	if (of_revisions)
		table_add_column(t, "COMMIT", COLUMN_LEFT);
	table_add_column(t, "SIZE", COLUMN_RIGHT);
	if (!of_revisions)
		table_add_column(t, "SHARED", COLUMN_RIGHT);
	table_add_column(t, "FILES", COLUMN_RIGHT);
	if (!of_revisions)
		table_add_column(t, "LAST USED", COLUMN_LEFT);
	table_add_column(t, of_revisions ? "NAMES" : "READABLE BY",
			 of_revisions ? COLUMN_SHORTEN : COLUMN_LEFT);
}

static void print_lines(const struct listing *l)
{
	SCOPED(table_free) struct table *t = table_new(!arg_has(l->args, FLAG_ls_no_truncate));
	bool of_revisions = arg_has(l->args, FLAG_ls_revisions), is_quiet = arg_has(l->args, FLAG_ls_quiet);

	add_columns(t, of_revisions);
	for (size_t i = 0; i < l->count; i++) {
		SCOPED(json_free) struct json *repo = NULL;
		SCOPED_FREE char *id = NULL;

		if (json_parse(str_from(l->at[i].raw), &repo) < 0)
			continue; /* it was part of a whole that could be read */
		id = str_dup(json_text(repo, "id"));
		if (is_quiet) {
			print_word(stdout, str_from(id));
			(void)putchar('\n');
		} else if (of_revisions) {
			add_revisions(t, repo, id);
		} else {
			add_repo(t, repo, id, l->now);
		}
	}
	if (!is_quiet && l->count)
		table_print(t);
}

static void say_found(const struct listing *l, uint64_t hidden)
{
	char size[SIZE_TEXT];

	(void)fflush(stdout); /* the closing line comes last */
	(void)fprintf(stderr, "Found %zu repo(s) with %" PRIu64 " revision(s) and %s on disk.\n", l->count,
		      l->revisions, size_text(l->bytes, size));
	if (hidden)
		(void)fprintf(stderr, "%" PRIu64 " more, not public, %s shown over the admin socket only.\n",
			      hidden, hidden == 1 ? "is" : "are");
}

int verb_ls(const struct args *a)
{
	SCOPED(client_free) struct client *c = client_new(a->opts);
	struct listing l = { .args = a, .now = (int64_t)time(NULL) };
	SCOPED_BUF query = { 0 };
	uint64_t hidden = 0;
	int code;

	buf_init(&query, QUERY_BYTES_MAX);
	code = take_filters(&l);
	if (code == 0)
		code = make_query(a, &query);
	if (code == 0)
		code = client_each_repo(c, buf_str(&query).ptr, take_repo, &l, &hidden);
	if (code == 0)
		code = sort(&l);
	if (code == 0 && arg_has(a, FLAG_ls_json))
		print_json(&l);
	else if (code == 0)
		print_lines(&l);
	if (code == 0 && !arg_has(a, FLAG_ls_json) && !arg_has(a, FLAG_ls_quiet))
		say_found(&l, hidden);
	listing_done(&l);
	return code;
}
