/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address - the table of networks that no redirect and no tunnel may reach. Pure.
 */
#include "common/http/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include "common/banned.h"

struct network {
	uint8_t bytes[16];
	unsigned bits;
};

/* IANA special-purpose registries: what is not globally reachable. */
/* clang-format off */
static const struct network internal_v4[] = {
	{ { 0 }, 8 },           /* "this" host: connects to loopback on Linux */
	{ { 10 }, 8 },
	{ { 100, 64 }, 10 },    /* carrier NAT; some clouds keep their metadata here */
	{ { 127 }, 8 },
	{ { 169, 254 }, 16 },   /* link-local; 169.254.169.254 is the clouds' metadata */
	{ { 172, 16 }, 12 },
	{ { 192, 0, 0 }, 24 },
	{ { 192, 168 }, 16 },
	{ { 198, 18 }, 15 },
	{ { 224 }, 3 },         /* multicast, reserved, broadcast */
};
static const struct network internal_v6[] = {
	{ { 0 }, 96 },          /* ::, ::1 and the old "compatible" form */
	{ { 0xfc }, 7 },        /* unique local; fd00:ec2::254 is metadata */
	{ { 0xfe, 0x80 }, 9 },  /* link-local and the old site-local */
	{ { 0xff }, 8 },
};
/* clang-format on */

static bool is_in(const uint8_t *bytes, const struct network *n)
{
	unsigned whole = n->bits / 8, rest = n->bits % 8;

	if (memcmp(bytes, n->bytes, whole) != 0)
		return false;
	return rest == 0 || (bytes[whole] ^ n->bytes[whole]) >> (8 - rest) == 0;
}

static struct address from_v4(const uint8_t *bytes)
{
	struct address a = { .family = AF_INET };

	memcpy(a.bytes, bytes, 4);
	return a;
}

static struct address from_v6(const uint8_t *bytes)
{
	static const struct network mapped = { { [10] = 0xff, 0xff }, 96 };
	static const struct network nat64 = { { 0, 0x64, 0xff, 0x9b }, 96 };
	static const struct network six_to_four = { { 0x20, 0x02 }, 16 };
	struct address a = { .family = AF_INET6 };

	if (is_in(bytes, &mapped) || is_in(bytes, &nat64))
		return from_v4(bytes + 12);
	if (is_in(bytes, &six_to_four))
		return from_v4(bytes + 2);
	memcpy(a.bytes, bytes, 16);
	return a;
}

int address_parse(struct str host, struct address *ret_address)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t bytes[16];
	bool is_v6 = host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';

	if (is_v6) {
		host.ptr++;
		host.len -= 2;
	}
	if (host.len == 0 || host.len >= sizeof(text))
		return -EINVAL;
	memcpy(text, host.ptr, host.len);
	text[host.len] = 0;
	if (inet_pton(is_v6 ? AF_INET6 : AF_INET, text, bytes) != 1)
		return -EINVAL;
	*ret_address = is_v6 ? from_v6(bytes) : from_v4(bytes);
	return 0;
}

int address_from_socket(const struct sockaddr *sa, socklen_t len, struct address *ret_address)
{
	if (sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
		struct sockaddr_in in;

		memcpy(&in, sa, sizeof(in));
		*ret_address = from_v4((const uint8_t *)&in.sin_addr);
		return 0;
	}
	if (sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
		struct sockaddr_in6 in6;

		memcpy(&in6, sa, sizeof(in6));
		*ret_address = from_v6((const uint8_t *)&in6.sin6_addr);
		return 0;
	}
	return -EINVAL;
}

bool address_eq(const struct address *a, const struct address *b)
{
	return a->family == b->family && a->family != 0 && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

bool address_is_internal(const struct address *a)
{
	bool is_v4 = a->family == AF_INET;
	const struct network *networks = is_v4 ? internal_v4 : internal_v6;
	size_t count = is_v4 ? sizeof(internal_v4) / sizeof(*internal_v4)
			     : sizeof(internal_v6) / sizeof(*internal_v6);

	for (size_t i = 0; i < count; i++)
		if (is_in(a->bytes, &networks[i]))
			return true;
	return false;
}
