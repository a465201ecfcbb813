/*
 * row_update.h: a row of lp_requests with its payload, found by id and changed in place.
 */
#ifndef LPU_QUEUE_ROW_UPDATE_H
#define LPU_QUEUE_ROW_UPDATE_H

#include "storage/itemptr.h"

#include "queue/table_writer.h"

/* Columns that are read or changed here. */
typedef enum lpu_column
{
	LPU_COL_ID, LPU_COL_ACCOUNT, LPU_COL_SEND_AS, LPU_COL_LOGIN_NAME, LPU_COL_STATE, LPU_COL_ATTEMPTS,
	LPU_COL_NEXT_ATTEMPT_AT, LPU_COL_BATCH, LPU_COL_STATUS, LPU_COL_AC_REVISION, LPU_COL_USER_ID, LPU_COL_ERROR,
	LPU_COL_EVIDENCE, LPU_COL_REASON, LPU_COL_ORIGIN, LPU_COL_SENT_AT, LPU_COL_FINISHED_AT, LPU_COL_HELD_AT
} lpu_column;

/* The table, and the row at work. */
typedef struct lpu_stored lpu_stored;

/* Open the tables as the current user, and close them; in between no other statement of this transaction. */
extern lpu_stored *lpu_stored_open(Oid schema);
extern void lpu_stored_close(lpu_stored *stored);

/*
 * Go to the row with this id, as it is now. False if there is none. Its values are good until the next is sought. "place":
 * where it may be, which spares a search, or NULL.
 */
extern bool lpu_stored_find(lpu_stored *stored, int64 id, const ItemPointerData *place);

/* Where the row at work is, after it was written. */
extern ItemPointerData lpu_stored_place(const lpu_stored *stored);

/* A text of the row at work in the current memory context, NULL for null; another value. */
extern char *lpu_stored_text(const lpu_stored *stored, lpu_column column);
extern Datum lpu_stored_value(const lpu_stored *stored, lpu_column column, bool *isnull);

/* Change the row at work; it is written by lpu_stored_update(). */
extern void lpu_stored_set(lpu_stored *stored, lpu_column column, Datum value);
extern void lpu_stored_set_text(lpu_stored *stored, lpu_column column, const char *text);
extern void lpu_stored_set_null(lpu_stored *stored, lpu_column column);

/* Is a request with this login, in lower case, in flight for the account? */
extern bool lpu_stored_is_in_flight(lpu_stored *stored, const char *account, const char *lowered);

/* What became of an attempt to write. */
typedef enum lpu_stored_result
{
	LPU_STORED_WRITTEN,
	LPU_STORED_CHANGED,			/* somebody else has changed the row, or is doing so: nothing is written */
	LPU_STORED_REFUSED			/* a trigger that somebody put on the table did not let it be written so */
} lpu_stored_result;

/* Write the row at work. While somebody else is changing it: wait until that is over, or do not. */
extern lpu_stored_result lpu_stored_update(lpu_stored *stored, bool wait);

/* The payload of a request in the current memory context, NULL if it is gone; and where it is. */
extern char *lpu_stored_payload(lpu_stored *stored, int64 id, ItemPointerData *place);

/* Have it gone. "place": where it may be, or NULL. */
extern void lpu_stored_drop_payload(lpu_stored *stored, int64 id, const ItemPointerData *place);

#endif
