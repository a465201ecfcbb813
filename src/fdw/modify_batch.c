/*
 * modify_batch.c: which rows of a statement can be sent together.
 *
 * That depends on what reads each row as it is written (RETURNING, row triggers, WITH CHECK
 * OPTION), and on whether anything happens between the last row and the end of the statement.
 */
#include "postgres.h"

#include "base/compat.h"
#include "fdw/handler.h"

/* Row triggers, which see each row before or after it is written. */
static bool
has_row_triggers(const ResultRelInfo *info, CmdType operation)
{
	const TriggerDesc *triggers = info->ri_TrigDesc;

	if (triggers == NULL)
		return false;
	switch (operation)
	{
		case CMD_INSERT:
			return triggers->trig_insert_before_row || triggers->trig_insert_after_row;
		case CMD_UPDATE:
			return triggers->trig_update_before_row || triggers->trig_update_after_row;
		default:
			return triggers->trig_delete_before_row || triggers->trig_delete_after_row;
	}
}

/*
 * AFTER STATEMENT triggers, which fire before the table is ended; they belong to the table that the
 * statement names.
 */
static bool
has_late_triggers(const ResultRelInfo *info, CmdType operation)
{
	const ResultRelInfo *root = info->ri_RootResultRelInfo;
	const TriggerDesc *triggers = root ? root->ri_TrigDesc : info->ri_TrigDesc;

	if (triggers == NULL)
		return false;
	switch (operation)
	{
		case CMD_INSERT:
			return triggers->trig_insert_after_statement;
		case CMD_UPDATE:
			return triggers->trig_update_after_statement;
		default:
			return triggers->trig_delete_after_statement;
	}
}

/*
 * Return true if each row is seen as it is written, so that it cannot wait for
 * others. Known when the executor has set up all of the statement.
 */
bool
lpu_fdw_goes_alone(const ResultRelInfo *info, CmdType operation)
{
	return info->ri_projectReturning != NULL || info->ri_WithCheckOptions != NIL ||
		has_row_triggers(info, operation);
}

/*
 * Return true if rows are collected by us, to be sent together. AFTER STATEMENT triggers are to see
 * all of them in the account: then the executor collects those of INSERT, and of COPY from
 * PostgreSQL 16 on, since it knows which are the last.
 */
bool
lpu_fdw_is_buffered(const ResultRelInfo *info, CmdType operation,
					const ModifyTableState *mtstate)
{
	return !lpu_fdw_goes_alone(info, operation) && !has_late_triggers(info, mtstate->operation);
}
