/*
 * known_server.c: the servers of this wrapper, by account.
 *
 * The list is kept in a memory context of its own, and read again after a change of a server or
 * of the wrapper.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/encoding.h"
#include "base/error.h"
#include "options/known_server.h"

/* The wrapper's name, fixed by the install script. */
#define WRAPPER_NAME "lpusers"

/*
 * An account id counts as misspelt if at most this many characters differ: most numbers share
 * half of their digits with another one.
 */
#define MAX_ACCOUNT_TYPOS 2

static MemoryContext servers_context = NULL;
static List *servers = NIL;		/* of LpuKnownServer */
static bool servers_valid = false;
static uint64 changes = 0;		/* invalidations of these catalogs so far */

static void
on_server_change(Datum arg, int cache, uint32 hash)
{
	changes++;
	servers_valid = false;
}

static void
watch_servers(void)
{
	static bool watching = false;

	if (watching)
		return;
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, on_server_change, (Datum) 0);
	CacheRegisterSyscacheCallback(FOREIGNDATAWRAPPEROID, on_server_change, (Datum) 0);
	/* superusers are a party */
	CacheRegisterSyscacheCallback(AUTHOID, on_server_change, (Datum) 0);
	watching = true;
}

static char *
server_option(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *element = lfirst_node(DefElem, cell);

		if (strcmp(element->defname, name) == 0)
			return defGetString(element);
	}
	return NULL;
}

/* Read all servers of this wrapper. */
static void
load_servers(void)
{
	ForeignDataWrapper *wrapper;
	Relation	catalog;
	SysScanDesc scan;
	HeapTuple	tuple;
	uint64		before;

	watch_servers();
	before = changes;
	wrapper = GetForeignDataWrapperByName(WRAPPER_NAME, true);
	if (servers_context == NULL)
		servers_context = AllocSetContextCreate(TopMemoryContext, "lpusers servers",
												ALLOCSET_SMALL_SIZES);
	servers = NIL;
	MemoryContextReset(servers_context);
	if (wrapper == NULL)
		return;

	catalog = table_open(ForeignServerRelationId, AccessShareLock);
	scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_foreign_server form = (Form_pg_foreign_server) GETSTRUCT(tuple);
		ForeignServer *server;
		LpuKnownServer *known;
		char	   *account;
		char	   *delivery;
		MemoryContext caller;

		if (form->srvfdw != wrapper->fdwid ||
			(server = GetForeignServerExtended(form->oid, FSV_MISSING_OK)) == NULL ||
			(account = server_option(server->options, "account")) == NULL)
			continue;
		delivery = server_option(server->options, "delivery");
		caller = MemoryContextSwitchTo(servers_context);
		known = palloc(sizeof(LpuKnownServer));
		known->server = form->oid;
		known->owner = form->srvowner;
		known->party = lpu_party_of(form->srvowner);
		known->account = pstrdup(account);
		known->paused = delivery != NULL && strcmp(delivery, "paused") == 0;
		servers = lappend(servers, known);
		MemoryContextSwitchTo(caller);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	/* else they are read again at the next call */
	servers_valid = changes == before;
}

/* Return the party of an owner of servers; see known_server.h. */
Oid
lpu_party_of(Oid owner)
{
	return superuser_arg(owner) ? InvalidOid : owner;
}

/* Return all servers of this wrapper, a list of LpuKnownServer. */
List *
lpu_known_servers(void)
{
	if (!servers_valid)
		load_servers();
	return servers;
}

/* Return what is known of a server, or NULL if it is none of this wrapper's. */
LpuKnownServer *
lpu_known_server(Oid server)
{
	ListCell   *cell;

	foreach(cell, lpu_known_servers())
		if (((LpuKnownServer *) lfirst(cell))->server == server)
		return lfirst(cell);
	return NULL;
}

/* Return the party of a server, InvalidOid if the server does not exist. */
Oid
lpu_server_party(Oid server)
{
	LpuKnownServer *found = lpu_known_server(server);

	return found != NULL ? found->party : InvalidOid;
}

/* Return true if the server exists and is one of this account. */
bool
lpu_server_serves(Oid server, const char *account)
{
	LpuKnownServer *found = lpu_known_server(server);

	return found != NULL && strcmp(found->account, account) == 0;
}

/* Return true if the server has the option delivery 'paused'. */
bool
lpu_server_is_paused(Oid server)
{
	LpuKnownServer *found = lpu_known_server(server);

	return found != NULL && found->paused;
}

/*
 * Return the OIDs of servers that have the option delivery 'paused' or, if party is not NULL, are
 * of another party; an oid[] in the current memory context.
 */
static Datum
excluded_array(const Oid *party)
{
	List	   *all = lpu_known_servers();
	Datum	   *oids = palloc((list_length(all) + 1) * sizeof(Datum));
	int			n = 0;
	ListCell   *cell;

	foreach(cell, all)
	{
		LpuKnownServer *server = lfirst(cell);

		if (server->paused || (party != NULL && server->party != *party))
			oids[n++] = ObjectIdGetDatum(server->server);
	}
	return PointerGetDatum(construct_array(oids, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/* Return the OIDs of the servers that have the option delivery 'paused'. */
Datum
lpu_server_paused_array(void)
{
	return excluded_array(NULL);
}

/* Return these, and those of other parties: nothing of theirs is delivered for this party. */
Datum
lpu_server_excluded_array(Oid party)
{
	return excluded_array(&party);
}

/*
 * Return true if the owner of a server may speak for an account before other roles: it may make
 * servers, since it is a superuser or has USAGE on the wrapper. The owner of a server sets its
 * account and grants USAGE and mappings, so that it could otherwise divert another role's
 * requests.
 */
static bool
owner_is_trusted(Oid owner)
{
	return superuser_arg(owner) ||
		LPU_WRAPPER_USAGE(GetForeignDataWrapperByName(WRAPPER_NAME, false)->fdwid, owner) ==
		ACLCHECK_OK;
}

/*
 * Return true if the role may use a server that it does not name: it has USAGE, and the rights of
 * the owner unless that is trusted. *stranger, unless NULL, is set if only the owner prevents it.
 */
bool
lpu_server_usable(const LpuKnownServer *server, Oid role, bool *stranger)
{
	bool		usage = LPU_SERVER_USAGE(server->server, role) == ACLCHECK_OK;
	bool		trusted = is_member_of_role_nosuper(role, server->owner) ||
	owner_is_trusted(server->owner);

	if (stranger != NULL && usage && !trusted)
		*stranger = true;
	return usage && trusted;
}

/*
 * Return true if there is a server of the account that the role may use; of all roles, if role is
 * InvalidOid.
 */
bool
lpu_account_has_server(const char *account, Oid role)
{
	ListCell   *cell;

	foreach(cell, lpu_known_servers())
	{
		LpuKnownServer *server = lfirst(cell);

		if (strcmp(server->account, account) == 0 &&
			(!OidIsValid(role) || lpu_server_usable(server, role, NULL)))
			return true;
	}
	return false;
}

/*
 * Return the problem of an account that has no server, in the current memory context.  The hint
 * names the account that was probably meant, if there is one.
 */
LpuProblem *
lpu_account_unknown(const char *account)
{
	LpuProblem *problem = lpu_problem_new(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
										  "no server for account \"%s\"", account);
	LpuNearestName nearest;
	ListCell   *cell;

	lpu_nearest_start(&nearest, account);
	foreach(cell, lpu_known_servers())
	{
		const char *other = ((LpuKnownServer *) lfirst(cell))->account;

		if (strcmp(other, account) != 0)	/* else one that the caller may
											 * not use */
			lpu_nearest_consider(&nearest, other);
	}
	if (nearest.name != NULL && nearest.distance <= MAX_ACCOUNT_TYPOS)
		return lpu_problem_hint(problem, "Perhaps you meant account \"%s\".", nearest.name);
	return lpu_problem_hint(problem,
							"CREATE SERVER ... FOREIGN DATA WRAPPER lpusers OPTIONS (account '%s').",
							account);
}
