/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router/match - splitting, decoding, matching.
 *
 * %2F inside a segment is data: a revision that is sent as one encoded segment (refs%2Fpr%2F1), or a folder
 * of a tree. Since
 * names from clients never become file names, the only strictness needed is that each name has one spelling.
 */
#include "router/match.h"

#include <errno.h>
#include "common/http/uri.h"

/* Each slash-separated piece of a decoded segment must be a plain name. */
static bool is_plain(struct str segment)
{
	struct str piece, rest = segment;

	do {
		str_cut(rest, '/', &piece, &rest);
		if (str_eq(piece, STR(".")) || str_eq(piece, STR("..")))
			return false;
	} while (rest.len > 0);
	return memchr(segment.ptr, 0, segment.len) == NULL;
}

/* The next raw segment, decoded to the end of the text. */
static int decode(struct segments *s, struct str raw, bool is_last)
{
	struct str text;
	size_t begin = s->text.len;

	if ((raw.len == 0 && !is_last) || memchr(raw.ptr, '\\', raw.len))
		return -EINVAL;
	if (uri_decode_segment(raw, &s->text) < 0)
		return buf_error(&s->text) ? -E2BIG : -EINVAL;
	text = buf_str(&s->text);
	return is_plain((struct str){ text.ptr + begin, text.len - begin }) ? 0 : -EINVAL;
}

/* Only now: the text moves while it grows. */
static void set_parts(struct segments *s, const size_t ends[SEGMENTS_MAX])
{
	const char *text = buf_str(&s->text).ptr;
	size_t begin = 0;

	for (unsigned i = 0; i < s->count; i++) {
		s->part[i] = str_from_range(text + begin, text + ends[i]);
		begin = ends[i] + 1;
	}
}

int segments_split(struct segments *s, struct str path)
{
	size_t ends[SEGMENTS_MAX];
	struct str raw, rest;

	s->count = 0;
	buf_init(&s->text, 16384);
	if (path.len == 0 || path.ptr[0] != '/')
		return -EINVAL;
	rest = str_from_range(path.ptr + 1, path.ptr + path.len);
	for (bool more = true; more;) {
		int r;

		more = str_cut(rest, '/', &raw, &rest);
		r = decode(s, raw, !more);
		if (r < 0)
			return r;
		if (s->count < SEGMENTS_MAX)
			s->count++;
		ends[s->count - 1] = s->text.len;
		if (more)
			buf_append_char(&s->text, '/');
	}
	if (buf_error(&s->text))
		return -E2BIG;
	set_parts(s, ends);
	return 0;
}

void segments_done(struct segments *s)
{
	buf_done(&s->text);
}

static bool is_kind(struct str s)
{
	return str_eq(s, STR("models")) || str_eq(s, STR("datasets")) || str_eq(s, STR("spaces")) ||
	       str_eq(s, STR("kernels"));
}

/* Letters, digits, '-', '_', '.': what the Hub allows in a namespace or a name. */
static bool is_name(struct str s)
{
	if (s.len == 0 || s.len > 96 || s.ptr[0] == '.' || s.ptr[0] == '-')
		return false;
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '-' || c == '_' || c == '.'))
			return false;
	}
	return true;
}

/* First path segments that are never a namespace (hub-protocol 1.1). */
static bool is_reserved(struct str s)
{
	static const char *const words[] = {
		"api",  "datasets",      "spaces", "kernels", "buckets", "collections", "papers",   "docs",
		"blog", "models",        "v2",     "oauth",   "login",   "join",        "settings", "front",
		"new",  "organizations", "jobs",   "tasks",   "pricing", "_space"
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (str_eq(s, str_from(words[i])))
			return true;
	return false;
}

/* Segments [from, to) as one string: they stand side by side in the text. */
static struct str join(const struct segments *s, unsigned from, unsigned to)
{
	return from == to ? STR("")
			  : str_from_range(s->part[from].ptr, s->part[to - 1].ptr + s->part[to - 1].len);
}

static bool match_from(const char *pattern, const struct segments *s, unsigned at, struct hub_route *route);

static bool match_id(const char *rest, const struct segments *s, unsigned at, unsigned count,
		     struct hub_route *route)
{
	if (at + count > s->count || !is_name(s->part[at]) || (count == 2 && !is_name(s->part[at + 1])))
		return false;
	route->id = join(s, at, at + count);
	return match_from(rest, s, at + count, route);
}

static bool match_content(const char *rest, const struct segments *s, unsigned at, struct hub_route *route)
{
	struct str first = s->count > at ? s->part[at] : STR("");

	if (is_kind(first) && !str_eq(first, STR("models"))) {
		route->kind = first;
		at++;
	} else if (is_reserved(first)) {
		return false;
	} else {
		route->kind = STR("models");
	}
	return match_id(rest, s, at, 1, route) || match_id(rest, s, at, 2, route);
}

static bool match_revision(const char *rest, const struct segments *s, unsigned at, struct hub_route *route)
{
	unsigned count = str_eq(s->part[at], STR("refs")) ? 3 : 1;

	if (at + count > s->count || s->part[at].len == 0 || s->part[at + count - 1].len == 0)
		return false;
	route->revision = join(s, at, at + count);
	return match_from(rest, s, at + count, route);
}

/* All that is left, as a revision: on routes that end with one, a branch with slashes needs no guess. */
static bool match_name(const char *rest, const struct segments *s, unsigned at, struct hub_route *route)
{
	route->revision = join(s, at, s->count);
	return !*rest && uri_is_clean_path(route->revision);
}

static bool match_path(const char *rest, const struct segments *s, unsigned at, bool may_be_empty,
		       struct hub_route *route)
{
	if (*rest)
		return false; /* only at the end of a pattern */
	route->path = join(s, at, s->count);
	return may_be_empty || uri_is_clean_path(route->path);
}

static bool match_from(const char *pattern, const struct segments *s, unsigned at, struct hub_route *route)
{
	struct str word, rest, all = str_from(pattern);
	bool more = str_cut(all, '/', &word, &rest);
	const char *next = more ? rest.ptr : pattern + all.len;

	if (str_eq(word, STR("{rest}")))
		return match_path(next, s, at, true, route);
	if (!more && all.len == 0)
		return at == s->count;
	if (at >= s->count)
		return false;
	if (str_eq(word, STR("{content}")))
		return match_content(next, s, at, route);
	if (str_eq(word, STR("{id}")))
		return match_id(next, s, at, 1, route) || match_id(next, s, at, 2, route);
	if (str_eq(word, STR("{id2}")))
		return match_id(next, s, at, 2, route);
	if (str_eq(word, STR("{rev}")))
		return match_revision(next, s, at, route);
	if (str_eq(word, STR("{name}")))
		return match_name(next, s, at, route);
	if (str_eq(word, STR("{path}")))
		return match_path(next, s, at, false, route);
	if (str_eq(word, STR("{kind}"))) {
		route->kind = s->part[at];
		return is_kind(s->part[at]) && match_from(next, s, at + 1, route);
	}
	if (str_eq(word, STR("{commit}"))) {
		route->revision = s->part[at];
		return s->part[at].len == COMMIT_HEX && str_is_lower_hex(s->part[at]) &&
		       match_from(next, s, at + 1, route);
	}
	if (!str_eq(word, s->part[at]))
		return false;
	/* "-/" has an empty last word */
	if (more && rest.len == 0)
		return at + 2 == s->count && s->part[at + 1].len == 0;
	return match_from(next, s, at + 1, route);
}

bool pattern_matches(const char *pattern, const struct segments *s, struct buf *ret_repo,
		     struct hub_route *ret_route)
{
	struct hub_route route = { 0 };

	if (!*pattern)
		return s->count == 1 && s->part[0].len == 0;
	if (!match_from(pattern, s, 0, &route))
		return false;
	/* a repo's own git URL may end in ".git" */
	if (str_ends_with(route.id, STR(".git")))
		route.id.len -= 4;
	if (!route.kind.len)
		route.kind = STR("models"); /* registries name no kind */
	if (route.id.len) {
		buf_reset(ret_repo);
		buf_appendf(ret_repo, "%.*s/%.*s", STR_ARGS(route.kind), STR_ARGS(route.id));
		route.repo = buf_str(ret_repo);
	}
	*ret_route = route;
	return true;
}
