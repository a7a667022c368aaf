/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/call - what a request asks for, worked out once: its path, its body, whose answers it may be given, and under which keys
 * they lie (inference-protocol 3.3, 3.4).
 *
 * A handler runs again after each wait; a body of megabytes is read only the first time.
 */
#include "infer/priv.h"

#include <errno.h>
#include "common/alloc.h"

static void call_free(void *p)
{
	struct call *c = p;

	path_done(&c->path);
	call_facts_done(&c->facts);
	buf_done(&c->tag);
	buf_done(&c->repo);
	buf_done(&c->space_text);
	nap_free(c->nap);
	free(c);
}

/* --- the body --- */

/* An encoded body is passed on as it came: what it asks for is not known, so nothing is kept of it. */
static bool is_encoded(const struct request *q)
{
	struct str encoding = str_trim(request_header(q, STR("Content-Encoding")));

	return encoding.len && !str_eq_nocase(encoding, STR("identity"));
}

static void read_body(struct call *c, const struct request *q)
{
	struct str type = request_header(q, STR("Content-Type"));

	c->boundary = form_boundary(type);
	if (is_encoded(q) || c->body.len > CALL_BODY_MAX) {
		c->facts.repeat = REPEAT_NEVER;
		c->is_opaque = true;
	} else if (c->boundary.len) {
		call_read_form(c->path.dialect, c->boundary, c->body, &c->facts);
	} else {
		call_read(c->path.dialect, c->task, c->body, &c->facts);
	}
	if (!c->path.is_known)
		c->facts.repeat = REPEAT_NEVER;
}

/* Without parameters, lower case; "json" for what is read as JSON; what the bytes say when nobody else does. */
static void media_of(const struct call *c, const struct request *q, char ret_media[64])
{
	struct str type = request_header(q, STR("Content-Type")), rest;
	const char *sniffed;
	size_t i;

	(void)str_cut(type, ';', &type, &rest);
	type = str_trim(type);
	if (!type.len || str_eq_nocase(type, STR("application/octet-stream"))) {
		sniffed = media_sniff(c->body);
		type = str_from(sniffed ? sniffed : "bytes");
	}
	if (c->facts.is_json)
		type = STR("json");
	for (i = 0; i < type.len && i < 63; i++)
		ret_media[i] =
			type.ptr[i] >= 'A' && type.ptr[i] <= 'Z' ? (char)(type.ptr[i] | 0x20) : type.ptr[i];
	ret_media[i] = '\0';
}

/* --- whose answers --- */

/* A key of a service, or a token for a Space behind the Hub's: who sends one is who it names, not nobody. */
bool identity_of(struct infer *i, const struct request *q, uint8_t ret[SUBJECT_BYTES])
{
	static const char *const fields[] = { "X-Api-Key", "X-HF-Authorization" };
	SCOPED_BUF secret;

	memcpy(ret, q->subject.id, SUBJECT_BYTES);
	buf_init(&secret, 65536);
	for (size_t k = 0; k < sizeof(fields) / sizeof(fields[0]); k++) {
		struct str value = request_header(q, str_from(fields[k]));

		if (value.len)
			buf_appendf(&secret, "%s %zu %.*s\n", fields[k], value.len, STR_ARGS(value));
	}
	if (!secret.len)
		return q->subject.token != NULL;
	buf_append(&secret, ret, SUBJECT_BYTES);
	auth_id_of(i->opts.auth, buf_str(&secret), ret);
	secret_wipe(secret.bytes, secret.len);
	return true;
}

/* Evaluations that must not meet what others kept name a namespace (3.4). Returns 0; -EDOM. */
#define NAMESPACE_MAX 128
static int read_namespace(struct call *c, const struct request *q, enum infer_scope scope)
{
	struct str name = str_trim(request_header(q, STR("X-HF-Cache-Namespace")));
	struct digest digest;
	SCOPED_BUF text;

	buf_init(&text, 1024);
	memcpy(c->own, c->identity, SUBJECT_BYTES);
	if (scope != INFER_NAMED || !name.len)
		return 0;
	for (size_t i = 0; i < name.len; i++)
		if (name.ptr[i] <= ' ' || name.ptr[i] >= 0x7f)
			return -EDOM;
	if (name.len > NAMESPACE_MAX)
		return -EDOM;
	buf_appendf(&c->space_text, "ns:%.*s", STR_ARGS(name));
	c->space = buf_str(&c->space_text);
	buf_append(&text, c->identity, SUBJECT_BYTES);
	buf_append_str(&text, c->space);
	sha256_of(text.bytes, text.len, &digest);
	memcpy(c->own, digest.bytes, SUBJECT_BYTES);
	return 0;
}

/* Proven open to all: neither private nor gated. An old proof proves nothing while a new one could be had. */
#define PROOF_S ((int64_t)7 * 24 * 3600)
static bool is_public(struct infer *i, const struct access_facts *access)
{
	int64_t age = clock_wall_s(i->opts.clock) - access->public_at;

	return access->public_level == ACCESS_FILES && (age <= PROOF_S || fetch_is_down(i->opts.fetch));
}

static void read_access(struct infer *i, struct call *c)
{
	struct access_facts access = { 0 };

	if (!c->repo.len)
		return;
	index_find_access(i->opts.index, buf_str(&c->repo), c->identity, &access);
	c->is_public = is_public(i, &access);
	c->is_protected = access.public_level != ACCESS_FILES && (access.public_at || access.granted_at);
}

/* One or two segments of a Hub id: models of other services have names of any kind. */
static bool is_repo_name(struct str s)
{
	unsigned slashes = 0;

	for (size_t i = 0; i < s.len; i++) {
		unsigned char b = (unsigned char)s.ptr[i];

		slashes += b == '/';
		if (b <= ' ' || b >= 0x7f || b == '?' || b == '#' || b == '%')
			return false;
	}
	return s.len > 0 && s.len <= 256 && slashes <= 1 && s.ptr[0] != '/' && s.ptr[s.len - 1] != '/';
}

/* What the Hub calls the model now. A name that has moved is believed to have for a day, or while nobody can be asked. */
#define ALIAS_S ((int64_t)24 * 3600)
static void find_repo(struct infer *i, struct call *c)
{
	int64_t since = fetch_is_down(i->opts.fetch) ? 0 : clock_wall_s(i->opts.clock) - ALIAS_S;
	SCOPED_BUF asked;

	buf_init(&asked, 512);
	buf_append_str(&asked, STR("models/"));
	buf_append_str(&asked, model_id(c->model));
	if (!c->model.len || buf_error(&asked) || !is_repo_name(model_id(c->model)))
		return;
	if (index_canonical_repo(i->opts.index, buf_str(&asked), since, &c->repo) < 0)
		buf_reset(&c->repo);
}

bool call_may_be_given(struct infer *i, const struct call *c, const struct request *q)
{
	struct refusal ignored;
	enum access_verdict verdict;

	/* their own answers, of a model that nobody has said to be closed */
	if (c->is_anonymous || !c->is_protected)
		return true;
	verdict = auth_may_read(i->opts.auth, &q->subject, buf_str(&c->repo), ACCESS_META,
				fetch_is_down(i->opts.fetch) ? UPSTREAM_GONE : UPSTREAM_ANSWERS, &ignored);
	refusal_done(&ignored);
	return verdict == ACCESS_ALLOW;
}

/* --- for counters --- */

unsigned call_provider(const struct call *c, const char *answered_by)
{
	const char *colon = c->model.len ? memrchr(c->model.ptr, ':', c->model.len) : NULL;
	struct str suffix = colon ? str_from_range(colon + 1, c->model.ptr + c->model.len) : STR("");

	if (answered_by && strcmp(answered_by, "upstream") != 0)
		return PROVIDER_BACKEND;
	if (c->path.provider.len)
		return metric_provider(c->path.provider);
	if (path_is_provider(suffix))
		return metric_provider(suffix);
	return c->path.dialect == DIALECT_TASK || c->path.model.len ? PROVIDER_HF_INFERENCE : PROVIDER_ROUTER;
}

/* --- the keys --- */

/* Request fields that change the answer (3.3); not who asks, by which program, in which language. */
static void variant_of(const struct request *q, struct buf *out)
{
	static const char *const fields[] = { "Prefer", "Anthropic-Version", "Anthropic-Beta",
					      "OpenAI-Beta" };

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		struct str value = request_header(q, str_from(fields[i]));

		buf_appendf(out, "%zu:%.*s\n", value.len, STR_ARGS(value));
	}
}

/* Only makers of images look at Accept; any type will do for most who ask. Empty: any. */
static void read_accept(struct call *c, const struct request *q)
{
	struct str accept = str_trim(request_header(q, STR("Accept")));

	if (!str_eq(c->task, STR("text-to-image")) && !str_eq(c->task, STR("image-to-image")))
		return;
	c->is_image = true;
	if (accept.len && accept.len < sizeof(c->accept) && !memchr(accept.ptr, '*', accept.len))
		memcpy(c->accept, accept.ptr, accept.len);
}

void key_for_type(const struct digest *base, struct str type, struct digest *ret)
{
	SCOPED_BUF text;

	buf_init(&text, 1024);
	buf_append(&text, base->bytes, SHA256_BYTES);
	buf_append_str(&text, type);
	if (type.len)
		sha256_of(text.bytes, text.len, ret);
	else
		*ret = *base;
}

static void add_key(struct call *c, struct call_key *k, struct str partition, const struct digest *body)
{
	struct digest base;

	k->partition = partition;
	call_key_of_digest(k, body, &base);
	if (c->key_count == 0)
		c->base = base;
	key_for_type(&base, str_from(c->accept), &c->keys[c->key_count++]);
}

/* The model's name now, with the suffix that the client gave it; empty when it is the same. *out is initialised here. */
static void name_now(const struct call *c, struct buf *out)
{
	struct str id = model_id(c->model), now = buf_str(&c->repo);

	buf_init(out, 1024);
	if (now.len <= strlen("models/"))
		return;
	now = (struct str){ now.ptr + strlen("models/"), now.len - strlen("models/") };
	if (str_eq(now, id))
		return;
	buf_append_str(out, now);
	buf_append_str(out, str_from_range(id.ptr + id.len, c->model.ptr + c->model.len));
}

/*
 * The first is the one under which an answer is kept now. The others were, when less was known of the model: its task,
 * its new name, or that it is public.
 */
static void make_keys(struct call *c, struct request *q, enum infer_scope scope)
{
	struct str own = { (const char *)c->own, SUBJECT_BYTES };
	bool has_common = c->is_public && (scope == INFER_SHARED || c->space.len);
	struct call_key k = { .dialect = c->path.dialect, .model = c->model };
	struct digest raw = *spool_sha256(q->spool), body;
	char media[64];
	SCOPED_BUF variant;
	SCOPED_BUF name;

	c->is_shared = has_common && !c->space.len;

	name_now(c, &name);
	media_of(c, q, media);
	k.media = str_from(media);
	buf_init(&variant, 65536);
	variant_of(q, &variant);
	k.variant = buf_str(&variant);
	if (c->boundary.len)
		(void)form_digest(c->body, c->boundary, &raw);
	call_body_digest(&k, c->facts.is_json ? c->body : (struct str){ 0 }, &raw, &body, NULL);
	for (unsigned way = 0; way < 4; way++) {
		bool is_renamed = !(way & 2), has_task = !(way & 1);

		if ((is_renamed && !name.len) || (has_task && !c->tag.len))
			continue;
		k.model = is_renamed ? buf_str(&name) : c->model;
		k.route = has_task ? buf_str(&c->tag) : buf_str(&c->path.route);
		if (has_common)
			add_key(c, &k, c->space, &body);
		add_key(c, &k, own, &body);
	}
}

/* --- all of it --- */

static int work_out(struct infer *i, struct call *c, struct request *q)
{
	struct infer_rules rules = infer_rules_of(i);
	int r = path_read(q, &c->path);

	if (r < 0)
		return r;
	r = q->spool ? spool_text(q->spool, &c->body) : -EINVAL;
	if (r < 0)
		return r;
	c->task = c->path.task;
	c->model = c->path.model;
	find_repo(i, c);
	if (c->path.dialect == DIALECT_TASK && !c->task.len && tag_of(i, buf_str(&c->repo), &c->tag) == 0)
		c->task = buf_str(&c->tag);
	read_body(c, q);
	if (!c->model.len && c->facts.model) {
		c->model = str_from(c->facts.model);
		find_repo(i, c);
	}
	control_read(q, &c->facts, &c->control);
	c->is_anonymous = !identity_of(i, q, c->identity);
	r = read_namespace(c, q, rules.scope);
	if (r < 0)
		return r;
	read_access(i, c);
	read_accept(c, q);
	if (!c->is_opaque && c->facts.repeat != REPEAT_NEVER)
		make_keys(c, q, rules.scope);
	return 0;
}

struct call *call_of(struct infer *i, struct request *q)
{
	struct call *c = q->memo;

	if (c)
		return c;
	c = xcalloc(1, sizeof(*c));
	buf_init(&c->tag, 128);
	buf_init(&c->repo, 1024);
	buf_init(&c->space_text, 256);
	q->memo = c;
	q->free_memo = call_free;
	c->error = work_out(i, c, q);
	return c;
}
