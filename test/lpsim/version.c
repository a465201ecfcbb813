/*-------------------------------------------------------------------------
 *
 * version.c
 *	  Versions of the API besides 4.0.
 *
 * Known is: without v the service answers as 2.0, with another entity; 5.0 and 6.0 have more
 * attributes, ISO dates and an ETag; 6.0 asks for another scope.  Which attributes 2.0 has, and
 * what the new ones of 5.0 and 6.0 hold, is made up here.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "config.h"
#include "json.h"
#include "neighbour.h"
#include "version.h"

static const struct
{
	const char *name;
	int			since;
	const char *ids;			/* an attribute of ids, shown as objects with names */
	const char *of;
	const char *text;			/* or this */
}			later[] = {
	{"dateCreated", 5, NULL, NULL, "\"2026-01-05T09:00:00Z\""},
	{"skills", 6, "skillIds", "skills", NULL},
	{"profiles", 6, "profileIds", "profiles", NULL},
	{"resetMfaSecret", 6, NULL, NULL, "false"},
};

/* Return the major version a request asks for: 2 without v, 4 for what is not known. */
int
version_of(const Request *req)
{
	const char *v = request_parameter(req, "v");

	if (v == NULL)
		return 2;
	return strcmp(v, "5.0") == 0 ? 5 : strcmp(v, "6.0") == 0 ? 6 : 4;
}

/* Return true if the service itself makes this attribute in a later version. */
bool
version_own(const char *attribute)
{
	for (size_t i = 0; i < lengthof(later); i++)
		if (strcmp(later[i].name, attribute) == 0)
			return true;
	return false;
}

/* Return true if the text begins with a date as 4.0 writes it, in quotes. */
static bool
is_date(const char *s)
{
	for (const char *p = "\"0000-00-00 00:00:00\""; *p; p++, s++)
		if (*p == '0' ? !isdigit((unsigned char) *s) : *p != *s)
			return false;
	return true;
}

/* Write the JSON text of a value, dates in it as ISO 8601. */
void
put_iso_dates(Buf *b, const char *text)
{
	while (*text)
	{
		size_t		n = strcspn(text + 1, "\"") + 1;

		if (is_date(text))
		{
			buf_printf(b, "%.11sT%.8sZ\"", text, text + 12);
			text += 21;
			continue;
		}
		buf_put(b, text, n);
		text += n;
	}
}

static void
put_named(Buf *b, const char *of, const char *ids)
{
	json_object *list = json_own(ids);
	const char *comma = "";

	buf_puts(b, "[");
	for (size_t i = 0; json_object_is_type(list, json_type_array) &&
		 i < json_object_array_length(list); i++, comma = ",")
	{
		int64_t		id = json_object_get_int64(json_object_array_get_idx(list, i));

		buf_printf(b, "%s{\"id\":%" PRId64 ",\"name\":", comma, id);
		put_text(b, neighbour_name(of, id));
		buf_puts(b, "}");
	}
	buf_puts(b, "]");
	json_object_put(list);
}

/* Write what an entity has more in this version, each with a comma before it. */
void
put_later_attributes(Buf *b, const Entity *e, int version)
{
	for (size_t i = 0; i < lengthof(later); i++)
	{
		const char *ids = "[]";

		if (version < later[i].since)
			continue;
		for (int j = 0; later[i].ids && j < e->n; j++)
			if (strcmp(e->attr[j].name, later[i].ids) == 0)
				ids = e->attr[j].value;
		buf_printf(b, ",\"%s\":", later[i].name);
		if (later[i].text)
			buf_puts(b, later[i].text);
		else
			put_named(b, later[i].of, ids);
	}
}
