/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/usage - /-/usage: what is held, summed up by repo, organisation or kind; the largest first.
 *
 * Threads   the room's own.
 */
#include "admin/priv.h"

#include <inttypes.h>
#include "common/alloc.h"
#include "common/map.h"

#include "common/banned.h"

struct group {
	char *name; /* owned */
	uint64_t repos, files, bytes, shared_bytes;
	int64_t used_at;
};

struct groups {
	struct map *by_name;
	struct group **at; /* owned */
	size_t count, room;
};

/* By organisation: what stands before the first slash of the name; without one, the name itself. */
static void name_group(const struct call *c, struct str repo, struct buf *out)
{
	struct str name, rest, org, kind = admin_split_repo(repo, &name);

	if (strcmp(c->by, "repo") == 0)
		admin_write_id(out, repo);
	else if (strcmp(c->by, "kind") == 0 || name.len == 0)
		(void)buf_append_str(out, kind);
	else
		(void)(str_cut(name, '/', &org, &rest), buf_append_str(out, org));
}

static struct group *find_group(struct groups *g, struct str name)
{
	struct group *found = map_get(g->by_name, name);

	if (found)
		return found;
	found = xcalloc(1, sizeof(*found));
	found->name = str_dup(name);
	(void)map_put(g->by_name, name, found);
	if (g->count == g->room) {
		g->room = g->room ? 2 * g->room : 64;
		g->at = xrealloc(g->at, g->room * sizeof(struct group *));
	}
	g->at[g->count++] = found;
	return found;
}

static void add_to_group(struct group *g, const struct usage_row *row)
{
	g->repos++;
	g->files += admin_is_inference(str_from(row->repo)) ? row->documents : row->files;
	g->bytes += row->bytes;
	g->shared_bytes += row->shared_bytes;
	if (row->used_at > g->used_at)
		g->used_at = row->used_at;
}

static int largest_first(const void *a, const void *b)
{
	const struct group *x = *(struct group *const *)a, *y = *(struct group *const *)b;

	return x->bytes < y->bytes ? 1 : x->bytes > y->bytes ? -1 : strcmp(x->name, y->name);
}

static void write_groups(struct call *c, struct groups *g)
{
	if (g->count)
		qsort(g->at, g->count, sizeof(struct group *), largest_first);
	(void)buf_appendf(&c->body, "{\"by\":\"%s\",\"groups\":[\n", c->by);
	for (size_t i = 0; i < g->count; i++) {
		(void)buf_append_str(&c->body, i ? STR(",\n{\"group\":") : STR("{\"group\":"));
		(void)json_write_string(&c->body, str_from(g->at[i]->name));
		(void)buf_appendf(
			&c->body,
			",\"repos\":%" PRIu64 ",\"files\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"used_at\":%lld",
			g->at[i]->repos, g->at[i]->files, g->at[i]->bytes, (long long)g->at[i]->used_at);
		if (c->is_admin) /* it may be shared with what is not shown */
			(void)buf_appendf(&c->body, ",\"shared_bytes\":%" PRIu64, g->at[i]->shared_bytes);
		(void)buf_append_char(&c->body, '}');
	}
	(void)buf_append_str(&c->body, STR("]"));
}

static void groups_done(struct groups *g)
{
	map_free(g->by_name, NULL);
	for (size_t i = 0; i < g->count; i++) {
		free(g->at[i]->name);
		free(g->at[i]);
	}
	free(g->at);
}

static void write_usage(struct call *c, const struct usage *u)
{
	struct groups groups = { .by_name = map_new() };
	struct store_usage store;

	for (size_t i = 0; i < u->count; i++) {
		SCOPED_BUF name = { 0 };

		if (!admin_is_shown(c, &u->rows[i]))
			continue;
		buf_init(&name, strlen(u->rows[i].repo) + 1);
		name_group(c, str_from(u->rows[i].repo), &name);
		add_to_group(find_group(&groups, buf_str(&name)), &u->rows[i]);
	}
	store_usage(c->admin->opts.store, &store);
	write_groups(c, &groups);
	(void)buf_appendf(&c->body,
			  ",\"total\":{\"bytes\":%" PRIu64 ",\"unreferenced_bytes\":%" PRIu64
			  ",\"used_bytes\":%" PRIu64 ",\"partial_bytes\":%" PRIu64 ",\"open_bytes\":%" PRIu64
			  ",\"limit_bytes\":%" PRIu64 "},\"hidden\":%" PRIu64 "}\n",
			  u->bytes, u->unreferenced_bytes, store.used, store.partial, store.open, store.limit,
			  admin_count_hidden(c, u));
	groups_done(&groups);
}

void admin_run_usage(struct call *c)
{
	struct usage *usage = NULL;
	int r = admin_survey(c, &usage);

	if (r < 0) {
		call_fail_errno(c, r);
		return;
	}
	write_usage(c, usage);
	usage_free(usage);
}
