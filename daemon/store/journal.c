/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/journal - one append-only file of facts per repo.
 *
 *   0123456789abcdef hfcached journal 1 models/acme/pub      the first line: whose it is
 *   fedcba9876543210 any text without a newline              check (first 8 bytes of its SHA-256), space, the line
 *
 * A file comes into being, or is replaced, as a whole (rename), so only a last line can be torn; the next append ends it with
 * a newline and goes on, and it stays behind as one broken line.
 * Never     understands a line.
 * Threads   keeper.
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

/* All lines of one call; a transaction's facts of one repo. */
#define APPEND_BYTES_MAX (256u << 20)
#define REPO_MAX 4096

void journal_of(struct str repo, struct journal *ret_journal)
{
	struct digest d;

	sha256_of(repo.ptr, repo.len, &d);
	(void)snprintf(ret_journal->folder, sizeof(ret_journal->folder), "%02x", d.bytes[0]);
	(void)snprintf(ret_journal->path, sizeof(ret_journal->path), "%02x/", d.bytes[0]);
	format_hex(d.bytes, SHA256_BYTES, ret_journal->path + 3);
}

static int add_line(struct buf *out, struct str line)
{
	char check[CHECK_HEX + 1];

	if (line.len > JOURNAL_LINE_MAX - JOURNAL_LINE_HEAD - 1 ||
	    (line.len && memchr(line.ptr, '\n', line.len)))
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

/*
 * put  writes head and lines behind what is there, or in its place: then both are on disk for a moment
 */
static int put_charged(struct store *s, struct str repo, struct str head, struct str lines,
		       int (*put)(struct store *s, const struct journal *j, struct str head,
				  struct str lines))
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
	r = put(s, &j, head, lines);
	if (r == 0)
		r = sync_folders(s, &j);
	after = journal_charge(s, &j); /* its name may be there although that could not be synced */
	/* one moved away is still charged for, as quarantine */
	if (put == create || (after >= before && after - before <= most))
		room_sub_used(s, most + before - after);
	return r == -EDQUOT ? -ENOSPC : store_error(s, r);
}

static int make_text(struct str repo, const struct str *lines, size_t count, struct buf *head,
		     struct buf *text)
{
	int r;

	buf_init(head, JOURNAL_LINE_MAX);
	buf_init(text, APPEND_BYTES_MAX);
	r = add_first_line(head, repo);
	for (size_t i = 0; i < count && r == 0; i++)
		r = add_line(text, lines[i]);
	return r;
}

int store_journal_append(struct store *s, struct str repo, const struct str *lines, size_t count)
{
	SCOPED_BUF head, text;
	int r = make_text(repo, lines, count, &head, &text);

	if (r < 0 || count == 0)
		return r;
	return put_charged(s, repo, buf_str(&head), buf_str(&text), append_or_create);
}

/* --- instead of what is there --- */

int store_journal_replace(struct store *s, struct str repo, const struct str *lines, size_t count)
{
	SCOPED_BUF head, text;
	int r = make_text(repo, lines, count, &head, &text);

	return r < 0 ? r : put_charged(s, repo, buf_str(&head), buf_str(&text), create);
}

uint64_t store_journal_size(struct store *s, struct str repo)
{
	struct journal j;
	struct stat st;

	journal_of(repo, &j);
	return fstatat(s->journal_fd, j.path, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : (uint64_t)st.st_size;
}
