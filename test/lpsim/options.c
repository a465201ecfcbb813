/*-------------------------------------------------------------------------
 *
 * options.c
 *	  The command line.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "action.h"
#include "config.h"
#include "control.h"
#include "leak.h"
#include "misname.h"
#include "options.h"
#include "text.h"

#define LPSIM_VERSION	"1.0"

Options		opt = {
	.tls_port = -1, .listen = "127.0.0.1", .account = "12345678",
	.client_id = "lp-client", .client_secret = "lp-client-secret", .token = "lp-token",
	.username = "lp-user", .password = "lp-user-password", .token_ttl = 3600, .max_age = 3600
};

/* Say why, and end the program with status 2. */
void
die(const char *fmt,...)
{
	va_list		args;

	fputs("lpsim: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

static const struct option long_options[] = {
	{"port", required_argument, NULL, 'p'},
	{"tls-port", required_argument, NULL, 's'},
	{"tls-cert", required_argument, NULL, 'c'},
	{"tls-key", required_argument, NULL, 'k'},
	{"listen", required_argument, NULL, 'l'},
	{"account", required_argument, NULL, 'a'},
	{"users", required_argument, NULL, 'n'},
	{"client-id", required_argument, NULL, 'i'},
	{"client-secret", required_argument, NULL, 'S'},
	{"token", required_argument, NULL, 't'},
	{"username", required_argument, NULL, 'u'},
	{"password", required_argument, NULL, 'w'},
	{"token-ttl", required_argument, NULL, 'T'},
	{"delay", required_argument, NULL, 'd'},
	{"url-file", required_argument, NULL, 'f'},
	{"max-age", required_argument, NULL, 'm'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0}
};

/* Where the value of each option goes: a number up to "max", or a text. */
static const struct
{
	int			code;
	int		   *number;
	int			max;
	const char **text;
}			option_targets[] = {
	{'p', &opt.port, 65535, NULL},
	{'s', &opt.tls_port, 65535, NULL},
	{'c', NULL, 0, &opt.tls_cert},
	{'k', NULL, 0, &opt.tls_key},
	{'l', NULL, 0, &opt.listen},
	{'a', NULL, 0, &opt.account},
	{'n', &opt.users, 1000000, NULL},
	{'i', NULL, 0, &opt.client_id},
	{'S', NULL, 0, &opt.client_secret},
	{'t', NULL, 0, &opt.token},
	{'u', NULL, 0, &opt.username},
	{'w', NULL, 0, &opt.password},
	{'T', &opt.token_ttl, INT_MAX, NULL},
	{'d', &opt.delay, INT_MAX, NULL},
	{'f', NULL, 0, &opt.url_file},
	{'m', &opt.max_age, INT_MAX, NULL},
};

static const char help_head[] =
"lpsim is a LivePerson account to try lpusers against.\n"
"\n"
"Usage:\n"
"  lpsim [OPTION]...                      serve until interrupted\n"
"  lpsim [OPTION]... -- COMMAND [ARG]...  serve while the command runs\n"
"\n"
"Options:\n"
"  --port N             plain HTTP port (default 0: a free one)\n"
"  --tls-port N         HTTPS port, 0: a free one (default: no HTTPS)\n"
"  --tls-cert FILE      certificate for it, PEM\n"
"  --tls-key FILE       private key for it, PEM\n"
"  --listen ADDRESS     a loopback address (default 127.0.0.1)\n"
"  --account ID         account id (default 12345678); '*': every id is this account\n"
"  --users N            so many users agent00001... are there from the start\n"
"  --client-id ID, --client-secret SECRET\n"
"                       OAuth 2.0 client (default lp-client, lp-client-secret)\n"
"  --token TOKEN        a bearer token which is always valid (default lp-token)\n"
"  --username NAME, --password PASSWORD\n"
"                       for the Login service (default lp-user, lp-user-password)\n"
"  --token-ttl SECONDS  life of issued tokens (default 3600; Login: eight hours)\n"
"  --delay MS           every request to the account takes so long\n"
"  --url-file FILE      write the plain URL and, below it, the TLS URL here\n"
"  --max-age SECONDS    end by itself after this time (default 3600)\n"
"  --help, --version\n"
"\n"
"The command finds LPSIM_URL, LPSIM_TLS_URL, LPSIM_ACCOUNT, LPSIM_PORT and\n"
"LPSIM_TLS_PORT in its environment; lpsim exits with its status, or with 124\n"
"when the time of --max-age was over.\n"
"\n"
"Control requests (no authentication; neither logged, counted nor delayed):\n";

static const char help_rules[] =
"\n"
"A fault is an object of an action, its parameters, and what it strikes:\n"
"  method, path (a part of it), login (in the body), kept_only (not the first\n"
"  request of a connection), skip (so many first), times (default 1, 0: always).\n"
"The first rule which matches strikes.  A struck request is carried out before\n"
"the fault only with \"applied\": true, but \"delay\", \"hold\", \"drip\", \"stall\", \"shape\"\n"
"and \"meddle\" always, unless \"applied\" is false (then: 503).  Where a fault distorts\n"
"the usual answer to a change which is not carried out, that answer is a success\n"
"which is not true.\n"
"\"shape\" is one of those of error_shape, above; \"encoding\" one of\n"
"  " ENCODINGS "\n"
"\"form\" one of\n"
"  " MISNAMES "\n"
"\"user\" (a login, an id, or \"*\": those whom the request names), \"set\" (attributes) and\n"
"\"delete\" say what another client writes; without them it only raises the revision.\n"
"Actions (and their parameters; numbers below are defaults):\n";

static const char help_example[] =
"\n"
"Example: the next POST is carried out, but its answer never comes.\n"
"  curl -d '{\"method\":\"POST\",\"path\":\"/users\",\"action\":\"reset\",\"applied\":true}' \\\n"
"       http://127.0.0.1:PORT/_sim/faults\n";

void
help(void)
{
	fputs(help_head, stdout);
	control_help();
	fputs("\nConfiguration (POST /_sim/config takes an object of some of these):\n", stdout);
	config_help();
	fputs(help_rules, stdout);
	action_help();
	fputs(help_example, stdout);
}

static void
option_set(int code, const char *value)
{
	size_t		i = 0;
	int64_t		n;

	while (i < lengthof(option_targets) && option_targets[i].code != code)
		i++;
	if (i == lengthof(option_targets))
		die("try --help");
	if (option_targets[i].text)
		*option_targets[i].text = value;
	else if (!parse_int64(value, &n) || n < 0 || n > option_targets[i].max)
		die("not a number from 0 to %d: %s", option_targets[i].max, value);
	else
		*option_targets[i].number = (int) n;
}

/* Read the command line; what is wrong with it ends the program. */
void
options_read(int argc, char **argv)
{
	int			code;

	/* "+": the command's own options are not ours */
	while ((code = getopt_long(argc, argv, "+", long_options, NULL)) != -1)
	{
		if (code == 'h')
			help();
		else if (code == 'V')
			printf("lpsim %s\n", LPSIM_VERSION);
		else
			option_set(code, optarg);
		if (code == 'h' || code == 'V')
			exit(0);
	}
	if (opt.tls_port >= 0 && (opt.tls_cert == NULL || opt.tls_key == NULL))
		die("--tls-port needs --tls-cert and --tls-key");
	if (strcmp(opt.listen, "localhost") == 0)
		opt.listen = "127.0.0.1";
}
