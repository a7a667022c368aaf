/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool - the command hfcache: the daemon's executable under its second name.
 *
 * Owns      the verbs, one table (verbs.def) from which usage, help and manual follow. Output: stdout is data, stderr is talk;
 *           --json where there is data.
 * Never     opens the store or the index: what the daemon knows it asks the daemon, over its admin socket (HTTP and JSON, the
 *           API of the page), or over loopback for what is no secret. Only `ca` and `env` work without a daemon.
 * Threads   one.
 * Exit      sysexits.h: 64 usage, 66 no such repo, 69 no daemon, 75 try again, 77 not allowed, 78 configuration.
 */
#pragma once
#include <stdbool.h>

/* What the configuration says, filled in by main. Borrowed. */
struct tool_opts {
	int argc;
	char **argv;             /* argv[0] is the program; global options of the configuration are taken out */
	const char *socket;      /* the daemon's admin socket */
	const char *url;         /* "http://127.0.0.1:8090": where it serves, for clients */
	const char *ca_path;     /* intercept.ca-file, resolved */
	bool intercepts;         /* intercept.enabled */
	const char *const *intercept_hosts;
	const char *intercept_address; /* intercept.listen's first; NULL none */
};
/* Returns the exit code. */
int tool_main(const struct tool_opts *opts);
