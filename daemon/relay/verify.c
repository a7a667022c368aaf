/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify - is what comes the content that was promised? Heads by the Hub's own words, bytes by their digest.
 *
 * Never     believes a CDN about identity: its ETag may be another 64 digits (hub-protocol 2.1).
 * Threads   fetch. It hashes there: this is the rare road of files that do not fit in the store.
 */
#include <errno.h>

#include "common/http/etag.h"
#include "policy/policy.h"
#include "relay/priv.h"

#include "common/banned.h"

void verify_init(struct verify *v, const struct content_id *want)
{
	*v = (struct verify){ .want = *want, .held_back = policy_held_back_bytes(want->size) };
	v->hasher = hasher_new(want->size, want->kind == CONTENT_GIT);
}

void verify_done(struct verify *v)
{
	hasher_free(v->hasher);
	v->hasher = NULL;
}

static int refusal(int status)
{
	switch (status) {
	case 401:
	case 403:
	case 451:
		return -EACCES;
	case 404:
	case 410:
		return -ENOENT;
	case 429:
		return -EBUSY;
	default:
		return -EBADMSG;
	}
}

static int check_etag(struct verify *v, struct str value)
{
	char want[CONTENT_HEX_MAX];
	struct str opaque;

	content_id_hex(&v->want, want);
	if (etag_parse(value, &opaque, NULL) < 0 || !str_eq_nocase(opaque, str_from(want)))
		return -EBADMSG;
	v->is_identified = true;
	return 0;
}

static int check_size(const struct verify *v, struct str value)
{
	uint64_t size;

	return parse_u64(value, &size) == 0 && size == v->want.size ? 0 : -EBADMSG;
}

static int check_hub_head(struct verify *v, const struct fetch_head *head)
{
	struct str linked = headers_get(head->headers, STR("X-Linked-Etag"));
	struct str size = headers_get(head->headers, STR("X-Linked-Size"));
	struct str etag = headers_get(head->headers, STR("ETag"));

	if (size.ptr && check_size(v, size) < 0)
		return -EBADMSG;
	if (linked.ptr)
		return check_etag(v, linked);
	/* the ETag of a redirect may be that of the redirect; and one answer of the Hub that fits is enough */
	if (head->status == 200 && etag.ptr && !v->is_identified)
		return check_etag(v, etag);
	return 0;
}

int verify_head(struct verify *v, const struct fetch_head *head)
{
	struct str coding = headers_get(head->headers, STR("Content-Encoding"));
	bool has_good_status = head->is_final ? head->status == 200 : true;
	int r;

	if (!has_good_status)
		return refusal(head->status);
	if (head->is_hub_origin) {
		r = check_hub_head(v, head);
		if (r < 0)
			return r;
	}
	if (!head->is_final)
		return 0;
	if (!v->is_identified || (coding.len && !str_eq_nocase(coding, STR("identity"))))
		return -EBADMSG;
	return head->content_length < 0 || (uint64_t)head->content_length == v->want.size ? 0 : -EBADMSG;
}

int verify_body(struct verify *v, const void *bytes, size_t len)
{
	if (len > v->want.size - v->received)
		return -EBADMSG;
	v->received += len;
	hasher_update(v->hasher, bytes, len);
	return 0;
}

int verify_end(struct verify *v)
{
	struct content_id got = { .kind = v->want.kind, .size = v->received };
	struct digest sha256;
	struct git_oid git;

	if (v->received != v->want.size)
		return -EBADMSG;
	hasher_final(v->hasher, &sha256, v->want.kind == CONTENT_GIT ? &git : NULL);
	if (v->want.kind == CONTENT_GIT)
		got.git = git;
	else
		got.sha256 = sha256;
	return content_id_eq(&got, &v->want) ? 0 : -EBADMSG;
}
