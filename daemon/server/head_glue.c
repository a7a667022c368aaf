/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/head_glue - from the library's view of a request head to struct request: fields, Host, base, id, subject, body.
 *
 * Promises  (1) the token is in request->subject and nowhere else: not among the headers that handlers see.
 *           (2) with server.public-url or server.hosts set, another Host is 421 before any routing (P07); not on unix
 *               sockets, whose clients cannot be a web page.
 *           (3) an intercepted client means the Hub: for it there are the Hub's names and paths, and nothing of ours (N08).
 */
#include "server/priv.h"

#include <errno.h>
#include <stdio.h>
#include "common/alloc.h"
#include "common/hash.h"
#include "common/http/host.h"

#include "common/banned.h"

static enum MHD_Result take_field(void *ctx, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct headers *h = ctx;

	/* the head check let only values through that headers_add takes */
	(void)headers_add(h, str_from(name), str_trim(str_from(value ? value : "")));
	return MHD_YES;
}

static void take_away_authorization(struct headers *h)
{
	for (size_t i = 0; i < h->count; i++)
		if (str_eq_nocase(str_from(h->fields[i].name), STR("Authorization")))
			secret_wipe(h->fields[i].value, strlen(h->fields[i].value));
	headers_remove(h, STR("Authorization"));
}

static bool is_sane_id(struct str s)
{
	if (s.len == 0 || s.len >= sizeof(((struct request *)NULL)->id))
		return false;
	for (size_t i = 0; i < s.len; i++) {
		unsigned char b = (unsigned char)s.ptr[i];

		if (!((b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9') ||
		      strchr("=;:_-", b)))
			return false;
	}
	return true;
}

/* 16 hex digits that differ: a counter, mixed so that neighbours do not look alike (splitmix64). */
static uint64_t next_id(struct loop *l)
{
	uint64_t z = l->id_seed += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static void name_request(struct exchange *x)
{
	struct request *q = &x->request;
	struct str given = request_header(q, STR("X-Request-Id"));

	if (!is_sane_id(given))
		given = request_header(q, STR("X-Amzn-Trace-Id")); /* what huggingface_hub sends */
	if (is_sane_id(given))
		(void)snprintf(q->id, sizeof(q->id), "%.*s", STR_ARGS(given));
	else
		(void)snprintf(q->id, sizeof(q->id), "%016llx", (unsigned long long)next_id(x->conn->loop));
}

static void name_base(struct exchange *x)
{
	const struct server *s = x->conn->loop->server;
	struct request *q = &x->request;
	struct str host = request_header(q, STR("Host"));

	q->host = host.len ? str_dup(host) : xstrdup(s->address); /* HTTP/1.0 may leave it out */
	if (x->conn->is_intercepted)
		q->base = xasprintf("https://%s", q->host);
	else
		q->base = s->public_url ? xstrdup(s->public_url) : xasprintf("http://%s", q->host);
}

/* Whoever balances load asks by address, and learns nothing but that we live. */
static bool is_health_path(struct str path)
{
	return str_eq(path, STR("/-/healthz")) || str_eq(path, STR("/-/readyz"));
}

/* Whoever sits at the machine reads its pages by its own address; no page from elsewhere can be served under these names. */
static bool is_loopback_name(struct str host)
{
	static const char *const names[] = { "127.0.0.1", "localhost", "[::1]" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct str name = str_from(names[i]);

		if (str_starts_with(host, name) && (host.len == name.len || host.ptr[name.len] == ':'))
			return true;
	}
	return false;
}

static bool host_is_served(const struct exchange *x)
{
	const struct server *s = x->conn->loop->server;
	struct str host = str_from(x->request.host), name;

	if (x->conn->is_intercepted)
		return host_matches((const char *const *)s->intercepted_hosts, host_without_port(host));
	if (!s->hosts || x->conn->is_unix || is_health_path(x->request.path))
		return true;
	if (str_starts_with(x->request.path, STR("/-/")) && is_loopback_name(host))
		return true;
	/* clients make the dataset viewer's name out of ours (hub-protocol 1.7) */
	if (str_starts_with(host, STR("datasets-server."))) {
		host = (struct str){ host.ptr + strlen("datasets-server."),
				     host.len - strlen("datasets-server.") };
	}
	name = host_without_port(host);
	for (char **served = s->hosts; *served; served++)
		if (str_eq_nocase(host, str_from(*served)) || str_eq_nocase(name, str_from(*served)))
			return true;
	return false;
}

static void read_body_size(struct request *q)
{
	uint64_t size = 0;

	if (request_header(q, STR("Transfer-Encoding")).ptr)
		q->body_bytes = -1;
	else if (parse_u64(request_header(q, STR("Content-Length")), &size) == 0)
		q->body_bytes = (int64_t)size; /* at most 18 digits: the head check */
}

static int refuse(struct exchange *x, int status, const char *sentence)
{
	reply_text(&x->reply, status, "text/plain; charset=utf-8", str_from(sentence));
	x->reply.close = true;
	return 1;
}

/* Uploads go to addresses that hub/ hands out; all else of ours is nothing that the Hub has. */
static bool is_hidden(const struct exchange *x)
{
	struct str path = x->request.path;

	return x->conn->is_intercepted && !str_starts_with(path, STR("/-/upload/")) &&
	       (str_eq(path, STR("/")) || str_eq(path, STR("/-")) || str_starts_with(path, STR("/-/")));
}

static int refuse_subject(struct exchange *x, int error)
{
	if (error == -EPERM)
		return refuse(
			x, 403,
			"This server takes no tokens in the clear (server.strict). Use its https address.\n");
	if (error != -EBUSY)
		return refuse(x, 400, "The Authorization field is malformed, repeated or too long.\n");
	(void)headers_set(&x->reply.headers, STR("Retry-After"), STR("60"));
	return refuse(
		x, 429,
		"Too many invalid tokens came from this address; tokens that are not known here are refused "
		"for a minute.\n");
}

/* An intercepted client is told from others: what an address alone opens is not for every program that a proxy was set for. */
static int subject_of(struct exchange *x)
{
	struct request *q = &x->request;
	char client[CONN_PEER_MAX + 8];

	(void)snprintf(client, sizeof(client), "%s%s", q->is_intercepted ? "tls:" : "", q->client);
	return auth_subject(x->conn->loop->server->auth, &q->headers, str_from(client), &q->subject);
}

int glue_read_head(struct exchange *x, const char *method, const char *version)
{
	struct server *s = x->conn->loop->server;
	struct request *q = &x->request;
	int error;

	q->method = xstrdup(method);
	q->is_head = strcmp(method, "HEAD") == 0;
	q->is_http10 = strcmp(version, "HTTP/1.0") == 0;
	q->client = xstrdup(x->conn->peer);
	q->is_admin = x->conn->is_admin;
	q->is_intercepted = x->conn->is_intercepted;
	(void)MHD_get_connection_values(x->conn->library, MHD_HEADER_KIND, take_field, &q->headers);
	read_body_size(q);
	name_request(x);
	name_base(x);
	error = subject_of(x);
	q->has_valid_subject = error == 0;
	take_away_authorization(&q->headers);
	if (!host_is_served(x)) {
		metrics_add(s->metrics, METRIC_HTTP_REJECTED, REJECTED_HOST, 0, 0, 1);
		return refuse(
			x, 421,
			x->conn->is_intercepted
				? "This cache does not stand in for that name "
				  "(intercept.hosts).\n"
				: "This cache does not serve that Host. Use the address it was set up with "
				  "(server.public-url, "
				  "server.hosts).\n");
	}
	if (is_hidden(x))
		return refuse(x, 404, "There is no such page here.\n");
	if (error == 0)
		return 0;
	(void)refuse_subject(x, error);
	/* a page that sent its own token may read what is wrong with it */
	if (!str_starts_with(q->path, STR("/-/")))
		reply_add_standard(&x->reply, q);
	return 1;
}
