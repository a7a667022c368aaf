/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token - secrets where they do not belong: in the target of a request. Pure.
 *
 * A target gets into logs, keys and caches, ours and those of others; a token in it is as good as published.
 */
#pragma once
#include "common/str.h"

/* "hf_" and at least 20 letters and digits, percent-encoded or not. */
bool text_holds_token(struct str text);
/* In path or query; or a parameter that is there to carry one: token, access_token, authorization, api_key. */
bool target_holds_token(struct str target);
