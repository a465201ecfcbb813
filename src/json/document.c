/*
 * document.c: JSON documents, read and written by json-c.
 *
 * The only file that knows json-c (whose headers do not go together with
 * PostgreSQL's fmgrprotos.h). It is used for documents: errors, tokens, the
 * domain service, and what is built. Entities come and go as jsonb. A parsed
 * document belongs to the memory context that is current when it is parsed.
 */
#include "postgres.h"

#include <json-c/json.h>
#include <limits.h>

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "base/encoding.h"
#include "json/document.h"
#include "json/tree_size.h"

/* Errors, tokens and domains are two or three levels deep. */
#define MAX_DEPTH 32

/* An excerpt is for a line of a report. */
#define EXCERPT_CHARS 200

/* A message of the API has a sentence or two; this limits others. */
#define MESSAGE_CHARS 500

/* Names of wrong fields, and messages, listed in an error. */
#define MAX_FIELDS 20
#define MAX_MESSAGES 5

/* An error of more values is not parsed; one that names 1000 wrong users takes 2 MB. */
#define MAX_ERROR_TREE (16 * 1024 * 1024)

/* Errors within errors. */
#define MAX_ERROR_DEPTH 4

static struct json_object *
unwrap(LpuJson *json)
{
	return (struct json_object *) json;
}

static LpuJson *
wrap(struct json_object *object)
{
	return (LpuJson *) object;
}

static void
put_document(void *arg)
{
	json_object_put(arg);
}

/* Return true if the rest of a text is blank. */
static bool
is_blank(const char *rest, size_t length)
{
	size_t		i;

	for (i = 0; i < length; i++)
		if (rest[i] != ' ' && rest[i] != '\t' && rest[i] != '\n' && rest[i] != '\r')
			return false;
	return true;
}

/*
 * Without json-c's strict mode, which each version understands otherwise: from
 * 0.17 on it refuses a document for an integer of more than 64 bits anywhere
 * in it, and 0.18, that of Debian 13, for every value that is not ASCII. What
 * is forgiven without it, such as a comma too many, does no harm: a document
 * is only read here.
 */
LpuJson *
lpu_json_parse(const char *text, size_t length)
{
	MemoryContextCallback *owner = palloc0(sizeof(MemoryContextCallback));
	struct json_tokener *tokener;
	struct json_object *root;

	if (length > INT_MAX || (tokener = json_tokener_new_ex(MAX_DEPTH)) == NULL)
		return NULL;
	json_tokener_set_flags(tokener, JSON_TOKENER_VALIDATE_UTF8);
	root = json_tokener_parse_ex(tokener, text, (int) length);
	/* a lone number is complete only when the end is seen */
	if (root == NULL && json_tokener_get_error(tokener) == json_tokener_continue)
		root = json_tokener_parse_ex(tokener, "", 1);
	else if (root != NULL &&
			 !is_blank(text +json_tokener_get_parse_end(tokener),
					   length - json_tokener_get_parse_end(tokener)))
	{
		json_object_put(root);
		root = NULL;
	}
	json_tokener_free(tokener);

	owner->func = put_document;
	owner->arg = root;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, owner);
	return wrap(root);
}

/* Return a member of an object, or NULL if there is none. */
LpuJson *
lpu_json_member(LpuJson *json, const char *name)
{
	struct json_object *value;

	if (!json_object_is_type(unwrap(json), json_type_object) ||
		!json_object_object_get_ex(unwrap(json), name, &value))
		return NULL;
	return wrap(value);
}

/* Return the number of elements, or -1 if the value is not an array. */
int
lpu_json_length(LpuJson *json)
{
	if (!json_object_is_type(unwrap(json), json_type_array))
		return -1;
	return (int) json_object_array_length(unwrap(json));
}

/* Return an element of an array, or NULL if there is none. */
LpuJson *
lpu_json_element(LpuJson *json, int i)
{
	if (i < 0 || i >= lpu_json_length(json))
		return NULL;
	return wrap(json_object_array_get_idx(unwrap(json), i));
}

/*
 * Return the value of a string, or the text of a number. NULL for anything else, and for a
 * string that contains a NUL.
 */
const char *
lpu_json_text(LpuJson *json)
{
	struct json_object *object = unwrap(json);
	const char *text;

	switch (json_object_get_type(object))
	{
		case json_type_string:
			text = json_object_get_string(object);
			return strlen(text) == (size_t) json_object_get_string_len(object) ? text : NULL;

		case json_type_int:
		case json_type_double:
			return json_object_get_string(object);
		default:
			return NULL;
	}
}

/* Return the text of a piece, or NULL if there is no memory; the caller raises that error. */
static char *
copy_of_text(struct json_object *object)
{
	const char *text = json_object_to_json_string_ext(object,
													  JSON_C_TO_STRING_PLAIN |
													  JSON_C_TO_STRING_NOSLASHESCAPE);
	char	   *copy = text ?
	MemoryContextAllocExtended(CurrentMemoryContext, strlen(text) + 1, MCXT_ALLOC_NO_OOM) : NULL;

	if (copy != NULL)
		memcpy(copy, text, strlen(text) + 1);
	return copy;
}

/*
 * Return an object of strings as JSON text, from names and values in turn. Allocated in the
 * current memory context.
 */
char *
lpu_json_build_object(const char *const *names_and_values, int npairs)
{
	struct json_object *object = json_object_new_object();
	char	   *copy = NULL;
	bool		ok = object != NULL;
	int			i;

	for (i = 0; ok && i < npairs; i++)
	{
		struct json_object *value = json_object_new_string(names_and_values[2 * i + 1]);

		ok = value != NULL && json_object_object_add(object, names_and_values[2 * i], value) == 0;
	}
	if (ok)
		copy = copy_of_text(object);
	json_object_put(object);
	if (copy == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return copy;
}

/* ----- what errors say ----- */

/* Return an error body as a document, or NULL if it is none, or too large for one. */
static LpuJson *
parse_error(const char *body, size_t length)
{
	return lpu_json_tree_size(body, length) <= MAX_ERROR_TREE ? lpu_json_parse(body, length) : NULL;
}

static void
append_text(StringInfo out, const char *prefix, const char *text)
{
	if (text !=NULL && *text)
		appendStringInfo(out, "%s%s", prefix, lpu_text_excerpt(text, strlen(text), MESSAGE_CHARS));
}

/*
 * Append the messages of an error in any shape: a text, an object with a
 * message or with errors, or several of them.
 */
static void
append_messages(StringInfo out, LpuJson *error, int depth)
{
	static const char *const names[] = {"message", "error_description", "errorMessage", "error",
		"errors", "messages",
	"detail", "title", "description", "reason"};
	int			before = out->len;
	int			i;

	if (depth == MAX_ERROR_DEPTH)
		return;
	if (lpu_json_length(error) >= 0)
		for (i = 0; i < Min(lpu_json_length(error), MAX_MESSAGES); i++)
			append_messages(out, lpu_json_element(error, i), depth + 1);
	else if (lpu_json_text(error) != NULL)
		append_text(out, before > 0 ? "; " : "", lpu_json_text(error));
	else
		for (i = 0; i < lengthof(names) && out->len == before; i++)
			append_messages(out, lpu_json_member(error, names[i]), depth + 1);
}

/* Return the first member of this name in an error, or in an error that it holds. */
static LpuJson *
find_member(LpuJson *error, const char *name, int depth)
{
	static const char *const inner[] = {"error", "errors"};
	LpuJson    *found = lpu_json_member(error, name);
	int			i;

	if (found != NULL || depth == MAX_ERROR_DEPTH)
		return found;
	for (i = 0; i < Min(lpu_json_length(error), MAX_MESSAGES) && found == NULL; i++)
		found = find_member(lpu_json_element(error, i), name, depth + 1);
	for (i = 0; i < lengthof(inner) && found == NULL; i++)
	{
		LpuJson    *nested = lpu_json_member(error, inner[i]);

		found = nested ? find_member(nested, name, depth + 1) : NULL;
	}
	return found;
}

/* Append the names of an array of names or objects, or of the members of an object. */
static void
append_fields(StringInfo out, LpuJson *fields)
{
	int			n = 0;
	int			i;

	if (json_object_is_type(unwrap(fields), json_type_object))
	{
		json_object_object_foreach(unwrap(fields), name, value)
		{
			(void) value;
			if (n < MAX_FIELDS)
				append_text(out, n++ > 0 ? ", " : "", name);
		}
		return;
	}
	append_text(out, "", lpu_json_text(fields));
	for (i = 0; i < Min(lpu_json_length(fields), MAX_FIELDS); i++)
	{
		LpuJson    *field = lpu_json_element(fields, i);
		const char *name = lpu_json_text(field) ? lpu_json_text(field) :
		lpu_json_text(lpu_json_member(field, "field"));

		append_text(out, n++ > 0 ? ", " : "", name ? name : "?");
	}
}

/* "(internal code 44; fields: loginName)", or NULL. */
static char *
describe_codes(LpuJson *error)
{
	const char *code = lpu_json_text(find_member(error, "internalCode", 0));
	StringInfoData fields;

	initStringInfo(&fields);
	append_fields(&fields, find_member(error, "fields", 0));
	if (code != NULL && fields.len > 0)
		return psprintf("(internal code %s; fields: %s)",
						lpu_text_excerpt(code, strlen(code), MESSAGE_CHARS), fields.data);
	if (code != NULL)
		return psprintf("(internal code %s)", lpu_text_excerpt(code, strlen(code), MESSAGE_CHARS));
	return fields.len > 0 ? psprintf("(fields: %s)", fields.data) : NULL;
}

/*
 * Return the codes of an error body, "(internal code 44; fields: loginName)",
 * in the database's encoding; NULL if it has none.
 */
char *
lpu_json_error_codes(const char *body, size_t length)
{
	char	   *codes = describe_codes(parse_error(body, length));

	return codes ? lpu_text_from_utf8(codes) : NULL;
}

/*
 * Return what an error body says, in the database's encoding: messages with
 * internal code and fields, or an excerpt of a body that has none; NULL if it
 * is empty.  It may show a secret that the body shows: see lpu_text_shows().
 */
char *
lpu_json_error_text(const char *body, size_t length)
{
	LpuJson    *json = parse_error(body, length);
	char	   *codes = describe_codes(json);
	StringInfoData text;

	initStringInfo(&text);
	append_messages(&text, json, 0);
	if (codes != NULL)
		appendStringInfo(&text, "%s%s", text.len > 0 ? " " : "", codes);

	/*
	 * an echo of the request has passwords, and those of a few characters are
	 * not looked for
	 */
	if (text.len == 0 && json != NULL && memmem(body, length, "assword", 7) != NULL)
		appendStringInfoString(&text, "the response has no message");
	if (text.len == 0)
		appendStringInfoString(&text, lpu_text_excerpt(body, length, EXCERPT_CHARS));
	return text.len > 0 ? lpu_text_from_utf8(text.data) : NULL;
}
