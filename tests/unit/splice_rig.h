/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice_rig - a splice of one's own for each test, with a certificate for "hub.test", TLS clients and TLS hosts over real sockets.
 * What goes wrong here fails the test that called.
 */
#pragma once
#include "splice/splice.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

struct rig {
	struct splices *splices;
	struct splices_opts opts;
	struct clock clock;
	_Atomic uint64_t late_ms; /* how far the test's clock is ahead */
	struct splice_host host;
	struct ca_leaf leaf;
	X509 *x509;
	EVP_PKEY *key;
	char ca_file[64];         /* the certificate, as what hosts are verified with */
	_Atomic int inner;        /* the other end of the last pair that was opened; -1 */
	_Atomic int refuse_inner; /* errno that the next open_inner fails with */
	char name[256];           /* that it was opened for */
};
/* Not started yet. */
int rig_set_up(void **state);
int rig_set_up_started(void **state);
int rig_tear_down(void **state);
void rig_start(struct rig *rig);
#define CONFIGURED(test) cmocka_unit_test_setup_teardown(test, rig_set_up, rig_tear_down)
#define STARTED(test) cmocka_unit_test_setup_teardown(test, rig_set_up_started, rig_tear_down)

/* A connected pair of TCP sockets, with 20 s of patience. */
void tcp_pair(int ret_fds[2]);
/* A listening socket on loopback, and its port. */
int listen_here(uint16_t *ret_port);
int accept_here(int listener);
/* The next inner end, taken. */
int take_inner(struct rig *rig);
void wait_for_count(struct rig *rig, unsigned count);

/* A client of the splice: begins with a greeting if there is one. Returns its socket. */
int unwrap(struct rig *rig, const char *greeting);
/* Shakes hands as the client; NULL sni names no host. Returns NULL on failure. */
SSL *shake(struct rig *rig, int fd, const char *sni);
/* As the host. */
SSL *serve_tls(struct rig *rig, int fd);
/* hub.test through the splice, hands shaken; *ret_inner is the other end. */
SSL *connect_tls(struct rig *rig, int *ret_inner);
void tls_say(SSL *tls, const char *text);
void tls_expect(SSL *tls, const char *text);
void say(int fd, const char *text);
void expect(int fd, const char *text);
/* 0: a proper end; -1: a break. */
int tls_end(SSL *tls);
int end_of(int fd);
/* Frees the session and closes its socket, without a word. */
void tls_drop(SSL *tls);
