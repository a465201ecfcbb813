/*-------------------------------------------------------------------------
 *
 * account.c
 *	  The account: its users, their ids and logins, the revision.
 *
 * It keeps everything in memory; the state itself is left to exit().
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account.h"
#include "clock.h"
#include "config.h"
#include "json.h"

/* Real ids exceed 32 bits; a client which forgets that shall notice. */
#define FIRST_ID		INT64_C(4000000001)

Account		account;
static size_t users_room;

static struct
{
	User	  **by_id;
	User	  **by_login;
	size_t		buckets;		/* of both, a power of two */
}			hash;

static size_t
hash_id(int64_t id)
{
	return ((uint64_t) id * UINT64_C(0x9E3779B97F4A7C15)) >> 20;
}

static size_t
hash_login(const char *key)
{
	uint64_t	h = UINT64_C(14695981039346656037);

	while (*key)
		h = (h ^ (unsigned char) *key++) * UINT64_C(1099511628211);
	return h;
}

/* Return the form in which logins are compared (ASCII lower case), the caller's to free. */
char *
login_key(const char *login)
{
	char	   *key = copy_text(login ? login : "");

	for (char *p = key; *p; p++)
		*p = tolower((unsigned char) *p);
	return key;
}

static void
index_login(User *u)
{
	User	  **slot = &hash.by_login[hash_login(u->key) & (hash.buckets - 1)];

	u->login_next = *slot;
	*slot = u;
}

static void
unindex_login(User *u)
{
	User	  **slot = &hash.by_login[hash_login(u->key) & (hash.buckets - 1)];

	while (*slot && *slot != u)
		slot = &(*slot)->login_next;
	if (*slot)
		*slot = u->login_next;
}

static void
index_id(User *u)
{
	User	  **slot = &hash.by_id[hash_id(u->id) & (hash.buckets - 1)];

	u->id_next = *slot;
	*slot = u;
}

static void
unindex_id(User *u)
{
	User	  **slot = &hash.by_id[hash_id(u->id) & (hash.buckets - 1)];

	while (*slot && *slot != u)
		slot = &(*slot)->id_next;
	if (*slot)
		*slot = u->id_next;
}

static void
index_grow(void)
{
	if (account.nusers < hash.buckets)
		return;
	hash.buckets = hash.buckets ? hash.buckets * 4 : 1024;
	free(hash.by_id);
	free(hash.by_login);
	hash.by_id = need(calloc(hash.buckets, sizeof(User *)));
	hash.by_login = need(calloc(hash.buckets, sizeof(User *)));
	for (size_t i = 0; i < account.nusers; i++)
	{
		index_id(account.users[i]);
		index_login(account.users[i]);
	}
}

/* Deleted ones too. */
User *
user_by_id(int64_t id)
{
	User	   *u = hash.buckets ? hash.by_id[hash_id(id) & (hash.buckets - 1)] : NULL;

	while (u && u->id != id)
		u = u->id_next;
	return u;
}

/* Only those not deleted.  "after" walks on to the next one with the same login. */
User *
user_by_key(const char *key, const User *after)
{
	User	   *u = after ? after->login_next :
		hash.buckets ? hash.by_login[hash_login(key) & (hash.buckets - 1)] : NULL;

	while (u && (u->deleted || strcmp(u->key, key) != 0))
		u = u->login_next;
	return u;
}

User *
user_add(int64_t id, json_object *entity)
{
	User	   *u = need(calloc(1, sizeof(User)));

	index_grow();
	if (account.nusers == users_room)
	{
		users_room = users_room ? users_room * 2 : 1024;
		account.users = need(realloc(account.users, users_room * sizeof(User *)));
	}
	u->id = id;
	u->deleted = json_object_get_boolean(json_member(entity, "deleted"));
	u->key = login_key(json_object_get_string(json_member(entity, "loginName")));
	u->entity = entity_build(entity);
	account.users[account.nusers++] = u;
	index_id(u);
	index_login(u);
	if (id >= account.next_id)
		account.next_id = id + 1;
	return u;
}

static void
user_free(User *u)
{
	free(u->key);
	free(u->entity);
	free(u->text);
	free(u);
}

/* Takes back the youngest user: half of a bulk create which failed. */
void
user_drop_last(void)
{
	User	   *u = account.users[--account.nusers];

	unindex_id(u);
	unindex_login(u);
	user_free(u);
}

/*
 * Gives the user another content; returns the former, which is the caller's to free or to put
 * back.
 */
Entity *
user_swap(User *u, Entity *entity, const char *login, bool deleted)
{
	Entity	   *old = u->entity;

	unindex_login(u);
	free(u->key);
	free(u->text);
	u->text = NULL;
	u->key = login_key(login);
	u->entity = entity;
	u->deleted = deleted;
	index_login(u);
	return old;
}

/* Return true if this is the login of a user who was deleted and such logins are reserved. */
static bool
is_reserved(const char *key, const User *self)
{
	User	   *u = hash.buckets ? hash.by_login[hash_login(key) & (hash.buckets - 1)] : NULL;

	if (!config_bool("reserve_deleted"))
		return false;
	while (u && (!u->deleted || u == self || strcmp(u->key, key) != 0))
		u = u->login_next;
	return u != NULL;
}

static bool
check_unique(json_object *user, const User *self, Problem *p)
{
	const char *login = json_object_get_string(json_member(user, "loginName"));
	char	   *key = login_key(login);
	User	   *other = user_by_key(key, NULL);
	bool		reserved;

	if (other && other == self)
		other = user_by_key(key, other);
	reserved = is_reserved(key, self);
	free(key);
	if ((other || reserved) && config_bool("unique"))
		return problem(p, config_int("conflict_status"), "loginName", "loginName exists: %s",
					   login);
	return true;
}

User *
user_create(json_object *in, Problem *p)
{
	json_object *user = user_accept(in, NULL, account.next_id, p);
	User	   *u = NULL;

	if (user && check_unique(user, NULL, p))
		u = user_add(account.next_id, user);
	json_object_put(user);
	return u;
}

/* Returns the former content, or NULL with a problem. */
Entity *
user_replace(User *u, json_object *in, Problem *p)
{
	json_object *old = entity_json(u->entity);
	json_object *user = user_accept(in, old, u->id, p);
	Entity	   *former = NULL;

	if (user && check_unique(user, u, p))
		former = user_swap(u, entity_build(user),
						   json_object_get_string(json_member(user, "loginName")), false);
	json_object_put(user);
	json_object_put(old);
	return former;
}

/* Sets single attributes; what the service does by itself. */
void
user_patch(User *u, const char *name, json_object *value)
{
	json_object *user = entity_json(u->entity);
	char		date[32];

	json_object_object_add(user, name, value);
	if (strcmp(name, "passwordSh") == 0)
		set_text(user, "lastPwdChangeDate", date_text(date));
	set_text(user, "dateUpdated", date_text(date));
	free(user_swap(u, entity_build(user), json_object_get_string(json_member(user, "loginName")),
				   json_object_get_boolean(json_member(user, "deleted"))));
	json_object_put(user);
}

/* Remove all users and begin again at the first id and revision. */
void
users_clear(void)
{
	for (size_t i = 0; i < account.nusers; i++)
		user_free(account.users[i]);
	account.nusers = 0;
	if (hash.buckets)
	{
		memset(hash.by_id, 0, hash.buckets * sizeof(User *));
		memset(hash.by_login, 0, hash.buckets * sizeof(User *));
	}
	account.next_id = FIRST_ID;
	account.created = 0;
	account.revision = 1;
}

/* The users who are there from the start: agents of one group. */
void
users_generate(int n)
{
	Problem		p = {0};

	for (int i = 1; i <= n; i++)
	{
		char		text[600];
		json_object *in;

		snprintf(text, sizeof(text),
				 "{\"loginName\":\"agent%05d\",\"fullName\":\"Agent %05d\","
				 "\"nickname\":\"agent%05d\",\"email\":\"agent%05d@example.com\","
				 "\"passwordSh\":\"password%05d\",\"isEnabled\":true,"
				 "\"maxChats\":4,\"profileIds\":[1002],\"skillIds\":[3001,3002],\"lobIds\":[],"
				 "\"memberOf\":{\"agentGroupId\":2001},\"managerOf\":[],"
				 "\"changePwdNextLogin\":false,"
				 "\"employeeId\":\"E%05d\"}", i, i, i, i, i, i);
		in = json_own(text);
		user_create(in, &p);
		json_object_put(in);
	}
}
