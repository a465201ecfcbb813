-- queue_login_exists: who is in the account before something is sent, and what a refused or unanswered request has done
\set with_queue on
\i sql/include/start.sql
CREATE VIEW requests AS SELECT login_name, state, attempts, status, evidence, regexp_replace(error, '\d{10}', 'N') AS error, reason, user_id IS NOT NULL AS id
	FROM lp_requests ORDER BY lp_requests.id;
CREATE FUNCTION hurry() RETURNS bigint LANGUAGE sql AS $$
	WITH due AS (UPDATE lp_requests SET next_attempt_at = clock_timestamp() WHERE state IN ('pending', 'uncertain') RETURNING 1) SELECT count(*) FROM due $$;
\! curl -sSfo /dev/null -d '[{"loginName":"old@example.com","fullName":"Full old","nickname":"old","email":"old@example.com","isEnabled":false,"maxChats":0,"profileIds":[1001]}]' $LPSIM_URL/_sim/users

-- A leaver who is there, disabled and with another profile, and a new hire: few, many, and alone.
SELECT count(*) FROM lp_enqueue_users('12345678', jsonb_build_array(person('old'), person('new')));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT * FROM requests;
SELECT forget();
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
SELECT count(*) FROM lp_enqueue_users('12345678', person('OLD') || people('n', 8));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT * FROM requests LIMIT 2;
\! curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=OLD@example.com"
SELECT forget();
-- of two that are there and one that is not none is counted twice
SELECT count(*) FROM lp_enqueue_users('12345678', jsonb_build_array(person('n1'), person('n2'), person('n9')));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT state, count(*) FROM requests GROUP BY 1 ORDER BY 1;
SELECT forget();
-- a feed of people who are all there: one listing
SELECT count(*) FROM lp_enqueue_users('12345678', people('f', 1000));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT forget();
SELECT count(*) FROM lp_enqueue_users('12345678', people('f', 1000));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT state, evidence, error, id, count(*) FROM requests GROUP BY 1, 2, 3, 4;
SELECT bool_and(error ~ ('user ' || user_id || ' ')) AS names_the_user FROM lp_requests;
SELECT forget();

-- 64 users with 4 who are refused, where it is all or nothing, and where it is not.
CREATE FUNCTION guilty(prefix text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_agg(person(prefix || i, CASE WHEN i IN (1, 20, 33, 64) THEN '{"passwordSh": "short"}' ELSE '{}' END::jsonb) ORDER BY i) FROM generate_series(1, 64) i $$;
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
SELECT count(*) FROM lp_enqueue_users('12345678', guilty('g'));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT state, error, count(*), string_agg(login_name, ' ' ORDER BY login_name) FILTER (WHERE state = 'failed') AS logins FROM requests GROUP BY 1, 2 ORDER BY 1;
\! test $(curl -sSf "$LPSIM_URL/_sim/count") -le 75 && echo 'at most 75 requests'
SELECT forget();
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log; curl -sSfo /dev/null -d '{"bulk": "partial"}' $LPSIM_URL/_sim/config
SELECT count(*) FROM lp_enqueue_users('12345678', guilty('h'));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT state, error, count(*), string_agg(login_name, ' ' ORDER BY login_name) FILTER (WHERE state = 'failed') AS logins FROM requests GROUP BY 1, 2 ORDER BY 1;
\! test $(curl -sSf "$LPSIM_URL/_sim/count") -le 20 && echo 'at most 20 requests'
\! curl -sSfo /dev/null -d '{"bulk": "all_or_nothing"}' $LPSIM_URL/_sim/config
SELECT forget();
-- an account that is not there refuses the listing, too: nothing was judged
ALTER SERVER acme OPTIONS (SET account '87654321');
SELECT count(*) FROM lp_enqueue_users('87654321', people('i', 8));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT state, status, error, reason, count(*) FROM requests GROUP BY 1, 2, 3, 4;
\! curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=i1@example.com"
ALTER SERVER acme OPTIONS (SET account '12345678');
SELECT forget();
-- refused, and then no lookup is allowed
\! curl -sSfo /dev/null -d '[{"method":"POST","action":"status","status":400},{"method":"GET","action":"status","status":403,"skip":1}]' $LPSIM_URL/_sim/faults
SELECT count(*) FROM lp_enqueue_users('12345678', people('j', 8));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT state, error, reason, count(*) FROM requests GROUP BY 1, 2, 3;
SELECT forget();
-- refused, and the account has no time to be looked at
\! curl -sSfo /dev/null -d '[{"method":"POST","action":"status","status":400},{"method":"GET","action":"status","status":503,"skip":1}]' $LPSIM_URL/_sim/faults
SELECT count(*) FROM lp_enqueue_users('12345678', people('k', 8));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT state, status, error, reason, count(*) FROM requests GROUP BY 1, 2, 3, 4;
SELECT hurry();
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT state, error, reason, count(*) FROM requests GROUP BY 1, 2, 3;
SELECT forget();

-- After a success a user is never sent again. Named in the account's spelling; under another login, which is no evidence; not at all, and then there or not.
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log; curl -sSfo /dev/null -d '[{"method":"POST","action":"status","status":201,"login":"L1@example.com","body":"[{\"id\": 51, \"loginName\": \" l1@EXAMPLE.com\"}]"},{"method":"POST","action":"status","status":201,"login":"l2@example.com","body":"[{\"id\": 52, \"loginName\": \"x\"}]"},{"method":"POST","action":"status","status":201,"login":"l3@example.com","body":"[]"},{"method":"POST","action":"status","status":201,"applied":true,"login":"l4@example.com","body":"{}"}]' $LPSIM_URL/_sim/faults
SELECT count(*) FROM lp_enqueue_users('12345678', jsonb_build_array(person('L1'), person('l2'), person('l3'), person('l4')));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT login_name, state, status, evidence, error, reason, user_id FROM lp_requests WHERE user_id < 100 OR user_id IS NULL ORDER BY id;
SELECT hurry();
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT * FROM requests;
\! for n in L1 l2 l3 l4; do curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=$n@example.com"; done
SELECT forget();

-- A lost answer. The account has the user in its own spelling, with other data, only as deleted, or not.
\! curl -sSfo /dev/null -d '{"method":"POST","action":"close","times":0}' $LPSIM_URL/_sim/faults
SELECT count(*) FROM lp_enqueue_users('12345678', jsonb_build_array(person('M1', '{"email": "M1@Example.COM", "skillIds": [], "description": "", "profileIds": [1002, 1001]}'), person('m2'), person('m3'), person('m4'), person('m5')));
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT state, attempts, left(error, 28) AS error, count(*) FROM requests GROUP BY 1, 2, 3;
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/faults; curl -sSfo /dev/null -d '{"method":"GET","action":"body","body":"[{\"id\": 61, \"loginName\": \"m1@example.com\", \"nickname\": \"M1\", \"email\": \"m1@example.com\", \"isEnabled\": \"true\", \"maxChats\": \"3\", \"profileIds\": [1001, 1002, null], \"memberOf\": {\"agentGroupId\": \"2001\", \"assignmentDate\": \"2026-01-01\"}, \"fullName\": \"\"}, {\"id\": 62, \"loginName\": \"m2@example.com\", \"nickname\": \"m2\", \"email\": \"m2@example.com\", \"isEnabled\": false, \"maxChats\": 3, \"profileIds\": [1001], \"memberOf\": {\"agentGroupId\": 2001}}, {\"id\": 63, \"loginName\": \"m3@example.com\", \"deleted\": true}, {\"id\": 64, \"loginName\": \"m5@example.com\", \"nickname\": \"m5\", \"email\": \"m5@example.com\", \"isEnabled\": true, \"maxChats\": 3.0, \"profileIds\": [1002], \"memberOf\": [{\"agentGroupId\": 2001}], \"managerOf\": []}]"}' $LPSIM_URL/_sim/faults
SELECT hurry();
\! "$PSQL" -AXqtc 'CALL lp_deliver()' 2>&1 | grep '^NOTICE:  account' | tail -n 1
SELECT login_name, state, evidence, error, user_id < 100 AS as_listed FROM lp_requests ORDER BY id;
SELECT forget();
DROP FUNCTION guilty(text);
DROP FUNCTION hurry();
DROP VIEW requests;
\i sql/include/finish.sql
