/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ca/names - host names, and what a certificate's own name constraints say of them (RFC 5280 4.2.1.10).
 */
#include "ca/priv.h"

#include <openssl/x509v3.h>

#include "common/banned.h"

/* A single label would be a top-level domain, with everything below it. */
bool ca_name_is_sound(struct str name)
{
	if (!host_is_name(name) || !memchr(name.ptr, '.', name.len) || name.ptr[name.len - 1] == '.')
		return false;
	for (size_t i = 0; i < name.len; i++)
		if (name.ptr[i] >= 'A' && name.ptr[i] <= 'Z')
			return false;
	return true;
}

/* Is name the base or below it? The empty base takes every name. */
static bool is_within(struct str name, struct str base)
{
	if (base.len && base.ptr[0] == '.') /* only below: what some programs write */
		return name.len > base.len &&
		       str_eq_nocase((struct str){ name.ptr + name.len - base.len, base.len }, base);
	if (base.len == 0)
		return true;
	if (name.len < base.len ||
	    !str_eq_nocase((struct str){ name.ptr + name.len - base.len, base.len }, base))
		return false;
	return name.len == base.len || name.ptr[name.len - base.len - 1] == '.';
}

/* Is there a DNS name among the trees, and does one hold this name? */
static bool are_within(STACK_OF(GENERAL_SUBTREE) * trees, struct str name, bool *ret_any)
{
	bool found = false;

	*ret_any = false;
	for (int i = 0; i < sk_GENERAL_SUBTREE_num(trees); i++) {
		const GENERAL_NAME *base = sk_GENERAL_SUBTREE_value(trees, i)->base;

		if (base->type != GEN_DNS)
			continue;
		*ret_any = true;
		found = found ||
			is_within(name, (struct str){ (const char *)ASN1_STRING_get0_data(base->d.dNSName),
						      (size_t)ASN1_STRING_length(base->d.dNSName) });
	}
	return found;
}

bool names_permit(X509 *certificate, struct str name)
{
	int critical = 0;
	NAME_CONSTRAINTS *c = X509_get_ext_d2i(certificate, NID_name_constraints, &critical, NULL);
	bool any = false, is_permitted;

	if (!c)
		return critical == -1; /* -1: there are none; -2: more than one, else: not readable */
	is_permitted = are_within(c->permittedSubtrees, name, &any) || !any;
	is_permitted = is_permitted && !are_within(c->excludedSubtrees, name, &any);
	NAME_CONSTRAINTS_free(c);
	return is_permitted;
}
