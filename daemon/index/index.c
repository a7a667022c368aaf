/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/index - opening and closing; a file that is no good is put aside and replaced by an empty one.
 *
 * Threads   before and after all others; index_replace_file() by the writer at any time.
 */
#include "index/priv.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/stat.h>

#include "common/alloc.h"
#include "common/log.h"

#include "common/banned.h"

/* Reading a large database through would make a start slow; what this finds is the common damage. */
#define QUICK_CHECK_MS_MAX 1000
#define REPO_BYTES_MAX 4096

static void unlink_with(const char *path, const char *suffix)
{
	SCOPED_FREE char *name = xasprintf("%s%s", path, suffix);

	(void)unlink(name); /* mostly it is not there */
}

/* One bad file is kept for whoever wants to look; older ones go, so that a dying disk does not fill itself. */
static void unlink_older_bad(const char *path)
{
	SCOPED_FREE char *copy_dir = xstrdup(path);
	SCOPED_FREE char *copy_base = xstrdup(path);
	const char *dir_name = dirname(copy_dir);
	SCOPED_FREE char *prefix = xasprintf("%s.bad-", basename(copy_base));
	DIR *dir = opendir(dir_name);
	struct dirent *e;

	if (!dir)
		return;
	while ((e = readdir(dir)) != NULL)
		if (str_starts_with(str_from(e->d_name), str_from(prefix)))
			(void)unlinkat(dirfd(dir), e->d_name, 0); /* tried again next time */
	(void)closedir(dir);
}

static int set_aside(const char *path, int64_t now)
{
	SCOPED_FREE char *bad = xasprintf("%s.bad-%lld", path, (long long)now);

	unlink_older_bad(path);
	if (rename(path, bad) < 0 && errno != ENOENT)
		return -errno;
	/* a WAL that outlived its database must not be taken for the new one's */
	unlink_with(path, "-wal");
	unlink_with(path, "-shm");
	return 0;
}

/* 0 good; -EBADMSG, -EPROTO, or what the disk says. */
static int open_and_check(struct index *x)
{
	int r = conn_open(x->path, true, &x->is_damaged, &x->writer);

	if (r == 0) {
		r = schema_check(x->writer);
		if (r >= 0)
			r = index_check(x, "PRAGMA quick_check(1)", QUICK_CHECK_MS_MAX);
		if (r >= 0)
			r = schema_migrate(x->writer);
	}
	if (r < 0) {
		conn_close(x->writer);
		x->writer = NULL;
	}
	return r;
}

static int open_anew(struct index *x)
{
	int r = set_aside(x->path, clock_wall_s(x->clock));

	atomic_store(&x->is_damaged, false);
	return r < 0 ? r : open_and_check(x);
}

int index_replace_file(struct index *x)
{
	int r;

	writer_assert(x);
	readers_close(&x->readers);
	conn_close(x->writer);
	x->writer = NULL;
	r = open_anew(x);
	if (r == 0)
		readers_open(&x->readers);
	else
		atomic_store(&x->is_damaged, true); /* lives on in memory; tried again */
	return r;
}

static int read_settings(struct index *x, bool *ret_is_complete)
{
	int64_t is_complete = 0, has_gaps = 0;
	int r = setting_get(x->writer, "is_complete", &is_complete);

	if (r == 0 || r == -ENODATA)
		r = setting_get(x->writer, "has_gaps", &has_gaps);
	if (r < 0 && r != -ENODATA)
		return r;
	x->has_gaps = x->knows_gaps = has_gaps;
	*ret_is_complete = is_complete;
	return 0;
}

static const char *reason_of(int r)
{
	switch (r) {
	case -EPROTO:
		return "index.db was made by a newer version of this program: use that one, or delete the "
		       "file (it is rebuilt)";
	case -ENOSPC:
		return "no space left on the disk for index.db";
	case -EROFS:
	case -EACCES:
		return "index.db cannot be written: see the owner and mode of storage.path";
	case -EBUSY:
		return "index.db is locked by another program";
	default:
		return "index.db cannot be opened: see the disk";
	}
}

static int open_database(struct index *x)
{
	bool is_complete = false, is_new = access(x->path, F_OK) < 0;
	int r;

	if (is_new) {
		unlink_with(x->path, "-wal");
		unlink_with(x->path, "-shm");
	}
	r = open_and_check(x);
	if (r == -EBADMSG) {
		log_warning("index",
			    "index.db is damaged or not ours: put aside, rebuilt from the store's files",
			    LOG_TEXT("path", x->path), LOG_END);
		r = open_anew(x);
	}
	if (r == 0)
		r = read_settings(x, &is_complete);
	if (r < 0)
		return r;
	return is_complete ? 0 : 1;
}

static struct index *index_new(const struct index_opts *opts)
{
	struct index *x = xcalloc(1, sizeof(*x));

	x->path = xstrdup(opts->path);
	x->metrics = opts->metrics;
	x->clock = opts->clock;
	x->owner = pthread_self();
	table_init(&x->table, opts->memory_entries > SHARDS ? opts->memory_entries : SHARDS);
	readers_init(&x->readers, x->path, &x->is_damaged);
	buf_init(&x->memo_repo, REPO_BYTES_MAX);
	lock_init(&x->queue_lock, LOCK_INDEX_QUEUE);
	list_init(&x->queue);
	x->lost_trees = map_new();
	return x;
}

int index_open(const struct index_opts *opts, struct index **ret_index, const char **ret_reason)
{
	struct index *x = index_new(opts);
	int r = open_database(x);

	if (r < 0) {
		*ret_reason = reason_of(r);
		index_close(x);
		return r;
	}
	*ret_index = x;
	return r;
}

bool index_has_gaps(const struct index *x)
{
	return x->has_gaps;
}

int index_fill_gaps(struct index *x)
{
	int r;

	writer_assert(x);
	if (x->failed || x->owed)
		return -EAGAIN; /* there are more to come */
	r = setting_put(x->writer, "has_gaps", 0);
	if (r == 0)
		x->has_gaps = x->knows_gaps = false;
	return r;
}

void index_close(struct index *x)
{
	if (!x)
		return;
	index_own_writer(x);
	readers_done(&x->readers);
	conn_close(x->writer);
	batch_free(x->failed);
	batch_free(x->owed);
	LIST_EACH(it, &x->queue)
		free(LIST_ENTRY(it, struct item, node));
	table_done(&x->table);
	map_free(x->lost_trees, NULL);
	lock_done(&x->queue_lock);
	buf_done(&x->memo_repo);
	free(x->path);
	free(x);
}
