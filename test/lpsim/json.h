/*
 * json.h
 *	  JSON: reading by json-c, writing by hand.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_JSON_H
#define LPSIM_JSON_H

#include <json-c/json.h>
#include <stdbool.h>
#include "text.h"

extern json_object *json_parse(const char *text, size_t len, const char **why);
extern json_object *json_own(const char *text);
extern json_object *json_member(json_object *o, const char *name);
extern void put_string(Buf *b, const char *s, size_t len);
extern void put_text(Buf *b, const char *s);
extern void put_json(Buf *b, json_object *v, bool quoted, const char *only);
extern void set_text(json_object *o, const char *name, const char *text);
extern void set_bool_if_absent(json_object *o, const char *name, bool value);
extern bool text_is(json_object *v, const char *text);

#endif
