/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the site CA on real folders: what is written with which rights, what is not used, for which names it speaks. That clients
 * accept what it issues, and only for its names, is proved with them (tests/e2e/test_intercept.py).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ca/ca.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/alloc.h"
#include "common/buf.h"
#include "common/path.h"

#define NOW 1700000000
#define DAY 86400

static const char *const hub_names[] = { "huggingface.co", "hf.co", NULL };

struct place {
	char folder[512];
	char *pem, *key;
};

static int make_place(void **state)
{
	struct place *p = xcalloc(1, sizeof(*p));
	const char *base = getenv("TMPDIR");

	snprintf(p->folder, sizeof(p->folder), "%s/test_ca.XXXXXX", base ? base : "/tmp");
	if (!mkdtemp(p->folder))
		return -1;
	p->pem = xasprintf("%s/ca.pem", p->folder);
	p->key = xasprintf("%s/ca.key", p->folder);
	*state = p;
	return 0;
}

static int remove_place(void **state)
{
	struct place *p = *state;
	const char *const args[] = { "rm", "-rf", p->folder, NULL };
	pid_t pid = fork();

	if (pid == 0) {
		execvp(args[0], (char *const *)args);
		_exit(127);
	}
	(void)waitpid(pid, NULL, 0);
	free(p->pem);
	free(p->key);
	free(p);
	return 0;
}

static int create_for(struct place *p, const char *const *names, unsigned days)
{
	char *reason = NULL;
	int r = ca_create(p->pem, &(struct ca_spec){ .names = names, .days = days, .now = NOW }, &reason);

	assert_true((r < 0) == (reason != NULL));
	free(reason);
	return r;
}

static int open_at(struct place *p, int64_t now, struct ca **ret_ca)
{
	char *reason = NULL;
	int r = ca_open(p->pem, now, ret_ca, &reason);

	assert_true((r < 0) == (reason != NULL));
	free(reason);
	return r;
}

static struct ca *made(struct place *p)
{
	struct ca *ca = NULL;

	assert_int_equal(create_for(p, hub_names, 0), 0);
	assert_int_equal(open_at(p, NOW, &ca), 0);
	return ca;
}

static unsigned files_in(const char *folder)
{
	DIR *d = opendir(folder);
	unsigned n = 0;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void read_file(const char *path, struct buf *ret)
{
	buf_init(ret, 65536);
	assert_int_equal(fs_read_file(AT_FDCWD, path, ret), 0);
}

static bool holds(struct str text, struct str part)
{
	return memmem(text.ptr, text.len, part.ptr, part.len) != NULL;
}

static void writes_a_key_for_its_owner_and_a_certificate_for_all_under_any_umask(void **state)
{
	static const mode_t masks[] = { 0, 0077, 0777 };
	struct place *p = *state;

	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		mode_t old = umask(masks[i]);
		struct stat pem, key;

		assert_int_equal(create_for(p, hub_names, 0), 0);
		umask(old);
		assert_int_equal(stat(p->pem, &pem), 0);
		assert_int_equal(stat(p->key, &key), 0);
		assert_int_equal(pem.st_mode & 07777, 0644);
		assert_int_equal(key.st_mode & 07777, 0600);
		assert_int_equal(files_in(p->folder), 2);
		assert_int_equal(unlink(p->pem), 0);
		assert_int_equal(unlink(p->key), 0);
	}
}

static void overwrites_nothing(void **state)
{
	struct place *p = *state;
	SCOPED(ca_free) struct ca *ca = made(p);
	SCOPED_BUF before = { 0 };
	SCOPED_BUF after = { 0 };

	read_file(p->key, &before);
	assert_int_equal(create_for(p, hub_names, 0), -EEXIST);
	read_file(p->key, &after);
	assert_true(str_eq(buf_str(&before), buf_str(&after)));
	/* nor what a link leads to */
	assert_int_equal(unlink(p->pem), 0);
	assert_int_equal(symlink("/nowhere/at/all", p->pem), 0);
	assert_int_equal(create_for(p, hub_names, 0), -EEXIST);
}

static void goes_on_with_a_key_that_a_crash_left(void **state)
{
	struct place *p = *state;
	SCOPED(ca_free) struct ca *ca = made(p);
	SCOPED(ca_free) struct ca *again = NULL;

	assert_int_equal(unlink(p->pem), 0);
	assert_int_equal(open_at(p, NOW, &again), -ENOENT);
	assert_int_equal(create_for(p, hub_names, 0), 0);
	assert_int_equal(open_at(p, NOW, &again), 0);
	assert_string_not_equal(ca_fingerprint(ca), ca_fingerprint(again));
	/* but not with one that others know */
	assert_int_equal(unlink(p->pem), 0);
	assert_int_equal(chmod(p->key, 0644), 0);
	assert_int_equal(create_for(p, hub_names, 0), -EPERM);
	assert_int_not_equal(access(p->pem, F_OK), 0);
}

static void refuses_names_that_are_too_much_or_none(void **state)
{
	static const char *const bad[] = {
		"",      "co",   "Huggingface.co", "huggingface.co.", "*.huggingface.co", "10.0.0.1",
		"[::1]", "a..b", ".hf.co",         "-a.co",           "a.co,DNS:x.y",     "a b.co",
		"a.co\n"
	};
	struct place *p = *state;
	char *reason = NULL;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *const names[] = { "hf.co", bad[i], NULL };

		assert_int_equal(create_for(p, names, 0), -EINVAL);
	}
	assert_int_equal(create_for(p, (const char *const[]){ NULL }, 0), -EINVAL);
	assert_int_equal(
		ca_create("/tmp/ca.crt", &(struct ca_spec){ .names = hub_names, .now = NOW }, &reason),
		-EINVAL);
	free(TAKE_PTR(reason));
	assert_int_equal(ca_create("/tmp/.pem", &(struct ca_spec){ .names = hub_names, .now = NOW }, &reason),
			 -EINVAL);
	free(reason);
	assert_int_equal(files_in(p->folder), 0);
}

static void does_not_use_a_key_that_others_may_read(void **state)
{
	static const mode_t modes[] = { 0640, 0604, 0620, 0666, 0610 };
	struct place *p = *state;
	SCOPED(ca_free) struct ca *ca = made(p);
	struct ca *again = NULL;
	SCOPED_FREE char *elsewhere = xasprintf("%s/other", p->folder);

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		assert_int_equal(chmod(p->key, modes[i]), 0);
		assert_int_equal(open_at(p, NOW, &again), -EPERM);
	}
	assert_int_equal(chmod(p->key, 0400), 0);
	assert_int_equal(open_at(p, NOW, &again), 0);
	ca_free(again);
	/* a link may lead into a folder of somebody else */
	assert_int_equal(rename(p->key, elsewhere), 0);
	assert_int_equal(symlink(elsewhere, p->key), 0);
	assert_int_equal(open_at(p, NOW, &again), -EPERM);
}

static void put(const char *path, struct str text, mode_t mode)
{
	SCOPED_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(fs_write_all(fd, text.ptr, text.len), 0);
}

static void says_what_is_wrong_with_its_files(void **state)
{
	struct place *p = *state;
	SCOPED(ca_free) struct ca *ca = made(p);
	struct ca *again = NULL;
	SCOPED_BUF first_key = { 0 };

	read_file(p->key, &first_key);
	assert_int_equal(unlink(p->key), 0);
	assert_int_equal(open_at(p, NOW, &again), -EBADMSG);
	/* the key of another one */
	assert_int_equal(unlink(p->pem), 0);
	ca_free(made(p));
	put(p->key, buf_str(&first_key), 0600);
	assert_int_equal(open_at(p, NOW, &again), -EBADMSG);
	put(p->key, STR("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"), 0600);
	assert_int_equal(open_at(p, NOW, &again), -EBADMSG);
	put(p->key, STR(""), 0600);
	assert_int_equal(open_at(p, NOW, &again), -EBADMSG);
	put(p->pem, STR("no certificate\n"), 0644);
	assert_int_equal(open_at(p, NOW, &again), -EBADMSG);
	assert_int_equal(unlink(p->pem), 0);
	assert_int_equal(open_at(p, NOW, &again), -ENOENT);
	assert_null(again);
}

static void hands_out_the_certificate_and_nothing_else_of_its_file(void **state)
{
	struct place *p = *state;
	SCOPED(ca_free) struct ca *ca = made(p);
	SCOPED(ca_free) struct ca *again = NULL;
	SCOPED_BUF both = { 0 };
	SCOPED_BUF key = { 0 };

	assert_true(str_starts_with(ca_pem(ca), STR("-----BEGIN CERTIFICATE-----\n")));
	assert_true(str_ends_with(ca_pem(ca), STR("-----END CERTIFICATE-----\n")));
	/* somebody keeps both in one file */
	read_file(p->pem, &both);
	read_file(p->key, &key);
	assert_int_equal(buf_append_str(&both, buf_str(&key)), 0);
	put(p->pem, buf_str(&both), 0600);
	assert_int_equal(open_at(p, NOW, &again), 0);
	assert_true(str_eq(ca_pem(ca), ca_pem(again)));
	assert_false(holds(ca_pem(again), STR("PRIVATE")));
	assert_int_equal(strlen(ca_fingerprint(ca)), 32 * 3 - 1);
	assert_string_equal(ca_fingerprint(ca), ca_fingerprint(again));
}

static void speaks_for_its_names_and_those_below_and_for_no_others(void **state)
{
	static const char *const good[] = { "huggingface.co", "router.huggingface.co", "a.b.huggingface.co",
					    "hf.co", "cdn.hf.co" };
	static const char *const bad[] = {
		"example.org", "xhuggingface.co", "huggingface.co.evil.org", "co",      "",
		"f.co",        "127.0.0.1",       "huggingface.co.",         "*.hf.co", "a..hf.co"
	};
	SCOPED(ca_free) struct ca *ca = made(*state);
	struct ca_leaf leaf = { 0 };

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_true(ca_covers(ca, str_from(good[i])));
		assert_int_equal(ca_issue(ca, str_from(good[i]), NOW, &leaf), 0);
		ca_leaf_done(&leaf);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(ca_covers(ca, str_from(bad[i])));
		assert_int_equal(ca_issue(ca, str_from(bad[i]), NOW, &leaf), -EACCES);
	}
	assert_null(leaf.certificate);
}

static void remembers_a_leaf_until_the_day_before_its_end(void **state)
{
	SCOPED(ca_free) struct ca *ca = made(*state);
	struct ca_leaf first = { 0 }, same = { 0 }, next = { 0 };

	assert_int_equal(ca_issue(ca, STR("hf.co"), NOW, &first), 0);
	assert_int_equal(first.expires_at, NOW + 7 * DAY);
	assert_int_equal(ca_issue(ca, STR("hf.co"), NOW + 6 * DAY - 1, &same), 0);
	assert_ptr_equal(first.certificate, same.certificate);
	assert_int_equal(ca_issue(ca, STR("hf.co"), NOW + 6 * DAY, &next), 0);
	assert_ptr_not_equal(first.certificate, next.certificate);
	assert_int_equal(next.expires_at, NOW + 13 * DAY);
	ca_leaf_done(&first);
	ca_leaf_done(&same);
	ca_leaf_done(&next);
	ca_leaf_done(&next); /* twice does no harm */
}

static void remembers_a_bounded_number_of_names(void **state)
{
	SCOPED(ca_free) struct ca *ca = made(*state);
	struct ca_leaf first = { 0 }, leaf = { 0 };

	assert_int_equal(ca_issue(ca, STR("first.hf.co"), NOW, &first), 0);
	for (unsigned i = 0; i < 300; i++) {
		SCOPED_FREE char *name = xasprintf("n%u.hf.co", i);

		assert_int_equal(ca_issue(ca, str_from(name), NOW + 1 + i, &leaf), 0);
		ca_leaf_done(&leaf);
	}
	/* the oldest one has made room; who still holds it may use it */
	assert_int_equal(ca_issue(ca, STR("first.hf.co"), NOW, &leaf), 0);
	assert_ptr_not_equal(first.certificate, leaf.certificate);
	assert_true(bytes_str(first.key).len > 0);
	ca_leaf_done(&first);
	ca_leaf_done(&leaf);
}

static void neither_it_nor_its_leaves_outlive_its_end(void **state)
{
	struct place *p = *state;
	SCOPED(ca_free) struct ca *ca = NULL;
	struct ca *late = NULL;
	struct ca_leaf leaf = { 0 };

	assert_int_equal(create_for(p, hub_names, 3), 0);
	assert_int_equal(open_at(p, NOW + 3 * DAY, &late), -ESTALE);
	assert_int_equal(open_at(p, NOW + 3 * DAY - 1, &ca), 0);
	assert_int_equal(ca_expires_at(ca), NOW + 3 * DAY);
	assert_int_equal(ca_issue(ca, STR("hf.co"), NOW, &leaf), 0);
	assert_int_equal(leaf.expires_at, NOW + 3 * DAY);
	ca_leaf_done(&leaf);
	assert_int_equal(ca_issue(ca, STR("hf.co"), NOW + 3 * DAY, &leaf), -ESTALE);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, make_place, remove_place)
	const struct CMUnitTest tests[] = {
		CASE(writes_a_key_for_its_owner_and_a_certificate_for_all_under_any_umask),
		CASE(overwrites_nothing),
		CASE(goes_on_with_a_key_that_a_crash_left),
		CASE(refuses_names_that_are_too_much_or_none),
		CASE(does_not_use_a_key_that_others_may_read),
		CASE(says_what_is_wrong_with_its_files),
		CASE(hands_out_the_certificate_and_nothing_else_of_its_file),
		CASE(speaks_for_its_names_and_those_below_and_for_no_others),
		CASE(remembers_a_leaf_until_the_day_before_its_end),
		CASE(remembers_a_bounded_number_of_names),
		CASE(neither_it_nor_its_leaves_outlive_its_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
