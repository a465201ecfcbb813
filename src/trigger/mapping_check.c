/*
 * mapping_check.c: a mapping against its table, before a trigger is created.
 *
 * The mapping must have the attributes that a new user needs, and each expression must compile over
 * the table's rows and give a type that the attribute can take. Whether its values are right shows
 * only when rows come.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/extension.h"
#include "trigger/mapped_table.h"
#include "trigger/mapping_check.h"
#include "user/datum_to_json.h"
#include "user/validate.h"

/* Raise 22023 for a mapping that no trigger can have. */
void
lpu_mapping_raise(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid mapping: no trigger was created"),
			 errdetail("%s", detail)));
}

/* Raise an error that names the required attributes which the mapping does not have. */
static void
check_required_attributes(const LpuMapping *mapping, bool require_password)
{
	bool		api_user = false;
	StringInfoData missing;
	int			a;
	int			i;

	initStringInfo(&missing);
	for (i = 0; i < mapping->nattributes; i++)
		api_user |= strcmp(mapping->attributes[i].attribute->name, "isApiUser") == 0;
	for (a = 0; a < lpu_nattributes; a++)
	{
		/* whether a row is an API user shows only then */
		if (!lpu_is_required(&lpu_attributes[a], require_password && !api_user, false))
			continue;
		for (i = 0; i < mapping->nattributes; i++)
			if (mapping->attributes[i].attribute == &lpu_attributes[a])
				break;
		if (i == mapping->nattributes)
			appendStringInfo(&missing, "%s\"%s\"", missing.len > 0 ? ", " : "",
							 lpu_attributes[a].name);
	}
	if (missing.len > 0)
		lpu_mapping_raise(psprintf("Required attributes are missing: %s.", missing.data));
}

static bool
is_json_type(Oid type)
{
	return type == JSONBOID || type == JSONOID;
}

/* Return what an expression for an attribute of this kind must be, or NULL if the type will do. */
static const char *
type_complaint(LpuValueKind kind, Oid type)
{
	Oid			element = get_element_type(type);

	switch (kind)
	{
		case LPU_BOOLEAN:
			return type == BOOLOID || is_json_type(type) ? NULL : "boolean";
		case LPU_LONG:
		case LPU_ID:
		case LPU_NUMBER:
			return lpu_type_is_number(type) || is_json_type(type) ? NULL : "a number";
		case LPU_IDS:
		case LPU_LONGS:
			return lpu_type_is_number(element) || is_json_type(type) ? NULL : "an array of numbers";
		case LPU_GROUP:
			return lpu_type_is_number(type) || is_json_type(type) ? NULL :
				"a group id, or jsonb such as jsonb_build_object('agentGroupId', 1)";
		case LPU_GROUPS:
			return lpu_type_is_number(element) ||
				is_json_type(type) ? NULL : "an array of group ids, or jsonb";
		case LPU_TEXT:
		case LPU_LOGIN:
		case LPU_EMAIL:
		case LPU_DATE:
		case LPU_ANY:
			return OidIsValid(element) || type == BOOLOID || type_is_rowtype(type) ? "text" : NULL;
	}
	return NULL;
}

static Oid
result_type(SPIPlanPtr plan, int column)
{
	CachedPlanSource *planned = linitial(SPI_plan_get_plan_sources(plan));

	return getBaseType(TupleDescAttr(planned->resultDesc, column)->atttypid);
}

/* The trigger has the condition in a CASE, where null alone is text. */
static void
check_condition(const LpuMapping *mapping, const char *source, LpuMappingScope *scope)
{
	Oid			type;

	if (mapping->condition == NULL)
		return;
	type = result_type(lpu_mapping_prepare(psprintf("SELECT CASE WHEN true THEN (%s\n) END FROM %s",
													mapping->condition, source), scope), 0);
	if (type != BOOLOID)
		lpu_mapping_raise(psprintf("The condition must be boolean, it is %s.", format_type_be(type)));
}

/*
 * Check a mapping against the table, with SPI connected: it has the required attributes, and its
 * expressions compile over a row as the trigger sees it and give the right types. transition is
 * the name of the transition table, which has no system columns either. The expressions are
 * planned with the rights of the table's owner. Raises 22023, or what the expressions raise.
 */
void
lpu_mapping_check(const LpuMapping *mapping, Relation table, const char *transition,
				  bool require_password)
{
	LpuMappingScope scope = {RelationGetRelationName(table), 0, NULL};
	char	   *source = lpu_mapping_columns_source(table);
	LpuSavedIdentity caller;
	SPIPlanPtr	plan;
	int			i;

	check_required_attributes(mapping, require_password);
	/* what is not found when the trigger fires must not be found now */
	lpu_mapping_become_owner(RelationGetRelid(table), &caller);
	lpu_mapping_try(mapping, source, &scope, 0, false);
	check_condition(mapping, source, &scope);
	plan = lpu_mapping_prepare(lpu_mapping_query(mapping, NIL, source, NULL, 0), &scope);
	/* raises what stands against it */
	(void) lpu_mapping_source(table, transition, 0);
	lpu_become_again(&caller);
	for (i = 0; i < mapping->nattributes; i++)
	{
		Oid			type = result_type(plan, i);
		const char *expected = type_complaint(mapping->attributes[i].attribute->kind, type);

		if (expected != NULL)
			lpu_mapping_raise(psprintf("The expression of \"%s\" must be %s, it is %s.",
									   mapping->attributes[i].attribute->name, expected,
									   format_type_be(type)));
	}
}
