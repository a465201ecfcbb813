/*
 * trigger.c: lp_create_users_trigger(): rows of a table become users.
 *
 * The trigger's arguments are read, and its query prepared, once per trigger and session; both are forgotten when the
 * table changes. The query runs with the rights of whoever fires the trigger, under a fixed search_path; the users go
 * out with the credentials of the table's owner, as referential-integrity triggers act as the owner. What is wrong with
 * the data of a row is recorded with it, what is wrong with the set-up holds it: the statement goes on.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/encoding.h"
#include "base/error.h"
#include "options/server.h"
#include "queue/enqueue.h"
#include "transaction/logged_request.h"
#include "trigger/mapping.h"
#include "trigger/row_to_user.h"
#include "user/serialize.h"

PG_FUNCTION_INFO_V1(lp_create_users_trigger);

/* A trigger for INSERT and UPDATE has two queries; what a role may call is decided in part when its query is planned. */
typedef struct trigger_key
{
	Oid			trigger;
	Oid			role;
	int			update;
} trigger_key;

/* A trigger as this session knows it. */
typedef struct known_trigger
{
	trigger_key key;
	Oid			table;
	bool		valid;
	TimestampTz warned_at;		/* start of the statement that was last warned of the set-up */
	MemoryContext context;
	lpu_mapping *mapping;
	SPIPlanPtr	plan;
	int			nrows;			/* parameters that are rows; behind them are the markers */
} known_trigger;

/* The users of one firing, as they come from the query. */
typedef struct user_receiver
{
	DestReceiver pub;			/* first */
	MemoryContext context;		/* of the users */
	const lpu_mapping *mapping;
	lpu_mapping_place place;	/* expression at work */
	int			nrows;			/* parameters that are rows */
	bool		require_password;
	lpu_user_writer *writer;
	lpu_queued_user *users;
	int			n;
	int			room;
} user_receiver;

static HTAB *triggers = NULL;

/* ------------------------------------------------------------------------------------------------ what is known */

static void
on_relation_change(Datum arg, Oid relation)
{
	HASH_SEQ_STATUS status;
	known_trigger *known;

	hash_seq_init(&status, triggers);
	while ((known = hash_seq_search(&status)) != NULL)
		if (!OidIsValid(relation) || known->table == relation)
			known->valid = false;
}

static known_trigger *
find_known(const TriggerData *data)
{
	HASHCTL		ctl = {.keysize = sizeof(trigger_key), .entrysize = sizeof(known_trigger)};
	trigger_key key = {data->tg_trigger->tgoid, GetUserId(), TRIGGER_FIRED_BY_UPDATE(data->tg_event)};
	known_trigger *known;
	bool		found;

	if (triggers == NULL)
	{
		triggers = hash_create("lpusers triggers", 16, &ctl, HASH_ELEM | HASH_BLOBS);
		CacheRegisterRelcacheCallback(on_relation_change, (Datum) 0);
	}
	known = hash_search(triggers, &key, HASH_ENTER, &found);
	if (!found)
	{
		known->valid = false;
		known->warned_at = 0;
		known->context = NULL;
		known->plan = NULL;
	}
	return known;
}

/* What stands after FROM: the transition table, or the row that the parameter holds, under its alias. */
static char *
source_of(const char *alias, const char *transition, int parameter)
{
	if (transition != NULL)
		return psprintf("%s AS %s", quote_identifier(transition), alias);
	return psprintf("(SELECT ($%d).*) AS %s", parameter, alias);
}

static void
free_plan(void *plan)
{
	SPI_freeplan(plan);
}

/* An outer firing of the same trigger may still use what is known: it goes at the end of the transaction. */
static void
forget(known_trigger *known)
{
	known->valid = false;
	if (known->plan != NULL)
	{
		MemoryContextCallback *at_end = MemoryContextAlloc(TopTransactionContext, sizeof(MemoryContextCallback));

		at_end->func = free_plan;
		at_end->arg = known->plan;
		MemoryContextRegisterResetCallback(TopTransactionContext, at_end);
	}
	known->plan = NULL;
	if (known->context != NULL)
		MemoryContextSetParent(known->context, TopTransactionContext);
	known->context = NULL;
}

/* Read the arguments and prepare the query, with SPI connected and the trigger's data registered. */
static void
learn(known_trigger *known, TriggerData *data)
{
	Relation	table = data->tg_relation;
	const char *alias = lpu_mapping_alias(table, data->tg_trigger->tgoid);
	bool		by_row = TRIGGER_FIRED_FOR_ROW(data->tg_event);
	MemoryContext caller;
	char	   *source;
	char	   *before;
	Oid		   *types;
	int			ntypes;
	int			i;

	forget(known);
	known->table = RelationGetRelid(table);
	known->context = AllocSetContextCreate(TopMemoryContext, "lpusers trigger", ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(known->context);
	known->mapping = lpu_mapping_read(data->tg_trigger->tgnargs, data->tg_trigger->tgargs);
	MemoryContextSwitchTo(caller);

	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event) && known->mapping->condition == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("trigger \"%s\" for UPDATE needs an argument when=", data->tg_trigger->tgname),
				 errdetail("A user is created when the condition has become true.")));
	known->nrows = !by_row ? 0 : TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? 2 : 1;
	ntypes = known->nrows + known->mapping->nattributes + 1;
	types = palloc(ntypes * sizeof(Oid));
	for (i = 0; i < ntypes; i++)
		types[i] = i < known->nrows ? table->rd_rel->reltype : BOOLOID;
	source = source_of(alias, by_row ? NULL : data->tg_trigger->tgnewtable, 1);
	before = known->nrows == 2 ? source_of(alias, NULL, 2) : NULL;
	lpu_mapping_try(known->mapping, alias, source, known->nrows, types, true);
	/* a generic plan: with the row's values in it, it would be made anew for each row */
	known->plan = SPI_prepare_cursor(lpu_mapping_query(known->mapping, table, alias, source, before, known->nrows + 1),
									 ntypes, types, CURSOR_OPT_GENERIC_PLAN);
	if (known->plan == NULL)
		elog(ERROR, "could not prepare the query of trigger \"%s\"", data->tg_trigger->tgname);
	SPI_keepplan(known->plan);
	known->valid = true;
}

/* ------------------------------------------------------------------------------------------------ running the query */

static bool
receive_slot(TupleTableSlot *slot, DestReceiver *self)
{
	user_receiver *receiver = (user_receiver *) self;
	MemoryContext caller = MemoryContextSwitchTo(receiver->context);

	receiver->place.at = -1;
	if (receiver->n == receiver->room)
	{
		receiver->room = Max(receiver->room * 2, 16);
		receiver->users = receiver->n > 0 ? repalloc_huge(receiver->users, receiver->room * sizeof(lpu_queued_user)) :
			palloc(receiver->room * sizeof(lpu_queued_user));
	}
	lpu_user_from_slot(receiver->writer, slot, &receiver->users[receiver->n++]);
	MemoryContextSwitchTo(caller);
	return true;
}

static void
receive_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	user_receiver *receiver = (user_receiver *) self;
	MemoryContext caller = MemoryContextSwitchTo(receiver->context);

	receiver->writer = lpu_user_writer_new(receiver->mapping, receiver->require_password, desc);
	MemoryContextSwitchTo(caller);
}

static void
receive_nothing(DestReceiver *self)
{
}

/* The row as a value of the table's row type. */
static void
set_row(ParamExternData *param, HeapTuple tuple, Relation table)
{
	param->value = heap_copy_tuple_as_datum(tuple, RelationGetDescr(table));
	param->isnull = false;
	param->pflags = PARAM_FLAG_CONST;
	param->ptype = table->rd_rel->reltype;
}

/* A parameter of the query: a row, or a marker, which tells which expression is evaluated next. */
static ParamExternData *
fetch_parameter(ParamListInfo params, int number, bool speculative, ParamExternData *workspace)
{
	user_receiver *receiver = params->paramFetchArg;

	if (number <= receiver->nrows)
		return &params->params[number - 1];
	if (!speculative)
		receiver->place.at = number - receiver->nrows - 1;
	workspace->value = BoolGetDatum(true);
	workspace->isnull = false;
	workspace->pflags = 0;
	workspace->ptype = BOOLOID;
	return workspace;
}

static ParamListInfo
make_parameters(const known_trigger *known, TriggerData *data, user_receiver *receiver)
{
	ParamListInfo params = makeParamList(known->nrows + known->mapping->nattributes + 1);

	params->paramFetch = fetch_parameter;
	params->paramFetchArg = receiver;
	receiver->nrows = known->nrows;
	if (known->nrows > 0)
		set_row(&params->params[0], known->nrows == 2 ? data->tg_newtuple : data->tg_trigtuple, data->tg_relation);
	if (known->nrows == 2)
		set_row(&params->params[1], data->tg_trigtuple, data->tg_relation);
	return params;
}

static void
run_query(known_trigger *known, TriggerData *data, user_receiver *receiver)
{
	ErrorContextCallback context = {error_context_stack, lpu_mapping_context, &receiver->place};
	SPIExecuteOptions options = {0};

	receiver->pub.receiveSlot = receive_slot;
	receiver->pub.rStartup = receive_startup;
	receiver->pub.rShutdown = receiver->pub.rDestroy = receive_nothing;
	receiver->pub.mydest = DestNone;
	receiver->place.mapping = known->mapping;
	receiver->place.at = -1;
	options.dest = &receiver->pub;
	options.params = make_parameters(known, data, receiver);
	error_context_stack = &context;
	if (SPI_execute_plan_extended(known->plan, &options) < 0)
		elog(ERROR, "could not run the query of trigger \"%s\"", data->tg_trigger->tgname);
	error_context_stack = context.previous;
}

/* ------------------------------------------------------------------------------------------------ the firing */

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
				 errmsg("lp_create_users_trigger() cannot be used as trigger \"%s\"", data->tg_trigger->tgname),
				 errdetail("%s", complaint)));
}

static void
raise_problems(const user_receiver *receiver)
{
	int			i;

	for (i = 0; i < receiver->n; i++)
		if (receiver->users[i].problem != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid user \"%s\"", receiver->users[i].login_name ? receiver->users[i].login_name : ""),
					 errdetail("%s.", receiver->users[i].problem),
					 errhidestmt(true)));
}

/* One WARNING a statement, also if the trigger fires for each of its rows. */
static void
warn_of_setup(known_trigger *known, TriggerData *data, const lpu_problem *problem)
{
	const char *account = known->mapping->account;

	if (TRIGGER_FIRED_FOR_ROW(data->tg_event) && known->warned_at == GetCurrentStatementStartTimestamp())
		return;
	known->warned_at = GetCurrentStatementStartTimestamp();
	ereport(WARNING,
			(errcode(problem->sqlstate),
			 errmsg("users for account \"%s\" are held: %s", account, problem->message),
			 problem->hint ? errhint("%s Then: SELECT lp_release('%s').", problem->hint, account) : 0,
			 errhidestmt(true)));
}

/* Why the users of this firing are held, or NULL. */
static const char *
reason_to_hold(const lpu_options *options, const lpu_problem *problem, const char *account, int n)
{
	if (options == NULL)
		return problem->message;
	if (options->hold_above > 0 && lpu_enqueue_count(account, n) > options->hold_above)
		return psprintf("more than %d users in one transaction (hold_above); see lp_release()", options->hold_above);
	return NULL;
}

static void
enqueue_users(FunctionCallInfo fcinfo, const user_receiver *receiver, const lpu_options *options,
			  const lpu_problem *problem)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	Relation	table = data->tg_relation;
	lpu_queue_origin origin = {0};

	origin.schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	origin.account = receiver->mapping->account;
	origin.server = options ? options->server_name : NULL;
	origin.requested_by = GetOuterUserId();
	origin.send_as = table->rd_rel->relowner;
	origin.raise = receiver->mapping->raise;
	origin.held = reason_to_hold(options, problem, origin.account, receiver->n);
	origin.source_table = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)),
													 RelationGetRelationName(table));
	lpu_enqueue(&origin, receiver->users, receiver->n, NULL);
}

/* All users as one JSON array in UTF-8. */
static char *
array_of_users(const user_receiver *receiver, size_t *length)
{
	StringInfoData text;
	char	   *utf8;
	int			i;

	initStringInfo(&text);
	for (i = 0; i < receiver->n; i++)
	{
		appendStringInfoChar(&text, i > 0 ? ',' : '[');
		appendStringInfoString(&text, receiver->users[i].body);
	}
	appendStringInfoChar(&text, ']');
	*length = text.len;
	utf8 = lpu_text_to_utf8(text.data, length);
	if (utf8 == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("the users cannot be sent as UTF-8: nothing was sent"),
				 errhidestmt(true)));
	return utf8;
}

/* Anything but success, in mode=sync. */
static void
raise_refusal(const char *account, const lpu_api_answer *answer, const char *error, int n)
{
	int			sqlstate = ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION;

	if (answer->verdict == LPU_UNCERTAIN)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("account \"%s\" may have created the user%s: status %d", account, n == 1 ? "" : "s",
						answer->status),
				 errdetail("Outcome unknown. %s", error ? error : ""),
				 errhint("Look in the account before you repeat it."),
				 errhidestmt(true)));
	if (answer->verdict == LPU_LATER)
		sqlstate = ERRCODE_CONFIGURATION_LIMIT_EXCEEDED;
	if (answer->verdict == LPU_UNAUTHORIZED)
		sqlstate = ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION;
	ereport(ERROR,
			(errcode(sqlstate),
			 errmsg("account \"%s\" did not create the user%s: status %d", account, n == 1 ? "" : "s", answer->status),
			 error ? errdetail("%s", error) : 0,
			 errhidestmt(true)));
}

/* mode=sync: create the users now, in one request; anything but success raises. */
static void
create_users(FunctionCallInfo fcinfo, const user_receiver *receiver, const lpu_options *options)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	lpu_call	call = {0};
	lpu_api_answer *answer;
	const char *error;
	Jsonb	   *users;
	char	   *body;
	Oid			role;
	int			context;

	call.schema = get_func_namespace(fcinfo->flinfo->fn_oid);
	call.path = "sync";
	call.operation = "create";
	call.success = "created";
	call.options = options;
	call.request.method = LPU_CREATE_USERS;
	body = array_of_users(receiver, &call.request.body_length);
	call.request.body = body;
	users = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(
											  pg_any_to_server(body, (int) call.request.body_length, PG_UTF8))));
	call.users = lpu_users_identify(users, &call.nusers);
	call.secrets = lpu_users_secrets(users);

	/* sent as the table's owner, and recorded so */
	GetUserIdAndSecContext(&role, &context);
	SetUserIdAndSecContext(data->tg_relation->rd_rel->relowner, context | SECURITY_LOCAL_USERID_CHANGE);
	answer = lpu_call_send(&call, &error);
	SetUserIdAndSecContext(role, context);
	if (answer->verdict != LPU_OK)
		raise_refusal(options->account, answer, error, receiver->n);
}

static void
check_sync(const lpu_options *options, const lpu_problem *problem)
{
	if (IsLogicalWorker())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("mode=sync cannot be used in logical replication"),
				 errhint("Use mode=queue.")));
	if (options == NULL)
		lpu_problem_raise(problem);
}

/*
 * lp_create_users_trigger() RETURNS trigger
 *
 * Arguments of the trigger: the account, attribute=expression, when=expression, mode=queue|sync, on_error=record|raise.
 */
Datum
lp_create_users_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	user_receiver receiver = {{0}};
	known_trigger *known;
	const lpu_options *options;
	lpu_problem *problem = NULL;
	int			nest;

	check_call(fcinfo);
	receiver.context = CurrentMemoryContext;
	nest = NewGUCNestLevel();
	lpu_mapping_pin_path(data->tg_relation);
	SPI_connect();
	SPI_register_trigger_data(data);
	known = find_known(data);
	if (!known->valid)
		learn(known, data);
	options = lpu_server_for_account(known->mapping->account, data->tg_relation->rd_rel->relowner, &problem);
	if (known->mapping->sync)
		check_sync(options, problem);
	receiver.mapping = known->mapping;
	receiver.require_password = options && options->require_password;
	run_query(known, data, &receiver);
	AtEOXact_GUC(true, nest);
	if (known->mapping->raise || known->mapping->sync)
		raise_problems(&receiver);
	if (receiver.n > 0 && known->mapping->sync)
		create_users(fcinfo, &receiver, options);
	else if (receiver.n > 0)
	{
		if (options == NULL)
			warn_of_setup(known, data, problem);
		enqueue_users(fcinfo, &receiver, options, problem);
	}
	SPI_finish();
	return PointerGetDatum(NULL);
}
