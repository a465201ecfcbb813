\set ECHO none
-- scan_start.sql: what the tests of reading foreign tables begin with, after start.sql; itself not a test. The account as
-- tables in the schema lp, and there questions to the stand-in account. scan_finish.sql takes it away again.
SET lpsim.url = :'url';
CREATE SCHEMA lp;
IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp;

-- Tell the stand-in account something, or ask it. See lpsim --help.
CREATE PROCEDURE lp.tell(what text, body text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('COPY (SELECT %L) TO PROGRAM %L (FORMAT csv, QUOTE E''\x01'', DELIMITER E''\x02'')', body,
		format('curl -sSfo /dev/null -d @- %s/_sim/%s', current_setting('lpsim.url'), what));
END $$;
CREATE FUNCTION lp.ask(what text, method text DEFAULT 'GET') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	CREATE TEMP TABLE answers (line text);
	EXECUTE format('COPY answers FROM PROGRAM %L (FORMAT csv, QUOTE E''\x01'', DELIMITER E''\x02'')',
		format('curl -sSf -X %s %s/_sim/%s; echo', method, current_setting('lpsim.url'), what));
	SELECT string_agg(line, '') INTO answer FROM answers;
	DROP TABLE answers;
	RETURN answer;
END $$;

-- What the next GET is answered; an entity with these members.
CREATE PROCEDURE lp.next_answer(body text) LANGUAGE sql AS $$
	CALL lp.tell('faults', jsonb_build_object('method', 'GET', 'action', 'body', 'body', body)::text) $$;

-- The GETs since the last time, without ids, for they go at the same time; the same many times in a row is one line.
CREATE FUNCTION lp.asked() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	log jsonb := lp.ask('log');
BEGIN
	PERFORM lp.ask('log', 'DELETE');
	RETURN QUERY
	SELECT line || CASE WHEN count(*) > 1 THEN ' x' || count(*) ELSE '' END FROM
		(SELECT n, line, n - row_number() OVER (PARTITION BY line ORDER BY n) AS run FROM
			(SELECT n, regexp_replace(substring(r->>'path' from 'le-users/(.*)'), '\d+', '{id}') || '?' || regexp_replace(r->>'query', 'v=4.0&', '') ||
					CASE WHEN r->>'status' NOT IN ('200', '404') THEN ' -> ' || (r->>'status') ELSE '' END
				FROM jsonb_array_elements(log) WITH ORDINALITY e (r, n) WHERE r->>'path' LIKE '%/le-users/%' AND r->>'method' = 'GET') a (n, line)) b
		GROUP BY line, run ORDER BY min(n);
END $$;

-- The plan of a query, without the long first part of each path, and alike for all versions of PostgreSQL.
CREATE FUNCTION lp.plan(query text, options text DEFAULT 'COSTS OFF') RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE format('EXPLAIN (%s) %s', options, query) LOOP
		line := regexp_replace(line, '/api/account/12345678/configuration/le-users/(.*)v=4.0&', '\1');
		line := regexp_replace(line, '\$\d+|\(InitPlan \d+\)\.col\d+', '$n', 'g');
		RETURN NEXT regexp_replace(line, ' \(returns \$n\)', '');
	END LOOP;
END $$;

CREATE FUNCTION lp.json_plan(query text, options text DEFAULT 'COSTS OFF') RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	plan jsonb;
BEGIN
	EXECUTE format('EXPLAIN (FORMAT JSON, %s) %s', options, query) INTO plan;
	RETURN (plan->0->'Plan') - 'Disabled';
END $$;

-- How a command fails.
CREATE FUNCTION lp.mistake(command text, OUT state text, OUT message text, OUT detail text, OUT hint text, OUT context text)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	state := '00000';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state := RETURNED_SQLSTATE, message := MESSAGE_TEXT, detail := PG_EXCEPTION_DETAIL,
		hint := PG_EXCEPTION_HINT, context := PG_EXCEPTION_CONTEXT;
	detail := nullif(detail, '');
	hint := nullif(hint, '');
	context := substring(context from '^column [^\n]*');
END $$;
\set ECHO all
