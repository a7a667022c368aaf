/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics/render - Prometheus text format 0.0.4. Cells that never moved are left out, except those without
 * labels and gauges, of which 0 is a value.
 */
#include "metrics/priv.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include "common/log.h"

/* Writes {a="x",b="y"} of a cell; extra is a ready label such as le="0.1", or NULL. */
static void write_labels(struct buf *out, const struct label_set *set, unsigned cell, const char *extra)
{
	unsigned values[LABELS_MAX] = { 0 };

	if (set->label_count == 0 && !extra)
		return;
	for (unsigned i = set->label_count; i-- > 0;) {
		values[i] = cell % set->labels[i].count;
		cell /= set->labels[i].count;
	}
	buf_append_char(out, '{');
	for (unsigned i = 0; i < set->label_count; i++)
		buf_appendf(out, "%s%s=\"%s\"", i ? "," : "", set->labels[i].name,
			    set->labels[i].words[values[i]]);
	if (extra)
		buf_appendf(out, "%s%s", set->label_count ? "," : "", extra);
	buf_append_char(out, '}');
}

static void render_cells(struct metrics *m, enum metric id, struct buf *out)
{
	const struct metric_row *row = &metric_rows[id];

	for (unsigned cell = 0; cell < metrics_cells_of(id); cell++) {
		uint64_t value = atomic_load_explicit(&m->cells[id][cell], memory_order_relaxed);

		if (value == 0 && row->set->label_count > 0 && row->type != TYPE_gauge)
			continue;
		buf_append_str(out, str_from(row->name));
		write_labels(out, row->set, cell, NULL);
		if (row->type == TYPE_gauge)
			buf_appendf(out, " %lld\n", (long long)value);
		else
			buf_appendf(out, " %llu\n", (unsigned long long)value);
	}
}

static void render_histogram(struct metrics *m, enum metric id, unsigned cell, struct buf *out)
{
	const struct metric_row *row = &metric_rows[id];
	struct histogram *h = &m->histograms[id][cell];
	uint64_t total = 0;

	for (unsigned i = 0; i <= HISTOGRAM_BUCKETS; i++) {
		char bound[32];

		total += atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
		if (i < HISTOGRAM_BUCKETS)
			(void)snprintf(bound, sizeof(bound), "le=\"%g\"", (double)metric_bucket_us[i] / 1e6);
		else
			(void)snprintf(bound, sizeof(bound), "le=\"+Inf\"");
		buf_appendf(out, "%s_bucket", row->name);
		write_labels(out, row->set, cell, bound);
		buf_appendf(out, " %llu\n", (unsigned long long)total);
	}
	buf_appendf(out, "%s_sum", row->name);
	write_labels(out, row->set, cell, NULL);
	buf_appendf(out, " %.6f\n", (double)atomic_load_explicit(&h->sum_us, memory_order_relaxed) / 1e6);
	buf_appendf(out, "%s_count", row->name);
	write_labels(out, row->set, cell, NULL);
	buf_appendf(out, " %llu\n", (unsigned long long)total);
}

static bool histogram_is_empty(const struct histogram *h)
{
	for (unsigned i = 0; i <= HISTOGRAM_BUCKETS; i++)
		if (atomic_load_explicit(&h->buckets[i], memory_order_relaxed))
			return false;
	return true;
}

static void render_row(struct metrics *m, enum metric id, struct buf *out)
{
	static const char *const type_names[] = { "counter", "gauge", "histogram" };
	const struct metric_row *row = &metric_rows[id];

	buf_appendf(out, "# HELP %s %s\n# TYPE %s %s\n", row->name, row->help, row->name,
		    type_names[row->type]);
	if (row->type != TYPE_histogram) {
		render_cells(m, id, out);
		return;
	}
	for (unsigned cell = 0; cell < metrics_cells_of(id); cell++)
		if (row->set->label_count == 0 || !histogram_is_empty(&m->histograms[id][cell]))
			render_histogram(m, id, cell, out);
}

static unsigned count_open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	(void)closedir(d);
	return n > 3 ? n - 3 : 0; /* ".", "..", and the folder itself */
}

static uint64_t resident_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long long size = 0, resident = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%llu %llu", &size, &resident) != 2)
		resident = 0;
	(void)fclose(f);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void render_process(struct metrics *m, struct buf *out)
{
	struct rusage usage = { 0 };
	struct rlimit files = { 0 };

	(void)getrusage(RUSAGE_SELF, &usage);
	(void)getrlimit(RLIMIT_NOFILE, &files);
	buf_appendf(
		out,
		"# HELP process_cpu_seconds_total CPU time used\n# TYPE process_cpu_seconds_total counter\n");
	buf_appendf(out, "process_cpu_seconds_total %.3f\n",
		    (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	buf_appendf(out, "# HELP process_resident_memory_bytes memory held\n# TYPE "
			 "process_resident_memory_bytes gauge\n");
	buf_appendf(out, "process_resident_memory_bytes %llu\n", (unsigned long long)resident_bytes());
	buf_appendf(out,
		    "# HELP process_open_fds open descriptors\n# TYPE process_open_fds "
		    "gauge\nprocess_open_fds %u\n",
		    count_open_fds());
	buf_appendf(out,
		    "# HELP process_max_fds most descriptors\n# TYPE process_max_fds gauge\nprocess_max_fds "
		    "%llu\n",
		    (unsigned long long)files.rlim_cur);
	buf_appendf(out,
		    "# HELP process_start_time_seconds start\n# TYPE process_start_time_seconds gauge\n");
	buf_appendf(out, "process_start_time_seconds %lld\n", (long long)m->started_at);
}

static void refresh_log_lines(struct metrics *m)
{
	for (unsigned level = 0; level <= LOG_LEVEL_DEBUG; level++)
		atomic_store_explicit(&m->cells[METRIC_LOG_MESSAGES][level], log_count(level),
				      memory_order_relaxed);
}

int metrics_render(struct metrics *m, struct buf *out)
{
	refresh_log_lines(m);
	for (unsigned i = 0; i < m->source_count; i++)
		m->sources[i].refresh(m->sources[i].ctx, m);
	for (unsigned id = 0; id < METRIC_COUNT; id++)
		render_row(m, id, out);
	buf_appendf(out, "# HELP hfcache_build_info what runs\n# TYPE hfcache_build_info gauge\n");
	buf_appendf(out, "hfcache_build_info{version=\"%s\",compiler=\"%s\"} 1\n", HFCACHED_VERSION,
		    __VERSION__);
	render_process(m, out);
	return buf_error(out);
}
