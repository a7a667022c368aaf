/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply/errors - one row per errno: status, what happened at which hop, what to do.
 */
#include "reply/errors.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/json.h"

struct error_row {
	int error;
	int status;
	bool retry_at_once; /* Retry-After: 0: the client should look into its own cache, or come again, without waiting */
	const char *sentence;
};

/*
 * Ignorance is 503 or 504, never 404: clients act on "not found" (hub-protocol 3.5). 504 is a time-out, 503
 * refused, breaker
 * open and offline, 502 an answer that is wrong.
 */
static const struct error_row error_rows[] = {
	{ -EHOSTUNREACH, 503, true,
	  "not in this cache, and upstream cannot be reached; on its machine, hfcache status says why" },
	{ -ETIMEDOUT, 504, true,
	  "not in this cache, and upstream did not answer in time; on its machine, hfcache status says why" },
	{ -ECONNRESET, 502, true, "upstream broke the connection; try again" },
	{ -EBADMSG, 502, true,
	  "upstream sent bytes that are not the file it announced; nothing was kept, try again" },
	{ -EPROTO, 502, true,
	  "upstream sent no answer that a Hub sends, or its certificate is not trusted; are hub.url and "
	  "hub.ca-file right?" },
	{ -EPERM, 502, false,
	  "upstream redirected to a host that hub.redirect-hosts does not list; the administrator may add "
	  "it" },
	{ -ELOOP, 502, false, "upstream redirected too often" },
	{ -E2BIG, 502, false, "upstream's answer is larger than this cache accepts" },
	{ -EBUSY, 429, false,
	  "upstream's rate limit is used up, for this token or for all who send none, and nothing is asked "
	  "until it "
	  "ends; a token of one's own has a limit of its own (HF_TOKEN)" },
	{ -EACCES, 503, true,
	  "upstream cannot be reached, and this repository is not in this cache, or nothing has proved lately that "
	  "who asks may read it (offline.access); on its machine, hfcache status says why" },
	{ -ENODATA, 504, true, "not in this cache, and upstream cannot be asked" },
	{ -ENOSPC, 507, false,
	  "no room in the cache (storage.max-size) or on its disk; the administrator must free some" },
	{ -EIDRM, 503, true,
	  "this cache had to throw the file away again before it could be sent: storage.max-size, or its "
	  "disk, is "
	  "too small for what is asked of it just now; try again" },
	{ -EDQUOT, 503, true,
	  "as many files are being fetched as may be at a time, by this cache or for this client's address; "
	  "try "
	  "again when one has come" },
	{ -EMFILE, 503, true, "this cache has no file descriptors left (LimitNOFILE, ulimit -n); try again" },
	{ -ENOBUFS, 503, true,
	  "this cache has no connection to upstream free: all it may have are busy, or the machine has no "
	  "memory for more; try again" },
	{ -EUSERS, 503, true,
	  "as many requests are being passed on for this client's address as may be at a time; nothing was "
	  "sent, try again when one has ended" },
	{ -EADDRNOTAVAIL, 503, true,
	  "the machine of this cache has no local port left for a connection "
	  "(net.ipv4.ip_local_port_range); try again" },
	{ -ENETDOWN, 503, true,
	  "the machine of this cache does not let it connect; a rule of its firewall or of its sandbox" },
	{ -EIO, 500, false, "this cache cannot read its disk; see its log" },
	{ -EXDEV, 503, true, "upstream did not say which repository this is; try again" },
	{ -ESTALE, 503, true, "another repository took this name while upstream was asked; try again" },
	{ -ECANCELED, 503, true, "this cache is shutting down; try again" },
	{ -ESHUTDOWN, 503, true, "this cache is shutting down; try again" },
	{ -EINVAL, 400, false, "malformed request" },
};
static const struct error_row unknown_row = { 0, 500, false, "internal error of this cache; see its log" };

static const struct error_row *find_row(int error)
{
	for (size_t i = 0; i < sizeof(error_rows) / sizeof(error_rows[0]); i++)
		if (error_rows[i].error == error)
			return &error_rows[i];
	return &unknown_row;
}

/* Field values are ASCII on one line; what a client may have put into the sentence is cut down to that. */
static void set_message(struct reply *r, struct str sentence)
{
	SCOPED_BUF clean;

	buf_init(&clean, 512);
	for (size_t i = 0; i < sentence.len && i < 500; i++) {
		unsigned char c = (unsigned char)sentence.ptr[i];

		buf_append_char(&clean, c >= ' ' && c < 0x7f ? (char)c : '?');
	}
	(void)headers_set(&r->headers, STR("X-Error-Message"), buf_str(&clean));
}

static void set_body(struct reply *r, enum endpoint_class class, int status, struct str sentence)
{
	SCOPED_BUF body;

	buf_init(&body, 16384);
	if (class == ENDPOINT_API) {
		buf_append_str(&body, STR("{\"error\":"));
		json_write_string(&body, sentence);
		buf_append_char(&body, '}');
		reply_text(r, status, "application/json; charset=utf-8", buf_str(&body));
	} else {
		reply_text(r, status, "text/plain; charset=utf-8", sentence);
	}
}

void reply_refuse(struct reply *r, enum endpoint_class class, int status, const char *sentence)
{
	set_body(r, class, status, str_from(sentence));
	set_message(r, str_from(sentence));
}

/* Python reads RateLimit, Rust Retry-After; both count whole seconds, and 0 would mean at once (hub-protocol 5.4). */
static void set_wait(struct reply *r, const struct request *q)
{
	unsigned long long wait_s = q->busy_ms / 1000 + (q->busy_ms % 1000 > 0);
	const char *bucket = policy_rate_name(policy_rate_bucket(q->path));

	if (wait_s == 0)
		wait_s = 1;
	headers_remove(&r->headers, STR("Retry-After"));
	(void)headers_addf(&r->headers, "Retry-After", "%llu", wait_s);
	(void)headers_addf(&r->headers, "RateLimit", "\"%s\";r=0;t=%llu", bucket, wait_s);
}

void reply_error(struct reply *r, const struct request *q, enum endpoint_class class, int error,
		 struct str detail)
{
	const struct error_row *row = find_row(error);
	SCOPED_BUF sentence;

	buf_init(&sentence, 8192);
	if (detail.len > 0)
		buf_appendf(&sentence, "%.*s: ", (int)(detail.len < 1024 ? detail.len : 1024), detail.ptr);
	buf_append_str(&sentence, str_from(row->sentence));
	set_body(r, class, row->status, buf_str(&sentence));
	set_message(r, buf_str(&sentence));
	if (row->retry_at_once)
		(void)headers_set(&r->headers, STR("Retry-After"), STR("0"));
	if (error == -EBUSY)
		set_wait(r, q);
	if (class == ENDPOINT_OWN || row->status < 500)
		return;
	r->cache_status = "fwd=miss";
}

static bool is_confusing_401(int status, struct str code, struct str message)
{
	return status == 401 && code.len == 0 &&
	       !str_starts_with(message, STR("Invalid credentials in Authorization"));
}

/* git offers its token only after a Basic challenge. */
static void set_challenge(struct reply *r, enum endpoint_class class, struct str challenge)
{
	if (class == ENDPOINT_GIT)
		challenge = STR("Basic realm=\"Authentication required\", charset=\"UTF-8\"");
	if (challenge.len)
		(void)headers_set(&r->headers, STR("WWW-Authenticate"), challenge);
}

void reply_refusal(struct reply *r, enum endpoint_class class, const struct refusal *refusal)
{
	struct str code = str_from(refusal->error_code), message = str_from(refusal->error_message);

	if (refusal->body)
		reply_bytes(r, refusal->status, refusal->content_type, refusal->body);
	else
		set_body(r, class, refusal->status, message);
	if (is_confusing_401(refusal->status, code, message))
		code = STR("RepoNotFound");
	if (code.len)
		(void)headers_set(&r->headers, STR("X-Error-Code"), code);
	if (message.len)
		(void)headers_set(&r->headers, STR("X-Error-Message"), message);
	if (refusal->status == 401)
		set_challenge(r, class, str_from(refusal->www_authenticate));
}

void reply_upstream_error(struct reply *r, enum endpoint_class class, const struct answer *answer)
{
	struct str code = headers_get(&answer->last, STR("X-Error-Code"));
	struct str message = headers_get(&answer->last, STR("X-Error-Message"));

	if (answer->status < 400) {
		reply_refuse(r, class, 502,
			     "upstream sent a redirect or an answer that leads nowhere; try again");
		r->cache_status = "fwd=miss";
		return;
	}
	reply_copy_allowed(&r->headers, &answer->last);
	/* a HEAD was asked: its answer has no words for a GET but those in the message */
	if (buf_str(&answer->body).len == 0 && message.len)
		set_body(r, class, answer->status, message); /* with the type of these words, not of those */
	else
		reply_text(r, answer->status, NULL, buf_str(&answer->body));
	/* validators and ranges of an error page would be taken for the file's */
	headers_remove(&r->headers, STR("ETag"));
	headers_remove(&r->headers, STR("Accept-Ranges"));
	headers_remove(&r->headers, STR("Content-Disposition"));
	if (is_confusing_401(answer->status, code, message))
		(void)headers_set(&r->headers, STR("X-Error-Code"), STR("RepoNotFound"));
	if (answer->status == 401)
		set_challenge(r, class, headers_get(&answer->last, STR("WWW-Authenticate")));
	r->cache_status = "fwd=miss";
}

void reply_entry_not_found(struct reply *r, const char commit[COMMIT_TEXT])
{
	reply_text(r, 404, "text/plain; charset=utf-8", STR("Entry not found"));
	(void)headers_set(&r->headers, STR("X-Error-Code"), STR("EntryNotFound"));
	(void)headers_set(&r->headers, STR("X-Error-Message"), STR("Entry not found"));
	(void)headers_set(&r->headers, STR("X-Repo-Commit"), str_from(commit));
}

void reply_revision_not_found(struct reply *r, enum endpoint_class class, struct str revision)
{
	SCOPED_BUF sentence;

	buf_init(&sentence, 2048);
	buf_appendf(&sentence, "Invalid rev id: %.*s", (int)(revision.len < 256 ? revision.len : 256),
		    revision.ptr);
	set_body(r, ENDPOINT_API, 404, buf_str(&sentence));
	set_message(r, buf_str(&sentence));
	(void)headers_set(&r->headers, STR("X-Error-Code"), STR("RevisionNotFound"));
}
