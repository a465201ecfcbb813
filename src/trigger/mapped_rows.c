/*
 * mapped_rows.c: the users that a mapping makes of rows.
 *
 * The trigger and lp_enqueue_rows() run the same query over different rows and put the result into
 * the queue in the same way. The users of a run are kept in the caller's memory context.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "trigger/mapped_rows.h"
#include "trigger/row_to_user.h"

/* The users of a run, as they come from the query. */
typedef struct user_receiver
{
	DestReceiver pub;			/* first */
	MemoryContext context;		/* of the users */
	const lpu_mapping *mapping;
	lpu_mapping_place place;	/* expression being evaluated */
	int			nrows;			/* parameters that are rows */
	bool		require_password;
	lpu_user_writer *writer;
	lpu_mapped_users *mapped;
	int			capacity;
} user_receiver;

static bool
receive_slot(TupleTableSlot *slot, DestReceiver *self)
{
	user_receiver *receiver = (user_receiver *) self;
	lpu_mapped_users *mapped = receiver->mapped;
	MemoryContext caller = MemoryContextSwitchTo(receiver->context);

	receiver->place.at = -1;
	if (mapped->n == receiver->capacity)
	{
		receiver->capacity = Max(receiver->capacity * 2, 16);
		mapped->users = mapped->n > 0 ?
			repalloc_huge(mapped->users, receiver->capacity * sizeof(lpu_queued_user)) :
			palloc(receiver->capacity * sizeof(lpu_queued_user));
	}
	lpu_user_from_slot(receiver->writer, slot, &mapped->users[mapped->n++]);
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
make_parameters(const lpu_mapping_scope *scope, const Datum *rows, user_receiver *receiver)
{
	ParamListInfo params = makeParamList(scope->nparams);
	int			i;

	params->paramFetch = fetch_parameter;
	params->paramFetchArg = receiver;
	for (i = 0; i < receiver->nrows; i++)
		params->params[i] = (ParamExternData) {rows[i], false, PARAM_FLAG_CONST, scope->types[i]};
	return params;
}

/* In the current memory context. */
lpu_mapping_scope *
lpu_mapped_scope(const lpu_mapping *mapping, Relation table, Oid root, int nrows)
{
	lpu_mapping_scope *scope = palloc(sizeof(lpu_mapping_scope));
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
lpu_mapped_users *
lpu_mapped_run(const lpu_mapping *mapping, const lpu_mapping_scope *scope, SPIPlanPtr plan,
			   const Datum *rows, int nrows, bool require_password)
{
	user_receiver receiver = {{0}};
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
	receiver.mapped = palloc0(sizeof(lpu_mapped_users));
	options.dest = &receiver.pub;
	options.params = make_parameters(scope, rows, &receiver);
	error_context_stack = &context;
	if (SPI_execute_plan_extended(plan, &options) < 0)
		elog(ERROR, "could not run the query of a mapping");
	error_context_stack = context.previous;
	return receiver.mapped;
}

void
lpu_mapped_raise(const lpu_mapped_users *mapped)
{
	int			i;

	for (i = 0; i < mapped->n; i++)
		if (mapped->users[i].problem != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid user \"%s\"",
							mapped->users[i].login_name ? mapped->users[i].login_name : ""),
					 errdetail("%s.", mapped->users[i].problem),
					 errhidestmt(true)));
}

lpu_problem *
lpu_mapped_count(const lpu_options *options, int n)
{
	lpu_problem *problem;

	if (options->hold_above == 0 || lpu_enqueue_count(options->account, n) <= options->hold_above)
		return NULL;
	problem = lpu_problem_new(ERRCODE_PROGRAM_LIMIT_EXCEEDED,
							  "more than %d users in one transaction (hold_above);"
							  " see lp_release()", options->hold_above);
	return lpu_problem_hint(problem, "Check them in lp_results.");
}

void
lpu_mapped_warn(const char *account, const lpu_problem *held)
{
	ereport(WARNING,
			(errcode(held->sqlstate),
			 errmsg("users for account \"%s\" are held: %s", account, held->message),
			 held->detail ? errdetail("%s", held->detail) : 0,
			 held->hint ? errhint("%s Then: SELECT lp_release('%s').", held->hint, account) : 0,
			 errhidestmt(true)));
}

void
lpu_mapped_enqueue(const lpu_mapping *mapping, const lpu_mapped_users *mapped, Oid schema,
				   Oid table, const lpu_options *options, LpuHoldKind kind, const lpu_problem *held)
{
	lpu_queue_origin origin = {0};

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
	lpu_enqueue(&origin, mapped->users, mapped->n, NULL);
}
