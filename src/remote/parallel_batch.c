/*
 * parallel_batch.c: batches of a statement that are sent side by side.
 *
 * They do not depend on the account's revision, so up to max_connections requests are in flight at
 * a time, while the revision's lock is shared with the queue. When a request is refused no more
 * are started. What was refused is dealt with when the others have ended, in the order of the
 * batches (carry_out.c), so that an ERROR leaves nothing in flight and counts all who exist.
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

/* One of the batches of users that go side by side. */
typedef struct ParallelBatch
{
	const int  *users;
	int			n;
	MemoryContext context;		/* of the request and its response */
	LpuWriteRequest write;
	LpuApiAnswer *answer;		/* of a batch that has ended, except a success */
} ParallelBatch;

typedef struct ParallelState
{
	LpuWriterState *writer;
	const LpuWriteBatch *methods;
	void	   *batch;
	ParallelBatch *batches;
	int			n;
	int			next;			/* to be started */
	int			in_flight;
	bool		stopped;		/* no more are started for now */
	LpuProblem *problem;		/* of the users of the next one */
} ParallelState;

static void
start_next(ParallelState *p)
{
	ParallelBatch *batch = &p->batches[p->next];
	MemoryContext caller;

	batch->context = AllocSetContextCreate(CurrentMemoryContext, "lpusers request",
										   ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(batch->context);
	p->problem = p->methods->write(p->batch, batch->users, batch->n, &batch->write);
	if (p->problem == NULL)
	{
		lpu_writer_start(p->writer, &batch->write);
		p->in_flight++;
		p->next++;
	}
	MemoryContextSwitchTo(caller);
}

/* Read the responses that have come. */
static void
collect_responses(ParallelState *p)
{
	int			i;

	for (i = 0; i < p->next; i++)
	{
		ParallelBatch *batch = &p->batches[i];
		MemoryContext caller;

		if (batch->context == NULL || batch->answer != NULL || !lpu_writer_done(&batch->write))
			continue;
		caller = MemoryContextSwitchTo(batch->context);
		batch->answer = lpu_writer_finish(p->writer, &batch->write);
		MemoryContextSwitchTo(caller);
		p->in_flight--;
		if (batch->answer->verdict != LPU_OK)
		{
			p->stopped = true;
			continue;
		}
		p->writer->done += batch->n;
		MemoryContextDelete(batch->context);
		batch->context = NULL;
	}
}

/* Drive the requests until something has come. */
static void
wait_for_responses(ParallelState *p)
{
	instr_time	start;
	instr_time	end;

	INSTR_TIME_SET_CURRENT(start);
	lpu_http_turn(-1);
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	p->writer->ms += INSTR_TIME_GET_MILLISEC(end);
}

/*
 * Send batches until all are, one is refused, or another session waits for the
 * revision's lock. None is in flight in the end.
 */
static void
send_side_by_side(ParallelState *p)
{
	const LpuOptions *options = p->writer->options;
	int			first = p->next;

	p->stopped = false;
	lpu_writer_lock(p->writer, LPU_REVISION_SHARED, options->timeout);
	for (;;)
	{
		while (!p->stopped && p->problem == NULL && p->next < p->n &&
			   p->in_flight < options->max_connections)
		{
			start_next(p);
			/* it goes out while the next one is written */
			lpu_http_turn(0);
		}
		collect_responses(p);
		p->stopped |= p->next > first && lpu_revision_is_wanted(options->account);
		if (p->in_flight > 0)
			wait_for_responses(p);
		else if (p->stopped || p->problem != NULL || p->next == p->n)
			break;
	}
	lpu_unlock_revision(options->account, LPU_REVISION_SHARED);
}

/*
 * The response is no success. Send again what was certainly not carried out, or find the refused
 * user.
 */
static void
settle_failure(ParallelState *p, ParallelBatch *batch)
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

/*
 * These users are not looked for any more: the account may have carried out a part of what it
 * refused.
 */
static void
doubt_rest(ParallelState *p, int from)
{
	int			i;

	for (i = from; i < p->next; i++)
	{
		const ParallelBatch *batch = &p->batches[i];

		if (batch->context != NULL && batch->n > 1 && batch->answer->verdict == LPU_REJECTED &&
			batch->answer->status != LPU_TOO_LARGE)
			lpu_writer_doubt(p->writer, batch->write.users, batch->write.nusers);
	}
}

static void
settle_or_doubt_rest(ParallelState *p, int i)
{
	PG_TRY();
	{
		settle_failure(p, &p->batches[i]);
	}
	PG_CATCH();
	{
		doubt_rest(p, i + 1);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

static void
settle_failures(ParallelState *p)
{
	int			i;

	for (i = 0; i < p->next; i++)
	{
		ParallelBatch *batch = &p->batches[i];

		if (batch->context == NULL)
			continue;
		settle_or_doubt_rest(p, i);
		MemoryContextDelete(batch->context);
		batch->context = NULL;
	}
}

/* Raise what is wrong with the users of a batch, none of whom was sent. */
static void
raise_problem(const ParallelState *p)
{
	lpu_problem_detail(p->problem, "%s%s", p->problem->detail, lpu_writer_progress(p->writer));
	lpu_problem_raise(p->problem);
}

/*
 * Send n users, batch_size of them in a request, up to max_connections requests at a time. All
 * before the first refused user are carried out, and those of later batches that were in flight.
 * Raises any failure when no request is in flight any more; can be cancelled.
 */
void
lpu_parallel_carry_out(LpuWriterState *writer, const LpuWriteBatch *methods, void *batch,
					   const int *users, int n)
{
	int			size = writer->options->batch_size;
	ParallelState p = {writer, methods, batch};
	int			i;

	p.n = (n + size - 1) / size;
	p.batches = palloc0(p.n * sizeof(ParallelBatch));
	for (i = 0; i < p.n; i++)
	{
		p.batches[i].users = users + i * size;
		p.batches[i].n = Min(size, n - i * size);
	}
	while (p.next < p.n)
	{
		send_side_by_side(&p);
		settle_failures(&p);
		if (p.problem != NULL)
			raise_problem(&p);
	}
}
