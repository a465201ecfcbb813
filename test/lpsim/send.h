/*
 * send.h
 *	  Answers on their way, also those which are sent slowly, in part or not at all.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_SEND_H
#define LPSIM_SEND_H

#include <microhttpd.h>
#include "answer.h"
#include "request.h"

extern enum MHD_Result answer_send(Request *req, Answer *ans);

#endif
