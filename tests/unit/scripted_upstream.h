/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scripted_upstream - a Hub and its storage host in one process, over real sockets, that misbehave on request.
 *
 * Two ports of 127.0.0.1. The Hub's answers every GET with 302 to the storage port and the Hub's words about the file;
 * the storage answers with the bytes. For tests only. Knobs may be turned while it runs.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UPSTREAM_COMMIT "1111111111111111111111111111111111111111"
#define UPSTREAM_CALLS_MAX 256

struct upstream_call {
	bool is_storage;
	bool is_ranged, has_if_range, has_token;
	char token[64];
	uint64_t first, end; /* as asked */
	int status;
	uint64_t sent;
};

struct upstream {
	/* set before the start */
	const unsigned char *bytes;
	uint64_t size;
	uint64_t period; /* the file repeats its first so many bytes; 0: `bytes` are all of it */
	char id_hex[65]; /* X-Linked-Etag, unless the query says id=<64 hex> */

	/* knobs; 0 or false: behave */
	_Atomic uint64_t bytes_per_s;
	_Atomic uint64_t cut_at; /* closes when this offset is reached, as often as cut_times says */
	atomic_int cut_times;
	_Atomic uint64_t flip_at; /* this byte is sent wrong (offset + 1) */
	atomic_int flip_times;
	_Atomic uint64_t stall_at; /* waits stall_ms when this offset is reached, once */
	atomic_int stall_ms;
	_Atomic uint64_t hold_at; /* who comes to this offset waits there until it is another */
	atomic_bool ignores_ranges;
	atomic_bool lies_about_range; /* Content-Range one byte off */
	atomic_bool is_encoded;       /* Content-Encoding: gzip */
	atomic_bool is_chunked;
	atomic_int etag_version;             /* of the storage's ETag */
	atomic_bool has_many_edges;          /* each answer comes from another, with an ETag of its own */
	atomic_int expired_times;            /* the storage answers 403 so often */
	atomic_int hub_status;               /* instead of 302 */
	atomic_int hub_status_times;         /* -1: for ever */
	atomic_int hub_retry_after_s;        /* -1: none */
	_Atomic(const char *) refused_token; /* 403 for this Authorization */
	_Atomic(const char *) linked_etag, linked_size, commit; /* instead of the true ones */
	atomic_bool is_dead;                                    /* accepts and closes at once */

	/* what happened */
	atomic_uint calls;
	struct upstream_call call[UPSTREAM_CALLS_MAX];
	_Atomic uint64_t sent;           /* body bytes of the storage */
	_Atomic uint64_t first_byte_us;  /* monotonic, of the first body byte */
	atomic_uint open_now, open_most; /* connections that have asked something */

	struct upstream_private *private;
};

void upstream_start(struct upstream *u);
void upstream_stop(struct upstream *u);
/* "http://127.0.0.1:PORT" of the Hub. */
const char *upstream_url(const struct upstream *u);
/* The address of the file at the storage, signed. */
void upstream_blob_url(const struct upstream *u, char ret_url[64]);
