/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool/status - one screen: is it well, what does it do, what has it saved.
 *
 * Threads   one.
 */
#include "tool/priv.h"

#include <inttypes.h>
#include <sysexits.h>
#include <time.h>

#include "common/banned.h"

#define TIME_TEXT 40

static const char *time_text(uint64_t at, char ret[TIME_TEXT])
{
	time_t t = (time_t)at;
	struct tm parts;

	if (!localtime_r(&t, &parts) || strftime(ret, TIME_TEXT, "%Y-%m-%d %H:%M", &parts) == 0)
		(void)snprintf(ret, TIME_TEXT, "%" PRIu64, at);
	return ret;
}

static void print_head(const char *name)
{
	(void)printf("%-10s ", name);
}

static void print_version(const struct json *s)
{
	uint64_t now = json_number(s, "now"), since = json_number(s, "started_at");
	struct str version = json_text(s, "version");
	char span[AGE_TEXT], at[TIME_TEXT];

	print_head("hfcached");
	print_plain(stdout, version);
	if (since)
		(void)printf(", up for %s, since %s", span_text(now > since ? now - since : 0, span),
			     time_text(since, at));
	(void)putchar('\n');
}

/* What is said of the Hub, of its inference router and of an app alike. */
static void print_reachable(const struct json *s, const struct json *origin)
{
	const struct json *reachable = json_get(origin, "reachable");
	uint64_t now = json_number(s, "now"), since = json_number(origin, "unreachable_since");
	struct str reason = json_text(origin, "reason");
	char span[AGE_TEXT], at[TIME_TEXT];

	if (json_is_true(json_get(origin, "never_asked"))) {
		(void)puts("is not asked (hub.offline)");
		return;
	}
	if (json_is_true(reachable))
		(void)puts("is reachable");
	else if (!json_is_false(reachable))
		(void)puts("was not asked yet");
	else if (since)
		(void)printf("is UNREACHABLE since %s (%s)\n", time_text(since, at),
			     span_text(now > since ? now - since : 0, span));
	else
		(void)puts("is UNREACHABLE");
	if (reason.len) {
		print_head("");
		print_plain(stdout, reason);
		(void)putchar('\n');
	}
}

static void print_origin(const struct json *s, const char *name)
{
	const struct json *origin = json_get(s, name);
	struct str url = json_text(origin, "url");

	if (!origin)
		return;
	print_head(name);
	print_plain(stdout, url);
	(void)putchar(' ');
	print_reachable(s, origin);
}

static void print_spaces(const struct json *s)
{
	bool is_first = true;

	for (const struct json *space = json_first(json_get(s, "spaces")); space; space = json_next(space)) {
		struct str name = json_text(space, "name"), url = json_text(space, "url");

		print_head(is_first ? "spaces" : "");
		is_first = false;
		print_plain(stdout, name);
		(void)fputs(" at ", stdout);
		print_plain(stdout, url);
		(void)putchar(' ');
		print_reachable(s, space);
	}
}

static void print_limits(const struct json *s)
{
	const struct json *limits = json_get(json_get(s, "upstream"), "rate_limits");
	bool is_first = true;

	for (const struct json *l = json_first(limits); l; l = json_next(l)) {
		uint64_t left = 0, waiting = json_number(l, "waiting");
		struct str name = json_name(l);
		char span[AGE_TEXT];

		if (json_u64(json_get(l, "left"), &left) < 0 && !waiting)
			continue;
		print_head(is_first ? "limits" : "");
		is_first = false;
		print_plain(stdout, name);
		(void)fputs(": ", stdout);
		if (json_u64(json_get(l, "left"), &left) == 0)
			(void)printf("%" PRIu64 " of %" PRIu64 " left for %s", left, json_number(l, "quota"),
				     span_text(json_number(l, "window_ends_in_s"), span));
		if (waiting)
			(void)printf("%s%" PRIu64 " must wait, %s at most", json_get(l, "left") ? "; " : "",
				     waiting, span_text(json_number(l, "waits_s"), span));
		(void)putchar('\n');
	}
}

static void print_store(const struct json *s)
{
	const struct json *store = json_get(s, "store");
	uint64_t used = json_number(store, "used_bytes") + json_number(store, "open_bytes"),
		 limit = json_number(store, "limit_bytes"), partial = json_number(store, "partial_bytes");
	char a[SIZE_TEXT], b[SIZE_TEXT], c[SIZE_TEXT];

	print_head("store");
	(void)printf("%s", size_text(used, a));
	if (limit)
		(void)printf(" of %s (%u%%)", size_text(limit, b),
			     (unsigned)((double)used * 100 / (double)limit));
	(void)printf(", %" PRIu64 " objects", json_number(store, "objects"));
	if (partial)
		(void)printf(", %s unfinished", size_text(partial, c));
	(void)printf("; %s free on the disk\n", size_text(json_number(store, "disk_free_bytes"), b));
}

static void print_fills(const struct json *s)
{
	const struct json *fills = json_get(s, "fills");
	char a[SIZE_TEXT], b[SIZE_TEXT], c[SIZE_TEXT];

	print_head("fills");
	if (json_number(fills, "running") == 0)
		(void)puts("none");
	else
		(void)printf("%" PRIu64 " running for %" PRIu64 " readers: %s of %s, %s/s\n",
			     json_number(fills, "running"), json_number(fills, "readers"),
			     size_text(json_number(fills, "held_bytes"), a),
			     size_text(json_number(fills, "bytes"), b),
			     size_text(json_number(fills, "bytes_per_s"), c));
}

/* What went to clients and did not come from upstream for it. */
static void print_saved(const struct json *s)
{
	const struct json *served = json_get(s, "served");
	uint64_t cache = json_number(served, "cache_bytes"), received = json_number(served, "received_bytes"),
		 sent = cache + json_number(served, "fill_bytes") + json_number(served, "passed_bytes"),
		 own = json_number(served, "own_bytes");
	char a[SIZE_TEXT], b[SIZE_TEXT];

	sent -= own < sent - cache ? own : sent - cache; /* servers and apps of one's own save nothing */
	print_head("saved");
	(void)printf("%s of %s sent", size_text(sent > received ? sent - received : 0, a),
		     size_text(sent, b));
	if (sent && sent > received)
		(void)printf(" (%u%%)", (unsigned)((double)(sent - received) * 100 / (double)sent));
	if (sent)
		(void)printf("; %u%% came from the store", (unsigned)((double)cache * 100 / (double)sent));
	(void)puts("; since the start");
}

static void print_backends(const struct json *s)
{
	bool is_first = true;

	for (const struct json *b = json_first(json_get(s, "backends")); b; b = json_next(b)) {
		struct str name = json_text(b, "name"), state = json_text(b, "state");

		print_head(is_first ? "backends" : "");
		is_first = false;
		print_plain(stdout, name);
		(void)fputs(": ", stdout);
		print_plain(stdout, state);
		(void)putchar('\n');
	}
}

static void print_rest(const struct json *s)
{
	const struct json *offline = json_get(s, "offline");
	struct str access = json_text(offline, "access");
	char span[AGE_TEXT];

	print_head("offline");
	print_plain(stdout, access);
	if (str_eq(access, STR("grants")))
		(void)printf(", for %s", span_text(json_number(offline, "grace_s"), span));
	(void)putchar('\n');
	for (const struct json *w = json_first(json_get(s, "warnings")); w; w = json_next(w)) {
		struct str warning = json_string(w);

		print_head("WARNING");
		print_plain(stdout, warning);
		(void)putchar('\n');
	}
}

static void print_status(const struct json *s)
{
	print_version(s);
	print_origin(s, "upstream");
	print_limits(s);
	print_origin(s, "inference");
	print_store(s);
	print_fills(s);
	print_saved(s);
	print_backends(s);
	print_spaces(s);
	print_rest(s);
}

int verb_status(const struct args *a)
{
	SCOPED(client_free) struct client *c = client_new(a->opts);
	SCOPED(json_free) struct json *root = NULL;
	SCOPED_BUF text = { 0 };
	int code = client_get(c, "/-/status", &text);

	if (code)
		return code;
	if (json_parse(buf_str(&text), &root) < 0)
		return tool_say(EX_SOFTWARE, "the daemon's answer is no JSON: is it of another version?");
	if (arg_has(a, FLAG_status_json)) {
		print_answer(stdout, buf_str(&text));
		return 0;
	}
	print_status(root);
	return 0;
}
