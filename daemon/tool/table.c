/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool/table - tables for people: as wide as the terminal, or as wide as they are where there is none.
 *
 * Threads   one.
 */
#include "tool/priv.h"

#include <libsmartcols.h>
#include <unistd.h>
#include "common/alloc.h"

struct table {
	struct libscols_table *inner; /* owned; NULL: no memory, nothing is printed */
	size_t columns;
	bool may_truncate;
};

struct table *table_new(bool may_truncate)
{
	struct table *t = xcalloc(1, sizeof(*t));

	scols_init_debug(0);
	t->inner = scols_new_table();
	t->may_truncate = may_truncate && isatty(STDOUT_FILENO);
	if (!t->inner)
		return t;
	(void)scols_table_enable_colors(t->inner, 0);     /* no cell says anything by its colour */
	(void)scols_table_enable_noencoding(t->inner, 1); /* cells are plain before it sees them */
	if (!t->may_truncate)
		(void)scols_table_enable_nowrap(t->inner, 0);
	return t;
}

void table_add_column(struct table *t, const char *name, enum column how)
{
	int flags = how == COLUMN_RIGHT ? SCOLS_FL_RIGHT : 0;

	if (how == COLUMN_SHORTEN && t->may_truncate)
		flags |= SCOLS_FL_TRUNC;
	if (t->inner && scols_table_new_column(t->inner, name, 0, flags))
		t->columns++;
}

void table_add_line(struct table *t, const char *const *cells)
{
	struct libscols_line *line = t->inner ? scols_table_new_line(t->inner, NULL) : NULL;

	for (size_t i = 0; line && i < t->columns; i++) {
		SCOPED_FREE char *plain = plain_text(cells[i]);

		(void)scols_line_set_data(line, i, plain);
	}
}

void table_print(struct table *t)
{
	if (t->inner)
		(void)scols_print_table(t->inner);
}

void table_free(struct table *t)
{
	if (!t)
		return;
	scols_unref_table(t->inner);
	free(t);
}
