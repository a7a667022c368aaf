/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/layout - where each item of a whole tree lies in its text, and in which folder it is.
 *
 * Made in one walk over the stored text, kept for the trees that were asked about last. So a folder, some paths or
 * what comes after a cursor is found without reading the text again, and is given in the Hub's own bytes and order.
 * The order is the text's: a listing of one folder is what is left when the items of other folders are taken out,
 * whether the Hub walks level by level or depth first.
 *
 * Owns      the layouts kept in the hub's memory.
 * Threads   any. A layout never changes once made. Making one reads the disk.
 * Promises  (1) at most LAYOUTS_MAX trees and LAYOUT_ITEMS_MAX items are kept: the oldest use goes first.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/path.h"

#define LAYOUTS_MAX 64
#define LAYOUT_ITEMS_MAX 500000   /* 20 MB */
#define WINDOW_BYTES (256 * 1024) /* no item is longer */

struct builder {
	struct layout *layout;
	size_t room;
};

void layouts_init(struct layouts *s)
{
	lock_init(&s->lock, LOCK_REQUEST);
	list_init(&s->latest);
}

struct layout *layout_unref(struct layout *l)
{
	if (l && atomic_fetch_sub(&l->refs, 1) == 1) {
		free(l->items);
		free(l->by_path);
		free(l);
	}
	return NULL;
}

void layouts_done(struct layouts *s)
{
	LIST_EACH(it, &s->latest) {
		struct layout *l = LIST_ENTRY(it, struct layout, node);

		list_remove(it);
		layout_unref(l);
	}
	lock_done(&s->lock);
}

/* FNV-1a: it only narrows the search; the text itself decides. */
static uint64_t hash_of(struct str path)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < path.len; i++)
		h = (h ^ (unsigned char)path.ptr[i]) * 0x100000001b3u;
	return h;
}

static struct str folder_of(struct str path)
{
	const char *slash = path.len ? memrchr(path.ptr, '/', path.len) : NULL;

	return slash ? str_from_range(path.ptr, slash) : STR("");
}

static int read_member(struct str item, const char *member, struct buf *out)
{
	struct str raw;
	int r = json_find_member(item, member, &raw);

	buf_init(out, WINDOW_BYTES);
	return r < 0 ? r : json_unquote(raw, out);
}

static int add_item(struct builder *b, struct str text, uint64_t offset)
{
	struct layout *l = b->layout;
	struct layout_item *item;
	SCOPED_BUF path = { 0 }, type = { 0 };

	if (read_member(text, "path", &path) < 0 || read_member(text, "type", &type) < 0 ||
	    offset + text.len > UINT32_MAX)
		return -EBADMSG;
	if (l->count == LAYOUT_ITEMS_MAX)
		return -E2BIG;
	if (l->count == b->room) {
		b->room = b->room ? 2 * b->room : 64;
		l->items = xrealloc(l->items, b->room * sizeof(*l->items));
	}
	item = &l->items[l->count++];
	*item = (struct layout_item){ .hash = hash_of(buf_str(&path)),
				      .folder_hash = hash_of(folder_of(buf_str(&path))),
				      .offset = (uint32_t)offset,
				      .length = (uint32_t)text.len,
				      .folder = LAYOUT_ROOT,
				      .is_folder = str_eq(buf_str(&type), STR("directory")),
				      .is_at_root = folder_of(buf_str(&path)).len == 0 };
	return 0;
}

/* The elements that lie in this piece of the text. Returns 1 at the end of the array, -EAGAIN: more text is needed. */
static int add_piece(struct builder *b, struct str piece, uint64_t offset, size_t *ret_used)
{
	struct str rest = piece, item;
	int r;

	while ((r = json_next_element(&rest, &item)) == 1) {
		r = add_item(b, item, offset + (uint64_t)(item.ptr - piece.ptr));
		if (r < 0)
			return r;
	}
	*ret_used = (size_t)(rest.ptr - piece.ptr);
	return r == 0 ? 1 : r;
}

static int walk_text(struct builder *b, struct blob *blob)
{
	SCOPED_FREE char *window = xmalloc(WINDOW_BYTES);
	uint64_t size = blob_size(blob), at = 1;

	for (int r = -EAGAIN; r == -EAGAIN;) {
		size_t len = size - at < WINDOW_BYTES ? size - at : WINDOW_BYTES, used = 0;

		r = blob_read(blob, at, window, len);
		if (r < 0)
			return r;
		r = add_piece(b, (struct str){ window, len }, at, &used);
		if (r == 1)
			return 0;
		if (r != -EAGAIN || used == 0)
			return r == -EAGAIN ? -EBADMSG
					    : r; /* promise of WINDOW_BYTES: or the text is cut off */
		at += used;
	}
	return -EBADMSG;
}

/* By hash, then by place in the text. */
static int compare(const void *a, const void *b, void *ctx)
{
	const struct layout_item *items = ctx;
	uint32_t i = *(const uint32_t *)a, k = *(const uint32_t *)b;

	if (items[i].hash != items[k].hash)
		return items[i].hash < items[k].hash ? -1 : 1;
	return i < k ? -1 : i > k;
}

/* The first in by_path whose hash is not smaller. */
static size_t lower_bound(const struct layout *l, uint64_t hash)
{
	size_t low = 0, high = l->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (l->items[l->by_path[middle]].hash < hash)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Two paths with one hash would make the folder of an item a guess: such a tree answers for no folder. */
static void find_folders(struct layout *l)
{
	l->has_folders = true;
	for (size_t i = 1; i < l->count; i++)
		if (l->items[l->by_path[i]].hash == l->items[l->by_path[i - 1]].hash)
			l->has_folders = false;
	for (size_t i = 0; l->has_folders && i < l->count; i++) {
		struct layout_item *item = &l->items[i];
		size_t at = lower_bound(l, item->folder_hash);

		if (item->is_at_root)
			continue;
		if (at == l->count || l->items[l->by_path[at]].hash != item->folder_hash ||
		    !l->items[l->by_path[at]].is_folder || l->by_path[at] >= i)
			l->has_folders = false;
		else
			item->folder = l->by_path[at];
	}
}

static struct layout *layout_new(struct blob *blob, const struct digest *body)
{
	struct layout *l = xcalloc(1, sizeof(*l));
	struct builder b = { .layout = l };

	l->refs = 1;
	l->body = *body;
	list_init(&l->node);
	if (walk_text(&b, blob) < 0)
		return layout_unref(l);
	l->by_path = xcalloc(l->count + 1, sizeof(*l->by_path));
	for (size_t i = 0; i < l->count; i++)
		l->by_path[i] = (uint32_t)i;
	if (l->count)
		qsort_r(l->by_path, l->count, sizeof(*l->by_path), compare, l->items);
	find_folders(l);
	return l;
}

static struct layout *find_locked(struct layouts *s, const struct digest *body)
{
	LIST_EACH(it, &s->latest) {
		struct layout *l = LIST_ENTRY(it, struct layout, node);

		if (!digest_eq(&l->body, body))
			continue;
		list_remove(it);
		list_add_head(&s->latest, it);
		atomic_fetch_add(&l->refs, 1);
		return l;
	}
	return NULL;
}

static struct layout *find(struct layouts *s, const struct digest *body)
{
	SCOPED_LOCK(&s->lock);

	return find_locked(s, body);
}

static void keep(struct layouts *s, struct layout *l)
{
	struct layout *twin;
	SCOPED_LOCK(&s->lock);

	twin = find_locked(s, &l->body); /* another thread may have been first */
	if (twin) {
		layout_unref(twin);
		return;
	}
	atomic_fetch_add(&l->refs, 1);
	list_add_head(&s->latest, &l->node);
	s->count++;
	s->items += l->count;
	while (s->count > LAYOUTS_MAX || (s->items > LAYOUT_ITEMS_MAX && s->count > 1)) {
		struct layout *oldest = LIST_ENTRY(s->latest.prev, struct layout, node);

		list_remove(&oldest->node);
		s->count--;
		s->items -= oldest->count;
		layout_unref(oldest);
	}
}

struct layout *layout_of(struct layouts *s, struct blob *blob, const struct digest *body)
{
	struct layout *l = find(s, body);

	if (l)
		return l;
	l = layout_new(blob, body);
	if (l)
		keep(s, l);
	return l;
}

int layout_path(const struct layout *l, struct blob *blob, uint32_t at, struct buf *out)
{
	const struct layout_item *item = &l->items[at];
	SCOPED_FREE char *text = xmalloc(item->length);
	int r = blob_read(blob, item->offset, text, item->length);

	buf_init(out, 0);
	return r < 0 ? r : read_member((struct str){ text, item->length }, "path", out);
}

static bool has_path(const struct layout *l, struct blob *blob, uint32_t at, struct str path)
{
	SCOPED_BUF got;

	return layout_path(l, blob, at, &got) == 0 && str_eq(buf_str(&got), path);
}

uint32_t layout_find(const struct layout *l, struct blob *blob, struct str path)
{
	uint64_t hash = hash_of(path);

	for (size_t i = lower_bound(l, hash); i < l->count && l->items[l->by_path[i]].hash == hash; i++)
		if (has_path(l, blob, l->by_path[i], path))
			return l->by_path[i];
	return LAYOUT_ROOT;
}

/* A folder comes before what is in it, so this ends. */
bool layout_is_below(const struct layout *l, uint32_t item, uint32_t folder, bool at_any_depth)
{
	uint32_t at = l->items[item].folder;

	if (!at_any_depth || folder == LAYOUT_ROOT)
		return at_any_depth || at == folder;
	while (at != LAYOUT_ROOT && at != folder)
		at = l->items[at].folder;
	return at == folder;
}
