/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves the file-system calls on real folders: short files, symlinks, missing parents, replacing, limits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>

#include "common/alloc.h"

struct place {
	char path[512];
	int fd;
};

static int make_place(void **state)
{
	struct place *p = xcalloc(1, sizeof(*p));
	const char *base = getenv("TMPDIR");

	snprintf(p->path, sizeof(p->path), "%s/test_path.XXXXXX", base ? base : "/tmp");
	if (!mkdtemp(p->path))
		return -1;
	p->fd = fs_open_dir(p->path);
	*state = p;
	return p->fd < 0 ? -1 : 0;
}

static int remove_place(void **state)
{
	struct place *p = *state;
	const char *const args[] = { "rm", "-rf", p->path, NULL };
	pid_t pid = fork();

	if (pid == 0) {
		execvp(args[0], (char *const *)args);
		_exit(127);
	}
	(void)waitpid(pid, NULL, 0);
	close(p->fd);
	free(p);
	return 0;
}

static void opens_folders_and_makes_missing_parents(void **state)
{
	struct place *p = *state;
	SCOPED_FREE char *deep = xasprintf("%s//a/b/c/", p->path);
	SCOPED_FREE char *middle = xasprintf("%s/a/b", p->path);
	SCOPED_FD int fd = fs_open_dir(deep);
	SCOPED_FD int again = -1;
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(stat(middle, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	again = fs_open_dir(deep);
	assert_true(again >= 0);
	assert_int_not_equal(fcntl(again, F_GETFD) & FD_CLOEXEC, 0);
}

static void tells_why_a_folder_cannot_be(void **state)
{
	struct place *p = *state;
	SCOPED_FREE char *below_file = xasprintf("%s/file/x", p->path);
	SCOPED_FREE char *file = xasprintf("%s/file", p->path);

	assert_int_equal(fs_replace_file(p->fd, "file", "x", 1, 0600), 0);
	assert_int_equal(fs_open_dir(below_file), -ENOTDIR);
	assert_int_equal(fs_open_dir(file), -ENOTDIR);
	assert_int_equal(fs_open_dir(""), -ENOENT);
}

static void says_whether_it_made_the_folder(void **state)
{
	struct place *p = *state;

	assert_int_equal(fs_make_dir(p->fd, "d"), 1);
	assert_int_equal(fs_make_dir(p->fd, "d"), 0);
	assert_int_equal(fs_replace_file(p->fd, "f", "", 0, 0600), 0);
	assert_int_equal(fs_make_dir(p->fd, "f"), -ENOTDIR);
	assert_int_equal(fs_make_dir(p->fd, "no/d"), -ENOENT);
	assert_int_equal(symlinkat("d", p->fd, "link"), 0);
	assert_int_equal(fs_make_dir(p->fd, "link"), -ENOTDIR);
}

static void does_not_follow_symlinks(void **state)
{
	struct place *p = *state;
	SCOPED_BUF b;

	buf_init(&b, 100);
	assert_int_equal(symlinkat("/etc/passwd", p->fd, "link"), 0);
	assert_int_equal(fs_open(p->fd, "link", O_RDONLY, 0), -ELOOP);
	assert_int_equal(fs_read_file(p->fd, "link", &b), -ELOOP);
	assert_int_equal(fs_open(p->fd, "none", O_RDONLY, 0), -ENOENT);
	/* replacing replaces the link, not what it points to */
	assert_int_equal(fs_replace_file(p->fd, "link", "mine", 4, 0600), 0);
	assert_int_equal(fs_read_file(p->fd, "link", &b), 0);
	assert_string_equal(b.bytes, "mine");
}

static void writes_and_reads_at_offsets(void **state)
{
	struct place *p = *state;
	SCOPED_FD int fd = fs_open(p->fd, "f", O_RDWR | O_CREAT, 0600);
	char bytes[8] = "";

	assert_true(fd >= 0);
	assert_int_equal(fs_write_all(fd, "0123456789", 10), 0);
	assert_int_equal(fs_pwrite_all(fd, "ab", 2, 4), 0);
	assert_int_equal(fs_pread_all(fd, bytes, 6, 2), 0);
	assert_string_equal(bytes, "23ab67");
	assert_int_equal(fs_pread_all(fd, bytes, 3, 8), -ENODATA);
	assert_int_equal(fs_pread_all(fd, bytes, 0, 100), 0);
	assert_int_equal(fs_sync(fd), 0);
	assert_int_equal(fs_write_all(-1, "x", 1), -EBADF);
	assert_int_equal(fs_pwrite_all(-1, "x", 1, 0), -EBADF);
	assert_int_equal(fs_pread_all(-1, bytes, 1, 0), -EBADF);
	assert_int_equal(fs_sync(-1), -EBADF);
}

static void tells_a_full_device(void **state)
{
	SCOPED_FD int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		skip();
	assert_int_equal(fs_write_all(fd, "x", 1), -ENOSPC);
}

static void reads_whole_files_up_to_the_maximum(void **state)
{
	struct place *p = *state;
	static char big[50000];
	SCOPED_BUF enough, small;

	memset(big, 'b', sizeof(big));
	buf_init(&enough, sizeof(big));
	buf_init(&small, sizeof(big) - 1);
	assert_int_equal(fs_replace_file(p->fd, "f", big, sizeof(big), 0600), 0);
	assert_int_equal(fs_read_file(p->fd, "f", &enough), 0);
	assert_int_equal(enough.len, sizeof(big));
	assert_int_equal(fs_read_file(p->fd, "f", &small), -E2BIG);
	assert_int_equal(fs_read_file(p->fd, ".", &enough), -EISDIR);
	assert_int_equal(fs_read_file(p->fd, "none", &enough), -ENOENT);
}

static void is_not_held_by_a_pipe(void **state)
{
	struct place *p = *state;
	SCOPED_BUF b;

	buf_init(&b, 10);
	assert_int_equal(mkfifoat(p->fd, "pipe", 0600), 0);
	assert_int_equal(fs_read_file(p->fd, "pipe", &b), -EINVAL);
}

static unsigned count_names(int dir_fd)
{
	DIR *dir = fdopendir(dup(dir_fd));
	unsigned count = 0;

	rewinddir(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 2;
}

static void replaces_a_file_and_leaves_nothing_behind(void **state)
{
	struct place *p = *state;
	SCOPED_BUF b;
	struct stat st;

	buf_init(&b, 100);
	assert_int_equal(fs_replace_file(p->fd, "f", "old", 3, 0600), 0);
	assert_int_equal(fs_replace_file(p->fd, "f", "newer", 5, 0640), 0);
	assert_int_equal(fs_sync_dir(p->fd, NULL), 0);
	assert_int_equal(fs_read_file(p->fd, "f", &b), 0);
	assert_string_equal(b.bytes, "newer");
	assert_int_equal(fstatat(p->fd, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777 & ~0640, 0);
	assert_int_equal(count_names(p->fd), 1);
}

static void a_failed_replace_leaves_the_old_state(void **state)
{
	struct place *p = *state;
	char name[300];

	assert_int_equal(fs_make_dir(p->fd, "d"), 1);
	assert_int_equal(fs_replace_file(p->fd, "d", "x", 1, 0600), -EISDIR);
	assert_int_equal(fs_replace_file(p->fd, "none/f", "x", 1, 0600), -ENOENT);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	assert_int_equal(fs_replace_file(p->fd, name, "x", 1, 0600), -ENAMETOOLONG);
	assert_int_equal(count_names(p->fd), 1);
}

static void unlinks_once_and_is_content_the_second_time(void **state)
{
	struct place *p = *state;

	assert_int_equal(fs_replace_file(p->fd, "f", "", 0, 0600), 0);
	assert_int_equal(fs_unlink(p->fd, "f"), 0);
	assert_int_equal(fs_unlink(p->fd, "f"), 0);
	assert_int_equal(fs_make_dir(p->fd, "d"), 1);
	assert_int_equal(fs_unlink(p->fd, "d"), -EISDIR);
}

static void syncs_folders_by_name(void **state)
{
	struct place *p = *state;

	assert_int_equal(fs_make_dir(p->fd, "d"), 1);
	assert_int_equal(fs_sync_dir(p->fd, "d"), 0);
	assert_int_equal(fs_sync_dir(p->fd, "none"), -ENOENT);
}

static void knows_the_room_on_the_file_system(void **state)
{
	struct place *p = *state;
	uint64_t room_free = 0, total = 0;

	assert_int_equal(fs_room(p->fd, &room_free, &total), 0);
	assert_true(total > 0);
	assert_true(room_free <= total);
	assert_int_equal(fs_room(-1, &room_free, &total), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(opens_folders_and_makes_missing_parents, make_place,
						remove_place),
		cmocka_unit_test_setup_teardown(tells_why_a_folder_cannot_be, make_place, remove_place),
		cmocka_unit_test_setup_teardown(says_whether_it_made_the_folder, make_place, remove_place),
		cmocka_unit_test_setup_teardown(does_not_follow_symlinks, make_place, remove_place),
		cmocka_unit_test_setup_teardown(writes_and_reads_at_offsets, make_place, remove_place),
		cmocka_unit_test_setup_teardown(tells_a_full_device, make_place, remove_place),
		cmocka_unit_test_setup_teardown(reads_whole_files_up_to_the_maximum, make_place,
						remove_place),
		cmocka_unit_test_setup_teardown(is_not_held_by_a_pipe, make_place, remove_place),
		cmocka_unit_test_setup_teardown(replaces_a_file_and_leaves_nothing_behind, make_place,
						remove_place),
		cmocka_unit_test_setup_teardown(a_failed_replace_leaves_the_old_state, make_place,
						remove_place),
		cmocka_unit_test_setup_teardown(unlinks_once_and_is_content_the_second_time, make_place,
						remove_place),
		cmocka_unit_test_setup_teardown(syncs_folders_by_name, make_place, remove_place),
		cmocka_unit_test_setup_teardown(knows_the_room_on_the_file_system, make_place, remove_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
