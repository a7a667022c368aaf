/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/trouble - errors in the shape that the route's clients read (inference-protocol 2.6).
 *
 * /v1 routes: {"error": {"message", "type", "code"}, "message"}; task routes: {"error": text, "error_type"}. Never a 503: some
 * clients would ask again at once, for ever. x-should-retry: false stops the others.
 */
#include "infer/priv.h"

#include <errno.h>

void trouble_text(struct reply *r, const struct infer_path *p, int status, const char *code,
		  struct str sentence)
{
	SCOPED_BUF body;

	buf_init(&body, 8192);
	if (p->dialect == DIALECT_TASK || p->dialect == DIALECT_GENERATE) {
		buf_append_str(&body, STR("{\"error\":"));
		(void)json_write_string(&body, sentence);
		buf_appendf(&body, ",\"error_type\":\"%s\"}", code);
	} else {
		buf_append_str(&body, STR("{\"error\":{\"message\":"));
		(void)json_write_string(&body, sentence);
		buf_appendf(&body, ",\"type\":\"%s\",\"code\":\"%s\"},\"message\":", code, code);
		(void)json_write_string(&body, sentence);
		buf_append_char(&body, '}');
	}
	reply_done(r);
	reply_init(r);
	reply_text(r, status, "application/json", buf_str(&body));
	(void)headers_set(&r->headers, STR("X-Error-Message"), sentence);
	(void)headers_set(&r->headers, STR("X-Should-Retry"), STR("false"));
	(void)headers_set(&r->headers, STR("Cache-Control"), STR("no-store"));
}

static const struct {
	int error, status;
	const char *code, *sentence;
} kinds[] = {
	{ -ENODATA, 504, "offline",
	  "upstream cannot be asked (inference.url, inference.mode, hub.offline), and no answer to exactly "
	  "this "
	  "call is kept; make the call once while it can "
	  "(inference.mode = record keeps sampled answers too), or map the model to a backend" },
	{ -EHOSTUNREACH, 504, "offline",
	  "the inference service cannot be reached, and no answer to exactly this call is kept; see "
	  "inference.url and the uplink" },
	{ -ETIMEDOUT, 504, "timeout", "the inference service did not answer in time; try again" },
	{ -ECONNRESET, 502, "upstream_cut",
	  "the inference service broke the connection before its answer; try again" },
	{ -EBUSY, 429, "rate_limited", "the inference service has asked for a pause; try again later" },
	{ -E2BIG, 429, "overloaded", "too many inference calls are under way here; try again in a moment" },
	{ -EINVAL, 422, "validation",
	  "the request's body is none of this task; see the task's documentation" },
	{ -ENOTSUP, 422, "validation",
	  "no server that is configured for it here can do exactly what is asked: see its kind, and the "
	  "parameters of the call" },
	{ -EDESTADDRREQ, 404, "not_configured",
	  "inference.url is not set here (with a hub.url of one's own it must be), and no backend is "
	  "configured: this "
	  "server passes no inference calls on" },
};

void trouble(struct reply *r, struct request *q, const struct infer_path *p, struct str model, int error)
{
	size_t i = 0, count = sizeof(kinds) / sizeof(kinds[0]);
	SCOPED_BUF sentence;

	if (policy_is_own_limit(error))
		error = -E2BIG;
	while (i < count && kinds[i].error != error)
		i++;
	buf_init(&sentence, 4096);
	if (model.len)
		buf_appendf(&sentence, "%.*s%s%.*s: ", STR_ARGS(model), p->task.len ? ", " : "",
			    STR_ARGS(p->task));
	buf_append_str(&sentence, i < count ? str_from(kinds[i].sentence)
					    : STR("the inference service gave a wrong answer; try again"));
	trouble_text(r, p, i < count ? kinds[i].status : 502, i < count ? kinds[i].code : "bad_gateway",
		     buf_str(&sentence));
	if (error == -EBUSY) {
		uint64_t s = (q->busy_ms + 999) / 1000;

		(void)headers_addf(&r->headers, "Retry-After", "%llu", (unsigned long long)(s ? s : 1));
		headers_remove(&r->headers, STR("X-Should-Retry"));
	}
	/* there is room again in a moment: not an error that repeats itself */
	if (error == -E2BIG) {
		(void)headers_set(&r->headers, STR("Retry-After"), STR("1"));
		headers_remove(&r->headers, STR("X-Should-Retry"));
	}
	r->cache_status = i < count && kinds[i].status == 504 && error != -ETIMEDOUT
				  ? "fwd=miss; detail=offline"
				  : "fwd=miss";
	q->result = RESULT_OFFLINE_MISS;
}
