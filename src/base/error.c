/*
 * error.c: what went wrong, as a value.
 *
 * Layers below the entry points never raise for what a user, a network or a
 * service can cause: they return an LpuProblem, because the same failure is an
 * ERROR for a function call, a state of a row for the queue, and a line of a
 * table for lp_check(). Strings are allocated in the memory context that is
 * current when they are set. No problem ever carries a secret: options,
 * attributes and hosts are named, never their secret values.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/error.h"

static char *format_text(const char *format, va_list args) pg_attribute_printf(1, 0);

static char *
format_text(const char *format, va_list args)
{
	StringInfoData text;

	initStringInfo(&text);
	for (;;)
	{
		va_list		copy;
		int			needed;

		va_copy(copy, args);
		needed = appendStringInfoVA(&text, format, copy);
		va_end(copy);
		if (needed == 0)
			return text.data;

		enlargeStringInfo(&text, needed);
	}
}

/* Return a new problem in the current memory context; the message is a printf format. */
LpuProblem *
lpu_problem_new(int sqlstate, const char *format,...)
{
	LpuProblem *problem = palloc0(sizeof(LpuProblem));
	va_list		args;

	problem->sqlstate = sqlstate;
	va_start(args, format);
	problem->message = format_text(format, args);
	va_end(args);
	return problem;
}

/* Set the detail, a printf format, and return the problem. */
LpuProblem *
lpu_problem_detail(LpuProblem *problem, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	problem->detail = format_text(format, args);
	va_end(args);
	return problem;
}

/* Set the hint, a printf format, and return the problem. */
LpuProblem *
lpu_problem_hint(LpuProblem *problem, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	problem->hint = format_text(format, args);
	va_end(args);
	return problem;
}

/*
 * Raise a problem as an ERROR. The statement is kept out of the log, since it may have passwords
 * as literals.
 */
void
lpu_problem_raise(const LpuProblem *problem)
{
	ereport(ERROR,
			(errcode(problem->sqlstate),
			 errmsg_internal("%s", problem->message),
			 problem->detail ? errdetail_internal("%s", problem->detail) : 0,
			 problem->hint ? errhint("%s", problem->hint) : 0,
			 errhidestmt(true), errhidecontext(true)));
}
