/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves that streams are cut and judged right, and that each form of an answer becomes the other without losing anything.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dialect/dialect.h"

#include <errno.h>

#define OUT_MAX (1024 * 1024)

#define CHUNK(index, delta, finish)                                                                          \
	"data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\","  \
	"\"choices\":[{\"index\":" #index ",\"delta\":" delta ",\"finish_reason\":" finish "}]}\n\n"
#define DONE "data: [DONE]\n\n"

static void expect_merge(enum dialect d, const char *events, const char *want)
{
	SCOPED_BUF out;

	buf_init(&out, OUT_MAX);
	assert_int_equal(stream_merge(d, str_from(events), &out), 0);
	if (!str_eq(buf_str(&out), str_from(want)))
		fail_msg("\n%.*s\nis not\n%s", STR_ARGS(buf_str(&out)), want);
}

/* Split and merged again, the answer is what it was. */
static void expect_round_trip(enum dialect d, const char *whole)
{
	SCOPED_BUF events, again;

	buf_init(&events, OUT_MAX);
	buf_init(&again, OUT_MAX);
	assert_int_equal(whole_split(d, str_from(whole), true, &events), 0);
	assert_int_equal(stream_merge(d, buf_str(&events), &again), 0);
	if (!str_eq(buf_str(&again), str_from(whole)))
		fail_msg("\n%.*s\nis not\n%s", STR_ARGS(buf_str(&again)), whole);
}

static unsigned count_events(struct str events)
{
	struct sse_event e;
	unsigned n = 0;
	SCOPED_BUF scratch;

	buf_init(&scratch, OUT_MAX);
	while (sse_next(&events, &scratch, &e) == 1)
		n++;
	assert_int_equal(events.len, 0);
	return n;
}

static void cuts_events_at_blank_lines_of_any_kind(void **state)
{
	struct str rest = STR(": hello\n\ndata:a\r\n\r\nevent: x\rdata: b\rdata:  c\r\rdata\n\nid: 7\n");
	struct sse_event e;
	SCOPED_BUF scratch;

	buf_init(&scratch, OUT_MAX);
	assert_int_equal(sse_next(&rest, &scratch, &e), 1);
	assert_null(e.data.ptr);
	assert_true(str_eq(e.raw, STR(": hello\n\n")));
	assert_int_equal(sse_next(&rest, &scratch, &e), 1);
	assert_true(str_eq(e.data, STR("a")));
	assert_int_equal(sse_next(&rest, &scratch, &e), 1);
	assert_true(str_eq(e.name, STR("x")));
	assert_true(str_eq(e.data, STR("b\n c")));
	assert_int_equal(sse_next(&rest, &scratch, &e), 1);
	assert_int_equal(e.data.len, 0);
	assert_non_null(e.data.ptr);
	assert_int_equal(sse_next(&rest, &scratch, &e), -EAGAIN);
	assert_true(str_eq(rest, STR("id: 7\n")));
}

static void a_cr_at_the_end_waits_for_its_lf(void **state)
{
	struct str rest = STR("data: a\r\n\r");
	struct sse_event e;
	SCOPED_BUF scratch;

	buf_init(&scratch, OUT_MAX);
	assert_int_equal(sse_next(&rest, &scratch, &e), -EAGAIN);
}

static struct stream_watch watch(enum dialect d, const char *events)
{
	struct stream_watch w = { .dialect = d };
	struct str rest = str_from(events);
	struct sse_event e;
	SCOPED_BUF scratch;

	buf_init(&scratch, OUT_MAX);
	while (sse_next(&rest, &scratch, &e) == 1)
		stream_watch_event(&w, &e);
	return w;
}

static bool is_whole(enum dialect d, const char *events)
{
	struct stream_watch w = watch(d, events);

	return stream_is_whole(&w);
}

static void a_stream_is_whole_with_its_terminator_only(void **state)
{
	assert_true(is_whole(DIALECT_CHAT, CHUNK(0, "{\"content\":\"a\"}", "null") DONE));
	assert_false(is_whole(DIALECT_CHAT, CHUNK(0, "{\"content\":\"a\"}", "null")));
	/* an old server says no [DONE], but why each choice ended */
	assert_true(is_whole(DIALECT_CHAT, CHUNK(0, "{}", "\"stop\"")));
	assert_false(
		is_whole(DIALECT_CHAT, CHUNK(0, "{}", "\"stop\"") CHUNK(1, "{\"content\":\"b\"}", "null")));
	assert_true(is_whole(DIALECT_CHAT, "data:[DONE]\n\n"));
	assert_true(is_whole(DIALECT_GENERATE, "data:{\"token\":{},\"generated_text\":\"x\"}\n\n"));
	assert_false(is_whole(DIALECT_GENERATE, "data:{\"token\":{},\"generated_text\":null}\n\n"));
	assert_true(is_whole(DIALECT_MESSAGES, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
	assert_false(
		is_whole(DIALECT_MESSAGES, "event: message_start\ndata: {\"type\":\"message_start\"}\n\n"));
	assert_true(
		is_whole(DIALECT_RESPONSES, "data: {\"type\":\"response.completed\",\"response\":{}}\n\n"));
	assert_false(is_whole(DIALECT_RESPONSES, "data: {\"type\":\"response.failed\"}\n\n" DONE));
	assert_false(is_whole(DIALECT_CHAT, ""));
	assert_false(is_whole(DIALECT_CHAT, ": ping\n\n"));
}

static void errors_in_any_dress_are_no_answers(void **state)
{
	assert_false(is_whole(DIALECT_CHAT, "data: {\"error\":\"overloaded\"}\n\n" DONE));
	assert_false(is_whole(DIALECT_CHAT, "data: {\"error\":{\"message\":\"x\"}}\n\n" DONE));
	assert_false(is_whole(DIALECT_CHAT, CHUNK(0, "{}", "\"error\"") DONE));
	assert_false(is_whole(DIALECT_CHAT, "data: not json\n\n" DONE));
	assert_false(is_whole(DIALECT_MESSAGES,
			      "event: error\ndata: {\"x\":1}\n\ndata: {\"type\":\"message_stop\"}\n\n"));
	assert_true(is_whole(DIALECT_CHAT, "data: {\"error\":null,\"choices\":[]}\n\n" DONE));
	assert_false(whole_is_answer(DIALECT_TASK, STR("{\"error\":\"Model is loading\"}")));
	assert_false(whole_is_answer(DIALECT_TASK, STR("")));
	assert_false(whole_is_answer(DIALECT_TASK, STR("[[{\"label\":")));
	assert_false(whole_is_answer(DIALECT_CHAT, STR("{\"choices\":[{\"finish_reason\":\"error\"}]}")));
	assert_true(whole_is_answer(DIALECT_TASK, STR("[[{\"label\":\"error\",\"score\":1}]]")));
}

static void chunks_become_one_answer(void **state)
{
	expect_merge(DIALECT_CHAT,
		     CHUNK(0, "{\"role\":\"assistant\",\"content\":\"\"}",
			   "null") CHUNK(0, "{\"content\":\"Hel\"}", "null")
			     CHUNK(0, "{\"content\":\"l\\u00f6 \\ud83d\"}", "null")
				     CHUNK(0, "{\"content\":\"\\ude00\",\"odd\":1}", "null")
					     CHUNK(0, "{\"odd\":2}",
						   "\"stop\"") "data: "
							       "{\"choices\":[],\"usage\":{\"total_tokens\":"
							       "12345678901234567890}}\n\n" DONE,
		     "{\"id\":\"c1\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"m\","
		     "\"choices\":["
		     "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hell\\u00f6 "
		     "\\ud83d\\ude00\",\"odd\":2},"
		     "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"total_tokens\":"
		     "12345678901234567890}}");
}

static void tool_calls_are_joined_by_their_index(void **state)
{
	expect_merge(
		DIALECT_CHAT,
		CHUNK(0,
		      "{\"tool_calls\":[{\"index\":1,\"id\":\"b\",\"type\":\"function\",\"function\":{"
		      "\"name\":\"g\",\"arguments\":\"\"}}]}",
		      "null") CHUNK(0,
				    "{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\","
				    "\"arguments\":\"{\\\"x\"}}]}",
				    "null")
			CHUNK(0, "{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"\\\":1}\"}}]}",
			      "null") CHUNK(0, "{}", "\"tool_calls\"") DONE,
		"{\"id\":\"c1\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"m\","
		"\"choices\":["
		"{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
		"{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":"
		"1}\"}},"
		"{\"id\":\"b\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"\"}}]},"
		"\"logprobs\":null,\"finish_reason\":\"tool_calls\"}],\"usage\":null}");
}

static void choices_stay_apart(void **state)
{
	expect_merge(
		DIALECT_COMPLETIONS,
		"data: "
		"{\"id\":\"x\",\"choices\":[{\"index\":1,\"text\":\"b\"},{\"index\":0,\"text\":\"a\"}]}\n\n"
		"data: "
		"{\"choices\":[{\"index\":1,\"text\":\"B\",\"finish_reason\":\"stop\"},{\"index\":0,\"text\":"
		"\"A\","
		"\"finish_reason\":\"length\"}]}\n\n" DONE,
		"{\"id\":\"x\",\"object\":\"text_completion\",\"choices\":["
		"{\"index\":0,\"text\":\"aA\",\"logprobs\":null,\"finish_reason\":\"length\"},"
		"{\"index\":1,\"text\":\"bB\",\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":"
		"null}");
}

static void answers_survive_being_split_and_merged(void **state)
{
	expect_round_trip(
		DIALECT_CHAT,
		"{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{"
		"\"index\":0,"
		"\"message\":{\"role\":\"assistant\",\"content\":\"A text of more than one piece, with "
		"\\\"quotes\\\", "
		"\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00 and "
		"\xc3\xa4\xc3\xb6\xc3\xbc\xe2\x82\xac "
		"\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80.\",\"reasoning_content\":\"I think\"},"
		"\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}");
	expect_round_trip(DIALECT_CHAT,
			  "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\","
			  "\"choices\":[{\"index\":0,"
			  "\"message\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":"
			  "\"t\",\"type\":\"function\","
			  "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
			  "\"logprobs\":null,\"finish_reason\":\"tool_calls\"}],\"usage\":null}");
	expect_round_trip(
		DIALECT_COMPLETIONS,
		"{\"id\":\"c\",\"object\":\"text_completion\",\"created\":1,\"model\":\"m\",\"choices\":["
		"{\"index\":0,\"text\":\"once upon a time there was a "
		"text\",\"logprobs\":null,\"finish_reason\":\"length\"}],"
		"\"usage\":{\"x\":1}}");
	expect_round_trip(DIALECT_TASK, "[{\"generated_text\":\"a b\"}]");
	expect_round_trip(
		DIALECT_TASK,
		"[{\"generated_text\":\"a "
		"b\",\"details\":{\"tokens\":[{\"id\":1,\"text\":\"a\",\"logprob\":-0.1,"
		"\"special\":false},{\"id\":2,\"text\":\" b\",\"logprob\":-1,\"special\":false}]}}]");
	expect_round_trip(DIALECT_RESPONSES, "{\"id\":\"r\",\"output\":[{\"id\":\"i\",\"type\":\"message\","
					     "\"content\":[{\"type\":\"output_text\",\"text\":"
					     "\"hi\",\"annotations\":[]}]}],\"status\":\"completed\"}");
	expect_round_trip(DIALECT_MESSAGES, "{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\","
					    "\"model\":\"x\",\"content\":[{\"type\":\"text\","
					    "\"text\":\"hi "
					    "\\\"you\\\"\"},{\"type\":\"tool_use\",\"id\":\"t\",\"name\":"
					    "\"f\",\"input\":{\"a\":[1,\"b\"]}}],"
					    "\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{"
					    "\"input_tokens\":1,\"output_tokens\":2}}");
}

static void tokens_of_a_split_generation_are_its_own(void **state)
{
	SCOPED_BUF out;

	buf_init(&out, OUT_MAX);
	assert_int_equal(whole_split(DIALECT_TASK,
				     STR("[{\"generated_text\":\"ab\",\"details\":{\"tokens\":[{\"id\":5,"
					 "\"text\":\"a\",\"logprob\":-0.1,"
					 "\"special\":false},{\"id\":6,\"text\":\"b\",\"logprob\":-1,"
					 "\"special\":true}]}}]"),
				     false, &out),
			 0);
	assert_int_equal(count_events(buf_str(&out)), 2);
	assert_non_null(strstr(out.bytes, "\"token\":{\"id\":6,\"text\":\"b\",\"logprob\":-1,\"special\":"
					  "true},\"generated_text\":\"ab\""));
}

static void only_who_asks_for_usage_gets_it(void **state)
{
	static const char events[] = CHUNK(0, "{\"content\":\"a\"}",
					   "\"stop\"") "data: {\"choices\":[ ],\"usage\":{\"a\":1}}\n\n" DONE;
	SCOPED_BUF out;

	buf_init(&out, OUT_MAX);
	assert_int_equal(stream_without_usage(STR(events), &out), 0);
	assert_true(str_eq(buf_str(&out), STR(CHUNK(0, "{\"content\":\"a\"}", "\"stop\"") DONE)));
}

static void what_is_no_answer_is_not_converted(void **state)
{
	SCOPED_BUF out;

	buf_init(&out, OUT_MAX);
	assert_int_equal(stream_merge(DIALECT_CHAT, STR("data: nonsense\n\n"), &out), -EPROTO);
	buf_reset(&out);
	assert_int_equal(stream_merge(DIALECT_CHAT, STR(""), &out), -EPROTO);
	assert_int_equal(stream_merge(DIALECT_GENERATE, STR("data: {\"token\":{}}\n\n"), &out), -EPROTO);
	assert_int_equal(whole_split(DIALECT_CHAT, STR("{\"choices\":1}"), false, &out), -EPROTO);
	assert_int_equal(whole_split(DIALECT_MESSAGES, STR("[]"), false, &out), -EPROTO);
	assert_int_equal(whole_split(DIALECT_EMBEDDINGS, STR("{}"), false, &out), -ENOTSUP);
	assert_int_equal(stream_merge(DIALECT_CHAT, STR(CHUNK(4000000000, "{}", "null")), &out), -EPROTO);
}

static void embeddings_are_numbers_or_base64(void **state)
{
	static const char numbers[] = "{\"object\":\"list\",\"data\":[{\"index\":0,\"embedding\":[1,-0.5,0.1]"
				      "},{\"embedding\":[]}],\"x\":1}";
	static const char base64[] = "{\"object\":\"list\",\"data\":[{\"index\":0,\"embedding\":\"AACAPwAAAL/"
				     "NzMw9\"},{\"embedding\":\"\"}],\"x\":1}";
	SCOPED_BUF out;

	buf_init(&out, OUT_MAX);
	assert_int_equal(embeddings_convert(STR(numbers), true, &out), 0);
	assert_true(str_eq(buf_str(&out), STR(base64)));
	buf_reset(&out);
	assert_int_equal(embeddings_convert(STR(base64), false, &out), 0);
	assert_true(str_eq(buf_str(&out), STR(numbers)));
	buf_reset(&out);
	assert_int_equal(embeddings_convert(STR(numbers), false, &out), 0);
	assert_true(str_eq(buf_str(&out), STR(numbers)));
	buf_reset(&out);
	assert_int_equal(embeddings_convert(STR("{\"data\":[{\"embedding\":\"A!\"}]}"), false, &out),
			 -EPROTO);
}

static void the_model_is_renamed_and_nothing_else(void **state)
{
	SCOPED_BUF out;

	buf_init(&out, OUT_MAX);
	assert_int_equal(model_rename(STR("{ \"x\":{\"model\":\"no\"}, \"model\" : \"old\" ,\"n\":1e3}"),
				      STR("a\"b"), &out),
			 0);
	assert_true(
		str_eq(buf_str(&out), STR("{ \"x\":{\"model\":\"no\"}, \"model\" : \"a\\\"b\" ,\"n\":1e3}")));
	buf_reset(&out);
	assert_int_equal(
		stream_rename(STR(": hi\n\ndata: {\"model\":\"old\"}\r\n\r\n" DONE), STR("new"), &out), 0);
	assert_true(str_eq(buf_str(&out), STR(": hi\n\ndata: {\"model\":\"new\"}\r\n\r\n" DONE)));
}

static void finds(const char *part, bool wanted, uint64_t in, uint64_t out)
{
	struct token_usage u = { 0 };

	assert_int_equal(usage_find(str_from(part), &u), wanted);
	assert_int_equal(u.tokens_in, in);
	assert_int_equal(u.tokens_out, out);
}

static void tokens_are_found_in_a_part_of_an_answer(void **state)
{
	finds("{\"id\":1,\"usage\" : {\"prompt_tokens\":7,\"completion_tokens\":3},\"data\":[[1,", true, 7,
	      3);
	finds("2.0],[\"x}\"]],\"usage\":{\"input_tokens\":7,\"details\":{\"a\":\"}\"},\"output_tokens\":3}}",
	      true, 7, 3);
	/* cut, within a string, or no object */
	finds("\"usage\":{\"prompt_tokens\":7,", false, 0, 0);
	finds("{\"content\":\"\\\"usage\\\":{\\\"prompt_tokens\\\":7}\"", false, 0, 0);
	finds("\"usage\":null,\"usage\":7", false, 0, 0);
	finds("\"usage\"", false, 0, 0);
	finds("", false, 0, 0);
}

static void knows(const char *body, const char *refusal, const char *wanted)
{
	SCOPED_BUF names;

	buf_init(&names, OUT_MAX);
	assert_int_equal(unknown_members(str_from(body), str_from(refusal), &names), *wanted ? 0 : -ENODATA);
	if (*wanted)
		assert_true(str_eq(buf_str(&names), str_from(wanted)));
}

static void what_a_server_does_not_know_is_what_it_names(void **state)
{
	static const char body[] =
		"{\"model\":\"m\",\"top_k\":3,\"parameters\":{\"watermark\":true,\"top\":1}}";
	SCOPED_BUF out;

	buf_init(&out, OUT_MAX);
	knows(body, "unknown field `top_k`, expected one of `model`, `messages`", "top_k\n");
	knows(body, "The following `model_kwargs` are not used by the model: ['watermark']", "watermark\n");
	knows(body, "{'loc': ('body', 'top_k'), 'msg': 'Extra inputs are not permitted'}", "top_k\n");
	knows(body, "Unrecognized request arguments supplied: top_k, top", "top_k\ntop\n");
	knows(body, "top_k is too large", "");
	knows(body, "unknown field xtop_k, top_kx", "");
	knows(body, "unknown model", "");
	knows("[1]", "unknown field 1", "");
	assert_int_equal(without_members(STR(body), STR("watermark\ntop_k\n"), &out), 0);
	assert_true(str_eq(buf_str(&out), STR("{\"model\":\"m\",\"parameters\":{\"top\":1}}")));
	buf_reset(&out);
	assert_int_equal(without_members(STR("{\"a\":1}"), STR("a\n"), &out), 0);
	assert_true(str_eq(buf_str(&out), STR("{}")));
	assert_int_equal(without_members(STR("{\"a\""), STR("a\n"), &out), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cuts_events_at_blank_lines_of_any_kind),
		cmocka_unit_test(a_cr_at_the_end_waits_for_its_lf),
		cmocka_unit_test(a_stream_is_whole_with_its_terminator_only),
		cmocka_unit_test(errors_in_any_dress_are_no_answers),
		cmocka_unit_test(chunks_become_one_answer),
		cmocka_unit_test(tool_calls_are_joined_by_their_index),
		cmocka_unit_test(choices_stay_apart),
		cmocka_unit_test(answers_survive_being_split_and_merged),
		cmocka_unit_test(tokens_of_a_split_generation_are_its_own),
		cmocka_unit_test(only_who_asks_for_usage_gets_it),
		cmocka_unit_test(what_is_no_answer_is_not_converted),
		cmocka_unit_test(embeddings_are_numbers_or_base64),
		cmocka_unit_test(the_model_is_renamed_and_nothing_else),
		cmocka_unit_test(tokens_are_found_in_a_part_of_an_answer),
		cmocka_unit_test(what_a_server_does_not_know_is_what_it_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
