/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/fact - facts as lines of a journal, and back.
 *
 *   name rev=main commit=<40 hex> at=1700000000
 *   entry commit=<40 hex> path=a%20b.bin sha256=<64 hex> size=12 at=…      (git=<40 hex> for regular files)
 *   absent commit=… path=… at=…
 *   object sha256=<64 hex> size=12 at=…
 *   tree commit=… entries=3 at=…
 *   doc key=… body=<64 hex> size=… at=… type=… next=… commit=…
 *   alias to=models/acme/new at=…
 *   public level=files at=…
 *   identity id=65a1… at=…
 *   shown key=<40 hex> level=files at=…   to somebody without a token
 *   belongs key=<40 hex> level=files at=…   to the repo that has this identity
 *   hide level=meta at=…              of those that were shown, only so much counts
 *   forget rev=dev at=…               a write: names and documents above it are doubted; rev, if there, is no more
 *   forget-all at=…                   none of the lines above counts, but those about who may read
 *
 * The repo is the journal's. Values are percent-encoded: all but the printable bytes from '!' to '~', and '%'. Fields in
 * any order; unknown ones are passed over, so that older programs read what newer ones wrote; a later field of the same
 * name counts. A word that this program does not know at the start of the line makes the line -EINVAL.
 *
 * Pure. Threads any.
 */
#include "index/priv.h"

#include <errno.h>
#include <inttypes.h>

#include "common/banned.h"

const uint8_t SHOWN_ITSELF[SUBJECT_BYTES] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
					      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

static const struct str level_words[] = {
	[ACCESS_NONE] = { "none", 4 },
	[ACCESS_META] = { "meta", 4 },
	[ACCESS_FILES] = { "files", 5 },
};
#define LEVELS (sizeof(level_words) / sizeof(level_words[0]))

/* --- writing --- */

static void put_text(struct buf *out, const char *key, struct str value)
{
	static const char digits[] = "0123456789ABCDEF";

	(void)buf_appendf(out, " %s=", key);
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.ptr[i];

		if (c > ' ' && c < 0x7f && c != '%') {
			(void)buf_append_char(out, (char)c);
			continue;
		}
		(void)buf_append_char(out, '%');
		(void)buf_append_char(out, digits[c >> 4]);
		(void)buf_append_char(out, digits[c & 15]);
	}
}

static void put_number(struct buf *out, const char *key, uint64_t value)
{
	(void)buf_appendf(out, " %s=%" PRIu64, key, value);
}

static void put_time(struct buf *out, int64_t at)
{
	put_number(out, "at", at > 0 ? (uint64_t)at : 0);
}

static void put_digest(struct buf *out, const char *key, const struct digest *d)
{
	char hex[2 * SHA256_BYTES + 1];

	format_hex(d->bytes, SHA256_BYTES, hex);
	(void)buf_appendf(out, " %s=%s", key, hex);
}

static void put_content(struct buf *out, const struct content_id *c)
{
	char hex[CONTENT_HEX_MAX];

	content_id_hex(c, hex);
	(void)buf_appendf(out, " %s=%s", content_is_git(c) ? "git" : "sha256", hex);
	put_number(out, "size", c->size);
}

static void put_commit(struct buf *out, const char *commit)
{
	(void)buf_appendf(out, " commit=%.*s", COMMIT_HEX, commit);
}

static void put_doc(struct buf *out, const struct fact *f)
{
	const struct doc *d = f->doc;

	put_text(out, "key", f->path);
	put_digest(out, "body", &d->body);
	put_number(out, "size", d->body_size);
	put_time(out, d->fetched_at);
	if (d->content_type)
		put_text(out, "type", str_from(d->content_type));
	if (d->link_next)
		put_text(out, "next", str_from(d->link_next));
	if (d->commit[0])
		put_commit(out, d->commit);
}

/* What a token was shown dies with the index, as its grants do. Returns whether there is a line. */
static bool put_shown(struct buf *out, const struct fact *f)
{
	static const uint8_t anybody[SUBJECT_BYTES];
	bool is_itself = memcmp(f->subject, SHOWN_ITSELF, SUBJECT_BYTES) == 0;

	if (!is_itself && memcmp(f->subject, anybody, SUBJECT_BYTES) != 0)
		return false;
	(void)buf_append_str(out, f->kind == FACT_HIDE ? STR("hide")
				  : is_itself          ? STR("belongs")
						       : STR("shown"));
	if (f->kind == FACT_SHOWN)
		put_text(out, "key", f->path);
	(void)buf_append_str(out, STR(" level="));
	(void)buf_append_str(out, level_words[f->level]);
	put_time(out, f->at);
	return true;
}

int fact_encode(const struct fact *f, struct buf *out)
{
	size_t before = out->len;

	switch (f->kind) {
	case FACT_ALIAS:
		(void)buf_append_str(out, STR("alias"));
		put_text(out, "to", f->to);
		put_time(out, f->at);
		break;
	case FACT_NAME:
		(void)buf_append_str(out, STR("name"));
		put_text(out, "rev", f->revision);
		put_commit(out, f->commit);
		put_time(out, f->at);
		break;
	case FACT_ENTRY:
		(void)buf_append_str(out, STR("entry"));
		put_commit(out, f->commit);
		put_text(out, "path", f->path);
		put_content(out, &f->content);
		put_time(out, f->at);
		break;
	case FACT_ABSENT:
		(void)buf_append_str(out, STR("absent"));
		put_commit(out, f->commit);
		put_text(out, "path", f->path);
		put_time(out, f->at);
		break;
	case FACT_OBJECT:
		(void)buf_append_str(out, STR("object"));
		put_content(out, &f->content);
		put_time(out, f->at);
		break;
	case FACT_TREE:
		(void)buf_append_str(out, STR("tree"));
		put_commit(out, f->commit);
		put_number(out, "entries", f->size);
		put_time(out, f->at);
		break;
	case FACT_DOC:
		(void)buf_append_str(out, STR("doc"));
		put_doc(out, f);
		break;
	case FACT_PUBLIC:
		(void)buf_append_str(out, STR("public level="));
		(void)buf_append_str(out, level_words[f->level]);
		put_time(out, f->at);
		break;
	case FACT_IDENTITY:
		(void)buf_append_str(out, STR("identity"));
		put_text(out, "id", f->to);
		put_time(out, f->at);
		break;
	case FACT_SHOWN:
	case FACT_HIDE:
		if (!put_shown(out, f))
			return 0;
		break;
	case FACT_FORGET:
		(void)buf_append_str(out, STR("forget"));
		if (f->revision.len)
			put_text(out, "rev", f->revision);
		put_time(out, f->at);
		break;
	case FACT_FORGET_ALL:
		(void)buf_append_str(out, STR("forget-all"));
		put_time(out, f->at);
		break;
	default:
		return 0;
	}
	if (buf_error(out) == 0)
		return 1;
	/* promise of buf: after a failed append the earlier ones are there still */
	out->len = before;
	if (out->bytes)
		out->bytes[before] = 0;
	return buf_error(out);
}

/* --- reading --- */

enum field {
	FIELD_REV,
	FIELD_PATH,
	FIELD_KEY,
	FIELD_TO,
	FIELD_ID,
	FIELD_TYPE,
	FIELD_NEXT,
	FIELD_TEXTS, /* those above are texts */
	FIELD_COMMIT = FIELD_TEXTS,
	FIELD_AT,
	FIELD_SIZE,
	FIELD_ENTRIES,
	FIELD_GIT,
	FIELD_SHA256,
	FIELD_BODY,
	FIELD_LEVEL,
	FIELD_COUNT
};

static const char *const field_words[FIELD_COUNT] = {
	[FIELD_REV] = "rev",         [FIELD_PATH] = "path",   [FIELD_KEY] = "key",
	[FIELD_TO] = "to",           [FIELD_TYPE] = "type",   [FIELD_NEXT] = "next",
	[FIELD_COMMIT] = "commit",   [FIELD_AT] = "at",       [FIELD_SIZE] = "size",
	[FIELD_ENTRIES] = "entries", [FIELD_GIT] = "git",     [FIELD_SHA256] = "sha256",
	[FIELD_BODY] = "body",       [FIELD_LEVEL] = "level", [FIELD_ID] = "id",
};

#define HAS(field) (1u << FIELD_##field)
static const struct {
	const char *word;
	enum fact_kind kind;
	unsigned needs;
} kinds[] = {
	{ "alias", FACT_ALIAS, HAS(TO) },
	{ "name", FACT_NAME, HAS(REV) | HAS(COMMIT) },
	{ "entry", FACT_ENTRY, HAS(COMMIT) | HAS(PATH) | HAS(SIZE) },
	{ "absent", FACT_ABSENT, HAS(COMMIT) | HAS(PATH) },
	{ "object", FACT_OBJECT, HAS(SHA256) | HAS(SIZE) },
	{ "tree", FACT_TREE, HAS(COMMIT) },
	{ "doc", FACT_DOC, HAS(KEY) | HAS(BODY) | HAS(SIZE) },
	{ "public", FACT_PUBLIC, HAS(LEVEL) },
	{ "identity", FACT_IDENTITY, HAS(ID) },
	{ "shown", FACT_SHOWN, HAS(KEY) | HAS(LEVEL) },
	{ "belongs", FACT_SHOWN, HAS(KEY) | HAS(LEVEL) },
	{ "hide", FACT_HIDE, HAS(LEVEL) },
	{ "forget", FACT_FORGET, 0 },
	{ "forget-all", FACT_FORGET_ALL, 0 },
};

struct decoder {
	struct fact fact;
	struct doc doc;
	struct buf *scratch;
	unsigned has;
	struct {
		size_t at, len;
	} texts[FIELD_TEXTS]; /* within scratch, which may still move */
	struct digest sha256;
	struct git_oid git;
	uint64_t size, entries, at;
};

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -EINVAL;
}

/* Appends the decoded bytes and a NUL. */
static int unescape(struct decoder *d, enum field field, struct str value)
{
	d->texts[field].at = d->scratch->len;
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.ptr[i];

		if (c <= ' ' || c >= 0x7f)
			return -EINVAL;
		if (c == '%') {
			int high, low;

			if (value.len - i < 3)
				return -EINVAL;
			high = hex_digit(value.ptr[i + 1]);
			low = hex_digit(value.ptr[i + 2]);
			if (high < 0 || low < 0)
				return -EINVAL;
			c = (unsigned char)(high << 4 | low);
			i += 2;
		}
		(void)buf_append_char(d->scratch, (char)c);
	}
	d->texts[field].len = d->scratch->len - d->texts[field].at;
	(void)buf_append_char(d->scratch, 0);
	return buf_error(d->scratch) ? -EINVAL : 0;
}

static int decode_commit(struct decoder *d, struct str value)
{
	if (value.len != COMMIT_HEX || !str_is_lower_hex(value))
		return -EINVAL;
	memcpy(d->fact.commit, value.ptr, COMMIT_HEX);
	d->fact.commit[COMMIT_HEX] = 0;
	return 0;
}

static int decode_level(struct decoder *d, struct str value)
{
	for (size_t i = 0; i < LEVELS; i++)
		if (str_eq(value, level_words[i])) {
			d->fact.level = (enum access_level)i;
			return 0;
		}
	return -EINVAL;
}

/* Sizes and times are signed on disk. */
static int decode_number(struct str value, uint64_t *ret)
{
	uint64_t n;

	if (parse_u64(value, &n) < 0 || n > INT64_MAX)
		return -EINVAL;
	*ret = n;
	return 0;
}

static int decode_field(struct decoder *d, enum field field, struct str value)
{
	switch (field) {
	case FIELD_COMMIT:
		return decode_commit(d, value);
	case FIELD_AT:
		return decode_number(value, &d->at);
	case FIELD_SIZE:
		return decode_number(value, &d->size);
	case FIELD_ENTRIES:
		return decode_number(value, &d->entries);
	case FIELD_GIT:
		return str_is_lower_hex(value) ? parse_hex(value, d->git.bytes, SHA1_BYTES) : -EINVAL;
	case FIELD_SHA256:
		return str_is_lower_hex(value) ? parse_hex(value, d->sha256.bytes, SHA256_BYTES) : -EINVAL;
	case FIELD_BODY:
		return str_is_lower_hex(value) ? parse_hex(value, d->doc.body.bytes, SHA256_BYTES) : -EINVAL;
	case FIELD_LEVEL:
		return decode_level(d, value);
	default:
		return unescape(d, field, value);
	}
}

static int decode_word(struct decoder *d, struct str word)
{
	struct str key, value;

	if (!str_cut(word, '=', &key, &value))
		return -EINVAL;
	for (int i = 0; i < FIELD_COUNT; i++) {
		if (!str_eq(key, str_from(field_words[i])))
			continue;
		d->has |= 1u << i;
		return decode_field(d, (enum field)i, value);
	}
	return 0; /* written by a newer program */
}

static struct str text(const struct decoder *d, enum field field)
{
	if (!(d->has & 1u << field))
		return STR("");
	return (struct str){ d->scratch->bytes + d->texts[field].at, d->texts[field].len };
}

/* As the members of struct doc: NUL terminated. Texts with a NUL inside are no field values. */
static int doc_text(const struct decoder *d, enum field field, char **ret)
{
	struct str s = text(d, field);

	if (s.len && memchr(s.ptr, 0, s.len))
		return -EINVAL;
	*ret = d->has & 1u << field ? (char *)s.ptr : NULL;
	return 0;
}

static int finish_doc(struct decoder *d)
{
	d->doc.body_size = d->size;
	d->doc.fetched_at = (int64_t)d->at;
	memcpy(d->doc.commit, d->fact.commit, COMMIT_TEXT);
	d->fact.commit[0] = 0;
	d->fact.path = text(d, FIELD_KEY);
	return doc_text(d, FIELD_TYPE, &d->doc.content_type) < 0 ||
			       doc_text(d, FIELD_NEXT, &d->doc.link_next) < 0
		       ? -EINVAL
		       : 0;
}

static int finish_content(struct decoder *d)
{
	struct content_id *c = &d->fact.content;

	if (!(d->has & HAS(GIT)) == !(d->has & HAS(SHA256)))
		return -EINVAL; /* exactly one of them */
	c->size = d->size;
	if (d->has & HAS(GIT)) {
		c->kind = CONTENT_GIT;
		c->git = d->git;
	} else {
		c->kind = CONTENT_LFS;
		c->sha256 = d->sha256;
	}
	return 0;
}

static int finish(struct decoder *d)
{
	d->fact.at = (int64_t)d->at;
	d->fact.revision = text(d, FIELD_REV);
	d->fact.to = text(d, d->fact.kind == FACT_IDENTITY ? FIELD_ID : FIELD_TO);
	d->fact.path = text(d, FIELD_PATH);
	if (d->fact.kind == FACT_TREE)
		d->fact.size = d->entries;
	if (d->fact.kind == FACT_ENTRY || d->fact.kind == FACT_OBJECT)
		return finish_content(d);
	if (d->fact.kind == FACT_SHOWN) {
		d->fact.path = text(d, FIELD_KEY);
		return d->fact.path.len == 0 || d->fact.level == ACCESS_NONE ? -EINVAL : 0;
	}
	if (d->fact.kind == FACT_DOC)
		return finish_doc(d);
	return 0;
}

static int decode_words(struct decoder *d, struct str line)
{
	struct str word, rest;
	size_t kind = 0;
	int r;

	(void)str_cut(line, ' ', &word, &rest);
	while (kind < sizeof(kinds) / sizeof(kinds[0]) && !str_eq(word, str_from(kinds[kind].word)))
		kind++;
	if (kind == sizeof(kinds) / sizeof(kinds[0]))
		return -EINVAL;
	d->fact.kind = kinds[kind].kind;
	if (str_eq(word, STR("belongs")))
		memcpy(d->fact.subject, SHOWN_ITSELF, SUBJECT_BYTES);
	while (rest.len) {
		(void)str_cut(rest, ' ', &word, &rest);
		r = decode_word(d, word);
		if (r < 0)
			return r;
	}
	if ((d->has & kinds[kind].needs) != kinds[kind].needs)
		return -EINVAL;
	return finish(d);
}

int fact_decode(struct str repo, struct str line, struct buf *scratch, struct fact *ret, struct doc *ret_doc)
{
	struct decoder d = { .fact = { .repo = repo }, .scratch = scratch };
	int r;

	buf_reset(scratch);
	r = decode_words(&d, line);
	if (r < 0)
		return -EINVAL;
	*ret = d.fact;
	if (d.fact.kind == FACT_DOC) {
		*ret_doc = d.doc;
		ret->doc = ret_doc;
	}
	return 0;
}
