/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/partmap - the map beside a part, and the parts that nobody has open.
 *
 *   hfcached map 1
 *   content=s-<sha256>           or g-<git sha1>: the part's key again
 *   size=70254592
 *   validator=<hex of the ETag>  hex, so that no byte of upstream's is ever a line of ours
 *   range=0-67108864             first byte, byte after the last; in order, apart from each other
 *   check=…
 *
 * Promises  (1) a map names only ranges whose bytes were synced before the map was (S3).
 * Threads   maps are saved by the keeper, or by whoever lets go of a part last.
 */
#include "store/priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/path.h"

#include "common/banned.h"

#define MAP_MAGIC STR("hfcached map 1\n")
/* Its client is most likely about to come back: blobs go first. */
#define IDLE_PART_KEEP_S 3600

void part_file_name(const char *key, const char *suffix, char ret_name[INCOMING_NAME_TEXT])
{
	(void)snprintf(ret_name, INCOMING_NAME_TEXT, "%s%s", key, suffix);
}

void part_map_done(struct part_map *m)
{
	ranges_done(&m->held);
	free(m->validator);
	m->validator = NULL;
}

int part_map_encode(const char *key, const struct part_map *m, struct buf *out)
{
	char hex[2 * VALIDATOR_MAX + 1];
	size_t len = strlen(m->validator);

	assert(len <= VALIDATOR_MAX);
	format_hex((const uint8_t *)m->validator, len, hex);
	buf_append_str(out, MAP_MAGIC);
	buf_appendf(out, "content=%s\nsize=%" PRIu64 "\nvalidator=%s\n", key, m->size, hex);
	for (size_t i = 0; i < m->held.count; i++)
		buf_appendf(out, "range=%" PRIu64 "-%" PRIu64 "\n", m->held.at[i].first, m->held.at[i].end);
	return seal_close(out);
}

static int parse_range(struct str value, struct part_map *m)
{
	uint64_t before = m->held.count ? m->held.at[m->held.count - 1].end : 0;
	struct byte_range range;
	struct str first, end;

	if (!str_cut(value, '-', &first, &end) || parse_u64(first, &range.first) < 0 ||
	    parse_u64(end, &range.end) < 0)
		return -EBADMSG;
	if (range.first < before || range.first >= range.end || range.end > m->size)
		return -EBADMSG;
	ranges_add(&m->held, range);
	return 0;
}

static int parse_validator(struct str value, struct part_map *m)
{
	size_t len = value.len / 2;
	char *text;

	if (m->validator || len > VALIDATOR_MAX)
		return -EBADMSG;
	text = xcalloc(1, len + 1);
	if (parse_hex(value, (uint8_t *)text, len) < 0 || memchr(text, 0, len)) {
		free(text);
		return -EBADMSG;
	}
	m->validator = text;
	return 0;
}

static int parse_line(struct str key, struct str value, struct str want, struct part_map *m,
		      bool *has_content)
{
	if (str_eq(key, STR("content"))) {
		*has_content = str_eq(value, want);
		return 0;
	}
	if (str_eq(key, STR("size")))
		return m->held.count || parse_u64(value, &m->size) < 0 ? -EBADMSG : 0;
	if (str_eq(key, STR("validator")))
		return parse_validator(value, m);
	if (str_eq(key, STR("range")))
		return parse_range(value, m);
	return 0; /* of a later program */
}

int part_map_decode(struct str text, struct str key, struct part_map *ret_map)
{
	SCOPED_PART_MAP m = { .size = 0 };
	bool has_content = false;
	struct str body, name, value;
	int r = seal_open(text, MAP_MAGIC, &body);

	while (r == 0 && seal_next(&body, &name, &value))
		r = parse_line(name, value, key, &m, &has_content);
	if (r < 0 || body.len || !has_content || !m.validator)
		return -EBADMSG;
	*ret_map = m;
	m = (struct part_map){ .size = 0 };
	return 0;
}

int part_map_load(struct store *s, const char *key, struct part_map *ret_map)
{
	char name[INCOMING_NAME_TEXT];
	SCOPED_BUF text;
	int r;

	buf_init(&text, MAP_BYTES_MAX);
	part_file_name(key, ".map", name);
	r = fs_read_file(s->incoming_fd, name, &text);
	if (r == -ENOENT)
		return -ENODATA;
	if (r == -E2BIG || r == -ELOOP || r == -EISDIR || r == -EINVAL)
		return -EBADMSG;
	if (r < 0)
		return r;
	return part_map_decode(buf_str(&text), str_from(key), ret_map);
}

static void snapshot(struct part *p, struct part_map *ret_map, unsigned *ret_resets)
{
	SCOPED_LOCK(&p->lock);

	*ret_map = (struct part_map){ .size = p->id.size, .validator = xstrdup(p->validator) };
	ranges_copy(&p->held, &ret_map->held);
	*ret_resets = p->resets;
	p->unmapped_bytes = 0;
	p->is_map_stale = false;
}

static int sync_bytes(struct part *p)
{
	int r;

	do
		r = fdatasync(p->fd);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return 0;
	r = -errno;
	lock_take(&p->lock);
	p->is_broken = true;
	lock_drop(&p->lock);
	return r;
}

static int write_map(struct part *p, const struct part_map *m)
{
	char name[INCOMING_NAME_TEXT];
	SCOPED_BUF text;
	int r;

	buf_init(&text, MAP_BYTES_MAX);
	r = part_map_encode(p->key, m, &text);
	if (r < 0)
		return r;
	part_file_name(p->key, ".map", name);
	r = fs_replace_file(p->store->incoming_fd, name, text.bytes, text.len, 0600);
	return r < 0 ? r : fs_sync_dir(p->store->incoming_fd, NULL);
}

/* Was the part emptied while the map was written? Then the map is of bytes that have gone. */
static bool note_saved(struct part *p, int r, unsigned resets)
{
	SCOPED_LOCK(&p->lock);

	if (p->resets != resets)
		return false;
	if (r == 0)
		p->has_map = true;
	else
		p->is_map_stale = true;
	return true;
}

int part_map_save(struct part *p)
{
	SCOPED_PART_MAP m = { .size = 0 };
	char name[INCOMING_NAME_TEXT];
	unsigned resets;
	int r;

	snapshot(p, &m, &resets);
	r = sync_bytes(p);
	if (r == 0)
		r = write_map(p, &m);
	if (!note_saved(p, r, resets)) {
		part_file_name(p->key, ".map", name);
		(void)fs_unlink(p->store->incoming_fd, name);
	}
	return r == -EDQUOT ? -ENOSPC : store_error(p->store, r);
}

uint64_t part_punch(int fd, const struct ranges *held, uint64_t size)
{
	struct byte_range gap = { 0, 0 };
	SCOPED_RANGES blocks;
	uint64_t on_disk = 0;
	struct stat st;

	/* a file system that cannot do it keeps the blocks, and the charge says so */
	while (ranges_next_gap(held, gap.end, size, &gap))
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)gap.first,
			      (off_t)(gap.end - gap.first)) < 0)
			break;
	if (fstat(fd, &st) == 0)
		on_disk = (uint64_t)st.st_blocks * 512;
	/* never less than it may become: some file systems count blocks late, or compress them */
	grant_blocks(held, &blocks);
	return (on_disk > blocks.bytes ? on_disk - blocks.bytes : 0) + grant_charge(&blocks);
}

int part_unlink(struct store *s, const char *key)
{
	char name[INCOMING_NAME_TEXT];
	int r, r2;

	part_file_name(key, ".map", name);
	r = fs_unlink(s->incoming_fd, name);
	part_file_name(key, ".part", name);
	r2 = fs_unlink(s->incoming_fd, name);
	return r < 0 ? r : r2;
}

/* --- parts that nobody has open --- */

void idle_part_add_locked(struct store *s, const char *key, uint64_t charge, int64_t idle_at)
{
	struct idle_part *idle = xcalloc(1, sizeof(*idle));

	idle->charge = charge;
	idle->idle_at = idle_at;
	free(map_put(s->idle_parts, str_from(key), idle));
	s->idle_part_bytes += charge;
	room_add_used_locked(s, charge);
}

uint64_t idle_part_take_locked(struct store *s, const char *key)
{
	struct idle_part *idle = map_take(s->idle_parts, str_from(key));
	uint64_t charge;

	if (!idle)
		return 0;
	charge = idle->charge;
	s->idle_part_bytes -= charge;
	room_sub_used_locked(s, charge);
	free(idle);
	return charge;
}

uint64_t idle_part_charge(struct store *s, const char *key)
{
	const struct idle_part *idle;
	SCOPED_LOCK(&s->lock);

	idle = map_get(s->idle_parts, str_from(key));
	return idle ? idle->charge : 0;
}

struct oldest {
	struct store *store;
	char key[PART_KEY_TEXT];
	int64_t idle_at;
	bool is_found;
};

static int visit_idle(void *ctx, struct str key, void *value)
{
	struct oldest *o = ctx;
	struct idle_part *idle = value;

	if (o->is_found && o->idle_at <= idle->idle_at)
		return 0;
	if (map_get(o->store->claims, key))
		return 0; /* being opened just now */
	assert(key.len < sizeof(o->key));
	memcpy(o->key, key.ptr, key.len);
	o->key[key.len] = 0;
	o->idle_at = idle->idle_at;
	o->is_found = true;
	return 0;
}

static bool claim_oldest(struct store *s, uint64_t missing, struct oldest *o)
{
	SCOPED_LOCK(&s->lock);

	(void)map_each(s->idle_parts, visit_idle, o);
	if (!o->is_found)
		return false;
	if (clock_wall_s(s->clock) - o->idle_at < IDLE_PART_KEEP_S && missing <= s->used - s->idle_part_bytes)
		return false;
	(void)claim_try_locked(s, str_from(o->key));
	(void)idle_part_take_locked(s, o->key);
	return true;
}

bool idle_part_evict(struct store *s, uint64_t missing)
{
	struct oldest o = { .store = s };
	int r;

	if (!claim_oldest(s, missing, &o))
		return false;
	r = part_unlink(s, o.key);
	claim_drop(s, str_from(o.key));
	if (r < 0)
		log_warning("store", "an unfinished file could not be removed", LOG_TEXT("file", o.key),
			    LOG_ERR("error", r), LOG_END);
	return true;
}
