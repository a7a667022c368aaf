/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/written - writes whose small answer says what has become of the repo: commits, new, moved and deleted repos.
 *
 * The request streams through as any other; an answer of JSON is gathered, and two things are done before the client sees it.
 * What was believed about the repo is forgotten, and the branch stands where the answer says, for everybody. And addresses
 * of the Hub become ours: some clients fail after the write has succeeded when `commitUrl` or `url` is of another host than the
 * one they talk to (hub-protocol 5.2).
 * Never     sends a write twice, or hides that one may have been done: an answer that breaks off is not finished.
 */
#include "hub/priv.h"

#include <errno.h>

static const char *const url_members[] = { "url", "commitUrl", "pullRequestUrl", NULL };

static bool is_good(const struct upstream_head *head)
{
	return head->status >= 200 && head->status < 300;
}

static bool is_small_json(const struct upstream_head *head)
{
	return str_starts_with(headers_get(head->headers, STR("Content-Type")), STR("application/json")) &&
	       head->content_length <= REQUEST_BODY_MAX &&
	       headers_get(head->headers, STR("Content-Encoding")).len == 0;
}

/* --- what an answer says --------------------------------------------------------------------------------- */

static struct str member(const struct json *json, const char *name)
{
	return json_string(json_get(json, name));
}

/* "model" and "acme/pub" -> "models/acme/pub". false: it does not say which repo. */
static bool name_repo(struct str type, struct str id, struct buf *out)
{
	static const struct str types[] = { STR("model"), STR("dataset"), STR("space"), STR("kernel") };

	buf_init(out, 1024);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (str_eq(type, types[i]) || (i == 0 && type.len == 0))
			(void)buf_appendf(out, "%ss/%.*s", types[i].ptr, STR_ARGS(id));
	return buf_str(out).len > 0 && uri_is_clean_path(id) && !buf_error(out);
}

/* The kind of what an address leads to: "https://hub/datasets/acme/new". */
static struct str type_of_url(struct str url)
{
	struct origin origin;
	struct str path;

	if (origin_parse(url, &origin, &path) < 0)
		path = url;
	if (str_starts_with(path, STR("/datasets/")))
		return STR("dataset");
	if (str_starts_with(path, STR("/spaces/")))
		return STR("space");
	return str_starts_with(path, STR("/kernels/")) ? STR("kernel") : STR("model");
}

/* A repo has come into being: what was known of its name was about another, or about none. */
static void learn_new_repo(struct hub *h, const struct request *q, const struct json *json)
{
	SCOPED_BUF repo;

	if (name_repo(type_of_url(member(json, "url")), member(json, "name"), &repo))
		hub_forget_repo(h, q, buf_str(&repo));
}

static bool wants_pull_request(const struct request *q)
{
	struct str value = uri_param(q->query, STR("create_pr"));

	return value.ptr && !str_eq(value, STR("0")) && !str_eq_nocase(value, STR("false"));
}

/* Who has made a commit may read it. */
static void learn_pushed(struct hub *h, const struct request *q, struct str repo, struct str revision,
			 struct str commit, int64_t at)
{
	if (is_commit(commit))
		auth_shown(h->opts.auth, &q->subject, repo, commit, ACCESS_FILES, at);
	learn_name(h, repo, revision, commit, at);
}

/* Where the commit went: to the revision of the path, or with create_pr to a pull request's own ref. */
static void learn_commit(struct hub *h, const struct request *q, const struct hub_route *route,
			 struct str repo, const struct json *json)
{
	struct str commit = member(json, "commitOid"), url = member(json, "pullRequestUrl"), number = url;
	int64_t now = clock_wall_s(h->opts.clock);
	SCOPED_BUF ref = { 0 };
	uint64_t n;

	if (!url.len) {
		if (!wants_pull_request(q))
			learn_pushed(h, q, repo, route->revision, commit, now);
		return;
	}
	while (number.len && memchr(number.ptr, '/', number.len))
		(void)str_cut(number, '/', &url, &number);
	buf_init(&ref, 64);
	(void)buf_appendf(&ref, "refs/pr/%.*s", STR_ARGS(number));
	if (parse_u64(number, &n) == 0 && !buf_error(&ref))
		learn_pushed(h, q, repo, buf_str(&ref), commit, now);
}

/*
 * Another write was answered while this one was under way: which of them came first only upstream knows. Of one that took longer
 * than the numbers are remembered that is not known either.
 */
static bool is_the_last_word(struct hub *h, const struct request *q, struct str repo)
{
	return !hub_was_written(h, repo, q->writes) &&
	       clock_mono_ms(h->opts.clock) - q->began_mono_ms < PIN_MS;
}

static void learn_written(struct hub *h, const struct request *q, const struct hub_route *route,
			  struct str answer)
{
	SCOPED(json_free) struct json *json = NULL;
	SCOPED_BUF canonical = { 0 };
	struct str repo = hub_canonical(h, q, route, &canonical);
	bool is_last = is_the_last_word(h, q, repo);

	hub_forget_written(h, q, route);
	if (json_parse(answer, &json) < 0)
		return;
	if (!route->revision.len)
		learn_new_repo(h, q, json);
	else if (is_last)
		learn_commit(h, q, route, repo, json);
}

/* --- what a request says --------------------------------------------------------------------------------- */

static void forget_named(struct hub *h, const struct request *q, const struct json *json, struct str id)
{
	struct str organization = member(json, "organization");
	SCOPED_BUF full = { 0 }, repo = { 0 };

	buf_init(&full, 1024);
	if (organization.len && !memchr(id.ptr, '/', id.len))
		(void)buf_appendf(&full, "%.*s/", STR_ARGS(organization));
	(void)buf_append_str(&full, id);
	if (id.len && name_repo(member(json, "type"), buf_str(&full), &repo))
		hub_forget_repo(h, q, buf_str(&repo));
}

/* The body of the request, which the answer is gathered behind. */
static struct str asked_of(const struct request *q)
{
	if (q->body_kind != BODY_SMALL || q->body_bytes <= 0)
		return (struct str){ q->body.bytes, 0 };
	return (struct str){ q->body.bytes, (size_t)q->body_bytes };
}

static void learn_moved(struct hub *h, const struct request *q, const struct hub_route *route,
			struct str answer)
{
	SCOPED(json_free) struct json *json = NULL;

	if (json_parse(asked_of(q), &json) < 0)
		return;
	forget_named(h, q, json, member(json, "fromRepo"));
	forget_named(h, q, json, member(json, "toRepo"));
}

static void learn_deleted(struct hub *h, const struct request *q, const struct hub_route *route,
			  struct str answer)
{
	SCOPED(json_free) struct json *json = NULL;

	if (json_parse(asked_of(q), &json) == 0)
		forget_named(h, q, json, member(json, "name"));
}

/* --- the road ------------------------------------------------------------------------------------------- */

/* learn is called once, when all of a good answer is here, also when that broke off. */
static int pass_on(struct hub *h, struct request *q, const struct hub_route *route,
		   void (*learn)(struct hub *h, const struct request *q, const struct hub_route *route,
				 struct str answer),
		   struct reply *r)
{
	struct upstream_head head;
	SCOPED_BUF edited;
	struct str answer;
	int error = hub_forward_head(h, q, FETCH_HUB, route, &head, r);

	buf_init(&edited, 2 * REQUEST_BODY_MAX);
	if (error != 0)
		return error < 0 ? error : 0;
	error = is_small_json(&head) ? hub_forward_gather(q) : -ENOTSUP;
	if (error == -EAGAIN)
		return -EAGAIN;
	answer = buf_str(&q->body);
	answer = str_from_range(answer.ptr + asked_of(q).len, answer.ptr + answer.len);
	if (is_good(&head))
		learn(h, q, route, answer);
	else if (head.status >= 500)
		hub_doubt_written(h, q, route);
	if (error == -ENOTSUP) {
		hub_forward_stream(h, q, &head, r);
		return 0;
	}
	if (error < 0) {
		reply_abort(r); /* the write may have been done: nobody shall take this for its end */
		return 0;
	}
	if (link_edit_urls(h, q, answer, url_members, &edited) == 0)
		answer = buf_str(&edited);
	hub_forward_fields(h, q, &head, r);
	reply_text(r, head.status, NULL, answer);
	relay_free(TAKE_PTR(q->relay));
	return 0;
}

int hub_written(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	return pass_on(h, q, route, learn_written, r);
}

int hub_repo_moved(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	return pass_on(h, q, route, learn_moved, r);
}

int hub_repo_deleted(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	return pass_on(h, q, route, learn_deleted, r);
}
