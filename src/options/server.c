/*
 * server.c: which server and user mapping serve an account for a role.
 *
 * The server of an account is the one whose option "account" equals it.  The list of servers and
 * the parsed options of a server and a mapping are kept until the catalogs change; then what
 * other modules keep for that mapping (tokens, connections) is dropped.  All of this needs a
 * transaction. Reading the catalogs accepts invalidations, perhaps of what has just been read,
 * when there is no entry yet that they could remove. So a counter that each invalidation raises
 * is compared after the reading. Its value at the beginning is the generation of the options: a
 * statement that still runs with older ones does not share bearers and connections with those
 * that follow it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/error.h"
#include "options/known_server.h"
#include "options/option.h"
#include "options/server.h"

/* Callbacks of modules that keep something for a mapping: tokens, connections. */
#define MAX_LISTENERS 4

/*
 * How often options are read anew because the catalogs change meanwhile.  Two
 * readings are enough as a rule; with debug_discard_caches no number is.
 */
#define MAX_READS 10

/* Parsed options of a server and a mapping. */
typedef struct KnownOptions
{
	LpuOptions	options;
	MemoryContext context;
	uint32		server_hash;
	uint32		mapping_hash;
} KnownOptions;

static List *known = NIL;		/* of known_options */
static uint64 changes = 0;		/* invalidations of these catalogs so far */
static void (*listeners[MAX_LISTENERS]) (Oid mapping);
static int	nlisteners = 0;

/* Forget parsed options; they may be in use until the transaction ends. */
static void
forget_known(KnownOptions *entry)
{
	Oid			mapping = entry->options.mapping;
	int			i;

	known = list_delete_ptr(known, entry);
	if (TopTransactionContext != NULL)
		MemoryContextSetParent(entry->context, TopTransactionContext);
	else
		MemoryContextDelete(entry->context);
	for (i = 0; i < nlisteners && OidIsValid(mapping); i++)
		listeners[i] (mapping);
}

static void
on_catalog_change(Datum arg, int cache, uint32 hash)
{
	ListCell   *cell;
	List	   *gone = NIL;

	changes++;
	foreach(cell, known)
	{
		KnownOptions *entry = lfirst(cell);

		if (hash == 0 || cache == FOREIGNDATAWRAPPEROID ||
			hash == (cache == FOREIGNSERVEROID ? entry->server_hash : entry->mapping_hash))
			gone = lappend(gone, entry);
	}
	foreach(cell, gone)
		forget_known(lfirst(cell));
	list_free(gone);
}

static void
watch_catalogs(void)
{
	static bool watching = false;

	if (watching)
		return;
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, on_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, on_catalog_change, (Datum) 0);
	CacheRegisterSyscacheCallback(FOREIGNDATAWRAPPEROID, on_catalog_change, (Datum) 0);
	watching = true;
}

/*
 * Have a function called with a mapping's OID whenever what was read of the mapping or its
 * server may have changed.
 */
void
lpu_server_on_change(void (*forget) (Oid mapping))
{
	Assert(nlisteners < MAX_LISTENERS);
	listeners[nlisteners++] = forget;
}

static Oid
mapping_of(Oid server, Oid role)
{
	return GetSysCacheOid2(USERMAPPINGUSERSERVER, Anum_pg_user_mapping_oid,
						   ObjectIdGetDatum(role), ObjectIdGetDatum(server));
}

static List *
mapping_options(Oid mapping)
{
	HeapTuple	tuple = SearchSysCache1(USERMAPPINGOID, ObjectIdGetDatum(mapping));
	List	   *list = NIL;
	Datum		datum;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		return NIL;
	datum = SysCacheGetAttr(USERMAPPINGOID, tuple, Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		list = untransformRelOptions(datum);
	ReleaseSysCache(tuple);
	return list;
}

/*
 * Read the options once, into a child of the current memory context. Returns NULL and sets *problem
 * if they are invalid.
 */
static KnownOptions *
read_options(Oid server_oid, Oid mapping, LpuProblem **problem)
{
	uint64		generation = changes;
	ForeignServer *server = GetForeignServer(server_oid);
	List	   *mapping_list = mapping_options(mapping);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "lpusers options",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	KnownOptions *entry = palloc0(sizeof(KnownOptions));
	LpuOptions *options = &entry->options;
	LpuProblem *trouble;

	options->server = server_oid;
	options->mapping = mapping;
	options->owner = server->owner;
	options->party = lpu_party_of(server->owner);
	options->generation = generation;
	options->server_name = pstrdup(server->servername);
	lpu_options_set_defaults(options);
	trouble = lpu_options_read(options, server->options, ForeignServerRelationId);
	if (trouble == NULL)
		trouble = lpu_options_read(options, mapping_list, UserMappingRelationId);
	MemoryContextSwitchTo(caller);
	if (trouble != NULL)
	{
		*problem = trouble;
		return NULL;
	}
	entry->context = context;
	entry->server_hash = GetSysCacheHashValue1(FOREIGNSERVEROID, ObjectIdGetDatum(server_oid));
	entry->mapping_hash = GetSysCacheHashValue1(USERMAPPINGOID, ObjectIdGetDatum(mapping));
	return entry;
}

/* Keep them until the catalogs change. Nothing here may access the catalogs. */
static void
keep_options(KnownOptions *entry)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	known = lappend(known, entry);
	MemoryContextSwitchTo(caller);
	MemoryContextSetParent(entry->context, TopMemoryContext);
}

/*
 * Read the options, again while the catalogs change meanwhile, and keep them. If that does not end,
 * they serve this transaction only.
 */
static const LpuOptions *
load_options(Oid server, Oid mapping, LpuProblem **problem)
{
	int			reads;

	for (reads = 1;; reads++)
	{
		uint64		before = changes;
		KnownOptions *entry = read_options(server, mapping, problem);

		if (changes == before || reads == MAX_READS)
		{
			if (entry == NULL)
				return NULL;
			if (changes == before)
				keep_options(entry);
			else
				MemoryContextSetParent(entry->context, TopTransactionContext);
			return &entry->options;
		}
		if (entry != NULL)
			MemoryContextDelete(entry->context);
	}
}

static const LpuOptions *
options_of(Oid server, Oid mapping, LpuProblem **problem)
{
	ListCell   *cell;

	foreach(cell, known)
	{
		KnownOptions *entry = lfirst(cell);

		if (entry->options.server == server && entry->options.mapping == mapping)
			return &entry->options;
	}
	return load_options(server, mapping, problem);
}

/* What the search for an account's server found. */
typedef struct ServerCandidates
{
	Oid			server;
	Oid			mapping;
	int			usable;			/* servers with a mapping of this rank */
	bool		own;			/* ... which is the role's own, not PUBLIC's */
	int			servers;		/* for the account at all */
	int			allowed;		/* ... that the role may use */
	bool		stranger;		/* it may not use one because of its owner */
	Oid			only;			/* the one server, of several the one that is
								 * allowed, or InvalidOid */
} ServerCandidates;

static void
consider(ServerCandidates *found, const LpuKnownServer *candidate, Oid role)
{
	Oid			server = candidate->server;
	Oid			own;
	Oid			mapping;

	if (found->allowed == 0)
		found->only = found->servers == 0 ? server : InvalidOid;
	found->servers++;
	if (!lpu_server_usable(candidate, role, &found->stranger))
		return;
	found->only = found->allowed == 0 ? server : InvalidOid;
	found->allowed++;
	own = mapping_of(server, role);
	mapping = OidIsValid(own) ? own : mapping_of(server, InvalidOid);
	if (!OidIsValid(mapping) || (found->own && !OidIsValid(own)))
		return;
	if (OidIsValid(own) && !found->own)
		found->usable = 0;		/* it beats PUBLIC's */
	found->own = OidIsValid(own);
	found->usable++;
	found->server = server;
	found->mapping = mapping;
}

static LpuProblem *
invalid_account(void)
{
	return lpu_problem_detail(lpu_problem_new(ERRCODE_INVALID_PARAMETER_VALUE, "invalid account id"),
							  "An account id has 1 to 64 characters of 0-9, A-Z, a-z, _ and -.");
}

/* server: its name, as far as it is known. */
static LpuProblem *
no_credentials(const char *account, const char *role, const char *server)
{
	return lpu_problem_hint(lpu_problem_new(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
											"no credentials of role \"%s\" for account \"%s\"",
											role, account),
							"CREATE USER MAPPING FOR %s SERVER %s OPTIONS (client_id '...', client_secret '...').",
							quote_identifier(role), server ? quote_identifier(server) : "...");
}

static char *
role_name(Oid role)
{
	char	   *name = GetUserNameFromId(role, true);

	return name ? name : psprintf("%u", role);
}

/* The name of the server to put into a hint, or NULL if there are several. */
static const char *
candidate_name(const ServerCandidates *found)
{
	ForeignServer *server = NULL;

	if (OidIsValid(found->only))
		server = GetForeignServerExtended(found->only, FSV_MISSING_OK);
	return server ? server->servername : NULL;
}

/* A server whose owner may not make servers serves its owner only. */
static LpuProblem *
foreign_owner(const char *account, const char *role)
{
	LpuProblem *problem = lpu_problem_new(ERRCODE_INSUFFICIENT_PRIVILEGE,
										  "permission denied for the server of account \"%s\"",
										  account);

	lpu_problem_detail(problem, "The owner of the server has no USAGE on the foreign-data wrapper "
					   "lpusers, and role \"%s\" does not have the owner's rights.", role);
	return lpu_problem_hint(problem, "Have an administrator own the server, or GRANT USAGE ON "
							"FOREIGN DATA WRAPPER lpusers to its owner.");
}

static LpuProblem *
explain_search(const ServerCandidates *found, const char *account, Oid role)
{
	char	   *name = role_name(role);
	const char *server = candidate_name(found);

	if (found->servers == 0)
		return lpu_account_unknown(account);
	if (found->allowed == 0 && found->stranger)
		return foreign_owner(account, name);
	if (found->allowed == 0)
		return lpu_problem_hint(lpu_problem_new(ERRCODE_INSUFFICIENT_PRIVILEGE,
												"permission denied for the server of account \"%s\"", account),
								"GRANT USAGE ON FOREIGN SERVER %s TO %s.",
								server ? quote_identifier(server) : "...", quote_identifier(name));
	if (found->usable == 0)
		return no_credentials(account, name, server);
	return lpu_problem_hint(lpu_problem_detail(lpu_problem_new(ERRCODE_AMBIGUOUS_PARAMETER,
															   "more than one server for account \"%s\"", account),
											   "Role \"%s\" has USAGE and a user mapping on %d of them.",
											   name, found->usable),
							"Keep one server for an account, or drop the mapping or REVOKE USAGE on the others.");
}

/* Raise 22023 unless the text can be an account id. */
void
lpu_account_check(const char *account)
{
	if (!lpu_account_is_valid(account))
		lpu_problem_raise(invalid_account());
}

/*
 * Return the options of the one server for the account on which the role has USAGE and a mapping
 * (its own before PUBLIC's). They stay valid until the transaction ends. NULL and *problem if
 * there is no such server, or more than one.
 */
const LpuOptions *
lpu_server_for_account(const char *account, Oid role, LpuProblem **problem)
{
	ServerCandidates found = {0};
	ListCell   *cell;

	if (!lpu_account_is_valid(account))
	{
		*problem = invalid_account();
		return NULL;
	}
	watch_catalogs();
	foreach(cell, lpu_known_servers())
	{
		LpuKnownServer *server = lfirst(cell);

		if (strcmp(server->account, account) == 0)
			consider(&found, server, role);
	}
	if (found.usable != 1)
	{
		*problem = explain_search(&found, account, role);
		return NULL;
	}
	return options_of(found.server, found.mapping, problem);
}

/*
 * Return the options of a server, without credentials. They stay valid until the transaction
 * ends. NULL and *problem if they are invalid.
 */
const LpuOptions *
lpu_server_alone(Oid server, LpuProblem **problem)
{
	watch_catalogs();
	return options_of(server, InvalidOid, problem);
}

/*
 * Return the options of a server that is known, as a foreign table knows its own, with the
 * mapping for the role. No USAGE is needed. They stay valid until the transaction ends. NULL and
 * *problem if there is no mapping.
 */
const LpuOptions *
lpu_server_for_role(Oid server, Oid role, LpuProblem **problem)
{
	Oid			mapping;
	const LpuOptions *alone;

	watch_catalogs();
	mapping = mapping_of(server, role);
	if (!OidIsValid(mapping))
		mapping = mapping_of(server, InvalidOid);
	if (OidIsValid(mapping))
		return options_of(server, mapping, problem);
	alone = lpu_server_alone(server, problem);
	if (alone != NULL)
		*problem = no_credentials(alone->account, role_name(role), alone->server_name);
	return NULL;
}

/*
 * Return the options for a request of the queue: those of its server, or of
 * the one server that the role has for the account if the request has none.
 * The role needs USAGE and a mapping.  NULL and *problem if it cannot send;
 * the name of the role is for that message.
 */
const LpuOptions *
lpu_server_for_request(Oid server, const char *account, Oid role, const char *name,
					   LpuProblem **problem)
{
	ServerCandidates found = {.servers = 1};

	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
	{
		*problem = lpu_problem_new(ERRCODE_UNDEFINED_OBJECT, "role \"%s\" does not exist", name);
		return NULL;
	}
	if (!OidIsValid(server))
		return lpu_server_for_account(account, role, problem);
	if (!lpu_server_serves(server, account))
	{
		*problem = lpu_problem_new(ERRCODE_UNDEFINED_OBJECT, "server of account \"%s\" does not exist", account);
		return NULL;
	}
	if (!lpu_server_usable(lpu_known_server(server), role, &found.stranger))
	{
		*problem = explain_search(&found, account, role);
		return NULL;
	}
	return lpu_server_for_role(server, role, problem);
}
