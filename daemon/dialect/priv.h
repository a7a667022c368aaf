/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/priv - helpers on JSON as written, shared by the files of this room.
 */
#pragma once
#include "dialect/dialect.h"

/* The value as written of a member of an object as written; ptr NULL without one. */
struct str raw_get(struct str object, const char *name);
/* Without the white space around it. */
struct str raw_trim(struct str text);
bool raw_is_string(struct str raw);
bool raw_is_null(struct str raw); /* also: not there */
/* Between the quotes of a string as written: such pieces may be joined, also in the middle of a surrogate pair. */
struct str raw_inside(struct str raw);
/* A whole number as written; fallback when it is none. */
uint64_t raw_u64(struct str raw, uint64_t fallback);
/* Checks that text is one JSON value that the raw_ calls may walk. */
bool raw_is_json(struct str text);
/* ,"name":value, without the comma at the beginning of an object. */
void put_member(struct buf *out, const char *name, struct str raw);
/* The same with a name as written, quotes included. */
void put_raw(struct buf *out, struct str name, struct str value);
/* The member of this name of an object as written, if it is there. */
void put_from(struct buf *out, struct str object, const char *name);
void put_event(struct buf *out, struct str data);
void put_named_event(struct buf *out, const char *name, struct str data);

/* embeddings.c: appends the bytes that base64 text stands for. Returns 0; -EPROTO; -E2BIG. */
int take_base64(struct str text, struct buf *out);

/* chat_merge.c, chat_split.c: chat and completions */
int chat_merge(enum dialect d, struct str events, struct buf *out);
int chat_split(enum dialect d, struct str whole, bool wants_usage, struct buf *out);
/* generate.c: token streams of TGI */
int generate_merge(struct str events, struct buf *out);
int generate_split(struct str whole, struct buf *out);
/* responses.c, messages.c */
int responses_merge(struct str events, struct buf *out);
int responses_split(struct str whole, struct buf *out);
int messages_merge(struct str events, struct buf *out);
int messages_split(struct str whole, struct buf *out);
