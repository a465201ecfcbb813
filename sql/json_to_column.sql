-- json_to_column: values of the API as values of columns: each type, each way to write a value, and what is no value of the type
\set with_tables on
\i sql/include/start.sql
-- What columns of these types show of these values of an attribute, each that of a user of its own. An error is shown with
-- its place, if that is not the one.
CREATE FUNCTION shown(types text, attribute text, VARIADIC "values" text[]) RETURNS TABLE(type text, value text, shown text) LANGUAGE plpgsql AS $$
DECLARE
	rules jsonb := (SELECT jsonb_agg(jsonb_build_object('path', 'users/' || 4000000000 + n, 'action', 'body', 'times', 0,
		'body', format('{"id": "%s"%s}', 4000000000 + n, ', "' || attribute || '": ' || v))) FROM unnest("values") WITH ORDINALITY e (v, n));
	id bigint;
	message text;
	detail text;
	context text;
BEGIN
	CALL lp.fault(rules::text);
	FOREACH type IN ARRAY types::text[] LOOP
		EXECUTE format('CREATE FOREIGN TABLE shown (id bigint, x %s OPTIONS (attribute %L)) SERVER acme OPTIONS (resource ''users'')', type, attribute);
		FOR value, id IN SELECT v, 4000000000 + n FROM unnest("values") WITH ORDINALITY e (v, n) LOOP
			BEGIN
				EXECUTE format('SELECT coalesce(x::text, ''NULL'') FROM shown WHERE id = %s', id) INTO shown;
			EXCEPTION WHEN OTHERS THEN
				GET STACKED DIAGNOSTICS message := MESSAGE_TEXT, detail := PG_EXCEPTION_DETAIL, context := PG_EXCEPTION_CONTEXT;
				context := split_part(context, E'\n', 1);
				shown := concat_ws(' | ', SQLSTATE || ' ' || message, nullif(detail, ''),
					nullif(context, format('column "x" (attribute "%s") of foreign table "shown", entity with id %s', attribute, id)));
			END;
			RETURN NEXT;
		END LOOP;
		DROP FOREIGN TABLE shown;
	END LOOP;
	PERFORM lp.sim('faults', method => 'DELETE');
END $$;
CREATE FUNCTION show(type text, value text) RETURNS text LANGUAGE sql AS $$ SELECT shown FROM shown('{' || type || '}', 'x', value) $$;

-- Nothing: null, absent, and blank, which is a value of its own only for texts and JSON
SELECT * FROM shown('{bigint,text,jsonb}', 'x', 'null', NULL, '""');
SELECT * FROM shown('{smallint,integer,numeric,float8,boolean,timestamp,date,uuid,bigint[],text[],varchar(9),char(3),name,json}', 'x', '""');

-- Numbers, also quoted
SELECT * FROM shown('{smallint,integer,bigint,numeric,"numeric(4,1)",real,text,varchar(2),jsonb}', 'x', '7', '"7"', '-12', '" 8 "');
SELECT * FROM shown('{smallint,integer,bigint,numeric,text,jsonb}', 'x', '2147483648', '4000000001', '"-2147483649"', '99999999999999999999', '-99999999999999999999');
SELECT * FROM shown('{integer,bigint}', 'x', '1.5', '1e3', '"NaN"', '"1,000"', 'true', '[]', '{}', '"2026-01-05"');
SELECT * FROM shown('{"numeric(4,1)",real,float8}', 'x', '1.25', '1e3', '1e400', '"Infinity"', '"one"', 'false');

-- Whole numbers, however a service writes them; what is none stays an error
SELECT * FROM shown('{smallint,integer,bigint}', 'x', '4.0', '"4.0"', '4.0E3', '40e-1', '-0.0', '1.25e2', '1.5', '1e19', '9223372036854775807.0', '1e999', '"ten"');
SELECT * FROM shown('{bigint[]}', 'permissionGroups', '[0, 1.0, "2", null]');

-- Booleans, also quoted
SELECT * FROM shown('{boolean}', 'x', 'true', 'false', '"true"', '"false"', '"True"', '"FALSE"', '1', '"0"', '"yes"', '2', '"si"', '[true]', '{}');
SELECT * FROM shown('{text,jsonb}', 'x', 'true', '"true"');

-- Texts
SELECT * FROM shown('{text,varchar,varchar(5),char(5),name,jsonb,json}', 'x', '"plain"', '"é€😀"', '"\u00e9\u20ac\ud83d\ude00"', '"\"\\\/\t"', '{"a": [1, "ü"]}', '"toolong"', '12.50');
SELECT length(show('text', '"' || repeat('x', 100000) || '"')), length(show('text', '"' || repeat('\u00e9', 10000) || '"'));
SELECT * FROM shown('{text,integer}', 'x', '"a\u0000b"', '007');

-- Dates, as the API writes them, whatever the session's DateStyle; nothing says in which time zone
SELECT * FROM shown('{timestamp,timestamp(0),timestamptz,date,time,text}', 'x', '"2026-02-28 10:11:12"');
SET DateStyle = 'SQL, DMY';
SET TimeZone = 'Asia/Tokyo';
SELECT * FROM shown('{timestamp,timestamptz,date,text}', 'x', '"2026-02-03 10:11:12"');
RESET DateStyle;
RESET TimeZone;
SELECT * FROM shown('{timestamp,date}', 'x', '"2026-02-30 10:11:12"', '"yesterday-ish"', '1767603600000', 'true', '{"y": 2026}');
-- plain ones the short way, and the others by the type's input function: the same comes of it
SELECT value, count(DISTINCT shown) AS ways, min(shown) AS shown FROM shown('{timestamp,timestamp(6)}', 'x', '"2024-02-29 23:59:59"',
	'"2023-02-29 00:00:00"', '"1900-02-29 00:00:00"', '"2000-02-29 00:00:00"', '"0001-01-01 00:00:00"', '"0000-01-01 00:00:00"',
	'"9999-12-31 23:59:59"', '"2026-00-01 00:00:00"', '"2026-13-01 00:00:00"', '"2026-04-31 00:00:00"', '"2026-01-01 24:00:00"',
	'"2026-01-01 10:60:00"', '"2026-01-01 10:11:60"', '"2026-01-01T10:11:12"', '"2026-01-01 10:11:1x"', '"+026-01-01 10:11:12"',
	'"2026-1-01 10:11:012"', '"2026-01-01 10:11"')
GROUP BY value ORDER BY value COLLATE "C";

-- Other types, by their input functions
CREATE TYPE color AS ENUM ('red', 'blue');
CREATE TYPE pair AS (a integer, b text);
SELECT * FROM shown('{color,uuid}', 'x', '"red"', '"green"', '"d9e3a1b0-0000-4000-8000-000000000000"', '1');
SELECT show('pair', '"(1,x)"'), show('interval', '"1 day"'), show('inet', '"10.0.0.1"'), show('bytea', '"\\xff"'), show('int4range', '"[1,5)"'), show('point', '"(1,2)"');

-- Domains check what they are made for
CREATE DOMAIN login AS text CHECK (VALUE LIKE '%@%');
CREATE DOMAIN chats AS integer NOT NULL CHECK (VALUE < 10);
CREATE DOMAIN few AS chats CHECK (VALUE < 5);
CREATE DOMAIN ids AS bigint[] CHECK (array_length(VALUE, 1) < 3);
SELECT * FROM shown('{login}', 'x', '"a@b"', '"x"', 'null', '""');
SELECT * FROM shown('{chats,few}', 'x', '4', '7', '12', 'null', '""', '"x"');
SELECT * FROM shown('{ids,chats[]}', 'x', '[1, 2]', '["1"]', '[1, 2, 3]', '[1, 12]', '[null]', 'null', '1');

-- Arrays: of anything, but arrays
SELECT * FROM shown('{bigint[],integer[],smallint[],numeric[],text[],jsonb[]}', 'x', '[]', '[1, 2]', '["3","4"]', '[ 5 , null , 6 ]', '[99999999999999999999]', '[-99999999999999999999]');
SELECT * FROM shown('{text[],varchar(3)[],jsonb[],json[]}', 'x', '["a", "b,c", "d\"e", "{f}", "", "\u00e9\\"]', '["\\", "]"]', '[{"a": "]}"}, [1, [2]], true, null, 1.50]');
SELECT * FROM shown('{bigint[],text[]}', 'x', '5', '"5"', '"{5,6}"', '{}', '{"a": 1}', 'true', '[[1, 2], [3, 4]]', '[{}]', '[1, "x"]');
SELECT * FROM shown('{boolean[],timestamp[],color[]}', 'x', '[true, "false", null]', '["2026-02-28 10:11:12", ""]', '["red", "blue"]');
SELECT * FROM shown('{bigint[],integer[]}', 'x', '[ 1,"2" , -3 ]', '["007", ""]', '["-"]', '[" 1"]', '["1", 2.0]', '[-0]', '["--1"]');
SELECT show('bigint[]', '[' || string_agg(i::text, ',') || ']') = array_agg(i)::text AS same FROM generate_series(4000000001, 4000000100) i;

-- JSON shows everything as it is
SELECT * FROM shown('{json,jsonb}', 'x', '1.50', '"x"', 'false', '[1,2.0,"3"]', '{"b":1,"a":{"c":[]}}', '1e5');

-- Groups: the id, unless the column is JSON
SELECT * FROM shown('{bigint,integer,text,varchar(20),jsonb}', 'memberOf', '{"agentGroupId": -1, "assignmentDate": "2026-01-05 09:00:00"}', '{"agentGroupId": "5"}', '5');
SELECT * FROM shown('{bigint,jsonb}', 'memberOf', '[{"agentGroupId": 7.0}]', '[{"agentGroupId": 7}, {"agentGroupId": 8}]', '[7]');
SELECT * FROM shown('{bigint,text}', 'memberOf', 'null', '""', '{}', '{"agentGroupId": null}', '{"other": 1}', '{"agentGroupId": [1]}', '{"agentGroupId": "x"}', '[]');
SELECT * FROM shown('{bigint[],text[],jsonb[],jsonb}', 'managerOf', '[]', '[{"agentGroupId": 5}, {"agentGroupId": "6", "assignmentDate": "x"}]', '[5, null, "6"]', '[{"agentGroupId": null}, {}]', '[{"other": 1}]', '{"agentGroupId": 5}');

-- The whole answer: quoted as in the API's documentation or not, the rows are the same
CALL lp.tell('users', jsonb_build_array(person('ann', '{"id": 4000000001, "deleted": false, "maxAsyncChats": null, "skillIds": [3001, 3002], "managerOf": [{"agentGroupId": 2001}, {"agentGroupId": -1}],
	"changePwdNextLogin": true, "isApiUser": false, "userTypeId": 1, "description": "", "lastPwdChangeDate": "2026-01-05 09:00:00"}'))::text);
CREATE TABLE plain AS SELECT * FROM lp.users;
CALL lp.config('{"quoted": true}');
CREATE TABLE quoted AS SELECT * FROM lp.users;
\x on
SELECT * FROM quoted;
\x off
UPDATE plain SET entity = NULL;
UPDATE quoted SET entity = NULL;
SELECT plain = quoted AS same FROM plain, quoted;

DROP TABLE plain, quoted;
DROP FUNCTION show(text, text), shown(text, text, text[]);
DROP DOMAIN ids, few, chats, login;
DROP TYPE pair, color;
\i sql/include/finish.sql
