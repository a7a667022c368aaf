/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rights - what the options say about who may see what: read, checked as a whole, and handed to auth.
 *
 * Owns      the reading of offline.acl-file and of credentials, and what must be true of those files.
 * Never     prints a token, or a word of a file that may hold one.
 * Threads   the main thread only.
 */
#pragma once
#include "auth/auth.h"
#include "config/config.h"

struct rights {
	struct auth_rules rules; /* its acl and lender are owned */
	bool is_reachable;       /* other machines can connect, and nothing encrypts what they send */
	char *backend_keys
		[CONFIG_NAMED_MAX]; /* owned; of the config's backends, in their order; NULL: it has none */
};
/* Returns 0 and the caller's rights; -EINVAL with a line for each error in `errors`, as config_load(). */
int rights_load(const struct config *config, struct rights **ret_rights, struct buf *errors);
void rights_free(struct rights *r);
/* Says in the log what an administrator must not overlook. */
void rights_warn(const struct rights *r);
/* --subject: a token from standard input to what stands for it in lists and logs. Returns an exit code. */
int rights_print_subject(const char *store_path);
