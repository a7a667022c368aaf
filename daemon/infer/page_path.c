/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/page_path - which page a GET asks for, by its path and Host; what upstream is asked for it, and under which key it is kept.
 */
#include "infer/priv.h"

#include "common/alloc.h"

static void page_free(void *p)
{
	struct page *page = p;

	buf_done(&page->target);
	buf_done(&page->body);
	free(page->type);
	free(page);
}

/* --- which one --- */

static bool take(struct str *path, const char *prefix)
{
	struct str p = str_from(prefix);

	if (!str_starts_with(*path, p))
		return false;
	*path = (struct str){ path->ptr + p.len, path->len - p.len };
	return true;
}

/* One or two segments. */
static bool is_model(struct str s)
{
	unsigned slashes = 0;

	for (size_t i = 0; i < s.len; i++)
		slashes += s.ptr[i] == '/';
	return s.len > 0 && s.len <= 256 && slashes <= 1 && s.ptr[0] != '/' && s.ptr[s.len - 1] != '/' &&
	       !memchr(s.ptr, '%', s.len);
}

static bool take_end(struct str *path, const char *suffix)
{
	struct str s = str_from(suffix);

	if (!str_ends_with(*path, s))
		return false;
	path->len -= s.len;
	return true;
}

static enum page_kind kind_of(struct str path, struct str *ret_model)
{
	*ret_model = STR("");
	if (str_eq(path, STR("/api/tasks")))
		return PAGE_TASKS;
	if (str_eq(path, STR("/v1/models")))
		return PAGE_MODELS;
	if (take(&path, "/v1/models/")) {
		*ret_model = path;
		return is_model(path) ? PAGE_MODEL : PAGE_PASS;
	}
	if (take(&path, "/status/")) {
		*ret_model = path;
		return is_model(path) ? PAGE_STATUS : PAGE_PASS;
	}
	(void)(take(&path, "/api/inference-proxy/hf-inference") || take(&path, "/hf-inference"));
	if (!take(&path, "/models/"))
		return PAGE_PASS;
	if (take_end(&path, "/info") && is_model(path)) {
		*ret_model = path;
		return PAGE_INFO;
	}
	if (take_end(&path, "/health") && is_model(path)) {
		*ret_model = path;
		return PAGE_HEALTH;
	}
	return PAGE_PASS;
}

/* Jobs that a provider does in its own time are looked after with GET. */
static bool is_job(struct str path)
{
	struct str first, rest, second, third;

	if (str_starts_with(path, STR("/api/inference-proxy/")))
		return true;
	if (!take(&path, "/") || !str_cut(path, '/', &first, &rest) || !path_is_provider(first))
		return false;
	(void)str_cut(rest, '/', &second, &third);
	return str_eq(second, STR("v1")) || str_eq(second, STR("v2")) || str_eq(second, STR("v3")) ||
	       str_eq(second, STR("api")) || memmem(path.ptr, path.len, "/requests/", 10);
}

bool infer_is_page(const struct request *q)
{
	struct str model;

	if (infer_is_service(q))
		return true;
	if (!str_eq(str_from(q->method), STR("GET")) && !q->is_head)
		return false;
	return kind_of(q->path, &model) != PAGE_PASS || is_job(q->path);
}

static void set_target(struct page *p, const struct request *q)
{
	struct str path = q->path;

	switch (p->kind) {
	case PAGE_INFO:
	case PAGE_HEALTH:
		buf_appendf(&p->target, "/hf-inference/models/%.*s/%s", STR_ARGS(p->model),
			    p->kind == PAGE_INFO ? "info" : "health");
		return;
	case PAGE_STATUS:
		buf_appendf(&p->target, "/hf-inference/status/%.*s", STR_ARGS(p->model));
		return;
	default:
		(void)take(&path, "/api/inference-proxy");
		buf_append_str(&p->target, path);
		if (q->query.len)
			buf_appendf(&p->target, "?%.*s", STR_ARGS(q->query));
	}
}

static void set_key(struct page *p)
{
	SCOPED_BUF text;

	buf_init(&text, 65536);
	buf_appendf(&text, "page %d %d ", p->kind, p->is_personal);
	if (p->is_personal)
		buf_append(&text, p->identity, SUBJECT_BYTES);
	buf_append_str(&text, buf_str(&p->target));
	sha256_of(buf_str(&text).ptr, text.len, &p->key);
}

struct page *page_of(struct infer *i, struct request *q)
{
	struct page *p = q->memo;

	if (p)
		return p;
	p = xcalloc(1, sizeof(*p));
	q->memo = p;
	q->free_memo = page_free;
	buf_init(&p->target, 65536);
	buf_init(&p->body, PAGE_BYTES_MAX);
	p->kind = str_eq(str_from(q->method), STR("GET")) || q->is_head ? kind_of(q->path, &p->model)
									: PAGE_PASS;
	p->origin = p->kind == PAGE_TASKS ? FETCH_HUB : FETCH_INFERENCE;
	p->is_personal = p->kind != PAGE_TASKS && p->kind != PAGE_MODELS;
	page_identity(i, q, p->identity);
	set_target(p, q);
	set_key(p);
	return p;
}
