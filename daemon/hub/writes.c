/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/writes - what a write through us makes untrue (read your own writes, hub-protocol 8.2 rule 3).
 *
 * From a write on nothing that was known of the repo's names is believed without asking; it is kept for when nobody can be asked.
 * What was asked before it and is answered after it must not bring that back: each write has a number, lessons and the keys of
 * questions carry it. A branch or tag that a write deletes is forgotten by its own name.
 * Pins stay: a client between its HEAD and its GET reads on (P9); only who wrote wants to see what it wrote.
 * Of a write whose client leaves before its answer is booked nobody learns what became of it: what it was about is doubted.
 * Another repo under the same name is another matter: nothing that was known counts any more, and nobody's pins do.
 * Never     touches what is pinned to a commit, unless the repo itself is another one.
 * Promises  (1) for PIN_MS after a write, and so for longer than any question lives, no answer to an older question is
 *               believed.
 */
#include "hub/priv.h"

#include <inttypes.h>
#include <stdio.h>
#include "common/alloc.h"

bool is_write(const struct request *q)
{
	struct str method = str_from(q->method);

	return !str_eq(method, STR("GET")) && !str_eq(method, STR("HEAD")) && !str_eq(method, STR("OPTIONS"));
}

/* Sent with POST, but only questions, or preparations. */
static bool changes_nothing(const struct request *q, const struct hub_route *route)
{
	static const struct str asked[] = { STR("preupload/"), STR("paths-info/") };

	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++)
		if (str_starts_with(route->path, asked[i]))
			return true;
	return q->route == ROUTE_LFS || str_ends_with(q->path, STR("/git-upload-pack"));
}

/* --- numbers --------------------------------------------------------------------------------------------- */

/* Who: NULL for everybody. */
static void write_key(const struct request *who, struct str repo, struct buf *out)
{
	buf_init(out, 8192);
	if (who) {
		buf_append_str(out, str_from(who->client));
		buf_append_char(out, 0);
		buf_append(out, who->subject.id, SUBJECT_BYTES);
	}
	buf_append_str(out, repo);
}

static void put_mark(struct hub *h, const struct request *who, struct str repo, const char *number)
{
	SCOPED_BUF key;

	write_key(who, repo, &key);
	pins_put(&h->writes, buf_str(&key), str_from(number), clock_mono_ms(h->opts.clock));
}

static bool find_mark(struct hub *h, const struct request *who, struct str repo, char ret[COMMIT_TEXT])
{
	SCOPED_BUF key;

	write_key(who, repo, &key);
	return pins_find(&h->writes, buf_str(&key), clock_mono_ms(h->opts.clock), ret);
}

/* No repo's name has a blank: the number under this one is that of the last time it was made anew. */
static struct str anew_name(struct str repo, struct buf *out)
{
	buf_init(out, 8192);
	buf_append_str(out, repo);
	buf_append_str(out, STR(" anew"));
	return buf_str(out);
}

void hub_write_mark(struct hub *h, const struct request *who, struct str repo, struct buf *key)
{
	char number[COMMIT_TEXT];
	SCOPED_BUF name = { 0 };

	if (atomic_load(&h->write_count) == 0)
		return; /* where nobody writes it costs nothing */
	if (find_mark(h, who, repo, number))
		buf_appendf(key, " #%s", number);
	if (find_mark(h, NULL, anew_name(repo, &name), number))
		buf_appendf(key, " !%s", number);
}

bool hub_was_written(struct hub *h, struct str repo, uint64_t since)
{
	char text[COMMIT_TEXT];
	uint64_t number;

	return find_mark(h, NULL, repo, text) && parse_u64(str_from(text), &number) == 0 && number > since;
}

bool hub_was_made_anew(struct hub *h, struct str repo, uint64_t since)
{
	SCOPED_BUF name = { 0 };

	if (atomic_load(&h->write_count) == 0)
		return false;
	return hub_was_written(h, anew_name(repo, &name), since);
}

/* --- forgetting ------------------------------------------------------------------------------------------ */

static void forget_in_index(struct hub *h, enum fact_kind kind, struct str repo, struct str revision)
{
	index_learn(h->opts.index, &(struct fact){ .kind = kind,
						   .repo = repo,
						   .revision = revision,
						   .at = clock_wall_s(h->opts.clock) });
}

static void next_number(struct hub *h, char ret[COMMIT_TEXT])
{
	(void)snprintf(ret, COMMIT_TEXT, "%" PRIu64, atomic_fetch_add(&h->write_count, 1) + 1);
}

static struct str identity_name(struct str repo, const char *what, struct buf *out)
{
	buf_init(out, 8192);
	buf_append_str(out, repo);
	buf_append_str(out, str_from(what));
	return buf_str(out);
}

static uint64_t number_of(struct hub *h, struct str repo, const char *what)
{
	char text[COMMIT_TEXT];
	SCOPED_BUF name = { 0 };
	uint64_t number;

	return find_mark(h, NULL, identity_name(repo, what, &name), text) &&
			       parse_u64(str_from(text), &number) == 0
		       ? number
		       : 0;
}

/* A number of its own for the question that is asked next, so that it joins none that was asked before. */
void hub_doubt_identity(struct hub *h, struct str repo)
{
	char number[COMMIT_TEXT];
	SCOPED_BUF name = { 0 };

	if (number_of(h, repo, " doubt") > number_of(h, repo, " seen"))
		return; /* somebody is asking */
	next_number(h, number);
	put_mark(h, NULL, repo, number);
	put_mark(h, NULL, identity_name(repo, " doubt", &name), number);
}

void hub_saw_identity(struct hub *h, struct str repo, uint64_t when)
{
	uint64_t doubt = number_of(h, repo, " doubt");
	char number[COMMIT_TEXT];
	SCOPED_BUF name = { 0 };

	if (doubt == 0 || when < doubt)
		return;
	(void)snprintf(number, sizeof(number), "%" PRIu64, when);
	put_mark(h, NULL, identity_name(repo, " seen", &name), number);
}

bool hub_has_seen_identity(struct hub *h, struct str repo)
{
	uint64_t doubt = number_of(h, repo, " doubt");

	return doubt && number_of(h, repo, " seen") >= doubt;
}

/* gone: a branch or tag that is no more, or empty. */
static void doubt_names(struct hub *h, const struct request *q, struct str repo, struct str gone)
{
	char number[COMMIT_TEXT];

	next_number(h, number);
	/* the number first: what is learned between is older */
	put_mark(h, NULL, repo, number);
	put_mark(h, q, repo, number);
	forget_in_index(h, FACT_FORGET, repo, gone);
}

void hub_forget_names(struct hub *h, const struct request *q, struct str repo)
{
	doubt_names(h, q, repo, STR(""));
}

/* Rights before what they open. */
void hub_made_anew(struct hub *h, struct str repo)
{
	char number[COMMIT_TEXT];
	SCOPED_BUF name = { 0 };

	next_number(h, number);
	put_mark(h, NULL, repo, number);
	put_mark(h, NULL, anew_name(repo, &name), number);
	auth_forget_repo(h->opts.auth, repo);
	forget_in_index(h, FACT_FORGET_ALL, repo, STR(""));
}

void hub_forget_repo(struct hub *h, const struct request *q, struct str repo)
{
	SCOPED_BUF canonical;

	buf_init(&canonical, 1024);
	(void)index_canonical_repo(h->opts.index, repo, 0, &canonical);
	hub_forget_names(h, q, repo); /* for the mark of who wrote */
	hub_made_anew(h, repo);
	if (str_eq(buf_str(&canonical), repo))
		return;
	learn_alias(h, repo, STR(""), clock_wall_s(h->opts.clock));
	hub_forget_names(h, q, buf_str(&canonical));
	auth_forget_repo(h->opts.auth, buf_str(&canonical));
}

/* Who may read it may be others from now on. */
static bool changes_rights(const struct hub_route *route)
{
	return str_eq(route->path, STR("settings")) ||
	       str_starts_with(route->path, STR("user-access-request/")) ||
	       str_starts_with(route->path, STR("resource-group"));
}

/* DELETE .../branch/dev, .../tag/v1: the name that is no more, or empty. */
static struct str deleted_name(const struct request *q, const struct hub_route *route)
{
	static const struct str kinds[] = { STR("branch/"), STR("tag/") };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (str_eq(str_from(q->method), STR("DELETE")) && str_starts_with(route->path, kinds[i]))
			return str_from_range(route->path.ptr + kinds[i].len,
					      route->path.ptr + route->path.len);
	return STR("");
}

/* However long ago the alias was seen: to look anew at too much does no harm. */
static struct str any_canonical(struct hub *h, const struct hub_route *route, struct buf *out)
{
	buf_init(out, 1024);
	(void)index_canonical_repo(h->opts.index, route->repo, 0, out);
	return buf_str(out);
}

static void forget_written(struct hub *h, const struct request *q, const struct hub_route *route,
			   struct str repo)
{
	doubt_names(h, q, repo, deleted_name(q, route));
	if (!changes_rights(route))
		return;
	auth_forget_repo(h->opts.auth, repo);
	hub_is_not_for_all(h, repo, false);
}

void hub_forget_written(struct hub *h, const struct request *q, const struct hub_route *route)
{
	SCOPED_BUF canonical = { 0 };

	if (!route || route->repo.len == 0 || changes_nothing(q, route))
		return;
	forget_written(h, q, route, any_canonical(h, route, &canonical));
	if (!str_eq(buf_str(&canonical), route->repo))
		forget_written(h, q, route, route->repo); /* what will be asked for under it */
}

/* Of a push it is not known which names it was about: revision empty. */
static void doubt(struct hub *h, const struct request *q, struct str repo, struct str revision)
{
	char commit[COMMIT_TEXT];
	int64_t at;

	if (revision.len == 0) {
		doubt_names(h, q, repo, STR(""));
		return;
	}
	/* kept for when upstream has gone with it, but too old to be used while it is there */
	if (index_find_name(h->opts.index, repo, revision, commit, &at) == 0 && !index_is_doubted(at))
		learn_name(h, repo, revision, str_from(commit), at - (int64_t)(h->name_ttl_ms / 1000) - 1);
}

void hub_doubt_written(struct hub *h, const struct request *q, const struct hub_route *route)
{
	SCOPED_BUF canonical = { 0 };

	if (!route || route->repo.len == 0 || changes_nothing(q, route))
		return;
	doubt(h, q, any_canonical(h, route, &canonical), route->revision);
}

/* --- whose client leaves ----------------------------------------------------------------------------------- */

struct watched {
	struct hub *hub;
	char *repo, *revision; /* owned */
};

static void free_watched(void *p)
{
	struct watched *w = p;

	free(w->repo);
	free(w->revision);
	free(w);
}

static void client_left(void *p)
{
	struct watched *w = p;

	doubt(w->hub, NULL, str_from(w->repo), str_from(w->revision));
	free_watched(w);
}

void hub_watch_written(struct hub *h, struct request *q, const struct hub_route *route)
{
	SCOPED_BUF canonical = { 0 };
	struct watched *w;

	/* without a token nothing is written, and who has none shall not make us ask */
	if (q->trail || !q->subject.token || !is_write(q) || !route || route->repo.len == 0 ||
	    changes_nothing(q, route))
		return;
	w = xcalloc(1, sizeof(*w));
	w->hub = h;
	w->repo = str_dup(any_canonical(h, route, &canonical));
	w->revision = str_dup(route->revision);
	q->trail = w;
	q->free_trail = client_left;
}

void hub_settle_written(struct request *q)
{
	if (q->trail)
		free_watched(TAKE_PTR(q->trail));
	q->free_trail = NULL;
}
