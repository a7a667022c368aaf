/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ca/files - the two files, read with distrust and written so that a crash leaves each whole or absent.
 *
 * Promises  (1) nothing is overwritten: the name is given by a link that fails when it is taken.
 *           (2) the key has mode 0600 from its creation on, under any umask; copies in memory are wiped.
 */
#include "ca/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <stdio.h>
#include "common/alloc.h"
#include "common/hash.h"
#include "common/path.h"

#include "common/banned.h"

char *key_path(const char *path)
{
	struct str p = str_from(path);

	if (!str_ends_with(p, STR(".pem")) || p.len == strlen(".pem") || p.ptr[p.len - 5] == '/')
		return NULL;
	return xasprintf("%.*s.key", (int)(p.len - 4), p.ptr);
}

/* --- reading --- */

static int read_whole(const char *path, bool is_secret, char **ret_text, size_t *ret_len)
{
	SCOPED_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | (is_secret ? O_NOFOLLOW : 0));
	struct stat st;
	char *text;
	int r;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	/* root looks at the service's own: "sudo hfcache ca show" */
	if (is_secret && (st.st_mode & 077 || (st.st_uid != geteuid() && st.st_uid != 0 && geteuid() != 0)))
		return -EPERM;
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || (uint64_t)st.st_size > CA_FILE_MAX)
		return -EBADMSG;
	text = xmalloc((size_t)st.st_size);
	r = fs_pread_all(fd, text, (size_t)st.st_size, 0);
	if (r < 0) {
		secret_wipe(text, (size_t)st.st_size);
		free(text);
		return r;
	}
	*ret_text = text;
	*ret_len = (size_t)st.st_size;
	return 0;
}

/* No terminal is asked for a pass phrase: a key that has one is no key here. */
static int no_phrase(char *buf, int size, int is_writing, void *ctx)
{
	return 0;
}

int read_key(const char *path, EVP_PKEY **ret_key)
{
	char *text = NULL;
	size_t len = 0;
	int r = read_whole(path, true, &text, &len);
	EVP_PKEY *key;
	BIO *bio;

	if (r < 0)
		return r;
	bio = BIO_new_mem_buf(text, (int)len);
	key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_phrase, NULL) : NULL;
	BIO_free_all(bio);
	secret_wipe(text, len);
	free(text);
	*ret_key = key ? key : *ret_key;
	return key ? 0 : -EBADMSG;
}

int read_certificate(const char *path, X509 **ret_certificate)
{
	SCOPED_FREE char *text = NULL;
	size_t len = 0;
	int r = read_whole(path, false, &text, &len);
	X509 *x;
	BIO *bio;

	if (r < 0)
		return r;
	bio = BIO_new_mem_buf(text, (int)len);
	x = bio ? PEM_read_bio_X509(bio, NULL, no_phrase, NULL) : NULL;
	BIO_free_all(bio);
	secret_wipe(text, len); /* who keeps the key in the same file does not lose it here */
	*ret_certificate = x ? x : *ret_certificate;
	return x ? 0 : -EBADMSG;
}

/* --- writing --- */

/* The name must be free. Some file systems know no way to say so with a rename, or no links; then the other one serves. */
static int give_name(const char *temporary, const char *path)
{
	if (renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (link(temporary, path) < 0)
		return -errno;
	return unlink(temporary) < 0 ? -errno : 0;
}

static int sync_folder_of(const char *path)
{
	SCOPED_FREE char *folder = xstrdup(path);
	char *slash = strrchr(folder, '/');
	SCOPED_FD int fd = -1;

	if (slash == folder)
		slash++;
	if (slash)
		*slash = 0;
	/* it may be on another disk, by a symbolic link of the administrator's */
	fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fs_sync(fd);
}

static int write_whole(const char *path, mode_t mode, const void *bytes, size_t len)
{
	SCOPED_FREE char *temporary = NULL;
	SCOPED_FD int fd = -1;
	uint64_t random;
	int r;

	random_bytes(&random, sizeof(random));
	temporary = xasprintf("%s.tmp-%016llx", path, (unsigned long long)random);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = fs_write_all(fd, bytes, len);
	if (r == 0 && fchmod(fd, mode) < 0) /* the umask may have taken from it */
		r = -errno;
	if (r == 0)
		r = fs_sync(fd);
	if (r == 0)
		r = give_name(temporary, path);
	if (r < 0) {
		(void)unlink(temporary);
		return r;
	}
	return sync_folder_of(path);
}

int write_key(const char *path, EVP_PKEY *key)
{
	SCOPED(BIO_free_all) BIO *bio = BIO_new(BIO_s_secmem()); /* wipes what it held */
	char *text = NULL;
	long len;

	if (!bio || !PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL))
		return -ENOMEM;
	len = BIO_get_mem_data(bio, &text);
	return write_whole(path, 0600, text, (size_t)len);
}

char *certificate_text(X509 *certificate, size_t *ret_len)
{
	SCOPED(BIO_free_all) BIO *bio = BIO_new(BIO_s_mem());
	char *text = NULL;
	long len;

	if (!bio || !PEM_write_bio_X509(bio, certificate))
		return NULL;
	len = BIO_get_mem_data(bio, &text);
	*ret_len = (size_t)len;
	return xstrndup(text, (size_t)len);
}

int write_certificate(const char *path, X509 *certificate)
{
	size_t len = 0;
	SCOPED_FREE char *text = certificate_text(certificate, &len);

	return text ? write_whole(path, 0644, text, len) : -ENOMEM;
}
