/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves which calls are the same, which never are, and whose answers may be given again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "dialect/dialect.h"

static struct digest key_of_len(enum dialect d, struct str body)
{
	struct call_key k = {
		.dialect = d, .route = STR("default"), .model = STR("acme/m"), .media = STR("json")
	};
	struct digest raw, key;

	sha256_of(body.ptr, body.len, &raw);
	call_key_of(&k, body, &raw, &key, NULL);
	return key;
}

static struct digest key_of(enum dialect d, const char *body)
{
	return key_of_len(d, str_from(body));
}

static void same(enum dialect d, const char *a, const char *b)
{
	struct digest x = key_of(d, a), y = key_of(d, b);

	if (!digest_eq(&x, &y))
		fail_msg("two keys: %s and %s", a, b);
}

static void other(enum dialect d, const char *a, const char *b)
{
	struct digest x = key_of(d, a), y = key_of(d, b);

	if (digest_eq(&x, &y))
		fail_msg("one key: %s and %s", a, b);
}

static void spelling_does_not_matter(void **state)
{
	same(DIALECT_CHAT, "{\"a\":1,\"b\":[0.50]}", " {\"b\" : [0.50] , \"a\":1.0}");
	same(DIALECT_CHAT, "{\"temperature\":0}", "{\"temperature\":0.0}");
	same(DIALECT_TASK, "{\"inputs\":\"x\"}", "{\"inputs\": \"x\", \"parameters\": {}}");
}

static void what_has_no_effect_does_not_matter(void **state)
{
	same(DIALECT_CHAT, "{\"m\":1}",
	     "{\"m\":1,\"stream\":true,\"stream_options\":{\"include_usage\":true},\"user\":\"u\",\"n\":1}");
	same(DIALECT_CHAT, "{\"m\":1}", "{\"m\":1,\"stop\":null,\"store\":false}");
	same(DIALECT_TASK, "{\"inputs\":\"x\"}",
	     "{\"inputs\":\"x\",\"options\":{\"use_cache\":false,\"wait_for_model\":true}}");
	same(DIALECT_TASK, "{\"inputs\":\"x\"}", "{\"inputs\":\"x\",\"model\":\"acme/m\"}");
	same(DIALECT_TASK, "{\"inputs\":\"x\",\"parameters\":{\"a\":1}}",
	     "{\"inputs\":\"x\",\"parameters\":{\"a\":1,\"b\":null}}");
	same(DIALECT_EMBEDDINGS, "{\"input\":\"x\"}", "{\"input\":\"x\",\"encoding_format\":\"base64\"}");
}

static void everything_else_matters(void **state)
{
	other(DIALECT_CHAT, "{\"m\":1}", "{\"m\":1,\"x\":1}");
	other(DIALECT_CHAT, "{\"m\":1}", "{\"m\":1,\"n\":2}");
	other(DIALECT_CHAT, "{\"m\":1}", "{\"m\":1,\"store\":true}");
	other(DIALECT_CHAT, "{\"max_tokens\":1}", "{\"max_tokens\":2}");
	other(DIALECT_CHAT, "{\"messages\":[{\"content\":null}]}", "{\"messages\":[{}]}");
	other(DIALECT_CHAT, "{\"messages\":[{\"user\":\"a\"}]}", "{\"messages\":[{\"user\":\"b\"}]}");
	other(DIALECT_CHAT, "{\"seed\":14663482367758619000}", "{\"seed\":14663482367758619001}");
	other(DIALECT_CHAT, "{\"encoding_format\":\"a\"}", "{\"encoding_format\":\"b\"}");
	other(DIALECT_TASK, "{\"inputs\":\"x\",\"model\":\"acme/m\"}",
	      "{\"inputs\":\"x\",\"model\":\"acme/other\"}");
	other(DIALECT_TASK, "{\"inputs\":\"x\"}", "{\"inputs\":\"X\"}");
	other(DIALECT_TASK, "{\"inputs\":\"x\",\"options\":{\"other\":1}}", "{\"inputs\":\"x\"}");
	other(DIALECT_CHAT, "{}", "[]");
	other(DIALECT_CHAT, "{\"stream\":true}", "{\"Stream\":true}");
}

static void bodies_without_one_meaning_count_byte_by_byte(void **state)
{
	other(DIALECT_TASK, "{\"inputs\":\"x\\u0000y\"}", "{\"inputs\":\"x\\u0000z\"}");
	other(DIALECT_TASK, "{\"inputs\":1,\"inputs\":2}", "{\"inputs\":2}");
	other(DIALECT_TASK, "{\"inputs\":1} ", "{\"inputs\":1} x");
	other(DIALECT_TASK, "{\"inputs\":1e400}", "{\"inputs\":1e401}");
	same(DIALECT_TASK, "not json", "not json");
}

static void fields_of_the_key_do_not_run_into_each_other(void **state)
{
	struct call_key a = { .dialect = DIALECT_TASK, .route = STR("ab"), .model = STR("c") },
			b = { .dialect = DIALECT_TASK, .route = STR("a"), .model = STR("bc") };
	struct digest raw = { { 0 } }, x, y;
	bool is_canonical;

	call_key_of(&a, STR("{}"), &raw, &x, &is_canonical);
	assert_true(is_canonical);
	call_key_of(&b, STR("{}"), &raw, &y, NULL);
	assert_false(digest_eq(&x, &y));
	call_key_of(&a, STR(""), &raw, &y, &is_canonical);
	assert_false(is_canonical);
	assert_false(digest_eq(&x, &y));
}

static enum repeat repeat_of(enum dialect d, const char *task, const char *body)
{
	struct call_facts f;
	enum repeat r;

	call_read(d, str_from(task), str_from(body), &f);
	r = f.repeat;
	call_facts_done(&f);
	return r;
}

static void an_absent_temperature_is_no_zero(void **state)
{
	assert_int_equal(repeat_of(DIALECT_CHAT, "", "{\"messages\":[]}"), REPEAT_SAMPLE);
	assert_int_equal(repeat_of(DIALECT_CHAT, "", "{\"temperature\":0}"), REPEAT_YES);
	assert_int_equal(repeat_of(DIALECT_CHAT, "", "{\"temperature\":0.0}"), REPEAT_YES);
	assert_int_equal(repeat_of(DIALECT_CHAT, "", "{\"temperature\":0.7}"), REPEAT_SAMPLE);
	assert_int_equal(repeat_of(DIALECT_CHAT, "", "{\"temperature\":0.7,\"seed\":1}"), REPEAT_SEEDED);
	assert_int_equal(repeat_of(DIALECT_CHAT, "", "{\"temperature\":null}"), REPEAT_SAMPLE);
	assert_int_equal(repeat_of(DIALECT_MESSAGES, "", "{\"temperature\":0}"), REPEAT_YES);
	assert_int_equal(repeat_of(DIALECT_EMBEDDINGS, "", "{\"input\":\"x\"}"), REPEAT_YES);
}

static void tasks_repeat_unless_they_sample(void **state)
{
	assert_int_equal(repeat_of(DIALECT_TASK, "text-classification", "{\"inputs\":\"x\"}"), REPEAT_YES);
	assert_int_equal(repeat_of(DIALECT_TASK, "automatic-speech-recognition", "\xff\xfb raw"), REPEAT_YES);
	assert_int_equal(repeat_of(DIALECT_TASK, "text-to-image", "{\"inputs\":\"x\"}"), REPEAT_SAMPLE);
	assert_int_equal(
		repeat_of(DIALECT_TASK, "text-to-image", "{\"inputs\":\"x\",\"parameters\":{\"seed\":1}}"),
		REPEAT_SEEDED);
	assert_int_equal(repeat_of(DIALECT_TASK, "text-generation", "{\"inputs\":\"x\"}"), REPEAT_YES);
	assert_int_equal(repeat_of(DIALECT_TASK, "text-generation", "{\"parameters\":{\"do_sample\":true}}"),
			 REPEAT_SAMPLE);
	assert_int_equal(repeat_of(DIALECT_TASK, "text-generation",
				   "{\"parameters\":{\"do_sample\":false,\"temperature\":0.7}}"),
			 REPEAT_YES);
	assert_int_equal(repeat_of(DIALECT_TASK, "text-generation", "{\"parameters\":{\"best_of\":2}}"),
			 REPEAT_SAMPLE);
	assert_int_equal(repeat_of(DIALECT_TASK, "", "{\"inputs\":\"x\",\"parameters\":{\"temperature\":1}}"),
			 REPEAT_SAMPLE);
	assert_int_equal(repeat_of(DIALECT_TASK, "summarization",
				   "{\"parameters\":{\"generate_parameters\":{\"do_sample\":true}}}"),
			 REPEAT_SAMPLE);
}

static void what_has_effects_is_never_kept(void **state)
{
	assert_int_equal(repeat_of(DIALECT_RESPONSES, "", "{\"temperature\":0}"), REPEAT_NEVER);
	assert_int_equal(repeat_of(DIALECT_RESPONSES, "", "{\"temperature\":0,\"store\":false}"), REPEAT_YES);
	assert_int_equal(repeat_of(DIALECT_RESPONSES, "",
				   "{\"temperature\":0,\"store\":false,\"previous_response_id\":\"r\"}"),
			 REPEAT_NEVER);
	assert_int_equal(repeat_of(DIALECT_RESPONSES, "",
				   "{\"temperature\":0,\"store\":false,\"tools\":[{\"type\":\"mcp\"}]}"),
			 REPEAT_NEVER);
	assert_int_equal(repeat_of(DIALECT_OTHER, "", "{}"), REPEAT_NEVER);
	assert_int_equal(repeat_of(DIALECT_CHAT, "", "no json"), REPEAT_NEVER);
}

static void remote_media_may_change(void **state)
{
	assert_int_equal(repeat_of(DIALECT_CHAT, "",
				   "{\"temperature\":0,\"messages\":[{\"content\":[{\"image_url\":{\"url\":"
				   "\"https://x/y.png\"}}]}]}"),
			 REPEAT_SAMPLE);
}

static void reads_how_the_answer_shall_come(void **state)
{
	struct call_facts f;

	call_read(DIALECT_EMBEDDINGS, STR(""),
		  STR("\n{\"model\":\"a\\u002fb\",\"stream\":true,\"stream_options\":{\"include_usage\":true}"
		      ",\"encoding_format\":\"base64\","
		      "\"options\":{\"use_cache\":false,\"wait_for_model\":true}}"),
		  &f);
	assert_true(f.is_json && f.wants_stream && f.wants_usage && f.wants_base64 && f.refuses_cache &&
		    f.waits);
	assert_string_equal(f.model, "a/b");
	call_facts_done(&f);
	call_read(DIALECT_CHAT, STR(""), STR("[1]"), &f);
	assert_false(f.is_json || f.wants_stream);
	assert_null(f.model);
}

#define PART(b, name, file, text)                                                                            \
	"--" b "\r\nContent-Disposition: form-data; name=\"" name "\"" file "\r\n\r\n" text "\r\n"
#define FILE_NAME(name) "; filename=\"" name "\"\r\nContent-Type: audio/wav"

static struct digest form_of(const char *type, const char *body, int want)
{
	struct str boundary = form_boundary(str_from(type));
	struct digest d = { { 0 } };

	assert_int_equal(form_digest(str_from(body), boundary, &d), want);
	return d;
}

static void forms_are_their_parts(void **state)
{
	static const char *const others[] = {
		PART("x", "model", "", "w") PART("x", "file", FILE_NAME("a.wav"), "sounD") "--x--\r\n",
		PART("x", "model", "", "v") PART("x", "file", FILE_NAME("a.wav"), "sound") "--x--\r\n",
		PART("x", "model", "", "w") PART("x", "file", FILE_NAME("a.mp3"), "sound") "--x--\r\n",
		PART("x", "model", "", "w") "--x--\r\n",
		PART("x", "model", "", "w") PART("x", "file", "", "sound") "--x--\r\n",
	};
	const char *one =
		PART("x", "model", "", "w") PART("x", "file", FILE_NAME("a.wav"), "sound") "--x--\r\n";
	struct digest first = form_of("multipart/form-data; boundary=x", one, 0), other;

	other = form_of("Multipart/Form-Data; charset=utf-8; boundary=\"y z\"",
			"preamble\r\n" PART("y z", "file", FILE_NAME("b.wav"), "sound")
				PART("y z", "model", "", "w") "--y z--",
			0);
	assert_memory_equal(&first, &other, sizeof(first));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		other = form_of("multipart/form-data; boundary=x", others[i], 0);
		assert_memory_not_equal(&first, &other, sizeof(first));
	}
	(void)form_of("multipart/form-data; boundary=x", "--x\r\nno head", -EPROTO);
	(void)form_of("multipart/form-data", one, -EPROTO);
	assert_true(str_eq(form_value(str_from(one), STR("x"), "model"), STR("w")));
	assert_null(form_value(str_from(one), STR("x"), "file").ptr);
}

static void speech_repeats_unless_it_is_sampled(void **state)
{
	struct call_facts f;

	call_read_form(DIALECT_AUDIO, STR("x"),
		       STR(PART("x", "model", "", "w") PART("x", "stream", "", "true") "--x--"), &f);
	assert_true(f.repeat == REPEAT_YES && f.wants_stream && !strcmp(f.model, "w"));
	call_facts_done(&f);
	call_read_form(DIALECT_AUDIO, STR("x"), STR(PART("x", "temperature", "", "0.5") "--x--"), &f);
	assert_int_equal(f.repeat, REPEAT_SAMPLE);
	call_facts_done(&f);
	call_read_form(DIALECT_OTHER, STR("x"), STR(PART("x", "prompt", "", "a") "--x--"), &f);
	assert_int_equal(f.repeat, REPEAT_NEVER);
	call_facts_done(&f);
}

static void bytes_tell_their_type(void **state)
{
	assert_string_equal(media_sniff(STR("\x89PNG\r\n\x1a\n....")), "image/png");
	assert_string_equal(media_sniff(STR("\xff\xd8\xff\xe0")), "image/jpeg");
	assert_string_equal(media_sniff(STR("RIFF....WAVEfmt ")), "audio/wav");
	assert_string_equal(media_sniff(STR("RIFF....WEBPVP8 ")), "image/webp");
	assert_string_equal(media_sniff(STR("fLaC")), "audio/flac");
	assert_null(media_sniff(STR("fLa")));
	assert_null(media_sniff(STR("")));
}

/* raw_is_json() stands for the library's reader everywhere: they must agree. */
static void what_is_json_is_told_as_the_library_tells_it(void **state)
{
	static const char *const texts[] = { "{}",
					     "[]",
					     " [1 , 2] ",
					     "\"x\"",
					     "null",
					     "true",
					     "-0",
					     "-0.5e+7",
					     "{\"a\":{\"b\":[{}]}}",
					     "[[[]],{}]",
					     "\"\\u00e9\\n\"",
					     "",
					     "{",
					     "[1,]",
					     "{\"a\"}",
					     "{\"a\":}",
					     "{a:1}",
					     "[1 2]",
					     "nul",
					     "tru",
					     "1x",
					     "-",
					     "\"\\x\"",
					     "\"a",
					     "\"\\u12\"",
					     "[}",
					     "{]",
					     "[1]]",
					     "{\"a\":1,}",
					     "[,1]",
					     "\"\t\"",
					     "1 2" };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct json *json = NULL;
		bool is_json = json_parse(str_from(texts[i]), &json) == 0;

		json_free(json);
		if (whole_is_answer(DIALECT_OTHER, str_from(texts[i])) != is_json)
			fail_msg("%s", texts[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spelling_does_not_matter),
		cmocka_unit_test(what_has_no_effect_does_not_matter),
		cmocka_unit_test(everything_else_matters),
		cmocka_unit_test(bodies_without_one_meaning_count_byte_by_byte),
		cmocka_unit_test(fields_of_the_key_do_not_run_into_each_other),
		cmocka_unit_test(an_absent_temperature_is_no_zero),
		cmocka_unit_test(tasks_repeat_unless_they_sample),
		cmocka_unit_test(what_has_effects_is_never_kept),
		cmocka_unit_test(remote_media_may_change),
		cmocka_unit_test(reads_how_the_answer_shall_come),
		cmocka_unit_test(forms_are_their_parts),
		cmocka_unit_test(speech_repeats_unless_it_is_sampled),
		cmocka_unit_test(bytes_tell_their_type),
		cmocka_unit_test(what_is_json_is_told_as_the_library_tells_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
