/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config - every option, from the table options.def: defaults, files, environment, command line.
 *
 * Precedence, later wins: defaults; the .conf files in /usr/lib/hfcached; /etc/hfcached/hfcached.conf (or
 * FILE of --config instead); the .conf files in /etc/hfcached/conf.d (or FILE.d); HFCACHE_<SECTION>_<KEY>;
 * --set section.key=value. The files of a folder are read in the order of their names' bytes. Of a section with a name:
 * HFCACHE_BACKEND_NEAR_URL, --set "backend near.url=value".
 *
 * Never     is seen by any room but main.
 * Promises  (1) all or nothing: with one error the config is not given out, and every error is listed with
 *           file and line.
 *           (2) an unknown section or key is an error that names the nearest known one.
 *           (3) nothing is required: an empty configuration serves.
 */
#pragma once
#include "common/buf.h"
#include "common/log.h"
#include "policy/policy.h"

struct config_list {
	char **words; /* owned, NULL terminated */
	size_t count;
};

typedef char *config_TEXT; /* owned, never NULL */
typedef struct config_list config_LIST;
typedef bool config_BOOL;
typedef uint64_t config_SIZE; /* bytes */
struct config_quota {
	uint64_t bytes; /* 0 when percent is set */
	unsigned percent;
};
typedef struct config_quota config_QUOTA;
typedef uint64_t config_TIME; /* ms */
typedef uint64_t config_COUNT;
typedef enum offline_access config_CHOICE_OFFLINE_ACCESS;
typedef enum log_level config_CHOICE_LOG_LEVEL;
typedef enum infer_mode config_CHOICE_INFER_MODE;
typedef enum infer_scope config_CHOICE_INFER_SCOPE;
typedef enum backend_kind config_CHOICE_BACKEND_KIND;
typedef char *config_SECRET; /* owned, never NULL; config_show() does not tell it */

/* A section that may stand there any number of times, each with a name: [backend near]. */
enum config_family { CONFIG_BACKEND, CONFIG_SPACE, CONFIG_FAMILY_COUNT };
struct config_named {
	char *name;                    /* owned, as it was first written */
	char *where;                   /* owned: where that was */
	struct config_origin *origins; /* owned: of its family's rows, in table order */
};
struct config_backend {
	struct config_named named; /* first: the family's list holds these */
#define OPTION(...)
#define NAMED(family, ...) NAMED_##family(__VA_ARGS__)
#define NAMED_backend(key, field, type, default_text, reload, help) config_##type field;
#define NAMED_space(...)
#include "config/options.def"
#undef NAMED_space
#undef NAMED_backend
#undef NAMED
#undef OPTION
};
struct config_space {
	struct config_named named; /* first */
#define OPTION(...)
#define NAMED(family, ...) NAMED_##family(__VA_ARGS__)
#define NAMED_backend(...)
#define NAMED_space(key, field, type, default_text, reload, help) config_##type field;
#include "config/options.def"
#undef NAMED_space
#undef NAMED_backend
#undef NAMED
#undef OPTION
};
#define CONFIG_NAMED_MAX 32 /* of each family */

struct config {
#define OPTION(section, key, field, type, default_text, reload, help) config_##type field;
#define NAMED(...)
#include "config/options.def"
#undef NAMED
#undef OPTION
	struct config_origin *origins; /* owned: where each value came from, in table order */
	struct {
		struct config_named *items[CONFIG_NAMED_MAX]; /* owned */
		size_t count;
	} families[CONFIG_FAMILY_COUNT];
};
static inline size_t config_backend_count(const struct config *c)
{
	return c->families[CONFIG_BACKEND].count;
}
static inline const struct config_backend *config_backend(const struct config *c, size_t i)
{
	return (const struct config_backend *)c->families[CONFIG_BACKEND].items[i];
}
static inline size_t config_space_count(const struct config *c)
{
	return c->families[CONFIG_SPACE].count;
}
static inline const struct config_space *config_space(const struct config *c, size_t i)
{
	return (const struct config_space *)c->families[CONFIG_SPACE].items[i];
}

struct config_source {
	const char *file;         /* --config, or NULL for the system's places; "" for none at all */
	const char *const *sets;  /* "section.key=value", NULL terminated */
	char *const *environment; /* environ */
	const char *system_root;  /* "" in the program; a test gives its own folder */
};
/*
 * errors  gets one line per error, "FILE:LINE: reason" (or "HFCACHE_X: …", "--set x: …"), for stderr.
 *
 * Returns 0 and the caller's config; -EINVAL with errors filled (exit 78); -ENOENT --config FILE is not there
 * (also in errors).
 */
int config_load(const struct config_source *source, struct config **ret_config, struct buf *errors);
void config_free(struct config *c);
/*
 * section: also "backend near".
 * Where an option's value came from, for a message about it: "FILE:LINE", "HFCACHE_X", "--set x", "default".
 * Borrowed.
 */
const char *config_origin(const struct config *c, const char *section, const char *key);
/*
 * After a reload: the names of options that differ but take effect only with a restart, separated by spaces.
 * Their number.
 */
size_t config_changes_for_restart(const struct config *running, const struct config *next, struct buf *names);
/* Every option as an INI file, with the origin of each value as a comment. */
int config_show(const struct config *c, struct buf *out);
/* The example file: every default, commented out, under its help. */
int config_example(struct buf *out);
/* The OPTIONS part of hfcached.conf(5) in scdoc. */
int config_manual(struct buf *out);
