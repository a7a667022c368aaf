/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ca/make - certificates put together: the authority, and one for a name.
 *
 * The authority may sign servers only (extended key usage), only below its names, and no authority below itself.
 */
#include "ca/priv.h"

#include <openssl/ec.h>
#include <openssl/x509v3.h>
#include "common/alloc.h"
#include "common/buf.h"
#include "common/hash.h"

#include "common/banned.h"

/* Clocks of clients are not all right. */
#define BACKDATED_S 3600
#define DEFAULT_DAYS 3650u
#define TITLE_MAX 64u

EVP_PKEY *make_key(void)
{
	return EVP_EC_gen("P-256");
}

/* A CA of the administrator's own may have a key that brings its digest with it. */
static bool sign(X509 *x, EVP_PKEY *key)
{
	int id = EVP_PKEY_get_base_id(key);

	return X509_sign(x, key, id == EVP_PKEY_ED25519 || id == EVP_PKEY_ED448 ? NULL : EVP_sha256()) > 0;
}

static bool set_serial(X509 *x)
{
	uint8_t bytes[16];
	BIGNUM *number;
	bool ok;

	random_bytes(bytes, sizeof(bytes));
	bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40); /* positive, and of one length */
	number = BN_bin2bn(bytes, sizeof(bytes), NULL);
	ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x));
	BN_free(number);
	return ok;
}

static bool set_times(X509 *x, int64_t from, int64_t until)
{
	return ASN1_TIME_set(X509_getm_notBefore(x), (time_t)from) &&
	       ASN1_TIME_set(X509_getm_notAfter(x), (time_t)until);
}

static bool set_subject(X509 *x, const char *title, const char *organization)
{
	X509_NAME *name = X509_get_subject_name(x);
	bool ok = true;

	if (organization)
		ok = X509_NAME_add_entry_by_NID(name, NID_organizationName, MBSTRING_UTF8,
						(const unsigned char *)organization, -1, -1, 0);
	return ok && X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
						(const unsigned char *)title, -1, -1, 0);
}

static bool add(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *e;
	bool ok;

	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = e && X509_add_ext(x, e, -1);
	X509_EXTENSION_free(e);
	return ok;
}

/* No address of either kind, besides the names. */
static void write_constraints(const char *const *names, struct buf *out)
{
	buf_append_str(out, STR("critical"));
	for (; *names; names++)
		buf_appendf(out, ",permitted;DNS:%s", *names);
	buf_append_str(out, STR(",excluded;IP:0.0.0.0/0.0.0.0,excluded;IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0"));
}

static char *title_of(const struct ca_spec *spec)
{
	char host[256] = "", date[16] = "";
	time_t now = (time_t)spec->now;
	struct tm day;
	char *title;

	if (spec->title)
		return xstrndup(spec->title, strnlen(spec->title, TITLE_MAX));
	if (gethostname(host, sizeof(host) - 1) < 0 || !gmtime_r(&now, &day) ||
	    !strftime(date, sizeof(date), "%Y-%m-%d", &day))
		date[0] = 0;
	host[30] = 0; /* the title has room for 64 */
	title = xasprintf("hfcached site CA (%s, %s)", host, date);
	return title;
}

X509 *make_authority(EVP_PKEY *key, const struct ca_spec *spec)
{
	int64_t days = spec->days ? spec->days : DEFAULT_DAYS;
	SCOPED_FREE char *title = title_of(spec);
	SCOPED(X509_free) X509 *x = X509_new();
	SCOPED_BUF constraints;

	buf_init(&constraints, 1 << 20);
	write_constraints(spec->names, &constraints);
	if (!x || buf_error(&constraints) || !X509_set_version(x, X509_VERSION_3) || !set_serial(x) ||
	    !set_times(x, spec->now - BACKDATED_S, spec->now + days * 86400) ||
	    !set_subject(x, title, "hfcached") || !X509_set_issuer_name(x, X509_get_subject_name(x)) ||
	    !X509_set_pubkey(x, key))
		return NULL;
	if (!add(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
	    !add(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") ||
	    !add(x, x, NID_ext_key_usage, "serverAuth") ||
	    !add(x, x, NID_name_constraints, buf_str(&constraints).ptr) ||
	    !add(x, x, NID_subject_key_identifier, "hash") || !sign(x, key))
		return NULL;
	return TAKE_PTR(x);
}

X509 *make_leaf(const struct ca *ca, EVP_PKEY *leaf_key, const char *name, int64_t now, int64_t until)
{
	SCOPED(X509_free) X509 *x = X509_new();
	bool is_titled = strlen(name) <= TITLE_MAX;
	char names[HOST_NAME_MAX_BYTES + 16];

	(void)snprintf(names, sizeof(names), "%sDNS:%s", is_titled ? "" : "critical,", name);
	if (!x || !X509_set_version(x, X509_VERSION_3) || !set_serial(x) ||
	    !set_times(x, now - BACKDATED_S, until) || (is_titled && !set_subject(x, name, NULL)) ||
	    !X509_set_issuer_name(x, X509_get_subject_name(ca->certificate)) || !X509_set_pubkey(x, leaf_key))
		return NULL;
	if (!add(x, ca->certificate, NID_basic_constraints, "critical,CA:FALSE") ||
	    !add(x, ca->certificate, NID_key_usage, "critical,digitalSignature") ||
	    !add(x, ca->certificate, NID_ext_key_usage, "serverAuth") ||
	    !add(x, ca->certificate, NID_subject_alt_name, names) ||
	    !add(x, ca->certificate, NID_subject_key_identifier, "hash") ||
	    !add(x, ca->certificate, NID_authority_key_identifier, "keyid") || !sign(x, ca->key))
		return NULL;
	return TAKE_PTR(x);
}
