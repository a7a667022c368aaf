/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/path - which call a path is (inference-protocol 1.6, 2.2, 2.7). All spellings of one call get one route and one target.
 *
 *   [/hf-inference | /api/inference-proxy/hf-inference]/models/{id}[/pipeline/{task}]
 *   [the same]/pipeline/{task}/{id}                                     the older form
 *   [the same]/models/{id}/v1/chat/completions, /v1/completions         chat of one model
 *   /v1/...                                                             the router's own
 *   [/api/inference-proxy]/{provider}/...                               a provider's own, by the end of its path
 *
 * To the service's own host (Host) every first segment is a provider, and what no rule fits is passed on as it is.
 */
#include "infer/priv.h"

#include <errno.h>

#define PARTS_MAX 16

struct parts {
	struct str part[PARTS_MAX];
	unsigned count;
};

static bool is(struct str s, const char *word)
{
	return str_eq(s, str_from(word));
}

/* First segments of the router that are a provider; counters know the same ones. Names that are also owners on the Hub have no POST
 * there but git's. */
static bool is_provider(struct str s)
{
	return metric_provider(s) > PROVIDER_OTHER;
}

bool path_is_provider(struct str segment)
{
	return is_provider(segment);
}

struct str model_id(struct str model)
{
	struct str id, policy;

	(void)str_cut(model, ':', &id, &policy);
	return id;
}

bool infer_is_service(const struct request *q)
{
	struct str host = str_from(q->host ? q->host : ""), name, port;

	(void)str_cut(host, ':', &name, &port);
	return str_eq_nocase(name, STR("router.huggingface.co")) ||
	       str_eq_nocase(name, STR("api-inference.huggingface.co"));
}

static bool is_id_part(struct str s)
{
	if (s.len == 0 || s.len > 128 || s.ptr[0] == '.')
		return false;
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      strchr("-_.:", c)))
			return false;
	}
	return true;
}

static int split(struct str path, struct parts *p)
{
	struct str rest = path, part;

	p->count = 0;
	if (!rest.len || rest.ptr[0] != '/')
		return -ENOENT;
	rest = (struct str){ rest.ptr + 1, rest.len - 1 };
	while (rest.len) {
		(void)str_cut(rest, '/', &part, &rest);
		if (p->count == PARTS_MAX || !is_id_part(part))
			return -ENOENT;
		p->part[p->count++] = part;
	}
	return p->count ? 0 : -ENOENT;
}

static struct str between(const struct parts *p, unsigned from, unsigned to)
{
	return from >= to ? STR("")
			  : str_from_range(p->part[from].ptr, p->part[to - 1].ptr + p->part[to - 1].len);
}

static bool ends_with(const struct parts *p, unsigned from, const char *last, const char *before)
{
	if (p->count <= from || !is(p->part[p->count - 1], last))
		return false;
	return !before || (p->count >= from + 2 && is(p->part[p->count - 2], before));
}

/* By the end of a path; DIALECT_OTHER: not known. */
static enum dialect dialect_of(const struct parts *p, unsigned from)
{
	if (ends_with(p, from, "completions", "chat"))
		return DIALECT_CHAT;
	if (ends_with(p, from, "completions", NULL))
		return DIALECT_COMPLETIONS;
	if (ends_with(p, from, "responses", NULL))
		return DIALECT_RESPONSES;
	if (ends_with(p, from, "messages", NULL))
		return DIALECT_MESSAGES;
	if (ends_with(p, from, "transcriptions", "audio") || ends_with(p, from, "translations", "audio"))
		return DIALECT_AUDIO;
	if (ends_with(p, from, "embeddings", NULL))
		return DIALECT_EMBEDDINGS;
	return DIALECT_OTHER;
}

static int read_task(const struct request *q, struct infer_path *ret, struct str model, struct str task)
{
	ret->dialect = DIALECT_TASK;
	ret->is_known = true;
	ret->model = model;
	ret->task = task;
	buf_append_str(&ret->route, task.len ? task : STR("default"));
	if (task.len)
		buf_appendf(&ret->target, "/hf-inference/models/%.*s/pipeline/%.*s", STR_ARGS(model),
			    STR_ARGS(task));
	else
		buf_appendf(&ret->target, "/hf-inference/models/%.*s", STR_ARGS(model));
	return 0;
}

/* "/models/{id}…" behind the prefix. */
static int read_model(const struct request *q, const struct parts *p, unsigned at, struct infer_path *ret)
{
	unsigned end = at;

	while (end < p->count && end < at + 2 && !is(p->part[end], "pipeline") && !is(p->part[end], "v1"))
		end++;
	if (end == at)
		return -ENOENT;
	ret->provider = STR("hf-inference");
	if (end == p->count)
		return read_task(q, ret, between(p, at, end), STR(""));
	if (is(p->part[end], "pipeline") && end + 2 == p->count)
		return read_task(q, ret, between(p, at, end), p->part[end + 1]);
	if (!is(p->part[end], "v1"))
		return -ENOENT;
	ret->model = between(p, at, end);
	ret->dialect = dialect_of(p, end + 1);
	ret->is_known = ret->dialect != DIALECT_OTHER;
	buf_appendf(&ret->route, "hf-inference/%.*s", STR_ARGS(between(p, end, p->count)));
	buf_appendf(&ret->target, "/hf-inference/models/%.*s", STR_ARGS(between(p, at, p->count)));
	return 0;
}

static int read_hf(const struct request *q, const struct parts *p, unsigned at, struct infer_path *ret)
{
	if (at < p->count && is(p->part[at], "models"))
		return read_model(q, p, at + 1, ret);
	if (at + 3 <= p->count && is(p->part[at], "pipeline") && p->count <= at + 4) {
		ret->provider = STR("hf-inference");
		return read_task(q, ret, between(p, at + 2, p->count), p->part[at + 1]);
	}
	return -ENOENT;
}

static int read_own(const struct request *q, const struct parts *p, unsigned at, struct str provider,
		    struct infer_path *ret)
{
	ret->provider = provider;
	ret->dialect = dialect_of(p, at);
	ret->is_known = ret->dialect != DIALECT_OTHER;
	if (provider.len)
		buf_appendf(&ret->route, "%.*s/", STR_ARGS(provider));
	buf_append_str(&ret->route, between(p, at, p->count));
	if (provider.len)
		buf_appendf(&ret->target, "/%.*s/%.*s", STR_ARGS(provider),
			    STR_ARGS(between(p, at, p->count)));
	else
		buf_appendf(&ret->target, "/%.*s", STR_ARGS(between(p, at, p->count)));
	return 0;
}

static bool is_git(const struct parts *p)
{
	struct str last = p->part[p->count - 1];

	for (unsigned i = 1; i + 1 < p->count; i++)
		if (is(p->part[i], "info") && is(p->part[i + 1], "lfs"))
			return true;
	return is(last, "git-upload-pack") || is(last, "git-receive-pack");
}

static int read_parts(const struct request *q, const struct parts *p, struct infer_path *ret)
{
	unsigned at = 0;

	if (is_git(p))
		return -ENOENT;
	if (is(p->part[0], "v1") && p->count > 1)
		return read_own(q, p, 0, STR(""), ret);
	if (p->count > 2 && is(p->part[0], "api") && is(p->part[1], "inference-proxy"))
		at = 2;
	if (is(p->part[at], "hf-inference") && p->count > at + 1)
		return read_hf(q, p, at + 1, ret) == 0 ? 0 : read_own(q, p, at + 1, p->part[at], ret);
	if (at == 0 && (is(p->part[0], "models") || is(p->part[0], "pipeline")))
		return read_hf(q, p, 0, ret);
	if ((at == 2 || is_provider(p->part[at]) || infer_is_service(q)) && p->count > at + 1)
		return read_own(q, p, at + 1, p->part[at], ret);
	return -ENOENT;
}

int path_read(const struct request *q, struct infer_path *ret)
{
	struct parts p;
	int r = split(q->path, &p);

	*ret = (struct infer_path){ .dialect = DIALECT_OTHER };
	buf_init(&ret->route, 1024);
	buf_init(&ret->target, 16384);
	if (r == 0)
		r = read_parts(q, &p, ret);
	if (r < 0 && infer_is_service(q)) {
		buf_append_str(&ret->target, q->path);
		r = 0;
	}
	if (q->query.len) {
		buf_append_char(&ret->target, '?');
		buf_append_str(&ret->target, q->query);
	}
	if (r == 0 && (buf_error(&ret->route) || buf_error(&ret->target)))
		r = -ENOENT;
	return r;
}

void path_done(struct infer_path *p)
{
	buf_done(&p->route);
	buf_done(&p->target);
}

bool infer_is_call(const struct request *q)
{
	struct infer_path p;
	bool r;

	if (!str_eq(str_from(q->method), STR("POST")))
		return false;
	r = path_read(q, &p) == 0;
	path_done(&p);
	return r;
}
