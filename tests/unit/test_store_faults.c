/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: one life of a store, run again and again with the n-th call into the kernel failing, or the process killed right
 * there, until a run needs no more calls than n. After each: what was acknowledged is there and right, nothing wrong has a
 * name, every reservation came back, and the books agree with a count of the files.
 *
 * The calls are caught by defining them here: the program's own definition goes before the C library's.
 */
#include "test_store.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* --- caught calls --- */

enum call {
	CALL_FSYNC,
	CALL_FDATASYNC,
	CALL_WRITE,
	CALL_PWRITE,
	CALL_RENAMEAT,
	CALL_RENAMEAT2,
	CALL_FALLOCATE,
	CALL_MKDIRAT,
	CALL_OPENAT,
	CALL_FCHMOD,
	CALL_FTRUNCATE,
	CALL_UNLINKAT,
	CALL_COUNT
};

static struct {
	bool is_on;
	bool kills; /* else fails with error */
	int error;
	unsigned only; /* bits of enum call; others pass uncounted */
	unsigned at;   /* which one, from 1; 0: none */
	unsigned count;
	bool log;
	enum call calls[256];
	char names[256][128]; /* what the call was about: a name, or the file behind the descriptor */
	unsigned log_count;
	/* run when a file of this name was opened for the second time, before the caller learns of it */
	const char *meet;
	unsigned meet_count;
	void (*then)(void);
} hook;

static void note(enum call call, int fd, const char *name)
{
	char link[64], *ret = hook.names[hook.log_count];
	ssize_t len;

	if (hook.log_count == 256)
		return;
	hook.calls[hook.log_count++] = call;
	if (name) {
		(void)snprintf(ret, sizeof(hook.names[0]), "%s", name);
		return;
	}
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, ret, sizeof(hook.names[0]) - 1);
	ret[len > 0 ? len : 0] = 0;
}

static bool fails(enum call call, int fd, const char *name)
{
	if (!hook.is_on || !(hook.only >> call & 1))
		return false;
	if (hook.log)
		note(call, fd, name);
	if (++hook.count != hook.at)
		return false;
	if (hook.kills)
		_exit(99);
	errno = hook.error;
	return true;
}

#ifdef __USE_FILE_OFFSET64
#define WIDE "64"
#else
#define WIDE ""
#endif
#define CATCH(result, name, symbol, parameters, enumerator, fd, text, ...)                                   \
	result caught_##name parameters __asm__(symbol);                                                     \
	result caught_##name parameters                                                                      \
	{                                                                                                    \
		if (fails(enumerator, fd, text))                                                             \
			return -1;                                                                           \
		return (result)syscall(SYS_##name, __VA_ARGS__);                                             \
	}

/* A killed process loses nothing that the kernel has: what these two wait for does not matter here, and takes minutes. */
int caught_fsync(int fd) __asm__("fsync");
int caught_fsync(int fd)
{
	return fails(CALL_FSYNC, fd, NULL) ? -1 : 0;
}

int caught_fdatasync(int fd) __asm__("fdatasync");
int caught_fdatasync(int fd)
{
	return fails(CALL_FDATASYNC, fd, NULL) ? -1 : 0;
}

CATCH(ssize_t, write, "write", (int fd, const void *b, size_t n), CALL_WRITE, fd, NULL, fd, b, n)
CATCH(int, renameat, "renameat", (int a, const char *from, int b, const char *to), CALL_RENAMEAT, b, to, a,
      from, b, to)
CATCH(int, renameat2, "renameat2", (int a, const char *from, int b, const char *to, unsigned flags),
      CALL_RENAMEAT2, b, to, a, from, b, to, flags)
CATCH(int, mkdirat, "mkdirat", (int dir, const char *name, mode_t mode), CALL_MKDIRAT, dir, name, dir, name,
      mode)
CATCH(int, fchmod, "fchmod", (int fd, mode_t mode), CALL_FCHMOD, fd, NULL, fd, mode)
CATCH(int, unlinkat, "unlinkat", (int dir, const char *name, int flags), CALL_UNLINKAT, dir, name, dir, name,
      flags)
#undef SYS_pwrite
#define SYS_pwrite SYS_pwrite64
CATCH(ssize_t, pwrite, "pwrite" WIDE, (int fd, const void *b, size_t n, off_t at), CALL_PWRITE, fd, NULL, fd,
      b, n, at)
CATCH(int, fallocate, "fallocate" WIDE, (int fd, int mode, off_t at, off_t n), CALL_FALLOCATE, fd, NULL, fd,
      mode, at, n)
CATCH(int, ftruncate, "ftruncate" WIDE, (int fd, off_t n), CALL_FTRUNCATE, fd, NULL, fd, n)

int caught_openat(int dir, const char *name, int flags, ...) __asm__("openat" WIDE);
int caught_openat(int dir, const char *name, int flags, ...)
{
	mode_t mode = 0;
	va_list args;
	int fd;

	va_start(args, flags);
	if (flags & (O_CREAT | O_TMPFILE))
		mode = va_arg(args, mode_t);
	va_end(args);
	if (fails(CALL_OPENAT, dir, name))
		return -1;
	fd = (int)syscall(SYS_openat, dir, name, flags, mode);
	if (hook.meet && strcmp(name, hook.meet) == 0 && ++hook.meet_count == 2) {
		hook.meet = NULL;
		hook.then();
	}
	return fd;
}

/* --- one life --- */

#define BODY_LEN 100000
#define HALF_LEN 200000
#define WIDE_LEN 300000
#define DOCS 3

/* Shared with the child that is killed. */
struct acks {
	bool body, docs[DOCS], removed, half_saved, windows_saved, second_body;
	unsigned lines;
};

struct data {
	char *body, *half, *wide, *second;
	struct blob_meta body_meta, half_meta, wide_meta, second_meta, doc_metas[DOCS];
	char docs[DOCS][32];
};

static void make_data(struct data *d)
{
	d->body = make_bytes(BODY_LEN, 1);
	d->half = make_bytes(HALF_LEN, 2);
	d->second = make_bytes(BODY_LEN, 3);
	d->wide = make_bytes(WIDE_LEN, 5);
	d->wide_meta = meta_of(d->wide, WIDE_LEN);
	d->body_meta = meta_of(d->body, BODY_LEN);
	d->half_meta = meta_of(d->half, HALF_LEN);
	d->second_meta = meta_of(d->second, BODY_LEN);
	for (int i = 0; i < DOCS; i++) {
		int len = snprintf(d->docs[i], sizeof(d->docs[i]), "{\"doc\":%d}", i);

		d->doc_metas[i] = meta_of(d->docs[i], (size_t)len);
	}
}

static void done_data(struct data *d)
{
	free(d->body);
	free(d->half);
	free(d->wide);
	free(d->second);
}

struct writing {
	struct acks *acks;
	struct data *data;
};

static void note_written(void *ctx, const struct blob_meta *meta)
{
	struct writing *w = ctx;

	for (int i = 0; i < DOCS; i++)
		if (digest_eq(&meta->sha256, &w->data->doc_metas[i].sha256))
			w->acks->docs[i] = true;
}

static void append_line(struct store *s, struct acks *acks)
{
	char text[32];
	struct str line = { text, (size_t)snprintf(text, sizeof(text), "line %u", acks->lines) };

	if (store_journal_append(s, STR("models/a/b"), &line, 1) == 0)
		acks->lines++;
}

/* Half a fill, then everybody leaves. */
static bool fetch_half(struct store *s, struct data *d)
{
	struct content_id id = lfs_id(&d->half_meta);
	struct part *p = NULL;
	int r;

	if (open_whole(s, &id, &p) < 0)
		return false;
	r = part_write(p, 0, d->half, HALF_LEN / 2);
	(void)part_unref(p);
	p = NULL;
	if (r < 0 || open_whole(s, &id, &p) < 0)
		return false;
	r = part_held_from(p, 0) == HALF_LEN / 2 ? 0 : -1;
	(void)part_unref(p);
	return r == 0;
}

static bool fetch_window(struct part *p, struct data *d, uint64_t first, uint64_t end)
{
	uint64_t missing = 0;

	return part_reserve(p, (struct byte_range){ first, end }, &missing) == 0 &&
	       part_write(p, first, d->wide + first, end - first) == 0;
}

/* Two windows of a sparse part; then, resumed, room for all of it, started over, and one window again. */
static bool fetch_windows(struct store *s, struct data *d)
{
	struct content_id id = lfs_id(&d->wide_meta);
	struct part *p = NULL;
	bool is_done;

	if (store_open_part(s, &id, &p) < 0)
		return false;
	is_done = fetch_window(p, d, 1000, 2000) && fetch_window(p, d, 200000, 210000);
	(void)part_unref(p);
	p = NULL;
	if (!is_done || open_whole(s, &id, &p) < 0)
		return false;
	is_done = part_held_from(p, 1000) == 1000 && part_held_from(p, 200000) == 10000 &&
		  part_reset(p) == 0 && fetch_window(p, d, 100000, 100001);
	(void)part_unref(p);
	p = NULL;
	if (!is_done || store_open_part(s, &id, &p) < 0)
		return false;
	is_done = part_held_from(p, 100000) == 1 && part_held_from(p, 1000) == 0;
	(void)part_unref(p);
	return is_done;
}

static void live(struct fixture *f, struct data *d, struct acks *acks)
{
	struct store *s = f->store;
	struct writing w = { acks, d };
	struct content_id body = lfs_id(&d->body_meta), second = git_id(&d->second_meta);

	acks->body = put_as(s, &body, d->body, &d->body_meta) == 0;
	append_line(s, acks);
	for (int i = 0; i < DOCS; i++) {
		struct blob_meta meta;

		(void)put_doc(s, d->docs[i], d->doc_metas[i].size, &meta);
	}
	(void)store_flush_pending(s, note_written, &w);
	append_line(s, acks);
	acks->half_saved = fetch_half(s, d);
	acks->windows_saved = fetch_windows(s, d);
	acks->second_body = put_as(s, &second, d->second, &d->second_meta) == 0;
	acks->removed = store_remove_blob(s, &d->doc_metas[0].sha256) == 0;
	append_line(s, acks);
	(void)store_check_writable(s);
}

/* --- what must hold after it --- */

static unsigned adopted_count;

static int note_adopted(void *ctx, const struct content_id *id, const struct blob_meta *meta)
{
	(void)ctx, (void)id, (void)meta;
	adopted_count++;
	return 0;
}

static int check_one(void *ctx, const struct blob_meta *meta)
{
	struct fixture *f = ctx;
	struct blob *b = NULL;
	struct blob_meta found;
	char *bytes = malloc(meta->size + 1);

	assert_int_equal(store_open_blob(f->store, &meta->sha256, &b), 0);
	if (blob_fd(b) >= 0)
		assert_int_equal(pread(blob_fd(b), bytes, meta->size, 0), meta->size);
	else
		memcpy(bytes, bytes_str(blob_bytes(b)).ptr, meta->size);
	found = meta_of(bytes, meta->size);
	assert_true(digest_eq(&found.sha256, &meta->sha256));
	(void)blob_unref(b);
	free(bytes);
	return 0;
}

static int count_line(void *ctx, struct str repo, struct str line)
{
	unsigned *count = ctx;
	char text[32];

	assert_true(str_eq(repo, STR("models/a/b")));
	/* what was not acknowledged may be there too, once: a sync that failed says nothing about the bytes */
	(void)snprintf(text, sizeof(text), "line %u", *count);
	if (str_eq(line, str_from(text)))
		++*count;
	return 0;
}

static void check_acknowledged(struct fixture *f, struct data *d, const struct acks *acks)
{
	unsigned lines = 0;
	uint64_t broken;
	int r;

	if (acks->body)
		assert_int_equal(check_blob(f->store, &d->body_meta.sha256, d->body, BODY_LEN), 0);
	if (acks->second_body)
		assert_int_equal(check_blob(f->store, &d->second_meta.sha256, d->second, BODY_LEN), 0);
	for (int i = 1; i < DOCS; i++)
		if (acks->docs[i])
			assert_int_equal(check_blob(f->store, &d->doc_metas[i].sha256, d->docs[i],
						    d->doc_metas[i].size),
					 0);
	if (acks->removed) {
		r = check_blob(f->store, &d->doc_metas[0].sha256, d->docs[0], d->doc_metas[0].size);
		assert_int_equal(r, -ENODATA);
	}
	assert_int_equal(store_journal_each(f->store, count_line, &lines, &broken), 0);
	assert_true(lines >= acks->lines);
	assert_true(count_files(f, "incoming", ".part") >= (unsigned)acks->half_saved + acks->windows_saved);
	assert_int_equal(store_blob_each(f->store, check_one, f), 0);
}

/* As after a start: recovered, everything checked, and a second recovery finds nothing more to do. */
static void check_after_start(struct fixture *f, struct data *d, const struct acks *acks)
{
	struct store_usage first, second;

	f->store = NULL;
	open_store(f);
	adopted_count = 0;
	assert_int_equal(store_recover(f->store, note_adopted, NULL), 0);
	first = usage_of(f->store);
	assert_int_equal(first.reserved, 0);
	assert_int_equal(count_files(f, "incoming", ".tmp"), 0);
	assert_true(count_files(f, "incoming", ".map") <= count_files(f, "incoming", ".part"));
	assert_true(adopted_count >= first.objects); /* none is left that the index will never hear of */
	check_acknowledged(f, d, acks);
	assert_int_equal(store_recover(f->store, NULL, NULL), 0);
	second = usage_of(f->store);
	assert_int_equal(second.used, first.used);
	assert_int_equal(second.objects, first.objects);
}

static void forget_alive(struct fixture *f)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/incoming/alive", f->path);
	(void)unlink(path);
}

/* Returns false when the life needed fewer calls than n. */
static bool live_with_fault(unsigned n, unsigned only, int error)
{
	struct fixture *f = fixture_new();
	struct acks acks = { .body = false };
	struct store_usage u, found;
	struct data d;
	bool was_hit;

	f->size_max = 100 << 20;
	make_data(&d);
	open_store(f);
	assert_int_equal(store_recover(f->store, NULL, NULL), 0);
	memset(&hook, 0, sizeof(hook));
	hook.only = only;
	hook.error = error;
	hook.at = n;
	hook.is_on = true;
	live(f, &d, &acks);
	hook.is_on = false;
	was_hit = hook.count >= n;
	/* without a restart: all came back, and what counts is what is there */
	u = usage_of(f->store);
	assert_int_equal(u.reserved, 0);
	check_acknowledged(f, &d, &acks);
	store_close(f->store);
	forget_alive(f);
	check_after_start(f, &d, &acks);
	/* but for blocks of a part that could not be given back then, and were now */
	u.used -= u.partial;
	found = usage_of(f->store);
	found.used -= found.partial;
	if (u.used != found.used || u.objects != found.objects)
		fail_msg("call %u, error %d: the books say %llu in %llu, the files %llu in %llu", n, error,
			 (unsigned long long)u.used, (unsigned long long)u.objects,
			 (unsigned long long)found.used, (unsigned long long)found.objects);
	if (!was_hit) {
		/* the last run had no fault: it must have done everything */
		assert_true(acks.body && acks.second_body && acks.docs[0] && acks.docs[1] && acks.docs[2] &&
			    acks.removed && acks.half_saved && acks.windows_saved);
		assert_int_equal(acks.lines, 3);
	}
	done_data(&d);
	fixture_free(f);
	return was_hit;
}

#define ALL_CALLS ((1u << CALL_COUNT) - 1)
/* A name that cannot be taken away stays, and is counted: that is not what the sweep of errors is about. */
#define FAILING_CALLS (ALL_CALLS & ~(1u << CALL_UNLINKAT))

static void sweep_errors(unsigned only, int error)
{
	unsigned n = 1;

	while (live_with_fault(n, only, error))
		n++;
	assert_true(n > 5);
}

static void survives_each_call_failing_with_eio(void **state)
{
	sweep_errors(FAILING_CALLS, EIO);
}

static void survives_a_full_disk_at_each_call(void **state)
{
	sweep_errors(FAILING_CALLS & ~(1u << CALL_FSYNC | 1u << CALL_FDATASYNC | 1u << CALL_FTRUNCATE |
				       1u << CALL_FCHMOD),
		     ENOSPC);
}

static void survives_a_full_quota_at_each_write(void **state)
{
	sweep_errors(1u << CALL_WRITE | 1u << CALL_PWRITE | 1u << CALL_FALLOCATE | 1u << CALL_OPENAT |
			     1u << CALL_MKDIRAT,
		     EDQUOT);
}

static void survives_running_out_of_descriptors(void **state)
{
	sweep_errors(1u << CALL_OPENAT, EMFILE);
}

static bool live_until_killed(unsigned n)
{
	struct fixture *f = fixture_new();
	struct acks *acks =
		mmap(NULL, sizeof(*acks), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct data d;
	int status = 0;
	pid_t pid;

	assert_true(acks != MAP_FAILED);
	make_data(&d);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		open_store(f);
		if (store_recover(f->store, NULL, NULL) != 0)
			_exit(1);
		memset(&hook, 0, sizeof(hook));
		hook.only = ALL_CALLS;
		hook.at = n;
		hook.kills = hook.is_on = true;
		live(f, &d, acks);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 99 || WEXITSTATUS(status) == 0));
	if (WEXITSTATUS(status) == 0)
		forget_alive(f);
	check_after_start(f, &d, acks);
	done_data(&d);
	fixture_free(f);
	(void)munmap(acks, sizeof(*acks));
	return WEXITSTATUS(status) == 99;
}

static void survives_being_killed_at_each_call(void **state)
{
	unsigned n = 1;

	while (live_until_killed(n))
		n++;
	assert_true(n > 80);
}

/* --- the order --- */

static unsigned find_event(unsigned from, enum call call, const char *part_of_name)
{
	for (unsigned i = from; i < hook.log_count; i++)
		if (hook.calls[i] == call && strstr(hook.names[i], part_of_name))
			return i + 1;
	fail_msg("no call %d about \"%s\" after event %u", call, part_of_name, from);
	return 0;
}

static void syncs_the_bytes_then_the_sidecar_then_names_then_folders(void **state)
{
	struct fixture *f = fixture_new();
	struct data d;
	struct content_id id;
	struct part *p = NULL;
	char hex[65], ab[8], abcd[8], blobs_ab[24], blobs_abcd[24], meta_abcd[24], part_name[80];
	unsigned at;

	make_data(&d);
	open_store(f);
	id = lfs_id(&d.body_meta);
	format_hex(id.sha256.bytes, 32, hex);
	(void)snprintf(ab, sizeof(ab), "%.2s", hex);
	(void)snprintf(abcd, sizeof(abcd), "%.2s/%.2s", hex, hex + 2);
	(void)snprintf(blobs_ab, sizeof(blobs_ab), "/blobs/%s", ab);
	(void)snprintf(blobs_abcd, sizeof(blobs_abcd), "/blobs/%s", abcd);
	(void)snprintf(meta_abcd, sizeof(meta_abcd), "/meta/%s", abcd);
	(void)snprintf(part_name, sizeof(part_name), "s-%s.part", hex);
	assert_int_equal(open_whole(f->store, &id, &p), 0);
	assert_int_equal(part_write(p, 0, d.body, BODY_LEN), 0);
	memset(&hook, 0, sizeof(hook));
	hook.log = hook.is_on = true;
	hook.only = ALL_CALLS;
	assert_int_equal(store_finish_part(f->store, p, &d.body_meta), 0);
	hook.is_on = false;

	at = find_event(0, CALL_FCHMOD, part_name);
	at = find_event(at, CALL_FSYNC, part_name); /* S5 */
	at = find_event(at, CALL_FSYNC, ".tmp");    /* S6 */
	at = find_event(at, CALL_RENAMEAT, hex);
	at = find_event(at, CALL_RENAMEAT2, hex);    /* S7 */
	at = find_event(at, CALL_FSYNC, blobs_abcd); /* S8 */
	at = find_event(at, CALL_FSYNC, blobs_ab);   /* and those above, just made */
	(void)find_event(at, CALL_FSYNC, meta_abcd);
	(void)part_unref(p);
	done_data(&d);
	fixture_free(f);
}

static void saves_the_map_only_after_its_bytes_are_synced(void **state)
{
	struct fixture *f = fixture_new();
	struct data d;
	struct content_id id;
	struct part *p = NULL;
	unsigned at;

	make_data(&d);
	open_store(f);
	id = lfs_id(&d.half_meta);
	assert_int_equal(open_whole(f->store, &id, &p), 0);
	assert_int_equal(part_write(p, 0, d.half, 1000), 0);
	memset(&hook, 0, sizeof(hook));
	hook.log = hook.is_on = true;
	hook.only = ALL_CALLS;
	(void)part_unref(p);
	hook.is_on = false;
	at = find_event(0, CALL_FDATASYNC, ".part");
	at = find_event(at, CALL_FSYNC, ".map.tmp");
	at = find_event(at, CALL_RENAMEAT, ".map");
	(void)find_event(at, CALL_FSYNC, "/incoming");
	done_data(&d);
	fixture_free(f);
}

/* --- single faults --- */

static void fail_next(enum call call, int error)
{
	memset(&hook, 0, sizeof(hook));
	hook.only = 1u << call;
	hook.error = error;
	hook.at = 1;
	hook.is_on = true;
}

static void a_file_system_without_fallocate_is_fine(void **state)
{
	struct fixture *f = fixture_new();
	struct data d;
	struct content_id id;
	struct part *p = NULL;
	struct stat st;

	make_data(&d);
	open_store(f);
	id = lfs_id(&d.half_meta);
	fail_next(CALL_FALLOCATE, EOPNOTSUPP);
	assert_int_equal(open_whole(f->store, &id, &p), 0);
	hook.is_on = false;
	assert_int_equal(usage_of(f->store).reserved, 200704 + 4096); /* the quota is kept all the same */
	assert_int_equal(fstat(part_fd(p), &st), 0);
	assert_int_equal(st.st_size, HALF_LEN);
	assert_int_equal(st.st_blocks, 0);
	assert_int_equal(part_write(p, 0, d.half, HALF_LEN), 0);
	assert_int_equal(store_finish_part(f->store, p, &d.half_meta), 0);
	(void)part_unref(p);
	assert_int_equal(check_blob(f->store, &d.half_meta.sha256, d.half, HALF_LEN), 0);
	done_data(&d);
	fixture_free(f);
}

static void a_file_system_without_noreplace_is_fine(void **state)
{
	struct fixture *f = fixture_new();
	struct data d;
	struct content_id id;

	make_data(&d);
	open_store(f);
	id = lfs_id(&d.body_meta);
	fail_next(CALL_RENAMEAT2, EINVAL);
	assert_int_equal(put_as(f->store, &id, d.body, &d.body_meta), 0);
	hook.is_on = false;
	assert_int_equal(check_blob(f->store, &d.body_meta.sha256, d.body, BODY_LEN), 0);
	done_data(&d);
	fixture_free(f);
}

static void a_full_disk_is_known_before_the_first_byte(void **state)
{
	struct fixture *f = fixture_new();
	struct blob_meta meta = meta_of("abc", 3);
	struct content_id id = lfs_id(&meta);
	struct part *p = NULL;
	uint64_t missing = 0;

	open_store(f);
	assert_int_equal(store_open_part(f->store, &id, &p), 0);
	fail_next(CALL_FALLOCATE, ENOSPC);
	assert_int_equal(part_reserve(p, (struct byte_range){ 0, 3 }, &missing), -ENOSPC);
	hook.is_on = false;
	assert_true(missing == UINT64_MAX); /* to evict blobs would not help */
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_int_equal(part_room_from(p, 0), 0);
	assert_int_equal(part_write(p, 0, "abc", 3), -ENOSPC);
	(void)part_unref(p);
	assert_int_equal(count_files(f, "incoming", ""), 0);
	fixture_free(f);
}

/* Of several gaps the second cannot be taken: what the quota gave for all of them comes back. */
static void a_disk_that_fills_up_between_gaps_takes_nothing_from_the_quota(void **state)
{
	struct fixture *f = fixture_new();
	struct data d;
	struct content_id id;
	struct part *p = NULL;
	uint64_t missing = 0, reserved;

	make_data(&d);
	open_store(f);
	id = lfs_id(&d.half_meta);
	assert_int_equal(store_open_part(f->store, &id, &p), 0);
	assert_int_equal(part_reserve(p, (struct byte_range){ 50000, 60000 }, &missing), 0);
	reserved = usage_of(f->store).reserved;
	fail_next(CALL_FALLOCATE, EDQUOT);
	hook.at = 2;
	assert_int_equal(reserve_all(p, &id), -ENOSPC);
	hook.is_on = false;
	assert_int_equal(usage_of(f->store).reserved, reserved);
	assert_int_equal(part_room_from(p, 0), 0);
	assert_int_equal(part_write(p, 50000, d.half + 50000, 10000), 0);
	(void)part_unref(p);
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_true(usage_of(f->store).used <= reserved);
	done_data(&d);
	fixture_free(f);
}

/* D05: after a failed sync the kernel may have dropped the pages; the part is dead and is not synced again. */
static void a_part_whose_sync_failed_is_dead(void **state)
{
	struct fixture *f = fixture_new();
	char *bytes = make_bytes(1 << 20, 4);
	struct blob_meta meta = meta_of("a key", 5);
	struct content_id id = lfs_id(&meta);
	struct part *p = NULL;

	open_store(f);
	id.size = 65 << 20;
	meta.size = id.size;
	assert_int_equal(open_whole(f->store, &id, &p), 0);
	for (unsigned i = 0; i < 65; i++)
		assert_int_equal(part_write(p, (uint64_t)i << 20, bytes, 1 << 20), 0);
	fail_next(CALL_FDATASYNC, EIO);
	assert_int_equal(part_checkpoint(p), -EIO);
	hook.is_on = false;
	assert_int_equal(part_held_from(p, 0), 0);
	assert_int_equal(part_write(p, 0, bytes, 10), -EIO);
	assert_int_equal(store_finish_part(f->store, p, &meta), -EIO);
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_int_equal(count_files(f, "incoming", ""), 0);
	assert_int_equal(metrics_value(f->metrics, METRIC_STORAGE_IO_ERRORS, 0, 0, 0), 1);
	(void)part_unref(p);
	free(bytes);
	fixture_free(f);
}

static void a_dead_part_is_not_kept(void **state)
{
	struct fixture *f = fixture_new();
	struct data d;
	struct content_id id;
	struct part *p = NULL;

	make_data(&d);
	open_store(f);
	id = lfs_id(&d.half_meta);
	assert_int_equal(open_whole(f->store, &id, &p), 0);
	assert_int_equal(part_write(p, 0, d.half, 1000), 0);
	fail_next(CALL_FDATASYNC, EIO);
	(void)part_unref(p);
	hook.is_on = false;
	assert_int_equal(count_files(f, "incoming", ""), 0);
	assert_int_equal(usage_of(f->store).reserved, 0);
	assert_int_equal(usage_of(f->store).used, 0);
	done_data(&d);
	fixture_free(f);
}

static void three_disk_errors_stop_all_writing_for_ten_minutes(void **state)
{
	struct fixture *f = fixture_new();
	struct blob_meta meta = meta_of("abc", 3);
	struct content_id id = lfs_id(&meta);
	struct part *p = NULL;
	struct str line = STR("x");
	uint64_t missing = 0;

	open_store(f);
	assert_int_equal(put_doc(f->store, "held", 4, &meta), 0);
	assert_int_equal(store_flush_pending(f->store, NULL, NULL), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(store_check_writable(f->store), 0);
		f->mono_ms += 60000;
		fail_next(CALL_FSYNC, EIO);
		assert_int_equal(store_journal_append(f->store, STR("r"), &line, 1), -EIO);
		hook.is_on = false;
	}
	assert_int_equal(metrics_value(f->metrics, METRIC_STORAGE_IO_ERRORS, 0, 0, 0), 3);
	assert_int_equal(store_check_writable(f->store), -EIO); /* readyz is red */
	assert_int_equal(store_open_part(f->store, &id, &p), 0);
	assert_int_equal(part_reserve(p, (struct byte_range){ 0, 1 }, &missing), -ENOSPC);
	assert_true(missing == UINT64_MAX); /* fills are streamed past us */
	(void)part_unref(p);
	assert_int_equal(put_doc(f->store, "new", 3, &meta), -EIO);
	assert_int_equal(put_doc(f->store, "held", 4, &meta), 0); /* and hits go on */
	assert_int_equal(check_blob(f->store, &meta.sha256, "held", 4), 0);
	f->mono_ms += 600000;
	assert_int_equal(store_check_writable(f->store), 0);
	assert_int_equal(put_doc(f->store, "new", 3, &meta), 0);
	fixture_free(f);
}

static void a_document_that_cannot_be_written_is_dropped(void **state)
{
	struct fixture *f = fixture_new();
	struct blob_meta meta;
	struct blob *held = NULL, *b = NULL;

	open_store(f);
	assert_int_equal(put_doc(f->store, "text", 4, &meta), 0);
	assert_int_equal(store_open_blob(f->store, &meta.sha256, &held), 0);
	fail_next(CALL_WRITE, ENOSPC);
	assert_int_equal(store_flush_pending(f->store, NULL, NULL), -ENOSPC);
	hook.is_on = false;
	assert_memory_equal(bytes_str(blob_bytes(held)).ptr, "text", 4); /* who has it has it */
	assert_int_equal(store_open_blob(f->store, &meta.sha256, &b), -ENODATA);
	(void)blob_unref(held);
	assert_int_equal(usage_of(f->store).used, 0);
	assert_int_equal(usage_of(f->store).objects, 0);
	assert_int_equal(count_files(f, "incoming", ""), 0);
	fixture_free(f);
}

static void a_document_that_must_be_written_at_once_and_cannot_is_refused(void **state)
{
	struct fixture *f = fixture_new();
	size_t len = 40 << 20;
	char *bytes = make_bytes(len, 6);
	struct blob_meta meta;
	uint64_t used;

	open_store(f);
	assert_int_equal(put_doc(f->store, bytes, len, &meta), 0);
	used = usage_of(f->store).used;
	fail_next(CALL_WRITE, ENOSPC);
	assert_int_equal(put_doc(f->store, bytes, len - 1, &meta), -ENOSPC);
	fail_next(CALL_FSYNC, EIO);
	assert_int_equal(put_doc(f->store, bytes, len - 1, &meta), -EIO);
	hook.is_on = false;
	assert_int_equal(usage_of(f->store).used, used);
	assert_int_equal(usage_of(f->store).objects, 1);
	assert_int_equal(count_files(f, "incoming", ""), 0);
	meta = meta_of(bytes, len);
	assert_int_equal(store_remove_blob(f->store, &meta.sha256), 0);
	free(bytes);
	fixture_free(f);
}

static struct {
	struct store *store;
	struct digest sha256;
} victim;

static void remove_victim(void)
{
	assert_int_equal(store_remove_blob(victim.store, &victim.sha256), 0);
}

/* The reader has its bytes; the cache must not bring back what was evicted while it was opening. */
static void an_open_that_meets_a_removal_is_not_kept(void **state)
{
	struct fixture *f = fixture_new();
	struct data d;
	struct content_id id;
	struct blob *b = NULL;
	char hex[65], name[80];

	make_data(&d);
	open_store(f);
	id = lfs_id(&d.body_meta);
	assert_int_equal(put_as(f->store, &id, d.body, &d.body_meta), 0);
	format_hex(id.sha256.bytes, 32, hex);
	(void)snprintf(name, sizeof(name), "%.2s/%.2s/%s", hex, hex + 2, hex);
	memset(&hook, 0, sizeof(hook));
	victim.store = f->store;
	victim.sha256 = id.sha256;
	hook.then = remove_victim;
	hook.meet = name; /* the blob, then its sidecar by the same name */
	assert_int_equal(store_open_blob(f->store, &id.sha256, &b), 0);
	assert_null(hook.meet);
	assert_int_equal(blob_size(b), BODY_LEN);
	(void)blob_unref(b);
	assert_int_equal(store_open_blob(f->store, &id.sha256, &b), -ENODATA);
	done_data(&d);
	fixture_free(f);
}

static void says_why_it_cannot_be_opened(void **state)
{
	static const struct {
		enum call call;
		int error;
		const char *word;
	} cases[] = {
		{ CALL_OPENAT, EACCES, "chown" },         { CALL_WRITE, ENOSPC, "full" },
		{ CALL_WRITE, EDQUOT, "full" },           { CALL_MKDIRAT, EROFS, "read-only" },
		{ CALL_FSYNC, EIO, "cannot be written" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture *f = fixture_new();
		const char *reason = NULL;
		int r;

		fail_next(cases[i].call, cases[i].error);
		r = try_open(f, &f->store, &reason);
		hook.is_on = false;
		assert_int_equal(r, -cases[i].error);
		assert_non_null(reason);
		if (!strstr(reason, cases[i].word))
			fail_msg("\"%s\" does not say \"%s\"", reason, cases[i].word);
		open_store(f); /* and the next start is not spoilt by what the failed one left */
		fixture_free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(survives_each_call_failing_with_eio),
		cmocka_unit_test(survives_a_full_disk_at_each_call),
		cmocka_unit_test(survives_a_full_quota_at_each_write),
		cmocka_unit_test(survives_running_out_of_descriptors),
		cmocka_unit_test(survives_being_killed_at_each_call),
		cmocka_unit_test(syncs_the_bytes_then_the_sidecar_then_names_then_folders),
		cmocka_unit_test(saves_the_map_only_after_its_bytes_are_synced),
		cmocka_unit_test(a_file_system_without_fallocate_is_fine),
		cmocka_unit_test(a_file_system_without_noreplace_is_fine),
		cmocka_unit_test(a_full_disk_is_known_before_the_first_byte),
		cmocka_unit_test(a_disk_that_fills_up_between_gaps_takes_nothing_from_the_quota),
		cmocka_unit_test(a_part_whose_sync_failed_is_dead),
		cmocka_unit_test(a_dead_part_is_not_kept),
		cmocka_unit_test(three_disk_errors_stop_all_writing_for_ten_minutes),
		cmocka_unit_test(a_document_that_cannot_be_written_is_dropped),
		cmocka_unit_test(a_document_that_must_be_written_at_once_and_cannot_is_refused),
		cmocka_unit_test(an_open_that_meets_a_removal_is_not_kept),
		cmocka_unit_test(says_why_it_cannot_be_opened),
	};

	/* some hundred lives of a store: in memory they take seconds */
	if (access("/dev/shm", W_OK) == 0)
		(void)setenv("TMPDIR", "/dev/shm", 0);
	return cmocka_run_group_tests_name("store_faults", tests, NULL, NULL);
}
