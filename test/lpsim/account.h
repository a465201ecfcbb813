/*
 * account.h
 *	  The account: its users, their ids and logins, the revision.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_ACCOUNT_H
#define LPSIM_ACCOUNT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "entity.h"

typedef struct User
{
	int64_t		id;
	bool		deleted;
	char	   *key;			/* login in lower case */
	Entity	   *entity;
	char	   *text;			/* as last listed ... */
	size_t		textlen;
	unsigned	text_view;		/* ... in the view with this number */
	struct User *id_next;
	struct User *login_next;	/* deleted ones, too */
} User;

typedef struct Account
{
	int64_t		revision;
	int64_t		next_id;
	int64_t		created;		/* by POST, since the last reset */
	User	  **users;			/* in order of creation */
	size_t		nusers;
}			Account;

extern Account account;

extern char *login_key(const char *login);
extern User *user_by_id(int64_t id);
extern User *user_by_key(const char *key, const User *after);
extern User *user_add(int64_t id, json_object *entity);
extern void user_drop_last(void);
extern Entity *user_swap(User *u, Entity *entity, const char *login, bool deleted);
extern User *user_create(json_object *in, Problem *p);
extern Entity *user_replace(User *u, json_object *in, Problem *p);
extern void user_patch(User *u, const char *name, json_object *value);
extern void users_clear(void);
extern void users_generate(int n);

#endif
