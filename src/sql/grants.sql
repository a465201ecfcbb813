/* grants.sql: rights and column comments. */

/* Internal functions run with the rights of the tables' owner; the others are granted by whoever wants them used. */
REVOKE EXECUTE ON FUNCTION
	lp_backoff(integer), lp_doubt(bigint[]), lp_take_over(text, boolean), lp_list(text, integer),
		lp_settle(bigint[], text[], integer[], bigint[], bigint[], text[], text[], bigint[], bigint[], text),
	lp_uncertain(text), lp_hold(text, text, text), lp_due(),
	lp_own_rows(bigint[], name), lp_retry_rows(bigint[], name), lp_discard_rows(bigint[], name), lp_wake(),
	lp_housekeep(interval, interval),
	lp_release(text), lp_adopt(), lp_purge(interval), lp_worker_stop(),
	lp_enqueue_users(text, jsonb), lp_enqueue_rows(regclass, text, text), lp_create_users_trigger()
	FROM PUBLIC;
REVOKE EXECUTE ON PROCEDURE lp_deliver(text) FROM PUBLIC;

/* The views show what the table holds: their columns mean the same. */
DO $$
DECLARE
	c record;
BEGIN
	FOR c IN
		SELECT v.oid::pg_catalog.regclass AS view, a.attname, pg_catalog.col_description(t.oid, ta.attnum) AS words
		FROM pg_catalog.pg_class t
		JOIN pg_catalog.pg_attribute ta ON ta.attrelid = t.oid
		JOIN pg_catalog.pg_class v ON v.relnamespace = t.relnamespace AND v.relname IN ('lp_results', 'lp_summary', 'lp_progress')
		JOIN pg_catalog.pg_attribute a ON a.attrelid = v.oid AND a.attname = ta.attname
		WHERE t.oid = '@extschema@.lp_requests'::pg_catalog.regclass AND ta.attnum > 0
	LOOP
		EXECUTE pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L', c.view, c.attname, c.words);
	END LOOP;
END;
$$;

COMMENT ON COLUMN lp_summary.day IS 'day of the request, in the session''s time zone';
COMMENT ON COLUMN lp_summary.requests IS 'how many requests';
COMMENT ON COLUMN lp_summary.median_seconds IS 'median of the seconds from request to result';
COMMENT ON COLUMN lp_summary.p95_seconds IS '95th percentile of the seconds from request to result';
COMMENT ON COLUMN lp_progress.pending IS 'waiting to be sent';
COMMENT ON COLUMN lp_progress.sending IS 'in a request that is under way';
COMMENT ON COLUMN lp_progress.uncertain IS 'sent, outcome unknown: to be looked up';
COMMENT ON COLUMN lp_progress.held IS 'not to be sent until somebody says so: lp_release() or lp_adopt()';
COMMENT ON COLUMN lp_progress.created IS 'created in the account';
COMMENT ON COLUMN lp_progress.failed IS 'not created';
COMMENT ON COLUMN lp_progress.users_per_second IS 'created per second in the last minute';
COMMENT ON COLUMN lp_progress.estimated_end IS 'when the queue is empty at that speed';
COMMENT ON COLUMN lp_progress.oldest_pending IS 'since when the oldest user waits';
COMMENT ON COLUMN lp_progress.paused IS 'has a server of the account the option delivery ''paused''?';
COMMENT ON COLUMN lp_progress.worker_pid IS 'process id of this database''s worker, null if there is none';
COMMENT ON COLUMN lp_progress.last_error IS 'the latest error or reason among the requests';
