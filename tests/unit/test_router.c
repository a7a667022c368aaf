/* SPDX-License-Identifier: Apache-2.0 */
/* router: each spelling of a Hub path finds its row and its parts; what cannot be a path is refused before
 * any handler. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/http/uri.h"
#include "router/match.h"
#include "router/router.h"

struct parts {
	struct segments segments;
	struct buf repo;
	struct hub_route route;
	bool fits;
};

static struct parts split(const char *path)
{
	struct parts p = { 0 };

	assert_int_equal(segments_split(&p.segments, str_from(path)), 0);
	buf_init(&p.repo, 1024);
	return p;
}

static void assert_parts(const char *pattern, const char *path, const char *repo, const char *revision,
			 const char *file)
{
	struct parts p = split(path);

	assert_true(pattern_matches(pattern, &p.segments, &p.repo, &p.route));
	assert_memory_equal(p.route.repo.ptr, repo, p.route.repo.len);
	assert_int_equal(p.route.repo.len, strlen(repo));
	assert_int_equal(p.route.revision.len, strlen(revision));
	if (*revision)
		assert_memory_equal(p.route.revision.ptr, revision, strlen(revision));
	assert_int_equal(p.route.path.len, strlen(file));
	if (*file)
		assert_memory_equal(p.route.path.ptr, file, strlen(file));
	segments_done(&p.segments);
	buf_done(&p.repo);
}

static void assert_no_match(const char *pattern, const char *path)
{
	struct parts p = split(path);

	assert_false(pattern_matches(pattern, &p.segments, &p.repo, &p.route));
	segments_done(&p.segments);
	buf_done(&p.repo);
}

#define RESOLVE "{content}/resolve/{rev}/{path}"

static void finds_repo_revision_and_path_of_each_kind(void **state)
{
	assert_parts(RESOLVE, "/acme/pub/resolve/main/a/b.txt", "models/acme/pub", "main", "a/b.txt");
	assert_parts(RESOLVE, "/gpt2/resolve/main/config.json", "models/gpt2", "main", "config.json");
	assert_parts(RESOLVE, "/datasets/acme/table/resolve/v1/x", "datasets/acme/table", "v1", "x");
	assert_parts(RESOLVE, "/datasets/squad/resolve/v1/x", "datasets/squad", "v1", "x");
	assert_parts(RESOLVE, "/spaces/acme/page/resolve/main/index.html", "spaces/acme/page", "main",
		     "index.html");
	assert_parts(RESOLVE, "/kernels/acme/k/resolve/main/x", "kernels/acme/k", "main", "x");
}

static void takes_refs_encoded_and_in_three_segments(void **state)
{
	assert_parts(RESOLVE, "/acme/pub/resolve/refs%2Fpr%2F1/x", "models/acme/pub", "refs/pr/1", "x");
	assert_parts(RESOLVE, "/acme/pub/resolve/refs/pr/1/x", "models/acme/pub", "refs/pr/1", "x");
	assert_parts("api/{kind}/{id}/tree/{rev}/{path}",
		     "/api/datasets/a/b/tree/refs/convert/parquet/de%2Fep", "datasets/a/b",
		     "refs/convert/parquet", "de/ep");
}

static void decodes_each_name_once(void **state)
{
	assert_parts(RESOLVE, "/acme/pub/resolve/main/a%20b%23c%2525+%5Bx%5D", "models/acme/pub", "main",
		     "a b#c%25+[x]");
	assert_parts(RESOLVE, "/acme/pub/resolve/main/[x]", "models/acme/pub", "main", "[x]");
	assert_parts(RESOLVE, "/acme/pub/resolve/main/%C3%A9", "models/acme/pub", "main", "\xc3\xa9");
}

static void reads_an_id_as_short_as_possible(void **state)
{
	assert_parts(RESOLVE, "/acme/resolve/resolve/main/x", "models/acme", "resolve", "main/x");
	assert_no_match(RESOLVE, "/api/models/resolve/main/x");
	assert_no_match(RESOLVE, "/acme/pub/resolve/main");
	assert_no_match(RESOLVE, "/acme/pub/resolve/main/");
}

static void tells_one_segment_ids_from_two(void **state)
{
	assert_parts("api/{kind}/{id}", "/api/models/gpt2", "models/gpt2", "", "");
	assert_parts("api/{kind}/{id}", "/api/models/acme/pub", "models/acme/pub", "", "");
	assert_parts("api/{kind}/{id}/revision/{rev}", "/api/models/gpt2/revision/main", "models/gpt2",
		     "main", "");
	assert_no_match("api/{kind}/{id}", "/api/models/acme/pub/commits");
	assert_no_match("api/{kind}/{id}", "/api/papers/x");
	assert_parts("{content}/info/lfs/{rest}", "/acme/pub.git/info/lfs/objects/batch", "models/acme/pub",
		     "", "objects/batch");
}

static void refuses_paths_with_two_spellings(void **state)
{
	const char *bad[] = { "/a/../b",         "/a/./b", "/a//b",         "//a",    "/a/%2e%2e/b",
			      "/a/%2E%2E%2Fb/c", "/a/%00", "/a/x%00y",      "/a/%zz", "/a/%2",
			      "/a/%c0%af",       "/a/%ff", "/a/b%2F..%2Fc", "noslash" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct segments s;

		assert_int_equal(segments_split(&s, str_from(bad[i])), -EINVAL);
		segments_done(&s);
	}
}

/* A path of 4 KiB may have two thousand folders; nobody looks at them one by one. */
static void keeps_what_is_too_deep_together(void **state)
{
	SCOPED_BUF path, file;
	struct parts p;

	buf_init(&path, 65536);
	buf_init(&file, 65536);
	buf_append_str(&path, STR("/acme/pub/resolve/main"));
	for (int i = 0; i < 2000; i++) {
		buf_append_str(&path, STR("/a"));
		buf_append_str(&file, i ? STR("/a") : STR("a"));
	}
	p = split(buf_str(&path).ptr);
	assert_true(pattern_matches(RESOLVE, &p.segments, &p.repo, &p.route));
	assert_true(str_eq(p.route.path, buf_str(&file)));
	assert_true(str_eq(p.route.repo, STR("models/acme/pub")));
	segments_done(&p.segments);
	buf_done(&p.repo);

	buf_append_str(&path, STR("/.."));
	assert_int_equal(segments_split(&p.segments, buf_str(&path)), -EINVAL);
	segments_done(&p.segments);
}

static void reads_a_name_to_the_end_of_the_path(void **state)
{
	assert_parts("api/{kind}/{id}/revision/{name}", "/api/models/acme/pub/revision/feature/x",
		     "models/acme/pub", "feature/x", "");
	assert_parts("api/{kind}/{id}/revision/{name}", "/api/models/gpt2/revision/refs%2Fpr%2F1",
		     "models/gpt2", "refs/pr/1", "");
	assert_no_match("api/{kind}/{id}/revision/{name}", "/api/models/acme/pub/revision/");
	assert_no_match("api/{kind}/{id}/revision/{name}", "/api/models/acme/pub/revision");
}

static void never_wake(struct waiter *w)
{
	fail_msg("nobody waits here");
}

static int classify(const char *method, const char *target, int64_t body_bytes, struct request *q,
		    struct reply *r)
{
	struct router *router = router_new(&(struct router_opts){ 0 });
	int verdict;

	request_init(q, never_wake);
	reply_init(r);
	q->method = str_dup(str_from(method));
	q->target = str_dup(str_from(target));
	q->is_head = str_eq(str_from(method), STR("HEAD"));
	q->body_bytes = body_bytes;
	uri_split_target(str_from(q->target), &q->path, &q->query);
	verdict = router_classify(router, q, r);
	router_free(router);
	return verdict;
}

static void assert_refused(const char *method, const char *target, int64_t body_bytes, int status)
{
	struct request q;
	struct reply r;

	assert_int_equal(classify(method, target, body_bytes, &q, &r), 1);
	assert_int_equal(r.status, status);
	assert_true(r.close);
	request_done(&q);
	reply_done(&r);
}

static void assert_classified(const char *method, const char *target, int64_t body_bytes,
			      enum metric_route route, enum request_body body)
{
	struct request q;
	struct reply r;

	assert_int_equal(classify(method, target, body_bytes, &q, &r), 0);
	assert_int_equal(q.route, route);
	assert_int_equal(q.body_kind, body);
	request_done(&q);
	reply_done(&r);
}

static void classifies_before_the_body_is_read(void **state)
{
	assert_classified("GET", "/acme/pub/resolve/main/x?download=true", 0, ROUTE_RESOLVE, BODY_NONE);
	assert_classified("POST", "/api/models/acme/pub/paths-info/main", 10, ROUTE_TREE, BODY_SMALL);
	assert_classified("POST", "/api/models/acme/pub/commit/main", -1, ROUTE_API, BODY_STREAM);
	assert_classified("PUT", "/api/models/acme/pub/settings", 5, ROUTE_API, BODY_STREAM);
	assert_classified("GET", "/-/healthz", 0, ROUTE_ADMIN, BODY_NONE);
	assert_classified("OPTIONS", "/acme/pub/resolve/main/x", 0, ROUTE_OTHER, BODY_NONE);
}

static void refuses_before_any_handler(void **state)
{
	assert_refused("POST", "/acme/pub/resolve/main/x", 0, 405);
	assert_refused("DELETE", "/-/healthz", 0, 405);
	assert_refused("OPTIONS", "/-/healthz", 0, 405);
	assert_refused("BREW", "/acme/pub/resolve/main/x", 0, 501);
	assert_refused("GET", "/a/../b", 0, 400);
	assert_refused("GET", "/acme/pub/resolve/main/x?token=a", 0, 400);
	assert_refused("GET", "/api/models?search=hf_abcdefghijABCDEF0123", 0, 400);
	assert_refused("POST", "/api/models/acme/pub/commit/hf_abcdefghijABCDEF0123", -1, 400);
	assert_refused("GET", "/acme%2fpub/resolve/main/x", 0, 400);
	assert_refused("GET", "/api/models/acme%2fpub/tree/main", 0, 400);
	assert_refused("GET", "/acme/pub/resolve/main\\x", 0, 400);
	assert_refused("GET", "/-/secret", 0, 404);
	assert_refused("GET", "/.git/config", 0, 404);
	assert_refused("GET", "/acme/pub/resolve/main/x", 5, 400);
	assert_refused("GET", "/acme", -1, 400);
	assert_refused("POST", "/api/models/acme/pub/paths-info/main", REQUEST_BODY_MAX + 1, 413);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_repo_revision_and_path_of_each_kind),
		cmocka_unit_test(takes_refs_encoded_and_in_three_segments),
		cmocka_unit_test(decodes_each_name_once),
		cmocka_unit_test(reads_an_id_as_short_as_possible),
		cmocka_unit_test(tells_one_segment_ids_from_two),
		cmocka_unit_test(refuses_paths_with_two_spellings),
		cmocka_unit_test(keeps_what_is_too_deep_together),
		cmocka_unit_test(reads_a_name_to_the_end_of_the_path),
		cmocka_unit_test(classifies_before_the_body_is_read),
		cmocka_unit_test(refuses_before_any_handler),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
