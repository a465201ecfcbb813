/*-------------------------------------------------------------------------
 *
 * view.c
 *	  Views: which attributes an answer carries, and how it writes them.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attribute.h"
#include "config.h"
#include "form.h"
#include "json.h"
#include "version.h"
#include "view.h"

/* Free a view (or NULL). */
void
view_free(View *view)
{
	if (view == NULL)
		return;
	for (int i = 0; i < view->n; i++)
	{
		free(view->select[i].name);
		free(view->select[i].nested);
	}
	free(view->select);
	free(view->known);
	free(view->form);
	json_object_put(view->forms);
	free(view);
}

/* Reads "a,b(c,d),$all".  Attributes which do not exist simply match nothing later. */
static View *
view_parse(const char *select)
{
	View	   *view = need(calloc(1, sizeof(View)));

	view->known = need(calloc(n_attributes, sizeof(int)));
	for (const char *s = select; *s;)
	{
		size_t		n = strcspn(s, ",(");
		Select		item = {.name = need(strndup(s, n))};
		int			i = attribute_find(item.name);

		s += n;
		if (*s == '(')
		{
			n = strcspn(++s, ")");
			item.nested = need(strndup(s, n));
			s += n + (s[n] == ')');
		}
		s += *s == ',';
		if (strcmp(item.name, "$all") == 0)
			view->all = true;
		view->select = need(realloc(view->select, (view->n + 1) * sizeof(Select)));
		view->select[view->n++] = item;
		if (i >= 0)
			view->known[i] = view->n;
	}
	return view;
}

/* Return true if the attribute is wanted; "nested" is set to the members wanted of it. */
static bool
view_has(const View *view, const Attr *attr, const char **nested)
{
	*nested = NULL;
	if (attr->known >= 0)
	{
		int			i = view->known[attr->known];

		if (i > 0)
			*nested = view->select[i - 1].nested;
		if (!view->hidden && (user_attributes[attr->known].flags & A_WRITE))
			return false;
		return i > 0 || view->all;
	}
	for (int i = 0; i < view->n; i++)
		if (strcmp(view->select[i].name, attr->name) == 0)
		{
			*nested = view->select[i].nested;
			return true;
		}
	return view->all;
}

/* Return the forms in which the view writes an attribute. */
static int
form_in_view(const View *view, const char *name, int known)
{
	if (view->forms == NULL)
		return 0;
	return known >= 0 ? view->form[known] : form_of(view->forms, name);
}

/* Write the value "text" as the view wants it. */
static void
put_value(Buf *b, const View *view, const char *text, int form, const char *nested)
{
	if (view->quoted)
		form |= FORM_STRING;
	if (form & FORM_EMPTIED || ((form & FORM_NOTHING) && is_nothing(text)))
		put_nothing(b, form);
	else if (nested || (form & ~(FORM_NOTHING | FORM_SHOWN | FORM_EMPTIED)))
	{
		json_object *v = json_own(text);

		put_form(b, v, form, nested);
		json_object_put(v);
	}
	else if (view->version >= 5)
		put_iso_dates(b, text);
	else
		buf_puts(b, text);
}

/* Write those wanted attributes which the entity lacks, if the view writes "nothing" for them. */
static const char *
put_lacking(Buf *b, const Entity *e, const View *view, const char *comma)
{
	for (int known = 0; view->forms && known < n_attributes; known++)
	{
		Attr		attr = {known, user_attributes[known].name, "null"};
		const char *nested;
		int			form = view->form[known];
		int			i = 0;

		while (i < e->n && e->attr[i].known != known)
			i++;
		if (i < e->n || (form & FORM_ABSENT) || !(form & FORM_NOTHING) ||
			!view_has(view, &attr, &nested))
			continue;
		buf_printf(b, "%s\"%s\":", comma, attr.name);
		put_nothing(b, form);
		comma = ",";
	}
	return comma;
}

/* Write an entity as the view wants it. */
void
put_entity(Buf *b, const Entity *e, const View *view)
{
	const char *nested;
	const char *comma = "{";

	for (int i = 0; i < e->n; i++)
	{
		const Attr *attr = &e->attr[i];
		int			form = form_in_view(view, attr->name, attr->known);
		bool		blank = attr->known >= 0 && !view->hidden && !(form & FORM_SHOWN) &&
			(user_attributes[attr->known].flags & A_BLANK);
		const char *text = blank ? "\"\"" : attr->value;

		if (form & FORM_EMPTIED)
			text = "null";
		if (!view_has(view, attr, &nested) || ((form & FORM_ABSENT) && is_nothing(text)))
			continue;
		buf_puts(b, comma);
		put_text(b, attr->name);
		buf_put(b, ":", 1);
		put_value(b, view, text, form, nested);
		comma = ",";
	}
	comma = put_lacking(b, e, view, comma);
	if (*comma == ',' && view->all && view->version >= 5)
		put_later_attributes(b, e, view->version);
	buf_puts(b, *comma == '{' ? "{}" : "}");
}

/* Let the view write values as the knob "forms" says. */
static void
view_set_forms(View *view, const char *forms)
{
	json_object *o = forms ? config_object(forms) : NULL;

	if (o == NULL || json_object_object_length(o) == 0)
		return;
	view->forms = json_object_get(o);
	view->form = need(calloc(n_attributes, sizeof(int)));
	for (int i = 0; i < n_attributes; i++)
		view->form[i] = form_of(o, user_attributes[i].name);
}

/*
 * Return the view a GET asked for, the caller's to free.  "otherwise" is what the service answers
 * without select, "forms" the knob with forms of values or NULL.  Views with the same "text" (NULL,
 * or the caller's to free) write the same.
 */
View *
view_of_request(const Request *req, const char *otherwise, const char *forms, char **text)
{
	const char *select = request_parameter(req, "select");
	int			version = version_of(req);
	View	   *view;
	Buf			b = {0};

	if (select == NULL || config_bool("ignore_select"))
		select = otherwise;
	if (config_bool("select_all"))
		select = "$all";
	if (version == 2)
		select = VERSION_2;
	view = view_parse(select);
	view->quoted = config_bool("quoted");
	view->version = version;
	view_set_forms(view, forms);
	buf_printf(&b, "%d %s%s ", version, view->quoted ? "quoted " : "", select);
	put_json(&b, view->forms, false, NULL);
	if (text)
		*text = b.data;
	else
		free(b.data);
	return view;
}

/*
 * Return a view of all attributes, the caller's to free.  "hidden": those too which the API does
 * not show, as they are stored.
 */
View *
view_everything(const Request *req, bool hidden)
{
	View	   *view = view_parse("$all");

	view->hidden = hidden;
	view->version = 4;
	if (hidden)
		return view;
	view->quoted = config_bool("quoted");
	view->version = version_of(req);
	view_set_forms(view, "single_form");
	return view;
}
