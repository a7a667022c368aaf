/* SPDX-License-Identifier: Apache-2.0 */
/*
 * head_check - the 89 heads of tests/heads as bytes, whole and one by one; where requests begin; what ordinary clients send.
 */
#include "server/head_check.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include "common/buf.h"
#include "common/path.h"

#include <cmocka.h>

static struct head_check check_all(struct str bytes, size_t *ret_good)
{
	struct head_check c;

	head_check_init(&c);
	*ret_good = head_check_feed(&c, bytes.ptr, bytes.len);
	return c;
}

static struct head_check check_bytewise(struct str bytes)
{
	struct head_check c;

	head_check_init(&c);
	for (size_t i = 0; i < bytes.len; i++)
		(void)head_check_feed(&c, bytes.ptr + i, 1);
	return c;
}

static enum head_fault fault_of(const char *text)
{
	size_t good;
	struct head_check c = check_all(str_from(text), &good);

	assert_int_equal(check_bytewise(str_from(text)).fault, c.fault);
	return (enum head_fault)c.fault;
}

/* --- heads.txt --- */

static void unescape_one(struct str *s, struct buf *out)
{
	uint8_t byte;

	if (s->ptr[0] != '\\') {
		(void)buf_append_char(out, s->ptr[0]);
		*s = (struct str){ s->ptr + 1, s->len - 1 };
	} else if (s->ptr[1] == 'x') {
		assert_int_equal(parse_hex((struct str){ s->ptr + 2, 2 }, &byte, 1), 0);
		(void)buf_append_char(out, (char)byte);
		*s = (struct str){ s->ptr + 4, s->len - 4 };
	} else {
		(void)buf_append_char(out, s->ptr[1] == 'r'   ? '\r'
					   : s->ptr[1] == 'n' ? '\n'
					   : s->ptr[1] == 't' ? '\t'
							      : '\\');
		*s = (struct str){ s->ptr + 2, s->len - 2 };
	}
}

static void unescape(struct str s, struct buf *out)
{
	while (s.len > 0) {
		struct str count, text, rest;
		uint64_t n;

		if (s.ptr[0] != '{') {
			unescape_one(&s, out);
			continue;
		}
		assert_true(str_cut((struct str){ s.ptr + 1, s.len - 1 }, '*', &count, &rest));
		assert_true(str_cut(rest, '}', &text, &s));
		assert_int_equal(parse_u64(count, &n), 0);
		for (; n > 0; n--)
			for (struct str left = text; left.len > 0;)
				unescape_one(&left, out);
	}
}

static void judge(struct str id, char want, struct str bytes)
{
	size_t good;
	struct head_check c = check_all(bytes, &good), bytewise = check_bytewise(bytes);

	if (bytewise.fault != c.fault || (want == 'A' && c.fault) ||
	    (want == 'R' && (!c.fault || c.heads > 1)))
		fail_msg("%.*s: fault %d, byte by byte %d, heads %u", STR_ARGS(id), c.fault, bytewise.fault,
			 c.heads);
	if (want == 'A')
		assert_int_equal(good, bytes.len);
}

static void read_cases(struct buf *ret_text)
{
	assert_int_equal(fs_read_file(AT_FDCWD, TESTS_FOLDER "/heads/heads.txt", ret_text), 0);
}

static void judges_the_89_heads_as_wanted(void **state)
{
	SCOPED_BUF file, bytes;
	struct str line, rest, id, want, text;
	unsigned count = 0;

	buf_init(&file, 1 << 20);
	buf_init(&bytes, 1 << 20);
	read_cases(&file);
	for (rest = buf_str(&file); rest.len > 0;) {
		str_cut(rest, '\n', &line, &rest);
		if (line.len == 0 || line.ptr[0] == '#')
			continue;
		assert_true(str_cut(line, ' ', &id, &text) && str_cut(text, ' ', &want, &text));
		buf_reset(&bytes);
		unescape(text, &bytes);
		assert_int_equal(buf_error(&bytes), 0);
		judge(id, want.ptr[0], buf_str(&bytes));
		count++;
	}
	assert_int_equal(count, 89);
}

/* --- where requests begin and end --- */

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define BAD "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n"

static void passes_on_what_comes_before_a_bad_request(void **state)
{
	size_t good;
	struct head_check c = check_all(STR(GET GET BAD), &good);

	assert_int_equal(c.fault, HEAD_FOLDED);
	assert_int_equal(good, 2 * strlen(GET));
	assert_int_equal(c.heads, 2);
}

static void passes_nothing_on_after_a_fault(void **state)
{
	size_t good;
	struct head_check c = check_all(STR(BAD), &good);

	assert_int_equal(good, 0);
	assert_int_equal(head_check_feed(&c, GET, strlen(GET)), 0);
}

static void passes_nothing_of_a_piece_whose_request_began_before(void **state)
{
	struct head_check c;

	head_check_init(&c);
	assert_int_equal(head_check_feed(&c, "GET / HT", 8), 8);
	assert_int_equal(head_check_feed(&c, "TP/3.0\r\n", 8), 0);
	assert_int_equal(c.fault, HEAD_BAD_VERSION);
}

static void skips_bodies_to_the_next_head(void **state)
{
	size_t good;
	struct head_check c =
		check_all(STR("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n\r\n\0 x" GET
			      "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
			      "a\r\n0123456789\r\n00001\r\nx\r\n0\r\n\r\n" GET),
			  &good);

	assert_int_equal(c.fault, HEAD_GOOD);
	assert_int_equal(c.heads, 4);
	assert_false(head_check_in_head(&c) || head_check_in_body(&c));
}

static void knows_where_it_stands(void **state)
{
	const struct str rest = STR("OST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
	struct head_check c;

	head_check_init(&c);
	(void)head_check_feed(&c, "P", 1);
	assert_true(head_check_in_head(&c));
	(void)head_check_feed(&c, rest.ptr, rest.len);
	assert_false(head_check_in_head(&c));
	assert_true(head_check_in_body(&c));
	(void)head_check_feed(&c, "ab", 2);
	assert_false(head_check_in_body(&c));
}

static void follows_chunks_of_any_size(void **state)
{
	assert_int_equal(fault_of("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
				  "chunked\r\n\r\nfffffffffffffff\r\nabc"),
			 HEAD_GOOD);
	assert_int_equal(fault_of("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
				  "chunked\r\n\r\n1000000000000000\r\n"),
			 HEAD_BAD_CHUNK);
	assert_int_equal(
		fault_of("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\n"),
		HEAD_BAD_CHUNK);
	assert_int_equal(
		fault_of("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n"),
		HEAD_BAD_CHUNK);
}

/* --- what ordinary clients send --- */

static void accepts_what_clients_send(void **state)
{
	static const char *const heads[] = {
		("\r\n" GET), /* an empty line before it */
		"GET / HTTP/1.0\r\n\r\n",
		"GET /a%20b?x=1&y=%2F HTTP/1.1\r\nHost: cache.lab:8090\r\nUser-Agent: x/1 (y; "
		"\"z\")\r\nX-Empty:\r\nX-Tab:\ta\t b \r\n\r\n",
		"HEAD / HTTP/1.1\r\nhost: [::1]:8090\r\nContent-Length: 0\r\n\r\n",
		"OPTIONS / HTTP/1.1\r\nHOST:\ta.b-c_d \r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a:\r\nExpect: 100-Continue\r\nContent-Length: 000\r\n\r\n",
		"DELETE / HTTP/1.1\r\nHost: a\r\nX: caf\xc3\xa9\r\n\r\n",
		"PATCH /x|y{z} HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n",
	};

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		if (fault_of(heads[i]) != HEAD_GOOD)
			fail_msg("%s", heads[i]);
}

static void refuses_odd_hosts(void **state)
{
	static const char *const hosts[] = { "a b", "a:b", "a:80:80", "[::1", "[g::1]",
					     "[]x", "a/b", ":80",     "a\"b", "a%41" };
	char text[256];

	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		(void)snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", hosts[i]);
		if (fault_of(text) != HEAD_BAD_HOST)
			fail_msg("%s", hosts[i]);
	}
}

static void refuses_bodies_where_none_belongs(void **state)
{
	assert_int_equal(fault_of("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"),
			 HEAD_UNWANTED_BODY);
	assert_int_equal(fault_of("HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
			 HEAD_UNWANTED_BODY);
	assert_int_equal(
		fault_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000000000\r\n\r\n"),
		HEAD_BAD_LENGTH);
}

/* --- limits --- */

static enum head_fault fault_of_size(size_t target, unsigned fields, size_t value)
{
	SCOPED_BUF text;
	size_t good;

	buf_init(&text, 1 << 20);
	buf_appendf(&text, "GET /");
	for (size_t i = 1; i < target; i++)
		buf_append_char(&text, 'a');
	buf_appendf(&text, " HTTP/1.1\r\nHost: a\r\n");
	for (unsigned i = 1; i < fields; i++)
		buf_appendf(&text, "X: a\r\n");
	buf_appendf(&text, "Y: ");
	for (size_t i = 0; i < value; i++)
		buf_append_char(&text, 'a');
	buf_appendf(&text, "\r\n\r\n");
	return (enum head_fault)check_all(buf_str(&text), &good).fault;
}

static void keeps_to_its_limits(void **state)
{
	const size_t rest = strlen("GET / HTTP/1.1\r\nHost: a\r\nY: \r\n\r\n");

	assert_int_equal(fault_of_size(HEAD_TARGET_MAX, 1, 1), HEAD_GOOD);
	assert_int_equal(fault_of_size(HEAD_TARGET_MAX + 1, 1, 1), HEAD_LONG_TARGET);
	assert_int_equal(fault_of_size(1, HEAD_FIELDS_MAX - 1, 1), HEAD_GOOD);
	assert_int_equal(fault_of_size(1, HEAD_FIELDS_MAX, 1), HEAD_TOO_LARGE);
	assert_int_equal(fault_of_size(1, 1, HEAD_BYTES_MAX - rest), HEAD_GOOD);
	assert_int_equal(fault_of_size(1, 1, HEAD_BYTES_MAX - rest + 2), HEAD_TOO_LARGE);
}

static void has_an_answer_for_each_fault(void **state)
{
	for (int i = HEAD_GOOD + 1; i < HEAD_FAULT_COUNT; i++) {
		const struct head_answer *a = head_fault_answer((enum head_fault)i);

		assert_true(a->status >= 400 && a->status < 600);
		assert_true(a->reason && a->sentence && a->word);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(judges_the_89_heads_as_wanted),
		cmocka_unit_test(passes_on_what_comes_before_a_bad_request),
		cmocka_unit_test(passes_nothing_on_after_a_fault),
		cmocka_unit_test(passes_nothing_of_a_piece_whose_request_began_before),
		cmocka_unit_test(skips_bodies_to_the_next_head),
		cmocka_unit_test(knows_where_it_stands),
		cmocka_unit_test(follows_chunks_of_any_size),
		cmocka_unit_test(accepts_what_clients_send),
		cmocka_unit_test(refuses_odd_hosts),
		cmocka_unit_test(refuses_bodies_where_none_belongs),
		cmocka_unit_test(keeps_to_its_limits),
		cmocka_unit_test(has_an_answer_for_each_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
