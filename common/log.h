/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log - one line an event, key=value, fixed fields first: level, room, then the caller's.
 *
 * Goes to the journal when stderr is connected to it (sd_journal priorities as "<N>" prefixes), else to
 * stderr with a
 * time stamp. Values with spaces, quotes or control bytes are quoted and escaped (abuse case R06), so that
 * one event
 * is one line whatever a client sent.
 * Threads any. The level is the one global of the program.
 * Secrets never: a token is logged as its fingerprint only (auth), a signed URL without its query.
 */
#pragma once
#include "common/str.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* "error" "warning" "info" "debug"; -EINVAL for others. */
int log_level_parse(struct str s, enum log_level *ret_level);
/* Lines written so far per level, for the metric log_messages_total. */
uint64_t log_count(enum log_level level);

/*
 * Writes one line. room: "server", "flight", …; then triples of what the fields are:
 *   log_line(LOG_LEVEL_INFO, "flight", "landed", LOG_STR("repo", repo), LOG_U64("bytes", n), LOG_END);
 * event becomes msg=…; it is a plain sentence for people when the level is warning or error.
 */
struct log_field {
	const char *key;
	enum { LOG_FIELD_END, LOG_FIELD_STR, LOG_FIELD_U64, LOG_FIELD_I64 } type;
	struct str str;
	uint64_t u64;
};
#define LOG_STR(k, v) ((struct log_field){ .key = (k), .type = LOG_FIELD_STR, .str = (v) })
#define LOG_TEXT(k, v) LOG_STR(k, str_from(v))
#define LOG_U64(k, v) ((struct log_field){ .key = (k), .type = LOG_FIELD_U64, .u64 = (v) })
#define LOG_I64(k, v) ((struct log_field){ .key = (k), .type = LOG_FIELD_I64, .u64 = (uint64_t)(int64_t)(v) })
#define LOG_END ((struct log_field){ .type = LOG_FIELD_END })
/* errno as a word: LOG_ERR("error", -ENOSPC). */
#define LOG_ERR(k, r) LOG_TEXT(k, log_errno_name(r))

const char *log_errno_name(int r);
void log_line_fields(enum log_level level, const char *room, const char *event,
		     const struct log_field *fields);
#define log_line(level, room, event, ...)                                                                    \
	do {                                                                                                 \
		if ((level) <= log_get_level())                                                              \
			log_line_fields((level), (room), (event),                                            \
					(const struct log_field[]){ __VA_ARGS__ });                          \
	} while (0)
#define log_error(room, event, ...) log_line(LOG_LEVEL_ERROR, room, event, __VA_ARGS__)
#define log_warning(room, event, ...) log_line(LOG_LEVEL_WARNING, room, event, __VA_ARGS__)
#define log_info(room, event, ...) log_line(LOG_LEVEL_INFO, room, event, __VA_ARGS__)
#define log_debug(room, event, ...) log_line(LOG_LEVEL_DEBUG, room, event, __VA_ARGS__)
