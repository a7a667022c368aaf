/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/paths_info - POST /api/{kind}/{id}/paths-info/{revision}: some entries of a tree, named in a form or
 * in JSON.
 *
 * A wholly known tree answers by itself, in the order of the question. Any other answer of a commit is pinned to the
 * question's bytes, and the client gets upstream's own text and order.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/hash.h"
#include "common/json.h"

static int teach_paths(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc)
{
	return learn_tree_items(l, a, json);
}

#define PATHS_MAX 1000

static void asked_done(struct paths_asked *asked)
{
	for (size_t i = 0; i < asked->count; i++)
		free((char *)asked->paths[i].ptr);
	free(asked->paths);
}
#define SCOPED_ASKED __attribute__((cleanup(asked_done))) struct paths_asked

/* A path in an odd spelling is the Hub's to understand. */
static bool add_path(struct paths_asked *asked, struct str path)
{
	if (asked->count == PATHS_MAX || !uri_is_clean_path(path))
		return false;
	if (!asked->paths)
		asked->paths = xcalloc(PATHS_MAX, sizeof(*asked->paths));
	asked->paths[asked->count++] = (struct str){ str_dup(path), path.len };
	return true;
}

static bool read_json(struct str body, struct paths_asked *asked)
{
	SCOPED(json_free) struct json *json = NULL;

	if (json_parse(body, &json) < 0 || !json_is_object(json) || !json_is_array(json_get(json, "paths")))
		return false;
	for (const struct json *m = json_first(json); m; m = json_next(m)) {
		if (str_eq(json_name(m), STR("expand")) ? !json_is_false(m)
							: !str_eq(json_name(m), STR("paths")))
			return false;
	}
	for (const struct json *p = json_first(json_get(json, "paths")); p; p = json_next(p))
		if (!json_is_string(p) || !add_path(asked, json_string(p)))
			return false;
	return true;
}

/* In forms, unlike in URLs, '+' is a blank. */
static bool decode_form_text(struct str raw, struct buf *out)
{
	SCOPED_BUF plain;

	buf_init(&plain, REQUEST_BODY_MAX);
	buf_init(out, REQUEST_BODY_MAX);
	for (size_t i = 0; i < raw.len; i++)
		buf_append_char(&plain, raw.ptr[i] == '+' ? ' ' : raw.ptr[i]);
	return !buf_error(&plain) && uri_decode_segment(buf_str(&plain), out) == 0;
}

static bool read_field(struct str name, struct str value, struct paths_asked *asked)
{
	SCOPED_BUF text = { 0 };

	if (str_eq(name, STR("expand")))
		return str_eq_nocase(value, STR("false"));
	if (!str_eq(name, STR("paths")) && !str_eq(name, STR("paths[]")) && !str_eq(name, STR("paths%5B%5D")))
		return false;
	return decode_form_text(value, &text) && add_path(asked, buf_str(&text));
}

static bool read_form(struct str body, struct paths_asked *asked)
{
	struct str name, value;

	while (uri_next_param(&body, &name, &value))
		if (!read_field(name, value, asked))
			return false;
	return true;
}

/* false: a question that only the Hub understands, or more than the entries themselves is wanted. */
static bool read_question(const struct request *q, struct str type, struct paths_asked *asked)
{
	if (q->query.len)
		return false;
	if (str_starts_with(type, STR("application/json")))
		return read_json(buf_str(&q->body), asked);
	return str_starts_with(type, STR("application/x-www-form-urlencoded")) &&
	       read_form(buf_str(&q->body), asked);
}

static void question_digest(struct str type, struct str body, char ret_text[2 * SHA256_BYTES + 1])
{
	struct digest digest;
	SCOPED_BUF all;

	buf_init(&all, REQUEST_BODY_MAX + 512);
	buf_append_str(&all, type);
	buf_append_char(&all, 0);
	buf_append_str(&all, body);
	sha256_of(buf_str(&all).ptr, buf_str(&all).len, &digest);
	format_hex(digest.bytes, SHA256_BYTES, ret_text);
}

int hub_paths_info(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	SCOPED_BUF canonical, key = { 0 }, target;
	SCOPED_ASKED asked = { 0 };
	struct doc_spec spec = {
		.class = ENDPOINT_API, .method = "POST", .is_pinned = true, .teach = teach_paths
	};
	char digest[2 * SHA256_BYTES + 1];
	int error;

	hub_note(q, route);
	spec.repo = hub_canonical(h, q, route, &canonical);
	buf_init(&target, 16384);
	spec.body = buf_str(&q->body);
	spec.body_type = request_header(q, STR("Content-Type"));
	if (spec.body_type.len > 256) {
		reply_refuse(r, ENDPOINT_API, 400, "the Content-Type is too long");
		return 0;
	}
	error = hub_commit_of(h, q, route, spec.repo, spec.commit, r);
	if (error != 0)
		return error == 1 ? 0 : error;
	buf_done(&canonical);
	spec.repo = hub_canonical(h, q, route, &canonical);

	if (read_question(q, spec.body_type, &asked) &&
	    whole_serve_paths(h, q, spec.repo, str_from(spec.commit), &asked, r) == 0)
		return 0;
	question_digest(spec.body_type, spec.body, digest);
	buf_appendf(&target, "/api/%.*s/paths-info/%s", STR_ARGS(spec.repo), spec.commit);
	if (doc_question(&spec, "paths-info", str_from(spec.commit), str_from(digest), q->query, &key,
			 &target, r) != 0)
		return 0;
	return hub_serve_document(h, q, route, &spec, r);
}
