/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool/du - how much is held, by kind, organisation or repository.
 *
 * Threads   one.
 */
#include "tool/priv.h"

#include <inttypes.h>
#include <sysexits.h>
#include <time.h>
#include "common/alloc.h"

#include "common/banned.h"

static void add_group(struct table *t, const struct json *g, int64_t now)
{
	SCOPED_FREE char *name = str_dup(json_text(g, "group"));
	char repos[24], files[24], size[SIZE_TEXT], shared[SIZE_TEXT], age[AGE_TEXT];
	uint64_t shared_bytes = json_number(g, "shared_bytes");

	(void)snprintf(repos, sizeof(repos), "%" PRIu64, json_number(g, "repos"));
	(void)snprintf(files, sizeof(files), "%" PRIu64, json_number(g, "files"));
	table_add_line(t, (const char *[]){ name, size_text(json_number(g, "bytes"), size),
					    shared_bytes ? size_text(shared_bytes, shared) : "", repos, files,
					    age_text((int64_t)json_number(g, "used_at"), now, age) });
}

static void print_groups(const struct args *a, const struct json *root, const char *by)
{
	SCOPED(table_free) struct table *t = table_new(!arg_has(a, FLAG_du_no_truncate));
	const struct json *groups = json_get(root, "groups");

	table_add_column(t,
			 strcmp(by, "repo") == 0  ? "ID"
			 : strcmp(by, "org") == 0 ? "ORG"
						  : "KIND",
			 COLUMN_SHORTEN);
	table_add_column(t, "SIZE", COLUMN_RIGHT);
	table_add_column(t, "SHARED", COLUMN_RIGHT);
	table_add_column(t, "REPOS", COLUMN_RIGHT);
	table_add_column(t, "FILES", COLUMN_RIGHT);
	table_add_column(t, "LAST USED", COLUMN_LEFT);
	for (const struct json *g = json_first(groups); g; g = json_next(g))
		add_group(t, g, (int64_t)time(NULL));
	if (json_first(groups))
		table_print(t);
}

static void say_total(const struct json *root)
{
	const struct json *total = json_get(root, "total");
	uint64_t loose = json_number(total, "unreferenced_bytes"),
		 partial = json_number(total, "partial_bytes"), hidden = json_number(root, "hidden");
	char a[SIZE_TEXT], b[SIZE_TEXT];

	(void)fflush(stdout);
	(void)fprintf(stderr, "%s on disk",
		      size_text(json_number(total, "used_bytes") + json_number(total, "open_bytes"), a));
	if (json_number(total, "limit_bytes"))
		(void)fprintf(stderr, " of %s", size_text(json_number(total, "limit_bytes"), b));
	if (partial)
		(void)fprintf(stderr, ", %s of it unfinished", size_text(partial, b));
	if (loose)
		(void)fprintf(stderr, ", %s of no repository any more", size_text(loose, b));
	(void)fputs(".\n", stderr);
	if (hidden)
		(void)fprintf(stderr, "%" PRIu64 " more, not public, %s shown over the admin socket only.\n",
			      hidden, hidden == 1 ? "is" : "are");
}

int verb_du(const struct args *a)
{
	SCOPED(client_free) struct client *c = client_new(a->opts);
	const char *by = arg_value(a, FLAG_du_by) ? arg_value(a, FLAG_du_by) : "kind";
	SCOPED(json_free) struct json *root = NULL;
	SCOPED_FREE char *path = NULL;
	SCOPED_BUF text = { 0 };
	int code;

	if (strcmp(by, "repo") != 0 && strcmp(by, "org") != 0 && strcmp(by, "kind") != 0)
		return tool_say(EX_USAGE, "\"%s\" is nothing to sum up by: repo, org or kind", by);
	path = xasprintf("/-/usage?by=%s", by);
	code = client_get(c, path, &text);
	if (code)
		return code;
	if (json_parse(buf_str(&text), &root) < 0)
		return tool_say(EX_SOFTWARE, "the daemon's answer is no JSON: is it of another version?");
	if (arg_has(a, FLAG_du_json)) {
		print_answer(stdout, buf_str(&text));
		return 0;
	}
	print_groups(a, root, by);
	say_total(root);
	return 0;
}
