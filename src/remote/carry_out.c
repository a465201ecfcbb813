/*
 * carry_out.c: the users of a statement, batch after batch, until all are carried out or the
 * account refuses one of them.
 *
 * A request of several users that is refused is sent in halves until the refused user stands alone.
 * The account may have carried out a part of what it refused, so which of the users exist is looked
 * up first. Batches that go side by side are in parallel_batch.c; what is refused there comes back
 * here.
 */
#include "postgres.h"

#include <ctype.h>

#include "remote/carry_out.h"

static void
carry_out_halves(LpuBatchState *state, const int *users, int n)
{
	if (n > 1)
	{
		lpu_batch_carry_out(state, users, n / 2);
		users += n / 2;
		n -= n / 2;
	}
	if (n > 0)
		lpu_batch_carry_out(state, users, n);
}

/* These of them. */
static int *
choose(const int *users, int n, const bool *there, bool wanted, int *nchosen)
{
	int		   *chosen = palloc(n * sizeof(int));
	int			i;

	*nchosen = 0;
	for (i = 0; i < n; i++)
		if (there[i] == wanted)
			chosen[(*nchosen)++] = users[i];
	return chosen;
}

/* Those of what was sent that are there. */
static LpuUserIdentity *
identities_of(const LpuWriteRequest *write, const bool *there)
{
	LpuUserIdentity *users = palloc(write->nusers * sizeof(LpuUserIdentity));
	int			n = 0;
	int			i;

	for (i = 0; i < write->nusers; i++)
		if (there[i])
			users[n++] = write->users[i];
	return users;
}

/*
 * Carry out these users. If that fails, the abort also names others that may have been carried
 * out.
 */
static void
carry_out_or_doubt(LpuBatchState *state, const int *users, int n, const LpuUserIdentity *others,
				   int nothers)
{
	state->writer->done += nothers;
	PG_TRY();
	{
		lpu_batch_carry_out(state, users, n);
	}
	PG_CATCH();
	{
		lpu_writer_doubt(state->writer, others, nothers);
		PG_RE_THROW();
	}
	PG_END_TRY();
	state->writer->done -= nothers;
}

/* Return true if the account's message names this login, and not one that merely contains it. */
static bool
is_named(const char *message, const char *login)
{
	const char *found = message;
	size_t		length = login ? strlen(login) : 0;

	while (length > 0 && found != NULL && (found = strstr(found, login)) != NULL)
	{
		unsigned char before = found > message ? found[-1] : ' ';
		unsigned char after = found[length];

		if (!isalnum(before) && strchr("._%+-@", before) == NULL && !isalnum(after) &&
			(after == '\0' || strchr("_%+-@", after) == NULL))
			return true;
		found += length;
	}
	return false;
}

/*
 * All users of a refused batch exist: only the account's message can tell which existed before.
 */
static void
raise_doubtful(LpuWriterState *writer, LpuUserIdentity *users, int n, const LpuApiAnswer *answer,
			   const LpuWriteRequest *write)
{
	LpuWriteRequest about = *write;
	int			i;

	writer->done += n;
	for (i = 0; i < n && !is_named(answer->error, users[i].login_name); i++)
		;
	if (i < n)
	{
		LpuUserIdentity named = users[i];

		memmove(users + i, users + i + 1, (n - i - 1) * sizeof(LpuUserIdentity));
		users[--n] = named;
		about.users = &users[n];
		about.nusers = 1;
	}
	lpu_writer_doubt(writer, users, n);
	lpu_writer_raise_refusal(writer, answer, &about);
}

/*
 * Some users of a refused batch exist. Either they existed before and caused the refusal, or the
 * account has carried out a part of the request and another user caused it. The users that do
 * not exist tell which: if the account accepts them now, nothing had been carried out. All
 * before the first existing user are tried, which keeps the order, or else one after it.
 */
static void
carry_out_doubtful(LpuBatchState *state, const int *users, int n, const bool *there,
				   const LpuApiAnswer *answer,
				   const LpuWriteRequest *write)
{
	LpuUserIdentity *others = identities_of(write, there);
	int			nothers;
	int			from = 0;		/* those that tell */
	int			upto;
	int			first = 0;		/* that is there */

	(void) choose(users, n, there, true, &nothers);
	while (!there[first])
		first++;
	upto = first;
	if (first == 0 && (nothers > 1 || !is_named(answer->error, others[0].login_name)))
	{
		while (from < n && there[from])
			from++;
		upto = Min(from + 1, n);
		if (from == n)
			raise_doubtful(state->writer, others, nothers, answer, write);
	}
	carry_out_or_doubt(state, users + from, upto - from, others, nothers);

	/* it is the guilty one, unless it has gone meanwhile */
	lpu_batch_carry_out(state, users + first, 1);
	if (from > 0)
		carry_out_halves(state, users + 1, from - 1);
	carry_out_halves(state, users + Max(upto, first + 1), n - Max(upto, first + 1));
}

/* Add the refused request to the context of an error of the lookup. */
static void
look_context(void *arg)
{
	const LpuWriteRequest *write = arg;

	errcontext("looking which of %d users are there whom the account has refused: %s",
			   write->nusers, write->error);
}

/*
 * Return which of the users that were refused together are in the account
 * nevertheless.  If that cannot be found out, all may be.
 */
static bool *
look(LpuBatchState *state, const int *users, int n, LpuWriteRequest *write)
{
	ErrorContextCallback context = {error_context_stack, look_context, write};
	bool	   *there = palloc0(n * sizeof(bool));

	state->looked = true;
	error_context_stack = &context;
	PG_TRY();
	{
		state->methods->look(state->batch, users, n, there);
	}
	PG_CATCH();
	{
		lpu_writer_doubt(state->writer, write->users, write->nusers);
		PG_RE_THROW();
	}
	PG_END_TRY();
	error_context_stack = context.previous;
	return there;
}

/* Look for them, and go on with those who are not there. */
static void
look_and_carry_out(LpuBatchState *state, const int *users, int n, const LpuApiAnswer *answer,
				   LpuWriteRequest *write)
{
	bool	   *there = look(state, users, n, write);
	int			nthere;
	int			nleft;
	int		   *left;

	left = choose(users, n, there, false, &nleft);
	nthere = n - nleft;
	lpu_writer_forget(write, there);
	if (nthere == 0)
		carry_out_halves(state, users, n);
	else if (!state->methods->there_is_done)
		carry_out_doubtful(state, users, n, there, answer, write);
	else
	{
		lpu_writer_doubt(state->writer, identities_of(write, there), nthere);
		state->writer->done += nthere;
		lpu_batch_carry_out(state, left, nleft);
	}
}

/*
 * A response came to a request of n users: count them if it is a success. If the account refuses it
 * because of some users, send it in halves: all before the first refused one are carried out, as by
 * a statement that goes row by row, and the ERROR names that one. Raises any other failure; can be
 * cancelled.
 */
void
lpu_batch_judge(LpuBatchState *state, const int *users, int n, const LpuApiAnswer *answer,
				LpuWriteRequest *write)
{
	const LpuWriteBatch *methods = state->methods;

	if (answer->verdict == LPU_OK)
		state->writer->done += n - write->ngone;
	else if (n == 1 && methods->excuse != NULL &&
			 methods->excuse(state->batch, users[0], answer, write))
		return;
	else if (n == 1 || answer->verdict != LPU_REJECTED)
		lpu_writer_raise_refusal(state->writer, answer, write);
	else if (answer->status != LPU_TOO_LARGE && methods->look != NULL && !state->looked)
		look_and_carry_out(state, users, n, answer, write);
	else
	{
		lpu_writer_forget(write, NULL);
		carry_out_halves(state, users, n);
	}
}

/*
 * Send n users in one request, and judge the response. Raises any failure; can be cancelled.
 */
void
lpu_batch_carry_out(LpuBatchState *state, const int *users, int n)
{
	LpuWriteRequest write = {0};
	LpuApiAnswer *answer;

	if (n == 0)
		return;
	answer = state->methods->send(state->batch, users, n, &write);
	lpu_batch_judge(state, users, n, answer, &write);
}

/*
 * Send n users, batch_size of them in a request, one request after the other. A batch that the
 * account refuses because of some users is sent in halves (lpu_batch_judge()). Raises any failure;
 * can be cancelled.
 */
void
lpu_writer_carry_out(LpuWriterState *writer, const LpuWriteBatch *methods, void *batch, int n)
{
	int		   *users = palloc(Max(n, 1) * sizeof(int));
	int			size = writer->options->batch_size;
	int			i;

	for (i = 0; i < n; i++)
		users[i] = i;
	for (i = 0; i < n; i += size)
	{
		LpuBatchState state = {writer, methods, batch, false};

		lpu_batch_carry_out(&state, users + i, Min(size, n - i));
	}
}
