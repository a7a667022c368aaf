/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect - what inference clients and servers say to each other: what a body asks for, what makes two bodies the same, what an
 * answer means, and how one form of it becomes another. Text in, text out: no I/O, no state, no clock.
 *
 * Glossary  dialect  a family of bodies that are read by the same rules, whatever the path.
 *           event    one piece of a text/event-stream, up to its blank line.
 *           whole    the answer to a call that did not ask for a stream; a stream can be merged into it, and it can be split
 *                    into a stream (inference-protocol 3.7).
 * Never     prints a number, or a string that it did not make, in another spelling than it came in: values travel as they were
 *           written.
 * Threads   any.
 */
#pragma once
#include "common/buf.h"
#include "common/hash.h"
#include "common/json.h"

enum dialect {
	DIALECT_TASK, /* {"inputs": …, "parameters": …}, or raw bytes: the pipeline contract of hf-inference */
	DIALECT_GENERATE,    /* TGI: /generate, /generate_stream */
	DIALECT_CHAT,        /* /v1/chat/completions */
	DIALECT_COMPLETIONS, /* /v1/completions */
	DIALECT_RESPONSES,   /* /v1/responses */
	DIALECT_MESSAGES,    /* /v1/messages */
	DIALECT_EMBEDDINGS,  /* /v1/embeddings */
	DIALECT_AUDIO,       /* /v1/audio/transcriptions, /v1/audio/translations: forms */
	DIALECT_OTHER,       /* a body of a provider's own making */
};
/* "hf-task", "tgi-generate", "oai-chat" … : part of keys, and in logs. Static. */
const char *dialect_name(enum dialect d);

/* --- call.c: what a body asks for --- */

/* May an answer be given again? (inference-protocol 3.2) */
enum repeat {
	REPEAT_YES,    /* the same call has the same answer */
	REPEAT_SEEDED, /* it has, by the promise of a seed */
	REPEAT_SAMPLE, /* another answer each time: an old one is only better than none */
	REPEAT_NEVER,  /* it changes something, or depends on what went before */
};
struct call_facts {
	enum repeat repeat;
	bool is_json;       /* the body is a JSON object */
	bool wants_stream;  /* "stream": true */
	bool wants_usage;   /* "stream_options": {"include_usage": true} */
	bool wants_base64;  /* embeddings as base64 */
	bool refuses_cache; /* "options": {"use_cache": false} */
	bool waits;         /* "options": {"wait_for_model": true} */
	char *model;        /* owned; the body's "model", or NULL */
};
/*
 * task  as the path says, or what is known of the model; "" when nothing is
 * body  of any bytes; only a JSON object is looked into
 */
void call_read(enum dialect d, struct str task, struct str body, struct call_facts *ret);
/* The same of a form; its boundary is form_boundary() of the request's Content-Type. */
void call_read_form(enum dialect d, struct str boundary, struct str body, struct call_facts *ret);
void call_facts_done(struct call_facts *f);

/* --- multipart.c, media.c: bodies that are no JSON. Foreign bytes: fuzzed. --- */

/* Of "multipart/form-data; boundary=x"; ptr NULL: it is none, or has no sound boundary. */
struct str form_boundary(struct str content_type);
struct form_part {
	struct str name, body;
	struct str file; /* its "filename"; ptr NULL: a plain value */
};
/* Takes the next part off *rest, which begins as the body. Returns 1; 0 there are no more; -EPROTO. */
int form_next(struct str *rest, struct str boundary, struct form_part *ret);
/* The first plain value of this name, trimmed; ptr NULL without one. */
struct str form_value(struct str body, struct str boundary, const char *name);
/* One for all spellings of a form: whatever its boundary and the order of its parts. Returns 0; -EPROTO; -E2BIG over 256 parts. */
int form_digest(struct str body, struct str boundary, struct digest *ret);
/* The media type that the first bytes tell; NULL: none that we know. */
const char *media_sniff(struct str body);

/* --- key.c: what makes two calls the same (inference-protocol 3.3) --- */

struct call_key {
	enum dialect dialect;
	struct str partition; /* whose answers: a digest, or empty for those that everybody may share */
	struct str route;     /* canonical: the task, or the path of a provider */
	struct str model;     /* canonical id with its suffix */
	struct str media;     /* media type without parameters, lower case; "json" for JSON */
	struct str variant;   /* request fields that change the answer, spelled by the caller */
};
/*
 * body         the text; for bodies that are not JSON, or too large to be read, empty with body_digest set
 * body_digest  SHA-256 of the raw bytes; always used when the text has no canonical spelling
 * ret_is_canonical  false: the key is that of the raw bytes; may be NULL
 */
/*
 * The two halves of call_key_of(), for who needs several keys of one body: what the body says (dialect and model of k count), and
 * the key of that.
 */
void call_body_digest(const struct call_key *k, struct str body, const struct digest *body_digest,
		      struct digest *ret_digest, bool *ret_is_canonical);
void call_key_of_digest(const struct call_key *k, const struct digest *digest, struct digest *ret_key);
void call_key_of(const struct call_key *k, struct str body, const struct digest *body_digest,
		 struct digest *ret_key, bool *ret_is_canonical);

/* --- sse.c: events --- */

struct sse_event {
	struct str raw;  /* with its blank line, as it came */
	struct str name; /* of its "event:" line, or "" */
	struct str data; /* its data lines, joined by newlines; ptr NULL: it has none */
};
/*
 * Takes the next event off *rest. Lines end in LF, CR or CRLF (WHATWG HTML 9.2.6).
 * scratch  holds data of several lines until the next call; its maximum bounds them
 * Returns 1; 0 *rest is empty; -EAGAIN the text ends inside an event (*rest untouched); -E2BIG.
 */
int sse_next(struct str *rest, struct buf *scratch, struct sse_event *ret);
bool sse_is_done_mark(const struct sse_event *e); /* data: [DONE] */

/* --- stream.c: what a stream has said so far --- */

struct token_usage {
	uint64_t tokens_in, tokens_out;
};
struct stream_watch {
	enum dialect dialect;
	bool saw_end;   /* its terminator, or all that stands for one at a clean end */
	bool saw_error; /* an error event: whatever the status said, this is no answer */
	uint64_t events, finished_choices, choices;
	bool saw_usage;
	struct token_usage usage; /* the last that was told */
};
void stream_watch_event(struct stream_watch *w, const struct sse_event *e);
/* After a clean end: is it an answer that may be kept? */
bool stream_is_whole(const struct stream_watch *w);
/* Is this a whole answer that may be kept: JSON, no {"error": …}, no "finish_reason": "error"? */
bool whole_is_answer(enum dialect d, struct str whole);
/* Is it {"error": …}, whatever its type says? */
bool whole_is_error(struct str whole);
/* What a whole answer, or the data of one event, says of tokens. false: nothing. */
bool usage_read(struct str whole, struct token_usage *ret);
/* The same of a part of a whole answer, cut anywhere: its beginning, or its end. */
bool usage_find(struct str part, struct token_usage *ret);

/* --- one form out of the other --- */

/* events: a complete stream. Returns 0; -EPROTO it is none; -ENOTSUP this dialect has no other form; -E2BIG. */
int stream_merge(enum dialect d, struct str events, struct buf *out);
/* whole: as an answer came. wants_usage: with the chunk that tells it (chat, completions). Errors as there. */
int whole_split(enum dialect d, struct str whole, bool wants_usage, struct buf *out);
/* The events without the chunk that tells nothing but usage. */
int stream_without_usage(struct str events, struct buf *out);
/*
 * A server refused the call: which of its members, at the root and in "parameters", does it not know? Appends their names, a
 * line each. Returns 0; -ENODATA none, or the refusal is about something else; -E2BIG. Both texts are foreign.
 */
int unknown_members(struct str body, struct str refusal, struct buf *out);
/* The body without the members of these names, there. Returns 0; -EINVAL it is no object; -E2BIG. */
int without_members(struct str body, struct str names, struct buf *out);
/* Each embedding as an array of numbers, or as base64 of little-endian floats; those that are so already stay as they are. */
int embeddings_convert(struct str whole, bool to_base64, struct buf *out);
/* The outermost "model" member gets this name, if there is one. */
int model_rename(struct str text, struct str name, struct buf *out);
/* The same in each event of a stream. */
int stream_rename(struct str events, struct str name, struct buf *out);
