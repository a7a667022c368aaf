/* SPDX-License-Identifier: Apache-2.0 */
/*
 * head - reads an answer's head line by line, within bounds (reliability U11, U18). Pure.
 *
 * Never     keeps more than 64 KiB or 100 fields; interim answers (1xx) and trailers count as bytes and are
 *           forgotten.
 */
#pragma once
#include "common/http/header.h"

#define HEAD_BYTES_MAX 65536
#define HEAD_FIELDS_MAX 100
#define HEAD_INTERIM_MAX 16

struct head {
	struct headers headers;
	int status;
	size_t bytes;
	unsigned interim;
	bool is_complete;
};

void head_init(struct head *h);
void head_done(struct head *h);
/* One line with its line end. Returns 1 when it ended the head of a non-interim answer; 0; -EPROTO. */
int head_line(struct head *h, struct str line);
/* Of a complete head: -1 when it is not said or the body is chunked. Returns 0; -EPROTO for what is no
 * number or contradicts itself. */
int head_content_length(const struct head *h, int64_t *ret_length);
