/*
 * difference.c: how the account differs from the source.
 *
 * Source, links and account are joined by one statement for all users, on one
 * text: "#" and the id of a linked user, else the login. The statement is
 * written here for the columns that the source has; all names in it are ours.
 * Rows that do not differ leave it early, so that what is expensive (jsonb,
 * reasons, who else has a login) is done for the few that do. It runs as the
 * owner of the extension's tables, and reads the two sides as tuplestores:
 * nothing of another role is called.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "base/spi_plan.h"
#include "sync/comparison.h"

/* ----- reading both sides ----- */

/* What finds the ids of names, by column; NULL where "against" has the names. */
static LpuSyncNames **
read_names(const LpuSync *sync, const LpuOptions *options, Oid against)
{
	LpuSyncNames **names = palloc0(Max(sync->ncolumns, 1) * sizeof(LpuSyncNames *));
	LpuSyncNames *read[LPU_LOBS + 1] = {NULL};
	int			i;

	for (i = 0; i < sync->ncolumns; i++)
	{
		int			resource = sync->columns[i].names;

		if (resource < 0 || sync->columns[i].create_only ||
			(OidIsValid(against) && lpu_sync_relation_has(against, sync->columns[i].name)))
			continue;
		if (read[resource] == NULL)
			read[resource] = lpu_sync_names_read(options, resource);
		names[i] = read[resource];
	}
	return names;
}

/* Raises if source or account cannot be read. Memory is that of the caller. */
void
lpu_sync_read_sides(LpuSyncSides *sides, LpuSync *sync, Oid against)
{
	sides->sync = sync;
	sides->options = lpu_sync_options(sync);
	lpu_sync_read_columns(sync);
	sides->source = lpu_sync_read_source(sync, false, (Datum) 0,
										 read_names(sync, sides->options, against));
	sides->began = GetCurrentTimestamp();
	sides->account = OidIsValid(against) ?
		lpu_sync_read_against(sync, sides->source, against) :
		lpu_sync_read_account(sync, sides->source, sides->options);
	lpu_sync_register(sides->source, "_source");
	lpu_sync_register(sides->account, "_account");
}

/* What was read is not needed any more, but for its numbers. */
void
lpu_sync_forget_sides(LpuSyncSides *sides)
{
	lpu_sync_forget(sides->source, "_source");
	lpu_sync_forget(sides->account, "_account");
}

/* ----- the statement ----- */

/* The sync; what is unfinished. */
#define COMMON_SQL \
"WITH RECURSIVE y AS MATERIALIZED (SELECT * FROM @extschema@._lp_sync WHERE id = $1), " \
"unfinished AS MATERIALIZED ( " \
" SELECT r.user_id, @extschema@._lp_sync_fold(r.login_name COLLATE \"C\") AS login " \
" FROM @extschema@.lp_requests r, y " \
" WHERE r.account = y.account AND r.server_oid = $3 AND r.operation <> 'reset' " \
"  AND (r.state IN ('pending', 'sending', 'uncertain', 'held') OR r.finished_at >= $5)), "

/*
 * Its links. One that was closed because the user was not in the list counts again when the user is
 * there: a list may have come back short.
 */
#define LINK_SQL(columns) \
"link AS MATERIALIZED ( " \
" SELECT l.source_key, l.user_id, CASE WHEN v.revived THEN 'active' ELSE l.state END AS state " columns \
" FROM @extschema@._lp_sync_link l CROSS JOIN LATERAL (SELECT l.state = 'gone' AND NOT l.by_us " \
"   AND l.user_id IN (SELECT u.id FROM _account u) AND l.user_id NOT IN " \
"    (SELECT o.user_id FROM @extschema@._lp_sync_link o WHERE o.state <> 'gone') AS revived) v " \
" WHERE l.sync = $1), "

/* A wide column of the link "k". */
#define OF_LINK_SQL(column) \
"(SELECT b." column " FROM @extschema@._lp_sync_link b WHERE b.sync = $1 AND b.source_key = k.source_key)"

/*
 * The users that may differ. %1: the base of a link, if it is compared; %2: the source's isEnabled;
 * %3: values of both sides; %4: does the login differ; %5: does any attribute. Each row of the
 * source meets its link by key, and each user its link by id, or without a link by login. "moves":
 * the user gets another login, unless something keeps it from that. A user who is to be disabled
 * does not wait for a login that another user has. What was settled since the list of the account
 * began ($5) counts as unfinished: the list may be from before it, the links are from after it.
 * A person who left while a request that opens the user is unfinished is a candidate, too, also
 * without a link ("paired", which is not materialized: links are many). This is a statement of its
 * own, so that the planner knows that there are few of them.
 */
static const char candidates[] =
COMMON_SQL
LINK_SQL(", v.revived, l.since, l.by_us, l.hidden, l.date_updated, %1$s AS base")
"queued AS MATERIALIZED (SELECT i.source_key, i.login_name, i.action IN ('create', 'recreate', 'adopt', 'enable', 'reopen') AS opens "
" FROM @extschema@._lp_sync_item i JOIN @extschema@.lp_requests r ON r.id = i.request WHERE i.sync = $1 AND i.state = 'queued' "
"  AND r.state IN ('pending', 'sending', 'uncertain', 'held')), "
"paired AS (SELECT l.* FROM link l UNION ALL "
" SELECT DISTINCT q.source_key, NULL::bigint, 'gone', false, NULL::timestamptz, true, NULL::jsonb, NULL::text, NULL::jsonb "
" FROM queued q WHERE q.opens AND q.source_key NOT IN (SELECT l.source_key FROM link l)), "
"twice_key AS MATERIALIZED (SELECT s.key FROM _source s WHERE s.key IS NOT NULL "
" GROUP BY s.key HAVING count(*) > 1), "
"twice_login AS MATERIALIZED (SELECT s.login FROM _source s WHERE s.login IS NOT NULL "
" GROUP BY s.login HAVING count(*) > 1) "
"SELECT s.n IS NOT NULL AS in_source, coalesce(s.key, k.source_key) AS key, s.login, k.revived, "
" s.login_name AS s_login_name, s.problem, %2$s AS wanted, k.state AS link, k.by_us, k.since, "
" k.user_id AS linked, " OF_LINK_SQL("base") " AS base, k.hidden, k.date_updated, "
" " OF_LINK_SQL("unkept") " AS unkept, "
" coalesce(" OF_LINK_SQL("login_name") ", CASE WHEN s.n IS NULL THEN (SELECT q.login_name FROM queued q "
"  WHERE q.source_key = k.source_key LIMIT 1) END) AS k_login_name, a.id, "
" a.login AS a_login, a.login_name, a.enabled, a.updated, "
" k.source_key IS NULL OR k.state = 'gone' AS unlinked, m.moves, "
" CASE WHEN k.source_key IS NULL OR k.state = 'gone' OR a.id IS NULL OR m.moves THEN s.login END AS needed, "
" coalesce(s.key IN (SELECT t.key FROM twice_key t), false) AS twice_key, "
" coalesce(s.login IN (SELECT t.login FROM twice_login t), false) AS twice_login, "
" coalesce(coalesce(a.id, k.user_id) IN (SELECT u.user_id FROM unfinished u "
"   WHERE u.user_id IS NOT NULL), false) "
"  OR coalesce(coalesce(s.key, k.source_key) IN (SELECT q.source_key FROM queued q), false) "
"  OR coalesce(s.login IN (SELECT u.login FROM unfinished u WHERE u.login IS NOT NULL), false) "
"  OR coalesce(a.login IN (SELECT u.login FROM unfinished u WHERE u.login IS NOT NULL), false) "
"  AS unfinished %3$s "
"FROM (_source s FULL JOIN paired k ON k.source_key = s.key) "
"LEFT JOIN _account f ON f.login = CASE WHEN k.source_key IS NULL OR k.state = 'gone' THEN s.login END "
" AND f.id NOT IN (SELECT l.user_id FROM link l WHERE l.state <> 'gone') "
"LEFT JOIN _account a ON a.id = CASE WHEN k.state <> 'gone' THEN k.user_id ELSE f.id END "
"CROSS JOIN y "
"CROSS JOIN LATERAL (SELECT coalesce(k.state <> 'gone' AND %4$s AND (y.drift = 'overwrite' "
"   OR coalesce(" OF_LINK_SQL("base") " ->> 'loginName', a.login) = a.login "
"   OR (y.drift = 'accept' AND " OF_LINK_SQL("base") " ->> 'loginName' <> s.login)) "
"  AND NOT (a.enabled AND %2$s IS FALSE AND s.login IN (SELECT u.login FROM _account u WHERE u.login IS NOT NULL)), "
"  false) AS moves) m "
"WHERE ($2::text[] IS NULL OR coalesce(s.key, k.source_key) = ANY ($2)) AND CASE "
" WHEN s.n IS NULL THEN k.state = 'active' OR k.source_key IN (SELECT q.source_key FROM queued q WHERE q.opens) "
"  OR (k.state = 'disabled' AND (a.id IS NULL OR a.enabled "
"  OR (k.by_us AND k.since + y.delete_after <= clock_timestamp()))) "
" ELSE s.problem IS NOT NULL OR k.source_key IS NULL OR k.state = 'gone' OR k.revived OR a.id IS NULL OR %4$s "
"  OR (a.enabled AND (%2$s IS FALSE OR k.state = 'disabled')) "
"  OR (NOT a.enabled AND (%2$s IS TRUE OR (k.state = 'disabled' AND %2$s IS NOT FALSE))) "
"  OR coalesce(k.date_updated <> a.updated, false) "
"  OR coalesce(s.key IN (SELECT t.key FROM twice_key t), false) "
"  OR coalesce(s.login IN (SELECT t.login FROM twice_login t), false) "
"  OR coalesce(a.id IN (SELECT u.user_id FROM unfinished u WHERE u.user_id IS NOT NULL), false) "
"  OR coalesce(s.login IN (SELECT u.login FROM unfinished u WHERE u.login IS NOT NULL), false) "
"  OR coalesce(%5$s, false) END";

/*
 * Who else has the login of a row that needs it: the user (and how many), its
 * key if this sync has linked it, and whether it gives the login up. It does
 * if the login that it gets is free, or is given up by a user who does: "way"
 * goes from the users who get a free login, or one that is kept, to those who
 * wait for them. What it does not reach is a cycle, or waits for one.
 */
static const char holders[] =
COMMON_SQL
LINK_SQL("")
"candidate AS (SELECT * FROM _candidate), "
"new_login AS ( "
" SELECT s.login FROM _source s LEFT JOIN link k ON k.source_key = s.key AND k.state <> 'gone' "
" WHERE s.login IS NOT NULL AND k.source_key IS NULL), "
"holder AS MATERIALIZED ( "
" SELECT u.login, min(u.id) AS id, count(*) AS n FROM _account u "
" WHERE u.login IN (SELECT c.needed FROM candidate c WHERE c.needed IS NOT NULL) GROUP BY u.login), "
"mover AS MATERIALIZED ( "
" SELECT c.id, h.id AS holder, h.n FROM candidate c LEFT JOIN holder h ON h.login = c.needed "
" WHERE c.moves AND c.problem IS NULL AND NOT c.twice_key AND NOT c.twice_login AND NOT c.unfinished), "
"way AS ( "
" SELECT m.id, m.holder IS NULL AS free, 0 AS depth FROM mover m "
"  WHERE m.holder IS NULL OR m.n > 1 OR m.holder NOT IN (SELECT o.id FROM mover o) "
" UNION ALL "
" SELECT m.id, w.free, w.depth + 1 FROM way w JOIN mover m ON m.holder = w.id AND m.n = 1), "
"kept AS MATERIALIZED ( "
" SELECT h.login, h.id, h.n, w.free IS TRUE AS moves, CASE WHEN w.free THEN w.depth + 1 ELSE 0 END AS depth, "
"  CASE WHEN w.id IS NOT NULL THEN ', whose new loginName is taken' "
"   WHEN h.id IN (SELECT m.id FROM mover m) THEN ', and the renames form a cycle' ELSE '' END AS stays, "
"  h.id IN (SELECT u.user_id FROM unfinished u WHERE u.user_id IS NOT NULL) AS waits "
" FROM holder h LEFT JOIN way w ON w.id = h.id), "
"checked AS ( "
" SELECT c.*, h.id AS holder, h.n AS holders, k.source_key AS holder_key, h.moves AS holder_moves, "
"  h.stays AS holder_stays, coalesce(h.waits, false) AS holder_waits, coalesce(h.depth, 0) AS depth "
" FROM candidate c LEFT JOIN kept h ON h.login = c.needed "
" LEFT JOIN link k ON k.state <> 'gone' AND k.user_id = h.id), ";

/*
 * Why a row is blocked, or null. A user whom another sync of the account has linked, too, is
 * changed by neither, although it left the source. %1: what a user to be created lacks.
 */
static const char blocks[] =
"theirs AS ( "
" SELECT l.user_id, min(o.name) AS sync FROM y JOIN @extschema@._lp_sync o ON o.account = y.account AND o.id <> y.id "
" JOIN @extschema@._lp_sync_link l ON l.sync = o.id AND l.state <> 'gone' GROUP BY l.user_id), "
"judged AS MATERIALIZED ( "
" SELECT c.*, CASE WHEN c.problem IS NOT NULL THEN c.problem "
"  WHEN c.twice_key THEN 'the key is in several rows of the source' "
"  WHEN c.twice_login THEN 'loginName is in several rows of the source' "
"  WHEN c.unlinked AND c.holders > 1 THEN 'several users of the account have the loginName' "
"  WHEN t.sync IS NOT NULL THEN 'user ' || c.id::text || ' is linked by sync \"' || t.sync || '\"' "
"  WHEN NOT c.in_source THEN NULL "
"  WHEN NOT c.unlinked AND c.holder <> coalesce(c.id, 0) AND NOT c.holder_moves "
"   THEN 'loginName is that of user ' || c.holder::text || c.holder_stays || CASE WHEN c.id IS NULL "
"    THEN ', and user ' || c.linked::text || ' is gone: lp_sync_unlink() gives up its link' ELSE '' END "
"  WHEN c.unlinked AND c.holder IS NOT NULL AND NOT c.holder_moves "
"   AND c.holder_key IN (SELECT s.key FROM _source s) "
"   THEN 'loginName is that of user ' || c.holder::text || ', linked to key \"' || c.holder_key || '\"' "
"    || c.holder_stays "
"  WHEN c.id IS NULL AND NOT (c.unlinked AND c.holder IS NOT NULL AND NOT c.holder_moves) "
"   THEN nullif('required and missing: ' || %s, 'required and missing: ') END AS block "
" FROM checked c LEFT JOIN theirs t ON t.user_id = c.id), ";

/*
 * What differs, attribute by attribute. A change is sent if the source decides
 * it; a value that was sent again, and is as it was before although only the sync has
 * changed the user since, is reported. %1: the list of attributes.
 */
static const char differences[] =
"compared AS ( "
" SELECT c.*, d.* FROM judged c, y CROSS JOIN LATERAL ( "
"  SELECT count(*) FILTER (WHERE v.differs AND v.sends) AS sent, "
"   count(*) FILTER (WHERE v.differs AND v.reports) AS reported, "
"   coalesce(bool_or(v.differs AND v.sends AND v.attribute = 'loginName'), false) AS renames, "
"   coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('reason', CASE WHEN c.id IS NULL THEN NULL "
"     WHEN v.base IS NULL THEN 'differs' WHEN v.unkept THEN 'the account did not keep it' "
"     WHEN v.moved AND v.news THEN 'changed in the source and in the account' "
"     WHEN v.moved THEN 'changed in the account' ELSE 'changed in the source' END, "
"     'add', v.add, 'take', v.take, 'reported', CASE WHEN v.reports THEN true END, "
"     'again', CASE WHEN v.moved AND NOT v.news THEN true END)) "
"     || jsonb_build_object('attribute', v.attribute, 'old', v.old, 'new', v.new) ORDER BY v.n) "
"    FILTER (WHERE v.differs AND (v.sends OR v.reports)), '[]') AS changes, "
"   coalesce(jsonb_object_agg(v.attribute, v.said) FILTER (WHERE v.said IS NOT NULL AND NOT v.hidden "
"    AND (v.sends OR NOT v.differs)), '{}') AS new_base, "
"   coalesce(jsonb_object_agg(v.attribute, v.said) FILTER (WHERE v.said IS NOT NULL AND v.hidden), '{}') "
"    AS new_hidden "
"  FROM (SELECT w.*, (NOT w.moved OR (y.drift = 'overwrite' AND NOT w.unkept) OR (y.drift = 'accept' AND w.news)) "
"     AND (w.attribute <> 'loginName' OR c.moves OR c.id IS NULL) AS sends, "
"    w.moved AND (y.drift = 'report' OR (w.unkept AND y.drift = 'overwrite')) AS reports "
"   FROM (SELECT z.*, z.moved AND NOT z.news AND coalesce(c.date_updated = c.updated "
"     AND c.unkept -> z.attribute = coalesce(z.old, 'null'), false) AS unkept "
"    FROM (SELECT x.*, c.id IS NOT NULL AND x.base IS NOT NULL AND x.there IS DISTINCT FROM x.base AS moved, "
"      x.said IS DISTINCT FROM x.base AS news "
"     FROM (VALUES %s) x (n, attribute, differs, old, new, base, there, said, hidden, add, take)) z) w) v) d), ";

/*
 * The action, the first that fits. A user who left is not closed if its login
 * may be that of the same person with a new key. Of a user to be created the reason names who has
 * its e-mail, since that may be the same person with another login; of a leaver, what others have
 * changed since the sync has written the user. %1, %2: the e-mail in the
 * source and in the account; %3: the row of the source as an object.
 */
static const char actions[] =
"acting AS ( "
" SELECT c.*, %s AS mail, CASE "
"  WHEN c.unfinished OR (c.holder_waits AND c.problem IS NULL AND NOT c.twice_key AND NOT c.twice_login) THEN 'wait' "
"  WHEN NOT c.in_source AND c.id IS NULL THEN 'follow' "
"  WHEN NOT c.in_source AND NOT c.enabled AND c.link = 'active' THEN 'follow' "
"  WHEN c.block IS NOT NULL THEN 'blocked' "
"  WHEN NOT c.in_source AND NOT c.enabled THEN 'delete' "
"  WHEN NOT c.in_source AND c.a_login IN (SELECT n.login FROM new_login n) THEN NULL "
"  WHEN NOT c.in_source THEN y.leavers "
"  WHEN c.unlinked AND c.id IS NOT NULL THEN 'adopt' "
"  WHEN c.unlinked AND c.holder IS NOT NULL AND NOT c.holder_moves THEN 'relink' "
"  WHEN c.unlinked AND c.link = 'gone' AND NOT c.by_us THEN 'recreate' "
"  WHEN c.unlinked THEN 'create' "
"  WHEN c.id IS NULL THEN 'recreate' "
"  WHEN NOT c.enabled AND c.link = 'disabled' AND c.by_us AND c.wanted IS NOT FALSE THEN 'enable' "
"  WHEN NOT c.enabled AND (c.wanted OR (c.link = 'disabled' AND c.wanted IS NULL)) THEN 'reopen' "
"  WHEN c.enabled AND c.wanted IS FALSE THEN 'disable' "
"  WHEN c.renames THEN 'rename' "
"  WHEN c.sent > 0 THEN 'update' "
"  WHEN c.reported > 0 THEN 'report' "
"  WHEN c.enabled AND c.link = 'disabled' OR c.revived THEN 'follow' "
"  WHEN c.date_updated <> c.updated THEN 'unverifiable' END AS action, "
" CASE WHEN NOT c.in_source THEN concat_ws(', ', 'not in the source', "
"  CASE WHEN c.link = 'disabled' THEN 'enabled in the account since' END, "
"  CASE WHEN c.a_login <> @extschema@._lp_sync_fold(c.k_login_name COLLATE \"C\") "
"   THEN 'the loginName was ' || c.k_login_name END) END AS leaves "
" FROM compared c, y), "
"mailbox AS ( "
" SELECT u.email, min(u.id) AS id FROM (SELECT u.id, %s AS email FROM _account u "
"   WHERE EXISTS (SELECT FROM acting a WHERE a.action = 'create')) u "
" WHERE u.email IN (SELECT a.mail FROM acting a WHERE a.action = 'create' AND a.mail <> '') GROUP BY u.email), "
"decided AS ( "
" SELECT c.action, c.key AS source_key, c.in_source, "
"  CASE c.action WHEN 'relink' THEN c.holder WHEN 'create' THEN NULL "
"   ELSE coalesce(c.id, CASE WHEN NOT c.unlinked THEN c.linked END) END AS user_id, "
"  CASE WHEN c.action IN ('create', 'recreate', 'blocked', 'relink') "
"   THEN coalesce(c.s_login_name, c.login_name, c.k_login_name) "
"   ELSE coalesce(c.login_name, c.k_login_name, c.s_login_name) END AS login_name, "
"  CASE WHEN c.action = 'follow' THEN jsonb_build_array(jsonb_build_object('link', "
"    CASE WHEN c.id IS NULL THEN 'gone' WHEN c.enabled THEN 'active' ELSE 'disabled' END)) "
"   WHEN c.action = 'relink' THEN jsonb_build_array(jsonb_build_object('from', c.holder_key)) "
"   WHEN c.action = 'delete' AND NOT c.enabled THEN jsonb_build_array(jsonb_build_object('disabled', true)) "
"   WHEN c.action IN ('enable', 'reopen', 'disable') THEN jsonb_build_array(jsonb_build_object( "
"    'attribute', 'isEnabled', 'old', c.enabled, 'new', NOT c.enabled)) || "
"     CASE WHEN c.in_source THEN c.changes ELSE '[]' END "
"   WHEN c.in_source AND c.action NOT IN ('wait', 'blocked') THEN c.changes ELSE '[]' END AS changes, "
"  CASE WHEN c.in_source THEN %s END AS source, "
"  CASE WHEN c.in_source THEN CASE WHEN c.id IS NULL THEN '{}' ELSE coalesce(c.base, '{}') END || c.new_base END "
"   AS base, "
"  CASE WHEN c.in_source THEN coalesce(c.hidden, '{}') || c.new_hidden END AS hidden, "
"  c.updated AS date_updated, c.twice_key OR c.twice_login AS duplicate, c.depth, "
"  CASE c.action WHEN 'wait' THEN 'an unfinished request' WHEN 'blocked' THEN c.block "
"   WHEN 'adopt' THEN CASE WHEN c.enabled THEN 'the loginName is there' ELSE 'the loginName is there, disabled' END "
"   WHEN 'relink' THEN 'the loginName is that of key \"' || c.holder_key || '\"' "
"   WHEN 'create' THEN nullif(concat_ws('; ', 'the sync has deleted user ' || c.linked::text, "
"     'user ' || m.id::text || ' has this email'), '') "
"   WHEN 'recreate' THEN 'user ' || c.linked::text || ' is gone' "
"   WHEN 'enable' THEN 'the sync has disabled the user' "
"   WHEN 'reopen' THEN 'disabled in the account' "
"   WHEN 'disable' THEN CASE WHEN c.in_source THEN 'disabled in the source' ELSE c.leaves END "
"   WHEN 'delete' THEN CASE WHEN c.enabled THEN c.leaves "
"    ELSE 'the sync has disabled the user longer ago than delete_after' END "
"   WHEN 'report' THEN CASE WHEN NOT c.in_source THEN c.leaves END END AS reason "
" FROM acting c LEFT JOIN mailbox m ON m.email = c.mail AND c.action = 'create' WHERE c.action IS NOT NULL) ";

/* Return the statement that finds the candidates. */
static char *
write_candidates(const LpuSyncSides *sides)
{
	const char *login_differs = lpu_sync_column(sides->sync, "loginName")->create_only ?
	"false" : "coalesce(a.login <> s.login, false)";
	const char *base = "NULL::jsonb";
	int			i;

	for (i = 0; i < sides->sync->ncolumns; i++)
		if (sides->sync->columns[i].add_only)
			base = "l.base";
	return psprintf(candidates, base, lpu_sync_write_wanted(sides), lpu_sync_write_columns(sides),
					login_differs, lpu_sync_write_any_differs(sides));
}

/* Return SQL: WITH clauses that end in "decided", a row for each user that differs. */
static char *
write_decided(const LpuSyncSides *sides)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, holders);
	appendStringInfo(&sql, blocks, lpu_sync_write_missing(sides));
	appendStringInfo(&sql, differences, lpu_sync_write_attributes(sides));
	appendStringInfo(&sql, actions, lpu_sync_write_email(sides, "c.s_"),
					 lpu_sync_write_email(sides, "u."),
					 lpu_sync_write_source(sides->source, "c.s_", "c.s_login_name"));
	return sql.data;
}

/* Plans that compare each user with each other, or sort all that is known of all of them. */
static void
pin_plans(void)
{
	static const char *const fixed[] = {"jit", "enable_nestloop", "enable_mergejoin"};
	int			i;

	for (i = 0; i < lengthof(fixed); i++)
		(void) set_config_option(fixed[i], "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
								 0, false);
}

/*
 * Find the candidates, and run the statement that decides about them with what follows. Its
 * parameters are the sync's id, keys or null, the OID of the server, the number of a plan, and
 * when the list of the account began. Its rows go to dest unless that is NULL.
 */
uint64
lpu_sync_run_decided(const LpuSyncSides *sides, const char *rest, Datum keys, int64 plan,
					 DestReceiver *dest)
{
	Oid			types[5] = {INT8OID, TEXTARRAYOID, OIDOID, INT8OID, TIMESTAMPTZOID};
	Datum		values[5] = {Int64GetDatum(sides->sync->id), keys,
		ObjectIdGetDatum(sides->options->server), Int64GetDatum(plan),
		TimestampTzGetDatum(sides->began)
	};
	LpuParameters parameters = {5, types, values, keys == (Datum) 0 ? " n   " : NULL};
	int			level = NewGUCNestLevel();
	LpuSyncRows *found;
	uint64		n;

	pin_plans();
	found = lpu_sync_keep_rows(write_candidates(sides), &parameters);
	lpu_sync_register(found, "_candidate");
	n = lpu_run_once(psprintf("%s%s", write_decided(sides), rest), &parameters, dest);
	lpu_sync_forget(found, "_candidate");
	AtEOXact_GUC(false, level);
	return n;
}

/* Put the differences into dest, a row for each attribute, as lp_sync_diff() returns them. */
void
lpu_sync_diff(const LpuSyncSides *sides, Datum keys, DestReceiver *dest)
{
	static const char rest[] =
	"SELECT d.action, d.source_key, d.user_id, d.login_name, c.change ->> 'attribute', "
	" nullif(c.change -> 'old', 'null'), nullif(c.change -> 'new', 'null'), "
	" coalesce(c.change ->> 'reason', d.reason) || CASE WHEN (c.change -> 'reported')::boolean "
	"  AND d.action <> 'report' THEN ': reported' ELSE '' END "
	"FROM decided d LEFT JOIN LATERAL jsonb_array_elements(d.changes) WITH ORDINALITY c (change, n) ON true "
	"WHERE d.action NOT IN ('follow', 'unverifiable') AND $4 IS NOT NULL "
	"ORDER BY d.action, d.source_key, d.login_name, d.user_id, c.n";

	(void) lpu_sync_run_decided(sides, rest, keys, 0, dest);
}
