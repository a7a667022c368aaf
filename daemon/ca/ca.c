/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ca - a site CA is made, or opened again after looking whether it may be used.
 *
 * A crash between the two files leaves a key without a certificate, which nobody can have been told to trust: the next
 * ca_create() goes on with it.
 */
#include "ca/priv.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include "common/alloc.h"
#include "common/log.h"

#include "common/banned.h"

static int fail(int error, char **ret_reason, char *reason)
{
	ERR_clear_error();
	*ret_reason = reason;
	return error;
}

/* --- making one --- */

static const char *first_bad_name(const char *const *names)
{
	if (!names || !*names)
		return "";
	for (; *names; names++)
		if (!ca_name_is_sound(str_from(*names)))
			return *names;
	return NULL;
}

/* The key that an earlier try has left, or a new one in its file. */
static int key_for_new(const char *path, EVP_PKEY **ret_key)
{
	int r = read_key(path, ret_key);

	if (r != -ENOENT)
		return r;
	*ret_key = make_key();
	return *ret_key ? write_key(path, *ret_key) : -ENOMEM;
}

int ca_create(const char *path, const struct ca_spec *spec, char **ret_reason)
{
	SCOPED_FREE char *key_file = key_path(path);
	const char *bad = first_bad_name(spec->names);
	SCOPED(EVP_PKEY_free) EVP_PKEY *key = NULL;
	SCOPED(X509_free) X509 *x = NULL;
	int r;

	if (!key_file)
		return fail(-EINVAL, ret_reason,
			    xasprintf("%s: the name of a certificate's file ends in .pem", path));
	if (bad)
		return fail(
			-EINVAL, ret_reason,
			*bad ? xasprintf("a site CA cannot speak for %s: name a host such as huggingface.co",
					 bad)
			     : xstrdup("a site CA needs at least one name to speak for"));
	if (access(path, F_OK) == 0)
		return fail(-EEXIST, ret_reason,
			    xasprintf("%s is there already; move it and its key away first", path));
	r = key_for_new(key_file, &key);
	if (r < 0)
		return fail(r, ret_reason,
			    xasprintf("cannot make the key %s: %s", key_file, log_errno_name(r)));
	x = make_authority(key, spec);
	r = x ? write_certificate(path, x) : -ENOMEM;
	if (r < 0)
		return fail(r, ret_reason,
			    xasprintf("cannot make the certificate %s: %s", path, log_errno_name(r)));
	return 0;
}

/* --- opening it --- */

static void write_fingerprint(struct ca *ca)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	(void)X509_digest(ca->certificate, EVP_sha256(), digest, &len);
	for (unsigned i = 0; i < len && 3 * i + 3 <= sizeof(ca->fingerprint); i++)
		(void)snprintf(ca->fingerprint + (size_t)3 * i, 4, "%02X%s", digest[i],
			       i + 1 < len ? ":" : "");
}

static int64_t seconds_of(const ASN1_TIME *time)
{
	ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
	int days = 0, seconds = 0;
	bool ok = epoch && ASN1_TIME_diff(&days, &seconds, epoch, time);

	ASN1_TIME_free(epoch);
	return ok ? (int64_t)days * 86400 + seconds : 0;
}

static const char *trouble_with(const struct ca *ca)
{
	if (X509_check_ca(ca->certificate) != 1)
		return "it is not the certificate of an authority";
	if (X509_check_private_key(ca->certificate, ca->key) != 1)
		return "its key does not belong to it";
	return NULL;
}

static struct ca *ca_new(X509 *take_certificate, EVP_PKEY *take_key)
{
	struct ca *ca = xcalloc(1, sizeof(*ca));

	ca->certificate = take_certificate;
	ca->key = take_key;
	ca->pem = certificate_text(ca->certificate, &ca->pem_len);
	ca->leaves = map_new();
	ca->expires_at = seconds_of(X509_get0_notAfter(ca->certificate));
	write_fingerprint(ca);
	lock_init(&ca->lock, LOCK_CA);
	return ca;
}

static int explain_key(int error, const char *path, const char *key_file, char **ret_reason)
{
	switch (error) {
	case -ENOENT:
		return fail(-EBADMSG, ret_reason, xasprintf("%s has no key beside it (%s)", path, key_file));
	case -EPERM:
	case -ELOOP:
		return fail(
			-EPERM, ret_reason,
			xasprintf("%s is not used: it must be a file of this user that nobody else may read "
				  "(chmod 600), and if others could, a new CA is due",
				  key_file));
	case -EBADMSG:
		return fail(error, ret_reason,
			    xasprintf("%s holds no private key (in PEM, without a pass phrase)", key_file));
	default:
		return fail(error, ret_reason,
			    xasprintf("cannot read %s: %s", key_file, log_errno_name(error)));
	}
}

int ca_open(const char *path, int64_t now, struct ca **ret_ca, char **ret_reason)
{
	SCOPED_FREE char *key_file = key_path(path);
	SCOPED(EVP_PKEY_free) EVP_PKEY *key = NULL;
	SCOPED(X509_free) X509 *x = NULL;
	SCOPED(ca_free) struct ca *ca = NULL;
	const char *trouble;
	int r;

	if (!key_file)
		return fail(-EINVAL, ret_reason,
			    xasprintf("%s: the name of a certificate's file ends in .pem", path));
	r = read_certificate(path, &x);
	if (r == -ENOENT)
		return fail(r, ret_reason, xasprintf("there is no %s", path));
	if (r == -EBADMSG)
		return fail(r, ret_reason, xasprintf("%s holds no certificate (in PEM)", path));
	if (r < 0)
		return fail(r, ret_reason, xasprintf("cannot read %s: %s", path, log_errno_name(r)));
	r = read_key(key_file, &key);
	if (r < 0)
		return explain_key(r, path, key_file, ret_reason);
	ca = ca_new(TAKE_PTR(x), TAKE_PTR(key));
	trouble = ca->pem ? trouble_with(ca) : "it cannot be written as PEM";
	if (trouble)
		return fail(-EBADMSG, ret_reason, xasprintf("%s cannot be used: %s", path, trouble));
	if (now >= ca->expires_at)
		return fail(
			-ESTALE, ret_reason,
			xasprintf("%s has expired; move it and its key away, and a new one is made", path));
	*ret_ca = TAKE_PTR(ca);
	return 0;
}

void ca_free(struct ca *ca)
{
	if (!ca)
		return;
	leaves_free(ca->leaves);
	X509_free(ca->certificate);
	EVP_PKEY_free(ca->key);
	lock_done(&ca->lock);
	free(ca->pem);
	free(ca);
}

struct str ca_pem(const struct ca *ca)
{
	return (struct str){ ca->pem, ca->pem_len };
}

const char *ca_fingerprint(const struct ca *ca)
{
	return ca->fingerprint;
}

int64_t ca_expires_at(const struct ca *ca)
{
	return ca->expires_at;
}

bool ca_covers(const struct ca *ca, struct str name)
{
	return ca_name_is_sound(name) && names_permit(ca->certificate, name);
}
