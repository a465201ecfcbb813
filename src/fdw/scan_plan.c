/*
 * scan_plan.c: how a foreign table is read.
 *
 * Two ways: one listing of everything, or, for users, a GET for each id that a condition "id =
 * ..." or "id = ANY (...)" gives, also in a join. All conditions are evaluated locally, whatever
 * was requested; only the attributes that are needed are requested. deleted_condition.c decides
 * whether deleted entities are. Costs are in round trips: they keep the planner from repeating
 * GETs where one listing is cheaper.
 */
#include "postgres.h"

#include <math.h>

#include "access/stratnum.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_opfamily_d.h"
#include "catalog/pg_operator_d.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/planmain.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "fdw/handler.h"
#include "options/server.h"
#include "remote/fetch.h"

/*
 * A round trip over the internet, about 50 ms, in the planner's unit: that of 1000 pages read in
 * order.
 */
#define REQUEST_COST 1000.0

/*
 * An entity of a list: its transfer and reading. A list of 1000 is as much as
 * another round trip.
 */
#define ENTITY_COST 1.0

/* How many ids an array of unknown length may have. */
#define UNKNOWN_IDS 10

/* What planning knows of the table. */
typedef struct ScanPlanInfo
{
	PlannerInfo *root;
	LpuForeignTable *table;
	double		entities;		/* in the account */
	int			connections;
} ScanPlanInfo;

/* ----- conditions ----- */

static bool
is_id(const ScanPlanInfo *info, RelOptInfo *baserel, Node *node)
{
	Var		   *var;

	/* a domain */
	if (IsA(node, RelabelType))
		node = (Node *) ((RelabelType *) node)->arg;
	var = (Var *) node;
	return IsA(node, Var) && var->varno == baserel->relid && var->varlevelsup == 0 &&
		var->varattno == info->table->id_column && info->table->id_column > 0;
}

/* Known before the scan begins: of other tables at most. */
static bool
is_outside(const ScanPlanInfo *info, RelOptInfo *baserel, Node *node)
{
	return !bms_is_member(baserel->relid, pull_varnos(info->root, node)) &&
		!contain_volatile_functions(node) &&
		!contain_subplans(node);
}

static bool
is_integer_equality(Oid operator)
{
	return get_op_opfamily_strategy(operator, INTEGER_BTREE_FAM_OID) == BTEqualStrategyNumber;
}

/* If the clause is "id = X" or "id = ANY (X)": X. */
static Expr *
ids_of(const ScanPlanInfo *info, RelOptInfo *baserel, Expr *clause)
{
	if (info->table->resource->id != LPU_USERS)
		return NULL;
	if (IsA(clause, OpExpr) && list_length(((OpExpr *) clause)->args) == 2 &&
		is_integer_equality(((OpExpr *) clause)->opno))
	{
		Node	   *left = linitial(((OpExpr *) clause)->args);
		Node	   *right = lsecond(((OpExpr *) clause)->args);

		if (is_id(info, baserel, left) && is_outside(info, baserel, right))
			return (Expr *) right;
		if (is_id(info, baserel, right) && is_outside(info, baserel, left))
			return (Expr *) left;
	}
	if (IsA(clause, ScalarArrayOpExpr) && ((ScalarArrayOpExpr *) clause)->useOr &&
		is_integer_equality(((ScalarArrayOpExpr *) clause)->opno))
	{
		Node	   *left = linitial(((ScalarArrayOpExpr *) clause)->args);
		Node	   *right = lsecond(((ScalarArrayOpExpr *) clause)->args);

		if (is_id(info, baserel, left) && is_outside(info, baserel, right))
			return (Expr *) right;
	}
	return NULL;
}

/* How many ids an expression stands for. */
static int
count_ids(Expr *ids)
{
	if (!OidIsValid(get_element_type(exprType((Node *) ids))))
		return 1;
	if (IsA(ids, Const) && ((Const *) ids)->constisnull)
		return 0;
	if (IsA(ids, Const))
	{
		ArrayType  *array = DatumGetArrayTypeP(((Const *) ids)->constvalue);

		return ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	}
	if (IsA(ids, ArrayExpr))
		return list_length(((ArrayExpr *) ids)->elements);
	return UNKNOWN_IDS;
}

/* The best condition for GETs by id among those of the table alone, or NULL. */
static RestrictInfo *
best_id_clause(const ScanPlanInfo *info, RelOptInfo *baserel, int *nids)
{
	RestrictInfo *best = NULL;
	ListCell   *cell;

	foreach(cell, baserel->baserestrictinfo)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, cell);
		Expr	   *ids = ids_of(info, baserel, rinfo->clause);

		if (ids != NULL && (best == NULL || count_ids(ids) < *nids))
		{
			best = rinfo;
			*nids = count_ids(ids);
		}
	}
	return best;
}

/* ----- estimates ----- */

static void
lpuGetForeignRelSize(PlannerInfo *root, RelOptInfo *baserel, Oid foreigntableid)
{
	ScanPlanInfo *info = palloc0(sizeof(ScanPlanInfo));
	Relation	relation = table_open(foreigntableid, NoLock);
	LpuProblem *problem = NULL;
	const LpuOptions *options;
	RestrictInfo *by_id;
	int			nids = 0;

	info->root = root;
	info->table = lpu_table_read(relation);
	table_close(relation, NoLock);
	lpu_fdw_refuse_system_columns(root, baserel->relid, info->table);
	options = lpu_server_alone(info->table->server, &problem);
	if (options == NULL)
		lpu_problem_raise(problem);
	info->connections = options->max_connections;
	baserel->fdw_private = info;

	/* never analyzed: a guess */
	if (baserel->tuples < 0)
	{
		baserel->tuples = info->table->resource->rows;
		baserel->pages = 1;
	}
	info->entities = Max(baserel->tuples, 1);
	set_baserel_size_estimates(root, baserel);
	by_id = best_id_clause(info, baserel, &nids);
	if (by_id != NULL)
		baserel->rows = clamp_row_est(Min(baserel->rows, nids));
}

static Cost
list_cost(const ScanPlanInfo *info, RelOptInfo *baserel)
{
	return REQUEST_COST + info->entities *
		(ENTITY_COST + cpu_tuple_cost + baserel->baserestrictcost.per_tuple);
}

/* A few GETs at a time. */
static Cost
gets_cost(const ScanPlanInfo *info, int nids)
{
	return REQUEST_COST * ceil((double) nids / info->connections) + nids *
		(ENTITY_COST + cpu_tuple_cost);
}

static void
add_path_by(PlannerInfo *root, RelOptInfo *baserel, double rows, Cost cost, Relids outer,
			RestrictInfo *by_id)
{
	add_path(baserel, (Path *) LPU_FOREIGNSCAN_PATH(root, baserel, rows,
													Min(cost, REQUEST_COST) +
													baserel->baserestrictcost.startup,
													cost + baserel->baserestrictcost.startup,
													outer, by_id ? list_make1(by_id) : NIL));
}

/* For equivalence classes: return true if this member is the id of the table. */
static bool
member_is_id(PlannerInfo *root, RelOptInfo *rel, EquivalenceClass *ec, EquivalenceMember *em,
			 void *arg)
{
	return is_id(rel->fdw_private, rel, (Node *) em->em_expr);
}

/* Add paths for ids from another table: one GET for each of its rows. */
static void
add_join_paths(PlannerInfo *root, RelOptInfo *baserel)
{
	ScanPlanInfo *info = baserel->fdw_private;
	List	   *clauses = list_copy(baserel->joininfo);
	ListCell   *cell;

	if (info->table->id_column == 0 || info->table->resource->id != LPU_USERS)
		return;
	if (baserel->has_eclass_joins)
		clauses = list_concat(clauses,
							  generate_implied_equalities_for_column(root, baserel, member_is_id,
																	 NULL,
																	 baserel->lateral_referencers));
	foreach(cell, clauses)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, cell);
		Expr	   *ids = join_clause_is_movable_to(rinfo, baserel) ?
		ids_of(info, baserel, rinfo->clause) : NULL;
		ParamPathInfo *param;
		Relids		outer;

		if (ids == NULL)
			continue;
		outer = bms_del_member(bms_union(rinfo->clause_relids, baserel->lateral_relids),
							   baserel->relid);
		if (bms_is_empty(outer))
			continue;
		param = get_baserel_parampathinfo(root, baserel, outer);
		/* an id has one user, whatever statistics say or lack */
		param->ppi_rows = clamp_row_est(Min(param->ppi_rows, count_ids(ids)));
		add_path_by(root, baserel, param->ppi_rows, gets_cost(info, count_ids(ids)), outer, rinfo);
	}
}

static void
lpuGetForeignPaths(PlannerInfo *root, RelOptInfo *baserel, Oid foreigntableid)
{
	ScanPlanInfo *info = baserel->fdw_private;
	int			nids = 0;
	RestrictInfo *by_id = best_id_clause(info, baserel, &nids);

	add_path_by(root, baserel, baserel->rows, list_cost(info, baserel), baserel->lateral_relids,
				NULL);
	if (by_id != NULL && nids <= LPU_MAX_GETS)
		add_path_by(root, baserel, baserel->rows, gets_cost(info, nids), baserel->lateral_relids,
					by_id);
	add_join_paths(root, baserel);
}

/* ----- the plan ----- */

/*
 * Return the name of the column in which the executor carries the row that is joined to a locked
 * or changed one.
 */
static const char *
carried_row_name(PlannerInfo *root, Index rti)
{
	ListCell   *cell;

	foreach(cell, root->rowMarks)
	{
		PlanRowMark *mark = lfirst_node(PlanRowMark, cell);

		if (mark->rti == rti && (mark->allMarkTypes & (1 << ROW_MARK_COPY)))
			return psprintf("wholerow%u", mark->rowmarkId);
	}
	return NULL;
}

/*
 * Return true if the query itself reads the whole row.  UPDATE ... FROM and FOR
 * UPDATE carry a whole-row variable for EvalPlanQual; for that the columns that
 * the query reads are enough.  If in doubt, return true.
 */
static bool
wants_whole_row(PlannerInfo *root, Index rti)
{
	const char *carried = carried_row_name(root, rti);
	Bitmapset  *used = NULL;
	ListCell   *cell;

	if (carried == NULL || root->hasLateralRTEs)
		return true;
	foreach(cell, root->processed_tlist)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (!entry->resjunk || entry->resname == NULL || strcmp(entry->resname, carried) != 0)
			pull_varattnos((Node *) entry, rti, &used);
	}
	pull_varattnos((Node *) root->parse->jointree, rti, &used);
	pull_varattnos(root->parse->havingQual, rti, &used);

	/*
	 * what these want is in the list of targets, too, unless it was there
	 * already
	 */
	pull_varattnos((Node *) root->parse->returningList, rti, &used);
	pull_varattnos((Node *) root->parse->mergeActionList, rti, &used);
	return bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, used);
}

/* Numbers of the columns that the query needs, less one. */
static List *
needed_columns(const ScanPlanInfo *info, RelOptInfo *baserel, List *clauses)
{
	Bitmapset  *used = NULL;
	List	   *columns = NIL;
	bool		all;
	int			i;

	pull_varattnos((Node *) baserel->reltarget->exprs, baserel->relid, &used);
	pull_varattnos((Node *) clauses, baserel->relid, &used);
	all = bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, used) &&
		wants_whole_row(info->root, baserel->relid);
	for (i = 0; i < info->table->ncolumns; i++)
		if (info->table->columns[i].name != NULL &&
			(all || bms_is_member(i + 1 - FirstLowInvalidHeapAttributeNumber, used)))
			columns = lappend_int(columns, i);
	return columns;
}

/*
 * For EXPLAIN, which later sees a parameter only: the column of another table
 * that the ids are; "" if they are not.
 */
static char *
describe_outer(PlannerInfo *root, Expr *ids)
{
	Var		   *var = (Var *) ids;
	RangeTblEntry *rte;

	if (ids == NULL || !IsA(ids, Var) || var->varlevelsup != 0 || var->varattno <= 0)
		return "";
	rte = planner_rt_fetch(var->varno, root);
	return psprintf("%s.%s", quote_identifier(rte->eref->aliasname),
					quote_identifier(get_rte_attribute_name(rte, var->varattno)));
}

static ForeignScan *
lpuGetForeignPlan(PlannerInfo *root, RelOptInfo *baserel, Oid foreigntableid,
				  ForeignPath *best_path, List *tlist,
				  List *scan_clauses, Plan *outer_plan)
{
	ScanPlanInfo *info = baserel->fdw_private;
	List	   *clauses = extract_actual_clauses(scan_clauses, false);
	Expr	   *ids = NULL;
	bool		repeated = !bms_is_empty(root->curOuterRels) || !bms_is_empty(root->outer_params);
	List	   *private;

	if (best_path->fdw_private != NIL)
		ids = ids_of(info, baserel, linitial_node(RestrictInfo, best_path->fdw_private)->clause);
	private = list_make4(needed_columns(info, baserel, clauses), makeBoolean(ids != NULL),
						 makeBoolean(lpu_fdw_wants_deleted(root, info->table, baserel)),
						 makeString(describe_outer(root, ids)));
	private = lappend(private, makeBoolean(repeated));
	private = lappend(private,
					  makeInteger((int) Min(ceil(list_cost(info, baserel) / REQUEST_COST),
											INT_MAX)));
	return make_foreignscan(tlist, clauses, baserel->relid, ids ? list_make1(ids) : NIL, private,
							NIL, NIL, outer_plan);
}

/* Set the callbacks that plan reading. */
void
lpu_fdw_plan(FdwRoutine *routine)
{
	routine->GetForeignRelSize = lpuGetForeignRelSize;
	routine->GetForeignPaths = lpuGetForeignPaths;
	routine->GetForeignPlan = lpuGetForeignPlan;
}
