/*
 * option.c: the options of a server, a user mapping, a foreign table or a column, as one struct.
 *
 * One table defines the options: the catalog each belongs to, the kind of its value, the right
 * to set it, and its field in the struct. The validator and the reader both use it, so the
 * reader accepts what the validator accepted. Strings are allocated in the memory context that
 * is current when they are read. It knows nothing of where options are stored.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/compat.h"
#include "base/encoding.h"
#include "options/option.h"
#include "options/option_value.h"

PG_FUNCTION_INFO_V1(lpusers_validator);

/* An hour: a request that takes longer is not going to be answered. */
#define MAX_DURATION_MS (3600 * 1000)

#define SERVER(name, kind, field, start, min, max, superuser) \
	{name, ForeignServerRelationId, kind, offsetof(LpuOptions, field), start, min, max, superuser}
#define MAPPING(name, kind, field, superuser_only) \
	{name, UserMappingRelationId, kind, offsetof(LpuOptions, field), NULL, 0, 0, superuser_only}

static const LpuOptionDef option_defs[] = {
	SERVER("account", KIND_ACCOUNT, account, NULL, 0, 0, false),
	SERVER("domain", KIND_HOST, domain, NULL, 0, 0, false),
	SERVER("base_url", KIND_ORIGIN_OR_HTTP, base_url, NULL, 0, 0, true),
	SERVER("domain_api_url", KIND_ORIGIN, domain_api_url, "https://api.liveperson.net", 0, 0, true),
	SERVER("login_url", KIND_ORIGIN, login_url, NULL, 0, 0, true),
	SERVER("token_url", KIND_URL, token_url, NULL, 0, 0, true),
	SERVER("api_version", KIND_VERSION, api_version, "4.0", 0, 0, false),
	SERVER("connect_timeout", KIND_DURATION, connect_timeout, "5s", 1, MAX_DURATION_MS, false),
	SERVER("timeout", KIND_DURATION, timeout, "60s", 1, MAX_DURATION_MS, false),
	SERVER("batch_size", KIND_INT, batch_size, "100", 1, 10000, false),
	SERVER("max_connections", KIND_INT, max_connections, "4", 1, 64, false),
	SERVER("rate_limit", KIND_RATE, rate_limit, "0", 0, 100000, false),
	SERVER("max_retries", KIND_INT, max_retries, "5", 0, 1000, false),
	SERVER("max_response_size", KIND_SIZE, max_response_size, "64MB", 1024, 1024 * 1024 * 1023,
		   false),
	SERVER("max_list_size", KIND_LARGE_SIZE, max_list_size, "1GB", 1, INT_MAX, false),
	SERVER("hold_above", KIND_INT, hold_above, "1000", 0, INT_MAX, false),
	SERVER("delivery", KIND_DELIVERY, paused, "on", 0, 0, false),
	SERVER("require_password", KIND_BOOL, require_password, "on", 0, 0, false),
	SERVER("if_match", KIND_IF_MATCH, if_match_required, "required", 0, 0, false),
	SERVER("updatable", KIND_BOOL_OR_UNSET, updatable, "on", 0, 0, false),
	SERVER("ca_file", KIND_FILE, ca_file, NULL, 0, 0, true),
	SERVER("proxy", KIND_PROXY, proxy, NULL, 0, 0, true),
	MAPPING("client_id", KIND_TEXT, client_id, false),
	MAPPING("client_secret", KIND_SECRET, client_secret, false),
	MAPPING("client_secret_file", KIND_FILE, client_secret_file, true),
	MAPPING("token", KIND_SECRET, token, false),
	MAPPING("token_file", KIND_FILE, token_file, true),
	MAPPING("username", KIND_TEXT, username, false),
	MAPPING("password", KIND_SECRET, password, false),
	MAPPING("password_file", KIND_FILE, password_file, true),
	MAPPING("proxy_user", KIND_TEXT, proxy_user, false),
	MAPPING("proxy_password", KIND_SECRET, proxy_password, false),
	MAPPING("proxy_password_file", KIND_FILE, proxy_password_file, true),
	{"resource", ForeignTableRelationId, KIND_RESOURCE, offsetof(LpuOptions, resource)},
	{"updatable", ForeignTableRelationId, KIND_BOOL_OR_UNSET, offsetof(LpuOptions, updatable)},
	{"attribute", AttributeRelationId, KIND_ATTRIBUTE, offsetof(LpuOptions, attribute)},
};

const char *const lpu_resource_names[] = {
	[LPU_USERS] = "users",
	[LPU_SKILLS] = "skills",
	[LPU_PROFILES] = "profiles",
	[LPU_AGENT_GROUPS] = "agent_groups",
	[LPU_LOBS] = "lobs",
	NULL
};

/* Return true if this text is an account id; anything else never reaches a URL. */
bool
lpu_account_is_valid(const char *account)
{
	size_t		length = strlen(account);

	return length >= 1 && length <= 64 &&
		strspn(account,
			   "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-") == length;
}

static const LpuOptionDef *
find_option(const char *name, Oid catalog)
{
	int			i;

	for (i = 0; i < lengthof(option_defs); i++)
		if (option_defs[i].catalog == catalog && strcmp(option_defs[i].name, name) == 0)
			return &option_defs[i];
	return NULL;
}

/* Set the defaults of all options, in the current memory context. */
void
lpu_options_set_defaults(LpuOptions *options)
{
	int			i;

	options->resource = options->updatable = -1;
	for (i = 0; i < lengthof(option_defs); i++)
		if (option_defs[i].start != NULL)
			(void) lpu_option_set(options, &option_defs[i], option_defs[i].start);
}

/*
 * Read a list of DefElem as the catalog (its OID) holds it, in the current memory context.
 * Returns what is wrong with one of them, or NULL.
 */
LpuProblem *
lpu_options_read(LpuOptions *options, List *list, Oid catalog)
{
	bool		of_table = catalog == ForeignTableRelationId || catalog == AttributeRelationId;
	ListCell   *cell;

	foreach(cell, list)
	{
		DefElem    *element = lfirst_node(DefElem, cell);
		const LpuOptionDef *def = find_option(element->defname, catalog);
		const char *complaint = def ? lpu_option_set(options, def, defGetString(element)) :
		"There is no such option.";

		if (complaint != NULL)
			return lpu_problem_detail(lpu_problem_new(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE,
													  "invalid option \"%s\" of %s \"%s\"%s",
													  element->defname,
													  of_table ? "foreign table" : "server",
													  options->server_name,
													  of_table ? "" : " or its user mapping"), "%s",
									  complaint);
	}
	return NULL;
}

/* ----- validator ----- */

static void
raise_unknown_option(const char *name, Oid catalog)
{
	LpuNearestName nearest;
	StringInfoData names;
	int			i;

	initStringInfo(&names);
	lpu_nearest_start(&nearest, name);
	for (i = 0; i < lengthof(option_defs); i++)
	{
		if (option_defs[i].catalog != catalog)
			continue;
		appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", option_defs[i].name);
		lpu_nearest_consider(&nearest, option_defs[i].name);
	}
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\"", name),
			 nearest.name ? errhint("Perhaps you meant the option \"%s\".", nearest.name) :
			 names.len > 0 ? errhint("Valid options are: %s.", names.data) :
			 errhint("There are no valid options here.")));
}

/* Return true for a duration or size without a unit. The reader takes what is in the catalogs. */
static bool
lacks_unit(const LpuOptionDef *def, const char *value)
{
	return def->kind >= KIND_DURATION && def->kind <= KIND_LARGE_SIZE && *value != '\0' &&
		value[strspn(value, " +-.0123456789")] == '\0';
}

static void
raise_option_conflict(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("conflicting options"),
			 errdetail("%s", detail)));
}

static void
check_table_options(const LpuOptions *options)
{
	if (options->resource < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("option \"resource\" is required"),
				 errhint("Write OPTIONS (resource 'users'), or let IMPORT FOREIGN SCHEMA liveperson make the table.")));
}

static void
check_server(const LpuOptions *options)
{
	if (options->account == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("option \"account\" is required"),
				 errhint("Write OPTIONS (account '12345678') with the id of your account.")));
	if (options->domain != NULL && options->base_url != NULL)
		raise_option_conflict("\"base_url\" is used instead of a domain: set only one of them.");
	if (options->domain != NULL && !superuser() &&
		(strlen(options->domain) < 16 ||
		 pg_strcasecmp(options->domain + strlen(options->domain) - 15, ".liveperson.net") != 0))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only a superuser may name a domain outside of liveperson.net"),
				 errdetail("Credentials of the server's users are sent there.")));
}

/* Return true unless both value and file are set. */
static bool
one_or_none(const char *value, const char *file)
{
	return value == NULL || file == NULL;
}

static void
check_mapping(const LpuOptions *options)
{
	bool		client_secret = options->client_secret || options->client_secret_file;
	bool		token = options->token || options->token_file;
	bool		password = options->password || options->password_file;
	bool		proxy_password = options->proxy_password || options->proxy_password_file;

	if (!one_or_none(options->client_secret, options->client_secret_file) ||
		!one_or_none(options->token, options->token_file) ||
		!one_or_none(options->password, options->password_file) ||
		!one_or_none(options->proxy_password, options->proxy_password_file))
		raise_option_conflict("Of a secret set either the value or its \"_file\", not both.");
	if ((options->client_id != NULL) != client_secret)
		raise_option_conflict("\"client_id\" needs \"client_secret\" (or \"client_secret_file\"), and the reverse.");
	if ((options->username != NULL) != password)
		raise_option_conflict("\"username\" needs \"password\" (or \"password_file\"), and the reverse.");
	if ((options->proxy_user != NULL) != proxy_password)
		raise_option_conflict("\"proxy_user\" needs \"proxy_password\" (or \"proxy_password_file\"), and the reverse.");
	if (client_secret + token + password > 1)
		raise_option_conflict("Set one way to authenticate: "
							  "client_id and client_secret, or token, or username and password.");
}

/*
 * lpusers_validator(options text[], catalog oid) RETURNS void
 *
 * Checks the options of a server, a user mapping, a foreign table or its
 * columns, as CREATE and ALTER hand them over.
 */
Datum
lpusers_validator(PG_FUNCTION_ARGS)
{
	List	   *list = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	LpuOptions	options;
	ListCell   *cell;

	memset(&options, 0, sizeof(options));
	options.resource = -1;
	foreach(cell, list)
	{
		DefElem    *element = lfirst_node(DefElem, cell);
		const LpuOptionDef *def = find_option(element->defname, catalog);
		const char *complaint;
		bool		bare;

		if (def == NULL)
			raise_unknown_option(element->defname, catalog);
		if (def->superuser_only && !superuser())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("only a superuser may set option \"%s\"", def->name),
					 errdetail("It decides where credentials are sent, or which file of the server is read.")));
		bare = lacks_unit(def, defGetString(element));
		complaint = bare ? "A number needs a unit." :
			lpu_option_set(&options, def, defGetString(element));
		if (complaint != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
					 errmsg("invalid value for option \"%s\"", def->name),
					 errdetail("%s", complaint),
					 bare ? errhint("Units are as in \"30s\", \"500ms\" and \"64MB\".") : 0));
	}
	if (catalog == ForeignServerRelationId)
		check_server(&options);
	if (catalog == UserMappingRelationId)
		check_mapping(&options);
	if (catalog == ForeignTableRelationId)
		check_table_options(&options);
	PG_RETURN_VOID();
}

/* Return a copy with strings of its own, in the current memory context. */
LpuOptions *
lpu_options_copy(const LpuOptions *options)
{
	LpuOptions *copy = palloc(sizeof(LpuOptions));
	int			i;

	memcpy(copy, options, sizeof(LpuOptions));
	copy->server_name = pstrdup(options->server_name);
	for (i = 0; i < lengthof(option_defs); i++)
	{
		char	  **text = (char **) ((char *) copy + option_defs[i].offset);

		if (option_defs[i].kind <= KIND_FILE && *text !=NULL)
			*text = pstrdup(*text);
	}
	return copy;
}
