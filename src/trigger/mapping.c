/*
 * mapping.c: from rows of a table to users: the arguments of a trigger.
 *
 * A mapping is a list of "attribute=SQL expression over the row". It is read
 * once, and becomes one query over the rows, so that expressions may be
 * anything that PostgreSQL can evaluate: over bare column names, NEW, or the
 * name of the table. The expressions are those of the table's owner, who wrote
 * the trigger; they are put into the query as they are.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "nodes/bitmapset.h"
#include "nodes/makefuncs.h"
#include "nodes/params.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "base/compat.h"
#include "base/encoding.h"
#include "base/extension.h"
#include "options/option.h"
#include "trigger/mapped_table.h"
#include "trigger/mapping.h"

static void
raise_argument(int n, const char *argument, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid argument %d of lp_create_users_trigger(): \"%s\"", n, argument),
			 errdetail("%s", detail),
			 hint ? errhint("%s", hint) : 0));
}

static void
raise_bad_argument(int n, const char *argument, const char *detail)
{
	raise_argument(n, argument, detail, NULL);
}

static void
raise_unknown_attribute(int n, const char *argument, const char *name)
{
	LpuNearestName nearest;
	int			i;

	lpu_nearest_start(&nearest, name);
	for (i = 0; i < lpu_nattributes; i++)
		if (!(lpu_attributes[i].rules & LPU_READ_ONLY))
			lpu_nearest_consider(&nearest, lpu_attributes[i].name);
	raise_argument(n, argument, "There is no such attribute of a user.",
				   nearest.name ?
				   psprintf("Perhaps you meant the attribute \"%s\".", nearest.name) : NULL);
}

/* A choice between two words. */
static bool
read_choice(int n, const char *argument, const char *value, const char *yes, const char *no)
{
	if (strcmp(value, yes) != 0 && strcmp(value, no) != 0)
		raise_bad_argument(n, argument, psprintf("It must be %s or %s.", no, yes));
	return strcmp(value, yes) == 0;
}

static void
read_attribute(LpuMapping *mapping, int n, const char *argument, const char *name, char *expression)
{
	const LpuAttribute *attribute = lpu_attribute_named(lpu_attributes, lpu_nattributes, name);
	int			i;

	if (attribute == NULL)
		raise_unknown_attribute(n, argument, name);
	if (attribute->rules & LPU_READ_ONLY)
		raise_bad_argument(n, argument, "The attribute is read-only.");
	for (i = 0; i < mapping->nattributes; i++)
		if (mapping->attributes[i].attribute == attribute)
			raise_bad_argument(n, argument, "The attribute is given twice.");
	mapping->attributes[mapping->nattributes].attribute = attribute;
	mapping->attributes[mapping->nattributes++].expression = expression;
}

static void
read_argument(LpuMapping *mapping, int n, const char *argument)
{
	const char *equals = strchr(argument, '=');
	char	   *name;
	char	   *value;

	if (equals == NULL || equals == argument)
		raise_bad_argument(n, argument,
						   "It must be attribute=expression, or when=, mode=, on_error=.");
	name = pnstrdup(argument, equals - argument);
	value = pstrdup(equals + 1);
	if (strspn(value, " \t\n") == strlen(value))
		raise_bad_argument(n, argument, "There is nothing after \"=\".");
	if (strcmp(name, "when") == 0)
		mapping->condition = value;
	else if (strcmp(name, "mode") == 0)
		mapping->sync = read_choice(n, argument, value, "sync", "queue");
	else if (strcmp(name, "on_error") == 0)
		mapping->raise = read_choice(n, argument, value, "raise", "record");
	else
		read_attribute(mapping, n, argument, name, value);
}

/*
 * Read the arguments of a trigger: the account, then name=value. Allocated in the current memory
 * context. Raises 22023 with the argument that cannot be read.
 */
LpuMapping *
lpu_mapping_read(int nargs, char *const *args)
{
	LpuMapping *mapping = palloc0(sizeof(LpuMapping));
	int			i;

	if (nargs < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lp_create_users_trigger() needs arguments"),
				 errdetail("The account, then attribute=expression for each attribute.")));
	if (!lpu_account_is_valid(args[0]))
		raise_bad_argument(1, args[0],
						   "It must be the account id: 1 to 64 characters of 0-9, A-Z, a-z, _ and -.");
	mapping->account = pstrdup(args[0]);
	mapping->attributes = palloc0(nargs * sizeof(LpuMappedAttribute));
	for (i = 1; i < nargs; i++)
		read_argument(mapping, i + 1, args[i]);
	for (i = 0; i < mapping->nattributes; i++)
		if (strcmp(mapping->attributes[i].attribute->name, "loginName") == 0)
			return mapping;
	raise_bad_argument(1, args[0], "\"loginName\" is not among the attributes that follow it.");
	return NULL;				/* keep the compiler quiet */
}

/*
 * Return the names of the columns of the primary key, in the current memory context; NIL if
 * there is none.
 */
List *
lpu_mapping_key(Relation table)
{
	Bitmapset  *key = RelationGetIndexAttrBitmap(table, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	List	   *names = NIL;
	int			i = -1;

	while ((i = bms_next_member(key, i)) >= 0)
	{
		AttrNumber	number = i + FirstLowInvalidHeapAttributeNumber;

		if (number > 0)
			names = lappend(names,
							pstrdup(NameStr(TupleDescAttr(RelationGetDescr(table),
														  number - 1)->attname)));
	}
	return names;
}

/*
 * A line end, so that a comment at the end of an expression ends there. The
 * marker is read just before it.
 */
static void
append_expression(StringInfo sql, const char *expression, int marker)
{
	if (marker > 0)
		appendStringInfo(sql, "CASE WHEN $%d THEN (%s\n) END", marker, expression);
	else
		appendStringInfo(sql, "(%s\n)", expression);
}

/*
 * Return the query for the attributes of users and then the columns of the key, over the rows of
 * source. before is the source of the old row, or NULL; with it, the condition must have become
 * true. marker is the number of a boolean parameter, always true, that is read just before the
 * first attribute's expression is evaluated; the parameters after it are those of the further
 * attributes and of the two conditions. 0: none. Allocated in the current memory context.
 */
char *
lpu_mapping_query(const LpuMapping *mapping, List *key, const char *source, const char *before,
				  int marker)
{
	int			condition_marker = marker > 0 ? marker + mapping->nattributes : 0;
	int			also_marker = marker > 0 ? condition_marker + 1 : 0;
	StringInfoData sql;
	ListCell   *cell;
	int			i;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (i = 0; i < mapping->nattributes; i++)
	{
		appendStringInfoString(&sql, i > 0 ? ", " : "");
		append_expression(&sql, mapping->attributes[i].expression, marker > 0 ? marker + i : 0);
	}
	foreach(cell, key)
		appendStringInfo(&sql, ", new.%s", quote_identifier(lfirst(cell)));
	appendStringInfo(&sql, " FROM %s WHERE true", source);
	if (mapping->also != NULL)
	{
		appendStringInfoString(&sql, " AND ");
		append_expression(&sql, mapping->also, also_marker);
	}
	if (mapping->condition == NULL)
		return sql.data;
	appendStringInfoString(&sql, " AND ");
	append_expression(&sql, mapping->condition, condition_marker);
	if (before == NULL)
		return sql.data;
	appendStringInfo(&sql, " AND NOT EXISTS (SELECT FROM %s WHERE ", before);
	append_expression(&sql, mapping->condition, condition_marker);
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

/*
 * Name the argument that is evaluated: a callback for error_context_stack whose argument is a
 * LpuMappingPlace.
 */
void
lpu_mapping_context(void *arg)
{
	const LpuMappingPlace *place = arg;
	const LpuMapping *mapping = place->mapping;

	if (place->at >= 0 && place->at < mapping->nattributes)
	{
		errcontext("argument \"%s=%s\" of lp_create_users_trigger()",
				   mapping->attributes[place->at].attribute->name,
				   mapping->attributes[place->at].expression);
		if (geterrcode() == ERRCODE_SYNTAX_ERROR)
			errhint("It is an SQL expression: a text needs quotes of its own, as in \"'Agent'\".");
	}
	else if (place->at == mapping->nattributes && mapping->condition != NULL)
		errcontext("argument \"when=%s\" of lp_create_users_trigger()", mapping->condition);
	else if (place->at > mapping->nattributes)
		errcontext("argument \"condition\" of lp_enqueue_rows()");
}

/* ----- names of the row ----- */

/*
 * Post-columnref hook: in the query the row has the alias "new"; the name of
 * the table means the same unless the expression itself has a table of that
 * name in scope.
 */
static Node *
resolve_table_name(ParseState *pstate, ColumnRef *reference, Node *found)
{
	const LpuMappingScope *scope = pstate->p_ref_hook_state;
	Node	   *first = linitial(reference->fields);
	ColumnRef  *renamed;

	if (found != NULL || list_length(reference->fields) > 2 || !IsA(first, String) ||
		strcmp(strVal(first), scope->table) != 0 || strcmp(scope->table, LPU_ROW_ALIAS) == 0)
		return NULL;
	renamed = copyObject(reference);
	linitial(renamed->fields) = makeString(pstrdup(LPU_ROW_ALIAS));
	if (list_length(renamed->fields) == 1)
		renamed->fields = lappend(renamed->fields, makeNode(A_Star));
	return transformExpr(pstate, (Node *) renamed, pstate->p_expr_kind);
}

/* Paramref hook: the parameters of the query, by number. */
static Node *
resolve_parameter(ParseState *pstate, ParamRef *reference)
{
	const LpuMappingScope *scope = pstate->p_ref_hook_state;
	Param	   *param;

	if (reference->number < 1 || reference->number > scope->nparams)
		return NULL;
	param = makeNode(Param);
	param->paramkind = PARAM_EXTERN;
	param->paramid = reference->number;
	param->paramtype = scope->types[reference->number - 1];
	param->paramtypmod = -1;
	param->paramcollid = get_typcollation(param->paramtype);
	param->location = reference->location;
	return (Node *) param;
}

static void
set_up_parser(ParseState *pstate, void *scope)
{
	pstate->p_post_columnref_hook = resolve_table_name;
	pstate->p_paramref_hook = resolve_parameter;
	pstate->p_ref_hook_state = scope;
}

/*
 * Prepare a query over rows, with SPI connected. Expressions may call the row NEW, or by the
 * name of the table. The scope must live as long as the plan.
 */
SPIPlanPtr
lpu_mapping_prepare(const char *sql, LpuMappingScope *scope)
{
	/*
	 * a generic plan: with the row's values in it, it would be made anew for
	 * each row
	 */
	SPIPlanPtr	plan = SPI_prepare_params(sql, set_up_parser, scope, CURSOR_OPT_GENERIC_PLAN);

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\"", sql);
	return plan;
}

/*
 * Constants are computed when a query is planned, rights are checked when it
 * starts; it finds no row.
 */
static void
try_query(const char *sql, LpuMappingScope *scope, bool start)
{
	SPIPlanPtr	plan = lpu_mapping_prepare(sql, scope);
	SPIExecuteOptions options = {.read_only = true};
	CachedPlan *planned;
	int			i;

	planned = SPI_plan_get_cached_plan(plan);
	if (planned != NULL)
		ReleaseCachedPlan(planned, NULL);
	options.params = makeParamList(scope->nparams);
	for (i = 0; i < scope->nparams; i++)
		options.params->params[i] = (ParamExternData)
	{
		.isnull = true,.ptype = scope->types[i]
	};
	if (start && SPI_execute_plan_extended(plan, &options) < 0)
		elog(ERROR, "could not run \"%s\"", sql);
	SPI_freeplan(plan);
}

/*
 * Plan each expression by itself, with SPI connected, so that the error of one that does not
 * compile names it. With start, also begin to run it, so that the error of one that the current
 * user may not run names it. Expressions see only the first nrows parameters, which are rows.
 */
void
lpu_mapping_try(const LpuMapping *mapping, const char *source, const LpuMappingScope *scope,
				int nrows, bool start)
{
	LpuMappingScope visible = {scope->table, nrows, scope->types};
	LpuMappingPlace place = {mapping, 0};
	ErrorContextCallback context = {error_context_stack, lpu_mapping_context, &place};
	const char *conditions[2] = {mapping->condition, mapping->also};
	int			i;

	error_context_stack = &context;

	/*
	 * no set, which CASE refuses, and no aggregate, which does not go with a
	 * row: one user for each row
	 */
	for (place.at = 0; place.at < mapping->nattributes; place.at++)
		try_query(psprintf("SELECT CASE WHEN true THEN (%s\n) END, new FROM %s WHERE false",
						   mapping->attributes[place.at].expression, source), &visible, start);
	for (i = 0; i < lengthof(conditions); i++, place.at++)
		if (conditions[i] != NULL)
			try_query(psprintf("SELECT CASE WHEN (%s\n) THEN 1 END, new FROM %s WHERE false",
							   conditions[i], source),
					  &visible, start);
	error_context_stack = context.previous;
}
