/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/space_location - where the app of a Space sends its client, as the client may be told. No I/O.
 *
 * At the Hub each app is an origin of its own, so that clients forget their tokens when an app sends them elsewhere. Here all are
 * one origin, that of this server, and clients carry them along. So an app's redirect is worked out as if it were followed at
 * the app, and what is the app's own is put into the Space's folder; it leads to no other place of this server, however that is
 * written.
 * Never     lets pass what two readers could understand in two ways.
 */
#include "hub/space_text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include "common/http/address.h"
#include "common/http/uri.h"

#define LOCATION_BYTES_MAX 65536

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* "mailto" of "mailto:x"; empty: it has none. */
static struct str scheme_of(struct str text)
{
	size_t i = 0;

	while (i < text.len &&
	       (is_letter(text.ptr[i]) ||
		(i > 0 && (strchr("+-.", text.ptr[i]) || (text.ptr[i] >= '0' && text.ptr[i] <= '9')))))
		i++;
	return (struct str){ text.ptr, i < text.len && text.ptr[i] == ':' ? i : 0 };
}

static bool is_http(struct str scheme)
{
	return str_eq_nocase(scheme, STR("http")) || str_eq_nocase(scheme, STR("https"));
}

/* Readers of the web take "%2e" in a path for a dot, and blanks for "%20". */
static void append_plain(struct str text, struct buf *out)
{
	bool in_path = true;

	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];

		in_path = in_path && c != '?' && c != '#';
		if (in_path && c == '%' && text.len - i > 2 && text.ptr[i + 1] == '2' &&
		    (text.ptr[i + 2] | 0x20) == 'e') {
			buf_append_char(out, '.');
			i += 2;
		} else if (c == ' ') {
			buf_append_str(out, STR("%20"));
		} else {
			buf_append_char(out, c);
		}
	}
}

/* --- whose address is it? ------------------------------------------------------------------------------- */

/* An IPv4 address may have fewer parts, and in other bases: "127.1", "0x7f000001". */
static bool find_address(const char *host, struct address *ret)
{
	struct in_addr v4;
	struct sockaddr_in in = { .sin_family = AF_INET };

	if (host[0] == '[')
		return address_parse(str_from(host), ret) == 0;
	if (!inet_aton(host, &v4))
		return false;
	in.sin_addr = v4;
	return address_from_socket((const struct sockaddr *)&in, sizeof(in), ret) == 0;
}

static void drop_final_dot(char *host)
{
	size_t len = strlen(host);

	if (len > 1 && host[len - 1] == '.')
		host[len - 1] = 0;
}

static bool is_same_host(const char *a, const char *b)
{
	struct address first, second;

	if (str_eq_nocase(str_from(a), str_from(b)))
		return true;
	return find_address(a, &first) && find_address(b, &second) && address_eq(&first, &second);
}

/* Of this machine, whichever that is for the client: 127.0.0.0/8, 0.0.0.0, ::1, ::, localhost. */
static bool is_loopback(const char *host)
{
	static const uint8_t zeros[15] = { 0 };
	struct address a;

	if (str_eq(str_from(host), STR("localhost")) || str_ends_with(str_from(host), STR(".localhost")))
		return true;
	if (!find_address(host, &a))
		return false;
	if (a.family == AF_INET)
		return a.bytes[0] == 127 || memcmp(a.bytes, zeros, 4) == 0;
	return memcmp(a.bytes, zeros, 15) == 0 && a.bytes[15] <= 1;
}

/* Names of the configuration may carry a port. */
static bool is_named(const struct space_place *p, const char *host)
{
	for (const char *const *name = p->names; name && *name; name++) {
		struct str full = str_from(*name), bare = full, port;

		if (full.len && full.ptr[full.len - 1] != ']' && memchr(full.ptr, ':', full.len))
			(void)str_cut(full, ':', &bare, &port);
		if (str_eq_nocase(full, str_from(host)) || str_eq_nocase(bare, str_from(host)))
			return true;
	}
	return false;
}

static bool is_default_port(const struct origin *o)
{
	return o->port == 80 || o->port == 443;
}

/* Of either scheme: which one is spoken here is not told by the address alone. */
static bool is_own(const struct space_place *p, const struct origin *own, const struct origin *to)
{
	if (to->port != own->port && !(is_default_port(to) && is_default_port(own)))
		return false;
	return is_same_host(to->host, own->host) || is_loopback(to->host) || is_named(p, to->host);
}

/* --- where does it go? ---------------------------------------------------------------------------------- */

/* What is left of path below folder ("/inner"); ptr NULL: it is not below. */
static struct str below(struct str path, struct str folder)
{
	if (folder.len && folder.ptr[folder.len - 1] == '/')
		folder.len--;
	if (!str_starts_with(path, folder) ||
	    (path.len > folder.len && path.ptr[folder.len] != '/' && path.ptr[folder.len] != '?'))
		return (struct str){ NULL, 0 };
	return str_from_range(path.ptr + folder.len, path.ptr + path.len);
}

/* Relative where the app was: who knows the server by another name stays there. */
static int append_ours(const struct space_place *p, bool is_absolute, struct str rest, struct buf *out)
{
	if (is_absolute)
		buf_append_str(out, p->base);
	buf_append_str(out, p->prefix);
	return buf_append_str(out, rest);
}

struct places {
	struct origin app, own, to;
	struct str app_path, own_path, to_path; /* the last with its query */
	bool is_absolute;                       /* it names a host */
};

/* Returns 1: it is another host's. */
static int place(const struct space_place *p, const struct places *at, struct buf *out)
{
	bool is_apps =
		strcmp(at->to.host, at->app.host) == 0 &&
		(at->to.port == at->app.port || (is_default_port(&at->to) && is_default_port(&at->app)));
	bool is_ours = is_own(p, &at->own, &at->to);
	struct str ours = below(at->to_path, p->prefix), inner = below(at->to_path, at->app_path);

	if (is_ours && !is_apps) {
		if (ours.ptr)
			return append_ours(p, true, ours, out);
		/* an app of one's own was told that this is its host */
		if (p->is_told_base && is_same_host(at->to.host, at->own.host))
			return append_ours(p, true, inner.ptr ? inner : at->to_path, out);
		return -EACCES;
	}
	if (!is_apps)
		return 1;
	if (!at->is_absolute && ours.ptr)
		return append_ours(p, false, ours, out);
	if (inner.ptr)
		return append_ours(p, at->is_absolute, inner, out);
	if (at->is_absolute) /* elsewhere at the app's host */
		return is_ours ? -EACCES : 1;
	return append_ours(p, false, at->to_path, out);
}

static int resolve(const struct space_place *p, struct str text, struct str scheme, struct buf *asked,
		   struct buf *whole, struct places *at)
{
	struct str own;
	int r;

	buf_append_str(asked, p->app);
	append_plain(p->rest, asked);
	r = buf_error(asked) ? buf_error(asked) : uri_resolve(buf_str(asked), text, whole);
	if (r < 0)
		return r;
	if (origin_parse(p->app, &at->app, &at->app_path) < 0 || origin_parse(p->base, &at->own, &own) < 0 ||
	    origin_parse(buf_str(whole), &at->to, &at->to_path) < 0)
		return -EINVAL;
	at->is_absolute = scheme.len > 0 || str_starts_with(text, STR("//"));
	drop_final_dot(at->app.host);
	drop_final_dot(at->own.host);
	drop_final_dot(at->to.host);
	return 0;
}

int space_map_location(const struct space_place *p, struct str location, struct buf *out)
{
	struct str scheme = scheme_of(location), text, fragment;
	struct places at = { .is_absolute = false };
	SCOPED_BUF plain, asked, whole;
	bool has_fragment;
	int r;

	buf_init(&plain, LOCATION_BYTES_MAX);
	buf_init(&asked, LOCATION_BYTES_MAX);
	buf_init(&whole, LOCATION_BYTES_MAX);
	if (scheme.len && !is_http(scheme))
		return buf_append_str(out, location); /* no address of this server, nor of any on the web */
	append_plain(location, &plain);
	if (buf_error(&plain))
		return -E2BIG;
	has_fragment = str_cut(buf_str(&plain), '#', &text, &fragment);
	r = resolve(p, text, scheme, &asked, &whole, &at);
	if (r == 0)
		r = place(p, &at, out);
	if (r == 1)
		return buf_append_str(out, location);
	if (r == 0 && has_fragment) {
		buf_append_char(out, '#');
		buf_append_str(out, fragment);
	}
	return r < 0 ? r : buf_error(out);
}
