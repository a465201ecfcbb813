/*
 * system_columns.c: system columns of foreign tables are refused.
 *
 * Every row of such a foreign table has the same ctid, xmin and so on. A statement that
 * identifies rows by them, as "DELETE ... WHERE ctid IN (SELECT ctid ... LIMIT 100)" does, would
 * affect every row. So a query that refers to one of them is an error; tableoid is allowed.
 *
 * The query is searched, not the target list of the scan: to lock the rows of a partitioned
 * table, the planner itself adds the ctid of its foreign partitions, as a junk column that has a
 * name.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/heap.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "nodes/plannodes.h"

#include "fdw/handler.h"

/* Looking for system columns of the range-table entry rti. */
typedef struct ColumnSearch
{
	Index		rti;
	int			sublevels_up;	/* queries below the one that it belongs to */
	AttrNumber	found;			/* 0: none */
} ColumnSearch;

/* Junk columns of the parser, as those of ORDER BY, have no name. */
static bool
is_planner_junk(const TargetEntry *entry)
{
	return entry->resjunk && entry->resname != NULL;
}

static bool
search_walker(Node *node, ColumnSearch *s)
{
	bool		found;

	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		const Var  *var = (Var *) node;

		if (var->varno == s->rti && var->varlevelsup == s->sublevels_up && var->varattno < 0 &&
			var->varattno != TableOidAttributeNumber)
			s->found = var->varattno;
		return s->found != 0;
	}
	if (IsA(node, TargetEntry) && is_planner_junk((TargetEntry *) node))
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, search_walker, s);
	s->sublevels_up++;
	found = query_tree_walker((Query *) node, search_walker, s, QTW_IGNORE_JOINALIASES);
	s->sublevels_up--;
	return found;
}

static void
raise_system_column(const LpuForeignTable *table, AttrNumber column)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot use system column \"%s\" of foreign table \"%s\"",
					NameStr(SystemAttributeDefinition(column)->attname), table->name),
			 errdetail("All rows of the table have the same value in it."),
			 table->id_column > 0 ?
			 errhint("Use the column \"%s\".", table->columns[table->id_column - 1].name) :
			 errhint("Add a column \"id\" to the foreign table, and use that.")));
}

/*
 * Raise an error if the query refers to a system column of this table, a range-table entry that is
 * a relation. References to the parents of a partition, or of a part of UNION ALL, are references
 * to it.
 */
void
lpu_fdw_refuse_system_columns(const PlannerInfo *root, Index rti, const LpuForeignTable *table)
{
	ColumnSearch s = {.rti = rti};

	for (;;)
	{
		const AppendRelInfo *link = root->append_rel_array ? root->append_rel_array[s.rti] : NULL;

		if (query_tree_walker(root->parse, search_walker, &s, QTW_IGNORE_JOINALIASES) ||
			(link != NULL && search_walker((Node *) link->translated_vars, &s)))
			raise_system_column(table, s.found);
		if (link == NULL)
			return;
		s.rti = link->parent_relid;
	}
}

/*
 * Likewise for rows that a partitioned table routes here: what the statement returns or checks of
 * them.
 */
void
lpu_fdw_refuse_system_columns_of_routed(const ModifyTable *plan, const LpuForeignTable *table)
{
	ColumnSearch s = {.rti = linitial_int(plan->resultRelations)};

	if ((plan->returningLists != NIL &&
		 search_walker(linitial(plan->returningLists), &s)) ||
		(plan->withCheckOptionLists != NIL &&
		 search_walker(linitial(plan->withCheckOptionLists), &s)))
		raise_system_column(table, s.found);
}
