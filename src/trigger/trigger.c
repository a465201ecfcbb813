/*
 * trigger.c: lp_create_users_trigger(): rows of a table become users.
 *
 * The trigger's arguments are read, and its query prepared, once per trigger and session; both
 * are forgotten when the table changes. The query runs with the rights of the role that fires
 * the trigger, under a fixed search_path; the users are sent with the credentials of the table's
 * owner, as referential-integrity triggers act as the owner. Errors in the data of a row are
 * recorded with it, errors in the set-up hold it, and the statement continues.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/encoding.h"
#include "base/error.h"
#include "base/extension.h"
#include "options/server.h"
#include "queue/enqueue.h"
#include "transaction/logged_request.h"
#include "trigger/mapped_rows.h"
#include "trigger/mapped_table.h"
#include "trigger/mapping.h"
#include "trigger/moved_rows.h"
#include "trigger/row_to_user.h"
#include "trigger/trigger_privilege.h"
#include "user/serialize.h"

PG_FUNCTION_INFO_V1(lp_create_users_trigger);

/*
 * A trigger for INSERT and UPDATE has two queries; what a role may call is
 * decided in part when its query is planned.
 */
typedef struct TriggerKey
{
	Oid			trigger;
	Oid			role;
	int			update;
} TriggerKey;

/* A trigger as this session knows it. */
typedef struct KnownTrigger
{
	TriggerKey	key;
	Oid			table;
	Oid			root;			/* the table that the trigger was created on:
								 * of a copy in a partition, not that
								 * partition */
	bool		valid;
	bool		changed;		/* one of the two tables, while it was being
								 * learned */
	TimestampTz warned_at;		/* start of the statement that was last warned
								 * that its users are held */
	MemoryContext context;
	LpuMapping *mapping;
	LpuMappingScope *scope;
	SPIPlanPtr	plan;
	int			nrows;			/* parameters that are rows; behind them are
								 * the markers */
	uint64		asked;			/* generation in which "outsider" was looked
								 * for; 0: never */
	bool		has_outsider;
	LpuForeignRole outsider;
	LpuMovedSeen moved;
} KnownTrigger;

static HTAB *triggers = NULL;

/* ----- what is known ----- */

static void
on_relation_change(Datum arg, Oid relation)
{
	HASH_SEQ_STATUS status;
	KnownTrigger *known;

	hash_seq_init(&status, triggers);
	while ((known = hash_seq_search(&status)) != NULL)
		if (!OidIsValid(relation) || known->table == relation || known->root == relation)
		{
			known->valid = false;
			known->changed = true;
			known->asked = 0;
		}
}

static KnownTrigger *
find_known(const TriggerData *data)
{
	HASHCTL		ctl = {.keysize = sizeof(TriggerKey),.entrysize = sizeof(KnownTrigger)};
	TriggerKey	key = {data->tg_trigger->tgoid, GetUserId(),
	TRIGGER_FIRED_BY_UPDATE(data->tg_event)};
	KnownTrigger *known;
	bool		found;

	if (triggers == NULL)
	{
		triggers = hash_create("lpusers triggers", 16, &ctl, HASH_ELEM | HASH_BLOBS);
		CacheRegisterRelcacheCallback(on_relation_change, (Datum) 0);
	}
	known = hash_search(triggers, &key, HASH_ENTER, &found);
	if (!found)
		memset((char *) known + sizeof(TriggerKey), 0, sizeof(KnownTrigger) - sizeof(TriggerKey));

	/*
	 * before anything is read from the catalogs: what changes meanwhile is
	 * noticed
	 */
	if (!known->valid)
	{
		known->changed = false;
		known->table = RelationGetRelid(data->tg_relation);
		known->root = lpu_mapping_root(data->tg_relation, data->tg_trigger);
	}
	return known;
}

static void
free_plan(void *plan)
{
	SPI_freeplan(plan);
}

/*
 * Forget what is known of a trigger at the end of the transaction, since an outer call of the
 * same trigger may still use it.
 */
static void
forget_trigger(KnownTrigger *known)
{
	known->valid = false;
	if (known->plan != NULL)
	{
		MemoryContextCallback *at_end = MemoryContextAlloc(TopTransactionContext,
														   sizeof(MemoryContextCallback));

		at_end->func = free_plan;
		at_end->arg = known->plan;
		MemoryContextRegisterResetCallback(TopTransactionContext, at_end);
	}
	known->plan = NULL;
	if (known->context != NULL)
		MemoryContextSetParent(known->context, TopTransactionContext);
	known->context = NULL;
}

static void
check_events(const TriggerData *data, const LpuMapping *mapping)
{
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event) && mapping->condition == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("trigger \"%s\" for UPDATE needs an argument when=",
						data->tg_trigger->tgname),
				 errdetail("A user is created when the condition has become true.")));
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event) && TRIGGER_FIRED_FOR_ROW(data->tg_event) &&
		data->tg_relation->rd_rel->relispartition)
		ereport(WARNING,
				(errmsg("trigger \"%s\" takes rows that an UPDATE moves to partition \"%s\" for new ones",
						data->tg_trigger->tgname, RelationGetRelationName(data->tg_relation)),
				 errhint("Use lp_attach_trigger(), or FOR EACH STATEMENT on the partitioned table.")));
}

/*
 * The columns of the key of the table that the trigger was created on;
 * partitions have them under the same names.
 */
static List *
key_of_root(const KnownTrigger *known, Relation table)
{
	Relation	root;
	List	   *key;

	if (known->root == known->table)
		return lpu_mapping_key(table);
	root = table_open(known->root, AccessShareLock);
	key = lpu_mapping_key(root);
	table_close(root, NoLock);
	return key;
}

/*
 * Read the arguments and prepare the query, with SPI connected and the
 * trigger's data registered.
 */
static void
learn(KnownTrigger *known, TriggerData *data)
{
	Relation	table = data->tg_relation;
	bool		by_row = TRIGGER_FIRED_FOR_ROW(data->tg_event);
	MemoryContext caller;
	char	   *source;
	char	   *before;

	forget_trigger(known);
	known->nrows = !by_row ? 0 : TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? 2 : 1;
	known->context = AllocSetContextCreate(TopMemoryContext, "lpusers trigger",
										   ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(known->context);
	known->mapping = lpu_mapping_read(data->tg_trigger->tgnargs, data->tg_trigger->tgargs);
	known->scope = lpu_mapped_scope(known->mapping, table, known->root, known->nrows);
	MemoryContextSwitchTo(caller);

	check_events(data, known->mapping);
	source = lpu_mapping_source(table, by_row ? NULL : data->tg_trigger->tgnewtable, 1);
	before = known->nrows == 2 ? lpu_mapping_source(table, NULL, 2) : NULL;
	lpu_mapping_try(known->mapping, source, known->scope, known->nrows, true);
	known->plan = lpu_mapping_prepare(lpu_mapping_query(known->mapping, key_of_root(known, table),
														source, before,
														known->nrows + 1), known->scope);
	SPI_keepplan(known->plan);
	known->valid = !known->changed;
}

/* Run the query over the rows of this firing. */
static LpuMappedUsers *
run_query(const KnownTrigger *known, const TriggerData *data, bool require_password)
{
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	Datum		rows[LPU_MAX_ROWS] = {(Datum) 0, (Datum) 0};

	if (known->nrows > 0)
		rows[0] = heap_copy_tuple_as_datum(known->nrows == 2 ? data->tg_newtuple :
										   data->tg_trigtuple, desc);
	if (known->nrows == 2)
		rows[1] = heap_copy_tuple_as_datum(data->tg_trigtuple, desc);
	return lpu_mapped_run(known->mapping, known->scope, known->plan, rows, known->nrows,
						  require_password);
}

/* ----- the firing ----- */

static void
check_call(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	const char *complaint = NULL;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("lp_create_users_trigger() can only be called as a trigger")));
	if (!TRIGGER_FIRED_AFTER(data->tg_event))
		complaint = "It must be an AFTER trigger.";
	else if (!TRIGGER_FIRED_BY_INSERT(data->tg_event) && !TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		complaint = "It must be for INSERT or UPDATE.";
	else if (TRIGGER_FIRED_FOR_STATEMENT(data->tg_event) && TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		complaint = "For UPDATE it must be FOR EACH ROW, to tell the row before from the row now.";
	else if (TRIGGER_FIRED_FOR_STATEMENT(data->tg_event) && data->tg_trigger->tgnewtable == NULL)
		complaint = "FOR EACH STATEMENT it needs REFERENCING NEW TABLE AS a name.";
	if (complaint != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("lp_create_users_trigger() cannot be used as trigger \"%s\"",
						data->tg_trigger->tgname),
				 errdetail("%s", complaint)));
}

/* Another role that could make a trigger like this one, as a problem; NULL if there is none. */
static const LpuProblem *
find_outsider(KnownTrigger *known, Oid function)
{
	uint64		generation = lpu_outsider_generation();

	if (known->asked != generation)
	{
		known->changed = false;
		known->has_outsider = lpu_outsider_find(known->root, function, &known->outsider);
		known->asked = known->changed ? 0 : generation;
	}
	return known->has_outsider ? lpu_outsider_problem(known->root, &known->outsider) : NULL;
}

/* Rows that a MERGE moved are among those of a statement trigger. */
static LpuProblem *
find_moved(KnownTrigger *known, const TriggerData *data)
{
	int64		n = TRIGGER_FIRED_FOR_STATEMENT(data->tg_event) ?
	lpu_moved_count(data->tg_relation, &known->moved) : 0;

	if (n == 0)
		return NULL;
	return lpu_problem_hint(lpu_problem_new(ERRCODE_FEATURE_NOT_SUPPORTED,
											"the statement moved rows to other partitions (" INT64_FORMAT
											"), which MERGE shows as inserted", n),
							"Use INSERT and UPDATE instead of MERGE. Discard the requests of rows that were moved.");
}

/* Why the users of this firing are held, and in which way; or NULL. */
static const LpuProblem *
reason_to_hold(KnownTrigger *known, FunctionCallInfo fcinfo, const LpuOptions *options,
			   const LpuProblem *setup, int n,
			   LpuHoldKind *kind)
{
	const LpuProblem *held;
	const LpuProblem *above;

	*kind = LPU_HOLD_SETUP;
	if (options == NULL)
		return setup;
	above = lpu_mapped_count(options, n);
	held = find_outsider(known, fcinfo->flinfo->fn_oid);
	if (held == NULL)
		held = find_moved(known, (TriggerData *) fcinfo->context);
	if (held != NULL)
		return held;
	*kind = LPU_HOLD_THRESHOLD;
	return above;
}

/* One WARNING a statement, also if the trigger fires for each of its rows. */
static void
warn_once(KnownTrigger *known, const TriggerData *data, const char *account, const LpuProblem *held)
{
	if (TRIGGER_FIRED_FOR_ROW(data->tg_event) &&
		known->warned_at == GetCurrentStatementStartTimestamp())
		return;
	known->warned_at = GetCurrentStatementStartTimestamp();
	lpu_mapped_warn(account, held);
}

static void
enqueue_users(KnownTrigger *known, FunctionCallInfo fcinfo, const LpuMapping *mapping,
			  const LpuMappedUsers *mapped,
			  const LpuOptions *options, const LpuProblem *setup)
{
	LpuHoldKind kind;
	const LpuProblem *held = reason_to_hold(known, fcinfo, options, setup, mapped->n, &kind);

	if (held != NULL)
		warn_once(known, (TriggerData *) fcinfo->context, mapping->account, held);
	lpu_mapped_enqueue(mapping, mapped, get_func_namespace(fcinfo->flinfo->fn_oid), known->root,
					   options, kind, held);
}

/* All users as one JSON array in UTF-8. */
static char *
array_of_users(const LpuMappedUsers *mapped, size_t *length)
{
	StringInfoData text;
	char	   *utf8;
	int			i;

	initStringInfo(&text);
	for (i = 0; i < mapped->n; i++)
	{
		appendStringInfoChar(&text, i > 0 ? ',' : '[');
		appendStringInfoString(&text, mapped->users[i].body);
	}
	appendStringInfoChar(&text, ']');
	*length = text.len;

	utf8 = lpu_text_to_utf8(text.data, length);
	if (utf8 == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("the users cannot be sent as UTF-8"),
				 errdetail("Nothing was sent."),
				 errhidestmt(true)));
	return utf8;
}

/* Anything but success, in mode=sync. */
static void
raise_sync_refusal(const char *account, const LpuApiAnswer *answer, const char *error, int n)
{
	if (answer->verdict == LPU_UNCERTAIN)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("account \"%s\" may have created the user%s: status %d", account,
						n == 1 ? "" : "s",
						answer->status),
				 errdetail("Outcome unknown. %s", error ? error : ""),
				 errhint("Look in the account before you repeat it."),
				 errhidestmt(true)));
	ereport(ERROR,
			(errcode(lpu_api_sqlstate(answer)),
			 errmsg("account \"%s\" did not create the user%s: status %d", account,
					n == 1 ? "" : "s", answer->status),
			 error ? errdetail("%s", error) : 0,
			 errhidestmt(true)));
}

/* mode=sync: create the users now, in one request; anything but success raises. */
static void
create_users(FunctionCallInfo fcinfo, Oid root, const LpuMappedUsers *mapped,
			 const LpuOptions *options)
{
	LpuLoggedCall call = {0};
	LpuApiAnswer *answer;
	const char *error;
	Jsonb	   *users;
	char	   *body;
	char	   *text;
	Oid			role;
	int			context;

	call.schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	call.path = "trigger";
	call.operation = "create";
	call.success = "created";
	call.options = options;
	call.request.method = LPU_CREATE_USERS;
	body = array_of_users(mapped, &call.request.body_length);
	call.request.body = body;
	text = pg_any_to_server(body, (int) call.request.body_length, PG_UTF8);

	users = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	call.users = lpu_users_identify(users, &call.nusers);
	call.secrets = lpu_users_secrets(users);

	/* sent as the table's owner, and recorded so */
	GetUserIdAndSecContext(&role, &context);
	SetUserIdAndSecContext(lpu_mapping_owner(root), context | SECURITY_LOCAL_USERID_CHANGE);
	answer = lpu_call_send(&call, &error);
	SetUserIdAndSecContext(role, context);
	if (answer->verdict != LPU_OK)
		raise_sync_refusal(options->account, answer, error, mapped->n);
}

static void
check_sync(KnownTrigger *known, Oid function, const LpuOptions *options, const LpuProblem *setup)
{
	const LpuProblem *problem = options ? find_outsider(known, function) : setup;

	if (IsLogicalWorker())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("mode=sync cannot be used in logical replication"),
				 errhint("Use mode=queue.")));
	if (problem != NULL)
		lpu_problem_raise(problem);
}

/*
 * lp_create_users_trigger() RETURNS trigger
 *
 * Arguments of the trigger: the account, attribute=expression,
 * when=expression, mode=queue|sync, on_error=record|raise.
 */
Datum
lp_create_users_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	LpuProblem *problem = NULL;
	LpuMappedUsers *mapped;
	KnownTrigger *known;
	const LpuMapping *mapping;
	const LpuOptions *options;
	int			nest;

	check_call(fcinfo);
	known = find_known(data);
	nest = NewGUCNestLevel();
	lpu_mapping_pin_path(known->root);
	SPI_connect();
	SPI_register_trigger_data(data);
	if (!known->valid)
		learn(known, data);
	/* a firing within this one may learn the trigger anew */
	mapping = known->mapping;
	options = lpu_server_for_account(mapping->account, lpu_mapping_owner(known->root), &problem);
	if (mapping->sync)
		check_sync(known, fcinfo->flinfo->fn_oid, options, problem);
	mapped = run_query(known, data, options && options->require_password);
	AtEOXact_GUC(true, nest);
	if (mapping->raise || mapping->sync)
		lpu_mapped_raise(mapped);
	if (mapped->n > 0 && mapping->sync)
	{
		problem = find_moved(known, data);
		if (problem != NULL)
			lpu_problem_raise(problem);
		create_users(fcinfo, known->root, mapped, options);
	}
	else if (mapped->n > 0)
		enqueue_users(known, fcinfo, mapping, mapped, options, problem);
	SPI_finish();
	return PointerGetDatum(NULL);
}
