/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router/match - a decoded path against a pattern of routes.def. Pure.
 */
#pragma once
#include "hub/hub.h"

#define SEGMENTS_MAX 256

/* A path, split at '/' while raw, each segment decoded once afterwards. */
struct segments {
	struct buf text;               /* owned: the decoded bytes, joined by '/' */
	struct str part[SEGMENTS_MAX]; /* views into text; of a deeper path the last one is all the rest */
	unsigned count;
};

/*
 * path  raw, begins with '/'. A last empty segment ("/-/") is kept as one.
 * Returns 0; -EINVAL broken escapes, "." or "..", NUL, an empty segment in the middle, not UTF-8; -E2BIG
 * longer than 16 KiB.
 */
int segments_split(struct segments *s, struct str path);
void segments_done(struct segments *s);

/* Does it fit? ret_route's strings point into s->text and into ret_repo, which the caller keeps. */
bool pattern_matches(const char *pattern, const struct segments *s, struct buf *ret_repo,
		     struct hub_route *ret_route);
