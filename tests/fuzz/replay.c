/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay - runs a fuzz entry without a fuzzing engine: over the files and folders of the command line, each
 * file also cut short at every length and with every byte changed; and over each single byte. The corpus
 * becomes an ordinary test.
 *
 * Each input is copied into memory of exactly its size, so that the address sanitizer sees a read past its
 * end. Prints TAP, one line a file; an input that breaks a promise ends the program. A path without any file
 * is a failure: a mistyped one must not look green.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/alloc.h"
#include "common/path.h"

#include "common/banned.h"

#define INPUT_BYTES_MAX (16 * 1024 * 1024)
/* Longer inputs are run as they are: the work for their variants grows with the square of their length. */
#define VARIED_BYTES_MAX 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_path(const char *path, unsigned *count);

static void run_bytes(const char *bytes, size_t len)
{
	SCOPED_FREE char *exact = xmalloc(len);

	if (len)
		memcpy(exact, bytes, len);
	(void)LLVMFuzzerTestOneInput((const uint8_t *)exact, len);
}

static void run_variants(const char *bytes, size_t len)
{
	SCOPED_FREE char *changed = xstrndup(bytes, len);

	run_bytes(bytes, len);
	for (size_t i = 0; i < len && len <= VARIED_BYTES_MAX; i++) {
		run_bytes(bytes, i);
		changed[i] = (char)(bytes[i] ^ 0x20); /* the other case of a letter, or a near sign */
		run_bytes(changed, len);
		changed[i] = 0;
		run_bytes(changed, len);
		changed[i] = bytes[i];
	}
}

static void run_single_bytes(unsigned *count)
{
	for (int i = 0; i < 256; i++) {
		char byte = (char)i;

		run_bytes(&byte, 1);
	}
	(void)printf("ok %u - single bytes\n", ++*count);
}

static int replay_file(const char *path, unsigned *count)
{
	SCOPED_BUF bytes = { 0 };
	int r;

	buf_init(&bytes, INPUT_BYTES_MAX);
	r = fs_read_file(AT_FDCWD, path, &bytes);
	if (r < 0)
		return r;
	(void)fflush(stdout); /* what ended well is told even if this one ends the program */
	run_variants(buf_str(&bytes).ptr, bytes.len);
	(void)printf("ok %u - %s\n", ++*count, path);
	return 0;
}

static int replay_folder(const char *path, unsigned *count)
{
	struct dirent **entries = NULL;
	int entry_count = scandir(path, &entries, NULL, alphasort);
	int r = entry_count < 0 ? -errno : 0;

	for (int i = 0; i < entry_count; i++) {
		if (r == 0 && entries[i]->d_name[0] != '.') {
			SCOPED_FREE char *inner = xasprintf("%s/%s", path, entries[i]->d_name);

			r = replay_path(inner, count);
		}
		free(entries[i]);
	}
	free(entries);
	return r;
}

static int replay_path(const char *path, unsigned *count)
{
	unsigned before = *count;
	struct stat st;
	int r;

	if (stat(path, &st) < 0)
		return -errno;
	r = S_ISDIR(st.st_mode) ? replay_folder(path, count) : replay_file(path, count);
	return r == 0 && *count == before ? -ENODATA : r;
}

int main(int argc, char **argv)
{
	unsigned count = 0;
	int failed = 0;

	run_single_bytes(&count);
	for (int i = 1; i < argc; i++) {
		int r = replay_path(argv[i], &count);

		if (r < 0) {
			(void)printf("not ok %u - %s: errno %d\n", ++count, argv[i], -r);
			failed = 1;
		}
	}
	(void)printf("1..%u\n", count);
	return failed;
}
