/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/space_map - which Space is it, and where does it run?
 *
 * A Space that the configuration names runs there, and the Hub is not asked about it. Of all others the Hub's own repo information
 * tells, as it answers the client's own token: so who may not see the Space does not learn that it is there, also without upstream.
 * Never     computes an id from a host's name or the other way round: the Hub says which belong together.
 */
#include "hub/space.h"

#include <errno.h>
#include <stdio.h>
#include "common/alloc.h"

#define INFO_BYTES_MAX (16u << 20)
#define STATIC_WORD STR("static")

void space_done(struct space *s)
{
	free(s->url);
	free(s->page);
	*s = (struct space){ 0 };
}

struct hub_route space_route(const struct hub_route *route, struct buf *repo)
{
	struct hub_route space = *route;

	buf_init(repo, 1024);
	buf_appendf(repo, "spaces/%.*s", STR_ARGS(route->id));
	space.kind = STR("spaces");
	space.repo = buf_str(repo);
	return space;
}

int space_find_local(const struct hub *h, struct str id)
{
	for (unsigned i = 0; i < h->opts.space_count; i++)
		if (str_eq_nocase(str_from(h->opts.spaces[i].name), id))
			return (int)i;
	return -ENOENT;
}

/* --- who asks --- */

#define ASKER_FIELD STR("X-HF-Authorization")

/* The field alone, as if it were the usual one; given twice, it is refused as that is. */
static int read_asker(struct hub *h, const struct request *q, struct subject *ret)
{
	char client[256];
	struct headers fields;
	int r = 0;

	(void)snprintf(client, sizeof(client), "%s%s", q->is_intercepted ? "tls:" : "", q->client);
	headers_init(&fields);
	for (size_t i = 0; i < q->headers.count && r >= 0; i++)
		if (str_eq_nocase(str_from(q->headers.fields[i].name), ASKER_FIELD))
			r = headers_add(&fields, STR("Authorization"), str_from(q->headers.fields[i].value));
	r = r < 0 ? -EINVAL : auth_subject(h->opts.auth, &fields, str_from(client), ret);
	headers_done(&fields);
	return r;
}

int space_take_asker(struct hub *h, struct request *q, struct space *ret)
{
	struct subject asker;
	int r;

	if (!q->has_valid_subject || !request_header(q, ASKER_FIELD).ptr)
		return 0;
	r = read_asker(h, q, &asker);
	if (r < 0)
		return r;
	/* a key of this server, or a scheme alone */
	ret->drops_field = !asker.token;
	if (q->subject.token) {
		ret->has_two_askers = asker.token && memcmp(asker.id, q->subject.id, SUBJECT_BYTES) != 0;
		subject_done(&asker);
	} else if (asker.token || asker.borrows == BORROWS_BY_KEY) {
		subject_done(&q->subject);
		q->subject = asker;
		ret->asks_by_field = true;
	} else {
		subject_done(&asker);
	}
	return 0;
}

/* --- static ones are remembered --- */

static void memo_key(struct str repo, struct buf *out)
{
	buf_init(out, 1024);
	buf_append_str(out, STR("sdk of "));
	buf_append_str(out, repo);
}

/*
 * Only that it is static, where its pages are, and which fields they want is remembered: it tells nothing to those who may not read
 * it, since the files have a door of their own.
 */
static bool is_remembered(struct hub *h, struct str repo, struct space *s)
{
	char word[COMMIT_TEXT];
	SCOPED_BUF key;

	memo_key(repo, &key);
	if (!pins_find(&h->names, buf_str(&key), clock_mono_ms(h->opts.clock), word))
		return false;
	s->kind = SPACE_STATIC;
	s->is_built = word[0] == 'b';
	s->custom = (struct space_custom){ .embedder = (unsigned)(word[1] - '0'),
					   .opener = (unsigned)(word[2] - '0'),
					   .resource = (unsigned)(word[3] - '0') };
	return true;
}

static void remember(struct hub *h, struct str repo, const struct space *s)
{
	const char word[] = { s->is_built ? 'b' : 'm', (char)('0' + s->custom.embedder),
			      (char)('0' + s->custom.opener), (char)('0' + s->custom.resource) };
	SCOPED_BUF key;

	memo_key(repo, &key);
	pins_put(&h->names, buf_str(&key), (struct str){ word, sizeof(word) }, clock_mono_ms(h->opts.clock));
}

/* --- what the Hub says --- */

int space_read_text(const struct reply *answer, struct buf *out)
{
	SCOPED_FREE char *text = NULL;
	int r;

	buf_init(out, INFO_BYTES_MAX + 1);
	if (answer->kind == REPLY_BYTES)
		return buf_append_str(out, bytes_str(answer->bytes));
	if (answer->kind != REPLY_BLOB || answer->length > INFO_BYTES_MAX)
		return -E2BIG;
	text = xmalloc(answer->length + 1);
	r = blob_read(answer->blob, answer->offset, text, answer->length);
	return r < 0 ? r : buf_append(out, text, answer->length);
}

/* An app is at the root of its host. */
static bool is_address_of_app(const struct hub *h, struct str host)
{
	struct origin origin;
	struct str rest;

	return origin_parse(host, &origin, &rest) == 0 && (rest.len == 0 || str_eq(rest, STR("/"))) &&
	       fetch_may_begin_at_space(h->opts.fetch, FETCH_HUB, host);
}

static void read_static(const struct json *card, struct space *s)
{
	struct str page = json_string(json_get(card, "app_file"));

	s->kind = SPACE_STATIC;
	s->is_built = json_string(json_get(card, "app_build_command")).len > 0;
	space_custom_read(card, &s->custom);
	if (page.len > 0 && uri_is_clean_path(page))
		s->page = str_dup(page);
}

static int read_space(const struct hub *h, const struct reply *answer, struct space *s)
{
	SCOPED(json_free) struct json *json = NULL;
	const struct json *card;
	struct str sdk, host, sha;
	SCOPED_BUF text;

	if (space_read_text(answer, &text) < 0 || json_parse(buf_str(&text), &json) < 0)
		return -EPROTO;
	card = json_get(json, "cardData");
	sdk = json_string(json_get(json, "sdk"));
	if (sdk.len == 0)
		sdk = json_string(json_get(card, "sdk"));
	if (str_eq(sdk, STATIC_WORD)) {
		read_static(card, s);
		return 0;
	}
	host = json_string(json_get(json, "host"));
	sha = json_string(json_get(json, "sha"));
	s->kind = SPACE_APP;
	s->origin = FETCH_HUB;
	if (!is_address_of_app(h, host))
		return 0;
	if (str_ends_with(host, STR("/")))
		host.len--;
	s->url = str_dup(host);
	if (is_commit(sha))
		memcpy(s->commit, sha.ptr, COMMIT_HEX);
	return 0;
}

static bool is_ignorance(const struct reply *answer)
{
	return answer->status == 503 || answer->status == 504;
}

/* Repo information; or, when upstream is away, that of main, which is what a snapshot of the Space has asked for. */
static int ask_info(struct hub *h, struct request *q, const struct hub_route *route, struct reply *answer)
{
	struct hub_route space = { .kind = route->kind, .id = route->id, .repo = route->repo };
	int r = hub_serve_info(h, q, &space, h->doc_ttl_ms, STR(""), answer);

	if (r != 0 || !is_ignorance(answer))
		return r;
	reply_done(answer);
	reply_init(answer);
	space.revision = STR("main");
	return hub_serve_info(h, q, &space, h->name_ttl_ms, STR(""), answer);
}

static void take_local(const struct hub *h, unsigned i, struct space *s)
{
	s->kind = SPACE_LOCAL;
	s->url = xstrdup(h->opts.spaces[i].url);
	s->origin = (enum fetch_origin)(FETCH_SPACE_FIRST + i);
}

int space_find(struct hub *h, struct request *q, const struct hub_route *route, struct space *ret,
	       struct reply *r)
{
	int error = space_find_local(h, route->id);

	*ret = (struct space){ 0 };
	if (error >= 0) {
		take_local(h, (unsigned)error, ret);
		return 0;
	}
	if (route->path.len > 0 && !is_write(q) && is_remembered(h, route->repo, ret))
		return 0;
	error = ask_info(h, q, route, r);
	if (error != 0)
		return error;
	if (r->status != 200)
		return 1;
	error = read_space(h, r, ret);
	reply_done(r);
	reply_init(r);
	if (error == 0 && ret->kind == SPACE_STATIC)
		remember(h, route->repo, ret);
	if (error < 0)
		reply_error(r, q, ENDPOINT_FILE, error, route->repo);
	return error < 0 ? 1 : 0;
}
