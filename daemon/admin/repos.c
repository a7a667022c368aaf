/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/repos - /-/repos: what is held of which repo, in pages; and the door of /-/usage.
 *
 * A list is looked through once and then given in pages, so that neither its text nor an answer grows with the number of repos.
 *
 * Never     names a repo that is not public but to the administrator's own socket, nor says whether one of a given name is there:
 *           those are counted all together, whatever was asked for.
 * Threads   server threads begin; the rest is the room's own thread.
 */
#include "admin/priv.h"

#include <errno.h>
#include <inttypes.h>
#include "common/alloc.h"
#include "common/http/host.h"
#include "common/http/uri.h"

#include "common/banned.h"

#define PAGE_ROWS 1000
#define PAGE_BYTES (4 << 20)
#define REVISIONS_MAX 10000
/* Lists that somebody is in the middle of; the oldest gives way. */
#define SNAPSHOTS 4

struct snapshot {
	uint64_t id;         /* 0: none */
	struct usage *usage; /* owned */
};

void snapshots_free(struct snapshot *all)
{
	for (int i = 0; all && i < SNAPSHOTS; i++)
		usage_free(all[i].usage);
	free(all);
}

/* --- questions --- */

int admin_param(const struct request *q, struct str name, struct buf *out)
{
	struct str raw = uri_param(q->query, name);

	if (!raw.ptr)
		return 0;
	return uri_decode_segment(raw, out) < 0 ? -EINVAL : 1;
}

bool admin_is_page(const struct request *q, struct reply *r)
{
	if (!request_header(q, STR("Origin")).ptr && !request_header(q, STR("Sec-Fetch-Site")).ptr &&
	    !request_header(q, STR("Sec-Fetch-Mode")).ptr && !request_header(q, STR("Referer")).ptr)
		return false;
	reply_refuse(r, ENDPOINT_API, 403, "this is not for web pages: use the command hfcache");
	return true;
}

/* --- one repo --- */

struct revisions {
	struct buf *out;
	unsigned count;
};

static int write_revision(void *ctx, const struct usage_commit *commit)
{
	struct revisions *v = ctx;
	const char *separator = "";

	if (v->count == REVISIONS_MAX)
		return 1;
	(void)buf_appendf(v->out, "%s{\"commit\":\"%s\",\"names\":[", v->count++ ? "," : "", commit->commit);
	for (struct str rest = commit->names; rest.len;) {
		struct str name;

		(void)str_cut(rest, 0, &name, &rest);
		(void)buf_append_str(v->out, str_from(separator));
		(void)json_write_string(v->out, name);
		separator = ",";
	}
	(void)buf_appendf(v->out,
			  "],\"files\":%" PRIu64 ",\"partial_files\":%" PRIu64 ",\"bytes\":%" PRIu64 "}",
			  commit->files, commit->partial_files, commit->bytes);
	return 0;
}

static int write_revisions(struct call *c, struct str repo)
{
	struct usage_query query = admin_usage_query(c->admin);
	struct revisions v = { .out = &c->body };
	int r;

	(void)buf_append_str(&c->body, STR(",\"revisions\":["));
	r = index_commits_each(c->admin->opts.index, repo, &query, write_revision, &v);
	(void)buf_append_str(&c->body, STR("]"));
	return r < 0 ? r : 0;
}

static int write_repo(struct call *c, const struct usage_row *row)
{
	struct str name, repo = str_from(row->repo), kind = admin_split_repo(repo, &name);
	bool is_answers = admin_is_inference(repo);
	int r = 0;

	(void)buf_append_str(&c->body, STR("{\"id\":"));
	admin_write_id_json(&c->body, repo);
	(void)buf_append_str(&c->body, STR(",\"kind\":"));
	(void)json_write_string(&c->body, kind);
	(void)buf_append_str(&c->body, STR(",\"name\":"));
	(void)json_write_string(&c->body, name);
	(void)buf_appendf(&c->body,
			  ",\"visibility\":\"%s\",\"bytes\":%" PRIu64 ",\"files\":%" PRIu64
			  ",\"partial_files\":%" PRIu64 ",\"documents\":%" PRIu64 ",\"commits\":%" PRIu64
			  ",\"used_at\":%lld",
			  row->is_public ? "public" : "protected", row->bytes,
			  is_answers ? row->documents : row->files, row->partial_files, row->documents,
			  row->commits, (long long)row->used_at);
	if (c->is_admin) /* it may be shared with what is not shown */
		(void)buf_appendf(&c->body, ",\"shared_bytes\":%" PRIu64, row->shared_bytes);
	if (c->wants_revisions)
		r = write_revisions(c, repo);
	(void)buf_append_str(&c->body, STR("}"));
	return r;
}

/* --- a page --- */

static void write_next(struct call *c, uint64_t id, size_t from)
{
	SCOPED_BUF next = { 0 };

	buf_init(&next, 8192);
	(void)buf_appendf(&next, "/-/repos?cursor=%016" PRIx64 "-%zu", id, from);
	if (c->kind)
		(void)buf_appendf(&next, "&kind=%s", c->kind);
	if (c->match.len) {
		(void)buf_append_str(&next, STR("&match="));
		(void)uri_encode(buf_str(&c->match), NULL, &next);
	}
	if (c->wants_revisions)
		(void)buf_append_str(&next, STR("&revisions=1"));
	(void)buf_append_str(&c->body, STR(",\"next\":"));
	(void)json_write_string(&c->body, buf_str(&next));
}

/* Returns where the next page begins, or the number of rows; -errno. */
static int64_t write_rows(struct call *c, const struct usage *u)
{
	size_t written = 0, i;

	for (i = c->from; i < u->count && written < PAGE_ROWS && c->body.len < PAGE_BYTES; i++) {
		int r;

		if (atomic_load(&c->admin->is_stopping))
			return -ECANCELED;
		if (!admin_is_shown(c, &u->rows[i]) || !admin_fits(c, &u->rows[i]))
			continue;
		if (written++)
			(void)buf_append_str(&c->body, STR(",\n"));
		r = write_repo(c, &u->rows[i]);
		if (r < 0)
			return r;
	}
	return (int64_t)i;
}

static struct snapshot *find_snapshot(struct admin *a, uint64_t id)
{
	for (int i = 0; a->snapshots && id && i < SNAPSHOTS; i++)
		if (a->snapshots[i].id == id)
			return &a->snapshots[i];
	return NULL;
}

static void drop_snapshot(struct snapshot *s)
{
	usage_free(s->usage);
	*s = (struct snapshot){ .id = 0 };
}

static struct snapshot *keep_snapshot(struct admin *a, struct usage *usage)
{
	struct snapshot *s;

	if (!a->snapshots)
		a->snapshots = xcalloc(SNAPSHOTS, sizeof(*a->snapshots));
	s = &a->snapshots[SNAPSHOTS - 1];
	drop_snapshot(s);
	memmove(a->snapshots + 1, a->snapshots, (SNAPSHOTS - 1) * sizeof(*s));
	a->snapshots[0] = (struct snapshot){ .usage = usage };
	random_bytes(&a->snapshots[0].id, sizeof(a->snapshots[0].id));
	return &a->snapshots[0];
}

static void write_page(struct call *c, struct snapshot *s)
{
	const struct usage *u = s->usage;
	int64_t next;

	(void)buf_appendf(&c->body, "{\"repos\":[\n");
	next = write_rows(c, u);
	if (next < 0) {
		call_fail_errno(c, (int)next);
		drop_snapshot(s);
		return;
	}
	(void)buf_appendf(&c->body, "],\"hidden\":%" PRIu64, admin_count_hidden(c, u));
	if ((size_t)next < u->count)
		write_next(c, s->id, (size_t)next);
	else
		drop_snapshot(s);
	(void)buf_append_str(&c->body, STR("}\n"));
}

static bool is_partial(void *ctx, const struct content_id *content)
{
	const struct admin *a = ctx;

	return store_has_part(a->opts.store, content);
}

struct usage_query admin_usage_query(struct admin *a)
{
	struct store_usage usage;

	store_usage(a->opts.store, &usage);
	return (struct usage_query){ .is_partial = usage.partial || usage.reserved ? is_partial : NULL,
				     .ctx = a,
				     .is_stopping = &a->is_stopping };
}

/* What was learned until now is looked at as well. */
int admin_survey(struct call *c, struct usage **ret_usage)
{
	struct usage_query query = admin_usage_query(c->admin);

	keeper_sync_uses(c->admin->opts.keeper);
	return index_survey(c->admin->opts.index, &query, ret_usage);
}

static void run_repos(struct call *c)
{
	struct snapshot *s = find_snapshot(c->admin, c->snapshot);
	struct usage *usage = NULL;
	int r;

	if (c->snapshot && !s) {
		call_fail(c, 410, "this list was given up: begin it again");
		return;
	}
	if (!s) {
		r = admin_survey(c, &usage);
		if (r < 0) {
			call_fail_errno(c, r);
			return;
		}
		s = keep_snapshot(c->admin, usage);
	}
	write_page(c, s);
}

/* --- the handlers --- */

/* "0123456789abcdef-1000" */
static int read_cursor(const struct request *q, struct call *c)
{
	struct str raw = uri_param(q->query, STR("cursor")), id, from;
	uint8_t bytes[8];

	if (!raw.ptr)
		return 0;
	if (!str_cut(raw, '-', &id, &from) || parse_hex(id, bytes, sizeof(bytes)) < 0 ||
	    parse_u64(from, &c->from) < 0)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(bytes); i++)
		c->snapshot = c->snapshot << 8 | bytes[i];
	return c->snapshot ? 0 : -EINVAL;
}

static int read_question(const struct request *q, struct call *c)
{
	SCOPED_BUF kind = { 0 };
	SCOPED_BUF by = { 0 };
	int r, has_by;

	buf_init(&kind, 64);
	buf_init(&by, 64);
	c->is_admin = q->is_admin;
	c->wants_revisions = str_eq(uri_param(q->query, STR("revisions")), STR("1"));
	c->by = "kind";
	has_by = admin_param(q, STR("by"), &by);
	if (has_by > 0)
		c->by = str_eq(buf_str(&by), STR("repo"))   ? "repo"
			: str_eq(buf_str(&by), STR("org"))  ? "org"
			: str_eq(buf_str(&by), STR("kind")) ? "kind"
							    : NULL;
	r = admin_param(q, STR("kind"), &kind);
	if (r > 0)
		c->kind = admin_kind(buf_str(&kind));
	if (r < 0 || (r > 0 && !c->kind) || has_by < 0 || !c->by ||
	    admin_param(q, STR("match"), &c->match) < 0)
		return -EINVAL;
	return read_cursor(q, c);
}

/*
 * Over TCP: from this machine itself, not through a proxy that runs here, and under a name that only leads here: a web page whose
 * own name was made to lead to this machine has no other one.
 */
static bool is_from_here(const struct request *q, struct reply *r)
{
	static const char *const proxies[] = { "X-Forwarded-For", "Forwarded", "X-Real-IP", "Via" };
	struct str host = host_without_port(str_from(q->host));
	bool is_here = str_eq_nocase(host, STR("localhost")) ||
		       (str_starts_with(host, STR("127.")) && !host_is_name(host)) ||
		       str_eq(host, STR("[::1]")) || str_eq(host, STR("::1")) ||
		       str_starts_with(str_from(q->client), STR("unix"));

	if (!admin_is_local(q, r))
		return false;
	for (size_t i = 0; i < sizeof(proxies) / sizeof(proxies[0]); i++)
		is_here = is_here && !request_header(q, str_from(proxies[i])).ptr;
	if (!is_here)
		reply_refuse(r, ENDPOINT_API, 403,
			     "this is shown on the server itself only: ask http://127.0.0.1, or use the "
			     "command hfcache");
	return is_here;
}

static int answer(struct admin *a, struct request *q, struct reply *r, void (*run)(struct call *c))
{
	struct call *c;

	if (q->trail)
		return call_wait(q, r);
	if ((!q->is_admin && !is_from_here(q, r)) || admin_is_page(q, r))
		return 0;
	c = call_new(a, run);
	if (read_question(q, c) < 0) {
		call_unref(c);
		reply_refuse(r, ENDPOINT_API, 400,
			     "kind is model, dataset, space, kernel, bucket or inference; by is repo, org or "
			     "kind; cursor comes from the "
			     "page before");
		return 0;
	}
	return call_start(c, q, r);
}

int admin_repos(struct admin *a, struct request *q, struct reply *r)
{
	return answer(a, q, r, run_repos);
}

int admin_usage(struct admin *a, struct request *q, struct reply *r)
{
	return answer(a, q, r, admin_run_usage);
}
