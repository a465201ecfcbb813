/*
 * update_row.h: what an UPDATE or DELETE of a foreign table does to one user.
 */
#ifndef LPU_REMOTE_UPDATE_ROW_H
#define LPU_REMOTE_UPDATE_ROW_H

#include "executor/tuptable.h"

#include "remote/hidden_attributes.h"
#include "remote/write_batch.h"

/* The statement. */
typedef struct LpuUpdate
{
	LpuWriterState *writer;
	TupleDesc	desc;			/* of the table's rows */
	const LpuSetList *list;		/* of UPDATE */
	bool		by_trigger;		/* rows may differ from what was read in other
								 * columns too */
} LpuUpdate;

typedef struct LpuRowChange
{
	const LpuUpdate *update;
	int64		id;
	HeapTuple	before;			/* the row as the statement read it */
	HeapTuple	after;			/* as it is to be; NULL: deleted */
	Bitmapset  *columns;		/* that are set, by the statement or by a
								 * trigger; numbers less one */
	char	   *members;		/* attributes that are set, as a JSON object */
	bool		refused;		/* was in a request that was refused, and yet
								 * may have been carried out in part */
	bool		sent;			/* in any request so far */
} LpuRowChange;

/*
 * Raise an error if the column cannot be set: it shows a read-only attribute or the whole
 * entity.
 */
extern void lpu_delta_check_column(const LpuForeignTable *table, const LpuColumn *column);

/*
 * Return true for columns whose values show that another client has changed the user: not those
 * that change by themselves.
 */
extern bool lpu_delta_tells_change(const LpuColumn *column);

/*
 * Set up the change of one row: the user's id, the row as it was read (a composite value), and
 * the new row (NULL: deleted).
 */
extern void lpu_delta_init(LpuRowChange *delta, const LpuUpdate *update, int64 id, Datum before,
						   TupleTableSlot *after);

/* The login that was read, NULL if the table has none; the user, for messages. */
extern char *lpu_delta_login(const LpuRowChange *delta);
extern char *lpu_delta_name(const LpuRowChange *delta);

/* Return true if the user was deleted when the statement read it. */
extern bool lpu_delta_was_deleted(const LpuRowChange *delta);

extern bool lpu_delta_sets(const LpuRowChange *delta, const char *attribute);

/* Compare the user as it is now, as values of columns, with what the statement has read. */
extern const char *lpu_delta_conflict(const LpuRowChange *delta, const Datum *values,
									  const bool *nulls);

/* Return true if the user is now as it is to be, and was not when the statement read it. */
extern bool lpu_delta_is_there(const LpuRowChange *delta, const Datum *values, const bool *nulls);

/* Return the entity with what is set laid over it, as text in the current memory context. */
extern char *lpu_delta_merge(const LpuRowChange *delta, Jsonb *entity);

#endif
