/*
 * update.c: users of a foreign table that are updated: read, merged, written.
 *
 * An update of the API replaces the whole user. So each user is read again, the changed
 * attributes are laid over it, and the result is written on condition that the account has not
 * changed meanwhile; conditional.c repeats that if necessary, and has users of several requests
 * read together. A user counts as changed if a column of the table differs from what the statement
 * read.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "base/error.h"
#include "remote/column_value.h"
#include "remote/conditional.h"
#include "remote/returning.h"
#include "remote/update.h"
#include "user/merge.h"
#include "user/serialize.h"
#include "user/validate.h"

/*
 * A request about 100 users, and the merging of one user, take most of their memory from a first
 * block of this size. What goes beyond it is returned to the system after each of them.
 */
#define TRY_BLOCK (1024 * 1024)
#define MERGE_BLOCK (64 * 1024)

/* One user. */
typedef struct ChangedUser
{
	LpuRowChange delta;
	bool		found;			/* when it was read again */
	bool		there;			/* ... and as it is to be */
	char	   *merged;			/* ... and with what is set, for the wire */
} ChangedUser;

struct LpuUpdateState
{
	const LpuUpdate *update;
	LpuWriterState *writer;
	const LpuForeignTable *table;
	LpuReread  *reread;
	MemoryContext context;		/* of the statement */
	MemoryContext batch;		/* of the rows since the last flush */
	MemoryContext try;			/* of one try to send some of them, and of its
								 * response */
	MemoryContext merged;		/* of the users that were read last */
	ChangedUser *users;
	int			n;
	int			nbatch;			/* of them that are being sent */
	int			capacity;
	LpuReturnedUsers *answered; /* NULL: not needed yet */
	LpuApiAnswer *answer;		/* the last one */
	int64		answered_id;	/* the id of its first user */
};

/*
 * Return the state of an UPDATE, in the current memory context, with at most batch_size users in
 * a request. The argument must live as long.
 */
LpuUpdateState *
lpu_change_new(const LpuUpdate *update)
{
	LpuUpdateState *c = palloc0(sizeof(LpuUpdateState));

	c->update = update;
	c->writer = update->writer;
	c->table = update->writer->table;
	c->reread = lpu_reread_new(update, true);
	c->capacity = c->writer->options->batch_size;
	c->users = palloc(c->capacity * sizeof(ChangedUser));
	c->context = CurrentMemoryContext;
	c->batch = AllocSetContextCreate(CurrentMemoryContext, "lpusers batch", ALLOCSET_DEFAULT_SIZES);
	c->try = AllocSetContextCreate(CurrentMemoryContext, "lpusers try", TRY_BLOCK, TRY_BLOCK,
								   ALLOCSET_DEFAULT_MAXSIZE);
	c->merged = AllocSetContextCreate(CurrentMemoryContext, "lpusers merged", MERGE_BLOCK,
									  MERGE_BLOCK, ALLOCSET_DEFAULT_MAXSIZE);
	return c;
}

/*
 * Add a row to the batch: the user's id, the row as the statement read it (a composite value),
 * and the new row.
 */
void
lpu_change_add(LpuUpdateState *c, int64 id, Datum before, TupleTableSlot *after)
{
	MemoryContext caller = MemoryContextSwitchTo(c->batch);

	if (c->n == c->capacity)
	{
		c->capacity *= 2;
		c->users = repalloc_huge(c->users, c->capacity * sizeof(ChangedUser));
	}
	lpu_delta_init(&c->users[c->n].delta, c->update, id, before, after);
	c->n++;
	MemoryContextSwitchTo(caller);
}

/* Return how many rows are in the batch. */
int
lpu_change_pending(const LpuUpdateState *c)
{
	return c->n;
}

/* ----- conflicts ----- */

static void
raise_absent(const LpuUpdateState *c, const LpuRowChange *delta)
{
	if (!lpu_delta_was_deleted(delta))
		lpu_conditional_conflict(delta, "It was deleted.");
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot update user %s: it is deleted", lpu_delta_name(delta)),
			 errdetail_internal("The account shows deleted users, but they cannot be changed.%s",
								lpu_writer_progress(c->writer)),
			 errhidestmt(true), errhidecontext(true)));
}

/*
 * Refuse an update that would erase attributes: those that a part of a user does not have, or one
 * that the API returns blank.
 */
static void
check_complete(const LpuUpdateState *c, const LpuRowChange *delta, Jsonb *entity)
{
	const char *lacks = lpu_user_lacks(entity);
	char	   *hint = NULL;
	char	   *lost = lpu_hidden_lost(c->table, c->update->list, delta->columns, entity, &hint);

	if (lacks != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot update user %s: the account has not shown all of its attributes",
						lpu_delta_name(delta)),
				 errdetail_internal("Attribute \"%s\" is missing. The API replaces the whole user, so what is not sent would be lost.%s",
									lacks, lpu_writer_progress(c->writer)),
				 errhidestmt(true), errhidecontext(true)));
	if (lost != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot update user %s: it would lose %s", lpu_delta_name(delta), lost),
				 errdetail_internal("The API replaces the whole user, and does not show what it has there.%s",
									lpu_writer_progress(c->writer)),
				 errhint("%s", hint),
				 errhidestmt(true), errhidecontext(true)));
}

/* ----- reading ----- */

/* Read some users again. Return the revision at which they were read, -1 if it is not known. */
static int64
read_again(LpuUpdateState *c, const int *users, int n, LpuWithUser with_user)
{
	int64	   *ids = palloc(n * sizeof(int64));
	int			i;

	for (i = 0; i < n; i++)
	{
		ids[i] = c->users[users[i]].delta.id;
		c->users[users[i]].found = c->users[users[i]].there = false;
	}
	return lpu_reread_users(c->reread, ids, users, n, with_user, c);
}

/* What is kept of a user is the merged entity. */
static void
merge(void *batch, int number, const Datum *values, const bool *nulls)
{
	LpuUpdateState *c = batch;
	ChangedUser *user = &c->users[number];
	const char *changed = lpu_delta_conflict(&user->delta, values, nulls);
	size_t		length;
	const char *utf8 = lpu_reread_entity(c->reread, &length);
	char	   *text = pg_any_to_server(utf8, (int) length, PG_UTF8);
	Jsonb	   *entity;

	if (changed != NULL)
		lpu_conditional_conflict(&user->delta,
								 psprintf("Attribute \"%s\" is not what the statement has read.",
										  changed));
	entity = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	entity = lpu_refused_strip(c->writer->options, entity);
	check_complete(c, &user->delta, entity);
	user->found = true;
	user->merged = MemoryContextStrdup(c->merged, lpu_delta_merge(&user->delta, entity));
}

static int64
read_and_merge(void *batch, const int *users, int n)
{
	LpuUpdateState *c = batch;
	int64		revision;
	int			i;

	MemoryContextReset(c->merged);
	revision = read_again(c, users, n, merge);
	for (i = 0; i < n; i++)
		if (!c->users[users[i]].found)
			raise_absent(c, &c->users[users[i]].delta);
	return revision;
}

static void
compare(void *batch, int number, const Datum *values, const bool *nulls)
{
	LpuUpdateState *c = batch;
	ChangedUser *user = &c->users[number];

	user->there = lpu_delta_is_there(&user->delta, values, nulls);
}

static void
look_for_updated_users(void *batch, const int *users, int n, bool *there)
{
	LpuUpdateState *c = batch;
	int			i;

	(void) read_again(c, users, n, compare);
	for (i = 0; i < n; i++)
		there[i] = c->users[users[i]].there;
}

/* ----- users as the statement has read them ----- */

/* Return the entity in the row that the statement has read, NULL if the table does not show it. */
static Jsonb *
entity_before(const LpuUpdateState *c, const LpuRowChange *delta)
{
	int			i;

	for (i = 0; i < c->table->ncolumns; i++)
	{
		const LpuColumn *column = &c->table->columns[i];
		bool		isnull = true;
		Datum		value = (Datum) 0;

		if (column->name != NULL && column->whole && column->type == JSONBOID)
			value = heap_getattr(delta->before, i + 1, c->update->desc, &isnull);
		if (!isnull)
			return DatumGetJsonbP(value);
	}
	return NULL;
}

/* Return true if all users can be merged without being read again. */
static bool
have_entities(const LpuUpdateState *c)
{
	int			i;

	for (i = 0; i < c->n; i++)
		if (entity_before(c, &c->users[i].delta) == NULL)
			return false;
	return true;
}

/* Append what is set, laid over the entity as the statement has read it. */
static void
append_merged_before(const LpuUpdateState *c, const LpuRowChange *delta, StringInfo text)
{
	MemoryContext caller = MemoryContextSwitchTo(c->merged);
	Jsonb	   *entity = lpu_refused_strip(c->writer->options, entity_before(c, delta));

	if (lpu_delta_was_deleted(delta))
		raise_absent(c, delta);
	check_complete(c, delta, entity);
	appendStringInfoString(text, lpu_delta_merge(delta, entity));
	MemoryContextSwitchTo(caller);
	/* no user was read again, so nothing else is in it */
	MemoryContextReset(c->merged);
}

/* ----- sending ----- */

/* Raise what is wrong with a user; attribute: NULL for the whole. */
static void
raise_invalid_update(const LpuUpdateState *c, const LpuRowChange *delta, const char *attribute,
					 const char *text)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid update of foreign table \"%s\"", c->table->name),
			 errdetail_internal("User %s: %s.%s", lpu_delta_name(delta),
								lpu_writer_complaint(c->writer, attribute, text),
								lpu_writer_progress(c->writer)),
			 errhidestmt(true), errhidecontext(true)));
}

/* Check the attributes that are set; the rest of the entity comes from the account. */
static void
check_entities(const LpuUpdateState *c, const int *users, Jsonb *entities)
{
	List	   *problems = lpu_users_check(entities, LPU_USER_UPDATE,
										   c->writer->options->require_password);
	ListCell   *cell;

	foreach(cell, problems)
	{
		const LpuUserProblem *problem = lfirst(cell);
		const LpuRowChange *delta = &c->users[users[Max(problem->ordinal, 1) - 1]].delta;
		const char *text = problem->twin == 0 ? problem->text :
		psprintf("is the same as that of user %s",
				 lpu_delta_name(&c->users[users[problem->twin - 1]].delta));

		if (problem->attribute != NULL && !lpu_delta_sets(delta, problem->attribute))
			continue;
		raise_invalid_update(c, delta, problem->attribute, text);
	}
}

/* The merged users as one array. */
static void
write_update_body(void *batch, const int *users, int n, LpuWriteRequest *write)
{
	LpuUpdateState *c = batch;
	StringInfoData text;
	Jsonb	   *entities;
	int			large;
	int			i;

	initStringInfo(&text);
	for (i = 0; i < n; i++)
	{
		appendStringInfoChar(&text, i > 0 ? ',' : '[');
		if (lpu_conditional_as_scanned(c->reread))
			append_merged_before(c, &c->users[users[i]].delta, &text);
		else
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
		c->users[users[i]].delta.sent = true;
	}
	write->secrets = lpu_users_secrets(entities);
	resetStringInfo(&text);
	large = lpu_users_write(&text, entities);
	if (large > 0)
		raise_invalid_update(c, &c->users[users[large - 1]].delta, NULL,
							 lpu_user_too_large(large)->text);
	write->body = lpu_writer_utf8(text.data, &write->body_length);
}

/* Return true if one of the users of the batch sets the attribute. */
static bool
batch_sets_attribute(void *batch, const char *attribute)
{
	LpuUpdateState *c = batch;
	int			i;

	for (i = 0; i < c->nbatch; i++)
		if (lpu_delta_sets(&c->users[i].delta, attribute))
			return true;
	return false;
}

static LpuApiAnswer *
send_updated_users(void *batch, const int *users, int n, LpuWriteRequest *write)
{
	static const LpuConditional methods = {.read = read_and_merge,.write = write_update_body,
	.sets = batch_sets_attribute};
	LpuUpdateState *c = batch;
	int			i;

	c->answer = lpu_conditional_send(c->reread, &methods, c, users, n, write, c->try);
	c->answered_id = c->users[users[0]].delta.id;
	for (i = 0; i < n; i++)
		c->users[users[i]].delta.refused = c->answer->verdict != LPU_OK;
	return c->answer;
}

/*
 * Update the users of the batch, which is empty afterwards. The statement has listed them at the
 * revision "scanned"; -1: it is not known. Raises 40001 if one was changed since then, and
 * any refusal. Can be cancelled.
 */
void
lpu_change_flush(LpuUpdateState *c, int64 scanned)
{
	static const LpuWriteBatch methods = {.send = send_updated_users,.look = look_for_updated_users,
	.there_is_done = true};
	MemoryContext caller = MemoryContextSwitchTo(c->batch);
	int			n = c->n;

	if (scanned >= 0 && !have_entities(c))
		scanned = -1;
	c->n = 0;
	c->nbatch = n;
	lpu_conditional_begin(c->reread, n, scanned);
	lpu_writer_carry_out(c->writer, &methods, c, n);
	lpu_conditional_end(c->reread);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(c->batch);
	MemoryContextReset(c->merged);
}

/*
 * After a batch of one: complete its row from the response, with the date of the update for
 * example.
 */
void
lpu_change_return(LpuUpdateState *c, TupleTableSlot *slot)
{
	MemoryContext caller = MemoryContextSwitchTo(c->context);

	if (c->answered == NULL)
		c->answered = lpu_answered_new(c->table);
	MemoryContextSwitchTo(c->try);
	lpu_answered_complete(c->answered, c->answer, c->answered_id, slot);
	MemoryContextSwitchTo(caller);
}
