/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth/subject - from an Authorization field to the subject that stands for its token.
 *
 * Bearer in any case and Basic with the token as password are the same subject (hub-protocol S08). Anything
 * else is
 * refused; it never falls back to anonymous (abuse case Z09).
 */
#include "auth/priv.h"

#include <errno.h>
#include <stdio.h>

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
static bool is_token(struct str s)
{
	if (s.len == 0)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] <= ' ' || (unsigned char)s.ptr[i] >= 0x7f)
			return false;
	return true;
}

static void name_subject(const struct auth *a, struct str token, struct subject *s)
{
	struct digest mac;

	hmac_sha256(a->key, sizeof(a->key), token.ptr, token.len, &mac);
	memcpy(s->id, mac.bytes, SUBJECT_BYTES);
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
		if (is_token(password)) {
			name_subject(a, password, s);
			r = 0;
		}
	}
	secret_wipe(plain, sizeof(plain));
	return r;
}

int auth_subject(struct auth *a, const struct headers *request, struct subject *ret_subject)
{
	struct str value = headers_get(request, STR("Authorization"));
	struct subject s = { .fingerprint = "-" };
	struct str scheme, credentials;
	int r;

	if (!value.ptr) {
		*ret_subject = s;
		return 0;
	}
	if (headers_count_of(request, STR("Authorization")) > 1 || value.len > AUTHORIZATION_MAX)
		return -EINVAL;

	str_cut(value, ' ', &scheme, &credentials);
	credentials = str_trim(credentials);
	if (!is_token(credentials))
		return -EINVAL;
	if (str_eq_nocase(scheme, STR("Bearer"))) {
		name_subject(a, credentials, &s);
		r = 0;
	} else if (str_eq_nocase(scheme, STR("Basic"))) {
		r = from_basic(a, credentials, &s);
	} else {
		r = -EINVAL;
	}
	if (r < 0)
		return r;
	s.token = secret_new(value);
	*ret_subject = s;
	return 0;
}

void subject_done(struct subject *s)
{
	s->token = s->token ? secret_unref(s->token) : NULL;
}
