/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves which server is a model's, which path of it does what, when it may be asked, and what it is asked by itself, against
 * scripted servers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "backend/priv.h"
#include "common/alloc.h"
#include "metrics/metrics.h"
#include "upstream.h"

#define COUNT 3

struct world {
	struct upstream *up;
	struct fetch *fetch;
	struct metrics *metrics;
	struct backends *backends;
	struct clock clock;
	_Atomic int health;  /* the status of its probe */
	atomic_uint keyless; /* questions without the key */
	struct waiter waiter;
	atomic_uint wakes;
};

static _Atomic uint64_t fake_ms = 1000000;

static uint64_t fake_mono(void *ctx)
{
	return atomic_load(&fake_ms);
}

static void answer(void *ctx, struct upstream_call *c)
{
	struct world *w = ctx;

	if (strcmp(upstream_field(c, "Authorization"), "Bearer sk-key") != 0)
		atomic_fetch_add(&w->keyless, 1);
	if (strcmp(c->target, "/inner/info") == 0)
		upstream_reply(c, 200, "",
			       "{\"model_id\":\"acme/"
			       "embed\",\"model_sha\":\"0123456789012345678901234567890123456789\","
			       "\"model_type\":{\"embedding\":{\"pooling\":\"mean\"}}}");
	else
		upstream_reply(c, atomic_load(&w->health), "", "");
}

static void on_wake(struct waiter *waiter)
{
	struct world *w = (struct world *)((char *)waiter - offsetof(struct world, waiter));

	atomic_fetch_add(&w->wakes, 1);
}

static const struct backend_rules rules[COUNT] = {
	{ .name = "near",
	  .models = (const char *const[]){ "acme/chat", "acme/small-*", NULL },
	  .served_name = "served",
	  .key = "sk-key",
	  .concurrency = 2 },
	{ .name = "wide",
	  .models = (const char *const[]){ "*/*", NULL },
	  .served_name = "",
	  .key = "",
	  .is_default = true },
	{ .name = "tei", .served_name = "", .key = "sk-key" },
};

static int set_up(void **state)
{
	static const struct backend_spec specs[COUNT] = { { "near", BACKEND_VLLM, "" },
							  { "wide", BACKEND_OPENAI, "" },
							  { "tei", BACKEND_TEI, "/inner" } };
	struct world *w = xcalloc(1, sizeof(*w));
	char dead[64];
	const char *urls[COUNT];
	struct fetch_opts opts = {
		.is_offline = true, .backend_urls = urls, .backend_count = COUNT, .clock = &clock_system
	};

	(void)snprintf(dead, sizeof(dead), "http://127.0.0.1:%u", upstream_dead_port());
	atomic_init(&w->health, 200);
	waiter_init(&w->waiter, on_wake);
	w->metrics = metrics_new();
	w->up = upstream_new(answer, w);
	w->clock = clock_system;
	w->clock.mono_ms = fake_mono;
	opts.hub_url = dead;
	urls[0] = urls[2] = upstream_url(w->up);
	urls[1] = dead;
	opts.metrics = w->metrics;
	assert_int_equal(fetch_new(&opts, &w->fetch), 0);
	w->backends = backends_new(&(struct backends_opts){ .fetch = w->fetch,
							    .metrics = w->metrics,
							    .clock = &w->clock,
							    .specs = specs,
							    .count = COUNT });
	backends_set_rules(w->backends, rules, COUNT);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	waiter_cancel(&w->waiter);
	backends_free(w->backends);
	fetch_free(w->fetch);
	upstream_free(w->up);
	metrics_free(w->metrics);
	free(w);
	return 0;
}

static void sleep_ms(unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	(void)nanosleep(&t, NULL);
}

static void until_served(struct world *w, unsigned i, struct str model)
{
	for (unsigned n = 0; n < 3000 && backend_serves(w->backends, i, model) == MATCH_NONE; n++)
		sleep_ms(10);
	assert_int_equal(backend_serves(w->backends, i, model), MATCH_EXACT);
}

static void models_are_matched_by_name_by_glob_and_by_none(void **state)
{
	struct world *w = *state;

	assert_int_equal(backend_serves(w->backends, 0, STR("acme/chat")), MATCH_EXACT);
	assert_int_equal(backend_serves(w->backends, 0, STR("acme/Chat")), MATCH_NONE);
	assert_int_equal(backend_serves(w->backends, 0, STR("acme/small-1")), MATCH_GLOB);
	assert_int_equal(backend_serves(w->backends, 0, STR("acme/small")), MATCH_NONE);
	assert_int_equal(backend_serves(w->backends, 1, STR("x/y")), MATCH_GLOB);
	assert_int_equal(backend_serves(w->backends, 1, STR("gpt2")), MATCH_NONE);
	assert_int_equal(backend_serves(w->backends, 1, STR("tgi")), MATCH_DEFAULT);
	assert_int_equal(backend_serves(w->backends, 1, STR("")), MATCH_DEFAULT);
	assert_int_equal(backend_serves(w->backends, 0, STR("dummy")), MATCH_NONE);
}

static bool add_model(void *ctx, struct str model, struct str task, struct str owner)
{
	(void)buf_appendf(ctx, "%.*s:%.*s:%.*s\n", STR_ARGS(model), STR_ARGS(task), STR_ARGS(owner));
	return true;
}

static void what_a_server_says_of_itself_is_believed(void **state)
{
	struct world *w = *state;
	char commit[41];
	struct call_facts facts = { .is_json = true };
	struct backend_road road;
	SCOPED_BUF names;

	buf_init(&names, 4096);
	until_served(w, 2, STR("acme/embed"));
	assert_true(backend_commit(w->backends, 2, commit));
	assert_string_equal(commit, "0123456789012345678901234567890123456789");
	assert_int_equal(
		backend_road(w->backends, 2, DIALECT_TASK, STR(""), &facts, STR("{\"inputs\":\"a\"}"), &road),
		0);
	assert_int_equal(road.how, ADAPT_EMBED);
	backends_each_model(w->backends, add_model, &names);
	assert_string_equal(buf_str(&names).ptr, "acme/chat::near\nacme/embed:feature-extraction:tei\n");
}

static void a_server_is_asked_with_its_key(void **state)
{
	struct world *w = *state;

	until_served(w, 2, STR("acme/embed"));
	/* the very first probe may have gone before the rules were set */
	assert_true(atomic_load(&w->keyless) <= 2);
}

static void each_kind_has_its_roads(void **state)
{
	static const struct {
		unsigned i;
		enum dialect dialect;
		const char *task, *body;
		int result;
		enum adapt how;
		const char *path;
	} cases[] = {
		{ 0, DIALECT_CHAT, "", "{}", 0, ADAPT_RENAME, "/v1/chat/completions" },
		{ 2, DIALECT_CHAT, "", "{}", -ENOTSUP, 0, NULL },
		{ 0, DIALECT_MESSAGES, "", "{}", 0, ADAPT_RENAME, "/v1/messages" },
		{ 1, DIALECT_MESSAGES, "", "{}", -ENOTSUP, 0, NULL },
		{ 2, DIALECT_EMBEDDINGS, "", "{}", 0, ADAPT_RENAME, "/v1/embeddings" },
		{ 2, DIALECT_TASK, "text-classification", "{}", 0, ADAPT_PREDICT, "/predict" },
		{ 0, DIALECT_TASK, "text-classification", "{}", 0, ADAPT_CLASSIFY, "/classify" },
		{ 1, DIALECT_TASK, "text-classification", "{}", -ENOTSUP, 0, NULL },
		{ 2, DIALECT_TASK, "", "{\"inputs\":{\"source_sentence\":\"a\"}}", 0, ADAPT_SIMILARITY,
		  "/similarity" },
		{ 1, DIALECT_TASK, "", "{\"inputs\":{\"source_sentence\":\"a\"}}", 0, ADAPT_COSINE,
		  "/v1/embeddings" },
		{ 2, DIALECT_TASK, "rerank", "{}", 0, ADAPT_RERANK, "/rerank" },
		{ 0, DIALECT_TASK, "", "{\"inputs\":\"a\"}", 0, ADAPT_COMPLETE, "/v1/completions" },
		{ 0, DIALECT_TASK, "fill-mask", "{}", -ENOTSUP, 0, NULL },
		{ 0, DIALECT_OTHER, "", "{}", -ENOTSUP, 0, NULL },
	};
	struct call_facts facts = { .is_json = true };
	struct world *w = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct backend_road road = { 0 };

		assert_int_equal(backend_road(w->backends, cases[i].i, cases[i].dialect,
					      str_from(cases[i].task), &facts, str_from(cases[i].body),
					      &road),
				 cases[i].result);
		if (cases[i].result < 0)
			continue;
		assert_int_equal(road.how, cases[i].how);
		assert_string_equal(road.path, cases[i].path);
	}
}

static void a_model_is_asked_for_by_the_servers_name_for_it(void **state)
{
	struct world *w = *state;
	SCOPED_BUF name;

	buf_init(&name, 256);
	backend_model_name(w->backends, 0, STR("acme/chat"), &name);
	assert_string_equal(buf_str(&name).ptr, "served");
	buf_reset(&name);
	backend_model_name(w->backends, 1, STR("acme/chat"), &name);
	assert_string_equal(buf_str(&name).ptr, "acme/chat");
	until_served(w, 2, STR("acme/embed"));
	buf_reset(&name);
	backend_model_name(w->backends, 2, STR("tgi"), &name);
	assert_string_equal(buf_str(&name).ptr, "acme/embed");
}

static void no_more_are_under_way_than_it_may_be_given(void **state)
{
	struct world *w = *state;
	struct slot *one, *two, *three;

	assert_int_equal(backend_take(w->backends, 0, &one), 0);
	assert_int_equal(backend_take(w->backends, 0, &two), 0);
	assert_int_equal(backend_take(w->backends, 0, &three), -EBUSY);
	backends_wait(w->backends, &w->waiter);
	slot_done(one, 0, 200);
	assert_int_equal(atomic_load(&w->wakes), 1);
	assert_int_equal(backend_take(w->backends, 0, &three), 0);
	slot_done(two, -ECANCELED, 0);
	slot_done(three, 0, 0);
}

static void who_waits_is_woken_although_nothing_happens(void **state)
{
	struct world *w = *state;

	until_served(w, 2, STR("acme/embed"));
	backends_wait(w->backends, &w->waiter);
	for (unsigned n = 0; n < 3000 && atomic_load(&w->wakes) == 0; n++)
		sleep_ms(10);
	assert_int_equal(atomic_load(&w->wakes), 1);
}

static void call(struct world *w, int error, int status)
{
	struct slot *s;

	assert_int_equal(backend_take(w->backends, 0, &s), 0);
	slot_done(s, error, status);
}

static void errors_in_a_row_open_the_circuit_and_one_call_finds_out(void **state)
{
	struct world *w = *state;
	struct slot *try, *other;

	until_served(w, 2, STR("acme/embed")); /* the first probes are over; the next ones come in 5 s */
	call(w, 0, 500);
	call(w, 0, 502);
	call(w, 0, 200);
	call(w, 0, 500);
	call(w, 0, 422); /* the client's mistake is an answer */
	call(w, 0, 500);
	call(w, 0, 504);
	assert_int_equal(backend_state(w->backends, 0), BACKEND_READY);
	call(w, -ECONNRESET, 0);
	assert_int_equal(backend_state(w->backends, 0), BACKEND_BROKEN);
	assert_int_equal(backend_take(w->backends, 0, &try), -EHOSTUNREACH);
	atomic_fetch_add(&fake_ms, BROKEN_MS);
	assert_int_equal(backend_take(w->backends, 0, &try), 0);
	assert_int_equal(backend_take(w->backends, 0, &other), -EHOSTUNREACH);
	slot_done(try, 0, 500);
	assert_int_equal(backend_take(w->backends, 0, &other), -EHOSTUNREACH);
	atomic_fetch_add(&fake_ms, BROKEN_MS);
	assert_int_equal(backend_take(w->backends, 0, &try), 0);
	slot_done(try, 0, 200);
	assert_int_equal(backend_state(w->backends, 0), BACKEND_READY);
}

/* Descriptors, ports, a place: it is our own machine that lacks them. */
static void what_this_machine_lacks_is_no_word_about_a_server(void **state)
{
	struct world *w = *state;

	until_served(w, 2, STR("acme/embed"));
	for (unsigned i = 0; i < 9; i++)
		call(w, (int[]){ -ENOBUFS, -EMFILE, -EADDRNOTAVAIL }[i % 3], 0);
	assert_int_equal(backend_state(w->backends, 0), BACKEND_READY);
	for (unsigned i = 0; i < 3; i++)
		call(w, -ECONNRESET, 0);
	assert_int_equal(backend_state(w->backends, 0), BACKEND_BROKEN);
}

static void loading_is_not_dead(void **state)
{
	struct world *w = *state;
	struct slot *s;

	until_served(w, 2, STR("acme/embed"));
	atomic_store(&w->health, 503);
	for (unsigned i = 0; i < 5; i++) {
		assert_true(backend_take(w->backends, 0, &s) == 0 ||
			    backend_take_loading(w->backends, 0, &s) == 0);
		slot_done(s, 0, 503);
	}
	assert_int_equal(backend_state(w->backends, 0), BACKEND_LOADING);
	assert_int_equal(backend_take(w->backends, 0, &s), -EAGAIN);
	atomic_store(&w->health, 200);
	health_note(&w->backends->ones[0], 0, 200, true);
	assert_int_equal(backend_state(w->backends, 0), BACKEND_READY);
}

static void a_probe_heals_what_could_not_be_reached_but_not_what_answers_with_errors(void **state)
{
	struct world *w = *state;
	struct one *o = &w->backends->ones[0];

	until_served(w, 2, STR("acme/embed"));
	for (unsigned i = 0; i < FAILURES_MAX; i++)
		health_note(o, -EHOSTUNREACH, 0, true);
	assert_int_equal(backend_state(w->backends, 0), BACKEND_BROKEN);
	health_note(o, 0, 200, true);
	assert_int_equal(backend_state(w->backends, 0), BACKEND_READY);
	for (unsigned i = 0; i < FAILURES_MAX; i++)
		health_note(o, -EHOSTUNREACH, 0, true);
	health_note(o, 0, 503, true);
	assert_int_equal(backend_state(w->backends, 0), BACKEND_LOADING);
	for (unsigned i = 0; i < FAILURES_MAX; i++)
		health_note(o, 0, 500, false);
	health_note(o, 0, 200, true);
	assert_int_equal(backend_state(w->backends, 0), BACKEND_BROKEN);
}

static void an_inventory_is_read_or_refused(void **state)
{
	struct served s;

	assert_int_equal(inventory_read(STR("{\"data\":[{\"id\":\"a\"},{\"x\":1},{\"id\":\"b\"}]}"), &s), 0);
	assert_int_equal(s.count, 2);
	served_done(&s);
	assert_int_equal(
		inventory_read(STR("{\"model_id\":\"a\",\"model_type\":\"classifier\",\"model_sha\":\"x\"}"),
			       &s),
		0);
	assert_string_equal(s.task, "text-classification");
	assert_string_equal(s.commit, "");
	served_done(&s);
	assert_int_equal(inventory_read(STR("[]"), &s), -EPROTO);
	assert_int_equal(inventory_read(STR("{}"), &s), -EPROTO);
	assert_int_equal(inventory_read(STR("{\"data\":"), &s), -EPROTO);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(models_are_matched_by_name_by_glob_and_by_none),
		TEST(what_a_server_says_of_itself_is_believed),
		TEST(a_server_is_asked_with_its_key),
		TEST(each_kind_has_its_roads),
		TEST(a_model_is_asked_for_by_the_servers_name_for_it),
		TEST(no_more_are_under_way_than_it_may_be_given),
		TEST(who_waits_is_woken_although_nothing_happens),
		TEST(errors_in_a_row_open_the_circuit_and_one_call_finds_out),
		TEST(what_this_machine_lacks_is_no_word_about_a_server),
		TEST(loading_is_not_dead),
		TEST(a_probe_heals_what_could_not_be_reached_but_not_what_answers_with_errors),
		cmocka_unit_test(an_inventory_is_read_or_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
