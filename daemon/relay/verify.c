/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify - is what comes the content that was promised? Heads by the Hub's own words, bytes by their digest; a part
 * of it, which has none, by what the final answer says that it is.
 *
 * Never     believes a CDN about identity: its ETag may be another 64 digits (hub-protocol 2.1).
 * Threads   fetch. It hashes there: this is the rare road of files that do not fit in the store.
 */
#include <errno.h>

#include "common/alloc.h"
#include "common/http/etag.h"
#include "policy/policy.h"
#include "relay/priv.h"

#include "common/banned.h"

void verify_init(struct verify *v, const struct relay_query *q)
{
	const struct content_id *want = q->verify;

	*v = (struct verify){ .want = *want, .range = { 0, want->size }, .is_part = q->range.end > 0 };
	if (v->is_part)
		v->range = q->range;
	v->body_bytes = v->range.end - v->range.first;
	v->is_identified = q->location.len > 0 || q->is_by_digest; /* the Hub named its address */
	if (q->commit.len)
		v->commit = xstrndup(q->commit.ptr, q->commit.len);
	if (v->is_part)
		return;
	v->held_back = policy_held_back_bytes(want->size);
	v->hasher = hasher_new(want->size, want->kind == CONTENT_GIT);
}

void verify_done(struct verify *v)
{
	hasher_free(v->hasher);
	v->hasher = NULL;
	free(v->commit);
	v->commit = NULL;
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

/* Only a name of the same kind can contradict. */
static bool is_of_another(const struct verify *v, struct str etag)
{
	struct content_id named;
	struct str opaque;

	if (etag_parse(etag, &opaque, NULL) < 0 || content_id_parse(opaque, v->want.size, &named) < 0)
		return false;
	return named.kind == v->want.kind && !content_id_eq(&named, &v->want);
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
	struct str commit = headers_get(head->headers, STR("X-Repo-Commit"));
	bool has_file = head->status == 200 || head->status == 206;

	if (size.ptr && check_size(v, size) < 0)
		return -EBADMSG;
	if (v->commit && commit.len && !str_eq_nocase(commit, str_from(v->commit)))
		return -EBADMSG;
	if (linked.ptr)
		return check_etag(v, linked);
	/* the ETag of a redirect may be that of the redirect; and one answer of the Hub that fits is enough */
	if (has_file && etag.ptr && !v->is_identified)
		return check_etag(v, etag);
	/* but for a part its word is all that there is */
	return has_file && v->is_part && etag.ptr && is_of_another(v, etag) ? -EBADMSG : 0;
}

/* Encoded bytes are not the file, and nothing here decodes them (U05). */
static bool is_encoded(const struct fetch_head *head)
{
	struct str coding = headers_get(head->headers, STR("Content-Encoding"));

	if (headers_count_of(head->headers, STR("Content-Encoding")) > 1)
		return true;
	return coding.len && !str_eq_nocase(coding, STR("identity"));
}

/* A part has no digest: all that is known of it must be told, and told once. */
static bool is_wanted_part(const struct verify *v, const struct fetch_head *head)
{
	struct content_range got;

	if (headers_count_of(head->headers, STR("Content-Range")) != 1 ||
	    content_range_parse(headers_get(head->headers, STR("Content-Range")), &got) < 0)
		return false;
	return got.has_size && got.size == v->want.size && got.first == v->range.first &&
	       got.end == v->range.end && head->content_length >= 0;
}

static int check_final_head(const struct verify *v, const struct fetch_head *head)
{
	if (!v->is_identified || is_encoded(head))
		return -EBADMSG;
	if (v->is_part && !is_wanted_part(v, head))
		return -EBADMSG;
	return head->content_length < 0 || (uint64_t)head->content_length == v->body_bytes ? 0 : -EBADMSG;
}

int verify_head(struct verify *v, const struct fetch_head *head)
{
	bool has_good_status = head->is_final ? head->status == (v->is_part ? 206 : 200) : true;
	int r;

	if (!has_good_status)
		return refusal(head->status);
	if (head->is_hub_origin) {
		r = check_hub_head(v, head);
		if (r < 0)
			return r;
	}
	return head->is_final ? check_final_head(v, head) : 0;
}

int verify_body(struct verify *v, const void *bytes, size_t len)
{
	if (len > v->body_bytes - v->received)
		return -EBADMSG;
	v->received += len;
	if (v->hasher)
		hasher_update(v->hasher, bytes, len);
	return 0;
}

int verify_end(struct verify *v)
{
	struct content_id got = { .kind = v->want.kind, .size = v->received };
	struct digest sha256;
	struct git_oid git;

	if (v->received != v->body_bytes)
		return -EBADMSG;
	if (!v->hasher)
		return 0;
	hasher_final(v->hasher, &sha256, v->want.kind == CONTENT_GIT ? &git : NULL);
	if (v->want.kind == CONTENT_GIT)
		got.git = git;
	else
		got.sha256 = sha256;
	return content_id_eq(&got, &v->want) ? 0 : -EBADMSG;
}
