/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/lesson - what lesson.c and those who teach more than a document know of an answer.
 */
#pragma once
#include "hub/priv.h"

/*
 * The first hop sent us to another name of the repo, and the answer there was good: from here on the lesson is about that repo.
 */
void lesson_follow_alias(struct lesson *l, const struct answer *a);
/* It was asked before a write to the repo that has been answered since. */
bool lesson_is_outdated(const struct lesson *l);
/* It was asked while another repo had this name. */
bool lesson_is_of_another(const struct lesson *l);
/* The daemon's own token was lent for one repo, and the answer is about another. */
bool lesson_is_lent_elsewhere(const struct lesson *l);
/* It opens to all what was closed: first it is asked which repo that is. */
bool lesson_opens_what_was_closed(const struct lesson *l);
/* What repo information tells of its repo; as struct lesson's teach. info.c */
int teach_info(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc);
void lesson_tell_auth(struct lesson *l, const struct answer *a);
/* Before a commit is learned: what only a token has shown need not be open. */
void lesson_doubt_mark(const struct lesson *l, struct str commit);
