/*
 * bulk_insert.h: appending many rows to one of the extension's tables.
 */
#ifndef LPU_QUEUE_BULK_INSERT_H
#define LPU_QUEUE_BULK_INSERT_H

#include "queue/table_writer.h"

typedef struct lpu_bulk lpu_bulk;

/*
 * Begin with these columns; others get null, not their default. "known": indexes whose entries come with each row. Both
 * NULL-terminated. In the current memory context.
 */
extern lpu_bulk *lpu_bulk_begin(Oid schema, const char *table, const char *const *columns, const char *const *known);

/*
 * Append a row; values in the order of the columns, copied; keys in the order of the known indexes, passed by value.
 * False: a trigger that somebody put on the table did not let it be written.
 */
extern bool lpu_bulk_add(lpu_bulk *bulk, const Datum *values, const bool *nulls, const lpu_entry *keys);

/* Write what is left, and fire triggers that somebody put on the table. */
extern void lpu_bulk_end(lpu_bulk *bulk);

#endif
