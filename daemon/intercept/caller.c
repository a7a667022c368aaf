/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intercept/caller - somebody who has not said yet what they want; what is done about it when they have.
 */
#include "intercept/priv.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include "common/alloc.h"
#include "common/log.h"

#include "common/banned.h"

#define GREETING "HTTP/1.1 200 Connection established\r\n\r\n"
#define TLS_HANDSHAKE 0x16
#define TARGET_MAX 300

/* Some programs show the reason and nothing else of the answer: it says the same in short. */
struct refusal {
	unsigned status;
	const char *reason;
	const char *sentence; /* behind the target, where there is one */
};

static const struct refusal not_listed = { 403, "Not in intercept.hosts or intercept.tunnel of hfcached",
					   "is in neither list of this cache: intercept.hosts has it served "
					   "here, intercept.tunnel passed through unread. "
					   "Or let the client go there by itself (NO_PROXY)." };
static const struct refusal wrong_port = { 403, "Only port 443 is in intercept.hosts of hfcached",
					   "is not served here: of the names in intercept.hosts only port "
					   "443 is. intercept.tunnel takes NAME:PORT." };
static const struct refusal not_covered = { 403, "Not covered by intercept.ca-file of hfcached",
					    "is in intercept.hosts, but the site CA of this cache "
					    "(intercept.ca-file) may not speak for it. A new CA is due: see "
					    "its log." };
static const struct refusal malformed = { 400, "Bad Request",
					  "This is no CONNECT NAME:PORT HTTP/1.1 as hfcached takes it." };
static const struct refusal not_tls = {
	400, "Bad Request",
	"Here is TLS, for names that lead to this cache, and CONNECT NAME:443 (intercept.listen)."
};
static const struct refusal too_long = { 431, "Request Header Fields Too Large",
					 "The head of a CONNECT may have 16 KiB." };
static const struct refusal too_slow = { 408, "Request Timeout",
					 "The head of a CONNECT must be whole within 10 s." };
static const struct refusal too_many = {
	503, "Service Unavailable",
	"Too many clients have not said yet what they want. Try again in a moment."
};

/* Behind the target, as all that have one. */
static const struct refusal no_place = {
	503, "No connection of hfcached is free",
	"must wait: all connections that this cache may carry for clients are taken. Try again in a moment."
};
static const struct refusal own_share = { 503, "Too many connections of this client through hfcached",
					  "must wait: this client has as many connections through this cache "
					  "as there are free ones for all others. "
					  "Try again when one of them has ended." };

static const char unreachable[] =
	"HTTP/1.1 502 Not reached by hfcached\r\nContent-Type: text/plain; charset=utf-8\r\n"
	"Content-Length: 62\r\nConnection: close\r\nCache-Control: no-store\r\n\r\n"
	"The host of this tunnel (intercept.tunnel) cannot be reached.\n";

struct caller *caller_new(struct intercept *i, int take_fd, const struct sockaddr_storage *from)
{
	struct caller *c = xcalloc(1, sizeof(*c));

	c->event = (struct event){ EVENT_CALLER, take_fd };
	c->owner = i;
	c->from = *from;
	list_init(&c->node);
	buf_init(&c->head, HEAD_MAX);
	return c;
}

void caller_free(struct caller *c)
{
	if (c->event.fd >= 0)
		(void)close(c->event.fd);
	buf_done(&c->head);
	free(c);
}

static const char *address_of(const struct caller *c, char ret_text[INET6_ADDRSTRLEN])
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&c->from;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&c->from;
	const void *address = c->from.ss_family == AF_INET6 ? (const void *)&v6->sin6_addr : &v4->sin_addr;

	return inet_ntop(c->from.ss_family, address, ret_text, INET6_ADDRSTRLEN) ? ret_text : "?";
}

static void log_refusal(const struct caller *c, const struct refusal *why, const char *target)
{
	char address[INET6_ADDRSTRLEN];

	log_info("intercept", "refused", LOG_TEXT("target", target),
		 LOG_TEXT("client", address_of(c, address)), LOG_U64("status", why->status),
		 LOG_TEXT("reason", why->reason), LOG_END);
	metrics_add(c->owner->opts.metrics, METRIC_INTERCEPTED, ROAD_REFUSED, 0, 0, 1);
}

static void send_refusal(int fd, const struct refusal *why, const char *target)
{
	size_t len = strlen(target) + (*target ? 1 : 0) + strlen(why->sentence) + 1;
	SCOPED_BUF text;

	buf_init(&text, 4096);
	buf_appendf(&text,
		    "HTTP/1.1 %u %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
		    "Connection: close\r\nX-Content-Type-Options: nosniff\r\nCache-Control: "
		    "no-store\r\n%s\r\n%s%s%s\n",
		    why->status, why->reason, len, why->status == 503 ? "Retry-After: 1\r\n" : "", target,
		    *target ? " " : "", why->sentence);
	/* one try: a client whose socket is full does not read answers */
	(void)send(fd, text.bytes, text.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)shutdown(fd, SHUT_WR);
}

/* It may read the answer before the connection goes: a close with bytes unread would take that away. */
static void refuse(struct caller *c, const struct refusal *why, const char *target)
{
	log_refusal(c, why, target);
	send_refusal(c->event.fd, why, target);
	c->is_leaving = true;
	c->until_mono_ms = clock_mono_ms(c->owner->opts.clock) + LEAVE_MS;
	buf_reset(&c->head);
}

/* Not a byte is taken from what TLS will read. -1: there is none yet. */
static int first_byte(const struct caller *c)
{
	unsigned char first = 0;

	return recv(c->event.fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) == 1 ? first : -1;
}

void caller_turn_away(struct caller *c)
{
	log_refusal(c, &too_many, "");
	/* who may be about to speak TLS takes no sentence in the clear */
	if (!c->may_be_tls || first_byte(c) == 'C')
		send_refusal(c->event.fd, &too_many, "");
	caller_free(c);
}

void caller_late(struct caller *c)
{
	if (c->is_leaving) {
		intercept_forget(c);
		caller_free(c);
		return;
	}
	refuse(c, &too_slow, "");
}

/* --- what they want --- */

/* splice took nobody: its client hears why, unless it waits for TLS. */
static void turn_down(struct caller *c, int error, bool is_listening, const char *target)
{
	const struct refusal *why = error == -EUSERS ? &own_share : &no_place;

	if (is_listening && intercept_keep(c) == 0) {
		refuse(c, why, target);
		return;
	}
	log_refusal(c, why, target);
	caller_free(c);
}

/* Nobody else may listen to it when splice begins. */
static void serve(struct caller *c, const char *greeting, struct str early, const char *target)
{
	struct intercept *i = c->owner;
	int r;

	intercept_forget(c);
	r = splice_unwrap(i->opts.splices, c->event.fd, &c->from, greeting, early, &i->host, i);
	if (r < 0) {
		turn_down(c, r, greeting != NULL, target);
		return;
	}
	c->event.fd = -1;
	metrics_add(i->opts.metrics, METRIC_INTERCEPTED, ROAD_SERVED, 0, 0, 1);
	caller_free(c);
}

static void tunnel(struct caller *c, const char *name, uint16_t port, bool is_local, struct str early,
		   const char *target)
{
	struct intercept *i = c->owner;
	int r;

	intercept_forget(c);
	r = splice_tunnel(i->opts.splices, c->event.fd, &c->from, early, name, port, is_local, GREETING,
			  unreachable);
	if (r < 0) {
		turn_down(c, r, true, target);
		return;
	}
	c->event.fd = -1;
	metrics_add(i->opts.metrics, METRIC_INTERCEPTED, ROAD_TUNNELLED, 0, 0, 1);
	caller_free(c);
}

/* Lower case, without a final dot. */
static char *plain_name(struct str name)
{
	char *text = str_dup(name);

	for (char *p = text; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	if (name.len && text[name.len - 1] == '.')
		text[name.len - 1] = 0;
	return text;
}

static void decide(struct caller *c, struct str name, uint16_t port, struct str early)
{
	const struct intercept_opts *o = &c->owner->opts;
	SCOPED_FREE char *plain = plain_name(name);
	bool is_ours = host_matches(o->hosts, str_from(plain)), is_local;
	char target[TARGET_MAX];

	(void)snprintf(target, sizeof(target), "%s:%u", plain, port);
	if (is_ours && port == 443 && ca_covers(o->ca, str_from(plain)))
		serve(c, GREETING, early, target);
	else if (is_ours && port == 443)
		refuse(c, &not_covered, target);
	else if (names_tunnel(o->tunnels, str_from(plain), port, &is_local))
		tunnel(c, plain, port, is_local, early, target);
	else
		refuse(c, is_ours ? &wrong_port : &not_listed, target);
}

void caller_look(struct caller *c)
{
	struct str text = buf_str(&c->head), name;
	uint16_t port;
	ssize_t len;

	if (c->is_leaving || text.len == 0)
		return;
	len = connect_head_parse(text, &name, &port);
	if (len == -EAGAIN && text.len == HEAD_MAX)
		refuse(c, &too_long, "");
	else if (len == -EINVAL)
		refuse(c, c->may_be_tls && !str_starts_with(text, STR("CONNECT")) ? &not_tls : &malformed,
		       "");
	else if (len > 0)
		decide(c, name, port, (struct str){ text.ptr + len, text.len - (size_t)len });
}

static bool is_tls(const struct caller *c)
{
	return c->may_be_tls && c->head.len == 0 && first_byte(c) == TLS_HANDSHAKE;
}

/* Returns what recv() does; what somebody who leaves still sends is thrown away. */
static ssize_t take_bytes(struct caller *c)
{
	char piece[2048];
	size_t room = HEAD_MAX - c->head.len;
	ssize_t n = recv(c->event.fd, piece, sizeof(piece) < room || c->is_leaving ? sizeof(piece) : room,
			 MSG_DONTWAIT);

	if (n > 0 && !c->is_leaving)
		(void)buf_append(&c->head, piece, (size_t)n);
	return n;
}

void caller_ready(struct caller *c)
{
	ssize_t n;

	if (!c->is_leaving && is_tls(c)) {
		serve(c, NULL, STR(""), "");
		return;
	}
	n = take_bytes(c);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		intercept_forget(c);
		caller_free(c);
	} else if (n > 0) {
		caller_look(c);
	}
}
