/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz entry for the head of an answer to an upgrade. Whatever it is: what is whole ends with an empty line and within the limit,
 * says the same without what follows, and is not whole without its last byte.
 */
#include <assert.h>
#include <errno.h>

#include "splice/answer.h"

#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ssize_t parse(struct str text, int *status, size_t *fields)
{
	struct headers headers;
	ssize_t n;

	headers_init(&headers);
	n = answer_head_parse(text, status, &headers);
	*fields = headers.count;
	headers_done(&headers);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = { (const char *)data, size };
	int status = 0, again = 0;
	size_t fields, fields_again;
	ssize_t n = parse(text, &status, &fields), m;

	if (n < 0) {
		assert(n == -EAGAIN || n == -EPROTO);
		return 0;
	}
	assert(n >= 16 && (size_t)n <= size && n <= (ssize_t)ANSWER_HEAD_MAX);
	assert(status >= 100 && status <= 999 && memcmp(data + n - 4, "\r\n\r\n", 4) == 0);
	m = parse((struct str){ text.ptr, (size_t)n }, &again, &fields_again);
	assert(m == n && again == status && fields_again == fields);
	m = parse((struct str){ text.ptr, (size_t)n - 1 }, &again, &fields_again);
	assert(m == -EAGAIN);
	return 0;
}
