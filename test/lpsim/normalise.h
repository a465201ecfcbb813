/*
 * normalise.h
 *	  The form in which the account stores logins and e-mail addresses.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_NORMALISE_H
#define LPSIM_NORMALISE_H

#include <json-c/json.h>

extern char *normalise(const char *text, const char *how);
extern void normalise_user(json_object *user);

#endif
