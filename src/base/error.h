/*
 * error.h: what went wrong, as a value. Lower layers return it, entry points raise it.
 */
#ifndef LPU_BASE_ERROR_H
#define LPU_BASE_ERROR_H

#include "base/compat.h"

typedef struct LpuProblem
{
	int			sqlstate;
	char	   *message;		/* primary message: short, lower case, no
								 * period */
	char	   *detail;			/* a fact, or NULL */
	char	   *hint;			/* an action, or NULL */
} LpuProblem;

/* Return a new problem in the current memory context; the message is a printf format. */
extern LpuProblem *lpu_problem_new(int sqlstate, const char *format,...) pg_attribute_printf(2, 3);

/* Set detail or hint, a printf format, and return the problem, so that calls can be chained. */
extern LpuProblem *lpu_problem_detail(LpuProblem *problem,
									  const char *format,...) pg_attribute_printf(2, 3);
extern LpuProblem *lpu_problem_hint(LpuProblem *problem,
									const char *format,...) pg_attribute_printf(2, 3);

/*
 * Raise a problem as an ERROR. The statement is kept out of the log, since it may have passwords
 * as literals.
 */
pg_noreturn extern void lpu_problem_raise(const LpuProblem *problem);

#endif
