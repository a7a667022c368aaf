/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer - the room's rules.
 */
#include "infer/priv.h"

#include "common/alloc.h"

struct infer *infer_new(const struct infer_opts *opts)
{
	struct infer *i = xcalloc(1, sizeof(*i));

	i->opts = *opts;
	lock_init(&i->lock, LOCK_REQUEST);
	shelf_init(&i->shelf);
	return i;
}

static void forget_modes(struct infer *i)
{
	for (unsigned k = 0; k < i->mode_count; k++)
		free(i->modes[k].pattern);
	i->mode_count = 0;
}

void infer_free(struct infer *i)
{
	if (!i)
		return;
	shelf_done(&i->shelf);
	forget_modes(i);
	lock_done(&i->lock);
	free(i);
}

void infer_set_rules(struct infer *i, const struct infer_rules *rules)
{
	SCOPED_LOCK(&i->lock);

	i->rules = *rules;
	i->rules.modes = NULL;
	forget_modes(i);
	for (unsigned k = 0; rules->modes && rules->modes[k] && i->mode_count < INFER_MODES_MAX; k++) {
		struct str text = str_from(rules->modes[k]), word;
		const char *equals = memrchr(text.ptr, '=', text.len);
		int mode;

		if (!equals)
			continue;
		word = str_from_range(equals + 1, text.ptr + text.len);
		mode = policy_infer_mode(word);
		if (mode < 0)
			continue;
		i->modes[i->mode_count].mode = (enum infer_mode)mode;
		i->modes[i->mode_count++].pattern = str_dup(str_from_range(text.ptr, equals));
	}
}

/* A pattern that begins with a slash is about the path. */
static bool fits(struct str pattern, struct str model, struct str repo, struct str target)
{
	if (pattern.len && pattern.ptr[0] == '/')
		return backend_glob_matches(pattern, target);
	return (model.len && backend_glob_matches(pattern, model)) ||
	       (repo.len && backend_glob_matches(pattern, repo));
}

enum infer_mode infer_mode_of(struct infer *i, struct str model, struct str repo, struct str target)
{
	struct str path, query;
	SCOPED_LOCK(&i->lock);

	(void)str_cut(target, '?', &path, &query);
	model = model_id(model);
	if (str_starts_with(repo, STR("models/")))
		repo = (struct str){ repo.ptr + strlen("models/"), repo.len - strlen("models/") };
	for (unsigned k = 0; k < i->mode_count; k++)
		if (fits(str_from(i->modes[k].pattern), model, repo, path))
			return i->modes[k].mode;
	return i->rules.mode;
}

struct infer_rules infer_rules_of(struct infer *i)
{
	SCOPED_LOCK(&i->lock);

	return i->rules;
}
