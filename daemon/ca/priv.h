/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ca/priv - what the files of this room share: certificates are put together in make.c, come from and go to files in files.c,
 * are issued in leaf.c; what a certificate's constraints permit is read in names.c.
 */
#pragma once
#include "ca/ca.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include "common/http/host.h"
#include "common/lock.h"
#include "common/map.h"

#define CA_LEAVES_MAX 256u
#define CA_FILE_MAX ((size_t)64 * 1024)

DEFINE_SCOPE(X509 *, X509_free);
DEFINE_SCOPE(EVP_PKEY *, EVP_PKEY_free);
DEFINE_SCOPE(BIO *, BIO_free_all);

struct ca {
	X509 *certificate; /* owned */
	EVP_PKEY *key;     /* owned */
	char *pem; /* owned: written anew from the certificate, so nothing else of the file gets out */
	size_t pem_len;
	char fingerprint[3 * 32];
	int64_t expires_at;
	struct lock lock;   /* guards the next */
	struct map *leaves; /* owned: name -> struct ca_leaf */
};

/* names.c */
/* What a certificate of ours may stand for: a host name in lower case, with a dot and without a final one. */
bool ca_name_is_sound(struct str name);
/* No constraint at all permits everything: a CA of the administrator's own. */
bool names_permit(X509 *certificate, struct str name);

/* make.c; NULL: the library failed, for want of memory or by the system's policy */
EVP_PKEY *make_key(void);
X509 *make_authority(EVP_PKEY *key, const struct ca_spec *spec);
X509 *make_leaf(const struct ca *ca, EVP_PKEY *leaf_key, const char *name, int64_t now, int64_t until);

/* leaf.c */
void leaves_free(struct map *leaves);

/* files.c */
/* "…/ca.pem" to "…/ca.key"; NULL: it does not end in .pem. The caller's. */
char *key_path(const char *path);
/* Returns 0; -ENOENT; -EPERM others may read it, or it is somebody else's; -EBADMSG no key. */
int read_key(const char *path, EVP_PKEY **ret_key);
/* Returns 0; -ENOENT; -EBADMSG no certificate. */
int read_certificate(const char *path, X509 **ret_certificate);
/* Whole and durable under that name, or not at all; -EEXIST. The key is nobody else's from its first byte. */
int write_key(const char *path, EVP_PKEY *key);
int write_certificate(const char *path, X509 *certificate);
/* PEM text of the certificate alone. The caller's. */
char *certificate_text(X509 *certificate, size_t *ret_len);
