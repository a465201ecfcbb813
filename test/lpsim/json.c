/*-------------------------------------------------------------------------
 *
 * json.c
 *	  JSON: reading by json-c, writing by hand.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

/* A user is three levels deep; more is nonsense, and recursion must end. */
#define MAX_DEPTH		32

/* The text must be followed by a NUL byte.  Returns NULL with a reason, or for the text "null". */
json_object *
json_parse(const char *text, size_t len, const char **why)
{
	struct json_tokener *tok = need(json_tokener_new_ex(MAX_DEPTH));
	json_object *o;

	/* json-c 0.18, when strict, refuses what is not ASCII: its issue 875 */
	json_tokener_set_flags(tok, JSON_TOKENER_VALIDATE_UTF8 |
						   (json_c_version_num() == 18 << 8 ? 0 : JSON_TOKENER_STRICT));
	o = json_tokener_parse_ex(tok, text, (int) len + 1);
	*why = NULL;
	if (json_tokener_get_error(tok) != json_tokener_success)
		*why = json_tokener_error_desc(json_tokener_get_error(tok));
	else if (memchr(text, '\0', len))
		*why = "NUL byte in the text";
	json_tokener_free(tok);
	if (*why)
	{
		json_object_put(o);
		o = NULL;
	}
	return o;
}

/* For texts this program wrote itself. */
json_object *
json_own(const char *text)
{
	const char *why;
	json_object *o = json_parse(text, strlen(text), &why);

	if (why)
	{
		fprintf(stderr, "lpsim: %s in: %s\n", why, text);
		abort();
	}
	return o;
}

/* Return a member of an object, NULL if it is null or absent or "o" is no object. */
json_object *
json_member(json_object *o, const char *name)
{
	json_object *value = NULL;

	if (json_object_is_type(o, json_type_object))
		json_object_object_get_ex(o, name, &value);
	return value;
}

/* Write a JSON string. */
void
put_string(Buf *b, const char *s, size_t len)
{
	size_t		from = 0;

	buf_put(b, "\"", 1);
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = s[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		buf_put(b, s + from, i - from);
		if (c < 0x20)
			buf_printf(b, "\\u%04x", c);
		else
			buf_printf(b, "\\%c", c);
		from = i + 1;
	}
	buf_put(b, s + from, len - from);
	buf_put(b, "\"", 1);
}

/* Write a JSON string, or null. */
void
put_text(Buf *b, const char *s)
{
	if (s)
		put_string(b, s, strlen(s));
	else
		buf_puts(b, "null");
}

static void
put_array(Buf *b, json_object *v, bool quoted, const char *only)
{
	for (size_t i = 0; i < json_object_array_length(v); i++)
	{
		buf_puts(b, i > 0 ? "," : "[");
		put_json(b, json_object_array_get_idx(v, i), quoted, only);
	}
	buf_puts(b, json_object_array_length(v) > 0 ? "]" : "[]");
}

static void
put_object(Buf *b, json_object *v, bool quoted, const char *only)
{
	const char *comma = "{";

	json_object_object_foreach(v, name, member)
	{
		if (only && !list_has(only, name, strlen(name)))
			continue;
		buf_puts(b, comma);
		put_text(b, name);
		buf_put(b, ":", 1);
		put_json(b, member, quoted, NULL);
		comma = ",";
	}
	buf_puts(b, *comma == '{' ? "{}" : "}");
}

/*
 * Writes a value.  json-c's own writer keeps a copy of the text inside each
 * object and knows neither of our two needs: "quoted", numbers and booleans as
 * strings, and "only", the members wanted of an object (NULL: all).
 */
void
put_json(Buf *b, json_object *v, bool quoted, const char *only)
{
	const char *quote = quoted ? "\"" : "";

	switch (json_object_get_type(v))
	{
		case json_type_null:
			buf_puts(b, "null");
			break;
		case json_type_string:
			put_string(b, json_object_get_string(v), json_object_get_string_len(v));
			break;
		case json_type_array:
			put_array(b, v, quoted, only);
			break;
		case json_type_object:
			put_object(b, v, quoted, only);
			break;
		case json_type_boolean:
			buf_printf(b, "%s%s%s", quote, json_object_get_boolean(v) ? "true" : "false", quote);
			break;
		case json_type_int:
			buf_printf(b, "%s%" PRId64 "%s", quote, json_object_get_int64(v), quote);
			break;
		case json_type_double:
			buf_printf(b, "%s%s%s", quote, json_object_to_json_string(v), quote);
			break;
	}
}

/* Set a member to a string. */
void
set_text(json_object *o, const char *name, const char *text)
{
	json_object_object_add(o, name, json_object_new_string(text));
}

/* Set a member to a boolean if it is absent or null. */
void
set_bool_if_absent(json_object *o, const char *name, bool value)
{
	if (json_member(o, name) == NULL)
		json_object_object_add(o, name, json_object_new_boolean(value));
}

/* Return true if the value is this string. */
bool
text_is(json_object *v, const char *text)
{
	return json_object_is_type(v, json_type_string) && strcmp(json_object_get_string(v), text) == 0;
}
