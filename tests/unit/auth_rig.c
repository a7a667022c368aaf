/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth_rig - see the header.
 */
#include "auth_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"

static int64_t fixture_now(void *ctx)
{
	return ((struct fixture *)ctx)->now;
}

int rig_set_up(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	SCOPED_FREE char *path = NULL;
	const char *reason;

	(void)snprintf(f->folder, sizeof(f->folder), "/tmp/test-auth-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	path = xasprintf("%s/index.db", f->folder);
	f->clock = (struct clock){ .wall_s = fixture_now, .ctx = f };
	f->now = 1000000;
	f->metrics = metrics_new();
	assert_true(index_open(&(struct index_opts){ .path = path,
						     .memory_entries = 1000,
						     .metrics = f->metrics,
						     .clock = &f->clock },
			       &f->index, &reason) >= 0);
	f->auth = auth_new(&(struct auth_opts){ .index = f->index,
						.key = (const uint8_t *)"0123456789abcdef0123456789abcdef",
						.clock = &f->clock });
	auth_set_rules(f->auth, &(struct auth_rules){ .offline_access = OFFLINE_GRANTS,
						      .offline_grace_ms = 7 * 86400 * 1000ULL,
						      .grant_ttl_ms = TTL_S * 1000,
						      .public_ttl_ms = 900 * 1000,
						      .deny_ttl_ms = 30 * 1000 });
	*state = f;
	return 0;
}

int rig_tear_down(void **state)
{
	struct fixture *f = *state;
	static const char *const left[] = { "index.db", "index.db-wal", "index.db-shm" };

	auth_free(f->auth);
	index_close(f->index);
	metrics_free(f->metrics);
	for (size_t i = 0; i < 3; i++) {
		SCOPED_FREE char *path = xasprintf("%s/%s", f->folder, left[i]);

		(void)unlink(path);
	}
	(void)rmdir(f->folder);
	free(f);
	return 0;
}

int rig_subject(struct fixture *f, const char *authorization, struct subject *s)
{
	struct headers h;
	int r;

	headers_init(&h);
	if (authorization)
		assert_int_equal(headers_add(&h, STR("Authorization"), str_from(authorization)), 0);
	r = auth_subject(f->auth, &h, STR("192.0.2.1"), s);
	headers_done(&h);
	return r;
}
