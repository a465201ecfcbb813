/*
 * lookup.c: a listing of the account that keeps only the requested users.
 *
 * The API has no search by login, so the whole account is listed.  The response is read while it
 * arrives (user_list.c), and only users whose login was added before are kept: memory grows with
 * the queue, not with the account.  Reading needs no transaction, so keys are UTF-8, which needs no
 * conversion.  This file does not depend on the queue.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/encoding.h"
#include "base/text_table.h"
#include "delivery/lookup.h"
#include "user/attribute.h"
#include "user/json_to_datum.h"
#include "user/login.h"

/* A login that was added, and its user in the listing. */
typedef struct SoughtLogin
{
	const char *key;			/* folded, UTF-8 */
	bool		found;
	LpuListedUser user;
} SoughtLogin;

struct LpuLookup
{
	MemoryContext context;
	HTAB	   *users;			/* of sought */
	bool		entities;
	LpuUserQuery query;			/* of the listing under way */
	LpuUserList *listing;		/* or NULL */
};

/* Attributes read of each user. */
static const char *const attributes[] = {"loginName", "id", "deleted", "isEnabled"};

enum
{
	LOGIN_NAME,
	ID,
	DELETED,
	IS_ENABLED
};

/*
 * Return a lookup without logins, which lives in the current memory context. entities: keep the
 * attributes of found users, for comparison.
 */
LpuLookup *
lpu_lookup_new(bool entities)
{
	LpuLookup  *lookup = palloc0(sizeof(LpuLookup));

	lookup->context = CurrentMemoryContext;
	lookup->entities = entities;
	lookup->users = lpu_text_table("lpusers lookup", sizeof(SoughtLogin), 256);
	return lookup;
}

static SoughtLogin *
find_key(const LpuLookup *lookup, const char *key)
{
	return hash_search(lookup->users, &key, HASH_FIND, NULL);
}

/* Add a login, in the database's encoding.  Needs a transaction. */
void
lpu_lookup_add(LpuLookup *lookup, const char *login)
{
	MemoryContext caller = MemoryContextSwitchTo(lookup->context);
	char	   *key = lpu_login_key(login);
	bool		found;
	SoughtLogin *entry = hash_search(lookup->users, &key, HASH_ENTER, &found);

	if (!found)
	{
		entry->found = false;
		memset(&entry->user, 0, sizeof(LpuListedUser));
	}
	MemoryContextSwitchTo(caller);
}

/* Return true if the login was added.  Needs a transaction. */
bool
lpu_lookup_has(const LpuLookup *lookup, const char *login)
{
	return find_key(lookup, lpu_login_key(login)) != NULL;
}

/*
 * Return the user with this login; NULL if the account does not have it, or
 * has deleted it.  Needs a transaction.
 */
const LpuListedUser *
lpu_lookup_find(const LpuLookup *lookup, const char *login)
{
	SoughtLogin *entry = find_key(lookup, lpu_login_key(login));

	return entry != NULL && entry->found ? &entry->user : NULL;
}

/*
 * Return an error text, in the current memory context, if several users have the login; else NULL.
 * Which of them a request refers to is not known.
 */
char *
lpu_lookup_namesakes(const LpuListedUser *user)
{
	if (user->namesake == 0)
		return NULL;
	return psprintf("several users have this login: " INT64_FORMAT " and " INT64_FORMAT, user->id,
					user->namesake);
}

/* ----- the listing ----- */

/* Keep a user of the listing if its login was added.  A LpuTakeUser. */
static const char *
take_user(void *arg, LpuReader *reader)
{
	LpuLookup  *lookup = arg;
	const LpuValue *values = lpu_reader_values(reader);
	const char *login = lpu_value_text(&values[LOGIN_NAME]);
	const char *id = lpu_value_text(&values[ID]);
	SoughtLogin *entry;
	int64		user_id;

	if (lpu_value_is_true(&values[DELETED]))
		return NULL;
	if (login == NULL || id == NULL || !lpu_text_as_int64(id, &user_id) || user_id <= 0)
		return LPU_USER_UNNAMED;
	entry = find_key(lookup, lpu_login_fold_utf8(login));
	if (entry == NULL)
		return NULL;
	if (entry->found)
	{
		/* a list that changes while it is read may show a user twice */
		if (user_id != entry->user.id)
			entry->user.namesake = user_id;
		return NULL;
	}
	entry->found = true;
	entry->user.id = user_id;
	entry->user.enabled = lpu_value_is_true(&values[IS_ENABLED]);
	if (lookup->entities)
		entry->user.entity = MemoryContextStrdup(lookup->context, lpu_reader_whole(reader)->text);
	return NULL;
}

/* Attributes that the account returns as they were sent. */
static char *
entity_query(void)
{
	StringInfoData query;
	int			i;

	initStringInfo(&query);
	appendStringInfoString(&query, "&select=id,deleted");
	for (i = 0; i < lpu_nattributes; i++)
	{
		const LpuAttribute *def = &lpu_attributes[i];

		if ((def->rules & (LPU_SECRET | LPU_HIDDEN | LPU_READ_ONLY)) == 0)
			appendStringInfo(&query, ",%s%s", def->name,
							 def->kind == LPU_GROUP ||
							 def->kind == LPU_GROUPS ? "(agentGroupId)" : "");
	}
	return query.data;
}

/*
 * Start to list the account, to keep the users that were added.  revision: if positive, list only
 * if the account has changed since.  The options must stay valid until the listing has ended.
 * Deleting the lookup's memory context ends the listing, too.
 */
void
lpu_lookup_start(LpuLookup *lookup, const LpuOptions *options, int64 revision)
{
	MemoryContext caller = MemoryContextSwitchTo(lookup->context);
	LpuUserQuery *query = &lookup->query;

	query->query = lookup->entities ? entity_query() : "&select=id,loginName,deleted,isEnabled";
	query->revision = revision;
	query->names = attributes;
	query->nnames = lengthof(attributes);
	query->whole = lookup->entities;
	query->take = take_user;
	query->arg = lookup;
	lookup->listing = lpu_user_list_start(options, query);
	MemoryContextSwitchTo(caller);
}

/* Continue the listing, see lpu_user_list_done(). */
bool
lpu_lookup_done(LpuLookup *lookup, long *wait_ms)
{
	return lpu_user_list_done(lookup->listing, wait_ms);
}

/*
 * Return the result of a listing, and free it.  Texts of the result live as long as the lookup.
 * Another listing may be started then, which keeps further users. Needs a transaction.
 */
void
lpu_lookup_finish(LpuLookup *lookup, LpuListingResult *result)
{
	lpu_user_list_finish(lookup->listing, lookup->context, result);
	lookup->listing = NULL;
}
