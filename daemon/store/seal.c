/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/seal - small text files that can tell whether they are whole.
 *
 *   hfcached meta 1          the magic line
 *   sha256=…                 key=value lines; keys that are not known are passed over
 *   check=0123456789abcdef   the first 8 bytes of the SHA-256 of all above
 *
 * Never     trusts a byte of them: a disk may give back anything. Pure but for sidecar_read().
 * Threads   any.
 */
#include "store/priv.h"

#include <errno.h>
#include <inttypes.h>

#include "common/path.h"

#include "common/banned.h"

#define SIDECAR_MAGIC STR("hfcached meta 1\n")
#define CHECK_KEY STR("check=")

void check_of(struct str text, char ret_hex[CHECK_HEX + 1])
{
	struct digest d;

	sha256_of(text.ptr, text.len, &d);
	format_hex(d.bytes, CHECK_HEX / 2, ret_hex);
}

int seal_close(struct buf *text)
{
	char check[CHECK_HEX + 1];

	check_of(buf_str(text), check);
	return buf_appendf(text, "check=%s\n", check);
}

int seal_open(struct str text, struct str magic, struct str *ret_body)
{
	size_t tail_len = CHECK_KEY.len + CHECK_HEX + 1;
	char check[CHECK_HEX + 1];
	struct str sealed, tail;

	if (!str_starts_with(text, magic) || text.len < magic.len + tail_len)
		return -EBADMSG;
	sealed = (struct str){ text.ptr, text.len - tail_len };
	tail = (struct str){ text.ptr + sealed.len, tail_len };
	check_of(sealed, check);
	if (!str_starts_with(tail, CHECK_KEY) || tail.ptr[tail_len - 1] != '\n' ||
	    memcmp(tail.ptr + CHECK_KEY.len, check, CHECK_HEX) != 0)
		return -EBADMSG;
	*ret_body = (struct str){ sealed.ptr + magic.len, sealed.len - magic.len };
	return 0;
}

bool seal_next(struct str *body, struct str *ret_key, struct str *ret_value)
{
	struct str line, rest;

	if (!str_cut(*body, '\n', &line, &rest) || !str_cut(line, '=', ret_key, ret_value))
		return false;
	*body = rest;
	return true;
}

int sidecar_encode(const struct blob_meta *meta, struct buf *out)
{
	char sha256[2 * SHA256_BYTES + 1], git[2 * SHA1_BYTES + 1];

	format_hex(meta->sha256.bytes, SHA256_BYTES, sha256);
	format_hex(meta->git.bytes, SHA1_BYTES, git);
	buf_append_str(out, SIDECAR_MAGIC);
	buf_appendf(out, "sha256=%s\nsize=%" PRIu64 "\ngit=%s\n", sha256, meta->size, git);
	return seal_close(out);
}

int sidecar_decode(struct str text, struct blob_meta *ret_meta)
{
	struct blob_meta meta = { .size = 0 };
	bool has_sha256 = false, has_size = false, has_git = false;
	struct str body, key, value;
	int r = seal_open(text, SIDECAR_MAGIC, &body);

	if (r < 0)
		return r;
	while (seal_next(&body, &key, &value)) {
		if (str_eq(key, STR("sha256")))
			has_sha256 = parse_hex(value, meta.sha256.bytes, SHA256_BYTES) == 0;
		else if (str_eq(key, STR("size")))
			has_size = parse_u64(value, &meta.size) == 0;
		else if (str_eq(key, STR("git")))
			has_git = parse_hex(value, meta.git.bytes, SHA1_BYTES) == 0;
	}
	if (body.len || !has_sha256 || !has_size || !has_git)
		return -EBADMSG;
	*ret_meta = meta;
	return 0;
}

int sidecar_read(struct store *s, const struct digest *sha256, struct blob_meta *ret_meta)
{
	char path[FAN_PATH_TEXT];
	struct blob_meta meta;
	SCOPED_BUF text;
	int r;

	buf_init(&text, SIDECAR_BYTES_MAX);
	fan_path(sha256, path);
	r = fs_read_file(s->meta.fd, path, &text);
	if (r == -ENOENT || r == -ENOTDIR)
		return -ENODATA;
	if (r == -E2BIG || r == -ELOOP || r == -EISDIR || r == -EINVAL)
		return -EBADMSG;
	if (r < 0)
		return store_error(s, r);
	r = sidecar_decode(buf_str(&text), &meta);
	if (r < 0)
		return r;
	if (!digest_eq(&meta.sha256, sha256))
		return -EBADMSG;
	*ret_meta = meta;
	return 0;
}
