/*
 * log.h
 *	  The log of requests to the account.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_LOG_H
#define LPSIM_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include "request.h"
#include "text.h"

/* One request in the log.  Kept by the log and by the request while it runs. */
typedef struct Entry
{
	int			refs;
	int64_t		seq;
	struct timespec at;
	char		method[16];
	char	   *path;
	char	   *query;
	unsigned	status;
	int64_t		connection;
	int64_t		nth;
	bool		tls;
	char		bearer[8];
	char	   *if_match;
	char	   *content_type;
	Buf			logins;			/* each followed by a NUL byte */
	Buf			ids;			/* of int64_t */
	Buf			made;			/* logins of users it created, each followed by a NUL byte */
	Buf			changed;		/* ids of users it changed or deleted, of int64_t */
	size_t		bytes_in;
	size_t		bytes_out;
	bool		applied;
	const char *fault;
} Entry;

typedef struct RequestLog
{
	Entry	  **entries;
	size_t		n;
} RequestLog;

extern RequestLog request_log;

extern void entry_release(Entry *e);
extern void log_clear(void);
extern Entry *log_request(const Request *req, Connection *c);
extern void log_users(Entry *e, const Request *req);
extern bool entry_has_login(const Entry *e, const char *login);
extern void put_entry(Buf *b, const Entry *e);
extern bool log_full(void);

#endif
