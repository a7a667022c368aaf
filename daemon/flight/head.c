/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight/head - does an upstream answer speak of the bytes that we want? Pure; promises in the header.
 */
#include "flight/head.h"

#include <errno.h>

#include "common/http/etag.h"

#include "common/banned.h"

/* Only an id of our own kind can contradict ours: some Hubs name a regular file by its SHA-256. */
static bool contradicts_id(struct str etag, const struct content_id *id)
{
	struct content_id other;
	struct str opaque;

	if (etag_parse(etag, &opaque, NULL) < 0)
		opaque = etag; /* without quotes: some do that */
	if (content_id_parse(opaque, id->size, &other) < 0 || other.kind != id->kind)
		return false;
	return !content_id_eq(&other, id);
}

static bool contradicts_size(struct str value, uint64_t size)
{
	uint64_t told;

	return value.ptr && parse_u64(str_trim(value), &told) == 0 && told != size;
}

int head_check_identity(const struct fetch_head *head, const struct head_want *want)
{
	struct str etag = headers_get(head->headers, STR("X-Linked-Etag"));
	struct str commit = str_trim(headers_get(head->headers, STR("X-Repo-Commit")));

	if (!etag.ptr)
		etag = headers_get(head->headers, STR("ETag"));
	if (etag.ptr && contradicts_id(str_trim(etag), want->id))
		return -EBADMSG;
	if (contradicts_size(headers_get(head->headers, STR("X-Linked-Size")), want->id->size))
		return -EBADMSG;
	if (want->commit.len && commit.len && !str_eq_nocase(commit, want->commit))
		return -EBADMSG;
	return 0;
}

static int check_whole(const struct fetch_head *head, const struct head_want *want,
		       struct byte_range *ret_body)
{
	if (head->content_length >= 0 && (uint64_t)head->content_length != want->id->size)
		return -EBADMSG;
	*ret_body = (struct byte_range){ 0, want->id->size };
	return 0;
}

static int check_part(const struct fetch_head *head, const struct head_want *want,
		      struct byte_range *ret_body)
{
	struct content_range got;

	if (content_range_parse(headers_get(head->headers, STR("Content-Range")), &got) < 0)
		return -EBADMSG;
	if (got.first >= got.end || got.first != want->first || got.end > want->end)
		return -EBADMSG;
	if (got.has_size && got.size != want->id->size)
		return -EBADMSG;
	if (head->content_length >= 0 && (uint64_t)head->content_length != got.end - got.first)
		return -EBADMSG;
	*ret_body = (struct byte_range){ got.first, got.end };
	return 0;
}

int head_check_body(const struct fetch_head *head, const struct head_want *want, struct byte_range *ret_body)
{
	struct str encoding = str_trim(headers_get(head->headers, STR("Content-Encoding")));

	/* encoded bytes are not the file, and blobs are never decoded (U05) */
	if (encoding.len && !str_eq_nocase(encoding, STR("identity")))
		return -EBADMSG;
	if (headers_count_of(head->headers, STR("Content-Range")) > 1)
		return -EBADMSG;
	return head->status == 206 ? check_part(head, want, ret_body) : check_whole(head, want, ret_body);
}

struct str head_validator(const struct fetch_head *head)
{
	struct str etag = str_trim(headers_get(head->headers, STR("ETag")));
	struct str opaque;
	bool is_weak;

	if (!etag.ptr || etag_parse(etag, &opaque, &is_weak) < 0 || is_weak)
		return STR("");
	return etag;
}

int head_verdict(const struct fetch_head *head)
{
	int status = head->status;

	if (status == 200 || status == 206 || (!head->is_final && status >= 300 && status < 400))
		return 0;
	if (!head->is_hub_origin)
		return -EAGAIN;
	if (status == 401 || status == 403 || status == 451)
		return -EACCES;
	if (status == 404 || status == 410)
		return -ENOENT;
	return -EAGAIN;
}
