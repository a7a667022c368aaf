/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin - health, readiness, metrics.
 */
#include "admin/priv.h"

#include "common/alloc.h"
#include "common/clock.h"
#include "common/json.h"

struct admin *admin_new(const struct admin_opts *opts)
{
	struct admin *a = xcalloc(1, sizeof(*a));

	a->opts = *opts;
	a->version = xstrdup(opts->version);
	a->upstream = xstrdup(opts->upstream);
	a->started_at = clock_wall_s(opts->clock);
	a->work = work_new(1, "admin");
	return a;
}

void admin_set_rights(struct admin *a, const struct admin_rights *rights)
{
	a->offline_access = rights->offline_access;
	a->offline_grace_ms = rights->offline_grace_ms;
	a->lends_token = rights->lends_token;
	a->is_strict = rights->is_strict;
	a->is_reachable = rights->is_reachable;
}

void admin_write_warnings(const struct admin *a, struct buf *out)
{
	const char *separator = "";

	buf_append_char(out, '[');
	if (a->offline_access == OFFLINE_OPEN) {
		buf_append_str(
			out, STR("\"offline.access is open: without upstream everybody reads everything\""));
		separator = ",";
	}
	if (a->is_reachable && !a->is_strict) {
		buf_appendf(out, "%s\"tokens come in the clear from other machines\"", separator);
		separator = ",";
	}
	if (a->opts.auth && auth_own_token_is_bad(a->opts.auth))
		buf_appendf(out, "%s\"upstream does not take the token of hub.token-credential\"", separator);
	buf_append_char(out, ']');
}

void admin_free(struct admin *a)
{
	if (!a)
		return;
	atomic_store(&a->is_stopping, true);
	work_free(a->work);
	snapshots_free(a->snapshots);
	free(a->version);
	free(a->upstream);
	free(a);
}

bool admin_is_near(const struct request *q)
{
	struct str client = str_from(q->client);

	return client.len == 0 || str_starts_with(client, STR("127.")) || str_eq(client, STR("::1")) ||
	       str_starts_with(client, STR("::ffff:127.")) || str_starts_with(client, STR("unix"));
}

bool admin_is_local(const struct request *q, struct reply *r)
{
	if (admin_is_near(q))
		return true;
	reply_refuse(r, ENDPOINT_OWN, 403, "this page is shown on the server itself only (ask 127.0.0.1)");
	return false;
}

struct check {
	const char *name;
	const char *trouble; /* NULL: well */
};

/* Warnings are no trouble: they are choices that should be seen. */
static int answer_checks(const struct admin *a, const struct check *checks, size_t count, struct reply *r)
{
	bool is_well = true;
	SCOPED_BUF body;

	buf_init(&body, 4096);
	buf_append_str(&body, STR("{\"checks\":["));
	for (size_t i = 0; i < count; i++) {
		is_well = is_well && !checks[i].trouble;
		buf_appendf(&body, "%s{\"name\":\"%s\",\"ok\":%s,\"reason\":", i ? "," : "", checks[i].name,
			    checks[i].trouble ? "false" : "true");
		json_write_string(&body, str_from(checks[i].trouble ? checks[i].trouble : ""));
		buf_append_char(&body, '}');
	}
	buf_append_str(&body, STR("],\"warnings\":"));
	admin_write_warnings(a, &body);
	buf_appendf(&body, ",\"ok\":%s}\n", is_well ? "true" : "false");
	reply_text(r, is_well ? 200 : 503, "application/json", buf_str(&body));
	(void)headers_addf(&r->headers, "Cache-Control", "no-store");
	return 0;
}

int admin_healthz(struct admin *a, struct request *q, struct reply *r)
{
	const struct check checks[] = { { "loops", a->opts.loops_alive(a->opts.ctx) } };

	return answer_checks(a, checks, 1, r);
}

/* Upstream is not among the checks: without it this server still does its work (operations 3.4). */
int admin_readyz(struct admin *a, struct request *q, struct reply *r)
{
	const struct check checks[] = {
		{ "loops", a->opts.loops_alive(a->opts.ctx) },
		{ "index", a->opts.index_ok(a->opts.ctx) },
		{ "store", store_check_writable(a->opts.store) == 0
				   ? NULL
				   : "the store cannot be written; see the log" },
		{ "draining", a->opts.is_draining(a->opts.ctx) },
	};
	int error = answer_checks(a, checks, sizeof(checks) / sizeof(checks[0]), r);

	metrics_gauge_set(a->opts.metrics, METRIC_READY, 0, r->status == 200);
	return error;
}

int admin_certificate(struct admin *a, struct request *q, struct reply *r)
{
	if (a->opts.certificate.len == 0) {
		reply_refuse(r, ENDPOINT_OWN, 404, "there is no site CA here: intercept.enabled makes one");
		return 0;
	}
	reply_text(r, 200, "application/x-pem-file", a->opts.certificate);
	(void)headers_addf(&r->headers, "Cache-Control", "no-cache");
	return 0;
}

int admin_metrics(struct admin *a, struct request *q, struct reply *r)
{
	SCOPED_BUF text = { 0 };

	if (!admin_is_local(q, r))
		return 0;
	buf_init(&text, 4 << 20);
	if (metrics_render(a->opts.metrics, &text) < 0) {
		reply_refuse(r, ENDPOINT_OWN, 500, "the metrics do not fit into 4 MiB");
		return 0;
	}
	reply_text(r, 200, "text/plain; version=0.0.4; charset=utf-8", buf_str(&text));
	return 0;
}
