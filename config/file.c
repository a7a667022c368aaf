/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file - one INI file to options. The only file that knows libini_config.
 *
 * What the library does to be known here: it takes names without regard to letter case; a value may hold ;
 * and # (comments stand on lines of their own); with any error in a file it gives out nothing of it; it
 * refuses an empty file, and ends a value at a NUL without a word. So the text is read and looked over here
 * first.
 * Threads   any.
 */
#include "config/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <ini_configobj.h>
#include <ini_valueobj.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/alloc.h"

#include "common/banned.h"

/* A thousand hosts in every list fit. */
#define FILE_BYTES_MAX (1 << 20)

struct file {
	struct draft *d;
	const char *name; /* for messages */
	struct ini_cfgobj *ini;
};

static char *at_line(const char *name, size_t line)
{
	return xasprintf("%s:%zu", name, line);
}

static void error_at(struct draft *d, const char *name, size_t line, const char *text)
{
	SCOPED_FREE char *where = at_line(name, line);

	draft_error(d, where, "%s", text);
}

/* --- before the library ---------------------------------------------------------------------------------- */

static const char *trouble_of_line(struct str line)
{
	uint32_t code;

	while (line.len) {
		size_t len = str_utf8_next(line, &code);

		if (len == 0)
			return "has bytes that are not UTF-8";
		if (code == 0)
			return "has a NUL byte";
		line = (struct str){ line.ptr + len, line.len - len };
	}
	return NULL;
}

static bool is_blank_or_comment(struct str line)
{
	struct str rest = str_trim(line);

	return rest.len == 0 || rest.ptr[0] == '#' || rest.ptr[0] == ';' || rest.ptr[0] == '\r';
}

/*
 * Counts what may come before the first section, and what may not be anywhere. Returns how many lines say
 * something.
 */
static size_t look_over(struct draft *d, const char *name, struct str text)
{
	size_t line_number = 0, meaningful = 0;
	struct str line;

	while (text.len) {
		const char *trouble;

		(void)str_cut(text, '\n', &line, &text);
		line_number++;
		trouble = trouble_of_line(line);
		if (trouble)
			error_at(d, name, line_number, trouble);
		if (is_blank_or_comment(line))
			continue;
		if (meaningful++ == 0 && !str_starts_with(str_trim(line), STR("[")))
			error_at(d, name, line_number, "stands before any [section]");
	}
	return meaningful;
}

/* --- the library ----------------------------------------------------------------------------------------- */

/* "Error (5) on line 10: Equal sign is missing." to our form. What has another form is passed on whole. */
static void note_library_error(struct file *f, const char *text)
{
	struct str head, tail, digits, reason;
	uint64_t line;

	if (str_cut(str_from(text), ':', &head, &reason)) {
		const char *space = memrchr(head.ptr, ' ', head.len);

		digits = space ? str_from_range(space + 1, head.ptr + head.len) : head;
		if (parse_u64(digits, &line) == 0) {
			SCOPED_FREE char *where = at_line(f->name, line);

			(void)str_cut(str_trim(reason), '.', &reason, &tail);
			draft_error(f->d, where, "%.*s", STR_ARGS(reason));
			return;
		}
	}
	draft_error(f->d, f->name, "%s", text);
}

static void note_library_errors(struct file *f, int r)
{
	char **errors = NULL;
	size_t count = 0;

	if (ini_config_get_errors(f->ini, &errors) == 0 && errors) {
		for (; errors[count]; count++)
			note_library_error(f, errors[count]);
		ini_config_free_errors(errors);
	}
	if (count == 0)
		draft_error(f->d, f->name, "cannot be parsed (%s)", log_errno_name(-r));
}

/* All values of one key; the second and later ones are mistakes: nobody can say which was meant. */
static void set_values(struct file *f, const char *section, const char *key)
{
	struct value_obj *value = NULL;
	uint32_t first_line = 0, line = 0;
	int mode = INI_GET_FIRST_VALUE, error = 0;

	while (ini_get_config_valueobj(section, key, f->ini, mode, &value) == 0 && value) {
		const char *text = ini_get_const_string_config_value(value, &error);
		SCOPED_FREE char *where = NULL;

		(void)value_get_line(value, &line);
		where = at_line(f->name, line);
		if (mode == INI_GET_FIRST_VALUE) {
			first_line = line;
			draft_set(f->d, str_from(section), str_from(key), str_from(text), where);
		} else {
			draft_error(f->d, where, "%s.%s is set a second time; line %u set it first", section,
				    key, first_line);
		}
		mode = INI_GET_NEXT_VALUE;
	}
}

static bool came_before(char *const *keys, int index)
{
	for (int i = 0; i < index; i++)
		if (str_eq_nocase(str_from(keys[i]), str_from(keys[index])))
			return true;
	return false;
}

static void set_section(struct file *f, const char *section)
{
	int count = 0, error = 0;
	char **keys = ini_get_attribute_list(f->ini, section, &count, &error);

	for (int i = 0; i < count; i++)
		if (!came_before(keys, i))
			set_values(f, section, keys[i]);
	ini_free_attribute_list(keys);
}

static void set_all(struct file *f)
{
	int count = 0, error = 0;
	char **sections = ini_get_section_list(f->ini, &count, &error);

	for (int i = 0; i < count; i++)
		set_section(f, sections[i]);
	ini_free_section_list(sections);
}

static void parse_with_library(struct file *f, struct str text)
{
	struct ini_cfgfile *source = NULL;
	int r;

	/* the library wants the memory writable, and leaves it as it is */
	r = ini_config_file_from_mem((void *)text.ptr, (uint32_t)text.len, &source);
	if (r == 0)
		r = ini_config_parse(source, INI_STOP_ON_NONE, INI_MV1S_ALLOW | INI_MV2S_ALLOW | INI_MS_MERGE,
				     INI_PARSE_NOWRAP | INI_PARSE_NO_C_COMMENTS, f->ini);
	if (r == 0)
		set_all(f);
	else
		note_library_errors(f, r);
	if (source)
		ini_config_file_destroy(source);
}

void file_parse(struct draft *d, const char *name, struct str text)
{
	struct file f = { .d = d, .name = name };
	size_t errors_before = d->error_count;

	if (str_starts_with(text, STR("\xef\xbb\xbf"))) /* some editors mark UTF-8 so */
		text = (struct str){ text.ptr + 3, text.len - 3 };
	if (look_over(d, name, text) == 0 || d->error_count != errors_before)
		return;
	if (ini_config_create(&f.ini) != 0) {
		draft_error(d, name, "cannot be parsed (ENOMEM)");
		return;
	}
	parse_with_library(&f, text);
	ini_config_destroy(f.ini);
}

/* --- the file -------------------------------------------------------------------------------------------- */

static int read_whole(int fd, struct buf *ret_text)
{
	char chunk[16384];

	for (;;) {
		ssize_t n = read(fd, chunk, sizeof(chunk));

		if (n == 0)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (buf_append(ret_text, chunk, (size_t)n) < 0)
			return -E2BIG;
	}
}

/* Links are followed: mounted configuration is made of them. */
int file_read(struct draft *d, const char *path)
{
	SCOPED_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	SCOPED_BUF text = { 0 };
	struct stat st = { 0 };
	int r;

	buf_init(&text, FILE_BYTES_MAX);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return -ENOENT;
	r = fd < 0 || fstat(fd, &st) < 0 ? -errno : read_whole(fd, &text);
	if (r == -E2BIG)
		draft_error(d, path, "is larger than 1 MiB");
	else if (r < 0)
		draft_error(d, path, "cannot be read (%s)", log_errno_name(r));
	else if (S_ISREG(st.st_mode) && (st.st_mode & S_IWOTH))
		draft_error(d, path,
			    "may be changed by every user of this machine; take that away: chmod o-w");
	else {
		d->is_open_file = S_ISREG(st.st_mode) && (st.st_mode & S_IROTH);
		file_parse(d, path, buf_str(&text));
		d->is_open_file = false;
	}
	return 0;
}
