/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify - sd_notify and sd_listen_fds, and nothing else. Promises in the door.
 *
 * A message that cannot be sent is dropped: there is nobody to tell, and serving does not depend on it.
 */
#include "notify.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "common/banned.h"

/* Keep the variables: children do not exist, and the watchdog is asked for again at each turn. */
#define KEEP_ENVIRONMENT 0
#define UNSET_ENVIRONMENT 1

static int prepare_socket(int fd)
{
	int flags;

	if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
		return -ENOTSOCK;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

int notify_listen_fds(int ret_fds[NOTIFY_FDS_MAX])
{
	int count = sd_listen_fds(UNSET_ENVIRONMENT);

	if (count <= 0)
		return count;
	if (count > NOTIFY_FDS_MAX)
		return -E2BIG;
	for (int i = 0; i < count; i++) {
		int r = prepare_socket(SD_LISTEN_FDS_START + i);

		if (r < 0)
			return r;
	}
	for (int i = 0; i < count; i++)
		ret_fds[i] = SD_LISTEN_FDS_START + i;
	return count;
}

void notify_ready(const char *status)
{
	(void)sd_notifyf(KEEP_ENVIRONMENT, "READY=1\nSTATUS=%s", status);
}

void notify_status(const char *status)
{
	(void)sd_notifyf(KEEP_ENVIRONMENT, "STATUS=%s", status);
}

void notify_reloading(void)
{
	struct timespec now = { 0 };

	/* newer managers want to know since when, on the monotonic clock */
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	(void)sd_notifyf(KEEP_ENVIRONMENT, "RELOADING=1\nMONOTONIC_USEC=%llu",
			 (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
}

void notify_stopping(const char *status)
{
	(void)sd_notifyf(KEEP_ENVIRONMENT, "STOPPING=1\nSTATUS=%s", status);
}

void notify_more_time(uint64_t ms)
{
	(void)sd_notifyf(KEEP_ENVIRONMENT, "EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)ms * 1000);
}

uint64_t notify_alive_interval_ms(void)
{
	uint64_t timeout_us = 0;

	return sd_watchdog_enabled(KEEP_ENVIRONMENT, &timeout_us) > 0 ? timeout_us / 1000 / 2 : 0;
}

void notify_alive(void)
{
	(void)sd_notify(KEEP_ENVIRONMENT, "WATCHDOG=1");
}
