/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/media - what bytes are that came without a type (inference-protocol 2.1, 3.3): some clients name the type of an image
 * or a sound, others do not, and it is the same call.
 */
#include "dialect/dialect.h"

#include "common/banned.h"

struct magic {
	size_t offset;
	struct str bytes;
	const char *type;
};

const char *media_sniff(struct str body)
{
	static const struct magic table[] = {
		{ 0, { "\x89PNG\r\n\x1a\n", 8 }, "image/png" },
		{ 0, { "\xff\xd8\xff", 3 }, "image/jpeg" },
		{ 0, { "GIF8", 4 }, "image/gif" },
		{ 8, { "WEBP", 4 }, "image/webp" },
		{ 0, { "BM", 2 }, "image/bmp" },
		{ 0, { "II*\0", 4 }, "image/tiff" },
		{ 0, { "MM\0*", 4 }, "image/tiff" },
		{ 8, { "WAVE", 4 }, "audio/wav" },
		{ 0, { "fLaC", 4 }, "audio/flac" },
		{ 0, { "OggS", 4 }, "audio/ogg" },
		{ 0, { "ID3", 3 }, "audio/mpeg" },
		{ 0, { "\xff\xfb", 2 }, "audio/mpeg" },
		{ 0, { "\xff\xf3", 2 }, "audio/mpeg" },
		{ 4, { "ftypM4A", 7 }, "audio/mp4" },
		{ 4, { "ftyp", 4 }, "video/mp4" },
		{ 0, { "\x1a\x45\xdf\xa3", 4 }, "video/webm" },
		{ 0, { "%PDF-", 5 }, "application/pdf" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct magic *m = &table[i];

		if (body.len >= m->offset + m->bytes.len &&
		    memcmp(body.ptr + m->offset, m->bytes.ptr, m->bytes.len) == 0)
			return m->type;
	}
	return NULL;
}
