/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves which path is which call, what a request says about caching, when a kept answer is given, and that a record is read
 * as it was written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "common/alloc.h"
#include "infer/priv.h"

static void never_wake(struct waiter *w)
{
}

static struct request request_of(const char *method, const char *target)
{
	struct request q;

	request_init(&q, never_wake);
	q.method = xstrdup(method);
	q.target = xstrdup(target);
	uri_split_target(str_from(q.target), &q.path, &q.query);
	return q;
}

struct path_case {
	const char *target;
	enum dialect dialect;
	const char *model, *task, *route, *upstream;
};

#define SST "distilbert/sst-2"

static void every_spelling_of_a_call_is_one_call(void **state)
{
	static const struct path_case cases[] = {
		{ "/models/" SST, DIALECT_TASK, SST, "", "default", "/hf-inference/models/" SST },
		{ "/hf-inference/models/" SST, DIALECT_TASK, SST, "", "default",
		  "/hf-inference/models/" SST },
		{ "/api/inference-proxy/hf-inference/models/" SST, DIALECT_TASK, SST, "", "default",
		  "/hf-inference/models/" SST },
		{ "/models/gpt2?x=1", DIALECT_TASK, "gpt2", "", "default", "/hf-inference/models/gpt2?x=1" },
		{ "/pipeline/feature-extraction/a/b", DIALECT_TASK, "a/b", "feature-extraction",
		  "feature-extraction", "/hf-inference/models/a/b/pipeline/feature-extraction" },
		{ "/hf-inference/pipeline/feature-extraction/a/b", DIALECT_TASK, "a/b", "feature-extraction",
		  "feature-extraction", "/hf-inference/models/a/b/pipeline/feature-extraction" },
		{ "/hf-inference/models/a/b/pipeline/feature-extraction", DIALECT_TASK, "a/b",
		  "feature-extraction", "feature-extraction",
		  "/hf-inference/models/a/b/pipeline/feature-extraction" },
		{ "/models/a/b/v1/chat/completions", DIALECT_CHAT, "a/b", "",
		  "hf-inference/v1/chat/completions", "/hf-inference/models/a/b/v1/chat/completions" },
		{ "/v1/chat/completions", DIALECT_CHAT, "", "", "v1/chat/completions",
		  "/v1/chat/completions" },
		{ "/v1/completions", DIALECT_COMPLETIONS, "", "", "v1/completions", "/v1/completions" },
		{ "/v1/responses", DIALECT_RESPONSES, "", "", "v1/responses", "/v1/responses" },
		{ "/v1/messages", DIALECT_MESSAGES, "", "", "v1/messages", "/v1/messages" },
		{ "/v1/embeddings", DIALECT_EMBEDDINGS, "", "", "v1/embeddings", "/v1/embeddings" },
		{ "/groq/openai/v1/chat/completions", DIALECT_CHAT, "", "", "groq/openai/v1/chat/completions",
		  "/groq/openai/v1/chat/completions" },
		{ "/api/inference-proxy/together/v1/chat/completions", DIALECT_CHAT, "", "",
		  "together/v1/chat/completions", "/together/v1/chat/completions" },
		{ "/fal-ai/fal-ai/flux", DIALECT_OTHER, "", "", "fal-ai/fal-ai/flux", "/fal-ai/fal-ai/flux" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct request q = request_of("POST", cases[i].target);
		struct infer_path p;

		assert_int_equal(path_read(&q, &p), 0);
		assert_int_equal(p.dialect, cases[i].dialect);
		if (!str_eq(p.model, str_from(cases[i].model)) || !str_eq(p.task, str_from(cases[i].task)) ||
		    !str_eq(buf_str(&p.route), str_from(cases[i].route)) ||
		    !str_eq(buf_str(&p.target), str_from(cases[i].upstream)))
			fail_msg("%s: %.*s %.*s %.*s", cases[i].target, STR_ARGS(p.model),
				 STR_ARGS(buf_str(&p.route)), STR_ARGS(buf_str(&p.target)));
		assert_true(infer_is_call(&q));
		path_done(&p);
		request_done(&q);
	}
}

static void paths_of_the_hub_are_no_calls(void **state)
{
	static const char *const targets[] = { "/",
					       "/acme/pub",
					       "/cohere/model.git/info/lfs/objects/batch",
					       "/openai/whisper/git-upload-pack",
					       "/api/models/acme/pub/paths-info/main",
					       "/v1",
					       "/models",
					       "/pipeline/x",
					       "/models/a/b/c",
					       "/models/a/b/pipeline",
					       "/models/../x",
					       "/models/a%2Fb" };

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct request q = request_of("POST", targets[i]);

		if (infer_is_call(&q))
			fail_msg("%s is taken for a call", targets[i]);
		request_done(&q);
	}
	for (int i = 0; i < 2; i++) {
		struct request q = request_of(i ? "GET" : "PUT", "/v1/chat/completions");

		assert_false(infer_is_call(&q));
		request_done(&q);
	}
}

static struct infer_control control_of(const char *name, const char *value, bool refuses)
{
	struct request q = request_of("POST", "/v1/embeddings");
	struct call_facts facts = { .refuses_cache = refuses };
	struct infer_control c;

	(void)headers_add(&q.headers, str_from(name), str_from(value));
	control_read(&q, &facts, &c);
	request_done(&q);
	return c;
}

static void reads_what_a_request_says_about_caching(void **state)
{
	struct infer_control c = control_of("X-Use-Cache", "False", false);

	assert_true(c.no_lookup && c.no_store);
	c = control_of("x", "y", true);
	assert_true(c.no_lookup && c.no_store);
	c = control_of("Cache-Control", "no-cache", false);
	assert_true(c.no_lookup && !c.no_store);
	c = control_of("Pragma", "no-cache", false);
	assert_true(c.no_lookup && !c.no_store);
	c = control_of("Cache-Control", "max-age=30, No-Store", false);
	assert_true(c.no_store && c.max_age_s == 30);
	c = control_of("Cache-Control", "only-if-cached, max-stale", false);
	assert_true(c.only_if_cached && c.max_stale_s == INT64_MAX && c.max_age_s == -1);
	c = control_of("Cache-Control", "max-age=nonsense", false);
	assert_int_equal(c.max_age_s, 0);
	c = control_of("X-Wait-For-Model", "true", false);
	assert_true(c.waits_for_model && !c.no_lookup);
}

/* One line of the truth table. */
static void expect(enum infer_mode mode, enum repeat repeat, const char *held, bool is_down,
		   enum infer_verdict want)
{
	struct infer_control c = { .max_age_s = -1, .min_fresh_s = -1, .max_stale_s = -1 };
	struct infer_facts f = { .mode = mode, .repeat = repeat, .control = &c, .upstream_is_down = is_down };

	f.is_held = *held != '-';
	f.is_sample = *held == 's';
	f.is_outdated = *held == 'o';
	if (infer_decide(&f) != want)
		fail_msg("mode %d repeat %d held %s down %d: %d, not %d", mode, repeat, held, is_down,
			 infer_decide(&f), want);
}

static void decides_by_the_table(void **state)
{
	static const enum infer_mode asking[] = { INFER_DETERMINISTIC, INFER_RECORD };

	for (size_t i = 0; i < 2; i++) {
		expect(asking[i], REPEAT_YES, "yes", false, INFER_GIVE);
		expect(asking[i], REPEAT_SEEDED, "yes", false, INFER_GIVE);
		expect(asking[i], REPEAT_YES, "yes", true, INFER_GIVE);
		expect(asking[i], REPEAT_YES, "-", false, INFER_ASK);
		expect(asking[i], REPEAT_YES, "-", true, INFER_REFUSE);
		expect(asking[i], REPEAT_YES, "old", false, INFER_ASK);
		expect(asking[i], REPEAT_YES, "old", true, INFER_GIVE_STALE);
		expect(asking[i], REPEAT_SAMPLE, "sample", false, INFER_ASK);
		expect(asking[i], REPEAT_SAMPLE, "sample", true, INFER_GIVE_STALE);
		expect(asking[i], REPEAT_NEVER, "-", false, INFER_ASK);
		expect(asking[i], REPEAT_NEVER, "-", true, INFER_REFUSE);
	}
	expect(INFER_REPLAY, REPEAT_SAMPLE, "sample", false, INFER_GIVE_STALE);
	expect(INFER_REPLAY, REPEAT_YES, "old", false, INFER_GIVE_STALE);
	expect(INFER_REPLAY, REPEAT_YES, "-", false, INFER_ASK);
	expect(INFER_OFFLINE, REPEAT_YES, "yes", true, INFER_GIVE);
	expect(INFER_OFFLINE, REPEAT_SAMPLE, "sample", true, INFER_GIVE_STALE);
	expect(INFER_OFFLINE, REPEAT_YES, "-", true, INFER_REFUSE);
	/* a backend is there */
	expect(INFER_OFFLINE, REPEAT_YES, "-", false, INFER_ASK);
	expect(INFER_OFF, REPEAT_YES, "yes", false, INFER_ASK);
	expect(INFER_OFF, REPEAT_YES, "yes", true, INFER_REFUSE);
}

static void the_request_has_the_last_word(void **state)
{
	struct infer_control c = { .max_age_s = -1, .min_fresh_s = -1, .max_stale_s = -1 };
	struct infer_facts f = { .mode = INFER_DETERMINISTIC, .control = &c, .is_held = true, .age_s = 100 };

	c.no_lookup = true;
	assert_int_equal(infer_decide(&f), INFER_ASK);
	f.upstream_is_down = true;
	assert_int_equal(infer_decide(&f), INFER_REFUSE);
	c.no_lookup = f.upstream_is_down = false;
	c.max_age_s = 50;
	assert_int_equal(infer_decide(&f), INFER_ASK);
	c.max_age_s = 200;
	assert_int_equal(infer_decide(&f), INFER_GIVE);
	c.max_age_s = -1;
	c.only_if_cached = f.is_sample = true;
	assert_int_equal(infer_decide(&f), INFER_GIVE_STALE);
	f.is_held = false;
	assert_int_equal(infer_decide(&f), INFER_REFUSE);
	c.only_if_cached = false;
	f.repeat = REPEAT_SAMPLE;
	assert_false(infer_may_keep(&f));
	f.mode = INFER_RECORD;
	assert_true(infer_may_keep(&f));
	assert_false(infer_may_share(&f));
	f.repeat = REPEAT_YES;
	assert_true(infer_may_share(&f));
	c.no_store = true;
	assert_false(infer_may_keep(&f) || infer_may_share(&f));
}

static void answers_get_old(void **state)
{
	struct infer_control c = { .max_age_s = -1, .min_fresh_s = -1, .max_stale_s = -1 };
	struct infer_facts f = { .mode = INFER_DETERMINISTIC, .control = &c, .is_held = true };

	f.age_s = SAMPLE_TTL_S + 5;
	assert_int_equal(infer_decide(&f), INFER_GIVE);
	f.is_seeded = true;
	assert_int_equal(infer_decide(&f), INFER_ASK);
	c.max_stale_s = 4;
	assert_int_equal(infer_decide(&f), INFER_ASK);
	c.max_stale_s = 5;
	assert_int_equal(infer_decide(&f), INFER_GIVE_STALE);
	c.max_stale_s = -1;
	f.upstream_is_down = true;
	assert_int_equal(infer_decide(&f), INFER_GIVE_STALE);
	f = (struct infer_facts){ .mode = INFER_DETERMINISTIC, .control = &c, .is_held = true, .age_s = 90 };
	c.max_age_s = 100;
	c.min_fresh_s = 10;
	assert_int_equal(infer_decide(&f), INFER_GIVE);
	c.min_fresh_s = 11;
	assert_int_equal(infer_decide(&f), INFER_ASK);
}

static void what_is_protected_is_not_given_without_proof(void **state)
{
	struct infer_control c = { .max_age_s = -1, .min_fresh_s = -1, .max_stale_s = INT64_MAX };
	struct infer_facts f = { .mode = INFER_REPLAY, .control = &c, .is_held = true, .is_closed = true };

	assert_int_equal(infer_decide(&f), INFER_ASK);
	f.upstream_is_down = true;
	assert_int_equal(infer_decide(&f), INFER_REFUSE);
	f.is_closed = false;
	f.lacks_usage = true;
	assert_int_equal(infer_decide(&f), INFER_GIVE);
	f.upstream_is_down = false;
	assert_int_equal(infer_decide(&f), INFER_ASK);
}

static void what_is_read_is_told_by_host_and_path(void **state)
{
	static const struct {
		const char *host, *target;
		bool is_page, is_call;
	} cases[] = {
		{ "cache:8090", "/v1/models", true, true },
		{ "cache:8090", "/v1/models/a/b", true, true },
		{ "cache:8090", "/api/tasks", true, false },
		{ "cache:8090", "/hf-inference/models/a/b/info", true, true },
		{ "cache:8090", "/models/gpt2/health", true, true },
		{ "cache:8090", "/status/a/b", true, false },
		{ "cache:8090", "/fal-ai/x/requests/1/status", true, true },
		{ "cache:8090", "/openai/whisper/tree/main", false, true },
		{ "cache:8090", "/models", false, false },
		{ "cache:8090", "/a/b", false, false },
		{ "router.huggingface.co", "/a/b", true, true },
		{ "API-inference.huggingface.co:443", "/anything%20else", true, true },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct request get = request_of("GET", cases[i].target),
			       post = request_of("POST", cases[i].target);

		get.host = xstrdup(cases[i].host);
		post.host = xstrdup(cases[i].host);
		if (infer_is_page(&get) != cases[i].is_page || infer_is_call(&post) != cases[i].is_call ||
		    infer_is_call(&get))
			fail_msg("%s%s", cases[i].host, cases[i].target);
		request_done(&get);
		request_done(&post);
	}
}

static void a_record_is_read_as_it_was_written(void **state)
{
	struct record r = { .form = FORM_STREAM,
			    .dialect = DIALECT_CHAT,
			    .repeat = REPEAT_SAMPLE,
			    .made_at = 1700000000,
			    .type = (char *)(uintptr_t) "text/event-stream",
			    .model = (char *)(uintptr_t) "a/\"b\"",
			    .served_by = (char *)(uintptr_t) "upstream" },
		      got;
	SCOPED_BUF text;
	size_t line;

	buf_init(&text, 65536);
	record_write(&r, &text);
	line = text.len;
	buf_append_str(&text, STR("data: {}\n\n"));
	assert_int_equal(record_read(buf_str(&text), &got), line);
	assert_int_equal(got.form, FORM_STREAM);
	assert_int_equal(got.dialect, DIALECT_CHAT);
	assert_int_equal(got.repeat, REPEAT_SAMPLE);
	assert_int_equal(got.made_at, 1700000000);
	assert_string_equal(got.type, "text/event-stream");
	assert_string_equal(got.model, "a/\"b\"");
	assert_null(got.sha);
	record_done(&got);
}

static void other_bytes_are_no_record(void **state)
{
	static const char *const bad[] = {
		"",
		"{}",
		"{}\n",
		"no\n",
		"{\"answer\":2,\"form\":\"whole\",\"repeat\":\"yes\",\"made_at\":1,\"dialect\":\"oai-chat\"}"
		"\n",
		"{\"answer\":1,\"form\":\"odd\",\"repeat\":\"yes\",\"made_at\":1,\"dialect\":\"oai-chat\"}\n",
		"{\"answer\":1,\"form\":\"whole\",\"repeat\":\"yes\",\"made_at\":-1,\"dialect\":\"oai-chat\"}"
		"\n",
		"{\"answer\":1,\"form\":\"whole\",\"repeat\":\"yes\",\"made_at\":1,\"dialect\":\"x\"}\n",
	};
	struct record got;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(record_read(str_from(bad[i]), &got), -EBADMSG);
	/* what could end a field of an answer is not read */
	assert_true(record_read(STR("{\"answer\":1,\"form\":\"whole\",\"repeat\":\"yes\",\"made_at\":1,"
				    "\"dialect\":\"oai-chat\","
				    "\"type\":\"a\\r\\nb: c\"}\n"),
				&got) > 0);
	assert_null(got.type);
	record_done(&got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_spelling_of_a_call_is_one_call),
		cmocka_unit_test(paths_of_the_hub_are_no_calls),
		cmocka_unit_test(reads_what_a_request_says_about_caching),
		cmocka_unit_test(decides_by_the_table),
		cmocka_unit_test(the_request_has_the_last_word),
		cmocka_unit_test(answers_get_old),
		cmocka_unit_test(what_is_protected_is_not_given_without_proof),
		cmocka_unit_test(what_is_read_is_told_by_host_and_path),
		cmocka_unit_test(a_record_is_read_as_it_was_written),
		cmocka_unit_test(other_bytes_are_no_record),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
