/*-------------------------------------------------------------------------
 *
 * tally.c
 *	  What requests to the account did, counted from the log.
 *
 * One question for a whole account: "was each login created exactly once?"
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "log.h"
#include "tally.h"

typedef struct Change
{
	int64_t		id;
	const char *method;
} Change;

static int
compare_texts(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static int
compare_changes(const void *a, const void *b)
{
	const Change *x = a;
	const Change *y = b;

	return x->id != y->id ? (x->id < y->id ? -1 : 1) : strcmp(x->method, y->method);
}

/*
 * For each login, as it was sent, how many POSTs created a user with it.  "login": only this one;
 * "not": only those whose number is another.
 */
void
control_posts(Request *req, Answer *ans)
{
	const char *login = request_parameter(req, "login");
	const char *text = request_parameter(req, "not");
	int64_t		not = -1;
	Buf			list = {0};
	Buf			b = {0};
	char	  **logins;
	size_t		n;

	if (text && !parse_int64(text, &not))
	{
		answer_text(ans, 400, "not is no number: %s\n", text);
		return;
	}
	for (size_t i = 0; i < request_log.n; i++)
	{
		const Buf  *made = &request_log.entries[i]->made;

		for (char *s = made->data; s < made->data + made->len; s += strlen(s) + 1)
			if (login == NULL || strcmp(s, login) == 0)
				buf_put(&list, &s, sizeof(s));
	}
	logins = (char **) list.data;
	n = list.len / sizeof(char *);
	if (n > 0)
		qsort(logins, n, sizeof(char *), compare_texts);
	buf_puts(&b, "{");
	for (size_t i = 0, to; i < n; i = to)
	{
		for (to = i + 1; to < n && strcmp(logins[to], logins[i]) == 0; to++)
			continue;
		if ((int64_t) (to - i) == not)
			continue;
		buf_puts(&b, b.len > 1 ? ",\n" : "");
		put_text(&b, logins[i]);
		buf_printf(&b, ":%zu", to - i);
	}
	buf_puts(&b, "}");
	free(list.data);
	answer_json(ans, 200, &b);
}

/* For each id, how many requests of each method changed this user. */
void
control_changes(Request *req, Answer *ans)
{
	const char *text = request_parameter(req, "id");
	int64_t		only = 0;
	Buf			list = {0};
	Buf			b = {0};
	Change	   *changes;
	size_t		n;

	if (text && !parse_int64(text, &only))
	{
		answer_text(ans, 400, "id is no number: %s\n", text);
		return;
	}
	for (size_t i = 0; i < request_log.n; i++)
	{
		const Entry *e = request_log.entries[i];
		Change		change = {0, strstr(e->path, "/resetPassword") ? "resetPassword" : e->method};

		for (size_t at = 0; at < e->changed.len; at += sizeof(int64_t))
		{
			memcpy(&change.id, e->changed.data + at, sizeof(int64_t));
			if (text == NULL || change.id == only)
				buf_put(&list, &change, sizeof(change));
		}
	}
	changes = (Change *) list.data;
	n = list.len / sizeof(Change);
	if (n > 0)
		qsort(changes, n, sizeof(Change), compare_changes);
	buf_puts(&b, "{");
	for (size_t i = 0, to; i < n; i = to)
	{
		bool		next = i > 0 && changes[i - 1].id == changes[i].id;

		for (to = i + 1; to < n && compare_changes(&changes[to], &changes[i]) == 0; to++)
			continue;
		if (!next)
			buf_printf(&b, "%s\"%" PRId64 "\":{", i > 0 ? "},\n" : "", changes[i].id);
		buf_printf(&b, "%s\"%s\":%zu", next ? "," : "", changes[i].method, to - i);
	}
	buf_puts(&b, n > 0 ? "}}" : "}");
	free(list.data);
	answer_json(ans, 200, &b);
}
