/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics - the tables of labels, and the counters.
 *
 * A metric's cells are one array, numbered by its label values; an increment is one relaxed add, no lock.
 */
#include "metrics/priv.h"

#include <assert.h>
#include "common/alloc.h"
#include "common/clock.h"

#define WORDS(set, ...) static const char *const set##_words[] = { __VA_ARGS__ }
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define LABEL(name, set)                                                                                     \
	{                                                                                                    \
		(name), set##_words, COUNT(set##_words)                                                      \
	}

WORDS(route, "resolve", "api", "tree", "refs", "lfs", "xet", "inference", "admin", "other");
WORDS(result, "hit", "stale_hit", "revalidated", "miss", "partial", "negative_hit", "bypass", "offline_miss");
WORDS(method, "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "other");
WORDS(code, "200", "204", "206", "301", "302", "303", "304", "307", "308", "400", "401", "403", "404", "405",
      "408", "409", "411", "412", "413", "414", "416", "421", "429", "431", "451", "500", "501", "502", "503",
      "504", "505", "507", "other");
WORDS(source, "cache", "fill", "upstream", "own");
WORDS(reason, "head", "timeout", "limit", "host");
WORDS(road, "served", "tunnelled", "refused");
WORDS(side, "client", "upstream");
WORDS(outcome, "stored", "failed", "corrupt", "abandoned");
WORDS(found_by, "fill", "read", "scrub");
WORDS(resource, "api", "resolvers", "pages", "viewer");
/* The four of enum metric_provider, and those who can be reached through the router. */
WORDS(provider, "hf-inference", "router", "backend", "other", "baseten", "black-forest-labs", "cerebras",
      "clarifai", "cohere", "deepinfra", "fal-ai", "featherless-ai", "fireworks-ai", "groq", "hyperbolic",
      "nebius", "novita", "nscale", "openai", "ovhcloud", "publicai", "replicate", "sambanova", "scaleway",
      "together", "wavespeed", "zai-org");
WORDS(dialect, "task", "generate", "chat", "completions", "responses", "messages", "embeddings", "audio",
      "other");
WORDS(direction, "in", "out");
WORDS(level, "error", "warning", "info", "debug");

static_assert(COUNT(route_words) == ROUTE_COUNT, "routes and their words");
static_assert(COUNT(provider_words) > PROVIDER_OTHER, "providers and their words");
static_assert(COUNT(result_words) == RESULT_COUNT, "results and their words");

static const struct label_set set_none = { .label_count = 0 };
static const struct label_set set_route_method_code = {
	{ LABEL("route", route), LABEL("method", method), LABEL("code", code) }, 3
};
static const struct label_set set_route_result = { { LABEL("route", route), LABEL("result", result) }, 2 };
static const struct label_set set_route_source = { { LABEL("route", route), LABEL("source", source) }, 2 };
static const struct label_set set_reason = { { LABEL("reason", reason) }, 1 };
static const struct label_set set_road = { { LABEL("road", road) }, 1 };
static const struct label_set set_side = { { LABEL("side", side) }, 1 };
static const struct label_set set_outcome = { { LABEL("outcome", outcome) }, 1 };
static const struct label_set set_found_by = { { LABEL("found_by", found_by) }, 1 };
static const struct label_set set_code = { { LABEL("code", code) }, 1 };
static const struct label_set set_resource = { { LABEL("resource", resource) }, 1 };
static const struct label_set set_provider_dialect_code_result = {
	{ LABEL("provider", provider), LABEL("route", dialect), LABEL("code", code),
	  LABEL("result", result) },
	4
};
static const struct label_set set_provider_result = {
	{ LABEL("provider", provider), LABEL("result", result) }, 2
};
static const struct label_set set_provider_direction = {
	{ LABEL("provider", provider), LABEL("direction", direction) }, 2
};
static const struct label_set set_level = { { LABEL("level", level) }, 1 };

const struct metric_row metric_rows[METRIC_COUNT] = {
#define METRIC(id, name, type, labels, help) { name, TYPE_##type, &set_##labels, help },
#include "metrics/metrics.def"
#undef METRIC
};

const uint64_t metric_bucket_us[HISTOGRAM_BUCKETS] = { 1000,     5000,     20000,     100000,
						       500000,   1000000,  2500000,   10000000,
						       30000000, 60000000, 300000000, 600000000 };

unsigned metrics_cells_of(enum metric id)
{
	const struct label_set *set = metric_rows[id].set;
	unsigned cells = 1;

	for (unsigned i = 0; i < set->label_count; i++)
		cells *= set->labels[i].count;
	return cells;
}

struct metrics *metrics_new(void)
{
	struct metrics *m = xcalloc(1, sizeof(*m));

	for (unsigned id = 0; id < METRIC_COUNT; id++) {
		if (metric_rows[id].type == TYPE_histogram)
			m->histograms[id] = xcalloc(metrics_cells_of(id), sizeof(struct histogram));
		else
			m->cells[id] = xcalloc(metrics_cells_of(id), sizeof(uint64_t));
	}
	m->started_at = clock_wall_s(&clock_system);
	return m;
}

void metrics_free(struct metrics *m)
{
	if (!m)
		return;
	for (unsigned id = 0; id < METRIC_COUNT; id++) {
		free((void *)m->cells[id]);
		free(m->histograms[id]);
	}
	free(m);
}

static unsigned cell_of_four(enum metric id, const unsigned values[LABELS_MAX])
{
	const struct label_set *set = metric_rows[id].set;
	unsigned cell = 0;

	for (unsigned i = 0; i < set->label_count; i++) {
		assert(values[i] < set->labels[i].count);
		cell = cell * set->labels[i].count + values[i];
	}
	return cell;
}

static unsigned cell_of(enum metric id, unsigned a, unsigned b, unsigned c)
{
	return cell_of_four(id, (unsigned[LABELS_MAX]){ a, b, c });
}

void metrics_add(struct metrics *m, enum metric id, unsigned a, unsigned b, unsigned c, uint64_t n)
{
	assert(metric_rows[id].type == TYPE_counter);
	atomic_fetch_add_explicit(&m->cells[id][cell_of(id, a, b, c)], n, memory_order_relaxed);
}

void metrics_add4(struct metrics *m, enum metric id, unsigned a, unsigned b, unsigned c, unsigned d,
		  uint64_t n)
{
	unsigned cell = cell_of_four(id, (unsigned[LABELS_MAX]){ a, b, c, d });

	assert(metric_rows[id].type == TYPE_counter);
	atomic_fetch_add_explicit(&m->cells[id][cell], n, memory_order_relaxed);
}

void metrics_gauge_set(struct metrics *m, enum metric id, unsigned a, int64_t value)
{
	assert(metric_rows[id].type == TYPE_gauge);
	atomic_store_explicit(&m->cells[id][cell_of(id, a, 0, 0)], (uint64_t)value, memory_order_relaxed);
}

void metrics_gauge_add(struct metrics *m, enum metric id, unsigned a, int64_t delta)
{
	assert(metric_rows[id].type == TYPE_gauge);
	atomic_fetch_add_explicit(&m->cells[id][cell_of(id, a, 0, 0)], (uint64_t)delta, memory_order_relaxed);
}

void metrics_observe_us(struct metrics *m, enum metric id, unsigned a, unsigned b, uint64_t us)
{
	struct histogram *h = &m->histograms[id][cell_of(id, a, b, 0)];
	unsigned bucket = 0;

	while (bucket < HISTOGRAM_BUCKETS && us > metric_bucket_us[bucket])
		bucket++;
	atomic_fetch_add_explicit(&h->buckets[bucket], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum_us, us, memory_order_relaxed);
}

uint64_t metrics_value(struct metrics *m, enum metric id, unsigned a, unsigned b, unsigned c)
{
	assert(metric_rows[id].type != TYPE_histogram);
	return atomic_load_explicit(&m->cells[id][cell_of(id, a, b, c)], memory_order_relaxed);
}

unsigned metric_code(int status)
{
	/* sorted by number, "other" last */
	for (unsigned i = 0; i + 1 < COUNT(code_words); i++) {
		const char *w = code_words[i];

		if ((w[0] - '0') * 100 + (w[1] - '0') * 10 + (w[2] - '0') == status)
			return i;
	}
	return COUNT(code_words) - 1;
}

unsigned metric_method(struct str method)
{
	for (unsigned i = 0; i + 1 < COUNT(method_words); i++)
		if (str_eq(method, str_from(method_words[i])))
			return i;
	return COUNT(method_words) - 1;
}

unsigned metric_provider(struct str name)
{
	for (unsigned i = 0; i < COUNT(provider_words); i++)
		if (str_eq(name, str_from(provider_words[i])))
			return i;
	return PROVIDER_OTHER;
}

const char *metric_route_name(enum metric_route route)
{
	return route_words[route];
}

const char *metric_result_name(enum metric_result result)
{
	return result_words[result];
}

void metrics_add_source(struct metrics *m, void (*refresh)(void *ctx, struct metrics *m), void *ctx)
{
	assert(m->source_count < METRICS_SOURCES_MAX);
	m->sources[m->source_count].refresh = refresh;
	m->sources[m->source_count].ctx = ctx;
	m->source_count++;
}
