/*
 * attached_trigger.c: the triggers of a table that create users.
 *
 * A trigger is one of lp_attach_trigger()'s if it calls our function and is called
 * lpusers_<name>_insert or lpusers_<name>_update, where the name is the account unless another was
 * given. A dump keeps both. All other triggers that call the function were written by hand, one
 * that was renamed too.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "trigger/attached_trigger.h"
#include "trigger/mapped_table.h"
#include "trigger/mapping.h"

#define PREFIX "lpusers_"
#define INSERT_SUFFIX "_insert"
#define UPDATE_SUFFIX "_update"

/*
 * Return the name in pg_trigger of the trigger that lp_attach_trigger() creates under a name.
 * Allocated in the current memory context.
 */
char *
lpu_attached_trigger(const char *name, bool update)
{
	char	   *trigger = psprintf(PREFIX "%s%s", name, update ? UPDATE_SUFFIX : INSERT_SUFFIX);

	if (*name == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("name must not be empty")));
	if (strlen(trigger) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("name \"%s\" is too long for a trigger", name),
				 errhint("Give a name of at most %d bytes: name => '...'.",
						 (int) (NAMEDATALEN - sizeof(PREFIX) - sizeof(INSERT_SUFFIX) + 1))));
	return trigger;
}

/* The name in it, or NULL. */
static char *
name_in(const char *trigger)
{
	int			start = strlen(PREFIX);
	int			length = (int) strlen(trigger) - start - (int) strlen(INSERT_SUFFIX);
	const char *suffix = trigger + start + length;

	if (length <= 0 || strncmp(trigger, PREFIX, start) != 0 ||
		(strcmp(suffix, INSERT_SUFFIX) != 0 && strcmp(suffix, UPDATE_SUFFIX) != 0))
		return NULL;
	return pnstrdup(trigger + start, length);
}

/* Return the trigger function of this extension; the caller is another function of it. */
Oid
lpu_attached_function(FunctionCallInfo fcinfo)
{
	char	   *schema = get_namespace_name(get_func_namespace(fcinfo->flinfo->fn_oid));
	char	   *name = pstrdup("lp_create_users_trigger");

	return LookupFuncName(list_make2(makeString(schema), makeString(name)), 0, NULL, false);
}

/* Copied into the current memory context. */
List *
lpu_attached_find(Relation table, Oid function, const char *account, const char *name,
				  bool made_here)
{
	TriggerDesc *triggers = table->trigdesc;
	List	   *found = NIL;
	int			i;
	int			a;

	for (i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];
		LpuAttached *attached = palloc(sizeof(LpuAttached));
		const char *known_as;

		if (trigger->tgfoid != function || trigger->tgisinternal || trigger->tgisclone ||
			trigger->tgnargs == 0)
			continue;
		attached->trigger = pstrdup(trigger->tgname);
		attached->name = name_in(trigger->tgname);
		attached->nargs = trigger->tgnargs;
		attached->args = palloc(trigger->tgnargs * sizeof(char *));
		for (a = 0; a < trigger->tgnargs; a++)
			attached->args[a] = pstrdup(trigger->tgargs[a]);
		known_as = attached->name ? attached->name : attached->trigger;
		if ((attached->name == NULL && made_here) ||
			(account != NULL && strcmp(account, attached->args[0]) != 0) ||
			(name != NULL && strcmp(name, known_as) != 0))
			continue;
		found = lappend(found, attached);
	}
	return found;
}

/* Return true if two triggers make the same users: a pair for INSERT and UPDATE, or equal ones. */
static bool
is_same_trigger(const LpuAttached *a, const LpuAttached *b)
{
	int			i;

	if (a->name != NULL && b->name != NULL)
		return strcmp(a->name, b->name) == 0;
	if (a->nargs != b->nargs)
		return false;
	for (i = 0; i < a->nargs; i++)
		if (strcmp(a->args[i], b->args[i]) != 0)
			return false;
	return true;
}

/* In the current memory context. A pair of INSERT and UPDATE trigger is named once. */
char *
lpu_attached_list(const List *found)
{
	const LpuAttached *last = NULL;
	StringInfoData list;
	ListCell   *cell;

	initStringInfo(&list);
	foreach(cell, found)
	{
		const LpuAttached *attached = lfirst(cell);

		if (last == NULL || !is_same_trigger(attached, last))
			appendStringInfo(&list, "%s\"%s\" (account %s)", list.len > 0 ? ", " : "",
							 attached->name ? attached->name : attached->trigger,
							 attached->args[0]);
		last = attached;
	}
	return list.data;
}

/*
 * Raise an error that lists the triggers unless all belong together: the same arguments, or one
 * name.
 */
void
lpu_attached_require_one(Relation table, const List *found, const char *function)
{
	ListCell   *cell;

	foreach(cell, found)
	{
		const LpuAttached *attached = lfirst(cell);
		const LpuAttached *first = linitial(found);

		if (is_same_trigger(attached, first))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_AMBIGUOUS_PARAMETER),
				 errmsg("table \"%s\" has several triggers that create users",
						RelationGetRelationName(table)),
				 errdetail("They are: %s.", lpu_attached_list(found)),
				 errhint("Name one: %s(%s, name => %s).", function,
						 quote_literal_cstr(lpu_mapping_table_name(RelationGetRelid(table))),
						 quote_literal_cstr(first->name ? first->name : first->trigger))));
	}
}
