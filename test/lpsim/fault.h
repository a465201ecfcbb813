/*
 * fault.h
 *	  Rules: which request is struck by which action.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_FAULT_H
#define LPSIM_FAULT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include "action.h"

typedef struct Rule
{
	int			refs;			/* the list's, and one per request in hand */
	json_object *spec;
	const struct Action *action;
	int64_t		seen;
	int64_t		struck;
	bool		removed;		/* it is in no list any more */
	struct Rule *next;
} Rule;

extern const Action *check_rule(json_object *spec, Problem *p);
extern void rule_release(Rule *r);
extern void rule_add(json_object *spec, const Action *action);
extern void rules_clear(void);
extern Rule *rule_for(const Request *req);
extern void answer_account(Request *req, Answer *ans);
extern void put_rules(Buf *b);

#endif
