/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_router - stands in for everything above and beside server/: a router whose paths say what kind of answer to give,
 * and the readers, relays, blobs and subjects that such answers need.
 *
 *   /              200 "hello", any method, body taken and ignored
 *   /bytes/N       N bytes from memory            /blob/N?o=O&l=L   L bytes at O of a file of N bytes
 *   /grow/N?step=S&ms=M&fail=F   a file that grows by S bytes every M ms; reading from F on is an error
 *   /relay/N?known=1&fail=F      N bytes through a relay, with or without a length
 *   /slow?ms=M     waits M ms, then 200           /status/S         an empty answer with that status
 *   /echo          the body, at most 1 MiB        /stream           the count of a body that was streamed, slowly
 *   /request       what the request was read as   /abort            no answer
 *   /nobody        a route that takes no body: 400
 *   /upgrade?port=P   a WebSocket of 127.0.0.1:P, by way of fake_router_splices(); 502 what is no 101
 *
 * Byte i of every body is fake_byte(i).
 */
#pragma once
#include "server/server.h"

static inline unsigned char fake_byte(uint64_t i)
{
	return (unsigned char)(i * 31 + (i >> 8) * 7 + (i >> 16));
}
/* What /upgrade dials with; borrowed. */
void fake_router_splices(struct splices *s);
struct router *fake_router_new(void);
void fake_router_free(struct router *r);
/* Readers and relays that were made and not freed: 0 when every connection has gone. */
unsigned fake_router_live(void);
