/*
 * difference.h: how the account differs from the source.
 */
#ifndef LPU_SYNC_DIFFERENCE_H
#define LPU_SYNC_DIFFERENCE_H

#include "datatype/timestamp.h"

#include "sync/rows.h"

/* What is compared. */
typedef struct LpuSyncSides
{
	const LpuSync *sync;
	const LpuOptions *options;
	LpuSyncRows *source;
	LpuSyncRows *account;
	TimestampTz began;			/* before the account was read */
} LpuSyncSides;

/* Read both sides, with SPI connected. against: a relation in place of the account, or 0. */
extern void lpu_sync_read_sides(LpuSyncSides *sides, LpuSync *sync, Oid against);

/* After the statement: free what was read, but for its numbers. */
extern void lpu_sync_forget_sides(LpuSyncSides *sides);

/*
 * Run a statement on "decided", a row for each user that differs, with both sides registered. keys:
 * a text[], or 0 for all.
 */
extern uint64 lpu_sync_run_decided(const LpuSyncSides *sides, const char *rest, Datum keys,
								   int64 plan, DestReceiver *dest);

/* Put the differences into dest, as lp_sync_diff() returns them. */
extern void lpu_sync_diff(const LpuSyncSides *sides, Datum keys, DestReceiver *dest);

/*
 * Return SQL for a row of the source as one jsonb, of a relation with this prefix of its
 * columns.
 */
extern char *lpu_sync_write_source(const LpuSyncRows *source, const char *prefix,
								   const char *login);

#endif
