/*
 * option.c: the options of a server, a user mapping, a foreign table or a
 * column, as one struct.
 *
 * One table says which options there are, where each belongs, what it may
 * hold, who may set it and where its value goes; the validator and the reader
 * both walk it. A value that the validator accepted is accepted by the reader;
 * strings are allocated in the memory context that is current when they are
 * read. It knows nothing of where options are stored.
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
#include "utils/guc.h"

#include "base/compat.h"
#include "base/encoding.h"
#include "http/url.h"
#include "options/option.h"

PG_FUNCTION_INFO_V1(lpusers_validator);

/* A longer domain name does not exist (RFC 1035). */
#define MAX_HOST_LENGTH 253

/* An hour: a request that takes longer is not going to be answered. */
#define MAX_DURATION_MS (3600 * 1000)

typedef enum OptionKind
{
	KIND_TEXT,					/* anything but control characters */
	KIND_SECRET,				/* likewise, and never shown */
	KIND_ACCOUNT,
	KIND_VERSION,				/* of the API: 4.0 */
	KIND_HOST,
	KIND_ATTRIBUTE,				/* name of an attribute, or "*" */
	KIND_ORIGIN,				/* https://host[:port] */
	KIND_ORIGIN_OR_HTTP,		/* likewise, or http:// */
	KIND_URL,					/* https://host[:port]/path */
	KIND_PROXY,
	KIND_FILE,					/* absolute path; the last kind whose value is
								 * text */
	KIND_DURATION,				/* int, ms */
	KIND_SIZE,					/* int, bytes */
	KIND_LARGE_SIZE,			/* int, kB */
	KIND_INT,
	KIND_RATE,					/* double */
	KIND_BOOL,
	KIND_BOOL_OR_UNSET,			/* likewise, into an int */
	KIND_DELIVERY,				/* on | paused, into a bool "paused" */
	KIND_IF_MATCH,				/* required | off, into a bool "required" */
	KIND_RESOURCE				/* one of lpu_resource_names, into an int */
} OptionKind;

typedef struct OptionDef
{
	const char *name;
	Oid			catalog;
	OptionKind	kind;
	size_t		offset;
	const char *start;			/* default, as one would write it; NULL: not
								 * set */
	int			min;
	int			max;
	bool		superuser_only;
} OptionDef;

#define SERVER(name, kind, field, start, min, max, superuser) \
	{name, ForeignServerRelationId, kind, offsetof(LpuOptions, field), start, min, max, superuser}
#define MAPPING(name, kind, field, superuser_only) \
	{name, UserMappingRelationId, kind, offsetof(LpuOptions, field), NULL, 0, 0, superuser_only}

static const OptionDef option_defs[] = {
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

#define DIGITS "0123456789"

/* ----- values ----- */

bool
lpu_account_is_valid(const char *account)
{
	size_t		length = strlen(account);

	return length >= 1 && length <= 64 &&
		strspn(account,
			   "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-") == length;
}

static bool
has_control_character(const char *text)
{
	for (; *text; text ++)
		if ((unsigned char) *text <' ' || *text == 0x7f)
			return true;
	return false;
}

static bool
version_is_valid(const char *value)
{
	size_t		major = strspn(value, DIGITS);
	size_t		minor = value[major] == '.' ? strspn(value + major + 1, DIGITS) : 0;

	return major > 0 && minor > 0 && value[major + 1 + minor] == '\0' && strlen(value) <= 16;
}

static bool
attribute_is_valid(const char *name)
{
	size_t		length = strlen(name);

	return strcmp(name, "*") == 0 ||
		(length < NAMEDATALEN &&
		 strspn(name, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_") == length);
}

static bool
host_is_valid(const char *host)
{
	size_t		length = strlen(host);

	return length > 0 && length <= MAX_HOST_LENGTH && host[0] != '-' && host[0] != '.' &&
		strspn(host, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.-") == length;
}

/* What is wrong with this URL for this kind of option? NULL: nothing. */
static const char *
url_complaint(OptionKind kind, const char *value)
{
	LpuUrl		url;

	if (strstr(value, "://") == NULL || !lpu_url_split(value, &url))
		return "It is not a URL.";
	if (kind == KIND_PROXY)
		return url.has_more || strcmp(url.path, "/") != 0 ?
			"A proxy is scheme://host:port; its credentials are options of the user mapping." :
			NULL;
	if (strcmp(url.scheme, "https") != 0 &&
		!(kind == KIND_ORIGIN_OR_HTTP && strcmp(url.scheme, "http") == 0))
		return kind == KIND_ORIGIN_OR_HTTP ? "Only https:// and http:// are allowed." :
			"Only https:// is allowed.";
	if (url.has_more)
		return "A user, a query or a fragment is not allowed in it.";
	if (kind != KIND_URL && strcmp(url.path, "/") != 0)
		return "It must be an origin, https://host or https://host:port, without a path.";
	return NULL;
}

static const char *
int_complaint(const OptionDef *def, const char *value, int flags, void *target)
{
	const char *hint = NULL;
	int			number;

	if (!parse_int(value, &number, flags, &hint))
		return hint ? hint : flags ?
			"It must be a whole number with a unit, such as 500ms, 5s or 64MB." :
			"It must be a whole number.";
	if (number < def->min || number > def->max)
		return psprintf("It must be between %d and %d%s.", def->min, def->max,
						flags == GUC_UNIT_MS ? " ms" : flags == GUC_UNIT_BYTE ? " bytes" : flags ?
						" kB" : "");
	*(int *) target = number;
	return NULL;
}

static const char *
resource_complaint(const char *value, void *target)
{
	StringInfoData names;
	int			i;

	initStringInfo(&names);
	for (i = 0; lpu_resource_names[i] != NULL; i++)
	{
		if (strcmp(value, lpu_resource_names[i]) == 0)
		{
			*(int *) target = i;
			return NULL;
		}
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", lpu_resource_names[i]);
	}
	return psprintf("It must be one of %s.", names.data);
}

static const char *
number_complaint(const OptionDef *def, const char *value, void *target)
{
	static const int units[] = {[KIND_DURATION] = GUC_UNIT_MS,[KIND_SIZE] = GUC_UNIT_BYTE,
	[KIND_LARGE_SIZE] = GUC_UNIT_KB,[KIND_INT] = 0};
	double		rate;
	bool		on;

	switch (def->kind)
	{
		case KIND_DURATION:
		case KIND_SIZE:
		case KIND_LARGE_SIZE:
		case KIND_INT:
			return int_complaint(def, value, units[def->kind], target);
		case KIND_RATE:
			if (!parse_real(value, &rate, 0, NULL) || !(rate >= def->min && rate <= def->max))
				return psprintf("It must be a number between %d and %d.", def->min, def->max);
			*(double *) target = rate;
			return NULL;
		case KIND_BOOL:
			return parse_bool(value, (bool *) target) ? NULL : "It must be on or off.";
		case KIND_BOOL_OR_UNSET:
			if (!parse_bool(value, &on))
				return "It must be on or off.";
			*(int *) target = on;
			return NULL;
		case KIND_DELIVERY:
			*(bool *) target = strcmp(value, "paused") == 0;
			return *(bool *) target || strcmp(value, "on") == 0 ? NULL : "It must be on or paused.";
		case KIND_IF_MATCH:
			*(bool *) target = strcmp(value, "required") == 0;
			return *(bool *) target ||
				strcmp(value, "off") == 0 ? NULL : "It must be required or off.";
		case KIND_RESOURCE:
			return resource_complaint(value, target);
		default:
			elog(ERROR, "option \"%s\" is no number", def->name);
	}
}

/*
 * Put the value where it belongs, in the current memory context. Returns what
 * is wrong with it, or NULL.
 */
static const char *
set_option(LpuOptions *options, const OptionDef *def, const char *value)
{
	void	   *target = (char *) options + def->offset;
	const char *complaint = NULL;
	size_t		length;

	if (*value == '\0')
		return "It must not be empty.";
	if (has_control_character(value))
		return "Line breaks and other control characters are not allowed in it.";
	switch (def->kind)
	{
		case KIND_TEXT:
		case KIND_SECRET:
			break;
		case KIND_ACCOUNT:
			if (!lpu_account_is_valid(value))
				complaint = "An account id has 1 to 64 characters of 0-9, A-Z, a-z, _ and -.";
			break;
		case KIND_VERSION:
			if (!version_is_valid(value))
				complaint = "It must be digits, a point and digits, such as 4.0.";
			break;
		case KIND_HOST:
			if (!host_is_valid(value))
				complaint = "It must be a bare host name, such as va.ac.liveperson.net.";
			break;
		case KIND_ATTRIBUTE:
			if (!attribute_is_valid(value))
				complaint = "It must be the name of an attribute of the API, such as loginName, or * for the whole entity.";
			break;
		case KIND_FILE:
			if (!is_absolute_path(value))
				complaint = "It must be an absolute path.";
			break;
		case KIND_ORIGIN:
		case KIND_ORIGIN_OR_HTTP:
		case KIND_URL:
		case KIND_PROXY:
			complaint = url_complaint(def->kind, value);
			break;
		default:
			return number_complaint(def, value, target);
	}
	if (complaint != NULL)
		return complaint;
	/* from here on it is for the wire, or ASCII, or a path */
	length = strlen(value);
	if (def->kind != KIND_FILE && (value = lpu_text_to_utf8(value, &length)) == NULL)
		return "It cannot be sent as UTF-8.";
	/* of an origin, the slash that may end it is not kept: paths are appended */
	if ((def->kind == KIND_ORIGIN || def->kind == KIND_ORIGIN_OR_HTTP) && value[length - 1] == '/')
		length--;
	*(char **) target = pnstrdup(value, length);
	return NULL;
}

static const OptionDef *
find_option(const char *name, Oid catalog)
{
	int			i;

	for (i = 0; i < lengthof(option_defs); i++)
		if (option_defs[i].catalog == catalog && strcmp(option_defs[i].name, name) == 0)
			return &option_defs[i];
	return NULL;
}

void
lpu_options_set_defaults(LpuOptions *options)
{
	int			i;

	options->resource = options->updatable = -1;
	for (i = 0; i < lengthof(option_defs); i++)
		if (option_defs[i].start != NULL)
			(void) set_option(options, &option_defs[i], option_defs[i].start);
}

LpuProblem *
lpu_options_read(LpuOptions *options, List *list, Oid catalog)
{
	bool		of_table = catalog == ForeignTableRelationId || catalog == AttributeRelationId;
	ListCell   *cell;

	foreach(cell, list)
	{
		DefElem    *element = lfirst_node(DefElem, cell);
		const OptionDef *def = find_option(element->defname, catalog);
		const char *complaint = def ? set_option(options, def, defGetString(element)) :
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
lacks_unit(const OptionDef *def, const char *value)
{
	return def->kind >= KIND_DURATION && def->kind <= KIND_LARGE_SIZE && *value != '\0' &&
		value[strspn(value, " +-.0123456789")] == '\0';
}

static void
raise_option_conflict(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("options do not go together"),
			 errdetail("%s", detail)));
}

static void
check_table(const LpuOptions *options)
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

/* Is exactly one of value and file set, or neither? */
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
		const OptionDef *def = find_option(element->defname, catalog);
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
			set_option(&options, def, defGetString(element));
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
		check_table(&options);
	PG_RETURN_VOID();
}

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
