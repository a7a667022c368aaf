/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/adapt_speech - automatic-speech-recognition: the sound as the whole body, or as base64 in JSON, becomes a form with a
 * file, as /v1/audio/transcriptions takes it.
 */
#include "dialect/adapt_priv.h"

#include <errno.h>

#include "common/hash.h"

#include "common/banned.h"

/* Servers tell the format by the end of the name. */
static const char *ending_of(struct str media, struct str sound)
{
	static const struct {
		struct str word;
		const char *ending;
	} types[] = {
		{ STR("flac"), "flac" }, { STR("wav"), "wav" }, { STR("mpeg"), "mp3" },
		{ STR("mp3"), "mp3" },   { STR("ogg"), "ogg" }, { STR("webm"), "webm" },
		{ STR("mp4"), "m4a" },   { STR("m4a"), "m4a" },
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (media.len && memmem(media.ptr, media.len, types[i].word.ptr, types[i].word.len))
			return types[i].ending;
	if (str_starts_with(sound, STR("fLaC")))
		return "flac";
	if (str_starts_with(sound, STR("OggS")))
		return "ogg";
	if (str_starts_with(sound, STR("ID3")) || str_starts_with(sound, STR("\xff\xfb")))
		return "mp3";
	return "wav";
}

static void put_field(struct buf *out, const char *boundary, const char *name, struct str value)
{
	buf_appendf(out, "--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%.*s\r\n", boundary,
		    name, STR_ARGS(value));
}

/* A text that is nowhere in the sound: made of its digest, so that equal calls stay equal. */
static void make_boundary(struct str sound, char ret[64])
{
	struct hasher *hasher = hasher_new(0, false);
	struct digest digest;
	char hex[2 * SHA256_BYTES + 1];

	hasher_update(hasher, sound.ptr, sound.len);
	hasher_final(hasher, &digest, NULL);
	hasher_free(hasher);
	format_hex(digest.bytes, SHA256_BYTES, hex);
	memcpy(ret, "hfcached-", 9);
	memcpy(ret + 9, hex, 40);
	ret[49] = 0;
}

int rename_form(const struct adapt_call *c, struct str boundary, struct buf *out, struct buf *type)
{
	struct str rest = c->body;
	struct form_part part;

	while (form_next(&rest, boundary, &part) == 1) {
		if (part.file.ptr || !str_eq(part.name, STR("model")))
			continue;
		buf_append_str(out, str_from_range(c->body.ptr, part.body.ptr));
		buf_append_str(out, c->name);
		buf_append_str(out, str_from_range(part.body.ptr + part.body.len, c->body.ptr + c->body.len));
		return buf_append_str(type, c->media);
	}
	return 1;
}

static int put_form(const struct adapt_call *c, struct str sound, struct buf *out, struct buf *type)
{
	const char *ending = ending_of(c->media, sound);
	char boundary[64];

	if (sound.len == 0)
		return -EINVAL;
	make_boundary(sound, boundary);
	if (c->name.len)
		put_field(out, boundary, "model", c->name);
	put_field(out, boundary, "response_format", STR("json"));
	buf_appendf(out,
		    "--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"audio.%s\"\r\n"
		    "Content-Type: %.*s\r\n\r\n",
		    boundary, ending, STR_ARGS(c->media.len ? c->media : STR("application/octet-stream")));
	buf_append_str(out, sound);
	buf_appendf(out, "\r\n--%s--\r\n", boundary);
	buf_appendf(type, "multipart/form-data; boundary=%s", boundary);
	return 0;
}

static int transcribe_request(const struct adapt_call *c, struct adapted *a, struct buf *out,
			      struct buf *type)
{
	SCOPED_BUF text;
	SCOPED_BUF sound;
	struct str stamps;

	buf_init(&text, out->bytes_max);
	buf_init(&sound, out->bytes_max);
	if (!c->is_json)
		return put_form(c, c->body, out, type);
	stamps = raw_get(parameters_of(c->body), "return_timestamps");
	if (!raw_is_null(stamps) && !str_eq(stamps, STR("false")))
		return -ENOTSUP; /* its pieces are told in another shape by each server */
	if (!raw_is_string(raw_get(c->body, "inputs")) ||
	    json_unquote(raw_get(c->body, "inputs"), &text) < 0 || take_base64(buf_str(&text), &sound) < 0)
		return -EINVAL;
	return put_form(c, buf_str(&sound), out, type);
}

static int transcribe_answer(struct adapted *a, struct str whole, struct buf *out)
{
	struct str text = whole.ptr[0] == '{' ? raw_get(whole, "text") : (struct str){ 0 };

	if (!raw_is_string(text))
		return -EPROTO;
	buf_append_char(out, '{');
	put_member(out, "text", text);
	return buf_append_char(out, '}');
}

const struct adapter adapter_transcribe = { .request = transcribe_request,
					    .answer = transcribe_answer,
					    .speaks_otherwise = true };
