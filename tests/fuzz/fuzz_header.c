/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz entry for fields. Input: lines "name: value". What is added can be sent; hop-by-hop names are found.
 */
#include <assert.h>

#include "common/http/header.h"

#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_field(const struct header_field *f)
{
	assert(header_name_is_token(str_from(f->name)));
	assert(!strpbrk(f->value, "\r\n"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str rest = { (const char *)data, size };
	struct headers h, copy;
	size_t added = 0;

	headers_init(&h);
	headers_init(&copy);
	while (rest.len) {
		struct str line, name, value;

		str_cut(rest, '\n', &line, &rest);
		str_cut(line, ':', &name, &value);
		added += headers_add(&h, name, str_trim(value)) == 0;
	}
	assert(h.count == added);
	for (size_t i = 0; i < h.count; i++)
		check_field(&h.fields[i]);
	headers_copy(&copy, &h);
	for (size_t i = 0; i < h.count; i++) {
		struct str name = str_from(h.fields[i].name);

		if (header_is_hop_by_hop(&h, name))
			headers_remove(&copy, name);
		else if (headers_get(&copy, name).ptr)
			headers_set(&copy, name, headers_get(&copy, name));
		assert(headers_count_of(&copy, name) <= 1);
	}
	headers_done(&copy);
	headers_done(&h);
	return 0;
}
