/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/file_head - what is told about a file beside its bytes: the same on HEAD, 200, 206 and 304.
 *
 * A file of a commit has a name and a type; an object has its digest and nothing else.
 *
 * Pure. Threads any.
 */
#include "hub/priv.h"

static const char *content_type_of(struct str path)
{
	static const struct {
		const char *suffix, *type;
	} types[] = {
		{ ".json", "application/json" },
		{ ".txt", "text/plain; charset=utf-8" },
		{ ".md", "text/plain; charset=utf-8" },
		{ ".html", "text/html; charset=utf-8" },
		{ ".css", "text/css; charset=utf-8" },
		{ ".js", "text/javascript; charset=utf-8" },
		{ ".png", "image/png" },
		{ ".jpg", "image/jpeg" },
		{ ".svg", "image/svg+xml" },
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (str_ends_with(path, str_from(types[i].suffix)))
			return types[i].type;
	return "application/octet-stream";
}

static void set_disposition(struct reply *r, struct str path)
{
	SCOPED_BUF value, encoded;
	struct str name = path;

	for (size_t i = path.len; i-- > 0;)
		if (path.ptr[i] == '/') {
			name = str_from_range(path.ptr + i + 1, path.ptr + path.len);
			break;
		}
	buf_init(&value, 8192);
	buf_init(&encoded, 4096);
	uri_encode(name, NULL, &encoded);
	buf_appendf(&value, "inline; filename*=UTF-8''%.*s; filename=\"", STR_ARGS(buf_str(&encoded)));
	for (size_t i = 0; i < name.len; i++) {
		unsigned char c = (unsigned char)name.ptr[i];

		buf_append_char(&value, c < ' ' || c >= 0x7f || c == '"' || c == '\\' ? '?' : (char)c);
	}
	buf_append_str(&value, STR("\";"));
	if (!buf_error(&value))
		(void)headers_set(&r->headers, STR("Content-Disposition"), buf_str(&value));
}

static void set_name_fields(const struct hub_file *file, struct reply *r)
{
	char hex[CONTENT_HEX_MAX];

	(void)headers_set(&r->headers, STR("Content-Type"), str_from(content_type_of(file->path)));
	(void)headers_addf(&r->headers, "X-Repo-Commit", "%s", file->commit);
	if (file->content.kind == CONTENT_LFS) {
		content_id_hex(&file->content, hex);
		(void)headers_addf(&r->headers, "X-Linked-Etag", "\"%s\"", hex);
		(void)headers_addf(&r->headers, "X-Linked-Size", "%llu",
				   (unsigned long long)file->content.size);
	}
	set_disposition(r, file->path);
}

/* A client that wants only part of a blob asks for all of it first, and takes the Location for the parts. */
static void set_object_fields(const struct hub_file *file, const char *hex, int status, struct reply *r)
{
	(void)headers_set(&r->headers, STR("Content-Type"), STR("application/octet-stream"));
	if (file->self.len)
		(void)headers_addf(&r->headers, "Docker-Content-Digest", "sha256:%s", hex);
	if (file->self.len && status == 200)
		(void)headers_set(&r->headers, STR("Location"), file->self);
}

static const char *caching_of(const struct hub_file *file)
{
	if (!file->is_public)
		return "private, no-cache";
	return file->is_branch_url ? "no-cache" : "public, max-age=31536000, immutable";
}

void file_set_fields(const struct hub_file *file, int status, struct reply *r)
{
	char hex[CONTENT_HEX_MAX];

	content_id_hex(&file->content, hex);
	if (file->is_object)
		set_object_fields(file, hex, status, r);
	else
		set_name_fields(file, r);
	(void)headers_addf(&r->headers, "ETag", "\"%s\"", hex);
	(void)headers_addf(&r->headers, "Accept-Ranges", "bytes");
	(void)headers_addf(&r->headers, "Cache-Control", "%s", caching_of(file));
	if (file->was_stale)
		(void)headers_addf(&r->headers, "X-HF-Warning",
				   "hfcached; upstream cannot be reached, this is the revision last seen");
}
