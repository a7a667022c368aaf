/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics/priv - how values lie in memory: one flat array of atomics, a metric's cells at its offset.
 */
#pragma once
#include <stdatomic.h>
#include "metrics/metrics.h"

#define METRICS_SOURCES_MAX 8
#define HISTOGRAM_BUCKETS 12
#define LABELS_MAX 4

enum metric_type { TYPE_counter, TYPE_gauge, TYPE_histogram };

struct label {
	const char *name;
	const char *const *words;
	unsigned count;
};

/* A closed set of label combinations; cells are numbered in row-major order. */
struct label_set {
	struct label labels[LABELS_MAX];
	unsigned label_count;
};

struct metric_row {
	const char *name;
	enum metric_type type;
	const struct label_set *set;
	const char *help;
};

extern const struct metric_row metric_rows[METRIC_COUNT];
/* Upper bounds of the histogram buckets, microseconds; the last one is +Inf. */
extern const uint64_t metric_bucket_us[HISTOGRAM_BUCKETS];

struct histogram {
	_Atomic uint64_t buckets[HISTOGRAM_BUCKETS + 1];
	_Atomic uint64_t sum_us;
};

struct metrics {
	_Atomic uint64_t *cells[METRIC_COUNT];      /* owned; NULL for histograms */
	struct histogram *histograms[METRIC_COUNT]; /* owned; NULL for others */
	struct {
		void (*refresh)(void *ctx, struct metrics *m);
		void *ctx;
	} sources[METRICS_SOURCES_MAX];
	unsigned source_count;
	int64_t started_at;
};

unsigned metrics_cells_of(enum metric id);
