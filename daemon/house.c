/* SPDX-License-Identifier: Apache-2.0 */
/*
 * house - every room of the daemon, started in order and stopped the other way round.
 *
 * Start: store, index, recovery, keeper, work, fetch, the rooms above them, server. So nobody ever calls into a room that is
 * not there. It is here that rooms of one level meet, by callbacks.
 */
#include "house.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sysexits.h>
#include "backend/backend.h"
#include "command.h"
#include "common/alloc.h"
#include "common/clock.h"
#include "common/hash.h"
#include "keeper/keeper.h"
#include "notify.h"
#include "roads.h"
#include "server/server.h"

#define WORK_THREADS 2
#define MEMORY_ENTRIES 262144
#define SPLICES_END_MS 1000
/* Longer than the longest wait for an answer: who waits is cut by the server, or by nobody. */
#define SPLICES_IDLE_MS ((uint64_t)65 * 60 * 1000)

struct house {
	const struct config *config; /* borrowed from main */
	const struct clock *clock;
	struct metrics *metrics;
	struct store *store;
	struct index *index;
	struct keeper *keeper;
	struct work *work;
	struct fetch *fetch;
	struct asks *asks;
	struct relays *relays;
	struct flights *flights;
	struct casts *casts;
	struct backends *backends;
	char mark[17]; /* what our own questions carry, to know them again */
	struct splices *splices;
	struct roads *roads;
	char *backend_urls[CONFIG_NAMED_MAX];  /* owned: the origin of each */
	char *backend_paths[CONFIG_NAMED_MAX]; /* owned: the path in front of its routes; "" mostly */
	char *spool_folder;                    /* owned */
	struct hub_space_spec spaces[CONFIG_NAMED_MAX];
	char *space_origins[CONFIG_NAMED_MAX]; /* owned */
	const char *space_names[CONFIG_NAMED_MAX];
	struct auth *auth;
	struct hub *hub;
	struct infer *infer;
	struct admin *admin;
	struct router *router;
	_Atomic(struct server *) server; /* its threads ask for it while it starts */
	atomic_bool is_draining;         /* read by server threads */
};

/* --- where rooms of one level meet --- */

static void on_verified(void *ctx, struct part *part, const struct content_id *id,
			const struct blob_meta *meta, void (*done)(void *, int), void *done_ctx)
{
	struct house *h = ctx;

	keeper_finish_part(h->keeper, part, id, meta, done, done_ctx);
}

static void on_need_room(void *ctx, uint64_t bytes, void (*done)(void *, int), void *done_ctx)
{
	struct house *h = ctx;

	keeper_make_room(h->keeper, bytes, done, done_ctx);
}

static void on_checkpoint(void *ctx, struct part *part)
{
	struct house *h = ctx;

	keeper_checkpoint_part(h->keeper, part);
}

static void on_corrupt(void *ctx, const struct digest *sha256)
{
	struct house *h = ctx;

	keeper_report_corrupt(h->keeper, sha256);
}

static const char *loops_alive(void *ctx)
{
	struct house *h = ctx;

	return h->server ? server_loops_alive(h->server) : "the server is starting";
}

static const char *index_ok(void *ctx)
{
	struct house *h = ctx;

	return keeper_is_alive(h->keeper) ? NULL : "the keeper thread is stuck; see the log";
}

static const char *is_draining(void *ctx)
{
	struct house *h = ctx;

	return atomic_load(&h->is_draining) ? "shutting down" : NULL;
}

static void refresh_metrics(void *ctx, struct metrics *m)
{
	struct fetch_limit limits[RATE_BUCKET_COUNT];
	struct house *h = ctx;
	struct store_usage usage;

	fetch_limits(h->fetch, limits);
	for (unsigned b = 0; b < RATE_BUCKET_COUNT; b++)
		metrics_gauge_set(m, METRIC_UPSTREAM_RATE_REMAINING, b, limits[b].left);
	store_usage(h->store, &usage);
	metrics_gauge_set(m, METRIC_STORAGE_USED, 0, (int64_t)usage.used);
	metrics_gauge_set(m, METRIC_STORAGE_OBJECTS, 0, (int64_t)usage.objects);
	metrics_gauge_set(m, METRIC_STORAGE_LIMIT, 0, (int64_t)usage.limit);
	metrics_gauge_set(m, METRIC_STORAGE_FREE, 0, (int64_t)usage.disk_free);
	metrics_gauge_set(m, METRIC_STORAGE_PARTIAL, 0, (int64_t)usage.partial);
	metrics_gauge_set(m, METRIC_UPSTREAM_UP, 0, !fetch_is_down(h->fetch));
}

/* --- start --- */

int say(int exit_code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)fputs("hfcached: ", stderr);
	(void)vfprintf(stderr, format, args);
	(void)fputc('\n', stderr);
	va_end(args);
	return exit_code;
}

char *house_store_path(const struct config *c)
{
	const char *cache = getenv("CACHE_DIRECTORY"), *xdg = getenv("XDG_CACHE_HOME"),
		   *home = getenv("HOME");

	if (*c->storage_path)
		return xstrdup(c->storage_path);
	if (cache && *cache)
		return xstrdup(cache);
	if (xdg && xdg[0] == '/')
		return xasprintf("%s/hfcached", xdg);
	if (home && home[0] == '/')
		return xasprintf("%s/.cache/hfcached", home);
	return xstrdup("/var/cache/hfcached");
}

/* A percentage is of the file system on which the store will stand: of its nearest folder that exists. */
static uint64_t quota_bytes(const struct config_quota *quota, const char *path)
{
	SCOPED_FREE char *folder = xstrdup(path);
	struct statvfs fs;

	if (!quota->percent)
		return quota->bytes;
	while (statvfs(folder, &fs) < 0) {
		char *slash = strrchr(folder, '/');

		if (!slash || slash == folder)
			return 0;
		*slash = 0;
	}
	return (uint64_t)fs.f_blocks * fs.f_frsize / 100 * quota->percent;
}

static int open_store(struct house *h)
{
	SCOPED_FREE char *path = house_store_path(h->config);
	const char *reason = "";
	struct store_opts opts = { .path = path,
				   .size_max = quota_bytes(&h->config->storage_max_size, path),
				   .disk_reserve = h->config->storage_disk_reserve,
				   .metrics = h->metrics,
				   .clock = h->clock };
	int r = store_open(&opts, &h->store, &reason);

	if (r == 0)
		return 0;
	return say(r == -EPROTO ? EX_CONFIG
		   : r == -EIO  ? EX_IOERR
				: EX_CANTCREAT,
		   "cannot use the store %s: %s (%s)", path, reason, log_errno_name(r));
}

static int open_index(struct house *h)
{
	const char *reason = "";
	struct index_opts opts = { .path = store_index_path(h->store),
				   .memory_entries = MEMORY_ENTRIES,
				   .metrics = h->metrics,
				   .clock = h->clock };
	struct keeper_opts keeper;
	int r = index_open(&opts, &h->index, &reason);

	if (r < 0)
		return say(r == -EPROTO ? EX_CONFIG : EX_IOERR, "cannot open the index %s: %s (%s)",
			   opts.path, reason, log_errno_name(r));
	keeper = (struct keeper_opts){
		.store = h->store, .index = h->index, .metrics = h->metrics, .clock = h->clock
	};
	notify_status("recovering the store");
	r = keeper_recover(&keeper, r == 1);
	if (r == 0)
		r = keeper_new(&keeper, &h->keeper);
	return r < 0 ? say(EX_IOERR, "cannot recover the store: %s", log_errno_name(r)) : 0;
}

/* A Hub of one's own never leads to calls to the public services beside the public one. */
static const char *service_url(const struct config *c, const char *configured, const char *public_one)
{
	struct str hub = str_from(c->hub_url);

	if (*configured)
		return configured;
	if (str_eq(hub, STR("https://huggingface.co")) || str_eq(hub, STR("https://huggingface.co/")))
		return public_one;
	return NULL;
}

/* "http://host:80/inner/" to "http://host:80" and "/inner". */
static void split_backend_urls(struct house *h)
{
	for (size_t i = 0; i < config_backend_count(h->config); i++) {
		const char *url = config_backend(h->config, i)->backend_url, *host = strstr(url, "://");
		const char *path = host ? strchr(host + 3, '/') : NULL;
		size_t len = path ? strlen(path) : 0;

		while (len && path[len - 1] == '/')
			len--;
		/* the address that OpenAI's clients are given; its routes begin with it */
		if (config_backend(h->config, i)->backend_kind != BACKEND_HF && len >= 3 &&
		    strncmp(path + len - 3, "/v1", 3) == 0)
			len -= 3;
		h->backend_urls[i] = path ? xstrndup(url, (size_t)(path - url)) : xstrdup(url);
		h->backend_paths[i] = xstrndup(path ? path : "", len);
	}
}

/* "http://host:7860/inner/" to the same without its last slash, and "http://host:7860". */
static void split_space_urls(struct house *h)
{
	for (size_t i = 0; i < config_space_count(h->config); i++) {
		char *url = xstrdup(config_space(h->config, i)->space_url), *host, *path;

		while (str_ends_with(str_from(url), STR("/")))
			url[strlen(url) - 1] = 0;
		host = strstr(url, "://");
		path = host ? strchr(host + 3, '/') : NULL;
		h->space_origins[i] = path ? xstrndup(url, (size_t)(path - url)) : xstrdup(url);
		h->spaces[i] =
			(struct hub_space_spec){ .name = config_space(h->config, i)->named.name, .url = url };
		h->space_names[i] = h->spaces[i].name;
	}
}

static int start_fetch(struct house *h)
{
	const struct config *c = h->config;
	struct fetch_opts opts = {
		.hub_url = c->hub_url,
		.viewer_url = service_url(c, c->hub_viewer_url, "https://datasets-server.huggingface.co"),
		.inference_url = service_url(c, c->inference_url, "https://router.huggingface.co"),
		.backend_urls = (const char *const *)h->backend_urls,
		.backend_count = (unsigned)config_backend_count(c),
		.space_urls = (const char *const *)h->space_origins,
		.space_count = (unsigned)config_space_count(c),
		.space_hosts = (const char *const *)c->hub_space_hosts.words,
		.redirect_hosts = (const char *const *)c->hub_redirect_hosts.words,
		.is_offline = c->hub_offline,
		.user_agent = "hfcached/" HFCACHED_VERSION,
		.mark = h->mark,
		.is_own = roads_is_own,
		.ctx = h->roads,
		.ca_file = *c->hub_ca_file ? c->hub_ca_file : NULL,
		.connect_timeout_ms = c->hub_connect_timeout,
		.metrics = h->metrics,
		.clock = h->clock
	};
	int r;

	split_backend_urls(h);
	split_space_urls(h);
	r = fetch_new(&opts, &h->fetch);

	return r < 0 ? say(EX_CONFIG,
			   "cannot use hub.url = %s and hub.viewer-url = %s: they must be "
			   "http(s)://HOST[:PORT] "
			   "without a path",
			   c->hub_url, c->hub_viewer_url)
		     : 0;
}

static void start_backends(struct house *h)
{
	struct backend_spec specs[CONFIG_NAMED_MAX];
	size_t count = config_backend_count(h->config);

	for (size_t i = 0; i < count; i++) {
		const struct config_backend *backend = config_backend(h->config, i);

		specs[i] = (struct backend_spec){ .name = backend->named.name,
						  .kind = backend->backend_kind,
						  .base_path = h->backend_paths[i] };
	}
	h->backends = backends_new(&(struct backends_opts){ .fetch = h->fetch,
							    .metrics = h->metrics,
							    .clock = h->clock,
							    .specs = specs,
							    .count = (unsigned)count });
}

static void set_backends(struct house *h, const struct config *c, const struct rights *rights)
{
	struct backend_rules rules[CONFIG_NAMED_MAX];
	size_t count = config_backend_count(c);

	for (size_t i = 0; i < count; i++) {
		const struct config_backend *backend = config_backend(c, i);

		rules[i] =
			(struct backend_rules){ .name = backend->named.name,
						.models = (const char *const *)backend->backend_models.words,
						.served_name = backend->backend_name,
						.key = rights->backend_keys[i] ? rights->backend_keys[i] : "",
						.timeout_ms = backend->backend_timeout,
						.concurrency = (unsigned)backend->backend_concurrency,
						.is_default = backend->backend_default,
						.drops_unknown = backend->backend_drop_unknown };
	}
	backends_set_rules(h->backends, rules, (unsigned)count);
}

/* As many as there may be connections, but a quarter of the descriptors at most: each join has two, beside those of the server. */
static unsigned joins_allowed(const struct config *c)
{
	struct rlimit files;
	rlim_t room;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur == RLIM_INFINITY)
		return (unsigned)c->server_max_connections;
	room = files.rlim_cur / 8 + 1;
	return room < c->server_max_connections ? (unsigned)room : (unsigned)c->server_max_connections;
}

static void start_middle(struct house *h)
{
	uint8_t key[32];

	h->work = work_new(WORK_THREADS, "work");
	h->asks = asks_new(&(struct asks_opts){
		.fetch = h->fetch, .work = h->work, .clock = h->clock, .metrics = h->metrics });
	h->relays = relays_new(
		&(struct relays_opts){ .fetch = h->fetch, .metrics = h->metrics, .clock = h->clock });
	h->casts = casts_new(&(struct casts_opts){
		.fetch = h->fetch, .work = h->work, .metrics = h->metrics, .clock = h->clock });
	start_backends(h);
	h->splices = splices_new(
		&(struct splices_opts){ .joins_max = joins_allowed(h->config),
					.idle_ms = SPLICES_IDLE_MS,
					.ca_file = *h->config->hub_ca_file ? h->config->hub_ca_file : NULL,
					.metrics = h->metrics,
					.clock = h->clock });
	h->flights = flights_new(&(struct flights_opts){ .fetch = h->fetch,
							 .store = h->store,
							 .work = h->work,
							 .metrics = h->metrics,
							 .clock = h->clock,
							 .on_verified = on_verified,
							 .on_need_room = on_need_room,
							 .on_checkpoint = on_checkpoint,
							 .ctx = h });
	store_subject_key(h->store, key);
	h->auth = auth_new(&(struct auth_opts){ .index = h->index, .key = key, .clock = h->clock });
	secret_wipe(key, sizeof(key));
}

static void start_handlers(struct house *h)
{
	const struct config *c = h->config;

	h->spool_folder = house_store_path(c);
	h->hub = hub_new(&(struct hub_opts){ .auth = h->auth,
					     .asks = h->asks,
					     .flights = h->flights,
					     .relays = h->relays,
					     .fetch = h->fetch,
					     .store = h->store,
					     .index = h->index,
					     .metrics = h->metrics,
					     .clock = h->clock,
					     .spaces = h->spaces,
					     .space_count = (unsigned)config_space_count(c),
					     .splices = h->splices,
					     .work = h->work,
					     .spool_folder = h->spool_folder,
					     .server_names = (const char *const *)c->server_hosts.words,
					     .xet_above = c->hub_xet_above,
					     .need_room = on_need_room,
					     .on_corrupt = on_corrupt,
					     .ctx = h });
	h->admin = admin_new(&(struct admin_opts){ .metrics = h->metrics,
						   .store = h->store,
						   .flights = h->flights,
						   .fetch = h->fetch,
						   .backends = h->backends,
						   .index = h->index,
						   .keeper = h->keeper,
						   .auth = h->auth,
						   .clock = h->clock,
						   .version = HFCACHED_VERSION,
						   .upstream = c->hub_url,
						   .space_names = h->space_names,
						   .space_count = (unsigned)config_space_count(c),
						   .certificate = roads_certificate(h->roads),
						   .loops_alive = loops_alive,
						   .is_draining = is_draining,
						   .index_ok = index_ok,
						   .ctx = h });
	h->infer = infer_new(&(struct infer_opts){ .auth = h->auth,
						   .casts = h->casts,
						   .relays = h->relays,
						   .backends = h->backends,
						   .spool_folder = h->spool_folder,
						   .fetch = h->fetch,
						   .store = h->store,
						   .index = h->index,
						   .metrics = h->metrics,
						   .clock = h->clock,
						   .need_room = on_need_room,
						   .on_corrupt = on_corrupt,
						   .ctx = h });
	h->router = router_new(&(struct router_opts){
		.hub = h->hub, .infer = h->infer, .admin = h->admin, .mark = h->mark });
	metrics_add_source(h->metrics, refresh_metrics, h);
}

static int start_server(struct house *h)
{
	const struct config *c = h->config;
	SCOPED_FREE char *path = house_store_path(c);
	SCOPED_FREE char *reason = NULL;
	int inherited[NOTIFY_FDS_MAX], inherited_count = notify_listen_fds(inherited);
	struct server_opts opts = { .listen = (const char *const *)c->server_listen.words,
				    .threads = (unsigned)c->server_threads,
				    .connections_max = (unsigned)c->server_max_connections,
				    .head_timeout_ms = c->server_head_timeout,
				    .idle_timeout_ms = c->server_idle_timeout,
				    .public_url = *c->server_public_url ? c->server_public_url : NULL,
				    .hosts = c->server_hosts.count
						     ? (const char *const *)c->server_hosts.words
						     : NULL,
				    .intercepted_hosts = roads_hosts(h->roads),
				    .on_connect = roads_hosts(h->roads) ? roads_take : NULL,
				    .on_connect_ctx = h->roads,
				    .spool_folder = path,
				    .spool_max = c->inference_max_request,
				    .router = h->router,
				    .auth = h->auth,
				    .metrics = h->metrics,
				    .clock = h->clock };
	struct server *server = NULL;
	bool is_chosen;
	SCOPED_FREE char *admin = command_admin_socket(c, &is_chosen);
	int r;

	if (inherited_count < 0)
		return say(EX_UNAVAILABLE, "cannot use the sockets of the service manager: %s",
			   log_errno_name(inherited_count));
	opts.inherited_count = (unsigned)inherited_count;
	opts.inherited_fds = inherited;
	opts.admin_socket = admin;
	r = server_start(&opts, &server, &reason);
	/* a file system may have no sockets, or a path be too long for one: nothing that anybody asked for */
	if (r < 0 && admin && !is_chosen && reason && strstr(reason, admin)) {
		log_warning("main", "there is no admin socket; server.admin-socket says where one could be",
			    LOG_TEXT("reason", reason), LOG_END);
		free(TAKE_PTR(reason));
		opts.admin_socket = NULL;
		r = server_start(&opts, &server, &reason);
	}
	if (r == 0) {
		atomic_store(&h->server, server);
		roads_serve(h->roads, server);
	}
	return r < 0 ? say(EX_UNAVAILABLE, "%s", reason ? reason : log_errno_name(r)) : 0;
}

void house_set_options(struct house *h, const struct config *c, const struct rights *rights)
{
	log_set_level(c->log_level);
	auth_set_rules(h->auth, &rights->rules);
	admin_set_rights(h->admin, &(struct admin_rights){ .offline_access = rights->rules.offline_access,
							   .offline_grace_ms = rights->rules.offline_grace_ms,
							   .lends_token = rights->rules.lender != NULL,
							   .is_strict = rights->rules.refuses_clear_tokens,
							   .is_reachable = rights->is_reachable });
	metrics_gauge_set(h->metrics, METRIC_OFFLINE_OPEN, 0, rights->rules.offline_access == OFFLINE_OPEN);
	rights_warn(rights);
	hub_set_times(h->hub, c->hub_revision_ttl, c->hub_metadata_ttl);
	hub_set_asks_for_all(h->hub, c->hub_prove_public);
	set_backends(h, c, rights);
	infer_set_rules(h->infer,
			&(struct infer_rules){ .mode = c->inference_mode,
					       .modes = (const char *const *)c->inference_modes.words,
					       .scope = c->inference_scope,
					       .finish_alone = c->inference_finish_on_abort,
					       .answer_max = c->inference_max_answer,
					       .request_max = c->inference_max_request,
					       .wait_budget_ms = c->inference_wait_budget });
}

static int open_roads(struct house *h)
{
	SCOPED_FREE char *path = house_store_path(h->config);

	return roads_new(h->config, path, &h->roads);
}

static int start(struct house *h, const struct rights *rights)
{
	int r = open_store(h);

	if (r == 0)
		r = open_index(h);
	if (r == 0)
		r = open_roads(h);
	if (r == 0)
		r = start_fetch(h);
	if (r == 0) {
		start_middle(h);
		start_handlers(h);
		house_set_options(h, h->config, rights);
		r = !h->splices ? say(EX_UNAVAILABLE,
				      "no thread or descriptor is left for the joins of connections")
				: roads_start(h->roads, h->splices, h->metrics, h->clock);
	}
	return r == 0 ? start_server(h) : r;
}

static void make_mark(char ret_mark[17])
{
	uint8_t bytes[8];

	random_bytes(bytes, sizeof(bytes));
	format_hex(bytes, sizeof(bytes), ret_mark);
}

int house_start(const struct config *config, const struct rights *rights, struct house **ret_house)
{
	struct house *h = xcalloc(1, sizeof(*h));
	int r;

	h->config = config;
	h->clock = &clock_system;
	h->metrics = metrics_new();
	make_mark(h->mark);
	r = start(h, rights);
	if (r == 0)
		*ret_house = h;
	else
		house_stop(h, 0);
	return r;
}

const char *house_address(const struct house *h)
{
	return server_address(h->server);
}

bool house_is_alive(struct house *h)
{
	return !server_loops_alive(h->server) && keeper_is_alive(h->keeper);
}

/* What the server has said, splices may still be carrying to its clients. */
static void let_splices_end(const struct house *h)
{
	uint64_t until = clock_mono_ms(h->clock) + SPLICES_END_MS;

	while (h->splices && splices_count(h->splices) > 0 && clock_mono_ms(h->clock) < until)
		(void)usleep(10000);
}

void house_stop(struct house *h, uint64_t drain_ms)
{
	roads_stop(h->roads);
	if (h->server) {
		unsigned cut;

		atomic_store(&h->is_draining, true);
		cut = server_drain(h->server, drain_ms);
		log_info("main", "stopping", LOG_U64("answers_cut", cut), LOG_END);
		let_splices_end(h);
	}
	splices_stop(h->splices); /* nobody is given to the server any more */
	server_free(h->server);
	router_free(h->router);
	admin_free(h->admin);
	splices_free(h->splices);
	/* what these still end, they tell those who began it: infer, hub, auth */
	casts_free(h->casts);
	flights_free(h->flights);
	relays_free(h->relays);
	asks_free(h->asks);
	infer_free(h->infer);
	hub_free(h->hub);
	auth_free(h->auth);
	backends_free(h->backends);
	fetch_free(h->fetch);
	roads_free(h->roads);
	work_free(h->work);
	keeper_free(h->keeper);
	index_close(h->index);
	store_close(h->store);
	metrics_free(h->metrics);
	for (size_t i = 0; i < CONFIG_NAMED_MAX; i++) {
		free(h->backend_urls[i]);
		free(h->backend_paths[i]);
		free((char *)(uintptr_t)h->spaces[i].url);
		free(h->space_origins[i]);
	}
	free(h->spool_folder);
	free(h);
}
