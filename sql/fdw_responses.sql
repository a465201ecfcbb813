-- fdw_responses: what a foreign table asks the account for, and what it makes of each answer: rows or an error, never a table that is too short
\set with_tables on
\i sql/include/start.sql
SELECT (lp_create_users('12345678', people('u', 300))).status;
SELECT (lp_delete_users('12345678', '{4000000003}')).status;

-- just the attributes that are shown; the id is always asked for; each kind of entity has its list
SELECT lp.asked() \g /dev/null
SELECT login_name FROM lp.users LIMIT 1;
SELECT count(*) FROM lp.users;
SELECT member_of, email, id FROM lp.users LIMIT 1;
SELECT password_sh FROM lp.users LIMIT 1;
SELECT name, entity->'roleTypeId' AS role FROM lp.profiles ORDER BY 1 LIMIT 1;
SELECT name, lob_ids FROM lp.skills ORDER BY 1 LIMIT 1;
SELECT name, parent_group_id FROM lp.agent_groups ORDER BY id LIMIT 1;
SELECT name FROM lp.lobs ORDER BY id LIMIT 1;
SELECT lp.asked();

-- by ids, a few at the same time: each once; a user that is absent or deleted gives no row
UPDATE pg_class SET reltuples = 100000 WHERE oid = 'lp.users'::regclass;
SELECT id, login_name FROM lp.users WHERE id = 4000000002;
SELECT lp.asked();
SELECT id, login_name FROM lp.users WHERE id = ANY ('{4000000002,NULL,4000000001,4000000002,4000000003,-1,0,42,9223372036854775807}');
SELECT lp.asked();
SELECT count(*) FROM lp.users WHERE id = ANY ('{}');
SELECT count(*) FROM lp.users WHERE id = ANY (NULL);
SELECT count(*) FROM lp.users WHERE id = ANY ('{NULL,-5}');
SELECT count(*) FROM lp.users WHERE id = -1;
SELECT lp.asked();
SELECT id, deleted FROM lp.users WHERE id = ANY ('{4000000002,4000000003}') AND deleted IS NOT NULL;
SELECT lp.asked();
ALTER SERVER acme OPTIONS (ADD max_connections '3');
CALL lp.config('{"delay_ms": 20}');
SELECT count(*) FROM lp.users WHERE id = ANY ('{4000000001,4000000002,4000000003,4000000004,4000000005,4000000006,4000000007}');
SELECT lp.asked();
SELECT lp.sim('open') AS connections;
CALL lp.config('{"delay_ms": 0}');
-- the account may answer for deleted users by their id, too
CALL lp.next_answer('{"id": 4000000003, "loginName": "u3@example.com", "deleted": "true"}');
SELECT id, login_name FROM lp.users WHERE id = 4000000003;

-- more than 200 are one list
CREATE TABLE many AS SELECT array_agg(i) AS ids FROM generate_series(4000000001, 4000000201) i;
SELECT lp.asked() \g /dev/null
SELECT count(*) FROM lp.users WHERE id = ANY ((SELECT ids[1:200] FROM many)::bigint[]);
SELECT lp.asked();
SELECT count(*) FROM lp.users WHERE id = ANY ((SELECT ids FROM many)::bigint[]);
SELECT lp.asked();
DROP TABLE many;

-- What is no success is an error, whichever way it is asked; only a user who is asked for by id may not be there.
CREATE FUNCTION outcome(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	rows bigint;
	error record;
BEGIN
	SELECT * INTO error FROM lp.mistake('CREATE TEMP TABLE result AS ' || query);
	IF error.state = '00000' THEN
		SELECT count(*) INTO rows FROM result;
		DROP TABLE result;
		RETURN rows || ' rows';
	END IF;
	-- what libcurl says is its own
	RETURN concat_ws(' | ', error.state || ' ' || regexp_replace(error.message, '(the account): .*', '\1: ...'), error.detail, error.hint);
END $$;
CREATE FUNCTION outcomes(fault jsonb, OUT list text, OUT one text) LANGUAGE plpgsql AS $$
BEGIN
	CALL lp.fault((fault || '{"method": "GET", "times": 0}')::text);
	list := outcome('SELECT id, login_name FROM lp.users');
	one := outcome('SELECT id, login_name FROM lp.users WHERE id = 4000000001');
	PERFORM lp.sim('faults', method => 'DELETE');
END $$;
ALTER SERVER acme OPTIONS (ADD timeout '300ms');
\x on
SELECT fault, list, one FROM unnest(ARRAY['{"action": "status", "status": 400}', '{"action": "status", "status": 401}', '{"action": "status", "status": 403}',
	'{"action": "status", "status": 404}', '{"action": "status", "status": 410}', '{"action": "empty", "status": 404}', '{"action": "html", "status": 404}',
	'{"action": "retry_after", "value": "10"}', '{"action": "status", "status": 500}', '{"action": "status", "status": 503, "body": ""}', '{"action": "html"}',
	'{"action": "redirect", "location": "/"}', '{"action": "echo"}', '{"action": "empty"}', '{"action": "empty", "status": 204}', '{"action": "not_json"}',
	'{"action": "body", "body": "[]"}', '{"action": "body", "body": "{}"}', '{"action": "body", "body": "{\"error\": {\"message\": \"no\"}}"}',
	'{"action": "body", "body": "[{}]"}', '{"action": "body", "body": "[{\"id\": null}]"}', '{"action": "body", "body": "null"}', '{"action": "body", "body": "\"x\""}', '{"action": "body", "body": " \n[1]"}',
	'{"action": "body", "body": "[{\"id\": 4000000001}"}', '{"action": "body", "body": "[{\"id\": 4000000001}] x"}', '{"action": "body", "body": "[{\"id\": 4000000001}, ]"}', '{"action": "body", "body": "[{\"id\": 4000000001}, null]"}',
	'{"action": "half"}', '{"action": "half", "reset": true}', '{"action": "wrong_length"}', '{"action": "reset"}', '{"action": "close"}', '{"action": "silence"}', '{"action": "headers_only"}',
	'{"action": "deep"}', '{"action": "bad_utf8"}', '{"action": "nul"}', '{"action": "wrong_types"}']::jsonb[]) fault, outcomes(fault);
\x off
-- a refusal of a neighbour
CALL lp.fault('{"method": "GET", "action": "status", "status": 403, "times": 4}');
SELECT outcome('SELECT * FROM lp.' || name) FROM unnest('{skills,profiles,agent_groups,lobs}'::text[]) name;
-- nothing listens there
CREATE SERVER nobody FOREIGN DATA WRAPPER lpusers OPTIONS (account '12345678', base_url 'http://127.0.0.1:9');
CREATE USER MAPPING FOR CURRENT_USER SERVER nobody OPTIONS (token 'lp-token');
CREATE FOREIGN TABLE unreachable (id bigint) SERVER nobody OPTIONS (resource 'users');
SELECT outcome('SELECT * FROM unreachable'), outcome('SELECT * FROM unreachable WHERE id = 1');
-- A 404 by id means that there is no such user only where the account has answered: another account is no empty table.
CREATE SERVER wrong FOREIGN DATA WRAPPER lpusers OPTIONS (account '99999999', base_url :'url');
CREATE USER MAPPING FOR CURRENT_USER SERVER wrong OPTIONS (token 'lp-token');
CREATE FOREIGN TABLE wrong (id bigint, nickname text) SERVER wrong OPTIONS (resource 'users');
SELECT lp.sim('log', method => 'DELETE');
SELECT command, attempt(command) FROM (VALUES ('SELECT id FROM wrong WHERE id = 4000000001'), ('SELECT id FROM wrong WHERE id = ANY (''{1,2,3}'')'),
	('UPDATE wrong SET nickname = ''x'' WHERE id = 4000000001'), ('DELETE FROM wrong WHERE id = 4000000001')) v (command);
-- the account is asked once, for as long as the options are the same
ALTER SERVER wrong OPTIONS (SET account '12345678');
SELECT lp.sim('log', method => 'DELETE');
SELECT id FROM wrong WHERE id = 1;
SELECT id FROM wrong WHERE id = ANY ('{1,2,3}');
SELECT lp.asked();
ALTER SERVER wrong OPTIONS (SET account '99999999');
SELECT attempt('SELECT id FROM wrong WHERE id = 4000000001');
-- a gateway's page is never an answer about a user, nor is 204; as a list 204 is an empty one
CALL lp.fault('[{"method": "GET", "action": "empty", "status": 204, "times": 2}]');
SELECT count(*) FROM lp.users;
SELECT outcome('SELECT id FROM lp.users WHERE id = 4000000001');
-- a list has a limit
ALTER SERVER acme OPTIONS (ADD max_list_size '1kB');
SELECT lp.mistake('SELECT count(*) FROM lp.users');
ALTER SERVER acme OPTIONS (DROP max_list_size);
\set VERBOSITY terse
DROP SERVER nobody CASCADE;
DROP SERVER wrong CASCADE;
\set VERBOSITY default

-- Rows that came before the error do not make it a success.
CALL lp.fault('{"method": "GET", "action": "half"}');
DO $$
DECLARE
	n integer := 0;
	login text;
BEGIN
	FOR login IN SELECT login_name FROM lp.users LOOP
		n := n + 1;
	END LOOP;
EXCEPTION WHEN connection_failure THEN
	RAISE INFO 'after some rows: %; %', n > 0, regexp_replace(SQLERRM, '(the account): .*', '\1: ...');
END $$;
-- ... unless they are not selected
CALL lp.fault('{"method": "GET", "action": "half"}');
SELECT login_name FROM lp.users LIMIT 2;
CALL lp.fault('{"method": "GET", "action": "wrong_types"}');
SELECT count(*) FROM lp.users;

-- Once more: with a new bearer, and after "too many requests"
SELECT lp.asked() \g /dev/null
\set token_url :tls_url '/sentinel/api/v2/account/12345678/app/token'
ALTER SERVER acme OPTIONS (SET timeout '10s', ADD token_url :'token_url', ADD ca_file :'ca');
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (DROP token, ADD client_id 'lp-client', ADD client_secret 'lp-client-secret');
SELECT count(*) FROM lp.users;
SELECT lp.sim('tokens/expire', method => 'POST') \g /dev/null
SELECT count(*) FROM lp.users;
SELECT lp.sim('tokens/expire', method => 'POST') \g /dev/null
SELECT id, login_name FROM lp.users WHERE id = 4000000001;
CALL lp.fault('{"path": "le-users", "action": "retry_after", "value": "1"}');
SELECT count(*) FROM lp.users;
-- ... and after a connection that breaks off, unless rows of its answer were used
CALL lp.fault('{"path": "le-users", "action": "reset"}');
SELECT count(*) FROM lp.users;
CALL lp.fault('{"path": "/users/", "action": "close"}');
SELECT id, login_name FROM lp.users WHERE id = 4000000001;
CALL lp.fault('{"path": "/users/", "action": "half"}');
SELECT id, login_name FROM lp.users WHERE id = 4000000001;
CALL lp.fault('{"path": "/users/", "action": "half", "times": 2}');
SELECT state FROM lp.mistake('SELECT id, login_name FROM lp.users WHERE id = 4000000001');
SELECT lp.asked();
DROP FUNCTION outcomes(jsonb), outcome(text);
\i sql/include/finish.sql
