/*
 * control.h
 *	  The control interface below /_sim/.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_CONTROL_H
#define LPSIM_CONTROL_H

#include "answer.h"
#include "request.h"

extern void sim_reset(void);
extern void control(Request *req, Answer *ans);
extern void control_help(void);

#endif
