/* SPDX-License-Identifier: Apache-2.0 */
/* hub/space_text: addresses of an app become ours where they are addresses, in pieces of any size; everything else stays. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "hub/space_text.h"

#define APP "https://acme-app.hf.space"
#define BASE "http://cache:8090"
#define HERE BASE "/_space/acme/app"

static const struct space_rule rule = { .from = { STR(APP), STR(BASE) }, .to = STR(HERE) };

static void feed_in_pieces(enum space_form form, const char *text, size_t piece, struct buf *out)
{
	struct space_text t;
	size_t len = strlen(text);

	buf_init(out, 1 << 20);
	space_text_init(&t, form, &rule);
	for (size_t at = 0; at < len; at += piece)
		assert_int_equal(
			space_text_feed(&t, (struct str){ text + at, len - at < piece ? len - at : piece },
					out),
			0);
	assert_int_equal(space_text_end(&t, out), 0);
}

static void becomes(enum space_form form, const char *text, const char *want)
{
	for (size_t piece = 1; piece < 70; piece++) {
		SCOPED_BUF out = { 0 };

		feed_in_pieces(form, text, piece, &out);
		if (strcmp(buf_str(&out).ptr, want) != 0)
			fail_msg("in pieces of %zu: %s", piece, buf_str(&out).ptr);
	}
}

static void stays(enum space_form form, const char *text)
{
	becomes(form, text, text);
}

static void known_members_are_turned(void **state)
{
	becomes(SPACE_JSON,
		"{\"root\":\"" APP "\",\"a\":[{\"url\" : \"" APP "/f=x\"},{\"path\":\"" APP "?q\"}]}",
		"{\"root\":\"" HERE "\",\"a\":[{\"url\" : \"" HERE "/f=x\"},{\"path\":\"" HERE "?q\"}]}");
	becomes(SPACE_JSON, "{\"url\":\"https:\\/\\/acme-app.hf.space\\/x\"}", "{\"url\":\"" HERE "\\/x\"}");
}

static void everything_else_stays(void **state)
{
	stays(SPACE_JSON, "{\"host\":\"" APP "\",\"text\":\"see " APP "\",\"urls\":[\"" APP "\"]}");
	stays(SPACE_JSON, "{\"url\":\"" APP ".evil.example/\",\"url\":\"" APP "x\",\"url\":\"see " APP "\"}");
	stays(SPACE_JSON,
	      "{\"url\":null,\"root\":7,\"path\":{\"x\":\"" APP "\"},\"url\":[\"" APP "\"],\"url\":\"\"}");
	stays(SPACE_JSON,
	      "{\"k\":\"url\",\"" APP "\":1,\"a\\\"url\":\"" APP "\",\"url\\\\\\\"\":\"" APP "\"}");
	stays(SPACE_JSON, "{\"url\":\"https:\\u002f\\u002facme-app.hf.space\"}");
	stays(SPACE_JSON, "{\"url\":\"" APP); /* broken off */
}

static void what_is_ours_is_not_turned_twice(void **state)
{
	stays(SPACE_JSON, "{\"root\":\"" HERE "\",\"url\":\"" HERE "/f\"}");
	becomes(SPACE_JSON, "{\"root\":\"" BASE "\",\"url\":\"" BASE "/f\",\"url\":\"" HERE "lication\"}",
		"{\"root\":\"" HERE "\",\"url\":\"" HERE "/f\",\"url\":\"" HERE
		"/_space/acme/application\"}");
}

static void events_are_turned_line_by_line(void **state)
{
	becomes(SPACE_JSON,
		"event: complete\ndata: [{\"url\":\"" APP
		"/f\"}]\n\ndata: it's \"quoted\ndata: {\"url\":\"" APP "\"}\r\n\r\n: \"url\":\ndata: \"" APP
		"\"\n\n",
		"event: complete\ndata: [{\"url\":\"" HERE
		"/f\"}]\n\ndata: it's \"quoted\ndata: {\"url\":\"" HERE "\"}\r\n\r\n: \"url\":\ndata: \"" APP
		"\"\n\n");
}

/* An event is out as soon as it is in. */
static void nothing_is_held_back_at_the_end_of_an_event(void **state)
{
	struct str event = STR("data: {\"msg\":\"x\",\"url\":\"https://acme-app.hf.space\"}\n\n");
	struct space_text t;
	SCOPED_BUF out = { 0 };

	buf_init(&out, 4096);
	space_text_init(&t, SPACE_JSON, &rule);
	assert_int_equal(space_text_feed(&t, event, &out), 0);
	assert_string_equal(buf_str(&out).ptr, "data: {\"msg\":\"x\",\"url\":\"" HERE "\"}\n\n");
}

static void of_a_page_only_its_script_is_turned(void **state)
{
	becomes(SPACE_HTML,
		"<a href=\"" APP "\">\"url\":\"" APP
		"\"</a><script>windowindow.gradio_config = {\"root\":\"" APP "\",\"x\":{\"url\":\"" APP
		"/a\"}};</script>\"root\":\"" APP "\"",
		"<a href=\"" APP "\">\"url\":\"" APP
		"\"</a><script>windowindow.gradio_config = {\"root\":\"" HERE "\",\"x\":{\"url\":\"" HERE
		"/a\"}};</script>\"root\":\"" APP "\"");
	stays(SPACE_HTML, "<p>window.gradio_ is no config;</p>\"root\":\"" APP "\"");
}

static void a_long_value_passes(void **state)
{
	char text[8192] = "{\"url\":\"" APP "/";
	size_t len = strlen(text);
	SCOPED_BUF out = { 0 };

	memset(text + len, 'x', sizeof(text) - len - 1);
	feed_in_pieces(SPACE_JSON, text, 13, &out);
	assert_int_equal(buf_str(&out).len, strlen(text) + strlen(HERE) - strlen(APP));
}

static void expect_location(const struct space_place *place, const char *from, const char *to)
{
	SCOPED_BUF out = { 0 };
	int r;

	buf_init(&out, 4096);
	r = space_map_location(place, str_from(from), &out);
	if (!to && r >= 0)
		fail_msg("%s became %s", from, buf_str(&out).ptr);
	if (to && (r < 0 || strcmp(buf_str(&out).ptr, to) != 0))
		fail_msg("%s became %s (%d), not %s", from, r < 0 ? "nothing" : buf_str(&out).ptr, r, to);
}

#define PREFIX "/_space/acme/app"

static const char *const our_names[] = { "cache.example", "other.example:8090", NULL };

static void redirects_stay_within_the_space(void **state)
{
	static const struct space_place place = { .app = STR(APP),
						  .rest = STR("/a/go?x=1"),
						  .base = STR(BASE),
						  .prefix = STR(PREFIX),
						  .names = our_names };
	static const struct {
		const char *from, *to;
	} table[] = {
		{ APP "/login?x#y", HERE "/login?x#y" },
		{ "http://acme-app.hf.space/login", HERE "/login" },
		{ "HTTPS://ACME-APP.hf.space:443/login", HERE "/login" },
		{ "//acme-app.hf.space/login", HERE "/login" },
		{ APP, HERE "/" },
		{ HERE "/login", HERE "/login" },
		{ "/login", PREFIX "/login" },
		{ PREFIX "/login", PREFIX "/login" },
		{ "login", PREFIX "/a/login" },
		{ "?q", PREFIX "/a/go?q" },
		{ "#f", PREFIX "/a/go?x=1#f" },
		{ "", PREFIX "/a/go?x=1" },
		{ "../evil/x", PREFIX "/evil/x" },
		{ "../../../_space/acme/evil/x", PREFIX "/_space/acme/evil/x" },
		{ "/../evil/x", PREFIX "/evil/x" },
		{ "/%2e%2E/evil/x?%2e", PREFIX "/evil/x?%2e" },
		{ ".%2e/.%2e/evil", PREFIX "/evil" },
		{ PREFIX "/../evil/x", PREFIX "/_space/acme/evil/x" },
		{ APP "/../../_space/acme/evil/x", HERE "/_space/acme/evil/x" },
		{ "a file", PREFIX "/a/a%20file" },
		{ "/.//evil.example/", PREFIX "//evil.example/" },
		/* other hosts are told as they are */
		{ "//evil.example/x", "//evil.example/x" },
		{ APP ".evil.example/x", APP ".evil.example/x" },
		{ "https://elsewhere.example/a/../b#c", "https://elsewhere.example/a/../b#c" },
		{ "http://cache:8091/", "http://cache:8091/" },
		{ "app:callback?x", "app:callback?x" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		expect_location(&place, table[i].from, table[i].to);
}

static void no_redirect_leads_elsewhere_on_this_server(void **state)
{
	static const char *const table[] = {
		BASE "/login", BASE "/_space/acme/evil/x", HERE "/../evil/x", HERE "/%2e%2e/evil",
		HERE "er/x", BASE, BASE "?x", "HTTP://CACHE:8090/-/status", "//cache:8090/-/status",
		"https://cache:8090/", "http://cache.:8090/", "http://LOCALHOST:8090/",
		"http://localhost.:8090/", "http://127.0.0.1:8090/x", "http://127.1:8090/x",
		"http://0x7f000001:8090/x", "http://2130706433:8090/", "http://0.0.0.0:8090/",
		"http://[::1]:8090/", "http://[::ffff:127.0.0.1]:8090/", "http://a.localhost:8090/",
		"http://cache.example:8090/", "http://other.EXAMPLE:8090/x",
		/* two readers would understand them in two ways */
		"http:/-/status", "http:login", "/\\evil", "\\\\cache:8090\\x", "http://a@cache:8090/",
		"ht\ttp://cache:8090/", "http://cache:8090\\@evil.example/", "http:///x",
		"http://c%61che:8090/"
	};
	struct space_place place = { .app = STR(APP),
				     .rest = STR("/go"),
				     .base = STR(BASE),
				     .prefix = STR(PREFIX),
				     .names = our_names };

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		expect_location(&place, table[i], NULL);
	/* ports may be left out, and addresses written in other ways */
	place.base = STR("http://10.0.0.5");
	expect_location(&place, "http://10.0.0.5:80/x", NULL);
	expect_location(&place, "//10.5/x", NULL);
	expect_location(&place, "http://0xa.5:/x", NULL);
	expect_location(&place, "http://10.0.0.6/x", "http://10.0.0.6/x");
	expect_location(&place, "http://10.5" PREFIX "/x", "http://10.0.0.5" PREFIX "/x");
}

static void redirects_of_an_app_of_ones_own_too(void **state)
{
	static const struct space_place place = { .app = STR("http://10.0.0.5:7860/inner"),
						  .rest = STR("/a/go"),
						  .base = STR(BASE),
						  .prefix = STR(PREFIX),
						  .is_told_base = true };

	expect_location(&place, "/inner/login", PREFIX "/login");
	expect_location(&place, "/login", PREFIX "/login");
	expect_location(&place, "../../../up", PREFIX "/up");
	expect_location(&place, PREFIX "/login", PREFIX "/login");
	expect_location(&place, "http://10.0.0.5:7860/inner/x", HERE "/x");
	expect_location(&place, "http://10.0.0.5:7860/other/x", "http://10.0.0.5:7860/other/x");
	expect_location(&place, BASE "/login", HERE "/login");
	expect_location(&place, HERE "/login", HERE "/login");
	expect_location(&place, "HTTP://Cache:8090/_space/acme/evil/x", HERE "/_space/acme/evil/x");
	expect_location(&place, "http://localhost:8090/x", NULL);
	expect_location(&place, "http://10.0.0.5:7861/x", "http://10.0.0.5:7861/x");
}

static void cookies_are_bound_to_the_space(void **state)
{
	static const struct {
		const char *from, *plain, *tls;
	} table[] = {
		{ "a=b", "T-a=b; Path=/p/", "T-a=b; Path=/p/" },
		{ "a=b; Domain=.hf.space; path=/; SECURE; HttpOnly; SameSite=None; Partitioned; Max-Age=5",
		  "T-a=b; HttpOnly; Max-Age=5; Path=/p/",
		  "T-a=b; SECURE; HttpOnly; SameSite=None; Partitioned; Max-Age=5; Path=/p/" },
		{ "__Host-a=\"b c\";Secure ; SameSite=Lax;;", "T-__Host-a=\"b c\"; SameSite=Lax; Path=/p/",
		  "T-__Host-a=\"b c\"; Secure; SameSite=Lax; Path=/p/" },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		for (int is_tls = 0; is_tls < 2; is_tls++) {
			SCOPED_BUF out = { 0 };

			buf_init(&out, 4096);
			assert_int_equal(space_cookie_out(str_from(table[i].from), STR("T-"), STR("/p/"),
							  is_tls, &out),
					 0);
			assert_string_equal(buf_str(&out).ptr, is_tls ? table[i].tls : table[i].plain);
		}
}

static void what_is_no_cookie_is_not_set(void **state)
{
	SCOPED_BUF out = { 0 };

	buf_init(&out, 4096);
	assert_int_equal(space_cookie_out(STR(""), STR("T-"), STR("/"), false, &out), -EINVAL);
	assert_int_equal(space_cookie_out(STR("=b; Path=/"), STR("T-"), STR("/"), false, &out), -EINVAL);
	assert_int_equal(space_cookie_out(STR("a; Path=/"), STR("T-"), STR("/"), false, &out), -EINVAL);
}

static void only_its_own_cookies_go_to_an_app(void **state)
{
	SCOPED_BUF out = { 0 };

	buf_init(&out, 4096);
	assert_int_equal(
		space_cookie_in(STR("session=1; T-a=b ;U-c=d; xT-e=f; T-; T-g=h=i"), STR("T-"), &out), 0);
	assert_string_equal(buf_str(&out).ptr, "a=b; g=h=i");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_members_are_turned),
		cmocka_unit_test(everything_else_stays),
		cmocka_unit_test(what_is_ours_is_not_turned_twice),
		cmocka_unit_test(events_are_turned_line_by_line),
		cmocka_unit_test(nothing_is_held_back_at_the_end_of_an_event),
		cmocka_unit_test(of_a_page_only_its_script_is_turned),
		cmocka_unit_test(a_long_value_passes),
		cmocka_unit_test(redirects_stay_within_the_space),
		cmocka_unit_test(no_redirect_leads_elsewhere_on_this_server),
		cmocka_unit_test(redirects_of_an_app_of_ones_own_too),
		cmocka_unit_test(cookies_are_bound_to_the_space),
		cmocka_unit_test(what_is_no_cookie_is_not_set),
		cmocka_unit_test(only_its_own_cookies_go_to_an_app),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
