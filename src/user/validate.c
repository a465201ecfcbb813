/*
 * validate.c: what is wrong with users, before they are sent.
 *
 * Only what the API documents is checked: required and read-only attributes, types, nulls in
 * arrays of ids, the same login twice; and what a login may hold, since the queue's indexes keep
 * it. Policy and other lengths are left to the service. Problems are returned as a list; nothing
 * is raised.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "user/attribute.h"
#include "user/login.h"
#include "user/serialize.h"
#include "user/validate.h"

/* What a check is about, and what it found. */
typedef struct UserCheckState
{
	LpuUserUse	use;
	bool		require_password;
	int			ordinal;
	List	   *problems;
	JsonbValue *values;			/* of the user's attributes, in the order of
								 * the table */
	bool	   *present;
	int			api_user;		/* which of them says if it is an API user */
} UserCheckState;

static void
complain_of_value(UserCheckState *state, const char *attribute, const char *text)
{
	LpuUserProblem *problem;

	problem = palloc0(sizeof(LpuUserProblem));
	problem->ordinal = state->ordinal;
	problem->attribute = attribute;
	problem->text = text;

	problem->position = list_length(state->problems);
	state->problems = lappend(state->problems, problem);
}

static const char read_only_member[] = "must not hold the read-only \"assignmentDate\"";

static const char *check_kind(UserCheckState *state, LpuValueKind kind, const JsonbValue *value);

/* Check the elements of an array against a kind. */
static const char *
check_elements(UserCheckState *state, LpuValueKind kind, const JsonbValue *array,
			   const char *expected)
{
	JsonbIterator *it;
	JsonbValue	element;
	const char *problem;

	if (!lpu_jsonb_is_array(array))
		return expected;
	it = JsonbIteratorInit(array->val.binary.data);
	(void) JsonbIteratorNext(&it, &element, true);
	while (JsonbIteratorNext(&it, &element, true) == WJB_ELEM)
	{
		if (element.type == jbvNull)
			return "must not hold null";
		problem = check_kind(state, kind, &element);
		if (problem != NULL)
			return problem == read_only_member ? problem : expected;
	}
	return NULL;
}

static const char *
check_group(UserCheckState *state, const JsonbValue *group)
{
	JsonbValue	member;
	int			i;

	if (!lpu_jsonb_is_object(group))
		return "must be an object with \"agentGroupId\"";
	for (i = 0; i < lpu_ngroup_members; i++)
	{
		const LpuAttribute *def = &lpu_group_members[i];
		bool		present = lpu_jsonb_get_member(group->val.binary.data, def->name,
												   &member) != NULL;

		if (present && (def->rules & LPU_READ_ONLY) && state->use == LPU_USER_CREATE)
			return read_only_member;
		if ((!present && (def->rules & LPU_REQUIRED)) ||
			(present && check_kind(state, def->kind, &member) != NULL))
			return "must be an object with a whole number as \"agentGroupId\"";
	}
	return NULL;
}

/* Return what is wrong with a value that is not null, or NULL. */
static const char *
check_kind(UserCheckState *state, LpuValueKind kind, const JsonbValue *value)
{
	int64		number;
	bool		boolean;

	switch (kind)
	{
		case LPU_LOGIN:
			return value->type != jbvString ? "must be a string" :
				lpu_login_check(pnstrdup(value->val.string.val, value->val.string.len));
		case LPU_TEXT:
		case LPU_EMAIL:
		case LPU_DATE:
			return value->type == jbvString ? NULL : "must be a string";
		case LPU_LONG:
			return lpu_value_as_int64(value, &number) ? NULL : "must be a whole number";
		case LPU_ID:
			return lpu_value_as_int64(value, &number) &&
				number > 0 ? NULL : "must be a positive whole number";
		case LPU_NUMBER:
			return value->type == jbvNumeric ||
				lpu_value_as_int64(value, &number) ? NULL : "must be a number";
		case LPU_BOOLEAN:
			return lpu_value_as_boolean(value, &boolean) ? NULL : "must be true or false";
		case LPU_IDS:
			return check_elements(state, LPU_ID, value,
								  "must be an array of positive whole numbers");
		case LPU_LONGS:
			return check_elements(state, LPU_LONG, value, "must be an array of whole numbers");
		case LPU_GROUP:
			return check_group(state, value);
		case LPU_GROUPS:
			return check_elements(state, LPU_GROUP, value,
								  "must be an array of objects with \"agentGroupId\"");
		case LPU_ANY:
			break;
	}
	return NULL;
}

/* Return true if the attribute is required of this user. */
static bool
is_required(const UserCheckState *state, const LpuAttribute *def, bool api_user)
{
	if (def->rules & LPU_REQUIRED)
		return true;
	if (def->rules & LPU_IDENTITY)
		return state->use == LPU_USER_UPDATE;
	if (def->rules & LPU_PASSWORD)
		return state->use == LPU_USER_CREATE && state->require_password && !api_user;
	return (def->rules & LPU_API_KEY) && api_user;
}

static void
check_attribute(UserCheckState *state, int i, bool api_user)
{
	const LpuAttribute *def = &lpu_attributes[i];
	const JsonbValue *value = &state->values[i];
	const char *complaint;

	if (!state->present[i])
	{
		if (is_required(state, def, api_user))
			complain_of_value(state, def->name, "is required");
		return;
	}
	if ((def->rules & LPU_READ_ONLY) && state->use == LPU_USER_CREATE)
	{
		complain_of_value(state, def->name, "is read-only");
		return;
	}
	if (value->type == jbvNull)
	{
		if (is_required(state, def, api_user))
			complain_of_value(state, def->name, "is required and must not be null");
		return;
	}
	complaint = check_kind(state, def->kind, value);
	if (complaint == NULL && is_required(state, def, api_user) && lpu_string_equals(value, ""))
		complaint = "is required and must not be empty";
	if (complaint != NULL)
		complain_of_value(state, def->name, complaint);
}

/* Check the members that the user has, which is faster than looking for each known attribute. */
static void
read_attributes(UserCheckState *state, JsonbContainer *user)
{
	JsonbIterator *it = JsonbIteratorInit(user);
	JsonbValue	value;

	memset(state->present, false, lpu_nattributes * sizeof(bool));
	(void) JsonbIteratorNext(&it, &value, true);
	while (JsonbIteratorNext(&it, &value, true) == WJB_KEY)
	{
		const LpuAttribute *def = lpu_find_attribute(lpu_attributes, lpu_nattributes, &value);

		(void) JsonbIteratorNext(&it, &value, true);
		if (def == NULL)
			continue;
		state->values[def - lpu_attributes] = value;
		state->present[def - lpu_attributes] = true;
	}
}

static void
check_user(UserCheckState *state, const JsonbValue *user)
{
	bool		api_user = false;
	int			i;

	if (!lpu_jsonb_is_object(user))
	{
		complain_of_value(state, NULL, "must be an object");
		return;
	}
	read_attributes(state, user->val.binary.data);
	if (!state->present[state->api_user] ||
		!lpu_value_as_boolean(&state->values[state->api_user], &api_user))
		api_user = false;
	for (i = 0; i < lpu_nattributes; i++)
		check_attribute(state, i, api_user);
}

typedef struct NamedUser
{
	char	   *login;			/* folded */
	int			ordinal;
} NamedUser;

static int
compare_logins(const void *a, const void *b)
{
	const NamedUser *left = a;
	const NamedUser *right = b;
	int			order = strcmp(left->login, right->login);

	return order != 0 ? order : left->ordinal - right->ordinal;
}

/* The same login twice in one document, upper and lower case alike, cannot both be created. */
static void
check_duplicates(UserCheckState *state, Jsonb *users)
{
	int			n;
	LpuUserIdentity *identities = lpu_users_identify(users, &n);
	NamedUser  *named = palloc(Max(n, 1) * sizeof(NamedUser));
	int			nnamed = 0;
	int			i;

	for (i = 0; i < n; i++)
	{
		const char *login = identities[i].login_name;

		if (login == NULL || *login == '\0')
			continue;
		named[nnamed].login = lpu_login_fold(login);
		named[nnamed++].ordinal = i + 1;
	}
	qsort(named, nnamed, sizeof(NamedUser), compare_logins);
	for (i = 1; i < nnamed; i++)
	{
		if (strcmp(named[i].login, named[i - 1].login) != 0)
			continue;
		state->ordinal = named[i].ordinal;
		complain_of_value(state, "loginName",
						  psprintf("is the same as that of user %d", named[i - 1].ordinal));
		((LpuUserProblem *) llast(state->problems))->twin = named[i - 1].ordinal;
	}
}

static int
compare_problems(const ListCell *a, const ListCell *b)
{
	const LpuUserProblem *left = lfirst(a);
	const LpuUserProblem *right = lfirst(b);

	return left->ordinal != right->ordinal ? left->ordinal - right->ordinal :
		left->position - right->position;
}

/*
 * Check an array of user objects, or one object, against what is documented of them. Return a
 * list of LpuUserProblem in order, at most as many as make sense to read; NIL if there are none.
 */
List *
lpu_users_check(Jsonb *users, LpuUserUse use, bool require_password)
{
	UserCheckState state = {use, require_password, 0, NIL};
	JsonbIterator *it = NULL;
	JsonbValue	user;
	int			found;

	state.values = palloc(lpu_nattributes * sizeof(JsonbValue));
	state.present = palloc(lpu_nattributes * sizeof(bool));
	state.api_user = (int) (lpu_attribute_named(lpu_attributes, lpu_nattributes, "isApiUser") -
							lpu_attributes);
	if (JB_ROOT_IS_SCALAR(users))
		complain_of_value(&state, NULL, "must be an array of user objects, or one user object");
	else if (JB_ROOT_COUNT(users) == 0 && JB_ROOT_IS_ARRAY(users))
		complain_of_value(&state, NULL, "there are no users in the array");
	else
		while (lpu_next_user(&it, &users->root, &user))
		{
			CHECK_FOR_INTERRUPTS();
			state.ordinal++;
			check_user(&state, &user);
		}
	/* one user is like no other */
	if (state.ordinal < 2)
		return state.problems;
	found = list_length(state.problems);
	check_duplicates(&state, users);
	if (list_length(state.problems) > found)
		list_sort(state.problems, compare_problems);
	return state.problems;
}

/* Return what is wrong with a user that is larger than LPU_MAX_USER. */
LpuUserProblem *
lpu_user_too_large(int ordinal)
{
	LpuUserProblem *problem = palloc0(sizeof(LpuUserProblem));

	problem->ordinal = ordinal;
	problem->text = "is larger than 1 MB";
	return problem;
}

/*
 * Return what is wrong with one value, which is not null, for an attribute; NULL if nothing is.
 */
const char *
lpu_value_check(const LpuAttribute *attribute, Jsonb *document, LpuUserUse use)
{
	UserCheckState state = {use, false, 0, NIL};
	JsonbValue	value;

	if (JB_ROOT_IS_SCALAR(document))
	{
		if (!JsonbExtractScalar(&document->root, &value))
			return "cannot be read";
	}
	else
	{
		value.type = jbvBinary;
		value.val.binary.data = &document->root;
		value.val.binary.len = VARSIZE(document) - VARHDRSZ;
	}
	return check_kind(&state, attribute->kind, &value);
}

/* Return true if a user to be created must have this attribute. */
bool
lpu_is_required(const LpuAttribute *attribute, bool require_password, bool api_user)
{
	UserCheckState state = {LPU_USER_CREATE, require_password, 0, NIL};

	return is_required(&state, attribute, api_user);
}
