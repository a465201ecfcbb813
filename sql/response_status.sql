-- response_status: what the account answers, and what becomes of it (api.c, request.c)
\i sql/include/start.sql
CREATE FUNCTION create_one(name text, OUT status integer, OUT ac_revision bigint, OUT type text, OUT error text) LANGUAGE sql AS $$
	SELECT status, ac_revision, jsonb_typeof(body), error FROM lp_create_users('12345678', person(name)) $$;

-- Every method: verb, path, headers.
SELECT status, ac_revision FROM lp_create_users('12345678', person('ann'));
SELECT status, ac_revision FROM lp_update_users('12345678', person('ann', '{"id": 4000000001, "passwordSh": null}'));
SELECT status, ac_revision FROM lp_update_users('12345678', person('ann', '{"id": 4000000001, "passwordSh": null}'), 3);
SELECT status, ac_revision FROM lp_reset_password('12345678', 4000000001, 'Start-4321');
SELECT status, ac_revision FROM lp_delete_users('12345678', '{4000000001}', 5);
SELECT step, ok FROM lp_check('12345678') WHERE step = 'read';
\! curl -sSf "$LPSIM_URL/_sim/log" > results/api.tmp
\set log `cat results/api.tmp; rm -f results/api.tmp`
SELECT concat_ws(' ', e->>'method', e->>'path', e->>'query') AS request, e->>'status' AS status, e->>'if_match' AS if_match,
	e->>'content_type' AS content_type, e->>'ids' AS ids FROM jsonb_array_elements(:'log') e;

-- Errors in both shapes, and where the revision stands.
SELECT status, error FROM lp_delete_users('12345678', '{42, 43}');
SELECT status, ac_revision, error FROM lp_update_users('12345678', person('ann', '{"id": 42}'), 5);
\! curl -sSfo /dev/null -d '{"error_shape":"nested","stale_status":409,"revision_header":"ETag"}' $LPSIM_URL/_sim/config
SELECT status, error, body->'error'->>'internalCode' AS code FROM lp_delete_users('12345678', '{42}');
SELECT status, ac_revision, error FROM lp_update_users('12345678', person('ann', '{"id": 42}'), 5);
SELECT * FROM create_one('bob');
SELECT * FROM create_one('bob');
\! curl -sSfo /dev/null -d '{"error_shape":"flat","revision_header":"none","conflict_status":400}' $LPSIM_URL/_sim/config
SELECT * FROM create_one('bob');
SELECT * FROM create_one('cid');
\! curl -sSfo /dev/null -X POST $LPSIM_URL/_sim/reset
-- revisions that are none, or dressed; ac-revision goes before ETag
CREATE FUNCTION revisions(OUT header text, OUT value text) RETURNS SETOF record LANGUAGE sql AS $$
	VALUES ('ac-revision', '42'), ('AC-Revision', '42'), ('ETag', '"42"'), ('ETag', 'W/"42"'), ('ETag', '42'), ('ETag', '"abc"'),
		('ac-revision', ''), ('ac-revision', '-1'), ('ac-revision', '42 '), ('ac-revision', '0x2a'), ('ac-revision', '4 2'),
		('ac-revision', '9223372036854775807'), ('ac-revision', '9223372036854775808'), ('ac-revision', '42.5') $$;
\t on
SELECT jsonb_agg(jsonb_build_object('action', 'status', 'status', 200, 'body', '', 'headers', jsonb_build_object(header, value)))
FROM revisions() \g results/api.tmp
\t off
\! curl -sSfo /dev/null -d @results/api.tmp $LPSIM_URL/_sim/faults; rm -f results/api.tmp
SELECT v.*, r.ac_revision FROM revisions() WITH ORDINALITY v (header, value, n), LATERAL lp_delete_users('12345678', ARRAY[n]) r;
\! curl -sSfo /dev/null -d '{"action":"status","status":200,"body":"","headers":{"ETag":"\"7\"","ac-revision":"8"}}' $LPSIM_URL/_sim/faults
SELECT ac_revision FROM lp_delete_users('12345678', '{1}');
DROP FUNCTION revisions();

-- Every kind of status is a row; only 2xx is without an error. Nothing is sent twice, and redirects are not followed.
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log
\! curl -sSfo /dev/null -d '[{"action":"status","status":200,"body":"{}"},{"action":"status","status":202,"body":"{}"},{"action":"status","status":204,"body":""},{"action":"status","status":299,"body":"[]"},{"action":"redirect","location":"https://127.0.0.1:1/","status":301},{"action":"redirect","location":"/elsewhere","status":307},{"action":"redirect","location":"/elsewhere","status":308},{"action":"status","status":400},{"action":"status","status":402},{"action":"status","status":403},{"action":"status","status":404}]' $LPSIM_URL/_sim/faults
\! curl -sSfo /dev/null -d '[{"action":"status","status":406},{"action":"status","status":409},{"action":"status","status":410},{"action":"status","status":412},{"action":"status","status":413},{"action":"status","status":415},{"action":"status","status":422},{"action":"status","status":451},{"action":"status","status":500},{"action":"status","status":501},{"action":"html"},{"action":"retry_after","status":503,"value":"1"},{"action":"status","status":504,"body":""},{"action":"status","status":599}]' $LPSIM_URL/_sim/faults
SELECT n, r.* FROM generate_series(1, 25) n, LATERAL create_one('s' || n) r;
\! curl -sSf "$LPSIM_URL/_sim/count?method=POST"; curl -sSf "$LPSIM_URL/_sim/count?path=elsewhere"; curl -sSf "$LPSIM_URL/_sim/created"
-- 429: again after Retry-After, while that fits into "timeout"; it was not carried out, so once more is not twice
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/log; curl -sSfo /dev/null -d '{"action":"retry_after","value":"1"}' $LPSIM_URL/_sim/faults
SELECT * FROM create_one('dan');
\! curl -sSf "$LPSIM_URL/_sim/count?login=dan@example.com&status=429"; curl -sSf "$LPSIM_URL/_sim/count?login=dan@example.com&status=201"
ALTER SERVER acme OPTIONS (ADD timeout '900ms');
\! curl -sSfo /dev/null -d '{"action":"retry_after","value":"1","times":0}' $LPSIM_URL/_sim/faults
SELECT * FROM create_one('eve');
\! curl -sSf "$LPSIM_URL/_sim/count?login=eve@example.com"
-- for ever 429: given up within "timeout"
ALTER SERVER acme OPTIONS (SET timeout '1900ms');
SELECT * FROM create_one('fay');
\! curl -sSf "$LPSIM_URL/_sim/count?login=fay@example.com"; curl -sSf "$LPSIM_URL/_sim/created"
\! curl -sSfo /dev/null -X DELETE $LPSIM_URL/_sim/faults

-- What an error says: known members only, one line, bounded; never what was sent.
CREATE FUNCTION bodies(OUT n integer, OUT body text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT row_number() OVER ()::integer, b FROM unnest(ARRAY['{"message":"m"}', '{"message":"m","internalCode":44}',
		'{"message":"m","fields":["a","b"]}', '{"message":"m","internalCode":"44","fields":["a",7,null]}', '{"internalCode":44}',
		'{"fields":["a"]}', '{"error":"text"}', '{"error":{"message":"nested","internalCode":1}}', '{"error":{}}',
		'{"error":"invalid","error_description":"described"}', '{"errorMessage":"other"}', '{}', '[]', '[{"message":"m"}]', '7', '"text"',
		'null', '{"message":7}', '{"message":{"a":1}}', '{"message":""}', '{"passwordSh":"Start-1234"}', '{"message":"a\nb\tc\u0007d"}',
		'{"message":"Zo\u00eb \ud83d\ude00"}', '{"message":"a\u0000b"}', 'plain text', E' \n ', '<b>html</b>', '{"message":"cut', '{"message":"m"} x',
		jsonb_build_object('message', repeat('m', 2000))::text, repeat('t', 2000),
		jsonb_build_object('message', 'm', 'fields', (SELECT jsonb_agg('f' || i) FROM generate_series(1, 30) i))::text,
		'{"message":["a","b"]}', '{"errors":[{"message":"a","internalCode":7},{"message":"b"}]}', '{"errors":{"loginName":"x"}}', '{"message":"m","fields":{"email":"bad","loginName":"taken"}}',
		'{"fields":[{"field":"email","reason":"bad"}],"message":"m"}', '[{"message":"password too short","internalCode":44},{"message":"b"}]', '["a",["b",{"error":{"message":"c"}}]]',
		'{"title":"Bad","detail":"of the user","status":400}', '{"error":{"error":{"errors":["deep"]}}}', '{"code":7,"reason":"r"}', '{"a":"nothing known"}', 'true']) b $$;
\t on
SELECT jsonb_agg(jsonb_build_object('action', 'body', 'status', 400, 'body', body) ORDER BY n) FROM bodies() \g results/api.tmp
\t off
\! curl -sSfo /dev/null -d @results/api.tmp $LPSIM_URL/_sim/faults; rm -f results/api.tmp
SELECT n, left(body, 60) AS body, length(error), left(error, 150) AS error, position('...' IN error) > 0 AS cut
FROM bodies(), LATERAL create_one('e' || n) ORDER BY n;
\! curl -sSfo /dev/null -d '[{"action":"echo"},{"action":"body","status":400,"body":"the password Start-1234 is too old","content_type":"text/plain"},{"action":"body","status":400,"body":"{\"message\":\"bad password: Start-1234\"}"},{"action":"body","status":400,"body":"Authorization: Bearer lp-token","content_type":"text/plain"}]' $LPSIM_URL/_sim/faults
SELECT n, r.status, r.error FROM generate_series(1, 4) n, LATERAL create_one('x' || n) r;
-- secrets however they are written, of the request and the bearer, in error and in body; codes stay; what is short is no secret
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET token 'lp/token+with=signs');
CREATE FUNCTION secretive(password text) RETURNS TABLE (status integer, body jsonb, error text) LANGUAGE sql AS $$
	SELECT status, body, error FROM lp_create_users('12345678', person('s', jsonb_build_object('passwordSh', password))) $$;
\! curl -sSfo /dev/null -d '[{"action":"body","status":400,"body":"{\"message\":\"bad lp\\/token+with=signs\",\"internalCode\":44,\"fields\":[\"passwordSh\"]}"},{"action":"body","status":400,"body":"token=lp%2Ftoken%2bwith%3Dsigns"},{"action":"body","status":400,"body":"{\"message\":\"P\\u0061ss-w\\u00f6rd\"}"},{"action":"body","status":400,"body":"password=Pass-w%C3%B6rd&x"},{"action":"body","status":400,"body":"{\"fields\":[\"Pass-w\u00f6rd\"],\"internalCode\":3}"},{"action":"body","status":400,"body":"{\"message\":\"1234567 is short\"}"},{"action":"body","status":201,"body":"[{\"id\":9,\"loginName\":\"s@example.com\",\"headers\":\"Bearer lp\\/token+with=signs\"}]"}]' $LPSIM_URL/_sim/faults
SELECT n, r.* FROM unnest('{Pass-wörd,Pass-wörd,Pass-wörd,Pass-wörd,Pass-wörd,1234567,Pass-wörd}'::text[]) WITH ORDINALITY u (password, n), LATERAL secretive(password) r;
DROP FUNCTION secretive(text);
ALTER USER MAPPING FOR CURRENT_USER SERVER acme OPTIONS (SET token 'lp-token');
\! curl -sSfo /dev/null -d '{"action":"body","status":400,"body":"{\"message\":\"bad: New\\\"Secret\\\\1\"}"}' $LPSIM_URL/_sim/faults
SELECT status, error FROM lp_reset_password('12345678', 1, E'New"Secret\\1');
DROP FUNCTION bodies();
DROP FUNCTION create_one(text);
\i sql/include/finish.sql
