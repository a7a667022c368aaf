/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/find - the questions. Memory first; a row that is not there is read from the disk and kept.
 *
 * Never     waits for a transaction or for another reader.
 * Threads   any.
 * Promises  (1) what the disk cannot be asked about is not known (-ENODATA), never absent.
 *           (2) "the tree is known and lacks it" is said only if the entry was looked for after the tree was known.
 */
#include "index/priv.h"

#include <assert.h>
#include <errno.h>

#include "common/alloc.h"

#include "common/banned.h"

#define ALIAS_HOPS_MAX 8
#define COMMIT_PREFIX_MIN 7

static struct str commit_key(struct str commit)
{
	return commit.len == COMMIT_HEX && str_is_lower_hex(commit) ? commit : (struct str){ NULL, 0 };
}

static void take_memory_row(const struct key *k, struct row *row, struct value *ret)
{
	value_copy(k->kind, &row->value, ret);
	if (!atomic_load_explicit(&row->is_used, memory_order_relaxed))
		atomic_store_explicit(&row->is_used, true, memory_order_relaxed);
}

/* What the disk holds may be kept unless something was learned here since `epoch`. A row that came meanwhile wins. */
static void keep_or_replace(struct index *x, struct shard *s, const struct key *k, uint64_t epoch,
			    struct value *v)
{
	struct row *row;
	bool was_there;

	shard_write(s);
	row = row_find(s, k);
	if (row) {
		value_done(k->kind, v);
		take_memory_row(k, row, v);
	} else if (s->epoch == epoch) {
		struct value copy;

		row = row_make(&x->table, s, k, &was_there);
		value_copy(k->kind, v, &copy);
		row_set(row, &copy);
	}
	shard_drop(s);
}

static bool rights_are_distrusted(struct index *x, enum row_kind kind)
{
	return (kind == ROW_PUBLIC || kind == ROW_GRANT || kind == ROW_SHOWN) &&
	       atomic_load(&x->is_distrusted);
}

int find_on_disk(struct index *x, const struct key *k, struct value *ret)
{
	struct conn *c = readers_take(&x->readers);
	int r;

	if (!c)
		return -EIO;
	*ret = (struct value){ .state = VALUE_NONE };
	r = read_row(c, k, ret);
	readers_give(&x->readers, c);
	if (r < 0 && x->metrics)
		metrics_inc(x->metrics, METRIC_STORAGE_IO_ERRORS);
	return r;
}

int find_row(struct index *x, const struct key *k, struct value *ret)
{
	struct shard *s = &x->table.shards[k->shard];
	struct value v;
	struct row *row;
	uint64_t epoch;
	enum cover cover;

	shard_read(s);
	row = row_find(s, k);
	if (row) {
		take_memory_row(k, row, ret);
		shard_drop(s);
		return ret->state != VALUE_NONE;
	}
	cover = forget_covers(s, k);
	epoch = s->epoch;
	shard_drop(s);

	*ret = (struct value){ .state = VALUE_NONE };
	if (cover == COVERS_ALL || rights_are_distrusted(x, k->kind))
		return 0;
	if (find_on_disk(x, k, &v) < 0)
		return 0;
	if (cover == COVERS_DOUBT)
		value_doubt(k->kind, &v); /* not kept: the disk will say so itself */
	else
		keep_or_replace(x, s, k, epoch, &v);
	*ret = v;
	return v.state != VALUE_NONE;
}

/* --- names --- */

int index_canonical_repo(struct index *x, struct str repo, int64_t since, struct buf *ret_repo)
{
	SCOPED_FREE char *canonical = str_dup(repo);

	for (int hop = 0; hop < ALIAS_HOPS_MAX; hop++) {
		struct value v;
		SCOPED_KEY k;

		key_init(&k, ROW_ALIAS, hop ? str_from(canonical) : repo, STR(""), STR(""));
		if (find_row(x, &k, &v) == 0 || v.to_at < since) {
			struct str found = hop ? str_from(canonical) : repo;

			value_done(ROW_ALIAS, &v);
			buf_reset(ret_repo);
			return buf_append_str(ret_repo, found);
		}
		free(canonical);
		canonical = v.to;
	}
	/* a circle: as good as no alias */
	buf_reset(ret_repo);
	return buf_append_str(ret_repo, repo);
}

int index_find_identity(struct index *x, struct str repo, struct buf *out)
{
	SCOPED_KEY k;
	struct value v;
	int r;

	key_init(&k, ROW_IDENTITY, repo, STR(""), STR(""));
	if (find_row(x, &k, &v) == 0)
		return -ENODATA;
	r = buf_append_str(out, str_from(v.to));
	value_done(ROW_IDENTITY, &v);
	return r;
}

int index_find_name(struct index *x, struct str repo, struct str revision, char ret_commit[COMMIT_TEXT],
		    int64_t *ret_checked_at)
{
	SCOPED_KEY k;
	struct value v;

	key_init(&k, ROW_NAME, repo, revision, STR(""));
	if (find_row(x, &k, &v) == 0)
		return -ENODATA;
	memcpy(ret_commit, v.name.commit, COMMIT_TEXT);
	if (ret_checked_at)
		*ret_checked_at = v.name.checked_at;
	return 0;
}

/* The first two different commits that match. */
struct commits {
	struct str repo, prefix;
	char found[2][COMMIT_TEXT];
	int count;
};

static void commits_add(struct commits *c, struct str commit)
{
	if (c->count == 2 || (c->count == 1 && memcmp(c->found[0], commit.ptr, COMMIT_HEX) == 0))
		return;
	memcpy(c->found[c->count], commit.ptr, COMMIT_HEX);
	c->found[c->count++][COMMIT_HEX] = 0;
}

static int add_pending_commit(void *ctx, struct str key, void *value)
{
	struct commits *c = ctx;
	const struct row *row = value;

	if (row->value.state == VALUE_HELD && str_eq(key_repo(key), c->repo) &&
	    str_starts_with(key_a(key), c->prefix))
		commits_add(c, key_a(key));
	return 0;
}

static int add_commits_on_disk(struct conn *conn, struct commits *c)
{
	char low[COMMIT_TEXT], high[COMMIT_TEXT], commit[COMMIT_TEXT];
	sqlite3_stmt *st = NULL;
	int r = sql_start(conn, ST_FIND_COMMITS, &st);

	if (r < 0)
		return r;
	memset(low, '0', COMMIT_HEX);
	memset(high, 'f', COMMIT_HEX);
	memcpy(low, c->prefix.ptr, c->prefix.len);
	memcpy(high, c->prefix.ptr, c->prefix.len);
	sql_bind_str(st, 1, c->repo);
	sql_bind_commit(st, 2, low);
	sql_bind_commit(st, 3, high);
	while ((r = sql_row(conn, st)) > 0)
		if (sql_copy_commit(st, 0, commit) == 0)
			commits_add(c, (struct str){ commit, COMMIT_HEX });
	sql_stop(st);
	return r;
}

int index_find_commit(struct index *x, struct str repo, struct str prefix, char ret_commit[COMMIT_TEXT])
{
	struct commits c = { .repo = repo, .prefix = prefix };
	struct conn *conn;
	struct shard *s;
	bool is_covered;
	SCOPED_KEY k;
	int r = 0;

	key_init(&k, ROW_COMMIT, repo, STR(""), STR("")); /* for its shard */
	if (prefix.len < COMMIT_PREFIX_MIN || prefix.len > COMMIT_HEX || !str_is_lower_hex(prefix))
		return -ENODATA;
	/* memory before disk: what is committed between the two is seen twice, not missed */
	s = &x->table.shards[k.shard];
	shard_read(s);
	(void)map_each(s->rows[ROW_COMMIT], add_pending_commit, &c);
	is_covered = forget_covers(s, &k) == COVERS_ALL;
	shard_drop(s);
	if (!is_covered) {
		conn = readers_take(&x->readers);
		if (!conn)
			return -ENODATA;
		r = add_commits_on_disk(conn, &c);
		readers_give(&x->readers, conn);
	}
	if (r < 0 || c.count != 1)
		return -ENODATA;
	memcpy(ret_commit, c.found[0], COMMIT_TEXT);
	return 0;
}

/* --- entries --- */

bool index_tree_is_known(struct index *x, struct str repo, struct str commit)
{
	SCOPED_KEY k;
	struct value v;

	key_init(&k, ROW_TREE, repo, commit_key(commit), STR(""));
	return k.a.len && find_row(x, &k, &v) > 0;
}

int index_find_entry(struct index *x, struct str repo, struct str commit, struct str path,
		     struct content_id *ret_content)
{
	SCOPED_KEY k;
	struct value v;

	key_init(&k, ROW_ENTRY, repo, commit_key(commit), path);
	if (!k.a.len)
		return -ENODATA;
	/* the second look, after the tree was seen to be known, finds what came with it */
	if (find_row(x, &k, &v) == 0 && (!index_tree_is_known(x, repo, commit) || find_row(x, &k, &v) == 0))
		return index_tree_is_known(x, repo, commit) ? -ENOENT : -ENODATA;
	if (v.state == VALUE_ABSENT)
		return -ENOENT;
	*ret_content = v.content;
	return 0;
}

/* --- documents, blobs, rights --- */

int index_find_doc(struct index *x, struct str repo, struct str key, struct doc *ret_doc)
{
	SCOPED_KEY k;
	struct value v;

	key_init(&k, ROW_DOC, repo, key, STR(""));
	if (find_row(x, &k, &v) == 0)
		return -ENODATA;
	*ret_doc = *v.doc; /* its strings are the caller's from here on */
	free(v.doc);
	return 0;
}

static bool blob_is_stored(struct index *x, const struct digest *sha256, uint64_t *ret_size)
{
	SCOPED_KEY k;
	struct value v;

	key_init(&k, ROW_BLOB, STR(""), (struct str){ (const char *)sha256->bytes, SHA256_BYTES }, STR(""));
	if (find_row(x, &k, &v) == 0)
		return false;
	*ret_size = v.blob.size;
	return true;
}

int find_blob_of_git(struct index *x, const struct git_oid *git, struct digest *ret_sha256)
{
	uint64_t ignored;
	SCOPED_KEY k;
	struct value v;

	key_init(&k, ROW_GIT, STR(""), (struct str){ (const char *)git->bytes, SHA1_BYTES }, STR(""));
	if (find_row(x, &k, &v) == 0 || !blob_is_stored(x, &v.sha256, &ignored))
		return -ENODATA;
	*ret_sha256 = v.sha256;
	return 0;
}

int index_find_blob(struct index *x, const struct content_id *content, struct digest *ret_sha256)
{
	uint64_t size;

	if (content_is_git(content))
		return find_blob_of_git(x, &content->git, ret_sha256);
	if (!blob_is_stored(x, &content->sha256, &size))
		return -ENODATA;
	if (size != content->size)
		return -EBADMSG;
	*ret_sha256 = content->sha256;
	return 0;
}

static enum access_level find_right(struct index *x, enum row_kind kind, struct str repo, struct str subject,
				    int64_t *ret_at)
{
	SCOPED_KEY k;
	struct value v;

	*ret_at = 0;
	key_init(&k, kind, repo, subject, STR(""));
	if (find_row(x, &k, &v) == 0)
		return ACCESS_NONE;
	*ret_at = v.access.at;
	return v.access.level;
}

void index_find_access(struct index *x, struct str repo, const uint8_t subject[SUBJECT_BYTES],
		       struct access_facts *ret_facts)
{
	static const uint8_t anonymous[SUBJECT_BYTES];
	struct str who = { (const char *)subject, SUBJECT_BYTES };

	ret_facts->public_level = find_right(x, ROW_PUBLIC, repo, STR(""), &ret_facts->public_at);
	ret_facts->granted = ACCESS_NONE;
	ret_facts->granted_at = 0;
	if (memcmp(subject, anonymous, SUBJECT_BYTES) != 0)
		ret_facts->granted = find_right(x, ROW_GRANT, repo, who, &ret_facts->granted_at);
}

enum access_level index_find_shown(struct index *x, struct str repo, const uint8_t subject[SUBJECT_BYTES],
				   struct str what, int64_t *ret_at)
{
	SCOPED_KEY k;
	struct value v;

	key_init(&k, ROW_SHOWN, repo, (struct str){ (const char *)subject, SUBJECT_BYTES }, what);
	if (find_row(x, &k, &v) == 0)
		return ACCESS_NONE;
	if (ret_at)
		*ret_at = v.access.at;
	return v.access.level;
}

int64_t index_latest_shown(struct index *x)
{
	struct conn *c = readers_take(&x->readers);
	sqlite3_stmt *st = NULL;
	int64_t latest = 0;

	if (c && sql_start(c, ST_LATEST_SHOWN, &st) == 0) {
		if (sql_row(c, st) > 0)
			latest = sqlite3_column_int64(st, 0);
		sql_stop(st);
	}
	if (c)
		readers_give(&x->readers, c);
	return latest;
}

void index_touch_blob(struct index *x, const struct digest *sha256, int64_t now)
{
	SCOPED_KEY k;
	struct shard *s;
	struct row *row;

	key_init(&k, ROW_BLOB, STR(""), (struct str){ (const char *)sha256->bytes, SHA256_BYTES }, STR(""));
	s = &x->table.shards[k.shard];
	shard_read(s);
	row = row_find(s, &k);
	if (row && row->value.state == VALUE_HELD && atomic_load(&row->used_at) != now) {
		atomic_store(&row->used_at, now);
		atomic_store(&row->is_touched, true);
	}
	shard_drop(s);
}
