/*-------------------------------------------------------------------------
 *
 * main.c
 *	  A LivePerson account to try lpusers against, without an account.
 *
 * A small HTTP/1.1 server on the loopback interface which answers as the LivePerson Users API
 * does: users, their neighbours (skills, profiles, agent groups, lines of business), the Domain
 * API and both token services.  It misbehaves on request, and it writes down every request, so
 * that a test can ask "how many POSTs carried this login?".  "lpsim --help" lists the options
 * and the control interface below /_sim/.
 *
 * What it does not know: permissions of single users, password policy beyond the length, limits
 * of a licence, gzip.
 *
 * From the ground up: text, clock, json; options, config; request, answer; attribute, entity,
 * account, view, listing, users_api, neighbour, domain, auth, route; log, action, fault,
 * control; send, http; main.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "control.h"
#include "http.h"
#include "options.h"

/* Tells the command, the file and, without a command, the terminal where the account is. */
static void
announce(bool command)
{
	Buf			urls = {0};

	for (size_t i = 0; i < lengthof(doors) && doors[i].daemon; i++)
	{
		char		port[16];
		Buf			url = {0};

		put_url(&url, &doors[i]);
		snprintf(port, sizeof(port), "%d", doors[i].port);
		setenv(doors[i].tls ? "LPSIM_TLS_URL" : "LPSIM_URL", url.data, 1);
		setenv(doors[i].tls ? "LPSIM_TLS_PORT" : "LPSIM_PORT", port, 1);
		buf_printf(&urls, "%s\n", url.data);
		free(url.data);
	}
	setenv("LPSIM_ACCOUNT", opt.account, 1);
	if (opt.url_file)
	{
		Buf			temporary = {0};
		FILE	   *f;

		buf_printf(&temporary, "%s.%d", opt.url_file, (int) getpid());
		f = fopen(temporary.data, "we");
		if (f == NULL || fputs(urls.data, f) < 0 || fclose(f) != 0 ||
			rename(temporary.data, opt.url_file) != 0)
			die("cannot write %s: %s", opt.url_file, strerror(errno));
		free(temporary.data);
	}
	if (!command)
	{
		printf("account %s\n%s", opt.account, urls.data);
		fflush(stdout);
	}
	free(urls.data);
}

/* The command gets the signal mask we were started with; our sockets close on exec. */
static pid_t
command_start(char **argv, const sigset_t *mask)
{
	posix_spawnattr_t attr;
	sigset_t	pipe_only;
	pid_t		pid;
	int			err;

	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, mask);
	posix_spawnattr_setsigdefault(&attr, &pipe_only);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	err = posix_spawnp(&pid, argv[0], NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	if (err)
	{
		fprintf(stderr, "lpsim: cannot run %s: %s\n", argv[0], strerror(err));
		exit(127);
	}
	return pid;
}

/* Waits for a signal, the end of the command, or of the time.  Returns the exit status. */
static int
wait_for_end(pid_t command, const sigset_t *signals)
{
	double		end = now_monotonic() + opt.max_age;
	int			status;

	for (;;)
	{
		double		left = fmax(end - now_monotonic(), 0);
		struct timespec ts = {(time_t) left, (long) ((left - floor(left)) * 1e9)};
		int			sig = sigtimedwait(signals, NULL, &ts);

		if (command && waitpid(command, &status, WNOHANG) == command)
			return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
		if (sig > 0 && sig != SIGCHLD)
		{
			if (!command)
				return 0;
			kill(command, sig);
		}
		else if (sig < 0 && errno == EAGAIN && end <= now_monotonic())
		{
			if (!command)
				return 0;
			kill(command, SIGTERM);
			return 124;
		}
	}
}

int
main(int argc, char **argv)
{
	sigset_t	signals;
	sigset_t	before;
	pid_t		command = 0;
	int			status;

	options_read(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &signals, &before);

	stop_fd = eventfd(0, EFD_CLOEXEC);
	sim_reset();
	door_open(&doors[0], opt.port);
	doors[1].tls = opt.tls_port >= 0;
	if (doors[1].tls)
		door_open(&doors[1], opt.tls_port);
	announce(optind < argc);
	if (optind < argc)
		command = command_start(argv + optind, &before);

	status = wait_for_end(command, &signals);

	/* Wake the sleepers; the library then ends every connection. */
	eventfd_write(stop_fd, 1);
	for (size_t i = 0; i < lengthof(doors) && doors[i].daemon; i++)
		MHD_stop_daemon(doors[i].daemon);
	return status;
}
