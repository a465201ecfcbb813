/*
 * change_judge.c: deciding what to send for a claimed update or delete.
 *
 * The payload of a request has the desired values (queue/enqueue_change.h), the account the current
 * ones. Nothing is sent for a user that was deleted, has an unexpected login, or already has the
 * desired values.  An attribute that has neither the value at planning time nor the desired one was
 * changed by another client: the request's policy decides whether it is overwritten.  Needs a
 * transaction; results are texts in the memory context of the row's claim.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"

#include "api/refused_attributes.h"
#include "base/encoding.h"
#include "delivery/change_judge.h"
#include "delivery/create_batch.h"
#include "json/to_jsonb.h"
#include "user/compare.h"
#include "user/login.h"
#include "user/merge.h"
#include "user/serialize.h"

/* Policy for an attribute that another client has changed. */
typedef enum DriftPolicy
{
	DRIFT_OVERWRITE,
	DRIFT_REPORT,
	DRIFT_ACCEPT
} DriftPolicy;

/* A request and a user side by side. */
typedef struct Comparison
{
	LpuQueueRow *row;
	Jsonb	   *entity;
	Jsonb	   *payload;
	DriftPolicy drift;
	Jsonb	   *set;			/* what is to be sent */
	bool		differs;		/* the account has another value, or hides it */
	StringInfoData drifted;		/* attributes left unchanged, as members of an
								 * object */
	StringInfoData names;		/* ... by name */
} Comparison;

static const char *
keep_row_text(const LpuQueueRow *row, const char *text)
{
	return text ? MemoryContextStrdup(lpu_claim_context(row), text) : NULL;
}

/* Settle a user for which nothing is sent. */
static void
set_failed(LpuQueueRow *row, LpuCause cause, const char *error)
{
	lpu_row_set_failed(row, cause, keep_row_text(row, error));
	row->unsent = true;
}

static void
set_done(LpuQueueRow *row, const char *reason)
{
	lpu_rows_set(&row, 1, LPU_STATE_DONE, NULL, keep_row_text(row, reason), 0);
	row->unsent = true;
}

/* ----- values ----- */

static Jsonb *
parse(const char *text)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

/* Return true if the attribute of this name can be compared with the value sent. */
static bool
is_visible(const LpuAttribute *def)
{
	return def != NULL && (def->rules & (LPU_SECRET | LPU_HIDDEN | LPU_READ_ONLY)) == 0;
}

static JsonbValue *
member(Jsonb *object, const char *name, JsonbValue *value)
{
	return object ? lpu_jsonb_get_member(&object->root, name, value) : NULL;
}

static bool
is_true(Jsonb *object, const char *name, bool *result)
{
	JsonbValue	value;

	return member(object, name, &value) != NULL && lpu_value_as_boolean(&value, result);
}

static DriftPolicy
drift_policy(Jsonb *payload)
{
	JsonbValue	value;

	if (member(payload, "drift", &value) == NULL)
		return DRIFT_OVERWRITE;
	if (lpu_string_equals(&value, "report"))
		return DRIFT_REPORT;
	return lpu_string_equals(&value, "accept") ? DRIFT_ACCEPT : DRIFT_OVERWRITE;
}

/* Read an entity of the account, in UTF-8; NULL and *why if it cannot be read. */
static Jsonb *
read_entity(const char *text, size_t length, const char **why)
{
	Jsonb	   *entity = lpu_body_as_jsonb(text, length, why);

	if (entity != NULL && JB_ROOT_IS_OBJECT(entity))
		return entity;
	if (entity != NULL || *why == NULL)
		*why = "it is no object";
	return NULL;
}

/* ----- sets that are added to ----- */

static void
append_ids(List **ids, Jsonb *object, const char *name, bool remove)
{
	JsonbValue	value;
	JsonbIterator *it;
	JsonbValue	element;

	if (member(object, name, &value) == NULL || !lpu_jsonb_is_array(&value))
		return;
	it = JsonbIteratorInit(value.val.binary.data);
	(void) JsonbIteratorNext(&it, &element, true);
	while (JsonbIteratorNext(&it, &element, true) == WJB_ELEM)
	{
		int64		id;
		ListCell   *cell;
		bool		there = false;

		if (!lpu_value_as_int64(&element, &id))
			continue;
		foreach(cell, *ids)
			if (*(int64 *) lfirst(cell) == id)
		{
			there = true;
			if (remove)
				*ids = foreach_delete_current(*ids, cell);
		}
		if (!there && !remove)
		{
			int64	   *copy = palloc(sizeof(int64));

			*copy = id;
			*ids = lappend(*ids, copy);
		}
	}
}

/*
 * Set an attribute that is a set of ids: the value of the request, or else that of the account,
 * with "add" added and "take" removed.
 */
static void
set_sum(Comparison *c, const char *name)
{
	StringInfoData text;
	List	   *ids = NIL;
	ListCell   *cell;
	JsonbValue	value;
	Jsonb	   *base = member(c->set, name, &value) ? c->set : c->entity;

	append_ids(&ids, base, name, false);
	append_ids(&ids, lpu_jsonb_of_member(c->payload, "add"), name, false);
	append_ids(&ids, lpu_jsonb_of_member(c->payload, "take"), name, true);
	initStringInfo(&text);
	appendStringInfoChar(&text, '{');
	escape_json(&text, name);
	appendStringInfoString(&text, ":[");
	foreach(cell, ids)
		appendStringInfo(&text, "%s" INT64_FORMAT, foreach_current_index(cell) > 0 ? "," : "",
						 *(int64 *) lfirst(cell));
	appendStringInfoString(&text, "]}");
	c->set = lpu_jsonb_lay(c->set, parse(text.data));
}

static bool
is_sum(const Comparison *c, const char *name)
{
	JsonbValue	value;

	return member(lpu_jsonb_of_member(c->payload, "add"), name, &value) != NULL ||
		member(lpu_jsonb_of_member(c->payload, "take"), name, &value) != NULL;
}

static void
set_sums(Comparison *c)
{
	int			i;

	for (i = 0; i < lpu_nattributes; i++)
		if (lpu_element_kind(lpu_attributes[i].kind) != LPU_ANY &&
			is_sum(c, lpu_attributes[i].name))
			set_sum(c, lpu_attributes[i].name);
}

/* ----- comparing ----- */

static char *
write_value(const JsonbValue *value)
{
	Jsonb	   *json = JsonbValueToJsonb(unconstify(JsonbValue *, value));

	return JsonbToCString(NULL, &json->root, VARSIZE(json));
}

/* Leave an attribute as the account has it. */
static void
leave(Comparison *c, const char *name, const JsonbValue *now)
{
	appendStringInfo(&c->names, "%s%s", c->names.len > 0 ? ", " : "", name);
	appendStringInfoChar(&c->drifted, c->drifted.len > 0 ? ',' : '{');
	escape_json(&c->drifted, name);
	appendStringInfo(&c->drifted, ":%s", now == NULL ? "null" : write_value(now));
	c->set = lpu_jsonb_without(c->set, name);
}

/* Compare the desired value of one attribute with its current and its former value. */
static void
compare_attribute(Comparison *c, const char *name, const JsonbValue *wanted)
{
	const LpuAttribute *def = lpu_attribute_named(lpu_attributes, lpu_nattributes, name);
	Jsonb	   *bases = lpu_jsonb_of_member(c->payload, "base");
	JsonbValue	now_value;
	JsonbValue	base_value;
	const JsonbValue *now;
	const JsonbValue *base;

	if (!is_visible(def))
	{
		/* a response has accepted it, and nothing contradicts that */
		c->differs |= c->row->last_status / 100 != 2;
		return;
	}
	now = member(c->entity, name, &now_value);
	if (lpu_value_means_same(def->kind, wanted, now))
		return;
	base = member(bases, name, &base_value);
	if (base != NULL && c->drift != DRIFT_OVERWRITE && !is_sum(c, name) &&
		!lpu_value_means_same(def->kind, base, now))
		leave(c, name, now);
	else
		c->differs = true;
}

static void
compare_attributes(Comparison *c)
{
	JsonbIterator *it = JsonbIteratorInit(&c->set->root);
	JsonbValue	key;
	JsonbValue	value;

	(void) JsonbIteratorNext(&it, &key, true);
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		compare_attribute(c, pnstrdup(key.val.string.val, key.val.string.len), &value);
	}
}

/* ----- the judgement ----- */

/* Return the folded login of an object, or NULL if it has none. */
static char *
folded_login(Jsonb *object)
{
	JsonbValue	value;

	if (member(object, "loginName", &value) == NULL || value.type != jbvString)
		return NULL;
	return lpu_login_fold(pnstrdup(value.val.string.val, value.val.string.len));
}

/* Return false and fail the row if the user does not have the login that the request expects. */
static bool
check_login(Comparison *c)
{
	JsonbValue	value;
	JsonbValue	wanted;
	Jsonb	   *set = lpu_jsonb_of_member(c->payload, "set");
	char	   *login;

	/* a user found by its login may have been renamed since */
	if (c->row->login_name == NULL || c->row->by_login || c->row->target == 0)
		return true;
	if (member(c->entity, "loginName", &value) == NULL || value.type != jbvString)
		login = "";
	else
		login = pnstrdup(value.val.string.val, value.val.string.len);
	if (strcmp(lpu_login_fold(login), lpu_login_fold(c->row->login_name)) == 0)
		return true;
	/* the user has been renamed already */
	if (member(set, "loginName", &wanted) != NULL &&
		lpu_value_means_same(LPU_LOGIN, &wanted, &value))
		return true;
	set_failed(c->row, LPU_CAUSE_REFUSED,
			   psprintf("the user has another login than expected: \"%s\"",
						lpu_text_excerpt(login, strlen(login), LPU_LOGIN_CHARACTERS)));
	return false;
}

/*
 * Fill in attributes that the account returns blank from the values stored with the request.
 * Return false and fail the row if one would be lost, or the account has shown but a part.
 */
static bool
fill_hidden(Comparison *c, Jsonb **complete)
{
	Jsonb	   *hidden = lpu_jsonb_of_member(c->payload, "hidden");
	const char *lacks = lpu_user_lacks(c->entity);
	StringInfoData lost;
	int			i;

	if (lacks != NULL)
	{
		set_failed(c->row, LPU_CAUSE_REFUSED,
				   psprintf("the account has not shown all attributes of the user: \"%s\" is missing",
							lacks));
		return false;
	}
	initStringInfo(&lost);
	for (i = 0; i < lpu_nattributes; i++)
	{
		JsonbValue	value;
		const char *name = lpu_attributes[i].name;

		if (!lpu_user_hides(c->entity, &lpu_attributes[i]) || member(c->set, name, &value) != NULL)
			continue;
		if (member(hidden, name, &value) == NULL)
			appendStringInfo(&lost, "%s\"%s\"", lost.len > 0 ? " and " : "", name);
	}
	if (lost.len > 0)
	{
		set_failed(c->row, LPU_CAUSE_REFUSED,
				   psprintf("the user would lose %s, which the account does not show and the request"
							" does not have", lost.data));
		return false;
	}
	*complete = c->set;
	for (i = 0; hidden != NULL && i < lpu_nattributes; i++)
		if (!lpu_user_hides(c->entity, &lpu_attributes[i]))
			hidden = lpu_jsonb_without(hidden, lpu_attributes[i].name);
	if (hidden != NULL)
		*complete = lpu_jsonb_lay(hidden, c->set);
	return true;
}

/*
 * Return true, with the row failed, if the request was sent more than max_retries times without a
 * known outcome.
 */
static bool
is_given_up(LpuChangedUser *user, int max_retries)
{
	LpuQueueRow *row = user->row;
	int			sent = row->attempts - 1;

	if (!row->doubtful || sent <= max_retries)
		return false;
	set_failed(row, LPU_CAUSE_GAVE_UP,
			   psprintf("given up after %d attempts: %s", sent,
						row->last_error ? row->last_error : "no response"));
	row->status = row->last_status;
	return true;
}

/* Return the report on attributes left unchanged, or NULL. */
static const char *
drift_reason(const Comparison *c)
{
	if (c->names.len == 0)
		return NULL;
	return psprintf(c->drift == DRIFT_ACCEPT ? "accepted as the account has it: %s" :
					"left as the account has it: %s", c->names.data);
}

static bool
judge_update(LpuChangedUser *user, Comparison *c, const LpuOptions *options)
{
	Jsonb	   *set = lpu_jsonb_of_member(c->payload, "set");
	Jsonb	   *complete;
	StringInfoData body;
	size_t		length;
	bool		large;

	c->set = set ? set : parse("{}");
	c->drift = drift_policy(c->payload);
	set_sums(c);
	compare_attributes(c);
	if (c->drifted.len > 0)
		c->row->outcome = keep_row_text(c->row, psprintf("{\"drifted\": %s}}", c->drifted.data));
	if (!c->differs && c->names.len > 0 && c->drift == DRIFT_REPORT)
	{
		set_failed(c->row, LPU_CAUSE_REFUSED,
				   psprintf("changed in the account since it was planned: %s", c->names.data));
		return false;
	}
	if (!c->differs)
	{
		set_done(c->row, drift_reason(c));
		return false;
	}
	if (is_given_up(user, options->max_retries) || !fill_hidden(c, &complete))
		return false;
	initStringInfo(&body);
	large = lpu_users_write(&body,
							lpu_user_lay(lpu_refused_strip(options, c->entity), complete)) > 0;
	length = body.len;
	user->body = large ? NULL : lpu_text_to_utf8(body.data, &length);
	user->set = c->set;
	user->renamed_from = folded_login(c->entity);
	user->renamed_to = folded_login(c->set);
	c->row->reason = keep_row_text(c->row, drift_reason(c));
	if (user->body == NULL)
		set_failed(c->row, LPU_CAUSE_REFUSED, large ? "the user would be larger than 1 MB" :
				   "the user cannot be sent as UTF-8");
	return user->body != NULL;
}

static bool
judge_delete(LpuChangedUser *user, Comparison *c, const LpuOptions *options)
{
	bool		planned = true;
	bool		enabled = false;

	if (is_true(lpu_jsonb_of_member(c->payload, "base"), "isEnabled", &planned) && !planned &&
		is_true(c->entity, "isEnabled", &enabled) && enabled)
	{
		set_failed(c->row, LPU_CAUSE_REFUSED, "the user is enabled again");
		return false;
	}
	if (is_given_up(user, options->max_retries))
		return false;
	user->body = psprintf("\"" INT64_FORMAT "\"", user->id);
	return true;
}

/*
 * Decide about a user that was read.  Return true if a request is to be sent: then user->body and
 * user->set are set; else the state of the row is set.
 */
bool
lpu_change_judge(LpuChangedUser *user, const LpuOptions *options)
{
	Comparison	c = {.row = user->row};
	const char *why = NULL;

	if (user->entity == NULL)
	{
		if (user->row->deletes)
			set_done(user->row, NULL);
		else
			set_failed(user->row, LPU_CAUSE_REFUSED, "the user is gone");
		return false;
	}
	c.entity = read_entity(user->entity, strlen(user->entity), &why);
	if (c.entity == NULL)
	{
		set_failed(user->row, LPU_CAUSE_REFUSED, psprintf("the user cannot be read: %s", why));
		return false;
	}
	c.payload = parse(user->row->body);
	initStringInfo(&c.drifted);
	initStringInfo(&c.names);
	if (!check_login(&c))
		return false;
	return user->row->deletes ? judge_delete(user, &c, options) :
		judge_update(user, &c, options);
}

/*
 * Return true if the response to an update shows the user as it was sent; else set *why to the
 * differences. entity: JSON in UTF-8.
 */
bool
lpu_change_is_as_sent(LpuChangedUser *user, const char *entity, size_t length, const char **why)
{
	Jsonb	   *answered = read_entity(entity, length, why);
	char	   *names;

	if (answered == NULL)
		return false;
	names = lpu_user_differences(user->set, answered);
	if (names != NULL)
		*why = psprintf("the response has other values: %s", names);
	return names == NULL;
}
