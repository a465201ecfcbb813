/*
 * option.h: the options of a server, a user mapping, a foreign table or a column, as one struct.
 */
#ifndef LPU_OPTIONS_OPTION_H
#define LPU_OPTIONS_OPTION_H

#include "nodes/pg_list.h"

#include "base/error.h"

/* What a foreign table shows. */
typedef enum LpuResourceId
{
	LPU_USERS,
	LPU_SKILLS,
	LPU_PROFILES,
	LPU_AGENT_GROUPS,
	LPU_LOBS
} LpuResourceId;

/* Their names, as in the option "resource"; NULL after the last. */
extern const char *const lpu_resource_names[];

typedef struct LpuOptions
{
	Oid			server;
	Oid			mapping;
	Oid			owner;			/* of the server */
	Oid			party;			/* ... see known_server.h */
	Oid			payer;			/* role of the request of the queue, if it is
								 * one */
	uint64		generation;		/* of the catalogs' rows; higher in a later
								 * reading */
	char	   *server_name;	/* or that of the foreign table, if it has the
								 * options */

	/* server options, see the table in option.c and docs/reference.md */
	char	   *account;
	char	   *domain;
	char	   *base_url;
	char	   *domain_api_url;
	char	   *login_url;
	char	   *token_url;
	char	   *api_version;
	int			connect_timeout;	/* ms */
	int			timeout;		/* ms */
	int			batch_size;
	int			max_connections;
	double		rate_limit;		/* requests per second; 0: none */
	int			max_retries;
	int			max_response_size;	/* bytes */
	int			max_list_size;	/* kB */
	int			hold_above;
	bool		paused;			/* delivery 'paused' */
	bool		require_password;
	bool		if_match_required;	/* option if_match */
	int			updatable;		/* 0 or 1; of a foreign table -1: as its
								 * server */
	char	   *ca_file;
	char	   *proxy;

	/*
	 * user-mapping options, in UTF-8; of each secret the value or the name of
	 * a file that holds it
	 */
	char	   *client_id;
	char	   *client_secret;
	char	   *client_secret_file;
	char	   *token;
	char	   *token_file;
	char	   *username;
	char	   *password;
	char	   *password_file;
	char	   *proxy_user;
	char	   *proxy_password;
	char	   *proxy_password_file;

	/* options of a foreign table and of one of its columns */
	int			resource;		/* LpuResourceId, -1: not set */
	char	   *attribute;		/* or "*": the whole entity; NULL: after the
								 * column's name */
} LpuOptions;

/*
 * Return true if this text is an account id, [0-9A-Za-z_-]{1,64}. Anything else never reaches a
 * URL.
 */
extern bool lpu_account_is_valid(const char *account);

/* Fill in the defaults of all options. */
extern void lpu_options_set_defaults(LpuOptions *options);

/* A copy with strings of its own, in the current memory context. */
extern LpuOptions *lpu_options_copy(const LpuOptions *options);

/*
 * Read a list of DefElem as the catalog (its OID) holds it. NULL, or what is
 * wrong with one of them.
 */
extern LpuProblem *lpu_options_read(LpuOptions *options, List *list, Oid catalog);

#endif
