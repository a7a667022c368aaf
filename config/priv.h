/* SPDX-License-Identifier: Apache-2.0 */
/*
 * priv - what the files of config/ share: the table in memory, and a config while it is being built.
 *
 * To add an option: one row in options.def. To add a type: one word here, one row in value.c. To add a rule
 * about what a value may be: one row in check.c. To add a family of sections with names: its rows, its struct in config.h,
 * one row in named.c, one definition in table.c.
 */
#pragma once
#include "config/config.h"

enum option_type {
	OPTION_TEXT,
	OPTION_LIST,
	OPTION_BOOL,
	OPTION_SIZE,
	OPTION_QUOTA,
	OPTION_TIME,
	OPTION_COUNT,
	OPTION_CHOICE_OFFLINE_ACCESS,
	OPTION_CHOICE_LOG_LEVEL,
	OPTION_CHOICE_INFER_MODE,
	OPTION_CHOICE_INFER_SCOPE,
	OPTION_CHOICE_BACKEND_KIND,
	OPTION_SECRET,
	OPTION_TYPE_COUNT,
};

#define FAMILY_NONE CONFIG_FAMILY_COUNT
struct option {
	const char *section, *key;
	enum option_type type;
	unsigned family; /* enum config_family; FAMILY_NONE: it stands once */
	size_t offset;   /* of the member in struct config, or in the family's struct */
	const char *default_text;
	bool can_reload;
	const char *help;
};

/* options.def, in its order; sections stay together, families come last. */
extern const struct option config_options[];
extern const size_t config_option_count;

struct config_origin {
	char *text;  /* owned: the value as it was written */
	char *where; /* owned: "FILE:LINE", "HFCACHE_X", "--set", "default" */
};

/* A config that is being filled; errors are counted apart, since the buf may be full. */
struct draft {
	struct config *config; /* owned */
	struct buf *errors;    /* borrowed */
	size_t error_count;
	bool is_open_file; /* every user of this machine can read what is being read */
};

/* --- config.c -------------------------------------------------------------------------------------------- */
void draft_error(struct draft *d, const char *where, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Sets one option by name, or notes why not. Where it stands is noted as its origin. */
void draft_set(struct draft *d, struct str section, struct str key, struct str text, const char *where);
/* The same for a row that has been found; owner is the config, or the named section. */
void draft_set_option(struct draft *d, const struct option *o, struct config_named *named, struct str text,
		      const char *where);
/* Copies what a person wrote into a message: at most 80 bytes, control bytes as '?'. */
void append_shown(struct buf *out, struct str s);

/* --- table.c --------------------------------------------------------------------------------------------- */
/*
 * Of options that stand once; NULL if there is none of this name. Letter case does not matter: the INI library does not
 * keep it apart.
 */
const struct option *option_find(struct str section, struct str key);
/* The known name that is fewest typing mistakes away; never NULL. */
const struct option *option_nearest(struct str section, struct str key);
bool section_is_known(struct str section);
/* "HFCACHE_SERVER_PUBLIC_URL", "HFCACHE_BACKEND_NAME_URL". Free it. */
char *option_variable(const struct option *o);
/* Small letters to large ones, - and . to _. */
void to_variable(char *text);

/* --- named.c --------------------------------------------------------------------------------------------- */
/* Is it a section of a family, "backend near"? Then family and name are told, the name maybe empty. */
bool named_split(struct str section, unsigned *ret_family, struct str *ret_name);
const struct option *named_option(unsigned family, struct str key);
/* What the example file says of it: its default, unless that means nothing. */
const char *named_sample(const struct option *o);
/* What stands for its name where any is meant: NAME, OWNER/NAME; "" for FAMILY_NONE. */
const char *named_word(unsigned family);
/* NULL: there is none. */
struct config_named *named_find(const struct config *c, unsigned family, struct str name);
/* An option of "backend near"; notes what is wrong. */
void named_set(struct draft *d, unsigned family, struct str name, struct str key, struct str text,
	       const char *where);
/* From "HFCACHE_BACKEND_NEAR_URL". false: it is none of a family. */
bool named_set_variable(struct draft *d, struct str variable, struct str text, const char *where);
/* After all layers: what each must have. */
void named_check(struct draft *d);
void named_free(struct config *c);
/* As config_changes_for_restart(), after the first `count` names. */
size_t named_changes(const struct config *running, const struct config *next, struct buf *names,
		     size_t count);
/* Where the origin of a row of a named section is kept. */
struct config_origin *named_origin(const struct config_named *named, const struct option *o);

/* --- value.c --------------------------------------------------------------------------------------------- */
/*
 * Returns 0; -EINVAL with a reason that completes the sentence "KEY = TEXT …". The member is untouched on
 * failure.
 */
int value_parse(const struct option *o, struct str text, void *owner, struct buf *ret_reason);
void config_value_done(const struct option *o, void *owner);
/* What may be written there, for the manual: "time, such as 30s or 12h". */
const char *value_form(const struct option *o);

/* --- check.c --------------------------------------------------------------------------------------------- */
bool value_is_infer_mode(struct str word);
/* What the type alone cannot say: ranges, addresses, URLs. Same returns as value_parse(). */
int value_check(const struct option *o, const void *owner, struct buf *ret_reason);

/* --- file.c ---------------------------------------------------------------------------------------------- */
/* Sets all options of one file. Returns 0, or -ENOENT without a message; all other trouble becomes messages. */
int file_read(struct draft *d, const char *path);
/* The same for text in memory; name is what messages call it. */
void file_parse(struct draft *d, const char *name, struct str text);
