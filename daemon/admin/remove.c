/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/remove - DELETE /-/repos/KIND/NAME: a repo is forgotten, and what no other one names is deleted.
 *
 * Order     what can go is looked for; the repo is forgotten, and that is made durable, in the journal too: no rebuild brings it
 *           back; then the blobs go. A crash in between leaves blobs that nobody names: one day they are evicted.
 * Never     over TCP, for web pages, or while files of the repo are being downloaded: those would be there again at once.
 * Threads   server threads begin; the rest is the room's own thread.
 */
#include "admin/priv.h"

#include <errno.h>
#include <inttypes.h>
#include "common/alloc.h"
#include "common/clock.h"
#include "common/http/uri.h"

#include "common/banned.h"

/* Blobs that the keeper deletes in one go, while others wait for it. */
#define BLOBS_AT_ONCE 256
#define NAMES_BYTES_MAX (1 << 20)

struct removal {
	struct call *call;
	struct admin *admin;
	struct str repo;          /* canonical */
	char commit[COMMIT_TEXT]; /* "": all of it */
	struct alone alone;
	uint64_t files, freed, kept, partial_files;
};

/* --- is anything under way? --- */

struct running {
	struct str repo;
	unsigned count;
};

static void look_at_flight(void *ctx, const struct flight_view *view)
{
	struct running *r = ctx;

	if (view->label.len > r->repo.len && str_starts_with(view->label, r->repo) &&
	    view->label.ptr[r->repo.len] == ' ')
		r->count++;
}

static unsigned count_flights(struct admin *a, struct str repo)
{
	struct running r = { .repo = repo };

	flights_each(a->opts.flights, look_at_flight, &r);
	return r.count;
}

/* --- parts --- */

/* How much of it is there. */
static uint64_t part_bytes(struct part *p, uint64_t size)
{
	uint64_t at = 0, sum = 0;

	while (at < size) {
		uint64_t held = part_held_from(p, at);
		struct byte_range gap;

		sum += held;
		at += held;
		if (at >= size || !part_next_gap(p, at, &gap))
			break;
		at = gap.end;
	}
	return sum;
}

/* One that is being filled, for another repo, stays. */
static void drop_part(struct removal *m, const struct alone_item *item)
{
	struct part *p = NULL;

	if (store_open_part(m->admin->opts.store, &item->content, &p) < 0)
		return;
	m->freed += part_bytes(p, item->content.size);
	m->partial_files++;
	part_drop(p);
	(void)part_unref(p);
}

static void drop_parts(struct removal *m)
{
	for (size_t i = 0; i < m->alone.count; i++)
		if (!m->alone.items[i].is_held && !m->alone.items[i].has_others)
			drop_part(m, &m->alone.items[i]);
}

/* --- forgetting --- */

struct names {
	struct removal *removal;
	struct buf found; /* those that stand for the commit, each with a NUL after it */
};

static int add_name(void *ctx, struct str revision)
{
	struct names *n = ctx;
	char commit[COMMIT_TEXT];

	if (index_find_name(n->removal->admin->opts.index, n->removal->repo, revision, commit, NULL) == 0 &&
	    strcmp(commit, n->removal->commit) == 0 && !memchr(revision.ptr, 0, revision.len)) {
		(void)buf_append_str(&n->found, revision);
		(void)buf_append_char(&n->found, 0);
	}
	return 0;
}

/* What is known of the commit itself stays true; that a name stands for it is known no more. */
static void forget_commit(struct removal *m)
{
	struct index *x = m->admin->opts.index;
	struct names names = { .removal = m };
	struct str rest, name;

	buf_init(&names.found, NAMES_BYTES_MAX);
	(void)index_names_each(x, m->repo, add_name, &names);
	for (rest = buf_str(&names.found); rest.len;) {
		(void)str_cut(rest, 0, &name, &rest);
		index_learn(x, &(struct fact){ .kind = FACT_FORGET,
					       .repo = m->repo,
					       .revision = name,
					       .at = clock_wall_s(m->admin->opts.clock) });
	}
	buf_done(&names.found);
}

static int forget_alias(void *ctx, struct str name)
{
	struct removal *m = ctx;

	index_learn(
		m->admin->opts.index,
		&(struct fact){ .kind = FACT_ALIAS, .repo = name, .at = clock_wall_s(m->admin->opts.clock) });
	return 0;
}

/* Rights before what they open. */
static void forget_repo(struct removal *m)
{
	struct index *x = m->admin->opts.index;

	auth_forget_repo(m->admin->opts.auth, m->repo);
	(void)index_aliases_each(x, m->repo, forget_alias,
				 m); /* one that stays leads to a repo that is asked for anew */
	index_learn(x, &(struct fact){ .kind = FACT_FORGET_ALL,
				       .repo = m->repo,
				       .at = clock_wall_s(m->admin->opts.clock) });
}

/* --- deleting --- */

static int delete_some(struct removal *m, const struct named_blob *blobs, size_t count)
{
	int r = count ? keeper_evict_blobs(m->admin->opts.keeper, blobs, count) : 0;

	for (size_t i = 0; r == 0 && i < count; i++) {
		m->files++;
		m->freed += blobs[i].size;
	}
	return r;
}

static int delete_blobs(struct removal *m)
{
	struct named_blob blobs[BLOBS_AT_ONCE];
	size_t count = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->alone.count; i++) {
		const struct alone_item *item = &m->alone.items[i];

		if (!item->is_held || item->has_others)
			continue;
		blobs[count++] = (struct named_blob){ item->sha256, item->size };
		if (count == BLOBS_AT_ONCE) {
			r = delete_some(m, blobs, count);
			count = 0;
		}
	}
	return r == 0 ? delete_some(m, blobs, count) : r;
}

/* What would be done. */
static void count(struct removal *m)
{
	for (size_t i = 0; i < m->alone.count; i++) {
		const struct alone_item *item = &m->alone.items[i];

		if (!item->is_held)
			m->partial_files += !item->has_others;
		else if (item->has_others)
			m->kept += item->size;
		else if (m->call->is_dry) {
			m->files++;
			m->freed += item->size;
		}
	}
	if (!m->call->is_dry)
		m->partial_files = 0;
}

static int carry_out(struct removal *m)
{
	int r;

	if (m->commit[0])
		forget_commit(m);
	else
		forget_repo(m);
	keeper_sync(m->admin->opts.keeper);
	r = delete_blobs(m);
	drop_parts(m);
	return r;
}

static void write_result(struct removal *m)
{
	struct buf *out = &m->call->body;
	SCOPED_BUF id = { 0 };

	buf_init(&id, m->repo.len + 1);
	admin_write_id(&id, m->repo);
	(void)buf_append_str(out, STR("{\"id\":"));
	(void)json_write_string(out, buf_str(&id));
	if (m->commit[0])
		(void)buf_appendf(out, ",\"commit\":\"%s\"", m->commit);
	(void)buf_appendf(out,
			  ",\"dry_run\":%s,\"files\":%" PRIu64 ",\"partial_files\":%" PRIu64
			  ",\"freed_bytes\":%" PRIu64 ",\"kept_bytes\":%" PRIu64 "}\n",
			  m->call->is_dry ? "true" : "false", m->files, m->partial_files, m->freed, m->kept);
	if (!m->call->is_dry)
		log_info("admin", "forgotten by the administrator", LOG_STR("repo", m->repo),
			 LOG_U64("files", m->files), LOG_U64("bytes", m->freed), LOG_END);
}

/* --- which --- */

static void fail_unknown(struct call *c)
{
	SCOPED_BUF sentence = { 0 };

	buf_init(&sentence, 16384);
	(void)buf_append_str(&sentence, STR("nothing is known of "));
	admin_write_id(&sentence, buf_str(&c->repo));
	if (c->revision.len) {
		(void)buf_append_str(&sentence, STR(" at "));
		(void)buf_append_str(&sentence, buf_str(&c->revision));
	}
	call_fail(c, 404, buf_error(&sentence) ? "nothing is known of it" : buf_str(&sentence).ptr);
}

/* A name, a commit, or the beginning of one. */
static bool find_commit(struct removal *m, struct str revision)
{
	struct index *x = m->admin->opts.index;

	if (revision.len == 0)
		return true;
	return index_find_name(x, m->repo, revision, m->commit, NULL) == 0 ||
	       index_find_commit(x, m->repo, revision, m->commit) == 0;
}

static int find_alone(struct removal *m)
{
	struct usage_query query = admin_usage_query(m->admin);

	if (!find_commit(m, buf_str(&m->call->revision)))
		return -ENODATA;
	return index_find_alone(m->admin->opts.index, m->repo, m->commit[0] ? m->commit : NULL, &query,
				&m->alone);
}

static void remove_found(struct removal *m)
{
	int r = 0;

	count(m);
	if (!m->call->is_dry && count_flights(m->admin, m->repo)) {
		call_fail(m->call, 409,
			  "files of it are being downloaded just now: try again when that is done, or stop "
			  "who downloads them");
		return;
	}
	if (!m->call->is_dry)
		r = carry_out(m);
	if (r < 0)
		call_fail(m->call, 500,
			  "it is forgotten, but not all of its files could be deleted; see the log");
	else
		write_result(m);
}

static void run_remove(struct call *c)
{
	struct removal m = { .call = c, .admin = c->admin };
	SCOPED_BUF canonical = { 0 };
	int r;

	buf_init(&canonical, 4096);
	keeper_sync(c->admin->opts.keeper); /* what was learned until now goes as well */
	m.repo = buf_str(&c->repo);
	r = find_alone(&m);
	/* an old name of a repo that is held under another one */
	if (r == -ENODATA && index_canonical_repo(c->admin->opts.index, m.repo, 0, &canonical) == 0 &&
	    !str_eq(m.repo, buf_str(&canonical))) {
		m.repo = buf_str(&canonical);
		r = find_alone(&m);
	}
	if (r == -ENODATA)
		fail_unknown(c);
	else if (r < 0)
		call_fail_errno(c, r);
	else
		remove_found(&m);
	alone_done(&m.alone);
}

/* --- the handler --- */

/* "/-/repos/models/acme/pub", "/-/repos/inference" */
static int read_repo(struct str path, struct buf *ret_repo)
{
	struct str rest = { path.ptr + strlen("/-/repos/"), path.len - strlen("/-/repos/") }, part;
	unsigned parts = 0;
	const char *kind = NULL;

	while (rest.len) {
		SCOPED_BUF text = { 0 };

		buf_init(&text, 1024);
		(void)str_cut(rest, '/', &part, &rest);
		if (part.len == 0 || uri_decode_segment(part, &text) < 0 || memchr(text.bytes, '/', text.len))
			return -EINVAL;
		if (parts == 0)
			kind = admin_kind(buf_str(&text));
		if (parts)
			(void)buf_append_char(ret_repo, '/');
		(void)buf_append_str(ret_repo, parts ? buf_str(&text) : str_from(kind));
		parts++;
	}
	if (!kind || buf_error(ret_repo))
		return -EINVAL;
	return strcmp(kind, "inference") == 0 ? (parts == 1 ? 0 : -EINVAL)
	       : parts == 2 || parts == 3     ? 0
					      : -EINVAL;
}

static bool may_change(const struct request *q, struct reply *r)
{
	if (!q->is_admin) {
		reply_refuse(r, ENDPOINT_API, 403,
			     "this is done over the admin socket only: use the command hfcache");
		return false;
	}
	return !admin_is_page(q, r);
}

int admin_repo(struct admin *a, struct request *q, struct reply *r)
{
	struct str dry_run = uri_param(q->query, STR("dry-run"));
	struct call *c;
	int has_revision;

	if (q->trail)
		return call_wait(q, r);
	if (!str_eq(str_from(q->method), STR("DELETE"))) {
		reply_refuse(r, ENDPOINT_API, 405,
			     "this path is for DELETE; /-/repos?match= shows a repository");
		(void)headers_set(&r->headers, STR("Allow"), STR("DELETE"));
		return 0;
	}
	if (!may_change(q, r))
		return 0;
	c = call_new(a, run_remove);
	c->is_dry = str_eq(dry_run, STR("1"));
	has_revision = admin_param(q, STR("revision"), &c->revision);
	if (read_repo(q->path, &c->repo) < 0 || has_revision < 0 || (has_revision && c->revision.len == 0) ||
	    (dry_run.ptr && !c->is_dry && !str_eq(dry_run, STR("0")))) {
		call_unref(c);
		reply_refuse(r, ENDPOINT_API, 400,
			     "write /-/repos/models/ORG/NAME, or datasets, spaces, kernels, buckets, or "
			     "/-/repos/inference; dry-run is 0 or 1");
		return 0;
	}
	return call_start(c, q, r);
}
