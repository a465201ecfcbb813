/*
 * mapped_rows.c: the users that a mapping makes of rows.
 *
 * The trigger and lp_enqueue_rows() run the same query over different rows and put the result into
 * the queue in the same way. How many users there are decides whether they are held, so they are
 * counted before the first is written: beyond some thousand they wait in a tuplestore, which has
 * work_mem and then a temporary file.  All else is in the caller's memory context.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "trigger/mapped_rows.h"
#include "trigger/mapped_table.h"
#include "trigger/row_to_user.h"

/* Users in memory, as many as are written with one statement. */
#define MAX_USERS 2000

/* The columns of users that wait. */
enum
{
	LOGIN_NAME, BODY, PROBLEM, KEY, NCOLUMNS
};

typedef struct LpuSpilledUsers
{
	MemoryContext context;		/* of the slot */
	Tuplestorestate *store;
	TupleTableSlot *slot;
	int			n;
	LpuQueuedUser user;			/* that was read last */
} LpuSpilledUsers;

/* The users of a run, as they come from the query. */
typedef struct UserReceiver
{
	DestReceiver pub;			/* first */
	MemoryContext context;		/* of the users */
	const LpuMapping *mapping;
	LpuMappingPlace place;		/* expression being evaluated */
	int			nrows;			/* parameters that are rows */
	bool		require_password;
	LpuUserWriter *writer;
	LpuMappedUsers *mapped;
	int			capacity;
} UserReceiver;

/* ----- users that wait ----- */

static LpuSpilledUsers *
make_spilled(void)
{
	LpuSpilledUsers *spilled = palloc0(sizeof(LpuSpilledUsers));
	TupleDesc	desc = CreateTemplateTupleDesc(NCOLUMNS);
	int			i;

	for (i = 0; i < NCOLUMNS; i++)
		TupleDescInitEntry(desc, i + 1, NULL, i == KEY ? JSONBOID : TEXTOID, -1, 0);
	spilled->context = CurrentMemoryContext;
	spilled->store = tuplestore_begin_heap(false, false, work_mem);
	spilled->slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	return spilled;
}

static void
set_text(Datum *value, bool *isnull, char *text)
{
	*isnull = text == NULL;
	*value = text ? CStringGetTextDatum(text) : (Datum) 0;

	if (text !=NULL)
		pfree(text);
}

/* Move a user to those that wait, and free it. */
static void
spill_user(LpuSpilledUsers *spilled, LpuQueuedUser *user)
{
	Datum		values[NCOLUMNS];
	bool		nulls[NCOLUMNS];
	int			i;

	set_text(&values[LOGIN_NAME], &nulls[LOGIN_NAME], user->login_name);
	set_text(&values[BODY], &nulls[BODY], user->body);
	set_text(&values[PROBLEM], &nulls[PROBLEM], user->problem);
	values[KEY] = JsonbPGetDatum(user->key);
	nulls[KEY] = user->key == NULL;
	tuplestore_putvalues(spilled->store, spilled->slot->tts_tupleDescriptor, values, nulls);
	for (i = 0; i < NCOLUMNS; i++)
		if (!nulls[i])
			pfree(DatumGetPointer(values[i]));
	spilled->n++;
}

/* All users that are in memory wait from now on. */
static void
spill_users(LpuMappedUsers *mapped)
{
	int			i;

	if (mapped->spilled == NULL)
		mapped->spilled = make_spilled();
	for (i = 0; i < mapped->nusers; i++)
		spill_user(mapped->spilled, &mapped->users[i]);
	mapped->nusers = 0;
}

static char *
get_text(TupleTableSlot *slot, int column)
{
	return slot->tts_isnull[column] ? NULL : TextDatumGetCString(slot->tts_values[column]);
}

/* Read the next of the users that wait, in the current memory context. */
static const LpuQueuedUser *
read_spilled(LpuSpilledUsers *spilled)
{
	MemoryContext caller = MemoryContextSwitchTo(spilled->context);
	LpuQueuedUser *user = &spilled->user;

	/* what the slot holds is freed with its next tuple */
	if (!tuplestore_gettupleslot(spilled->store, true, false, spilled->slot))
		elog(ERROR, "a user is missing");
	MemoryContextSwitchTo(caller);
	slot_getallattrs(spilled->slot);
	user->login_name = get_text(spilled->slot, LOGIN_NAME);
	user->body = get_text(spilled->slot, BODY);
	user->problem = get_text(spilled->slot, PROBLEM);
	user->key = spilled->slot->tts_isnull[KEY] ? NULL :
		DatumGetJsonbPCopy(spilled->slot->tts_values[KEY]);
	return user;
}

static const LpuQueuedUser *
next_user(void *arg, int i)
{
	const LpuMappedUsers *mapped = arg;
	int			nspilled = mapped->n - mapped->nusers;

	return i < nspilled ? read_spilled(mapped->spilled) : &mapped->users[i - nspilled];
}

/* ----- the query ----- */

/* Remember the first user whose data are wrong. */
static void
note_wrong(LpuMappedUsers *mapped, const LpuQueuedUser *user)
{
	LpuQueuedUser *wrong;

	if (user->problem == NULL || mapped->wrong != NULL)
		return;
	wrong = palloc0(sizeof(LpuQueuedUser));
	wrong->login_name = user->login_name ? pstrdup(user->login_name) : NULL;
	wrong->problem = pstrdup(user->problem);
	mapped->wrong = wrong;
}

static bool
receive_slot(TupleTableSlot *slot, DestReceiver *self)
{
	UserReceiver *receiver = (UserReceiver *) self;
	LpuMappedUsers *mapped = receiver->mapped;
	MemoryContext caller = MemoryContextSwitchTo(receiver->context);

	receiver->place.at = -1;
	if (mapped->nusers == MAX_USERS && !receiver->mapping->sync)
		spill_users(mapped);
	if (mapped->nusers == receiver->capacity)
	{
		receiver->capacity = Max(receiver->capacity * 2, 16);
		mapped->users = mapped->nusers > 0 ?
			repalloc_huge(mapped->users, receiver->capacity * sizeof(LpuQueuedUser)) :
			palloc(receiver->capacity * sizeof(LpuQueuedUser));
	}
	lpu_user_from_slot(receiver->writer, slot, &mapped->users[mapped->nusers]);
	note_wrong(mapped, &mapped->users[mapped->nusers++]);
	mapped->n++;
	MemoryContextSwitchTo(caller);
	return true;
}

static void
receive_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	UserReceiver *receiver = (UserReceiver *) self;
	MemoryContext caller = MemoryContextSwitchTo(receiver->context);

	receiver->writer = lpu_user_writer_new(receiver->mapping, receiver->require_password, desc);
	MemoryContextSwitchTo(caller);
}

static void
receive_nothing(DestReceiver *self)
{
}

/* A parameter of the query: a row, or a marker, which tells which expression is evaluated next. */
static ParamExternData *
fetch_parameter(ParamListInfo params, int number, bool speculative, ParamExternData *workspace)
{
	UserReceiver *receiver = params->paramFetchArg;

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
make_parameters(const LpuMappingScope *scope, const Datum *rows, UserReceiver *receiver)
{
	ParamListInfo params = makeParamList(scope->nparams);
	int			i;

	params->paramFetch = fetch_parameter;
	params->paramFetchArg = receiver;
	for (i = 0; i < receiver->nrows; i++)
		params->params[i] = (ParamExternData)
	{
		rows[i], false, PARAM_FLAG_CONST, scope->types[i]
	};
	return params;
}

/* In the current memory context. */
LpuMappingScope *
lpu_mapped_scope(const LpuMapping *mapping, Relation table, Oid root, int nrows)
{
	LpuMappingScope *scope = palloc(sizeof(LpuMappingScope));
	int			i;

	scope->table = get_rel_name(root);
	scope->nparams = nrows + mapping->nattributes + 2;
	scope->types = palloc(scope->nparams * sizeof(Oid));
	for (i = 0; i < scope->nparams; i++)
		scope->types[i] = i < nrows ? table->rd_rel->reltype : BOOLOID;
	return scope;
}

/*
 * In the current memory context. Raises what an expression raises, with the argument in the
 * context.
 */
LpuMappedUsers *
lpu_mapped_run(const LpuMapping *mapping, const LpuMappingScope *scope, SPIPlanPtr plan,
			   const Datum *rows, int nrows, bool require_password)
{
	UserReceiver receiver = {{0}};
	ErrorContextCallback context = {error_context_stack, lpu_mapping_context, &receiver.place};
	SPIExecuteOptions options = {0};

	receiver.pub.receiveSlot = receive_slot;
	receiver.pub.rStartup = receive_startup;
	receiver.pub.rShutdown = receiver.pub.rDestroy = receive_nothing;
	receiver.pub.mydest = DestNone;
	receiver.context = CurrentMemoryContext;
	receiver.mapping = receiver.place.mapping = mapping;
	receiver.place.at = -1;
	receiver.nrows = nrows;
	receiver.require_password = require_password;
	receiver.mapped = palloc0(sizeof(LpuMappedUsers));
	options.dest = &receiver.pub;
	options.params = make_parameters(scope, rows, &receiver);
	error_context_stack = &context;
	if (SPI_execute_plan_extended(plan, &options) < 0)
		elog(ERROR, "could not run the query of a mapping");
	error_context_stack = context.previous;
	return receiver.mapped;
}

/* Raise what is wrong with the data of a user, for mode=sync and on_error=raise. */
void
lpu_mapped_raise(const LpuMappedUsers *mapped)
{
	if (mapped->wrong != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid user \"%s\"",
						mapped->wrong->login_name ? mapped->wrong->login_name : ""),
				 errdetail("%s.", mapped->wrong->problem),
				 errhidestmt(true)));
}

/*
 * Count n more users of this transaction. Return a problem if they are more than hold_above
 * allows, else NULL.
 */
LpuProblem *
lpu_mapped_count(const LpuOptions *options, int n)
{
	LpuProblem *problem;

	if (options->hold_above == 0 || lpu_enqueue_count(options->account, n) <= options->hold_above)
		return NULL;
	problem = lpu_problem_new(ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							  "more than %d users in one transaction (hold_above);"
							  " see lp_release()", options->hold_above);
	return lpu_problem_hint(problem, "Check them in lp_results.");
}

/* Report in a WARNING that users are held, and how to release them. */
void
lpu_mapped_warn(const char *account, const LpuProblem *held)
{
	ereport(WARNING,
			(errcode(held->sqlstate),
			 errmsg("users for account \"%s\" are held: %s", account, held->message),
			 held->detail ? errdetail("%s", held->detail) : 0,
			 held->hint ? errhint("%s Then: SELECT lp_release('%s').", held->hint, account) : 0,
			 errhidestmt(true)));
}

/*
 * Append the users to the queue, to be sent as the owner of the table. options are those of the
 * server, or NULL; held is why they are held and kind in which way, or NULL.
 */
void
lpu_mapped_enqueue(const LpuMapping *mapping, const LpuMappedUsers *mapped, Oid schema,
				   Oid table, const LpuOptions *options, LpuHoldKind kind, const LpuProblem *held)
{
	LpuQueueOrigin origin = {0};

	origin.schema = schema;
	origin.account = mapping->account;
	origin.server = options ? options->server_name : NULL;
	origin.server_oid = options ? options->server : InvalidOid;
	origin.requested_by = GetOuterUserId();
	origin.send_as = lpu_mapping_owner(table);
	origin.raise = mapping->raise;
	origin.held = held ? held->message : NULL;
	origin.hold = kind;
	origin.source_table = lpu_mapping_table_name(table);
	origin.source_table_oid = table;
	lpu_enqueue_from(&origin, next_user, unconstify(LpuMappedUsers *, mapped), mapped->n, NULL);
	if (mapped->spilled != NULL)
	{
		ExecDropSingleTupleTableSlot(mapped->spilled->slot);
		tuplestore_end(mapped->spilled->store);
	}
}
