/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch - the door: opening and closing, starting transfers.
 *
 * Owns      the multi handle and both pools of connections, while the thread lives.
 * Threads   any; the thread itself is loop.c.
 * Bounds    transfers that run, and so connections in use, by FETCH_TRANSFERS_MAX; those that wait by who starts them.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "common/alloc.h"
#include "common/hash.h"
#include "fetch/priv.h"
#include "metrics/metrics.h"

#include "common/banned.h"

#define FIRST_BYTE_TIMEOUT_MS 30000
#define STALL_TIMEOUT_MS 30000
#define CONNECT_TIMEOUT_MS 5000
/* Each pool's: more than there can be transfers. Where they wait is transfer.c, which knows for whom they are. */
#define POOL_CONNECTIONS_MAX (FETCH_TRANSFERS_MAX + FETCH_STREAMS_MAX + 64L)
/* Of those, how many are kept when idle. */
#define POOL_IDLE_MAX 64L

/* --- new and free --------------------------------------------------------------------------------------- */

static int take_home(struct fetch *f, enum fetch_origin which, const char *url)
{
	struct home *h = &f->homes[which];
	struct str rest, host;
	struct address address;

	h->fetch = f;
	h->which = which;
	h->is_backend = which >= FETCH_BACKEND_FIRST;
	h->rules.hosts = f->redirect_hosts;
	h->rules.space_hosts = f->space_hosts;
	if (f->is_offline && !h->is_backend)
		atomic_init(&h->down_since_at, clock_wall_s(f->clock));
	if (!url || !*url)
		return which == FETCH_HUB ? -EINVAL : 0;
	h->url = xstrdup(url);
	if (origin_parse(str_from(h->url), &h->rules.hub, &rest) < 0 || !str_eq(rest, STR("/")))
		return -EINVAL;
	while (str_ends_with(str_from(h->url), STR("/")))
		h->url[strlen(h->url) - 1] = 0;
	if (!f->is_offline && !h->is_backend)
		breaker_try_first(&h->breaker);
	host = str_from(h->rules.hub.host);
	h->rules.hub_is_localhost = str_eq(host, STR("localhost"));
	if (address_parse(host, &address) == 0 && address_is_internal(&address))
		h->rules.hub_address = address;
	return 0;
}

/* Lower case copies; NULL ends. */
static char **copy_hosts(const char *const *hosts)
{
	size_t count = 0;
	char **copies;

	while (hosts && hosts[count])
		count++;
	copies = xcalloc(count + 1, sizeof(copies[0]));
	for (size_t i = 0; i < count; i++) {
		copies[i] = xstrdup(hosts[i]);
		for (char *c = copies[i]; *c; c++)
			*c = *c >= 'A' && *c <= 'Z' ? (char)(*c | 0x20) : *c;
	}
	return copies;
}

static void free_hosts(char **hosts)
{
	for (char **host = hosts; *host; host++)
		free(*host);
	free(hosts);
}

static int open_curl(struct fetch *f)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -ENOMEM;
	f->multi = curl_multi_init();
	assert(f->multi);
	(void)curl_multi_setopt(f->multi, CURLMOPT_MAXCONNECTS, POOL_IDLE_MAX);
	(void)curl_multi_setopt(f->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, POOL_CONNECTIONS_MAX);
	for (unsigned i = 0; i < POOL_COUNT; i++) {
		f->pools[i] = curl_share_init();
		assert(f->pools[i]);
		/* used by one thread: no lock functions */
		if (curl_share_setopt(f->pools[i], CURLSHOPT_SHARE, CURL_LOCK_DATA_CONNECT) != CURLSHE_OK ||
		    curl_share_setopt(f->pools[i], CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) != CURLSHE_OK)
			return -ENOSYS;
	}
	return 0;
}

static void close_curl(struct fetch *f)
{
	if (!f->multi)
		return;
	for (unsigned i = 0; i < POOL_COUNT; i++)
		if (f->pools[i])
			(void)curl_share_cleanup(f->pools[i]);
	(void)curl_multi_cleanup(f->multi);
	f->multi = NULL;
	curl_global_cleanup();
}

static int start_thread(struct fetch *f)
{
	sigset_t all, before;
	int r;

	/* also SIGPIPE, which the TLS library may cause */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&f->thread, NULL, fetch_main, f);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r == 0)
		(void)pthread_setname_np(f->thread, "fetch"); /* only for people who look */
	return -r;
}

static struct fetch *fetch_alloc(const struct fetch_opts *opts)
{
	struct fetch *f = xcalloc(1, sizeof(*f));

	atomic_init(&f->refs, 1);
	f->wake_fd = -1;
	lock_init(&f->lock, LOCK_FETCH);
	list_init(&f->mail);
	list_init(&f->calls);
	list_init(&f->active);
	list_init(&f->waiting);
	shares_init(&f->shares, FETCH_TRANSFERS_MAX);
	shares_init(&f->stream_shares, FETCH_STREAMS_MAX);
	f->is_own = opts->is_own;
	f->ctx = opts->ctx;
	f->mark = opts->mark ? xstrdup(opts->mark) : NULL;
	f->user_agent = xstrdup(opts->user_agent && *opts->user_agent ? opts->user_agent : "hfcached");
	f->ca_file = opts->ca_file && *opts->ca_file ? xstrdup(opts->ca_file) : NULL;
	f->connect_timeout_ms = opts->connect_timeout_ms ? opts->connect_timeout_ms : CONNECT_TIMEOUT_MS;
	f->is_offline = opts->is_offline;
	f->metrics = opts->metrics;
	f->clock = opts->clock;
	governor_init(&f->governor);
	f->redirect_hosts = copy_hosts(opts->redirect_hosts);
	f->space_hosts = copy_hosts(opts->space_hosts);
	return f;
}

int fetch_new(const struct fetch_opts *opts, struct fetch **ret_fetch)
{
	struct fetch *f = fetch_alloc(opts);
	int r = take_home(f, FETCH_HUB, opts->hub_url);

	if (r == 0)
		r = take_home(f, FETCH_VIEWER, opts->viewer_url);
	if (r == 0)
		r = take_home(f, FETCH_INFERENCE, opts->inference_url);
	for (unsigned i = 0; r == 0 && i < FETCH_BACKENDS_MAX; i++)
		r = take_home(f, FETCH_BACKEND_FIRST + i,
			      i < opts->backend_count ? opts->backend_urls[i] : NULL);
	for (unsigned i = 0; r == 0 && i < FETCH_SPACES_MAX; i++)
		r = take_home(f, FETCH_SPACE_FIRST + i, i < opts->space_count ? opts->space_urls[i] : NULL);
	if (r == 0)
		r = open_curl(f);
	if (r == 0) {
		f->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		r = f->wake_fd < 0 ? -errno : 0;
	}
	if (r == 0) {
		metrics_gauge_set(f->metrics, METRIC_UPSTREAM_UP, 0, !f->is_offline);
		r = start_thread(f);
	}
	if (r < 0) {
		close_curl(f);
		fetch_unref(f);
		return r;
	}
	*ret_fetch = f;
	return 0;
}

void fetch_unref(struct fetch *f)
{
	if (atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) != 1)
		return;
	assert(!f->multi && list_is_empty(&f->mail) && list_is_empty(&f->calls));
	free_hosts(f->redirect_hosts);
	free_hosts(f->space_hosts);
	for (unsigned i = 0; i < FETCH_ORIGIN_COUNT; i++)
		free(f->homes[i].url);
	secret_wipe(&f->governor, sizeof(f->governor));
	shares_done(&f->shares);
	shares_done(&f->stream_shares);
	if (f->wake_fd >= 0)
		(void)close(f->wake_fd);
	lock_done(&f->lock);
	free(f->user_agent);
	free(f->mark);
	free(f->ca_file);
	free(f);
}

void fetch_free(struct fetch *f)
{
	if (!f)
		return;
	lock_take(&f->lock);
	f->is_stopping = true;
	lock_drop(&f->lock);
	fetch_wake(f);
	pthread_join(f->thread, NULL);
	close_curl(f);
	fetch_unref(f);
}

/* --- the rest of the door ------------------------------------------------------------------------------- */

const struct origin *fetch_hub_origin(const struct fetch *f)
{
	return &f->homes[FETCH_HUB].rules.hub;
}

bool fetch_has_origin(const struct fetch *f, enum fetch_origin which)
{
	return f->homes[which].url;
}

static bool may_begin_at(const struct fetch *f, enum fetch_origin which, struct str url, bool is_space)
{
	struct origin origin;
	SCOPED_BUF copy;

	buf_init(&copy, URL_BYTES_MAX);
	return redirect_begin(&f->homes[which].rules, url, is_space, &copy, &origin) == 0;
}

bool fetch_may_begin_at(const struct fetch *f, enum fetch_origin which, struct str url)
{
	return may_begin_at(f, which, url, false);
}

bool fetch_may_begin_at_space(const struct fetch *f, enum fetch_origin which, struct str url)
{
	return may_begin_at(f, which, url, true);
}

bool fetch_origin_is_down(const struct fetch *f, enum fetch_origin which)
{
	return atomic_load(&f->homes[which].down_since_at) != 0;
}

bool fetch_is_offline(const struct fetch *f)
{
	return f->is_offline;
}

bool fetch_is_down(const struct fetch *f)
{
	return fetch_origin_is_down(f, FETCH_HUB);
}

bool fetch_is_tried(const struct fetch *f)
{
	return f->is_offline || atomic_load(&f->homes[FETCH_HUB].is_tried);
}

int64_t fetch_down_since(const struct fetch *f)
{
	return atomic_load(&f->homes[FETCH_HUB].down_since_at);
}

uint64_t fetch_busy_ms(struct fetch *f, enum fetch_origin which, struct str target,
		       const struct secret *token)
{
	struct principal who = governor_identify(&f->governor, secret_value(token));
	enum rate_bucket bucket = which == FETCH_VIEWER ? RATE_VIEWER : policy_rate_bucket(target);
	uint64_t now = clock_mono_ms(f->clock);
	SCOPED_LOCK(&f->lock);

	if (which >= FETCH_INFERENCE)
		return 0;
	return governor_wait_ms(&f->governor, &who, bucket, now);
}

void fetch_limits(struct fetch *f, struct fetch_limit ret_limits[RATE_BUCKET_COUNT])
{
	uint64_t now = clock_mono_ms(f->clock);
	SCOPED_LOCK(&f->lock);

	for (unsigned b = 0; b < RATE_BUCKET_COUNT; b++) {
		struct fetch_limit *limit = &ret_limits[b];
		uint64_t left, quota;

		*limit = (struct fetch_limit){ .left = -1, .quota = -1 };
		if (governor_least(&f->governor, b, now, &left, &quota, &limit->window_ms)) {
			limit->left = (int64_t)left;
			limit->quota = quota ? (int64_t)quota : -1;
		}
		limit->closed_ms = governor_longest_wait_ms(&f->governor, b, now, &limit->closed_count);
	}
}

static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
	return value ? value : otherwise;
}

static void take_limits(struct transfer *t, const struct fetch_request *request)
{
	t->first_byte_timeout_ms = or_default(request->first_byte_timeout_ms, FIRST_BYTE_TIMEOUT_MS);
	t->stall_timeout_ms = or_default(request->stall_timeout_ms, STALL_TIMEOUT_MS);
	t->total_timeout_ms = request->total_timeout_ms;
	t->min_bytes_per_s = request->min_bytes_per_s;
	t->body_bytes_max = request->body_bytes_max;
	t->receive_bytes = request->receive_bytes;
}

static struct transfer *transfer_new(struct fetch *f, const struct fetch_request *request,
				     const struct fetch_ops *ops, void *ctx)
{
	struct transfer *t = xcalloc(1, sizeof(*t));

	assert(ops->on_done && (!request->has_body || ops->on_need_body));
	t->magic = TRANSFER_MAGIC;
	atomic_init(&t->refs, 1);
	atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
	t->fetch = f;
	t->home = &f->homes[request->origin];
	list_init(&t->mail_node);
	list_init(&t->node);
	list_init(&t->wait_node);
	t->who = (struct str){ str_dup(request->who), request->who.len };
	t->method = xstrdup(request->method);
	t->is_read = strcmp(t->method, "GET") == 0 || strcmp(t->method, "HEAD") == 0;
	t->first_target = str_dup(request->target);
	t->first_target_len = request->target.len;
	headers_init(&t->headers);
	headers_init(&t->location_headers);
	if (request->headers)
		headers_copy(&t->headers, request->headers);
	if (request->location.len)
		t->location = str_dup(request->location);
	t->is_space = request->is_space;
	if (request->location.len && request->location_headers)
		headers_copy(&t->location_headers, request->location_headers);
	t->token = secret_ref(request->token);
	t->principal = governor_identify(&f->governor, secret_value(t->token));
	t->follow = request->follow;
	take_limits(t, request);
	t->is_background = request->is_background;
	t->is_once = request->is_once;
	t->has_body = request->has_body;
	t->expects_continue = request->has_body && request->expects_continue;
	t->body_bytes = request->body_bytes;
	t->ops = *ops;
	t->ctx = ctx;
	return t;
}

int fetch_start(struct fetch *f, const struct fetch_request *request, const struct fetch_ops *ops, void *ctx,
		struct transfer **ret_transfer)
{
	struct transfer *t = transfer_new(f, request, ops, ctx);

	if (ret_transfer)
		*ret_transfer = transfer_ref(t); /* before it starts: on_done may use it */
	fetch_send_mail(t, MAIL_START);
	transfer_unref(t);
	return 0;
}

void fetch_start_own(struct fetch *f, const struct fetch_request *request, const struct fetch_ops *ops,
		     void *ctx)
{
	struct transfer *t = transfer_new(f, request, ops, ctx);

	t->is_own = true;
	fetch_send_mail(t, MAIL_START);
	transfer_unref(t);
}

void transfer_resume(struct transfer *t)
{
	fetch_send_mail(t, MAIL_RESUME);
}

void transfer_cancel(struct transfer *t)
{
	atomic_store(&t->is_cancelled, true);
	fetch_send_mail(t, MAIL_CANCEL);
}
