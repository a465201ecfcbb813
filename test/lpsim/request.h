/*
 * request.h
 *	  A request: what a client sent, and questions to it.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_REQUEST_H
#define LPSIM_REQUEST_H

#include <json-c/json.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>
#include "text.h"

typedef struct Door
{
	bool		tls;
	int			port;
	int			fd;
	struct MHD_Daemon *daemon;
} Door;

/* One TCP connection.  It gets its number with its first request to the account. */
typedef struct Connection
{
	int64_t		number;
	int64_t		requests;
} Connection;

struct Entry;
struct Rule;

typedef struct Request
{
	char	   *uri;
	bool		begun;
	bool		too_large;
	bool		control;
	const Door *door;
	struct MHD_Connection *mhd;
	int			fd;
	char	   *method;
	char	   *path;
	char		arg[3][128];	/* what the stars of the route matched */
	Buf			body;
	json_object *json;
	const char *json_error;
	struct Entry *entry;		/* NULL for control requests */
	int64_t		nth;
	struct Rule *rule;
} Request;

extern const char *request_header(const Request *req, const char *name);
extern const char *request_parameter(const Request *req, const char *name);
extern size_t body_count(const Request *req);
extern json_object *body_item(const Request *req, size_t i);
extern bool content_is(const Request *req, const char *type);
extern const char *bearer_of(const Request *req);
extern char *form_get(const Request *req, const char *name);
extern bool form_is(const Request *req, const char *name, const char *value);
extern bool wants_deleted(const Request *req);

#endif
