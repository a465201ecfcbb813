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
#include "json.h"
#include "view.h"

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

/* Is the attribute wanted?  "nested" is set to the members wanted of it. */
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

static void
put_value(Buf *b, const View *view, const Attr *attr, const char *nested)
{
	char		c = attr->value[0];
	bool		blank = attr->known >= 0 && (user_attributes[attr->known].flags & A_BLANK);

	if (blank && !view->hidden)
		buf_puts(b, "\"\"");
	else if ((c == '{' || c == '[') && (nested || view->quoted))
	{
		json_object *v = json_own(attr->value);

		put_json(b, v, view->quoted, nested);
		json_object_put(v);
	}
	else if (view->quoted && c != '"' && c != 'n')
		buf_printf(b, "\"%s\"", attr->value);
	else
		buf_puts(b, attr->value);
}

void
put_entity(Buf *b, const Entity *e, const View *view)
{
	const char *nested;
	const char *comma = "{";

	for (int i = 0; i < e->n; i++)
	{
		if (!view_has(view, &e->attr[i], &nested))
			continue;
		buf_puts(b, comma);
		put_text(b, e->attr[i].name);
		buf_put(b, ":", 1);
		put_value(b, view, &e->attr[i], nested);
		comma = ",";
	}
	buf_puts(b, *comma == '{' ? "{}" : "}");
}

/* The view a GET asked for; "otherwise" is what the service answers without select. */
View *
view_of_request(const Request *req, const char *otherwise, char **text)
{
	const char *select = request_parameter(req, "select");
	View	   *view;
	Buf			b = {0};

	if (select == NULL || config_bool("ignore_select"))
		select = otherwise;
	if (config_bool("select_all"))
		select = "$all";
	buf_printf(&b, "%s%s", config_bool("quoted") ? "quoted " : "", select);
	view = view_parse(select);
	view->quoted = config_bool("quoted");
	if (text)
		*text = b.data;
	else
		free(b.data);
	return view;
}

View *
view_everything(bool hidden)
{
	View	   *view = view_parse("$all");

	view->quoted = !hidden && config_bool("quoted");
	view->hidden = hidden;
	return view;
}
