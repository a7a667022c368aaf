/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map - byte-string keys to pointers. Not locked: the owner locks.
 */
#pragma once
#include "common/str.h"

struct map;

struct map *map_new(void);
/* free_value may be NULL; called for each value left. */
void map_free(struct map *m, void (*free_value)(void *));
void *map_get(const struct map *m, struct str key);
/* Copies the key; value must not be NULL. Returns the value that was there before, or NULL. */
void *map_put(struct map *m, struct str key, void *value);
/* Returns the value taken out, or NULL. */
void *map_take(struct map *m, struct str key);
size_t map_count(const struct map *m);
/* Visits each; visit may map_take() the key it is given, nothing else. A non-zero return ends the walk and
 * is returned. */
int map_each(struct map *m, int (*visit)(void *ctx, struct str key, void *value), void *ctx);
