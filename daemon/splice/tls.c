/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice/tls - contexts of the sessions, and which certificate a client gets.
 *
 * Owns      one context for clients that come, one for hosts that are connected to, and the leaves of names as OpenSSL has them.
 * Never     resumes a session: nothing of one is kept, in memory or in tickets.
 * Promises  (1) TLS 1.2 and 1.3; http/1.1 is chosen, or no protocol when none was offered; else the alert says so.
 *           (2) a client that names no host, or one that is not ours, gets the alert unrecognized_name.
 *           (3) a host must show a certificate for its name or address, of an authority that ca_file (or the system) knows.
 * Threads   the splice thread.
 */
#include "splice/priv.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include "common/alloc.h"
#include "common/http/address.h"
#include "common/http/host.h"
#include "common/log.h"

#include "common/banned.h"

#define LEAVES_MAX 256u

static const unsigned char protocols[] = "\x08http/1.1";

/* A certificate as it is used; the bytes tell whether it is still the one of the authority. */
struct leaf {
	struct bytes *certificate; /* a reference */
	X509 *x509;
	EVP_PKEY *key;
};

/* --- the socket under a session --- */

static int bio_read(BIO *bio, char *bytes, size_t len, size_t *ret_len)
{
	ssize_t n = end_read_socket(BIO_get_data(bio), bytes, len);

	BIO_clear_flags(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
	if (n == -EAGAIN)
		BIO_set_retry_read(bio);
	*ret_len = n > 0 ? (size_t)n : 0;
	return n > 0;
}

static int bio_write(BIO *bio, const char *bytes, size_t len, size_t *ret_len)
{
	ssize_t n = end_write_socket(BIO_get_data(bio), bytes, len);

	BIO_clear_flags(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
	if (n == -EAGAIN)
		BIO_set_retry_write(bio);
	*ret_len = n > 0 ? (size_t)n : 0;
	return n > 0;
}

static long bio_control(BIO *bio, int what, long number, void *pointer)
{
	return what == BIO_CTRL_FLUSH;
}

/* One for the whole program and its life: OpenSSL keeps pointers to it. */
static BIO_METHOD *bio_method;

static void make_bio_method(void)
{
	bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "splice end");
	if (!bio_method || !BIO_meth_set_read_ex(bio_method, bio_read) ||
	    !BIO_meth_set_write_ex(bio_method, bio_write) || !BIO_meth_set_ctrl(bio_method, bio_control))
		bio_method = NULL;
}

/* --- leaves --- */

static void free_leaf(void *p)
{
	struct leaf *l = p;

	if (!l)
		return;
	bytes_unref(l->certificate);
	X509_free(l->x509);
	EVP_PKEY_free(l->key);
	free(l);
}

static struct leaf *parse_leaf(const struct ca_leaf *from)
{
	struct str certificate = bytes_str(from->certificate), key = bytes_str(from->key);
	const unsigned char *c = (const unsigned char *)certificate.ptr, *k = (const unsigned char *)key.ptr;
	struct leaf *l = xcalloc(1, sizeof(*l));

	l->certificate = bytes_ref(from->certificate);
	l->x509 = d2i_X509(NULL, &c, (long)certificate.len);
	l->key = d2i_AutoPrivateKey(NULL, &k, (long)key.len);
	if (l->x509 && l->key)
		return l;
	free_leaf(l);
	return NULL;
}

/* The leaf is asked for each time, which is cheap; only its parsing is kept. */
static struct leaf *leaf_of(struct join *j, struct str name)
{
	struct map *leaves = j->splices->leaves;
	struct leaf *l = map_get(leaves, name);
	struct ca_leaf fresh = { .certificate = NULL };

	if (j->host->identify(j->ctx, name, &fresh) != 0)
		return NULL;
	if (!l || l->certificate != fresh.certificate) {
		l = parse_leaf(&fresh);
		if (l && map_count(leaves) >= LEAVES_MAX && !map_get(leaves, name)) {
			map_free(leaves, free_leaf);
			leaves = j->splices->leaves = map_new();
		}
		if (l)
			free_leaf(map_put(leaves, name, l));
	}
	ca_leaf_done(&fresh);
	return l;
}

/* --- what the handshake asks --- */

static bool take_name(struct join *j, const char *text)
{
	struct str name = str_from(text);

	if (!host_is_name(name))
		return false;
	assert(name.len < sizeof(j->name));
	for (size_t i = 0; i < name.len; i++)
		j->name[i] =
			name.ptr[i] >= 'A' && name.ptr[i] <= 'Z' ? (char)(name.ptr[i] | 0x20) : name.ptr[i];
	if (j->name[name.len - 1] == '.')
		name.len--;
	j->name[name.len] = 0;
	return true;
}

static int on_name(SSL *tls, int *alert, void *ctx)
{
	struct end *e = SSL_get_app_data(tls);
	struct join *j = e->join;
	const char *text = SSL_get_servername(tls, TLSEXT_NAMETYPE_host_name);
	struct leaf *l = text && take_name(j, text) ? leaf_of(j, str_from(j->name)) : NULL;

	if (!text) /* identify may have a word for those that name none */
		l = leaf_of(j, STR(""));
	*alert = SSL_AD_UNRECOGNIZED_NAME;
	if (!l)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*alert = SSL_AD_INTERNAL_ERROR;
	if (SSL_use_certificate(tls, l->x509) != 1 || SSL_use_PrivateKey(tls, l->key) != 1)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	return SSL_TLSEXT_ERR_OK;
}

static int on_protocols(SSL *tls, const unsigned char **ret, unsigned char *ret_len,
			const unsigned char *offered, unsigned offered_len, void *ctx)
{
	unsigned char *chosen;

	if (SSL_select_next_proto(&chosen, ret_len, protocols, sizeof(protocols) - 1, offered, offered_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL; /* no_application_protocol */
	*ret = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* --- contexts and sessions --- */

static SSL_CTX *new_context(const SSL_METHOD *method)
{
	SSL_CTX *c = SSL_CTX_new(method);

	if (!c || SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) != 1) {
		SSL_CTX_free(c);
		return NULL;
	}
	(void)SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	(void)SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					  SSL_MODE_RELEASE_BUFFERS);
	(void)SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_num_tickets(c, 0);
	SSL_CTX_set_read_ahead(c, 1);
	return c;
}

static SSL_CTX *new_server_context(void)
{
	SSL_CTX *c = new_context(TLS_server_method());

	if (!c)
		return NULL;
	(void)SSL_CTX_set_tlsext_servername_callback(c, on_name);
	SSL_CTX_set_alpn_select_cb(c, on_protocols, NULL);
	return c;
}

static SSL_CTX *new_client_context(const char *ca_file)
{
	SSL_CTX *c = new_context(TLS_client_method());
	bool ok = c && SSL_CTX_set_alpn_protos(c, protocols, sizeof(protocols) - 1) == 0;

	ok = ok &&
	     (ca_file ? SSL_CTX_load_verify_file(c, ca_file) : SSL_CTX_set_default_verify_paths(c)) == 1;
	if (!ok) {
		SSL_CTX_free(c);
		return NULL;
	}
	SSL_CTX_set_verify(c, SSL_VERIFY_PEER, NULL);
	return c;
}

int tls_init(struct splices *s)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	(void)pthread_once(&once, make_bio_method);
	s->leaves = map_new();
	s->server_tls = bio_method ? new_server_context() : NULL;
	s->client_tls = bio_method ? new_client_context(s->ca_file) : NULL;
	if (!s->client_tls)
		log_warning("splice", "no connection with TLS can be made: the authorities cannot be read",
			    LOG_TEXT("file", s->ca_file ? s->ca_file : "the system's"), LOG_END);
	return s->server_tls ? 0 : -ENOMEM;
}

void tls_done(struct splices *s)
{
	map_free(s->leaves, free_leaf);
	SSL_CTX_free(s->server_tls);
	SSL_CTX_free(s->client_tls);
}

static int new_session(struct end *e, SSL_CTX *context)
{
	BIO *bio = context ? BIO_new(bio_method) : NULL;

	e->tls = bio ? SSL_new(context) : NULL;
	if (!e->tls) {
		BIO_free(bio);
		return -ENOMEM;
	}
	BIO_set_data(bio, e);
	BIO_set_init(bio, 1);
	SSL_set_bio(e->tls, bio, bio);
	SSL_set_app_data(e->tls, e);
	return 0;
}

int tls_serve(struct end *e)
{
	int r = new_session(e, e->join->splices->server_tls);

	if (r == 0)
		SSL_set_accept_state(e->tls);
	return r;
}

/* An address is no name: it is not sent, and the certificate must hold it as what it is. */
static bool expect_host(SSL *tls, const char *host)
{
	struct address ignored;
	X509_VERIFY_PARAM *p = SSL_get0_param(tls);

	if (address_parse(str_from(host), &ignored) == 0) {
		SCOPED_FREE char *bare =
			host[0] == '[' ? xstrndup(host + 1, strlen(host) - 2) : xstrdup(host);

		return X509_VERIFY_PARAM_set1_ip_asc(p, bare) == 1;
	}
	SSL_set_hostflags(tls, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set_tlsext_host_name(tls, host) == 1 && SSL_set1_host(tls, host) == 1;
}

int tls_ask(struct end *e)
{
	int r = new_session(e, e->join->splices->client_tls);

	if (r < 0)
		return r;
	if (!expect_host(e->tls, e->join->name))
		return -EPROTO;
	SSL_set_connect_state(e->tls);
	return 0;
}

const char *tls_reason(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());

	return text ? text : "the connection ended";
}
