/*
 * trigger_privilege.h: roles that could make a trigger which acts as the owner of a table.
 */
#ifndef LPU_TRIGGER_TRIGGER_PRIVILEGE_H
#define LPU_TRIGGER_TRIGGER_PRIVILEGE_H

#include "base/error.h"

/*
 * A role that has both rights, and the grantee of TRIGGER by which it has that one. InvalidOid:
 * PUBLIC.
 */
typedef struct LpuForeignRole
{
	Oid			role;
	Oid			grantee;
} LpuForeignRole;

/*
 * Return true if a role that cannot act as the owner of the table has both TRIGGER on the table and
 * EXECUTE on the function, directly, by PUBLIC or by membership. Superusers do not count.
 */
extern bool lpu_outsider_find(Oid table, Oid function, LpuForeignRole *outsider);

/* Return the problem of a role outside the table's owner, with the REVOKE that solves it. */
extern LpuProblem *lpu_outsider_problem(Oid table, const LpuForeignRole *outsider);

/*
 * Return a number that changes when a result of lpu_outsider_find() may have changed for another
 * reason than its table.
 */
extern uint64 lpu_outsider_generation(void);

/* Raise an error unless the table exists and belongs to the current role. */
extern void lpu_trigger_require_owner(Oid table);

#endif
