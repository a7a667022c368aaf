/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes - an immutable byte string shared by count: small bodies, cached documents.
 * Threads: ref and unref from any; the contents never change after bytes_new_take().
 */
#pragma once
#include "common/scope.h"
#include "common/str.h"

struct bytes;

/* Takes memory that came from malloc. */
struct bytes *bytes_new_take(char *data, size_t len);
struct bytes *bytes_new_copy(struct str s);
struct bytes *bytes_ref(struct bytes *b);
struct bytes *bytes_unref(struct bytes *b); /* returns NULL */
struct str
bytes_str(const struct bytes *b); /* borrowed while a reference is held; NULL gives the empty string */
DEFINE_SCOPE(struct bytes *, bytes_unref);
