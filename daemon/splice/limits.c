/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice/limits - what a join may not do: take too long, lie idle, read too slowly. And whose it is.
 *
 * Promises  (1) a client that is owed bytes, and takes fewer than 4 KiB/s over a minute, is cut (P14): the server cannot see that
 *               over a pair of sockets.
 *           (2) a client that has ended is gone for a host that stays silent, and soon: it may have closed altogether, which nobody
 *               can tell from half an end.
 * Threads   the splice thread; limits_who(): any.
 */
#include "splice/priv.h"

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include "common/log.h"

#include "common/banned.h"

#define RATE_WINDOW_MS 60000u
#define RATE_MIN_BYTES ((uint64_t)4096 * 60)

void limits_who(const struct sockaddr_storage *from, char ret_who[WHO_TEXT])
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
	const char *text = NULL;

	if (from->ss_family == AF_INET)
		text = inet_ntop(AF_INET, &v4->sin_addr, ret_who, WHO_TEXT);
	else if (from->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		text = inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], ret_who, WHO_TEXT);
	else if (from->ss_family == AF_INET6)
		text = inet_ntop(AF_INET6, &v6->sin6_addr, ret_who, WHO_TEXT);
	if (!text)
		ret_who[0] = 0;
}

static bool read_acked(const struct join *j, uint64_t *ret_acked)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	if (getsockopt(j->client.watch.fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return false;
	*ret_acked = info.tcpi_bytes_acked;
	return true;
}

/* Promise 1. */
static bool reads_too_slowly(struct join *j, uint64_t now_mono_ms)
{
	uint64_t acked;
	bool is_slow;

	if (j->kind != JOIN_UNWRAP || j->phase != JOIN_OPEN)
		return false;
	if (j->down.at == j->down.len) { /* nothing waits for it */
		j->rate_mono_ms = 0;
		return false;
	}
	if (j->rate_mono_ms && now_mono_ms - j->rate_mono_ms < RATE_WINDOW_MS)
		return false;
	if (!read_acked(j, &acked))
		return false;
	is_slow = j->rate_mono_ms && acked < j->rate_acked + RATE_MIN_BYTES;
	j->rate_mono_ms = now_mono_ms;
	j->rate_acked = acked;
	return is_slow;
}

/* Promise 2. Of a client whose TLS is taken off the server knows. */
static bool is_left_alone(struct join *j, uint64_t now_mono_ms)
{
	uint64_t limit = j->kind == JOIN_TUNNEL ? TUNNEL_HALF_MS : DIAL_HALF_MS, since;

	if (j->kind == JOIN_UNWRAP || j->phase != JOIN_OPEN || !j->up.is_ended)
		return false;
	if (!j->half_mono_ms)
		j->half_mono_ms = now_mono_ms;
	since = j->moved_mono_ms > j->half_mono_ms ? j->moved_mono_ms : j->half_mono_ms;
	return now_mono_ms - since >= limit;
}

void limits_tick(struct join *j, uint64_t now_mono_ms)
{
	if (j->until_mono_ms && now_mono_ms >= j->until_mono_ms) {
		join_run_out(j);
		return;
	}
	if (is_left_alone(j, now_mono_ms) ||
	    (j->phase == JOIN_OPEN && now_mono_ms - j->moved_mono_ms >= j->splices->idle_ms)) {
		log_debug("splice", "nothing moved", LOG_TEXT("name", j->name), LOG_END);
		join_cut(j);
	} else if (reads_too_slowly(j, now_mono_ms)) {
		log_info("splice", "cut a client that reads too slowly", LOG_TEXT("client", j->who),
			 LOG_TEXT("name", j->name), LOG_END);
		join_cut(j);
	}
}
