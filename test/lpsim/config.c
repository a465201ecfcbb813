/*-------------------------------------------------------------------------
 *
 * config.c
 *	  The knobs of /_sim/config.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "form.h"
#include "json.h"
#include "options.h"
#include "shape.h"

/*
 * The knobs of /_sim/config.  A value must have the default's type (null: a
 * string or null) and be one of "allowed", if there is such a list.
 */
typedef struct Knob
{
	const char *name;
	const char *initial;
	const char *allowed;
	const char *help;
} Knob;

static const Knob knobs[] = {
	{"bulk", "\"all_or_nothing\"", "all_or_nothing|partial|partial_ok",
		"when one user of an array is refused: no other is done, all others are, or they are and "
		"the answer is a success without it"},
	{"unique", "true", NULL, "false: a login may exist twice"},
	{"conflict_status", "409", "409|400", "when a login exists"},
	{"revision_header", "\"ac-revision\"", "ac-revision|ETag|both|opaque|none",
		"which header carries the revision; opaque: an ETag \"rev-N\""},
	{"stale_status", "412", "412|409", "when If-Match is not the revision"},
	{"ignore_if_match", "false", NULL, "true: writes are carried out whatever their If-Match, as with -1"},
	{"error_shape", "\"flat\"", SHAPES, "of error bodies"},
	{"normalise", "\"\"", NULL,
		"lower,trim,nfc: logins and e-mail addresses are stored so, and are unique so; cut: logins of 20 bytes"},
	{"refuse", "\"\"", NULL, "dateCreated,skills: a PUT with one of these attributes is refused"},
	{"reserve_deleted", "false", NULL, "true: the login of a deleted user stays taken"},
	{"list_form", "{}", NULL, "forms of attributes in the list: {\"skillIds\":\"null\"}"},
	{"single_form", "{}", NULL, "the same in the answers to a GET of one user, POST and PUT"},
	{"without_v", "\"refuse\"", "refuse|2.0", "a GET without v; other methods are refused"},
	{"scope", "\"users.read users.write users.external\"", NULL, "of issued tokens"},
	{"forbid", "false", NULL, "403 on everything below le-users"},
	{"ignore_select", "false", NULL, "as if no select were given"},
	{"select_all", "false", NULL, "every attribute, whatever select says"},
	{"delay_ms", "0", NULL, "every request to the account takes so long"},
	{"expires_in", "true", NULL, "does the token service say it"},
	{"token_ttl", "3600", NULL, "seconds an issued token is valid"},
	{"quoted", "false", NULL, "numbers and booleans are answered as strings"},
	{"token_token", "null", NULL, "what is issued instead of a random token"},
	{"domain_answer", "null", NULL, "what the Domain API answers as baseURI"},
	{"domain_shape", "\"one\"", "one|many", "many: in an array baseURIs"},
	{"rate_limit", "0", NULL, "requests a second, above: 429; 0: no limit"},
};

static json_object *config;

/* Return the value of a knob that is a boolean. */
bool
config_bool(const char *name)
{
	return json_object_get_boolean(json_member(config, name));
}

/* Return the value of a knob that is a number. */
int64_t
config_int(const char *name)
{
	return json_object_get_int64(json_member(config, name));
}

/* NULL when the knob is null. */
const char *
config_text(const char *name)
{
	json_object *v = json_member(config, name);

	return v ? json_object_get_string(v) : NULL;
}

/* Return the value of a knob that is an object; it belongs to the configuration. */
json_object *
config_object(const char *name)
{
	return json_member(config, name);
}

/* Return true if a knob that is a text has this value. */
bool
config_is(const char *name, const char *value)
{
	return strcmp(config_text(name), value) == 0;
}

/* Set a knob which check_knob() has accepted. */
void
config_set(const char *name, json_object *value)
{
	json_object_object_add(config, name, json_object_get(value));
}

/* Write the whole configuration. */
void
put_config(Buf *b)
{
	put_json(b, config, false, NULL);
}

/* Give every knob its initial value. */
void
config_reset(void)
{
	json_object_put(config);
	config = json_object_new_object();
	for (size_t i = 0; i < lengthof(knobs); i++)
		json_object_object_add(config, knobs[i].name, json_own(knobs[i].initial));
	json_object_object_add(config, "delay_ms", json_object_new_int64(opt.delay));
	json_object_object_add(config, "token_ttl", json_object_new_int64(opt.token_ttl));
}

static bool
check_words(const char *name, const char *list, const char *allowed, Problem *p)
{
	while (*list)
	{
		size_t		n = strcspn(list, ", |");

		if (!list_has(allowed, list, n))
			return problem(p, 400, "", "%s must be a list of %s", name, allowed);
		list += n;
		list += strspn(list, ", |");
	}
	return true;
}

/* Check a knob and a value for it.  Return false with a problem. */
bool
check_knob(const char *name, json_object *v, Problem *p)
{
	const char *text = v ? json_object_get_string(v) : "";
	json_type	type;
	size_t		i = 0;

	while (i < lengthof(knobs) && strcmp(knobs[i].name, name) != 0)
		i++;
	if (i == lengthof(knobs))
		return problem(p, 400, "", "unknown key of the configuration: %s", name);
	type = json_object_get_type(json_member(config, name));
	if (strcmp(knobs[i].initial, "null") == 0)
		type = v ? json_type_string : json_type_null;
	if (!json_object_is_type(v, type))
		return problem(p, 400, "", "%s must be of type %s", name, json_type_to_name(type));
	if (type == json_type_int &&
		(json_object_get_int64(v) < 0 || json_object_get_int64(v) > INT_MAX))
		return problem(p, 400, "", "%s is out of range", name);
	if (knobs[i].allowed && !list_has(knobs[i].allowed, text, strlen(text)))
		return problem(p, 400, "", "%s must be one of %s", name, knobs[i].allowed);
	if (strcmp(name, "list_form") == 0 || strcmp(name, "single_form") == 0)
		return forms_check(name, v, p);
	if (strcmp(name, "normalise") == 0)
		return check_words(name, text, "lower trim nfc cut", p);
	return true;
}

/* The part of --help about the configuration. */
void
config_help(void)
{
	for (size_t i = 0; i < lengthof(knobs); i++)
		printf("  %-16s %s (default %s%s%s)\n", knobs[i].name, knobs[i].help, knobs[i].initial,
			   knobs[i].allowed ? ", of " : "", knobs[i].allowed ? knobs[i].allowed : "");
	puts("Forms of attributes (\"*\": all others):");
	form_help();
}
