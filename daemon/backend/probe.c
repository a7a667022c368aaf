/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend/probe - asks each server how it is, and once it is well, which models it has.
 *
 * Every 5 s; every second while one is loading, since somebody may be waiting for it.
 * Threads   fetch.
 */
#include "backend/priv.h"

#include <errno.h>
#include <stdlib.h>

#include "common/alloc.h"

#include "common/banned.h"

#define PROBE_EVERY_MS 5000
#define PROBE_LOADING_MS 1000
#define PROBE_MS 4000
#define LIST_MS 10000

static const struct {
	const char *health, *inventory;
} paths[] = {
	[BACKEND_HF] = { "/health", NULL },
	[BACKEND_TGI] = { "/health", "/info" },
	[BACKEND_TEI] = { "/health", "/info" },
	[BACKEND_VLLM] = { "/health", "/v1/models" },
	[BACKEND_LLAMACPP] = { "/health", "/v1/models" },
	[BACKEND_OLLAMA] = { "/api/version", "/v1/models" },
	[BACKEND_OPENAI] = { "/v1/models", "/v1/models" },
};

/* --- asking --- */

static int on_head(void *ctx, const struct fetch_head *head)
{
	struct one *o = ctx;

	if (head->is_final)
		o->status = head->status;
	return 0;
}

static ssize_t on_body(void *ctx, const void *bytes, size_t len)
{
	struct one *o = ctx;

	return buf_append(&o->body, bytes, len);
}

static void ask(struct one *o, const char *path, uint64_t limit_ms, const struct fetch_ops *ops)
{
	SCOPED_FREE char *target = xasprintf("%s%s", o->base_path, path);
	struct secret *key = backend_key(o->all, o->index);
	struct fetch_request request = { .method = "GET",
					 .origin = FETCH_BACKEND_FIRST + o->index,
					 .target = str_from(target),
					 .token = key,
					 .follow = FETCH_FOLLOW_NONE,
					 .first_byte_timeout_ms = limit_ms,
					 .total_timeout_ms = limit_ms,
					 .body_bytes_max = (uint64_t)4 << 20 };

	o->status = 0;
	buf_reset(&o->body);
	(void)backends_ref(o->all);
	(void)fetch_start(o->all->fetch, &request, ops, o, NULL);
	(void)secret_unref(key);
}

static void on_listed(void *ctx, int error)
{
	struct one *o = ctx;
	struct backends *b = o->all;
	struct served served = { 0 };

	if (error == 0 && o->status == 200 && inventory_read(buf_str(&o->body), &served) == 0) {
		lock_take(&b->lock);
		served_done(&o->served);
		o->served = served;
		o->has_inventory = true;
		lock_drop(&b->lock);
		waiters_wake_all(&b->waiters);
	}
	o->is_listing = false;
	backends_unref(b);
}

static bool wants_inventory(struct one *o)
{
	SCOPED_LOCK(&o->all->lock);

	return paths[o->kind].inventory && !o->has_inventory && !o->all->is_stopping;
}

static void forget_inventory(struct one *o)
{
	SCOPED_LOCK(&o->all->lock);

	o->has_inventory = false; /* what it said stays until it says something else */
}

static void on_probed(void *ctx, int error)
{
	static const struct fetch_ops list_ops = { .on_head = on_head,
						   .on_body = on_body,
						   .on_done = on_listed };
	struct one *o = ctx;

	o->is_probing = false;
	/* an answer of any size has been one */
	health_note(o, o->status ? 0 : error, o->status, true);
	if (o->status == 0 || o->status >= 500) {
		forget_inventory(o);
	} else if (wants_inventory(o)) {
		o->is_listing = true;
		ask(o, paths[o->kind].inventory, LIST_MS, &list_ops);
	}
	backends_unref(o->all);
}

static void probe_all(void *ctx)
{
	static const struct fetch_ops ops = { .on_head = on_head, .on_done = on_probed };
	struct backends *b = ctx;

	if (backends_are_stopping(b)) {
		backends_unref(b);
		return;
	}
	for (unsigned i = 0; i < b->count; i++) {
		struct one *o = &b->ones[i];

		if (o->is_probing || o->is_listing)
			continue;
		o->is_probing = true;
		ask(o, paths[o->kind].health, PROBE_MS, &ops);
	}
	/* takes the reference over */
	fetch_call(b->fetch, health_is_any_loading(b) ? PROBE_LOADING_MS : PROBE_EVERY_MS, probe_all, b);
}

void probe_begin(struct backends *b)
{
	fetch_call(b->fetch, 0, probe_all, backends_ref(b));
}
