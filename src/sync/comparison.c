/*
 * comparison.c: the pieces of the statement that compares source and account.
 *
 * The statement is in difference.c. This file generates the parts that depend on the columns of the
 * source, attribute by attribute. All names in the statement are constants: columns of both sides
 * are numbered, and the column names of the source do not appear.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "sync/comparison.h"

static bool
is_enabled_attribute(const LpuSyncColumn *column)
{
	return strcmp(column->attribute->name, "isEnabled") == 0;
}

static bool
is_group(const LpuSyncColumn *column)
{
	return column->attribute->kind == LPU_GROUP;
}

/* The name under which an attribute is shown. */
const char *
lpu_sync_shown_name(const LpuSyncColumn *column)
{
	return is_group(column) ? "agentGroupId" : column->attribute->name;
}

/* Append a piece of SQL with the number of an attribute for each "#", and its name for each "!". */
static void
append_piece(StringInfo out, const char *piece, int number, const char *name)
{
	for (; *piece != '\0'; piece++)
		if (*piece == '#')
			appendStringInfo(out, "%d", number);
		else if (*piece == '!')
			appendStringInfoString(out, name);
		else
			appendStringInfoChar(out, *piece);
}

static char *
write_piece(const char *piece, int number, const char *name)
{
	StringInfoData out;

	initStringInfo(&out);
	append_piece(&out, piece, number, name);
	return out.data;
}

/*
 * Write SQL that is true if an attribute differs between a row of the source "s", its link "k"
 * and a user "a"; null counts as false. It calls no functions, since it is evaluated for all
 * users.
 */
static char *
write_differs(const LpuSyncValue *value, int i)
{
	const LpuSyncColumn *column = value->column;
	const char *piece;

	if (column->attribute->rules & LPU_HIDDEN)
		piece = "s.v# <> (k.hidden ->> '!')";
	else if (column->add_only && value->folded)
		piece = "NOT (s.c# <@ a.c#)";
	else if (column->add_only)
		piece = "NOT (s.v# <@ a.v#) OR NOT (coalesce(k.base -> '!', '[]') <@ to_jsonb(s.v#))";
	else if (value->form == LPU_FORM_NUMBER)
		piece = "(s.v# IS NOT NULL AND s.v# IS DISTINCT FROM a.v#)";
	else
		piece = value->folded ? "s.c# <> a.c#" : "s.v# <> a.v#";
	return write_piece(piece, i, lpu_sync_shown_name(column));
}

/* Side: "s_", "a_" or nothing. The result is null if the value is empty. */
char *
lpu_sync_write_shown(const LpuSyncValue *value, int i, const char *side)
{
	const char *piece = "to_jsonb(c.!v#)";

	if (is_group(value->column))
		piece = "to_jsonb((c.!v#)[1])";
	else if (value->form == LPU_FORM_TEXT || value->form == LPU_FORM_FOLDED)
		piece = "to_jsonb(nullif(c.!v#, ''))";
	return write_piece(piece, i, side);
}

/*
 * Write SQL that is true if a user who is to be created gets the attribute. An empty value
 * counts as none.
 */
static const char *
present_piece(const LpuSyncValue *value)
{
	switch (value->form)
	{
		case LPU_FORM_TEXT:
		case LPU_FORM_FOLDED:
			return "(#, '!'::text, CASE WHEN c.id IS NULL THEN coalesce(c.s_v# <> '', false) ";
		case LPU_FORM_SET:
		case LPU_FORM_NAMES:
			return "(#, '!'::text, CASE WHEN c.id IS NULL "
				"THEN coalesce(cardinality(c.s_v#) > 0, false) ";
		case LPU_FORM_NUMBER:
		case LPU_FORM_BOOLEAN:
			break;
	}
	return "(#, '!'::text, CASE WHEN c.id IS NULL THEN c.s_v# IS NOT NULL ";
}

/*
 * A line of the list of a candidate's attributes: number, name, does it
 * differ; how account and source are shown; what the source said last, what
 * the account and the source say now, in the form that is compared; is it
 * hidden; what to add to a set of a user who is there, and what to take from it.
 */
static void
append_attribute(StringInfo out, const LpuSyncValue *value, int i)
{
	const LpuSyncColumn *column = value->column;
	const char *name = lpu_sync_shown_name(column);
	const char *old = lpu_sync_write_shown(value, i, "a_");
	const char *new = lpu_sync_write_shown(value, i, "s_");
	const char *rest;

	append_piece(out, present_piece(value), i, name);
	if (is_enabled_attribute(column))
		rest = "ELSE false END, NULL, to_jsonb(c.s_v#), NULL, NULL, to_jsonb(c.s_v#), false, "
			"NULL::jsonb, NULL::jsonb)";
	else if (column->attribute->rules & LPU_HIDDEN)
	{
		old = "c.hidden -> '!'";
		rest = "ELSE coalesce(c.s_v# <> (c.hidden ->> '!'), false) END, ";
	}
	else if (column->add_only && !value->folded)
		rest = "ELSE coalesce(@extschema@._lp_set_target(c.a_v#, c.s_v#, c.base -> '!') <> c.a_v#, "
			"false) END, to_jsonb(c.a_v#), "
			"to_jsonb(@extschema@._lp_set_target(c.a_v#, c.s_v#, c.base -> '!')), c.base -> '!', "
			"c.base -> '!', @extschema@._lp_set_added(c.a_v#, c.s_v#, c.base -> '!'), false, "
			"CASE WHEN c.id IS NOT NULL THEN to_jsonb(c.s_v#) END, "
			"CASE WHEN c.id IS NOT NULL THEN @extschema@._lp_set_taken(c.s_v#, c.base -> '!') END)";
	else if (column->add_only)
		rest = "ELSE coalesce(NOT (c.s_c# <@ c.a_c#), false) END, to_jsonb(c.a_v#), "
			"to_jsonb(ARRAY(SELECT unnest(c.a_v#) UNION SELECT unnest(c.s_v#) ORDER BY 1)), "
			"NULL, NULL, NULL, false, NULL::jsonb, NULL::jsonb)";
	else if (value->form == LPU_FORM_NUMBER)
		rest = "ELSE c.s_v# IS NOT NULL AND c.s_v# IS DISTINCT FROM c.a_v# END, ";
	else
		rest = value->folded ? "ELSE coalesce(c.s_c# <> c.a_c#, false) END, " :
			"ELSE coalesce(c.s_v# <> c.a_v#, false) END, ";
	append_piece(out, rest, i, name);
	/* those that are complete end in a parenthesis */
	if (rest[strlen(rest) - 1] == ')')
		return;
	append_piece(out, old, i, name);
	appendStringInfo(out, ", %s, ", new);
	if (column->attribute->rules & LPU_HIDDEN)
		rest = "c.hidden -> '!', c.hidden -> '!', to_jsonb(c.s_v#), true, NULL::jsonb, NULL::jsonb)";
	else
		rest = value->folded ? "c.base -> '!', to_jsonb(c.a_c#), to_jsonb(c.s_c#), false, "
			"NULL::jsonb, NULL::jsonb)" :
			"c.base -> '!', to_jsonb(c.a_v#), to_jsonb(c.s_v#), false, NULL::jsonb, NULL::jsonb)";
	append_piece(out, rest, i, name);
}

/* The login is shown first. */
char *
lpu_sync_write_attributes(const LpuSyncSides *sides)
{
	StringInfoData out;
	int			i;

	initStringInfo(&out);
	appendStringInfo(&out, "(-1, 'loginName'::text, CASE WHEN c.id IS NULL THEN c.login IS NOT NULL "
					 "ELSE %s END, to_jsonb(c.login_name), to_jsonb(c.s_login_name), "
					 "c.base -> 'loginName', to_jsonb(c.a_login), to_jsonb(c.login), false, "
					 "NULL::jsonb, NULL::jsonb)",
					 lpu_sync_column(sides->sync, "loginName")->create_only ? "false" :
					 "coalesce(c.a_login <> c.login, false)");
	for (i = 0; i < sides->source->nvalues; i++)
	{
		appendStringInfoString(&out, ", ");
		append_attribute(&out, &sides->source->values[i], i);
	}
	return out.data;
}

/*
 * Return SQL that is true if any attribute differs between a row of the source "s", its link "k"
 * and a user "a"; null counts as false.
 */
char *
lpu_sync_write_any_differs(const LpuSyncSides *sides)
{
	StringInfoData out;
	int			i;

	initStringInfo(&out);
	appendStringInfoString(&out, "false");
	for (i = 0; i < sides->source->nvalues; i++)
	{
		const LpuSyncValue *value = &sides->source->values[i];

		if (sides->account->values[i].value != 0 ||
			(value->column->attribute->rules & LPU_HIDDEN) != 0)
			appendStringInfo(&out, " OR %s", write_differs(value, i));
	}
	return out.data;
}

/* The values of both sides, under distinct names. */
char *
lpu_sync_write_columns(const LpuSyncSides *sides)
{
	StringInfoData out;
	int			i;

	initStringInfo(&out);
	for (i = 0; i < sides->source->nvalues; i++)
	{
		const LpuSyncValue *s = &sides->source->values[i];
		const LpuSyncValue *a = &sides->account->values[i];

		appendStringInfo(&out, ", s.v%d AS s_v%d", i, i);
		if (s->folded)
			appendStringInfo(&out, ", s.c%d AS s_c%d", i, i);
		if (s->raw)
			appendStringInfo(&out, ", s.r%d AS s_r%d", i, i);
		if (a->value)
			appendStringInfo(&out, ", a.v%d AS a_v%d", i, i);
		if (a->folded)
			appendStringInfo(&out, ", a.c%d AS a_c%d", i, i);
	}
	return out.data;
}

/*
 * Return SQL for a row of the source as one jsonb, of a relation with this prefix of its
 * columns.
 */
char *
lpu_sync_write_source(const LpuSyncRows *source, const char *prefix, const char *login)
{
	StringInfoData out;
	int			i;

	initStringInfo(&out);
	appendStringInfo(&out, "jsonb_strip_nulls(jsonb_build_object('loginName', %s", login);
	for (i = 0; i < source->nvalues; i++)
		if (!source->values[i].column->create_only)
			appendStringInfo(&out, ", '%s', %s%c%d", source->values[i].column->attribute->name,
							 prefix, source->values[i].raw ? 'r' : 'v', i);
	appendStringInfoString(&out, "))");
	return out.data;
}

/* The e-mail in the form that is compared, with this prefix; "null" if it is not compared. */
const char *
lpu_sync_write_email(const LpuSyncSides *sides, const char *prefix)
{
	int			i;

	for (i = 0; i < sides->source->nvalues; i++)
		if (sides->account->values[i].folded &&
			sides->source->values[i].column->attribute->kind == LPU_EMAIL)
			return psprintf("%sc%d", prefix, i);
	return "NULL::text";
}

/* The source's isEnabled; "null" if the source does not have it. */
const char *
lpu_sync_write_wanted(const LpuSyncSides *sides)
{
	int			i;

	for (i = 0; i < sides->source->nvalues; i++)
		if (is_enabled_attribute(sides->source->values[i].column))
			return psprintf("s.v%d", i);
	return "NULL::boolean";
}

/*
 * The attributes that a user to be created lacks, as text; attributes sent only with a create are
 * not read here.
 */
char *
lpu_sync_write_missing(const LpuSyncSides *sides)
{
	StringInfoData out;
	ListCell   *cell;
	int			i;

	initStringInfo(&out);
	appendStringInfoString(&out, "concat_ws(', ', NULL");
	foreach(cell, lpu_sync_lacking(sides->sync, sides->options->require_password))
		appendStringInfo(&out, ", '%s'", ((const LpuAttribute *) lfirst(cell))->name);
	for (i = 0; i < sides->source->nvalues; i++)
		if (sides->source->values[i].column->attribute->rules & LPU_REQUIRED)
			appendStringInfo(&out, ", CASE WHEN c.s_v%d IS NULL THEN '%s' END", i,
							 sides->source->values[i].column->attribute->name);
	appendStringInfoString(&out, ")");
	return out.data;
}
