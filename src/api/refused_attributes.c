/*
 * refused_attributes.c: attributes that an account shows and does not take back.
 *
 * An update replaces the whole user, so whatever the account shows of it goes back, also what is in
 * no table of attributes.  Later versions of the API show attributes of their own, and the
 * documentation does not say which of them may come back.  The account says it: when an update is
 * refused and the response names such an attribute, which the request does not set, the attribute
 * is left out from then on, in this process, and a WARNING says so.  Attributes that this version
 * knows are never left out.
 */
#include "postgres.h"

#include <ctype.h>

#include "nodes/pg_list.h"
#include "utils/memutils.h"

#include "api/refused_attributes.h"
#include "user/attribute.h"
#include "user/merge.h"

/* At most this many are learned of an account: more would have another reason. */
#define MAX_REFUSED 32

/* Names of attributes are short. */
#define MAX_NAME 64

typedef struct RefusedAttribute
{
	Oid			server;
	char		api_version[MAX_NAME];
	char		name[MAX_NAME];
} RefusedAttribute;

/* Of all accounts, in TopMemoryContext. */
static List *refused = NIL;

static bool
belongs_to(const RefusedAttribute *attribute, const LpuOptions *options)
{
	return attribute->server == options->server &&
		strcmp(attribute->api_version, options->api_version) == 0;
}

/* Return true if the attribute may be added to what is left out for these options. */
static bool
may_be_learned(const LpuOptions *options, const char *name)
{
	ListCell   *cell;
	int			n = 0;

	foreach(cell, refused)
	{
		const RefusedAttribute *attribute = lfirst(cell);

		if (!belongs_to(attribute, options))
			continue;
		if (strcmp(attribute->name, name) == 0)
			return false;
		n++;
	}
	return n < MAX_REFUSED;
}

static void
learn_attribute(const LpuOptions *options, const char *name)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	RefusedAttribute *attribute = palloc0(sizeof(RefusedAttribute));

	attribute->server = options->server;
	strlcpy(attribute->api_version, options->api_version, MAX_NAME);
	strlcpy(attribute->name, name, MAX_NAME);
	refused = lappend(refused, attribute);
	MemoryContextSwitchTo(caller);
	ereport(WARNING,
			(errmsg("account \"%s\" does not take back attribute \"%s\" of its users",
					options->account, name),
			 errdetail("Updates leave it out.")));
}

/* Return true if an entity of the request has this member. */
static bool
is_in_request(const LpuApiRequest *request, const char *name)
{
	char		member[MAX_NAME + 4];

	snprintf(member, sizeof(member), "\"%s\":", name);
	return memmem(request->body, request->body_length, member, strlen(member)) != NULL;
}

/*
 * Return true if an update was refused because of attributes that are left out from now on: then
 * the users are to be read and sent again.  "sets" is called with arg.
 */
bool
lpu_refused_learn(const LpuOptions *options, const LpuApiRequest *request,
				  const LpuApiAnswer *answer, LpuSetsAttribute sets, void *arg)
{
	const char *at = answer->error;
	bool		learned = false;

	if (request->method != LPU_UPDATE_USERS || answer->verdict != LPU_REJECTED ||
		(answer->status != 400 && answer->status != 422) || at == NULL ||
		strlen(options->api_version) >= MAX_NAME)
		return false;
	while (*at != '\0')
	{
		size_t		length = 0;
		char		name[MAX_NAME];

		while (isalnum((unsigned char) at[length]) || at[length] == '_')
			length++;
		if (length > 0 && length < MAX_NAME)
		{
			strlcpy(name, at, length + 1);
			if (is_in_request(request, name) && may_be_learned(options, name) &&
				lpu_attribute_named(lpu_attributes, lpu_nattributes, name) == NULL &&
				!sets(arg, name))
			{
				learn_attribute(options, name);
				learned = true;
			}
		}
		at += Max(length, 1);
	}
	return learned;
}

/*
 * Return an entity of the account without what it does not take back; in the current memory
 * context.
 */
Jsonb *
lpu_refused_strip(const LpuOptions *options, Jsonb *entity)
{
	ListCell   *cell;

	foreach(cell, refused)
	{
		const RefusedAttribute *attribute = lfirst(cell);

		if (belongs_to(attribute, options))
			entity = lpu_jsonb_without(entity, attribute->name);
	}
	return entity;
}
