/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify - the service manager: sockets it opened for us, and what we tell it. Without one, every call does
 * nothing.
 *
 * The only file that knows the service manager's library. It is not needed at run time outside of systemd.
 * Never     decides anything: main calls it at the moments it names.
 * Threads   notify_listen_fds() once at the start, before there are threads; the others from any.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* A .socket unit may name a few addresses; more is a mistake. */
#define NOTIFY_FDS_MAX 16

/*
 * Listening stream sockets that we were started with, close-on-exec and non-blocking. The variables that
 * announce them are taken out of the environment.
 *
 * Returns their number, 0 without any; -E2BIG more than NOTIFY_FDS_MAX; -ENOTSOCK one is no listening stream
 * socket.
 */
int notify_listen_fds(int ret_fds[NOTIFY_FDS_MAX]);

/* Once, when requests are answered and the index is open. */
void notify_ready(const char *status);
/* One short line for people: "serving, 12 fills". */
void notify_status(const char *status);
/* Around a SIGHUP: reloading, then ready. */
void notify_reloading(void);
/* At the beginning of the end. */
void notify_stopping(const char *status);
/*
 * Starting or stopping takes longer: give us so much more time from now on. Call it again before that is
 * over.
 */
void notify_more_time(uint64_t ms);
/* How often, in ms, notify_alive() must be called: half of what the manager waits. 0: it does not wait. */
uint64_t notify_alive_interval_ms(void);
void notify_alive(void);
