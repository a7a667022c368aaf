/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/replay - reading the journals back. Their form is drawn in journal.c.
 *
 * Never     believes a line without its check, or a file whose first line names another repo than its own name does.
 * Threads   start-up, or the keeper.
 */
#include "store/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/path.h"

#include "common/banned.h"

struct reader {
	int fd;
	char *room; /* owned; one line of the longest sort and its newline */
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

	if (line.len < JOURNAL_LINE_HEAD || line.ptr[CHECK_HEX] != ' ')
		return text;
	text = (struct str){ line.ptr + JOURNAL_LINE_HEAD, line.len - JOURNAL_LINE_HEAD };
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
	int error;  /* a file could not be read to its end */
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
			w->error = store_error(w->store, got);
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

int store_journal_visit(struct store *s, struct str repo,
			int (*visit)(void *ctx, struct str repo, struct str line), void *ctx)
{
	SCOPED_FREE char *room = xmalloc(JOURNAL_LINE_MAX);
	struct walk w = { .store = s, .visit = visit, .ctx = ctx, .room = room };
	struct journal j;
	int r;

	journal_of(repo, &j);
	if (faccessat(s->journal_fd, j.path, R_OK, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	r = walk_file(&w, j.path);
	return w.error ? w.error : r;
}

static int names_logged(struct store *s, const char *folder, struct names *ret_names)
{
	int r = names_read(s->journal_fd, folder, ret_names);

	if (r < 0)
		log_warning("store", "a folder of journals cannot be read: what is in it is left out",
			    LOG_TEXT("folder", folder), LOG_ERR("error", r), LOG_END);
	return r;
}

static int each_in_folder(struct store *s, const char *folder, int (*visit)(void *ctx, const char *path),
			  void *ctx)
{
	SCOPED_NAMES names;
	int r = 0;

	(void)names_logged(s, folder, &names);
	for (size_t i = 0; i < names.count && r == 0; i++) {
		char path[sizeof("ab/") + NAME_MAX];

		(void)snprintf(path, sizeof(path), "%.2s/%s", folder, names.at[i]);
		r = visit(ctx, path);
	}
	return r;
}

/* Calls back for each file in journal/ab. */
static int each_file(struct store *s, int (*visit)(void *ctx, const char *path), void *ctx)
{
	SCOPED_NAMES folders;
	int r = 0;

	(void)names_logged(s, ".", &folders);
	for (size_t i = 0; i < folders.count && r == 0; i++)
		if (strlen(folders.at[i]) == 2)
			r = each_in_folder(s, folders.at[i], visit, ctx);
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
