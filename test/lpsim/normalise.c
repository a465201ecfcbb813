/*-------------------------------------------------------------------------
 *
 * normalise.c
 *	  The form in which the account stores logins and e-mail addresses.
 *
 * "trim" removes blanks, tabs and line ends at both ends.  "lower" knows the letters which the
 * C.UTF-8 locale knows, one by one (no special casing).  "nfc" composes a Latin letter with the
 * combining marks behind it (compose.h); it does not order marks, and leaves other scripts.
 * "cut" keeps the first 20 bytes of a login.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <wctype.h>

#include "compose.h"
#include "config.h"
#include "json.h"
#include "normalise.h"

/* Return the composed character, or 0. */
static uint32_t
compose(uint32_t letter, uint32_t mark)
{
	size_t		low = 0;
	size_t		high = lengthof(compositions);

	while (low < high)
	{
		size_t		i = (low + high) / 2;

		if (compositions[i].letter == letter && compositions[i].mark == mark)
			return compositions[i].both;
		if (compositions[i].letter < letter ||
			(compositions[i].letter == letter && compositions[i].mark < mark))
			low = i + 1;
		else
			high = i;
	}
	return 0;
}

static uint32_t
lower(uint32_t c)
{
	static locale_t utf8;

	if (utf8 == (locale_t) 0)
		utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t) 0);
	if (utf8 == (locale_t) 0)
		return c >= 'A' && c <= 'Z' ? c + 32 : c;
	return towlower_l(c, utf8);
}

/* Return the text in the form which "how" lists.  The result is the caller's to free. */
char *
normalise(const char *text, const char *how)
{
	static const char blanks[] = " \t\r\n";
	bool		nfc = list_has(how, "nfc", 3);
	bool		small = list_has(how, "lower", 5);
	const char *end = text + strlen(text);
	Buf			b = {0};

	if (list_has(how, "trim", 4))
	{
		text += strspn(text, blanks);
		while (end > text && strchr(blanks, end[-1]))
			end--;
	}
	buf_room(&b, 0);
	b.data[0] = '\0';
	while (text < end)
	{
		uint32_t	c = utf8_read(&text);
		const char *next = text;
		uint32_t	both;

		while (nfc && text < end && (both = compose(c, utf8_read(&next))) != 0)
		{
			c = both;
			text = next;
		}
		utf8_put(&b, small ? lower(c) : c);
	}
	return b.data;
}

/* Bring the login and the e-mail address of a user into the configured form. */
void
normalise_user(json_object *user)
{
	static const char *const names[] = {"loginName", "email"};
	const char *how = config_text("normalise");

	for (size_t i = 0; *how && i < lengthof(names); i++)
	{
		json_object *v = json_member(user, names[i]);
		char	   *text;

		if (!json_object_is_type(v, json_type_string))
			continue;
		text = normalise(json_object_get_string(v), how);
		if (i == 0 && list_has(how, "cut", 3) && strlen(text) > 20)
			text[20] = '\0';
		set_text(user, names[i], text);
		free(text);
	}
}
