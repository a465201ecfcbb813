/*
 * merge.c: attributes that are laid over a user as the account has it.
 *
 * An update of the API replaces the whole user: attributes that are not sent are lost. So the
 * user is read, the changes are laid over it, and everything else is sent back as it was, also
 * unknown attributes. Attributes that the account always returns blank are the exception. A user
 * who was shown with some attributes only must not be sent back at all: the others would be lost.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "user/merge.h"

/* Return an object without a member. */
Jsonb *
lpu_jsonb_without(Jsonb *object, const char *name)
{
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(object),
											  CStringGetTextDatum(name)));
}

/* Return a member that is an object by itself; NULL if there is none. */
Jsonb *
lpu_jsonb_of_member(Jsonb *object, const char *name)
{
	JsonbValue	value;

	if (lpu_jsonb_get_member(&object->root, name, &value) == NULL || !lpu_jsonb_is_object(&value))
		return NULL;
	return JsonbValueToJsonb(&value);
}

/* Return the members of both objects; those of the upper one take precedence. */
Jsonb *
lpu_jsonb_lay(Jsonb *lower, Jsonb *upper)
{
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(lower),
											  JsonbPGetDatum(upper)));
}

/* Return the user without attributes that are only written. Some accounts show them. */
Jsonb *
lpu_user_without_secrets(Jsonb *entity)
{
	JsonbValue	value;
	int			i;

	for (i = 0; i < lpu_nattributes; i++)
		if ((lpu_attributes[i].rules & LPU_SECRET) &&
			lpu_jsonb_get_member(&entity->root, lpu_attributes[i].name, &value) != NULL)
			entity = lpu_jsonb_without(entity, lpu_attributes[i].name);
	return entity;
}

/*
 * Return the user with these attributes instead of its own.  One that is null leaves the user, and
 * so do its secrets, and what the account itself makes of isEnabled, unless they are among them.
 * In the current memory context.
 */
Jsonb *
lpu_user_lay(Jsonb *entity, Jsonb *set)
{
	Jsonb	   *laid = lpu_jsonb_lay(lpu_user_without_secrets(entity), set);
	JsonbIterator *it = JsonbIteratorInit(&set->root);
	JsonbValue	key;
	JsonbValue	value;

	if (lpu_jsonb_get_member(&set->root, "isEnabled", &value) != NULL &&
		lpu_jsonb_get_member(&set->root, "disabledManually", &value) == NULL)
		laid = lpu_jsonb_without(laid, "disabledManually");
	(void) JsonbIteratorNext(&it, &key, true);
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		if (value.type == jbvNull)
			laid = lpu_jsonb_without(laid, pnstrdup(key.val.string.val, key.val.string.len));
	}
	return laid;
}

/*
 * Return true if the account answers the attribute blank, so that it would be lost if the user
 * were sent back as it is.  One that is absent was never there.
 */
bool
lpu_user_hides(Jsonb *entity, const LpuAttribute *attribute)
{
	JsonbValue	value;

	return (attribute->rules & LPU_HIDDEN) != 0 &&
		lpu_jsonb_get_member(&entity->root, attribute->name, &value) != NULL &&
		lpu_string_equals(&value, "");
}

/*
 * Return an attribute that each user has and that this one lacks, or NULL. The account has then
 * shown a part of the user: it does not know select=$all, or a gateway has changed its response.
 */
const char *
lpu_user_lacks(Jsonb *entity)
{
	JsonbValue	value;
	int			i;

	for (i = 0; i < lpu_nattributes; i++)
		if ((lpu_attributes[i].rules & LPU_SHOWN) &&
			lpu_jsonb_get_member(&entity->root, lpu_attributes[i].name, &value) == NULL)
			return lpu_attributes[i].name;
	return NULL;
}
