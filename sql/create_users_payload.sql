-- create_users_payload: what is really sent, as the account has it
\i sql/include/start.sql
CREATE FUNCTION pretty(entity jsonb) RETURNS TABLE (attribute text, type text, value jsonb) LANGUAGE sql AS $$
	SELECT key, jsonb_typeof(value), CASE jsonb_typeof(value) WHEN 'object' THEN value - 'assignmentDate' ELSE value END FROM jsonb_each(entity)
	WHERE key NOT IN ('dateUpdated', 'lastPwdChangeDate', 'id', 'pid', 'deleted') ORDER BY key COLLATE "C" $$;

-- Strings that mean numbers and booleans arrive as those; unknown attributes arrive as they are, nested and quoted ones too.
SELECT status, error FROM lp_create_users('12345678', person('ann', '{"isEnabled": "true", "maxChats": "4", "maxAsyncChats": "0",
	"profileIds": ["1002", 1005], "skillIds": ["3001"], "lobIds": [], "permissionGroups": ["9223372036854775807"],
	"memberOf": {"agentGroupId": "2001", "more": "7"}, "managerOf": [{"agentGroupId": "2002"}, {"agentGroupId": -1}],
	"changePwdNextLogin": "false", "disabledManually": false, "isApiUser": "false", "userTypeId": "1", "description": "true", "employeeId": "007",
	"mobileNumber": "12", "somethingNew": {"a": ["1", 2, "true", null, {"b": 1.50}]}, "dateCreated": "2026", "level": "5",
	"exact": 12345678901234567890.123456789}'));
\set user `curl -sSf "$LPSIM_URL/_sim/user?login=ann@example.com"`
SELECT * FROM pretty(:'user');

-- Texts of all kinds, in values and in names of attributes.
SELECT status, error FROM lp_create_users('12345678', person('bob', jsonb_build_object(
	'fullName', E'Zoë "Quote" \\Backslash\\ / <b>&amp;</b> \u4e2d\u6587 \U0001F600 e\u0301',
	'nickname', E'line\nfeed\ttab\rreturn\u0001\u001f\u007f', 'description', repeat('ä', 10000),
	E'odd "name"\n\\ é', 'x')));
\set user `curl -sSf "$LPSIM_URL/_sim/user?login=bob@example.com"`
SELECT :'user'::jsonb->>'fullName' = E'Zoë "Quote" \\Backslash\\ / <b>&amp;</b> \u4e2d\u6587 \U0001F600 e\u0301' AS full_name,
	:'user'::jsonb->>'nickname' = E'line\nfeed\ttab\rreturn\u0001\u001f\u007f' AS nickname,
	:'user'::jsonb->>'description' = repeat('ä', 10000) AS description,
	:'user'::jsonb->E'odd "name"\n\\ é' AS odd_name, :'user'::jsonb->>'passwordSh' AS password;

-- An array stays an array, one object one object; the answer has the same form.
SELECT status, jsonb_typeof(body), jsonb_array_length(body) FROM lp_create_users('12345678', jsonb_build_array(person('cid')));
SELECT status, jsonb_typeof(body), body->>'loginName' AS login FROM lp_create_users('12345678', person('dan'));
-- API users; null is sent as null
SELECT status, error FROM lp_create_users('12345678', person('robot', '{"isApiUser": "true", "passwordSh": null, "allowedAppKeys": "k"}')
	|| '{"maxAsyncChats": null}');
\set user `curl -sSf "$LPSIM_URL/_sim/user?login=robot@example.com"`
SELECT * FROM pretty(:'user') WHERE attribute IN ('isApiUser', 'passwordSh', 'allowedAppKeys', 'maxAsyncChats');

-- Update replaces: what is absent is gone, what is given is there; ids as numbers or strings.
SELECT status, error FROM lp_update_users('12345678', person('ann', '{"id": "4000000001", "passwordSh": null, "isEnabled": "false", "skillIds": ["3002"]}'));
\set user `curl -sSf "$LPSIM_URL/_sim/user?login=ann@example.com"`
SELECT * FROM pretty(:'user');

-- A thousand users with one request, and who got which id.
SELECT status, jsonb_array_length(body) FROM lp_create_users('12345678', people('many', 1000));
\! curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=many1@example.com"; curl -sSf "$LPSIM_URL/_sim/count?method=POST&login=many1000@example.com"; curl -sSf "$LPSIM_URL/_sim/created"
SELECT count(*), count(DISTINCT user_id), bool_and(user_id = 4000000005 + substring(login_name FROM '\d+')::int) AS right_ids,
	count(DISTINCT batch) AS batches FROM lp_results WHERE login_name ~ '^many';
DROP FUNCTION pretty(jsonb);
\i sql/include/finish.sql
