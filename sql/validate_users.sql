-- validate_users: what lp_validate_users() and the calls say of wrong users (attribute.c, validate.c)
\i sql/include/start.sql
-- nothing is wrong with these
SELECT * FROM lp_validate_users(person('ann'));
SELECT * FROM lp_validate_users(people('p', 1000));
-- nor with the documentation's own form, where numbers and booleans are strings
SELECT * FROM lp_validate_users(person('ann', '{"isEnabled": "true", "maxChats": "4", "maxAsyncChats": "-1", "profileIds": ["1", 2],
	"skillIds": ["3"], "memberOf": {"agentGroupId": "-1"}, "managerOf": [{"agentGroupId": 1}, {"agentGroupId": "2"}],
	"changePwdNextLogin": "false", "userTypeId": "1", "isApiUser": "false"}'));

-- not users
SELECT d AS document, v.* FROM unnest(ARRAY['1', '"x"', 'null', 'true', '[]', '{}', '[1]', '["x", null, [], {}]']::jsonb[]) d,
LATERAL lp_validate_users(d) v;
SELECT * FROM lp_validate_users(NULL); -- ERROR
\echo :LAST_ERROR_SQLSTATE

-- Every attribute: null, and each type of JSON, in an otherwise good user; what is not listed is good.
CREATE VIEW attributes AS SELECT * FROM unnest(ARRAY['id', 'pid', 'deleted', 'loginName', 'fullName', 'nickname', 'email',
	'passwordSh', 'oldPassword', 'confirmPassword', 'isEnabled', 'disabledManually', 'maxChats', 'maxAsyncChats', 'profileIds',
	'skillIds', 'lobIds', 'permissionGroups', 'memberOf', 'managerOf', 'changePwdNextLogin', 'isApiUser', 'allowedAppKeys',
	'userTypeId', 'description', 'mobileNumber', 'pictureId', 'pictureUrl', 'backgndImgUri', 'pnCertName', 'employeeId',
	'lastPwdChangeDate', 'dateUpdated', 'loginname', 'somethingNew']) WITH ORDINALITY AS a (name, n);
CREATE FUNCTION verdicts(name text, OUT missing text, OUT null_value text, OUT string text, OUT number text, OUT fraction text,
						 OUT bool text, OUT list text, OUT object text) LANGUAGE plpgsql AS $$
DECLARE
	good jsonb := person('ann') - name;
	results text[];
	value jsonb;
BEGIN
	FOREACH value IN ARRAY ARRAY[NULL, 'null', '"x"', '7', '7.5', 'true', '[]', '{}']::jsonb[] LOOP
		results := results || coalesce((SELECT string_agg(CASE WHEN v.attribute = name THEN v.problem ELSE v.attribute || '!' END, '; ')
			FROM lp_validate_users(CASE WHEN value IS NULL THEN good ELSE good || jsonb_build_object(name, value) END) v), 'ok');
	END LOOP;
	missing := results[1]; null_value := results[2]; string := results[3]; number := results[4]; fraction := results[5];
	bool := results[6]; list := results[7]; object := results[8];
END $$;
SELECT a.name, v.* FROM attributes a, LATERAL verdicts(a.name) v ORDER BY a.n;

-- Numbers: whole where an id is meant, within bigint, positive where it is an id; not everything that looks like one
SELECT value, (SELECT problem FROM lp_validate_users(person('a', jsonb_build_object('profileIds', jsonb_build_array(value))))) AS in_ids,
	(SELECT problem FROM lp_validate_users(person('a', jsonb_build_object('userTypeId', value)))) AS long,
	(SELECT problem FROM lp_validate_users(person('a', jsonb_build_object('maxChats', value)))) AS number
FROM unnest(ARRAY['1', '0', '-1', '2147483648', '9223372036854775807', '9223372036854775808', '-9223372036854775808', '1.0', '1.5', '1e3',
				  '"1"', '"-1"', '"9223372036854775808"', '"1.5"', '"1e3"', '" 1"', '"1 "', '""', '"-"', '"+1"', '"0x10"', '"1-"',
				  'null', 'true', '"null"']::jsonb[]) value;
SELECT value, problem FROM unnest(ARRAY['true', 'false', '"true"', '"false"', '"TRUE"', '"t"', '"yes"', '1', '""', 'null']::jsonb[]) value
LEFT JOIN LATERAL lp_validate_users(person('a') || jsonb_build_object('isEnabled', value)) ON true;
SELECT value, problem FROM unnest(ARRAY['{"agentGroupId": 1}', '{"agentGroupId": -1}', '{"agentGroupId": "1"}', '{"agentGroupId": 1, "new": 2}',
	'{}', '{"agentGroupId": null}', '{"agentGroupId": 1.5}', '{"agentgroupid": 1}', '1', '[]', '[{"agentGroupId": 1}]',
	'{"agentGroupId": 1, "assignmentDate": "2026-01-01 00:00:00"}']::jsonb[]) value
LEFT JOIN LATERAL lp_validate_users(person('a') || jsonb_build_object('memberOf', value)) ON true;
SELECT value, problem FROM unnest(ARRAY['[]', '[{"agentGroupId": 1}]', '[{"agentGroupId": 1}, null]', '[1]', '[{}]', '{"agentGroupId": 1}']::jsonb[]) value
LEFT JOIN LATERAL lp_validate_users(person('a') || jsonb_build_object('managerOf', value)) ON true;
SELECT value, problem FROM unnest(ARRAY['[]', '[1, null]', '[1, "x"]', '[[1]]', '1', '"1"', '{}']::jsonb[]) value
LEFT JOIN LATERAL lp_validate_users(person('a') || jsonb_build_object('skillIds', value)) ON true;

-- required texts are not empty; blanks are the account's to judge
SELECT * FROM lp_validate_users(person('a', '{"loginName": "", "fullName": "", "nickname": " ", "email": "", "passwordSh": "", "description": ""}'));
-- API users have no password, but keys
SELECT * FROM lp_validate_users(person('a', '{"isApiUser": true, "passwordSh": null}'));
SELECT * FROM lp_validate_users(person('a', '{"isApiUser": "true", "passwordSh": null, "allowedAppKeys": "k"}'));
SELECT * FROM lp_validate_users(person('a', '{"isApiUser": false, "passwordSh": null}'));
-- the same login twice, upper and lower case alike
SELECT * FROM lp_validate_users(jsonb_build_array(person('ann'), person('bob'), person('Ann', '{"loginName": "ANN@example.com"}'), person('ann'),
	person('Zoë'), person('zoë'), '{"loginName": "ann@example.com"}'::jsonb));
-- What a login may hold: at most 254 characters in NFC, no control or format characters, no blanks at the ends.
SELECT c.name, v.attribute, v.problem FROM (VALUES ('254', repeat('x', 254)), ('255', repeat('x', 255)), ('254 composed', repeat(U&'e\0301', 254)),
	('255 composed', repeat(U&'\00E9', 255)), ('3205 bytes', repeat('x', 3205)), ('100 kB', repeat(U&'\00E9', 50000)), ('tab', E'a\tb'), ('delete', U&'a\007Fb'),
	('soft hyphen', U&'a\00ADb'), ('bidi', U&'a\202Eb'), ('byte order mark', U&'\FEFFa'), ('blank within', 'a b'), ('blank before', ' a'), ('blank behind', 'a '),
	('no-break space', U&'a\00A0'), ('ideographic space', U&'\3000a'), ('line separator', U&'a\2028'), ('umlaut', U&'\00E4@x.de')) c (name, login)
	LEFT JOIN LATERAL lp_validate_users(person('x', jsonb_build_object('loginName', c.login))) v ON true;
-- two spellings of one login
SELECT * FROM lp_validate_users(jsonb_build_array(person('x', U&'{"loginName": "J\00FCrgen@x.de"}'), person('x', U&'{"loginName": "JU\0308RGEN@x.de"}'),
	person('x', U&'{"loginName": "\03A3\0391\03A3"}'), person('x', U&'{"loginName": "\03C3\03B1\03C2"}')));
-- all of them, however many
SELECT count(*), max(ordinal) FROM lp_validate_users((SELECT jsonb_agg('{}'::jsonb) FROM generate_series(1, 1000)));

-- A call that is refused sends nothing, and says which user and what.
SELECT * FROM lp_create_users('12345678', '[]'); -- ERROR
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM lp_create_users('12345678', '7'); -- ERROR
SELECT * FROM lp_create_users('12345678', person('ann') - 'email' || '{"maxChats": "many", "id": 7}'); -- ERROR
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM lp_create_users('12345678', jsonb_build_array(person('ann'), person('bob', '{"passwordSh": null}'))); -- ERROR
SELECT * FROM lp_create_users('12345678', '[{}, {}]'); -- ERROR
-- update: the id is required, the password is not; what the account answers as read-only may come back
SELECT * FROM lp_update_users('12345678', person('ann')); -- ERROR
SELECT * FROM lp_update_users('12345678', person('ann', '{"id": 0}')); -- ERROR
SELECT * FROM lp_update_users('12345678', jsonb_build_array(person('ann', '{"id": 1}'), person('ann', '{"id": 2}'))); -- ERROR
SELECT status FROM lp_update_users('12345678', person('ann', '{"id": "4000000001", "passwordSh": null, "deleted": false,
	"dateUpdated": "2026-01-01 00:00:00", "memberOf": {"agentGroupId": 1, "assignmentDate": "2026-01-01"}}'));
\! curl -sSf "$LPSIM_URL/_sim/count?method=POST"; curl -sSf "$LPSIM_URL/_sim/count?method=PUT"
-- require_password off: for accounts that log in by SSO
ALTER SERVER acme OPTIONS (ADD require_password 'off');
SELECT state, detail FROM attempt($$SELECT lp_create_users('12345678', person('sso', '{"passwordSh": null, "email": null}'))$$);
\! curl -sSfo /dev/null -d '{"path":"/users","action":"status","status":201,"body":"{}"}' $LPSIM_URL/_sim/faults
SELECT status FROM lp_create_users('12345678', person('sso', '{"passwordSh": null}'));
\! curl -sSf "$LPSIM_URL/_sim/count?login=sso@example.com"
-- logins and e-mails are sent in NFC, whatever they came in
SELECT status FROM lp_create_users('12345678', person('nfc', U&'{"loginName": "Jo\0308rg@x.de", "email": "Jo\0308rg@x.de", "nickname": "Jo\0308rg"}'));
SELECT login_name = U&'J\00F6rg@x.de' AS composed, state FROM lp_results WHERE login_name ~ 'rg@x.de$';
\! curl -sSf "$LPSIM_URL/_sim/users" | tr ',' '\n' | grep 'rg' | LC_ALL=C sed 's/\xc3\xb6/<composed>/; s/o\xcc\x88/<decomposed>/'
DROP FUNCTION verdicts(text);
DROP VIEW attributes;
-- what a group assignment holds; numbers in any form; 0 is a permission group
SELECT problem FROM lp_validate_users('{"loginName":"a@x","fullName":"A","nickname":"A","email":"a@x","passwordSh":"Aa1!aaaa","isEnabled":"True","maxChats":3.0,"profileIds":[1003.0],"memberOf":{"agentGroupId":2001.00},"permissionGroups":[0]}');
SELECT attribute, problem FROM lp_validate_users('{"loginName":"a@x","fullName":"A","nickname":"A","email":"a@x","passwordSh":"Aa1!aaaa","isEnabled":true,"maxChats":3,"profileIds":[1003],"managerOf":[{"agentGroupId":1,"assignmentDate":"2015-06-22 19:20:03"}]}');
-- attributes that are probably misspelt: once each, and no row, since others pass unchanged
SELECT * FROM lp_validate_users(jsonb_build_array(person('ann', '{"skilIds": [1], "maxChat": 3, "shoeSize": 41}'), person('bob', '{"skilIds": [2]}'), 7));
\i sql/include/finish.sql
