/*
 * claim.c: rows of the queue in memory: the claimed ones, and those in doubt.
 *
 * lp_list() of the install script says what is due, and rows are claimed from that list: a row that is still due, none of
 * whose login is in flight, and that nobody else is changing. The rows of one claim go out in several batches that are
 * settled in any order: they are freed together, after the last. lp_uncertain() chooses those that are looked up, all
 * together.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/extension.h"
#include "base/origin.h"
#include "base/spi_plan.h"
#include "queue/claim.h"
#include "queue/duplicate_logins.h"
#include "queue/row_update.h"
#include "queue/settle.h"

/* The rows of one claim, freed when the last of them is settled. */
typedef struct claim
{
	MemoryContext context;
	int			open;
} claim;

typedef struct claimed_row
{
	lpu_row		row;			/* first: a row is also a claimed row */
	claim	   *claim;
} claimed_row;

/* A text of SPI's in the current memory context, or NULL. */
static char *
keep(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

/* ------------------------------------------------------------------------------------------------------- what is due */

lpu_listed *
lpu_claim_list(const char *schema, const char *account, int room, int *n)
{
	Oid			types[2] = {TEXTOID, INT4OID};
	Datum		values[2] = {CStringGetTextDatum(account), Int32GetDatum(room)};
	lpu_listed *listed;
	Datum		arrays[2];
	bool		isnull;
	Datum	   *ids;
	Datum	   *places;
	int			nplaces;
	int			i;

	*n = 0;
	lpu_run("SELECT ids, places FROM @extschema@.lp_list($1, $2)", 2, types, values);
	for (i = 0; i < 2; i++)
	{
		arrays[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull);
		if (isnull)
			return NULL;
	}
	deconstruct_array(DatumGetArrayTypeP(arrays[0]), INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &ids, NULL,
					  n);
	deconstruct_array(DatumGetArrayTypeP(arrays[1]), TIDOID, sizeof(ItemPointerData), false, TYPALIGN_SHORT, &places, NULL,
					  &nplaces);
	listed = palloc_extended(Max(*n, 1) * sizeof(lpu_listed), MCXT_ALLOC_HUGE);
	for (i = 0; i < *n; i++)
	{
		listed[i].id = DatumGetInt64(ids[i]);
		listed[i].place = *(ItemPointer) DatumGetPointer(places[i]);
	}
	pfree(ids);
	pfree(places);
	return listed;
}

/* ------------------------------------------------------------------------------------------------------- claiming */

/* Is the row at work still due, and may it be sent? */
static bool
is_due(lpu_stored *stored, const char *account, TimestampTz now)
{
	bool		isnull;
	TimestampTz at = DatumGetTimestampTz(lpu_stored_value(stored, LPU_COL_NEXT_ATTEMPT_AT, &isnull));
	char	   *login;

	if (isnull || at > now || strcmp(lpu_stored_text(stored, LPU_COL_STATE), "pending") != 0 ||
		strcmp(lpu_stored_text(stored, LPU_COL_ACCOUNT), account) != 0)
		return false;
	login = lpu_stored_text(stored, LPU_COL_LOGIN_NAME);
	return login == NULL || !lpu_stored_is_in_flight(stored, account, lpu_login_lower(login));
}

/* Make the row at work "sending". False if somebody else is changing it: then it is for another claim. */
static bool
mark_sending(lpu_stored *stored, const char *origin, TimestampTz now)
{
	bool		isnull;
	int			attempts = DatumGetInt32(lpu_stored_value(stored, LPU_COL_ATTEMPTS, &isnull));

	lpu_stored_set_text(stored, LPU_COL_STATE, "sending");
	lpu_stored_set(stored, LPU_COL_ATTEMPTS, Int32GetDatum(attempts + 1));
	lpu_stored_set(stored, LPU_COL_SENT_AT, TimestampTzGetDatum(now));
	lpu_stored_set_text(stored, LPU_COL_ORIGIN, origin);
	lpu_stored_set_null(stored, LPU_COL_NEXT_ATTEMPT_AT);
	lpu_stored_set_null(stored, LPU_COL_STATUS);
	lpu_stored_set_null(stored, LPU_COL_ERROR);
	lpu_stored_set_null(stored, LPU_COL_REASON);
	return lpu_stored_update(stored, false) == LPU_STORED_WRITTEN;
}

/* The row at work with what is to be sent, in the current memory context. */
static lpu_row *
read_claimed(lpu_stored *stored, claim *from)
{
	claimed_row *claimed = palloc0(sizeof(claimed_row));
	lpu_row    *row = &claimed->row;
	bool		isnull;

	claimed->claim = from;
	from->open++;
	row->id = DatumGetInt64(lpu_stored_value(stored, LPU_COL_ID, &isnull));
	row->send_as = lpu_stored_text(stored, LPU_COL_SEND_AS);
	row->login_name = lpu_stored_text(stored, LPU_COL_LOGIN_NAME);
	row->attempts = DatumGetInt32(lpu_stored_value(stored, LPU_COL_ATTEMPTS, &isnull));
	row->sent_before = row->attempts > 1;
	row->place = lpu_stored_place(stored);
	/* nothing can be sent without a login to match the answer by */
	row->body = row->login_name ? lpu_stored_payload(stored, row->id, &row->payload_place) : NULL;
	return row;
}

lpu_row **
lpu_claim_rows(Oid schema, const char *account, const lpu_listed *listed, int nlisted, int *n)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lpusers claim", ALLOCSET_DEFAULT_SIZES);
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "lpusers claiming", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	lpu_row   **rows = palloc(nlisted * sizeof(lpu_row *));
	claim	   *from = palloc0(sizeof(claim));
	lpu_identity before;
	lpu_stored *stored;
	char	   *origin = lpu_origin_text();
	TimestampTz now = GetCurrentTimestamp();
	int			i;

	from->context = context;
	*n = 0;
	lpu_become_owner(schema, &before);
	stored = lpu_stored_open(schema);
	for (i = 0; i < nlisted; i++)
	{
		bool		claimed;

		MemoryContextSwitchTo(scratch);
		claimed = lpu_stored_find(stored, listed[i].id, &listed[i].place) && is_due(stored, account, now) &&
			mark_sending(stored, origin, now);
		MemoryContextSwitchTo(context);
		if (claimed)
			rows[(*n)++] = read_claimed(stored, from);
		MemoryContextReset(scratch);
		CHECK_FOR_INTERRUPTS();
	}
	lpu_stored_close(stored);
	lpu_become_again(&before);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
	if (*n > 0)
		return rows;
	MemoryContextDelete(context);
	return NULL;
}

/* ------------------------------------------------------------------------------------------------------- in doubt */

lpu_doubt *
lpu_claim_doubts(const char *schema, const char *account, int *n)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(account)};
	lpu_doubt  *doubts;
	int			i;

	lpu_run("SELECT id, send_as, login_name, attempts, body, status, trouble, rejected"
			" FROM @extschema@.lp_uncertain($1)", 1, types, values);
	*n = (int) SPI_processed;
	doubts = palloc0(Max(*n, 1) * sizeof(lpu_doubt));
	for (i = 0; i < *n; i++)
	{
		doubts[i].row.id = lpu_int64_column(i, 1);
		doubts[i].row.send_as = keep(lpu_text_column(i, 2));
		doubts[i].row.login_name = keep(lpu_text_column(i, 3));
		doubts[i].row.attempts = lpu_int_column(i, 4);
		doubts[i].body = keep(lpu_text_column(i, 5));
		doubts[i].status = lpu_int_column(i, 6);
		doubts[i].accepted = doubts[i].status / 100 == 2;
		doubts[i].trouble = keep(lpu_text_column(i, 7));
		doubts[i].rejected = lpu_bool_column(i, 8);
	}
	return doubts;
}

MemoryContext
lpu_claim_context(const lpu_row *row)
{
	return ((const claimed_row *) row)->claim->context;
}

void
lpu_claim_release(lpu_row *row)
{
	claim	   *from = ((claimed_row *) row)->claim;

	if (--from->open == 0)
		MemoryContextDelete(from->context);
}
