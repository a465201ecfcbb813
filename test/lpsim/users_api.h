/*
 * users_api.h
 *	  The methods of users.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_USERS_API_H
#define LPSIM_USERS_API_H

#include "answer.h"
#include "request.h"

extern bool if_match(const Request *req, int64_t *revision);
extern bool not_modified(const Request *req, Answer *ans, int64_t revision);
extern void users_get_all(Request *req, Answer *ans);
extern void users_get_one(Request *req, Answer *ans);
extern void users_post(Request *req, Answer *ans);
extern void users_put(Request *req, Answer *ans);
extern void users_put_one(Request *req, Answer *ans);
extern void users_delete(Request *req, Answer *ans);
extern void users_delete_one(Request *req, Answer *ans);
extern void users_reset_password(Request *req, Answer *ans);

#endif
