/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/pin - short words given to clients and heard from the Hub, remembered for a while.
 *
 * Promises  (1) a word is kept for the life of its kind from its last put. (2) never more than PINS_MAX of them: the
 *           oldest goes first.
 */
#include "hub/priv.h"

#include "common/alloc.h"

struct pin {
	struct list node;
	uint64_t until_mono_ms;
	char value[COMMIT_TEXT];
	size_t key_len;
	char key[];
};

static void pin_free(void *p)
{
	struct pin *pin = p;

	list_remove(&pin->node);
	free(pin);
}

void pins_init(struct pins *p, uint64_t life_ms)
{
	p->life_ms = life_ms;
	lock_init(&p->lock, LOCK_REQUEST);
	p->by_key = map_new();
	list_init(&p->oldest);
}

void pins_done(struct pins *p)
{
	map_free(p->by_key, pin_free);
	lock_done(&p->lock);
}

static void drop_locked(struct pins *p, struct str key)
{
	struct pin *old = map_take(p->by_key, key);

	if (old)
		pin_free(old);
}

void pins_drop(struct pins *p, struct str key)
{
	SCOPED_LOCK(&p->lock);

	drop_locked(p, key);
}

static void make_room_locked(struct pins *p, uint64_t now_mono_ms)
{
	while (!list_is_empty(&p->oldest)) {
		struct pin *oldest = LIST_ENTRY(p->oldest.next, struct pin, node);

		if (oldest->until_mono_ms > now_mono_ms && map_count(p->by_key) < PINS_MAX)
			return;
		drop_locked(p, (struct str){ oldest->key, oldest->key_len });
	}
}

void pins_put(struct pins *p, struct str key, struct str value, uint64_t now_mono_ms)
{
	struct pin *pin = xcalloc(1, sizeof(*pin) + key.len + 1);

	list_init(&pin->node);
	pin->until_mono_ms = now_mono_ms + p->life_ms;
	memcpy(pin->value, value.ptr, value.len < COMMIT_HEX ? value.len : COMMIT_HEX);
	pin->key_len = key.len;
	memcpy(pin->key, key.ptr, key.len);

	SCOPED_LOCK(&p->lock);
	drop_locked(p, key);
	make_room_locked(p, now_mono_ms);
	map_put(p->by_key, (struct str){ pin->key, pin->key_len }, pin);
	list_add_tail(&p->oldest, &pin->node);
}

bool pins_find(struct pins *p, struct str key, uint64_t now_mono_ms, char ret_value[COMMIT_TEXT])
{
	SCOPED_LOCK(&p->lock);
	const struct pin *pin = map_get(p->by_key, key);

	if (!pin || pin->until_mono_ms <= now_mono_ms)
		return false;
	memcpy(ret_value, pin->value, COMMIT_TEXT);
	return true;
}
