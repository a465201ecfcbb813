-- status_verdicts: what a status means, with a body of the API's, with a page of a gateway's, and with none
\set with_queue on
\set with_tables on
\i sql/include/start.sql
CREATE FUNCTION pages() RETURNS TABLE (status int, kind text, body text) LANGUAGE sql AS $$
	SELECT s, k.* FROM unnest(ARRAY[200, 302, 304, 400, 401, 402, 403, 404, 405, 407, 408, 409, 410, 412, 413, 415, 421, 422, 425, 426, 429, 431, 451, 500, 501, 503, 511]) s,
		(VALUES ('json', '{"message": "the API", "internalCode": 23}'), ('html', '<html>a gateway</html>'), ('none', '')) k (kind, body)
	WHERE kind = 'json' OR s IN (200, 400, 404, 413, 503) OR kind = 'html' AND s IN (302, 409, 422) $$;
CREATE TABLE verdicts (status int, kind text, state text, attempts int, error text, reason text, posts int, sqlstate text, message text);
-- Each is the answer to the first of two users in the queue, and to a trigger in mode=sync.
CREATE TABLE hires (email text PRIMARY KEY, name text, job text);
SELECT hook('hires', 'STATEMENT', '{"mode": "sync"}');
CREATE PROCEDURE judge_all() LANGUAGE plpgsql AS $$
DECLARE
	p record;
	row record;
	problem text;
	code text;
	sent int;
BEGIN
	FOR p IN SELECT * FROM pages() LOOP
		PERFORM lp.sim('log', method => 'DELETE');
		CALL lp.fault(jsonb_build_object('method', 'POST', 'action', 'status', 'status', p.status, 'body', p.body,
			'headers', '{"Retry-After": "3600"}'::jsonb)::text);
		PERFORM lp_enqueue_users('12345678', people('q', 2));
		COMMIT;
		CALL lp_deliver();
		SELECT r.state, r.attempts, r.error, r.reason INTO row FROM lp_requests r ORDER BY r.id LIMIT 1;
		sent := lp.sim('count?method=POST&login=q1@example.com')::int + lp.sim('count?method=POST&login=q2@example.com')::int;
		DELETE FROM lp_payloads;
		DELETE FROM lp_requests;
		COMMIT;
		PERFORM lp.sim('faults', method => 'DELETE');
		CALL lp.fault(jsonb_build_object('method', 'POST', 'action', 'status', 'status', p.status, 'body', p.body,
			'headers', '{"Retry-After": "3600"}'::jsonb, 'times', 0)::text);
		problem := NULL;
		code := NULL;
		BEGIN
			INSERT INTO hires VALUES ('s@example.com', 's', 's');
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, problem = MESSAGE_TEXT;
		END;
		INSERT INTO verdicts VALUES (p.status, p.kind, row.state, row.attempts, row.error, row.reason, sent, code, problem);
		DELETE FROM lp_requests;
		DELETE FROM hires;
		COMMIT;
		PERFORM lp.sim('faults', method => 'DELETE');
		PERFORM lp.sim('reset', method => 'POST');
	END LOOP;
END $$;
\! "$PSQL" -AXqt -c "SET lpsim.url = '$LPSIM_URL'" -c "SET client_min_messages = error" -c 'CALL judge_all()' 2>&1
SELECT status, kind, state, attempts, posts, sqlstate FROM verdicts ORDER BY status, kind;
SELECT DISTINCT coalesce(error, reason) AS why FROM verdicts WHERE kind <> 'none' ORDER BY 1;
SELECT DISTINCT regexp_replace(message, '\d+$', 'N') FROM verdicts ORDER BY 1;
DROP PROCEDURE judge_all;
DROP TABLE hires, verdicts;
DROP FUNCTION pages;
\i sql/include/finish.sql
