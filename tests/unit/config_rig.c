/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_rig - see the header.
 */
#include "config_rig.h"

#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int world_set_up(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	(void)snprintf(w->root, sizeof(w->root), "/tmp/test_config.XXXXXX");
	assert_non_null(mkdtemp(w->root));
	buf_init(&w->errors, 65536);
	*state = w;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

int world_tear_down(void **state)
{
	struct world *w = *state;

	config_free(w->config);
	buf_done(&w->errors);
	(void)nftw(w->root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(w);
	return 0;
}

void put_bytes(struct world *w, const char *path, const char *text, size_t len)
{
	SCOPED_FREE char *full = xasprintf("%s%s", w->root, path);
	FILE *f;

	for (char *slash = strchr(full + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		(void)mkdir(full, 0755);
		*slash = '/';
	}
	f = fopen(full, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(full, 0644), 0);
}

void put(struct world *w, const char *path, const char *text)
{
	put_bytes(w, path, text, strlen(text));
}

int load(struct world *w)
{
	struct config_source source = {
		.file = w->file,
		.sets = w->sets,
		.environment = (char *const *)w->environment,
		.system_root = w->root,
	};

	config_free(w->config);
	w->config = NULL;
	buf_reset(&w->errors);
	w->result = config_load(&source, &w->config, &w->errors);
	if (w->result < 0)
		assert_null(w->config);
	else
		assert_int_equal(w->errors.len, 0);
	return w->result;
}

const char *messages(struct world *w)
{
	static __thread char text[65536];
	const char *from = buf_str(&w->errors).ptr;
	size_t len = 0;

	while (*from && len + 1 < sizeof(text)) {
		if (strncmp(from, w->root, strlen(w->root)) == 0)
			from += strlen(w->root);
		else
			text[len++] = *from++;
	}
	text[len] = 0;
	return text;
}

void assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" is missing in: %s", part, text);
}

void refuses_set(struct world *w, const char *set, const char *message)
{
	w->sets[0] = set;
	assert_int_equal(load(w), -EINVAL);
	assert_string_equal(messages(w), message);
}

void accepts_set(struct world *w, const char *set)
{
	w->sets[0] = set;
	if (load(w) != 0)
		fail_msg("%s is refused: %s", set, messages(w));
}
