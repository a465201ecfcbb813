/*
 * fetch.c: rows of a foreign table.
 *
 * It requests only the attributes that the needed columns show, by one listing or by a few
 * concurrent GETs by id, and converts each entity to a row. The id is always requested, so that
 * an error can name the entity. It knows nothing of plans and executors. It raises errors itself.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "api/list_stream.h"
#include "base/encoding.h"
#include "base/error.h"
#include "http/url.h"
#include "remote/fetch.h"
#include "user/json_to_datum.h"

/* A column that is read: from which of the names, and how. */
typedef struct ReadColumn
{
	int			column;			/* its number, less one */
	int			name;			/* place among the names; -1: the whole entity */
	LpuConverter *converter;
} ReadColumn;

struct LpuFetch
{
	MemoryContext context;
	const LpuForeignTable *table;
	const LpuOptions *options;
	const LpuFetchPlan *plan;
	char	   *query;			/* of the URL */
	const char **names;			/* attributes to read; the first is "id" */
	int			nnames;
	int			deleted_name;	/* place of "deleted" if deleted entities are
								 * to be left out here, -1 */
	bool		whole;
	int			secrets;		/* where the secrets begin, if whole */
	ReadColumn *columns;
	int			ncolumns;
	bool		by_id;			/* of the current run */
	int64	   *ids;			/* of the GETs */
	int			nids;
	int			opened;			/* of them */
	int			at;				/* the one that is read */
	LpuListing **gets;			/* under way, a ring */
	LpuListing *list;
	StringInfoData entity;		/* behind the last row */
	int64		revision;		/* the oldest so far, -1: none */
	LpuFetchCost cost;
	const ReadColumn *converting;	/* for messages */
};

/* ----- asking ----- */

static int
select_name(const char **names, int *n, const char *name)
{
	int			i;

	for (i = 0; i < *n; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	names[*n] = name;
	return (*n)++;
}

/*
 * Collect the names to request: "id", those of the needed columns, and "deleted" if it decides.
 */
static int
collect_names(const LpuForeignTable *table, const LpuFetchPlan *plan, const char **names,
			  bool *whole)
{
	int			n = 0;
	int			i = -1;

	*whole = plan->entity;
	select_name(names, &n, "id");
	while ((i = bms_next_member(plan->columns, i)) >= 0)
	{
		const LpuColumn *column = &table->columns[i];

		if (column->whole)
			*whole = true;
		else if (column->name != NULL && !column->secret)
			select_name(names, &n, column->attribute);
	}
	/* the list leaves deleted entities out by itself */
	if (plan->by_id && !plan->include_deleted)
		select_name(names, &n, "deleted");
	return n;
}

/* An assignment is requested with its members, without those that are not needed. */
static const char *
members_of(const LpuForeignTable *table, const char *name)
{
	const LpuAttribute *def = lpu_attribute_named(table->resource->attributes,
												  *table->resource->nattributes, name);

	return def != NULL &&
		(def->kind == LPU_GROUP || def->kind == LPU_GROUPS) ? "(agentGroupId,assignmentDate)" : "";
}

static char *
write_fetch_query(const LpuForeignTable *table, const LpuFetchPlan *plan, const char **names, int n,
				  bool whole)
{
	StringInfoData query;
	int			i;

	initStringInfo(&query);
	appendStringInfoString(&query, "&select=");
	if (whole)
		appendStringInfoString(&query, "$all");
	for (i = 0; i < n && !whole; i++)
		appendStringInfo(&query, "%s%s%s", i > 0 ? "," : "", lpu_url_escape(names[i]),
						 members_of(table, names[i]));
	if (plan->include_deleted)
		appendStringInfoString(&query, "&include_deleted=true");
	return query.data;
}

/*
 * Return the URL below the origin of a fetch, with {id} for ids. Allocated in the current memory
 * context.
 */
char *
lpu_fetch_path(const LpuForeignTable *table, const LpuOptions *options, const LpuFetchPlan *plan)
{
	const char **names = palloc((table->ncolumns + 2) * sizeof(char *));
	bool		whole;
	int			n = collect_names(table, plan, names, &whole);
	LpuApiRequest request = {.method = plan->by_id ? LPU_GET_USER : table->resource->list};

	request.query = write_fetch_query(table, plan, names, n, whole);
	return lpu_api_path(options, &request);
}

static void
choose_columns(LpuFetch *f)
{
	int			i = -1;

	f->columns = palloc(Max(f->table->ncolumns, 1) * sizeof(ReadColumn));
	while ((i = bms_next_member(f->plan->columns, i)) >= 0)
	{
		const LpuColumn *column = &f->table->columns[i];
		ReadColumn *read = &f->columns[f->ncolumns];

		if (column->name == NULL || column->secret)
			continue;
		read->column = i;
		read->name = column->whole ? -1 : select_name(f->names, &f->nnames, column->attribute);
		read->converter = lpu_converter_new(column->kind, column->type, column->typmod);
		f->ncolumns++;
	}
}

/*
 * Prepare to read a table, in the current memory context; sends nothing. All arguments must live
 * as long.
 */
LpuFetch *
lpu_fetch_new(const LpuForeignTable *table, const LpuOptions *options, const LpuFetchPlan *plan)
{
	LpuFetch   *f = palloc0(sizeof(LpuFetch));

	f->context = CurrentMemoryContext;
	f->table = table;
	f->options = options;
	f->plan = plan;
	f->names = palloc((table->ncolumns + 2 + lpu_nattributes) * sizeof(char *));
	f->nnames = collect_names(table, plan, f->names, &f->whole);
	f->query = write_fetch_query(table, plan, f->names, f->nnames, f->whole);
	f->deleted_name = plan->by_id &&
		!plan->include_deleted ? select_name(f->names, &f->nnames, "deleted") : -1;
	choose_columns(f);
	f->secrets = f->nnames;
	f->nnames = f->whole ? lpu_attribute_secrets(f->names, f->nnames) : f->nnames;
	f->gets = palloc0(options->max_connections * sizeof(LpuListing *));
	f->revision = -1;
	initStringInfo(&f->entity);
	return f;
}

/* ----- requests ----- */

/* For messages: what is done. */
static const char *
what_of(const LpuFetch *f, int64 id)
{
	return f->by_id ? psprintf("get user " INT64_FORMAT, id) : f->table->resource->what;
}

static LpuListing *
open_listing(LpuFetch *f, int64 id)
{
	LpuApiRequest request = {.method = f->by_id ? LPU_GET_USER :
		f->table->resource->list,.user_id = id,
	.query = f->query};
	const char *what = what_of(f, id);
	MemoryContext caller = MemoryContextSwitchTo(f->context);
	LpuListing *listing = lpu_listing_open(f->options, &request, what, f->names, f->nnames,
										   f->whole);

	MemoryContextSwitchTo(caller);
	return listing;
}

/* That of a request, which goes on or ends. */
static void
add_cost(LpuFetchCost *cost, const LpuListing *listing, bool is_list)
{
	if (listing == NULL)
		return;
	cost->requests += lpu_listing_requests(listing);
	cost->listings += is_list ? lpu_listing_requests(listing) : 0;
	cost->bytes += lpu_listing_bytes(listing);
	cost->ms += lpu_listing_ms(listing);
}

static void
close_listing(LpuFetch *f, LpuListing **listing)
{
	int64		revision;

	if (*listing == NULL)
		return;
	revision = lpu_listing_revision(*listing);
	if (revision >= 0 && (f->revision < 0 || revision < f->revision))
		f->revision = revision;
	add_cost(&f->cost, *listing, listing == &f->list);
	lpu_listing_close(*listing);
	*listing = NULL;
}

/* End the requests of a fetch that is not read to its end. Not needed after an error. */
void
lpu_fetch_stop(LpuFetch *f)
{
	int			i;

	close_listing(f, &f->list);
	for (i = 0; i < f->options->max_connections; i++)
		close_listing(f, &f->gets[i]);
	f->nids = f->opened = f->at = 0;
	f->revision = -1;
}

/* Begin anew with the whole list. */
void
lpu_fetch_list(LpuFetch *f)
{
	lpu_fetch_stop(f);
	f->by_id = false;
	f->list = open_listing(f, 0);
}

static int
compare_fetched_ids(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

/*
 * Begin anew with the entities that have these ids, in any order, some perhaps twice. Return
 * false if there are so many that all entities are listed instead.
 */
bool
lpu_fetch_ids(LpuFetch *f, const int64 *ids, int n)
{
	int64	   *sorted;
	int			i;

	lpu_fetch_stop(f);
	sorted = palloc(Max(n, 1) * sizeof(int64));
	memcpy(sorted, ids, n * sizeof(int64));
	qsort(sorted, n, sizeof(int64), compare_fetched_ids);
	/* ids are positive */
	for (i = 0; i < n; i++)
		if (sorted[i] > 0 && (f->nids == 0 || sorted[i] != sorted[f->nids - 1]))
			sorted[f->nids++] = sorted[i];
	if (f->nids > (f->plan->max_gets > 0 ? f->plan->max_gets : LPU_MAX_GETS))
	{
		pfree(sorted);
		lpu_fetch_list(f);
		return false;
	}
	f->by_id = true;
	if (f->ids != NULL)
		pfree(f->ids);
	f->ids = MemoryContextAlloc(f->context, Max(f->nids, 1) * sizeof(int64));
	memcpy(f->ids, sorted, f->nids * sizeof(int64));
	pfree(sorted);
	return true;
}

/* ----- rows ----- */

/* Names the value that cannot be read. The id comes from the network: only digits are shown. */
static void
fetch_value_context(void *arg)
{
	const LpuFetch *f = arg;
	const LpuValue *id;
	const LpuColumn *column;

	if (f->converting == NULL)
		return;
	column = &f->table->columns[f->converting->column];
	id = &lpu_listing_values(f->by_id ? f->gets[f->at % f->options->max_connections] : f->list)[0];
	errcontext("column \"%s\" (attribute \"%s\") of foreign table \"%s\", entity with id %s",
			   column->name,
			   column->attribute, f->table->name,
			   id->text !=NULL &&
			   strspn(id->text, "-0123456789") == strlen(id->text) ? id->text : "unknown");
}

/* Raise an error for a response that is no entity, or not the requested one. */
static void
check_entity(const LpuFetch *f, const LpuListing *listing)
{
	const LpuValue *value = &lpu_listing_values(listing)[0];
	bool		has_id = value->type != LPU_VALUE_ABSENT && value->type != LPU_VALUE_NULL &&
	(value->type != LPU_VALUE_STRING || value->length > 0);
	int64		asked = f->by_id ? f->ids[f->at] : 0;
	const char *text = lpu_value_text(value);
	int64		id;

	/* in a list, a wrong id is for its column to refuse */
	if (has_id && (!f->by_id || (text !=NULL && lpu_text_as_int64(text, &id) && id == asked)))
		return;
	lpu_problem_raise(lpu_problem_new(ERRCODE_CONNECTION_FAILURE, "could not %s of account \"%s\": %s",
									  what_of(f, asked), f->options->account,
									  has_id ? "the response is another user" : "an entity has no id"));
}

static void
read_entity_row(LpuFetch *f, const LpuListing *listing, Datum *values, bool *nulls)
{
	ErrorContextCallback context = {error_context_stack, fetch_value_context, f};
	const LpuValue *found = lpu_listing_values(listing);
	int			i;

	memset(nulls, true, f->table->ncolumns * sizeof(bool));
	error_context_stack = &context;
	for (i = 0; i < f->ncolumns; i++)
	{
		const ReadColumn *read = &f->columns[i];
		LpuValue	value;

		f->converting = read;
		value = read->name >= 0 ? found[read->name] :
			lpu_value_without_secrets(lpu_listing_whole(listing), found + f->secrets,
									  f->nnames - f->secrets);
		nulls[read->column] = lpu_convert(read->converter, &value, &values[read->column]);
	}
	f->converting = NULL;
	error_context_stack = context.previous;
	if (f->plan->entity)
	{
		resetStringInfo(&f->entity);
		appendBinaryStringInfo(&f->entity, lpu_listing_whole(listing)->text,
							   (int) lpu_listing_whole(listing)->length);
	}
}

static bool
next_of_list(LpuFetch *f, Datum *values, bool *nulls)
{
	if (f->list == NULL)
		return false;
	switch (lpu_listing_next(f->list))
	{
		case LPU_LISTING_ELEMENT:
			check_entity(f, f->list);
			read_entity_row(f, f->list, values, nulls);
			return true;
		case LPU_LISTING_END:
			/* the connection is free for others */
			close_listing(f, &f->list);
			return false;
		default:
			lpu_problem_raise(lpu_listing_problem(f->list));
	}
	return false;
}

/* One of the GETs: its user, unless there is none. */
static bool
read_get(LpuFetch *f, LpuListing *get, Datum *values, bool *nulls)
{
	switch (lpu_listing_next(get))
	{
		case LPU_LISTING_ELEMENT:
			check_entity(f, get);
			if (f->deleted_name >= 0 &&
				lpu_value_is_true(&lpu_listing_values(get)[f->deleted_name]))
				return false;
			read_entity_row(f, get, values, nulls);
			/* the row is good only if the response came whole */
			if (lpu_listing_next(get) == LPU_LISTING_FAILED)
				lpu_problem_raise(lpu_listing_problem(get));
			return true;
		case LPU_LISTING_FAILED:
			lpu_problem_raise(lpu_listing_problem(get));
		default:
			return false;
	}
}

static bool
next_of_ids(LpuFetch *f, Datum *values, bool *nulls)
{
	int			room = f->options->max_connections;

	while (f->at < f->nids)
	{
		bool		found;

		for (; f->opened < f->nids && f->opened < f->at + room; f->opened++)
			f->gets[f->opened % room] = open_listing(f, f->ids[f->opened]);
		found = read_get(f, f->gets[f->at % room], values, nulls);
		close_listing(f, &f->gets[f->at % room]);
		f->at++;
		if (found)
			return true;
	}
	return false;
}

/*
 * Read the next row into arrays with an element for each column; columns that are not needed are
 * null. Values are allocated in the current memory context. Return false at the end. Raises any
 * failure; for a value it names column, attribute and entity. Can be cancelled.
 */
bool
lpu_fetch_next(LpuFetch *f, Datum *values, bool *nulls)
{
	return f->by_id ? next_of_ids(f, values, nulls) : next_of_list(f, values, nulls);
}

/*
 * Return the entity of the last row as the API wrote it, in UTF-8, until the next row. Only with
 * plan.entity.
 */
const char *
lpu_fetch_entity(const LpuFetch *f, size_t *length)
{
	*length = f->entity.len;
	return f->entity.data;
}

/*
 * Return the oldest revision among the responses since the fetch began anew, after the last row;
 * -1 if one has none.
 */
int64
lpu_fetch_revision(const LpuFetch *f)
{
	return f->revision;
}

/* Take the rest from the network now, since the caller will not read for a long time. */
void
lpu_fetch_drain(LpuFetch *f)
{
	int			room = f->options->max_connections;
	int			i;

	if (f->list != NULL)
		(void) lpu_listing_drain(f->list);

	/*
	 * all are driven together: if one is slow, so are the others, and the
	 * waits must not add up
	 */
	for (i = f->at; i < f->opened; i++)
		if (f->gets[i % room] != NULL && !lpu_listing_drain(f->gets[i % room]))
			break;
}

/* Return what the fetch has cost so far. */
LpuFetchCost
lpu_fetch_costs(const LpuFetch *f)
{
	LpuFetchCost cost = f->cost;
	int			i;

	add_cost(&cost, f->list, true);
	for (i = 0; i < f->options->max_connections; i++)
		add_cost(&cost, f->gets[i], false);
	return cost;
}
