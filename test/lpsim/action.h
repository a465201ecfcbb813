/*
 * action.h
 *	  What can go wrong with an answer.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_ACTION_H
#define LPSIM_ACTION_H

#include <json-c/json.h>
#include <stdint.h>
#include "answer.h"
#include "request.h"

/*
 * What can go wrong.  "act" makes the answer; "text" and "status" are for
 * those which merely answer something fixed.  "needs" and "takes" name the
 * parameters.
 */
typedef struct Action
{
	const char *name;
	const char *help;
	void		(*act) (Request *req, Answer *ans, const struct Action *action);
	const char *needs;
	const char *takes;
	int			flags;
	unsigned	status;			/* 0: the usual one */
	const char *type;
	const char *text;
} Action;

#define F_USUAL		1			/* works upon the usual answer */
#define F_CARRY		2			/* carried out unless "applied" is false */

extern int64_t rule_int(const Request *req, const char *name, int64_t otherwise);
extern void act_delay(Request *req, Answer *ans, const Action *action);
extern const Action *action_find(const char *name);
extern void action_help(void);

#endif
