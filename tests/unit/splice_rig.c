/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice_rig - see the header.
 */
#include "splice_rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "common/alloc.h"
#include "common/log.h"

#include <cmocka.h>

/* --- a certificate --- */

static void add_extension(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(e);
	assert_int_equal(X509_add_ext(x, e, -1), 1);
	X509_EXTENSION_free(e);
}

static struct bytes *copy(unsigned char *data, int len)
{
	struct bytes *b;

	assert_true(len > 0);
	b = bytes_new_copy((struct str){ (char *)data, (size_t)len });
	OPENSSL_free(data);
	return b;
}

static void write_pem(struct rig *rig)
{
	FILE *f;

	memcpy(rig->ca_file, "/tmp/hfcached-test-XXXXXX", 26);
	f = fdopen(mkstemp(rig->ca_file), "w");
	assert_non_null(f);
	assert_int_equal(PEM_write_X509(f, rig->x509), 1);
	assert_int_equal(fclose(f), 0);
}

/* Signed by itself, good for hub.test and 127.0.0.1. */
static void make_certificate(struct rig *rig)
{
	X509 *x = X509_new();
	unsigned char *certificate = NULL, *key = NULL;
	int len;

	rig->x509 = x;
	rig->key = EVP_EC_gen("P-256");
	assert_true(x && rig->key);
	(void)X509_set_version(x, 2);
	(void)ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	(void)X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	(void)X509_gmtime_adj(X509_getm_notAfter(x), 86400);
	(void)X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
					 (const unsigned char *)"hub.test", -1, -1, 0);
	(void)X509_set_issuer_name(x, X509_get_subject_name(x));
	(void)X509_set_pubkey(x, rig->key);
	add_extension(x, NID_subject_alt_name, "DNS:hub.test,IP:127.0.0.1");
	assert_true(X509_sign(x, rig->key, EVP_sha256()) > 0);
	len = i2d_X509(x, &certificate);
	rig->leaf.certificate = copy(certificate, len);
	len = i2d_PrivateKey(rig->key, &key);
	rig->leaf.key = copy(key, len);
	write_pem(rig);
}

/* --- the splice --- */

static uint64_t late_mono_ms(void *ctx)
{
	struct rig *rig = ctx;

	return clock_mono_ms(&clock_system) + atomic_load(&rig->late_ms);
}

static int identify(void *ctx, struct str name, struct ca_leaf *ret_leaf)
{
	struct rig *rig = ctx;

	if (!str_eq(name, STR("hub.test")))
		return -EACCES;
	*ret_leaf = (struct ca_leaf){ bytes_ref(rig->leaf.certificate), bytes_ref(rig->leaf.key),
				      rig->leaf.expires_at };
	return 0;
}

static int open_inner(void *ctx, struct str name, const struct sockaddr_storage *from)
{
	struct rig *rig = ctx;
	int pair[2], refusal = atomic_exchange(&rig->refuse_inner, 0);

	assert_int_equal(((const struct sockaddr_in *)from)->sin_port, htons(4711));
	if (refusal)
		return -refusal;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	(void)snprintf(rig->name, sizeof(rig->name), "%.*s", STR_ARGS(name));
	atomic_store(&rig->inner, pair[1]);
	return pair[0];
}

int rig_set_up(void **state)
{
	struct rig *rig = xcalloc(1, sizeof(*rig));

	(void)signal(SIGPIPE, SIG_IGN); /* for the clients' sessions */
	log_set_level(LOG_LEVEL_ERROR);
	make_certificate(rig);
	rig->clock = (struct clock){ .mono_ms = late_mono_ms, .ctx = rig };
	rig->host = (struct splice_host){ identify, open_inner };
	rig->opts = (struct splices_opts){ .ca_file = rig->ca_file, .clock = &rig->clock };
	atomic_store(&rig->inner, -1);
	*state = rig;
	return 0;
}

void rig_start(struct rig *rig)
{
	rig->splices = splices_new(&rig->opts);
	assert_non_null(rig->splices);
}

int rig_set_up_started(void **state)
{
	(void)rig_set_up(state);
	rig_start(*state);
	return 0;
}

/* As ca does it; this test links no ca. */
int rig_tear_down(void **state)
{
	struct rig *rig = *state;

	splices_free(rig->splices);
	(void)unlink(rig->ca_file);
	bytes_unref(rig->leaf.certificate);
	bytes_unref(rig->leaf.key);
	X509_free(rig->x509);
	EVP_PKEY_free(rig->key);
	free(rig);
	return 0;
}

/* --- sockets --- */

static void be_patient(int fd)
{
	struct timeval patience = { .tv_sec = 20 };

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

int listen_here(uint16_t *ret_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*ret_port = ntohs(a.sin_port);
	be_patient(fd);
	return fd;
}

int accept_here(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	assert_true(fd >= 0);
	be_patient(fd);
	return fd;
}

void tcp_pair(int ret_fds[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	uint16_t port;
	int listener = listen_here(&port);

	a.sin_port = htons(port);
	ret_fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(ret_fds[0], (struct sockaddr *)&a, sizeof(a)), 0);
	be_patient(ret_fds[0]);
	ret_fds[1] = accept_here(listener);
	(void)close(listener);
}

static void nap(uint64_t began, const char *what)
{
	if (clock_mono_ms(&clock_system) - began > 20000)
		fail_msg("waited too long for %s", what);
	(void)usleep(1000);
}

int take_inner(struct rig *rig)
{
	uint64_t began = clock_mono_ms(&clock_system);
	int fd;

	while ((fd = atomic_exchange(&rig->inner, -1)) < 0)
		nap(began, "the inner end");
	be_patient(fd);
	return fd;
}

void wait_for_count(struct rig *rig, unsigned count)
{
	uint64_t began = clock_mono_ms(&clock_system);

	while (splices_count(rig->splices) != count)
		nap(began, "the count of joins");
}

void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

void expect(int fd, const char *text)
{
	char got[512] = "";

	assert_true(strlen(text) < sizeof(got));
	assert_int_equal(recv(fd, got, strlen(text), MSG_WAITALL), strlen(text));
	assert_string_equal(got, text);
}

int end_of(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, 0);

	assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
	return (int)n;
}

/* --- TLS --- */

int unwrap(struct rig *rig, const char *greeting)
{
	struct sockaddr_storage from = { 0 };
	int fds[2];

	((struct sockaddr_in *)&from)->sin_family = AF_INET;
	((struct sockaddr_in *)&from)->sin_port = htons(4711);
	tcp_pair(fds);
	assert_int_equal(splice_unwrap(rig->splices, fds[1], &from, greeting, STR(""), &rig->host, rig), 0);
	return fds[0];
}

static SSL *begin(SSL_CTX *context, int fd)
{
	SSL *tls;

	assert_non_null(context);
	tls = SSL_new(context);
	SSL_CTX_free(context);
	assert_int_equal(SSL_set_fd(tls, fd), 1);
	return tls;
}

SSL *shake(struct rig *rig, int fd, const char *sni)
{
	SSL *tls = begin(SSL_CTX_new(TLS_client_method()), fd);

	if (sni)
		assert_int_equal(SSL_set_tlsext_host_name(tls, sni), 1);
	ERR_clear_error();
	if (SSL_connect(tls) == 1)
		return tls;
	SSL_free(tls);
	return NULL;
}

SSL *serve_tls(struct rig *rig, int fd)
{
	SSL_CTX *c = SSL_CTX_new(TLS_server_method());
	SSL *tls;

	assert_int_equal(SSL_CTX_use_certificate(c, rig->x509), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(c, rig->key), 1);
	tls = begin(c, fd);
	if (SSL_accept(tls) == 1)
		return tls;
	SSL_free(tls);
	return NULL;
}

SSL *connect_tls(struct rig *rig, int *ret_inner)
{
	SSL *tls = shake(rig, unwrap(rig, NULL), "hub.test");

	assert_non_null(tls);
	*ret_inner = take_inner(rig);
	return tls;
}

void tls_say(SSL *tls, const char *text)
{
	assert_int_equal(SSL_write(tls, text, (int)strlen(text)), strlen(text));
}

void tls_expect(SSL *tls, const char *text)
{
	char got[512] = "";
	size_t at = 0;

	assert_true(strlen(text) < sizeof(got));
	while (at < strlen(text)) {
		int n = SSL_read(tls, got + at, (int)(strlen(text) - at));

		assert_true(n > 0);
		at += (size_t)n;
	}
	assert_string_equal(got, text);
}

int tls_end(SSL *tls)
{
	char byte;
	int n;

	ERR_clear_error();
	n = SSL_read(tls, &byte, 1);
	assert_true(n <= 0);
	return SSL_get_error(tls, n) == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

void tls_drop(SSL *tls)
{
	int fd = SSL_get_fd(tls);

	SSL_free(tls);
	(void)close(fd);
}
