/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice/limits - what a join may not do: take too long, lie idle, read too slowly, come from where too many have come.
 *
 * Promises  (1) of the last eighth of the joins, no address that has 256 whose TLS is taken off gets one more (P15).
 *           (2) a client that is owed bytes, and takes fewer than 4 KiB/s over a minute, is cut (P14): the server cannot see that
 *               over a pair of sockets.
 * Threads   the splice thread.
 */
#include "splice/priv.h"

#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include "common/http/address.h"
#include "common/log.h"

#include "common/banned.h"

#define CROWD_MAX 256u
#define RATE_WINDOW_MS 60000u
#define RATE_MIN_BYTES ((uint64_t)4096 * 60)

const char *limits_client(const struct join *j, char ret_text[CLIENT_TEXT])
{
	if (getnameinfo((const struct sockaddr *)&j->from, sizeof(j->from), ret_text, CLIENT_TEXT, NULL, 0,
			NI_NUMERICHOST))
		return "-";
	return ret_text;
}

static bool is_same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	struct address x, y;

	return address_from_socket((const struct sockaddr *)a, sizeof(*a), &x) == 0 &&
	       address_from_socket((const struct sockaddr *)b, sizeof(*b), &y) == 0 && address_eq(&x, &y);
}

/* Only asked when room is short. */
bool limits_is_crowd(const struct join *j)
{
	const struct splices *s = j->splices;
	unsigned n = 0;

	if (j->kind != JOIN_UNWRAP || atomic_load(&s->count) <= s->joins_max - s->joins_max / 8)
		return false;
	LIST_EACH(it, &j->splices->joins) {
		const struct join *other = LIST_ENTRY(it, struct join, node);

		n += other->kind == JOIN_UNWRAP && is_same_address(&other->from, &j->from);
	}
	return n > CROWD_MAX;
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

/* Promise 2. */
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

void limits_tick(struct join *j, uint64_t now_mono_ms)
{
	if (j->until_mono_ms && now_mono_ms >= j->until_mono_ms) {
		join_run_out(j);
		return;
	}
	if (j->phase == JOIN_OPEN && now_mono_ms - j->moved_mono_ms >= j->splices->idle_ms) {
		log_debug("splice", "nothing moved", LOG_TEXT("name", j->name), LOG_END);
		join_cut(j);
	} else if (reads_too_slowly(j, now_mono_ms)) {
		char client[CLIENT_TEXT];

		log_info("splice", "cut a client that reads too slowly",
			 LOG_TEXT("client", limits_client(j, client)), LOG_TEXT("name", j->name), LOG_END);
		join_cut(j);
	}
}
