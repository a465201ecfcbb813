/*
 * server.h: which server and user mapping serve an account for a role.
 */
#ifndef LPU_OPTIONS_SERVER_H
#define LPU_OPTIONS_SERVER_H

#include "options/known_server.h"
#include "options/option.h"

/*
 * Return the options of the one server for the account on which the role has USAGE and a mapping
 * (its own before PUBLIC's).
 */
extern const LpuOptions *lpu_server_for_account(const char *account, Oid role,
												LpuProblem **problem);

/*
 * Return the options of a server that is known, as a foreign table knows its own, with the
 * mapping for the role.
 */
extern const LpuOptions *lpu_server_for_role(Oid server, Oid role, LpuProblem **problem);

/* Return the options of a server, without credentials. */
extern const LpuOptions *lpu_server_alone(Oid server, LpuProblem **problem);

/*
 * For a request of the queue that belongs to a server (InvalidOid: the one for
 * the account), and is sent as a role.
 */
extern const LpuOptions *lpu_server_for_request(Oid server, const char *account, Oid role,
												const char *name,
												LpuProblem **problem);

/* Raise 22023 unless the text can be an account id. */
extern void lpu_account_check(const char *account);

/*
 * Have a function called with a mapping's OID whenever what was read of the mapping or its
 * server may have changed.
 */
extern void lpu_server_on_change(void (*forget) (Oid mapping));

#endif
