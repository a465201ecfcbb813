/*
 * rows.h: the source and the account as relations in one form.
 */
#ifndef LPU_SYNC_ROWS_H
#define LPU_SYNC_ROWS_H

#include "access/tupdesc.h"
#include "tcop/dest.h"
#include "utils/tuplestore.h"

#include "base/spi_plan.h"
#include "sync/definition.h"
#include "sync/names.h"

/*
 * Both relations have the fixed columns, followed by these for each column of the source that is
 * read: "v<i>", the value in its form; "c<i>", the folded value for comparison, if the form folds;
 * and in the source "r<i>", the names as written, if the value has their ids.
 */
#define LPU_SOURCE_COLUMNS 5
#define LPU_ACCOUNT_COLUMNS 5

typedef struct LpuSyncValue
{
	const LpuSyncColumn *column;
	LpuSyncForm form;
	LpuSyncNames *names;		/* for finding ids, or NULL */
	int			value;			/* numbers of the columns; 0: there is none */
	int			folded;
	int			raw;
} LpuSyncValue;

typedef struct LpuSyncRows
{
	TupleDesc	desc;
	Tuplestorestate *store;
	int64		count;
	int			nvalues;
	LpuSyncValue *values;		/* in the order of the columns of the sync */
} LpuSyncRows;

/*
 * Read the source as its owner. "all": those columns, too, that are only sent with a create; keys:
 * only these, a text[]; 0: all. names: for each column of the sync the lookup of ids by name; NULL:
 * names are not replaced.
 */
extern LpuSyncRows *lpu_sync_read_source(const LpuSync *sync, bool all, Datum keys,
										 LpuSyncNames *const *names);

/* Read the account, or a relation that stands for it, in the forms of the source. */
extern LpuSyncRows *lpu_sync_read_account(const LpuSync *sync, const LpuSyncRows *source,
										  const LpuOptions *options);
extern LpuSyncRows *lpu_sync_read_against(const LpuSync *sync, const LpuSyncRows *source,
										  Oid relation);

/* Return true if a relation has a column. */
extern bool lpu_sync_relation_has(Oid relation, const char *column);

/* Return true if the value is compared with the account. */
extern bool lpu_sync_is_compared(const LpuSyncColumn *column);

/*
 * Run a query as a role, restricted, with SPI connected. Only the rights of the role are used:
 * functions called by the relations run as this role.
 */
extern void lpu_sync_read_as(Oid role, const char *query, Datum keys, DestReceiver *dest);

/*
 * Fix the settings on which the text of a value depends, but TimeZone, until AtEOXact_GUC(false)
 * with the level that is returned.
 */
extern int	lpu_sync_fix_settings(void);

/* Return the rows of a statement, which are to be registered for another one. */
extern LpuSyncRows *lpu_sync_keep_rows(const char *sql, const LpuParameters *parameters);

/* Make rows known to SPI, which is connected, under a name. */
extern void lpu_sync_register(const LpuSyncRows *rows, const char *name);

/* Release rows. */
extern void lpu_sync_forget(LpuSyncRows *rows, const char *name);

#endif
