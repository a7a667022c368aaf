/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/priv - what the pages share.
 */
#pragma once
#include "admin/admin.h"

struct admin {
	struct admin_opts opts;
	char *version;
	char *upstream;
};

/* Counts and configuration are for the machine itself: not loopback, not the unix socket -> a 403 in reply,
 * false. */
bool admin_is_local(const struct request *q, struct reply *r);
