/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redirect - the rules in redirect.h. No I/O, no state.
 */
#include "fetch/redirect.h"

#include <errno.h>

#include "common/banned.h"

static bool is_followable(const struct redirect_facts *f)
{
	bool is_read = strcmp(f->method, "GET") == 0 || strcmp(f->method, "HEAD") == 0;

	if (f->follow == FETCH_FOLLOW_NONE || f->has_body || f->location.len == 0)
		return false;
	if (f->status == 307 || f->status == 308)
		return true;
	return is_read && (f->status == 301 || f->status == 302 || f->status == 303);
}

static struct str origin_host(const struct origin *o)
{
	return str_from(o->host);
}

/* "name", "name:port", "[v6]:port". Returns the port, 0 if none is said. */
static uint16_t cut_port(struct str pattern, struct str *ret_host)
{
	uint64_t port = 0;
	size_t i = pattern.len;

	*ret_host = pattern;
	while (i > 0 && pattern.ptr[i - 1] >= '0' && pattern.ptr[i - 1] <= '9')
		i--;
	if (i < 2 || i == pattern.len || pattern.ptr[i - 1] != ':')
		return 0;
	/* the colons of a bare IPv6 address are not a port's */
	if (memchr(pattern.ptr, ':', i - 1) && pattern.ptr[i - 2] != ']')
		return 0;
	if (parse_u64((struct str){ pattern.ptr + i, pattern.len - i }, &port) < 0 || port > UINT16_MAX)
		return 0;
	ret_host->len = i - 1;
	return (uint16_t)port;
}

static bool pattern_matches(struct str pattern, const struct origin *o)
{
	struct str host;
	uint16_t port = cut_port(pattern, &host);
	bool is_wild = str_starts_with(host, STR("*."));

	if (port && port != o->port)
		return false;
	if (!is_wild)
		return str_eq_nocase(host, origin_host(o));
	if (!port && o->port != (o->is_tls ? 443 : 80))
		return false;
	host.ptr++;
	host.len--;
	return origin_host(o).len > host.len && str_ends_with(origin_host(o), host);
}

static bool is_listed(char **hosts, const struct origin *o)
{
	for (char **host = hosts; host && *host; host++)
		if (pattern_matches(str_from(*host), o))
			return true;
	return false;
}

static bool is_allowed(const struct redirect_rules *rules, const struct origin *o)
{
	if (origin_eq(&rules->hub, o))
		return true;
	if (rules->hub.is_tls && !o->is_tls)
		return false;
	if ((rules->hub_address.family || rules->hub_is_localhost) && strcmp(rules->hub.host, o->host) == 0)
		return true;
	return is_listed(rules->hosts, o);
}

int redirect_decide(const struct redirect_rules *rules, const struct redirect_facts *facts,
		    struct buf *ret_url, struct origin *ret_origin)
{
	struct str reference, fragment, rest;
	struct origin to;

	if (!is_followable(facts))
		return 0;
	(void)str_cut(facts->location, '#', &reference, &fragment); /* a fragment never goes on the wire */
	if (uri_resolve(facts->base_url, reference, ret_url) < 0 ||
	    origin_parse(buf_str(ret_url), &to, &rest) < 0)
		return facts->follow == FETCH_FOLLOW_SAME_ORIGIN ? 0 : -EACCES;
	if (facts->follow == (origin_eq(&rules->hub, &to) ? FETCH_FOLLOW_OTHERS : FETCH_FOLLOW_SAME_ORIGIN))
		return 0;
	if (!is_allowed(rules, &to))
		return -EACCES;
	if (facts->hop >= REDIRECT_HOPS_MAX)
		return -ELOOP;
	*ret_origin = to;
	return 1;
}

/* Never in the clear when the Hub itself is asked over TLS. */
static bool is_space_host(const struct redirect_rules *rules, const struct origin *o)
{
	return (o->is_tls || !rules->hub.is_tls) && is_listed(rules->space_hosts, o);
}

int redirect_begin(const struct redirect_rules *rules, struct str location, bool is_space,
		   struct buf *ret_url, struct origin *ret_origin)
{
	struct str url, fragment, rest;
	struct origin to;

	(void)str_cut(location, '#', &url, &fragment);
	/* byte for byte: a signature may cover each of them */
	if (origin_parse(url, &to, &rest) < 0 ||
	    !(is_allowed(rules, &to) || (is_space && is_space_host(rules, &to))) ||
	    buf_append_str(ret_url, url) < 0)
		return -EACCES;
	*ret_origin = to;
	return 0;
}

/* A literal address in the list is a configured one, also when it is private. */
static bool is_listed_address(const struct redirect_rules *rules, const struct address *to)
{
	for (char **pattern = rules->hosts; pattern && *pattern; pattern++) {
		struct address listed;
		struct str host;

		(void)cut_port(str_from(*pattern), &host);
		if (address_parse(host, &listed) == 0 && address_eq(&listed, to))
			return true;
	}
	return false;
}

bool redirect_address_ok(const struct redirect_rules *rules, const struct origin *origin,
			 const struct address *to)
{
	if (origin_eq(&rules->hub, origin) || !address_is_internal(to))
		return true;
	if (address_eq(&rules->hub_address, to) || is_listed_address(rules, to))
		return true;
	return rules->hub_is_localhost && strcmp(origin->host, rules->hub.host) == 0;
}
