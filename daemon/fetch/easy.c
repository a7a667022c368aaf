/* SPDX-License-Identifier: Apache-2.0 */
/*
 * easy - one libcurl handle for one hop: its options, its callbacks (trampolines), its errors.
 *
 * Owns      the handle and its list of fields, from easy_start_hop() to easy_end_hop().
 * Never     decides: a callback checks the magic number, calls one function of hop.c, translates the result.
 * Threads   fetch.
 * Promises  (1) the target goes out byte for byte: libcurl gets the origin as URL, the rest as REQUEST_TARGET.
 *           (2) a field that is not known to be harmless goes to the asked origin only (reliability 0.3 (7)), and one
 *               that came with an address to that address only.
 */
#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/hash.h"
#include "common/log.h"
#include "fetch/priv.h"

#include "common/banned.h"

/* libcurl hands bodies over in 16 KiB pieces, but reads the socket in pieces of this size. It allocates one of them, and while the
 * transfer is paused another, for what was read and not taken. */
#define RECEIVE_BUFFER_BYTES (64 * 1024L)
#define SMALL_BUFFER_BYTES (16 * 1024L)
/* A request with a body cannot be repeated when its connection turns out to be dead: use fresh ones. */
#define IDLE_FOR_BODY_MAX_S 10L
/* Many of the programs behind a backend close an idle connection after 5 s. */
#define IDLE_FOR_BACKEND_MAX_S 3L
/* It is near, and another one may be waiting to be asked. */
#define BACKEND_CONNECT_MS 2000L

struct transfer *transfer_from(void *p)
{
	struct transfer *t = p;

	assert(t && t->magic == TRANSFER_MAGIC);
	return t;
}

/* --- trampolines ---------------------------------------------------------------------------------------- */

static size_t on_header(char *bytes, size_t size, size_t count, void *p)
{
	struct transfer *t = transfer_from(p);

	return transfer_take_line(t, (struct str){ bytes, size * count }) < 0 ? 0 : size * count;
}

static size_t on_write(char *bytes, size_t size, size_t count, void *p)
{
	ssize_t r = transfer_take_body(transfer_from(p), bytes, size * count);

	if (r == FETCH_PAUSE)
		return CURL_WRITEFUNC_PAUSE;
	return r < 0 ? CURL_WRITEFUNC_ERROR : size * count;
}

static size_t on_read(char *bytes, size_t size, size_t count, void *p)
{
	ssize_t r = transfer_give_body(transfer_from(p), bytes, size * count);

	if (r == FETCH_PAUSE)
		return CURL_READFUNC_PAUSE;
	return r < 0 ? CURL_READFUNC_ABORT : (size_t)r;
}

/* Which limit of our own side an errno of a socket stands for, one word for each (policy_is_own_limit()); 0: none. */
static int own_limit(int error)
{
	switch (error) {
	case EMFILE:
	case ENFILE:
		return -EMFILE;
	case ENOBUFS:
	case ENOMEM:
		return -ENOBUFS;
	case EADDRNOTAVAIL: /* no local port is left */
		return -EADDRNOTAVAIL;
	case EACCES:
	case EPERM: /* a rule of this machine */
		return -ENETDOWN;
	default:
		return 0;
	}
}

static bool is_own(const struct fetch *f, const struct curl_sockaddr *address)
{
	return f->is_own && f->is_own(f->ctx, &address->addr, address->addrlen);
}

static curl_socket_t on_open_probe(void *p, curlsocktype purpose, struct curl_sockaddr *address)
{
	const struct home *h = p;

	return is_own(h->fetch, address)
		       ? CURL_SOCKET_BAD
		       : socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static curl_socket_t on_open_socket(void *p, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct transfer *t = transfer_from(p);

	curl_socket_t s;

	if (purpose != CURLSOCKTYPE_IPCXN || transfer_check_address(t, &address->addr, address->addrlen) < 0)
		return CURL_SOCKET_BAD;
	if (is_own(t->fetch, address))
		return CURL_SOCKET_BAD;
	s = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	t->last_family = address->family;
	if (s < 0)
		t->own_error = own_limit(errno);
	return s;
}

static int on_connected(void *p, char *remote, char *local, int remote_port, int local_port)
{
	struct transfer *t = transfer_from(p);

	transfer_note_connected(t);
	return atomic_load(&t->is_cancelled) ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

/* --- fields --------------------------------------------------------------------------------------------- */

/* Set here, or by libcurl, or not for upstream (a cookie must not change what is stored: reliability P18). */
static bool is_ours(const struct headers *h, struct str name)
{
	static const struct str ours[] = {
		STR("Host"),           STR("Authorization"), STR("Accept-Encoding"),
		STR("Content-Length"), STR("Expect"),        STR("Cookie")
	};

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (str_eq_nocase(name, ours[i]))
			return true;
	return header_is_hop_by_hop(h, name);
}

static bool may_go_anywhere(struct str name)
{
	return str_eq_nocase(name, STR("Range")) || str_eq_nocase(name, STR("If-Range")) ||
	       str_eq_nocase(name, STR("User-Agent")) || str_eq_nocase(name, STR("Accept"));
}

/* value NULL: libcurl is not to send a field of this name by itself. */
static void add_line(struct transfer *t, const char *name, const char *value)
{
	/* libcurl takes "Name:" for "do not send it"; "Name;" sends it empty */
	char *line = !value   ? xasprintf("%s:", name)
		     : *value ? xasprintf("%s: %s", name, value)
			      : xasprintf("%s;", name);
	struct curl_slist *longer = curl_slist_append(t->fields, line);

	assert(longer); /* a small allocation */
	t->fields = longer;
	secret_wipe(line, strlen(line));
	free(line);
}

/* What came with the address, if this hop goes there; ptr NULL otherwise. */
static struct str field_of_location(const struct transfer *t, struct str name)
{
	return t->is_at_location ? headers_get(&t->location_headers, name) : (struct str){ 0 };
}

static void add_fields_of_location(struct transfer *t)
{
	const struct headers *h = &t->location_headers;

	for (size_t i = 0; t->is_at_location && i < h->count; i++)
		if (!is_ours(h, str_from(h->fields[i].name)) ||
		    str_eq_nocase(str_from(h->fields[i].name), STR("Authorization")) ||
		    (t->is_space && str_eq_nocase(str_from(h->fields[i].name), STR("Cookie"))))
			add_line(t, h->fields[i].name, h->fields[i].value);
}

/* Is the user's own token sent with this hop? */
static bool sends_token(const struct transfer *t)
{
	return t->token && transfer_is_home_hop(t) && !field_of_location(t, STR("Authorization")).ptr;
}

static void add_fields(struct transfer *t)
{
	bool is_home = transfer_is_home_hop(t);

	for (size_t i = 0; i < t->headers.count; i++) {
		const struct header_field *f = &t->headers.fields[i];

		if (!is_ours(&t->headers, str_from(f->name)) &&
		    !field_of_location(t, str_from(f->name)).ptr &&
		    (is_home || may_go_anywhere(str_from(f->name))))
			add_line(t, f->name, f->value);
	}
	add_fields_of_location(t);
	if (!headers_get(&t->headers, STR("User-Agent")).ptr && !field_of_location(t, STR("User-Agent")).ptr)
		add_line(t, "User-Agent", t->fetch->user_agent);
	if (t->fetch->mark && is_home)
		add_line(t, "X-HF-Cache-Hop", t->fetch->mark);
	add_line(t, "Accept-Encoding", "identity");
	if (sends_token(t))
		add_line(t, "Authorization", secret_value(t->token).ptr);
	add_line(t, "Expect", t->expects_continue ? "100-continue" : NULL);
}

static void drop_fields(struct transfer *t)
{
	for (struct curl_slist *s = t->fields; s; s = s->next)
		secret_wipe(s->data, strlen(s->data));
	curl_slist_free_all(t->fields);
	t->fields = NULL;
}

/* --- options -------------------------------------------------------------------------------------------- */

/* Every option must be taken: a libcurl that does not know one would be less strict than what is promised. */
#define SET(easy, option, value)                                                                             \
	do {                                                                                                 \
		CURLcode code_ = curl_easy_setopt((easy), (option), (value));                                \
		if (code_ != CURLE_OK) {                                                                     \
			log_error("fetch", "libcurl does not take an option", LOG_TEXT("option", #option),   \
				  LOG_TEXT("reason", curl_easy_strerror(code_)), LOG_END);                   \
			return -EPROTO;                                                                      \
		}                                                                                            \
	} while (0)

/* reliability E.4. Proxies, netrc, cookies, HSTS, alt-svc, following and decoding: all off. */
static int set_common(const struct home *h, CURL *easy)
{
	const struct fetch *f = h->fetch;

	SET(easy, CURLOPT_PROTOCOLS_STR, h->rules.hub.is_tls ? "https" : "http,https");
	SET(easy, CURLOPT_FOLLOWLOCATION, 0L);
	SET(easy, CURLOPT_UNRESTRICTED_AUTH, 0L);
	SET(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	SET(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	SET(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(easy, CURLOPT_PROXY, "");
	SET(easy, CURLOPT_NOSIGNAL, 1L);
	/* else ending a transfer during the look-up of its name would wait for that, and the thread with it */
	SET(easy, CURLOPT_QUICK_EXIT, 1L);
	SET(easy, CURLOPT_CONNECTTIMEOUT_MS,
	    h->is_backend && f->connect_timeout_ms > BACKEND_CONNECT_MS ? BACKEND_CONNECT_MS
									: (long)f->connect_timeout_ms);
	SET(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	SET(easy, CURLOPT_TCP_KEEPIDLE, 30L);
	SET(easy, CURLOPT_TCP_KEEPINTVL, 15L);
	if (f->ca_file)
		SET(easy, CURLOPT_CAINFO, f->ca_file);
	return 0;
}

static enum fetch_pool pool_of(const struct transfer *t)
{
	bool has_secret = sends_token(t) || field_of_location(t, STR("Authorization")).ptr;

	if (t->is_own)
		return POOL_OWN;
	return has_secret ? POOL_TOKEN : POOL_ANONYMOUS;
}

static int set_http(struct transfer *t, CURL *easy)
{
	bool is_head = strcmp(t->method, "HEAD") == 0;

	SET(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	SET(easy, CURLOPT_HTTP09_ALLOWED, 0L);
	SET(easy, CURLOPT_PATH_AS_IS, 1L);
	SET(easy, CURLOPT_PIPEWAIT, 0L);
	SET(easy, CURLOPT_BUFFERSIZE,
	    is_head            ? SMALL_BUFFER_BYTES
	    : t->receive_bytes ? (long)t->receive_bytes
			       : RECEIVE_BUFFER_BYTES);
	SET(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
	SET(easy, CURLOPT_PRIVATE, t);
	SET(easy, CURLOPT_HEADERFUNCTION, on_header);
	SET(easy, CURLOPT_HEADERDATA, t);
	SET(easy, CURLOPT_WRITEFUNCTION, on_write);
	SET(easy, CURLOPT_WRITEDATA, t);
	SET(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET(easy, CURLOPT_OPENSOCKETDATA, t);
	SET(easy, CURLOPT_PREREQFUNCTION, on_connected);
	SET(easy, CURLOPT_PREREQDATA, t);
	SET(easy, CURLOPT_SHARE, t->fetch->pools[pool_of(t)]);
	return 0;
}

static bool has_request_body(const struct transfer *t)
{
	/* servers want "Content-Length: 0" with these */
	return t->has_body || strcmp(t->method, "POST") == 0 || strcmp(t->method, "PUT") == 0 ||
	       strcmp(t->method, "PATCH") == 0;
}

static int set_method(struct transfer *t, CURL *easy)
{
	if (strcmp(t->method, "HEAD") == 0) {
		SET(easy, CURLOPT_NOBODY, 1L);
		return 0;
	}
	/* without a body libcurl would repeat it when a reused connection breaks: never, it is a write */
	SET(easy, CURLOPT_FRESH_CONNECT, t->is_once || (has_request_body(t) && !t->has_body) ? 1L : 0L);
	if (!has_request_body(t)) {
		SET(easy, CURLOPT_HTTPGET, 1L);
		SET(easy, CURLOPT_CUSTOMREQUEST, t->method);
		return 0;
	}
	SET(easy, CURLOPT_UPLOAD, 1L);
	SET(easy, CURLOPT_CUSTOMREQUEST, t->method);
	SET(easy, CURLOPT_READFUNCTION, on_read);
	SET(easy, CURLOPT_READDATA, t);
	SET(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)(t->has_body ? t->body_bytes : 0));
	SET(easy, CURLOPT_MAXAGE_CONN, t->home->is_backend ? IDLE_FOR_BACKEND_MAX_S : IDLE_FOR_BODY_MAX_S);
	return 0;
}

static int set_target(struct transfer *t, CURL *easy)
{
	SCOPED_FREE char *url = NULL;
	struct origin origin;
	struct str target;

	if (origin_parse(buf_str(&t->url), &origin, &target) < 0)
		return -EPROTO;
	url = xasprintf("http%s://%s:%u/", origin.is_tls ? "s" : "", origin.host, origin.port);
	SET(easy, CURLOPT_URL, url);
	SET(easy, CURLOPT_REQUEST_TARGET, target.ptr); /* it runs to the end of the buf, which ends in NUL */
	add_fields(t);
	SET(easy, CURLOPT_HTTPHEADER, t->fields);
	return 0;
}

int easy_start_hop(struct transfer *t)
{
	CURL *easy = curl_easy_init();
	int r;

	assert(easy && !t->easy && !t->fields);
	t->easy = easy;
	r = set_common(t->home, easy);
	if (r == 0)
		r = set_http(t, easy);
	if (r == 0)
		r = set_method(t, easy);
	if (r == 0)
		r = set_target(t, easy);
	if (r == 0 && curl_multi_add_handle(t->fetch->multi, easy) != CURLM_OK)
		r = -EPROTO;
	return r;
}

void easy_end_hop(struct transfer *t)
{
	if (t->easy) {
		(void)curl_multi_remove_handle(t->fetch->multi, t->easy); /* no-op when it never got there */
		curl_easy_cleanup(t->easy);
	}
	t->easy = NULL;
	drop_fields(t);
}

void easy_continue(struct transfer *t)
{
	CURLcode code = curl_easy_pause(t->easy, CURLPAUSE_CONT);

	/* it delivers what waited, and forgets the error of that: nobody else would end this hop */
	if (code != CURLE_OK)
		transfer_hop_ended(t, code);
}

/* A connection and no request: nobody's log shows it, and it proves all that the breaker doubts. */
CURL *easy_new_probe(struct home *h)
{
	SCOPED_FREE char *url = xasprintf("http%s://%s:%u/", h->rules.hub.is_tls ? "s" : "",
					  h->rules.hub.host, h->rules.hub.port);
	CURL *easy = curl_easy_init();

	assert(easy);
	if (set_common(h, easy) < 0 || curl_easy_setopt(easy, CURLOPT_URL, url) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_probe) != CURLE_OK ||
	    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, h) != CURLE_OK ||
	    curl_multi_add_handle(h->fetch->multi, easy) != CURLM_OK) {
		curl_easy_cleanup(easy);
		return NULL;
	}
	return easy;
}

/* A name look-up and libcurl itself need descriptors too, and do not tell what they lacked. */
static int lack_now(void)
{
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0)
		return own_limit(errno);
	(void)close(s);
	return 0;
}

int easy_own_error(const struct transfer *t, CURLcode code)
{
	long os_error = 0;
	int r = t->own_error;

	if (code != CURLE_COULDNT_CONNECT && code != CURLE_COULDNT_RESOLVE_HOST)
		return 0;
	if (r == 0 && code == CURLE_COULDNT_CONNECT && t->easy &&
	    curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &os_error) == CURLE_OK)
		r = own_limit((int)os_error);
	/* of a machine without IPv6 it says only that */
	if (r == -EADDRNOTAVAIL && t->last_family == AF_INET6)
		r = 0;
	return r ? r : lack_now();
}

int easy_error(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
	case CURLE_INTERFACE_FAILED:
		return -EHOSTUNREACH;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_PARTIAL_FILE:
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_SEND_FAIL_REWIND:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
	case CURLE_AGAIN:
		return -ECONNRESET;
	case CURLE_FILESIZE_EXCEEDED:
		return -E2BIG;
	case CURLE_ABORTED_BY_CALLBACK:
		return -ECANCELED;
	default:
		return -EPROTO; /* no HTTP, a header too long, TLS, certificates */
	}
}
