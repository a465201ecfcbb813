/*
 * deleted_condition.c: whether a query asks for deleted entities.
 *
 * The API returns deleted entities only on request. They are requested when a condition of the
 * query refers to the column "deleted", unless the condition only excludes them.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "nodes/pathnodes.h"
#include "optimizer/optimizer.h"
#include "optimizer/restrictinfo.h"

#include "fdw/handler.h"

/*
 * Return true if the condition only excludes deleted entities: NOT deleted, deleted IS NOT TRUE,
 * deleted IS FALSE.
 */
static bool
wants_undeleted(Expr *clause, Index rti, const Bitmapset *deleted)
{
	Node	   *inner = NULL;

	if (IsA(clause, BoolExpr) && ((BoolExpr *) clause)->boolop == NOT_EXPR)
		inner = linitial(((BoolExpr *) clause)->args);
	if (IsA(clause, BooleanTest) &&
		(((BooleanTest *) clause)->booltesttype == IS_NOT_TRUE ||
		 ((BooleanTest *) clause)->booltesttype == IS_FALSE))
		inner = (Node *) ((BooleanTest *) clause)->arg;
	return inner != NULL && IsA(inner, Var) && ((Var *) inner)->varno == rti &&
		bms_is_member(((Var *) inner)->varattno, deleted);
}

/* Return the columns of a parent that are, or are computed from, these columns of its child. */
static Bitmapset *
columns_of_parent(const AppendRelInfo *link, const Bitmapset *columns)
{
	Bitmapset  *result = NULL;
	ListCell   *cell;

	foreach(cell, link->translated_vars)
	{
		Bitmapset  *used = NULL;
		int			column = -1;

		pull_varattnos(lfirst(cell), link->child_relid, &used);
		while ((column = bms_next_member(columns, column)) >= 0)
			if (bms_is_member(column - FirstLowInvalidHeapAttributeNumber, used))
				result = bms_add_member(result, foreach_current_index(cell) + 1);
	}
	return result;
}

/* Return true if one of the conditions refers to deleted entities. */
static bool
want_deleted(List *conditions, Index rti, const Bitmapset *deleted)
{
	ListCell   *cell;

	foreach(cell, conditions)
	{
		Bitmapset  *used = NULL;
		int			column = -1;

		pull_varattnos(lfirst(cell), rti, &used);
		while ((column = bms_next_member(deleted, column)) >= 0)
			if (bms_is_member(column - FirstLowInvalidHeapAttributeNumber, used) &&
				!wants_undeleted(lfirst(cell), rti, deleted))
				return true;
	}
	return false;
}

/* Likewise for a tree of joins, with the conditions of WHERE and ON. */
static bool
joins_want_deleted(Node *node, Index rti, const Bitmapset *deleted)
{
	ListCell   *cell;

	if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;

		return want_deleted((List *) join->quals, rti, deleted) ||
			joins_want_deleted(join->larg, rti, deleted) ||
			joins_want_deleted(join->rarg, rti, deleted);
	}
	if (IsA(node, FromExpr))
	{
		foreach(cell, ((FromExpr *) node)->fromlist)
			if (joins_want_deleted(lfirst(cell), rti, deleted))
			return true;
		return want_deleted((List *) ((FromExpr *) node)->quals, rti, deleted);
	}
	return false;
}

/*
 * Return true if the conditions of the query refer to deleted entities. All of them count, wherever
 * the plan evaluates them: the choice of a plan must not change the rows. The conditions on a
 * partition, or on a part of UNION ALL, refer to its parent.
 */
bool
lpu_fdw_wants_deleted(PlannerInfo *root, const LpuForeignTable *table, RelOptInfo *baserel)
{
	Index		rti = baserel->relid;
	Bitmapset  *deleted;
	const AppendRelInfo *link;

	if (table->deleted_column == 0)
		return false;
	deleted = bms_make_singleton(table->deleted_column);
	/* among them are those that a view hides behind its security barrier */
	if (want_deleted(get_actual_clauses(baserel->baserestrictinfo), rti, deleted))
		return true;
	while (root->append_rel_array != NULL && (link = root->append_rel_array[rti]) != NULL)
	{
		deleted = columns_of_parent(link, deleted);
		rti = link->parent_relid;
	}
	return joins_want_deleted((Node *) root->parse->jointree, rti, deleted);
}
