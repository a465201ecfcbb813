/*
 * definition.c: reading the definition of a sync.
 *
 * A sync is a row of _lp_sync. Role, server and source are found by their OIDs
 * in the database where the row was written, and by their names in a copy. The
 * columns of the source are read anew each time (column.c).
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

#include "base/encoding.h"
#include "base/error.h"
#include "base/extension.h"
#include "base/guc.h"
#include "base/origin.h"
#include "base/spi_plan.h"
#include "options/server.h"
#include "sync/definition.h"

/* The columns of a row, in the order in which read_sync_row() takes them. */
#define COLUMNS \
	"SELECT s.id, s.name, s.account, " \
	"@extschema@._lp_server_here(s.origin, $2, s.server_oid, s.server), " \
	"@extschema@._lp_role_here(s.origin, $2, s.owner_oid, s.owner), s.owner, " \
	"CASE WHEN @extschema@._lp_is_here(s.origin, $2) THEN s.source_oid END, s.source, s.key, " \
	"s.create_only, s.add_only, s.drift, s.state, s.why, s.origin = $2, " \
	"@extschema@._lp_is_here(s.origin, $2), s.version, s.server FROM @extschema@._lp_sync s "

/* Actions that a plan shows and counts, and those that can have a limit. */
static const struct
{
	const char *name;
	bool		limited;
}			actions[] = {
	{"create", true}, {"adopt", true}, {"update", true}, {"rename", true}, {"enable", true},
	{"disable", true}, {"delete", true}, {"reopen", true}, {"recreate", true}, {"relink", true},
	{"wait", false}, {"blocked", false}, {"report", false},
};

/*
 * Return true if there is an action of this name (which can have a limit, if "limited"); else
 * set *nearest to a similar one, or NULL.
 */
bool
lpu_sync_is_action(const char *name, bool limited, const char **nearest)
{
	LpuNearestName search;
	int			i;

	lpu_nearest_start(&search, name);
	for (i = 0; i < lengthof(actions); i++)
	{
		if (limited && !actions[i].limited)
			continue;
		if (strcmp(name, actions[i].name) == 0)
			return true;
		lpu_nearest_consider(&search, actions[i].name);
	}
	*nearest = search.name;
	return false;
}

static Oid
oid_column(int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column,
									  &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(value);
}

/* Return a text[] of a result, which is not null, as a list of strings. */
List *
lpu_sync_text_list(SPITupleTable *table, int row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(table->vals[row], table->tupdesc, column, &isnull);
	Datum	   *elements;
	List	   *list = NIL;
	int			n;
	int			i;

	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL,
					  &n);
	for (i = 0; i < n; i++)
		list = lappend(list, TextDatumGetCString(elements[i]));
	return list;
}

/* The reverse. */
Datum
lpu_sync_text_array(const List *list)
{
	Datum	   *values = palloc(Max(list_length(list), 1) * sizeof(Datum));
	ListCell   *cell;
	int			n = 0;

	foreach(cell, list)
		values[n++] = CStringGetTextDatum(lfirst(cell));
	return PointerGetDatum(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Return the relation that has the name of a source now, or InvalidOid. */
Oid
lpu_sync_source_named(const char *name)
{
	List	   *names = textToQualifiedNameList(cstring_to_text(name));

	return RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, true);
}

/*
 * Return the sync in the result.  With after_promotion = resume, a row of another timeline of this
 * database counts as written here.
 */
static LpuSync *
read_sync_row(void)
{
	LpuSync    *sync = palloc0(sizeof(LpuSync));
	char	   *name = get_rel_name(oid_column(7));
	char	   *role;

	sync->id = lpu_int64_column(0, 1);
	sync->name = lpu_text_column(0, 2);
	sync->account = lpu_text_column(0, 3);
	sync->server = oid_column(4);
	sync->owner = oid_column(5);
	sync->owner_name = lpu_text_column(0, 6);
	sync->source = oid_column(7);
	sync->source_name = lpu_text_column(0, 8);
	if (!lpu_bool_column(0, 16))
		sync->source = lpu_sync_source_named(sync->source_name);
	else if (name != NULL)
		sync->source_name =
			lpu_qualified_name(get_namespace_name(get_rel_namespace(sync->source)), name);
	sync->key = lpu_text_column(0, 9);
	sync->create_only = lpu_sync_text_list(SPI_tuptable, 0, 10);
	sync->add_only = lpu_sync_text_list(SPI_tuptable, 0, 11);
	sync->drift = lpu_text_column(0, 12);
	sync->state = lpu_text_column(0, 13);
	sync->why = lpu_text_column(0, 14);
	role = OidIsValid(sync->owner) ? GetUserNameFromId(sync->owner, true) : NULL;
	if (role != NULL)
		sync->owner_name = role;
	sync->here = lpu_bool_column(0, 15) ||
		(lpu_bool_column(0, 16) && lpu_after_promotion == LPU_RESUME);
	sync->version = lpu_int64_column(0, 17);
	sync->server_name = lpu_text_column(0, 18);
	return sync;
}

static LpuSync *
find_sync(const char *sql, Oid type, Datum value)
{
	Oid			types[2] = {type, TEXTOID};
	Datum		values[2] = {value, CStringGetTextDatum(lpu_origin_text())};

	lpu_run(sql, 2, types, values);
	return SPI_processed == 0 ? NULL : read_sync_row();
}

/*
 * Return the sync of this name, in the current memory context, with SPI connected; NULL if there
 * is none. With lock, no other transaction changes, plans or applies it until this one ends.
 */
LpuSync *
lpu_sync_find(const char *name, bool lock)
{
	return find_sync(lock ? COLUMNS "WHERE s.name = $1 FOR UPDATE" : COLUMNS "WHERE s.name = $1",
					 TEXTOID, CStringGetTextDatum(name));
}

/* Return the sync with this id, or NULL; see lpu_sync_find(). */
LpuSync *
lpu_sync_by_id(int64 id, bool lock)
{
	return find_sync(lock ? COLUMNS "WHERE s.id = $1 FOR UPDATE" : COLUMNS "WHERE s.id = $1",
					 INT8OID, Int64GetDatum(id));
}

/*
 * Store the current names of role, server and source, by which a copy of the database finds
 * them. Nothing is stored in a database in which the sync was not defined.
 */
void
lpu_sync_refresh_names(const LpuSync *sync)
{
	Oid			types[3] = {INT8OID, TEXTOID, TEXTOID};
	Datum		values[3] = {
		Int64GetDatum(sync->id), CStringGetTextDatum(lpu_origin_text()),
		CStringGetTextDatum(sync->source_name)
	};

	lpu_run("WITH n AS (SELECT s.id, coalesce(r.rolname::text, s.owner) AS owner, "
			"  coalesce(f.srvname::text, s.server) AS server FROM @extschema@._lp_sync s "
			" LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.owner_oid "
			" LEFT JOIN pg_catalog.pg_foreign_server f ON f.oid = s.server_oid "
			" WHERE s.id = $1 AND @extschema@._lp_is_here(s.origin, $2)) "
			"UPDATE @extschema@._lp_sync s SET owner = n.owner, server = n.server, source = $3 FROM n "
			"WHERE s.id = n.id AND (s.owner, s.server, s.source) IS DISTINCT FROM (n.owner, n.server, $3)",
			3, types, values);
}

/*
 * Return true if the current user may act as the owner. A superuser may, also for a dropped role,
 * so that the sync can be dropped.
 */
bool
lpu_sync_may_use(const LpuSync *sync)
{
	return OidIsValid(sync->owner) ? has_privs_of_role(GetUserId(), sync->owner) : superuser();
}

/* Raise 42501 unless the current user may act as the owner, who is not named to a stranger. */
void
lpu_sync_check_rights(const LpuSync *sync)
{
	if (!lpu_sync_may_use(sync))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for sync \"%s\"", sync->name),
				 errdetail("Only a member of its owner may use it.")));
}

/*
 * Return the sync of this name. Raises if there is none, or the current user may not act as its
 * owner.
 */
LpuSync *
lpu_sync_named(const char *name, bool lock)
{
	LpuSync    *sync = lpu_sync_find(name, lock);

	if (sync == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("sync \"%s\" does not exist", name),
				 errhint("View lp_syncs has the syncs that you may use.")));
	lpu_sync_check_rights(sync);
	return sync;
}

/*
 * Return the options of a sync's server with the mapping of its owner. Raises if there are none,
 * and 55000 if the server was dropped.
 */
const LpuOptions *
lpu_sync_options(const LpuSync *sync)
{
	LpuProblem *problem = NULL;
	const LpuOptions *options;

	/* another server of the account can be that of another role */
	if (!OidIsValid(sync->server))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server \"%s\" of sync \"%s\" does not exist", sync->server_name, sync->name),
				 errhint("Call lp_sync_define() with the same arguments to use another server of"
						 " account \"%s\".", sync->account)));
	options = lpu_server_for_request(sync->server, sync->account, sync->owner, sync->owner_name,
									 &problem);
	if (options == NULL)
		lpu_problem_raise(problem);
	return options;
}
