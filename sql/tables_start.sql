\set ECHO none
-- tables_start.sql: what the tests of foreign tables begin with, after start.sql; itself not a test. The account as tables in
-- the schema lp, and there questions to the stand-in account. tables_finish.sql takes it away again.
SET lpsim.url = :'url';
CREATE SCHEMA lp;
IMPORT FOREIGN SCHEMA liveperson FROM SERVER acme INTO lp;

-- Ask the stand-in account something, or tell it something: a body. See lpsim --help.
CREATE FUNCTION lp.sim(what text, body text DEFAULT NULL, method text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	CREATE TEMP TABLE answers (line text);
	EXECUTE format('COPY answers FROM PROGRAM %L (FORMAT csv, QUOTE E''\x01'', DELIMITER E''\x02'')',
		format('curl -sSf %s %s "%s/_sim/%s"; echo', '-X ' || method, '-d ''' || replace(body, '''', '''\''''') || '''',
			current_setting('lpsim.url'), what));
	SELECT string_agg(line, '') INTO answer FROM answers;
	DROP TABLE answers;
	RETURN answer;
END $$;
CREATE PROCEDURE lp.tell(what text, body text) LANGUAGE plpgsql AS $$ BEGIN PERFORM lp.sim(what, body); END $$;
CREATE PROCEDURE lp.config(what text) LANGUAGE sql AS $$ CALL lp.tell('config', what) $$;
CREATE PROCEDURE lp.fault(what text) LANGUAGE sql AS $$ CALL lp.tell('faults', what) $$;

-- What the next GET is answered; an entity with these members.
CREATE PROCEDURE lp.next_answer(body text) LANGUAGE sql AS $$
	CALL lp.fault(jsonb_build_object('method', 'GET', 'action', 'body', 'body', body)::text) $$;

-- Lines in their order; the same many times in a row is one.
CREATE FUNCTION lp.runs(lines text[]) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT line || CASE WHEN count(*) > 1 THEN ' x' || count(*) ELSE '' END FROM
		(SELECT n, line, n - row_number() OVER (PARTITION BY line ORDER BY n) AS run FROM unnest(lines) WITH ORDINALITY u (line, n)) r
	GROUP BY line, run ORDER BY min(n) $$;

-- The log since the last time.
CREATE FUNCTION lp.log() RETURNS SETOF jsonb LANGUAGE plpgsql AS $$
DECLARE
	log jsonb := lp.sim('log');
BEGIN
	PERFORM lp.sim('log', method => 'DELETE');
	RETURN QUERY SELECT * FROM jsonb_array_elements(log);
END $$;

-- What was asked for since the last time.
CREATE FUNCTION lp.requests() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT lp.runs(ARRAY(
		SELECT concat_ws(' ', r->>'method', regexp_replace(substring(r->>'path' from 'le-users/(.*)'), '\d+', '{id}'),
			CASE WHEN r->>'method' IN ('POST', 'PUT') THEN jsonb_array_length(r->'logins') WHEN r->>'method' = 'DELETE' THEN jsonb_array_length(r->'ids') END,
			'-> ' || (r->>'status'), '(' || (r->>'fault') || ')')
		FROM lp.log() r)) $$;

-- The GETs since the last time, without ids, for they go at the same time.
CREATE FUNCTION lp.asked() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT lp.runs(ARRAY(
		SELECT regexp_replace(substring(r->>'path' from 'le-users/(.*)'), '\d+', '{id}') || '?' || regexp_replace(r->>'query', 'v=4.0&', '') ||
			CASE WHEN r->>'status' NOT IN ('200', '404') THEN ' -> ' || (r->>'status') ELSE '' END
		FROM lp.log() r WHERE r->>'path' LIKE '%/le-users/%' AND r->>'method' = 'GET')) $$;

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
