/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list - doubly linked, intrusive. Not locked: the owner locks.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *prev, *next;
};

#define LIST_INIT(name)                                                                                      \
	{                                                                                                    \
		&(name), &(name)                                                                             \
	}
/* The struct that holds this node. */
#define LIST_ENTRY(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))
/* The body may remove `it` itself from the list. */
#define LIST_EACH(it, head)                                                                                  \
	for (struct list *it = (head)->next, *it##_next = it->next; it != (head);                            \
	     it = it##_next, it##_next = it->next)

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}
static inline bool list_is_empty(const struct list *l)
{
	return l->next == l;
}
static inline void list_add_tail(struct list *head, struct list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}
static inline void list_add_head(struct list *head, struct list *node)
{
	list_add_tail(head->next, node);
}
/* Safe on a node that is not in a list (after list_init). Leaves it initialised. */
static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}
/* Moves all of `from` to the tail of `to`. */
static inline void list_move_all(struct list *to, struct list *from)
{
	if (list_is_empty(from))
		return;
	from->next->prev = to->prev;
	from->prev->next = to;
	to->prev->next = from->next;
	to->prev = from->prev;
	list_init(from);
}
