/*
 * option_value.c: the value of an option, from text.
 *
 * Each kind of option has its rule. The validator and the reader both call this, so a value that
 * was accepted once is accepted again.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "base/encoding.h"
#include "http/url.h"
#include "options/option_value.h"

/* A longer domain name does not exist (RFC 1035). */
#define MAX_HOST_LENGTH 253

#define DIGITS "0123456789"

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

/* Return what is wrong with this URL for this kind of option, or NULL. */
static const char *
url_complaint(LpuOptionKind kind, const char *value)
{
	LpuUrl		url;

	if (strstr(value, "://") == NULL || !lpu_url_split(value, &url))
		return "It is not a URL.";
	if (kind == KIND_PROXY &&
		strstr(" http https socks4 socks4a socks5 socks5h ", psprintf(" %s ", url.scheme)) == NULL)
		return "The scheme of a proxy is http, https, socks4, socks4a, socks5 or socks5h.";
	if (kind == KIND_PROXY && !url.has_more && strcmp(url.path, "/") == 0)
		return NULL;
	if (kind == KIND_PROXY)
		return "A proxy is scheme://host:port; its credentials are options of the user mapping.";
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
int_complaint(const LpuOptionDef *def, const char *value, int flags, void *target)
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

/* The pause between two requests must be a sensible number of milliseconds. */
#define MIN_RATE 0.001

static const char *
number_complaint(const LpuOptionDef *def, const char *value, void *target)
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
			if (rate > 0 && rate < MIN_RATE)
				return "The lowest rate is 0.001, a request in 1000 seconds.";
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
 * Set an option in *options from its text; strings are allocated in the current memory context.
 * Returns what is wrong with the text, or NULL.
 */
const char *
lpu_option_set(LpuOptions *options, const LpuOptionDef *def, const char *value)
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
