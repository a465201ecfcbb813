/*
 * answer.h
 *	  An answer: status, headers, body, and how it is to be sent.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_ANSWER_H
#define LPSIM_ANSWER_H

#include <stdbool.h>
#include <stdint.h>
#include "text.h"

typedef enum Sending
{
	SEND_PLAIN,					/* as HTTP says */
	SEND_PACED,					/* by the rules in Pace */
	SEND_RAW,					/* the body as it is, without HTTP; then sleep and close */
	SEND_NOTHING,				/* sleep, then close or reset */
} Sending;

/* How an answer which is not sent plainly is sent. */
typedef struct Pace
{
	uint64_t	size;			/* what Content-Length says */
	uint64_t	stop;			/* where the body breaks off */
	uint64_t	piece;			/* bytes at a time, 0: as many as fit */
	int64_t		ms;				/* between two pieces */
	uint64_t	stall_at;		/* sleep "stall" seconds here, once */
	double		stall;
	int64_t		patience_ms;	/* with a client that takes nothing, 0: endless */
	double		seconds;		/* sleep before the end */
	bool		reset;
	bool		chunked;		/* no Content-Length */
	const char *unit;			/* the body is a list of this, repeated */
} Pace;

typedef struct Answer
{
	unsigned	status;
	Body	   *body;
	const char *type;
	char	   *header[8][2];
	int			nheaders;
	const char *shape;			/* of error bodies; NULL: as configured */
	Sending		sending;
	Pace		pace;
} Answer;

/* What is wrong with a request: the parts of an error body. */
typedef struct Problem
{
	unsigned	status;
	char		fields[256];	/* separated by commas */
	char		message[2048];
} Problem;

extern bool problem(Problem *p, unsigned status, const char *fields,
					const char *fmt,...) printf_like(4, 5);
extern void answer_header(Answer *ans, const char *name, const char *value);
extern void answer_drop_headers(Answer *ans);
extern void answer_json(Answer *ans, unsigned status, Buf *b);
extern void answer_text(Answer *ans, unsigned status, const char *fmt,...) printf_like(3, 4);
extern void answer_empty(Answer *ans, unsigned status);
extern void answer_problem(Answer *ans, const Problem *p);
extern void answer_error(Answer *ans, unsigned status, const char *fmt,...) printf_like(3, 4);
extern void answer_free(Answer *ans);
extern void substitute(Answer *ans, unsigned status, const char *type, Body *body);

#endif
