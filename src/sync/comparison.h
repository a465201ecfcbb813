/*
 * comparison.h: the pieces of the statement that compares source and account.
 */
#ifndef LPU_SYNC_COMPARISON_H
#define LPU_SYNC_COMPARISON_H

#include "sync/difference.h"

/* The name under which an attribute is shown; the value of "c" as it is shown, a jsonb. */
extern const char *lpu_sync_shown_name(const LpuSyncColumn *column);
extern char *lpu_sync_write_shown(const LpuSyncValue *value, int i, const char *side);

/* The values of a source row "s" and a user "a", under distinct names. */
extern char *lpu_sync_write_columns(const LpuSyncSides *sides);

/*
 * Return SQL that is true if any attribute differs between a row of the source "s", its link "k"
 * and a user "a"; null counts as false.
 */
extern char *lpu_sync_write_any_differs(const LpuSyncSides *sides);

/* The lines of a list of a candidate's attributes. */
extern char *lpu_sync_write_attributes(const LpuSyncSides *sides);

/* The value of isEnabled in the source "s"; null if the source does not have it. */
extern const char *lpu_sync_write_email(const LpuSyncSides *sides, const char *prefix);
extern const char *lpu_sync_write_wanted(const LpuSyncSides *sides);

/* The attributes that a user to be created lacks, as text. */
extern char *lpu_sync_write_missing(const LpuSyncSides *sides);

#endif
