/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/journal - one append-only file of facts per repo.
 *
 *   0123456789abcdef hfcached journal 1 models/acme/pub      the first line: whose it is
 *   fedcba9876543210 any text without a newline              check (first 8 bytes of its SHA-256), space, the line
 *
 * A file comes into being with its first line whole (rename), so only a last line can be torn; the next append ends it with
 * a newline and goes on, and it stays behind as one broken line.
 * Never     understands a line.
 * Threads   append: keeper. The walks: start-up, or the keeper.
 */
#include "store/priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/path.h"

#include "common/banned.h"

#define JOURNAL_MAGIC STR("hfcached journal 1 ")
#define LINE_HEAD (CHECK_HEX + 1)
/* All lines of one call; a transaction's facts of one repo. */
#define APPEND_BYTES_MAX (256u << 20)
#define REPO_MAX 4096

struct journal {
	char folder[3];
	char path[sizeof("ab/") + 2 * SHA256_BYTES];
};

static void journal_of(struct str repo, struct journal *ret)
{
	struct digest d;

	sha256_of(repo.ptr, repo.len, &d);
	(void)snprintf(ret->folder, sizeof(ret->folder), "%02x", d.bytes[0]);
	(void)snprintf(ret->path, sizeof(ret->path), "%02x/", d.bytes[0]);
	format_hex(d.bytes, SHA256_BYTES, ret->path + 3);
}

static int add_line(struct buf *out, struct str line)
{
	char check[CHECK_HEX + 1];

	if (line.len > JOURNAL_LINE_MAX - LINE_HEAD - 1 || (line.len && memchr(line.ptr, '\n', line.len)))
		return -EINVAL;
	check_of(line, check);
	buf_appendf(out, "%s ", check);
	buf_append_str(out, line);
	return buf_append_char(out, '\n');
}

static int add_first_line(struct buf *out, struct str repo)
{
	SCOPED_BUF line;

	buf_init(&line, REPO_MAX + JOURNAL_MAGIC.len);
	if (repo.len > REPO_MAX)
		return -EINVAL;
	buf_append_str(&line, JOURNAL_MAGIC);
	buf_append_str(&line, repo);
	return add_line(out, buf_str(&line));
}

/* --- append --- */

static int create(struct store *s, const struct journal *j, struct str head, struct str lines)
{
	SCOPED_BUF text;
	int r;

	buf_init(&text, head.len + lines.len);
	r = make_dir(s->journal_fd, j->folder);
	if (r < 0)
		return r;
	buf_append_str(&text, head);
	buf_append_str(&text, lines);
	return fs_replace_file(s->journal_fd, j->path, text.bytes, text.len, 0600);
}

/* Is the first line ours? Returns 0 or -EBADMSG. */
static int check_head(int fd, struct str head)
{
	SCOPED_FREE char *found = xmalloc(head.len);
	int r = fs_pread_all(fd, found, head.len, 0);

	if (r == -ENODATA || (r == 0 && memcmp(found, head.ptr, head.len) != 0))
		return -EBADMSG;
	return r;
}

static int write_and_sync(int fd, struct str lines)
{
	int r = fs_write_all(fd, lines.ptr, lines.len);

	if (r < 0)
		return r;
	do
		r = fdatasync(fd);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int append(int fd, uint64_t size, struct str lines)
{
	char last;
	int r = fs_pread_all(fd, &last, 1, size - 1);

	if (r == 0 && last != '\n')
		r = fs_write_all(fd, "\n", 1);
	if (r == 0)
		r = write_and_sync(fd, lines);
	if (r < 0 && ftruncate(fd, (off_t)size) < 0)
		log_debug("store", "half a journal line stays: readers know it by its check", LOG_END);
	return r;
}

/* A first line that is not the right one has made all lines after it worthless. */
static int move_away(struct store *s, const struct journal *j)
{
	char name[96];

	(void)snprintf(name, sizeof(name), "%012" PRId64 "-%s", clock_wall_s(s->clock), j->path + 3);
	return renameat(s->journal_fd, j->path, s->quarantine_fd, name) < 0 ? -errno : 0;
}

static int append_or_create(struct store *s, const struct journal *j, struct str head, struct str lines)
{
	SCOPED_FD int fd = fs_open(s->journal_fd, j->path, O_RDWR | O_APPEND | O_NONBLOCK, 0);
	struct stat st;
	int r;

	if (fd == -ENOENT)
		return create(s, j, head, lines);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	r = check_head(fd, head);
	if (r == -EBADMSG) {
		r = move_away(s, j);
		return r < 0 ? r : create(s, j, head, lines);
	}
	return r < 0 ? r : append(fd, (uint64_t)st.st_size, lines);
}

static uint64_t journal_charge(struct store *s, const struct journal *j)
{
	struct stat st;

	if (fstatat(s->journal_fd, j->path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return file_charge((uint64_t)st.st_size);
}

/* Both are clean but the first time, and cost next to nothing then. */
static int sync_folders(struct store *s, const struct journal *j)
{
	int r = fs_sync_dir(s->journal_fd, j->folder);

	return r < 0 ? r : fs_sync_dir(s->journal_fd, NULL);
}

static int append_charged(struct store *s, struct str repo, struct str head, struct str lines)
{
	/* at most so much more, with the newline after a torn line */
	uint64_t most = file_charge(head.len + lines.len + 1), before, after;
	struct journal j;
	int r;

	journal_of(repo, &j);
	r = room_take_used(s, most, 0);
	if (r < 0)
		return r;
	before = journal_charge(s, &j);
	r = append_or_create(s, &j, head, lines);
	if (r == 0)
		r = sync_folders(s, &j);
	after = journal_charge(s, &j);
	/* one moved away is still charged for, as quarantine */
	if (after >= before && after - before <= most)
		room_sub_used(s, most - (after - before));
	return r == -EDQUOT ? -ENOSPC : store_error(s, r);
}

int store_journal_append(struct store *s, struct str repo, const struct str *lines, size_t count)
{
	SCOPED_BUF head, text;
	int r;

	buf_init(&head, JOURNAL_LINE_MAX);
	buf_init(&text, APPEND_BYTES_MAX);
	r = add_first_line(&head, repo);
	for (size_t i = 0; i < count && r == 0; i++)
		r = add_line(&text, lines[i]);
	if (r < 0 || count == 0)
		return r;
	return append_charged(s, repo, buf_str(&head), buf_str(&text));
}

/* --- reading --- */

struct reader {
	int fd;
	char *room;       /* owned; one line of the longest sort and its newline */
	size_t begin, end;
	bool is_at_end;
};

static int fill(struct reader *r)
{
	ssize_t got;

	memmove(r->room, r->room + r->begin, r->end - r->begin);
	r->end -= r->begin;
	r->begin = 0;
	do
		got = read(r->fd, r->room + r->end, JOURNAL_LINE_MAX - r->end);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	if (got == 0)
		r->is_at_end = true;
	r->end += (size_t)got;
	return 0;
}

/* Returns 1 a line; 0 the end (also in the middle of a torn one); -E2BIG once for a line that is too long; -errno. */
static int next_line(struct reader *r, struct str *ret_line)
{
	bool is_too_long = false;

	for (;;) {
		char *at = r->room + r->begin;
		char *newline = memchr(at, '\n', r->end - r->begin);
		int error;

		if (newline) {
			*ret_line = str_from_range(at, newline);
			r->begin = (size_t)(newline - r->room) + 1;
			return is_too_long ? -E2BIG : 1;
		}
		if (r->is_at_end)
			return 0;
		if (r->end - r->begin == JOURNAL_LINE_MAX) {
			is_too_long = true;
			r->begin = r->end;
		}
		error = fill(r);
		if (error < 0)
			return error;
	}
}

/* The text of a line whose check is right; ptr NULL otherwise. */
static struct str open_line(struct str line)
{
	struct str text = { NULL, 0 };
	char check[CHECK_HEX + 1];

	if (line.len < LINE_HEAD || line.ptr[CHECK_HEX] != ' ')
		return text;
	text = (struct str){ line.ptr + LINE_HEAD, line.len - LINE_HEAD };
	check_of(text, check);
	return memcmp(line.ptr, check, CHECK_HEX) == 0 ? text : (struct str){ NULL, 0 };
}

/* The repo named by the first line, if this is the file of that repo. The caller's; NULL if not. */
static char *read_repo(struct reader *r, const char *path)
{
	struct str line, text, repo;
	struct journal j;

	if (next_line(r, &line) != 1)
		return NULL;
	text = open_line(line);
	if (!text.ptr || !str_starts_with(text, JOURNAL_MAGIC))
		return NULL;
	repo = (struct str){ text.ptr + JOURNAL_MAGIC.len, text.len - JOURNAL_MAGIC.len };
	journal_of(repo, &j);
	return strcmp(j.path, path) == 0 ? str_dup(repo) : NULL;
}

struct walk {
	struct store *store;
	int (*visit)(void *ctx, struct str repo, struct str line);
	void *ctx;
	uint64_t broken;
	char *room; /* owned; the reader's */
};

static int visit_lines(struct walk *w, struct reader *r, struct str repo)
{
	struct str line, text;
	int got, result;

	while ((got = next_line(r, &line)) != 0) {
		text = got == 1 ? open_line(line) : (struct str){ NULL, 0 };
		if (!text.ptr)
			w->broken++;
		if (got < 0 && got != -E2BIG) {
			(void)store_error(w->store, got);
			return 0; /* the other journals may be readable */
		}
		result = text.ptr ? w->visit(w->ctx, repo, text) : 0;
		if (result)
			return result;
	}
	return 0;
}

static int walk_file(struct walk *w, const char *path)
{
	SCOPED_FD int fd = fs_open(w->store->journal_fd, path, O_RDONLY | O_NONBLOCK, 0);
	struct reader r = { .fd = fd, .room = w->room };
	SCOPED_FREE char *repo = NULL;
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		repo = read_repo(&r, path);
	if (!repo) {
		w->broken++;
		return 0;
	}
	return visit_lines(w, &r, str_from(repo));
}

/* Calls back for each file in journal/ab. */
static int each_file(struct store *s, int (*visit)(void *ctx, const char *path), void *ctx)
{
	int r = 0;

	for (unsigned ab = 0; ab < 256 && r == 0; ab++) {
		SCOPED_NAMES names;
		char path[8 + NAME_MAX];
		int r2;

		(void)snprintf(path, sizeof(path), "%02x", ab);
		r2 = names_read(s->journal_fd, path, &names);
		if (r2 < 0)
			log_warning("store", "a folder of journals cannot be read: what is in it is left out", LOG_TEXT("folder", path),
				    LOG_ERR("error", r2), LOG_END);
		for (size_t i = 0; i < names.count && r == 0; i++) {
			(void)snprintf(path, sizeof(path), "%02x/%s", ab, names.at[i]);
			r = visit(ctx, path);
		}
	}
	return r;
}

static bool is_journal_path(const char *path)
{
	struct str name = str_from(path + 3);

	return name.len == 2 * SHA256_BYTES && str_is_lower_hex(name);
}

static int walk_visit(void *ctx, const char *path)
{
	return is_journal_path(path) ? walk_file(ctx, path) : 0;
}

int store_journal_each(struct store *s, int (*visit)(void *ctx, struct str repo, struct str line), void *ctx,
		       uint64_t *ret_broken)
{
	SCOPED_FREE char *room = xmalloc(JOURNAL_LINE_MAX);
	struct walk w = { .store = s, .visit = visit, .ctx = ctx, .room = room };
	int r = each_file(s, walk_visit, &w);

	*ret_broken = w.broken;
	return r;
}

struct scan {
	struct store *store;
	uint64_t charge;
};

static int scan_visit(void *ctx, const char *path)
{
	struct scan *scan = ctx;
	struct stat st;

	if (!is_journal_path(path)) {
		(void)fs_unlink(scan->store->journal_fd, path); /* of a replacement that was cut off */
		return 0;
	}
	if (fstatat(scan->store->journal_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
		scan->charge += file_charge((uint64_t)st.st_size);
	return 0;
}

uint64_t journals_scan(struct store *s)
{
	struct scan scan = { .store = s };

	(void)each_file(s, scan_visit, &scan);
	return scan.charge;
}
