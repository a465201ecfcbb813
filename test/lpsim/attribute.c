/*-------------------------------------------------------------------------
 *
 * attribute.c
 *	  The attributes of a user: names, types, who may write them.
 *
 * Copyright (c) 2026, the lpusers authors; PostgreSQL licence
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <string.h>

#include "attribute.h"
#include "json.h"

const AttrRule user_attributes[] = {
	{"id", T_LONG, A_READ},
	{"pid", T_STRING, 0},
	{"deleted", T_BOOL, A_READ},
	{"loginName", T_STRING, A_REQUIRED},
	{"fullName", T_STRING, A_REQUIRED | A_BLANK},
	{"nickname", T_STRING, A_REQUIRED},
	{"email", T_STRING, A_REQUIRED},
	{"passwordSh", T_STRING, A_REQUIRED | A_WRITE},
	{"oldPassword", T_STRING, A_WRITE | A_FORGET},
	{"confirmPassword", T_STRING, A_WRITE | A_FORGET},
	{"isEnabled", T_BOOL, A_REQUIRED},
	{"disabledManually", T_BOOL, 0},
	{"maxChats", T_NUMBER, A_REQUIRED},
	{"maxAsyncChats", T_NUMBER, 0},
	{"profileIds", T_LONGS, A_REQUIRED},
	{"skillIds", T_LONGS, 0},
	{"lobIds", T_LONGS, 0},
	{"permissionGroups", T_LONGS, 0},
	{"memberOf", T_GROUP, 0},
	{"managerOf", T_GROUPS, 0},
	{"changePwdNextLogin", T_BOOL, 0},
	{"isApiUser", T_BOOL, 0},
	{"allowedAppKeys", T_STRING, 0},
	{"userTypeId", T_LONG, 0},
	{"description", T_STRING, 0},
	{"mobileNumber", T_STRING, 0},
	{"pictureId", T_STRING, 0},
	{"pictureUrl", T_STRING, 0},
	{"backgndImgUri", T_STRING, 0},
	{"pnCertName", T_STRING, 0},
	{"employeeId", T_STRING, A_BLANK},
	{"lastPwdChangeDate", T_STRING, A_READ},
	{"dateUpdated", T_STRING, A_READ},
};

const int	n_attributes = lengthof(user_attributes);

/* Return the place of an attribute in user_attributes, or -1. */
int
attribute_find(const char *name)
{
	for (int i = 0; i < n_attributes; i++)
		if (user_attributes[i].name[0] == name[0] && strcmp(user_attributes[i].name, name) == 0)
			return i;
	return -1;
}

/*
 * The documentation itself quotes numbers and booleans, so both are read.  NULL: of another type.
 */
json_object *
convert_scalar(AttrType type, json_object *v)
{
	const char *s = json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
	int64_t		n;

	if (type == T_STRING)
		return s ? json_object_get(v) : NULL;
	if (type == T_BOOL)
	{
		if (s && (strcmp(s, "true") == 0 || strcmp(s, "false") == 0))
			return json_object_new_boolean(s[0] == 't');
		return json_object_is_type(v, json_type_boolean) ? json_object_get(v) : NULL;
	}
	if (s && parse_int64(s, &n))
		return json_object_new_int64(n);
	if (json_object_is_type(v, json_type_int) ||
		(type == T_NUMBER && json_object_is_type(v, json_type_double)))
		return json_object_get(v);
	return NULL;
}

/*
 * {agentGroupId, assignmentDate}: the date is the service's, but it comes
 * again from a client that reads an entity and writes it back.
 */
static json_object *
convert_group(json_object *v)
{
	json_object *id = convert_scalar(T_LONG, json_member(v, "agentGroupId"));
	json_object *date = json_member(v, "assignmentDate");
	json_object *out;

	if (id == NULL || (date && !json_object_is_type(date, json_type_string)))
	{
		json_object_put(id);
		return NULL;
	}
	out = json_object_new_object();
	json_object_object_add(out, "agentGroupId", id);
	if (date)
		json_object_object_add(out, "assignmentDate", json_object_get(date));
	return out;
}

/* Return the value as the type asks for, the caller's to put; NULL: it is of another type. */
json_object *
convert(AttrType type, json_object *v)
{
	json_object *out;

	if (type == T_GROUP)
		return convert_group(v);
	if (type != T_LONGS && type != T_GROUPS)
		return convert_scalar(type, v);
	if (!json_object_is_type(v, json_type_array))
		return NULL;
	out = json_object_new_array();
	for (size_t i = 0; i < json_object_array_length(v); i++)
	{
		json_object *item = json_object_array_get_idx(v, i);

		item = type == T_LONGS ? convert_scalar(T_LONG, item) : convert_group(item);
		if (item == NULL)
		{
			json_object_put(out);
			return NULL;
		}
		json_object_array_add(out, item);
	}
	return out;
}
