/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth/ticket - words in URLs that stand for a subject, for clients that send their token with the first request only.
 *
 * A ticket is 128 random bits that mean something to this process alone: it is no secret of the Hub's, and a restart voids all.
 * Who asks again for the same thing gets the same ticket, so that many readers of one file do not push out those of others.
 *
 * Owns      the tickets, each with a reference of its subject's token.
 * Never     writes one anywhere; says yes for another repo or another thing than it was made for.
 * Threads   any.
 * Promises  (1) at most TICKETS_MAX, and SHARE_MAX of one subject: whoever wants more loses the one of his own that was not used
 *               for longest, and takes none from others. Only of very many subjects together the oldest of all goes.
 *           (2) none is found TICKET_IDLE_MS after it was last used, or TICKET_LIFE_MS after it was made. A large file on a slow
 *               line takes longer than the first; the second ends what somebody copied out of a log of a proxy.
 */
#include "auth/priv.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/clock.h"

#define TICKETS_MAX 65536
#define SHARE_MAX (TICKETS_MAX / 4)
#define TICKET_IDLE_MS (60 * 60 * 1000)
#define TICKET_LIFE_MS (24 * 60 * 60 * 1000)
/* Given out again only while it has at least this long to live. */
#define TICKET_REST_MS (12 * 60 * 60 * 1000)
#define TICKET_BYTES ((TICKET_TEXT - 1) / 2)

/* Who has tickets. */
struct holder {
	struct list by_use; /* the one not used for longest first */
	size_t count;
	uint8_t id[SUBJECT_BYTES];
};

struct ticket {
	struct list node; /* in tickets.by_use */
	struct list own;  /* in its holder's */
	struct holder *holder;
	char text[TICKET_TEXT];
	struct subject subject; /* owned */
	uint64_t made_mono_ms, used_mono_ms;
	size_t thing_len;
	char thing[]; /* subject, repo, what */
};

static void ticket_free(void *p)
{
	struct ticket *t = p;

	list_remove(&t->node);
	list_remove(&t->own);
	subject_done(&t->subject);
	free(t);
}

void tickets_init(struct tickets *s)
{
	lock_init(&s->lock, LOCK_AUTH);
	s->by_text = map_new();
	s->by_thing = map_new();
	s->holders = map_new();
	list_init(&s->by_use);
}

void tickets_done(struct tickets *s)
{
	map_free(s->by_thing, NULL);
	map_free(s->by_text, ticket_free);
	map_free(s->holders, free);
	lock_done(&s->lock);
}

/* All who are lent to have one id between them. */
static const uint8_t *owner_of(const struct subject *subject)
{
	return subject->borrows == BORROWS_BY_KEY ? subject->key_id : subject->id;
}

static struct str thing_of(const struct subject *subject, struct str repo, struct str what, struct buf *out)
{
	buf_init(out, 16384);
	buf_append(out, owner_of(subject), SUBJECT_BYTES);
	buf_append_str(out, repo);
	buf_append_char(out, 0);
	buf_append_str(out, what);
	return buf_str(out);
}

/* What was lent is not kept: the door lends anew, or does not. Nor is where it came from. */
static struct subject subject_copy(const struct subject *from)
{
	struct subject s = *from;

	s.peer = (struct peer){ .kind = PEER_UNKNOWN };
	if (s.borrows != BORROWS_NOTHING) {
		s.token = NULL;
		s.is_lent = false;
		memset(s.id, 0, SUBJECT_BYTES);
	}
	if (s.token)
		s.token = secret_ref(s.token);
	return s;
}

/* By address: who comes from there needs no ticket, and nobody else is lent anything for one. */
static bool still_borrows(struct auth *a, const struct subject *s)
{
	struct lender *l = s->borrows == BORROWS_BY_KEY ? lender_now(a) : NULL;
	bool is_known = l && lender_knows_key(l, s->key_id);

	lender_unref(l);
	return is_known;
}

static struct str id_str(const uint8_t id[SUBJECT_BYTES])
{
	return (struct str){ (const char *)id, SUBJECT_BYTES };
}

static struct holder *holder_locked(struct tickets *s, const struct subject *subject)
{
	struct holder *holder = map_get(s->holders, id_str(owner_of(subject)));

	if (holder)
		return holder;
	holder = xcalloc(1, sizeof(*holder));
	list_init(&holder->by_use);
	memcpy(holder->id, owner_of(subject), SUBJECT_BYTES);
	(void)map_put(s->holders, id_str(holder->id), holder);
	return holder;
}

static void drop_locked(struct tickets *s, struct ticket *t)
{
	struct str thing = { t->thing, t->thing_len };
	struct holder *holder = t->holder;

	/* a younger one for the same thing may have taken its place */
	if (map_get(s->by_thing, thing) == t)
		(void)map_take(s->by_thing, thing);
	(void)map_take(s->by_text, str_from(t->text));
	ticket_free(t);
	if (--holder->count == 0)
		free(map_take(s->holders, id_str(holder->id)));
}

static bool is_over(const struct ticket *t, uint64_t now)
{
	return now > t->used_mono_ms + TICKET_IDLE_MS || now > t->made_mono_ms + TICKET_LIFE_MS;
}

/* The list is in order of use: those that were not used for too long stand at its head. */
static void make_room_locked(struct tickets *s, uint64_t now)
{
	while (!list_is_empty(&s->by_use)) {
		struct ticket *oldest = LIST_ENTRY(s->by_use.next, struct ticket, node);

		if (!is_over(oldest, now) && map_count(s->by_text) < TICKETS_MAX)
			return;
		drop_locked(s, oldest);
	}
}

static void make_own_room_locked(struct tickets *s, const struct subject *subject)
{
	const struct holder *holder = map_get(s->holders, id_str(owner_of(subject)));

	if (holder && holder->count >= SHARE_MAX)
		drop_locked(s, LIST_ENTRY(holder->by_use.next, struct ticket, own));
}

static void use_locked(struct tickets *s, struct ticket *t, uint64_t now)
{
	t->used_mono_ms = now;
	list_remove(&t->node);
	list_add_tail(&s->by_use, &t->node);
	list_remove(&t->own);
	list_add_tail(&t->holder->by_use, &t->own);
}

static struct ticket *ticket_new(const struct subject *subject, struct str thing, uint64_t now)
{
	struct ticket *t = xcalloc(1, sizeof(*t) + thing.len);
	uint8_t bytes[TICKET_BYTES];

	list_init(&t->node);
	list_init(&t->own);
	random_bytes(bytes, sizeof(bytes));
	format_hex(bytes, sizeof(bytes), t->text);
	t->subject = subject_copy(subject);
	t->made_mono_ms = now;
	t->thing_len = thing.len;
	memcpy(t->thing, thing.ptr, thing.len);
	return t;
}

void auth_ticket_new(struct auth *a, const struct subject *s, struct str repo, struct str what,
		     char ret_ticket[TICKET_TEXT])
{
	uint64_t now = clock_mono_ms(a->clock);
	struct ticket *t;
	SCOPED_BUF scratch;
	struct str thing = thing_of(s, repo, what, &scratch);

	SCOPED_LOCK(&a->tickets.lock);
	t = map_get(a->tickets.by_thing, thing);
	if (!t || is_over(t, now) || now > t->made_mono_ms + TICKET_LIFE_MS - TICKET_REST_MS) {
		make_room_locked(&a->tickets, now);
		make_own_room_locked(&a->tickets, s);
		t = ticket_new(s, thing, now);
		t->holder = holder_locked(&a->tickets, s);
		t->holder->count++;
		(void)map_put(a->tickets.by_thing, thing, t);
		(void)map_put(a->tickets.by_text, str_from(t->text), t);
	}
	use_locked(&a->tickets, t, now);
	memcpy(ret_ticket, t->text, TICKET_TEXT);
}

static int find(struct auth *a, struct str ticket, struct str repo, struct str what,
		struct subject *ret_subject)
{
	uint64_t now = clock_mono_ms(a->clock);
	struct ticket *t;

	SCOPED_LOCK(&a->tickets.lock);
	t = map_get(a->tickets.by_text, ticket);
	if (!t || is_over(t, now))
		return -ENODATA;

	SCOPED_BUF scratch;
	struct str thing = thing_of(&t->subject, repo, what, &scratch);

	if (!str_eq(thing, (struct str){ t->thing, t->thing_len }))
		return -ENODATA;
	use_locked(&a->tickets, t, now);
	*ret_subject = subject_copy(&t->subject);
	return 0;
}

int auth_ticket_find(struct auth *a, struct str ticket, struct str repo, struct str what,
		     const struct peer *from, struct subject *ret_subject)
{
	int r = find(a, ticket, repo, what, ret_subject);

	if (r < 0)
		return r;
	ret_subject->peer = *from;
	if (ret_subject->borrows == BORROWS_NOTHING || still_borrows(a, ret_subject))
		return 0;
	subject_done(ret_subject);
	return -ENODATA;
}
