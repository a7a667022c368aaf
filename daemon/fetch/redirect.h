/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redirect - may this answer be followed, and where to? Pure (design 9; reliability U07, U08).
 *
 * Followed  301 302 303 307 308 with a Location, for GET and HEAD; 307 and 308 also for other methods without a
 *           body. Everything else that looks like a redirect is the final answer: a streamed body cannot be
 *           sent twice.
 * Where to  the asked origin (the Hub, or its viewer; here: the hub); a listed host; with a Hub at a loopback or
 *           private address, that address on any port. Never from https to http, never another scheme.
 * Listed    "*.name" stands for names that others make: only the scheme's own port. "name": any port.
 *           "name:8443": that port.
 */
#pragma once
#include "common/http/address.h"
#include "fetch/fetch.h"

#define REDIRECT_HOPS_MAX 5

struct redirect_rules {
	struct origin hub;
	struct address hub_address; /* family 0 unless the Hub's URL names a loopback or private address */
	bool hub_is_localhost;      /* its URL says "localhost" */
	char **hosts;               /* owned by fetch; lower case; NULL ends */
	char **space_hosts; /* likewise: where a transfer for a Space may begin; no redirect leads there */
};

struct redirect_facts {
	const char *method;
	enum fetch_follow follow;
	bool has_body;
	int status;
	unsigned hop;        /* of this answer; 0 is the first */
	struct str base_url; /* what was asked */
	struct str location; /* ptr NULL: there was none */
};

/*
 * ret_url     gets the absolute URL without fragment
 * ret_origin  of that URL
 * Returns 1 follow it; 0 this is the final answer; -EACCES the host or scheme is not allowed; -ELOOP too
 * many hops.
 */
int redirect_decide(const struct redirect_rules *rules, const struct redirect_facts *facts,
		    struct buf *ret_url, struct origin *ret_origin);
/*
 * An absolute URL that the origin gave in an answer: may a transfer begin there? As for a redirect of its first answer.
 * Returns 0; -EACCES.
 */
int redirect_begin(const struct redirect_rules *rules, struct str location, bool is_space,
		   struct buf *ret_url, struct origin *ret_origin);
/* May a connection for this origin go to this address? */
bool redirect_address_ok(const struct redirect_rules *rules, const struct origin *origin,
			 const struct address *to);
