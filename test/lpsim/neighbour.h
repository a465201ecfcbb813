/*
 * neighbour.h
 *	  The neighbours of users: profiles, skills, agent groups, lines of business.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_NEIGHBOUR_H
#define LPSIM_NEIGHBOUR_H

#include <json-c/json.h>
#include <stdint.h>
#include "answer.h"
#include "entity.h"
#include "request.h"

typedef struct Neighbour
{
	const char *name;
	const char *otherwise;		/* attributes without select */
	int64_t		revision;
	const char *text;
	json_object *items;
	Entity	  **entities;
} Neighbour;

extern void neighbours_reset(void);
extern bool neighbours_add(json_object *all, Problem *p);
extern void put_neighbours(Buf *b);
extern int roles_of(json_object *user);
extern const char *neighbour_name(const char *resource, int64_t id);
extern Neighbour *neighbour_find(const char *name);
extern void neighbours_get(Request *req, Answer *ans);

#endif
