/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth/acl - the administrator's list for the time without upstream (offline.access = acl): who reads what.
 *
 *   # comment
 *   allow SUBJECT PATTERN...
 *
 * SUBJECT is token:HEX (what hfcached --subject prints), uid:N, ADDRESS or ADDRESS/BITS; PATTERN is a repo's API path, in which
 * a star stands for anything: models/acme/x, datasets/acme/STAR. Lines only ever add.
 *
 * Never     repeats a word of the list in a message: somebody may have written a token there.
 * Threads   any; a list never changes, it is replaced as a whole.
 */
#include "auth/priv.h"

#include <errno.h>
#include "common/alloc.h"

struct acl_line {
	struct whom whom;
	char **patterns; /* owned */
	size_t pattern_count;
};

struct acl {
	_Atomic unsigned refs;
	struct acl_line *lines; /* owned */
	size_t count;
};

struct acl *acl_ref(struct acl *acl)
{
	if (acl)
		atomic_fetch_add_explicit(&acl->refs, 1, memory_order_relaxed);
	return acl;
}

struct acl *acl_unref(struct acl *acl)
{
	if (!acl || atomic_fetch_sub_explicit(&acl->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	for (size_t i = 0; i < acl->count; i++) {
		for (size_t p = 0; p < acl->lines[i].pattern_count; p++)
			free(acl->lines[i].patterns[p]);
		free(acl->lines[i].patterns);
	}
	free(acl->lines);
	free(acl);
	return NULL;
}

bool acl_allows(const struct acl *acl, const struct subject *s, struct str repo)
{
	for (size_t i = 0; acl && i < acl->count; i++) {
		const struct acl_line *l = &acl->lines[i];

		if (!whom_is(&l->whom, s))
			continue;
		for (size_t p = 0; p < l->pattern_count; p++)
			if (repo_pattern_matches(str_from(l->patterns[p]), repo))
				return true;
	}
	return false;
}

/* The next word of *line, cut off it; empty at its end. */
static struct str next_word(struct str *line)
{
	struct str word = str_trim(*line);
	size_t len = 0;

	while (len < word.len && word.ptr[len] != ' ' && word.ptr[len] != '\t')
		len++;
	*line = (struct str){ word.ptr + len, word.len - len };
	return (struct str){ word.ptr, len };
}

static bool has_control_bytes(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (((unsigned char)s.ptr[i] < ' ' && s.ptr[i] != '\t') || s.ptr[i] == 0x7f)
			return true;
	return false;
}

/* NULL, or what is wrong. What was taken so far is in *l, also then. */
static const char *parse_line(struct str rest, struct acl_line *l)
{
	struct str word = next_word(&rest);

	if (has_control_bytes(rest))
		return "has control characters";
	if (!str_eq(word, STR("allow")))
		return "must begin with the word allow: \"allow SUBJECT PATTERN...\"";
	word = next_word(&rest);
	if (str_starts_with(word, STR("hf_")))
		return "has a token in the clear; write what \"hfcached --subject\" prints for it, and take "
		       "a new token";
	if (whom_parse(word, &l->whom) < 0)
		return "needs after allow one of token:HEX (as hfcached --subject prints), uid:NUMBER, "
		       "ADDRESS, ADDRESS/BITS";
	for (word = next_word(&rest); word.len; word = next_word(&rest)) {
		if (!repo_pattern_is_sound(word))
			return "has a pattern that begins with none of models/, datasets/, spaces/, kernels/ "
			       "and *";
		l->patterns = xrealloc(l->patterns, (l->pattern_count + 1) * sizeof(char *));
		l->patterns[l->pattern_count++] = str_dup(word);
	}
	return l->pattern_count ? NULL : "names no repository: models/acme/x, datasets/acme/* or *";
}

static struct str without_end_of_line(struct str line)
{
	if (line.len && line.ptr[line.len - 1] == '\r')
		line.len--;
	return str_trim(line);
}

int acl_parse(const char *name, struct str text, struct acl **ret_acl, struct buf *errors)
{
	struct acl *acl = xcalloc(1, sizeof(*acl));
	size_t number = 0, error_count = 0, room = 0;

	atomic_init(&acl->refs, 1);
	while (text.len) {
		const char *trouble;
		struct str line;

		(void)str_cut(text, '\n', &line, &text);
		number++;
		line = without_end_of_line(line);
		if (line.len == 0 || line.ptr[0] == '#')
			continue;
		if (acl->count == room) {
			room = room ? 2 * room : 16;
			acl->lines = xrealloc(acl->lines, room * sizeof(*acl->lines));
		}
		acl->lines[acl->count] = (struct acl_line){ .pattern_count = 0 };
		trouble = parse_line(line, &acl->lines[acl->count++]);
		if (!trouble)
			continue;
		error_count++;
		(void)buf_appendf(errors, "%s:%zu: %s\n", name, number, trouble);
	}
	if (error_count) {
		acl_unref(acl);
		return -EINVAL;
	}
	*ret_acl = acl;
	return 0;
}
