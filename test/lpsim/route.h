/*
 * route.h
 *	  Routes of the account, and what each request must pass.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_ROUTE_H
#define LPSIM_ROUTE_H

#include "answer.h"
#include "request.h"

extern void carry_out(Request *req, Answer *ans);
extern void rate_reset(void);

#endif
