/* SPDX-License-Identifier: Apache-2.0 */
/*
 * generate - prints what is made from the table of options while the project is built:
 *
 *   generate example           the example file
 *   generate manual TEMPLATE   TEMPLATE with its line @OPTIONS@ replaced by the list of options, in scdoc
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "common/path.h"
#include "config/config.h"

#include "common/banned.h"

#define OUTPUT_BYTES_MAX (1 << 20)
#define MARK "@OPTIONS@\n"

static int fill_template(const char *path, struct buf *out)
{
	SCOPED_BUF template = { 0 };
	const char *mark;
	int r;

	buf_init(&template, OUTPUT_BYTES_MAX);
	r = fs_read_file(AT_FDCWD, path, &template);
	if (r < 0)
		return r;
	mark = strstr(buf_str(&template).ptr, MARK);
	if (!mark)
		return -EINVAL;
	(void)buf_append_str(out, str_from_range(template.bytes, mark));
	(void)config_manual(out);
	(void)buf_append_str(out, str_from(mark + sizeof(MARK) - 1));
	return buf_error(out);
}

int main(int argc, char **argv)
{
	SCOPED_BUF out = { 0 };
	int r = -EINVAL;

	buf_init(&out, OUTPUT_BYTES_MAX);
	if (argc == 2 && strcmp(argv[1], "example") == 0)
		r = config_example(&out);
	else if (argc == 3 && strcmp(argv[1], "manual") == 0)
		r = fill_template(argv[2], &out);
	if (r < 0) {
		(void)fprintf(stderr, "generate: %s\n", log_errno_name(r));
		return 1;
	}
	return fwrite(out.bytes, 1, out.len, stdout) == out.len && fflush(stdout) == 0 ? 0 : 1;
}
