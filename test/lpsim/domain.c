/*-------------------------------------------------------------------------
 *
 * domain.c
 *	  The Domain API: where each service is.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "domain.h"
#include "json.h"
#include "options.h"

static const char *const services[] = {"accountConfigReadWrite", "accountConfigReadOnly",
									   "agentVep", "sentinel"};

/* Every service is this server, reached as the request reached it. */
static void
put_service(Buf *b, const Request *req, const char *service)
{
	const char *host = request_header(req, "Host");
	const char *fixed = config_text("domain_answer");
	bool		named = host && strncmp(host, "localhost", 9) == 0;
	bool		v6 = strchr(opt.listen, ':') != NULL;

	buf_printf(b, "{\"service\":\"%s\",\"account\":\"%s\",\"baseURI\":", service, opt.account);
	if (fixed)
		put_text(b, fixed);
	else
		buf_printf(b, "\"%s%s%s:%d\"", v6 && !named ? "[" : "", named ? "localhost" : opt.listen,
				   v6 && !named ? "]" : "", req->door->port);
	buf_put(b, "}", 1);
}

/* The Domain API: one service, or all. */
void
domains_get(Request *req, Answer *ans)
{
	const char *wanted = req->arg[1];
	bool		many = wanted[0] == '\0' || config_is("domain_shape", "many");
	int			found = 0;
	Buf			b = {0};

	if (request_parameter(req, "version") == NULL)
	{
		answer_error(ans, 400, "the query lacks version=1.0");
		return;
	}
	buf_puts(&b, many ? "{\"baseURIs\":[" : "");
	for (size_t i = 0; i < lengthof(services); i++)
	{
		if (*wanted && strcmp(wanted, services[i]) != 0)
			continue;
		buf_puts(&b, found++ ? "," : "");
		put_service(&b, req, services[i]);
	}
	buf_puts(&b, many ? "]}" : "");
	if (found)
		answer_json(ans, 200, &b);
	else
		answer_error(ans, 404, "no such service: %s", wanted);
	free(b.data);
}
