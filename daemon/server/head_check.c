/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/head_check - the strict check of request heads and body framing, one byte after the other.
 *
 *   START -> METHOD -> TARGET -> VERSION -> LINE_LF -> FIELD -> NAME -> VALUE -> VALUE_LF -.
 *                                                       ^ \______________________________ /
 *                                                       '-> END_LF -> START | BODY | CHUNK_SIZE
 *   CHUNK_SIZE -> CHUNK_SIZE_LF -> CHUNK -> CHUNK_CR -> CHUNK_LF -> CHUNK_SIZE
 *                               \-> LAST_CR -> LAST_LF -> START
 *   END_LF -> WAITING: a WebSocket was asked for
 *
 * Long runs (values, bodies) are passed over in inner loops; everything else costs one turn of the switch.
 */
#include "server/head_check.h"

#include <assert.h>

#include "common/banned.h"

enum state {
	START,
	START_LF,
	METHOD,
	TARGET,
	VERSION,
	LINE_LF,
	FIELD,
	NAME,
	VALUE,
	VALUE_LF,
	END_LF,
	BODY,
	CHUNK_SIZE,
	CHUNK_SIZE_LF,
	CHUNK,
	CHUNK_CR,
	CHUNK_LF,
	LAST_CR,
	LAST_LF,
	FAULT,
	WAITING,
};
enum special { PLAIN, HOST, LENGTH, CODING, EXPECT, COOKIE, UPGRADE };
/* Of a Host value: a name or address, then maybe a port. */
enum host_state { HOST_EMPTY, HOST_NAME, HOST_BRACKET, HOST_BRACKET_END, HOST_PORT, HOST_END };

void head_check_init(struct head_check *c)
{
	*c = (struct head_check){ .state = START };
}

bool head_check_in_head(const struct head_check *c)
{
	return c->state > START && c->state <= END_LF;
}

bool head_check_in_body(const struct head_check *c)
{
	return c->state >= BODY && c->state < FAULT;
}

size_t head_check_method(const struct head_check *c)
{
	return c->state == METHOD ? c->word_len : 0;
}

bool head_check_was_connect(const struct head_check *c)
{
	return c->fault == HEAD_FORBIDDEN_METHOD && c->word_len == strlen("CONNECT") &&
	       memcmp(c->word, "CONNECT", c->word_len) == 0;
}

bool head_check_waits(const struct head_check *c)
{
	return c->state == WAITING;
}

void head_check_go_on(struct head_check *c)
{
	if (c->state == WAITING)
		c->state = START;
}

static void fail(struct head_check *c, enum head_fault fault)
{
	c->fault = (uint8_t)fault;
	c->state = FAULT;
}

static bool is_token_byte(unsigned char b)
{
	if ((b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9'))
		return true;
	return b && strchr("!#$%&'*+-.^_`|~", b);
}

static bool is_digit(unsigned char b)
{
	return b >= '0' && b <= '9';
}

static int hex_value(unsigned char b)
{
	if (is_digit(b))
		return b - '0';
	b |= 0x20;
	return b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

static void word_add(struct head_check *c, unsigned char b)
{
	if (c->word_len < sizeof(c->word))
		c->word[c->word_len] = (char)b;
	if (c->word_len <= sizeof(c->word))
		c->word_len++;
}

static struct str word_of(const struct head_check *c)
{
	return c->word_len <= sizeof(c->word) ? (struct str){ c->word, c->word_len }
					      : (struct str){ NULL, 0 };
}

/* --- the request line --- */

static void end_method(struct head_check *c)
{
	static const char *const known[] = { "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS" };
	struct str method = word_of(c);

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (!str_eq(method, str_from(known[i])))
			continue;
		c->has_bodiless_method = i < 2;
		c->target_bytes = 0;
		c->state = TARGET;
		return;
	}
	if (str_eq(method, STR("PRI")))
		fail(c, HEAD_BAD_VERSION); /* the preface of HTTP/2 */
	else if (str_eq(method, STR("TRACE")) || str_eq(method, STR("CONNECT")))
		fail(c, HEAD_FORBIDDEN_METHOD);
	else
		fail(c, HEAD_BAD_METHOD);
}

static void on_method(struct head_check *c, unsigned char b)
{
	if (b == ' ')
		end_method(c);
	else if (is_token_byte(b))
		word_add(c, b);
	else
		fail(c, HEAD_BAD_LINE);
}

static void on_target(struct head_check *c, unsigned char b)
{
	if (b == ' ' && c->target_bytes > 0) {
		c->word_len = 0;
		c->state = VERSION;
	} else if (b <= ' ' || b == 0x7f || b == '#' || (c->target_bytes == 0 && b != '/')) {
		fail(c, HEAD_BAD_TARGET);
	} else if (c->target_bytes == HEAD_TARGET_MAX) {
		fail(c, HEAD_LONG_TARGET);
	} else {
		c->target_bytes++;
	}
}

static void end_version(struct head_check *c)
{
	struct str v = word_of(c);

	if (str_eq(v, STR("HTTP/1.1")) || str_eq(v, STR("HTTP/1.0"))) {
		c->is_http10 = v.ptr[7] == '0';
		c->state = LINE_LF;
		return;
	}
	if (v.len == 8 && str_starts_with(v, STR("HTTP/")) && is_digit((unsigned char)v.ptr[5]) &&
	    v.ptr[6] == '.' && is_digit((unsigned char)v.ptr[7]))
		fail(c, HEAD_BAD_VERSION);
	else
		fail(c, HEAD_BAD_LINE);
}

static void on_version(struct head_check *c, unsigned char b)
{
	if (b == '\r')
		end_version(c);
	else if (b <= ' ' || b >= 0x7f || c->word_len == 8)
		fail(c, HEAD_BAD_LINE);
	else
		word_add(c, b);
}

/* --- fields --- */

static void begin_field(struct head_check *c, unsigned char b)
{
	if (b == '\r') {
		c->state = END_LF;
	} else if (b == ' ' || b == '\t') {
		fail(c, HEAD_FOLDED);
	} else if (!is_token_byte(b)) {
		fail(c, HEAD_BAD_FIELD);
	} else if (c->fields == HEAD_FIELDS_MAX) {
		fail(c, HEAD_TOO_LARGE);
	} else {
		c->fields++;
		c->word_len = 0;
		word_add(c, b);
		c->state = NAME;
	}
}

/* Each of those that decide about framing may come once. */
static void once(struct head_check *c, bool *has, enum special special, enum head_fault fault)
{
	if (*has) {
		fail(c, fault);
		return;
	}
	*has = true;
	c->special = (uint8_t)special;
}

static void end_name(struct head_check *c)
{
	struct str name = word_of(c);

	c->state = VALUE;
	c->special = PLAIN;
	c->host_state = HOST_EMPTY;
	if (str_eq_nocase(name, STR("Host")))
		once(c, &c->has_host, HOST, HEAD_BAD_HOST);
	else if (str_eq_nocase(name, STR("Content-Length")))
		once(c, &c->has_length, LENGTH, HEAD_BAD_LENGTH);
	else if (str_eq_nocase(name, STR("Transfer-Encoding")))
		once(c, &c->has_coding, CODING, HEAD_BAD_CODING);
	else if (str_eq_nocase(name, STR("Expect")))
		c->special = EXPECT;
	else if (str_eq_nocase(name, STR("Cookie")))
		c->special = COOKIE;
	else if (str_eq_nocase(name, STR("Upgrade")))
		c->special = UPGRADE;
	c->word_len = 0;
}

static void on_name(struct head_check *c, unsigned char b)
{
	if (b == ':')
		end_name(c);
	else if (is_token_byte(b))
		word_add(c, b);
	else
		fail(c, HEAD_BAD_FIELD);
}

static bool is_host_byte(unsigned char b)
{
	return (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || is_digit(b) || b == '.' || b == '-' ||
	       b == '_';
}

static void on_host(struct head_check *c, unsigned char b)
{
	bool ok = true;

	switch ((enum host_state)c->host_state) {
	case HOST_EMPTY:
		if (b == ' ' || b == '\t')
			return;
		ok = b == '[' || is_host_byte(b);
		c->host_state = b == '[' ? HOST_BRACKET : HOST_NAME;
		break;
	case HOST_BRACKET:
		ok = b == ']' || b == ':' || b == '.' || hex_value(b) >= 0;
		if (b == ']')
			c->host_state = HOST_BRACKET_END;
		break;
	case HOST_NAME:
	case HOST_BRACKET_END:
		if (b == ':')
			c->host_state = HOST_PORT;
		else if (b == ' ' || b == '\t')
			c->host_state = HOST_END;
		else
			ok = c->host_state == HOST_NAME && is_host_byte(b);
		break;
	case HOST_PORT:
		ok = is_digit(b);
		if (b == ' ' || b == '\t') {
			ok = true;
			c->host_state = HOST_END;
		}
		break;
	case HOST_END:
		ok = b == ' ' || b == '\t';
		break;
	}
	if (!ok)
		fail(c, HEAD_BAD_HOST);
}

static void end_length(struct head_check *c, struct str value)
{
	/* 18 digits: anything longer is no file, and cannot overflow what reads it later */
	if (value.len == 0 || value.len > 18 || parse_u64(value, &c->length) < 0)
		fail(c, HEAD_BAD_LENGTH);
}

static void end_value(struct head_check *c)
{
	struct str value = str_trim(word_of(c));

	c->state = VALUE_LF;
	switch ((enum special)c->special) {
	case PLAIN:
	case COOKIE:
		break;
	case UPGRADE: /* others than this one we never take, so that what follows is HTTP */
		c->wants_upgrade = c->wants_upgrade || str_eq_nocase(value, STR("websocket"));
		break;
	case HOST:
		if (c->host_state == HOST_EMPTY || c->host_state == HOST_BRACKET)
			fail(c, HEAD_BAD_HOST);
		break;
	case LENGTH:
		end_length(c, value);
		break;
	case CODING:
		if (!str_eq(value, STR("chunked")))
			fail(c, HEAD_BAD_CODING);
		break;
	case EXPECT:
		if (!str_eq_nocase(value, STR("100-continue")))
			fail(c, HEAD_BAD_EXPECT);
		break;
	}
}

/* The library copies cookies, and makes a list entry of each; nobody reads them. They count for what they cost. */
static void on_cookie(struct head_check *c, unsigned char b)
{
	c->head_bytes++;
	if (b != ';' && b != ',')
		return;
	if (c->fields == HEAD_FIELDS_MAX)
		fail(c, HEAD_TOO_LARGE);
	else
		c->fields++;
}

static void on_value(struct head_check *c, unsigned char b)
{
	if (b == '\r')
		end_value(c);
	else if ((b < ' ' && b != '\t') || b == 0x7f)
		fail(c, HEAD_BAD_BYTE);
	else if (c->special == HOST)
		on_host(c, b);
	else if (c->special == COOKIE)
		on_cookie(c, b);
	else if (c->special != PLAIN)
		word_add(c, b);
}

/* How many bytes of a value that nobody looks into can be passed over at once. */
static size_t plain_run(const struct head_check *c, const char *bytes, size_t len)
{
	size_t max = (size_t)(HEAD_BYTES_MAX - c->head_bytes), n = 0;

	if (c->state != VALUE || c->special != PLAIN)
		return 0;
	if (len < max)
		max = len;
	while (n < max && (unsigned char)bytes[n] >= ' ' && bytes[n] != 0x7f)
		n++;
	return n;
}

static void end_head(struct head_check *c)
{
	if (!c->has_host && !c->is_http10) {
		fail(c, HEAD_BAD_HOST);
		return;
	}
	if (c->has_coding && (c->has_length || c->is_http10)) {
		fail(c, HEAD_BAD_CODING);
		return;
	}
	if (c->has_bodiless_method && (c->has_coding || c->length > 0)) {
		fail(c, HEAD_UNWANTED_BODY);
		return;
	}
	c->heads++;
	c->body_left = c->has_coding ? 0 : c->length;
	c->word_len = 0;
	c->state = c->has_coding ? CHUNK_SIZE : c->length ? BODY : START;
	if (c->wants_upgrade && c->has_bodiless_method && !c->is_http10)
		c->state = WAITING;
}

/* --- between requests --- */

static void begin_head(struct head_check *c)
{
	uint32_t heads = c->heads;

	head_check_init(c);
	c->heads = heads;
	c->state = METHOD;
}

static void on_start(struct head_check *c, unsigned char b)
{
	if (b == '\r' && c->state == START) {
		c->state = START_LF; /* RFC 9112 2.2: an empty line before a request line */
		c->head_bytes = 1;
		return;
	}
	begin_head(c);
	on_method(c, b);
}

static void expect_byte(struct head_check *c, unsigned char b, char wanted, enum state next,
			enum head_fault fault)
{
	if (b == (unsigned char)wanted)
		c->state = (uint8_t)next;
	else
		fail(c, fault);
}

/* --- chunks --- */

static void on_chunk_size(struct head_check *c, unsigned char b)
{
	int v = hex_value(b);

	if (b == '\r' && c->word_len > 0) {
		c->state = CHUNK_SIZE_LF;
	} else if (v < 0 ||
		   c->word_len ==
			   15) { /* 15 digits: no overflow, here or in the library; extensions: refused */
		fail(c, HEAD_BAD_CHUNK);
	} else {
		c->body_left = c->body_left << 4 | (uint64_t)v;
		c->word_len++;
	}
}

static void begin_chunk_size(struct head_check *c, unsigned char b)
{
	expect_byte(c, b, '\n', CHUNK_SIZE, HEAD_BAD_CHUNK);
	c->body_left = 0;
	c->word_len = 0;
}

static size_t skip_body(struct head_check *c, size_t len)
{
	size_t n = c->body_left < len ? (size_t)c->body_left : len;

	c->body_left -= n;
	if (c->body_left == 0)
		c->state = c->state == BODY ? START : CHUNK_CR;
	return n;
}

static void on_byte(struct head_check *c, unsigned char b)
{
	switch ((enum state)c->state) {
	case START:
		on_start(c, b);
		break;
	case START_LF:
		if (b == '\n')
			begin_head(c);
		else
			fail(c, HEAD_BAD_LINE);
		break;
	case METHOD:
		on_method(c, b);
		break;
	case TARGET:
		on_target(c, b);
		break;
	case VERSION:
		on_version(c, b);
		break;
	case LINE_LF:
	case VALUE_LF:
		expect_byte(c, b, '\n', FIELD, HEAD_BAD_BYTE);
		break;
	case FIELD:
		begin_field(c, b);
		break;
	case NAME:
		on_name(c, b);
		break;
	case VALUE:
		on_value(c, b);
		break;
	case END_LF:
		if (b == '\n')
			end_head(c);
		else
			fail(c, HEAD_BAD_BYTE);
		break;
	case CHUNK_SIZE:
		on_chunk_size(c, b);
		break;
	case CHUNK_SIZE_LF:
		expect_byte(c, b, '\n', c->body_left ? CHUNK : LAST_CR, HEAD_BAD_CHUNK);
		break;
	case CHUNK_CR:
		expect_byte(c, b, '\r', CHUNK_LF, HEAD_BAD_CHUNK);
		break;
	case CHUNK_LF:
		begin_chunk_size(c, b);
		break;
	case LAST_CR: /* anything else would be a trailer */
		expect_byte(c, b, '\r', LAST_LF, HEAD_BAD_CHUNK);
		break;
	case LAST_LF:
		expect_byte(c, b, '\n', START, HEAD_BAD_CHUNK);
		break;
	case BODY:
	case CHUNK:
	case FAULT:
	case WAITING:
		assert(!"runs are not read byte by byte");
	}
}

/* One byte, or one run of bytes. */
static size_t step(struct head_check *c, const char *bytes, size_t len)
{
	size_t n;

	if (c->state == BODY || c->state == CHUNK)
		return skip_body(c, len);
	n = plain_run(c, bytes, len);
	if (n > 0) {
		c->head_bytes = (uint16_t)(c->head_bytes + n);
		return n;
	}
	on_byte(c, (unsigned char)bytes[0]);
	if (head_check_in_head(c) && ++c->head_bytes > HEAD_BYTES_MAX)
		fail(c, HEAD_TOO_LARGE);
	return 1;
}

size_t head_check_feed(struct head_check *c, const char *bytes, size_t len)
{
	size_t at = 0, request = 0; /* where the request that is being read began */

	if (c->state == FAULT || c->state == WAITING)
		return 0;
	while (at < len && c->state != WAITING) {
		if (c->state == START)
			request = at;
		at += step(c, bytes + at, len - at);
		if (c->state == FAULT)
			return request;
	}
	return at;
}
