/*-------------------------------------------------------------------------
 *
 * leak.c
 *	  Errors which repeat the secrets of the request.
 *
 * JSON can write one text in many ways; a client which hides secrets must find them in each.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "action.h"
#include "json.h"
#include "leak.h"

/* Texts, each followed by a NUL byte. */
static void
note_secret(Buf *secrets, const char *text)
{
	if (text && *text)
		buf_put(secrets, text, strlen(text) + 1);
}

/* The strings whose name speaks of a secret, at any depth. */
static void
find_secrets(Buf *secrets, json_object *v, const char *name)
{
	if (json_object_is_type(v, json_type_array))
		for (size_t i = 0; i < json_object_array_length(v); i++)
			find_secrets(secrets, json_object_array_get_idx(v, i), name);
	else if (json_object_is_type(v, json_type_object))
	{
		json_object_object_foreach(v, member, value)
			find_secrets(secrets, value, member);
	}
	else if (json_object_is_type(v, json_type_string) &&
			 (strcasestr(name, "password") || strcasestr(name, "secret")))
		note_secret(secrets, json_object_get_string(v));
}

/* Write one character of a JSON string. */
static void
put_encoded_char(Buf *b, uint32_t c, const char *encoding, size_t place)
{
	const char *format = strcmp(encoding, "upper") == 0 ? "\\u%04X" : "\\u%04x";
	bool		mixed = strcmp(encoding, "mixed") == 0;
	char		plain = c;

	if (strcmp(encoding, "slash") == 0 || (mixed && place % 2))
	{
		if (c == '/')
			buf_puts(b, "\\/");
		else if (c < 0x80)
			buf_printf(b, "%s%c", c == '"' || c == '\\' ? "\\" : "", plain);
		else
			utf8_put(b, c);
		return;
	}
	if (c >= 0x10000)
	{
		buf_printf(b, format, 0xD800 + ((c - 0x10000) >> 10));
		c = 0xDC00 + ((c - 0x10000) & 0x3FF);
	}
	buf_printf(b, format, c);
}

/* Write "body" with each occurrence of the secret, as put_string() writes it, in the encoding. */
static void
encode_secret(Buf *body, const char *secret, const char *encoding)
{
	Buf			plain = {0};
	Buf			encoded = {0};
	Buf			out = {0};
	const char *from = body->data;
	const char *at;
	size_t		place = 0;

	put_string(&plain, secret, strlen(secret));
	plain.data[--plain.len] = '\0';
	for (const char *s = secret; *s;)
		put_encoded_char(&encoded, utf8_read(&s), encoding, place++);
	while ((at = strstr(from, plain.data + 1)) != NULL)
	{
		buf_put(&out, from, at - from);
		buf_put(&out, encoded.data, encoded.len);
		from = at + plain.len - 1;
	}
	buf_puts(&out, from);
	free(body->data);
	free(plain.data);
	free(encoded.data);
	*body = out;
}

/* An error whose message holds the bearer token, passwords and client_secret. */
void
act_leak(Request *req, Answer *ans, const Action *action)
{
	const char *encoding = rule_text(req, "encoding", "plain");
	char	   *client_secret = form_get(req, "client_secret");
	Buf			secrets = {0};
	Buf			message = {0};
	Buf			body = {0};
	const char *end;

	note_secret(&secrets, bearer_of(req));
	note_secret(&secrets, client_secret);
	find_secrets(&secrets, req->json, "");
	free(client_secret);
	buf_puts(&message, "refused:");
	end = secrets.data + secrets.len;
	for (const char *s = secrets.data; s < end; s += strlen(s) + 1)
		buf_printf(&message, " [%s]", s);
	{
		Problem		p = {0};

		problem(&p, rule_int(req, "status", action->status), "", "%s", message.data);
		answer_problem(ans, &p);
	}
	buf_put(&body, ans->body->data, ans->body->len);
	if (strcmp(encoding, "plain") != 0)
		for (const char *s = secrets.data; s < end; s += strlen(s) + 1)
			encode_secret(&body, s, encoding);
	substitute(ans, 0, ans->type, body_from(&body));
	free(secrets.data);
	free(message.data);
}
