/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etag - entity tags and the conditions on them (RFC 9110 8.8.3, 13.1). Pure.
 */
#pragma once
#include "common/str.h"

/* The opaque part of one tag: without W/ and quotes. Returns 0 or -EINVAL. ret_is_weak may be NULL. */
int etag_parse(struct str value, struct str *ret_opaque, bool *ret_is_weak);
/* If-None-Match: does the list (or "*") hold this opaque tag, by weak comparison? Malformed parts match
 * nothing. */
bool etag_list_matches(struct str list, struct str opaque);
/* If-Range with a tag: strong comparison. A date or anything malformed: false. */
bool etag_if_range_matches(struct str value, struct str opaque);
