/*
 * view.h
 *	  Views: which attributes an answer carries, and how it writes them.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_VIEW_H
#define LPSIM_VIEW_H

#include <stdbool.h>
#include "entity.h"
#include "request.h"

/* Which attributes an answer carries, and how it writes them. */
typedef struct Select
{
	char	   *name;
	char	   *nested;			/* the text between parentheses, or NULL */
} Select;

typedef struct View
{
	bool		all;
	bool		quoted;
	bool		hidden;			/* control interface: also what the API hides */
	int			n;
	Select	   *select;
	int		   *known;			/* place in select + 1, by place in user_attributes */
	int			version;		/* of the API: 2, 4, 5, 6 */
	json_object *forms;			/* how values are written, NULL: as usual */
	int		   *form;			/* the same by place in user_attributes */
} View;

extern void view_free(View *view);
extern void put_entity(Buf *b, const Entity *e, const View *view);
extern View *view_of_request(const Request *req, const char *otherwise, const char *forms,
							 char **text);
extern View *view_everything(const Request *req, bool hidden);

#endif
