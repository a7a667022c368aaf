/* SPDX-License-Identifier: Apache-2.0 */
/* metrics: counts land in the cell of their labels, and the text is what a Prometheus server reads. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "metrics/metrics.h"

static void counts_by_labels(void **state)
{
	struct metrics *m = metrics_new();

	metrics_add(m, METRIC_HTTP_REQUESTS, ROUTE_TREE, metric_method(STR("GET")), metric_code(206), 3);
	metrics_inc(m, METRIC_FILL_COLLAPSED);
	assert_int_equal(metrics_value(m, METRIC_HTTP_REQUESTS, ROUTE_TREE, metric_method(STR("GET")),
				       metric_code(206)),
			 3);
	assert_int_equal(metrics_value(m, METRIC_HTTP_REQUESTS, ROUTE_TREE, metric_method(STR("GET")),
				       metric_code(200)),
			 0);
	assert_int_equal(metrics_value(m, METRIC_FILL_COLLAPSED, 0, 0, 0), 1);
	assert_int_equal(metric_code(299), metric_code(777));
	metrics_free(m);
}

static void set_free_bytes(void *ctx, struct metrics *m)
{
	metrics_gauge_set(m, METRIC_STORAGE_FREE, 0, *(int64_t *)ctx);
}

static void renders_text_with_sources_and_histograms(void **state)
{
	struct metrics *m = metrics_new();
	int64_t free_bytes = 12345;
	SCOPED_BUF out;

	buf_init(&out, 1 << 20);
	metrics_add_source(m, set_free_bytes, &free_bytes);
	metrics_observe_us(m, METRIC_HTTP_DURATION, ROUTE_RESOLVE, RESULT_HIT, 1500);
	metrics_add(m, METRIC_HTTP_REQUESTS, ROUTE_RESOLVE, metric_method(STR("HEAD")), metric_code(404), 2);
	assert_int_equal(metrics_render(m, &out), 0);
	assert_non_null(strstr(out.bytes, "hfcache_storage_free_bytes 12345\n"));
	assert_non_null(
		strstr(out.bytes,
		       "hfcache_http_requests_total{route=\"resolve\",method=\"HEAD\",code=\"404\"} 2\n"));
	assert_non_null(
		strstr(out.bytes, "seconds_bucket{route=\"resolve\",result=\"hit\",le=\"0.001\"} 0\n"));
	assert_non_null(
		strstr(out.bytes, "seconds_bucket{route=\"resolve\",result=\"hit\",le=\"0.005\"} 1\n"));
	assert_non_null(strstr(out.bytes, "seconds_sum{route=\"resolve\",result=\"hit\"} 0.001500\n"));
	assert_non_null(strstr(out.bytes, "process_open_fds "));
	metrics_free(m);
}

static void refuses_to_render_over_the_limit(void **state)
{
	struct metrics *m = metrics_new();
	SCOPED_BUF out;

	buf_init(&out, 100);
	assert_int_equal(metrics_render(m, &out), -E2BIG);
	metrics_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_by_labels),
		cmocka_unit_test(renders_text_with_sources_and_histograms),
		cmocka_unit_test(refuses_to_render_over_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
