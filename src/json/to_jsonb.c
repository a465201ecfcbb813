/*
 * to_jsonb.c: a response's body as jsonb.
 *
 * What comes from a network may be anything, and jsonb's input function raises
 * for what it does not like. A response that cannot be read must not abort the
 * transaction that has just created a user: the conversion runs in a
 * subtransaction, and its data errors come back as a complaint. Everything
 * else (a cancel, no memory) is raised again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "json/to_jsonb.h"

/*
 * Errors of the data itself: not JSON, bad escapes, untranslatable characters;
 * too deep, too large. An escape beyond ASCII is "not supported" in SQL_ASCII,
 * and more elements than an allocation holds are an internal error.
 */
static bool
is_data_error(int sqlstate)
{
	int			category = ERRCODE_TO_CATEGORY(sqlstate);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_PROGRAM_LIMIT_EXCEEDED) ||
		sqlstate == ERRCODE_FEATURE_NOT_SUPPORTED || sqlstate == ERRCODE_INTERNAL_ERROR;
}

static Jsonb *
convert(const char *body, size_t length)
{
	char	   *text = pg_any_to_server(body, (int) length, PG_UTF8);

	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

/* convert(), or NULL if the data is wrong. */
static Jsonb *
convert_safely(const char *body, size_t length, const char **complaint)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Jsonb	   *volatile result = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		result = convert(body, length);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (!is_data_error(error->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		*complaint = psprintf("the response cannot be read as JSON: %s", error->message);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return result;
}

/*
 * Return a response body as jsonb in the current memory context. NULL if it is empty; NULL with
 * *complaint if it is not JSON in UTF-8, or jsonb or the database's encoding cannot hold it.
 * Uses a subtransaction.
 */
Jsonb *
lpu_body_as_jsonb(const char *body, size_t length, const char **complaint)
{
	if (length == 0)
		return NULL;
	/* also finds NUL bytes */
	if (!pg_verify_mbstr(PG_UTF8, body, (int) length, true))
	{
		*complaint = "the response is not UTF-8";
		return NULL;
	}
	return convert_safely(body, length, complaint);
}
