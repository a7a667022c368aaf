/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_client - a server with the fake router for each test, and clients that speak HTTP over bare sockets.
 * What goes wrong here fails the test that called.
 */
#pragma once
#include "fake_router.h"

#include "common/buf.h"

struct rig {
	struct router *router;
	struct metrics *metrics;
	struct server *server;
	struct server_opts opts;
	const char *listen[2];
};
/* Not started yet: the test may change opts. */
struct rig *rig_new(void);
void rig_start(struct rig *rig);
/* Stops it, and checks that no request left anything behind. */
void rig_free(struct rig *rig);
/* The same as cmocka's set-up and tear-down. */
int rig_set_up(void **state);
int rig_set_up_started(void **state);
int rig_tear_down(void **state);
#define CONFIGURED(test) cmocka_unit_test_setup_teardown(test, rig_set_up, rig_tear_down)
#define STARTED(test) cmocka_unit_test_setup_teardown(test, rig_set_up_started, rig_tear_down)

/* Until so many readers, relays and slow answers are there: what was said has been read by then. */
void wait_for_live(unsigned count);
/* Until the server knows of so many connections. */
void wait_for_connections(const struct rig *rig, unsigned count);

/* A connection, or -1. */
int try_dial(const struct rig *rig);
int dial(const struct rig *rig);
void say(int fd, const char *text);
/* A body of zeros; false when the server hung up. */
bool say_zeros(int fd, size_t count);

struct answer_text {
	int status; /* 0: the connection ended without one */
	struct buf head, body;
};
/* One answer, and nothing behind it. */
struct answer_text hear(int fd, bool has_body);
void answer_done(struct answer_text *a);
struct str field(const struct answer_text *a, const char *name);
/* Hears one and compares; body may be NULL. */
void expect(int fd, int status, const char *body);
void expect_pattern(struct str body, size_t len);
/* Up to max bytes more. Returns what recv returned last: 0 is FIN, -1 a time-out or RST. */
ssize_t take(int fd, struct buf *out, size_t max);
/* Has the server closed, properly? Waits for it. */
bool is_over(int fd);
uint64_t now_ms(void);

#define GET(target) "GET " target " HTTP/1.1\r\nHost: a\r\n\r\n"
