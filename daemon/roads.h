/* SPDX-License-Identifier: Apache-2.0 */
/*
 * roads - the options of [intercept] become a site CA, the connections that others unwrap, and clients of the server.
 *
 * Owns      the site CA, interception. Not the server, nor the splices.
 * Threads   the main thread; what others call is said below.
 */
#pragma once
#include "config/config.h"
#include "intercept/intercept.h"
#include "server/server.h"

struct roads;

/* intercept.ca-file, or what stands for it. The caller's. */
char *roads_ca_path(const struct config *config, const char *store_path);
/*
 * For --check-config and each start: what is wrong with [intercept], a line each as config_load() writes them, and what an
 * administrator should know. Changes nothing. Returns 0; -EINVAL with errors.
 */
int roads_check(const struct config *config, const char *store_path, struct buf *errors,
		struct buf *warnings);
/*
 * Opens the site CA, or makes one for the names of intercept.hosts; without intercept.enabled there is none.
 * Returns 0 and the caller's roads, or an exit code, said on stderr. config: borrowed for its life.
 */
int roads_new(const struct config *config, const char *store_path, struct roads **ret_roads);
/* Listens. Returns 0 or an exit code. */
int roads_start(struct roads *r, struct splices *splices, struct metrics *metrics, const struct clock *clock);
/* Borrowed; empty and NULL without interception. */
struct str roads_certificate(const struct roads *r);
const char *const *roads_hosts(const struct roads *r);
/* Where its clients go from now on. It must live until the splices have stopped. */
void roads_serve(struct roads *r, struct server *server);
/* fetch_opts.is_own; any thread. Says so in the log, once. */
bool roads_is_own(void *ctx, const struct sockaddr *address, socklen_t len);
/* server_opts.on_connect; any thread. */
void roads_take(void *ctx, int take_fd, const struct sockaddr_storage *from, struct str early);
/* No new clients. */
void roads_stop(struct roads *r);
/* When the splices are gone. */
void roads_free(struct roads *r);
