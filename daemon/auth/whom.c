/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth/whom - whom an administrator means: a token by its keyed hash, an address, a subnet, a user of this machine; and which
 * repos, by pattern.
 *
 * Never     takes a token in the clear: what stands in a configuration is read by many.
 * Threads   any; pure.
 */
#include "auth/priv.h"

#include <arpa/inet.h>
#include <errno.h>

#define ADDRESS_BITS 128
/* ::ffff:a.b.c.d: one form for both families, so that a subnet is one comparison. */
#define V4_PREFIX_BITS 96
#define PATTERN_BYTES_MAX 512

static int parse_address(struct str text, uint8_t ret_address[16], unsigned *ret_bits_before)
{
	char copy[INET6_ADDRSTRLEN];

	if (text.len == 0 || text.len >= sizeof(copy))
		return -EINVAL;
	memcpy(copy, text.ptr, text.len);
	copy[text.len] = 0;
	*ret_bits_before = 0;
	if (inet_pton(AF_INET6, copy, ret_address) == 1)
		return 0;
	memset(ret_address, 0, 10);
	memset(ret_address + 10, 0xff, 2);
	*ret_bits_before = V4_PREFIX_BITS;
	return inet_pton(AF_INET, copy, ret_address + 12) == 1 ? 0 : -EINVAL;
}

static int parse_uid(struct str text, uint32_t *ret_uid)
{
	uint64_t uid;

	if (parse_u64(text, &uid) < 0 || uid >= UINT32_MAX)
		return -EINVAL;
	*ret_uid = (uint32_t)uid;
	return 0;
}

static struct str after(struct str s, size_t bytes)
{
	return (struct str){ s.ptr + bytes, s.len - bytes };
}

void peer_parse(struct str client, struct peer *ret_peer)
{
	unsigned ignored;

	*ret_peer = (struct peer){ .kind = PEER_UNKNOWN };
	if (str_starts_with(client, STR("tls:"))) {
		client = after(client, strlen("tls:"));
		ret_peer->is_sealed = true;
	}
	if (str_starts_with(client, STR("unix:"))) {
		if (parse_uid(after(client, strlen("unix:")), &ret_peer->uid) == 0)
			ret_peer->kind = PEER_UNIX;
	} else if (parse_address(client, ret_peer->address, &ignored) == 0) {
		ret_peer->kind = PEER_ADDRESS;
	}
}

bool peer_is_this_machine(const struct peer *p)
{
	static const uint8_t v6[16] = { [15] = 1 }, v4[13] = { [10] = 0xff, [11] = 0xff, [12] = 127 };

	if (p->kind != PEER_ADDRESS) /* a socket file; a peer that has no address has come over none */
		return true;
	return memcmp(p->address, v6, sizeof(v6)) == 0 || memcmp(p->address, v4, sizeof(v4)) == 0;
}

static int parse_subnet(struct str text, struct whom *w)
{
	struct str address, digits;
	uint64_t bits = ADDRESS_BITS;
	unsigned before;
	bool has_bits = str_cut(text, '/', &address, &digits);

	w->kind = WHOM_SUBNET;
	if (parse_address(address, w->address, &before) < 0)
		return -EINVAL;
	if (has_bits && (parse_u64(digits, &bits) < 0 || bits > ADDRESS_BITS - before))
		return -EINVAL;
	w->bits = has_bits ? before + (unsigned)bits : ADDRESS_BITS;
	return 0;
}

int whom_parse(struct str text, struct whom *ret_whom)
{
	*ret_whom = (struct whom){ .kind = WHOM_SUBJECT };
	if (str_starts_with(text, STR("token:")))
		return parse_hex(after(text, strlen("token:")), ret_whom->subject, SUBJECT_BYTES);
	if (str_starts_with(text, STR("uid:"))) {
		ret_whom->kind = WHOM_UID;
		return parse_uid(after(text, strlen("uid:")), &ret_whom->uid);
	}
	return parse_subnet(text, ret_whom);
}

static bool is_in_subnet(const struct whom *w, const uint8_t address[16])
{
	unsigned whole = w->bits / 8, rest = w->bits % 8;
	uint8_t mask = (uint8_t)(0xff00u >> rest);

	return memcmp(w->address, address, whole) == 0 &&
	       (rest == 0 || ((w->address[whole] ^ address[whole]) & mask) == 0);
}

bool whom_is(const struct whom *w, const struct subject *s)
{
	switch (w->kind) {
	case WHOM_SUBJECT:
		/* what was lent to somebody is not his */
		return s->token && !s->is_lent && secret_eq(w->subject, s->id, SUBJECT_BYTES);
	case WHOM_UID:
		return s->peer.kind == PEER_UNIX && s->peer.uid == w->uid;
	case WHOM_SUBNET:
		return s->peer.kind == PEER_ADDRESS && !s->peer.is_sealed &&
		       is_in_subnet(w, s->peer.address);
	}
	return false;
}

bool client_is_sound(struct str client)
{
	struct whom w;

	return whom_parse(client, &w) == 0 && w.kind != WHOM_SUBJECT;
}

/* --- repos --- */

bool repo_pattern_is_sound(struct str pattern)
{
	static const char *const kinds[] = { "models/", "datasets/", "spaces/", "kernels/" };

	if (pattern.len == 0 || pattern.len > PATTERN_BYTES_MAX)
		return false;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (str_starts_with(pattern, str_from(kinds[i])))
			return pattern.len > strlen(kinds[i]);
	return pattern.ptr[0] == '*';
}

/* Back to the last star as often as it takes: at most length times length steps, and both are short. */
bool repo_pattern_matches(struct str pattern, struct str repo)
{
	size_t p = 0, r = 0, star = SIZE_MAX, resume = 0;

	while (r < repo.len) {
		if (p < pattern.len && pattern.ptr[p] == '*') {
			star = p++;
			resume = r;
		} else if (p < pattern.len && pattern.ptr[p] == repo.ptr[r]) {
			p++;
			r++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			r = ++resume;
		} else {
			return false;
		}
	}
	while (p < pattern.len && pattern.ptr[p] == '*')
		p++;
	return p == pattern.len;
}
