/*
 * writer.h: the writing requests of a statement on a foreign table.
 */
#ifndef LPU_WRITER_H
#define LPU_WRITER_H

#include "nodes/pg_list.h"

#include "api.h"
#include "compat.h"
#include "resource.h"
#include "user.h"

typedef struct lpu_writer
{
	const lpu_table *table;
	const lpu_options *options;
	Oid			role;			/* whose mapping is used */
	lpu_method	method;
	const char *what;			/* for messages: "create users" */
	const char *hint;			/* ... when one is refused, or NULL */
	int64		done;			/* users of this statement that the account has carried out */
	int64		requests;
	int64		bytes;			/* sent */
} lpu_writer;

/* One request for some of the users. */
typedef struct lpu_write
{
	char	   *body;			/* in UTF-8 */
	size_t		body_length;
	int64		if_match;		/* -1: whatever the revision */
	lpu_user_identity *users;	/* whom it is about; after a create with their ids */
	int			nusers;
	List	   *secrets;		/* C strings that must not appear in an error */
	const char *error;			/* out: what the account said */
} lpu_write;

/*
 * Send it, recorded and with a WARNING if the transaction aborts, as any direct call. Raises if no answer came or the
 * outcome is unknown.
 */
extern lpu_api_answer *lpu_writer_send(lpu_writer *writer, lpu_write *write);

/* Was it refused because of some of the users, so that the others may succeed without them? */
extern bool lpu_writer_is_guilty(const lpu_api_answer *answer);

/* Raise what a refusal of this user means for the statement. */
pg_noreturn extern void lpu_writer_raise(const lpu_writer *writer, const lpu_api_answer *answer, const lpu_write *write);

/* Sends users number from to from + n - 1 of a batch: the answer, and what was sent. */
typedef lpu_api_answer *(*lpu_write_range) (void *batch, int from, int n, lpu_write *write);

/*
 * Carry out a batch in one request. If the account refuses it because of some users, it is sent in halves: all before the
 * first guilty one are carried out, as by a statement that goes row by row, and the ERROR names that one.
 */
extern void lpu_writer_carry_out(lpu_writer *writer, lpu_write_range send, void *batch, int n);

/*
 * Begin a JSON object, or go on with it, by a column's value as its attribute needs it; null as null. Raises if the
 * attribute does not take it.
 */
extern void lpu_writer_put(const lpu_writer *writer, StringInfo object, const lpu_column *column, Datum value, bool isnull);

/* One JSON object laid over another, as text: members of the upper one win. */
extern char *lpu_writer_lay(Jsonb *lower, const char *upper);

/* " Of this statement 3 user(s) ...", for the DETAIL of an error; "" if there are none. */
extern char *lpu_writer_progress(const lpu_writer *writer);

/* Text in the database's encoding as UTF-8; raises if that cannot be. */
extern char *lpu_writer_utf8(char *text, size_t *length);

#endif
