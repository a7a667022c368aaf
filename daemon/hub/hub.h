/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub - the endpoints of the Hub that the cache understands, one file per family; and the forwarding of the
 * rest.
 *
 * Owns      nothing but the pin table: what a branch was last announced as, per client (hub-protocol C01).
 * Never     calls libmicrohttpd, curl or SQLite; sends a byte of a repo before auth said ALLOW.
 * Threads   handlers run on server threads, again from the top after each wait (reply/request.h).
 *
 * To add an endpoint: one function here, one row in router/routes.def, one case in tests/e2e.
 */
#pragma once
#include "reply/errors.h"
#include "reply/reply.h"

struct hub;

/* The app of a Space at FETCH_SPACE_FIRST + its number. */
struct hub_space_spec {
	const char *name; /* "acme/app" */
	const char *url;  /* "http://10.0.0.5:7860/inner": without a slash at its end */
};

struct hub_opts {
	struct auth *auth;
	struct asks *asks;
	struct flights *flights;
	struct relays *relays;
	struct fetch *fetch;
	struct store *store;
	struct index *index;
	struct metrics *metrics;
	const struct clock *clock;
	const struct hub_space_spec
		*spaces; /* those that run on machines of one's own; borrowed for h's life */
	unsigned space_count;
	struct splices *splices; /* for WebSockets; NULL: there are none */
	struct work *work;
	const char *spool_folder; /* for what is gathered; borrowed likewise */
	const char *const *server_names; /* this server's, beside that by which it is asked; NULL ends; or NULL; likewise */
	uint64_t xet_above;       /* files of more bytes keep what announces Xet; 0: none does */
	/* Something that is not used goes, as for a file; NULL: a full store keeps no further documents. Called by work threads. */
	void (*need_room)(void *ctx, uint64_t bytes, void (*done)(void *, int), void *done_ctx);
	/* A stored blob turned out bad. */
	void (*on_corrupt)(void *ctx, const struct digest *sha256);
	void *ctx;
};
struct hub *hub_new(const struct hub_opts *opts);
void hub_free(struct hub *h);
/*
 * name_ttl_ms  how long a branch is believed to stand on its commit
 * doc_ttl_ms   how long a mutable API document is given without asking
 * Must be called before the first request, and may be again at any time.
 */
void hub_set_times(struct hub *h, uint64_t name_ttl_ms, uint64_t doc_ttl_ms);
/* What only tokens have shown: is the Hub asked whether it is for everybody? Not before this was called; any time. */
void hub_set_asks_for_all(struct hub *h, bool asks_for_all);

/* What the router found in the path. Strings are decoded once, borrowed from the call's scratch. */
struct hub_route {
	struct str kind;     /* "models" "datasets" "spaces" "kernels" */
	struct str id;       /* "acme/pub" or "gpt2" as the client wrote it */
	struct str repo;     /* "models/acme/pub" */
	struct str revision; /* decoded; empty when the route has none */
	struct str path;     /* decoded; of a file or folder in the repo; may be empty */
};

/*
 * "feature/x/config.json" behind a route's revision: which part of it names the branch? Parts route's revision and path anew,
 * at the longest name that the repo is known to have; asks for the repo's refs when the first segment is none.
 * needs_path: at least one segment is the path's. Returns 0; -EAGAIN parked.
 */
int hub_settle_revision(struct hub *h, struct request *q, struct hub_route *route, bool needs_path);

/* All: 0 with a reply, or -EAGAIN parked. */
/* A file as the table knows it: hub_resolve(), and what hub.xet-above adds. */
int hub_file(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
/* A file of a bucket: passed on, Xet and all, never kept. */
int hub_bucket_file(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
/* /_space/{owner}/{name}/: a page of a static Space, opened in a browser, or anything of one that is an app. */
int hub_space(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
/* Where Spaces are, as the API tells it (space_info.c): their hosts are here. */
int hub_space_runtime(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_space_host(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_space_by_subdomain(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_space_words(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_resolve(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_raw(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_resolve_cache(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_repo_info(struct hub *h, struct request *q, const struct hub_route *route,
		  struct reply *r); /* /api/T/{id} */
int hub_revision_info(struct hub *h, struct request *q, const struct hub_route *route,
		      struct reply *r); /* /api/T/{id}/revision/{rev} */
int hub_tree(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_treesize(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_commits(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
/* What the Hub makes out of a dataset. */
int hub_parquet(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_croissant(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
/* Forwarded; addresses in the small answer become ours. */
int hub_written(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
/* /api/repos/move and /api/repos/delete: the repo is named in the body. */
int hub_repo_moved(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_repo_deleted(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
/* /-/upload/{ticket}: bytes for the Hub's storage (tunnel.c). */
int hub_upload(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
/* Git-LFS (lfs.c): where objects are, one of them, and the rest of info/lfs. */
int hub_lfs_batch(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_lfs_object(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_lfs_other(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
/* The registry (oci.c): manifests by tag or digest, blobs by digest, and the rest of /v2/. */
int hub_manifest(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_registry_blob(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_registry(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
/* git's own protocol (git.c). */
int hub_git(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_git_push(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_paths_info(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_refs(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_whoami(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_telemetry(struct hub *h, struct request *q, const struct hub_route *route,
		  struct reply *r); /* quick and empty when offline */
int hub_xet_token(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
/* xet_upload.c: a token for writing; /-/upload/xet/{path}, what is sent with it; and what is told afterwards. */
int hub_xet_write_token(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_xet_upload(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_xet_telemetry(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
int hub_preflight(struct hub *h, struct request *q, const struct hub_route *route,
		  struct reply *r); /* OPTIONS */
/*
 * A client that asked under an old name and was refused is told no other name than the one it wrote: the new one may be nobody's
 * business. For every reply, once it is ready (veil.c).
 */
void hub_veil_name(struct hub *h, const struct hub_route *route, struct reply *r);
/* A request to the dataset viewer's host: passed on to hub.viewer-url. */
int hub_viewer(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
/* Everything else under a known prefix: streamed through, nothing kept; a write (2xx) makes the cache
 * forget the repo's names. */
int hub_forward(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r);
