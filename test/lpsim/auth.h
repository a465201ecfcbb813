/*
 * auth.h
 *	  Both token services, and the tokens they issued.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_AUTH_H
#define LPSIM_AUTH_H

#include <stdbool.h>
#include "answer.h"
#include "request.h"

extern bool bearer_valid(const Request *req);
extern void tokens_expire(void);
extern void token_oauth(Request *req, Answer *ans);
extern void token_login(Request *req, Answer *ans);
extern void token_refresh(Request *req, Answer *ans);

#endif
