-- request_log: what direct calls leave in lp_requests, and who sees it
\i sql/include/start.sql
CREATE FUNCTION records(OUT operation text, OUT path text, OUT server name, OUT login_name text, OUT state text, OUT attempts integer,
	OUT batch bigint, OUT status integer, OUT ac_revision bigint, OUT user_id bigint, OUT error text, OUT evidence text, OUT reason text)
RETURNS SETOF record LANGUAGE sql AS $$
	SELECT operation, path, server, login_name, state, attempts, dense_rank() OVER (ORDER BY batch), status, ac_revision, user_id, error,
		evidence, reason FROM lp_results ORDER BY id $$;
SELECT status FROM lp_create_users('12345678', person('ann'));
SELECT status FROM lp_create_users('12345678', person('ann'));
SELECT status FROM lp_create_users('12345678', people('p', 3));
SELECT status FROM lp_update_users('12345678', jsonb_build_array(person('p1', '{"id": 4000000002}'), person('p2', '{"id": "4000000003"}')));
SELECT status FROM lp_reset_password('12345678', 4000000001, 'Start-4321');
SELECT status FROM lp_delete_users('12345678', '{4000000003,4000000004}');
SELECT status FROM lp_delete_users('12345678', '{42}');
SELECT * FROM records();
-- the rest of the columns
SELECT count(*) AS rows, count(DISTINCT id) AS ids, bool_and(account = '12345678') AS account, bool_and(requested_by = current_user) AS requested_by,
	bool_and(send_as = current_user) AS send_as, bool_and(enqueued_at <= sent_at AND sent_at < finished_at) AS times,
	bool_and(finished_at - enqueued_at < '1 minute' AND now() - enqueued_at < '1 minute') AS recent,
	bool_and(origin = (SELECT system_identifier || '/' || (SELECT oid FROM pg_database WHERE datname = current_database()) || '/'
		|| timeline_id FROM pg_control_system(), pg_control_checkpoint())) AS origin,
	count(next_attempt_at) + count(source_table) + count(source_key) AS of_the_queue FROM lp_results;
-- neither a password nor another attribute is in it
SELECT count(*) FROM lp_requests r WHERE r::text ~ 'Start-|Full ';
DELETE FROM lp_requests;

-- ids are found by login, whatever the order, the case and the rest of the answer
\! curl -sSfo /dev/null -d '{"action":"body","status":201,"body":"[{\"id\":3,\"loginName\":\"q3@example.com\"},{\"loginName\":\"q4@example.com\"},{\"id\":\"1\",\"loginName\":\"Q1@EXAMPLE.com\"},{\"id\":9,\"loginName\":\"other\"},{\"id\":{},\"loginName\":\"q2@example.com\"}]"}' $LPSIM_URL/_sim/faults
SELECT status FROM lp_create_users('12345678', people('q', 4));
SELECT login_name, state, user_id FROM records();
DELETE FROM lp_requests;
-- 5xx: failed, outcome unknown; 429: failed, and certainly not carried out
\! curl -sSfo /dev/null -d '[{"action":"status","status":503},{"action":"status","status":500,"applied":true},{"action":"html"},{"action":"retry_after","value":"3600"},{"action":"status","status":403},{"action":"redirect","location":"/x"}]' $LPSIM_URL/_sim/faults
SELECT n, r.status FROM generate_series(1, 6) n, LATERAL lp_create_users('12345678', person('r' || n)) r;
SELECT login_name, state, status, evidence, error, reason FROM records();
DELETE FROM lp_requests;
-- no answer: the ERROR takes the row away, the WARNING remains
SELECT status FROM lp_create_users('12345678', person('s0'));
\! curl -sSfo /dev/null -d '{"action":"close","login":"s1@example.com"}' $LPSIM_URL/_sim/faults
SELECT state FROM attempt($$SELECT lp_create_users('12345678', person('s1'))$$);
SELECT login_name, state FROM records();
-- while the request is under way the row says that its outcome is unknown: seen from the same transaction by a trigger on the table
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE INFO '%: % "%" evidence % finished %', TG_OP, NEW.state, NEW.reason, NEW.evidence, NEW.finished_at IS NOT NULL;
	RETURN NEW;
END $$;
CREATE TRIGGER look AFTER INSERT OR UPDATE ON lp_requests FOR EACH ROW EXECUTE FUNCTION look();
SELECT status FROM lp_create_users('12345678', person('t1'));
-- what fails locally fails first: nothing is sent
CREATE OR REPLACE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room' USING ERRCODE = 'disk_full'; END $$;
SELECT * FROM lp_create_users('12345678', person('t2')); -- ERROR
\echo :LAST_ERROR_SQLSTATE
\! curl -sSf "$LPSIM_URL/_sim/count?login=t2@example.com"
DROP TRIGGER look ON lp_requests;
DROP FUNCTION look();
DELETE FROM lp_requests;

-- log_calls off leaves nothing
SET lpusers.log_calls = off;
SELECT status FROM lp_create_users('12345678', person('quiet'));
RESET lpusers.log_calls;
SELECT count(*) FROM lp_requests;

-- Who asked, and whose credentials went: SECURITY DEFINER and SET ROLE.
CREATE ROLE regress_clerk;
CREATE ROLE regress_hr;
CREATE ROLE regress_other;
GRANT USAGE ON FOREIGN SERVER acme TO regress_hr;
CREATE USER MAPPING FOR regress_hr SERVER acme OPTIONS (token 'lp-token');
GRANT EXECUTE ON FUNCTION lp_create_users(text, jsonb) TO regress_hr;
CREATE FUNCTION hire(name text) RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
	SELECT status FROM lp_create_users('12345678', person(name)) $$;
ALTER FUNCTION hire(text) OWNER TO regress_hr;
SET ROLE regress_hr;
SELECT status FROM lp_create_users('12345678', person('u1'));
SET ROLE regress_clerk;
SELECT hire('u2');
SET ROLE regress_other;
SELECT hire('u3');
RESET ROLE;
SELECT login_name, requested_by, send_as, server FROM lp_results ORDER BY id;
-- a role sees what it requested and what is sent as them; the server's owner sees it all
SET ROLE regress_hr;
SELECT login_name FROM lp_results ORDER BY id;
SET ROLE regress_clerk;
SELECT login_name FROM lp_results ORDER BY id;
SELECT state, requests FROM lp_summary;
SELECT * FROM lp_requests; -- ERROR
RESET ROLE;
GRANT regress_clerk TO regress_other;
SET ROLE regress_other;
SELECT login_name FROM lp_results ORDER BY id;
RESET ROLE;
CREATE ROLE regress_owner;
GRANT USAGE ON FOREIGN DATA WRAPPER lpusers TO regress_owner;
ALTER SERVER acme OWNER TO regress_owner;
SET ROLE regress_owner;
SELECT login_name FROM lp_results ORDER BY id;
-- a filter of the user does not see rows that the user must not
SET ROLE regress_clerk;
CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE INFO 'seen: %', $1; RETURN true; END $$;
SELECT login_name FROM lp_results WHERE pg_temp.leak(login_name) ORDER BY id;
RESET ROLE;
-- the names stay when the roles go
ALTER SERVER acme OWNER TO CURRENT_USER;
DROP FUNCTION hire(text);
DROP FUNCTION pg_temp.leak(text);
DROP USER MAPPING FOR regress_hr SERVER acme;
REVOKE ALL ON FOREIGN SERVER acme FROM regress_hr;
REVOKE ALL ON FOREIGN DATA WRAPPER lpusers FROM regress_owner;
REVOKE ALL ON FUNCTION lp_create_users(text, jsonb) FROM regress_hr;
DROP ROLE regress_clerk, regress_hr, regress_other, regress_owner;
SELECT login_name, requested_by, send_as FROM lp_results ORDER BY id;
DELETE FROM lp_requests;

-- the summary
SELECT status FROM lp_create_users('12345678', people('v', 5));
SELECT status FROM lp_create_users('12345678', person('v1'));
SELECT status FROM lp_delete_users('12345678', '{4000000001}');
SELECT account, day = current_date AS today, state, status, evidence, requests, median_seconds >= 0 AS median, p95_seconds >= median_seconds AS p95
FROM lp_summary ORDER BY state;
-- an ordinary rollback takes the record away, and says so (effects has the rest)
BEGIN;
SELECT status FROM lp_create_users('12345678', person('w1'));
ROLLBACK;
SELECT count(*) FROM lp_results WHERE login_name ~ '^w';
DROP FUNCTION records();
\i sql/include/finish.sql
