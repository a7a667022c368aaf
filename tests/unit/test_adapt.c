/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves what each server is told of a call as the Hub's service takes it, and what its answer becomes: whole, in pieces cut
 * anywhere, wrong, or broken off.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "common/alloc.h"
#include "dialect/adapt.h"

struct world {
	struct buf body, type, answer;
	struct adapted *adapted;
};

static int set_up(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	buf_init(&w->body, 1 << 20);
	buf_init(&w->type, 256);
	buf_init(&w->answer, 1 << 20);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	adapted_free(w->adapted);
	buf_done(&w->body);
	buf_done(&w->type);
	buf_done(&w->answer);
	free(w);
	return 0;
}

static int ask(struct world *w, enum adapt how, const char *body)
{
	adapted_free(TAKE_PTR(w->adapted));
	buf_reset(&w->body);
	buf_reset(&w->type);
	return adapt_request(&(struct adapt_call){ .how = how,
						   .body = str_from(body),
						   .is_json = true,
						   .asked = STR("acme/asked"),
						   .name = STR("served"),
						   .labels = STR("{\"0\":\"NEG\",\"1\":\"POS\"}") },
			     &w->body, &w->type, &w->adapted);
}

static void sends(struct world *w, enum adapt how, const char *body, const char *wanted)
{
	assert_int_equal(ask(w, how, body), 0);
	assert_string_equal(buf_str(&w->body).ptr, wanted);
	assert_string_equal(buf_str(&w->type).ptr, "application/json");
}

/* Cut into pieces of this size. */
static int hear(struct world *w, int status, const char *type, const char *text, size_t piece)
{
	struct headers fields;
	struct str rest = str_from(text);
	int r = 0;

	buf_reset(&w->answer);
	headers_init(&fields);
	assert_int_equal(headers_add(&fields, STR("Content-Type"), str_from(type)), 0);
	assert_int_equal(adapt_head(w->adapted, status, &fields), 0);
	headers_done(&fields);
	while (r == 0 && rest.len) {
		size_t len = rest.len < piece ? rest.len : piece;

		r = adapt_piece(w->adapted, (struct str){ rest.ptr, len }, &w->answer);
		rest = (struct str){ rest.ptr + len, rest.len - len };
	}
	return r < 0 ? r : adapt_end(w->adapted, &w->answer);
}

static void gets(struct world *w, const char *answer, const char *wanted)
{
	assert_int_equal(hear(w, 200, "application/json", answer, 7), 0);
	assert_string_equal(buf_str(&w->answer).ptr, wanted);
}

static void each_text_is_classified_alone_and_answered_in_a_list(void **state)
{
	struct world *w = *state;

	sends(w, ADAPT_PREDICT, "{\"inputs\":[\"a\",\"b\"],\"parameters\":{}}",
	      "{\"inputs\":[[\"a\"],[\"b\"]],\"truncate\":true,\"raw_scores\":false}");
	gets(w, "[[{\"score\":0.9,\"label\":\"X\"}],[{\"score\":0.2,\"label\":\"X\"}]]",
	     "[[{\"score\":0.9,\"label\":\"X\"}],[{\"score\":0.2,\"label\":\"X\"}]]");
	sends(w, ADAPT_PREDICT,
	      "{\"inputs\":\"a\",\"parameters\":{\"top_k\":1,\"function_to_apply\":\"none\"}}",
	      "{\"inputs\":[[\"a\"]],\"truncate\":true,\"raw_scores\":true}");
	gets(w, "[[{\"score\":0.1,\"label\":\"X\"},{\"score\":0.90,\"label\":\"Y\"}]]",
	     "[[{\"score\":0.90,\"label\":\"Y\"}]]");
	/* a server that answers flat */
	gets(w, "[{\"score\":0.1,\"label\":\"X\"},{\"score\":0.9,\"label\":\"Y\"}]",
	     "[[{\"score\":0.9,\"label\":\"Y\"}]]");
	sends(w, ADAPT_PREDICT, "{\"inputs\":{\"text\":\"a\",\"text_pair\":\"b\"}}",
	      "{\"inputs\":[[\"a\",\"b\"]],\"truncate\":true,\"raw_scores\":false}");
}

static void what_a_server_cannot_do_exactly_is_not_asked_of_it(void **state)
{
	struct world *w = *state;

	assert_int_equal(ask(w, ADAPT_PREDICT,
			     "{\"inputs\":\"a\",\"parameters\":{\"function_to_apply\":\"sigmoid\"}}"),
			 -ENOTSUP);
	assert_int_equal(ask(w, ADAPT_PREDICT, "{\"inputs\":[]}"), -EINVAL);
	assert_int_equal(ask(w, ADAPT_PREDICT, "{\"inputs\":[1]}"), -EINVAL);
	assert_int_equal(ask(w, ADAPT_COMPLETE, "{\"inputs\":[\"a\",\"b\"]}"), -ENOTSUP);
	assert_int_equal(
		ask(w, ADAPT_COMPLETE, "{\"inputs\":\"a\",\"parameters\":{\"grammar\":{\"type\":\"json\"}}}"),
		-ENOTSUP);
	assert_int_equal(ask(w, ADAPT_SIMILARITY, "{\"inputs\":\"a\"}"), -EINVAL);
	assert_int_equal(ask(w, ADAPT_RERANK, "{\"inputs\":\"a\"}"), -EINVAL);
}

static void all_labels_get_their_names_although_only_the_best_is_told(void **state)
{
	struct world *w = *state;

	sends(w, ADAPT_CLASSIFY, "{\"inputs\":\"a\"}", "{\"model\":\"served\",\"input\":[\"a\"]}");
	gets(w, "{\"data\":[{\"index\":0,\"label\":\"good\",\"probs\":[0.25,0.75],\"num_classes\":2}]}",
	     "[[{\"label\":\"good\",\"score\":0.75},{\"label\":\"NEG\",\"score\":0.25}]]");
	assert_int_equal(hear(w, 200, "application/json", "{\"data\":[]}", 4), -EPROTO);
}

static void embeddings_are_a_list_of_vectors_in_their_order(void **state)
{
	struct world *w = *state;

	sends(w, ADAPT_EMBED, "{\"inputs\":\"a\",\"normalize\":true,\"parameters\":{\"truncate\":true}}",
	      "{\"inputs\":\"a\",\"normalize\":true,\"truncate\":true}");
	gets(w, "[[0.1,0.2]]", "[[0.1,0.2]]");
	sends(w, ADAPT_EMBEDDINGS, "{\"inputs\":[\"a\",\"b\"]}",
	      "{\"model\":\"served\",\"input\":[\"a\",\"b\"],\"encoding_format\":\"float\"}");
	gets(w, "{\"data\":[{\"index\":1,\"embedding\":[3,4]},{\"index\":0,\"embedding\":[1.50,2]}]}",
	     "[[1.50,2],[3,4]]");
	assert_int_equal(hear(w, 200, "application/json",
			      "{\"data\":[{\"index\":0,\"embedding\":[3]},{\"index\":0,\"embedding\":[3]}]}",
			      9),
			 -EPROTO);
}

static void similarity_is_the_cosine_of_embeddings(void **state)
{
	struct world *w = *state;
	const char *body = "{\"inputs\":{\"source_sentence\":\"a\",\"sentences\":[\"b\",\"c\"]}}";

	sends(w, ADAPT_SIMILARITY, body,
	      "{\"inputs\":{\"source_sentence\":\"a\",\"sentences\":[\"b\",\"c\"]}}");
	sends(w, ADAPT_COSINE, body,
	      "{\"model\":\"served\",\"input\":[\"a\",\"b\",\"c\"],\"encoding_format\":\"float\"}");
	gets(w,
	     "{\"data\":[{\"index\":0,\"embedding\":[1,0]},{\"index\":1,\"embedding\":[2,0]},"
	     "{\"index\":2,\"embedding\":[0,3]}]}",
	     "[1,0]");
}

static void texts_are_ranked_as_they_are_told(void **state)
{
	struct world *w = *state;

	sends(w, ADAPT_RERANK,
	      "{\"inputs\":{\"query\":\"q\",\"texts\":[\"a\"]},\"parameters\":{\"return_text\":true}}",
	      "{\"query\":\"q\",\"texts\":[\"a\"],\"truncate\":true,\"return_text\":true}");
	gets(w, "[{\"index\":0,\"score\":0.5}]", "[{\"index\":0,\"score\":0.5}]");
}

static void documents_are_ranked_best_first(void **state)
{
	struct world *w = *state;

	sends(w, ADAPT_RANK, "{\"inputs\":{\"query\":\"q\",\"texts\":[\"a\",\"b\"]}}",
	      "{\"model\":\"served\",\"query\":\"q\",\"documents\":[\"a\",\"b\"]}");
	gets(w,
	     "{\"results\":[{\"index\":0,\"relevance_score\":-1e-3},{\"index\":1,\"relevance_score\":0.50}]}",
	     "[{\"index\":1,\"score\":0.50},{\"index\":0,\"score\":-1e-3}]");
	sends(w, ADAPT_RANK, "{\"query\":\"q\",\"texts\":[\"a\",\"b\"],\"return_text\":true}",
	      "{\"model\":\"served\",\"query\":\"q\",\"documents\":[\"a\",\"b\"]}");
	gets(w, "[{\"index\":1,\"score\":2},{\"index\":7,\"score\":1}]",
	     "[{\"index\":1,\"text\":\"b\",\"score\":2},{\"index\":7,\"score\":1}]");
	assert_int_equal(hear(w, 200, "application/json", "{\"results\":[{\"index\":-1,\"score\":2}]}", 7),
			 -EPROTO);
	assert_int_equal(hear(w, 200, "application/json", "{\"results\":{}}", 7), -EPROTO);
	assert_int_equal(ask(w, ADAPT_RANK, "{\"query\":\"q\",\"texts\":[],\"raw_scores\":true}"), -ENOTSUP);
	assert_int_equal(ask(w, ADAPT_RANK, "{\"query\":1,\"texts\":[]}"), -EINVAL);
}

static void a_temperature_of_0_is_greedy_for_tgi(void **state)
{
	struct world *w = *state;

	assert_int_equal(ask(w, ADAPT_TGI, "{\"inputs\":\"a\",\"parameters\":{\"temperature\":0.5}}"), 1);
	sends(w, ADAPT_TGI,
	      "{\"inputs\":\"a\",\"parameters\":{\"temperature\":0.0,\"top_k\":3,\"do_sample\":true},"
	      "\"stream\":true}",
	      "{\"inputs\":\"a\",\"parameters\":{\"top_k\":3,\"do_sample\":false},\"stream\":true}");
}

static void generation_becomes_a_completion_and_comes_back(void **state)
{
	struct world *w = *state;

	sends(w, ADAPT_COMPLETE, "{\"inputs\":\"a\\\"b\"}",
	      "{\"model\":\"served\",\"prompt\":\"a\\\"b\",\"max_tokens\":100,\"temperature\":0}");
	gets(w, "{\"choices\":[{\"text\":\" c\\n\",\"finish_reason\":\"length\"}]}",
	     "[{\"generated_text\":\" c\\n\"}]");
	sends(w, ADAPT_COMPLETE,
	      "{\"inputs\":\"a\\\"b\",\"parameters\":{\"return_full_text\":true,\"details\":true,\"max_new_"
	      "tokens\":5,"
	      "\"do_sample\":true,\"seed\":7,\"stop\":[\"x\"]}}",
	      "{\"model\":\"served\",\"prompt\":\"a\\\"b\",\"max_tokens\":5,\"seed\":7,\"stop\":[\"x\"]}");
	gets(w,
	     "{\"choices\":[{\"text\":\" "
	     "c\",\"finish_reason\":\"stop\"}],\"usage\":{\"completion_tokens\":2}}",
	     "[{\"generated_text\":\"a\\\"b c\",\"details\":{\"finish_reason\":\"stop_sequence\","
	     "\"generated_tokens\":2,\"seed\":null,\"prefill\":[],\"tokens\":[]}}]");
}

#define CHUNK(text, reason)                                                                                  \
	"data: {\"choices\":[{\"index\":0,\"text\":\"" text "\",\"finish_reason\":" reason "}]}\n\n"

static void a_stream_of_completions_becomes_one_of_tokens(void **state)
{
	static const char stream[] = ": keep-alive\n\n" CHUNK(" c", "null") CHUNK("\\u00e9", "null")
		CHUNK("", "\"stop\"") "data: {\"choices\":[],\"usage\":{}}\n\ndata: [DONE]\n\n";
	static const char wanted[] =
		"data: {\"index\":1,\"token\":{\"id\":0,\"text\":\" c\",\"logprob\":0,\"special\":false},"
		"\"generated_text\":null,\"details\":null}\n\n"
		"data: "
		"{\"index\":2,\"token\":{\"id\":0,\"text\":\"\\u00e9\",\"logprob\":0,\"special\":false},"
		"\"generated_text\":null,\"details\":null}\n\n"
		"data: {\"index\":2,\"token\":{\"id\":0,\"text\":\"\",\"logprob\":0,\"special\":true},"
		"\"generated_text\":\" c\\u00e9\",\"details\":{\"finish_reason\":\"eos_token\","
		"\"generated_tokens\":2,\"seed\":null}}\n\n";
	struct world *w = *state;

	for (size_t piece = 1; piece < sizeof(stream); piece += piece < 5 ? 1 : 31) {
		assert_int_equal(ask(w, ADAPT_COMPLETE, "{\"inputs\":\"a\",\"stream\":true}"), 0);
		assert_int_equal(hear(w, 200, "text/event-stream", stream, piece), 0);
		assert_string_equal(buf_str(&w->answer).ptr, wanted);
	}
}

static void a_stream_that_breaks_off_is_no_answer(void **state)
{
	struct world *w = *state;

	assert_int_equal(ask(w, ADAPT_COMPLETE, "{\"inputs\":\"a\",\"stream\":true}"), 0);
	assert_int_equal(hear(w, 200, "text/event-stream", CHUNK(" c", "null"), 9), -ECONNRESET);
	assert_int_equal(ask(w, ADAPT_COMPLETE, "{\"inputs\":\"a\",\"stream\":true}"), 0);
	assert_int_equal(hear(w, 200, "text/event-stream", "data: {\"error\":{\"message\":\"no\"}}\n\n", 9),
			 0);
	assert_string_equal(buf_str(&w->answer).ptr,
			    "data: {\"error\":\"no\",\"error_type\":\"generation\"}\n\n");
}

static void the_model_gets_its_name_back_in_answers_and_in_every_chunk(void **state)
{
	struct world *w = *state;

	sends(w, ADAPT_RENAME, "{\"messages\":[],\"model\":\"acme/asked\"}",
	      "{\"messages\":[],\"model\":\"served\"}");
	gets(w, "{\"id\":1,\"model\":\"served\",\"n\":1e0}", "{\"id\":1,\"model\":\"acme/asked\",\"n\":1e0}");
	sends(w, ADAPT_RENAME, "{}", "{\"model\":\"served\"}");
	sends(w, ADAPT_RENAME, " {\"a\":1}", "{\"model\":\"served\",\"a\":1}");
	assert_int_equal(
		hear(w, 200, "text/event-stream",
		     "event: x\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"served\"}}\n\n"
		     "data:{\"model\":\"served\"}\r\n\r\ndata: [DONE]\n\n",
		     3),
		0);
	assert_string_equal(
		buf_str(&w->answer).ptr,
		"event: x\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"acme/asked\"}}\n\n"
		"data:{\"model\":\"acme/asked\"}\r\n\r\ndata: [DONE]\n\n");
	/* what is no JSON is not looked into */
	assert_int_equal(hear(w, 200, "image/png", "{\"model\":\"served\"}", 5), 0);
	assert_string_equal(buf_str(&w->answer).ptr, "{\"model\":\"served\"}");
}

static void errors_get_the_shape_of_the_route(void **state)
{
	struct world *w = *state;

	assert_int_equal(ask(w, ADAPT_COMPLETE, "{\"inputs\":\"a\"}"), 0);
	assert_int_equal(hear(w, 400, "application/json",
			      "{\"error\":{\"message\":\"too \\\"long\\\"\",\"type\":\"BadRequestError\"}}",
			      5),
			 0);
	assert_string_equal(buf_str(&w->answer).ptr,
			    "{\"error\":\"too \\\"long\\\"\",\"error_type\":\"BadRequestError\"}");
	assert_int_equal(hear(w, 422, "text/plain", "no JSON", 5), 0);
	assert_string_equal(buf_str(&w->answer).ptr, "no JSON");
	assert_int_equal(hear(w, 422, "application/json", "{\"error\":\"as it is\"}", 5), 0);
	assert_string_equal(buf_str(&w->answer).ptr, "{\"error\":\"as it is\"}");
	assert_int_equal(hear(w, 200, "application/json", "<html>", 5), -EPROTO);
}

static void sound_becomes_a_form_with_a_file(void **state)
{
	struct world *w = *state;
	struct adapt_call c = { .how = ADAPT_TRANSCRIBE,
				.body = STR("fLaC\0sound"),
				.media = STR("audio/flac"),
				.name = STR("served") };
	SCOPED_BUF again;

	assert_int_equal(adapt_request(&c, &w->body, &w->type, &w->adapted), 0);
	assert_true(str_starts_with(buf_str(&w->type), STR("multipart/form-data; boundary=hfcached-")));
	assert_non_null(memmem(w->body.bytes, w->body.len, "name=\"model\"\r\n\r\nserved\r\n", 24));
	assert_non_null(memmem(w->body.bytes, w->body.len, "filename=\"audio.flac\"", 21));
	assert_non_null(memmem(w->body.bytes, w->body.len, "\r\n\r\nfLaC\0sound\r\n--", 18));
	gets(w, "{\"text\":\"hello\",\"duration\":1}", "{\"text\":\"hello\"}");
	/* the same as base64: equal calls are equal bytes */
	buf_init(&again, 4096);
	(void)buf_append_str(&again, buf_str(&w->body));
	adapted_free(TAKE_PTR(w->adapted));
	buf_reset(&w->body);
	buf_reset(&w->type);
	c.is_json = true;
	c.body = STR("{\"inputs\":\"ZkxhQwBzb3VuZA==\",\"parameters\":{}}");
	assert_int_equal(adapt_request(&c, &w->body, &w->type, &w->adapted), 0);
	assert_true(str_eq(buf_str(&w->body), buf_str(&again)));
}

static void a_form_gets_the_servers_name_of_the_model(void **state)
{
	struct world *w = *state;
	struct adapt_call c = { .how = ADAPT_RENAME,
				.body = STR("--b\r\nContent-Disposition: form-data; name=\"file\"; "
					    "filename=\"model\"\r\n\r\nx\r\n"
					    "--b\r\nContent-Disposition: form-data; "
					    "name=\"model\"\r\n\r\nacme/asked\r\n--b--\r\n"),
				.media = STR("multipart/form-data; boundary=b"),
				.name = STR("served") };

	assert_int_equal(adapt_request(&c, &w->body, &w->type, &w->adapted), 0);
	assert_string_equal(buf_str(&w->type).ptr, "multipart/form-data; boundary=b");
	assert_string_equal(
		buf_str(&w->body).ptr,
		"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"model\"\r\n\r\nx\r\n"
		"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nserved\r\n--b--\r\n");
	/* what is no form, or names no model, goes as it is */
	adapted_free(TAKE_PTR(w->adapted));
	c.body = STR("--c--\r\n");
	assert_int_equal(adapt_request(&c, &w->body, &w->type, &w->adapted), 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(each_text_is_classified_alone_and_answered_in_a_list),
		TEST(what_a_server_cannot_do_exactly_is_not_asked_of_it),
		TEST(all_labels_get_their_names_although_only_the_best_is_told),
		TEST(embeddings_are_a_list_of_vectors_in_their_order),
		TEST(similarity_is_the_cosine_of_embeddings),
		TEST(texts_are_ranked_as_they_are_told),
		TEST(documents_are_ranked_best_first),
		TEST(a_temperature_of_0_is_greedy_for_tgi),
		TEST(generation_becomes_a_completion_and_comes_back),
		TEST(a_stream_of_completions_becomes_one_of_tokens),
		TEST(a_stream_that_breaks_off_is_no_answer),
		TEST(the_model_gets_its_name_back_in_answers_and_in_every_chunk),
		TEST(errors_get_the_shape_of_the_route),
		TEST(sound_becomes_a_form_with_a_file),
		TEST(a_form_gets_the_servers_name_of_the_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
