/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool/words - sizes, times, ids and filters, as people write and read them.
 *
 * Sizes are counted in thousands, as the Hub and its own command do.
 * Threads   any. Pure.
 */
#include "tool/priv.h"

#include <ctype.h>
#include <inttypes.h>
#include "common/alloc.h"

#include "common/banned.h"

#define MINUTE INT64_C(60)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

/* From one unit to the next, as in the configuration. */
#define SIZE_STEP 1024

const char *size_text(uint64_t bytes, char ret[SIZE_TEXT])
{
	static const char units[] = "KMGTPE";
	double value = (double)bytes;
	int unit = -1;

	if (bytes < SIZE_STEP) {
		(void)snprintf(ret, SIZE_TEXT, "%u", (unsigned)bytes);
		return ret;
	}
	do {
		value /= SIZE_STEP;
		unit++;
	} while (value >= SIZE_STEP - 0.05); /* else it would read 1024.0 */
	(void)snprintf(ret, SIZE_TEXT, "%.1f%c", value, units[unit]);
	return ret;
}

const char *span_text(uint64_t s, char ret[AGE_TEXT])
{
	int64_t n = s < INT64_MAX ? (int64_t)s : INT64_MAX, large = n < DAY ? n / HOUR : n / DAY,
		small = n < DAY ? n % HOUR / MINUTE : n % DAY / HOUR;
	char large_unit = n < DAY ? 'h' : 'd', small_unit = n < DAY ? 'm' : 'h';

	if (n < MINUTE)
		(void)snprintf(ret, AGE_TEXT, "%" PRId64 "s", n);
	else if (n < HOUR)
		(void)snprintf(ret, AGE_TEXT, "%" PRId64 "m", n / MINUTE);
	else if (small == 0)
		(void)snprintf(ret, AGE_TEXT, "%" PRId64 "%c", large, large_unit);
	else
		(void)snprintf(ret, AGE_TEXT, "%" PRId64 "%c %" PRId64 "%c", large, large_unit, small,
			       small_unit);
	return ret;
}

const char *age_text(int64_t at, int64_t now, char ret[AGE_TEXT])
{
	static const struct {
		int64_t s;
		const char *name;
	} units[] = { { 365 * DAY, "year" }, { 30 * DAY, "month" }, { 7 * DAY, "week" },
		      { DAY, "day" },        { HOUR, "hour" },      { MINUTE, "minute" } };
	int64_t age = now - at;

	if (at == 0)
		return "never";
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		int64_t n = age / units[i].s;

		if (n < 1)
			continue;
		(void)snprintf(ret, AGE_TEXT, "%" PRId64 " %s%s ago", n, units[i].name, n > 1 ? "s" : "");
		return ret;
	}
	return "just now";
}

/* "1.5" and what follows it. false: no number. */
static bool number_parse(const char *text, double *ret, const char **ret_rest)
{
	double value = 0, place = 1;
	const char *p = text;

	for (; *p >= '0' && *p <= '9' && p - text < 18; p++)
		value = value * 10 + (*p - '0');
	if (p == text)
		return false;
	if (*p == '.' && p[1] >= '0' && p[1] <= '9')
		for (p++; *p >= '0' && *p <= '9' && p - text < 18; p++) {
			place /= 10;
			value += place * (*p - '0');
		}
	*ret = value;
	*ret_rest = p;
	return !(*p >= '0' && *p <= '9');
}

bool size_parse(const char *text, uint64_t *ret)
{
	static const char units[] = "KMGTP";
	double value = 0;
	const char *unit = NULL, *rest = NULL;

	if (!number_parse(text, &value, &rest))
		return false;
	if (*rest)
		unit = strchr(units, toupper((unsigned char)*rest));
	for (const char *u = units; unit && u <= unit; u++)
		value *= SIZE_STEP;
	rest += unit ? 1 : 0;
	if (*rest == 'b' || *rest == 'B')
		rest++;
	if (*rest || value > 9e18)
		return false;
	*ret = (uint64_t)value;
	return true;
}

bool span_parse(const char *text, uint64_t *ret_s)
{
	static const struct {
		const char *name;
		int64_t s;
	} units[] = { { "s", 1 },       { "m", MINUTE },    { "h", HOUR },     { "d", DAY },
		      { "w", 7 * DAY }, { "mo", 30 * DAY }, { "y", 365 * DAY } };
	const char *rest = NULL;
	double value = 0;

	if (!number_parse(text, &value, &rest) || value > 1e9)
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(rest, units[i].name) == 0) {
			*ret_s = (uint64_t)(value * (double)units[i].s);
			return true;
		}
	return false;
}

/* --- ids --- */

static const struct {
	const char *kind, *word;
} kinds[] = { { "models", "model" },   { "datasets", "dataset" }, { "spaces", "space" },
	      { "kernels", "kernel" }, { "buckets", "bucket" },   { "inference", "inference" } };

const char *kind_of(const char *word)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (str_eq_nocase(str_from(word), str_from(kinds[i].kind)) ||
		    str_eq_nocase(str_from(word), str_from(kinds[i].word)))
			return kinds[i].kind;
	return NULL;
}

const char *kind_word(const char *kind)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kind, kinds[i].kind) == 0)
			return kinds[i].word;
	return kind;
}

/* Cuts "acme/x@main/README.md" to "acme/x" and "main". */
static void cut_address(char *id, char **ret_revision)
{
	char *at = strchr(id, '@'), *slash = strchr(id, '/');

	slash = slash ? strchr(slash + 1, '/') : NULL;
	if (at && (!slash || at < slash)) {
		char *end = strchr(at, '/');

		if (end)
			*end = 0;
		*at = 0;
		*ret_revision = xstrdup(at + 1);
	} else if (slash) {
		*slash = 0;
	}
}

bool repo_id_parse(const char *text, struct repo_id *ret)
{
	bool is_address = strncmp(text, "hf://", 5) == 0;
	const char *rest = is_address ? text + 5 : text, *slash = strchr(rest, '/');
	SCOPED_FREE char *first = slash ? xstrndup(rest, (size_t)(slash - rest)) : xstrdup(rest);
	const char *kind = kind_of(first);

	*ret = (struct repo_id){ .kind = kind ? kind : "models" };
	if (kind && strcmp(kind, "inference") == 0 && !slash) {
		ret->id = xstrdup("");
		return true;
	}
	if (kind && slash)
		rest = slash + 1;
	ret->id = xstrdup(rest);
	if (is_address)
		cut_address(ret->id, &ret->revision);
	/* a name, or a namespace and a name; the rest the daemon knows better */
	if (ret->id[0] && ret->id[0] != '/' && ret->id[strlen(ret->id) - 1] != '/' &&
	    !strstr(ret->id, "//") &&
	    (!strchr(ret->id, '/') || strchr(ret->id, '/') == strrchr(ret->id, '/')))
		return true;
	repo_id_done(ret);
	return false;
}

void repo_id_done(struct repo_id *id)
{
	free(id->id);
	free(id->revision);
	*id = (struct repo_id){ .kind = NULL };
}

/* --- filters --- */

static const char *op_parse(const char *text, struct filter *ret)
{
	static const struct {
		const char *text;
		int op;
	} ops[] = { { "<=", OP_AT_MOST }, { ">=", OP_AT_LEAST }, { "<", OP_LESS },
		    { ">", OP_MORE },     { "==", OP_IS },       { "=", OP_IS } };

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (strncmp(text, ops[i].text, strlen(ops[i].text)) == 0) {
			ret->op = (typeof(ret->op))ops[i].op;
			return text + strlen(ops[i].text);
		}
	return NULL;
}

bool filter_parse(const char *text, struct filter *ret)
{
	static const struct {
		const char *name;
		int key;
	} keys[] = { { "size", FILTER_SIZE },
		     { "files", FILTER_FILES },
		     { "used", FILTER_USED },
		     { "accessed", FILTER_USED } };
	SCOPED_FREE char *spaceless = xstrdup(text);
	char *to = spaceless;

	for (const char *from = text; *from; from++)
		if (*from != ' ')
			*to++ = *from;
	*to = 0;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		size_t len = strlen(keys[i].name);
		const char *value =
			strncmp(spaceless, keys[i].name, len) == 0 ? op_parse(spaceless + len, ret) : NULL;

		if (!value)
			continue;
		ret->key = (typeof(ret->key))keys[i].key;
		return ret->key == FILTER_USED ? span_parse(value, &ret->value)
					       : size_parse(value, &ret->value);
	}
	return false;
}

static bool compare(const struct filter *f, uint64_t have)
{
	switch (f->op) {
	case OP_LESS:
		return have < f->value;
	case OP_AT_MOST:
		return have <= f->value;
	case OP_MORE:
		return have > f->value;
	case OP_AT_LEAST:
		return have >= f->value;
	case OP_IS:
		break;
	}
	return have == f->value;
}

bool filter_fits(const struct filter *f, uint64_t bytes, uint64_t files, int64_t used_at, int64_t now)
{
	/* what was never used was not used for very long */
	uint64_t age = used_at == 0 ? UINT64_MAX : now > used_at ? (uint64_t)(now - used_at) : 0;

	return compare(f, f->key == FILTER_SIZE ? bytes : f->key == FILTER_FILES ? files : age);
}
