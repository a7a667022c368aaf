/* SPDX-License-Identifier: Apache-2.0 */
/*
 * origin - the part of http/uri.h about absolute URLs: taking them apart, and resolving references against
 * them.
 *
 * A Location comes from upstream and decides whom we call next, so the grammar here is strict: where two
 * readers could see two hosts in one URL (user info, backslashes, blanks, control bytes), it is refused.
 * Pure.
 * Threads   any.
 * Promises  (1) what uri_resolve() writes, origin_parse() accepts and finds the same host in.
 */
#include "common/http/uri.h"

#include <assert.h>
#include <errno.h>

#include "common/banned.h"

#define HTTP_PORT 80
#define HTTPS_PORT 443

static bool is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Bytes above 0x7f are let through after the host: some senders leave names of files unencoded. */
static bool has_bad_bytes(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c <= ' ' || c == 0x7f || c == '\\')
			return true;
	}
	return false;
}

/* Length up to the first byte of `stops`, or all of it. */
static size_t span_until(struct str s, const char *stops)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] && strchr(stops, s.ptr[i]))
			return i;
	return s.len;
}

static struct str skip(struct str s, size_t count)
{
	return (struct str){ s.ptr + count, s.len - count };
}

static struct str without_fragment(struct str s)
{
	return (struct str){ s.ptr, span_until(s, "#") };
}

static bool take_scheme(struct str *url, bool *ret_is_tls)
{
	static const struct str http = STR("http://"), https = STR("https://");

	if (url->len >= https.len && str_eq_nocase((struct str){ url->ptr, https.len }, https)) {
		*ret_is_tls = true;
		*url = skip(*url, https.len);
		return true;
	}
	if (url->len >= http.len && str_eq_nocase((struct str){ url->ptr, http.len }, http)) {
		*ret_is_tls = false;
		*url = skip(*url, http.len);
		return true;
	}
	return false;
}

/* Cuts the host off an authority: up to the closing bracket of an address, else up to the colon. */
static int split_host(struct str authority, struct str *ret_host, struct str *ret_port)
{
	struct str host, rest;

	if (authority.len && authority.ptr[0] == '[') {
		size_t close = span_until(authority, "]");

		if (close == authority.len)
			return -EINVAL;
		host = (struct str){ authority.ptr, close + 1 };
	} else {
		host = (struct str){ authority.ptr, span_until(authority, ":") };
	}
	rest = skip(authority, host.len);
	if (rest.len && rest.ptr[0] != ':')
		return -EINVAL;
	*ret_host = host;
	*ret_port = rest.len ? skip(rest, 1) : rest;
	return 0;
}

static bool is_host_char(char c, bool is_address)
{
	if (is_digit(c) || is_alpha(c) || c == '.')
		return true;
	return is_address ? c == ':' : c == '-' || c == '_';
}

static int copy_host(struct str host, char *ret_text, size_t room)
{
	bool is_address = host.len > 2 && host.ptr[0] == '[';
	size_t first = is_address ? 1 : 0;
	size_t end = is_address ? host.len - 1 : host.len;

	if (host.len == 0 || host.len >= room)
		return -EINVAL;
	for (size_t i = first; i < end; i++)
		if (!is_host_char(host.ptr[i], is_address))
			return -EINVAL;
	for (size_t i = 0; i < host.len; i++)
		ret_text[i] =
			host.ptr[i] >= 'A' && host.ptr[i] <= 'Z' ? (char)(host.ptr[i] | 0x20) : host.ptr[i];
	ret_text[host.len] = 0;
	return 0;
}

/* An empty port ("host:") means the default (RFC 3986 3.2.3). */
static int parse_port(struct str text, bool is_tls, uint16_t *ret_port)
{
	uint64_t port;

	if (text.len == 0) {
		*ret_port = is_tls ? HTTPS_PORT : HTTP_PORT;
		return 0;
	}
	if (parse_u64(text, &port) < 0 || port == 0 || port > UINT16_MAX)
		return -EINVAL;
	*ret_port = (uint16_t)port;
	return 0;
}

int origin_parse(struct str url, struct origin *ret_origin, struct str *ret_rest)
{
	struct origin origin = { 0 };
	struct str authority, host, port, rest;

	if (has_bad_bytes(url) || !take_scheme(&url, &origin.is_tls))
		return -EINVAL;
	authority = (struct str){ url.ptr, span_until(url, "/?#") };
	rest = skip(url, authority.len);
	if (span_until(authority, "@") < authority.len || span_until(rest, "#") < rest.len)
		return -EINVAL;
	if (rest.len && rest.ptr[0] != '/')
		return -EINVAL; /* "http://host?q": the path cannot be borrowed; uri_resolve() adds it */
	if (split_host(authority, &host, &port) < 0 ||
	    copy_host(host, origin.host, sizeof(origin.host)) < 0 ||
	    parse_port(port, origin.is_tls, &origin.port) < 0)
		return -EINVAL;
	*ret_origin = origin;
	*ret_rest = rest.len ? rest : STR("/");
	return 0;
}

bool origin_eq(const struct origin *a, const struct origin *b)
{
	return a->is_tls == b->is_tls && a->port == b->port && strcmp(a->host, b->host) == 0;
}

/*
 * A URL or reference in parts, all raw and borrowed; ptr NULL where a part is absent (RFC 3986 5.3 needs to
 * know).
 */
struct parts {
	struct str scheme, authority, path, query;
};

static size_t scheme_len(struct str s)
{
	size_t i = 0;

	if (s.len == 0 || !is_alpha(s.ptr[0]))
		return 0;
	while (i < s.len && (is_alpha(s.ptr[i]) || is_digit(s.ptr[i]) || strchr("+-.", s.ptr[i])))
		i++;
	return i < s.len && s.ptr[i] == ':' ? i : 0;
}

static struct parts split_reference(struct str s)
{
	struct parts p = { 0 };
	size_t scheme = scheme_len(s);
	size_t path;

	if (scheme) {
		p.scheme = (struct str){ s.ptr, scheme };
		s = skip(s, scheme + 1);
	}
	if (str_starts_with(s, STR("//"))) {
		s = skip(s, 2);
		p.authority = (struct str){ s.ptr, span_until(s, "/?") };
		s = skip(s, p.authority.len);
	}
	path = span_until(s, "?");
	p.path = (struct str){ s.ptr, path };
	if (path < s.len)
		p.query = skip(s, path + 1);
	return p;
}

/* Drops the last segment of what was written from start on, with its slash. */
static void drop_segment(struct buf *out, size_t start)
{
	while (out->len > start && out->bytes[out->len - 1] != '/')
		out->len--;
	if (out->len > start)
		out->len--;
	if (out->bytes)
		out->bytes[out->len] = 0;
}

/* Appends an absolute path without its "." and ".." segments (RFC 3986 5.2.4), never leaving the root. */
static void append_path(struct str path, struct buf *out)
{
	size_t start = out->len;
	struct str segment;
	bool is_last = false;

	if (path.len && path.ptr[0] == '/')
		path = skip(path, 1);
	while (!is_last) {
		is_last = !str_cut(path, '/', &segment, &path);
		if (str_eq(segment, STR("..")))
			drop_segment(out, start);
		else if (!str_eq(segment, STR("."))) {
			buf_append_char(out, '/');
			buf_append_str(out, segment);
			continue;
		}
		if (is_last)
			buf_append_char(out, '/'); /* "a/." and "a/b/.." name a folder */
	}
}

/* The base's path up to its last slash, then the reference's. */
static void append_merged(struct str base, struct str reference, struct buf *out)
{
	SCOPED_BUF merged;
	size_t keep = base.len;

	buf_init(&merged, base.len + reference.len + 1);
	while (keep && base.ptr[keep - 1] != '/')
		keep--;
	buf_append(&merged, base.ptr, keep);
	if (keep == 0)
		buf_append_char(&merged, '/');
	buf_append_str(&merged, reference);
	append_path(buf_str(&merged), out);
}

static void append_target(const struct parts *base, const struct parts *ref, struct buf *out)
{
	struct str query = ref->query;

	if (ref->authority.ptr || (ref->path.len && ref->path.ptr[0] == '/'))
		append_path(ref->path, out);
	else if (ref->path.len)
		append_merged(base->path, ref->path, out);
	else {
		append_path(base->path, out);
		query = query.ptr ? query : base->query;
	}
	if (query.ptr) {
		buf_append_char(out, '?');
		buf_append_str(out, query);
	}
}

int uri_resolve(struct str base_url, struct str reference, struct buf *out)
{
	struct parts base = split_reference(without_fragment(base_url));
	struct parts ref = split_reference(without_fragment(reference));
	struct str scheme = ref.scheme.ptr ? ref.scheme : base.scheme;
	struct str authority = ref.authority.ptr ? ref.authority : base.authority;
	size_t start = out->len;
	struct origin origin;
	struct str rest;
	int r;

	if (buf_error(out))
		return buf_error(out);
	/* "http:path" is a scheme without a host: nobody means that, and readers disagree about it */
	if (!base.authority.ptr || (ref.scheme.ptr && !ref.authority.ptr))
		return -EINVAL;
	buf_append_str(out, scheme);
	buf_append_str(out, STR("://"));
	buf_append_str(out, authority);
	append_target(&base, &ref, out);
	r = buf_error(out);
	if (r == 0)
		r = origin_parse(skip(buf_str(out), start), &origin, &rest);
	if (r < 0 && out->bytes) {
		out->len = start;
		out->bytes[start] = 0;
	}
	return r;
}
