-- column_to_json: values of SQL types as JSON values of attributes
\set with_tables on
\set with_people on
\i sql/include/start.sql
CREATE DOMAIN lp.short AS varchar(5);
CREATE DOMAIN lp.ids AS bigint[];
CREATE TYPE lp.color AS ENUM ('red', 'green');
CREATE TYPE lp.pair AS (a integer, b text);
-- What the account gets for a value of this type in a column that shows this attribute, or what is wrong with it.
CREATE FUNCTION lp.written(type text, attribute text, value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	failure record;
BEGIN
	PERFORM lp.sim('reset', method => 'POST');
	SET LOCAL client_min_messages = error;
	DROP FOREIGN TABLE IF EXISTS lp.value;
	EXECUTE format('CREATE FOREIGN TABLE lp.value (entity jsonb OPTIONS (attribute ''*''), value %s OPTIONS (attribute %L)) SERVER acme OPTIONS (resource ''users'')', type, attribute);
	SELECT * INTO failure FROM attempt(format('INSERT INTO lp.value VALUES (person(''v'', ''{"isApiUser": true, "allowedAppKeys": "k"}'') - %L, %L)', attribute, value));
	IF failure.state <> '00000' THEN
		RETURN concat_ws(' ', failure.state, coalesce(regexp_replace(failure.detail, '^Row 1, user "v@example.com": ', ''), failure.message));
	END IF;
	RETURN (SELECT coalesce(((u #- '{memberOf,assignmentDate}')->attribute)::text, 'absent') FROM lp.account);
END $$;
SELECT type, attribute, value, lp.written(type, attribute, value) FROM (VALUES
	-- text
	('text', 'description', ''), ('text', 'description', E'a "b" \\ c\td\né'), ('varchar(3)', 'description', 'abc'), ('char(5)', 'description', 'ab'), ('lp.short', 'description', 'abc'),
	('name', 'description', 'n'), ('lp.color', 'description', 'red'), ('uuid', 'description', '11111111-2222-3333-4444-555555555555'), ('inet', 'description', '::1'),
	('integer', 'description', '7'), ('numeric', 'description', '1.50'), ('date', 'description', '2026-11-25'), ('timestamptz', 'description', '2026-11-25 12:00:00+00'), ('interval', 'description', '1 day'),
	('boolean', 'description', 'true'), ('text[]', 'description', '{a}'), ('lp.pair', 'description', '(1,a)'), ('bytea', 'description', '\x00ff'),
	('jsonb', 'description', '"a\"b"'), ('json', 'description', '"ab"'), ('jsonb', 'description', '7'), ('jsonb', 'description', '{}'), ('jsonb', 'description', 'null'), ('json', 'description', ' null '),
	-- booleans
	('boolean', 'changePwdNextLogin', 't'), ('boolean', 'changePwdNextLogin', 'f'), ('text', 'changePwdNextLogin', 'true'), ('text', 'changePwdNextLogin', 'false'), ('text', 'changePwdNextLogin', 't'),
	('integer', 'changePwdNextLogin', '1'), ('jsonb', 'changePwdNextLogin', 'true'), ('jsonb', 'changePwdNextLogin', '"false"'), ('jsonb', 'changePwdNextLogin', '0'),
	-- numbers
	('smallint', 'maxChats', '7'), ('integer', 'maxChats', '-1'), ('bigint', 'maxChats', '9223372036854775807'), ('numeric', 'maxChats', '2.50'), ('numeric', 'maxChats', 'NaN'), ('numeric', 'maxChats', 'Infinity'),
	('text', 'maxChats', '007'), ('text', 'maxChats', '2.5'), ('text', 'maxChats', 'many'), ('text', 'maxChats', ''), ('double precision', 'maxChats', '3'), ('double precision', 'maxChats', '3.5'), ('real', 'maxChats', '1e3'), ('real', 'maxChats', 'Infinity'),
	('oid', 'maxChats', '4294967295'), ('money', 'maxChats', '3'), ('jsonb', 'maxChats', '3'), ('jsonb', 'maxChats', '"3"'), ('jsonb', 'maxChats', '3.5'), ('jsonb', 'maxChats', '[3]'),
	-- whole numbers
	('integer', 'userTypeId', '2'), ('numeric', 'userTypeId', '2.0'), ('numeric', 'userTypeId', '99999999999999999999'), ('text', 'userTypeId', '-2'), ('text', 'userTypeId', '--2'), ('text', 'userTypeId', '-'),
	-- ids
	('bigint[]', 'skillIds', '{3001,9223372036854775807}'), ('integer[]', 'skillIds', '{1}'), ('smallint[]', 'skillIds', '{1,2}'), ('numeric[]', 'skillIds', '{1,2}'), ('text[]', 'skillIds', '{1,02}'), ('bigint[]', 'skillIds', '{}'),
	('lp.ids', 'skillIds', '{1,2}'), ('bigint[]', 'skillIds', '[5:6]={1,2}'), ('bigint[]', 'skillIds', '{{1,2},{3,4}}'), ('bigint[]', 'skillIds', '{0}'), ('bigint[]', 'skillIds', '{-1}'), ('bigint[]', 'skillIds', '{1,NULL}'),
	('text[]', 'skillIds', '{a}'), ('bigint', 'skillIds', '1'), ('text', 'skillIds', '1,2'), ('jsonb', 'skillIds', '[1, "2"]'), ('jsonb', 'skillIds', '[1, null]'), ('jsonb', 'skillIds', '[]'), ('jsonb', 'skillIds', '1'),
	-- groups
	('bigint', 'memberOf', '2001'), ('integer', 'memberOf', '-1'), ('numeric', 'memberOf', '2001'), ('numeric', 'memberOf', '1.5'), ('text', 'memberOf', '2001'), ('jsonb', 'memberOf', '{"agentGroupId": 2001}'),
	('jsonb', 'memberOf', '{"agentGroupId": "2001", "note": "x"}'), ('jsonb', 'memberOf', '{"agentGroupId": 2001, "assignmentDate": "2026-01-01 00:00:00"}'), ('jsonb', 'memberOf', '{}'), ('jsonb', 'memberOf', '2001'), ('jsonb', 'memberOf', 'null'),
	('bigint[]', 'managerOf', '{2001,2002}'), ('bigint[]', 'managerOf', '{}'), ('text[]', 'managerOf', '{2001}'), ('bigint', 'managerOf', '2001'), ('bigint[]', 'managerOf', '{NULL}'),
	('jsonb[]', 'managerOf', '{"{\"agentGroupId\": 1}"}'), ('jsonb', 'managerOf', '[{"agentGroupId": 2001}, {"agentGroupId": "2002"}]'), ('jsonb', 'managerOf', '[2001]'), ('jsonb', 'managerOf', '[null]'),
	-- unknown attributes: as their type suggests
	('text', 'shoeSize', '41'), ('numeric', 'shoeSize', '41.50'), ('double precision', 'shoeSize', '41.5'), ('real', 'shoeSize', '-1e-30'), ('double precision', 'shoeSize', '-Infinity'), ('boolean', 'shoeSize', 't'), ('date', 'shoeSize', '2026-11-25'), ('timestamp', 'shoeSize', '2026-11-25 12:00:00'), ('text[]', 'shoeSize', '{a,NULL}'),
	('integer[]', 'shoeSize', '{{1,2},{3,4}}'), ('jsonb', 'shoeSize', '{"a": [1, null, "x"]}'), ('json', 'shoeSize', '{"a" : 1, "a" : 2}'), ('lp.pair', 'shoeSize', '(1,a)'), ('lp.color', 'shoeSize', 'red'), ('numeric', 'shoeSize', 'NaN')
	) v (type, attribute, value);
-- dates in JSON's form whatever the session's
SET DateStyle = 'SQL, DMY';
SET TimeZone = 'UTC';
SELECT type, lp.written(type, 'shoeSize', '2026-11-05 12:00:00+00') FROM unnest('{date,timestamp,timestamptz,time,timetz}'::text[]) type;
RESET DateStyle;
RESET TimeZone;
\i sql/include/finish.sql
