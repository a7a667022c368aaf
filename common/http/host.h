/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host - host names and the patterns that an administrator writes for them. Pure; foreign names come in as they are.
 */
#pragma once
#include "common/str.h"

#define HOST_NAME_MAX_BYTES 253

/* "name:443", "[::1]:443", "name": the part before the port. */
struct str host_without_port(struct str host);
/*
 * Is it a name as TLS and proxies take one: labels of letters, digits, '-' and '_' with dots between, one final dot at most?
 * No address: one of IPv4 has a last label of digits only.
 */
bool host_is_name(struct str host);
/*
 * Do the patterns take this name, in any case? "hub.example.org" itself; "*.example.org" all below it, not itself; "*" every one.
 * patterns: NULL ends; may be NULL. A final dot of the name counts for nothing.
 */
bool host_matches(const char *const *patterns, struct str name);
