/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/status - /-/status: one JSON object for people in a hurry and for scripts. Numbers, and what the
 * configuration names; no name of a repo (N09).
 */
#include "admin/priv.h"

#include "common/clock.h"
#include "common/json.h"

struct flights_total {
	unsigned flights, readers, transfers;
	uint64_t size, held, bytes_per_s;
};

static void add_flight(void *ctx, const struct flight_view *view)
{
	struct flights_total *t = ctx;

	t->flights++;
	t->readers += view->readers;
	t->transfers += view->transfers;
	t->size += view->size;
	t->held += view->held;
	t->bytes_per_s += view->bytes_per_s;
}

static unsigned long long whole_s(uint64_t ms)
{
	return (ms + 999) / 1000;
}

/* Per bucket: what is left to whom least is left, and who has to wait. No token, no name. */
static void write_limits(const struct admin *a, struct buf *out)
{
	struct fetch_limit limits[RATE_BUCKET_COUNT];

	fetch_limits(a->opts.fetch, limits);
	buf_append_str(out, STR(",\"rate_limits\":{"));
	for (unsigned b = 0; b < RATE_BUCKET_COUNT; b++) {
		const struct fetch_limit *l = &limits[b];

		buf_appendf(out, "%s\"%s\":{", b ? "," : "", policy_rate_name(b));
		if (l->left >= 0)
			buf_appendf(out, "\"left\":%lld,\"quota\":%lld,\"window_ends_in_s\":%llu,",
				    (long long)l->left, (long long)l->quota, whole_s(l->window_ms));
		buf_appendf(out, "\"waiting\":%u,\"waits_s\":%llu}", l->closed_count, whole_s(l->closed_ms));
	}
	buf_append_char(out, '}');
}

/* Members of an object: is it there, since when not, why not. reachable is null while nobody has tried. */
static void write_origin(const struct fetch_view *view, const char *url, struct buf *out)
{
	buf_append_str(out, STR("\"url\":"));
	json_write_string(out, str_from(url));
	buf_appendf(out, ",\"reachable\":%s",
		    !view->is_tried                            ? "null"
		    : view->down_since || view->is_never_asked ? "false"
							       : "true");
	if (view->is_never_asked)
		buf_append_str(out, STR(",\"never_asked\":true"));
	if (view->down_since)
		buf_appendf(out, ",\"unreachable_since\":%lld", (long long)view->down_since);
	if (view->reason) {
		buf_append_str(out, STR(",\"reason\":"));
		json_write_string(out, str_from(view->reason));
	}
}

static void write_upstream(const struct admin *a, struct buf *out)
{
	struct fetch_view view;

	fetch_look(a->opts.fetch, FETCH_HUB, &view);
	buf_append_str(out, STR("\"upstream\":{"));
	write_origin(&view, a->upstream, out);
	write_limits(a, out);
	buf_append_char(out, '}');
	fetch_look(a->opts.fetch, FETCH_INFERENCE, &view);
	if (!view.url)
		return;
	buf_append_str(out, STR(",\"inference\":{"));
	write_origin(&view, view.url, out);
	buf_append_char(out, '}');
}

/* The apps of one's own. Their names are the administrator's. */
static void write_spaces(const struct admin *a, struct buf *out)
{
	buf_append_str(out, STR(",\"spaces\":["));
	for (unsigned i = 0; i < a->opts.space_count; i++) {
		struct fetch_view view;

		fetch_look(a->opts.fetch, FETCH_SPACE_FIRST + i, &view);
		buf_append_str(out, i ? STR(",{\"name\":") : STR("{\"name\":"));
		json_write_string(out, str_from(a->opts.space_names[i]));
		buf_append_char(out, ',');
		write_origin(&view, view.url ? view.url : "", out);
		buf_append_char(out, '}');
	}
	buf_append_char(out, ']');
}

static void write_rights(const struct admin *a, struct buf *out)
{
	buf_appendf(out, ",\"offline\":{\"access\":\"%s\",\"grace_s\":%llu},\"lends_token\":%s,\"warnings\":",
		    policy_offline_name(a->offline_access), whole_s(a->offline_grace_ms),
		    a->lends_token ? "true" : "false");
	admin_write_warnings(a, out);
}

struct list_of_backends {
	struct buf *out;
	bool has_one;
};

static void write_backend(void *ctx, const struct backend_view *view)
{
	struct list_of_backends *list = ctx;

	buf_append_str(list->out, list->has_one ? STR(",{\"name\":") : STR("{\"name\":"));
	json_write_string(list->out, str_from(view->name));
	buf_appendf(list->out,
		    ",\"kind\":\"%s\",\"state\":\"%s\",\"running\":%u,\"concurrency\":%u,\"models\":%u}",
		    view->kind, view->state, view->running, view->concurrency, view->models);
	list->has_one = true;
}

/* The servers of one's own. Their names are the administrator's. */
static void write_backends(const struct admin *a, struct buf *out)
{
	struct list_of_backends list = { .out = out };

	buf_append_str(out, STR(",\"backends\":["));
	backends_each(a->opts.backends, write_backend, &list);
	buf_append_char(out, ']');
}

/* By where it came from; the order is that of the metric's words. */
static uint64_t sent_from(const struct admin *a, unsigned source)
{
	uint64_t sum = 0;

	for (unsigned route = 0; route < ROUTE_COUNT; route++)
		sum += metrics_value(a->opts.metrics, METRIC_HTTP_SENT_BYTES, route, source, 0);
	return sum;
}

static void write_served(const struct admin *a, struct buf *out)
{
	buf_appendf(out,
		    ",\"served\":{\"cache_bytes\":%llu,\"fill_bytes\":%llu,\"passed_bytes\":%llu,"
		    "\"received_bytes\":%llu,\"own_bytes\":%llu}",
		    (unsigned long long)sent_from(a, 0), (unsigned long long)sent_from(a, 1),
		    (unsigned long long)sent_from(a, 2),
		    (unsigned long long)metrics_value(a->opts.metrics, METRIC_UPSTREAM_RECEIVED, 0, 0, 0),
		    (unsigned long long)metrics_value(a->opts.metrics, METRIC_BACKEND_RECEIVED, 0, 0, 0));
}

int admin_status(struct admin *a, struct request *q, struct reply *r)
{
	struct flights_total total = { 0 };
	struct store_usage usage;
	SCOPED_BUF body = { 0 };

	if (!admin_is_local(q, r))
		return 0;
	store_usage(a->opts.store, &usage);
	flights_each(a->opts.flights, add_flight, &total);
	buf_init(&body, 65536);
	buf_append_str(&body, STR("{\"version\":"));
	json_write_string(&body, str_from(a->version));
	buf_appendf(&body, ",\"started_at\":%lld,\"now\":%lld,", (long long)a->started_at,
		    (long long)clock_wall_s(a->opts.clock));
	write_upstream(a, &body);
	write_rights(a, &body);
	write_backends(a, &body);
	write_spaces(a, &body);
	write_served(a, &body);
	buf_appendf(&body,
		    ",\"store\":{\"used_bytes\":%llu,\"reserved_bytes\":%llu,\"limit_bytes\":%llu,"
		    "\"objects\":%llu,"
		    "\"partial_bytes\":%llu,\"open_bytes\":%llu,\"disk_free_bytes\":%llu}",
		    (unsigned long long)usage.used, (unsigned long long)usage.reserved,
		    (unsigned long long)usage.limit, (unsigned long long)usage.objects,
		    (unsigned long long)usage.partial, (unsigned long long)usage.open,
		    (unsigned long long)usage.disk_free);
	buf_appendf(&body,
		    ",\"fills\":{\"running\":%u,\"readers\":%u,\"transfers\":%u,\"bytes\":%llu,\"held_"
		    "bytes\":%llu,\"bytes_per_s\":%llu}",
		    total.flights, total.readers, total.transfers, (unsigned long long)total.size,
		    (unsigned long long)total.held, (unsigned long long)total.bytes_per_s);
	buf_appendf(&body, ",\"requests\":{\"joined_fills\":%llu,\"connections\":%lld}}\n",
		    (unsigned long long)metrics_value(a->opts.metrics, METRIC_FILL_COLLAPSED, 0, 0, 0),
		    (long long)metrics_value(a->opts.metrics, METRIC_HTTP_CONNECTIONS, 0, 0, 0));
	reply_text(r, 200, "application/json", buf_str(&body));
	(void)headers_addf(&r->headers, "Cache-Control", "no-store");
	return 0;
}
