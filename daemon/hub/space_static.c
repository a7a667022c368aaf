/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/space_static - a static Space as a page in a browser, from its files: at main, or at what its build command made.
 *
 * File URLs carry a policy that lets nothing run (N08), since they are downloads; a page has to run. So pages have addresses of
 * their own, and here the policy is a sandbox in which scripts run but the page is nobody (space.c).
 * Promises  (1) who may not read the Space's files sees no page of it: the files come from hub_resolve(), and its door.
 *           (2) what was opened once opens again with upstream dead.
 */
#include "hub/space.h"

#include <errno.h>
#include "common/alloc.h"

/* --- fields of its own --- */

static const char *const embedders[] = { NULL, "unsafe-none", "require-corp", "credentialless", NULL };
static const char *const openers[] = { NULL,          "unsafe-none",           "same-origin-allow-popups",
				       "same-origin", "noopener-allow-popups", NULL };
static const char *const resources[] = { NULL, "same-site", "same-origin", "cross-origin", NULL };

static unsigned index_of(const char *const *words, struct str word)
{
	for (unsigned i = 1; words[i]; i++)
		if (str_eq_nocase(str_from(words[i]), word))
			return i;
	return 0;
}

void space_custom_read(const struct json *card, struct space_custom *ret)
{
	const struct json *list = json_get(card, "custom_headers");

	*ret = (struct space_custom){ 0 };
	for (const struct json *c = json_is_object(list) ? json_first(list) : NULL; c; c = json_next(c)) {
		struct str name = json_name(c), value = str_trim(json_string(c));

		if (str_eq_nocase(name, STR("cross-origin-embedder-policy")))
			ret->embedder = index_of(embedders, value);
		else if (str_eq_nocase(name, STR("cross-origin-opener-policy")))
			ret->opener = index_of(openers, value);
		else if (str_eq_nocase(name, STR("cross-origin-resource-policy")))
			ret->resource = index_of(resources, value);
	}
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

static bool is_document(const char *type)
{
	return strncmp(type, "text/html", 9) == 0 || strcmp(type, "application/xhtml+xml") == 0;
}

/*
 * A page of nobody asks for its own files as a stranger: they are for all, whatever the Space says; only its documents may be as
 * narrow as they like.
 */
static void become_page(const struct request *q, const struct space *s, struct str path, struct reply *r)
{
	const char *type = type_of(path);

	(void)headers_set(&r->headers, STR("Content-Type"), str_from(type));
	(void)headers_set(&r->headers, STR("Cross-Origin-Resource-Policy"),
			  s->custom.resource && is_document(type) ? str_from(resources[s->custom.resource])
								  : STR("cross-origin"));
	if (s->custom.embedder)
		(void)headers_set(&r->headers, STR("Cross-Origin-Embedder-Policy"),
				  str_from(embedders[s->custom.embedder]));
	if (s->custom.opener)
		(void)headers_set(&r->headers, STR("Cross-Origin-Opener-Policy"),
				  str_from(openers[s->custom.opener]));
	(void)headers_set(&r->headers, STR("Referrer-Policy"), STR("no-referrer"));
	space_set_policy(q, SPACE_REACHES_CACHE, r);
}

/* --- its files --- */

static bool ends_with_slash(struct str path)
{
	return str_ends_with(path, STR("/"));
}

static bool is_missing(const struct reply *r, struct str what)
{
	return r->status == 404 && r->kind != REPLY_ABORT &&
	       str_eq(headers_get(&r->headers, STR("X-Error-Code")), what);
}

/* What a build command made stands under a name of its own; before the first build there is only what it is made from. */
static int serve_file(struct hub *h, struct request *q, const struct hub_route *route, const struct space *s,
		      struct str path, struct reply *r)
{
	struct hub_route file = *route;
	int error;

	file.path = path;
	if (s->is_built) {
		file.revision = STR("refs/convert/build");
		error = hub_resolve(h, q, &file, r);
		if (error != 0 || !is_missing(r, STR("RevisionNotFound")))
			return error;
		reply_done(r);
		reply_init(r);
	}
	file.revision = STR("main");
	return hub_resolve(h, q, &file, r);
}

/* Is it a folder with a page of its own? Returns 1 yes; 0 no; -EAGAIN. */
static int has_index(struct hub *h, struct request *q, const struct hub_route *route, const struct space *s,
		     struct str path)
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
	r = serve_file(h, q, route, s, buf_str(&index), &answer);
	q->is_head = was_head;
	if (r == 0)
		r = answer.status == 200 || answer.status == 304;
	reply_done(&answer);
	return r;
}

int space_static(struct hub *h, struct request *q, const struct hub_route *route, const struct space *s,
		 struct reply *r)
{
	struct str path = route->path;
	SCOPED_BUF whole;
	int error;

	buf_init(&whole, 8192);
	if (is_write(q)) {
		reply_refuse(r, ENDPOINT_FILE, 405, "the pages of a static Space are read with GET or HEAD");
		(void)headers_set(&r->headers, STR("Allow"), STR("GET, HEAD, OPTIONS"));
		return 0;
	}
	buf_append_str(&whole, path);
	if (path.len == 0 && s->page)
		buf_append_str(&whole, str_from(s->page));
	else if (path.len == 0 || ends_with_slash(path))
		buf_append_str(&whole, STR("index.html"));
	if (buf_error(&whole) || !uri_is_clean_path(buf_str(&whole))) {
		reply_refuse(r, ENDPOINT_FILE, 400, "no file of a Space can have this name");
		return 0;
	}
	error = serve_file(h, q, route, s, buf_str(&whole), r);
	if (error != 0)
		return error;
	if (is_missing(r, STR("EntryNotFound")) && path.len > 0 && !ends_with_slash(path)) {
		error = has_index(h, q, route, s, path);
		if (error == 1)
			space_send_to_folder(q, r);
		if (error == -EAGAIN) {
			reply_done(r);
			reply_init(r);
			return -EAGAIN;
		}
	}
	if (r->kind != REPLY_ABORT && (r->status == 200 || r->status == 206 || r->status == 304))
		become_page(q, s, buf_str(&whole), r);
	return 0;
}
