/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command - the program under its second name: the options that both understand, and what the command hfcache is told of them.
 *
 * Threads   the main thread.
 */
#pragma once
#include "config/config.h"

/* Was the program called as hfcache? */
bool command_is_meant(const char *program);
/* Returns the exit code. */
int command_run(int argc, char **argv);
/* Where the daemon's admin socket is; NULL: there is to be none. *ret_is_chosen: the configuration names it. The caller's. */
char *command_admin_socket(const struct config *config, bool *ret_is_chosen);
