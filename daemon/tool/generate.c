/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool/generate - prints what is made from the table of verbs while the project is built:
 *
 *   generate manual TEMPLATE   TEMPLATE with its line @VERBS@ replaced by the list of verbs, in scdoc
 *   generate completion        a script for bash
 */
#include "tool/priv.h"

#include <fcntl.h>
#include "common/path.h"

#include "common/banned.h"

#define TEMPLATE_BYTES_MAX (1 << 20)
#define MARK "@VERBS@\n"

static int fill_template(const char *path)
{
	SCOPED_BUF template = { 0 };
	const char *mark;

	buf_init(&template, TEMPLATE_BYTES_MAX);
	if (fs_read_file(AT_FDCWD, path, &template) < 0)
		return 1;
	mark = strstr(buf_str(&template).ptr, MARK);
	if (!mark)
		return 1;
	(void)fwrite(template.bytes, 1, (size_t)(mark - template.bytes), stdout);
	help_manual(stdout);
	(void)fputs(mark + sizeof(MARK) - 1, stdout);
	return 0;
}

int main(int argc, char **argv)
{
	int code = 1;

	if (argc == 3 && strcmp(argv[1], "manual") == 0) {
		code = fill_template(argv[2]);
	} else if (argc == 2 && strcmp(argv[1], "completion") == 0) {
		help_completion(stdout);
		code = 0;
	}
	if (code)
		(void)fputs("generate: wrong arguments, or no line @VERBS@\n", stderr);
	return fflush(stdout) == 0 && !ferror(stdout) ? code : 1;
}
