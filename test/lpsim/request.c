/*-------------------------------------------------------------------------
 *
 * request.c
 *	  A request: what a client sent, and questions to it.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "request.h"

/* Return a header, or NULL. */
const char *
request_header(const Request *req, const char *name)
{
	return MHD_lookup_connection_value(req->mhd, MHD_HEADER_KIND, name);
}

/* Return a parameter of the query, decoded, or NULL. */
const char *
request_parameter(const Request *req, const char *name)
{
	return MHD_lookup_connection_value(req->mhd, MHD_GET_ARGUMENT_KIND, name);
}

/* The elements of a body which is one thing or an array of them. */
size_t
body_count(const Request *req)
{
	bool		array = json_object_is_type(req->json, json_type_array);

	return array ? json_object_array_length(req->json) : 1;
}

/* Return an element of a body which is one thing or an array of them; it belongs to the body. */
json_object *
body_item(const Request *req, size_t i)
{
	bool		array = json_object_is_type(req->json, json_type_array);

	return array ? json_object_array_get_idx(req->json, i) : req->json;
}

/* Return true if the body is said to be of this type. */
bool
content_is(const Request *req, const char *type)
{
	const char *text = request_header(req, "Content-Type");
	size_t		n = strlen(type);

	return text && strncasecmp(text, type, n) == 0 && strchr("; ", text[n]) != NULL;
}

/* Return the bearer token of a request, or NULL. */
const char *
bearer_of(const Request *req)
{
	const char *text = request_header(req, "Authorization");

	if (text == NULL || strncasecmp(text, "Bearer ", 7) != 0)
		return NULL;
	return text + 7 + strspn(text + 7, " ");
}

/* Return the decoded value of a field of the form, the caller's to free, or NULL. */
char *
form_get(const Request *req, const char *name)
{
	const char *s = req->body.data ? req->body.data : "";
	size_t		n = strlen(name);
	Buf			b = {0};

	while (*s && !(strncmp(s, name, n) == 0 && s[n] == '='))
		s += strcspn(s, "&") + (s[strcspn(s, "&")] == '&');
	if (*s == '\0')
		return NULL;
	buf_puts(&b, "");
	for (s += n + 1; *s && *s != '&'; s++)
	{
		char		c = *s == '+' ? ' ' : *s;

		if (c == '%' && hex_value(s[1]) >= 0 && hex_value(s[2]) >= 0)
		{
			c = hex_value(s[1]) * 16 + hex_value(s[2]);
			s += 2;
		}
		buf_put(&b, &c, 1);
	}
	return b.data;
}

/* Return true if the form has this field with this value. */
bool
form_is(const Request *req, const char *name, const char *value)
{
	char	   *text = form_get(req, name);
	bool		same = text && strcmp(text, value) == 0;

	free(text);
	return same;
}

/* Return true if deleted users are asked for, too. */
bool
wants_deleted(const Request *req)
{
	const char *text = request_parameter(req, "include_deleted");

	return text && strcasecmp(text, "true") == 0;
}
