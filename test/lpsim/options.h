/*
 * options.h
 *	  The command line.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 */
#ifndef LPSIM_OPTIONS_H
#define LPSIM_OPTIONS_H

typedef struct Options
{
	int			port;
	int			tls_port;		/* -1: no TLS */
	const char *tls_cert;
	const char *tls_key;
	const char *listen;
	const char *account;
	int			users;
	const char *client_id;
	const char *client_secret;
	const char *token;
	const char *username;
	const char *password;
	int			token_ttl;
	int			delay;
	const char *url_file;
	int			max_age;
} Options;

extern Options opt;

extern void die(const char *fmt,...) printf_like(1, 2);
extern void help(void);
extern void options_read(int argc, char **argv);

#endif
