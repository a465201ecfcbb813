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
typedef struct lpu_outsider
{
	Oid			role;
	Oid			grantee;
} lpu_outsider;

/*
 * Return true if a role that cannot act as the owner of the table has both TRIGGER on the table and
 * EXECUTE on the function, directly, by PUBLIC or by membership. Superusers do not count.
 */
extern bool lpu_outsider_find(Oid table, Oid function, lpu_outsider *outsider);

/* What is wrong then, with the REVOKE that ends it. */
extern lpu_problem *lpu_outsider_problem(Oid table, const lpu_outsider *outsider);

/*
 * A number that changes when an answer of lpu_outsider_find() may have changed for another reason
 * than its table.
 */
extern uint64 lpu_outsider_generation(void);

#endif
