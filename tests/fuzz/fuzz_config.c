/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_config - any bytes as a configuration file, as a word of --set and as a variable.
 *
 * Proves that each is either taken as a whole, or refused with a message that is text; and that what is
 * taken prints as a configuration.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/alloc.h"
#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void assert_is_text(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		assert((unsigned char)s.ptr[i] >= 0x20 || s.ptr[i] == '\n' || s.ptr[i] == '\t');
}

/* Returns what config_load() did. */
static int load(const struct config_source *source)
{
	SCOPED_BUF errors = { 0 };
	SCOPED_BUF shown = { 0 };
	struct config *config = NULL;
	int r;

	buf_init(&errors, 1 << 20);
	buf_init(&shown, 8 << 20);
	r = config_load(source, &config, &errors);
	assert((r == 0) == (config != NULL));
	assert((r == 0) == (errors.len == 0));
	assert_is_text(buf_str(&errors));
	if (config) {
		assert(config_show(config, &shown) == 0);
		assert_is_text(buf_str(&shown));
	}
	config_free(config);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	SCOPED_FREE char *word = xstrndup((const char *)data, size);
	SCOPED_FREE char *variable = xasprintf("HFCACHE_%s", word);
	const char *const sets[] = { word, NULL };
	char *const environment[] = { variable, NULL };
	SCOPED_FD int fd = memfd_create("config", MFD_CLOEXEC);
	SCOPED_FREE char *path = xasprintf("/proc/self/fd/%d", fd);

	assert(fd >= 0);
	assert(write(fd, data, size) == (ssize_t)size);
	assert(fchmod(fd, 0600) == 0);
	(void)load(&(struct config_source){ .file = path, .system_root = "/nonexistent" });
	(void)load(&(struct config_source){ .file = "", .sets = sets });
	(void)load(&(struct config_source){ .file = "", .environment = environment });
	return 0;
}
