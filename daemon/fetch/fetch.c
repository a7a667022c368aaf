/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch - the thread that goes upstream, and the mailbox through which others reach it.
 *
 * Owns      the multi handle, both pools of connections, the breaker with its probe, delayed calls.
 * Never     holds its lock while it runs a call, an op or libcurl.
 * Threads   the door: any. fetch_turn() and what it calls: the fetch thread. Lock rank FETCH.
 * Bounds    the mailbox holds each transfer once at most; connections are limited by POOL_CONNECTIONS_MAX; time limits are
 *           looked at each 100 ms, so they are that exact.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "fetch/priv.h"
#include "metrics/metrics.h"

#include "common/banned.h"

#define FIRST_BYTE_TIMEOUT_MS 30000
#define STALL_TIMEOUT_MS 30000
#define CONNECT_TIMEOUT_MS 5000
#define CHECK_EACH_MS 100
#define IDLE_MS 60000
/* Each pool: far above what one uplink can use, far below the descriptors a service gets. */
#define POOL_CONNECTIONS_MAX 512L
/* Of those, how many are kept when idle. */
#define POOL_IDLE_MAX 64L

struct call {
	struct list node;
	uint64_t due_mono_ms;
	void (*call)(void *ctx);
	void *ctx;
};

/* --- mailbox ---------------------------------------------------------------------------------------------------- */

static void wake(struct fetch *f)
{
	uint64_t one = 1;

	(void)!write(f->wake_fd, &one, sizeof(one)); /* fails only when it is full: then it is awake */
}

static void send_mail(struct transfer *t, enum transfer_mail what)
{
	struct fetch *f = t->fetch;
	bool was_empty = false;

	lock_take(&f->lock);
	assert(what != MAIL_START || !f->is_closed); /* nobody starts anything after fetch_free() */
	if (!f->is_closed) {
		was_empty = list_is_empty(&f->mail);
		if (!t->mail)
			list_add_tail(&f->mail, &transfer_ref(t)->mail_node);
		t->mail |= what;
	}
	lock_drop(&f->lock);
	if (was_empty)
		wake(f);
}

static struct transfer *next_mail(struct fetch *f, unsigned *ret_mail)
{
	SCOPED_LOCK(&f->lock);
	struct transfer *t;

	if (list_is_empty(&f->mail))
		return NULL;
	t = LIST_ENTRY(f->mail.next, struct transfer, mail_node);
	list_remove(&t->mail_node);
	*ret_mail = t->mail;
	t->mail = 0;
	return t;
}

static void read_mail(struct fetch *f)
{
	struct transfer *t;
	unsigned mail;

	while ((t = next_mail(f, &mail))) {
		if (mail & MAIL_START)
			transfer_begin(t);
		if ((mail & MAIL_CANCEL) && t->is_active)
			transfer_end(t, -ECANCELED);
		if (mail & MAIL_RESUME)
			transfer_continue(t);
		transfer_unref(t);
	}
}

/* --- delayed calls ---------------------------------------------------------------------------------------------- */

void fetch_call(struct fetch *f, uint64_t delay_ms, void (*call)(void *ctx), void *ctx)
{
	struct call *c = xcalloc(1, sizeof(*c));
	struct list *after;

	*c = (struct call){ .due_mono_ms = clock_mono_ms(f->clock) + delay_ms, .call = call, .ctx = ctx };
	lock_take(&f->lock);
	assert(!f->is_closed);
	for (after = f->calls.prev; after != &f->calls; after = after->prev)
		if (LIST_ENTRY(after, struct call, node)->due_mono_ms <= c->due_mono_ms)
			break;
	list_add_head(after, &c->node);
	lock_drop(&f->lock);
	wake(f);
}

static struct call *next_call(struct fetch *f)
{
	SCOPED_LOCK(&f->lock);
	struct call *c;

	if (list_is_empty(&f->calls))
		return NULL;
	c = LIST_ENTRY(f->calls.next, struct call, node);
	if (c->due_mono_ms > f->now && !f->is_stopping)
		return NULL;
	list_remove(&c->node);
	return c;
}

static void run_calls(struct fetch *f)
{
	struct call *c;

	while ((c = next_call(f))) {
		c->call(c->ctx);
		free(c);
	}
}

/* --- the breaker ------------------------------------------------------------------------------------------------ */

void fetch_note_hub(struct fetch *f, int r, bool was_probe)
{
	if (r < 0) {
		if (!breaker_failed(&f->breaker, f->now, was_probe))
			return;
		atomic_store(&f->down_since_at, clock_wall_s(f->clock));
		metrics_gauge_set(f->metrics, METRIC_UPSTREAM_UP, 0, 0);
		log_warning("fetch", "the Hub cannot be reached: answering from what is held until it can",
			    LOG_TEXT("hub", f->hub_url), LOG_ERR("error", r), LOG_END);
		return;
	}
	if (!breaker_answered(&f->breaker))
		return;
	log_info("fetch", "the Hub can be reached again", LOG_TEXT("hub", f->hub_url),
		 LOG_I64("down_s", clock_wall_s(f->clock) - atomic_load(&f->down_since_at)), LOG_END);
	atomic_store(&f->down_since_at, 0);
	metrics_gauge_set(f->metrics, METRIC_UPSTREAM_UP, 0, 1);
}

/* With everything answered from the store nobody else would find out that the Hub is back. */
static void probe_if_due(struct fetch *f)
{
	if (f->probe || f->now < breaker_probe_due(&f->breaker))
		return;
	if (breaker_ask(&f->breaker, f->now) != BREAKER_PROBE)
		return;
	f->probe = easy_new_probe(f);
	if (!f->probe)
		fetch_note_hub(f, -EHOSTUNREACH, true);
}

static void end_probe(struct fetch *f)
{
	if (!f->probe)
		return;
	(void)curl_multi_remove_handle(f->multi, f->probe);
	curl_easy_cleanup(f->probe);
	f->probe = NULL;
}

static void take_probe(struct fetch *f, CURLcode code)
{
	end_probe(f);
	fetch_note_hub(f, code == CURLE_OK ? 0 : -EHOSTUNREACH, true);
}

/* --- the loop --------------------------------------------------------------------------------------------------- */

static void take_finished(struct fetch *f)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(f->multi, &left))) {
		CURLcode code = message->data.result;
		CURL *easy = message->easy_handle;
		void *owner = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		if (easy == f->probe) {
			take_probe(f, code);
			continue;
		}
		(void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &owner);
		transfer_hop_ended(transfer_from(owner), code); /* message is not valid any more */
	}
}

static void check_deadlines(struct fetch *f)
{
	if (f->now - f->checked_mono_ms < CHECK_EACH_MS)
		return;
	f->checked_mono_ms = f->now;
	/* what an op starts or cancels meanwhile comes by mail: the list changes only by those that end here */
	LIST_EACH(node, &f->active)
		transfer_check_deadlines(LIST_ENTRY(node, struct transfer, node));
}

static void cancel_all(struct fetch *f)
{
	end_probe(f);
	LIST_EACH(node, &f->active)
		transfer_end(LIST_ENTRY(node, struct transfer, node), -ECANCELED);
}

/* Returns true when the thread may end: nothing runs, and nobody can add anything any more. */
static bool close_if_idle(struct fetch *f)
{
	SCOPED_LOCK(&f->lock);

	f->is_closed = list_is_empty(&f->mail) && list_is_empty(&f->calls) && list_is_empty(&f->active);
	return f->is_closed;
}

static bool is_stopping(struct fetch *f)
{
	SCOPED_LOCK(&f->lock);

	return f->is_stopping;
}

static int wait_ms(struct fetch *f)
{
	uint64_t due = f->now + (list_is_empty(&f->active) ? IDLE_MS : CHECK_EACH_MS);
	uint64_t probe_due = breaker_probe_due(&f->breaker);
	SCOPED_LOCK(&f->lock);

	if (!list_is_empty(&f->mail) || f->is_stopping)
		return 0;
	if (!list_is_empty(&f->calls)) {
		uint64_t call_due = LIST_ENTRY(f->calls.next, struct call, node)->due_mono_ms;

		due = call_due < due ? call_due : due;
	}
	if (!f->probe && probe_due < due)
		due = probe_due;
	return due > f->now ? (int)(due - f->now) : 0;
}

static void wait_for_news(struct fetch *f)
{
	struct curl_waitfd news = { .fd = f->wake_fd, .events = CURL_WAIT_POLLIN };
	uint64_t count;

	(void)curl_multi_poll(f->multi, &news, 1, wait_ms(f), NULL);
	(void)!read(f->wake_fd, &count, sizeof(count)); /* fails when nobody called */
	f->now = clock_mono_ms(f->clock);
}

static bool fetch_turn(struct fetch *f)
{
	int running;

	read_mail(f);
	run_calls(f);
	probe_if_due(f);
	(void)curl_multi_perform(f->multi, &running);
	take_finished(f);
	check_deadlines(f);
	if (is_stopping(f)) {
		cancel_all(f);
		if (close_if_idle(f))
			return false;
	}
	wait_for_news(f);
	return true;
}

static void *fetch_main(void *p)
{
	struct fetch *f = p;

	f->now = clock_mono_ms(f->clock);
	while (fetch_turn(f))
		;
	return NULL;
}

/* --- new and free ----------------------------------------------------------------------------------------------- */

static int take_hub(struct fetch *f, const char *hub_url)
{
	struct str rest, host;
	struct address address;

	f->hub_url = xstrdup(hub_url);
	if (origin_parse(str_from(f->hub_url), &f->rules.hub, &rest) < 0 || !str_eq(rest, STR("/")))
		return -EINVAL;
	while (str_ends_with(str_from(f->hub_url), STR("/")))
		f->hub_url[strlen(f->hub_url) - 1] = 0;
	host = str_from(f->rules.hub.host);
	f->rules.hub_is_localhost = str_eq(host, STR("localhost"));
	if (address_parse(host, &address) == 0 && address_is_internal(&address))
		f->rules.hub_address = address;
	return 0;
}

static void take_redirect_hosts(struct fetch *f, const char *const *hosts)
{
	size_t count = 0;

	while (hosts && hosts[count])
		count++;
	f->rules.hosts = xcalloc(count + 1, sizeof(f->rules.hosts[0]));
	for (size_t i = 0; i < count; i++) {
		f->rules.hosts[i] = xstrdup(hosts[i]);
		for (char *c = f->rules.hosts[i]; *c; c++)
			*c = *c >= 'A' && *c <= 'Z' ? (char)(*c | 0x20) : *c;
	}
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
	f->user_agent = xstrdup(opts->user_agent && *opts->user_agent ? opts->user_agent : "hfcached");
	f->ca_file = opts->ca_file && *opts->ca_file ? xstrdup(opts->ca_file) : NULL;
	f->connect_timeout_ms = opts->connect_timeout_ms ? opts->connect_timeout_ms : CONNECT_TIMEOUT_MS;
	f->is_offline = opts->is_offline;
	f->metrics = opts->metrics;
	f->clock = opts->clock;
	if (f->is_offline)
		atomic_init(&f->down_since_at, clock_wall_s(f->clock));
	return f;
}

int fetch_new(const struct fetch_opts *opts, struct fetch **ret_fetch)
{
	struct fetch *f = fetch_alloc(opts);
	int r = take_hub(f, opts->hub_url);

	take_redirect_hosts(f, opts->redirect_hosts);
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
	for (char **host = f->rules.hosts; host && *host; host++)
		free(*host);
	free(f->rules.hosts);
	if (f->wake_fd >= 0)
		(void)close(f->wake_fd);
	lock_done(&f->lock);
	free(f->hub_url);
	free(f->user_agent);
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
	wake(f);
	pthread_join(f->thread, NULL);
	close_curl(f);
	fetch_unref(f);
}

/* --- the rest of the door --------------------------------------------------------------------------------------- */

const struct origin *fetch_hub_origin(const struct fetch *f)
{
	return &f->rules.hub;
}

bool fetch_is_down(const struct fetch *f)
{
	return atomic_load(&f->down_since_at) != 0;
}

int64_t fetch_down_since(const struct fetch *f)
{
	return atomic_load(&f->down_since_at);
}

static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
	return value ? value : otherwise;
}

int fetch_start(struct fetch *f, const struct fetch_request *request, const struct fetch_ops *ops, void *ctx,
		struct transfer **ret_transfer)
{
	struct transfer *t = xcalloc(1, sizeof(*t));

	assert(ops->on_done && (!request->has_body || ops->on_need_body));
	t->magic = TRANSFER_MAGIC;
	atomic_init(&t->refs, ret_transfer ? 2 : 1); /* the caller's, and ours until it is in the mailbox */
	atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
	t->fetch = f;
	list_init(&t->mail_node);
	list_init(&t->node);
	t->method = xstrdup(request->method);
	t->first_target = str_dup(request->target);
	t->first_target_len = request->target.len;
	headers_init(&t->headers);
	if (request->headers)
		headers_copy(&t->headers, request->headers);
	t->token = secret_ref(request->token);
	t->follow = request->follow;
	t->first_byte_timeout_ms = or_default(request->first_byte_timeout_ms, FIRST_BYTE_TIMEOUT_MS);
	t->stall_timeout_ms = or_default(request->stall_timeout_ms, STALL_TIMEOUT_MS);
	t->total_timeout_ms = request->total_timeout_ms;
	t->has_body = request->has_body;
	t->body_bytes = request->body_bytes;
	t->body_bytes_max = request->body_bytes_max;
	t->ops = *ops;
	t->ctx = ctx;
	if (ret_transfer)
		*ret_transfer = t; /* before it starts: on_done may use it */
	send_mail(t, MAIL_START);
	transfer_unref(t);
	return 0;
}

void transfer_resume(struct transfer *t)
{
	send_mail(t, MAIL_RESUME);
}

void transfer_cancel(struct transfer *t)
{
	atomic_store(&t->is_cancelled, true);
	send_mail(t, MAIL_CANCEL);
}
