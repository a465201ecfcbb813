/*
 * enqueue_rows.c: lp_enqueue_rows(): rows that a table has already become users, as its trigger
 * would make them.
 *
 * The trigger's own mapping is run over the table instead of the rows of a statement. What then
 * happens to the users is what happens to those of a load: they are sent as the table's owner, and
 * held for the same reasons.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "options/server.h"
#include "trigger/attached_trigger.h"
#include "trigger/mapped_rows.h"
#include "trigger/mapped_table.h"
#include "trigger/trigger_privilege.h"

PG_FUNCTION_INFO_V1(lp_enqueue_rows);

/* The mapping of the table's trigger. */
static LpuMapping *
read_mapping(Relation table, Oid function, const char *name)
{
	List	   *found = lpu_attached_find(table, function, NULL, name, false);
	const char *table_name = RelationGetRelationName(table);
	LpuAttached *attached;

	if (found == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 name ?
				 errmsg("table \"%s\" has no trigger \"%s\" that creates users", table_name, name) :
				 errmsg("table \"%s\" has no trigger that creates users", table_name),
				 table->rd_rel->relispartition ?
				 errhint("The trigger may be one of the partitioned table.") :
				 errhint("Use lp_attach_trigger() to make one.")));
	lpu_attached_require_one(table, found, "lp_enqueue_rows");
	attached = linitial(found);
	return lpu_mapping_read(attached->nargs, attached->args);
}

/*
 * The users of all rows that fulfil the conditions. The expressions are those of the table's owner,
 * so they run with its rights, not with those of a superuser who calls.
 */
static LpuMappedUsers *
run_mapping(const LpuMapping *mapping, Relation table, bool require_password)
{
	Oid			oid = RelationGetRelid(table);
	LpuMappingScope *scope = lpu_mapped_scope(mapping, table, oid, 0);

	/*
	 * rows of tables that inherit from it do not fire its trigger, those of
	 * its partitions do
	 */
	bool		partitioned = table->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
	char	   *source = psprintf("%s%s AS new", partitioned ? "" : "ONLY ",
								  lpu_mapping_table_name(oid));
	LpuSavedIdentity caller;
	LpuMappedUsers *mapped;
	SPIPlanPtr	plan;

	lpu_mapping_become_owner(oid, &caller);
	lpu_mapping_try(mapping, source, scope, 0, false);
	plan = lpu_mapping_prepare(lpu_mapping_query(mapping, lpu_mapping_key(table), source, NULL, 1),
							   scope);
	mapped = lpu_mapped_run(mapping, scope, plan, NULL, 0, require_password);
	lpu_become_again(&caller);
	if (mapping->raise)
		lpu_mapped_raise(mapped);
	return mapped;
}

static const LpuProblem *
reason_for_rows(Relation table, Oid function, const LpuOptions *options,
				const LpuProblem *setup, int n, LpuHoldKind *kind)
{
	LpuForeignRole outsider;
	LpuProblem *above;

	*kind = LPU_HOLD_SETUP;
	if (options == NULL)
		return setup;
	above = lpu_mapped_count(options, n);
	if (lpu_outsider_find(RelationGetRelid(table), function, &outsider))
		return lpu_outsider_problem(RelationGetRelid(table), &outsider);
	*kind = LPU_HOLD_THRESHOLD;
	return above;
}

/*
 * lp_enqueue_rows(target regclass, condition text DEFAULT NULL, name text DEFAULT NULL) RETURNS
 * bigint
 *
 * Returns how many requests were made. The caller must own the table.
 */
Datum
lp_enqueue_rows(PG_FUNCTION_ARGS)
{
	Oid			function;
	Relation	table;
	LpuMapping *mapping;
	LpuMappedUsers *mapped;
	const LpuOptions *options;
	LpuProblem *setup = NULL;
	int64		nusers;
	char	   *name = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("target must not be null")));
	PreventCommandIfReadOnly("lp_enqueue_rows()");
	lpu_trigger_require_owner(PG_GETARG_OID(0));
	table = table_open(PG_GETARG_OID(0), AccessShareLock);
	function = lpu_attached_function(fcinfo);
	mapping = read_mapping(table, function, name);
	mapping->also = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	options = lpu_server_for_account(mapping->account, table->rd_rel->relowner, &setup);
	SPI_connect();
	mapped = run_mapping(mapping, table, options && options->require_password);
	if (mapped->n > 0)
	{
		LpuHoldKind kind;
		const LpuProblem *held = reason_for_rows(table, function, options, setup, mapped->n, &kind);

		if (held != NULL)
			lpu_mapped_warn(mapping->account, held);
		lpu_mapped_enqueue(mapping, mapped, get_func_namespace(fcinfo->flinfo->fn_oid),
						   RelationGetRelid(table), options, kind, held);
	}
	nusers = mapped->n;			/* SPI_finish() frees it */
	SPI_finish();
	table_close(table, NoLock);
	PG_RETURN_INT64(nusers);
}
