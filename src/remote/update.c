/*
 * update.c: users of a foreign table that are updated: read, merged, put back.
 *
 * An update of the API replaces the whole user, so each is read again, the changed attributes are laid over it, and the
 * whole is put back on condition (If-Match) that the account has not changed meanwhile. Its revision is one number for all
 * users: when somebody else's change got in between, the users are read once more, and unless one of these was changed the
 * update is tried again. What counts as changed is what the statement has seen: the columns of the table as it read them.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "base/error.h"
#include "http/socket_wait.h"
#include "remote/fetch.h"
#include "remote/returning.h"
#include "remote/update.h"
#include "user/serialize.h"
#include "user/validate.h"

/* How often a batch is tried while others keep changing the account. */
#define MAX_TRIES 5

/* Between two tries, on average: others are not to meet us again. */
#define PAUSE_MS 50

/* One user. */
typedef struct changed_user
{
	lpu_delta	delta;
	bool		found;			/* when it was read again */
	bool		there;			/* ... and as it is to be */
	char	   *merged;			/* ... and with what is set, for the wire */
} changed_user;

struct lpu_change
{
	const lpu_update *update;
	lpu_writer *writer;
	const lpu_table *table;
	lpu_fetch_plan plan;
	lpu_fetch  *fetch;
	lpu_fetch_cost cost;		/* of the fetch, as far as the writer knows */
	MemoryContext context;		/* of the statement */
	MemoryContext batch;		/* of the rows since the last flush */
	MemoryContext try;			/* of one try to send some of them, and of its answer */
	changed_user *users;
	int			n;
	int			capacity;
	lpu_answered *answered;		/* NULL: not needed yet */
	lpu_api_answer *answer;		/* the last one */
};

lpu_change *
lpu_change_new(const lpu_update *update)
{
	lpu_change *c = palloc0(sizeof(lpu_change));
	const lpu_table *table = update->writer->table;
	int			i;

	c->update = update;
	c->writer = update->writer;
	c->table = table;
	for (i = 0; i < table->ncolumns; i++)
		if (lpu_delta_tells_change(&table->columns[i]))
			c->plan.columns = bms_add_member(c->plan.columns, i);
	c->plan.columns = bms_add_member(c->plan.columns, table->id_column - 1);
	c->plan.by_id = true;
	c->plan.entity = true;
	c->fetch = lpu_fetch_new(table, c->writer->options, &c->plan);
	c->capacity = c->writer->options->batch_size;
	c->users = palloc(c->capacity * sizeof(changed_user));
	c->context = CurrentMemoryContext;
	c->batch = AllocSetContextCreate(CurrentMemoryContext, "lpusers batch", ALLOCSET_DEFAULT_SIZES);
	c->try = AllocSetContextCreate(CurrentMemoryContext, "lpusers try", ALLOCSET_DEFAULT_SIZES);
	return c;
}

void
lpu_change_add(lpu_change *c, int64 id, Datum before, TupleTableSlot *after)
{
	MemoryContext caller = MemoryContextSwitchTo(c->batch);

	if (c->n == c->capacity)
	{
		c->capacity *= 2;
		c->users = repalloc_huge(c->users, c->capacity * sizeof(changed_user));
	}
	lpu_delta_init(&c->users[c->n].delta, c->update, id, before, after);
	c->n++;
	MemoryContextSwitchTo(caller);
}

int
lpu_change_pending(const lpu_change *c)
{
	return c->n;
}

/* ------------------------------------------------------------------------------------------------------- conflicts */

static void
raise_conflict(const lpu_change *c, const lpu_delta *delta, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not update user %s of account \"%s\": it was changed meanwhile", lpu_delta_name(delta),
					c->writer->options->account),
			 errdetail_internal("%s%s", detail, lpu_writer_progress(c->writer)),
			 errhint("Repeat the statement."),
			 errhidestmt(true), errhidecontext(true)));
}

static void
raise_unrest(const lpu_change *c)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not update users of account \"%s\": others keep changing it", c->writer->options->account),
			 errdetail_internal("Its revision had moved on at each of %d tries.%s", MAX_TRIES,
								lpu_writer_progress(c->writer)),
			 errhint("Repeat the statement when the account is at rest."),
			 errhidestmt(true), errhidecontext(true)));
}

static void
raise_absent(const lpu_change *c, const lpu_delta *delta)
{
	if (!lpu_delta_was_deleted(delta))
		raise_conflict(c, delta, "It was deleted.");
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot update user %s: it is deleted", lpu_delta_name(delta)),
			 errdetail_internal("The account shows deleted users, but they cannot be changed.%s",
								lpu_writer_progress(c->writer)),
			 errhidestmt(true), errhidecontext(true)));
}

/* An attribute that is answered blank would be put back blank. */
static void
check_hidden(const lpu_change *c, const lpu_delta *delta, Jsonb *entity)
{
	char	   *hint = NULL;
	char	   *lost = lpu_hidden_lost(c->table, c->update->list, delta->columns, entity, &hint);

	if (lost != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot update user %s: it would lose %s", lpu_delta_name(delta), lost),
				 errdetail_internal("The API replaces the whole user, and does not show what it has there.%s",
									lpu_writer_progress(c->writer)),
				 errhint("%s", hint),
				 errhidestmt(true), errhidecontext(true)));
}

/* ------------------------------------------------------------------------------------------------------- reading */

static int
compare_users(const void *a, const void *b)
{
	int64		left = (*(changed_user *const *) a)->delta.id;
	int64		right = (*(changed_user *const *) b)->delta.id;

	return left < right ? -1 : left > right;
}

/* Some of the users, by their ids: a listing of many has to find its way. */
static changed_user **
sort_users(lpu_change *c, const int *users, int n)
{
	changed_user **sorted = palloc(n * sizeof(changed_user *));
	int			i;

	for (i = 0; i < n; i++)
		sorted[i] = &c->users[users[i]];
	qsort(sorted, n, sizeof(changed_user *), compare_users);
	return sorted;
}

static changed_user *
find_user(changed_user **sorted, int n, int64 id)
{
	changed_user wanted = {.delta.id = id};
	changed_user *key = &wanted;
	changed_user **found = bsearch(&key, sorted, n, sizeof(changed_user *), compare_users);

	return found ? *found : NULL;
}

static void
add_costs(lpu_change *c)
{
	lpu_fetch_cost now = lpu_fetch_costs(c->fetch);

	c->writer->requests += now.requests - c->cost.requests;
	c->writer->bytes += now.bytes - c->cost.bytes;
	c->writer->ms += now.ms - c->cost.ms;
	c->cost = now;
}

/* What to do with a user that was read again. */
typedef void (*with_user) (lpu_change *c, changed_user *user, const Datum *values, const bool *nulls);

/* Read some users again. Returns the revision at which they were read, -1 if it is not known. */
static int64
read_again(lpu_change *c, const int *users, int n, with_user act)
{
	changed_user **sorted = sort_users(c, users, n);
	int64	   *ids = palloc(n * sizeof(int64));
	Datum	   *values = palloc(c->table->ncolumns * sizeof(Datum));
	bool	   *nulls = palloc(c->table->ncolumns * sizeof(bool));
	int			id = c->table->id_column - 1;
	int64		revision;
	int			i;

	for (i = 0; i < n; i++)
	{
		ids[i] = sorted[i]->delta.id;
		sorted[i]->found = sorted[i]->there = false;
	}
	lpu_fetch_ids(c->fetch, ids, n);
	while (lpu_fetch_next(c->fetch, values, nulls))
	{
		changed_user *user = nulls[id] ? NULL : find_user(sorted, n, DatumGetInt64(values[id]));

		if (user == NULL)
			continue;
		user->found = true;
		act(c, user, values, nulls);
	}
	revision = lpu_fetch_revision(c->fetch);
	lpu_fetch_stop(c->fetch);
	add_costs(c);
	return revision;
}

static void
merge(lpu_change *c, changed_user *user, const Datum *values, const bool *nulls)
{
	const char *changed = lpu_delta_conflict(&user->delta, values, nulls);
	size_t		length;
	const char *utf8 = lpu_fetch_entity(c->fetch, &length);
	char	   *text = pg_any_to_server(utf8, (int) length, PG_UTF8);
	Jsonb	   *entity;

	if (changed != NULL)
		raise_conflict(c, &user->delta, psprintf("Attribute \"%s\" is not what the statement has read.", changed));
	entity = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	check_hidden(c, &user->delta, entity);
	user->merged = lpu_delta_merge(&user->delta, entity);
}

static int64
read_and_merge(lpu_change *c, const int *users, int n)
{
	int64		revision = read_again(c, users, n, merge);
	int			i;

	for (i = 0; i < n; i++)
		if (!c->users[users[i]].found)
			raise_absent(c, &c->users[users[i]].delta);
	return revision;
}

static void
compare(lpu_change *c, changed_user *user, const Datum *values, const bool *nulls)
{
	user->there = lpu_delta_is_there(&user->delta, values, nulls);
}

static void
look_for_users(void *batch, const int *users, int n, bool *there)
{
	lpu_change *c = batch;
	int			i;

	(void) read_again(c, users, n, compare);
	for (i = 0; i < n; i++)
		there[i] = c->users[users[i]].there;
}

/* ------------------------------------------------------------------------------------------------------- sending */

/* What is set must be as the API documents it; what else is in the entity is the account's own. */
static void
check_entities(const lpu_change *c, const int *users, Jsonb *entities)
{
	List	   *problems = lpu_users_check(entities, LPU_USER_UPDATE, c->writer->options->require_password);
	ListCell   *cell;

	foreach(cell, problems)
	{
		const lpu_user_problem *problem = lfirst(cell);
		const lpu_delta *delta = &c->users[users[Max(problem->ordinal, 1) - 1]].delta;
		const char *text = problem->twin == 0 ? problem->text :
			psprintf("is the same as that of user %s", lpu_delta_name(&c->users[users[problem->twin - 1]].delta));

		if (problem->attribute != NULL && !lpu_delta_sets(delta, problem->attribute))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid update of foreign table \"%s\"", c->table->name),
				 errdetail_internal("User %s: %s.%s", lpu_delta_name(delta),
									lpu_writer_complaint(c->writer, problem->attribute, text),
									lpu_writer_progress(c->writer)),
				 errhidestmt(true), errhidecontext(true)));
	}
}

/* The merged users as one array. */
static void
write_body(lpu_change *c, const int *users, int n, lpu_write *write)
{
	StringInfoData text;
	Jsonb	   *entities;
	int			i;

	initStringInfo(&text);
	for (i = 0; i < n; i++)
	{
		appendStringInfoChar(&text, i > 0 ? ',' : '[');
		appendStringInfoString(&text, c->users[users[i]].merged);
	}
	appendStringInfoChar(&text, ']');
	entities = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text.data)));
	check_entities(c, users, entities);
	write->users = lpu_users_identify(entities, &write->nusers);
	/* a user who gets another login is known by the one it has */
	for (i = 0; i < n; i++)
	{
		char	   *login = lpu_delta_login(&c->users[users[i]].delta);

		if (login != NULL)
			write->users[i].login_name = login;
	}
	write->secrets = lpu_users_secrets(entities);
	resetStringInfo(&text);
	lpu_users_write(&text, entities);
	write->body = lpu_writer_utf8(text.data, &write->body_length);
}

/* Was it refused because the account is at another revision? 409 can also mean something about a user. */
static bool
is_stale(lpu_change *c, const lpu_api_answer *answer, const int *users, int n, int64 sent_at)
{
	if (sent_at < 0)
		return false;
	return answer->status == 412 || (answer->status == 409 && read_and_merge(c, users, n) != sent_at);
}

static lpu_api_answer *
send_users(void *batch, const int *users, int n, lpu_write *write)
{
	lpu_change *c = batch;
	MemoryContext caller = MemoryContextSwitchTo(c->try);
	int			tries;
	int			i;

	for (tries = 1;; tries++)
	{
		MemoryContextReset(c->try);
		write->if_match = read_and_merge(c, users, n);
		write_body(c, users, n, write);
		c->answer = lpu_writer_send(c->writer, write);
		if (!is_stale(c, c->answer, users, n, write->if_match))
			break;
		lpu_writer_forget(write, NULL);
		if (tries == MAX_TRIES)
			raise_unrest(c);
		lpu_pause((long) (2 * PAUSE_MS * pg_prng_double(&pg_global_prng_state)) + 1);
	}
	for (i = 0; i < n; i++)
		c->users[users[i]].delta.refused = c->answer->verdict != LPU_OK;
	MemoryContextSwitchTo(caller);
	return c->answer;
}

void
lpu_change_flush(lpu_change *c)
{
	static const lpu_batch methods = {.send = send_users, .look = look_for_users, .there_is_done = true};
	MemoryContext caller = MemoryContextSwitchTo(c->batch);
	int			n = c->n;

	c->n = 0;
	lpu_writer_carry_out(c->writer, &methods, c, n);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(c->batch);
}

void
lpu_change_return(lpu_change *c, TupleTableSlot *slot)
{
	MemoryContext caller = MemoryContextSwitchTo(c->context);

	if (c->answered == NULL)
		c->answered = lpu_answered_new(c->table);
	MemoryContextSwitchTo(c->try);
	lpu_answered_complete(c->answered, c->answer, slot);
	MemoryContextSwitchTo(caller);
}
