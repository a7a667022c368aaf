/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address - which network addresses a name that others chose may lead to: a redirect's (reliability U08), a tunnel's. Pure.
 *
 * Checked when the socket is opened, after the name was resolved: what a name means is for others to say.
 */
#pragma once
#include <sys/socket.h>
#include "common/str.h"

/* Without port and scope; IPv4 inside IPv6 (mapped, 6to4, NAT64) is kept as the IPv4 address it stands for.
 * */
struct address {
	int family; /* AF_INET, AF_INET6; 0: none */
	uint8_t bytes[16];
};

/* From the host of an origin: "10.0.0.1", "[::1]". Returns 0; -EINVAL for a name. */
int address_parse(struct str host, struct address *ret_address);
/* Returns 0; -EINVAL for other families. */
int address_from_socket(const struct sockaddr *sa, socklen_t len, struct address *ret_address);
bool address_eq(const struct address *a, const struct address *b);
/* Loopback, private, link-local (metadata services), shared, unique local, multicast, reserved: anything
 * that is not the
 * open Internet. */
bool address_is_internal(const struct address *a);
