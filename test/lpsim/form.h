/*
 * form.h
 *	  How single values are written: the same in another form.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_FORM_H
#define LPSIM_FORM_H

#include <json-c/json.h>
#include <stdbool.h>

#include "answer.h"

/* forms of "nothing": null, an empty string, array or object, an attribute which is not there */
#define FORM_ABSENT		0x001
#define FORM_NULL		0x002
#define FORM_BLANK		0x004
#define FORM_ARRAY		0x008
#define FORM_OBJECT		0x010
#define FORM_NOTHING	0x01F
/* forms of something */
#define FORM_STRING		0x020
#define FORM_CAPITAL	0x040
#define FORM_DOUBLE		0x080
#define FORM_EXPONENT	0x100
#define FORM_REVERSED	0x200
#define FORM_WRAPPED	0x400
#define FORM_UNWRAPPED	0x800
#define FORM_SHOWN		0x1000
/* as if there were nothing */
#define FORM_EMPTIED	0x2000

extern bool forms_check(const char *knob, json_object *forms, Problem *p);
extern int	form_of(json_object *forms, const char *attribute);
extern bool is_nothing(const char *text);
extern void put_nothing(Buf *b, int form);
extern void put_form(Buf *b, json_object *v, int form, const char *only);
extern void put_number_form(Buf *b, int64_t n, int form);
extern void form_help(void);

#endif
