/* grants.sql: rights and column comments. */

/*
 * Default privileges of the database must not grant access: all rights of all roles except the owner are revoked on every
 * member of the extension. An update script does the same for the objects that it creates. Since 17 row types of
 * tables are members, too: they keep their rights as in 15 and 16, because pg_dump warns of rights recorded for them.
 */
DO $$
DECLARE
	r record;
BEGIN
	FOR r IN
		WITH member AS (
			SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
			WHERE d.refclassid = 'pg_extension'::regclass AND e.extname = 'lpusers' AND d.deptype = 'e'
		), object AS (
			SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, c.oid::regclass::text AS name,
				   c.relowner AS owner, c.relacl AS acl
			FROM pg_class c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
			WHERE c.relkind IN ('r', 'v', 'S')
			UNION ALL
			SELECT 'ROUTINE', p.oid::regprocedure::text, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
			FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
			UNION ALL
			SELECT 'TYPE', t.oid::regtype::text, t.typowner, coalesce(t.typacl, acldefault('T', t.typowner))
			FROM pg_type t JOIN member m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
			WHERE t.typcategory <> 'A' AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
		)
		SELECT DISTINCT o.kind, o.name, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee
		FROM object o, aclexplode(o.acl) a
		WHERE a.grantee <> o.owner
	LOOP
		EXECUTE format('REVOKE ALL ON %s %s FROM %s CASCADE', r.kind, r.name, r.grantee);
	END LOOP;
END;
$$;

/*
 * Objects that PUBLIC may use: the views filter their rows, the functions check the owner of rows and tables, and
 * lp_check() needs USAGE on the server. Functions called by the views and the report run as the reader of these. The
 * owner of a table creates the triggers of lp_sync_watch(), whose function does nothing in a trigger of a table that is
 * not watched. The administrator grants all other functions: writing needs EXECUTE and USAGE on the server.
 */
GRANT SELECT ON @extschema@.lp_results, @extschema@.lp_summary, @extschema@.lp_progress, @extschema@.lp_syncs,
	@extschema@.lp_sync_links, @extschema@.lp_sync_plans, @extschema@.lp_sync_changes TO PUBLIC;
GRANT USAGE ON TYPE @extschema@.lp_response TO PUBLIC;
GRANT EXECUTE ON FUNCTION
	@extschema@.lpusers_handler(), @extschema@.lpusers_validator(text[], oid),
	@extschema@.lp_validate_users(jsonb), @extschema@.lp_check(text),
	@extschema@.lp_attach_trigger(regclass, text, jsonb, text, boolean, text, text), @extschema@.lp_detach_trigger(regclass, text, text),
	@extschema@.lp_retry(bigint[]), @extschema@.lp_discard(bigint[]),
	@extschema@.lp_origin(), @extschema@.lp_worker_pid(), @extschema@._lp_worker_missing(), @extschema@.lp_account_is_paused(text),
	@extschema@._lp_is_here(text, text), @extschema@._lp_role_here(text, text, oid, text),
	@extschema@._lp_server_here(text, text, oid, text), @extschema@._lp_sync_is_mine(text, oid, text, oid, text, text),
	@extschema@._lp_sync_limit(jsonb, text, bigint), @extschema@._lp_sync_item_state(text, text), @extschema@._lp_sync_mark_trigger(),
	@extschema@.lp_report(text, interval), @extschema@._lp_report_page(text, date, date),
	@extschema@._lp_report_syncs(text), @extschema@._lp_report_head(),
	@extschema@._lp_html(text), @extschema@._lp_html_table(text, text[], text, text),
	@extschema@._lp_duration(double precision), @extschema@._lp_count(bigint), @extschema@._lp_plain_words(text),
	@extschema@._lp_chart(text, text, date[], bigint[], bigint[], numeric), @extschema@._lp_advice(text, text, text, integer, boolean, boolean),
	@extschema@._lp_verdict(bigint, bigint, bigint, bigint, bigint, text), @extschema@._lp_person(text, bigint, text, jsonb, text)
	TO PUBLIC;

/* Columns of views get the comments of the table columns with the same name, unless they have a comment of their own. */
DO $$
DECLARE
	c record;
BEGIN
	FOR c IN
		SELECT v.oid::pg_catalog.regclass AS view, a.attname, pg_catalog.col_description(t.oid, ta.attnum) AS words
		FROM (VALUES ('lp_requests'::pg_catalog.text, 'lp_results'::pg_catalog.text), ('lp_requests', 'lp_summary'), ('lp_requests', 'lp_progress'),
				('_lp_sync', 'lp_syncs'), ('_lp_sync_link', 'lp_sync_links'), ('_lp_sync_item', 'lp_sync_changes')) n (shown, by)
		JOIN pg_catalog.pg_class t ON t.relname = n.shown::pg_catalog.name
			AND t.relnamespace = (SELECT r.relnamespace FROM pg_catalog.pg_class r
								  WHERE r.oid = '@extschema@.lp_requests'::pg_catalog.regclass)
		JOIN pg_catalog.pg_attribute ta ON ta.attrelid = t.oid AND ta.attnum > 0
		JOIN pg_catalog.pg_class v ON v.relnamespace = t.relnamespace AND v.relname = n.by::pg_catalog.name
		JOIN pg_catalog.pg_attribute a ON a.attrelid = v.oid AND a.attname = ta.attname
		WHERE pg_catalog.col_description(v.oid, a.attnum) IS NULL
	LOOP
		EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', c.view, c.attname, c.words);
	END LOOP;
END;
$$;

COMMENT ON COLUMN @extschema@.lp_summary.day IS 'day of the request, in the session''s time zone';
COMMENT ON COLUMN @extschema@.lp_summary.requests IS 'number of requests';
COMMENT ON COLUMN @extschema@.lp_summary.median_seconds IS 'median of the seconds from request to result';
COMMENT ON COLUMN @extschema@.lp_summary.p95_seconds IS '95th percentile of the seconds from request to result';
COMMENT ON COLUMN @extschema@.lp_progress.pending IS 'waiting to be sent';
COMMENT ON COLUMN @extschema@.lp_progress.sending IS 'in a request that is under way';
COMMENT ON COLUMN @extschema@.lp_progress.uncertain IS 'sent with unknown outcome: to be looked up';
COMMENT ON COLUMN @extschema@.lp_progress.held IS 'not sent until lp_release() or lp_adopt() is called';
COMMENT ON COLUMN @extschema@.lp_progress.created IS 'created in the account in the last 24 hours';
COMMENT ON COLUMN @extschema@.lp_progress.done IS 'updated or deleted in the account in the last 24 hours';
COMMENT ON COLUMN @extschema@.lp_progress.failed IS 'failed in the last 24 hours, and no later request for the same login or source row succeeded';
COMMENT ON COLUMN @extschema@.lp_progress.users_per_second IS 'created, updated or deleted per second in the last minute';
COMMENT ON COLUMN @extschema@.lp_progress.estimated_end IS 'estimated time when the queue will be empty';
COMMENT ON COLUMN @extschema@.lp_progress.oldest_pending IS 'when the oldest waiting request was queued';
COMMENT ON COLUMN @extschema@.lp_progress.paused IS 'true if a server of the account has the option delivery ''paused''';
COMMENT ON COLUMN @extschema@.lp_progress.worker_pid IS 'process id of this database''s worker, null if there is none';
COMMENT ON COLUMN @extschema@.lp_progress.last_error IS 'the latest error or reason among the requests';
