/* SPDX-License-Identifier: Apache-2.0 */
/*
 * range - the Range field (RFC 9110 section 14; hub-protocol 2.6, B01-B07; abuse case P16). Pure.
 */
#pragma once
#include "common/str.h"

struct byte_range {
	uint64_t first; /* offset of the first byte */
	uint64_t end;   /* offset after the last byte */
};

enum range_verdict {
	RANGE_NONE, /* no field, bad syntax, unknown unit, several ranges: answer 200 with everything */
	RANGE_ONE,  /* *ret_range is set, clamped to the size, never empty */
	RANGE_UNSATISFIABLE, /* 416 */
};

/*
 * value  of the Range field; ptr NULL when there is none
 * size   of the whole representation in bytes. Size 0 with a valid range is RANGE_NONE (R15).
 */
enum range_verdict range_parse(struct str value, uint64_t size, struct byte_range *ret_range);
/* Is the range open-ended ("bytes=N-")? Pure syntax; false for everything else. */
bool range_is_open(struct str value);

struct content_range {
	uint64_t first, end; /* as above; both 0 for "bytes star/size" */
	uint64_t size;
	bool has_size;
};
/* A Content-Range that upstream sent. Returns 0 or -EINVAL. */
int content_range_parse(struct str value, struct content_range *ret_range);
