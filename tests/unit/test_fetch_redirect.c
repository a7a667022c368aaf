/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves, without a socket, which redirects are followed (reliability U07, U08; design 9), which addresses count
 * as internal, and what the reader of answer heads lets pass (U11, U18).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "fetch/head.h"
#include "fetch/redirect.h"

static struct redirect_rules rules_of(const char *hub_url, char **hosts)
{
	struct redirect_rules rules = { .hosts = hosts };
	struct address address;
	struct str rest;

	assert_int_equal(origin_parse(str_from(hub_url), &rules.hub, &rest), 0);
	rules.hub_is_localhost = strcmp(rules.hub.host, "localhost") == 0;
	if (address_parse(str_from(rules.hub.host), &address) == 0 && address_is_internal(&address))
		rules.hub_address = address;
	return rules;
}

/* Follows `location` after a GET of `base`; the URL it leads to is written to url. */
static int decide(const struct redirect_rules *rules, const char *base, const char *location,
		  enum fetch_follow follow, struct buf *url)
{
	struct redirect_facts facts = {
		.method = "GET",
		.follow = follow,
		.status = 302,
		.base_url = str_from(base),
		.location = str_from(location),
	};
	struct origin origin;

	buf_init(url, 4096);
	return redirect_decide(rules, &facts, url, &origin);
}

static void expect(const char *hub, char **hosts, const char *location, int want)
{
	struct redirect_rules rules = rules_of(hub, hosts);
	SCOPED_BUF url = { 0 };
	char base[256];
	int got;

	(void)snprintf(base, sizeof(base), "%s/acme/pub/resolve/main/a.bin?x=1", hub);
	got = decide(&rules, base, location, FETCH_FOLLOW_ALLOWED, &url);
	if (got != want)
		print_error("%s -> %s: %d, not %d\n", hub, location, got, want);
	assert_int_equal(got, want);
}

static char *cdn[] = { (char *)"*.hf.co", (char *)"cdn.example", (char *)"*.lab:8443", (char *)"10.1.2.3",
		       NULL };
#define HUB "https://huggingface.co"

static void follows_the_hub_itself(void **state)
{
	expect(HUB, cdn, "/api/resolve-cache/models/a/b/c/d?e=%2F", 1);
	expect(HUB, cdn, "https://huggingface.co/x", 1);
	expect(HUB, cdn, "https://HUGGINGFACE.co:443/x", 1);
	expect(HUB, cdn, "//huggingface.co/x", 1);
	expect(HUB, cdn, "https://huggingface.co:444/x", -EACCES);
}

static void keeps_the_query_of_a_relative_location(void **state)
{
	struct redirect_rules rules = rules_of(HUB, cdn);
	SCOPED_BUF url = { 0 };

	assert_int_equal(
		decide(&rules, HUB "/a?b=c", "/api/x?%2Fy=&etag=%22d8%22#frag", FETCH_FOLLOW_ALLOWED, &url),
		1);
	assert_string_equal(url.bytes, HUB "/api/x?%2Fy=&etag=%22d8%22");
}

static void follows_listed_hosts_only(void **state)
{
	expect(HUB, cdn, "https://us.aws.cdn.hf.co/x", 1);
	expect(HUB, cdn, "https://cdn.example/x", 1);
	expect(HUB, cdn, "https://cdn.example:8080/x", 1);
	expect(HUB, cdn, "https://hf.co/x", -EACCES); /* the wildcard is for names below */
	expect(HUB, cdn, "https://evil-hf.co/x", -EACCES);
	expect(HUB, cdn, "https://hf.co.evil.example/x", -EACCES);
	expect(HUB, cdn, "https://a.cdn.example/x", -EACCES);
	expect(HUB, cdn, "https://evil.example/x", -EACCES);
	expect(HUB, NULL, "https://us.aws.cdn.hf.co/x", -EACCES);
}

static void a_wildcard_takes_the_usual_port_or_the_one_it_names(void **state)
{
	expect(HUB, cdn, "https://a.hf.co:8443/x", -EACCES);
	expect(HUB, cdn, "https://a.lab:8443/x", 1);
	expect(HUB, cdn, "https://a.lab/x", -EACCES);
}

static void never_leaves_tls_or_http(void **state)
{
	expect(HUB, cdn, "http://us.aws.cdn.hf.co/x", -EACCES);
	expect(HUB, cdn, "http://huggingface.co/x", -EACCES);
	expect(HUB, cdn, "file:///etc/passwd", -EACCES);
	expect(HUB, cdn, "ftp://us.aws.cdn.hf.co/x", -EACCES);
	expect(HUB, cdn, "https://user:pw@us.aws.cdn.hf.co/x", -EACCES);
	expect("http://hub.lab", cdn, "http://cdn.example/x", 1);
	expect("http://hub.lab", cdn, "https://cdn.example/x", 1);
}

static void a_hub_at_an_internal_address_may_use_all_its_ports(void **state)
{
	expect("http://127.0.0.1:8000", NULL, "http://127.0.0.1:9000/x", 1);
	expect("http://10.0.0.5", NULL, "http://10.0.0.5:9000/x", 1);
	expect("http://[::1]:8000", NULL, "http://[::1]:9000/x", 1);
	expect("http://localhost:8000", NULL, "http://localhost:9000/x", 1);
	expect("http://127.0.0.1:8000", NULL, "http://127.0.0.2:8000/x", -EACCES);
	expect("http://127.0.0.1:8000", NULL, "http://localhost:8000/x", -EACCES);
	expect("https://8.8.8.8", NULL, "https://8.8.8.8:9000/x", -EACCES);
	expect("http://hub.lab", NULL, "http://hub.lab:9000/x", -EACCES);
}

static void stops_after_five_hops(void **state)
{
	struct redirect_rules rules = rules_of(HUB, cdn);

	for (unsigned hop = 0; hop <= REDIRECT_HOPS_MAX; hop++) {
		struct redirect_facts facts = { .method = "HEAD",
						.follow = FETCH_FOLLOW_ALLOWED,
						.status = 307,
						.hop = hop,
						.base_url = str_from(HUB "/a"),
						.location = STR("/b") };
		SCOPED_BUF url = { 0 };
		struct origin origin;

		buf_init(&url, 4096);
		assert_int_equal(redirect_decide(&rules, &facts, &url, &origin),
				 hop < REDIRECT_HOPS_MAX ? 1 : -ELOOP);
	}
}

static void what_is_elsewhere_is_the_answer_when_only_the_same_origin_is_followed(void **state)
{
	struct redirect_rules rules = rules_of(HUB, cdn);
	SCOPED_BUF here = { 0 }, there = { 0 }, nowhere = { 0 };

	assert_int_equal(decide(&rules, HUB "/a", "/b", FETCH_FOLLOW_SAME_ORIGIN, &here), 1);
	assert_int_equal(decide(&rules, HUB "/a", "https://us.hf.co/b", FETCH_FOLLOW_SAME_ORIGIN, &there), 0);
	assert_int_equal(decide(&rules, HUB "/a", "file:///b", FETCH_FOLLOW_SAME_ORIGIN, &nowhere), 0);
}

static void others_only_means_that_the_hubs_own_redirects_are_answers(void **state)
{
	static const struct {
		const char *location;
		int want;
	} table[] = {
		{ "/b", 0 },
		{ HUB "/b?c=d", 0 },
		{ "https://HUGGINGFACE.co:443/b", 0 },
		{ "https://us.hf.co/b", 1 },
		{ "https://evil.example/b", -EACCES },
		{ "http://huggingface.co/b", -EACCES },
		{ "file:///b", -EACCES },
	};
	struct redirect_rules rules = rules_of(HUB, cdn);

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		SCOPED_BUF url = { 0 };

		assert_int_equal(decide(&rules, HUB "/a", table[i].location, FETCH_FOLLOW_OTHERS, &url),
				 table[i].want);
	}
}

static void a_transfer_may_begin_where_a_redirect_may_lead(void **state)
{
	static const struct {
		const char *location;
		int want;
	} table[] = {
		{ "https://us.hf.co/b?Signature=%2F..%2f&a=./..", 0 },
		{ "https://huggingface.co/b", 0 },
		{ "https://cdn.example:8443/b#fragment", 0 },
		{ "https://us.hf.co:444/b", -EACCES },
		{ "https://evil.example/b", -EACCES },
		{ "http://us.hf.co/b", -EACCES },
		{ "https://127.0.0.1/b", -EACCES },
		{ "https://user@us.hf.co/b", -EACCES },
		{ "https://us.hf.co/b c", -EACCES },
		{ "https://us.hf.co/b\r\nX: y", -EACCES },
		{ "//us.hf.co/b", -EACCES },
		{ "/b", -EACCES },
		{ "file:///etc/passwd", -EACCES },
		{ "", -EACCES },
	};
	struct redirect_rules rules = rules_of(HUB, cdn);

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct str url, fragment;
		SCOPED_BUF got = { 0 };
		struct origin origin;
		int r;

		buf_init(&got, 4096);
		r = redirect_begin(&rules, str_from(table[i].location), false, &got, &origin);
		if (r != table[i].want)
			fail_msg("%s: %d", table[i].location, r);
		(void)str_cut(str_from(table[i].location), '#', &url, &fragment);
		if (r == 0)
			assert_true(str_eq(buf_str(&got), url)); /* byte for byte: it is signed */
	}
}

static void a_transfer_for_a_space_may_begin_where_spaces_are(void **state)
{
	static char spaces[] = "*.hf.space";
	static char *hosts[] = { spaces, NULL };
	static const struct {
		const char *location;
		bool is_space;
		int want;
	} table[] = {
		{ "https://acme-app.hf.space/config?a=b", true, 0 },
		{ "https://acme-app.hf.space/", false, -EACCES },
		{ "http://acme-app.hf.space/", true, -EACCES }, /* the Hub is asked over TLS */
		{ "https://acme-app.hf.space:8443/", true, -EACCES },
		{ "https://hf.space/", true, -EACCES },
		{ "https://acme-app.hf.space.evil.example/", true, -EACCES },
		{ "https://evil.example/.hf.space", true, -EACCES },
		{ "https://127.0.0.1/", true, -EACCES },
	};
	struct redirect_rules rules = rules_of("https://huggingface.co", cdn);
	struct redirect_facts facts = { .method = "GET",
					.follow = FETCH_FOLLOW_ALLOWED,
					.status = 302,
					.base_url = STR("https://huggingface.co/a"),
					.location = STR("https://acme-app.hf.space/") };
	SCOPED_BUF url = { 0 };
	struct origin origin;

	rules.space_hosts = hosts;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		SCOPED_BUF got = { 0 };
		int r;

		buf_init(&got, 4096);
		r = redirect_begin(&rules, str_from(table[i].location), table[i].is_space, &got, &origin);
		if (r != table[i].want)
			fail_msg("%s: %d", table[i].location, r);
	}
	/* but nothing is led there */
	buf_init(&url, 4096);
	assert_int_equal(redirect_decide(&rules, &facts, &url, &origin), -EACCES);
}

static int decide_status(const char *method, int status, bool has_body, const char *location,
			 enum fetch_follow follow)
{
	struct redirect_rules rules = rules_of(HUB, cdn);
	struct redirect_facts facts = { .method = method,
					.follow = follow,
					.status = status,
					.has_body = has_body,
					.base_url = str_from(HUB "/a"),
					.location = str_from(location) };
	SCOPED_BUF url = { 0 };
	struct origin origin;

	buf_init(&url, 4096);
	return redirect_decide(&rules, &facts, &url, &origin);
}

static void only_reads_and_bodyless_repeats_are_followed(void **state)
{
	static const int statuses[] = { 301, 302, 303, 307, 308 };

	for (size_t i = 0; i < 5; i++) {
		bool keeps_method = statuses[i] >= 307;

		assert_int_equal(decide_status("GET", statuses[i], false, "/b", FETCH_FOLLOW_ALLOWED), 1);
		assert_int_equal(decide_status("HEAD", statuses[i], false, "/b", FETCH_FOLLOW_ALLOWED), 1);
		assert_int_equal(decide_status("DELETE", statuses[i], false, "/b", FETCH_FOLLOW_ALLOWED),
				 keeps_method);
		assert_int_equal(decide_status("POST", statuses[i], true, "/b", FETCH_FOLLOW_ALLOWED), 0);
		assert_int_equal(decide_status("GET", statuses[i], false, "/b", FETCH_FOLLOW_NONE), 0);
		assert_int_equal(decide_status("GET", statuses[i], false, NULL, FETCH_FOLLOW_ALLOWED), 0);
	}
	assert_int_equal(decide_status("GET", 200, false, "/b", FETCH_FOLLOW_ALLOWED), 0);
	assert_int_equal(decide_status("GET", 304, false, "/b", FETCH_FOLLOW_ALLOWED), 0);
}

/* --- addresses ------------------------------------------------------------------------------------------ */

static bool is_internal(const char *literal)
{
	struct address a;

	assert_int_equal(address_parse(str_from(literal), &a), 0);
	return address_is_internal(&a);
}

static void knows_internal_addresses(void **state)
{
	static const char *const internal[] = {
		"0.0.0.0",
		"10.255.0.1",
		"100.64.0.1",
		"100.127.255.255",
		"127.0.0.1",
		"127.9.9.9",
		"169.254.169.254",
		"172.16.0.1",
		"172.31.255.255",
		"192.168.1.1",
		"192.0.0.8",
		"198.18.0.1",
		"224.0.0.1",
		"255.255.255.255",
		"[::]",
		"[::1]",
		"[fe80::1]",
		"[febf::1]",
		"[fec0::1]",
		"[fc00::1]",
		"[fd00:ec2::254]",
		"[ff02::1]",
		"[::ffff:127.0.0.1]",
		"[::ffff:10.0.0.1]",
		"[64:ff9b::169.254.169.254]",
		"[2002:7f00:1::1]",
		"[::10.0.0.1]",
	};
	static const char *const open[] = {
		"1.1.1.1",     "9.255.255.255",    "11.0.0.1",           "100.63.255.255",
		"100.128.0.1", "126.1.1.1",        "128.0.0.1",          "172.15.255.255",
		"172.32.0.1",  "192.167.1.1",      "223.255.255.255",    "[2606:4700::1]",
		"[fe00::1]",   "[::ffff:1.1.1.1]", "[64:ff9b::8.8.8.8]", "[2002:808:808::1]",
	};

	for (size_t i = 0; i < sizeof(internal) / sizeof(internal[0]); i++)
		if (!is_internal(internal[i]))
			fail_msg("%s is internal", internal[i]);
	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
		if (is_internal(open[i]))
			fail_msg("%s is not internal", open[i]);
}

static void names_are_no_addresses(void **state)
{
	static const char *const names[] = { "",     "localhost", "127.1",       "0x7f.1",   "2130706433",
					     "[::1", "::1",       "[127.0.0.1]", "1.2.3.4.5" };
	struct address a;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(address_parse(str_from(names[i]), &a), -EINVAL);
}

static bool may_connect(const char *hub, char **hosts, const char *to_url, const char *to_address)
{
	struct redirect_rules rules = rules_of(hub, hosts);
	struct address address;
	struct origin origin;
	struct str rest;

	assert_int_equal(address_parse(str_from(to_address), &address), 0);
	assert_int_equal(origin_parse(str_from(to_url), &origin, &rest), 0);
	return redirect_address_ok(&rules, &origin, &address);
}

static void a_listed_name_may_not_lead_to_an_internal_address(void **state)
{
	assert_true(may_connect(HUB, cdn, "https://a.hf.co/", "1.1.1.1"));
	assert_false(may_connect(HUB, cdn, "https://a.hf.co/", "127.0.0.1"));
	assert_false(may_connect(HUB, cdn, "https://a.hf.co/", "169.254.169.254"));
	assert_false(may_connect(HUB, cdn, "https://cdn.example/", "[fd00:ec2::254]"));
	assert_true(
		may_connect(HUB, cdn, "https://10.1.2.3/", "10.1.2.3")); /* the address itself is listed */
	assert_false(may_connect(HUB, cdn, "https://a.hf.co/", "10.1.2.4"));
	assert_true(may_connect(HUB, cdn, HUB, "10.0.0.1")); /* the configured Hub may be anywhere */
	assert_true(may_connect("http://127.0.0.1:1", cdn, "http://cdn.example/", "127.0.0.1"));
	assert_false(may_connect("http://127.0.0.1:1", cdn, "http://cdn.example/", "127.0.0.2"));
	assert_true(may_connect("http://localhost:1", cdn, "http://localhost:2/", "[::1]"));
	assert_false(may_connect("http://localhost:1", cdn, "http://cdn.example/", "[::1]"));
}

/* --- heads ---------------------------------------------------------------------------------------------- */

/* Feeds the lines of text; returns what the last one returned, or the first error. */
static int feed(struct head *h, const char *text)
{
	int r = 0;

	head_init(h);
	while (*text && r >= 0) {
		const char *end = strchr(text, '\n');
		size_t len = end ? (size_t)(end - text) + 1 : strlen(text);

		r = head_line(h, (struct str){ text, len });
		text += len;
	}
	return r;
}

static int fed(const char *text)
{
	struct head h;
	int r = feed(&h, text);

	head_done(&h);
	return r;
}

static void reads_a_head(void **state)
{
	struct head h;
	int64_t length;

	assert_int_equal(feed(&h, "HTTP/2 206 \r\netag: \"a\"\r\nContent-Length:  12 \r\n\r\n"), 1);
	assert_int_equal(h.status, 206);
	assert_true(str_eq(headers_get(&h.headers, STR("ETag")), STR("\"a\"")));
	assert_int_equal(head_content_length(&h, &length), 0);
	assert_int_equal(length, 12);
	head_done(&h);
}

static void forgets_interim_answers_but_not_too_many(void **state)
{
	char text[4096] = "";
	struct head h;
	size_t len = 0;

	for (int i = 0; i < HEAD_INTERIM_MAX; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "HTTP/1.1 103 Early\r\nX: %d\r\n\r\n",
					i);
	(void)snprintf(text + len, sizeof(text) - len, "HTTP/1.1 200 OK\r\nY: 1\r\n\r\n");
	assert_int_equal(feed(&h, text), 1);
	assert_int_equal(h.headers.count, 1);
	head_done(&h);
	(void)snprintf(text + len, sizeof(text) - len, "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
	assert_int_equal(fed(text), -EPROTO);
}

static void refuses_what_is_no_head(void **state)
{
	assert_int_equal(fed("hello\r\n"), -EPROTO);
	assert_int_equal(fed("HTTP/1.1 20 OK\r\n"), -EPROTO);
	assert_int_equal(fed("HTTP/1.1 2000 OK\r\n"), -EPROTO);
	assert_int_equal(fed("HTTP/1.1 900 OK\r\n"), -EPROTO);
	assert_int_equal(fed("HTTP/1.1\r\n"), -EPROTO);
	assert_int_equal(fed("HTTP/1.1 101 Switch\r\n\r\n"), -EPROTO);
	assert_int_equal(fed("HTTP/1.1 200 OK\r\nno colon\r\n"), -EPROTO);
	assert_int_equal(fed("HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n"), -EPROTO);
	assert_int_equal(fed("HTTP/1.1 200 OK\r\nA : b\r\n"), -EPROTO);
	assert_int_equal(fed("HTTP/1.1 200 OK\r\nA: b\001c\r\n"), -EPROTO);
	assert_int_equal(fed("\r\n"), -EPROTO);
}

static void refuses_too_many_fields_or_bytes(void **state)
{
	struct head h;
	int r = 0;

	(void)feed(&h, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i < HEAD_FIELDS_MAX; i++)
		assert_int_equal(head_line(&h, STR("A: b\r\n")), 0);
	assert_int_equal(head_line(&h, STR("A: b\r\n")), -EPROTO);
	head_done(&h);

	(void)feed(&h, "HTTP/1.1 200 OK\r\n\r\n");
	while (r == 0 && h.bytes <= 2 * HEAD_BYTES_MAX)
		r = head_line(&h, STR("Trailer: 0123456789012345678901234567890123456789\r\n"));
	assert_int_equal(r, -EPROTO); /* trailers count too */
	assert_int_equal(h.headers.count, 0);
	head_done(&h);
}

static void a_content_length_must_be_one_number(void **state)
{
	static const char *const bad[] = { "Content-Length: 1\r\nContent-Length: 2\r\n",
					   "Content-Length: -1\r\n",
					   "Content-Length: 1, 1\r\n",
					   "Content-Length: 0x1\r\n",
					   "Content-Length: \r\n",
					   "Content-Length: 9223372036854775808\r\n" };
	char text[256];
	struct head h;
	int64_t length = 7;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		(void)snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\n%s\r\n", bad[i]);
		assert_int_equal(feed(&h, text), 1);
		assert_int_equal(head_content_length(&h, &length), -EPROTO);
		head_done(&h);
	}
	assert_int_equal(length, 7);
	assert_int_equal(feed(&h, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n"), 1);
	assert_int_equal(head_content_length(&h, &length), 0);
	assert_int_equal(length, 5);
	head_done(&h);
	assert_int_equal(
		feed(&h, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), 1);
	assert_int_equal(head_content_length(&h, &length), 0);
	assert_int_equal(length, -1);
	head_done(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(follows_the_hub_itself),
		cmocka_unit_test(keeps_the_query_of_a_relative_location),
		cmocka_unit_test(follows_listed_hosts_only),
		cmocka_unit_test(a_wildcard_takes_the_usual_port_or_the_one_it_names),
		cmocka_unit_test(never_leaves_tls_or_http),
		cmocka_unit_test(a_hub_at_an_internal_address_may_use_all_its_ports),
		cmocka_unit_test(stops_after_five_hops),
		cmocka_unit_test(what_is_elsewhere_is_the_answer_when_only_the_same_origin_is_followed),
		cmocka_unit_test(others_only_means_that_the_hubs_own_redirects_are_answers),
		cmocka_unit_test(a_transfer_may_begin_where_a_redirect_may_lead),
		cmocka_unit_test(a_transfer_for_a_space_may_begin_where_spaces_are),
		cmocka_unit_test(only_reads_and_bodyless_repeats_are_followed),
		cmocka_unit_test(knows_internal_addresses),
		cmocka_unit_test(names_are_no_addresses),
		cmocka_unit_test(a_listed_name_may_not_lead_to_an_internal_address),
		cmocka_unit_test(reads_a_head),
		cmocka_unit_test(forgets_interim_answers_but_not_too_many),
		cmocka_unit_test(refuses_what_is_no_head),
		cmocka_unit_test(refuses_too_many_fields_or_bytes),
		cmocka_unit_test(a_content_length_must_be_one_number),
	};
	return cmocka_run_group_tests_name("fetch_redirect", tests, NULL, NULL);
}
