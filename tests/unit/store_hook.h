/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_hook - calls into the kernel that can be made to fail, to kill the process, or to be noted, one by one; and
 * contents to put in meanwhile.
 *
 * They are caught by defining them: the program's own definition goes before the C library's. Nothing waits for the disk.
 */
#pragma once
#include "test_store.h"

enum call {
	CALL_FSYNC,
	CALL_FDATASYNC,
	CALL_WRITE,
	CALL_PWRITE,
	CALL_RENAMEAT,
	CALL_RENAMEAT2,
	CALL_FALLOCATE,
	CALL_MKDIRAT,
	CALL_OPENAT,
	CALL_FCHMOD,
	CALL_FTRUNCATE,
	CALL_UNLINKAT,
	CALL_COUNT
};

struct hook {
	bool is_on;
	bool kills; /* else fails with error */
	int error;
	unsigned only; /* bits of enum call; others pass uncounted */
	unsigned at;   /* which one, from 1; 0: none */
	unsigned count;
	bool log;
	enum call calls[256];
	char names[256][128]; /* what the call was about: a name, or the file behind the descriptor */
	unsigned log_count;
	/* run when a file of this name was opened for the second time, before the caller learns of it */
	const char *meet;
	unsigned meet_count;
	void (*then)(void);
};

extern struct hook hook;

#define ALL_CALLS ((1u << CALL_COUNT) - 1)
/* A name that cannot be taken away stays, and is counted: that is not what the sweep of errors is about. */
#define FAILING_CALLS (ALL_CALLS & ~(1u << CALL_UNLINKAT))

/* --- contents --- */

#define BODY_LEN 100000
#define HALF_LEN 200000
#define WIDE_LEN 300000
#define DOCS 3

struct data {
	char *body, *half, *wide, *second;
	struct blob_meta body_meta, half_meta, wide_meta, second_meta, doc_metas[DOCS];
	char docs[DOCS][32];
};

void make_data(struct data *d);
void done_data(struct data *d);
