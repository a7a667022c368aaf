/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics - counters of facts, kept where the fact is born, shown as Prometheus text under /-/metrics.
 *
 * Owns      the values. The table of names, types, labels and help is metrics.def.
 * Never     carries a repo, file, client or token as a label.
 * Threads   all calls from any thread; an increment is a relaxed atomic add.
 */
#pragma once
#include "common/buf.h"

struct metrics;

/* One row of metrics.def: METRIC(ID, "hfcache_name", type, labels, "help"). */
enum metric {
#define METRIC(id, name, type, labels, help) METRIC_##id,
#include "metrics/metrics.def"
#undef METRIC
	METRIC_COUNT
};

/* Closed sets of label values. The words are in metrics.c. */
enum metric_route {
	ROUTE_RESOLVE,
	ROUTE_API,
	ROUTE_TREE,
	ROUTE_REFS,
	ROUTE_LFS,
	ROUTE_XET,
	ROUTE_INFERENCE,
	ROUTE_ADMIN,
	ROUTE_OTHER,
	ROUTE_COUNT
};
enum metric_result {
	RESULT_HIT,
	RESULT_STALE_HIT,
	RESULT_REVALIDATED,
	RESULT_MISS,
	RESULT_PARTIAL,
	RESULT_NEGATIVE_HIT,
	RESULT_BYPASS,
	RESULT_OFFLINE_MISS,
	RESULT_COUNT
};

/* Who an inference call is for. The names of those behind the router follow. */
enum metric_provider {
	PROVIDER_HF_INFERENCE, /* the Hub's own service */
	PROVIDER_ROUTER,       /* whom the router chooses */
	PROVIDER_BACKEND,
	PROVIDER_OTHER
};

struct metrics *metrics_new(void);
void metrics_free(struct metrics *m);

/* a, b, c: indices of the label values in the order of the metric's row; 0 for labels it does not have. */
void metrics_add(struct metrics *m, enum metric id, unsigned a, unsigned b, unsigned c, uint64_t n);
/* Of one with four labels. */
void metrics_add4(struct metrics *m, enum metric id, unsigned a, unsigned b, unsigned c, unsigned d,
		  uint64_t n);
static inline void metrics_inc(struct metrics *m, enum metric id)
{
	metrics_add(m, id, 0, 0, 0, 1);
}
void metrics_gauge_set(struct metrics *m, enum metric id, unsigned a, int64_t value);
void metrics_gauge_add(struct metrics *m, enum metric id, unsigned a, int64_t delta);
/* Histograms: seconds as microseconds. */
void metrics_observe_us(struct metrics *m, enum metric id, unsigned a, unsigned b, uint64_t us);
uint64_t metrics_value(struct metrics *m, enum metric id, unsigned a, unsigned b, unsigned c);
/* The label index of an HTTP status code / method word ("other" when it is not in the set). */
unsigned metric_code(int status);
unsigned metric_method(struct str method);
/* PROVIDER_OTHER: none that is known. */
unsigned metric_provider(struct str name);
const char *metric_route_name(enum metric_route route);
const char *metric_result_name(enum metric_result result);

/*
 * Values that live elsewhere (descriptors, bytes held): called once per rendering, before it. At most 8.
 * Threads: called on the thread that renders.
 */
void metrics_add_source(struct metrics *m, void (*refresh)(void *ctx, struct metrics *m), void *ctx);
/* Text format 0.0.4, with process_* and build_info. Returns 0 or -E2BIG. */
int metrics_render(struct metrics *m, struct buf *out);
