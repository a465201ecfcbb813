/*
 * known_server.h: the servers of this wrapper.
 */
#ifndef LPU_OPTIONS_KNOWN_SERVER_H
#define LPU_OPTIONS_KNOWN_SERVER_H

#include "nodes/pg_list.h"

#include "base/error.h"

typedef struct LpuKnownServer
{
	Oid			server;
	Oid			owner;
	Oid			party;
	char	   *account;
	bool		paused;			/* delivery 'paused' */
} LpuKnownServer;

/*
 * Owners of servers that have one account id need not trust each other: nothing of one party waits
 * for a request of another.  All superusers are one party, InvalidOid; every other owner is one.
 */
extern Oid	lpu_party_of(Oid owner);

/* The party of a server; InvalidOid if the server does not exist. */
extern Oid	lpu_server_party(Oid server);

/* All of them; the list is valid until the catalogs are read the next time. */
extern List *lpu_known_servers(void);

/* What is known of one, or NULL. */
extern LpuKnownServer *lpu_known_server(Oid server);

/* True if a role may use a server that it does not name. */
extern bool lpu_server_usable(const LpuKnownServer *server, Oid role, bool *stranger);

/*
 * True if the server exists and is one of the account; if it has the option
 * delivery 'paused'; an oid[] of those, and of those and the ones of other parties.
 */
extern bool lpu_server_serves(Oid server, const char *account);
extern bool lpu_server_is_paused(Oid server);
extern Datum lpu_server_paused_array(void);
extern Datum lpu_server_excluded_array(Oid party);

/* Return true if the account has a server that the role, or any role (InvalidOid), may use. */
extern bool lpu_account_has_server(const char *account, Oid role);

/* The problem if there is none. */
extern LpuProblem *lpu_account_unknown(const char *account);

#endif
