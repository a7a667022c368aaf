/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/response - from struct reply to the library's response.
 *
 *   EMPTY, BYTES  from memory: head and body leave in one call
 *   BLOB          a duplicate of the blob's descriptor, sent by sendfile (wire.c widens it)
 *   READER        the same over a growing file (wire.c parks)
 *   RELAY, EAR    read piece by piece
 *   DIAL          no response of ours: the connection leaves the library, and hears what the host says
 *   ABORT         no response: the connection ends
 *
 * Promises  (1) HEAD says what GET would, and opens no file.
 *           (2) a body of known size has a Content-Length and is never chunked (B11); what cannot be completed ends with a
 *               closed connection, before the length or without the last chunk.
 *           (3) errors close the connection: who sent one bad request is not trusted to have framed the next.
 */
#include "server/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "common/banned.h"

#define RELAY_PIECE ((size_t)64 * 1024)

/* --- bodies --- */

static ssize_t read_never(void *cls, uint64_t position, char *bytes, size_t len_max)
{
	return MHD_CONTENT_READER_END_WITH_ERROR; /* for answers without a body: only the size is told */
}

static ssize_t end_stream(struct exchange *x, uint64_t position, ssize_t r)
{
	if (r == 0 && (x->reply.head_length < 0 || position == (uint64_t)x->reply.head_length))
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (x->aborted == ABORTED_NOT)
		x->aborted = ABORTED_UPSTREAM;
	return MHD_CONTENT_READER_END_WITH_ERROR;
}

static ssize_t read_piece(struct reply *p, void *bytes, size_t len_max)
{
	return p->kind == REPLY_EAR ? ear_read(p->ear, bytes, len_max) : relay_read(p->relay, bytes, len_max);
}

static bool wait_for_piece(struct reply *p, struct waiter *w)
{
	return p->kind == REPLY_EAR ? ear_wait(p->ear, w) : relay_wait(p->relay, false, w);
}

/* What had to be read of the stream before it was passed on. 0: all of it is out. */
static ssize_t read_first(const struct reply *p, uint64_t position, char *bytes, size_t len_max)
{
	struct str first = p->bytes ? bytes_str(p->bytes) : STR("");

	if (position >= first.len)
		return 0;
	first = str_from_range(first.ptr + position, first.ptr + first.len);
	if (len_max > first.len)
		len_max = first.len;
	memcpy(bytes, first.ptr, len_max);
	return (ssize_t)len_max;
}

static ssize_t read_stream(void *cls, uint64_t position, char *bytes, size_t len_max)
{
	struct exchange *x = cls;

	for (;;) {
		ssize_t n =
			x->conn->is_closing ? -ECANCELED : read_first(&x->reply, position, bytes, len_max);

		if (n == 0)
			n = read_piece(&x->reply, bytes, len_max);

		if (n > 0) {
			x->sent += (uint64_t)n;
			return n;
		}
		if (n != -EAGAIN)
			return end_stream(x, position, n);
		park_prepare(x);
		if (wait_for_piece(&x->reply, &x->request.waiter)) {
			park_commit(x);
			return 0;
		}
		park_abandon(x);
	}
}

static void free_bytes(void *cls)
{
	bytes_unref(cls);
}

static struct MHD_Response *from_bytes(struct bytes *bytes)
{
	struct str s = bytes_str(bytes);

	if (s.len == 0)
		return MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
	return MHD_create_response_from_buffer_with_free_callback_cls(s.len, (void *)(uintptr_t)s.ptr,
								      free_bytes, bytes_ref(bytes));
}

/* The library closes the descriptor with the response, hence the duplicate. */
static struct MHD_Response *from_file(struct exchange *x, int fd)
{
	const struct reply *p = &x->reply;
	struct MHD_Response *response;

	if (p->length == 0)
		return from_bytes(NULL);
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return NULL;
	x->body = (struct body){ .exchange = x, .fd = fd, .end = p->offset + p->length, .reader = p->reader };
	response = wire_add_body(&x->body) ? MHD_create_response_from_fd_at_offset64(p->length, fd, p->offset)
					   : NULL;
	if (!response) {
		wire_remove_body(&x->body);
		(void)close(fd);
	}
	return response;
}

/* What a body would be long, for answers that have none. */
static uint64_t told_length(const struct reply *p)
{
	if (p->head_length >= 0)
		return (uint64_t)p->head_length;
	return p->kind == REPLY_RELAY || p->kind == REPLY_EAR ? MHD_SIZE_UNKNOWN : p->length;
}

static struct MHD_Response *make_response(struct exchange *x)
{
	const struct reply *p = &x->reply;

	if (x->request.is_head || p->status == 304)
		return MHD_create_response_from_callback(told_length(p), 1, read_never, NULL, NULL);
	switch (p->kind) {
	case REPLY_BYTES:
		return from_bytes(p->bytes);
	case REPLY_BLOB:
		return from_file(x, blob_fd(p->blob));
	case REPLY_READER:
		return from_file(x, reader_fd(p->reader));
	case REPLY_RELAY:
	case REPLY_EAR:
		return MHD_create_response_from_callback(told_length(p), RELAY_PIECE, read_stream, x, NULL);
	case REPLY_EMPTY:
	case REPLY_DIAL:
	case REPLY_ABORT:
		break;
	}
	return from_bytes(NULL);
}

/* --- fields --- */

static void add(struct MHD_Response *response, const char *name, const char *value)
{
	(void)MHD_add_response_header(response, name,
				      value); /* refuses only what headers_add refused already */
}

/* Framing and the date are the library's; Connection follows from reply.close; the name of the server is nobody's business. */
static bool is_ours(const char *name)
{
	static const char *const ours[] = { "Connection", "Content-Length", "Transfer-Encoding", "Date",
					    "Server",     "Keep-Alive",     "X-Request-Id" };

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (str_eq_nocase(str_from(name), str_from(ours[i])))
			return true;
	return false;
}

static void add_fields(struct exchange *x, struct MHD_Response *response, bool close)
{
	const struct reply *p = &x->reply;
	char text[128];

	for (size_t i = 0; i < p->headers.count; i++)
		if (!is_ours(p->headers.fields[i].name))
			add(response, p->headers.fields[i].name, p->headers.fields[i].value);
	add(response, "X-Request-Id", x->request.id);
	if (p->cache_status &&
	    snprintf(text, sizeof(text), "hfcache; %s", p->cache_status) < (int)sizeof(text))
		add(response, "Cache-Status", text);
	if (p->age_s >= 0) {
		(void)snprintf(text, sizeof(text), "%lld", (long long)p->age_s);
		add(response, "Age", text);
	}
	if (close)
		add(response, "Connection", "close");
}

static bool must_close(const struct exchange *x)
{
	const struct reply *p = &x->reply;

	/* 401, 403 and 404 are everyday answers of the Hub: a client that probes names keeps its connection */
	bool is_error = p->status >= 500 || p->status == 400 || p->status == 408 ||
			(p->status >= 411 && p->status <= 414) || p->status == 421 || p->status == 431;

	return p->close || is_error || x->conn->held.len > 0 || refuse_is_next(x->conn) ||
	       atomic_load(&x->conn->loop->server->is_draining);
}

/* No descriptor or no memory for the body: the client is told so instead. */
static struct MHD_Response *fall_back(struct exchange *x)
{
	static const char sentence[] =
		"This cache has no file descriptor left to send this. Try again in a moment.\n";

	log_warning("server", "no descriptor for a body", LOG_TEXT("req", x->request.id), LOG_END);
	reply_done(&x->reply);
	reply_init(&x->reply);
	reply_text(&x->reply, 503, "text/plain; charset=utf-8", STR(sentence));
	(void)headers_add(&x->reply.headers, STR("Retry-After"), STR("1"));
	return make_response(x);
}

static void note_answer(struct exchange *x)
{
	x->status = x->reply.status;
	x->is_queued = true;
	x->first_byte_us = clock_mono_us(x->conn->loop->server->clock) - x->request.began_mono_us;
}

enum MHD_Result response_queue(struct exchange *x)
{
	struct MHD_Response *response;
	enum MHD_Result r;

	if (x->reply.kind == REPLY_ABORT)
		return MHD_NO;
	if (x->reply.kind == REPLY_DIAL && takeover_join(x)) {
		note_answer(x);
		return MHD_NO; /* it sees the end of the stream */
	}
	response = x->reply.kind == REPLY_DIAL ? NULL : make_response(x);
	if (!response)
		response = fall_back(x);
	if (!response)
		return MHD_NO;
	add_fields(x, response, must_close(x));
	note_answer(x);
	if (x->phase != PHASE_WHOLE) /* the body is not read: the library closes */
		x->conn->has_unread = true;
	r = MHD_queue_response(x->conn->library, (unsigned)x->reply.status, response);
	MHD_destroy_response(response);
	return r;
}
