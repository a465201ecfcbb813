/*
 * tally.h
 *	  What requests to the account did, counted from the log.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_TALLY_H
#define LPSIM_TALLY_H

#include "answer.h"
#include "request.h"

extern void control_posts(Request *req, Answer *ans);
extern void control_changes(Request *req, Answer *ans);

#endif
