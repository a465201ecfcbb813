/*
 * attribute.h: the attributes of a user entity, and how their values are read.
 */
#ifndef LPU_USER_ATTRIBUTE_H
#define LPU_USER_ATTRIBUTE_H

#include "utils/jsonb.h"

typedef enum LpuValueKind
{
	LPU_ANY,					/* not in the table: as it is */
	LPU_TEXT,
	LPU_LOGIN,					/* text that names a user: see login.h */
	LPU_EMAIL,					/* text, sent in NFC and compared like a login */
	LPU_DATE,					/* YYYY-MM-DD HH:MM:SS, without a time zone */
	LPU_LONG,					/* whole number within bigint */
	LPU_ID,						/* likewise, positive */
	LPU_NUMBER,
	LPU_BOOLEAN,
	LPU_IDS,					/* array of LPU_ID */
	LPU_LONGS,					/* array of LPU_LONG */
	LPU_GROUP,					/* {agentGroupId, assignmentDate} */
	LPU_GROUPS					/* array of LPU_GROUP */
} LpuValueKind;

/* Rules, to be combined. */
#define LPU_REQUIRED 1			/* on create and update */
#define LPU_PASSWORD 2			/* required on create, but not of API users */
#define LPU_API_KEY 4			/* required of API users */
#define LPU_READ_ONLY 8			/* not to be sent on create */
#define LPU_SECRET 16			/* never to be shown */
#define LPU_IDENTITY 32			/* required on update */
#define LPU_HIDDEN 64			/* answered blank, whatever it is */
#define LPU_SHOWN 128			/* in each user that is shown completely */

typedef struct LpuAttribute
{
	const char *name;
	int			length;			/* of the name */
	LpuValueKind kind;
	int			rules;
} LpuAttribute;

/* A line of a table of attributes. */
#define LPU_ATTRIBUTE(name, kind, rules) {name, sizeof(name) - 1, kind, rules}

extern const LpuAttribute lpu_attributes[];
extern const int lpu_nattributes;

/* Members of memberOf and of the elements of managerOf. */
extern const LpuAttribute lpu_group_members[];
extern const int lpu_ngroup_members;

/* Return the attribute with this name, or NULL. */
extern const LpuAttribute *lpu_attribute_named(const LpuAttribute *defs, int n, const char *name);

/* The attribute that was probably meant by an unknown name; NULL if it is known, or like none. */
extern const char *lpu_attribute_meant(const LpuAttribute *attributes, int n, const char *name);

/* Return the attribute that a key names, or NULL. */
extern const LpuAttribute *lpu_find_attribute(const LpuAttribute *defs, int n,
											  const JsonbValue *key);

/* Append the names of secrets of users to n names, and return how many they are then. */
extern int	lpu_attribute_secrets(const char **names, int n);

/* Return the kind of the elements of an array, or LPU_ANY if values of the kind are no arrays. */
extern LpuValueKind lpu_element_kind(LpuValueKind kind);

/* Return true if the value is this string. */
extern bool lpu_string_equals(const JsonbValue *value, const char *text);

/*
 * A boolean, also as string; a whole number within bigint, also as string.
 * False if the value is none.
 */
extern bool lpu_value_as_boolean(const JsonbValue *value, bool *result);
extern bool lpu_value_as_int64(const JsonbValue *value, int64 *result);

extern bool lpu_jsonb_is_object(const JsonbValue *value);
extern bool lpu_jsonb_is_array(const JsonbValue *value);
extern JsonbValue *lpu_jsonb_get_member(JsonbContainer *object, const char *name,
										JsonbValue *result);

/*
 * The users of a document in turn: the elements of an array, or the one
 * object. *it starts as NULL; false at the end.
 */
extern bool lpu_next_user(JsonbIterator **it, JsonbContainer *document, JsonbValue *user);

#endif
