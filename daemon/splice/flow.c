/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice/flow - one direction of a join: what one end says goes to the other, through one buffer.
 *
 * Owns      its buffer, while there is something in it: an idle join has none.
 * Promises  (1) nothing is read while what was read before waits: back-pressure is the full buffer.
 *           (2) the end of the stream is passed on behind the last byte, and once.
 *           (3) an end that takes no more bytes does not break the other direction: its own last words may be on their way.
 *               What is meant for it is thrown away from then on.
 *           (4) a turn moves a bounded number of bytes.
 * Threads   the splice thread.
 */
#include "splice/priv.h"

#include <assert.h>
#include <errno.h>
#include "common/alloc.h"

#include "common/banned.h"

#define ROUNDS_MAX 16

void flow_done(struct flow *f)
{
	free(TAKE_PTR(f->bytes));
	f->at = f->len = 0;
}

void flow_put(struct flow *f, struct str text)
{
	assert(f->len + text.len <= SPLICE_BUFFER);
	if (text.len == 0)
		return;
	if (!f->bytes)
		f->bytes = xmalloc(SPLICE_BUFFER);
	memcpy(f->bytes + f->len, text.ptr, text.len);
	f->len += text.len;
}

/* Returns whether something came, or the end; -errno broken. */
static int fill(struct flow *f, struct end *from)
{
	ssize_t n;

	if (f->is_ended || !from->can_read || f->at < f->len)
		return 0;
	if (!f->bytes)
		f->bytes = xmalloc(SPLICE_BUFFER);
	n = end_read(from, f->bytes, SPLICE_BUFFER);
	f->at = 0;
	f->len = n > 0 ? (size_t)n : 0;
	if (n == -EAGAIN)
		return 0;
	if (n < 0)
		return (int)n;
	f->is_ended = n == 0;
	return 1;
}

/* Returns whether something went. */
static bool drain(struct flow *f, struct end *to)
{
	ssize_t n;

	if (f->at == f->len)
		return false;
	if (f->is_dropped) {
		f->at = f->len;
		return true;
	}
	if (!to->can_write)
		return false;
	n = end_write(to, f->bytes + f->at, f->len - f->at);
	if (n == -EAGAIN)
		return false;
	if (n < 0)
		f->is_dropped = true; /* promise 3 */
	else
		f->at += (size_t)n;
	return true;
}

static void pass_end(struct flow *f, struct end *to)
{
	if (f->is_passed || !f->is_ended || f->at < f->len)
		return;
	if (!f->is_dropped && end_finish(to) == -EAGAIN)
		return; /* again, when it can be written to */
	f->is_passed = true;
}

int flow_run(struct flow *f, struct end *from, struct end *to, uint64_t now_mono_ms, uint64_t *moved_mono_ms)
{
	bool is_busy = true;
	int rounds = 0, r = 0;

	for (; is_busy && r >= 0 && rounds < ROUNDS_MAX; rounds++) {
		bool has_sent = drain(f, to);

		r = fill(f, from);
		is_busy = has_sent || r > 0;
		if ((has_sent || (r > 0 && !f->is_ended)) && !f->is_dropped)
			*moved_mono_ms = now_mono_ms;
	}
	pass_end(f, to);
	if (f->at == f->len)
		flow_done(f);
	return r < 0 ? r : is_busy;
}
