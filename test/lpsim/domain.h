/*
 * domain.h
 *	  The Domain API: where each service is.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_DOMAIN_H
#define LPSIM_DOMAIN_H

#include "answer.h"
#include "request.h"

extern void domains_get(Request *req, Answer *ans);

#endif
