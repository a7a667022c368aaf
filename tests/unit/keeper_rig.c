/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper_rig - see the header.
 */
#include "keeper_rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "common/alloc.h"

/* --- dying at a chosen step: every call that changes the disk is one, ours and SQLite's --- */

static _Atomic int steps, die_at;

static void step(void)
{
	if (atomic_fetch_add(&steps, 1) + 1 == atomic_load(&die_at))
		_exit(42);
}

void die_at_step(int at)
{
	atomic_store(&steps, 0);
	atomic_store(&die_at, at);
}

/* Only processes die here, the kernel lives on: nothing is gained by waiting for the disk. */
int fsync(int fd)
{
	step();
	return 0;
}

int fdatasync(int fd)
{
	step();
	return 0;
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	step();
	return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	step();
	return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

int unlinkat(int fd, const char *name, int flags)
{
	step();
	return (int)syscall(SYS_unlinkat, fd, name, flags);
}

/* Built with 64-bit offsets, these are ftruncate64 and pwrite64, which SQLite calls as well. */
int ftruncate(int fd, off_t length)
{
	step();
	return (int)syscall(SYS_ftruncate, fd, length);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
	step();
	return syscall(SYS_pwrite64, fd, bytes, len, at);
}

/* --- a house --- */

struct keeper_opts house_opts(struct house *h)
{
	return (struct keeper_opts){
		.store = h->f->store, .index = h->index, .metrics = h->f->metrics, .clock = &h->f->clock
	};
}

void house_open_index(struct house *h)
{
	struct index_opts opts = {
		.path = store_index_path(h->f->store),
		.memory_entries = 1000,
		.metrics = h->f->metrics,
		.clock = &h->f->clock,
	};
	const char *reason = NULL;
	int r = index_open(&opts, &h->index, &reason);

	if (r < 0)
		fail_msg("index_open: %d: %s", r, reason);
	h->was_rebuilt = r == 1;
}

void house_start(struct house *h)
{
	struct keeper_opts opts;

	open_store(h->f);
	house_open_index(h);
	opts = house_opts(h);
	assert_int_equal(keeper_recover(&opts, h->was_rebuilt), 0);
	assert_int_equal(keeper_new(&opts, &h->keeper), 0);
}

void house_stop(struct house *h)
{
	keeper_free(h->keeper);
	index_close(h->index);
	store_close(h->f->store);
	h->keeper = NULL;
	h->index = NULL;
	h->f->store = NULL;
}

struct house *house_new(uint64_t size_max)
{
	struct house *h = xcalloc(1, sizeof(*h));

	h->f = fixture_new_in_memory();
	h->f->size_max = size_max;
	house_start(h);
	return h;
}

int house_set_up(void **state)
{
	*state = house_new(HOUSE_QUOTA);
	return 0;
}

int house_tear_down(void **state)
{
	struct house *h = *state;

	if (h->keeper)
		house_stop(h);
	fixture_free(h->f);
	free(h);
	return 0;
}

/* --- waiting for a callback --- */

void outcome_done(void *ctx, int error)
{
	struct outcome *o = ctx;

	(void)pthread_mutex_lock(&o->mutex);
	o->is_done = true;
	o->error = error;
	(void)pthread_cond_signal(&o->cond);
	(void)pthread_mutex_unlock(&o->mutex);
}

int outcome_wait(struct outcome *o)
{
	(void)pthread_mutex_lock(&o->mutex);
	while (!o->is_done)
		(void)pthread_cond_wait(&o->cond, &o->mutex);
	(void)pthread_mutex_unlock(&o->mutex);
	return o->error;
}

int house_make_room(struct house *h, uint64_t bytes)
{
	struct outcome o = OUTCOME_INIT;

	keeper_make_room(h->keeper, bytes, outcome_done, &o);
	return outcome_wait(&o);
}

int house_open_part(struct house *h, const struct content_id *id, struct part **ret_part)
{
	struct part *part = NULL;
	uint64_t missing = 0;
	int r = store_open_part(h->f->store, id, &part);

	if (r < 0)
		return r;
	while ((r = part_reserve(part, (struct byte_range){ 0, id->size }, &missing)) == -ENOSPC) {
		r = missing == UINT64_MAX ? -EDQUOT : house_make_room(h, missing);
		if (r < 0)
			break;
	}
	if (r < 0)
		part_drop(part);
	if (r < 0)
		part = part_unref(part);
	*ret_part = part;
	return r;
}

int house_fill(struct house *h, const char *bytes, size_t len, struct blob_meta *ret_meta)
{
	struct outcome o = OUTCOME_INIT;
	struct blob_meta meta = meta_of(bytes, len);
	struct content_id id = lfs_id(&meta);
	struct part *part = NULL;
	int r = house_open_part(h, &id, &part);

	if (r < 0)
		return r;
	assert_int_equal(part_write(part, 0, bytes, len), 0);
	keeper_finish_part(h->keeper, part, &id, &meta, outcome_done, &o);
	(void)part_unref(part);
	r = outcome_wait(&o);
	*ret_meta = meta;
	return r;
}

struct blob_meta house_fill_seed(struct house *h, size_t len, unsigned seed)
{
	SCOPED_FREE char *bytes = make_bytes(len, seed);
	struct blob_meta meta;

	assert_int_equal(house_fill(h, bytes, len, &meta), 0);
	return meta;
}

bool house_has(struct house *h, const struct blob_meta *meta)
{
	struct content_id id = git_id(meta);
	struct digest d;

	return index_find_blob(h->index, &id, &d) == 0 && digest_eq(&d, &meta->sha256);
}

int house_check_seed(struct house *h, const struct blob_meta *meta, unsigned seed)
{
	SCOPED_FREE char *bytes = make_bytes(meta->size, seed);

	return check_blob(h->f->store, &meta->sha256, bytes, meta->size);
}

/* --- facts --- */

struct fact name_fact(const char *revision, const char *commit, int64_t at)
{
	struct fact f = { .kind = FACT_NAME, .repo = REPO, .revision = str_from(revision), .at = at };

	memcpy(f.commit, commit, COMMIT_HEX);
	return f;
}

void learn_entry(struct house *h, const char *commit, const char *path, const struct content_id *content)
{
	struct fact f = {
		.kind = content ? FACT_ENTRY : FACT_ABSENT, .repo = REPO, .path = str_from(path), .at = 1000
	};

	memcpy(f.commit, commit, COMMIT_HEX);
	if (content)
		f.content = *content;
	index_learn(h->index, &f);
}

void learn_tree(struct house *h, const char *commit)
{
	struct fact f = { .kind = FACT_TREE, .repo = REPO, .at = 1000 };

	memcpy(f.commit, commit, COMMIT_HEX);
	index_learn(h->index, &f);
}

int learn_doc(struct house *h, const char *key, const char *text, size_t len)
{
	static char type[] = "application/json";
	struct doc doc = { .fetched_at = 1000, .content_type = type };
	struct blob_meta meta;
	int r = put_doc(h->f->store, text, len, &meta);

	if (r < 0)
		return r;
	doc.body = meta.sha256;
	doc.body_size = meta.size;
	index_learn(h->index,
		    &(struct fact){
			    .kind = FACT_DOC, .repo = REPO, .path = str_from(key), .doc = &doc, .at = 1000 });
	return 0;
}

void learn_public(struct house *h, enum access_level level, int64_t at)
{
	index_learn(h->index, &(struct fact){ .kind = FACT_PUBLIC, .repo = REPO, .level = level, .at = at });
}

enum access_level public_level(struct house *h)
{
	static const uint8_t anonymous[SUBJECT_BYTES];
	struct access_facts facts = { .wanted = ACCESS_META };

	index_find_access(h->index, REPO, anonymous, &facts);
	return facts.public_level;
}

int find_doc(struct house *h, const char *key)
{
	struct doc doc;
	struct blob *blob = NULL;
	int r = index_find_doc(h->index, REPO, str_from(key), &doc);

	if (r < 0)
		return r;
	r = store_open_blob(h->f->store, &doc.body, &blob);
	(void)blob_unref(blob);
	doc_done(&doc);
	return r < 0 ? -EBADMSG : 0; /* a row without its body */
}

/* --- journals --- */

struct lines {
	struct buf buf;
};

static int note_line(void *ctx, struct str repo, struct str line)
{
	struct lines *l = ctx;

	(void)buf_append_str(&l->buf, line);
	return buf_append_char(&l->buf, '\n');
}

unsigned count_lines(struct house *h, const char *with)
{
	struct lines l;
	uint64_t broken = 0;
	unsigned count = 0;

	buf_init(&l.buf, 1 << 20);
	assert_int_equal(store_journal_each(h->f->store, note_line, &l, &broken), 0);
	assert_int_equal(broken, 0);
	for (const char *at = l.buf.bytes; at && (at = strstr(at, with)) != NULL; at++)
		count++;
	buf_done(&l.buf);
	return count;
}

void house_lose_index(struct house *h)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/index.db", h->f->path);
	assert_int_equal(unlink(path), 0);
}
