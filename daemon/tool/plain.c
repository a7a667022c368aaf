/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool/plain - foreign bytes on their way to a terminal, or to lines that other programs read.
 *
 * What names and sentences hold is for the Hub to say, and for whoever answers at the daemon's address: they must not move the
 * cursor, begin a line of their own, nor turn round how the rest of it reads.
 * Threads   one.
 */
#include "tool/priv.h"

#include <inttypes.h>
#include "common/alloc.h"

#include "common/banned.h"

/* No control character of ASCII or of Latin-1, nothing that ends lines or says which way text runs. */
static bool is_plain(uint32_t code)
{
	return code >= 0x20 && (code < 0x7f || code > 0x9f) && code != 0x61c && code != 0x200e &&
	       code != 0x200f && !(code >= 0x2028 && code <= 0x202e) && !(code >= 0x2066 && code <= 0x2069);
}

/* Bytes at the start that are one plain character; 0: none. *ret_len: what is to be written otherwise. */
static size_t plain_length(struct str s, size_t *ret_len)
{
	uint32_t code = 0;
	size_t n = str_utf8_next(s, &code);

	*ret_len = n ? n : 1;
	return n && is_plain(code) ? n : 0;
}

bool is_plain_text(struct str text)
{
	size_t n = 1, ignored;

	while (n && text.len) {
		n = plain_length(text, &ignored);
		text.ptr += n;
		text.len -= n;
	}
	return n > 0;
}

void print_plain(FILE *out, struct str text)
{
	while (text.len) {
		size_t len, n = plain_length(text, &len);

		if (n)
			(void)fwrite(text.ptr, 1, n, out);
		for (size_t i = 0; n == 0 && i < len; i++)
			(void)fprintf(out, "\\x%02X", (unsigned char)text.ptr[i]);
		text.ptr += len;
		text.len -= len;
	}
}

char *plain_text(const char *text)
{
	char *plain = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&plain, &len);

	if (!out)
		return xstrdup("?");
	print_plain(out, str_from(text));
	if (fclose(out) == 0)
		return plain;
	free(plain);
	return xstrdup("?");
}

void print_plain_lines(FILE *out, struct str text)
{
	struct str line;

	while (str_cut(text, '\n', &line, &text)) {
		print_plain(out, line);
		(void)fputc('\n', out);
	}
	print_plain(out, line);
}

/* xargs takes blanks, quotes and backslashes for its own; no name has a %, so that none can be made to be meant. */
void print_word(FILE *out, struct str word)
{
	for (size_t i = 0; i < word.len; i++) {
		unsigned char c = (unsigned char)word.ptr[i];
		bool is_of_names = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
				   (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '/';

		(void)(is_of_names ? fprintf(out, "%c", c) : fprintf(out, "%%%02X", c));
	}
}

/* JSON has names of its own for them. Outside its strings there are none. */
void print_answer(FILE *out, struct str json)
{
	while (json.len) {
		uint32_t code = 0;
		size_t n = str_utf8_next(json, &code);

		if (n == 0)
			(void)fputs("\\ufffd", out);
		else if (code == '\n' || code == '\t' || is_plain(code))
			(void)fwrite(json.ptr, 1, n, out);
		else if (code != '\r') /* between its lines, from somebody else's hand */
			(void)fprintf(out, "\\u%04" PRIx32, code);
		json.ptr += n ? n : 1;
		json.len -= n ? n : 1;
	}
}
