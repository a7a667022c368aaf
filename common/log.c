/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log - one line an event. The form of a line is in the door.
 *
 * Owns      the level and the counters of lines: the only globals of the program.
 * Never     waits for memory or a lock: a line is built on the stack and goes out with one write.
 * Threads   any; lines of two threads never mix, as each is one write.
 * Promises  (1) one event is one line of at most 8 KiB, whatever its values hold.
 *           (2) what was left out is visible: "…" ends a cut value, cut=yes ends a cut line.
 *           (3) no byte of a value can move a cursor, change a colour or the direction of the text.
 */
#include "common/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

#include "common/banned.h"

#define LINE_BYTES_MAX 8192
/* One long value must not push the ones after it out of the line. A path of 4096 plain bytes still fits. */
#define VALUE_BYTES_MAX 4352
#define CUT_MARK " cut=yes\n"
#define LEVEL_COUNT (LOG_LEVEL_DEBUG + 1)

static _Atomic int current_level = LOG_LEVEL_INFO;
static _Atomic uint64_t line_counts[LEVEL_COUNT];

static const char *const level_names[LEVEL_COUNT] = { "error", "warning", "info", "debug" };
/* syslog's numbers, which the journal reads from the start of a line */
static const char level_priorities[LEVEL_COUNT] = { '3', '4', '6', '7' };

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

int log_level_parse(struct str s, enum log_level *ret_level)
{
	for (unsigned i = 0; i < LEVEL_COUNT; i++)
		if (str_eq(s, str_from(level_names[i]))) {
			*ret_level = (enum log_level)i;
			return 0;
		}
	return -EINVAL;
}

uint64_t log_count(enum log_level level)
{
	assert(level < LEVEL_COUNT);
	return atomic_load_explicit(&line_counts[level], memory_order_relaxed);
}

const char *log_errno_name(int r)
{
	const char *name = strerrorname_np(r < 0 ? -r : r);

	return name ? name : "EUNKNOWN";
}

struct line {
	char bytes[LINE_BYTES_MAX];
	size_t len;
	bool is_cut;
};

/* All of it or nothing, so that no escape is ever cut in two; keeps room for a closing quote and the mark. */
static void put(struct line *l, const char *bytes, size_t len)
{
	if (l->is_cut || len > sizeof(l->bytes) - sizeof(CUT_MARK) - 1 - l->len) {
		l->is_cut = true;
		return;
	}
	memcpy(l->bytes + l->len, bytes, len);
	l->len += len;
}

static void __attribute__((format(printf, 2, 3))) putf(struct line *l, const char *format, ...)
{
	char text[64];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	put(l, text, len < (int)sizeof(text) ? (size_t)len : sizeof(text) - 1);
}

/* Printable, and neither invisible nor able to turn the direction of what follows. */
static bool is_harmless(uint32_t code)
{
	if (code < 0xa0)
		return code >= ' ' && code < 0x7f;
	if (code == 0xad || code == 0x61c || code == 0xfeff || code == 0x180e)
		return false;
	if ((code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
	    (code >= 0x2060 && code <= 0x206f))
		return false;
	if ((code >= 0xd800 && code <= 0xf8ff) || (code >= 0xfff0 && code <= 0xfffb) || code >= 0xe0000)
		return false;
	return (code & 0xfffe) != 0xfffe;
}

static bool needs_quotes(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '=')
			return true;
	}
	return s.len == 0;
}

/* One character in its escaped form; returns how many bytes of s it was. */
static size_t put_char(struct line *l, struct str s)
{
	unsigned char c = (unsigned char)s.ptr[0];
	uint32_t code;
	size_t len = str_utf8_next(s, &code);

	if (c == '"' || c == '\\')
		putf(l, "\\%c", c);
	else if (c == '\n')
		put(l, "\\n", 2);
	else if (c == '\r')
		put(l, "\\r", 2);
	else if (c == '\t')
		put(l, "\\t", 2);
	else if (len && is_harmless(code))
		put(l, s.ptr, len);
	else if (len > 1)
		putf(l, "\\u{%" PRIx32 "}", code);
	else
		putf(l, "\\x%02x", c);
	return len ? len : 1;
}

static void put_value(struct line *l, struct str s)
{
	size_t start = l->len;
	bool is_short = s.len <= VALUE_BYTES_MAX;

	if (is_short && !needs_quotes(s)) {
		put(l, s.ptr, s.len);
		if (!l->is_cut)
			return;
		l->is_cut = false; /* too long for what is left of the line: show what fits */
	}
	put(l, "\"", 1);
	while (s.len && !l->is_cut && l->len - start < VALUE_BYTES_MAX) {
		size_t used = put_char(l, s);

		s.ptr += used;
		s.len -= used;
	}
	if (l->is_cut && l->len > start)
		l->bytes[l->len++] = '"'; /* put() kept this byte free */
	else
		put(l, s.len ? "…\"" : "\"", s.len ? sizeof("…") : 1);
}

static void put_field(struct line *l, const struct log_field *f)
{
	put(l, " ", 1);
	put(l, f->key, strlen(f->key));
	put(l, "=", 1);
	if (f->type == LOG_FIELD_STR)
		put_value(l, f->str);
	else if (f->type == LOG_FIELD_U64)
		putf(l, "%" PRIu64, f->u64);
	else
		putf(l, "%" PRId64, (int64_t)f->u64);
}

/* systemd tells us which file the journal's socket is: stderr may have been redirected since. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	struct str device, inode;
	uint64_t dev, ino;
	struct stat st;

	if (!stream || !str_cut(str_from(stream), ':', &device, &inode))
		return false;
	if (parse_u64(device, &dev) < 0 || parse_u64(inode, &ino) < 0 || fstat(STDERR_FILENO, &st) < 0)
		return false;
	return st.st_dev == dev && st.st_ino == ino;
}

static void put_time(struct line *l)
{
	int64_t now_ms = clock_wall_ms(&clock_system);
	time_t now = (time_t)(now_ms / 1000);
	struct tm tm;

	if (!gmtime_r(&now, &tm))
		return;
	putf(l, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
	     tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(now_ms % 1000));
}

static void write_line(const struct line *l)
{
	/*
	 * nobody is left to tell when the log itself cannot be written; a short write loses an end, never the
	 * order
	 */
	while (write(STDERR_FILENO, l->bytes, l->len) < 0 && errno == EINTR)
		;
}

void log_line_fields(enum log_level level, const char *room, const char *event,
		     const struct log_field *fields)
{
	int errno_before = errno;
	struct line l;

	assert(level < LEVEL_COUNT);
	l.len = 0;
	l.is_cut = false;
	if (stderr_is_journal())
		putf(&l, "<%c>", level_priorities[level]);
	else
		put_time(&l);
	putf(&l, "level=%s room=", level_names[level]);
	put_value(&l, str_from(room));
	put(&l, " msg=", 5);
	put_value(&l, str_from(event));
	for (const struct log_field *f = fields; f->type != LOG_FIELD_END; f++)
		put_field(&l, f);
	memcpy(l.bytes + l.len, l.is_cut ? CUT_MARK : "\n", l.is_cut ? sizeof(CUT_MARK) - 1 : 1);
	l.len += l.is_cut ? sizeof(CUT_MARK) - 1 : 1;
	atomic_fetch_add_explicit(&line_counts[level], 1, memory_order_relaxed);
	write_line(&l);
	errno = errno_before;
}
