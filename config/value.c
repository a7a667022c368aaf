/* SPDX-License-Identifier: Apache-2.0 */
/*
 * value - text of one option to its member in struct config, by the type of its row.
 *
 * Never     knows single options: what is particular to one stands in check.c.
 * Promises  (1) a member is either replaced as a whole or left as it was.
 *           (2) no text with control bytes gets in: values go into URLs, headers and log lines.
 */
#include "config/priv.h"

#include <errno.h>

#include "common/alloc.h"

#include "common/banned.h"

/* Enough for every host of a site; what is longer is a mistake in the file. */
#define LIST_WORDS_MAX 1000

static const char *const offline_access_words[] = {
	[OFFLINE_PUBLIC] = "public",
	[OFFLINE_GRANTS] = "grants",
	[OFFLINE_ACL] = "acl",
	[OFFLINE_OPEN] = "open",
};

static const char *const infer_mode_words[] = {
	[INFER_OFF] = "off",         [INFER_DETERMINISTIC] = "deterministic",
	[INFER_RECORD] = "record",   [INFER_REPLAY] = "replay",
	[INFER_OFFLINE] = "offline",
};

static const char *const backend_kind_words[] = {
	[BACKEND_HF] = "hf",         [BACKEND_TGI] = "tgi",           [BACKEND_TEI] = "tei",
	[BACKEND_VLLM] = "vllm",     [BACKEND_LLAMACPP] = "llamacpp", [BACKEND_OLLAMA] = "ollama",
	[BACKEND_OPENAI] = "openai",
};

static const char *const infer_scope_words[] = {
	[INFER_IDENTITY] = "identity", [INFER_SHARED] = "shared", [INFER_NAMED] = "named"
};

static void *member(const struct option *o, void *owner)
{
	return (char *)owner + o->offset;
}

static void list_done(struct config_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->words[i]);
	free(list->words);
	*list = (struct config_list){ 0 };
}

static int parse_text(struct str text, void *ret_value)
{
	char **value = ret_value;

	free(*value);
	*value = str_dup(text);
	return 0;
}

/* The next word and what follows it; an empty word at the end. */
static struct str next_word(struct str *rest)
{
	struct str word = str_trim(*rest);
	size_t len = 0;

	while (len < word.len && word.ptr[len] != ' ' && word.ptr[len] != '\t')
		len++;
	*rest = (struct str){ word.ptr + len, word.len - len };
	return (struct str){ word.ptr, len };
}

static int parse_list(struct str text, void *ret_value)
{
	struct config_list list = { .words = xcalloc(LIST_WORDS_MAX + 1, sizeof(char *)) };
	struct config_list *value = ret_value;

	for (struct str word = next_word(&text); word.len; word = next_word(&text)) {
		if (list.count == LIST_WORDS_MAX) {
			list_done(&list);
			return -EINVAL;
		}
		list.words[list.count++] = str_dup(word);
	}
	list.words = xrealloc(list.words, (list.count + 1) * sizeof(char *));
	list_done(value);
	*value = list;
	return 0;
}

static int parse_bool(struct str text, void *ret_value)
{
	static const struct {
		struct str word;
		bool value;
	} words[] = {
		{ STR("yes"), true }, { STR("true"), true },   { STR("on"), true },
		{ STR("no"), false }, { STR("false"), false }, { STR("off"), false },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (str_eq_nocase(text, words[i].word)) {
			*(bool *)ret_value = words[i].value;
			return 0;
		}
	return -EINVAL;
}

static int parse_size_value(struct str text, void *ret_value)
{
	return parse_size(text, ret_value);
}

static int parse_quota(struct str text, void *ret_value)
{
	struct config_quota quota = { 0 };
	struct str digits;
	uint64_t percent;

	if (!str_ends_with(text, STR("%"))) {
		if (parse_size(text, &quota.bytes) < 0 || quota.bytes == 0)
			return -EINVAL; /* 0 would read as "no limit" further in, which is never meant */
	} else {
		digits = (struct str){ text.ptr, text.len - 1 };
		if (parse_u64(digits, &percent) < 0 || percent < 1 || percent > 100)
			return -EINVAL;
		quota.percent = (unsigned)percent;
	}
	*(struct config_quota *)ret_value = quota;
	return 0;
}

static int parse_time(struct str text, void *ret_value)
{
	return parse_duration_ms(text, ret_value);
}

static int parse_count(struct str text, void *ret_value)
{
	return parse_u64(text, ret_value);
}

/* Which of the words; -EINVAL none. */
static int word_index(struct str text, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (str_eq(text, str_from(words[i])))
			return (int)i;
	return -EINVAL;
}
#define WORD_INDEX(text, words) word_index(text, words, sizeof(words) / sizeof((words)[0]))

static int parse_offline_access(struct str text, void *ret_value)
{
	int i = WORD_INDEX(text, offline_access_words);

	if (i >= 0)
		*(enum offline_access *)ret_value = (enum offline_access)i;
	return i < 0 ? i : 0;
}

bool value_is_infer_mode(struct str word)
{
	return WORD_INDEX(word, infer_mode_words) >= 0;
}

static int parse_infer_mode(struct str text, void *ret_value)
{
	int i = WORD_INDEX(text, infer_mode_words);

	if (i >= 0)
		*(enum infer_mode *)ret_value = (enum infer_mode)i;
	return i < 0 ? i : 0;
}

static int parse_infer_scope(struct str text, void *ret_value)
{
	int i = WORD_INDEX(text, infer_scope_words);

	if (i >= 0)
		*(enum infer_scope *)ret_value = (enum infer_scope)i;
	return i < 0 ? i : 0;
}

static int parse_backend_kind(struct str text, void *ret_value)
{
	int i = WORD_INDEX(text, backend_kind_words);

	if (i >= 0)
		*(enum backend_kind *)ret_value = (enum backend_kind)i;
	return i < 0 ? i : 0;
}

static int parse_log_level(struct str text, void *ret_value)
{
	return log_level_parse(text, ret_value);
}

static const struct {
	int (*parse)(struct str text, void *ret_value);
	const char *form; /* completes "must be …" and stands in the manual */
} types[] = {
	[OPTION_TEXT] = { parse_text, "text" },
	[OPTION_LIST] = { parse_list, "words, separated by spaces" },
	[OPTION_BOOL] = { parse_bool, "yes or no" },
	[OPTION_SIZE] = { parse_size_value, "a size with its unit, B K M G T or P, such as 500G" },
	[OPTION_QUOTA] = { parse_quota,
			   "a size with its unit, such as 500G, or a percentage from 1% to 100%" },
	[OPTION_TIME] = { parse_time, "a time with its unit, ms s m h or d, such as 30s" },
	[OPTION_COUNT] = { parse_count, "a whole number" },
	[OPTION_CHOICE_OFFLINE_ACCESS] = { parse_offline_access, "grants, public, acl or open" },
	[OPTION_CHOICE_LOG_LEVEL] = { parse_log_level, "error, warning, info or debug" },
	[OPTION_CHOICE_INFER_MODE] = { parse_infer_mode, "off, deterministic, record, replay or offline" },
	[OPTION_CHOICE_INFER_SCOPE] = { parse_infer_scope, "identity, shared or named" },
	[OPTION_CHOICE_BACKEND_KIND] = { parse_backend_kind,
					 "tgi, tei, vllm, llamacpp, ollama, openai or hf" },
	[OPTION_SECRET] = { parse_text, "a key without blanks, or credential:NAME" },
};
_Static_assert(sizeof(types) / sizeof(types[0]) == OPTION_TYPE_COUNT, "each type has its row");

const char *value_form(const struct option *o)
{
	return types[o->type].form;
}

/* Control bytes, or bytes that are not UTF-8. */
static bool has_strange_bytes(struct str text)
{
	uint32_t code = 0;

	while (text.len) {
		size_t len = str_utf8_next(text, &code);

		if (len == 0 || (code < 0x20 && code != '\t') || (code >= 0x7f && code < 0xa0))
			return true;
		text = (struct str){ text.ptr + len, text.len - len };
	}
	return false;
}

int value_parse(const struct option *o, struct str text, void *owner, struct buf *ret_reason)
{
	if (has_strange_bytes(text)) {
		(void)buf_appendf(ret_reason, "has control characters or is not UTF-8");
		return -EINVAL;
	}
	if (types[o->type].parse(str_trim(text), member(o, owner)) < 0) {
		(void)buf_appendf(ret_reason, "must be %s", types[o->type].form);
		return -EINVAL;
	}
	return 0;
}

void config_value_done(const struct option *o, void *owner)
{
	if (o->type == OPTION_TEXT || o->type == OPTION_SECRET)
		free(*(char **)member(o, owner));
	else if (o->type == OPTION_LIST)
		list_done(member(o, owner));
}
