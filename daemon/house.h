/* SPDX-License-Identifier: Apache-2.0 */
/*
 * house - every room of the daemon, started in order and stopped the other way round.
 *
 * Never     reads the command line, waits for signals.
 * Threads   the main thread only.
 */
#pragma once
#include "config/config.h"
#include "rights.h"

struct house;

/* For people: "hfcached: …" on stderr. Returns exit_code. */
int say(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Starts everything. config is borrowed for the house's life, rights for the call.
 * Returns 0 and the caller's house; else an exit code of sysexits.h, said on stderr, with nothing left running:
 * 69 cannot listen, 73 or 74 the store, 78 an option.
 */
int house_start(const struct config *config, const struct rights *rights, struct house **ret_house);
/* storage.path, or the folder that stands for it. The caller's. */
char *house_store_path(const struct config *config);
/* "127.0.0.1:8090"; borrowed. */
const char *house_address(const struct house *h);
/* Takes over what may change while running (the rows of options.def with reload = 1). */
void house_set_options(struct house *h, const struct config *config, const struct rights *rights);
/* Do all loops turn? */
bool house_is_alive(struct house *h);
/* Running answers go on up to drain_ms; then everything ends. */
void house_stop(struct house *h, uint64_t drain_ms);
