/*
 * change.h
 *	  Writes of another client.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_CHANGE_H
#define LPSIM_CHANGE_H

#include <json-c/json.h>

#include "answer.h"

extern bool change_carry_out(json_object *spec, Problem *p);

#endif
