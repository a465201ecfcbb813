/*
 * login.c: a set of login names, upper and lower case alike.
 *
 * The names of an account of 100,000 users take some 10 MB here.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "common/hashfn.h"
#include "utils/formatting.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "user/login.h"

struct lpu_logins
{
	MemoryContext context;
	HTAB	   *names;			/* of char *, lower case */
};

static uint32
hash_name(const void *key, Size size)
{
	const char *name = *(char *const *) key;

	return hash_bytes((const unsigned char *) name, (int) strlen(name));
}

static int
compare_names(const void *a, const void *b, Size size)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

lpu_logins *
lpu_logins_new(void)
{
	HASHCTL		ctl = {.keysize = sizeof(char *), .entrysize = sizeof(char *), .hash = hash_name,
	.match = compare_names, .hcxt = CurrentMemoryContext};
	lpu_logins *logins = palloc(sizeof(lpu_logins));

	logins->context = CurrentMemoryContext;
	logins->names = hash_create("lpusers logins", 256, &ctl, HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
	return logins;
}

bool
lpu_logins_add(lpu_logins *logins, const char *login)
{
	MemoryContext caller = MemoryContextSwitchTo(logins->context);
	char	   *name = str_tolower(login, strlen(login), DEFAULT_COLLATION_OID);
	bool		found;

	(void) hash_search(logins->names, &name, HASH_ENTER, &found);
	if (found)
		pfree(name);
	MemoryContextSwitchTo(caller);
	return !found;
}

bool
lpu_logins_has(const lpu_logins *logins, const char *login)
{
	char	   *name = str_tolower(login, strlen(login), DEFAULT_COLLATION_OID);
	bool		found;

	(void) hash_search(logins->names, &name, HASH_FIND, &found);
	pfree(name);
	return found;
}
