/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth/subject - from an Authorization field to the subject that stands for its token.
 *
 * Bearer in any case and Basic with the token as password are the same subject (hub-protocol S08). Anything
 * else is
 * refused; it never falls back to anonymous (abuse case Z09), nor to the daemon's own token.
 */
#include "auth/priv.h"

#include <errno.h>
#include <stdio.h>
#include "common/clock.h"

#define AUTHORIZATION_MAX 4096

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The bytes of strict base64 with padding, into out (at least 3/4 of the text). Returns how many or
 * -EINVAL. */
static ssize_t base64_decode(struct str text, uint8_t *out)
{
	size_t n = 0;
	uint32_t bits = 0;
	unsigned have = 0;

	while (text.len > 0 && text.ptr[text.len - 1] == '=')
		text.len--;
	for (size_t i = 0; i < text.len; i++) {
		int v = base64_value(text.ptr[i]);

		if (v < 0)
			return -EINVAL;
		bits = bits << 6 | (uint32_t)v;
		have += 6;
		if (have >= 8) {
			have -= 8;
			out[n++] = (uint8_t)(bits >> have);
		}
	}
	return (ssize_t)n;
}

/* RFC 6750 b64token and what the Hub hands out: printable ASCII without spaces. */
bool token_is_sound(struct str s)
{
	if (s.len == 0)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] <= ' ' || (unsigned char)s.ptr[i] >= 0x7f)
			return false;
	return true;
}

void subject_id(const uint8_t key[SUBJECT_KEY_BYTES], struct str token, uint8_t ret_id[SUBJECT_BYTES])
{
	struct digest mac;

	hmac_sha256(key, SUBJECT_KEY_BYTES, token.ptr, token.len, &mac);
	memcpy(ret_id, mac.bytes, SUBJECT_BYTES);
}

void auth_id_of(const struct auth *a, struct str secret, uint8_t ret_id[SUBJECT_BYTES])
{
	subject_id(a->key, secret, ret_id);
}

static void name_subject(const struct auth *a, struct str token, struct subject *s)
{
	subject_id(a->key, token, s->id);
	(void)snprintf(s->fingerprint, sizeof(s->fingerprint), "%02x%02x%02x", s->id[0], s->id[1], s->id[2]);
}

static int from_basic(const struct auth *a, struct str credentials, struct subject *s)
{
	uint8_t plain[AUTHORIZATION_MAX];
	ssize_t len = base64_decode(credentials, plain);
	struct str user, password;
	int r = -EINVAL;

	if (len > 0) {
		str_cut((struct str){ (char *)plain, (size_t)len }, ':', &user, &password);
		/* some tools put the token into the user's place and leave the password empty */
		if (password.len == 0)
			password = user;
		if (token_is_sound(password)) {
			name_subject(a, password, s);
			r = 0;
		}
	}
	secret_wipe(plain, sizeof(plain));
	return r;
}

/* A key of ours in a token's place: whoever sends it is anonymous to the Hub. */
static void take_key_away(struct subject *s)
{
	memcpy(s->key_id, s->id, SUBJECT_BYTES);
	memset(s->id, 0, SUBJECT_BYTES);
	s->borrows = BORROWS_BY_KEY;
}

static int admit(struct auth *a, struct str value, struct subject *s)
{
	struct lender *l = a->has_lender ? lender_now(a) : NULL;
	bool is_key = l && lender_knows_key(l, s->id);

	lender_unref(l);
	if (a->refuses_clear_tokens && !s->peer.is_sealed && !peer_is_this_machine(&s->peer))
		return -EPERM;
	if (is_key) {
		take_key_away(s);
		return 0;
	}
	if (knocks_wait_ms(&a->knocks, s, clock_mono_ms(a->clock)) > 0)
		return -EBUSY;
	s->token = secret_new(value);
	return 0;
}

static bool may_borrow(struct auth *a, const struct subject *s)
{
	struct lender *l = a->has_lender ? lender_now(a) : NULL;
	bool is_known = l && lender_knows_peer(l, s);

	lender_unref(l);
	return is_known;
}

int auth_subject(struct auth *a, const struct headers *request, struct str client,
		 struct subject *ret_subject)
{
	struct str value = headers_get(request, STR("Authorization"));
	struct subject s = { .fingerprint = "-" };
	struct str scheme, credentials;
	int r;

	peer_parse(client, &s.peer);
	if (!value.ptr) {
		s.borrows = may_borrow(a, &s) ? BORROWS_BY_PEER : BORROWS_NOTHING;
		*ret_subject = s;
		return 0;
	}
	if (headers_count_of(request, STR("Authorization")) > 1 || value.len > AUTHORIZATION_MAX)
		return -EINVAL;

	str_cut(value, ' ', &scheme, &credentials);
	credentials = str_trim(credentials);
	/* some clients without a token send the scheme alone: that names nobody, and nothing is lent to it either */
	if (credentials.len == 0 && str_eq_nocase(scheme, STR("Bearer"))) {
		*ret_subject = s;
		return 0;
	}
	if (!token_is_sound(credentials))
		return -EINVAL;
	if (str_eq_nocase(scheme, STR("Bearer"))) {
		name_subject(a, credentials, &s);
		r = 0;
	} else if (str_eq_nocase(scheme, STR("Basic"))) {
		r = from_basic(a, credentials, &s);
	} else {
		r = -EINVAL;
	}
	if (r == 0)
		r = admit(a, value, &s);
	if (r == 0)
		*ret_subject = s;
	return r;
}

/* --- the daemon's own token --- */

struct lender *lender_now(struct auth *a)
{
	SCOPED_LOCK(&a->lock);

	return lender_ref(a->lender);
}

void auth_lend(struct auth *a, struct subject *s, struct str repo)
{
	struct lender *l;
	bool lends;

	if (s->borrows == BORROWS_NOTHING)
		return;
	l = lender_now(a);
	lends = l && lender_lends_for(l, repo) && !lender_is_refused(l, clock_mono_ms(a->clock));
	s->token = s->token ? secret_unref(s->token) : NULL;
	s->is_lent = lends;
	if (lends) {
		s->token = secret_ref(l->token);
		memcpy(s->id, l->id, SUBJECT_BYTES);
	} else {
		memset(s->id, 0, SUBJECT_BYTES);
	}
	lender_unref(l);
}

bool auth_is_lent_for(struct auth *a, const struct subject *s, struct str repo)
{
	struct lender *l = s->is_lent ? lender_now(a) : NULL;
	bool is_for = l && memcmp(l->id, s->id, SUBJECT_BYTES) == 0 && lender_lends_for(l, repo);

	lender_unref(l);
	return is_for || !s->is_lent;
}

void subject_done(struct subject *s)
{
	s->token = s->token ? secret_unref(s->token) : NULL;
}
