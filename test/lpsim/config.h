/*
 * config.h
 *	  The knobs of /_sim/config.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_CONFIG_H
#define LPSIM_CONFIG_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include "answer.h"

extern bool config_bool(const char *name);
extern int64_t config_int(const char *name);
extern const char *config_text(const char *name);
extern json_object *config_object(const char *name);
extern bool config_is(const char *name, const char *value);
extern void config_reset(void);
extern bool check_knob(const char *name, json_object *v, Problem *p);
extern void config_set(const char *name, json_object *value);
extern void put_config(Buf *b);
extern void config_help(void);

#endif
