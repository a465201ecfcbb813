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
typedef struct lpu_mapped_users
{
	lpu_queued_user *users;
	int			n;
} lpu_mapped_users;

/* At most this many parameters of the query are rows: the row now, and before. */
#define LPU_MAX_ROWS 2

/*
 * The scope of a query over rows of the table: "nrows" parameters that are rows, then the markers.
 */
extern lpu_mapping_scope *lpu_mapped_scope(const lpu_mapping *mapping, Relation table, Oid root,
										   int nrows);

/*
 * Run the query of a mapping, with SPI connected. The rows are the parameters of the table's row
 * type.
 */
extern lpu_mapped_users *lpu_mapped_run(const lpu_mapping *mapping, const lpu_mapping_scope *scope,
										SPIPlanPtr plan, const Datum *rows, int nrows,
										bool require_password);

/* Raise what is wrong with the data of a user: mode=sync, on_error=raise. */
extern void lpu_mapped_raise(const lpu_mapped_users *mapped);

/*
 * Count n more users of this transaction; a problem if they are more than hold_above allows, else
 * NULL.
 */
extern lpu_problem *lpu_mapped_count(const lpu_options *options, int n);

/* Say that users are held, and how they are released. */
extern void lpu_mapped_warn(const char *account, const lpu_problem *held);

/*
 * Put the users into the queue, sent as the owner of the table. "options": of the server, or NULL;
 * "held": why they are held, in this way, or NULL.
 */
extern void lpu_mapped_enqueue(const lpu_mapping *mapping, const lpu_mapped_users *mapped,
							   Oid schema, Oid table, const lpu_options *options,
							   LpuHoldKind kind, const lpu_problem *held);

#endif
