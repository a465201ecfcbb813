/*
 * shape.h
 *	  The bodies of errors.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_SHAPE_H
#define LPSIM_SHAPE_H

#include "answer.h"

/* For the list of what is allowed. */
#define SHAPES "flat|nested|message_array|message_object|errors|errors_texts|fields_object|" \
	"nested_message|error_text|oauth|string|array|text|html|empty"

extern const char *put_shape(Buf *b, const Problem *p, const char *shape);

#endif
