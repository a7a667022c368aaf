/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/space - /_space/{owner}/{name}/{path}: a static Space as a page in a browser, from its files at main.
 *
 * File URLs carry a policy that lets nothing run (N08), since they are downloads; a page has to run. So pages have addresses of
 * their own, and here the policy is a sandbox in which scripts run but the page is nobody: an origin that is equal to no other,
 * so that it has no storage, no cookies, and reads of this cache only what every page may read. It loads its own files, and asks
 * this cache for files and metadata; other hosts are out of reach, as they are in a closed network.
 * Never     runs a Space that is a program: that is told in plain words.
 * Promises  (1) who may not read the Space's files sees no page of it: the files come from hub_resolve(), and its door.
 *           (2) what was opened once opens again with upstream dead.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"

#define INFO_BYTES_MAX (16u << 20)
#define SANDBOX                                                                                              \
	"sandbox allow-scripts allow-forms allow-modals allow-popups allow-downloads allow-pointer-lock"
#define STATIC_WORD STR("static")

/* What repo information says of a Space. */
struct site {
	bool is_static;
	char *page; /* owned: the file that "/" stands for; NULL: index.html */
};

/* --- is it static? --- */

static void memo_key(struct str repo, struct buf *out)
{
	buf_init(out, 1024);
	buf_append_str(out, STR("sdk of "));
	buf_append_str(out, repo);
}

/* Only that it is static is remembered: it tells nothing to those who may not read it, since the files have a door of their own. */
static bool is_remembered(struct hub *h, struct str repo)
{
	char word[COMMIT_TEXT];
	SCOPED_BUF key;

	memo_key(repo, &key);
	return pins_find(&h->names, buf_str(&key), clock_mono_ms(h->opts.clock), word);
}

static void remember(struct hub *h, struct str repo)
{
	SCOPED_BUF key;

	memo_key(repo, &key);
	pins_put(&h->names, buf_str(&key), STATIC_WORD, clock_mono_ms(h->opts.clock));
}

static int read_text(const struct reply *answer, struct buf *out)
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

static int read_site(const struct reply *answer, struct site *site)
{
	SCOPED(json_free) struct json *json = NULL;
	const struct json *card;
	struct str sdk, page;
	SCOPED_BUF text;

	if (read_text(answer, &text) < 0 || json_parse(buf_str(&text), &json) < 0)
		return -EPROTO;
	card = json_get(json, "cardData");
	sdk = json_string(json_get(json, "sdk"));
	if (sdk.len == 0)
		sdk = json_string(json_get(card, "sdk"));
	site->is_static = str_eq(sdk, STATIC_WORD);
	page = json_string(json_get(card, "app_file"));
	if (page.len > 0 && uri_is_clean_path(page))
		site->page = str_dup(page);
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

/* Returns 0 with *site; 1 with a reply; -EAGAIN. */
static int find_site(struct hub *h, struct request *q, const struct hub_route *route, struct site *site,
		     struct reply *r)
{
	int error;

	if (route->path.len > 0 && is_remembered(h, route->repo)) {
		site->is_static = true;
		return 0;
	}
	error = ask_info(h, q, route, r);
	if (error != 0)
		return error;
	if (r->status != 200)
		return 1;
	error = read_site(r, site);
	reply_done(r);
	reply_init(r);
	if (error < 0) {
		reply_error(r, q, ENDPOINT_FILE, error, route->repo);
		return 1;
	}
	if (site->is_static)
		remember(h, route->repo);
	return 0;
}

/* --- what a page is made of --- */

static const char *type_of(struct str path)
{
	static const struct {
		const char *suffix, *type;
	} types[] = {
		{ ".html", "text/html; charset=utf-8" },
		{ ".htm", "text/html; charset=utf-8" },
		{ ".xhtml", "application/xhtml+xml" },
		{ ".js", "text/javascript; charset=utf-8" },
		{ ".mjs", "text/javascript; charset=utf-8" },
		{ ".css", "text/css; charset=utf-8" },
		{ ".json", "application/json" },
		{ ".map", "application/json" },
		{ ".webmanifest", "application/manifest+json" },
		{ ".xml", "application/xml" },
		{ ".txt", "text/plain; charset=utf-8" },
		{ ".md", "text/plain; charset=utf-8" },
		{ ".csv", "text/csv; charset=utf-8" },
		{ ".wasm", "application/wasm" },
		{ ".png", "image/png" },
		{ ".jpg", "image/jpeg" },
		{ ".jpeg", "image/jpeg" },
		{ ".gif", "image/gif" },
		{ ".webp", "image/webp" },
		{ ".avif", "image/avif" },
		{ ".svg", "image/svg+xml" },
		{ ".ico", "image/x-icon" },
		{ ".bmp", "image/bmp" },
		{ ".woff", "font/woff" },
		{ ".woff2", "font/woff2" },
		{ ".ttf", "font/ttf" },
		{ ".otf", "font/otf" },
		{ ".mp3", "audio/mpeg" },
		{ ".wav", "audio/wav" },
		{ ".ogg", "audio/ogg" },
		{ ".flac", "audio/flac" },
		{ ".mp4", "video/mp4" },
		{ ".webm", "video/webm" },
		{ ".pdf", "application/pdf" },
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct str suffix = str_from(types[i].suffix);

		if (path.len > suffix.len &&
		    str_eq_nocase((struct str){ path.ptr + path.len - suffix.len, suffix.len }, suffix))
			return types[i].type;
	}
	return "application/octet-stream";
}

/* Policies cannot name an IPv6 address: then all of this server stands in for the page's own folder. */
static void own_folder(const struct request *q, const struct hub_route *route, struct buf *out)
{
	buf_init(out, 1024);
	if (strchr(q->base, '['))
		buf_append_str(out, STR("'self'"));
	else
		buf_appendf(out, "%s/_space/%.*s/", q->base, STR_ARGS(route->id));
}

static void set_policy(const struct request *q, const struct hub_route *route, struct reply *r)
{
	SCOPED_BUF own, policy;

	own_folder(q, route, &own);
	buf_init(&policy, 4096);
	buf_appendf(&policy, SANDBOX "; default-src %.*s data: blob: 'unsafe-inline' 'unsafe-eval'",
		    STR_ARGS(buf_str(&own)));
	buf_appendf(&policy, "; connect-src %s data: blob:", strchr(q->base, '[') ? "'self'" : q->base);
	buf_appendf(&policy, "; base-uri %.*s; form-action %.*s; object-src 'none'", STR_ARGS(buf_str(&own)),
		    STR_ARGS(buf_str(&own)));
	if (!buf_error(&policy))
		(void)headers_set(&r->headers, STR("Content-Security-Policy"), buf_str(&policy));
}

/* A page of nobody asks for its own files as a stranger, hence cross-origin. */
static void become_page(const struct request *q, const struct hub_route *route, struct str path,
			struct reply *r)
{
	(void)headers_set(&r->headers, STR("Content-Type"), str_from(type_of(path)));
	(void)headers_set(&r->headers, STR("Cross-Origin-Resource-Policy"), STR("cross-origin"));
	(void)headers_set(&r->headers, STR("Referrer-Policy"), STR("no-referrer"));
	set_policy(q, route, r);
}

/* --- its files --- */

/* The same address with a slash at its end: from there the page's relative addresses are right. */
static void send_to_folder(const struct request *q, struct reply *r)
{
	SCOPED_BUF location;

	buf_init(&location, 16384);
	buf_appendf(&location, "%.*s/", STR_ARGS(q->path));
	if (q->query.len)
		buf_appendf(&location, "?%.*s", STR_ARGS(q->query));
	reply_done(r);
	reply_init(r);
	reply_text(r, 307, "text/plain; charset=utf-8", STR(""));
	if (buf_error(&location) || headers_add(&r->headers, STR("Location"), buf_str(&location)) < 0)
		reply_refuse(r, ENDPOINT_FILE, 414, "the address is too long");
}

static bool ends_with_slash(struct str path)
{
	return str_ends_with(path, STR("/"));
}

static int serve_file(struct hub *h, struct request *q, const struct hub_route *route, struct str path,
		      struct reply *r)
{
	struct hub_route file = *route;

	file.revision = STR("main");
	file.path = path;
	return hub_resolve(h, q, &file, r);
}

/* Is it a folder with a page of its own? Returns 1 yes; 0 no; -EAGAIN. */
static int has_index(struct hub *h, struct request *q, const struct hub_route *route, struct str path)
{
	bool was_head = q->is_head;
	struct reply answer;
	SCOPED_BUF index;
	int r;

	buf_init(&index, 8192);
	buf_appendf(&index, "%.*s/index.html", STR_ARGS(path));
	if (buf_error(&index) || !uri_is_clean_path(buf_str(&index)))
		return 0;
	reply_init(&answer);
	q->is_head = true;
	r = serve_file(h, q, route, buf_str(&index), &answer);
	q->is_head = was_head;
	if (r == 0)
		r = answer.status == 200 || answer.status == 304;
	reply_done(&answer);
	return r;
}

static bool is_missing(const struct reply *r)
{
	return r->status == 404 && r->kind != REPLY_ABORT &&
	       str_eq(headers_get(&r->headers, STR("X-Error-Code")), STR("EntryNotFound"));
}

static int serve_page(struct hub *h, struct request *q, const struct hub_route *route,
		      const struct site *site, struct reply *r)
{
	struct str path = route->path;
	SCOPED_BUF whole;
	int error;

	buf_init(&whole, 8192);
	buf_append_str(&whole, path);
	if (path.len == 0 && site->page)
		buf_append_str(&whole, str_from(site->page));
	else if (path.len == 0 || ends_with_slash(path))
		buf_append_str(&whole, STR("index.html"));
	if (buf_error(&whole) || !uri_is_clean_path(buf_str(&whole))) {
		reply_refuse(r, ENDPOINT_FILE, 400, "no file of a Space can have this name");
		return 0;
	}
	error = serve_file(h, q, route, buf_str(&whole), r);
	if (error != 0)
		return error;
	if (is_missing(r) && path.len > 0 && !ends_with_slash(path)) {
		error = has_index(h, q, route, path);
		if (error == 1)
			send_to_folder(q, r);
		if (error == -EAGAIN) {
			reply_done(r);
			reply_init(r);
			return -EAGAIN;
		}
	}
	if (r->kind != REPLY_ABORT && (r->status == 200 || r->status == 206 || r->status == 304))
		become_page(q, route, buf_str(&whole), r);
	return 0;
}

int hub_space(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	struct hub_route space = *route;
	struct site site = { 0 };
	SCOPED_BUF repo;
	int error;

	buf_init(&repo, 1024);
	buf_appendf(&repo, "spaces/%.*s", STR_ARGS(route->id));
	space.kind = STR("spaces");
	space.repo = buf_str(&repo);
	hub_note(q, &space);
	if (space.path.len == 0 && !ends_with_slash(q->path)) {
		send_to_folder(q, r);
		return 0;
	}
	error = find_site(h, q, &space, &site, r);
	if (error == 0 && !site.is_static)
		reply_refuse(
			r, ENDPOINT_FILE, 501,
			"this Space is a program, not a set of pages; this cache serves static Spaces only");
	else if (error == 0)
		error = serve_page(h, q, &space, &site, r);
	free(site.page);
	return error == 1 ? 0 : error;
}
