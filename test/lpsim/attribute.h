/*
 * attribute.h
 *	  The attributes of a user: names, types, who may write them.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_ATTRIBUTE_H
#define LPSIM_ATTRIBUTE_H

#include <json-c/json.h>
#include "text.h"

typedef enum AttrType
{
	T_STRING, T_BOOL, T_NUMBER, T_LONG, T_LONGS, T_GROUP, T_GROUPS
} AttrType;

#define A_REQUIRED	1			/* on create */
#define A_READ		2			/* read only */
#define A_WRITE		4			/* write only: never answered */
#define A_BLANK		8			/* always answered as an empty string */
#define A_FORGET	16			/* taken, but not stored */

typedef struct AttrRule
{
	const char *name;
	AttrType	type;
	int			flags;
} AttrRule;

extern const AttrRule user_attributes[];
extern const int n_attributes;

extern int attribute_find(const char *name);
extern json_object *convert_scalar(AttrType type, json_object *v);
extern json_object *convert(AttrType type, json_object *v);

#endif
