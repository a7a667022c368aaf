/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check - rules about single options that their type cannot express: ranges, addresses, URLs, paths.
 *
 * A mistake that is found here is reported with its file and line before anything starts; found later it
 * would be an unreachable server.
 * Never     looks anything up on the network.
 */
#include "config/priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <sys/un.h>

#include "common/alloc.h"

#include "common/banned.h"

#define SECOND 1000ULL
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

static int no(struct buf *reason, const char *text)
{
	(void)buf_appendf(reason, "%s", text);
	return -EINVAL;
}

static bool is_host_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
	       c == '.' || c == '_';
}

/* A name, or an IPv4 address: all digits and dots must then be one. */
static bool is_host(struct str host)
{
	struct in_addr address;
	bool is_number = true;
	char text[256];

	if (host.len == 0 || host.len >= sizeof(text) || host.ptr[0] == '-' || host.ptr[0] == '.')
		return false;
	for (size_t i = 0; i < host.len; i++) {
		if (!is_host_char(host.ptr[i]))
			return false;
		is_number = is_number && ((host.ptr[i] >= '0' && host.ptr[i] <= '9') || host.ptr[i] == '.');
	}
	memcpy(text, host.ptr, host.len);
	text[host.len] = 0;
	return !is_number || inet_pton(AF_INET, text, &address) == 1;
}

static bool is_ipv6(struct str address)
{
	struct in6_addr parsed;
	char text[INET6_ADDRSTRLEN + 1];

	if (address.len >= sizeof(text))
		return false;
	memcpy(text, address.ptr, address.len);
	text[address.len] = 0;
	return inet_pton(AF_INET6, text, &parsed) == 1;
}

static bool is_port(struct str port, bool zero_is_fine)
{
	uint64_t number;

	return port.len <= 5 && parse_u64(port, &number) == 0 && number <= 65535 &&
	       (number > 0 || zero_is_fine);
}

/* HOST, HOST:PORT, [IPv6], [IPv6]:PORT. */
static bool is_authority(struct str s, bool needs_port, bool zero_is_fine)
{
	struct str host, port;
	bool has_port;

	if (str_starts_with(s, STR("["))) {
		if (!str_cut((struct str){ s.ptr + 1, s.len - 1 }, ']', &host, &port) || !is_ipv6(host))
			return false;
		has_port = str_starts_with(port, STR(":"));
		if (port.len && !has_port)
			return false;
		if (has_port)
			port = (struct str){ port.ptr + 1, port.len - 1 };
	} else {
		has_port = str_cut(s, ':', &host, &port);
		if (!is_host(host))
			return false;
	}
	return has_port ? is_port(port, zero_is_fine) : !needs_port;
}

static int check_listen_word(const char *word, struct buf *reason)
{
	struct str s = str_from(word);

	if (str_starts_with(s, STR("unix:"))) {
		if (s.ptr[5] != '/')
			return no(reason, "needs an absolute path after unix:");
		if (s.len - 5 >= sizeof(((struct sockaddr_un *)0)->sun_path))
			return no(reason,
				  "has a socket path of more than 107 bytes, which the system does not take");
		return 0;
	}
	if (is_authority(s, true, true))
		return 0;
	(void)buf_appendf(reason, "has \"");
	append_shown(reason, s);
	(void)buf_appendf(reason, "\", which is none of ADDRESS:PORT, [IPv6]:PORT and unix:/PATH");
	return -EINVAL;
}

static int check_listen(const void *value, struct buf *reason)
{
	const struct config_list *list = value;

	if (list->count == 0)
		return no(reason, "names no address to serve on");
	for (size_t i = 0; i < list->count; i++)
		if (check_listen_word(list->words[i], reason) < 0)
			return -EINVAL;
	return 0;
}

static int check_hosts(const void *value, struct buf *reason)
{
	const struct config_list *list = value;

	for (size_t i = 0; i < list->count; i++)
		if (!is_authority(str_from(list->words[i]), false, false)) {
			(void)buf_appendf(reason, "has \"");
			append_shown(reason, str_from(list->words[i]));
			return no(reason, "\", which is neither HOST nor HOST:PORT");
		}
	return 0;
}

/* PATTERN=MODE; the pattern may hold an equals sign itself. */
static int check_modes(const void *value, struct buf *reason)
{
	const struct config_list *list = value;

	for (size_t i = 0; i < list->count; i++) {
		struct str word = str_from(list->words[i]);
		const char *equals = memrchr(word.ptr, '=', word.len);

		if (equals && equals != word.ptr &&
		    value_is_infer_mode(str_from_range(equals + 1, word.ptr + word.len)))
			continue;
		(void)buf_appendf(reason, "has \"");
		append_shown(reason, word);
		return no(reason, "\", which is not PATTERN=MODE, with a mode of inference.mode");
	}
	return list->count <= 256 ? 0 : no(reason, "has more than 256 patterns");
}

/* Stars only in front: "*.example.org". A lone star would send us wherever an answer points to. */
static int check_redirect_hosts(const void *value, struct buf *reason)
{
	const struct config_list *list = value;

	for (size_t i = 0; i < list->count; i++) {
		struct str host = str_from(list->words[i]);

		if (str_starts_with(host, STR("*.")))
			host = (struct str){ host.ptr + 2, host.len - 2 };
		if (!is_authority(host, false, false)) {
			(void)buf_appendf(reason, "has \"");
			append_shown(reason, str_from(list->words[i]));
			return no(reason, "\", which is neither HOST nor *.DOMAIN");
		}
	}
	return 0;
}

/*
 * http(s)://HOST[:PORT], with or without a last slash; no user, path, query or fragment. No token stands in
 * a file.
 */
static int check_origin(const void *value, struct buf *reason)
{
	struct str url = str_from(*(char *const *)value);
	struct str authority, path;

	if (str_starts_with(url, STR("https://")))
		url = (struct str){ url.ptr + 8, url.len - 8 };
	else if (str_starts_with(url, STR("http://")))
		url = (struct str){ url.ptr + 7, url.len - 7 };
	else
		return no(reason, "must begin with http:// or https://");
	(void)str_cut(url, '/', &authority, &path);
	if (memchr(authority.ptr, '@', authority.len))
		return no(reason, "must name no user and no password: clients send their own tokens");
	if (path.len)
		return no(reason, "must end after HOST or HOST:PORT: a path cannot be part of it");
	if (!is_authority(authority, false, false))
		return no(reason, "has no valid HOST or HOST:PORT");
	return 0;
}

static int check_origin_or_none(const void *value, struct buf *reason)
{
	return **(char *const *)value ? check_origin(value, reason) : 0;
}

static int check_path_or_none(const void *value, struct buf *reason)
{
	const char *path = *(char *const *)value;

	if (path[0] == 0 || path[0] == '/')
		return 0;
	return no(reason, path[0] == '~' ? "must be an absolute path; ~ is not expanded here"
					 : "must be an absolute path, one that begins with /");
}

static int check_readable_or_none(const void *value, struct buf *reason)
{
	const char *path = *(char *const *)value;
	int r = check_path_or_none(value, reason);

	if (r < 0 || path[0] == 0 || access(path, R_OK) == 0)
		return r;
	(void)buf_appendf(reason, "cannot be read (%s)", log_errno_name(-errno));
	return -EINVAL;
}

/* A file below the folder of credentials: one name, as the service manager takes it. */
static int check_credential_or_none(const void *value, struct buf *reason)
{
	const char *name = *(char *const *)value;

	if (name[0] == '.' || strchr(name, '/') || strlen(name) > 255)
		return no(reason, "must be the name of a credential, without a folder");
	if (str_starts_with(str_from(name), STR("hf_")))
		return no(reason, "must be the name of a credential, never the token itself");
	return 0;
}

/* As an origin, but that a path may follow: the server may stand below one. */
static int check_backend_url(const void *value, struct buf *reason)
{
	struct str url = str_from(*(char *const *)value), authority, path;
	SCOPED_FREE char *origin = NULL;
	size_t scheme = str_starts_with(url, STR("https://")) ? 8 : 7;

	if (url.len == 0)
		return 0; /* not said yet: named.c asks for it at the end */
	if (url.len <= scheme)
		return check_origin(value, reason);
	(void)str_cut((struct str){ url.ptr + scheme, url.len - scheme }, '/', &authority, &path);
	for (size_t i = 0; i < path.len; i++)
		if (strchr("?# \t\\", path.ptr[i]))
			return no(reason, "must be http(s)://HOST[:PORT][/PATH], without a query");
	origin = xasprintf("%.*s", (int)(scheme + authority.len), url.ptr);
	return check_origin(&(char *const){ origin }, reason);
}

/* It goes into one field's value; "credential:NAME" is looked for when it is read. */
static int check_backend_key(const void *value, struct buf *reason)
{
	struct str key = str_from(*(char *const *)value);

	if (str_starts_with(key, STR("credential:")))
		return check_credential_or_none(&(char *const){ (char *)(uintptr_t)key.ptr + 11 }, reason);
	for (size_t i = 0; i < key.len; i++)
		if (key.ptr[i] <= ' ' || key.ptr[i] > '~')
			return no(reason, "must be one word of visible ASCII characters");
	return 0;
}

/* An option has a function, or a smallest and largest number with how to say them. */
static const struct check {
	unsigned family;
	size_t offset; /* of the member: a renamed option then does not compile */
	int (*check)(const void *value, struct buf *reason);
	uint64_t min, max;
	const char *range;
} checks[] = {
#define CHECK(field, ...)                                                                                    \
	{                                                                                                    \
		FAMILY_NONE, offsetof(struct config, field), __VA_ARGS__                                     \
	}
#define RANGE(field, min, max, text)                                                                         \
	{                                                                                                    \
		FAMILY_NONE, offsetof(struct config, field), NULL, min, max, text                            \
	}
	CHECK(server_listen, check_listen),
	CHECK(server_public_url, check_origin_or_none),
	CHECK(server_hosts, check_hosts),
	CHECK(storage_path, check_path_or_none),
	CHECK(hub_url, check_origin),
	CHECK(hub_viewer_url, check_origin_or_none),
	CHECK(inference_url, check_origin_or_none),
	CHECK(inference_modes, check_modes),
	CHECK(hub_redirect_hosts, check_redirect_hosts),
	CHECK(hub_space_hosts, check_redirect_hosts),
	CHECK(hub_ca_file, check_readable_or_none),
	CHECK(hub_token_credential, check_credential_or_none),
	CHECK(hub_token_client_keys, check_credential_or_none),
	CHECK(offline_acl_file, check_path_or_none),
	RANGE(server_threads, 0, 1024, "0 to 1024"),
	RANGE(server_max_connections, 1, 1000000, "1 to 1000000"),
	RANGE(server_head_timeout, 100, 10 * MINUTE, "100ms to 10m"),
	RANGE(server_idle_timeout, 1 * SECOND, 1 * DAY, "1s to 1d"),
	RANGE(server_drain_timeout, 0, 1 * HOUR, "0 to 1h"),
	RANGE(hub_connect_timeout, 100, 5 * MINUTE, "100ms to 5m"),
	RANGE(hub_revision_ttl, 0, 365 * DAY, "0 to 365d"),
	RANGE(hub_metadata_ttl, 0, 365 * DAY, "0 to 365d"),
	RANGE(hub_public_ttl, 1 * SECOND, 365 * DAY, "1s to 365d"),
	RANGE(hub_grant_ttl, 1 * SECOND, 365 * DAY, "1s to 365d"),
	RANGE(hub_deny_ttl, 0, 365 * DAY, "0 to 365d"),
	RANGE(offline_grace, 0, 3650 * DAY, "0 to 3650d"),
	{ CONFIG_BACKEND, offsetof(struct config_backend, backend_url), check_backend_url },
	{ CONFIG_SPACE, offsetof(struct config_space, space_url), check_backend_url },
	{ CONFIG_BACKEND, offsetof(struct config_backend, backend_key), check_backend_key },
	{ CONFIG_BACKEND, offsetof(struct config_backend, backend_timeout), NULL, 0, 1 * HOUR, "0 to 1h" },
	{ CONFIG_BACKEND, offsetof(struct config_backend, backend_concurrency), NULL, 0, 10000,
	  "0 to 10000" },
#undef CHECK
#undef RANGE
};

static int check_range(const struct check *check, uint64_t number, struct buf *reason)
{
	if (number >= check->min && number <= check->max)
		return 0;
	(void)buf_appendf(reason, "is outside of %s", check->range);
	return -EINVAL;
}

int value_check(const struct option *o, const void *owner, struct buf *ret_reason)
{
	const void *value = (const char *)owner + o->offset;

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		if (checks[i].offset != o->offset || checks[i].family != o->family)
			continue;
		if (checks[i].check)
			return checks[i].check(value, ret_reason);
		return check_range(&checks[i], *(const uint64_t *)value, ret_reason);
	}
	return 0;
}
