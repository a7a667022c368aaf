/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/oci - the registry below /v2/, as ollama and older llama.cpp speak it (hub-protocol 1.6, 2.7).
 *
 * A manifest is a document like others, but in two variants: a client that calls itself llama-cpp is also told which file of
 * the repo it is. What it names is learned, so blobs are served by their digest without another question; the weights among
 * them are the very files of the repo.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/http/etag.h"
#include "common/json.h"

/* More than any manifest has; the rest of one that has more is asked for when it is wanted. */
#define LAYERS_MAX 1000
#define MANIFEST_ACCEPT "application/vnd.docker.distribution.manifest.v2+json, application/json"

static struct str id_of(struct str repo)
{
	return str_starts_with(repo, STR("models/"))
		       ? str_from_range(repo.ptr + strlen("models/"), repo.ptr + repo.len)
		       : repo;
}

/* "/v2/acme/gguf/blobs/sha256:…" under the name that the answer is booked on. */
static void registry_target(struct str repo, const char *what, struct str name, struct buf *out)
{
	buf_init(out, 16384);
	buf_appendf(out, "/v2/%.*s/%s/", STR_ARGS(id_of(repo)), what);
	uri_encode(name, ":", out);
}

/*
 * A refusal that was heard on another road is worded for that one; clients of the registry read from it where to sign in
 * with a key, and that is with the Hub itself.
 */
static void set_challenge(struct hub *h, struct str repo, struct reply *r)
{
	const struct origin *o = fetch_hub_origin(h->opts.fetch);
	SCOPED_BUF value = { 0 };

	if (r->status != 401 ||
	    str_starts_with(headers_get(&r->headers, STR("WWW-Authenticate")), STR("Basic realm=\"http")))
		return;
	buf_init(&value, 2048);
	buf_appendf(&value, "Basic realm=\"%s://%s", o->is_tls ? "https" : "http", o->host);
	if (o->port != (o->is_tls ? 443 : 80))
		buf_appendf(&value, ":%u", o->port);
	buf_appendf(&value, "/api/%.*s/ssh-auth\"", STR_ARGS(repo));
	(void)headers_set(&r->headers, STR("WWW-Authenticate"), buf_str(&value));
}

/* --- manifests --- */

static void learn_digest(struct lesson *l, struct str digest, const struct json *size, int64_t at)
{
	struct content_id content;
	uint64_t bytes;

	if (str_starts_with(digest, STR("sha256:")))
		digest = str_from_range(digest.ptr + strlen("sha256:"), digest.ptr + digest.len);
	/* what has another kind of name is none of ours; a wrong size would make a fill that can never end well */
	if (digest.len != 2 * SHA256_BYTES || json_u64(size, &bytes) < 0 ||
	    content_id_parse(digest, bytes, &content) < 0 || hub_is_contradicted(l->hub, &content))
		return;
	learn_object(l, &content, at);
}

static void learn_layer(struct lesson *l, const struct json *layer, int64_t at)
{
	learn_digest(l, json_string(json_get(layer, "digest")), json_get(layer, "size"), at);
}

static void learn_file(struct lesson *l, const struct json *file, int64_t at)
{
	const struct json *lfs = json_get(file, "lfs");
	struct str oid = json_string(json_get(lfs, "sha256"));

	learn_digest(l, oid.len ? oid : json_string(json_get(lfs, "oid")), json_get(lfs, "size"), at);
}

static int teach_manifest(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc)
{
	struct str commit = headers_get(&a->last, STR("X-Repo-Commit"));
	const struct json *layers = json_get(json, "layers");
	int left = LAYERS_MAX;

	if (!json_is_object(json) || (layers && !json_is_array(layers)))
		return -EPROTO;
	learn_layer(l, json_get(json, "config"), a->asked_at);
	for (const struct json *layer = json_first(layers); layer && left > 0;
	     layer = json_next(layer), left--)
		learn_layer(l, layer, a->asked_at);
	learn_file(l, json_get(json, "ggufFile"), a->asked_at);
	learn_file(l, json_get(json, "mmprojFile"), a->asked_at);
	if (is_commit(commit))
		memcpy(l->commit, commit.ptr, COMMIT_HEX);
	return 0;
}

static bool contains(struct str s, struct str word)
{
	for (size_t i = 0; i + word.len <= s.len; i++)
		if (str_eq_nocase((struct str){ s.ptr + i, word.len }, word))
			return true;
	return false;
}

/* The name of what was served, so that a client may ask whether it has changed. */
static void set_digest(const struct request *q, struct reply *r)
{
	struct str list = request_header(q, STR("If-None-Match"));
	char hex[2 * SHA256_BYTES + 1];
	struct digest digest;

	if (r->status != 200 || r->kind != REPLY_BYTES)
		return;
	sha256_of(bytes_str(r->bytes).ptr, bytes_str(r->bytes).len, &digest);
	format_hex(digest.bytes, SHA256_BYTES, hex);
	(void)headers_addf(&r->headers, "Docker-Content-Digest", "sha256:%s", hex);
	(void)headers_addf(&r->headers, "ETag", "\"%s\"", hex);
	(void)headers_set(&r->headers, STR("Vary"), STR("Accept, Authorization, Origin, User-Agent"));
	if (list.ptr && etag_list_matches(list, str_from(hex))) {
		int64_t length = (int64_t)bytes_str(r->bytes).len;

		r->bytes = bytes_unref(r->bytes);
		r->kind = REPLY_EMPTY;
		r->status = 304;
		r->head_length = length;
	}
}

int hub_manifest(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	SCOPED_BUF canonical, key, target;
	struct doc_spec spec = { .class = ENDPOINT_API,
				 .method = "GET",
				 .ttl_ms = h->doc_ttl_ms,
				 .level = ACCESS_FILES,
				 .proves_files = true,
				 .accept = STR(MANIFEST_ACCEPT),
				 .teach = teach_manifest };
	bool is_llama = contains(request_header(q, STR("User-Agent")), STR("llama-cpp"));
	int error;

	hub_note(q, route);
	spec.repo = hub_canonical(h, q, route, &canonical);
	hub_take_ticket(h, q, spec.repo, NULL);
	registry_target(spec.repo, "manifests", route->revision, &target);
	if (doc_question(&spec, "manifest", route->revision, is_llama ? STR("llama-cpp") : STR(""), q->query,
			 &key, &target, r) != 0)
		return 0;
	spec.agent = is_llama ? STR("llama-cpp") : STR("");
	error = hub_serve_document(h, q, route, &spec, r);
	if (error < 0)
		return error;
	set_digest(q, r);
	set_challenge(h, spec.repo, r);
	return 0;
}

/* --- blobs --- */

static struct str hex_of(struct str name)
{
	return str_starts_with(name, STR("sha256:"))
		       ? str_from_range(name.ptr + strlen("sha256:"), name.ptr + name.len)
		       : STR("");
}

static bool names(struct str field, struct str name)
{
	struct str opaque;

	return str_eq(field, name) || (etag_parse(field, &opaque, NULL) == 0 && str_eq(opaque, hex_of(name)));
}

/* A page of something else, or a redirect to one, does not say what it is. */
static bool is_about(const struct answer *a, struct str name)
{
	return names(headers_get(&a->last, STR("Docker-Content-Digest")), name) ||
	       names(headers_get(&a->last, STR("X-Linked-Etag")), name) ||
	       names(headers_get(&a->last, STR("ETag")), name);
}

/* What the Hub's own hop tells. */
static bool size_of(const struct answer *a, uint64_t *ret_size)
{
	if (parse_u64(headers_get(&a->last, STR("X-Linked-Size")), ret_size) == 0)
		return true;
	if (a->status != 200 || a->content_length < 0)
		return false;
	*ret_size = (uint64_t)a->content_length;
	return true;
}

static void learn_blob(struct lesson *l, uint64_t size, int64_t at)
{
	struct content_id content;

	if (content_id_parse(hex_of(str_from(l->revision)), size, &content) == 0 &&
	    !hub_is_contradicted(l->hub, &content))
		learn_object(l, &content, at);
}

static int lesson_of_blob(void *ctx, const struct answer *a)
{
	struct lesson *l = ctx;
	uint64_t size;
	int r;

	if (a->error || a->status >= 400)
		return lesson_of_check(l, a);
	if (!is_about(a, str_from(l->revision)))
		return -EPROTO;
	r = lesson_of_proof(l, a);
	if (r == 0)
		lesson_shows(l, hex_of(str_from(l->revision)), ACCESS_FILES, a->asked_at);
	if (r == 0 && size_of(a, &size))
		learn_blob(l, size, a->asked_at);
	return r;
}

/* The address that the Hub led to knows how long it is. Of who may read it says nothing. */
static int lesson_of_size(void *ctx, const struct answer *a)
{
	struct lesson *l = ctx;

	if (a->error)
		return a->error;
	if (a->status != 200 || a->content_length < 0)
		return -EPROTO;
	learn_blob(l, (uint64_t)a->content_length, a->asked_at);
	return 0;
}

static int ask(struct hub *h, struct request *q, const struct hub_route *route, const struct hub_object *o,
	       bool is_for_size, const struct answer **ret_answer)
{
	struct headers extra;
	SCOPED_BUF key;
	struct question question = {
		.method = "HEAD",
		.target = buf_str(o->target),
		.token = q->subject.token,
		.headers = &extra,
		.follow = is_for_size ? FETCH_FOLLOW_ALLOWED : FETCH_FOLLOW_SAME_ORIGIN,
		.learn = is_for_size ? lesson_of_size : lesson_of_blob,
		.learn_ctx = lesson_new(h, q, route, o->repo, buf_str(o->target), ACCESS_FILES),
		.free_ctx = lesson_free,
	};
	int r;

	buf_init(&key, 32768);
	buf_append_str(&key, is_for_size ? STR("blob size ") : STR("blob "));
	buf_append(&key, q->subject.id, SUBJECT_BYTES);
	buf_append_str(&key, buf_str(o->target));
	hub_write_mark(h, NULL, o->repo, &key);
	headers_init(&extra);
	hub_pass_headers(q, &extra);
	r = request_ask(q, h->opts.asks, buf_str(&key), &question, ret_answer);
	headers_done(&extra);
	return r;
}

static bool is_known(struct hub *h, const struct hub_object *o)
{
	struct object known = { 0 };
	bool is = index_find_object(h->opts.index, o->repo, &o->sha256, &known) == 0;

	object_done(&known);
	return is;
}

static int find_source(struct hub *h, struct request *q, const struct hub_route *route, struct hub_object *o,
		       struct reply *r)
{
	int error;

	buf_done(o->target);
	registry_target(o->repo, "blobs", route->revision, o->target);
	if (!o->must_ask)
		return 0;
	error = ask(h, q, route, o, false, &o->answer);
	if (error < 0)
		return error;
	if (o->answer->error || o->answer->status >= 500 || o->answer->status == 429)
		return 0;
	if (o->answer->status >= 400) {
		/* one wording, whether this refusal was heard just now or before */
		if (hub_door(h, q, o->repo, ACCESS_FILES, ENDPOINT_API, 0, r) != DOOR_CLOSED)
			reply_upstream_error(r, ENDPOINT_API, o->answer);
		return 1;
	}
	if (o->answer->learned < 0)
		return o->answer->learned;
	return is_known(h, o) ? 0 : ask(h, q, route, o, true, &o->answer);
}

static const struct hub_object_kind blob_kind = { .find_source = find_source,
						  .is_registry = true,
						  .class = ENDPOINT_API };

int hub_registry_blob(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	struct str hex = hex_of(route->revision);
	SCOPED_BUF canonical = { 0 };
	int error;

	if (hex.len != 2 * SHA256_BYTES || !str_is_lower_hex(hex))
		return hub_registry(h, q, route, r);
	error = hub_serve_object(h, q, route, hex, &blob_kind, r);
	if (error < 0)
		return error;
	set_challenge(h, hub_canonical(h, q, route, &canonical), r);
	return 0;
}

/* The ping, and whatever else registries have: upstream's alone. */
int hub_registry(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	hub_take_ticket(h, q, STR(""), NULL);
	return hub_forward(h, q, route, r);
}
