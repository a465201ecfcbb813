/*-------------------------------------------------------------------------
 *
 * shape.c
 *	  The bodies of errors.
 *
 * "flat" and "nested" are the two which are known of the service.  The others are what services
 * of this kind, and the gateways before them, are seen to send.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "json.h"
#include "shape.h"

/* The service's internal codes are not published: these are made up. */
static const struct
{
	unsigned	status;
	int			code;
	const char *name;
}			error_names[] = {
	{400, 23, "BAD_REQUEST"},
	{401, 16, "UNAUTHORIZED"},
	{403, 17, "FORBIDDEN"},
	{404, 30, "NOT_FOUND"},
	{405, 31, "METHOD_NOT_ALLOWED"},
	{409, 44, "CONFLICT"},
	{412, 45, "PRECONDITION_FAILED"},
	{413, 46, "REQUEST_ENTITY_TOO_LARGE"},
	{415, 47, "UNSUPPORTED_MEDIA_TYPE"},
	{429, 50, "TOO_MANY_REQUESTS"},
	{500, 1, "INTERNAL_SERVER_ERROR"},
	{503, 2, "SERVICE_UNAVAILABLE"},
};

/*
 * How each shape is written.  @M stands for the message as a JSON string, @m for the same as it
 * is, @F for the fields as an array, @O for an object of fields and messages, @T for the time, @C
 * for internal code and name of the status.
 */
static const struct
{
	const char *name;
	const char *type;
	const char *text;
}			shapes[] = {
	{"flat", "application/json", "{\"fields\":@F,\"time\":@T,\"message\":@M,@C}"},
	{"nested", "application/json", "{\"error\":{\"fields\":@F,\"time\":@T,\"message\":@M,@C}}"},
	{"message_array", "application/json", "{\"fields\":@F,\"message\":[@M],@C}"},
	{"message_object", "application/json", "{\"message\":{\"text\":@M},@C}"},
	{"errors", "application/json", "{\"errors\":[{\"fields\":@F,\"message\":@M,@C}]}"},
	{"errors_texts", "application/json", "{\"errors\":[@M]}"},
	{"fields_object", "application/json", "{\"fields\":@O,@C}"},
	{"nested_message", "application/json", "{\"error\":{\"message\":@M}}"},
	{"error_text", "application/json", "{\"error\":@M}"},
	{"oauth", "application/json", "{\"error\":\"invalid_request\",\"error_description\":@M}"},
	{"string", "application/json", "@M"},
	{"array", "application/json", "[{\"message\":@M,@C}]"},
	{"text", "text/plain; charset=utf-8", "@m"},
	{"html", "text/html", "<html><body><h1>@m</h1></body></html>\r\n"},
	{"empty", NULL, ""},
};

static void
put_fields(Buf *b, const Problem *p, bool object)
{
	const char *comma = "";

	buf_puts(b, object ? "{" : "[");
	for (const char *f = p->fields; *f; comma = ",")
	{
		size_t		n = strcspn(f, ",");

		buf_puts(b, comma);
		put_string(b, f, n);
		if (object)
		{
			buf_puts(b, ":");
			put_text(b, p->message);
		}
		f += n + (f[n] == ',');
	}
	if (object && *p->fields == '\0')
	{
		buf_puts(b, "\"user\":");
		put_text(b, p->message);
	}
	buf_puts(b, object ? "}" : "]");
}

static void
put_code(Buf *b, const Problem *p)
{
	size_t		i = 0;

	while (i < lengthof(error_names) && error_names[i].status != p->status)
		i++;
	buf_printf(b, "\"internalCode\":%d,\"responseStatus\":\"%s\"",
			   i < lengthof(error_names) ? error_names[i].code : 0,
			   i < lengthof(error_names) ? error_names[i].name : "UNKNOWN");
}

static void
put_part(Buf *b, const Problem *p, char part)
{
	char		date[32];

	switch (part)
	{
		case 'M':
			put_text(b, p->message);
			break;
		case 'm':
			buf_puts(b, p->message);
			break;
		case 'F':
			put_fields(b, p, false);
			break;
		case 'O':
			put_fields(b, p, true);
			break;
		case 'T':
			buf_printf(b, "\"%s\"", date_text(date));
			break;
		case 'C':
			put_code(b, p);
			break;
	}
}

/* Write the body of an error in one of the shapes.  Return its type, NULL for an empty one. */
const char *
put_shape(Buf *b, const Problem *p, const char *shape)
{
	size_t		i = lengthof(shapes) - 1;

	while (i > 0 && strcmp(shapes[i].name, shape) != 0)
		i--;
	buf_puts(b, "");
	for (const char *s = shapes[i].text; *s;)
	{
		size_t		n = strcspn(s, "@");

		buf_put(b, s, n);
		s += n;
		if (*s == '@')
		{
			put_part(b, p, s[1]);
			s += 2;
		}
	}
	return shapes[i].type;
}
