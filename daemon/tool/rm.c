/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool/rm - forgets repositories, after asking, and says what that has freed.
 *
 * Threads   one.
 */
#include "tool/priv.h"

#include <inttypes.h>
#include <sysexits.h>
#include "common/alloc.h"
#include "common/http/uri.h"

#include "common/banned.h"

#define PATH_BYTES_MAX 8192
#define NEAR_MAX 3
#define WORD_MAX 200

struct removal {
	const struct args *args;
	struct client *client;
	uint64_t freed, kept;
	struct buf json; /* the daemon's results, one after the other */
	int code;        /* the first that was not 0 */
};

static int make_path(const struct removal *m, const struct repo_id *id, bool is_dry, struct buf *out)
{
	const char *revision = arg_value(m->args, FLAG_rm_revision);

	revision = revision ? revision : id->revision;
	buf_init(out, PATH_BYTES_MAX);
	(void)buf_appendf(out, "/-/repos/%s%s", id->kind, id->id[0] ? "/" : "");
	(void)uri_encode_path(str_from(id->id), out);
	(void)buf_appendf(out, "?dry-run=%d", is_dry);
	if (revision) {
		(void)buf_append_str(out, STR("&revision="));
		(void)uri_encode(str_from(revision), NULL, out);
	}
	return buf_error(out);
}

/* --- near names --- */

struct near {
	const char *wanted;
	struct {
		char id[WORD_MAX + 32];
		unsigned distance;
	} at[NEAR_MAX];
	size_t count;
};

/* How many letters must change. Of words that are longer than they should be: very many. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[WORD_MAX + 1];
	size_t len_a = strlen(a), len_b = strlen(b);

	if (len_a > WORD_MAX || len_b > WORD_MAX)
		return UINT32_MAX;
	for (unsigned j = 0; j <= len_b; j++)
		row[j] = j;
	for (unsigned i = 1; i <= len_a; i++) {
		unsigned corner = row[0];

		row[0] = i;
		for (size_t j = 1; j <= len_b; j++) {
			unsigned change = corner + (a[i - 1] != b[j - 1]),
				 least = row[j] < row[j - 1] ? row[j] : row[j - 1];

			corner = row[j];
			row[j] = least + 1 < change ? least + 1 : change;
		}
	}
	return row[len_b];
}

/* The same name of another kind is nearest of all. */
static unsigned distance_of(const char *id, const char *wanted)
{
	const char *name = strchr(id, '/'), *wanted_name = strchr(wanted, '/');

	return name && wanted_name && strcmp(name, wanted_name) == 0 ? 0 : distance(id, wanted);
}

static int look_if_near(void *ctx, struct str raw, const struct json *repo)
{
	struct near *n = ctx;
	SCOPED_FREE char *id = str_dup(json_text(repo, "id"));
	unsigned d = distance_of(id, n->wanted);
	size_t place = n->count;

	if (d > 2 + strlen(n->wanted) / 4 || strlen(id) > WORD_MAX)
		return 0;
	while (place > 0 && n->at[place - 1].distance > d)
		place--;
	if (place == NEAR_MAX)
		return 0;
	n->count += n->count < NEAR_MAX;
	for (size_t i = n->count - 1; i > place; i--)
		n->at[i] = n->at[i - 1];
	n->at[place].distance = d;
	(void)snprintf(n->at[place].id, sizeof(n->at[place].id), "%s", id);
	return 0;
}

static void say_near(struct removal *m, const struct repo_id *id)
{
	SCOPED_FREE char *wanted = xasprintf("%s/%s", kind_word(id->kind), id->id);
	struct near near = { .wanted = wanted };
	uint64_t hidden;

	if (client_each_repo(m->client, "", look_if_near, &near, &hidden) != 0)
		return;
	for (size_t i = 0; i < near.count; i++) {
		if (strcmp(near.at[i].id, wanted) != 0)
			continue;
		(void)fputs("         its revisions: hfcache ls --revisions ", stderr);
		print_plain(stderr, str_from(wanted));
		(void)fputc('\n', stderr);
		return;
	}
	for (size_t i = 0; i < near.count; i++) {
		(void)fputs(i ? ", " : "         did you mean ", stderr);
		print_plain(stderr, str_from(near.at[i].id));
	}
	if (near.count)
		(void)fputs("?\n", stderr);
}

/* --- one repository --- */

static void print_result(const struct removal *m, const struct json *root, bool is_dry)
{
	uint64_t freed = json_number(root, "freed_bytes"), kept = json_number(root, "kept_bytes"),
		 files = json_number(root, "files");
	struct str id = json_text(root, "id");
	char a[SIZE_TEXT], b[SIZE_TEXT];

	if (arg_has(m->args, FLAG_rm_json))
		return;
	print_plain(stdout, id);
	(void)printf(": %s %s in %" PRIu64 " file%s", is_dry ? "would free" : "freed", size_text(freed, a),
		     files, files == 1 ? "" : "s");
	if (kept)
		(void)printf("; %s stay%s: others hold them too", size_text(kept, b), is_dry ? "" : "ed");
	(void)putchar('\n');
}

static int remove_one(struct removal *m, const char *word, bool is_dry)
{
	SCOPED(json_free) struct json *root = NULL;
	SCOPED_BUF path = { 0 };
	SCOPED_BUF text = { 0 };
	struct repo_id id;
	int code;

	if (strchr(word, '*'))
		return tool_say(
			EX_USAGE,
			"\"%s\": rm takes no patterns; hfcache ls -q PATTERN | xargs -r hfcache rm -y does",
			word);
	if (!repo_id_parse(word, &id))
		return tool_say(EX_USAGE,
				"\"%s\" names no repository: write model/ORG/NAME, dataset/ORG/NAME, "
				"ORG/NAME or inference",
				word);
	code = make_path(m, &id, is_dry, &path) < 0 ? tool_say(EX_USAGE, "\"%s\" is too long", word) : 0;
	if (code == 0)
		code = client_delete(m->client, buf_str(&path).ptr, &text);
	if (code == EX_NOINPUT)
		say_near(m, &id);
	repo_id_done(&id);
	if (code)
		return code;
	if (json_parse(buf_str(&text), &root) < 0)
		return tool_say(EX_SOFTWARE, "the daemon's answer is no JSON: is it of another version?");
	m->freed += json_number(root, "freed_bytes");
	m->kept += json_number(root, "kept_bytes");
	print_result(m, root, is_dry);
	(void)buf_append_str(&m->json, m->json.len ? STR(",\n") : STR("\n"));
	(void)buf_append_str(
		&m->json, str_trim(str_from_range(text.bytes, text.bytes + text.len -
								      (text.bytes[text.len - 1] == '\n'))));
	return 0;
}

static void remove_all(struct removal *m, bool is_dry)
{
	m->freed = m->kept = 0;
	buf_reset(&m->json);
	for (int i = 0; i < m->args->rest_count; i++) {
		int code = remove_one(m, m->args->rest[i], is_dry);

		m->code = m->code ? m->code : code;
	}
}

/* --- asking --- */

/* What is gone cannot be got again while nobody can be asked for it. */
static void warn_if_alone(const struct removal *m)
{
	SCOPED(json_free) struct json *root = NULL;
	SCOPED_BUF text = { 0 };

	if (client_get(m->client, "/-/status", &text) == 0 && json_parse(buf_str(&text), &root) == 0 &&
	    json_is_false(json_get(json_get(root, "upstream"), "reachable")))
		(void)fputs("hfcache: upstream cannot be reached just now: until it can, what is forgotten "
			    "is not to be had\n",
			    stderr);
}

static bool is_confirmed(const struct removal *m)
{
	char size[SIZE_TEXT], answer[16] = "";

	(void)fflush(stdout);
	(void)fprintf(stderr, "Forget %d repositor%s and free %s? [y/N] ", m->args->rest_count,
		      m->args->rest_count == 1 ? "y" : "ies", size_text(m->freed, size));
	return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static void print_closing(struct removal *m, bool is_dry)
{
	char size[SIZE_TEXT];

	if (arg_has(m->args, FLAG_rm_json)) {
		(void)putchar('[');
		print_answer(stdout, buf_str(&m->json));
		(void)fputs(m->json.len ? "\n]\n" : "]\n", stdout);
	} else if (m->code == 0 || m->freed) {
		(void)printf("%s %s\n", is_dry ? "would free" : "freed", size_text(m->freed, size));
	}
}

int verb_rm(const struct args *a)
{
	SCOPED(client_free) struct client *c = client_new(a->opts);
	struct removal m = { .args = a, .client = c };
	bool is_dry = arg_has(a, FLAG_rm_dry_run), is_sure = arg_has(a, FLAG_rm_yes) || is_dry;

	if (a->rest_count == 0)
		return tool_say(EX_USAGE, "which repository? See \"hfcache ls\"");
	if (!is_sure && (!isatty(STDIN_FILENO) || arg_has(a, FLAG_rm_json)))
		return tool_say(EX_USAGE,
				"there is nobody to ask: say --yes, or --dry-run to see what would go");
	buf_init(&m.json, 64 << 20);
	if (!arg_has(a, FLAG_rm_yes))
		warn_if_alone(&m);
	if (!is_sure) {
		remove_all(&m, true);
		is_sure = m.code == 0 && is_confirmed(&m);
		if (!is_sure && m.code == 0)
			m.code = tool_say(EX_TEMPFAIL, "nothing was done");
	}
	if (is_sure) {
		remove_all(&m, is_dry);
		print_closing(&m, is_dry);
	}
	buf_done(&m.json);
	return m.code;
}
