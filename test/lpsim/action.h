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
 * parameters; NULL: none.  "prepare" is called before the request is judged.
 */
typedef struct Action
{
	const char *name;
	const char *help;
	void		(*act) (Request *req, Answer *ans, const struct Action *action);
	void		(*prepare) (Request *req);
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
extern double rule_seconds(const Request *req, double otherwise);
extern const char *rule_text(const Request *req, const char *name, const char *otherwise);
extern bool rule_bool(const Request *req, const char *name);
extern const Action *action_find(const char *name);
extern void action_help(void);

extern void act_drip(Request *req, Answer *ans, const Action *action);
extern void act_stall(Request *req, Answer *ans, const Action *action);
extern void act_impatient(Request *req, Answer *ans, const Action *action);
extern void act_half(Request *req, Answer *ans, const Action *action);
extern void act_headers_only(Request *req, Answer *ans, const Action *action);
extern void act_wrong_length(Request *req, Answer *ans, const Action *action);
extern void act_nothing(Request *req, Answer *ans, const Action *action);
extern void act_delay(Request *req, Answer *ans, const Action *action);
extern void act_hold(Request *req, Answer *ans, const Action *action);
extern void act_raw(Request *req, Answer *ans, const Action *action);
extern void act_endless(Request *req, Answer *ans, const Action *action);
extern void act_fixed(Request *req, Answer *ans, const Action *action);
extern void act_status(Request *req, Answer *ans, const Action *action);
extern void act_retry_after(Request *req, Answer *ans, const Action *action);
extern void act_body(Request *req, Answer *ans, const Action *action);
extern void act_echo(Request *req, Answer *ans, const Action *action);
extern void act_redirect(Request *req, Answer *ans, const Action *action);
extern void act_deep(Request *req, Answer *ans, const Action *action);
extern void act_wide(Request *req, Answer *ans, const Action *action);
extern void act_huge(Request *req, Answer *ans, const Action *action);
extern void act_spoil(Request *req, Answer *ans, const Action *action);
extern void act_usual(Request *req, Answer *ans, const Action *action);
extern void act_error(Request *req, Answer *ans, const Action *action);
extern void act_page(Request *req, Answer *ans, const Action *action);
extern void act_leak(Request *req, Answer *ans, const Action *action);
extern void act_misname(Request *req, Answer *ans, const Action *action);
extern void prepare_meddle(Request *req);

#endif
