/*
 * server.h: which server and user mapping serve an account for a role.
 */
#ifndef LPU_OPTIONS_SERVER_H
#define LPU_OPTIONS_SERVER_H

#include "options/option.h"

/*
 * The one server for the account on which the role has USAGE and a mapping (its own before PUBLIC's), with its options.
 * NULL and *problem if there is none, or more than one. The struct stays valid until the transaction ends.
 */
extern const lpu_options *lpu_server_for_account(const char *account, Oid role, lpu_problem **problem);

/* Likewise for a server that is known, as a foreign table knows its own: no USAGE is needed, a mapping is. */
extern const lpu_options *lpu_server_for_role(Oid server, Oid role, lpu_problem **problem);

/* The options of a server without anybody's credentials. */
extern const lpu_options *lpu_server_alone(Oid server, lpu_problem **problem);

/* Has any server of the account the option delivery 'paused'? */
extern bool lpu_server_is_paused(const char *account);

/* Have a function called with a mapping's OID whenever what was known of the mapping or its server may have changed. */
extern void lpu_server_on_change(void (*forget) (Oid mapping));

#endif
