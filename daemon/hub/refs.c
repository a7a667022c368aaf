/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/refs - /api/{kind}/{id}/refs: branches, tags, converted branches and pull requests with their commits.
 *
 * The answer names all that there is of a kind, so a name of that kind that was known and is not in it is gone: it is forgotten,
 * and not given when nobody can be asked.
 * Never     takes a commit for a name, or a kind that the answer does not speak of for empty.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/json.h"

/*
 * A branch or tag that is called like a commit. Only the repo's own list makes such a name known, never an answer about a file:
 * what is asked for by 40 hex digits is a commit, unless the list says otherwise (hub_find_odd_name).
 */
static void learn_odd_name(struct lesson *l, const struct answer *a, struct str name, struct str commit)
{
	struct fact f = { .kind = FACT_NAME, .repo = str_from(l->repo), .revision = name, .at = a->asked_at };

	if (!is_commit(commit) || str_eq(name, commit))
		return;
	memcpy(f.commit, commit.ptr, COMMIT_HEX);
	index_learn(l->hub->opts.index, &f);
}

int hub_find_odd_name(struct hub *h, struct request *q, const struct hub_route *route,
		      char ret_commit[COMMIT_TEXT])
{
	SCOPED_BUF canonical = { 0 };

	if (hub_ask_refs(h, q, route) == -EAGAIN)
		return -EAGAIN;
	return index_find_name(h->opts.index, hub_canonical(h, q, route, &canonical), route->revision,
			       ret_commit, NULL);
}

static void learn_refs(struct lesson *l, const struct answer *a, const struct json *list, bool by_name)
{
	for (const struct json *item = json_first(list); item; item = json_next(item)) {
		struct str commit = json_string(json_get(item, "targetCommit"));

		if (is_commit(commit))
			lesson_shows(l, commit, ACCESS_META, a->asked_at);
		if (is_commit(json_string(json_get(item, "name"))))
			learn_odd_name(l, a, json_string(json_get(item, "name")), commit);
		learn_name(l->hub, str_from(l->repo), json_string(json_get(item, by_name ? "name" : "ref")),
			   commit, a->asked_at);
	}
}

/* --- what the answer lacks --- */

struct complete {
	struct lesson *lesson;
	int64_t asked_at;
	struct map *branches_and_tags, *others; /* names; whole refs. Sets: their values mean nothing */
	bool has_pulls, has_converts;
};

static void note(struct map *set, const struct json *list, const char *member)
{
	for (const struct json *item = json_first(list); item; item = json_next(item)) {
		struct str name = json_string(json_get(item, member));

		if (name.len)
			(void)map_put(set, name, set);
	}
}

static bool drop_prefix(struct str *s, struct str prefix)
{
	if (!str_starts_with(*s, prefix))
		return false;
	*s = str_from_range(s->ptr + prefix.len, s->ptr + s->len);
	return true;
}

/* Would the answer name it, if it were there? Of what it does not speak of it says nothing. */
static bool is_missing(const struct complete *c, struct str revision)
{
	struct str ref = revision;

	if (str_eq(revision, STR("HEAD")))
		return false;
	if (drop_prefix(&ref, STR("refs/heads/")) || drop_prefix(&ref, STR("refs/tags/")) ||
	    !str_starts_with(revision, STR("refs/")))
		return !map_get(c->branches_and_tags, ref);
	if (str_starts_with(revision, STR("refs/pr/")))
		return c->has_pulls && !map_get(c->others, revision);
	if (str_starts_with(revision, STR("refs/convert/")))
		return c->has_converts && !map_get(c->others, revision);
	return false;
}

static int forget_missing(void *ctx, struct str revision)
{
	const struct complete *c = ctx;
	struct index *x = c->lesson->hub->opts.index;
	struct str repo = str_from(c->lesson->repo);
	char commit[COMMIT_TEXT];
	int64_t seen_at;

	if (!is_missing(c, revision) || index_find_name(x, repo, revision, commit, &seen_at) < 0)
		return 0;
	/* the begin of a commit's id is no ref; and one that was seen since may be younger than the answer */
	if (str_starts_with(str_from(commit), revision) || seen_at > c->asked_at)
		return 0;
	index_learn(x, &(struct fact){ .kind = FACT_FORGET,
				       .repo = repo,
				       .revision = revision,
				       .at = clock_wall_s(c->lesson->hub->opts.clock) });
	return 0;
}

static void forget_what_is_gone(struct lesson *l, const struct answer *a, const struct json *json)
{
	const struct json *pulls = json_get(json, "pullRequests"), *converts = json_get(json, "converts");
	struct complete c = { .lesson = l,
			      .asked_at = a->asked_at,
			      .has_pulls = json_is_array(pulls),
			      .has_converts = json_is_array(converts) };

	if (!json_is_array(json_get(json, "tags")))
		return; /* a name that it lacks could be a tag */
	c.branches_and_tags = map_new();
	c.others = map_new();
	note(c.branches_and_tags, json_get(json, "branches"), "name");
	note(c.branches_and_tags, json_get(json, "tags"), "name");
	note(c.others, pulls, "ref");
	note(c.others, converts, "ref");
	(void)index_names_each(l->hub->opts.index, str_from(l->repo), forget_missing, &c);
	map_free(c.branches_and_tags, NULL);
	map_free(c.others, NULL);
}

/* --- what it says --- */

static int teach_refs(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc)
{
	const struct json *branches = json_get(json, "branches");

	if (!json_is_array(branches))
		return -EPROTO;
	/* first: to forget one puts all the others in doubt */
	if (!doc->link_next)
		forget_what_is_gone(l, a, json);
	learn_refs(l, a, branches, true);
	learn_refs(l, a, json_get(json, "tags"), true);
	/* those are asked for by their whole ref: refs/convert/parquet, refs/pr/1 */
	learn_refs(l, a, json_get(json, "converts"), false);
	learn_refs(l, a, json_get(json, "pullRequests"), false);
	return 0;
}

int hub_refs(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	SCOPED_BUF canonical, key, target;
	struct doc_spec spec = {
		.class = ENDPOINT_API, .method = "GET", .ttl_ms = h->name_ttl_ms, .teach = teach_refs
	};

	hub_note(q, route);
	spec.repo = hub_canonical(h, q, route, &canonical);
	buf_init(&target, 16384);
	buf_appendf(&target, "/api/%.*s/refs", STR_ARGS(spec.repo));
	if (doc_question(&spec, "refs", STR(""), STR(""), q->query, &key, &target, r) != 0)
		return 0;
	return hub_serve_document(h, q, route, &spec, r);
}
