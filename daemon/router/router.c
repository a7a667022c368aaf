/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router - the table and the walk through it.
 */
#include "router/router.h"

#include <errno.h>
#include <stdatomic.h>
#include "common/alloc.h"
#include "common/http/token.h"
#include "common/log.h"
#include "router/match.h"

enum methods { GET_HEAD = 1, POST_ONLY = 2, ANY = 3 };

struct router {
	struct hub *hub;
	struct infer *infer;
	struct admin *admin;
	char *mark; /* owned, or NULL */
	atomic_bool has_told_of_circle;
};

typedef int (*hub_handler)(struct hub *, struct request *, const struct hub_route *, struct reply *);
typedef int (*admin_handler)(struct admin *, struct request *, struct reply *);

/* admin handlers take no route; the table holds both kinds behind one form. */
#define ADMIN_ENTRY(name)                                                                                    \
	static int name##_entry(struct router *r, struct request *q, const struct hub_route *route,          \
				struct reply *reply)                                                         \
	{                                                                                                    \
		return name(r->admin, q, reply);                                                             \
	}
#define INFER_ENTRY(name)                                                                                    \
	static int name##_entry(struct router *r, struct request *q, const struct hub_route *route,          \
				struct reply *reply)                                                         \
	{                                                                                                    \
		return name(r->infer, q, reply);                                                             \
	}
#define HUB_ENTRY(name)                                                                                      \
	static int name##_entry(struct router *r, struct request *q, const struct hub_route *route,          \
				struct reply *reply)                                                         \
	{                                                                                                    \
		return name(r->hub, q, route, reply);                                                        \
	}
INFER_ENTRY(infer_call)
INFER_ENTRY(infer_large)
INFER_ENTRY(infer_page)
ADMIN_ENTRY(admin_index)
ADMIN_ENTRY(admin_healthz)
ADMIN_ENTRY(admin_readyz)
ADMIN_ENTRY(admin_metrics)
ADMIN_ENTRY(admin_status)
ADMIN_ENTRY(admin_repos)
ADMIN_ENTRY(admin_usage)
ADMIN_ENTRY(admin_repo)
ADMIN_ENTRY(admin_certificate)
HUB_ENTRY(hub_file)
HUB_ENTRY(hub_bucket_file)
HUB_ENTRY(hub_space)
HUB_ENTRY(hub_space_runtime)
HUB_ENTRY(hub_space_host)
HUB_ENTRY(hub_space_by_subdomain)
HUB_ENTRY(hub_space_words)
HUB_ENTRY(hub_raw)
HUB_ENTRY(hub_resolve_cache)
HUB_ENTRY(hub_whoami)
HUB_ENTRY(hub_telemetry)
HUB_ENTRY(hub_forward)
HUB_ENTRY(hub_revision_info)
HUB_ENTRY(hub_tree)
HUB_ENTRY(hub_treesize)
HUB_ENTRY(hub_commits)
HUB_ENTRY(hub_parquet)
HUB_ENTRY(hub_croissant)
HUB_ENTRY(hub_written)
HUB_ENTRY(hub_repo_moved)
HUB_ENTRY(hub_repo_deleted)
HUB_ENTRY(hub_upload)
HUB_ENTRY(hub_lfs_batch)
HUB_ENTRY(hub_lfs_object)
HUB_ENTRY(hub_lfs_other)
HUB_ENTRY(hub_git)
HUB_ENTRY(hub_git_push)
HUB_ENTRY(hub_paths_info)
HUB_ENTRY(hub_refs)
HUB_ENTRY(hub_xet_token)
HUB_ENTRY(hub_xet_write_token)
HUB_ENTRY(hub_xet_upload)
HUB_ENTRY(hub_xet_telemetry)
HUB_ENTRY(hub_manifest)
HUB_ENTRY(hub_registry_blob)
HUB_ENTRY(hub_registry)
HUB_ENTRY(hub_repo_info)
HUB_ENTRY(hub_viewer)

struct row {
	enum methods methods;
	const char *pattern;
	int (*entry)(struct router *r, struct request *q, const struct hub_route *route, struct reply *reply);
	enum metric_route route;
	enum request_body body;
};

static const struct row rows[] = {
#define ROUTE(methods, pattern, handler, route, body)                                                        \
	{ methods, pattern, handler##_entry, ROUTE_##route, BODY_##body },
#include "router/routes.def"
#undef ROUTE
	/* Inference calls are found by their method and first segments, before the table (infer_is_call). */
	{ POST_ONLY, "{rest}", infer_call_entry, ROUTE_INFERENCE, BODY_WHOLE },
	{ POST_ONLY, "{rest}", infer_large_entry, ROUTE_INFERENCE, BODY_STREAM },
	{ ANY, "{rest}", infer_page_entry, ROUTE_INFERENCE, BODY_WHOLE },
	/* The dataset viewer has a host and paths of its own, never taken for the Hub's (A10): found by the host alone. */
	{ ANY, "{rest}", hub_viewer_entry, ROUTE_OTHER, BODY_STREAM },
};
#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))
#define VIEWER_ROW (&rows[ROW_COUNT - 1])
#define PAGE_ROW (&rows[ROW_COUNT - 2])
#define LARGE_ROW (&rows[ROW_COUNT - 3])
#define INFER_ROW (&rows[ROW_COUNT - 4])
#define TABLE_ROWS (ROW_COUNT - 4)

/* Everything a request needs from its path; lives for one call. */
struct match {
	struct segments segments;
	struct buf repo;
	struct hub_route route;
	const struct row *row;
};

struct router *router_new(const struct router_opts *opts)
{
	struct router *r = xcalloc(1, sizeof(*r));

	r->hub = opts->hub;
	r->infer = opts->infer;
	r->admin = opts->admin;
	r->mark = opts->mark ? xstrdup(opts->mark) : NULL;
	return r;
}

void router_free(struct router *r)
{
	if (!r)
		return;
	free(r->mark);
	free(r);
}

static bool is_get(const struct request *q)
{
	return str_eq(str_from(q->method), STR("GET")) || q->is_head;
}

static bool is_known_method(const struct request *q)
{
	static const char *const known[] = { "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (str_eq(str_from(q->method), str_from(known[i])))
			return true;
	return false;
}

static bool is_options(const struct request *q)
{
	return str_eq(str_from(q->method), STR("OPTIONS"));
}

static bool row_takes(const struct row *row, const struct request *q)
{
	return row->methods == ANY || (row->methods == GET_HEAD && is_get(q)) ||
	       (row->methods == POST_ONLY && str_eq(str_from(q->method), STR("POST")));
}

static bool is_viewer(const struct request *q)
{
	return q->host && str_starts_with(str_from(q->host), STR("datasets-server."));
}

static void match_done(struct match *m)
{
	segments_done(&m->segments);
	buf_done(&m->repo);
}

/* Our own pages: no other page may read them, whatever was answered (N08). */
static bool is_own_path(struct str path)
{
	/* what pages upload goes to an address that they were given */
	if (str_starts_with(path, STR("/-/upload/")))
		return false;
	return str_eq(path, STR("/")) || str_eq(path, STR("/-")) || str_starts_with(path, STR("/-/"));
}

/* It looks like a call of inference, and is what clients of Xet send to the root of the host that they upload to. */
static bool is_told_by_uploads(struct str path)
{
	return str_eq(path, STR("/v1/telemetry"));
}

/* Returns 0; -EINVAL a path that cannot be; -EOPNOTSUPP rows fit, but none with this method. */
static int find_row(struct match *m, const struct request *q)
{
	int r = segments_split(&m->segments, q->path);

	m->row = NULL;
	buf_init(&m->repo, 1024);
	if (r < 0)
		return r;
	if (is_viewer(q)) {
		m->row = VIEWER_ROW;
		return 0;
	}
	if (!is_own_path(q->path) && !is_told_by_uploads(q->path) &&
	    (infer_is_call(q) || infer_is_service(q))) {
		m->row = !infer_is_call(q) ? PAGE_ROW : infer_is_large(q) ? LARGE_ROW : INFER_ROW;
		return 0;
	}
	for (size_t i = 0; i < TABLE_ROWS; i++) {
		if (!pattern_matches(rows[i].pattern, &m->segments, &m->repo, &m->route))
			continue;
		if (row_takes(&rows[i], q)) {
			/* only what no row knows better */
			m->row = rows[i].entry == hub_forward_entry && infer_is_page(q) ? PAGE_ROW : &rows[i];
			return 0;
		}
		/* what this cache understands is read only; its writes have paths of their own */
		if (rows[i].methods != ANY && rows[i].route != ROUTE_API)
			return -EOPNOTSUPP;
	}
	return -EINVAL;
}

static bool has_body(const struct request *q)
{
	return q->body_bytes != 0;
}

/* Our own prefix never reaches the Hub, and nothing hidden is a Hub path. */
static bool is_no_hub_path(const struct match *m)
{
	struct str first = m->segments.part[0];

	return str_eq(first, STR("-")) ||
	       (first.len > 0 && first.ptr[0] == '.' && !str_eq(first, STR(".well-known")));
}

static void refuse_method(struct reply *reply)
{
	reply_refuse(reply, ENDPOINT_OWN, 405, "this path is read with GET or HEAD");
	(void)headers_set(&reply->headers, STR("Allow"), STR("GET, HEAD, OPTIONS"));
}

/* A slash hidden in a kind, a namespace or a name: what is passed on must mean the same to upstream as to us. */
static bool hides_a_slash(const struct match *m)
{
	static const char *const with_kind[] = { "datasets", "spaces", "kernels", "buckets", "_space" };
	unsigned names = str_eq(m->segments.part[0], STR("api")) ? 4 : 2;

	for (size_t i = 0; i < sizeof(with_kind) / sizeof(with_kind[0]); i++)
		if (str_eq(m->segments.part[0], str_from(with_kind[i])))
			names = 3;

	for (unsigned i = 0; i < names && i < m->segments.count; i++)
		if (memchr(m->segments.part[i].ptr, '/', m->segments.part[i].len))
			return true;
	return false;
}

/* What is upgraded is carried by nobody who looks into it: only where a foreign program is at the other end. */
static bool is_stray_socket(const struct request *q, const struct match *m)
{
	return is_get(q) && m->row && m->row->entry != hub_space_entry &&
	       str_eq_nocase(str_trim(request_header(q, STR("Upgrade"))), STR("websocket"));
}

static int preflight(struct router *r, struct request *q, struct reply *reply)
{
	(void)hub_preflight(r->hub, q, NULL, reply);
	reply_add_standard(reply, q);
	return 0;
}

/* Has it been sent by ourselves? The machine's own DNS may lead the Hub's name here, or an option may. */
static bool has_come_in_a_circle(struct router *r, const struct request *q)
{
	for (size_t i = 0; r->mark && i < q->headers.count; i++)
		if (str_eq_nocase(str_from(q->headers.fields[i].name), STR("X-HF-Cache-Hop")) &&
		    str_eq(str_from(q->headers.fields[i].value), str_from(r->mark))) {
			if (!atomic_exchange(&r->has_told_of_circle, true))
				log_warning("router",
					    "this daemon asks itself: its own machine must resolve the real "
					    "names of the Hub, and hub.url must not lead here",
					    LOG_TEXT("host", q->host), LOG_END);
			return true;
		}
	return false;
}

int router_classify(struct router *r, struct request *q, struct reply *reply)
{
	struct match m;
	int error = find_row(&m, q);

	q->body_kind = BODY_NONE;
	reply->close = true;
	if (has_come_in_a_circle(r, q)) {
		reply_refuse(reply, ENDPOINT_OWN, 508,
			     "this cache has asked itself: upstream's name leads to it on its own machine "
			     "(DNS, /etc/hosts or hub.url)");
	} else if (target_holds_token(str_from(q->target))) {
		reply_refuse(reply, ENDPOINT_OWN, 400,
			     "tokens belong in the Authorization field, never in a URL");
	} else if (!is_known_method(q)) {
		reply_refuse(reply, ENDPOINT_OWN, 501, "unknown method");
	} else if (error == -EOPNOTSUPP && (!is_options(q) || is_own_path(q->path))) {
		refuse_method(reply);
	} else if (error == -EINVAL || error == -E2BIG || hides_a_slash(&m)) {
		reply_refuse(reply, ENDPOINT_OWN, 400, "this path has an empty, hidden or malformed segment");
	} else if (m.row && (m.row->entry == hub_forward_entry || m.row == VIEWER_ROW) &&
		   is_no_hub_path(&m)) {
		reply_refuse(reply, ENDPOINT_OWN, 404, "no such page");
	} else if (q->is_intercepted && m.row && m.row->route == ROUTE_ADMIN) {
		/* however it is spelled: the client means the Hub (server/ looks at the plain spelling only) */
		reply_refuse(reply, ENDPOINT_OWN, 404, "no such page");
	} else if (has_body(q) && (!m.row || m.row->body == BODY_NONE || is_get(q))) {
		reply_refuse(reply, ENDPOINT_OWN, 400, "this request takes no body");
	} else if (is_stray_socket(q, &m)) {
		reply_refuse(reply, ENDPOINT_OWN, 400,
			     "WebSockets are opened to the apps of Spaces only, below /_space/");
	} else if (m.row && m.row->body == BODY_SMALL && q->body_bytes > REQUEST_BODY_MAX) {
		reply_refuse(reply, ENDPOINT_API, 413, "the body of this request may have 1 MiB at most");
	} else if (m.row && m.row->route == ROUTE_INFERENCE && infer_refuses_length(r->infer, q)) {
		reply_refuse(reply, ENDPOINT_API, 413, "the body is longer than inference.max-request");
	} else {
		q->row = m.row ? (unsigned)(m.row - rows) : 0;
		q->route = m.row ? m.row->route : ROUTE_OTHER;
		q->body_kind = m.row ? m.row->body : BODY_NONE;
		reply->close = false;
		match_done(&m);
		return 0;
	}
	match_done(&m);
	if (!is_own_path(q->path))
		reply_add_standard(reply, q);
	return 1;
}

/* The row is known: only its parts are read again from the path. */
static void read_parts(struct match *m, const struct request *q)
{
	m->row = &rows[q->row];
	m->route = (struct hub_route){ 0 };
	buf_init(&m->repo, 1024);
	(void)segments_split(&m->segments, q->path);
	(void)pattern_matches(m->row->pattern, &m->segments, &m->repo, &m->route);
}

/* Where a path follows a revision, only the repo's own names tell where the one ends. Returns 0 or -EAGAIN. */
static int settle(struct router *r, struct request *q, struct match *m)
{
	struct str pattern = str_from(m->row->pattern);

	if (!str_ends_with(pattern, STR("/{rev}/{path}")) || m->row->entry == hub_resolve_cache_entry)
		return 0;
	return hub_settle_revision(r->hub, q, &m->route, !str_starts_with(pattern, STR("api/")));
}

static int run(struct router *r, struct request *q, struct reply *reply)
{
	struct match m;
	int error;

	read_parts(&m, q);
	error = settle(r, q, &m);
	if (error == 0)
		error = m.row->entry(r, q, &m.route, reply);
	if (error == 0 && m.row->entry == hub_repo_info_entry && reply->status >= 400 && !q->is_head &&
	    str_eq(m.route.kind, STR("models")))
		(void)infer_mapping(r->infer, q, m.route.id, reply);
	if (error == 0 && q->route != ROUTE_ADMIN)
		hub_veil_name(r->hub, &m.route, reply);
	match_done(&m);
	return error;
}

int router_handle(struct router *r, struct request *q, struct reply *reply)
{
	int error;

	if (is_options(q) &&
	    is_own_path(q->path)) { /* no page of another site is told that it may do anything here */
		refuse_method(reply);
		return 0;
	}
	if (is_options(q))
		return preflight(r, q, reply);
	do
		error = run(r, q, reply);
	while (error == -ERESTART); /* what was known misled it; it is known better now (request.h) */
	if (error == 0 && q->route != ROUTE_ADMIN)
		reply_add_standard(reply, q);
	return error;
}
