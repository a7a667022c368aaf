/* SPDX-License-Identifier: Apache-2.0 */
/*
 * errors - the only place where an errno becomes a status, an X-Error-Code and a sentence (hub-protocol 3;
 * design P8, P12).
 *
 * The body is {"error":"…"} for API paths and plain text for file paths. Each sentence of ours says which
 * hop failed, which limit,
 * and what to do. Offline ignorance is 503 or 504 with Retry-After: 0 and no code.
 */
#pragma once
#include "reply/reply.h"

enum endpoint_class { ENDPOINT_FILE, ENDPOINT_API, ENDPOINT_GIT, ENDPOINT_OWN };

/* detail: what was asked for, for the sentence ("model.bin of models/acme/pub"); may be empty. */
void reply_error(struct reply *r, const struct request *q, enum endpoint_class class, int error,
		 struct str detail);
/* Our own refusal of a request: status, sentence. */
void reply_refuse(struct reply *r, enum endpoint_class class, int status, const char *sentence);
/* As upstream worded it; adds X-Error-Code: RepoNotFound where the Hub's code-less 401 would confuse
 * clients (E04). */
void reply_refusal(struct reply *r, enum endpoint_class class, const struct refusal *refusal);
/* Upstream's own error answer passed on: status, codes, message, body; RateLimit and Retry-After kept on
 * 429. */
void reply_upstream_error(struct reply *r, enum endpoint_class class, const struct answer *answer);
void reply_entry_not_found(struct reply *r, const char commit[COMMIT_TEXT]);
void reply_revision_not_found(struct reply *r, enum endpoint_class class, struct str revision);
