/*
 * mapped_rows.h: the users that a mapping makes of rows.
 */
#ifndef LPU_TRIGGER_MAPPED_ROWS_H
#define LPU_TRIGGER_MAPPED_ROWS_H

#include "executor/spi.h"
#include "utils/rel.h"

#include "base/error.h"
#include "options/option.h"
#include "queue/enqueue.h"
#include "trigger/mapping.h"

/* The users of one run of the query. */
typedef struct LpuMappedUsers
{
	int			n;
	LpuQueuedUser *users;		/* the last of them, or all */
	int			nusers;
	struct LpuSpilledUsers *spilled;	/* those before, or NULL */
	const LpuQueuedUser *wrong; /* the first whose data are wrong, or NULL */
} LpuMappedUsers;

/* At most this many parameters of the query are rows: the row now, and before. */
#define LPU_MAX_ROWS 2

/*
 * The scope of a query over rows of the table: "nrows" parameters that are rows, then the markers.
 */
extern LpuMappingScope *lpu_mapped_scope(const LpuMapping *mapping, Relation table, Oid root,
										 int nrows);

/*
 * Run the query of a mapping, with SPI connected. The rows are the parameters of the table's row
 * type.  All users of mode=sync are in memory; of others only some, whatever their number.
 */
extern LpuMappedUsers *lpu_mapped_run(const LpuMapping *mapping, const LpuMappingScope *scope,
									  SPIPlanPtr plan, const Datum *rows, int nrows,
									  bool require_password);

/* Raise what is wrong with the data of a user, for mode=sync and on_error=raise. */
extern void lpu_mapped_raise(const LpuMappedUsers *mapped);

/* Count n more users of this transaction. */
extern LpuProblem *lpu_mapped_count(const LpuOptions *options, int n);

/* Report in a WARNING that users are held, and how to release them. */
extern void lpu_mapped_warn(const char *account, const LpuProblem *held);

/*
 * Append the users to the queue, to be sent as the owner of the table. options are those of the
 * server, or NULL; held is why they are held and kind in which way, or NULL.
 */
extern void lpu_mapped_enqueue(const LpuMapping *mapping, const LpuMappedUsers *mapped,
							   Oid schema, Oid table, const LpuOptions *options,
							   LpuHoldKind kind, const LpuProblem *held);

#endif
