/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/revision - where a branch whose own name has slashes ends and the path begins: "resolve/feature/x/config.json".
 *
 * Clients that encode the slash say it themselves; others leave it to the Hub, which knows its branches. A wrong guess would be
 * kept as a branch that does not exist and a path that is none, so nothing is asked by a guess: the longest name that is known
 * counts, and when the first segment is no name that is known, or that name was not seen for hub.revision-ttl ("a" may be gone and
 * "a/b" there), the repo's refs are asked for first. That is one call for each hub.revision-ttl and repo, and none for main,
 * commits, refs/..., and files at the top.
 */
#include "hub/priv.h"

#include <errno.h>

#define NAME_SEGMENTS_MAX 8

static bool is_settled(const struct hub_route *route)
{
	return route->path.len == 0 || is_commit(route->revision) || str_eq(route->revision, STR("main")) ||
	       str_eq(route->revision, STR("HEAD")) || memchr(route->revision.ptr, '/', route->revision.len);
}

/* The router keeps a path's segments side by side. */
static struct str both(const struct hub_route *route)
{
	return str_from_range(route->revision.ptr, route->path.ptr + route->path.len);
}

static void part_at(struct hub_route *route, struct str all, size_t len)
{
	route->revision = (struct str){ all.ptr, len };
	route->path = len == all.len ? (struct str){ all.ptr + len, 0 }
				     : str_from_range(all.ptr + len + 1, all.ptr + all.len);
}

/* The longest known name that the text begins with; 0: none. ret_at: when it was seen. */
static size_t find_longest(const struct sight *sight, struct str all, bool needs_path, int64_t *ret_at)
{
	struct index *x = sight->hub->opts.index;
	char commit[COMMIT_TEXT];
	unsigned segments = 0;
	size_t found = 0;

	for (size_t i = 0; i <= all.len && segments < NAME_SEGMENTS_MAX; i++) {
		if (i < all.len && all.ptr[i] != '/')
			continue;
		segments++;
		if (i == all.len && needs_path)
			break;
		/* while upstream has the last word, any name will do to ask it */
		if ((sight->upstream_error ? seen_name(sight, (struct str){ all.ptr, i }, commit, ret_at)
					   : index_find_name(x, sight->repo, (struct str){ all.ptr, i },
							     commit, ret_at)) == 0)
			found = i;
	}
	return found;
}

int hub_ask_refs(struct hub *h, struct request *q, const struct hub_route *route)
{
	struct hub_route refs = { .kind = route->kind, .id = route->id, .repo = route->repo };
	enum metric_result result = q->result;
	struct str query = q->query;
	struct reply ignored;
	int r;

	reply_init(&ignored);
	q->query = STR("");
	r = hub_refs(h, q, &refs, &ignored);
	q->query = query;
	q->result = result;
	reply_done(&ignored);
	return r;
}

static bool is_old(const struct hub *h, int64_t seen_at)
{
	return clock_wall_s(h->opts.clock) - seen_at > (int64_t)(h->name_ttl_ms / 1000);
}

int hub_settle_revision(struct hub *h, struct request *q, struct hub_route *route, bool needs_path)
{
	SCOPED_BUF canonical = { 0 };
	struct sight sight = { .hub = h, .request = q, .level = ACCESS_META };
	int64_t seen_at = 0;
	struct str all;
	size_t len;

	if (is_settled(route) || (needs_path && !memchr(route->path.ptr, '/', route->path.len)))
		return 0;
	all = both(route);
	sight.upstream_error = hub_is_down(h, q) ? -EHOSTUNREACH : 0;
	sight.repo = hub_canonical(h, q, route, &canonical);
	len = find_longest(&sight, all, needs_path, &seen_at);
	if ((len == 0 || is_old(h, seen_at)) && q->has_valid_subject && !hub_is_down(h, q)) {
		if (hub_ask_refs(h, q, route) == -EAGAIN)
			return -EAGAIN;
		/* the answer may have taught another name of the repo */
		buf_done(&canonical);
		sight.repo = hub_canonical(h, q, route, &canonical);
		len = find_longest(&sight, all, needs_path, &seen_at);
	}
	if (len > 0)
		part_at(route, all, len);
	return 0;
}
