/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intercept/names - the two lists: which names are served here, and what may be tunnelled to. Pure.
 */
#include "intercept/priv.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/http/address.h"

#include "common/banned.h"

static bool is_host_pattern(struct str s)
{
	if (str_starts_with(s, STR("*.")))
		s = (struct str){ s.ptr + 2, s.len - 2 };
	return host_is_name(s) && memchr(s.ptr, '.', s.len);
}

/* "name:8443" to "name" and 8443; 443 without. */
static bool split_tunnel(struct str text, struct str *ret_host, uint16_t *ret_port)
{
	uint64_t port = 443;

	*ret_host = host_without_port(text);
	if (ret_host->len < text.len &&
	    (parse_u64((struct str){ text.ptr + ret_host->len + 1, text.len - ret_host->len - 1 }, &port) <
		     0 ||
	     port == 0 || port > 65535))
		return false;
	*ret_port = (uint16_t)port;
	return true;
}

static bool is_tunnel_pattern(struct str s)
{
	struct address address;
	struct str host;
	uint16_t port;

	if (!split_tunnel(s, &host, &port))
		return false;
	return str_eq(host, STR("*")) || address_parse(host, &address) == 0 || is_host_pattern(host) ||
	       host_is_name(host);
}

int intercept_check(const char *const *listen, const char *const *hosts, const char *const *tunnels,
		    char **ret_reason)
{
	for (; listen && *listen; listen++)
		if (!listen_is_address(*listen)) {
			*ret_reason = xasprintf(
				"intercept.listen: %s is not an address to listen on: write ADDRESS:PORT or "
				"[IPv6]:PORT",
				*listen);
			return -EINVAL;
		}
	for (; hosts && *hosts; hosts++)
		if (!is_host_pattern(str_from(*hosts))) {
			*ret_reason = xasprintf("intercept.hosts: %s is no name of a host: write "
						"router.huggingface.co, or *.example.org for all below it",
						*hosts);
			return -EINVAL;
		}
	for (; tunnels && *tunnels; tunnels++)
		if (!is_tunnel_pattern(str_from(*tunnels))) {
			*ret_reason =
				xasprintf("intercept.tunnel: %s is no name, *.NAME, address or *, with :PORT "
					  "behind it where that is not 443",
					  *tunnels);
			return -EINVAL;
		}
	return 0;
}

bool names_tunnel(const char *const *tunnels, struct str name, uint16_t port, bool *ret_is_local)
{
	struct address asked, listed;
	bool is_address = address_parse(name, &asked) == 0, found = false;

	*ret_is_local = false;
	for (; tunnels && *tunnels; tunnels++) {
		uint16_t allowed;
		struct str host;

		if (!split_tunnel(str_from(*tunnels), &host, &allowed) || allowed != port)
			continue;
		if (is_address && address_parse(host, &listed) == 0 && address_eq(&asked, &listed)) {
			*ret_is_local = true; /* the administrator's own word */
			return true;
		}
		{
			SCOPED_FREE char *pattern = str_dup(host);

			found = found || host_matches((const char *const[]){ pattern, NULL }, name);
		}
	}
	return found;
}
