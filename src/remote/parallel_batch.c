/*
 * parallel_batch.c: batches of a statement that are sent side by side.
 *
 * They do not depend on the account's revision, so up to max_connections requests are in flight at
 * a time, also while the users of the next batch are collected. A batch has a place: the numbers of
 * its users begin at place * batch_size, and its memory is used again when its request has ended.
 *
 * When a request is refused no more are started. What was refused is dealt with when the others
 * have ended, in the order of the batches (carry_out.c), so that an ERROR leaves nothing in flight
 * and counts all who exist.
 *
 * The revision's lock is shared with the queue while requests are started and waited for. It is not
 * held while users are collected, which may take any time: a conditional write that meets requests
 * which are still in flight then is refused and repeated. If another session wants the lock, it
 * gets it when none is in flight. For the same reason libcurl does not limit the time of these
 * requests; only the time that is spent waiting here counts.
 */
#include "postgres.h"

#include "portability/instr_time.h"
#include "utils/memutils.h"

#include "api/list_stream.h"
#include "base/account_lock.h"
#include "base/error.h"
#include "http/request.h"
#include "http/socket_wait.h"
#include "remote/carry_out.h"
#include "remote/parallel_batch.h"

typedef enum PlaceState
{
	PLACE_FREE,
	PLACE_COLLECTING,			/* its users are collected, or wait */
	PLACE_IN_FLIGHT,
	PLACE_FAILED				/* its request ended without success */
} PlaceState;

/* A batch: its users, its request and the response. */
typedef struct ParallelBatch
{
	PlaceState	state;
	MemoryContext context;
	int64		number;			/* of the batch in the statement */
	int		   *users;
	int			n;
	LpuWriteRequest write;
	LpuApiAnswer *answer;		/* of PLACE_FAILED */
	double		left_ms;		/* how long it is still waited for */
} ParallelBatch;

struct LpuParallel
{
	LpuWriterState *writer;
	const LpuWriteBatch *methods;
	void	   *batch;
	MemoryContext context;
	ParallelBatch *places;
	int			n;
	int64		numbers;		/* batches so far */
	int			in_flight;
	bool		refused;		/* no more are started for now */
	LpuProblem *problem;		/* of users that were to be sent */
};

/*
 * Users, their texts and their request need more memory than the first block of a context has as
 * a rule. What goes beyond it is returned to the system after each batch, and requested again.
 */
#define BATCH_BLOCK (64 * 1024)

/*
 * Return what sends the batches of a statement. It lives in the current memory context, as its
 * arguments must.
 */
LpuParallel *
lpu_parallel_new(LpuWriterState *writer, const LpuWriteBatch *methods, void *batch)
{
	LpuParallel *p = palloc0(sizeof(LpuParallel));

	p->writer = writer;
	p->methods = methods;
	p->batch = batch;
	p->context = CurrentMemoryContext;
	/* one is collected while the others are in flight */
	p->n = writer->options->max_connections + 1;
	p->places = palloc0(p->n * sizeof(ParallelBatch));
	return p;
}

/*
 * Return a place that no request uses: its users are collected in its memory context, which is
 * empty. There always is one.
 */
int
lpu_parallel_place(LpuParallel *p)
{
	int			i = 0;

	while (p->places[i].state != PLACE_FREE)
		i++;
	if (p->places[i].context == NULL)
		p->places[i].context = AllocSetContextCreate(p->context, "lpusers batch", BATCH_BLOCK,
													 BATCH_BLOCK, ALLOCSET_DEFAULT_MAXSIZE);
	else
		MemoryContextReset(p->places[i].context);
	p->places[i].state = PLACE_COLLECTING;
	return i;
}

static void
start_batch(LpuParallel *p, ParallelBatch *batch)
{
	MemoryContext caller = MemoryContextSwitchTo(batch->context);

	p->problem = p->methods->write(p->batch, batch->users, batch->n, &batch->write);
	if (p->problem == NULL)
	{
		lpu_writer_start(p->writer, &batch->write);
		batch->state = PLACE_IN_FLIGHT;
		batch->left_ms = p->writer->options->timeout;
		p->in_flight++;
		lpu_http_turn(0);
	}
	MemoryContextSwitchTo(caller);
}

/* Read the responses that have come. */
static void
collect_responses(LpuParallel *p)
{
	int			i;

	for (i = 0; i < p->n; i++)
	{
		ParallelBatch *batch = &p->places[i];
		MemoryContext caller;
		LpuApiAnswer *answer;

		if (batch->state != PLACE_IN_FLIGHT || !lpu_writer_done(&batch->write))
			continue;
		caller = MemoryContextSwitchTo(batch->context);
		answer = lpu_writer_finish(p->writer, &batch->write);
		MemoryContextSwitchTo(caller);
		p->in_flight--;
		if (answer->verdict != LPU_OK)
		{
			batch->state = PLACE_FAILED;
			batch->answer = answer;
			p->refused = true;
			continue;
		}
		p->writer->done += batch->n;
		batch->state = PLACE_FREE;
		/* its connection is free for the next one */
		MemoryContextReset(batch->context);
	}
}

/* Drive the requests until something has come, and end those that have taken too long. */
static void
wait_for_responses(LpuParallel *p)
{
	double		longest = p->writer->options->timeout;
	instr_time	start;
	instr_time	passed;
	int			i;

	for (i = 0; i < p->n; i++)
		if (p->places[i].state == PLACE_IN_FLIGHT)
			longest = Min(longest, p->places[i].left_ms);
	INSTR_TIME_SET_CURRENT(start);
	lpu_http_turn((long) longest + 1);
	INSTR_TIME_SET_CURRENT(passed);
	INSTR_TIME_SUBTRACT(passed, start);
	p->writer->ms += INSTR_TIME_GET_MILLISEC(passed);
	for (i = 0; i < p->n; i++)
	{
		ParallelBatch *batch = &p->places[i];

		if (batch->state != PLACE_IN_FLIGHT)
			continue;
		batch->left_ms -= INSTR_TIME_GET_MILLISEC(passed);
		if (batch->left_ms <= 0)
			lpu_writer_expire(&batch->write);
	}
}

/* Return true if no request is to be started for now. */
static bool
must_end(const LpuParallel *p)
{
	const LpuOptions *options = p->writer->options;

	return p->refused || p->problem != NULL ||
		lpu_revision_is_wanted(options->account, options->party);
}

/* Wait until no request is in flight. */
static void
wait_for_all(LpuParallel *p)
{
	while (p->in_flight > 0)
	{
		wait_for_responses(p);
		collect_responses(p);
	}
}

/* Share the revision's lock. No request is in flight while it must be waited for. */
static void
share_lock(LpuParallel *p)
{
	const LpuOptions *options = p->writer->options;

	if (p->in_flight > 0 && lpu_try_revision(options->account, options->party, LPU_REVISION_SHARED))
		return;
	wait_for_all(p);
	lpu_writer_lock(p->writer, LPU_REVISION_SHARED, options->timeout);
}

/*
 * Start the request of a batch (or NULL) when fewer than max_connections are in flight, and leave
 * it in flight. With "all", or after a failure, or if another session waits for the revision's
 * lock, none is in flight in the end. Return true if the batch could not be started.
 */
static bool
send_side_by_side(LpuParallel *p, ParallelBatch *batch, bool all)
{
	const LpuOptions *options = p->writer->options;

	share_lock(p);
	collect_responses(p);
	while (batch != NULL && !p->refused)
	{
		if (p->in_flight < options->max_connections)
		{
			start_batch(p, batch);
			batch = NULL;
		}
		else if (must_end(p))
			break;
		else
			wait_for_responses(p);
		collect_responses(p);
	}
	if (all || batch != NULL || (p->in_flight > 0 && must_end(p)))
		wait_for_all(p);
	lpu_unlock_revision(options->account, options->party, LPU_REVISION_SHARED);
	return batch != NULL;
}

/*
 * The response is no success. Send again what was certainly not carried out, or find the refused
 * user.
 */
static void
settle_failure(LpuParallel *p, ParallelBatch *batch)
{
	LpuBatchState state = {p->writer, p->methods, p->batch, false};
	const LpuApiAnswer *answer = batch->answer;
	bool		again = answer->verdict == LPU_NOT_SENT;

	if (answer->verdict == LPU_UNAUTHORIZED)
		again = lpu_writer_renewed(&batch->write);
	if (answer->verdict == LPU_LATER && answer->retry_after_ms <= p->writer->options->timeout)
	{
		lpu_listings_drain();
		lpu_pause(answer->retry_after_ms);
		again = true;
	}
	if (!again)
	{
		lpu_batch_judge(&state, batch->users, batch->n, answer, &batch->write);
		return;
	}
	lpu_writer_forget(&batch->write, NULL);
	lpu_batch_carry_out(&state, batch->users, batch->n);
}

/* Return the failed batch that comes first in the statement, or NULL. */
static ParallelBatch *
first_failed(const LpuParallel *p)
{
	ParallelBatch *first = NULL;
	int			i;

	for (i = 0; i < p->n; i++)
		if (p->places[i].state == PLACE_FAILED &&
			(first == NULL || p->places[i].number < first->number))
			first = &p->places[i];
	return first;
}

/*
 * The users of the other batches that failed are not looked for any more: the account may have
 * carried out a part of what it refused.
 */
static void
doubt_rest(const LpuParallel *p, const ParallelBatch *settled)
{
	int			i;

	for (i = 0; i < p->n; i++)
	{
		const ParallelBatch *batch = &p->places[i];

		if (batch != settled && batch->state == PLACE_FAILED && batch->n > 1 &&
			batch->answer->verdict == LPU_REJECTED && batch->answer->status != LPU_TOO_LARGE)
			lpu_writer_doubt(p->writer, batch->write.users, batch->write.nusers);
	}
}

static void
settle_or_doubt_rest(LpuParallel *p, ParallelBatch *batch)
{
	PG_TRY();
	{
		settle_failure(p, batch);
	}
	PG_CATCH();
	{
		doubt_rest(p, batch);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* Deal with the failed batches, and raise what is wrong with a batch that was not sent. */
static void
settle_failures(LpuParallel *p)
{
	ParallelBatch *batch;

	while ((batch = first_failed(p)) != NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(batch->context);

		settle_or_doubt_rest(p, batch);
		MemoryContextSwitchTo(caller);
		batch->state = PLACE_FREE;
		MemoryContextReset(batch->context);
	}
	p->refused = false;
	if (p->problem == NULL)
		return;
	lpu_problem_detail(p->problem, "%s%s", p->problem->detail, lpu_writer_progress(p->writer));
	lpu_problem_raise(p->problem);
}

/* The users of a batch that is complete now. */
static void
number_users(LpuParallel *p, ParallelBatch *batch, int place, int n)
{
	int			i;

	batch->number = ++p->numbers;
	batch->users = palloc(n * sizeof(int));
	batch->n = n;
	memset(&batch->write, 0, sizeof(LpuWriteRequest));
	for (i = 0; i < n; i++)
		batch->users[i] = place * p->writer->options->batch_size + i;
}

/*
 * Send the n users of a place, which is free again when its request has ended. Waits until one of
 * max_connections requests has ended if so many are in flight. Raises the failure of any request of
 * the statement when none is in flight any more; can be cancelled.
 */
void
lpu_parallel_send(LpuParallel *p, int place, int n)
{
	ParallelBatch *batch = &p->places[place];
	MemoryContext caller = MemoryContextSwitchTo(batch->context);

	number_users(p, batch, place, n);
	MemoryContextSwitchTo(caller);
	while (send_side_by_side(p, batch, false))
		settle_failures(p);
	settle_failures(p);
}

/*
 * Send the n users of a place when no request is in flight, and wait for the response, which lives
 * until the place is used again. Raises any failure; can be cancelled.
 */
void
lpu_parallel_send_alone(LpuParallel *p, int place, int n)
{
	LpuBatchState state = {p->writer, p->methods, p->batch, false};
	ParallelBatch *batch = &p->places[place];
	MemoryContext caller = MemoryContextSwitchTo(batch->context);

	number_users(p, batch, place, n);
	lpu_batch_carry_out(&state, batch->users, n);
	MemoryContextSwitchTo(caller);
	batch->state = PLACE_FREE;
}

/* Return true if a request is in flight. */
bool
lpu_parallel_is_busy(const LpuParallel *p)
{
	return p->in_flight > 0;
}

/* Let the requests in flight go on without waiting. Raises interrupts. */
void
lpu_parallel_turn(LpuParallel *p)
{
	if (p->in_flight > 0)
		lpu_http_turn(0);
}

/*
 * Wait until no request is in flight. Raises the failure of any; can be cancelled.
 */
void
lpu_parallel_finish(LpuParallel *p)
{
	if (p->in_flight > 0)
		(void) send_side_by_side(p, NULL, true);
	settle_failures(p);
}
