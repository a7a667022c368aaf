/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool - the command hfcache: the daemon's executable under its second name.
 *
 * Owns      the verbs, one table (verbs.def) from which usage, help, manual and completion follow. Output: stdout is data, stderr
 *           is talk; --json where there is data.
 * Never     opens the store or the index: what the daemon knows it asks the daemon, over its admin socket (HTTP and JSON), or over
 *           loopback for what is no secret. Only `ca` and `env` work without a daemon.
 * Threads   one.
 * Exit      sysexits.h: 64 usage, 66 no such repo, 69 no daemon, 74 a file, 75 try again, 77 not allowed, 78 configuration.
 */
#pragma once
#include <stdbool.h>

/* What the configuration says, filled in by main. Borrowed. */
struct tool_opts {
	int argc;
	char **argv; /* argv[0] is the program; global options of the configuration are taken out */
	const char *const *sockets; /* where the daemon's admin socket may be, in this order; NULL ends */
	const char *local_url; /* where it answers on this machine, "http://127.0.0.1:8090"; NULL nowhere */
	const char *url;       /* the same for clients; NULL: it cannot be told from the configuration */
	const char *ca_path;   /* intercept.ca-file, resolved; NULL none */
	/* "host:port" of the proxy for clients; "": not to be told from the configuration; NULL: it does not intercept */
	const char *intercept_address;
	bool intercept_tunnels;             /* clients also meet hosts that it passes through */
	const char *const *intercept_hosts; /* NULL ends */
};
/* Returns the exit code. */
int tool_main(const struct tool_opts *opts);
