/*
 * attribute.c: the attributes of a user entity, and how their values are read.
 *
 * One table lists the attributes of version 4.0 of the API with their types and rules;
 * validation and serialization use it. A new attribute is one line here. Unknown attributes pass
 * unchanged. Quoted numbers and booleans, as in the API's own examples, are read as numbers and
 * booleans.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "base/encoding.h"
#include "user/attribute.h"

const LpuAttribute lpu_attributes[] = {
	LPU_ATTRIBUTE("id", LPU_ID, LPU_READ_ONLY | LPU_IDENTITY),
	LPU_ATTRIBUTE("pid", LPU_TEXT, 0),
	LPU_ATTRIBUTE("deleted", LPU_BOOLEAN, LPU_READ_ONLY),
	LPU_ATTRIBUTE("loginName", LPU_LOGIN, LPU_REQUIRED | LPU_SHOWN),
	LPU_ATTRIBUTE("fullName", LPU_TEXT, LPU_REQUIRED | LPU_HIDDEN),
	LPU_ATTRIBUTE("nickname", LPU_TEXT, LPU_REQUIRED),
	LPU_ATTRIBUTE("email", LPU_EMAIL, LPU_REQUIRED | LPU_SHOWN),
	LPU_ATTRIBUTE("passwordSh", LPU_TEXT, LPU_PASSWORD | LPU_SECRET),
	LPU_ATTRIBUTE("oldPassword", LPU_TEXT, LPU_SECRET),
	LPU_ATTRIBUTE("confirmPassword", LPU_TEXT, LPU_SECRET),
	LPU_ATTRIBUTE("isEnabled", LPU_BOOLEAN, LPU_REQUIRED | LPU_SHOWN),
	LPU_ATTRIBUTE("disabledManually", LPU_BOOLEAN, 0),
	LPU_ATTRIBUTE("maxChats", LPU_NUMBER, LPU_REQUIRED),
	LPU_ATTRIBUTE("maxAsyncChats", LPU_NUMBER, 0),
	LPU_ATTRIBUTE("profileIds", LPU_IDS, LPU_REQUIRED | LPU_SHOWN),
	LPU_ATTRIBUTE("skillIds", LPU_IDS, 0),
	LPU_ATTRIBUTE("lobIds", LPU_IDS, 0),
	LPU_ATTRIBUTE("permissionGroups", LPU_LONGS, 0),
	LPU_ATTRIBUTE("memberOf", LPU_GROUP, 0),
	LPU_ATTRIBUTE("managerOf", LPU_GROUPS, 0),
	LPU_ATTRIBUTE("changePwdNextLogin", LPU_BOOLEAN, 0),
	LPU_ATTRIBUTE("isApiUser", LPU_BOOLEAN, 0),
	LPU_ATTRIBUTE("allowedAppKeys", LPU_TEXT, LPU_API_KEY),
	LPU_ATTRIBUTE("userTypeId", LPU_LONG, 0),
	LPU_ATTRIBUTE("description", LPU_TEXT, 0),
	LPU_ATTRIBUTE("mobileNumber", LPU_TEXT, 0),
	LPU_ATTRIBUTE("pictureId", LPU_TEXT, 0),
	LPU_ATTRIBUTE("pictureUrl", LPU_TEXT, 0),
	LPU_ATTRIBUTE("backgndImgUri", LPU_TEXT, 0),
	LPU_ATTRIBUTE("pnCertName", LPU_TEXT, 0),
	LPU_ATTRIBUTE("employeeId", LPU_TEXT, LPU_HIDDEN),
	LPU_ATTRIBUTE("lastPwdChangeDate", LPU_DATE, LPU_READ_ONLY),
	LPU_ATTRIBUTE("dateUpdated", LPU_DATE, LPU_READ_ONLY),
};

const int	lpu_nattributes = lengthof(lpu_attributes);

/* Members of a group assignment. */
const LpuAttribute lpu_group_members[] = {
	LPU_ATTRIBUTE("agentGroupId", LPU_LONG, LPU_REQUIRED),	/* the root group is -1 */
	LPU_ATTRIBUTE("assignmentDate", LPU_DATE, LPU_READ_ONLY),
};

const int	lpu_ngroup_members = lengthof(lpu_group_members);

/* Return the attribute with this name, or NULL. */
const LpuAttribute *
lpu_attribute_named(const LpuAttribute *defs, int n, const char *name)
{
	int			i;

	for (i = 0; i < n; i++)
		if (strcmp(defs[i].name, name) == 0)
			return &defs[i];
	return NULL;
}

/*
 * Return the attribute of the list that was probably meant by an unknown name, or NULL if the name
 * is an attribute, or like none.  A word of a customer's own must not be warned of, so at most two
 * characters may differ, of a short word one.
 */
const char *
lpu_attribute_meant(const LpuAttribute *attributes, int n, const char *name)
{
	LpuNearestName nearest;
	int			i;

	if (lpu_attribute_named(attributes, n, name) != NULL)
		return NULL;
	lpu_nearest_start(&nearest, name);
	for (i = 0; i < n; i++)
		lpu_nearest_consider(&nearest, attributes[i].name);
	return nearest.distance <= (strlen(name) <= 8 ? 1 : 2) ? nearest.name : NULL;
}

/* Return the attribute that a key names, or NULL. */
const LpuAttribute *
lpu_find_attribute(const LpuAttribute *defs, int n, const JsonbValue *key)
{
	int			i;

	for (i = 0; i < n; i++)
		if (defs[i].length == key->val.string.len &&
			memcmp(defs[i].name, key->val.string.val, key->val.string.len) == 0)
			return &defs[i];
	return NULL;
}

/* Append the names of secrets of users to n names, and return how many they are then. */
int
lpu_attribute_secrets(const char **names, int n)
{
	int			i;

	for (i = 0; i < lpu_nattributes; i++)
		if (lpu_attributes[i].rules & LPU_SECRET)
			names[n++] = lpu_attributes[i].name;
	return n;
}

/* Return the kind of the elements of an array, or LPU_ANY if values of the kind are no arrays. */
LpuValueKind
lpu_element_kind(LpuValueKind kind)
{
	switch (kind)
	{
		case LPU_IDS:
			return LPU_ID;
		case LPU_LONGS:
			return LPU_LONG;
		case LPU_GROUPS:
			return LPU_GROUP;
		default:
			return LPU_ANY;
	}
}

/* Return true if the value is this string. */
bool
lpu_string_equals(const JsonbValue *value, const char *text)
{
	return value->type == jbvString && value->val.string.len == (int) strlen(text) &&
		memcmp(value->val.string.val, text, value->val.string.len) == 0;
}

/* Set *result from a boolean, also one written as a string. Return false if the value is none. */
bool
lpu_value_as_boolean(const JsonbValue *value, bool *result)
{
	if (value->type == jbvBool)
	{
		*result = value->val.boolean;
		return true;
	}
	if (value->type != jbvString)
		return false;
	*result = value->val.string.len == 4 && pg_strncasecmp(value->val.string.val, "true", 4) == 0;
	return *result ||
		(value->val.string.len == 5 && pg_strncasecmp(value->val.string.val, "false", 5) == 0);
}

/* A whole number within bigint, as number or as string. */
bool
lpu_value_as_int64(const JsonbValue *value, int64 *result)
{
	if (value->type == jbvString)
		return lpu_text_as_int64(pnstrdup(value->val.string.val, value->val.string.len), result);
	if (value->type == jbvNumeric)
	{
		Datum		number = NumericGetDatum(value->val.numeric);

		return lpu_text_as_int64(DatumGetCString(DirectFunctionCall1(numeric_out, number)), result);
	}
	return false;
}

/* Return true if the value is an object. */
bool
lpu_jsonb_is_object(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
}

/* Return true if the value is an array. */
bool
lpu_jsonb_is_array(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data) &&
		!JsonContainerIsScalar(value->val.binary.data);
}

/* Set *result to a member of an object and return it, or return NULL. */
JsonbValue *
lpu_jsonb_get_member(JsonbContainer *object, const char *name, JsonbValue *result)
{
	return getKeyJsonValueFromContainer(object, name, strlen(name), result);
}

/*
 * Set *user to the next user of a document: an element of an array, or the one object. Return
 * false at the end.
 */
bool
lpu_next_user(JsonbIterator **it, JsonbContainer *document, JsonbValue *user)
{
	JsonbIteratorToken token;

	if (*it == NULL && JsonContainerIsObject(document))
	{
		/* any iterator marks that the one object was given */
		*it = JsonbIteratorInit(document);
		user->type = jbvBinary;
		user->val.binary.data = document;
		user->val.binary.len = 0;	/* not needed by a reader */
		return true;
	}
	if (*it != NULL && JsonContainerIsObject(document))
		return false;
	if (*it == NULL)
	{
		*it = JsonbIteratorInit(document);
		(void) JsonbIteratorNext(it, user, true);	/* WJB_BEGIN_ARRAY */
	}
	token = JsonbIteratorNext(it, user, true);
	return token == WJB_ELEM;
}
