/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/priv - what the pages share.
 */
#pragma once
#include <stdatomic.h>
#include "admin/admin.h"
#include "common/buf.h"

struct admin {
	struct admin_opts opts;
	char *version;
	char *upstream;
	/* each is right by itself while others read it */
	_Atomic enum offline_access offline_access;
	_Atomic uint64_t offline_grace_ms;
	_Atomic bool lends_token, is_strict, is_reachable;
};

/* Counts and configuration are for the machine itself: not loopback, not the unix socket -> a 403 in reply,
 * false. */
/* A JSON list of sentences: what an administrator should know about his own choices. */
void admin_write_warnings(const struct admin *a, struct buf *out);
bool admin_is_local(const struct request *q, struct reply *r);
