/*
 * origin.c: which database this is, among its copies.
 *
 * Each row of the queue records in which database it was written, because a copy of a database
 * must not send what the original sends.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/compat.h"
#include "base/origin.h"

PG_FUNCTION_INFO_V1(lp_origin);

/*
 * Return system identifier/database OID/timeline, allocated in the current memory context. A
 * promoted or restored copy has another timeline, a dump restored elsewhere another database or
 * system. During recovery the timeline is that of the replay.
 */
char *
lpu_origin_text(void)
{
	TimeLineID	timeline;

	if (RecoveryInProgress())
		(void) GetXLogReplayRecPtr(&timeline);
	else
		timeline = GetWALInsertionTimeLine();
	return psprintf(UINT64_FORMAT "/%u/%u", GetSystemIdentifier(), MyDatabaseId, timeline);
}

/*
 * lp_origin() RETURNS text
 */
Datum
lp_origin(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(lpu_origin_text()));
}
