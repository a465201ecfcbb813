/*
 * mapped_table.h: the table whose rows become users.
 */
#ifndef LPU_TRIGGER_MAPPED_TABLE_H
#define LPU_TRIGGER_MAPPED_TABLE_H

#include "utils/relcache.h"
#include "utils/reltrigger.h"

#include "base/extension.h"

/* The alias of the row in queries. */
#define LPU_ROW_ALIAS "new"

/* The table on which a trigger was created, also for its copies on partitions. */
extern Oid	lpu_mapping_root(Relation table, const Trigger *trigger);

/* What stands after FROM: a transition table, a parameter that is a row, or the table's rows. */
extern char *lpu_mapping_source(Relation table, const char *transition, int parameter);
extern char *lpu_mapping_columns_source(Relation table);

/* Set the search_path for expressions over the table; the caller opened a GUC nest level. */
extern void lpu_mapping_pin_path(Oid table);

/* Act as the table's owner, with that search_path, until lpu_become_again(). */
extern void lpu_mapping_become_owner(Oid table, LpuSavedIdentity *before);

/* The table's name with its schema, quoted; its owner. */
extern char *lpu_mapping_table_name(Oid table);
extern Oid	lpu_mapping_owner(Oid table);

#endif
