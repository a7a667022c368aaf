/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz entry for the head of a CONNECT. What is taken is whole, names a host and a port, says the same whatever follows it, and was
 * not taken, nor refused, before it was whole.
 */
#include <assert.h>
#include <errno.h>

#include "intercept/intercept.h"

#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = { (const char *)data, size }, name, again;
	uint16_t port = 0, other = 0;
	ssize_t len = connect_head_parse(text, &name, &port);

	assert(len == -EAGAIN || len == -EINVAL || (len > 0 && (size_t)len <= size));
	if (len < 0)
		return 0;
	assert(port > 0 && name.len > 0 && name.ptr > text.ptr && name.ptr + name.len < text.ptr + len);
	assert(!memchr(name.ptr, ' ', name.len) && !memchr(name.ptr, '/', name.len) &&
	       !memchr(name.ptr, '@', name.len));
	assert(connect_head_parse((struct str){ text.ptr, (size_t)len }, &again, &other) == len);
	assert(str_eq(name, again) && port == other);
	for (size_t part = 0; part < (size_t)len; part++)
		assert(connect_head_parse((struct str){ text.ptr, part }, &again, &other) == -EAGAIN);
	return 0;
}
