/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ca - the site's own certificate authority: one certificate that clients are told to trust, and short-lived ones for names.
 *
 * Owns      two files: the certificate (0644), and beside it its key (".key" in place of ".pem", 0600).
 * Never     gives the key away, logs it or lets it leave its file and this room's memory; issues for a name that the
 *           certificate's own name constraints do not permit; overwrites what is there.
 * Threads   any; issuing takes well under a millisecond.
 * Promises  (1) the authority is constrained (RFC 5280 4.2.1.10, critical): it can speak for the names it was made for and
 *               names below them, and for no address: who steals its key can impersonate nobody else.
 *           (2) a key file that others than its owner may read is not used (-EPERM).
 *           (3) each file appears whole or not at all, whatever crashes: key first, then the certificate, by rename. A key that
 *               a crash left without a certificate is gone on with.
 *           (4) it signs servers only (extended key usage), and no authority below itself.
 */
#pragma once
#include "common/bytes.h"
#include "common/clock.h"

struct ca;

struct ca_spec {
	const char *const *names; /* what it may speak for: "huggingface.co" (and all below it); NULL ends */
	const char *title;        /* its common name; NULL: "hfcached site CA (HOST, DATE)" */
	unsigned days;            /* 0: 3,650 */
	int64_t now;              /* wall clock */
};
/*
 * Makes a new one. path: of the certificate, ends in ".pem".
 * Returns 0; -EEXIST the certificate is there; -EPERM a key is there that others may read; -EINVAL (names, path); other errno.
 * ret_reason: a sentence for people, free(); only on failure.
 */
int ca_create(const char *path, const struct ca_spec *spec, char **ret_reason);
/*
 * Returns 0; -ENOENT neither file is there; -EPERM promise 2; -EBADMSG they do not belong together or are no CA; -ESTALE it has
 * expired.
 */
int ca_open(const char *path, int64_t now, struct ca **ret_ca, char **ret_reason);
void ca_free(struct ca *ca);
DEFINE_SCOPE(struct ca *, ca_free);

/* Borrowed: the certificate as PEM text; its SHA-256 as "AB:CD:..."; until when it is good, wall clock. */
struct str ca_pem(const struct ca *ca);
const char *ca_fingerprint(const struct ca *ca);
int64_t ca_expires_at(const struct ca *ca);
/* Do its constraints permit this name (lower case)? */
bool ca_covers(const struct ca *ca, struct str name);

/* A certificate for one name and its key, both DER. */
struct ca_leaf {
	struct bytes *certificate, *key;
	int64_t expires_at;
};
void ca_leaf_done(struct ca_leaf *leaf);
/*
 * The leaf for a name: P-256, good from an hour ago for 7 days, kept in memory (256 names) and made anew a day before its end.
 * Returns 0 with the caller's references; -EACCES not covered; -ESTALE the CA has expired; other errno.
 */
int ca_issue(struct ca *ca, struct str name, int64_t now, struct ca_leaf *ret_leaf);
