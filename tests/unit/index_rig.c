/* SPDX-License-Identifier: Apache-2.0 */
/* index_rig - see the header. */
#include "index_rig.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

static int64_t fixture_wall(void *ctx)
{
	return ((struct fixture *)ctx)->now;
}

int try_open(struct fixture *f, const char **ret_reason)
{
	struct index_opts opts = {
		.path = f->path,
		.memory_entries = f->memory_entries,
		.metrics = f->metrics,
		.clock = &f->clock,
	};

	return index_open(&opts, &f->index, ret_reason);
}

int set_up(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");
	const char *reason = NULL;

	(void)snprintf(f->dir, sizeof(f->dir), "%s/index-XXXXXX", tmp && strlen(tmp) < 32 ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->dir));
	f->path = xasprintf("%s/index.db", f->dir);
	f->metrics = metrics_new();
	f->memory_entries = 10000;
	f->now = 1700000000;
	f->clock = (struct clock){ .wall_s = fixture_wall, .ctx = f };
	assert_int_equal(try_open(f, &reason), 1);
	assert_int_equal(index_rebuild_begin(f->index), 0);
	assert_int_equal(index_rebuild_end(f->index), 0);
	*state = f;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

int tear_down(void **state)
{
	struct fixture *f = *state;

	index_close(f->index);
	metrics_free(f->metrics);
	assert_int_equal(nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	free(f->path);
	free(f);
	return 0;
}

void commit(struct fixture *f)
{
	assert_int_equal(index_apply(f->index, index_take_batch(f->index, EVERYTHING)), 0);
}

void reopen(struct fixture *f)
{
	const char *reason = NULL;

	index_close(f->index);
	assert_int_equal(try_open(f, &reason), 0);
}

void learn(struct fixture *f, struct fact fact)
{
	index_learn(f->index, &fact);
}

struct fact name_fact(const char *revision, const char *commit, int64_t at)
{
	struct fact f = { .kind = FACT_NAME, .repo = REPO, .revision = str_from(revision), .at = at };

	memcpy(f.commit, commit, COMMIT_HEX);
	return f;
}

struct content_id git_content(uint8_t seed, uint64_t size)
{
	struct content_id id = { .kind = CONTENT_GIT, .size = size };

	memset(id.git.bytes, seed, SHA1_BYTES);
	return id;
}

struct content_id lfs_content(uint8_t seed, uint64_t size)
{
	struct content_id id = { .kind = CONTENT_LFS, .size = size };

	memset(id.sha256.bytes, seed, SHA256_BYTES);
	return id;
}

struct fact entry_fact(const char *commit, const char *path, struct content_id content)
{
	struct fact f = {
		.kind = FACT_ENTRY, .repo = REPO, .path = str_from(path), .content = content, .at = 1700000000
	};

	memcpy(f.commit, commit, COMMIT_HEX);
	return f;
}

struct fact commit_fact(enum fact_kind kind, const char *commit, const char *path)
{
	struct fact f = { .kind = kind, .repo = REPO, .path = str_from(path), .at = 1700000000 };

	memcpy(f.commit, commit, COMMIT_HEX);
	return f;
}

struct fact blob_fact(enum fact_kind kind, uint8_t sha256, uint8_t git, uint64_t size, int64_t at)
{
	struct fact f = { .kind = kind, .size = size, .at = at };

	memset(f.sha256.bytes, sha256, SHA256_BYTES);
	memset(f.git.bytes, git, SHA1_BYTES);
	return f;
}

struct fact right_fact(enum fact_kind kind, uint8_t subject, enum access_level level, int64_t at)
{
	struct fact f = { .kind = kind, .repo = REPO, .level = level, .at = at };

	memset(f.subject, subject, SUBJECT_BYTES);
	return f;
}

struct doc make_doc(uint8_t body, int64_t fetched_at)
{
	static char type[] = "application/json", next[] = "/api/x?cursor=1";
	struct doc d = { .body_size = 7, .fetched_at = fetched_at, .content_type = type, .link_next = next };

	memset(d.body.bytes, body, SHA256_BYTES);
	memcpy(d.commit, C1, COMMIT_TEXT);
	return d;
}

void learn_doc(struct fixture *f, const char *key, const struct doc *doc)
{
	learn(f, (struct fact){ .kind = FACT_DOC,
				.repo = REPO,
				.path = str_from(key),
				.doc = doc,
				.at = doc->fetched_at });
}

int find_entry(struct fixture *f, const char *commit, const char *path, struct content_id *ret)
{
	return index_find_entry(f->index, REPO, str_from(commit), str_from(path), ret);
}

void in_every_phase(struct fixture *f, void (*look)(struct fixture *f))
{
	look(f);
	commit(f);
	look(f);
	reopen(f);
	look(f);
	look(f); /* what the disk said is in memory now */
}

void learn_alias(struct fixture *f, const char *name, const char *to)
{
	learn(f, (struct fact){ .kind = FACT_ALIAS, .repo = str_from(name), .to = str_from(to), .at = 100 });
}

struct access_facts rights_of(struct fixture *f, uint8_t subject)
{
	struct access_facts facts = { .wanted = ACCESS_FILES, .now = 42 };
	uint8_t id[SUBJECT_BYTES];

	memset(id, subject, sizeof(id));
	index_find_access(f->index, REPO, id, &facts);
	assert_int_equal(facts.wanted, ACCESS_FILES);
	assert_int_equal(facts.now, 42);
	return facts;
}
