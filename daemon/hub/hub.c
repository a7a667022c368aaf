/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub - the room's state: what it was given, and its small memories.
 */
#include "hub/space.h"

#include "common/alloc.h"

struct hub *hub_new(const struct hub_opts *opts)
{
	struct hub *h = xcalloc(1, sizeof(*h));

	h->opts = *opts;
	atomic_store(&h->tick, index_latest_shown(h->opts.index));
	pins_init(&h->names, PIN_MS);
	pins_init(&h->promises, PIN_MS);
	layouts_init(&h->layouts);
	hrefs_init(&h->hrefs);
	pins_init(&h->writes, PIN_MS);
	pins_init(&h->not_for_all, FOR_ALL_AGAIN_MS);
	tunnels_init(&h->tunnels);
	xet_uploads_init(&h->xet_uploads);
	h->space_keeps = space_keeps_new();
	return h;
}

struct store_put hub_put_of(const struct hub *h)
{
	return (struct store_put){ .store = h->opts.store,
				   .need_room = h->opts.need_room,
				   .ctx = h->opts.ctx };
}

void hub_set_times(struct hub *h, uint64_t name_ttl_ms, uint64_t doc_ttl_ms)
{
	h->name_ttl_ms = name_ttl_ms;
	h->doc_ttl_ms = doc_ttl_ms;
}

void hub_set_asks_for_all(struct hub *h, bool asks_for_all)
{
	h->asks_for_all = asks_for_all;
}

void hub_free(struct hub *h)
{
	if (!h)
		return;
	pins_done(&h->names);
	pins_done(&h->promises);
	layouts_done(&h->layouts);
	hrefs_done(&h->hrefs);
	pins_done(&h->writes);
	pins_done(&h->not_for_all);
	tunnels_done(&h->tunnels);
	xet_uploads_done(&h->xet_uploads);
	space_keeps_unref(h->space_keeps);
	free(h);
}
