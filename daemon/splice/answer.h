/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice/answer - the head of the answer to an upgrade, strictly: CR LF, no folding, at most 100 fields. Pure; foreign bytes.
 */
#pragma once
#include "common/http/header.h"

#define ANSWER_HEAD_MAX ((size_t)16 * 1024)

/*
 * "HTTP/1.1 101 ...", fields, empty line.
 * Returns the length of the head with its status, and its fields added to ret_headers; -EAGAIN not whole yet; -EPROTO.
 */
ssize_t answer_head_parse(struct str text, int *ret_status, struct headers *ret_headers);
