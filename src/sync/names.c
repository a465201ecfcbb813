/*
 * names.c: IDs of named entities of an account.
 *
 * A name is searched for as written, then without regard to case. Deleted and disabled entities are
 * ignored. The lists are short compared with that of the users, and are read once for each plan.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"

#include "base/encoding.h"
#include "base/text_table.h"
#include "remote/fetch.h"
#include "sync/names.h"
#include "user/login.h"

/* A name, as written or case-folded, and the entity that has it. */
typedef struct NameEntry
{
	char	   *name;			/* the key of the hash table */
	int64		id;
	int			holders;
} NameEntry;

struct LpuSyncNames
{
	const char *what;			/* "profile" */
	HTAB	   *exact;
	HTAB	   *folded;
};

/* The columns that are read of each resource. */
enum
{
	ID, NAME, DELETED, IS_ENABLED, NCOLUMNS
};

static HTAB *
new_table(void)
{
	return lpu_text_table("lpusers names", sizeof(NameEntry), 128);
}

static void
add_name(HTAB *table, char *name, int64 id)
{
	bool		found;
	NameEntry  *entry = hash_search(table, &name, HASH_ENTER, &found);

	if (!found)
		entry->holders = 0;
	entry->id = id;
	entry->holders++;
}

static LpuForeignTable *
table_of(LpuResourceId resource)
{
	static LpuColumn columns[NCOLUMNS] = {
		[ID] = {"id", "id", NULL, LPU_LONG, false, false, INT8OID, -1},
		[NAME] = {"name", "name", NULL, LPU_TEXT, false, false, TEXTOID, -1},
		[DELETED] = {"deleted", "deleted", NULL, LPU_BOOLEAN, false, false, BOOLOID, -1},
		[IS_ENABLED] = {"is_enabled", "isEnabled", NULL, LPU_BOOLEAN, false, false, BOOLOID, -1},
	};
	LpuForeignTable *table = palloc0(sizeof(LpuForeignTable));

	table->resource = lpu_resource_of(resource);
	table->name = table->qualified_name = lpu_resource_names[resource];
	table->ncolumns = NCOLUMNS;
	table->columns = columns;
	return table;
}

/* Sends one request. Raises if the account refuses the list. */
LpuSyncNames *
lpu_sync_names_read(const LpuOptions *options, LpuResourceId resource)
{
	static const char *const words[] = {"user", "skill", "profile", "agent group",
	"line of business"};
	LpuSyncNames *names = palloc(sizeof(LpuSyncNames));
	LpuFetchPlan plan = {.columns = bms_add_range(NULL, 0, NCOLUMNS - 1)};
	LpuFetch   *fetch = lpu_fetch_new(table_of(resource), options, &plan);
	Datum		values[NCOLUMNS];
	bool		nulls[NCOLUMNS];

	names->what = words[resource];
	names->exact = new_table();
	names->folded = new_table();
	lpu_fetch_list(fetch);
	while (lpu_fetch_next(fetch, values, nulls))
	{
		char	   *name;

		if (nulls[NAME] || (!nulls[DELETED] && DatumGetBool(values[DELETED])) ||
			(!nulls[IS_ENABLED] && !DatumGetBool(values[IS_ENABLED])))
			continue;
		name = TextDatumGetCString(values[NAME]);
		add_name(names->exact, name, DatumGetInt64(values[ID]));
		add_name(names->folded, lpu_login_fold(name), DatumGetInt64(values[ID]));
	}
	return names;
}

/* Append the problem of a name, with the most similar name, if there is one. */
static void
describe(const LpuSyncNames *names, const char *name, const NameEntry *entry, StringInfo problem)
{
	LpuNearestName nearest;
	HASH_SEQ_STATUS scan;
	NameEntry  *other;

	if (problem->len > 0)
		appendStringInfoString(problem, "; ");
	if (entry != NULL)
	{
		appendStringInfo(problem, "%d of the account have the name of %s \"%s\"", entry->holders,
						 names->what, name);
		return;
	}
	appendStringInfo(problem, "%s \"%s\" does not exist", names->what, name);
	lpu_nearest_start(&nearest, name);
	hash_seq_init(&scan, names->exact);
	while ((other = hash_seq_search(&scan)) != NULL)
		lpu_nearest_consider(&nearest, other->name);
	if (nearest.name != NULL)
		appendStringInfo(problem, ", perhaps \"%s\" is meant", nearest.name);
}

/*
 * Set *id to the id of a name. If no entity or several have the name, return false and append the
 * reason to "problem".
 */
bool
lpu_sync_names_find(const LpuSyncNames *names, const char *name, int64 *id, StringInfo problem)
{
	NameEntry  *entry = hash_search(names->exact, &name, HASH_FIND, NULL);
	char	   *folded;

	if (entry == NULL)
	{
		folded = lpu_login_fold(name);
		entry = hash_search(names->folded, &folded, HASH_FIND, NULL);
	}
	if (entry == NULL || entry->holders != 1)
	{
		describe(names, name, entry, problem);
		return false;
	}
	*id = entry->id;
	return true;
}
