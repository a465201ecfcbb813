/*
 * entity.h
 *	  The user entity: what the account makes of what a client sent.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_ENTITY_H
#define LPSIM_ENTITY_H

#include <json-c/json.h>
#include <stdint.h>
#include "answer.h"

/*
 * An entity: its attributes in order, each value as JSON text, all in one
 * block.  "known" is the attribute's place in user_attributes, or -1.
 */
typedef struct Attr
{
	int			known;
	const char *name;
	const char *value;
} Attr;

typedef struct Entity
{
	int			n;
	Attr		attr[];
} Entity;

#define MIN_PASSWORD 8

extern json_object *user_accept(json_object *in, json_object *old, int64_t id, Problem *p);
extern Entity *entity_build(json_object *o);
extern json_object *entity_json(const Entity *e);

#endif
