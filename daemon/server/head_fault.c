/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/head_fault - what a refused client is told, and what the log calls it. One row a fault.
 */
#include "server/head_check.h"

#include <assert.h>

#include "common/banned.h"

static const struct head_answer answers[HEAD_FAULT_COUNT] = {
	[HEAD_BAD_LINE] = { 400, "Bad Request", "This is not an HTTP/1.1 request line.", "request-line" },
	[HEAD_BAD_TARGET] = { 400, "Bad Request",
			      "The request target must be a path that begins with / and holds no space, # or "
			      "control byte.",
			      "target" },
	[HEAD_LONG_TARGET] = { 414, "URI Too Long", "The request target is longer than 8000 bytes.",
			       "target-length" },
	[HEAD_BAD_VERSION] = { 505, "HTTP Version Not Supported",
			       "Only HTTP/1.1 and HTTP/1.0 are spoken here.", "version" },
	[HEAD_BAD_METHOD] = { 501, "Not Implemented", "This method is not known here.", "method" },
	[HEAD_FORBIDDEN_METHOD] = { 405, "Method Not Allowed",
				    "This method is not allowed here; a tunnel (CONNECT) is opened only with "
				    "intercept.enabled.",
				    "method" },
	[HEAD_BAD_FIELD] = { 400, "Bad Request", "A header line is malformed.", "field" },
	[HEAD_FOLDED] = { 400, "Bad Request",
			  "A header line begins with a space; folded lines are not accepted.",
			  "folded-line" },
	[HEAD_BAD_BYTE] = { 400, "Bad Request",
			    "The request head holds a control byte, or a line that does not end in CR LF.",
			    "byte" },
	[HEAD_TOO_LARGE] = { 431, "Request Header Fields Too Large",
			     "The request head is larger than 12 KiB or has more than 100 "
			     "fields.",
			     "head-size" },
	[HEAD_BAD_HOST] = { 400, "Bad Request", "The request needs exactly one Host field with a host name.",
			    "host" },
	[HEAD_BAD_LENGTH] = { 400, "Bad Request", "The length of the request body is stated badly or twice.",
			      "length" },
	[HEAD_BAD_CODING] = { 400, "Bad Request",
			      "Of transfer codings only a single plain \"chunked\" is accepted.", "coding" },
	[HEAD_UNWANTED_BODY] = { 400, "Bad Request", "GET and HEAD requests have no body here.", "body" },
	[HEAD_BAD_EXPECT] = { 417, "Expectation Failed", "Of expectations only 100-continue is known.",
			      "expect" },
	[HEAD_BAD_CHUNK] = { 400, "Bad Request", "The chunks of the request body are malformed.", "chunk" },
};

const struct head_answer *head_fault_answer(enum head_fault fault)
{
	assert(fault > HEAD_GOOD && fault < HEAD_FAULT_COUNT);
	return &answers[fault];
}
