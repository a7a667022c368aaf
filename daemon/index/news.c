/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/news - what a fact is about, what it says, and whether that is news.
 *
 * To add a kind of fact: its rows in fact_keys(), its value in value_from_fact(), its sameness in says_the_same(), its SQL in
 * write.c, its line in fact.c.
 *
 * Pure. Threads any.
 */
#include "index/priv.h"

#include "common/alloc.h"

#include "common/banned.h"

/* A row that says the same as before is written to its journal again after this time, and not before. */
#define JOURNAL_AGAIN_S (6 * 3600)

unsigned fact_keys(const struct fact *f, struct key keys[FACT_KEYS_MAX])
{
	struct str none = STR("");
	struct str commit = commit_str(f->commit);

	switch (f->kind) {
	case FACT_ALIAS:
		key_init(&keys[0], ROW_ALIAS, f->repo, none, none);
		return 1;
	case FACT_NAME:
		key_init(&keys[0], ROW_NAME, f->repo, f->revision, none);
		key_init(&keys[1], ROW_COMMIT, f->repo, commit, none);
		return 2;
	case FACT_ENTRY:
	case FACT_ABSENT:
		key_init(&keys[0], ROW_ENTRY, f->repo, commit, f->path);
		key_init(&keys[1], ROW_COMMIT, f->repo, commit, none);
		return 2;
	case FACT_OBJECT:
		key_init(&keys[0], ROW_OBJECT, f->repo, digest_str(&f->content.sha256), none);
		return 1;
	case FACT_TREE:
		key_init(&keys[0], ROW_TREE, f->repo, commit, none);
		key_init(&keys[1], ROW_COMMIT, f->repo, commit, none);
		return 2;
	case FACT_DOC:
		key_init(&keys[0], ROW_DOC, f->repo, f->path, none);
		return 1;
	case FACT_PUBLIC:
		key_init(&keys[0], ROW_PUBLIC, f->repo, none, none);
		return 1;
	case FACT_IDENTITY:
		key_init(&keys[0], ROW_IDENTITY, f->repo, none, none);
		return 1;
	case FACT_SHOWN:
		key_init(&keys[0], ROW_SHOWN, f->repo, subject_str(f), f->path);
		return 1;
	case FACT_GRANT:
		key_init(&keys[0], ROW_GRANT, f->repo, subject_str(f), none);
		return 1;
	case FACT_BLOB:
	case FACT_BLOB_GONE:
		key_init(&keys[0], ROW_BLOB, none, digest_str(&f->sha256), none);
		if (f->kind == FACT_BLOB_GONE || git_oid_is_none(&f->git))
			return 1;
		key_init(&keys[1], ROW_GIT, none, git_str(&f->git), none);
		return 2;
	case FACT_USE:
	case FACT_FORGET:
	case FACT_FORGET_GRANTS:
	case FACT_FORGET_ALL:
	case FACT_HIDE:
		break;
	}
	return 0;
}

static bool alias_is_none(const struct fact *f)
{
	return f->to.len == 0 || str_eq(f->to, f->repo);
}

void value_from_fact(const struct fact *f, struct value *v)
{
	*v = (struct value){ .state = VALUE_HELD };
	switch (f->kind) {
	case FACT_ALIAS:
		if (alias_is_none(f))
			v->state = VALUE_NONE;
		else
			v->to = str_dup(f->to);
		v->to_at = f->at;
		break;
	case FACT_IDENTITY:
		v->to = str_dup(f->to);
		break;
	case FACT_NAME:
		memcpy(v->name.commit, f->commit, COMMIT_TEXT);
		v->name.checked_at = f->at;
		break;
	case FACT_ENTRY:
		v->content = f->content;
		break;
	case FACT_OBJECT:
		v->object.size = f->content.size;
		break;
	case FACT_ABSENT:
		v->state = VALUE_ABSENT;
		break;
	case FACT_DOC:
		v->doc = doc_dup(f->doc);
		break;
	case FACT_PUBLIC:
	case FACT_GRANT:
	case FACT_SHOWN:
		v->state = f->level == ACCESS_NONE ? VALUE_NONE : VALUE_HELD;
		v->access.level = f->level;
		v->access.at = f->at;
		break;
	case FACT_BLOB:
		v->blob.git = f->git;
		v->blob.size = f->size;
		v->blob.used_at = f->at;
		break;
	case FACT_BLOB_GONE:
		v->state = VALUE_NONE;
		break;
	case FACT_TREE:
	case FACT_USE:
	case FACT_FORGET:
	case FACT_FORGET_GRANTS:
	case FACT_FORGET_ALL:
	case FACT_HIDE:
		break;
	}
}

/* --- is it news? --- */

static bool text_eq(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool doc_eq(const struct doc *a, const struct doc *b)
{
	return digest_eq(&a->body, &b->body) && a->body_size == b->body_size &&
	       text_eq(a->content_type, b->content_type) && text_eq(a->link_next, b->link_next) &&
	       text_eq(a->commit, b->commit);
}

static bool says_the_same(const struct fact *f, const struct value *known)
{
	switch (f->kind) {
	case FACT_ALIAS:
		return known->state == VALUE_HELD ? str_eq(f->to, str_from(known->to)) : alias_is_none(f);
	case FACT_IDENTITY:
		return known->state == VALUE_HELD && str_eq(f->to, str_from(known->to));
	case FACT_NAME:
		return known->state == VALUE_HELD && memcmp(f->commit, known->name.commit, COMMIT_HEX) == 0;
	case FACT_ENTRY:
		return known->state == VALUE_HELD && content_id_eq(&f->content, &known->content);
	case FACT_OBJECT:
		return known->state == VALUE_HELD && f->content.size == known->object.size;
	case FACT_ABSENT:
		return known->state == VALUE_ABSENT;
	case FACT_TREE:
		return known->state == VALUE_HELD;
	case FACT_DOC:
		return known->state == VALUE_HELD && doc_eq(f->doc, known->doc);
	case FACT_PUBLIC:
	case FACT_GRANT:
		return f->level == (known->state == VALUE_HELD ? known->access.level : ACCESS_NONE);
	case FACT_SHOWN:
		return known->state == VALUE_HELD && f->level <= known->access.level;
	default:
		return false;
	}
}

/* What can be said once only, or is taken back as a whole. */
static bool is_for_ever(const struct fact *f)
{
	return f->kind == FACT_ENTRY || f->kind == FACT_ABSENT || f->kind == FACT_TREE ||
	       f->kind == FACT_OBJECT || f->kind == FACT_IDENTITY;
}

enum sameness fact_compare(const struct fact *f, const struct value *known)
{
	if (!says_the_same(f, known))
		return SAME_NO;
	if (known->state == VALUE_NONE || f->kind == FACT_GRANT)
		return SAME_YES; /* there is nothing for the journal to keep */
	if (known->journaled_at == 0)
		return SAME_NO;
	if (is_for_ever(f))
		return SAME_YES;
	if (f->kind == FACT_SHOWN)
		return (f->at - known->journaled_at) / 1000000 < JOURNAL_AGAIN_S ? SAME_YES : SAME_NO;
	return f->at - known->journaled_at < JOURNAL_AGAIN_S ? SAME_YES : SAME_NO;
}

bool fact_is_old_news(const struct fact *f, enum sameness same, const struct value *known)
{
	if (same != SAME_YES)
		return false;
	return is_for_ever(f) ||
	       ((f->kind == FACT_ALIAS || f->kind == FACT_PUBLIC || f->kind == FACT_GRANT) &&
		known->state == VALUE_NONE);
}

bool fact_is_kept(const struct fact *f)
{
	return f->kind == FACT_FORGET || f->kind == FACT_FORGET_ALL || f->kind == FACT_FORGET_GRANTS ||
	       f->kind == FACT_HIDE || f->kind == FACT_BLOB_GONE ||
	       ((f->kind == FACT_PUBLIC || f->kind == FACT_GRANT) && f->level != ACCESS_FILES);
}
