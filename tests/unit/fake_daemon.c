/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_daemon - server/ with the fake router as a program, for tests that speak to a socket from outside:
 * fake_daemon ADDRESS [THREADS]. Prints the real address; ends on SIGTERM after a drain.
 */
#include "fake_router.h"

#include <signal.h>
#include <stdio.h>
#include "common/clock.h"
#include "common/log.h"

int main(int argc, char **argv)
{
	const char *listen[] = { argc > 1 ? argv[1] : "127.0.0.1:0", NULL };
	uint64_t threads = 0;
	struct server *server = NULL;
	char *reason = NULL;
	sigset_t ends;
	int signal_number;

	if (argc > 2)
		(void)parse_u64(str_from(argv[2]), &threads);
	struct server_opts opts = { .listen = listen,
				    .threads = (unsigned)threads,
				    .router = fake_router_new(),
				    .metrics = metrics_new(),
				    .clock = &clock_system };

	(void)sigemptyset(&ends);
	(void)sigaddset(&ends, SIGTERM);
	(void)sigaddset(&ends, SIGINT);
	(void)pthread_sigmask(SIG_BLOCK, &ends, NULL);
	log_set_level(argc > 3 ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING);
	if (server_start(&opts, &server, &reason) < 0) {
		(void)fprintf(stderr, "%s\n", reason);
		return 69;
	}
	(void)printf("%s\n", server_address(server));
	(void)fflush(stdout);
	(void)sigwait(&ends, &signal_number);
	(void)server_drain(server, 5000);
	server_free(server);
	metrics_free(opts.metrics);
	fake_router_free(opts.router);
	return 0;
}
