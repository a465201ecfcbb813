/*
 * claim.c: rows of the queue in memory: the claimed ones, and those in doubt.
 *
 * lp_claim() of the install script chooses the rows and marks them "sending"; here they are read. The rows of one claim
 * go out in several batches that are settled in any order: they are freed together, after the last. Likewise
 * lp_uncertain() chooses those that are looked up, all together.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "claim.h"
#include "settle.h"

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

static claimed_row *
read_claimed(claim *from, int i)
{
	claimed_row *row = palloc0(sizeof(claimed_row));

	row->claim = from;
	row->row.id = lpu_int64_column(i, 1);
	row->row.send_as = pstrdup(lpu_text_column(i, 2));
	row->row.login_name = keep(lpu_text_column(i, 3));
	row->row.attempts = lpu_int_column(i, 4);
	/* nothing can be sent without a login to match the answer by */
	row->row.body = row->row.login_name ? keep(lpu_text_column(i, 5)) : NULL;
	row->row.sent_before = row->row.attempts > 1;
	from->open++;
	return row;
}

lpu_row **
lpu_claim_rows(const char *schema, const char *account, int room, int *n)
{
	Oid			types[2] = {TEXTOID, INT4OID};
	Datum		values[2] = {CStringGetTextDatum(account), Int32GetDatum(room)};
	MemoryContext context;
	MemoryContext caller;
	claim	   *from;
	lpu_row   **rows;
	int			i;

	lpu_run(psprintf("SELECT id, send_as, login_name, attempts, body FROM %s.lp_claim($1, $2)", schema), 2, types,
		values);
	*n = (int) SPI_processed;
	if (*n == 0)
		return NULL;
	context = AllocSetContextCreate(CurrentMemoryContext, "lpusers claim", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(context);
	from = palloc0(sizeof(claim));
	from->context = context;
	rows = palloc(*n * sizeof(lpu_row *));
	for (i = 0; i < *n; i++)
		rows[i] = &read_claimed(from, i)->row;
	MemoryContextSwitchTo(caller);
	return rows;
}

lpu_doubt *
lpu_claim_doubts(const char *schema, const char *account, int *n)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(account)};
	lpu_doubt  *doubts;
	int			i;

	lpu_run(psprintf("SELECT id, send_as, login_name, attempts, email, nickname, trouble, rejected FROM %s.lp_uncertain($1)",
				 schema), 1, types, values);
	*n = (int) SPI_processed;
	doubts = palloc0(Max(*n, 1) * sizeof(lpu_doubt));
	for (i = 0; i < *n; i++)
	{
		doubts[i].row.id = lpu_int64_column(i, 1);
		doubts[i].row.send_as = keep(lpu_text_column(i, 2));
		doubts[i].row.login_name = keep(lpu_text_column(i, 3));
		doubts[i].row.attempts = lpu_int_column(i, 4);
		doubts[i].email = keep(lpu_text_column(i, 5));
		doubts[i].nickname = keep(lpu_text_column(i, 6));
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
