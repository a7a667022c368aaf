/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves decoding once and strictly (N01), encoding, parameters, clean paths, origins, and the examples of
 * RFC 3986 5.4.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/http/uri.h"

#include <errno.h>

static void assert_decodes(struct str raw, struct str expected)
{
	SCOPED_BUF out;

	buf_init(&out, 1000);
	assert_int_equal(uri_decode_segment(raw, &out), 0);
	assert_true(str_eq(buf_str(&out), expected));
}

static void decodes_exactly_once(void **state)
{
	assert_decodes(STR("plain"), STR("plain"));
	assert_decodes(STR(""), STR(""));
	assert_decodes(STR("refs%2Fpr%2f1"), STR("refs/pr/1"));
	assert_decodes(STR("a+b%20c"), STR("a+b c"));
	assert_decodes(STR("%252e%252E"), STR("%2e%2E"));
	assert_decodes(STR("%25%32%65"), STR("%2e"));
	assert_decodes(STR("caf%C3%A9"), STR("caf\xc3\xa9"));
	assert_decodes(STR("caf\xc3\xa9"), STR("caf\xc3\xa9"));
	assert_decodes(STR("%5c%23%3F"), STR("\\#?"));
}

static void refuses_broken_escapes_nul_and_forged_utf8(void **state)
{
	const struct str bad[] = { STR("%"),         STR("a%2"),          STR("%zz"),      STR("%2g"),
				   STR("%-1"),       STR("% 2"),          STR("%00"),      STR("a\0b"),
				   STR("%c0%af"),    STR("%ff"),          STR("\xc0\xaf"), STR("%e2%82"),
				   STR("%ed%a0%80"), STR("%f5%80%80%80"), STR("%C3x") };
	SCOPED_BUF out;

	buf_init(&out, 1000);
	buf_append_str(&out, STR("before"));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (uri_decode_segment(bad[i], &out) != -EINVAL)
			fail_msg("accepted: %.*s", STR_ARGS(bad[i]));
		assert_string_equal(out.bytes, "before");
	}
}

static void decoding_more_than_fits_is_told(void **state)
{
	SCOPED_BUF out;

	buf_init(&out, 3);
	assert_int_equal(uri_decode_segment(STR("abcd"), &out), -E2BIG);
	assert_int_equal(out.len, 0);
}

static void encodes_all_but_unreserved_bytes(void **state)
{
	SCOPED_BUF out;

	buf_init(&out, 1000);
	assert_int_equal(uri_encode(STR("aZ09-._~ /?#%+\xc3\xa9\0"), NULL, &out), 0);
	assert_string_equal(out.bytes, "aZ09-._~%20%2F%3F%23%25%2B%C3%A9%00");
	buf_reset(&out);
	assert_int_equal(uri_encode(STR("a=b&c\0"), "=", &out), 0);
	assert_string_equal(out.bytes, "a=b%26c%00");
	buf_reset(&out);
	assert_int_equal(uri_encode_path(STR("onnx/a b#1.bin"), &out), 0);
	assert_string_equal(out.bytes, "onnx/a%20b%231.bin");
}

static void every_byte_survives_encoding_and_decoding(void **state)
{
	for (int i = 1; i < 128; i++) {
		char c = (char)i;
		SCOPED_BUF coded, back;

		buf_init(&coded, 3);
		buf_init(&back, 1);
		assert_int_equal(uri_encode((struct str){ &c, 1 }, NULL, &coded), 0);
		assert_int_equal(uri_decode_segment(buf_str(&coded), &back), 0);
		assert_int_equal(back.bytes[0], c);
	}
}

static void splits_targets_at_the_first_question_mark(void **state)
{
	struct str path, query;

	uri_split_target(STR("/a/b?c=d?e"), &path, &query);
	assert_true(str_eq(path, STR("/a/b")));
	assert_true(str_eq(query, STR("c=d?e")));
	uri_split_target(STR("/a%3Fb"), &path, &query);
	assert_true(str_eq(path, STR("/a%3Fb")));
	assert_int_equal(query.len, 0);
}

static void walks_over_parameters_raw(void **state)
{
	struct str cursor = STR("&expand=a%20&&expand[]=b=c&flag&=x&"), name, value;
	const char *const expected[] = { "expand", "a%20", "expand[]", "b=c", "flag", "", "", "x" };
	int i = 0;

	while (uri_next_param(&cursor, &name, &value)) {
		assert_true(str_eq(name, str_from(expected[i++])));
		assert_true(str_eq(value, str_from(expected[i++])));
	}
	assert_int_equal(i, 8);
	assert_false(uri_next_param(&cursor, &name, &value));
	cursor = (struct str){ NULL, 0 };
	assert_false(uri_next_param(&cursor, &name, &value));
}

static void finds_a_parameter_and_tells_empty_from_absent(void **state)
{
	struct str query = STR("a=1&flag&b=&a=2;c=3");

	assert_true(str_eq(uri_param(query, STR("a")), STR("1")));
	assert_non_null(uri_param(query, STR("flag")).ptr);
	assert_int_equal(uri_param(query, STR("flag")).len, 0);
	assert_non_null(uri_param(query, STR("b")).ptr);
	assert_null(uri_param(query, STR("c")).ptr); /* ';' separates nothing */
	assert_null(uri_param(query, STR("A")).ptr);
	assert_null(uri_param((struct str){ NULL, 0 }, STR("a")).ptr);
}

static void accepts_names_as_the_hub_has_them(void **state)
{
	static const char *const clean[] = { "a",    "config.json", "a/b/c.bin", ".gitattributes",
					     "...",  "a..b",        "..a/b..",   "a b/#?%[]",
					     "a\\b", "caf\xc3\xa9" };

	for (size_t i = 0; i < sizeof(clean) / sizeof(clean[0]); i++)
		assert_true(uri_is_clean_path(str_from(clean[i])));
}

static void refuses_paths_that_could_climb(void **state)
{
	const struct str bad[] = { STR(""),     STR("/"),     STR("/a"),       STR("a/"),       STR("a//b"),
				   STR("."),    STR(".."),    STR("a/../b"),   STR("a/./b"),    STR("../a"),
				   STR("a/.."), STR("a\0b"),  STR("..\\a"),    STR("a\\..\\b"), STR("a\\.."),
				   STR("\\a"),  STR("a/\\b"), STR("\\\\s\\x"), STR("a\\.\\b") };
	char longest[4097];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (uri_is_clean_path(bad[i]))
			fail_msg("accepted: %.*s", STR_ARGS(bad[i]));
	memset(longest, 'a', sizeof(longest));
	assert_true(uri_is_clean_path((struct str){ longest, 4096 }));
	assert_false(uri_is_clean_path((struct str){ longest, 4097 }));
}

static void reads_origins(void **state)
{
	struct origin a, b;
	struct str rest;

	assert_int_equal(origin_parse(STR("HTTPS://HuggingFace.co/a/b?c=d"), &a, &rest), 0);
	assert_true(a.is_tls);
	assert_string_equal(a.host, "huggingface.co");
	assert_int_equal(a.port, 443);
	assert_true(str_eq(rest, STR("/a/b?c=d")));
	assert_int_equal(origin_parse(STR("https://huggingface.co:443"), &b, &rest), 0);
	assert_true(str_eq(rest, STR("/")));
	assert_true(origin_eq(&a, &b));
	assert_int_equal(origin_parse(STR("http://huggingface.co:443/"), &b, &rest), 0);
	assert_false(origin_eq(&a, &b));
	assert_int_equal(origin_parse(STR("http://[::1]:8090/x"), &b, &rest), 0);
	assert_string_equal(b.host, "[::1]");
	assert_int_equal(b.port, 8090);
	assert_int_equal(origin_parse(STR("http://127.0.0.1:/"), &b, &rest), 0);
	assert_int_equal(b.port, 80);
}

static void refuses_urls_that_two_readers_could_read_differently(void **state)
{
	const struct str bad[] = {
		STR(""),
		STR("huggingface.co"),
		STR("//huggingface.co/"),
		STR("ftp://huggingface.co/"),
		STR("http:/huggingface.co/"),
		STR("http:///a"),
		STR("https://"),
		STR("https://user@huggingface.co/"),
		STR("https://huggingface.co@evil.example/"),
		STR("https://huggingface.co\\@evil.example/"),
		STR("https://huggingface.co\\.evil.example/"),
		STR("https://hugging face.co/"),
		STR("https://huggingface.co/a b"),
		STR("https://huggingface.co/a\r\nHost: evil"),
		STR("https://huggingface.co/\0"),
		STR("https://huggingface.co#@evil.example/"),
		STR("https://huggingface.co/a#b"),
		STR("https://huggingface.co?a"),
		STR("https://huggingface.co:0/"),
		STR("https://huggingface.co:65536/"),
		STR("https://huggingface.co:8a/"),
		STR("https://huggingface.co:80:90/"),
		STR("https://hugg%69ngface.co/"),
		STR("https://hugg\xc3\xadngface.co/"),
		STR("https://[::1/"),
		STR("https://[::1]x/"),
		STR("https://[]/"),
		STR("https://[::1%25eth0]/"),
		STR("https://::1/"),
	};
	struct origin origin = { .port = 77 };
	struct str rest = STR("untouched");
	SCOPED_BUF b;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (origin_parse(bad[i], &origin, &rest) != -EINVAL)
			fail_msg("accepted: %.*s", STR_ARGS(bad[i]));
	buf_init(&b, 1000);
	buf_append_str(&b, STR("http://"));
	for (int i = 0; i < 256; i++)
		buf_append_char(&b, 'h');
	assert_int_equal(origin_parse(buf_str(&b), &origin, &rest), -EINVAL);
	b.len--;
	assert_int_equal(origin_parse(buf_str(&b), &origin, &rest), 0);
}

static void assert_resolves(const char *base, const char *reference, const char *expected)
{
	SCOPED_BUF out;

	buf_init(&out, 1000);
	if (uri_resolve(str_from(base), str_from(reference), &out) != 0)
		fail_msg("refused: %s", reference);
	assert_string_equal(out.bytes, expected);
}

/* RFC 3986 5.4.1 and 5.4.2, less fragments, which a request never carries, and less foreign schemes */
static void resolves_the_examples_of_the_rfc(void **state)
{
	static const char *const examples[][2] = {
		{ "g", "http://a/b/c/g" },
		{ "./g", "http://a/b/c/g" },
		{ "g/", "http://a/b/c/g/" },
		{ "/g", "http://a/g" },
		{ "//g", "http://g/" },
		{ "?y", "http://a/b/c/d;p?y" },
		{ "g?y", "http://a/b/c/g?y" },
		{ "#s", "http://a/b/c/d;p?q" },
		{ "g#s", "http://a/b/c/g" },
		{ "g?y#s", "http://a/b/c/g?y" },
		{ ";x", "http://a/b/c/;x" },
		{ "g;x", "http://a/b/c/g;x" },
		{ "", "http://a/b/c/d;p?q" },
		{ ".", "http://a/b/c/" },
		{ "./", "http://a/b/c/" },
		{ "..", "http://a/b/" },
		{ "../", "http://a/b/" },
		{ "../g", "http://a/b/g" },
		{ "../..", "http://a/" },
		{ "../../", "http://a/" },
		{ "../../g", "http://a/g" },
		{ "../../../g", "http://a/g" },
		{ "../../../../g", "http://a/g" },
		{ "/./g", "http://a/g" },
		{ "/../g", "http://a/g" },
		{ "g.", "http://a/b/c/g." },
		{ ".g", "http://a/b/c/.g" },
		{ "g..", "http://a/b/c/g.." },
		{ "..g", "http://a/b/c/..g" },
		{ "./../g", "http://a/b/g" },
		{ "./g/.", "http://a/b/c/g/" },
		{ "g/./h", "http://a/b/c/g/h" },
		{ "g/../h", "http://a/b/c/h" },
		{ "g;x=1/./y", "http://a/b/c/g;x=1/y" },
		{ "g;x=1/../y", "http://a/b/c/y" },
		{ "g?y/./x", "http://a/b/c/g?y/./x" },
		{ "g?y/../x", "http://a/b/c/g?y/../x" },
	};

	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++)
		assert_resolves("http://a/b/c/d;p?q", examples[i][0], examples[i][1]);
}

static void resolves_what_the_hub_sends(void **state)
{
	assert_resolves("https://huggingface.co/api/models/bert-base-uncased",
			"/api/models/google-bert/bert-base-uncased",
			"https://huggingface.co/api/models/google-bert/bert-base-uncased");
	assert_resolves("https://huggingface.co/a/resolve/main/f",
			"https://us.aws.cdn.hf.co/x/63be?X=1&Sig=a%2Fb",
			"https://us.aws.cdn.hf.co/x/63be?X=1&Sig=a%2Fb");
	assert_resolves("http://127.0.0.1:9000/v2/a/b", "?__sign=x", "http://127.0.0.1:9000/v2/a/b?__sign=x");
	assert_resolves("https://huggingface.co", "x", "https://huggingface.co/x");
	assert_resolves("https://huggingface.co", "https://cdn.hf.co?a=b", "https://cdn.hf.co/?a=b");
	assert_resolves("https://huggingface.co/a//b/c", "../d//e", "https://huggingface.co/a//d//e");
}

static void refuses_references_to_elsewhere(void **state)
{
	static const char *const bad[] = {
		"file:///etc/passwd", "gopher://x/", "javascript:x", "http:x", "https:/x",
		"//user@host/",       "///x",        "http://",      "a b",    "/a\nb",
		"\\\\evil\\x",        "data:,x",     "//host:99999/"
	};
	SCOPED_BUF out;

	buf_init(&out, 1000);
	buf_append_str(&out, STR("before"));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (uri_resolve(STR("https://huggingface.co/a"), str_from(bad[i]), &out) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
		assert_string_equal(out.bytes, "before");
	}
	assert_int_equal(uri_resolve(STR("/a"), STR("/b"), &out), -EINVAL);
	assert_int_equal(uri_resolve(STR(""), STR("http://h/"), &out), -EINVAL);
}

static void resolving_into_too_small_a_buf_is_told(void **state)
{
	SCOPED_BUF out;

	buf_init(&out, 10);
	assert_int_equal(uri_resolve(STR("https://huggingface.co/a"), STR("/b"), &out), -E2BIG);
	assert_int_equal(out.len, 0);
}

static void compares_origins_without_the_case_of_hosts(void **state)
{
	struct origin a, b;
	struct str rest;

	assert_int_equal(origin_parse(STR("http://ABC:80/"), &a, &rest), 0);
	assert_int_equal(origin_parse(STR("http://abc/"), &b, &rest), 0);
	assert_true(origin_eq(&a, &b));
	assert_int_equal(origin_parse(STR("http://abcd/"), &b, &rest), 0);
	assert_false(origin_eq(&a, &b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decodes_exactly_once),
		cmocka_unit_test(refuses_broken_escapes_nul_and_forged_utf8),
		cmocka_unit_test(decoding_more_than_fits_is_told),
		cmocka_unit_test(encodes_all_but_unreserved_bytes),
		cmocka_unit_test(every_byte_survives_encoding_and_decoding),
		cmocka_unit_test(splits_targets_at_the_first_question_mark),
		cmocka_unit_test(walks_over_parameters_raw),
		cmocka_unit_test(finds_a_parameter_and_tells_empty_from_absent),
		cmocka_unit_test(accepts_names_as_the_hub_has_them),
		cmocka_unit_test(refuses_paths_that_could_climb),
		cmocka_unit_test(reads_origins),
		cmocka_unit_test(refuses_urls_that_two_readers_could_read_differently),
		cmocka_unit_test(resolves_the_examples_of_the_rfc),
		cmocka_unit_test(resolves_what_the_hub_sends),
		cmocka_unit_test(refuses_references_to_elsewhere),
		cmocka_unit_test(resolving_into_too_small_a_buf_is_told),
		cmocka_unit_test(compares_origins_without_the_case_of_hosts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
