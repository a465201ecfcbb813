/*
 * source.c: the rows of a source, in the form in which they are compared.
 *
 * The source is read by one query with the rights of the sync's owner, in a security-restricted
 * operation; each row is converted to its form when it arrives and appended to a tuplestore, which
 * spills at work_mem. The problem of an invalid row is stored in the row; the other rows are
 * processed. Errors raised while the source is read are raised here.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/params.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/encoding.h"
#include "sync/rows.h"
#include "user/login.h"

/* A longer key never reaches an index. */
#define MAX_KEY 254

/* The fixed columns of the source. */
enum
{
	NUMBER, KEY, LOGIN, LOGIN_NAME, PROBLEM
};

/* Receiver of the rows of the query. */
typedef struct SourceReceiver
{
	DestReceiver receiver;
	const LpuSync *sync;
	LpuSyncRows *rows;
	MemoryContext row_context;
	Datum	   *values;
	bool	   *nulls;
	StringInfo	problem;
} SourceReceiver;

/* ----- the shape of the rows ----- */

/* The login is a fixed column. */
static bool
is_read(const LpuSyncColumn *column, bool all)
{
	return column->attribute != NULL && column->attribute->kind != LPU_LOGIN &&
		(all || !column->create_only);
}

/*
 * Return true if the value is compared with the account. Other values are hidden, or sent only with
 * a create.
 */
bool
lpu_sync_is_compared(const LpuSyncColumn *column)
{
	return !column->create_only && (column->attribute->rules & LPU_HIDDEN) == 0 &&
		strcmp(column->attribute->name, "isEnabled") != 0;
}

static void
add_column(TupleDesc desc, int number, const char *name, Oid type)
{
	TupleDescInitEntry(desc, number, name, type, -1, 0);
	if (type == TEXTOID || type == TEXTARRAYOID)
		TupleDescInitEntryCollation(desc, number, C_COLLATION_OID);
}

/* The values that are read, with the numbers of their columns. */
static void
choose_values(const LpuSync *sync, bool all, LpuSyncNames *const *names, LpuSyncRows *rows)
{
	int			number = LPU_SOURCE_COLUMNS;
	int			i;

	rows->values = palloc0(Max(sync->ncolumns, 1) * sizeof(LpuSyncValue));
	for (i = 0; i < sync->ncolumns; i++)
	{
		const LpuSyncColumn *column = &sync->columns[i];
		LpuSyncValue *value = &rows->values[rows->nvalues];

		if (!is_read(column, all))
			continue;
		rows->nvalues++;
		value->column = column;
		value->names = column->names >= 0 && names != NULL ? names[i] : NULL;
		value->form = column->names >= 0 && value->names == NULL ? LPU_FORM_NAMES :
			lpu_sync_form(column->attribute->kind);
		value->value = ++number;
		value->folded = lpu_sync_form_folds(value->form) ? ++number : 0;
		value->raw = value->names != NULL ? ++number : 0;
	}
	rows->desc = CreateTemplateTupleDesc(number);
}

static void
describe_rows(LpuSyncRows *rows)
{
	int			i;

	add_column(rows->desc, NUMBER + 1, "n", INT8OID);
	add_column(rows->desc, KEY + 1, "key", TEXTOID);
	add_column(rows->desc, LOGIN + 1, "login", TEXTOID);
	add_column(rows->desc, LOGIN_NAME + 1, "login_name", TEXTOID);
	add_column(rows->desc, PROBLEM + 1, "problem", TEXTOID);
	for (i = 0; i < rows->nvalues; i++)
	{
		const LpuSyncValue *value = &rows->values[i];
		Oid			type = lpu_sync_form_type(value->form);

		add_column(rows->desc, value->value, psprintf("v%d", i), type);
		if (value->folded)
			add_column(rows->desc, value->folded, psprintf("c%d", i), type);
		if (value->raw)
			add_column(rows->desc, value->raw, psprintf("r%d", i), TEXTARRAYOID);
	}
}

/* ----- one row ----- */

static void
add_problem(StringInfo problem, const char *format, const char *what)
{
	appendStringInfoString(problem, problem->len > 0 ? "; " : "");
	appendStringInfo(problem, format, what);
}

static void
put(SourceReceiver *r, int number, Datum value)
{
	r->values[number - 1] = value;
	r->nulls[number - 1] = false;
}

static void
take_key(SourceReceiver *r, bool isnull, Datum value)
{
	char	   *key = isnull ? "" : TextDatumGetCString(value);

	if (*key == '\0')
		add_problem(r->problem, "%s", "the key is empty");
	else if (pg_mbstrlen(key) > MAX_KEY)
		add_problem(r->problem, "the key is longer than %s characters",
					CppAsString2(MAX_KEY));
	else
		put(r, KEY + 1, value);
}

static void
take_login(SourceReceiver *r, bool isnull, Datum value)
{
	char	   *login = isnull ? "" :
	TextDatumGetCString(lpu_sync_normalize(LPU_FORM_FOLDED, value));
	const char *wrong = lpu_login_check(login);

	if (*login == '\0')
		add_problem(r->problem, "%s", "loginName is empty");
	else if (wrong != NULL)
		add_problem(r->problem, "loginName %s", wrong);
	else
	{
		put(r, LOGIN + 1, CStringGetTextDatum(lpu_login_fold(login)));
		put(r, LOGIN_NAME + 1, CStringGetTextDatum(login));
	}
}

/* Find the ids of an array of names, a set; return false if a name has none. */
static bool
find_ids(SourceReceiver *r, const LpuSyncNames *names, Datum value, Datum *result)
{
	Datum	   *elements;
	Datum	   *ids;
	int			n;
	int			i;
	bool		found = true;

	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL,
					  &n);
	ids = palloc(Max(n, 1) * sizeof(Datum));
	for (i = 0; i < n; i++)
	{
		int64		id = 0;

		found &= lpu_sync_names_find(names, TextDatumGetCString(elements[i]), &id, r->problem);
		ids[i] = Int64GetDatum(id);
	}
	if (found)
		*result = lpu_sync_normalize(LPU_FORM_SET,
									 PointerGetDatum(construct_array(ids, n, INT8OID, sizeof(int64),
																	 FLOAT8PASSBYVAL,
																	 TYPALIGN_DOUBLE)));
	return found;
}

/* Ids of the API are positive; the id of a group may be -1. */
static void
check_ids(SourceReceiver *r, const LpuSyncValue *value, Datum set)
{
	ArrayType  *array = DatumGetArrayTypeP(set);

	if (value->column->attribute->kind == LPU_IDS &&
		ARR_NDIM(array) > 0 && *(int64 *) ARR_DATA_PTR(array) <= 0)
		add_problem(r->problem, "%s must not hold numbers below 1",
					value->column->attribute->name);
}

/* In a SQL_ASCII database a text may be invalid UTF-8. */
static void
check_text(SourceReceiver *r, const LpuAttribute *attribute, Datum value)
{
	size_t		length = VARSIZE_ANY_EXHDR(value);

	if (length == 0 && (attribute->rules & LPU_REQUIRED))
		add_problem(r->problem, "%s must not be empty", attribute->name);
	if (GetDatabaseEncoding() == PG_SQL_ASCII &&
		lpu_text_to_utf8(TextDatumGetCString(value), &length) == NULL)
		add_problem(r->problem, "%s cannot be sent as UTF-8", attribute->name);
}

/* A value that the API's type of an attribute cannot hold is left out, and noted as a problem. */
static bool
can_hold(SourceReceiver *r, const LpuSyncValue *value, Oid type, Datum *given)
{
	const LpuAttribute *attribute = value->column->attribute;
	const char *wrong = NULL;

	if (value->form == LPU_FORM_NUMBER)
		wrong = lpu_sync_number_problem(attribute->kind, *given);
	else if (type == NUMERICARRAYOID && !lpu_sync_whole_numbers(*given, given))
		wrong = attribute->kind == LPU_GROUP ? "must be a whole number" :
			"must hold whole numbers only";
	if (wrong != NULL)
		add_problem(r->problem, "%s", psprintf("%s %s", attribute->name, wrong));
	return wrong == NULL;
}

/* An array of what is not known is neither a value nor the empty array, which would clear. */
static bool
holds_null(SourceReceiver *r, const LpuSyncValue *value, Datum given)
{
	if (value->form != LPU_FORM_SET && value->form != LPU_FORM_NAMES)
		return false;
	if (!array_contains_nulls(DatumGetArrayTypeP(given)))
		return false;
	add_problem(r->problem, "%s must not hold NULL", value->column->attribute->name);
	return true;
}

static void
take_value(SourceReceiver *r, const LpuSyncValue *value, Oid type, Datum given)
{
	const LpuAttribute *attribute = value->column->attribute;
	bool		is_text = value->form == LPU_FORM_TEXT || value->form == LPU_FORM_FOLDED;

	if (holds_null(r, value, given))
		return;
	if (!can_hold(r, value, type, &given))
		return;
	if (value->names != NULL)
	{
		given = lpu_sync_normalize(LPU_FORM_NAMES, given);
		put(r, value->raw, given);
		if (!find_ids(r, value->names, given, &given))
			return;
	}
	else
		given = lpu_sync_normalize(value->form, given);
	if (is_text)
		check_text(r, attribute, given);
	put(r, value->value, given);
	if (value->folded)
		put(r, value->folded, lpu_sync_fold(value->form, given));
	if (value->form == LPU_FORM_SET)
		check_ids(r, value, given);
}

static bool
receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	SourceReceiver *r = (SourceReceiver *) self;
	LpuSyncRows *rows = r->rows;
	MemoryContext caller = MemoryContextSwitchTo(r->row_context);
	int			i;

	slot_getallattrs(slot);
	memset(r->nulls, true, rows->desc->natts * sizeof(bool));
	r->problem = makeStringInfo();
	put(r, NUMBER + 1, Int64GetDatum(++rows->count));
	take_key(r, slot->tts_isnull[0], slot->tts_values[0]);
	take_login(r, slot->tts_isnull[1], slot->tts_values[1]);
	for (i = 0; i < rows->nvalues; i++)
		if (!slot->tts_isnull[2 + i])
			take_value(r, &rows->values[i],
					   TupleDescAttr(slot->tts_tupleDescriptor, 2 + i)->atttypid,
					   slot->tts_values[2 + i]);
	if (r->problem->len > 0)
		put(r, PROBLEM + 1, CStringGetTextDatum(r->problem->data));
	tuplestore_putvalues(rows->store, rows->desc, r->values, r->nulls);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(r->row_context);
	return true;
}

static void
start_rows(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
end_rows(DestReceiver *self)
{
}

/* ----- the query ----- */

/* The key as text: of a time with time zone that in UTC. */
static char *
write_source_key(const LpuSync *sync)
{
	AttrNumber	number = get_attnum(sync->source, sync->key);
	Oid			type = number > 0 ? get_atttype(sync->source, number) : TEXTOID;

	return lpu_sync_text_expression(type, quote_identifier(sync->key));
}

static char *
write_query(const LpuSync *sync, const LpuSyncRows *rows, bool keys)
{
	StringInfoData query;
	char	   *key = write_source_key(sync);
	int			i;

	initStringInfo(&query);
	appendStringInfo(&query, "SELECT %s, (%s)::pg_catalog.text", key,
					 quote_identifier(lpu_sync_column(sync, "loginName")->name));
	for (i = 0; i < rows->nvalues; i++)
	{
		const LpuSyncColumn *column = rows->values[i].column;

		appendStringInfo(&query, ", %s", lpu_sync_expression(column->attribute->kind,
															 column->names >= 0, column->type, true,
															 quote_identifier(column->name)));
	}
	appendStringInfo(&query, " FROM %s", sync->source_name);
	if (keys)
		appendStringInfo(&query, " WHERE %s OPERATOR(pg_catalog.=) ANY ($1)", key);
	return query.data;
}

static void
set_for_now(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

/*
 * Fix the settings on which the text of a value depends: keys and values must not depend on the
 * session that makes a plan, applies it, or changes a watched table. "ISO" fixes how dates are
 * written and leaves the order in which they are read. TimeZone stays: it is in what the source
 * says of the current day. Return the level for AtEOXact_GUC(false).
 */
int
lpu_sync_fix_settings(void)
{
	int			level = NewGUCNestLevel();

	set_for_now("datestyle", "ISO");
	set_for_now("intervalstyle", "postgres");
	set_for_now("extra_float_digits", "1");
	set_for_now("bytea_output", "hex");
	return level;
}

/*
 * Read dates in the order in which a new session of a role in this database reads them, whichever
 * role calls: a view that casts a text to date must return the same rows to each run, and to its
 * owner. Without a setting of the role or the database, the one with which this session began.
 */
static void
set_date_order(Oid role)
{
	const char *style = GetConfigOptionResetString("datestyle");
	char	   *query = psprintf("SELECT pg_catalog.substr(c, 11) FROM pg_catalog.pg_db_role_setting s,"
								 " pg_catalog.unnest(s.setconfig) c"
								 " WHERE s.setdatabase IN (0, %u) AND s.setrole IN (0, %u)"
								 " AND c OPERATOR(pg_catalog.~~*) 'datestyle=%%'"
								 " ORDER BY s.setrole = 0, s.setdatabase = 0 LIMIT 1",
								 MyDatabaseId, role);

	if (SPI_execute(query, true, 1) == SPI_OK_SELECT && SPI_processed == 1)
		style = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	set_for_now("datestyle", style);
	set_for_now("datestyle", "ISO");
}

/*
 * Run a query as a role, restricted, with SPI connected; its parameter is an array of keys, or
 * there is none (0). The query uses a new snapshot, so that the changes of marks read before are
 * visible in the source. Raises what the query raises. The current memory context, role and
 * settings are as before.
 */
void
lpu_sync_read_as(Oid role, const char *query, Datum keys, DestReceiver *dest)
{
	MemoryContext caller = CurrentMemoryContext;
	SPIExecuteOptions options = {.read_only = false,.dest = dest};
	Oid			before;
	int			context;
	int			level = lpu_sync_fix_settings();
	int			result;

	options.params = makeParamList(keys != (Datum) 0 ? 1 : 0);
	if (keys != (Datum) 0)
	{
		options.params->params[0].value = keys;
		options.params->params[0].isnull = false;
		options.params->params[0].pflags = PARAM_FLAG_CONST;
		options.params->params[0].ptype = TEXTARRAYOID;
	}
	set_for_now("search_path", "pg_catalog, pg_temp");
	set_date_order(role);
	GetUserIdAndSecContext(&before, &context);
	SetUserIdAndSecContext(role, context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	result = SPI_execute_extended(query, &options);
	SetUserIdAndSecContext(before, context);
	AtEOXact_GUC(false, level);
	MemoryContextSwitchTo(caller);
	if (result < 0)
		elog(ERROR, "could not read a relation: %s", SPI_result_code_string(result));
}

/*
 * Read the source of a sync, whose columns have been read, in the current memory context. Invalid
 * rows are included, with their problem.
 */
LpuSyncRows *
lpu_sync_read_source(const LpuSync *sync, bool all, Datum keys, LpuSyncNames *const *names)
{
	LpuSyncRows *rows = palloc0(sizeof(LpuSyncRows));
	SourceReceiver receiver = {
		.receiver = {receive_row, start_rows, end_rows, end_rows, DestNone},
		.sync = sync,.rows = rows
	};

	choose_values(sync, all, names, rows);
	describe_rows(rows);
	rows->store = tuplestore_begin_heap(false, false, work_mem);
	receiver.values = palloc(rows->desc->natts * sizeof(Datum));
	receiver.nulls = palloc(rows->desc->natts * sizeof(bool));
	receiver.row_context = AllocSetContextCreate(CurrentMemoryContext, "lpusers source row",
												 ALLOCSET_DEFAULT_SIZES);
	lpu_sync_read_as(sync->owner, write_query(sync, rows, keys != (Datum) 0), keys,
					 &receiver.receiver);
	MemoryContextDelete(receiver.row_context);
	return rows;
}
