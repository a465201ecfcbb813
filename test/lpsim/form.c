/*-------------------------------------------------------------------------
 *
 * form.c
 *	  How single values are written: the same in another form.
 *
 * JSON and the service leave room: 4, "4", 4.0 and 4.0E0 are one number, and an attribute without
 * a value may be absent, null, "", [] or {}.  The configuration "list_form" and "single_form"
 * maps attributes, or "*" for all others, to a list of forms.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "form.h"
#include "json.h"

static const struct
{
	const char *name;
	int			form;
	const char *help;
}			forms[] = {
	{"absent", FORM_ABSENT, "nothing is left out"},
	{"null", FORM_NULL, "nothing is null"},
	{"blank", FORM_BLANK, "nothing is \"\""},
	{"array", FORM_ARRAY, "nothing is []"},
	{"object", FORM_OBJECT, "nothing is {}"},
	{"string", FORM_STRING, "numbers and booleans are strings"},
	{"capital", FORM_CAPITAL, "booleans are \"True\" and \"False\""},
	{"double", FORM_DOUBLE, "numbers have a point: 4.0"},
	{"exponent", FORM_EXPONENT, "numbers have an exponent: 4.0E0"},
	{"reversed", FORM_REVERSED, "arrays are in the opposite order"},
	{"wrapped", FORM_WRAPPED, "an object stands in an array"},
	{"unwrapped", FORM_UNWRAPPED, "the first element of an array stands alone"},
	{"emptied", FORM_EMPTIED, "as if there were nothing"},
	{"shown", FORM_SHOWN, "fullName and employeeId are not blank"},
};

/* Set the forms named in a list.  Return false if one is unknown. */
static bool
form_read(const char *list, int *form)
{
	*form = 0;
	while (*list)
	{
		size_t		n = strcspn(list, ", |");
		size_t		i = 0;

		while (i < lengthof(forms) &&
			   (strlen(forms[i].name) != n || strncmp(forms[i].name, list, n) != 0))
			i++;
		if (i == lengthof(forms))
			return false;
		*form |= forms[i].form;
		list += n;
		list += strspn(list, ", |");
	}
	return true;
}

/* Check a value of "list_form" or "single_form".  Return false with a problem. */
bool
forms_check(const char *knob, json_object *o, Problem *p)
{
	int			form;

	json_object_object_foreach(o, name, list)
	{
		if (!json_object_is_type(list, json_type_string))
			return problem(p, 400, "", "%s: the forms of %s must be a string", knob, name);
		if (!form_read(json_object_get_string(list), &form))
			return problem(p, 400, "", "%s: unknown form of %s", knob, name);
	}
	return true;
}

/* Return the forms of an attribute. */
int
form_of(json_object *o, const char *attribute)
{
	json_object *list = json_member(o, attribute);
	int			form = 0;

	if (list == NULL)
		list = json_member(o, "*");
	if (list)
		form_read(json_object_get_string(list), &form);
	return form;
}

/* Return true if the text of a value is one of the ways to write "nothing". */
bool
is_nothing(const char *text)
{
	return strcmp(text, "null") == 0 || strcmp(text, "\"\"") == 0 || strcmp(text, "[]") == 0 ||
		strcmp(text, "{}") == 0;
}

/* Write "nothing", null unless the form is another.  An absent attribute must not come here. */
void
put_nothing(Buf *b, int form)
{
	if (form & FORM_BLANK)
		buf_puts(b, "\"\"");
	else if (form & FORM_ARRAY)
		buf_puts(b, "[]");
	else
		buf_puts(b, form & FORM_OBJECT ? "{}" : "null");
}

/* Write a whole number in these forms, exactly. */
void
put_number_form(Buf *b, int64_t n, int form)
{
	const char *quote = form & FORM_STRING ? "\"" : "";
	char		digits[32];
	size_t		len;

	snprintf(digits, sizeof(digits), "%" PRIu64, n < 0 ? -(uint64_t) n : (uint64_t) n);
	len = strlen(digits);
	buf_printf(b, "%s%s", quote, n < 0 ? "-" : "");
	if (form & FORM_EXPONENT)
	{
		size_t		kept = len;

		while (kept > 2 && digits[kept - 1] == '0')
			kept--;
		buf_printf(b, "%c.%.*sE%zu", digits[0], kept > 1 ? (int) kept - 1 : 1,
				   kept > 1 ? digits + 1 : "0", len - 1);
	}
	else
		buf_printf(b, "%s%s", digits, form & FORM_DOUBLE ? ".0" : "");
	buf_puts(b, quote);
}

static void
put_array_form(Buf *b, json_object *v, int form, const char *only)
{
	size_t		n = json_object_array_length(v);

	if ((form & FORM_UNWRAPPED) && n > 0)
	{
		put_form(b, json_object_array_get_idx(v, 0), form & ~FORM_UNWRAPPED, only);
		return;
	}
	buf_puts(b, "[");
	for (size_t i = 0; i < n; i++)
	{
		size_t		place = form & FORM_REVERSED ? n - 1 - i : i;

		buf_puts(b, i > 0 ? "," : "");
		put_form(b, json_object_array_get_idx(v, place), form & ~FORM_WRAPPED, only);
	}
	buf_puts(b, "]");
}

static void
put_object_form(Buf *b, json_object *v, int form, const char *only)
{
	const char *comma = "{";

	buf_puts(b, form & FORM_WRAPPED ? "[" : "");
	json_object_object_foreach(v, name, member)
	{
		if (only && !list_has(only, name, strlen(name)))
			continue;
		buf_puts(b, comma);
		put_text(b, name);
		buf_puts(b, ":");
		put_form(b, member, form & ~FORM_WRAPPED, NULL);
		comma = ",";
	}
	buf_puts(b, *comma == '{' ? "{}" : "}");
	buf_puts(b, form & FORM_WRAPPED ? "]" : "");
}

/* Write a value in these forms.  "only": the members wanted of an object, NULL: all. */
void
put_form(Buf *b, json_object *v, int form, const char *only)
{
	bool		yes = json_object_get_boolean(v);

	switch (json_object_get_type(v))
	{
		case json_type_int:
			put_number_form(b, json_object_get_int64(v), form);
			break;
		case json_type_boolean:
			if (form & FORM_CAPITAL)
				buf_puts(b, yes ? "\"True\"" : "\"False\"");
			else
				put_json(b, v, form & FORM_STRING, NULL);
			break;
		case json_type_array:
			put_array_form(b, v, form, only);
			break;
		case json_type_object:
			put_object_form(b, v, form, only);
			break;
		default:
			put_json(b, v, form & FORM_STRING, NULL);
			break;
	}
}

/* The part of --help about forms. */
void
form_help(void)
{
	for (size_t i = 0; i < lengthof(forms); i++)
		printf("  %-13s %s\n", forms[i].name, forms[i].help);
}
