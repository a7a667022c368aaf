/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth/knocks - who tries tokens through us (Z12): an address from which too many different tokens were called invalid by
 * upstream is not heard with unknown ones until its minute is over.
 *
 * What counts is upstream's own 401 to a request with a token, once for each token, so that one machine with an expired token
 * shuts nobody out. A token that upstream took lately passes always, and so does who sends none.
 *
 * Owns      the addresses with failures in their last minute; the tokens known to be good. In memory only.
 * Threads   any.
 * Promises  (1) at most KNOCKERS_MAX addresses and GOOD_MAX tokens: beyond that all are forgotten and learned anew.
 */
#include "auth/priv.h"

#include <arpa/inet.h>
#include "common/alloc.h"
#include "common/log.h"

#define WINDOW_MS 60000
#define KNOCKERS_MAX 16384
#define GOOD_MAX 65536

struct knocker {
	uint64_t began_mono_ms;
	unsigned count;
	uint8_t bad[KNOCKS_MAX][SUBJECT_BYTES]; /* the different tokens of this window */
};

void knocks_init(struct knocks *k)
{
	lock_init(&k->lock, LOCK_AUTH);
	k->knockers = map_new();
	k->good = map_new();
}

void knocks_done(struct knocks *k)
{
	map_free(k->knockers, free);
	map_free(k->good, NULL);
	lock_done(&k->lock);
}

static struct str id_str(const uint8_t id[SUBJECT_BYTES])
{
	return (struct str){ (const char *)id, SUBJECT_BYTES };
}

/* One machine may have a whole /64 of IPv6. */
static struct str address_key(const struct peer *p, uint8_t scratch[16])
{
	static const uint8_t v4[12] = { [10] = 0xff, [11] = 0xff };
	size_t len = p->kind == PEER_ADDRESS && memcmp(p->address, v4, sizeof(v4)) != 0 ? 8 : 16;

	memcpy(scratch, p->address, len);
	if (p->kind == PEER_UNIX) {
		memset(scratch, 0, 16);
		memcpy(scratch, &p->uid, sizeof(p->uid));
	}
	return (struct str){ (const char *)scratch, len };
}

/* NULL: nothing to hold against it. */
static struct knocker *find_locked(struct knocks *k, struct str address, uint64_t now_mono_ms)
{
	struct knocker *found = map_get(k->knockers, address);

	if (!found || now_mono_ms - found->began_mono_ms < WINDOW_MS)
		return found;
	free(map_take(k->knockers, address));
	return NULL;
}

static struct knocker *make_locked(struct knocks *k, struct str address, uint64_t now_mono_ms)
{
	struct knocker *made = xcalloc(1, sizeof(*made));

	if (map_count(k->knockers) >= KNOCKERS_MAX) {
		map_free(k->knockers, free);
		k->knockers = map_new();
	}
	made->began_mono_ms = now_mono_ms;
	(void)map_put(k->knockers, address, made);
	return made;
}

/* true: it is the one too many. */
static bool add_bad(struct knocker *k, const uint8_t id[SUBJECT_BYTES])
{
	for (unsigned i = 0; i < k->count; i++)
		if (memcmp(k->bad[i], id, SUBJECT_BYTES) == 0)
			return false;
	if (k->count == KNOCKS_MAX)
		return false;
	memcpy(k->bad[k->count++], id, SUBJECT_BYTES);
	return k->count == KNOCKS_MAX;
}

static void tell(const struct subject *s)
{
	char address[INET6_ADDRSTRLEN] = "unix";

	if (s->peer.kind == PEER_ADDRESS)
		(void)inet_ntop(AF_INET6, s->peer.address, address, sizeof(address));
	log_warning("auth", "an address sent too many invalid tokens: unknown ones are refused for a minute",
		    LOG_TEXT("client", address), LOG_END);
}

void knocks_bad(struct knocks *k, const struct subject *s, uint64_t now_mono_ms)
{
	uint8_t scratch[16];
	struct str address = address_key(&s->peer, scratch);
	struct knocker *knocker;
	bool is_closing;

	lock_take(&k->lock);
	(void)map_take(k->good, id_str(s->id));
	knocker = find_locked(k, address, now_mono_ms);
	if (!knocker)
		knocker = make_locked(k, address, now_mono_ms);
	is_closing = add_bad(knocker, s->id);
	lock_drop(&k->lock);
	if (is_closing)
		tell(s);
}

void knocks_good(struct knocks *k, const struct subject *s)
{
	SCOPED_LOCK(&k->lock);

	if (map_count(k->good) >= GOOD_MAX) {
		map_free(k->good, NULL);
		k->good = map_new();
	}
	(void)map_put(k->good, id_str(s->id), k);
}

uint64_t knocks_wait_ms(struct knocks *k, const struct subject *s, uint64_t now_mono_ms)
{
	uint8_t scratch[16];
	SCOPED_LOCK(&k->lock);
	const struct knocker *knocker = find_locked(k, address_key(&s->peer, scratch), now_mono_ms);

	if (!knocker || knocker->count < KNOCKS_MAX || map_get(k->good, id_str(s->id)))
		return 0;
	return knocker->began_mono_ms + WINDOW_MS - now_mono_ms;
}
