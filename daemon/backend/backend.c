/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend - the list of servers, what may change of it, and which model is whose.
 *
 * Threads   any; the rules are copied under the lock.
 */
#include "backend/priv.h"

#include <errno.h>
#include <stdlib.h>

#include "common/alloc.h"

#include "common/banned.h"

static void forget_rules(struct one *o)
{
	for (char **m = o->models; m && *m; m++)
		free(*m);
	free(o->models);
	free(o->served_name);
	o->key = secret_unref(o->key);
	o->models = NULL;
	o->served_name = NULL;
}

struct backends *backends_new(const struct backends_opts *opts)
{
	struct backends *b = xcalloc(1, sizeof(*b));

	atomic_init(&b->refs, 1);
	b->fetch = opts->fetch;
	b->clock = opts->clock;
	b->count = opts->count < FETCH_BACKENDS_MAX ? opts->count : FETCH_BACKENDS_MAX;
	lock_init(&b->lock, LOCK_BACKENDS);
	waiters_init(&b->waiters);
	for (unsigned i = 0; i < b->count; i++) {
		struct one *o = &b->ones[i];

		o->all = b;
		o->index = i;
		o->name = xstrdup(opts->specs[i].name);
		o->base_path = xstrdup(opts->specs[i].base_path);
		o->kind = opts->specs[i].kind;
		o->models = xcalloc(1, sizeof(char *));
		o->served_name = xstrdup("");
		buf_init(&o->body, (size_t)4 << 20);
	}
	return b;
}

struct backends *backends_ref(struct backends *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

void backends_unref(struct backends *b)
{
	if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (unsigned i = 0; i < b->count; i++) {
		forget_rules(&b->ones[i]);
		served_done(&b->ones[i].served);
		buf_done(&b->ones[i].body);
		free(b->ones[i].name);
		free(b->ones[i].base_path);
	}
	waiters_done(&b->waiters);
	lock_done(&b->lock);
	free(b);
}

void backends_free(struct backends *b)
{
	if (!b)
		return;
	lock_take(&b->lock);
	b->is_stopping = true;
	lock_drop(&b->lock);
	waiters_wake_all(&b->waiters);
	backends_unref(b);
}

bool backends_are_stopping(struct backends *b)
{
	SCOPED_LOCK(&b->lock);

	return b->is_stopping;
}

/* --- rules --- */

static void take_rules_locked(struct one *o, const struct backend_rules *rules)
{
	SCOPED_FREE char *bearer = *rules->key ? xasprintf("Bearer %s", rules->key) : NULL;
	size_t count = 0;

	while (rules->models && rules->models[count])
		count++;
	forget_rules(o);
	o->models = xcalloc(count + 1, sizeof(char *));
	for (size_t i = 0; i < count; i++)
		o->models[i] = xstrdup(rules->models[i]);
	o->served_name = xstrdup(rules->served_name);
	o->key = bearer ? secret_new(str_from(bearer)) : NULL;
	o->timeout_ms = rules->timeout_ms;
	o->concurrency = rules->concurrency;
	o->is_default = rules->is_default;
	o->drops_unknown = rules->drops_unknown;
	if (bearer)
		explicit_bzero(bearer, strlen(bearer));
}

void backends_set_rules(struct backends *b, const struct backend_rules *rules, unsigned count)
{
	bool is_first;

	lock_take(&b->lock);
	is_first = !b->has_rules && b->count;
	b->has_rules = true;
	for (unsigned i = 0; i < count; i++)
		for (unsigned k = 0; k < b->count; k++)
			if (str_eq_nocase(str_from(b->ones[k].name), str_from(rules[i].name)))
				take_rules_locked(&b->ones[k], &rules[i]);
	lock_drop(&b->lock);
	waiters_wake_all(&b->waiters); /* there may be more room now */
	if (is_first)                  /* not before: a probe carries the key */
		probe_begin(b);
}

unsigned backends_count(const struct backends *b)
{
	return b ? b->count : 0;
}

const char *backend_name(const struct backends *b, unsigned i)
{
	return b->ones[i].name;
}

const char *backend_base_path(const struct backends *b, unsigned i)
{
	return b->ones[i].base_path;
}

struct secret *backend_key(struct backends *b, unsigned i)
{
	SCOPED_LOCK(&b->lock);

	return secret_ref(b->ones[i].key);
}

bool backend_drops_unknown(struct backends *b, unsigned i)
{
	SCOPED_LOCK(&b->lock);

	return b->ones[i].drops_unknown;
}

uint64_t backend_timeout_ms(struct backends *b, unsigned i)
{
	SCOPED_LOCK(&b->lock);

	return b->ones[i].timeout_ms;
}

/* --- models --- */

bool is_no_name(struct str model)
{
	return model.len == 0 || str_eq(model, STR("tgi")) || str_eq(model, STR("dummy"));
}

bool backend_glob_matches(struct str glob, struct str name)
{
	struct str after = { 0 }, retry = { 0 };

	for (;;) {
		if (glob.len && glob.ptr[0] == '*') {
			glob = after = (struct str){ glob.ptr + 1, glob.len - 1 };
			retry = name;
		} else if (glob.len && name.len && glob.ptr[0] == name.ptr[0]) {
			glob = (struct str){ glob.ptr + 1, glob.len - 1 };
			name = (struct str){ name.ptr + 1, name.len - 1 };
		} else if (glob.len == 0 && name.len == 0) {
			return true;
		} else if (after.ptr && retry.len) {
			/* the last star takes one more */
			retry = name = (struct str){ retry.ptr + 1, retry.len - 1 };
			glob = after;
		} else {
			return false;
		}
	}
}

static enum backend_match match_locked(const struct one *o, struct str model)
{
	enum backend_match best = MATCH_NONE;

	if (is_no_name(model))
		return o->is_default ? MATCH_DEFAULT : MATCH_NONE;
	for (char **m = o->models; *m; m++) {
		struct str glob = str_from(*m);

		if (str_eq(glob, model))
			return MATCH_EXACT;
		if (backend_glob_matches(glob, model))
			best = MATCH_GLOB;
	}
	for (unsigned i = 0; !o->models[0] && i < o->served.count; i++)
		if (str_eq(str_from(o->served.names[i]), model))
			return MATCH_EXACT;
	return best;
}

enum backend_match backend_serves(struct backends *b, unsigned i, struct str model)
{
	SCOPED_LOCK(&b->lock);

	return match_locked(&b->ones[i], model);
}

/* The first of its models that is a name. */
static const char *first_name_locked(const struct one *o)
{
	for (char **m = o->models; *m; m++)
		if (!strchr(*m, '*'))
			return *m;
	return o->served.count ? o->served.names[0] : NULL;
}

void backend_model_name(struct backends *b, unsigned i, struct str asked, struct buf *out)
{
	const struct one *o = &b->ones[i];
	SCOPED_LOCK(&b->lock);

	if (o->served_name[0])
		(void)buf_append_str(out, str_from(o->served_name));
	else if (is_no_name(asked) && first_name_locked(o))
		(void)buf_append_str(out, str_from(first_name_locked(o)));
	else
		(void)buf_append_str(out, asked);
}

bool backend_commit(struct backends *b, unsigned i, char ret_commit[41])
{
	SCOPED_LOCK(&b->lock);

	memcpy(ret_commit, b->ones[i].served.commit, sizeof(b->ones[i].served.commit));
	return ret_commit[0] != 0;
}

static const char *task_locked(const struct one *o)
{
	return o->kind == BACKEND_TGI ? "text-generation" : o->served.task;
}

bool backends_serve(struct backends *b, struct str model, char ret_task[40])
{
	for (unsigned i = 0; i < backends_count(b); i++) {
		SCOPED_LOCK(&b->lock);

		if (match_locked(&b->ones[i], model) < MATCH_GLOB)
			continue;
		(void)memcpy(ret_task, task_locked(&b->ones[i]), strlen(task_locked(&b->ones[i])) + 1);
		return true;
	}
	return false;
}

/* Copied, so that nobody is called under the lock. Returns how many. */
static unsigned names_of(struct backends *b, unsigned i, char *ret_names[2 * SERVED_MAX], char ret_task[40])
{
	const struct one *o = &b->ones[i];
	unsigned count = 0;
	SCOPED_LOCK(&b->lock);

	(void)memcpy(ret_task, o->served.task, sizeof(o->served.task));
	if (o->kind == BACKEND_TGI)
		memcpy(ret_task, task_locked(o), sizeof("text-generation"));
	for (char **m = o->models; *m && count < SERVED_MAX; m++)
		if (!strchr(*m, '*'))
			ret_names[count++] = xstrdup(*m);
	for (unsigned k = 0; k < o->served.count && count < 2 * SERVED_MAX; k++) {
		struct str name = str_from(o->served.names[k]);

		/* what it calls a model of another name here is nobody's to ask for */
		if (match_locked(o, name) == MATCH_NONE ||
		    (o->models[0] && match_locked(o, name) == MATCH_EXACT))
			continue;
		ret_names[count++] = str_dup(name);
	}
	return count;
}

void backends_each_model(struct backends *b,
			 bool (*each)(void *ctx, struct str model, struct str task, struct str owner),
			 void *ctx)
{
	char *names[2 * SERVED_MAX], task[40];
	bool goes_on = true;

	for (unsigned i = 0; i < backends_count(b); i++) {
		unsigned count = names_of(b, i, names, task);

		for (unsigned k = 0; k < count; k++) {
			if (goes_on)
				goes_on = each(ctx, str_from(names[k]), str_from(task),
					       str_from(b->ones[i].name));
			free(names[k]);
		}
	}
}
