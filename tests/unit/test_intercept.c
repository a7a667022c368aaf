/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Proves how the head of a CONNECT is read, and what the two lists of names take. The roads themselves are proved on the wire
 * (tests/e2e/test_intercept.py).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "intercept/priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

static ssize_t parse(const char *text, char ret_name[300], uint16_t *ret_port)
{
	struct str name = STR("");
	ssize_t len = connect_head_parse(str_from(text), &name, ret_port);

	(void)snprintf(ret_name, 300, "%.*s", STR_ARGS(name));
	return len;
}

static void reads_name_and_port_of_a_whole_head(void **state)
{
	static const struct {
		const char *text, *name;
		uint16_t port;
	} good[] = {
		{ "CONNECT router.huggingface.co:443 HTTP/1.1\r\nHost: router.huggingface.co:443\r\n\r\n",
		  "router.huggingface.co", 443 },
		{ "CONNECT Router.HuggingFace.co.:443 HTTP/1.0\r\n\r\n", "Router.HuggingFace.co.", 443 },
		{ "CONNECT localhost:1 HTTP/1.1\r\n\r\n", "localhost", 1 },
		{ "CONNECT 10.1.2.3:65535 HTTP/1.1\r\n\r\n", "10.1.2.3", 65535 },
		{ "CONNECT [2001:db8::1]:443 HTTP/1.1\r\n\r\n", "[2001:db8::1]", 443 },
		{ "CONNECT a_b.example.org:443 HTTP/1.1\r\nProxy-Authorization: Basic "
		  "eDp5\r\nA:\tb\xc3\xa4\r\nContent-Length: 0\r\n\r\n",
		  "a_b.example.org", 443 },
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		char name[300];
		uint16_t port = 0;

		assert_int_equal(parse(good[i].text, name, &port), strlen(good[i].text));
		assert_string_equal(name, good[i].name);
		assert_int_equal(port, good[i].port);
	}
}

static void leaves_what_follows_the_head(void **state)
{
	char name[300];
	uint16_t port;

	assert_int_equal(parse("CONNECT a.b:443 HTTP/1.1\r\n\r\n\x16\x03\x01\n", name, &port), 28);
}

static void waits_for_a_head_that_is_not_whole(void **state)
{
	static const char head[] = "CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\n\r\n";
	struct str name;
	uint16_t port;

	for (size_t len = 0; len < sizeof(head) - 1; len++)
		assert_int_equal(connect_head_parse((struct str){ head, len }, &name, &port), -EAGAIN);
	assert_int_equal(connect_head_parse((struct str){ head, sizeof(head) - 1 }, &name, &port),
			 sizeof(head) - 1);
}

static void refuses_what_two_programs_could_read_differently(void **state)
{
	static const char *const bad[] = {
		"GET / HTTP/1.1\r\n\r\n",
		"connect a.b:443 HTTP/1.1\r\n\r\n",
		"CONNECTX a.b:443 HTTP/1.1\r\n\r\n",
		"CONNECT  a.b:443 HTTP/1.1\r\n\r\n",
		"CONNECT a.b:443  HTTP/1.1\r\n\r\n",
		"CONNECT a.b:443 HTTP/1.1 \r\n\r\n",
		"CONNECT a.b:443 HTTP/2.0\r\n\r\n",
		"CONNECT a.b:443 http/1.1\r\n\r\n",
		"CONNECT a.b:443\r\n\r\n",
		"CONNECT a.b HTTP/1.1\r\n\r\n",
		"CONNECT a.b: HTTP/1.1\r\n\r\n",
		"CONNECT :443 HTTP/1.1\r\n\r\n",
		"CONNECT a.b:0 HTTP/1.1\r\n\r\n",
		"CONNECT a.b:65536 HTTP/1.1\r\n\r\n",
		"CONNECT a.b:000443 HTTP/1.1\r\n\r\n",
		"CONNECT a.b:+443 HTTP/1.1\r\n\r\n",
		"CONNECT a.b:443x HTTP/1.1\r\n\r\n",
		"CONNECT u@a.b:443 HTTP/1.1\r\n\r\n",
		"CONNECT a.b:443/ HTTP/1.1\r\n\r\n",
		"CONNECT https://a.b:443 HTTP/1.1\r\n\r\n",
		"CONNECT a..b:443 HTTP/1.1\r\n\r\n",
		"CONNECT -a.b:443 HTTP/1.1\r\n\r\n",
		"CONNECT a.b:443:443 HTTP/1.1\r\n\r\n",
		"CONNECT ::1:443 HTTP/1.1\r\n\r\n",
		"CONNECT [::1:443 HTTP/1.1\r\n\r\n",
		"CONNECT [a.b]:443 HTTP/1.1\r\n\r\n",
		"CONNECT 1.2.3:443 HTTP/1.1\r\n\r\n",
		"CONNECT a.b:443 HTTP/1.1\n\n",
		"CONNECT a.b:443 HTTP/1.1\r\nA: b\n\r\n",
		"CONNECT a.b:443 HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
		"CONNECT a.b:443 HTTP/1.1\r\n A: folded\r\n\r\n",
		"CONNECT a.b:443 HTTP/1.1\r\nA : b\r\n\r\n",
		"CONNECT a.b:443 HTTP/1.1\r\n: b\r\n\r\n",
		"CONNECT a.b:443 HTTP/1.1\r\nno colon\r\n\r\n",
		"CONNECT a.b:443 HTTP/1.1\r\nA: b\x01\r\n\r\n",
		"CONNECT a.b:443 HTTP/1.1\r\nA: b\x7f\r\n\r\n",
		"CONNECT a.b:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
		"CONNECT a.b:443 HTTP/1.1\r\nContent-Length: 0, 0\r\n\r\n",
		"CONNECT a.b:443 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
		/* seen before it is whole */
		"G",
		"CONNECT a.b:443\n",
		"CONNECT a\x01",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char name[300];
		uint16_t port;

		if (parse(bad[i], name, &port) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
	}
}

static void refuses_too_many_fields_and_bytes_of_nothing(void **state)
{
	SCOPED_BUF text;
	struct str name;
	uint16_t port;

	buf_init(&text, 65536);
	buf_append_str(&text, STR("CONNECT a.b:443 HTTP/1.1\r\n"));
	for (unsigned i = 0; i < 101; i++)
		buf_append_str(&text, STR("A: b\r\n"));
	buf_append_str(&text, STR("\r\n"));
	assert_int_equal(connect_head_parse(buf_str(&text), &name, &port), -EINVAL);
	assert_int_equal(
		connect_head_parse((struct str){ "CONNECT a\0b:443 HTTP/1.1\r\n\r\n", 28 }, &name, &port),
		-EINVAL);
}

static bool tunnels(const char *list, const char *name, uint16_t port, bool *ret_is_local)
{
	const char *const patterns[] = { list, NULL };

	return names_tunnel(patterns, str_from(name), port, ret_is_local);
}

static void tunnels_to_what_is_listed_at_its_port_only(void **state)
{
	static const struct {
		const char *pattern, *name;
		uint16_t port;
		bool is_taken, is_local;
	} cases[] = {
		{ "wheels.example", "wheels.example", 443, true, false },
		{ "wheels.example", "wheels.example", 22, false, false },
		{ "wheels.example", "wheels.example", 80, false, false },
		{ "wheels.example", "files.wheels.example", 443, false, false },
		{ "*.wheels.example", "files.wheels.example", 443, true, false },
		{ "*.wheels.example", "wheels.example", 443, false, false },
		{ "Wheels.Example", "wheels.example", 443, true, false },
		{ "wheels.example:8443", "wheels.example", 8443, true, false },
		{ "wheels.example:8443", "wheels.example", 443, false, false },
		{ "*", "anything.example", 443, true, false },
		{ "*", "anything.example", 22, false, false },
		{ "*:8443", "anything.example", 8443, true, false },
		/* an address is local only by its own name */
		{ "*", "127.0.0.1", 443, true, false },
		{ "127.0.0.1", "127.0.0.1", 443, true, true },
		{ "127.0.0.1:8443", "127.0.0.1", 8443, true, true },
		{ "127.0.0.1", "127.0.0.2", 443, false, false },
		{ "[::1]:443", "[::1]", 443, true, true },
		{ "[0:0:0:0:0:0:0:1]", "[::1]", 443, true, true },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool is_local = true;

		if (tunnels(cases[i].pattern, cases[i].name, cases[i].port, &is_local) != cases[i].is_taken ||
		    is_local != cases[i].is_local)
			fail_msg("%s %s %u", cases[i].pattern, cases[i].name, cases[i].port);
	}
	assert_false(names_tunnel(NULL, STR("a.b"), 443, &(bool){ false }));
}

static int check(const char *host, const char *tunnel)
{
	const char *const hosts[] = { host, NULL }, *const tunnel_list[] = { tunnel, NULL };
	char *reason = NULL;
	int r = intercept_check(NULL, hosts, tunnel_list, &reason);

	assert_true((r < 0) == (reason != NULL));
	if (reason)
		assert_non_null(strstr(reason, "intercept."));
	free(reason);
	return r;
}

static void says_which_word_of_a_list_is_none(void **state)
{
	static const char *const bad_hosts[] = { "*",         "*.co",      "co",     "https://hf.co",
						 "hf.co:443", "127.0.0.1", "a..b.c", "hf.co/x",
						 "[::1]",     "*.*.hf.co" };
	static const char *const bad_tunnels[] = { "https://wheels.example",
						   "wheels.example:0",
						   "wheels.example:70000",
						   "wheels.example:x",
						   "wheels.example/x",
						   "*wheels.example",
						   "[::1",
						   "" };

	for (size_t i = 0; i < sizeof(bad_hosts) / sizeof(bad_hosts[0]); i++)
		assert_int_equal(check(bad_hosts[i], NULL), -EINVAL);
	for (size_t i = 0; i < sizeof(bad_tunnels) / sizeof(bad_tunnels[0]); i++)
		assert_int_equal(check(NULL, bad_tunnels[i]), -EINVAL);
	assert_int_equal(check("*.huggingface.co", "*"), 0);
	assert_int_equal(check("Router.HuggingFace.co", "10.0.0.1:8443"), 0);
	assert_int_equal(check("hf.co", "registry:8443"), 0);
}

static struct sockaddr_storage at(const char *host, uint16_t port)
{
	struct sockaddr_storage a = { 0 };
	struct sockaddr_in *v4 = (struct sockaddr_in *)&a;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a;

	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
	} else {
		assert_int_equal(inet_pton(AF_INET6, host, &v6->sin6_addr), 1);
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
	}
	return a;
}

static void knows_the_addresses_of_a_listener(void **state)
{
	static const struct {
		const char *bound, *address;
		uint16_t bound_port, port;
		bool is_own;
	} cases[] = {
		{ "127.0.0.1", "127.0.0.1", 443, 443, true },
		{ "127.0.0.1", "127.0.0.1", 443, 444, false },
		{ "127.0.0.1", "127.0.0.2", 443, 443, false },
		{ "0.0.0.0", "127.0.0.2", 443, 443, true },
		{ "0.0.0.0", "192.0.2.1", 443, 443, false },
		{ "0.0.0.0", "127.0.0.2", 443, 80, false },
		{ "::1", "::1", 443, 443, true },
		{ "::", "2001:db8::1", 443, 443, false },
		{ "::", "127.0.0.1", 443, 443, false },
		{ "127.0.0.1", "::1", 443, 443, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sockaddr_storage bound = at(cases[i].bound, cases[i].bound_port),
					address = at(cases[i].address, cases[i].port);

		if (listen_is_at(&bound, (const struct sockaddr *)&address) != cases[i].is_own)
			fail_msg("%s:%u %s:%u", cases[i].bound, cases[i].bound_port, cases[i].address,
				 cases[i].port);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_name_and_port_of_a_whole_head),
		cmocka_unit_test(leaves_what_follows_the_head),
		cmocka_unit_test(waits_for_a_head_that_is_not_whole),
		cmocka_unit_test(refuses_what_two_programs_could_read_differently),
		cmocka_unit_test(refuses_too_many_fields_and_bytes_of_nothing),
		cmocka_unit_test(tunnels_to_what_is_listed_at_its_port_only),
		cmocka_unit_test(says_which_word_of_a_list_is_none),
		cmocka_unit_test(knows_the_addresses_of_a_listener),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
